// What a command line asks for. Reading it does no I/O but the environment's.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace cmssh::client {

enum class ColorWhen { Auto, Always, Never };

// Taken before and after the verb.
struct GlobalOptions {
    std::string verb;  // that is run; empty: none was given
    std::optional<std::string> socket;
    std::optional<std::string> config;  // for a daemon that is spawned
    bool no_spawn = false;
    std::optional<std::string> host;  // of the daemon that is meant, as given; nullopt: this machine
    // For a cmctl that another machine's runs here: what was typed there (see client/typed_command.hpp).
    std::optional<std::string> typed_host;
    std::optional<std::chrono::milliseconds> timeout;
    bool json = false;
    bool quiet = false;
    ColorWhen color = ColorWhen::Auto;
};

struct StartOptions {
    std::optional<std::string> ctx;
    std::optional<std::string> name;
    std::optional<std::string> cwd;
    std::vector<std::string> env;  // K or K=V
    bool wait = false;
    bool attach = false;
    bool follow = false;
    std::vector<std::string> command;
};

struct ListOptions {
    std::optional<std::string> ctx;
    bool all = false;
    bool watch = false;
    std::optional<std::string> state;
};

struct EventsOptions {
    std::vector<std::string> types;  // none: all
};

struct KillOptions {
    std::vector<std::string> sessions;
    std::optional<std::string> signal;
    bool forget = false;
};

struct LogsOptions {
    std::string session;
    std::optional<int> lines;
    bool follow = false;
};

struct SendOptions {
    std::string session;
    std::vector<std::string> keys;
    bool enter = true;
    std::optional<std::string> text;  // - for standard input
};

struct AttachOptions {
    std::string session;
    bool read_only = false;
};

struct ExecOptions {
    std::optional<std::string> ctx;
    bool terminal = false;
    std::vector<std::string> command;
};

enum class ForwardAction { Add, List, Remove };

struct ForwardOptions {
    ForwardAction action = ForwardAction::List;
    std::optional<std::string> ctx;
    std::optional<std::string> session;
    std::vector<std::string> local;  // as behind ssh's -L, -R and -D
    std::vector<std::string> remote;
    std::vector<std::string> dynamic;
    std::vector<std::string> ids;
};

struct CpOptions {
    bool preserve = false;           // modes and times
    bool old_protocol = false;       // of scp's own instead of sftp's
    std::vector<std::string> paths;  // two or more, the destination last
};

struct RpcOptions {
    std::string method;
    std::optional<std::string> params;  // JSON, or - for standard input
};

// Runs the verb that the command line names; the exit code.
int run_command_line(int argc, char** argv);

}  // namespace cmssh::client
