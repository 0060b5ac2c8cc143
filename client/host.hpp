// Another machine whose daemon is meant: --host, or CMSSH_HOST. It is reached with the user's own ssh, which runs cmctl
// there; nothing listens on a network. Verbs that are calls go through `cmctl proxy` there (client/host_link.hpp),
// those that need the connections of that daemon at hand are run there whole.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/options.hpp"
#include "client/rpc_client.hpp"
#include "protocol/result.hpp"

namespace cmssh::client {

enum class HostTerminal { None, Ours };

// The ssh that runs cmctl with these words there, whatever the login shell is. typed_host: what it is told that a
// person types for --host here, see client/typed_command.hpp. InvalidName for a host that ssh could take for anything
// else than a destination.
[[nodiscard]] Result<std::vector<std::string>> ssh_to_host(const std::string& host, HostTerminal terminal,
                                                           const std::vector<std::string>& words,
                                                           const std::optional<std::string>& typed_host = std::nullopt);
// What a person types to run a command there: "ssh -p 22 me@workstation".
[[nodiscard]] std::string ssh_text(const std::string& host);
// Whether ssh says that a person or another key would help, and what that is to the caller.
[[nodiscard]] bool says_login_refused(std::string_view said);
[[nodiscard]] CallError login_refused(const std::string& host);
// For what never gets to ssh.
[[nodiscard]] CallError bad_host(const Error& error);

// Those of our own options that say which daemon is meant there and how it is started: --socket, --config, --no-spawn.
[[nodiscard]] std::vector<std::string> daemon_options(const GlobalOptions& global);

// Runs a verb there with our own input, output and terminal; its exit code, or kUnreachable where ssh failed. hands_on:
// the verb has exit codes of its own, 255 among them.
int run_there(const GlobalOptions& global, std::vector<std::string> verb, HostTerminal terminal, bool hands_on = false);
// For a verb that is about files of this machine: says what to type in its place.
int not_with_host(const GlobalOptions& global, const std::string& verb, const std::string& hint);

}  // namespace cmssh::client
