#include "client/host.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "client/output.hpp"
#include "client/typed_command.hpp"
#include "protocol/names.hpp"
#include "protocol/remote_command.hpp"
#include "protocol/server_key.hpp"

namespace cmssh::client {
namespace {

// Read alike by every shell; zsh takes what follows a = at the beginning for a command to look up.
bool plain(const std::string& word) {
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@,+-=";
    return !word.empty() && word.front() != '=' && word.find_first_not_of(kPlain) == std::string::npos;
}

std::string remote_line(std::vector<std::string> words, const std::optional<std::string>& typed_host) {
    words.insert(words.begin(), "cmctl");
    if (typed_host) {
        // Not every shell has VARIABLE=VALUE in front of a command.
        words.insert(words.begin(), {"env", std::string(kTypedHostVariable) + '=' + *typed_host});
    }
    const bool simple = std::all_of(words.begin(), words.end(), plain);
    std::string line = simple ? "" : "exec";
    for (const std::string& word : words) {
        line += (line.empty() ? "" : " ") + (simple ? word : sh_quote(word));
    }
    return simple ? line : for_any_shell(line);
}

std::vector<std::string> destination_words(const Destination& destination) {
    std::vector<std::string> words;
    if (destination.port) {
        words.insert(words.end(), {"-p", std::to_string(*destination.port)});
    }
    if (destination.user) {
        words.insert(words.end(), {"-l", *destination.user});
    }
    return words;
}

}  // namespace

Result<std::vector<std::string>> ssh_to_host(const std::string& host, HostTerminal terminal,
                                             const std::vector<std::string>& words,
                                             const std::optional<std::string>& typed_host) {
    auto destination = parse_destination(host);
    if (!destination) {
        return std::move(destination).error();
    }
    // As scp and sftp do: what a Host block says for shells there is not for this.
    std::vector<std::string> argv = {
        "ssh", "-x", "-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no", "-o", "RemoteCommand=none"};
    argv.emplace_back(terminal == HostTerminal::Ours ? "-t" : "-T");
    const auto where = destination_words(*destination);
    argv.insert(argv.end(), where.begin(), where.end());
    argv.insert(argv.end(), {"--", destination->host, remote_line(words, typed_host)});
    return argv;
}

std::string ssh_text(const std::string& host) {
    std::vector<std::string> words = {"ssh"};
    if (const auto destination = parse_destination(host)) {
        const auto where = destination_words(*destination);
        words.insert(words.end(), where.begin(), where.end());
        words.push_back(destination->host);
    }
    return command_text(words);
}

CallError bad_host(const Error& error) {
    CallError failure{.error = error, .exit_code = exit_code::kUsage};
    failure.error.hint = "give --host or CMSSH_HOST as ssh://user@machine or ssh://user@machine:port";
    return failure;
}

// ssh's texts (sshconnect.c, sshconnect2.c) where a person or another key would help.
bool says_login_refused(std::string_view said) {
    constexpr std::array<std::string_view, 3> kTexts = {": Permission denied", "Host key verification failed",
                                                        "Too many authentication failures"};
    return std::any_of(kTexts.begin(), kTexts.end(),
                       [said](std::string_view text) { return said.find(text) != std::string_view::npos; });
}

CallError login_refused(const std::string& host) {
    return CallError{.error = {.kind = ErrorKind::AuthFailed,
                               .message = host + " did not let us in",
                               .hint = ssh_text(host) + " true"},
                     .exit_code = exit_code::kNeedsPerson};
}

std::vector<std::string> daemon_options(const GlobalOptions& global) {
    std::vector<std::string> words;
    if (global.socket) {
        words.insert(words.end(), {"--socket", *global.socket});
    }
    if (global.config) {
        words.insert(words.end(), {"--config", *global.config});
    }
    if (global.no_spawn) {
        words.emplace_back("--no-spawn");
    }
    return words;
}

int not_with_host(const GlobalOptions& global, const std::string& verb, const std::string& hint) {
    return print_error(global,
                       CallError{.error = {.kind = ErrorKind::InvalidParams,
                                           .message = verb + ": not possible with --host or CMSSH_HOST, because "
                                                             "it is about files of this machine",
                                           .hint = hint},
                                 .exit_code = exit_code::kUsage});
}

}  // namespace cmssh::client
