#include "client/options.hpp"

#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "client/given_context.hpp"
#include "client/help_text.hpp"
#include "client/start_line.hpp"
#include "client/syntax.hpp"
#include "client/typed_command.hpp"
#include "client/verb_options.hpp"
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
    // A century is for ever, and no overflow.
    constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365 * 100);
    return std::min(std::chrono::milliseconds(milliseconds), kLongest);
}

void add_global_options(CLI::App& app, GlobalOptions& global) {
    app.add_option("--socket", global.socket, "The daemon's API socket")->type_name("P")->group("Everywhere");
    app.add_option("--config", global.config, "Configuration of a daemon that is started")
        ->type_name("F")
        ->group("Everywhere");
    app.add_flag("--no-spawn", global.no_spawn, "Do not start a daemon")->group("Everywhere");
    app.add_option_function<std::string>(
           "--host",
           [&global](const std::string& host) { global.host = host.empty() ? std::nullopt : std::optional(host); },
           "The daemon of another machine, reached with ssh; empty: of this one, whatever CMSSH_HOST says")
        ->type_name("ssh://[USER@]MACHINE[:PORT]")
        ->group("Everywhere");
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

// Where the verb stands: options before it belong to cmctl. argc: there is none.
int verb_place(int argc, char** argv) {
    int at = 1;
    while (at < argc && argv[at][0] == '-') {
        at += takes_value(argv[at]) ? 2 : 1;
    }
    return std::min(at, argc);
}

void define_top(CLI::App& app, GlobalOptions& global) {
    app.description("cmctl: run long commands on servers, over connections that cmsshd shares");
    app.name("cmctl");
    app.set_version_flag("--version", "cmctl " CMSSH_VERSION);
    add_global_options(app, global);
}

}  // namespace

std::vector<VerbSyntax> all_verbs() {
    std::vector<VerbSyntax> found;
    for (const Verb& verb : verbs()) {
        if (*verb.text != '\0') {
            found.push_back({.name = verb.name, .text = verb.text, .options = {}, .operands = {}});
        }
    }
    return found;
}

std::optional<VerbSyntax> syntax_of_verb(std::string_view name) {
    GlobalOptions global;
    if (name.empty()) {
        CLI::App app;
        define_top(app, global);
        return syntax_of(app);
    }
    const Verb* verb = find_verb(name);
    if (verb == nullptr) {
        return std::nullopt;
    }
    // Nothing but its help needs all that a verb declares, and makes nothing happen.
    VerbSyntax syntax;
    CLI::App app{verb->text};
    add_global_options(app, global);
    app.formatter_fn([&syntax](const CLI::App* declared, const std::string&, CLI::AppFormatMode) {
        syntax = syntax_of(*declared);
        return std::string();
    });
    verb->parse(app, global, {"--help"});
    syntax.name = verb->name;
    return syntax;
}

namespace {

std::string examples_of(const Verb& verb) {
    std::string text = "Examples:";
    for (std::string_view rest = verb.examples; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        text += "\n  " + std::string(line);
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
    return text;
}

int run_verb(int argc, char** argv) {
    ::signal(SIGPIPE, SIG_IGN);
    GlobalOptions global;
    take_typed_host(global);
    CLI::App app;
    define_top(app, global);
    use_help_layout(app);
    const int at = verb_place(argc, argv);
    const Verb* const wanted = at < argc ? find_verb(argv[at]) : nullptr;
    // What other machines, and the ssh of this one, run is for this machine's daemon.
    if (wanted == nullptr || !wanted->stays_here) {
        global.host = environment_value("CMSSH_HOST");
    }
    std::vector<std::string> before(argv + 1, argv + at);
    std::reverse(before.begin(), before.end());
    try {
        app.parse(before);
    } catch (const CLI::CallForHelp& help) {
        std::string table = "Verbs:\n";
        for (const Verb& verb : verbs()) {
            if (*verb.text == '\0') {
                continue;
            }
            std::string name = verb.name;
            name.resize(std::max<std::size_t>(name.size(), 12), ' ');
            table += "  " + name + verb.text + "\n";
        }
        app.footer(table + "\ncmctl VERB --help tells more.");
        return stop(app, help);
    } catch (const CLI::ParseError& error) {
        return stop(app, error);
    }
    if (at == argc) {
        return status(global);
    }
    if (wanted == nullptr) {
        std::fprintf(stderr, "cmctl: there is no verb %s\nhint: cmctl --help\n",
                     printable("'" + std::string(argv[at]) + "'").c_str());
        return exit_code::kUsage;
    }
    CLI::App verb_app{wanted->text, std::string("cmctl ") + wanted->name};
    use_help_layout(verb_app);
    verb_app.footer(examples_of(*wanted));
    add_global_options(verb_app, global);
    global.verb = wanted->name;
    return wanted->parse(verb_app, global, std::vector<std::string>(argv + at + 1, argv + argc));
}

}  // namespace

int run_command_line(int argc, char** argv) {
    const int code = run_verb(argc, argv);
    // A full disk, or a reader that has gone: what was printed has not arrived.
    const bool flushed = std::fflush(stdout) == 0;
    if (!flushed || std::ferror(stdout) != 0) {
        // Where an earlier write failed, errno is of something else by now.
        if (!flushed && errno != EPIPE) {
            std::fprintf(stderr, "cmctl: standard output: %s\n", std::strerror(errno));
        } else if (flushed) {
            std::fputs("cmctl: standard output could not be written\n", stderr);
        }
        return code == exit_code::kOk ? exit_code::kFailed : code;
    }
    return code;
}

}  // namespace cmssh::client
