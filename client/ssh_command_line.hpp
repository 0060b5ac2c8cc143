// The command line of somebody else's ssh, read as ssh reads it (OpenSSH 8.0 to 10.5). Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cmssh::client {

struct SshCommandLine {
    // For `ssh -G`: what decides where it goes and how, in its order. Without the program, -F, and what only says where
    // output goes.
    std::vector<std::string> words;
    std::optional<std::string> config_file;  // -F
    // false: nothing that could go over a shared master: -G, -O, -Q, -V, -M, -N, -f.
    bool opens_session = true;
    bool quiet = false;           // -q
    bool forwards_stdio = false;  // -W: a stream through the server, and no session on it
};

// argv without its first word. nullopt: not a command line that ssh would take, or one with options that we do not
// know.
[[nodiscard]] std::optional<SshCommandLine> parse_ssh_command_line(const std::vector<std::string>& words);

}  // namespace cmssh::client
