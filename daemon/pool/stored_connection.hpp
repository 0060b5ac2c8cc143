// What has to outlive a daemon for the next one to take a master over, or to log in anew, without asking `ssh -G`.
#pragma once

#include <optional>
#include <string>

#include "daemon/ssh/ssh_command.hpp"
#include "protocol/methods.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {

struct StoredConnection {
    ServerKey key;
    SshRoute route;
    SshConfigDump dump;
    std::string control_path;
    bool held_back = false;                           // no login by itself: it waits for a call
    std::optional<api::LastError> held_back_by = {};  // not set: a person's wish
};

}  // namespace cmssh
