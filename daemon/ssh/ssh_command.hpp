// The only builder of ssh command lines. Every option that would let the user's ssh_config change what a shared master
// is (its control path, its forwards, its remote command) is set here, before the user's own options: ssh takes the
// first value it reads.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/config.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {

// How ssh is told to reach a server: what a context or a person gave, not yet looked up.
struct SshRoute {
    Destination destination;
    std::optional<std::string> identity_file;
    std::optional<std::string> jump = {};  // as for ssh -J: of a hop that is reached over others

    friend bool operator==(const SshRoute&, const SshRoute&) = default;
};

// The last hop of a ProxyJump as ssh -G gives it, which is reached over those before it. nullopt: not a destination
// that we take.
[[nodiscard]] std::optional<SshRoute> last_hop(std::string_view proxyjump);

// A master of ours whose server is the last hop on the way.
struct HopSocket {
    std::string control_path;
    std::string host;  // for ssh's messages
    std::string key;   // the hop's
};

struct MasterArguments {
    std::string control_path;
    std::string log_file;
    std::optional<std::chrono::milliseconds> control_persist;  // nullopt: for ever
    std::chrono::milliseconds connect_timeout{};
    bool server_alive_set = false;  // the user's ssh_config has a ServerAliveInterval
    bool may_ask = false;           // ssh may ask a person (daemon/ssh/askpass.hpp)
    std::optional<HopSocket> hop;   // goes this way, in place of the route's own
};

// `ssh -G`: prints what ssh would use, connects nowhere. It runs `Match exec` commands of the user's ssh_config.
[[nodiscard]] std::vector<std::string> dump_command(const SshConfig& config, const SshRoute& route);

// What a person types to go the same way, for a hint.
[[nodiscard]] std::vector<std::string> typed_command(const SshConfig& config, const SshRoute& route);

// Logs in and goes to the background as a master: exit 0 exactly when the socket listens (OpenSSH 8.0 to 10.5).
[[nodiscard]] std::vector<std::string> master_command(const SshConfig& config, const SshRoute& route,
                                                      const MasterArguments& arguments);

// Runs a command line on a channel of the master at control_path, with the caller's terminal, and logs in nowhere: 255
// where the master is gone.
[[nodiscard]] std::vector<std::string> terminal_command(const SshConfig& config, const std::string& control_path,
                                                        const std::string& host, const std::string& command);

// The environment of an ssh: the daemon's own without what is about the daemon (NOTIFY_SOCKET, LISTEN_FDS, CMSSH_…) and
// without SSH_ASKPASS; SSH_AUTH_SOCK replaced where auth_sock is set. With CMSSH_NO_POOL, which keeps what
// `cmctl ssh-config` prints from asking us for the connection that this ssh is to make.
[[nodiscard]] std::vector<std::string> ssh_environment(const std::vector<std::string>& own,
                                                       const std::optional<std::string>& auth_sock);

}  // namespace cmssh
