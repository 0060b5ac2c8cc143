// What scp takes for its ssh: cmctl itself, started by scp, which gets the channel for it on the server's master. The
// `cmctl cp` that started scp holds the lease and is asked for the way over a socket that both inherit, so that scp
// makes as many connections as it likes over one lease and one login.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "daemon/base/unique_fd.hpp"

namespace cmssh::client {

// Between the two, one packet each. The channel asks, and says how it ended; the lease's holder answers with a path.
namespace scp_talk {
inline constexpr std::string_view kOpen = "open";           // which control path?
inline constexpr std::string_view kRefused = "refused";     // the server refused a channel there: another try
inline constexpr std::string_view kLost = "lost";           // the connection
inline constexpr std::string_view kNoStatus = "no status";  // the server ended the channel, and not what ran on it
inline constexpr std::string_view kStop = "";               // in place of a path: there is none
}  // namespace scp_talk

// The number of the inherited socket.
inline constexpr const char* kScpSocketVariable = "CMSSH_SCP_SOCKET";

// nullopt: we were not started by an scp of ours. Otherwise the exit code for it.
[[nodiscard]] std::optional<int> run_as_scp_channel(int argc, char** argv);

}  // namespace cmssh::client
