// Command lines for a server's login shell, run by those that are here.
#include "protocol/remote_command.hpp"

#include <gmock/gmock.h>

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/fakes/run_program.hpp"

namespace cmssh {
namespace {

using fakes::Environment;
using fakes::login_shells;
using fakes::Program;
using fakes::Ran;
using fakes::run_program;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class ExecCommand : public ::testing::Test {
protected:
    [[nodiscard]] Environment environment(const std::string& shell) const {
        return {{"HOME", home_.path()}, {"SHELL", shell}, {"PATH", "/usr/bin:/bin"}, {"LC_ALL", "C"}};
    }
    // As sshd runs a command line.
    [[nodiscard]] Ran run_by(const std::string& shell, const std::string& command) const {
        return run_program({shell, "-c", command}, environment(shell));
    }
    // With a file for its standard input.
    [[nodiscard]] Ran run_with_input(const std::string& shell, const std::string& command,
                                     const std::string& input) const {
        return run_program({"/bin/sh", "-c", "exec \"$0\" -c \"$1\" <\"$2\"", shell, command, home_.write("in", input)},
                           environment(shell));
    }

    fakes::TempDir home_;
};

Words nasty_words() {
    Words words = {"",     " ",        "a b",   "'",        "\"",  "it's",   "''''", "$HOME", "${HOME}", "$(id)",
                   "`id`", "$1",       "\\",    "\\n",      "\\c", "\\0101", "a\\",  "\n",    "a\nb\n",  "\r",
                   "\t",   "\x1b[31m", "é漢😀",  "\xff\xfe", "!",   "!!",     "a!b",  "^a^b",  "*",       "?",
                   "~",    "~root",    "{a,b}", "#",        ";",   "&&",     "|",    "<",     ">",       "(",
                   "%s",   "%%",       "-",     "--",       "-n",  "=x",     "a=b",  "exit",  "\"$@\""};
    std::string all;
    for (int byte = 1; byte < 0x100; ++byte) {
        all += static_cast<char>(byte);
    }
    words.push_back(all);
    return words;
}

TEST_F(ExecCommand, HandsEveryWordOnByteForByte) {
    const auto words = nasty_words();
    Words command = {"/usr/bin/printf", "%s\\0"};
    command.insert(command.end(), words.begin(), words.end());
    std::string expected;
    for (const auto& word : words) {
        expected += word + '\0';
    }
    for (const auto& shell : login_shells()) {
        const Ran ran = run_by(shell, exec_command("lease-a", command));
        EXPECT_EQ(ran.exit_code, 0) << shell << ran.errors;
        EXPECT_EQ(ran.output, expected) << shell;
        EXPECT_EQ(ran.errors, "") << shell;
    }
}

// Such words are not packed.
TEST_F(ExecCommand, HandsPlainWordsOnAsTheyAre) {
    Words words = {"",      "a b",   "$HOME", "${HOME}", "$argv",
                   "$(id)", "`id`",  "~",     "~root",   "*",
                   "?",     "[a-z]", "{a,b}", "{}",      "=ls",
                   "%s",    "%self", "^a^b",  "#x",      "a;b",
                   "&&",    "\"a\"", "-n",    "--",      std::string(1600, 'x')};
    for (char c = ' '; c < 0x7F; ++c) {
        if (c != '\'' && c != '!' && c != '\\') {
            words.emplace_back(1, c);
            words.emplace_back(3, c);
        }
    }
    Words command = {"/usr/bin/printf", "%s|"};
    command.insert(command.end(), words.begin(), words.end());
    std::string expected;
    for (const auto& word : words) {
        expected += word + '|';
    }
    const std::string line = exec_command("lease-a", command);
    EXPECT_EQ(line.find("printf %b"), std::string::npos);
    for (const auto& shell : login_shells()) {
        const Ran ran = run_by(shell, line);
        EXPECT_EQ(ran.exit_code, 0) << shell << ran.errors;
        EXPECT_EQ(ran.output, expected) << shell;
        EXPECT_EQ(ran.errors, "") << shell;
    }
}

TEST_F(ExecCommand, IsAsLongAsTheServersKernelTakes) {
    const std::string plain(120 * 1024, 'x');
    std::string escaped;
    while (escaped.size() < 12 * 1024) {
        escaped += "é'\\\n!";
    }
    for (const auto& word : {plain, escaped}) {
        const std::string line = exec_command("lease-a", {"/usr/bin/printf", "%s", word});
        ASSERT_LE(line.size(), kMaxCommandLine);
        for (const auto& shell : login_shells()) {
            const Ran ran = run_by(shell, line);
            EXPECT_TRUE(ran.output == word) << shell << ran.errors;
        }
    }
}

TEST_F(ExecCommand, EndsAsTheProgramDoes) {
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        const auto ends = [&](const std::string& script) {
            const Ran ran = run_by(shell, exec_command("lease-a", {"sh", "-c", script}));
            EXPECT_EQ(ran.output + ran.errors, "") << script;
            return ran.exit_code;
        };
        for (const int code : {0, 1, 42, 126, 255}) {
            EXPECT_EQ(ends("exit " + std::to_string(code)), code);
        }
        for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGTERM}) {
            EXPECT_EQ(ends("ulimit -c 0; kill -" + std::to_string(number) + " $$"), 128 + number);
        }
    }
}

TEST_F(ExecCommand, RunsProgramsAndNoShellCommands) {
    for (const auto& shell : login_shells()) {
        for (const char* word : {"exit", "cd", "no-such-program", "ls;id", "a=b"}) {
            const Ran ran = run_by(shell, exec_command("lease-a", {word, "0"}));
            EXPECT_EQ(ran.exit_code, 127) << shell << ' ' << word;
            EXPECT_THAT(ran.errors, HasSubstr(word));
        }
        EXPECT_EQ(run_by(shell, exec_command("lease-a", {"/etc/passwd"})).exit_code, 126) << shell;
    }
}

TEST_F(ExecCommand, LeavesTheStreamsToTheProgram) {
    const std::string show = "cat; echo problem >&2; ls /proc/self/fd";
    for (const auto& shell : login_shells()) {
        // csh leaves descriptors of its own open, and other tests may leave some of theirs.
        const Ran plain = run_with_input(shell, "exec sh -c '" + show + "'", "in\nput");
        const Ran ran = run_with_input(shell, exec_command("lease-a", {"sh", "-c", show}), "in\nput");
        EXPECT_THAT(ran.output, StartsWith("in\nput0\n1\n")) << shell;
        EXPECT_EQ(ran.output, plain.output) << shell;
        EXPECT_EQ(ran.errors, "problem\n") << shell;
    }
}

TEST_F(ExecCommand, GivesTheProgramTheDefaultActionsOfSignals) {
    // What it ignores or blocks or catches, as the kernel has it.
    const std::string show = "grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status";
    const Ran plain = run_program({"/bin/sh", "-c", "exec " + show}, environment("/bin/sh"));
    const Ran ran = run_by("/bin/sh", exec_command("lease-a", {"sh", "-c", "exec " + show}));
    EXPECT_EQ(ran.output, plain.output);
}

TEST_F(ExecCommand, IsSetUpByTheFirstLineOfItsInput) {
    const std::string directory = home_.path() + "/it's $HOME \\ !1\n é";
    std::filesystem::create_directory(directory);
    const std::string value = "it's \"a\" $HOME `id` \\ !1 *\né\n";
    const Words show = {"sh", "-c", "printf '%s\\0' \"$PWD\" \"$NASTY\" \"$PATH\"; cat"};
    for (const auto& shell : login_shells()) {
        SCOPED_TRACE(shell);
        const std::string line = exec_command("lease-a", show, ExecInput::SetupFirst);
        const Ran ran = run_with_input(
            shell, line, exec_setup_line("lease-a", directory, {{"NASTY", value}, {"PATH", "/bin"}}) + "rest\nof it");
        EXPECT_EQ(ran.exit_code, 0) << ran.errors;
        EXPECT_EQ(ran.output, directory + '\0' + value + '\0' + "/bin" + '\0' + "rest\nof it");
        std::filesystem::create_directories(home_.path() + "/below");
        for (const char* below : {"~/below", "below"}) {
            const Ran at_home = run_with_input(shell, "cd\n" + exec_command("lease-a", {"pwd"}, ExecInput::SetupFirst),
                                               exec_setup_line("lease-a", below, {}));
            EXPECT_EQ(at_home.output, home_.path() + "/below\n") << below << at_home.errors;
        }
    }
}

// As where printf is a program and refuses it.
TEST_F(ExecCommand, RunsNothingWithoutItsSetup) {
    for (const auto& shell : login_shells()) {
        const Ran ran = run_with_input(shell, exec_command("lease-a", {"echo", "ran"}, ExecInput::SetupFirst), "\n");
        EXPECT_EQ(ran.exit_code, 126) << shell;
        EXPECT_EQ(ran.output, "") << shell;
        EXPECT_THAT(ran.errors, HasSubstr("the setup of the command did not arrive")) << shell;
    }
}

TEST_F(ExecCommand, SaysWhereTheDirectoryIsNotThere) {
    for (const auto& shell : login_shells()) {
        const Ran ran = run_with_input(shell, exec_command("lease-a", {"echo", "ran"}, ExecInput::SetupFirst),
                                       exec_setup_line("lease-a", "/no/such", {}));
        EXPECT_EQ(ran.exit_code, 1) << shell;
        EXPECT_EQ(ran.output, "") << shell;
        EXPECT_THAT(ran.errors, ::testing::EndsWith(bad_cwd_line("lease-a") + "\n")) << shell;
        EXPECT_THAT(ran.errors, HasSubstr("/no/such")) << shell;
    }
}

// ---- Signals ----

class SignalExecScript : public ExecCommand {
protected:
    // Reads until the program has written so much.
    static std::string read_from(int fd, std::size_t size) {
        std::string text(size, '\0');
        std::size_t at = 0;
        while (at < size && fakes::readable_soon(fd)) {
            const ssize_t count = ::read(fd, text.data() + at, size - at);
            if (count <= 0) {
                break;
            }
            at += static_cast<std::size_t>(count);
        }
        text.resize(at);
        return text;
    }
    static std::array<UniqueFd, 2> pipe() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
            throw std::runtime_error("pipe2");
        }
        return {UniqueFd(ends[0]), UniqueFd(ends[1])};
    }
    void send(const std::string& shell, const std::string& mark, int signal) const {
        const Ran ran = run_by(shell, for_any_shell(signal_exec_script(mark, signal)));
        EXPECT_EQ(ran.exit_code, 0) << shell;
        EXPECT_EQ(ran.output + ran.errors, "") << shell;
    }

    // The same test may run beside this one, and the script looks at every process of the user.
    std::string mark_ = "lease-" + std::to_string(::getpid());
};

TEST_F(SignalExecScript, EndsTheProgramAndTheCodeTellsHow) {
    for (const auto& shell : login_shells()) {
        for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) {
            const auto output = pipe();
            Program program({shell, "-c", exec_command(mark_, {"sh", "-c", "ulimit -c 0; echo; exec sleep 1000"})},
                            environment(shell), output[1].get(), 2);
            Program other({shell, "-c", exec_command(mark_ + "b", {"sleep", "1000"})}, environment(shell), 1, 2);
            read_from(output[0].get(), 1);
            send(shell, mark_, number);
            const int status = program.wait();
            EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 128 + number) << shell << ' ' << number;
            EXPECT_TRUE(other.running());
        }
    }
}

TEST_F(SignalExecScript, LeavesItToTheProgramWhatToDo) {
    const auto output = pipe();
    Program program({"/bin/sh", "-c", exec_command(mark_, {"sh", "-c", "trap 'exit 5' INT; echo; sleep 1000; exit 6"})},
                    environment("/bin/sh"), output[1].get(), 2);
    read_from(output[0].get(), 1);
    send("/bin/sh", mark_, SIGINT);
    EXPECT_EQ(WEXITSTATUS(program.wait()), 5);
}

TEST_F(SignalExecScript, ReachesWhatTheProgramHasStarted) {
    auto output = pipe();
    Program program({"/bin/sh", "-c",
                     exec_command(mark_, {"sh", "-c", "trap '' TERM; (trap - TERM; echo; exec sleep 1000); exit 7"})},
                    environment("/bin/sh"), output[1].get(), 2);
    read_from(output[0].get(), 1);
    output[1].reset();
    send("/bin/sh", mark_, SIGKILL);
    const int status = program.wait();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    EXPECT_EQ(read_from(output[0].get(), 1), "") << "something still has it open";
}

// Below a command that sshd was told to force, the group is not the program's own.
TEST_F(SignalExecScript, LeavesTheLeaderOfItsGroupAlone) {
    const auto output = pipe();
    Program program(
        {"/bin/sh", "-c", "sh -c \"$LINE\"; exit 9"},
        {{"PATH", "/usr/bin:/bin"}, {"LINE", exec_command(mark_, {"sh", "-c", "echo; exec sleep 1000"}) + "; exit $?"}},
        output[1].get(), 2);
    read_from(output[0].get(), 1);
    send("/bin/sh", mark_, SIGTERM);
    EXPECT_EQ(WEXITSTATUS(program.wait()), 9);
}

TEST_F(SignalExecScript, WaitsForAProgramThatIsBeingStarted) {
    const std::string script = for_any_shell(signal_exec_script(mark_, SIGTERM));
    // The shell that runs the program waits for its setup line, which comes when the sender has looked a few times.
    const std::string fifo = home_.path() + "/fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    home_.write("line", exec_setup_line(mark_, std::nullopt, {}));
    home_.write("bin/sleep",
                "#!/bin/sh\ncd\necho >>naps\n[ \"$(wc -l <naps)\" -ne 3 ] || cat line >fifo\nexec /bin/sleep \"$@\"\n",
                true);
    auto with_line = environment("/bin/sh");
    with_line["LINE"] = exec_command(mark_, {"/bin/sleep", "1000"}, ExecInput::SetupFirst);
    Program program({"/bin/sh", "-c", "exec 0<>\"$HOME/fifo\"; eval \"$LINE\""}, with_line, 1, 2);
    auto with_sleep = environment("/bin/sh");
    with_sleep["PATH"] = home_.path() + "/bin:/usr/bin:/bin";
    Program sender({"/bin/sh", "-c", script}, with_sleep, 1, 2);
    EXPECT_EQ(WEXITSTATUS(program.wait()), 128 + SIGTERM);
    EXPECT_EQ(sender.wait(), 0);
}

}  // namespace
}  // namespace cmssh
