// What is generated for the shells of a server, run by those shells.
#include <gmock/gmock.h>

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "daemon/tmux/tmux_scripts.hpp"
#include "tests/unit/fakes/run_program.hpp"
#include "tests/unit/tmux/tmux_line.hpp"

namespace cmssh::tmux {
namespace {

using fakes::Environment;
using fakes::login_shells;
using fakes::Program;
using fakes::Ran;
using fakes::run_program;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;

const Ownership kOwner{.owner = "0123456789abcdef", .server_key = "hren@server1:22"};

std::vector<std::string> nasty_words() {
    std::vector<std::string> words = {
        "",         " ",       "a b",   "  a  ", "'",      "\"",    "it's",   "''''", "a'b\"c'", "$HOME", "$",
        "$$",       "${HOME}", "$(id)", "`id`",  "$1",     "$argv", "$'x'",   "\\",   "\\\\",    "\\n",   "\\0101",
        "\\c",      "a\\",     "\\'",   "\\\"",  "\n",     "\n\n",  "a\nb\n", "\r",   "\t",      "\x01",  "\x7f",
        "\x1b[31m", "é漢😀",    "!",     "!!",    "a!b",    "!x",    "^a^b",   "*",    "?",       "[a-z]", "~",
        "~root",    "{a,b}",   "{}",    "#",     "#{pid}", ";",     "&&",     "|",    "<",       ">",     "(",
        ")",        "%s",      "%%",    "-",     "--",     "-n",    "--help", "=x",   "a=b",     "FLAGS", "@cmssh@",
        "exit",     "if",      "$d",    "$@",    "\"$@\"", "\\\n",
    };
    std::string all;
    for (int byte = 1; byte < 0x80; ++byte) {
        all += static_cast<char>(byte);
    }
    words.push_back(all);
    std::string large;
    while (large.size() < 100 * 1024) {
        large += "'\\ \n$HOME `!\"é*";
    }
    words.push_back(large);
    return words;
}

// What a NUL-separated output holds behind the line "@@".
std::vector<std::string> words_behind_mark(const std::string& output) {
    std::vector<std::string> words;
    const auto mark = output.find(std::string("@@\0", 3));
    if (mark == std::string::npos) {
        return {"no mark in: " + output.substr(0, 1000)};
    }
    for (auto at = mark + 3; at < output.size();) {
        const auto end = std::min(output.find('\0', at), output.size());
        words.push_back(output.substr(at, end - at));
        at = end + 1;
    }
    return words;
}

// printf writes its arguments as they are, each with a NUL behind it.
std::vector<std::string> print_words(const std::vector<std::string>& words) {
    std::vector<std::string> command = {"/usr/bin/printf", "%s\\0", "@@"};
    command.insert(command.end(), words.begin(), words.end());
    return command;
}

class TmuxScripts : public ::testing::Test {
protected:
    TmuxScripts() {
        // Start-up files that print, export and leave the directory.
        const std::string sh = "echo \"rc of '$0'\"; export FROM_RC='from rc'; cd /\n";
        home_.write(".profile", sh);
        home_.write(".bash_profile", sh);
        home_.write(".bashrc", "cd /usr\n");
        home_.write(".zshenv", "cd /usr\n");
        home_.write(".zprofile", sh);
        home_.write(".zshrc", "cd /\n");
        home_.write(".config/fish/config.fish", "echo \"rc of fish's\"; set -gx FROM_RC 'from rc'; cd /\n");
        home_.write(".cshrc", "echo \"rc of csh's\"\nsetenv FROM_RC 'from rc'\ncd /\n");
        home_.write(".login", "echo 'login of csh'\ncd /usr\n");
    }

    [[nodiscard]] Environment environment(const std::string& shell) const {
        return {{"HOME", home_.path()}, {"SHELL", shell}, {"PATH", "/usr/bin:/bin"}, {"TERM", "dumb"}};
    }
    // What tmux would execute for the session: what stands behind -- in its command line.
    static std::vector<std::string> executed(SessionShell shell, std::vector<std::string> command,
                                             const std::string& directory = {},
                                             const std::map<std::string, std::string>& env = {}) {
        SessionsConfig config;
        config.shell = shell;
        NewSession session;
        session.id = "sess-a";
        session.note.command = std::move(command);
        session.directory = directory;
        session.env = env;
        const auto words = words_of(start_commands(config, kOwner, session)[0]);
        return {std::find(words.begin(), words.end(), "--") + 1, words.end()};
    }
    // As sshd runs a command line.
    static Ran run_by(const std::string& shell, const std::string& command, Environment environment) {
        environment["SHELL"] = shell;
        return run_program({shell, "-c", command}, environment);
    }

    fakes::TempDir home_;
};

using StartScript = TmuxScripts;

TEST_F(StartScript, HandsEveryWordOnByteForByte) {
    const auto words = nasty_words();
    for (const auto& shell : login_shells()) {
        for (const auto mode : {SessionShell::LoginInteractive, SessionShell::Login, SessionShell::None}) {
            SCOPED_TRACE(shell + " mode " + std::to_string(static_cast<int>(mode)));
            const Ran ran = run_program(executed(mode, print_words(words)), environment(shell));
            EXPECT_EQ(ran.exit_code, 0) << ran.errors;
            EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray(words));
        }
    }
}

TEST_F(StartScript, NeedsNoUtf8Locale) {
    const auto words = nasty_words();
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        for (const auto* locale : {"C", "C.UTF-8"}) {
            auto variables = environment(shell);
            variables["LC_ALL"] = locale;
            const Ran ran = run_program(executed(SessionShell::LoginInteractive, print_words(words)), variables);
            EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray(words)) << locale;
        }
    }
}

TEST_F(StartScript, GivesTheProgramTheLoginShellsEnvironment) {
    const std::string nasty = "it's \"a\" $HOME `id` \\ !1 *\né @cmssh@ x\n";
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        auto variables = environment(shell);
        variables["NASTY"] = nasty;
        variables["LC_ALL"] = "C.UTF-8";  // fish changes what is not ASCII in another locale
        const std::vector<std::string> print = {"/bin/sh", "-c", "printf '@@\\0%s\\0%s\\0' \"$FROM_RC\" \"$NASTY\""};
        for (const auto mode : {SessionShell::LoginInteractive, SessionShell::Login}) {
            const Ran ran = run_program(executed(mode, print), variables);
            EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray({std::string("from rc"), nasty}))
                << static_cast<int>(mode);
        }
        const Ran plain = run_program(executed(SessionShell::None, print), variables);
        EXPECT_THAT(words_behind_mark(plain.output), ElementsAreArray({std::string(), nasty}));
    }
}

TEST_F(StartScript, GivesTheCallersVariablesWhateverTheStartUpFilesSay) {
    // Some mean something to the shells, or to tmux.
    const std::map<std::string, std::string> env = {
        {"FROM_RC", "it's \"a\" $HOME `id` \\ !1 *\né @cmssh@ x\n"}, {"IFS", ","}, {"TERM", "vt100"}, {"UID", "5"}};
    const std::vector<std::string> print = {"/usr/bin/env", "-0"};
    for (const auto& shell : login_shells()) {
        for (const auto mode : {SessionShell::LoginInteractive, SessionShell::Login, SessionShell::None}) {
            SCOPED_TRACE(shell + " mode " + std::to_string(static_cast<int>(mode)));
            auto variables = environment(shell);
            for (const auto& [name, value] : env) {
                variables[name] = value;  // as tmux does
            }
            const Ran ran = run_program(executed(mode, print, {}, env), variables);
            for (const auto& [name, value] : env) {
                EXPECT_THAT('\0' + ran.output, HasSubstr('\0' + name + '=' + value + '\0')) << ran.errors;
            }
        }
    }
}

TEST_F(StartScript, GivesALongVariableToo) {
    std::string value;
    while (value.size() < 128 * 1024 - 100) {
        value += "it's é\n`id` ";
    }
    for (const auto& shell : login_shells()) {
        auto variables = environment(shell);
        // One that ends with the first part, one with several, and the longest.
        for (const auto size : {25'000UL, 25'001UL, 60'000UL, value.size()}) {
            const std::string part = value.substr(0, size - 1) + '\n';
            const std::map<std::string, std::string> env = {{"LONG", part}, {"A_LONG", part.substr(1)}, {"NONE", ""}};
            for (const auto& [name, text] : env) {
                variables[name] = text;
            }
            const Ran ran =
                run_program(executed(SessionShell::LoginInteractive, {"/usr/bin/env", "-0"}, {}, env), variables);
            for (const auto& [name, text] : env) {
                EXPECT_TRUE(('\0' + ran.output).find('\0' + name + '=' + text + '\0') != std::string::npos)
                    << shell << ' ' << name << ' ' << size << ran.errors;
            }
            EXPECT_THAT(ran.output, Not(HasSubstr("CMSSH_ENV_")));
        }
    }
}

TEST_F(StartScript, GivesVariablesWhereTheCallersPathHoldsNothing) {
    for (const auto& shell : login_shells()) {
        auto variables = environment(shell);
        const std::map<std::string, std::string> env = {{"GIVEN", "é\n漢"}, {"PATH", "/nonexistent"}};
        for (const auto& [name, text] : env) {
            variables[name] = text;
        }
        const Ran ran =
            run_program(executed(SessionShell::LoginInteractive, {"/usr/bin/env", "-0"}, {}, env), variables);
        EXPECT_THAT('\0' + ran.output, HasSubstr('\0' + std::string("GIVEN=é\n漢") + '\0')) << shell << ran.errors;
    }
}

TEST_F(StartScript, ShowsTheirValuesToNobodyElse) {
    // What any user of the machine sees, while start-up files run and when the program does.
    const std::string look = "cat /proc/[0-9]*/cmdline 2>/dev/null >>" + home_.path() + "/seen";
    for (const auto* file : {".profile", ".bash_profile", ".zshrc", ".config/fish/config.fish", ".cshrc"}) {
        home_.write(file, (file == std::string(".cshrc") ? "sh -c '" + look + "'" : look) + '\n');
    }
    const std::map<std::string, std::string> env = {{"TOKEN", "not-for-everyone"}, {"OTHER", "é not-for-everyone"}};
    for (const auto& shell : login_shells()) {
        auto variables = environment(shell);
        variables.insert(env.begin(), env.end());
        const Ran ran = run_program(
            executed(SessionShell::LoginInteractive, {"/bin/sh", "-c", look + "; printf @@%s \"$TOKEN\""}, {}, env),
            variables);
        EXPECT_THAT(ran.output, HasSubstr("@@not-for-everyone")) << shell << ran.errors;
        const std::string seen = run_program({"/bin/cat", home_.path() + "/seen"}, {}).output;
        EXPECT_THAT(seen, HasSubstr(look.substr(0, 20))) << shell;
        EXPECT_THAT(seen, Not(HasSubstr("not-for-everyone"))) << shell;
    }
}

TEST_F(StartScript, GivesThemToAProgramWithAnEqualsSignInItsName) {
    home_.write("a=b", "#!/bin/sh\nprintf '@@\\0%s\\0' \"$GIVEN\" \"$@\"\n", true);
    const Ran ran = run_program(executed(SessionShell::None, {home_.path() + "/a=b", "word"}, {}, {{"GIVEN", "x"}}),
                                {{"GIVEN", "x"}, {"PATH", "/usr/bin:/bin"}});
    EXPECT_THAT(ran.output, HasSubstr(std::string("@@\0x\0", 5))) << ran.errors;
}

// People who may not change their login shell do so.
class AnotherShell : public TmuxScripts {
protected:
    static constexpr std::array<const char*, 4> kNext = {"zsh", "fish", "bash", "tcsh"};

    AnotherShell() {
        home_.write(".bash_logout", "echo 'touch " + witness_ + "'\n");
        home_.write(".zshrc", "export FROM_RC='from rc'\n");
        home_.write(".bash_profile", leave_program() + ". ~/.bashrc\n");
    }
    ~AnotherShell() override {
        EXPECT_NE(::access(witness_.c_str(), F_OK), 0) << "what a logout prints was run";
        std::ifstream pids(left_);
        for (pid_t pid = 0; pids >> pid;) {
            ::kill(pid, SIGKILL);
        }
    }
    // It keeps the shell's output open.
    [[nodiscard]] std::string leave_program() const { return "sh -c 'sleep 1000 & echo $! >>" + left_ + "'\n"; }
    void expect_to_run(const std::string& shell) {
        const std::vector<std::string> words = {"a b", "it's", "$HOME", "!1", "é\n"};
        std::vector<std::string> command = {"/bin/sh", "-c", "printf '@@\\0'; printf '%s\\0' \"$FROM_RC\" \"$@\"",
                                            "sh"};
        command.insert(command.end(), words.begin(), words.end());
        std::vector<std::string> printed = {"from rc"};
        printed.insert(printed.end(), words.begin(), words.end());
        const Ran ran = run_program(executed(SessionShell::LoginInteractive, command), environment(shell));
        EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray(printed)) << ran.errors;
    }

    const std::string witness_ = home_.path() + "/witness";
    const std::string left_ = home_.path() + "/left";
};

TEST_F(AnotherShell, StartedByBash) {
    for (const auto* guard : {"true", "[ -t 0 ]", "false"}) {
        for (const std::string next : kNext) {
            for (const std::string& line : {"exec " + next, "SHELL=/usr/bin/" + next + "; exec $SHELL"}) {
                SCOPED_TRACE(std::string(guard) + ' ' + line);
                home_.write(".bashrc", std::string("export FROM_RC='from rc'\ncase $-$ONCE in *i) export ONCE=1; ") +
                                           guard + " && { " + line + "; }; esac\necho noise\n");
                expect_to_run("/usr/bin/bash");
            }
        }
    }
}

TEST_F(AnotherShell, StartedByFish) {
    home_.write(".bashrc", "export FROM_RC='from rc'\n");
    for (const std::string next : {"bash", "zsh"}) {
        SCOPED_TRACE(next);
        home_.write(".config/fish/config.fish", leave_program() + "echo noise\nstatus is-interactive; and exec " +
                                                    next + "\nset -gx FROM_RC 'from rc'\n");
        expect_to_run("/usr/bin/fish");
    }
}

TEST_F(AnotherShell, StartedByCsh) {
    home_.write(".bashrc", "export FROM_RC='from rc'\n");
    for (const auto* shell : {"/usr/bin/csh", "/usr/bin/tcsh"}) {
        for (const auto* file : {".cshrc", ".login"}) {
            for (const std::string next : {"bash", "zsh"}) {
                SCOPED_TRACE(shell + (' ' + next) + ' ' + file);
                home_.write(".cshrc", leave_program());
                home_.write(".login", leave_program());
                home_.write(file, leave_program() + "setenv FROM_RC 'from rc'\nif ( $?prompt ) exec " + next + "\n");
                expect_to_run(shell);
            }
        }
    }
}

// With functions and aliases for what a script of ours might use.
TEST_F(StartScript, UsesNoCommandThatAStartUpFileDefines) {
    const std::string directory = home_.path() + "/there";
    std::filesystem::create_directory(directory);
    const std::string sh = "cd() { command cd \"$1\" && ls; }\nshift() { :; }\nprintf() { :; }\nalias exec='echo no'\n";
    for (const auto* file : {".profile", ".bash_profile", ".bashrc", ".zshrc"}) {
        home_.write(file, sh);
    }
    const std::vector<std::string> print = {"/bin/sh", "-c", "printf '@@\\0'; /usr/bin/readlink -nz /proc/$$/cwd"};
    for (const auto* shell : {"/usr/bin/bash", "/usr/bin/zsh", "/usr/bin/dash"}) {
        const Ran ran = run_program(executed(SessionShell::LoginInteractive, print, directory), environment(shell));
        EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray({directory})) << shell << ran.errors;
    }
}

TEST_F(StartScript, RunsInItsDirectoryWhateverTheStartUpFilesDo) {
    const std::string directory = home_.path() + "/it's \"a\" $HOME `id` \\ !1 * é #{x}\n ~";
    std::filesystem::create_directory(directory);
    // Without the shell's PWD: asks the kernel.
    const std::vector<std::string> print = {"/bin/sh", "-c", "printf '@@\\0'; /usr/bin/readlink -nz /proc/$$/cwd"};
    for (const auto& shell : login_shells()) {
        for (const auto mode : {SessionShell::LoginInteractive, SessionShell::Login, SessionShell::None}) {
            const Ran ran = run_program(executed(mode, print, directory), environment(shell));
            EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray({directory})) << shell;
        }
    }
}

TEST_F(StartScript, RunsNothingWithoutItsDirectory) {
    for (const auto& shell : login_shells()) {
        for (const auto mode : {SessionShell::LoginInteractive, SessionShell::None}) {
            const Ran ran = run_program(executed(mode, print_words({}), home_.path() + "/none"), environment(shell));
            EXPECT_NE(ran.exit_code, 0) << shell;
            EXPECT_EQ(ran.output.find("@@"), std::string::npos) << shell;
        }
    }
}

TEST_F(StartScript, GivesTheProgramsExitCode) {
    for (const auto& shell : login_shells()) {
        const Ran ran =
            run_program(executed(SessionShell::LoginInteractive, {"/bin/sh", "-c", "exit 7"}), environment(shell));
        EXPECT_EQ(ran.exit_code, 7) << shell;
    }
}

TEST_F(StartScript, GoesOnWithoutAShellThatItKnows) {
    for (const auto* shell : {"", "/usr/sbin/nologin", "/opt/my shell"}) {
        const Ran ran = run_program(executed(SessionShell::LoginInteractive, print_words({"a b"})), environment(shell));
        EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray({"a b"})) << shell;
    }
}

// A .login that becomes another program leaves only what it printed, and that is no script.
TEST_F(StartScript, RunsNothingThatAStartUpFileOfCshPrints) {
    const std::string witness = home_.path() + "/witness";
    home_.write(".login", "echo 'touch " + witness + "'\nexec /bin/true\n");
    for (const auto* shell : {"/usr/bin/csh", "/usr/bin/tcsh"}) {
        if (::access(shell, X_OK) != 0) {
            continue;
        }
        const Ran ran = run_program(executed(SessionShell::LoginInteractive, print_words({"a b"})), environment(shell));
        EXPECT_THAT(words_behind_mark(ran.output), ElementsAreArray({"a b"})) << shell;
        EXPECT_NE(::access(witness.c_str(), F_OK), 0) << shell;
    }
}

// ---- The command line that opens the channel ----

using OpenScript = TmuxScripts;

// Prints its version, or its arguments and the limit of descriptors.
constexpr std::string_view kFakeTmux = R"sh(#!/bin/sh
if [ "$1" = -V ]; then echo "tmux 3.4"; exit; fi
if [ "$4" = list-clients ]; then exit; fi
printf '@@\0'
printf '%s\0' "$@"
)sh";

// For two questions it has a client, whose pid is beyond any process's.
constexpr std::string_view kTmuxWithAClient = R"sh(#!/bin/sh
if [ "$1" = -V ]; then echo "tmux 3.4"; exit; fi
case $* in
*client_control_mode*)
    echo asked >>"$HOME/asked"
    [ "$(wc -l <"$HOME/asked")" -gt 2 ] || printf '\n999999999\n'
    exit ;;
*list-clients*) exit ;;  # whether ours is attached
esac
printf '@@asked %s' "$(wc -l <"$HOME/asked")"
)sh";

std::string greeting_of(const std::string& output, const std::string& token) {
    const auto at = output.find(token);
    return at == std::string::npos ? "no token in: " + output : output.substr(at, output.find("@@") - at);
}

std::string boot_id() {
    std::string id;
    std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
    return id;
}

TEST_F(OpenScript, GreetsAndBecomesTmuxUnderEveryShell) {
    home_.write("bin/tmux", kFakeTmux, true);
    SessionsConfig config;
    config.tmux_socket = "our-socket";
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        auto variables = environment(shell);
        variables["PATH"] = home_.path() + "/bin:" + variables["PATH"];
        const Ran ran = run_by(shell, open_command(config, kOwner, "cmssh-123"), variables);
        EXPECT_EQ(ran.exit_code, 0) << ran.errors;
        EXPECT_EQ(greeting_of(ran.output, "cmssh-123"),
                  "cmssh-123 tmux 3.4\ncmssh-123 boot " + boot_id() + "\ncmssh-123 home " + home_.path() + "\n");
        auto words = words_behind_mark(ran.output);
        ASSERT_EQ(words.size(), 16U);
        EXPECT_THAT(words[8], HasSubstr("cmssh-keeper-"));
        words[8] = "KEEPER";
        EXPECT_THAT(words, ElementsAreArray({"-u", "-L", "our-socket", "-C", "new-session", "-A", "-D", "-s", "KEEPER",
                                             "-f", "no-output,ignore-size", "exec cat", ";", "display-message", "-p",
                                             "cmssh-life #{pid} #{start_time}"}));
    }
}

// tmux before 3.7 may crash of a control client that comes while the end of another is announced.
TEST_F(OpenScript, WaitsForTheEndOfTheLastControlClient) {
    home_.write("bin/tmux", kTmuxWithAClient, true);
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        home_.write("asked", "");
        auto variables = environment(shell);
        variables["PATH"] = home_.path() + "/bin:" + variables["PATH"];
        const Ran ran = run_by(shell, open_command(SessionsConfig{}, kOwner, "cmssh-123"), variables);
        EXPECT_THAT(ran.output, HasSubstr("@@asked 3")) << ran.errors;
    }
}

TEST_F(OpenScript, FindsTmuxInALoginShellsPath) {
    const std::string bin = home_.path() + "/only in login";
    home_.write("only in login/tmux-x", kFakeTmux, true);
    const std::string sh = "echo noise; PATH=\"$PATH:" + bin + "\"; export PATH\n";
    home_.write(".profile", sh);
    home_.write(".bash_profile", sh);
    home_.write(".zprofile", sh);
    home_.write(".config/fish/config.fish", "status is-login; and set -gx PATH $PATH '" + bin + "'\n");
    home_.write(".cshrc", "");
    home_.write(".login", "");
    SessionsConfig config;
    config.tmux = "tmux-x";
    for (const auto& shell : login_shells()) {
        if (shell.ends_with("csh")) {
            continue;  // reads .login only as a login shell on its own, never for a command
        }
        const Ran ran = run_by(shell, open_command(config, kOwner, "cmssh-123"), environment(shell));
        EXPECT_THAT(greeting_of(ran.output, "cmssh-123"), HasSubstr("cmssh-123 tmux 3.4\n")) << shell << ran.errors;
    }
    home_.write(".cshrc", "setenv PATH \"${PATH}:" + bin + "\"\n");
    for (const auto& shell : login_shells()) {
        if (shell.ends_with("csh")) {
            const Ran ran = run_by(shell, open_command(config, kOwner, "cmssh-123"), environment(shell));
            EXPECT_THAT(greeting_of(ran.output, "cmssh-123"), HasSubstr("cmssh-123 tmux 3.4\n")) << shell;
        }
    }
}

TEST_F(OpenScript, SaysThatThereIsNoTmux) {
    SessionsConfig config;
    config.tmux = "no-such-tmux";
    for (const auto& shell : login_shells()) {
        const Ran ran = run_by(shell, open_command(config, kOwner, "cmssh-123"), environment(shell));
        EXPECT_EQ(greeting_of(ran.output, "cmssh-123"), "cmssh-123 missing\n") << shell;
        EXPECT_EQ(ran.exit_code, 0) << shell;
    }
}

TEST_F(OpenScript, TakesATmuxBelowTheServersHome) {
    home_.write("own/tmux-3.5a", kFakeTmux, true);
    SessionsConfig config;
    config.tmux = "~/own/tmux-3.5a";
    for (const auto& shell : login_shells()) {
        const Ran ran = run_by(shell, open_command(config, kOwner, "cmssh-123"), environment(shell));
        EXPECT_THAT(greeting_of(ran.output, "cmssh-123"), HasSubstr("cmssh-123 tmux 3.4\n")) << shell;
    }
}

// ---- The command line that attaches a terminal ----

// Says how it is called. Attaching, it ends as ATTACH says, under a known TERM; the session is there unless GONE is
// set.
constexpr std::string_view kAttachingTmux = R"sh(#!/bin/sh
printf '%s ' "$TERM" "${TMUX-}" "$@"
echo
case $* in
*has-session*) [ -z "${GONE-}" ] ;;
*) [ "$TERM" = xterm-256color ] || exit "${ATTACH-0}" ;;
esac
)sh";

class AttachScript : public TmuxScripts {
protected:
    AttachScript() { home_.write("bin/tmux", kAttachingTmux, true); }

    // Behind what the start-up files print.
    [[nodiscard]] Ran attach(const std::string& shell, Viewer viewer, const Environment& more = {}) const {
        Environment variables = environment(shell);
        variables["PATH"] = home_.path() + "/bin:" + variables["PATH"];
        for (const auto& [name, value] : more) {
            variables[name] = value;
        }
        SessionsConfig config;
        config.tmux_socket = "our-socket";
        Ran ran = run_by(shell, attach_command(config, "sess-a", viewer), variables);
        const auto at = ran.output.find(variables["TERM"] + "  -u");
        ran.output.erase(0, at == std::string::npos ? 0 : at);
        return ran;
    }
};

TEST_F(AttachScript, TakesPartInThatSessionUnderEveryShell) {
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        const Ran ran = attach(shell, Viewer::TakesPart, {{"TMUX", "/tmp/tmux-0/default,1,0"}});
        EXPECT_EQ(ran.exit_code, 0) << ran.errors;
        EXPECT_EQ(ran.output,
                  "dumb  -u -L our-socket attach-session -t =sess-a \n"
                  "dumb  -u -L our-socket has-session -t =sess-a \n");
    }
}

TEST_F(AttachScript, WatchesWithoutTyping) {
    EXPECT_THAT(attach("/bin/sh", Viewer::Watches).output, HasSubstr(" attach-session -r -t =sess-a \n"));
}

TEST_F(AttachScript, TellsADetachFromASessionThatIsGone) {
    EXPECT_EQ(attach("/bin/sh", Viewer::TakesPart, {{"GONE", "1"}}).exit_code, api::kAttachedToNothing);
    EXPECT_EQ(attach("/bin/sh", Viewer::TakesPart, {{"GONE", "1"}, {"ATTACH", "1"}}).exit_code,
              api::kAttachedToNothing);
}

TEST_F(AttachScript, EndsAsTmuxDoesOnATerminalThatTheServerKnows) {
    EXPECT_EQ(attach("/bin/sh", Viewer::TakesPart, {{"ATTACH", "1"}}).exit_code, 1);
}

TEST_F(AttachScript, TriesAnotherNameForATerminalThatTheServerDoesNotKnow) {
    const Ran ran = attach("/bin/sh", Viewer::TakesPart, {{"ATTACH", "1"}, {"TERM", "xterm-of-tomorrow"}});
    EXPECT_EQ(ran.exit_code, 0) << ran.errors;
    EXPECT_THAT(ran.output, HasSubstr("\nxterm-256color  -u -L our-socket attach-session -t =sess-a \n"));
}

TEST_F(AttachScript, SaysThatThereIsNoTmux) {
    SessionsConfig config;
    config.tmux = "no-such-tmux";
    for (const auto& shell : login_shells()) {
        const Ran ran = run_by(shell, attach_command(config, "sess-a", Viewer::TakesPart), environment(shell));
        EXPECT_EQ(ran.exit_code, 127) << shell;
        EXPECT_THAT(ran.errors, HasSubstr("tmux is not found on the server\n")) << shell;
    }
}

// ---- What runs on channels of its own ----

using TryDirectory = TmuxScripts;

TEST_F(TryDirectory, SaysWhetherItCanBeEntered) {
    std::string every = home_.path() + "/é漢😀";
    for (int byte = 1; byte < 0x80; ++byte) {
        if (byte != '/') {
            every += static_cast<char>(byte);
        }
    }
    every += "!b!!";
    const std::string line_end = home_.path() + "/a\n";
    std::filesystem::create_directory(every);
    std::filesystem::create_directory(line_end);
    const std::string file = home_.write("file", "");
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        const auto exit_code = [&](const std::string& directory) {
            return run_by(shell, try_directory_command(directory), environment(shell)).exit_code;
        };
        EXPECT_EQ(exit_code(every), 0);
        EXPECT_EQ(exit_code(line_end), 0);
        EXPECT_NE(exit_code(line_end.substr(0, line_end.size() - 1)), 0);
        EXPECT_NE(exit_code(file), 0);
        const Ran ran = run_by(shell, try_directory_command("/it's not here!"), environment(shell));
        EXPECT_NE(ran.exit_code, 0);
        EXPECT_THAT(ran.errors, HasSubstr("it's not here!"));
    }
}

class Pty {
public:
    Pty() : fd_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        if (!fd_ || ::grantpt(fd_.get()) != 0 || ::unlockpt(fd_.get()) != 0) {
            throw std::runtime_error("no pseudo-terminal");
        }
    }
    [[nodiscard]] std::string name() const { return ::ptsname(fd_.get()); }

private:
    UniqueFd fd_;
};

using SignalScript = TmuxScripts;

constexpr int kNotSent = 3;

TEST_F(SignalScript, ReachesTheForegroundOfTheSessionsTerminal) {
    for (const auto& shell : login_shells()) {
        for (const int number : {SIGTERM, SIGUSR1, SIGKILL}) {
            const Pty pty;
            Program program({"/usr/bin/cat"}, {{"CMSSH_SESSION", "sess-a"}}, 1, 2, pty.name());
            const Ran ran = run_by(shell, signal_command(program.pid(), number), environment(shell));
            EXPECT_EQ(ran.exit_code, 0) << shell << ran.errors;
            const int status = program.wait();
            EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == number) << shell << ' ' << number;
        }
    }
}

TEST_F(SignalScript, SaysWhereThereIsNoForeground) {
    Program without_terminal({"/usr/bin/sleep", "1000"}, {{"CMSSH_SESSION", "sess-a"}}, 1, 2);
    Program gone({"/bin/true"}, {}, 1, 2);
    gone.wait();
    for (const auto& shell : login_shells()) {
        for (const pid_t pid : {without_terminal.pid(), gone.pid()}) {
            const Ran ran = run_by(shell, signal_command(pid, SIGKILL), environment(shell));
            EXPECT_EQ(ran.exit_code, kNotSent) << shell;
        }
    }
    EXPECT_TRUE(without_terminal.running());
}

using SweepScript = TmuxScripts;

TEST_F(SweepScript, KillsWhatIsLeftOfTheSessionsAndNothingElse) {
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        const std::vector<std::string> sleep = {"/usr/bin/sleep", "1000"};
        Program first(sleep, {{"CMSSH_SESSION", "sess-a"}}, 1, 2);
        Program second(sleep, {{"CMSSH_SESSION", "sess-b"}}, 1, 2);
        Program unmarked(sleep, {}, 1, 2);
        Program of_another(sleep, {{"CMSSH_SESSION", "sess-a"}}, 1, 2);
        const auto command = sweep_command({{"sess-a", first.pid()},
                                            {"sess-gone", 999999999},
                                            {"sess-b", second.pid()},
                                            {"sess-c", unmarked.pid()},
                                            {"sess-b", of_another.pid()}});
        const Ran ran = run_by(shell, command, environment(shell));
        EXPECT_EQ(ran.exit_code, 0) << ran.errors;
        EXPECT_EQ(first.wait(), SIGKILL);
        EXPECT_EQ(second.wait(), SIGKILL);
        EXPECT_TRUE(unmarked.running());
        EXPECT_TRUE(of_another.running());
    }
}

// A pid that was a killed session's is an old stranger's after a while.
TEST_F(SweepScript, GoesByTheEnvironmentAloneWhereTheKillIsLongAgo) {
    constexpr auto kLongAgo = Leftover::Since::LongAgo;
    const std::vector<std::string> sleep = {"/usr/bin/sleep", "1000"};
    Program just_now(sleep, {}, 1, 2);
    Program stranger(sleep, {}, 1, 2);
    Program ours(sleep, {{"CMSSH_SESSION", "sess-c"}}, 1, 2);
    std::string old = "#!/bin/sh\n";
    for (const pid_t pid : {stranger.pid(), ours.pid(), just_now.pid()}) {
        old += "echo " + std::to_string(pid) + ' ' + std::to_string(pid) + " 3600\n";
    }
    home_.write("bin/ps", old, true);
    Environment variables = environment("/bin/sh");
    variables["PATH"] = home_.path() + "/bin:" + variables["PATH"];
    const auto command = sweep_command(
        {{"sess-a", just_now.pid()}, {"sess-b", stranger.pid(), kLongAgo}, {"sess-c", ours.pid(), kLongAgo}});
    const Ran ran = run_by("/bin/sh", command, variables);
    EXPECT_EQ(ran.exit_code, 0) << ran.errors;
    EXPECT_EQ(just_now.wait(), SIGKILL);
    EXPECT_EQ(ours.wait(), SIGKILL);
    EXPECT_TRUE(stranger.running());
}

TEST_F(SweepScript, TakesManySessionsAtOnce) {
    for (const auto& shell : login_shells()) {
        Program last({"/usr/bin/sleep", "1000"}, {{"CMSSH_SESSION", "sess-zzzzzzzz"}}, 1, 2);
        constexpr auto kLongAgo = Leftover::Since::LongAgo;
        std::vector<Leftover> sessions(
            kSweptAtOnce, Leftover{.session_id = "sess-aaaaaaaa", .pane_pid = 999999999, .since = kLongAgo});
        sessions.back() = {.session_id = "sess-zzzzzzzz", .pane_pid = last.pid(), .since = kLongAgo};
        const std::string command = sweep_command(sessions);
        EXPECT_LT(command.size(), 128 * 1024 - 1U) << "one argument of the shell on the server";
        const Ran ran = run_by(shell, command, environment(shell));
        EXPECT_EQ(ran.exit_code, 0) << shell << ran.errors;
        EXPECT_EQ(last.wait(), SIGKILL) << shell << ran.errors;
    }
}

}  // namespace
}  // namespace cmssh::tmux
