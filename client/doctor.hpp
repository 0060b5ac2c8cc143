// What `cmctl doctor` makes of what it found: what is wrong, and what to type. Pure; verbs_doctor.cpp looks.
#pragma once

#include <sys/types.h>

#include <compare>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/methods.hpp"
#include "protocol/result.hpp"

namespace cmssh::client {

enum class CheckStatus { Ok, Warn, Fail };
[[nodiscard]] const char* to_string(CheckStatus status);  // "ok", "warn", "fail"

struct Check {
    std::string where;  // "here", or the server as the person named it
    std::string name;
    CheckStatus status = CheckStatus::Ok;
    std::string detail;
    std::string hint = {};  // what to type; empty: nothing
};

inline constexpr const char* kHere = "here";

struct Version {
    int major = 0;
    int minor = 0;

    friend auto operator<=>(const Version&, const Version&) = default;
};
// The first MAJOR.MINOR in what a program says of itself, whatever stands around it.
[[nodiscard]] std::optional<Version> version_in(std::string_view text);

// Here.
[[nodiscard]] Check judge_ssh(const std::string& program, const std::optional<std::string>& said);  // by `ssh -V`

struct AgentAnswer {
    std::optional<std::string> socket;  // SSH_AUTH_SOCK
    std::optional<int> exit_code;       // of `ssh-add -l`; nullopt: no answer
    std::string output;
};
[[nodiscard]] Check judge_agent(const AgentAnswer& answer);

struct DirectoryState {
    std::string path;
    bool exists = false;
    bool directory = false;  // and no symlink
    uid_t owner = 0;
    mode_t mode = 0;
};
[[nodiscard]] Check judge_runtime_dir(const DirectoryState& state, uid_t own);

struct LingerState {
    bool systemd = false;  // it runs this machine
    bool lingers = false;
    std::string user;
};
[[nodiscard]] Check judge_linger(const LingerState& state);

// control_socket: that of a server with a long name.
[[nodiscard]] Check judge_paths(const std::string& api_socket, const Result<std::string>& control_socket);

// What `cmsshd --check-config` said and exited with; nullopt: it cannot be run.
struct ConfigAnswer {
    int exit_code = 0;
    std::string errors;
};
[[nodiscard]] Check judge_config(const std::optional<ConfigAnswer>& answer, const std::string& path, bool exists);

// What `systemctl --user show` says of both units; nullopt: there is no systemd for this user.
[[nodiscard]] Check judge_units(const std::optional<std::string>& shown);

struct VersionsFound {
    std::string client;
    std::optional<std::string> running;
    std::optional<std::string> installed;  // `cmsshd --version`
};
[[nodiscard]] Check judge_versions(const VersionsFound& versions);
// set_aside: the file names of registries that the daemon could not use.
[[nodiscard]] Check judge_registry(bool unsaved, const std::vector<std::string>& set_aside);
// What a daemon reads that was started with other variables or options than ours.
[[nodiscard]] Check judge_config_of_daemon(const std::string& daemons, const std::string& ours);

// On a server: what kServerScript printed.
struct ServerFacts {
    std::string user;
    std::string shell;
    std::string tmux;          // its path; empty: not found
    std::string tmux_version;  // "tmux 3.3a"
    bool systemd = false;
    bool lingers = false;
    bool kills_processes = false;              // KillUserProcesses of logind
    int startup_s = 0;                         // until that PATH was there
    std::string path;                          // PATH of what a session runs
    std::map<std::size_t, std::string> tools;  // by their place: the path, or empty
};
// Run by /bin/sh with these words: a token, tmux's name, the configured shell, and a program for each tool. Each line
// that counts begins with the token: rc files print too.
[[nodiscard]] const char* server_script();
// nullopt: it did not run to its end.
[[nodiscard]] std::optional<ServerFacts> parse_server_facts(std::string_view output, std::string_view token);

struct Tool {
    std::string name;
    std::string program;
};
[[nodiscard]] std::vector<Check> judge_server(const std::string& where, const ServerFacts& facts,
                                              const std::vector<Tool>& tools);
[[nodiscard]] std::vector<Check> judge_connection(const std::string& where, const api::Connection& connection);

}  // namespace cmssh::client
