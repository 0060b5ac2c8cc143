// cmsshd: one per user, in the foreground.
#include <CLI/CLI.hpp>

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <asio/io_context.hpp>

#include <limits.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include "daemon/app/askpass_helper.hpp"
#include "daemon/app/config.hpp"
#include "daemon/app/config_summary.hpp"
#include "daemon/app/daemon.hpp"
#include "daemon/app/runtime_dir.hpp"
#include "daemon/base/log.hpp"
#include "daemon/base/memory.hpp"
#include "protocol/names.hpp"
#include "protocol/paths.hpp"

extern char** environ;

namespace cmssh {
namespace {

constexpr int kStopped = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kAnotherServes = 3;

struct Arguments {
    std::optional<std::string> config;
    std::optional<std::string> socket;
    std::string log_level = "info";
};

int fail(const Error& error, int exit_code) {
    std::fprintf(stderr, "cmsshd: %s\n", printable(error.message).c_str());
    if (!error.hint.empty()) {
        std::fprintf(stderr, "hint: %s\n", printable(error.hint).c_str());
    }
    refuse_waiting(error);
    return exit_code;
}

// As in sched_setattr(2): glibc has none before 2.41, and the kernel's header is not for programs that include glibc's.
struct SchedAttributes {
    std::uint32_t size = sizeof(SchedAttributes);
    std::uint32_t policy = 0;
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime_ns = 0;
    std::uint64_t deadline_ns = 0;
    std::uint64_t period_ns = 0;
};

// Linux 6.12 and later give a process that asks for short slices its turn sooner on a busy machine, and ours are short.
// What we start is as everything else.
void ask_for_short_slices() {
    constexpr std::uint64_t kSliceNs = 100'000;  // the shortest
    constexpr std::uint64_t kResetOnFork = 1;
    SchedAttributes attributes;
    if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) == 0 && attributes.policy == SCHED_OTHER) {
        attributes.runtime_ns = kSliceNs;
        attributes.flags |= kResetOnFork;
        ::syscall(SYS_sched_setattr, 0, &attributes, 0);  // without effect on others
    }
}

void set_process_limits() {
    ::umask(077);
    ::signal(SIGPIPE, SIG_IGN);
    // A registry that may not grow is an error to be told, not a death.
    ::signal(SIGXFSZ, SIG_IGN);
    // A core would hold what passed through; masters and their orphans become our children.
    const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &files);
    }
}

int check_config(const Arguments& arguments) {
    const PathEnvironment environment = process_environment();
    const auto config = load_config(config_path(environment, arguments.config), environment.get("HOME").value_or("/"),
                                    arguments.config || environment.get("CMSSH_CONFIG"));
    if (!config) {
        return fail(config.error(), kUsage);
    }
    std::printf("%s\n", config_summary(*config).c_str());
    return kStopped;
}

// Resolved before a package upgrade could replace it: the path then leads to the new one.
std::string own_executable() {
    std::array<char, PATH_MAX> path{};
    const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
    return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : "cmsshd";
}

int serve(const Arguments& arguments) {
    const PathEnvironment environment = process_environment();
    DaemonOptions options;
    options.config_file = config_path(environment, arguments.config);
    options.config_required = arguments.config || environment.get("CMSSH_CONFIG");
    options.home = environment.get("HOME").value_or("/");
    options.runtime_dir = runtime_dir(environment);
    options.state_dir = state_dir(environment);

    auto config = load_config(options.config_file, options.home, options.config_required);
    if (!config) {
        return fail(config.error(), kUsage);
    }
    for (const auto& [path, make_parents] :
         {std::pair(options.runtime_dir, false), std::pair(options.state_dir, true)}) {
        if (auto dir = open_private_dir(path, make_parents); !dir) {
            return fail(dir.error(), kFailed);
        }
    }
    auto lock = DaemonLock::take(options.runtime_dir);
    if (!lock) {
        return fail(lock.error(), kFailed);
    }
    const std::string path = socket_path(environment, arguments.socket);
    if (!*lock) {
        return fail({.message = "another cmsshd of this user serves", .hint = "cmctl daemon status"}, kAnotherServes);
    }
    // Two daemons at one registry would write over each other's sessions. Where no lock can be made, on a full or
    // read-only disk, it is not written either.
    const auto state_lock = DaemonLock::take(options.state_dir);
    if (state_lock && !*state_lock) {
        return fail({.message = "another cmsshd of this user keeps its sessions in " + options.state_dir,
                     .hint = "set another XDG_STATE_HOME"},
                    kAnotherServes);
    }
    auto socket = ListenSocket::open(path);
    if (!socket) {
        return fail(socket.error(), kFailed);
    }
    if (!*socket) {
        return fail({.message = "another program serves on " + path, .hint = "give another --socket"}, kAnotherServes);
    }
    (*lock)->say((*socket)->address());
    auto ready = ReadyPipe::from_environment();
    options.program = own_executable();
    for (char** variable = environ; *variable != nullptr; ++variable) {
        options.environment.emplace_back(*variable);
    }
    asio::io_context io(1);
    Daemon daemon(io, std::move(options), std::move(*config), std::move(**socket), std::move(ready));
    daemon.run();
    return kStopped;
}

int main(int argc, char** argv) {
    if (const auto answered = answer_askpass(argc, argv)) {
        return *answered;
    }
    Arguments arguments;
    CLI::App app{"cmsshd: keeps one SSH connection per server, shared by every session", "cmsshd"};
    app.set_version_flag("--version", "cmsshd " CMSSH_VERSION);
    bool print_default_config = false;
    app.add_option("--config", arguments.config, "Configuration file")->type_name("F");
    app.add_option("--socket", arguments.socket, "Path of the API socket")->type_name("P");
    app.add_option("--log-level", arguments.log_level, "trace, debug, info, warn or error")->type_name("L");
    app.add_flag("--print-default-config", print_default_config, "Print the configuration with every default");
    bool only_check_config = false;
    app.add_flag("--check-config", only_check_config,
                 "Read the configuration, and print as JSON what of it cmctl doctor needs");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (app.exit(error) == 0) {
            return kStopped;
        }
        refuse_waiting({.kind = ErrorKind::BadConfig, .message = std::string("cmsshd: ") + error.what()});
        return kUsage;
    }
    if (print_default_config) {
        std::fputs(std::string(default_config_text()).c_str(), stdout);
        return kStopped;
    }
    if (only_check_config) {
        return check_config(arguments);
    }
    start_logging(::getenv("JOURNAL_STREAM") != nullptr && ::isatty(STDERR_FILENO) == 0 &&
                  ::getenv("INVOCATION_ID") != nullptr);
    if (!set_log_level(arguments.log_level)) {
        return fail({.message = "--log-level: expected trace, debug, info, warn or error, got " + arguments.log_level},
                    kUsage);
    }
    set_up_memory();
    set_process_limits();
    ask_for_short_slices();
    try {
        return serve(arguments);
    } catch (const std::exception& error) {
        return fail({.message = error.what()}, kFailed);
    }
}

}  // namespace
}  // namespace cmssh

int main(int argc, char** argv) {
    return cmssh::main(argc, argv);
}
