// The settings, as config.toml gives them (daemon/app/config.hpp reads it). One object lives as long as the daemon; a
// reload assigns to it, so whoever holds a reference sees the new values at the next use.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cmssh {

struct ContextConfig {
    std::string host;  // any form of destination; required
    std::optional<std::string> user;
    std::optional<int> port;
    std::optional<std::string> identity_file;  // ~ expanded
    std::optional<std::string> cwd;            // as written: ~ is the server's
    std::map<std::string, std::string> env;
    bool prewarm = false;

    friend bool operator==(const ContextConfig&, const ContextConfig&) = default;
};

enum class SessionShell { LoginInteractive, Login, None };

struct PoolConfig {
    // As ssh_config(5) has it: "yes" and "0" are for ever (nullopt), "no" is zero.
    std::optional<std::chrono::milliseconds> control_persist = std::chrono::minutes(10);
    std::chrono::milliseconds health_interval = std::chrono::seconds(15);
    std::chrono::milliseconds health_timeout = std::chrono::seconds(5);
    int unhealthy_after = 2;
    std::chrono::milliseconds connect_timeout = std::chrono::seconds(15);
    std::chrono::milliseconds backoff_initial = std::chrono::milliseconds(500);
    std::chrono::milliseconds backoff_max = std::chrono::seconds(60);
    int max_concurrent_connects = 8;
    int max_channels = 10;
    std::string control_path;  // empty: the default in the runtime dir

    friend bool operator==(const PoolConfig&, const PoolConfig&) = default;
};

struct SshConfig {
    std::string program = "ssh";
    std::vector<std::string> options;  // one word for each option and one for its value

    friend bool operator==(const SshConfig&, const SshConfig&) = default;
};

struct SessionsConfig {
    SessionShell shell = SessionShell::LoginInteractive;
    std::string tmux = "tmux";          // [A-Za-z0-9_./+~-], no leading '-'
    std::string tmux_socket = "cmssh";  // [A-Za-z0-9_.-], no leading '-' or '.'
    int scrollback = 50000;
    std::chrono::milliseconds keep_ended = std::chrono::hours(24 * 30);

    friend bool operator==(const SessionsConfig&, const SessionsConfig&) = default;
};

struct RpcConfig {
    int max_clients = 2048;
    std::uint64_t max_message = 8ULL * 1024 * 1024;

    friend bool operator==(const RpcConfig&, const RpcConfig&) = default;
};

struct Config {
    std::optional<std::string> default_ctx;
    PoolConfig pool;
    SshConfig ssh;
    SessionsConfig sessions;
    RpcConfig rpc;
    std::map<std::string, ContextConfig> contexts;
    std::map<std::string, std::vector<std::string>> tools;  // name → command, never empty

    friend bool operator==(const Config&, const Config&) = default;
};

}  // namespace cmssh
