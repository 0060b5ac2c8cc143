#include "client/verb_options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>

#include "client/completion_scripts.hpp"
#include "client/output.hpp"
#include "client/start_line.hpp"
#include "client/verbs.hpp"
#include "protocol/errors.hpp"
#include "protocol/events.hpp"
#include "protocol/methods.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// Before the examples.
void add_note(CLI::App& app, const std::string& text) {
    app.footer(text + "\n\n" + app.get_footer());
}

// CLI11 wants the last word first.
int parse_words(CLI::App& app, std::vector<std::string> words, const std::function<int()>& run) {
    std::reverse(words.begin(), words.end());
    try {
        app.parse(words);
    } catch (const CLI::ParseError& error) {
        return stop(app, error);
    }
    return run();
}

int parse_start(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    StartLine line = split_start_line(words);
    StartOptions options;
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
    auto* const wait = app.add_flag("--wait", options.wait, "Wait until it ends, and exit with its code");
    auto* const follow =
        app.add_flag("--follow", options.follow, "Print what it prints until it ends, and exit with its code")
            ->excludes(wait);
    app.add_flag("--attach", options.attach,
                 "Attach to it; exits with its code where it ends meanwhile, with 0 where you detach")
        ->excludes(follow)
        ->excludes(wait);
    return parse_words(app, std::move(line.options), [&] {
        options.command = std::move(line.command);
        // A -- anywhere says where things end: what stands behind is the command's.
        const bool separated =
            line.separated || std::find(options.command.begin(), options.command.end(), "--") != options.command.end();
        if (!options.ctx && !separated) {
            options.ctx = take_trailing_ctx(options.command);
            if (options.ctx) {
                std::fprintf(stderr, "cmctl: took --ctx %s from the end of the line\n",
                             printable(*options.ctx).c_str());
            }
        }
        if (options.command.empty()) {
            print_note(global, "cmctl: start: expected a command\nhint: cmctl start --ctx C CMD [ARG...]");
            return exit_code::kUsage;
        }
        if (options.follow && global.json) {
            std::fputs("cmctl: start: --follow prints text, and no JSON\nhint: --wait --json\n", stderr);
            return exit_code::kUsage;
        }
        return start(global, std::move(options));
    });
}

int parse_list(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    ListOptions options;
    app.add_option("--ctx", options.ctx, "Only of this context")->type_name("C");
    app.add_flag("--all", options.all, "Ended ones too");
    std::vector<std::string> states;
    for (const auto state : {api::SessionState::Starting, api::SessionState::Running, api::SessionState::Unreachable,
                             api::SessionState::Exited, api::SessionState::Killed, api::SessionState::Lost}) {
        states.emplace_back(to_string(state));
    }
    app.add_option("--state", options.state, "Only in this state")->type_name("STATE")->check(CLI::IsMember(states));
    app.add_flag("--watch", options.watch, "Show them anew with each change, until Ctrl-C");
    return parse_words(app, words, [&] { return list(global, options); });
}

int parse_events(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    EventsOptions options;
    std::vector<std::string> types;
    for (const api::EventType type : api::kEventTypes) {
        types.emplace_back(to_string(type));
    }
    app.add_option("--type", options.types, "Only events of this type")
        ->type_name("T")
        ->option_text("T")  // they stand below
        ->expected(1)
        ->check(CLI::IsMember(types))
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    std::string known;
    for (const std::string& type : types) {
        known += (known.empty() ? "" : ", ") + type;
    }
    add_note(app, "Types: " + known +
                      ".\nCtrl-C ends with 0; where the daemon goes it ends with 4. --json prints one event a line.");
    return parse_words(app, words, [&] { return events(global, options); });
}

int parse_kill(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    KillOptions options;
    app.add_option("session", options.sessions, "Ids, unique prefixes of one, or names")->required();
    app.add_option("-s,--signal", options.signal, "Signal for the foreground process group")->type_name("SIG");
    app.add_flag("--forget", options.forget, "For a server that will not come back");
    return parse_words(app, words, [&] { return kill(global, options); });
}

int parse_logs(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    LogsOptions options;
    app.add_option("session", options.session, "An id, a unique prefix of one, or a name")->required();
    app.add_option("-n,--lines", options.lines, "Only the last lines; with -f of what is there at first")
        ->type_name("N")
        ->check(CLI::Range(0, 10'000'000));
    app.add_flag("-f,--follow", options.follow, "Go on with each line as it is complete, until the session ends");
    return parse_words(app, words, [&] {
        if (options.follow && global.json) {
            print_note(global, "cmctl: logs: -f prints text, and no JSON\nhint: cmctl rpc logs");
            return exit_code::kUsage;
        }
        return logs(global, options);
    });
}

// SESSION and TEXT may stand among options as everywhere, but what begins with TEXT is nobody's option.
int parse_send(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    StartLine before = split_start_line(words);
    StartLine line = before;
    if (!before.separated && !before.command.empty()) {
        line = split_start_line({before.command.begin() + 1, before.command.end()});
        line.options.insert(line.options.begin(), before.command.front());
        line.options.insert(line.options.begin(), before.options.begin(), before.options.end());
    } else if (!before.command.empty()) {
        line.options.push_back(before.command.front());
        line.command.erase(line.command.begin());
    }
    SendOptions options;
    bool no_enter = false;
    std::vector<std::string> text;  // for the help only
    app.add_option("session", options.session, "An id, a unique prefix of one, or a name")->required();
    app.add_option("TEXT", text,
                   "Typed byte for byte, as a paste where the program asks for that, and Enter behind it; - for "
                   "standard input to its end")
        ->type_name("TEXT|-");
    app.add_option("--key", options.keys,
                   "Key by its tmux name, before the text: C-c, M-x, Enter, Up, F1; alone, "
                   "without Enter behind it")
        ->type_name("K")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_flag("--no-enter", no_enter, "No Enter behind the text");
    add_note(app, "Options end at TEXT. Without TEXT and keys it is Enter alone.");
    return parse_words(app, std::move(line.options), [&] {
        if (line.command.size() > 1) {
            std::fputs("cmctl: send: TEXT is one word\nhint: put it in quotes, or use - and standard input\n", stderr);
            return exit_code::kUsage;
        }
        options.enter = !no_enter;
        if (!line.command.empty()) {
            options.text = line.command.front();
        }
        return send(global, options);
    });
}

int parse_attach(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    AttachOptions options;
    app.add_option("session", options.session, "An id, a unique prefix of one, or a name")->required();
    app.add_flag("--read-only", options.read_only,
                 "Watch only: nothing that is typed gets there, and no window is resized that others are at");
    add_note(
        app,
        "tmux's detach key (usually C-b d), and ~. at the start of a line, leave the session running: exit code 0, as "
        "where the session ends meanwhile. Where the connection breaks it is waited for, until Ctrl-C.");
    return parse_words(app, words, [&] {
        if (global.json) {
            print_note(global, "cmctl: attach: --json is for what prints a result\nhint: cmctl rpc attach");
            return exit_code::kUsage;
        }
        return attach(global, options);
    });
}

int parse_exec(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    StartLine line = split_start_line(words);
    ExecOptions options;
    // For the help only: the command never gets here.
    app.add_option("CMD", options.command, "The program and its arguments, from the first word that is no option on")
        ->type_name("[ARG...]");
    app.add_option("--ctx", options.ctx, "Context, or an ssh destination")->type_name("C");
    app.add_flag("-t,--tty", options.terminal, "With a terminal on the server");
    add_note(
        app,
        "The arguments arrive as they are: for a pipeline, sh -c '...'. Exits with the program's own code, 128 + n "
        "where "
        "signal n ended it, 255 where the connection failed. Ctrl-C goes to the program, a second one leaves it.");
    return parse_words(app, std::move(line.options), [&] {
        options.command = std::move(line.command);
        if (options.command.empty()) {
            print_note(global, "cmctl: exec: expected a command\nhint: cmctl exec --ctx C CMD [ARG...]");
            return exit_code::kUsage;
        }
        return exec(global, std::move(options));
    });
}

int parse_forward_verb(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    static const std::map<std::string, ForwardAction> kActions = {{"add", ForwardAction::Add},
                                                                  {"list", ForwardAction::List},
                                                                  {"ls", ForwardAction::List},
                                                                  {"rm", ForwardAction::Remove}};
    ForwardOptions options;
    std::string action;
    app.add_option("action", action, "add, list, or rm of ids")->required()->type_name("add|list|rm");
    app.add_option("ids", options.ids, "For rm")->type_name("[ID...]");
    app.add_option("--ctx", options.ctx, "Context, or an ssh destination")->type_name("C");
    app.add_option("--session", options.session,
                   "It goes to this session's server and ends with it; else it lasts until rm")
        ->type_name("S");
    const auto add_spec = [&app](const char* name, std::vector<std::string>& into, const char* text, const char* type) {
        app.add_option(name, into, text)
            ->type_name(type)
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    };
    add_spec("-L,--local", options.local, "Listen here, lead to what the server can reach", "[ADDRESS:]PORT:HOST:PORT");
    add_spec("-R,--remote", options.remote, "Listen on the server, lead to what can be reached from here",
             "[ADDRESS:]PORT[:HOST:PORT]");
    add_spec("-D,--dynamic", options.dynamic, "Listen here for SOCKS clients", "[ADDRESS:]PORT");
    add_note(app, "A /PATH of a socket may stand for either end, as with ssh. -R with port 0: the server chooses one.");
    return parse_words(app, words, [&] {
        const auto found = kActions.find(action);
        const bool removes = found != kActions.end() && found->second == ForwardAction::Remove;
        if (found == kActions.end() || options.ids.empty() == removes) {
            const std::string what = found == kActions.end()
                                         ? printable("'" + action + "'") + " is none of add, list and rm"
                                     : removes ? "rm: expected ids"
                                               : "took " + printable(options.ids.front()) + " for nothing";
            std::fprintf(stderr, "cmctl: forward: %s\nhint: %s --help\n", what.c_str(), app.get_name().c_str());
            return exit_code::kUsage;
        }
        options.action = found->second;
        return forward(global, options);
    });
}

int parse_cp(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    CpOptions options;
    bool recursive = false;
    app.add_option("path", options.paths, "What is copied, and where to: CTX:PATH on a server, PATH here")
        ->required()
        ->expected(2, -1)
        ->type_name("SRC... DST");
    app.add_flag("-p,--preserve", options.preserve, "Keep times and modes");
    app.add_flag("-O", options.old_protocol, "scp's old protocol, for a server without sftp (OpenSSH 8.7 and later)");
    app.add_flag("-r,--recursive", recursive, "Taken for scp's sake: directories are always copied whole");
    add_note(app,
             "Paths are scp's: relative ones on a server begin at the home directory, patterns are expanded there.");
    return parse_words(app, words, [&] { return cp(global, options); });
}

int parse_wait(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    std::string session;
    app.add_option("session", session, "An id, a unique prefix of one, or a name")->required();
    return parse_words(app, words, [&] { return wait(global, session); });
}

int parse_check(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    std::optional<std::string> ctx;
    app.add_option("ctx", ctx, "Only this context");
    return parse_words(app, words, [&] { return check(global, ctx); });
}

int parse_doctor(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    std::optional<std::string> ctx;
    app.add_option("ctx", ctx, "This server too, logging in where it takes that; else those that are connected");
    add_note(app, "Exits with 0 where nothing has failed. With -q only what is wrong.");
    return parse_words(app, words, [&] { return doctor(global, ctx); });
}

int parse_connect(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    std::string ctx;
    app.add_option("ctx", ctx, "Context, or an ssh destination")->required();
    return parse_words(app, words, [&] { return connect(global, ctx); });
}

int parse_disconnect(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    std::string ctx;
    bool force = false;
    app.add_option("ctx", ctx, "Context, or an ssh destination")->required();
    app.add_flag("--force", force, "Do not wait for who uses it");
    return parse_words(app, words, [&] { return disconnect(global, ctx, force); });
}

int parse_ssh_lease(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    std::string directory;
    app.add_option("directory", directory, "Where the names of control sockets are")->required();
    return parse_words(app, words, [&] { return ssh_lease(global, directory); });
}

int parse_daemon(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    static const std::map<std::string, int (*)(const GlobalOptions&)> kActions = {
        {"start", daemon_start}, {"stop", daemon_stop}, {"status", daemon_status}, {"reload", daemon_reload}};
    std::string action;
    app.add_option("action", action,
                   "start: where it does not run; stop: sessions and connections live on; status: whether it runs; "
                   "reload: read the configuration again")
        ->required()
        ->type_name("start|stop|status|reload");
    return parse_words(app, words, [&] {
        const auto found = kActions.find(action);
        if (found == kActions.end()) {
            std::fprintf(stderr, "cmctl: daemon: %s is none of start, stop, status and reload\nhint: %s --help\n",
                         printable("'" + action + "'").c_str(), app.get_name().c_str());
            return exit_code::kUsage;
        }
        return found->second(global);
    });
}

int parse_rpc(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    RpcOptions options;
    app.add_option("method", options.method, "As rpc.discover lists them")->required();
    app.add_option("params", options.params, "A JSON object, or - for standard input");
    return parse_words(app, words, [&] { return rpc(global, options); });
}

int parse_completion(CLI::App& app, GlobalOptions&, const std::vector<std::string>& words) {
    std::string shell;
    app.add_option("SHELL", shell, "The script is printed for this one")->required()->type_name("bash|zsh|fish");
    add_note(app,
             "Where cmctl was installed, the scripts are where the shells look for them. Without:\n"
             "  bash   echo 'source <(cmctl completion bash)' >> ~/.bashrc\n"
             "  zsh    echo 'source <(cmctl completion zsh)' >> ~/.zshrc   (behind compinit)\n"
             "  fish   cmctl completion fish > ~/.config/fish/completions/cmctl.fish");
    return parse_words(app, words, [&] {
        if (completion_script(shell) == nullptr) {
            std::fprintf(stderr, "cmctl: completion: %s is none of bash, zsh and fish\nhint: %s --help\n",
                         printable("'" + shell + "'").c_str(), app.get_name().c_str());
            return exit_code::kUsage;
        }
        std::fputs(completion_script(shell), stdout);
        return exit_code::kOk;
    });
}

// What the scripts of the shells call. The words are a command line that nobody has ended yet: none is read as ours.
int parse_complete(CLI::App&, GlobalOptions&, const std::vector<std::string>& words) {
    return complete(words);
}

int parse_stats(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    bool prometheus = false;
    app.add_flag("--openmetrics", prometheus, "As Prometheus reads it, also by node_exporter's textfile collector");
    return parse_words(app, words, [&] {
        if (prometheus && global.json) {
            std::fputs("cmctl: stats: --openmetrics and --json exclude each other\nhint: cmctl stats --help\n", stderr);
            return exit_code::kUsage;
        }
        return prometheus ? stats_openmetrics(global) : stats(global);
    });
}

template <int (*verb)(const GlobalOptions&)>
int parse_plain(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) {
    return parse_words(app, words, [&global] { return verb(global); });
}

constexpr Verb kVerbs[] = {
    {"start", "Start a command in a detached tmux session on a server", parse_start,
     "cmctl start --ctx server-a claude \"task\"\n"
     "cmctl start --name nightly --cwd src/app -- make test\n"
     "cmctl start --ctx server-a --wait -- make -j8\n"},
    {"list", "Sessions that have not ended", parse_list,
     "cmctl list --all --ctx server-a\n"
     "cmctl list --watch\n"},
    {"kill", "End sessions, or send them a signal", parse_kill,
     "cmctl kill nightly\n"
     "cmctl kill -s INT sess-4f7q\n"},
    {"logs", "What a session has printed: scrollback and screen", parse_logs,
     "cmctl logs -n 20 nightly\n"
     "cmctl logs -f nightly\n"},
    {"attach", "Your terminal on a session", parse_attach,
     "cmctl attach nightly\n"
     "cmctl attach --read-only nightly\n"},
    {"exec", "Run a command on a server with your own input and output", parse_exec,
     "cmctl exec --ctx server-a -- tar cz src > src.tgz\n"
     "cmctl exec --ctx server-a -t htop\n"},
    {"send", "Type text or press keys in a session", parse_send,
     "cmctl send nightly \"yes, go on\"\n"
     "cmctl send nightly --key C-c\n"
     "git diff | cmctl send nightly -\n"},
    {"cp", "Copy files and directories to and from a server", parse_cp,
     "cmctl cp src server-a:backup/\n"
     "cmctl cp server-a:log/app.log .\n"},
    {"forward", "Forward ports and sockets: add, list, rm", parse_forward_verb,
     "cmctl forward add --ctx server-a -L 8080:localhost:80\n"
     "cmctl forward list\n"},
    {"wait", "Wait until a session ends, and exit with its code", parse_wait,
     "cmctl wait nightly && echo it went well\n"
     "cmctl wait --timeout 10m nightly\n"},
    {"status", "The daemon, its connections and sessions in short", parse_plain<status>, "cmctl\n"},
    {"stats", "Connections and what they saved", parse_stats,
     "cmctl stats\n"
     "cmctl stats --json\n"},
    {"top", "Connections and sessions on the whole screen, as they are now", parse_plain<top>, "cmctl top\n"},
    {"events", "What happens to sessions, connections and forwards, as it happens", parse_events,
     "cmctl events\n"
     "cmctl events --json --type session.ended\n"},
    {"contexts", "The known contexts", parse_plain<contexts>, "cmctl contexts\n"},
    {"version", "Versions of cmctl and of the daemon", parse_plain<version>, "cmctl version\n"},
    {"check", "Probe connections now: the master, and the way to the server", parse_check,
     "cmctl check\n"
     "cmctl check server-a\n"},
    {"doctor", "What is wrong here and on the servers, and what to type", parse_doctor,
     "cmctl doctor\n"
     "cmctl doctor server-a\n"},
    {"connect", "Connect to a server", parse_connect, "cmctl connect server-a\n"},
    {"disconnect", "End a server's connection; its sessions run on", parse_disconnect,
     "cmctl disconnect server-a\n"
     "cmctl disconnect --force server-a\n"},
    {"ssh-config", "Settings with which plain ssh goes over the pool's connections", parse_plain<ssh_config>,
     "cmctl ssh-config > ~/.ssh/cmssh.conf\n"},
    {"ssh-lease", "", parse_ssh_lease, "", true},  // what those settings run
    {"completion", "Completion of verbs, options and names for a shell", parse_completion,
     "source <(cmctl completion bash)\n"},
    {"__complete", "", parse_complete, ""},
    {"daemon", "Start, stop, look at or reload the daemon", parse_daemon,
     "cmctl daemon status\n"
     "cmctl daemon reload\n"},
    {"rpc", "Call a method of the API", parse_rpc,
     "cmctl rpc list '{\"all\": true}'\n"
     "cmctl rpc rpc.discover\n"},
    {"mcp", "A Model Context Protocol server: the sessions as an agent's tools", parse_plain<mcp_server>,
     "claude mcp add cmssh -- cmctl mcp\n"},
    {"proxy", "The daemon's socket as standard input and output", parse_plain<proxy>, "ssh workstation cmctl proxy\n",
     true},
};

}  // namespace

std::span<const Verb> verbs() {
    return kVerbs;
}

const Verb* find_verb(std::string_view name) {
    const std::string_view wanted = name == "ls" ? "list" : name == "a" ? "attach" : name;
    const auto* const found =
        std::find_if(std::begin(kVerbs), std::end(kVerbs), [wanted](const Verb& verb) { return verb.name == wanted; });
    return found == std::end(kVerbs) ? nullptr : found;
}

// --help and --version are told as CLI11 does, what is wrong as cmctl tells every error.
int stop(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
        return app.exit(error);
    }
    std::fprintf(stderr, "cmctl: %s\nhint: %s --help\n", printable(error.what()).c_str(), app.get_name().c_str());
    return exit_code::kUsage;
}

}  // namespace cmssh::client
