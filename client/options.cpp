#include "client/options.hpp"

#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/verbs.hpp"
#include "protocol/errors.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

std::chrono::milliseconds duration_of(const std::string& text) {
    std::int64_t milliseconds = 0;
    if (!parse_duration(text, milliseconds)) {
        throw CLI::ValidationError("--timeout",
                                   "expected a duration such as 500ms, 30s or 10m, got " + printable(text));
    }
    return std::chrono::milliseconds(milliseconds);
}

void add_global_options(CLI::App& app, GlobalOptions& global) {
    app.add_option("--socket", global.socket, "The daemon's API socket")->type_name("P")->group("Everywhere");
    app.add_option("--config", global.config, "Configuration of a daemon that is started")
        ->type_name("F")
        ->group("Everywhere");
    app.add_flag("--no-spawn", global.no_spawn, "Do not start a daemon")->group("Everywhere");
    app.add_option_function<std::string>(
           "--timeout", [&global](const std::string& text) { global.timeout = duration_of(text); }, "Give up after D")
        ->type_name("D")
        ->group("Everywhere");
    app.add_flag("--json", global.json, "Print the API's result")->group("Everywhere");
    app.add_flag("-q,--quiet", global.quiet, "Print ids only")->group("Everywhere");
    app.add_option_function<std::string>(
           "--color",
           [&global](const std::string& when) {
               global.color = when == "always"  ? ColorWhen::Always
                              : when == "never" ? ColorWhen::Never
                                                : ColorWhen::Auto;
           },
           "auto, always or never")
        ->check(CLI::IsMember({"auto", "always", "never"}))
        ->type_name("WHEN")
        ->group("Everywhere");
}

// The words of a start line up to the first that is no option are ours; what follows is the command, untouched.
struct StartLine {
    std::vector<std::string> options;
    std::vector<std::string> command;
    bool separated = false;  // by "--"
};

bool takes_value(const std::string& option) {
    static constexpr const char* kOptions[] = {"--ctx",    "--name",    "--cwd",    "--env",
                                               "--socket", "--timeout", "--config", "--color"};
    return std::any_of(std::begin(kOptions), std::end(kOptions), [&option](const char* it) { return option == it; });
}

StartLine split_start_line(int argc, char** argv, int first) {
    StartLine line;
    int at = first;
    while (at < argc) {
        const std::string word = argv[at];
        if (word == "--") {
            line.separated = true;
            ++at;
            break;
        }
        if (word.size() < 2 || word[0] != '-') {
            break;
        }
        line.options.push_back(word);
        ++at;
        if (takes_value(word) && at < argc) {
            line.options.emplace_back(argv[at++]);
        }
    }
    line.command.assign(argv + at, argv + argc);
    return line;
}

// --help and --version are told as CLI11 does, what is wrong as cmctl tells every error.
int stop(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
        return app.exit(error);
    }
    const CLI::App* verb = &app;
    while (!verb->get_subcommands().empty()) {
        verb = verb->get_subcommands().front();
    }
    const std::string name = verb == &app ? app.get_name() : app.get_name() + " " + verb->get_name();
    std::fprintf(stderr, "cmctl: %s\nhint: %s --help\n", printable(error.what()).c_str(), name.c_str());
    return exit_code::kUsage;
}

int parse_start(GlobalOptions global, int argc, char** argv, int first) {
    StartLine line = split_start_line(argc, argv, first);
    StartOptions options;
    CLI::App app{"Start a command in a detached tmux session on a server", "cmctl start"};
    // For the help only: the command never gets here.
    app.add_option("CMD", options.command, "The command and its arguments, from the first word that is no option on")
        ->type_name("[ARG...]");
    app.add_option("--ctx", options.ctx, "Context, or an ssh destination")->type_name("C");
    app.add_option("--name", options.name, "Name of the session")->type_name("N");
    app.add_option("--cwd", options.cwd, "Directory on the server")->type_name("D");
    app.add_option("--env", options.env, "Variable of the session; without =V the caller's value")
        ->type_name("K[=V]")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_flag("--wait", options.wait, "Wait until it ends, and exit with its code");
    add_global_options(app, global);
    try {
        std::reverse(line.options.begin(), line.options.end());
        app.parse(line.options);
    } catch (const CLI::ParseError& error) {
        return stop(app, error);
    }
    options.command = std::move(line.command);
    if (!options.ctx && !line.separated) {
        options.ctx = take_trailing_ctx(options.command);
        if (options.ctx) {
            std::fprintf(stderr, "cmctl: took --ctx %s from the end of the line\n", printable(*options.ctx).c_str());
        }
    }
    if (options.command.empty()) {
        std::fprintf(stderr, "cmctl: start: expected a command\nhint: cmctl start --ctx C CMD [ARG...]\n");
        return exit_code::kUsage;
    }
    return start(global, std::move(options));
}

// Where `start` stands, if that is the verb: options before it belong to cmctl.
int find_start(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "start") {
            return i;
        }
        if (word.empty() || word[0] != '-') {
            return 0;
        }
        if (takes_value(word)) {
            ++i;
        }
    }
    return 0;
}

void add_session_verbs(CLI::App& app, GlobalOptions& global, std::function<int()>& run) {
    app.add_subcommand("start", "Start a command in a detached tmux session");

    auto* list_verb = app.add_subcommand("list", "Sessions that have not ended")->alias("ls");
    auto list_options = std::make_shared<ListOptions>();
    list_verb->add_option("--ctx", list_options->ctx, "Only of this context")->type_name("C");
    list_verb->add_flag("--all", list_options->all, "Ended ones too");
    list_verb->add_option("--state", list_options->state, "Only in this state")->type_name("STATE");
    list_verb->callback([&, list_options] { run = [&global, list_options] { return list(global, *list_options); }; });

    auto* kill_verb = app.add_subcommand("kill", "End sessions, or send them a signal");
    auto kill_options = std::make_shared<KillOptions>();
    kill_verb->add_option("session", kill_options->sessions, "Ids, unique prefixes of one, or names")->required();
    kill_verb->add_option("-s,--signal", kill_options->signal, "Signal for the foreground process group")
        ->type_name("SIG");
    kill_verb->add_flag("--forget", kill_options->forget, "For a server that will not come back");
    kill_verb->callback([&, kill_options] { run = [&global, kill_options] { return kill(global, *kill_options); }; });

    auto* wait_verb = app.add_subcommand("wait", "Wait until a session ends, and exit with its code");
    auto waited = std::make_shared<std::string>();
    wait_verb->add_option("session", *waited, "An id, a unique prefix of one, or a name")->required();
    wait_verb->callback([&, waited] { run = [&global, waited] { return wait(global, *waited); }; });
}

void add_connection_verbs(CLI::App& app, GlobalOptions& global, std::function<int()>& run) {
    const auto plain = [&](const char* name, const char* text, int (*verb)(const GlobalOptions&)) {
        app.add_subcommand(name, text)->callback([&run, &global, verb] {
            run = [&global, verb] { return verb(global); };
        });
    };
    plain("status", "The daemon, its connections and sessions in short", status);
    plain("stats", "Connections and what they saved", stats);
    plain("contexts", "The known contexts", contexts);
    plain("version", "Versions of cmctl and of the daemon", version);

    auto* check_verb = app.add_subcommand("check", "Probe connections now: the master, and the way to the server");
    auto checked = std::make_shared<std::optional<std::string>>();
    check_verb->add_option("ctx", *checked, "Only this context");
    check_verb->callback([&, checked] { run = [&global, checked] { return check(global, *checked); }; });

    auto* connect_verb = app.add_subcommand("connect", "Connect to a server");
    auto connected = std::make_shared<std::string>();
    connect_verb->add_option("ctx", *connected, "Context, or an ssh destination")->required();
    connect_verb->callback([&, connected] { run = [&global, connected] { return connect(global, *connected); }; });

    auto* disconnect_verb = app.add_subcommand("disconnect", "End a server's connection; its sessions run on");
    auto disconnected = std::make_shared<std::string>();
    auto force = std::make_shared<bool>(false);
    disconnect_verb->add_option("ctx", *disconnected, "Context, or an ssh destination")->required();
    disconnect_verb->add_flag("--force", *force, "Do not wait for who uses it");
    disconnect_verb->callback([&, disconnected, force] {
        run = [&global, disconnected, force] { return disconnect(global, *disconnected, *force); };
    });
}

void add_daemon_verbs(CLI::App& app, GlobalOptions& global, std::function<int()>& run) {
    auto* daemon = app.add_subcommand("daemon", "Start, stop, look at or reload the daemon")->require_subcommand(1);
    const auto plain = [&](const char* name, const char* text, int (*verb)(const GlobalOptions&)) {
        daemon->add_subcommand(name, text)->fallthrough()->callback([&run, &global, verb] {
            run = [&global, verb] { return verb(global); };
        });
    };
    plain("start", "Start it where it does not run", daemon_start);
    plain("stop", "Stop it; sessions and connections live on", daemon_stop);
    plain("status", "Whether it runs", daemon_status);
    plain("reload", "Have it read its configuration again", daemon_reload);

    auto* rpc_verb = app.add_subcommand("rpc", "Call a method of the API");
    auto rpc_options = std::make_shared<RpcOptions>();
    rpc_verb->add_option("method", rpc_options->method, "As rpc.discover lists them")->required();
    rpc_verb->add_option("params", rpc_options->params, "A JSON object, or - for standard input");
    rpc_verb->callback([&, rpc_options] { run = [&global, rpc_options] { return rpc(global, *rpc_options); }; });
}

}  // namespace

std::optional<std::string> take_trailing_ctx(std::vector<std::string>& command) {
    constexpr std::string_view kOption = "--ctx";
    // A command must be left.
    if (command.size() >= 3 && command[command.size() - 2] == kOption) {
        std::string ctx = command.back();
        command.resize(command.size() - 2);
        return ctx;
    }
    if (command.size() >= 2 && command.back().starts_with("--ctx=")) {
        std::string ctx = command.back().substr(kOption.size() + 1);
        command.pop_back();
        return ctx;
    }
    return std::nullopt;
}

namespace {

int run_verb(int argc, char** argv) {
    ::signal(SIGPIPE, SIG_IGN);
    GlobalOptions global;
    std::function<int()> run = [&global] { return status(global); };

    CLI::App app{"cmctl: run long commands on servers, over connections that cmsshd shares", "cmctl"};
    app.set_version_flag("--version", "cmctl " CMSSH_VERSION);
    app.fallthrough();
    add_global_options(app, global);
    // Each verb costs start-up time, so the most frequent line is read without the others.
    const int start_at = find_start(argc, argv);
    if (start_at > 0) {
        std::vector<std::string> before(argv + 1, argv + start_at);
        std::reverse(before.begin(), before.end());
        try {
            app.parse(before);
        } catch (const CLI::ParseError& error) {
            return stop(app, error);
        }
        return parse_start(global, argc, argv, start_at + 1);
    }
    add_session_verbs(app, global, run);
    add_connection_verbs(app, global, run);
    add_daemon_verbs(app, global, run);
    for (auto* verb : app.get_subcommands({})) {
        verb->fallthrough();
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return stop(app, error);
    }
    return run();
}

}  // namespace

int run_command_line(int argc, char** argv) {
    const int code = run_verb(argc, argv);
    // A full disk, or a reader that has gone: what was printed has not arrived.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        if (errno != EPIPE) {
            std::fprintf(stderr, "cmctl: standard output: %s\n", std::strerror(errno));
        }
        return code == exit_code::kOk ? exit_code::kFailed : code;
    }
    return code;
}

}  // namespace cmssh::client
