// A connection to an ssh master's control socket, whose owner is known before a byte is sent. Shared by the daemon and
// the client.
#pragma once

#include <sys/types.h>

#include <string>

#include "daemon/base/unique_fd.hpp"

namespace cmssh {

enum class ControlSocketState {
    Missing,
    Stale,    // a socket file of ours that nobody listens on
    Live,     // connected
    Busy,     // the listener's backlog is full: a stopped master
    Refused,  // of another uid, or no socket at all: not to be touched
    Unknown,  // we have no descriptor to connect with
};

struct ControlSocket {
    ControlSocketState state = ControlSocketState::Missing;
    UniqueFd fd;        // where Live
    pid_t creator = 0;  // SO_PEERCRED: who made the socket. For a master that is its dead parent from before ssh's fork
    std::string problem;  // where Refused
    int failure = 0;      // errno, where Unknown
};

// Connects without waiting. Not one byte goes to a socket whose file or listener is another uid's.
[[nodiscard]] ControlSocket open_control_socket(const std::string& path);

}  // namespace cmssh
