#include "client/doctor.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <sstream>

#include "client/output.hpp"
#include "client/spawn_daemon.hpp"
#include "protocol/names.hpp"
#include "protocol/server_key.hpp"

namespace cmssh::client {
namespace {

// sun_path, less the terminating zero.
constexpr std::size_t kLongestSocket = 107;

constexpr Version kOldestSsh{.major = 8, .minor = 4};  // SSH_ASKPASS_REQUIRE

Check here(std::string name, CheckStatus status, std::string detail, std::string hint = {}) {
    return Check{.where = kHere,
                 .name = std::move(name),
                 .status = status,
                 .detail = std::move(detail),
                 .hint = std::move(hint)};
}

std::string line_of(std::string_view text) {
    return std::string(first_line(text));
}

std::string octal(mode_t mode) {
    std::array<char, 16> text{};
    std::snprintf(text.data(), text.size(), "%04o", static_cast<unsigned>(mode & 07777U));
    return text.data();
}

}  // namespace

std::optional<Version> version_in(std::string_view text) {
    const auto digit = text.find_first_of("0123456789");
    if (digit == std::string_view::npos) {
        return std::nullopt;
    }
    Version version;
    const char* const end = text.data() + text.size();
    const auto major = std::from_chars(text.data() + digit, end, version.major);
    if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') {
        return std::nullopt;
    }
    const auto minor = std::from_chars(major.ptr + 1, end, version.minor);
    return minor.ec == std::errc() ? std::optional(version) : std::nullopt;
}

const char* to_string(CheckStatus status) {
    switch (status) {
        case CheckStatus::Ok:
            return "ok";
        case CheckStatus::Warn:
            return "warn";
        case CheckStatus::Fail:
            break;
    }
    return "fail";
}

Check judge_ssh(const std::string& program, const std::optional<std::string>& said) {
    constexpr std::string_view kOpenSsh = "OpenSSH_";
    const char* const kInstall = "install OpenSSH's client, 8.4 or newer (sudo apt install openssh-client)";
    if (!said) {
        return here("ssh", CheckStatus::Fail, program + " cannot be run", kInstall);
    }
    const std::string line = line_of(*said);
    const auto at = line.find(kOpenSsh);
    const auto version = at == std::string::npos ? std::nullopt : version_in(line.substr(at));
    if (!version) {
        return here("ssh", CheckStatus::Fail, program + " is no OpenSSH: " + line, kInstall);
    }
    const std::string name = line.substr(at, line.find(',', at) - at);
    if (*version < kOldestSsh) {
        return here("ssh", CheckStatus::Fail, name + " is older than 8.4", kInstall);
    }
    return here("ssh", CheckStatus::Ok, name);
}

Check judge_agent(const AgentAnswer& answer) {
    constexpr int kHasKeys = 0;
    constexpr int kHasNone = 1;
    if (!answer.socket) {
        return here("agent", CheckStatus::Warn,
                    "SSH_AUTH_SOCK is not set: keys with a passphrase need you at each login",
                    "eval \"$(ssh-agent)\" && ssh-add");
    }
    if (answer.exit_code == kHasKeys) {
        std::size_t keys = 0;
        for (const char c : answer.output) {
            keys += c == '\n' ? 1 : 0;
        }
        return here("agent", CheckStatus::Ok, count_text(keys, "key"));
    }
    if (answer.exit_code == kHasNone) {
        return here("agent", CheckStatus::Warn, "it holds no keys", "ssh-add");
    }
    return here("agent", CheckStatus::Warn,
                "nothing answers on SSH_AUTH_SOCK (" + *answer.socket + "), which may be of a login that is over",
                "eval \"$(ssh-agent)\" && ssh-add");
}

Check judge_runtime_dir(const DirectoryState& state, uid_t own) {
    const std::string name = "runtime dir";
    if (!state.exists) {
        return here(name, CheckStatus::Ok, state.path + ": made when the daemon starts");
    }
    if (!state.directory) {
        return here(name, CheckStatus::Fail, state.path + " is no directory",
                    "set XDG_RUNTIME_DIR to a directory of your own");
    }
    if (state.owner != own) {
        return here(name, CheckStatus::Fail, state.path + " belongs to uid " + std::to_string(state.owner),
                    "set XDG_RUNTIME_DIR to a directory of your own");
    }
    if ((state.mode & 077U) != 0) {
        return here(name, CheckStatus::Fail, state.path + " is open to others: " + octal(state.mode),
                    "chmod 700 " + command_text({state.path}));
    }
    return here(name, CheckStatus::Ok, state.path);
}

Check judge_linger(const LingerState& state) {
    const std::string name = "lingering";
    if (!state.systemd) {
        return here(name, CheckStatus::Ok, "no systemd here: nothing ends with your last login");
    }
    if (state.lingers) {
        return here(name, CheckStatus::Ok, "on for " + state.user);
    }
    return here(name, CheckStatus::Warn, "off: your last logout ends the connections (sessions on the servers run on)",
                "loginctl enable-linger");
}

Check judge_paths(const std::string& api_socket, const Result<std::string>& control_socket) {
    const std::string name = "socket paths";
    const char* const kShorter = "set XDG_RUNTIME_DIR to a shorter path";
    if (!control_socket) {
        const Error& error = control_socket.error();
        return here(name, CheckStatus::Fail, error.message, error.hint.empty() ? kShorter : error.hint);
    }
    for (const auto& [path, longest] :
         {std::pair(api_socket, kLongestSocket), std::pair(*control_socket, kMaxControlPath)}) {
        if (path.size() > longest) {
            return here(name, CheckStatus::Fail,
                        path + " is " + std::to_string(path.size()) + " bytes long, and " + std::to_string(longest) +
                            " is the most",
                        kShorter);
        }
    }
    return here(name, CheckStatus::Ok, "short enough");
}

Check judge_config(const std::optional<ConfigAnswer>& answer, const std::string& path, bool exists) {
    if (!answer) {
        return here("config", CheckStatus::Fail, "cmsshd cannot be run", "install cmsshd beside cmctl or in PATH");
    }
    if (answer->exit_code == 0) {
        return here("config", CheckStatus::Ok, exists ? path : path + ": not there, all is default");
    }
    const Error why = last_words(answer->errors);
    return here("config", CheckStatus::Fail, why.message.empty() ? path + " cannot be read" : why.message,
                why.hint.empty() ? "cmsshd --print-default-config" : why.hint);
}

Check judge_units(const std::optional<std::string>& shown) {
    const std::string name = "systemd units";
    if (!shown) {
        return here(name, CheckStatus::Ok, "no systemd of yours runs: cmctl starts the daemon");
    }
    std::string detail;
    std::string unit;
    std::string failed;
    bool found = false;
    std::istringstream lines(*shown);
    for (std::string line; std::getline(lines, line);) {
        const std::string key = line.substr(0, line.find('='));
        const std::string value = line.substr(std::min(key.size() + 1, line.size()));
        if (key == "Id") {
            unit = value;
        } else if (key == "LoadState") {
            found = found || value == "loaded";
            failed = value == "bad-setting" || value == "error" ? unit : failed;
        } else if (key == "ActiveState") {
            failed = value == "failed" ? unit : failed;
            detail += (detail.empty() ? "" : ", ") + unit + " " + value;
        }
    }
    if (!failed.empty()) {
        return here(name, CheckStatus::Fail, failed + " has failed",
                    "systemctl --user status " + command_text({failed}));
    }
    return here(name, CheckStatus::Ok, found ? detail : "not installed: cmctl starts the daemon");
}

Check judge_versions(const VersionsFound& versions) {
    const std::string name = "versions";
    if (versions.running && *versions.running != versions.client) {
        return here(name, CheckStatus::Warn,
                    "cmctl is " + versions.client + ", the daemon that runs " + *versions.running,
                    "cmctl daemon stop (the next call starts the new one; sessions and connections live on)");
    }
    if (versions.installed && *versions.installed != versions.client) {
        return here(name, CheckStatus::Warn,
                    "cmctl is " + versions.client + ", the cmsshd beside it or in PATH " + *versions.installed,
                    "install both from one build");
    }
    return here(name, CheckStatus::Ok, versions.client);
}

Check judge_registry(bool unsaved, const std::vector<std::string>& set_aside) {
    if (unsaved) {
        return here("registry", CheckStatus::Fail, "sessions are remembered in the daemon's memory only",
                    "make room on the disk of the state directory; the daemon's log says what is wrong");
    }
    if (!set_aside.empty()) {
        return here("registry", CheckStatus::Warn, "one that could not be used was set aside: " + set_aside.back(),
                    "cmctl connect CTX finds again what runs there; then move that file away");
    }
    return here("registry", CheckStatus::Ok, "saved");
}

Check judge_config_of_daemon(const std::string& daemons, const std::string& ours) {
    const std::string name = "config in use";
    if (daemons == ours) {
        return here(name, CheckStatus::Ok, daemons);
    }
    return here(name, CheckStatus::Warn, "the daemon that runs has read " + daemons + ", not " + ours,
                "give it the same --config, CMSSH_CONFIG or XDG_CONFIG_HOME, and restart it");
}

}  // namespace cmssh::client
