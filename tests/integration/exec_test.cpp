// exec: programs on a server's shared connection, by cmctl with its own streams and by the API.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <random>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

SshdOptions with_config(const std::string& config) {
    SshdOptions options = servers(1);
    options.config = config;
    return options;
}

Words exec_on(const std::string& ctx, const Words& command) {
    Words words = {"exec", "--ctx", ctx, "--"};
    words.insert(words.end(), command.begin(), command.end());
    return words;
}

Finished exec(const World& world, const Words& command, const std::string& input = {}) {
    return world.daemon.cmctl(exec_on("server-1", command), input);
}

// A cmctl that runs by the side.
std::unique_ptr<Process> exec_aside(const World& world, const Words& command, const Words& options = {}) {
    Words argv = {CMSSH_CMCTL};
    const Words words = exec_on("server-1", command);
    argv.insert(argv.end(), options.begin(), options.end());
    argv.insert(argv.end(), words.begin(), words.end());
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    return std::make_unique<Process>(argv, spawn);
}

// The pid that a remote program has written first.
pid_t remote_pid(const Process& process) {
    EXPECT_TRUE(wait_until([&] { return process.output().find('\n') != std::string::npos; })) << process.errors();
    return std::stoi(process.output());
}

bool ends(pid_t pid) {
    return wait_until([pid] { return !alive(pid); });
}

ExitStatus exited(int code) {
    return {.code = code, .signal = 0};
}

// Names no program of anybody else's.
const Words kSleeper = {"sh", "-c", "echo $$; exec sleep 1000"};

std::string random_bytes(std::size_t count) {
    std::mt19937_64 generator(5);
    std::string bytes(count, '\0');
    for (std::size_t at = 0; at + sizeof(std::uint64_t) <= count; at += sizeof(std::uint64_t)) {
        const std::uint64_t word = generator();
        std::copy_n(reinterpret_cast<const char*>(&word), sizeof(word), bytes.data() + at);
    }
    return bytes;
}

// Bytes read and written by a process so far.
std::uint64_t bytes_moved(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/io");
    std::uint64_t total = 0;
    std::string name;
    for (std::uint64_t value = 0; file >> name >> value;) {
        if (name == "rchar:" || name == "wchar:") {
            total += value;
        }
    }
    return total;
}

// ---- cmctl exec ----

TEST(Exec, EndsAsTheProgramDoes) {
    World world;
    for (const int code : {0, 1, 42, 255}) {
        const Finished ran = exec(world, {"sh", "-c", "echo out; echo err >&2; exit " + std::to_string(code)});
        EXPECT_EQ(ran.status, exited(code));
        EXPECT_EQ(ran.output, "out\n");
        EXPECT_EQ(ran.errors, "err\n");
    }
    for (const int number : {SIGHUP, SIGINT, SIGKILL, SIGTERM}) {
        const Finished ran = exec(world, {"sh", "-c", "kill -" + std::to_string(number) + " $$"});
        EXPECT_EQ(ran.status, exited(128 + number));
        EXPECT_EQ(ran.output + ran.errors, "");
    }
    const Finished missing = exec(world, {"no-such-program"});
    EXPECT_EQ(missing.status, exited(127));
    EXPECT_THAT(missing.errors, HasSubstr("no-such-program"));
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("refs") == 0; }));
}

TEST(Exec, HandsArgumentsOnByteForByte) {
    World world;
    Words words = {"",   " ", "a  b", "it's", "\"",    "$HOME",    "`id`", "\\",  "\\n",     "a\nb\n",
                   "!!", "*", "~",    "-n",   "--ctx", "server-2", "-t",   "é漢", "\xff\xfe"};
    Words command = {"printf", "%s\\0"};
    command.insert(command.end(), words.begin(), words.end());
    std::string expected;
    for (const auto& word : words) {
        expected += word + '\0';
    }
    EXPECT_EQ(exec(world, command).output, expected);
    Words without_separator = {"exec", "--ctx=server-1", "printf", "%s\\0", "--", "-x"};
    EXPECT_EQ(world.daemon.cmctl(without_separator).output, std::string("--\0-x\0", 6));
}

TEST(Exec, MovesAHundredMegabytesPastTheDaemon) {
    World world;
    exec(world, {"true"});
    const std::string bytes = random_bytes(std::size_t{100} << 20U);
    const std::uint64_t before = bytes_moved(world.daemon.pid());
    const Finished there = exec(world, {"sha256sum"}, bytes);
    EXPECT_EQ(there.status, exited(0)) << there.errors;
    SpawnOptions here;
    here.input = bytes;
    EXPECT_EQ(there.output, run({"sha256sum"}, here).output);
    const Finished back = exec(world, {"cat"}, bytes);
    EXPECT_EQ(back.status, exited(0)) << back.errors;
    EXPECT_TRUE(back.output == bytes);
    EXPECT_LT(bytes_moved(world.daemon.pid()) - before, 1U << 20U);
}

TEST(Exec, EndsWithItsReader) {
    World world;
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    const Finished ran = run({"/bin/sh", "-c", "\"$0\" exec --ctx server-1 yes | head -n 1", CMSSH_CMCTL}, spawn);
    EXPECT_EQ(ran.output, "y\n");
}

TEST(Exec, AsksForAContext) {
    World world(servers(1), "[contexts.first]\nhost = \"server-1\"\n[contexts.other]\nhost = \"server-2\"\n");
    const Finished ran = world.daemon.cmctl({"exec", "true"});
    EXPECT_EQ(ran.status, exited(2));
    EXPECT_THAT(ran.errors, HasSubstr("contexts:\n    first\n    other\n"));
    EXPECT_EQ(world.daemon.cmctl({"exec", "--ctx", "first"}).status, exited(2));
}

TEST(Exec, TellsFailuresOfTheConnectionByTheirCode) {
    World world;
    world.sshd.stop();
    const Finished unreachable = exec(world, {"true"});
    EXPECT_EQ(unreachable.status, exited(255));
    EXPECT_THAT(unreachable.errors, HasSubstr("cmctl: "));
}

TEST(Exec, IsOverWithItsMaster) {
    World world;
    const auto running = exec_aside(world, kSleeper);
    remote_pid(*running);
    ::kill(world.connection(world.key("127.0.0.1")).at("master_pid").get<int>(), SIGKILL);
    EXPECT_EQ(running->wait(), exited(255));
    EXPECT_EQ(running->errors(), "cmctl: exec: the connection to " + world.key("127.0.0.1") + " was lost\n");
}

TEST(Exec, GivesTheStreamsBackAsTheyWere) {
    World world;
    exec(world, {"true"});
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    // The master, which is killed, cannot do it.
    Process shell({"/bin/sh", "-c",
                   "\"$0\" exec --ctx server-1 sh -c 'echo; exec sleep 1000'; echo code $?; cat /proc/self/fdinfo/1",
                   CMSSH_CMCTL},
                  spawn);
    EXPECT_TRUE(wait_until([&] { return !shell.output().empty(); }));
    ::kill(world.connection(world.key("127.0.0.1")).at("master_pid").get<int>(), SIGKILL);
    EXPECT_EQ(shell.wait(), exited(0));
    EXPECT_THAT(shell.output(), HasSubstr("code 255\n"));
    const auto flags = shell.output().find("flags:");
    ASSERT_NE(flags, std::string::npos) << shell.output();
    EXPECT_EQ(std::stoi(shell.output().substr(flags + 6), nullptr, 8) & O_NONBLOCK, 0);
}

TEST(Exec, GoesOnWithoutTheDaemon) {
    World world;
    const auto running = exec_aside(world, {"sh", "-c", "echo $$; exec sleep 1000"});
    const pid_t pid = remote_pid(*running);
    world.daemon.stop();
    ::kill(pid, SIGUSR1);
    EXPECT_EQ(running->wait(), exited(128 + SIGUSR1));
    world.start_daemon();
}

TEST(Exec, ThatWaitsInLineAsksTheNextDaemon) {
    World world(servers(1), "[pool]\nmax_channels = 2\n");
    const auto running = exec_aside(world, kSleeper);
    const pid_t pid = remote_pid(*running);
    const auto next = exec_aside(world, {"echo", "done"});
    ASSERT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("channels").at("queued") == 1; }));
    world.daemon.crash();
    EXPECT_EQ(next->wait(), exited(0)) << next->errors();
    EXPECT_EQ(next->output(), "done\n");
    EXPECT_EQ(::kill(pid, SIGTERM), 0);
    EXPECT_EQ(running->wait(), exited(128 + SIGTERM));
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

TEST(Exec, ATimeoutInLineSaysWhatForItWaited) {
    World world(servers(1), "[pool]\nmax_channels = 2\n");
    const auto running = exec_aside(world, kSleeper);
    remote_pid(*running);
    const Finished late = world.daemon.cmctl({"--timeout", "1s", "exec", "--ctx", "server-1", "true"});
    EXPECT_EQ(late.status, exited(124));
    EXPECT_THAT(late.errors,
                HasSubstr("no answer in time: server-1: waiting for channel (" + world.key("127.0.0.1") + ')'));
    running->send_signal(SIGTERM);
    EXPECT_EQ(running->wait(), exited(128 + SIGTERM));
}

// ---- Signals ----

TEST(ExecSignal, EndsTheRemoteProgram) {
    World world;
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
        const auto running = exec_aside(world, {"sh", "-c", "ulimit -c 0; echo $$; exec sleep 1000"});
        const pid_t pid = remote_pid(*running);
        running->send_signal(number);
        EXPECT_EQ(running->wait(), exited(128 + number));
        EXPECT_FALSE(alive(pid));
    }
}

TEST(ExecSignal, EndsTheRemoteProgramOverARestartOfTheDaemonToo) {
    World world;
    for (const bool again : {false, true}) {
        const auto running = exec_aside(world, kSleeper);
        const pid_t pid = remote_pid(*running);
        world.daemon.crash();
        if (again) {
            world.start_daemon();
        }
        running->send_signal(SIGINT);
        EXPECT_EQ(running->wait(), exited(128 + SIGINT));
        EXPECT_FALSE(alive(pid));
        if (!again) {
            world.start_daemon();
        }
    }
}

TEST(ExecSignal, IsTheProgramsToHandle) {
    World world;
    const auto running = exec_aside(world, {"sh", "-c", "trap 'exit 5' INT; echo $$; sleep 1000; exit 6"});
    remote_pid(*running);
    running->send_signal(SIGINT);
    EXPECT_EQ(running->wait(), exited(5));
}

TEST(ExecSignal, NeedsNoChannelOfItsOwn) {
    World world(with_config("MaxSessions 2"));
    const auto running = exec_aside(world, kSleeper);
    const pid_t pid = remote_pid(*running);
    running->send_signal(SIGINT);
    EXPECT_EQ(running->wait(), exited(130));
    EXPECT_FALSE(alive(pid));
}

TEST(ExecSignal, NeedsNoTmuxEither) {
    SshdOptions options = servers(1);
    World world(options, "[sessions]\ntmux = \"no-such-tmux\"\n");
    const auto running = exec_aside(world, kSleeper);
    const pid_t pid = remote_pid(*running);
    running->send_signal(SIGINT);
    EXPECT_EQ(running->wait(), exited(130));
    EXPECT_FALSE(alive(pid));
}

TEST(ExecSignal, LeavesAtOnceTheSecondTime) {
    World world;
    const auto running = exec_aside(world, {"sh", "-c", "trap '' INT; echo $$; exec sleep 1000"});
    const pid_t pid = remote_pid(*running);
    running->send_signal(SIGINT);
    // The first is read before the second is sent, or both would be one.
    EXPECT_TRUE(wait_until([&] {
        std::ifstream status("/proc/" + std::to_string(running->pid()) + "/status");
        for (std::string line; std::getline(status, line);) {
            if (line.starts_with("ShdPnd:")) {
                return line.find_first_not_of("0\t", 7) == std::string::npos;
            }
        }
        return false;
    }));
    running->send_signal(SIGINT);
    EXPECT_EQ(running->wait(), exited(130));
    EXPECT_TRUE(ends(pid)) << "it is hung up on";
}

TEST(ExecSignal, IsSentForACmctlThatIsKilled) {
    World world;
    const auto running = exec_aside(world, kSleeper);
    const pid_t pid = remote_pid(*running);
    running->send_signal(SIGKILL);
    EXPECT_TRUE(ends(pid));
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("refs") == 0; }));
}

TEST(ExecSignal, EndsItAtTheTimeout) {
    World world;
    exec(world, {"true"});
    const auto running = exec_aside(world, kSleeper, {"--timeout", "1s"});
    const pid_t pid = remote_pid(*running);
    EXPECT_EQ(running->wait(), exited(124));
    EXPECT_TRUE(ends(pid));
}

TEST(ExecSignal, IsForTheLeasesOwnClientOnly) {
    World world;
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}}).at("lease");
    RpcClient other(world.daemon.socket_path());
    EXPECT_EQ(other.refusal("signal", {{"lease", lease}, {"signal", "TERM"}}).at("code"), -32602);
    EXPECT_EQ(world.rpc().refusal("signal", {{"lease", lease}, {"signal", "NOSUCH"}}).at("code"), -32602);
    EXPECT_EQ(world.rpc().call("signal", {{"lease", lease}, {"signal", "TERM"}}), Json::object());
}

// ---- Channels ----

class ExecChannels : public testing::TestWithParam<int> {};

TEST_P(ExecChannels, AreWaitedFor) {
    World world(with_config("MaxSessions " + std::to_string(GetParam())));
    constexpr int kMany = 50;
    std::vector<std::unique_ptr<Process>> running;
    for (int i = 0; i < kMany; ++i) {
        running.push_back(exec_aside(world, {"echo", std::to_string(i)}));
    }
    for (int i = 0; i < kMany; ++i) {
        EXPECT_EQ(running[static_cast<std::size_t>(i)]->wait(in(60s)), exited(0));
        EXPECT_EQ(running[static_cast<std::size_t>(i)]->output(), std::to_string(i) + '\n');
        EXPECT_EQ(running[static_cast<std::size_t>(i)]->errors(), "");
    }
    EXPECT_EQ(world.sshd.logins(), 1);
}

INSTANTIATE_TEST_SUITE_P(MaxSessions, ExecChannels, testing::Values(10, 2));

// Theirs is not counted by the next daemon, and is no sign of a lower limit.
TEST(Exec, WaitsForTheChannelOfAnEarlierDaemonsClient) {
    World world(with_config("MaxSessions 2"));
    const auto running = exec_aside(world, kSleeper);
    const pid_t pid = remote_pid(*running);
    world.daemon.stop();
    world.start_daemon();
    ASSERT_TRUE(world.connection_becomes(world.key("127.0.0.1"), "up"));
    const auto next = exec_aside(world, {"echo", "done"});
    // As often as would teach a limit.
    ASSERT_TRUE(wait_until([&] {
        int refused = 0;
        const std::string log = world.sshd.log();
        for (auto at = log.find("no more sessions"); at != std::string::npos;
             at = log.find("no more sessions", at + 1)) {
            ++refused;
        }
        return refused > 6;
    })) << next->errors();
    EXPECT_EQ(::kill(pid, SIGTERM), 0);
    EXPECT_EQ(running->wait(), exited(128 + SIGTERM));
    EXPECT_EQ(next->wait(), exited(0)) << next->errors();
    EXPECT_EQ(next->output(), "done\n");
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Exec, SaysWhereTheServerAllowsNoChannel) {
    World world(with_config("MaxSessions 1"));
    const Finished ran = exec(world, {"true"});
    EXPECT_EQ(ran.status, exited(7));
    EXPECT_THAT(ran.errors, HasSubstr("MaxSessions"));
    EXPECT_EQ(world.sshd.logins(), 1);
}

// ---- With a terminal ----

// A terminal of ours with a cmctl on it, as a shell would have it.
class OnTerminal {
public:
    OnTerminal(const World& world, const Words& arguments) : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        if (!master_ || ::grantpt(master_.get()) != 0 || ::unlockpt(master_.get()) != 0) {
            throw std::runtime_error("no pseudo-terminal");
        }
        ::ioctl(master_.get(), TIOCSPTLCK, &locked_);
        slave_ = UniqueFd(::open(::ptsname(master_.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
        resize(80, 24);
        before_ = modes();
        Words argv = {"/bin/sh",
                      "-c",
                      "tty=$1; shift; exec setsid -c -w \"$@\" <\"$tty\" >\"$tty\" 2>&1",
                      "sh",
                      ::ptsname(master_.get()),
                      CMSSH_CMCTL};
        argv.insert(argv.end(), arguments.begin(), arguments.end());
        SpawnOptions spawn;
        spawn.environment = world.daemon.environment();
        spawn.environment.push_back("TERM=xterm");
        process = std::make_unique<Process>(argv, spawn);
    }

    void resize(unsigned short cols, unsigned short rows) const {
        winsize size{};
        size.ws_col = cols;
        size.ws_row = rows;
        ::ioctl(slave_.get(), TIOCSWINSZ, &size);
    }
    void type(std::string_view text) const {
        EXPECT_EQ(::write(master_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    // Reads until it has been shown.
    bool shows(const std::string& text) {
        return wait_until([&] {
            pollfd polled{.fd = master_.get(), .events = POLLIN, .revents = 0};
            while (::poll(&polled, 1, 0) == 1 && (polled.revents & POLLIN) != 0) {
                std::array<char, 4096> bytes{};
                const ssize_t count = ::read(master_.get(), bytes.data(), bytes.size());
                shown.append(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
            }
            return shown.find(text) != std::string::npos;
        });
    }
    [[nodiscard]] bool is_raw() const { return (modes().c_lflag & ICANON) == 0; }
    [[nodiscard]] bool is_as_before() const {
        const termios now = modes();
        return now.c_iflag == before_.c_iflag && now.c_oflag == before_.c_oflag && now.c_lflag == before_.c_lflag;
    }

    std::unique_ptr<Process> process;
    std::string shown;

private:
    [[nodiscard]] termios modes() const {
        termios modes{};
        ::tcgetattr(slave_.get(), &modes);
        return modes;
    }

    UniqueFd master_;
    UniqueFd slave_;
    int locked_ = 0;
    termios before_{};
};

TEST(ExecTerminal, IsOneOnTheServer) {
    World world;
    OnTerminal terminal(world, {"exec", "--ctx", "server-1", "-t", "sh", "-c",
                                "trap 'stty size' WINCH; stty size; echo $TERM; while ! read -r line; do :; done; "
                                "echo \"got $line\"; exit 42"});
    EXPECT_TRUE(terminal.shows("24 80\r\nxterm\r\n")) << terminal.shown;
    EXPECT_TRUE(wait_until([&] { return terminal.is_raw(); }));
    terminal.resize(100, 30);
    EXPECT_TRUE(terminal.shows("30 100\r\n")) << terminal.shown;
    terminal.type("a word\r");
    EXPECT_TRUE(terminal.shows("got a word\r\n")) << terminal.shown;
    EXPECT_EQ(terminal.process->wait(), exited(42));
    EXPECT_TRUE(terminal.is_as_before());
}

TEST(ExecTerminal, HandsControlCharactersOn) {
    World world;
    OnTerminal terminal(world, {"exec", "--ctx", "server-1", "-t", "sh", "-c", "echo ready; exec sleep 1000"});
    EXPECT_TRUE(terminal.shows("ready")) << terminal.shown;
    EXPECT_TRUE(wait_until([&] { return terminal.is_raw(); }));
    terminal.type("\x03");
    EXPECT_EQ(terminal.process->wait(), exited(130));
}

TEST(ExecTerminal, HasItsModesBackWhateverHappens) {
    World world;
    world.rpc().call("connect", {{"ctx", "server-1"}});  // a slow login is shown
    OnTerminal terminal(world, {"exec", "--ctx", "server-1", "-t", "sh", "-c", "echo $$; exec sleep 1000"});
    EXPECT_TRUE(terminal.shows("\r\n")) << terminal.shown;
    const pid_t pid = std::stoi(terminal.shown);
    EXPECT_TRUE(wait_until([&] { return terminal.is_raw(); }));
    // setsid, cmctl, and the cmctl that does the work
    const auto parents = children_of(terminal.process->pid());
    const pid_t parent = parents.empty() ? terminal.process->pid() : parents.front();
    const auto workers = children_of(parent);
    ASSERT_EQ(workers.size(), 1U);
    ::kill(workers.front(), SIGKILL);
    EXPECT_TRUE(terminal.process->wait().has_value());
    EXPECT_TRUE(terminal.is_as_before());
    EXPECT_TRUE(ends(pid));
}

TEST(ExecTerminal, HandsOnASignalToItself) {
    World world;
    world.rpc().call("connect", {{"ctx", "server-1"}});  // a slow login is shown
    for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP}) {
        OnTerminal terminal(world,
                            {"exec", "--ctx", "server-1", "-t", "sh", "-c", "ulimit -c 0; echo $$; exec sleep 1000"});
        EXPECT_TRUE(terminal.shows("\r\n")) << terminal.shown;
        const pid_t pid = std::stoi(terminal.shown);
        EXPECT_TRUE(wait_until([&] { return terminal.is_raw(); }));
        const auto parents = children_of(terminal.process->pid());
        ::kill(parents.empty() ? terminal.process->pid() : parents.front(), number);
        EXPECT_TRUE(terminal.process->wait().has_value()) << number;
        EXPECT_TRUE(terminal.is_as_before()) << number;
        EXPECT_TRUE(ends(pid)) << number;
    }
}

TEST(ExecTerminal, IsLeftByTheEscape) {
    World world;
    world.rpc().call("connect", {{"ctx", "server-1"}});  // a slow login is shown
    OnTerminal terminal(world, {"exec", "--ctx", "server-1", "-t", "sh", "-c", "echo $$; exec sleep 1000"});
    EXPECT_TRUE(terminal.shows("\r\n")) << terminal.shown;
    const pid_t pid = std::stoi(terminal.shown);
    EXPECT_TRUE(wait_until([&] { return terminal.is_raw(); }));
    terminal.type("\r~.");
    EXPECT_TRUE(terminal.shows("left the command on " + world.key("127.0.0.1") + "\r\n")) << terminal.shown;
    EXPECT_EQ(terminal.process->wait(), exited(255));
    EXPECT_TRUE(terminal.is_as_before());
    EXPECT_TRUE(ends(pid));
}

TEST(ExecTerminal, IsNoneWhereStandardInputIsNone) {
    World world;
    const Finished ran = world.daemon.cmctl({"exec", "--ctx", "server-1", "-t", "sh", "-c", "test -t 0 || echo no"});
    EXPECT_EQ(ran.output, "no\n");
    EXPECT_THAT(ran.errors, HasSubstr("no terminal"));
    EXPECT_EQ(ran.status, exited(0));
}

// ---- The API ----

class ExecRpc : public testing::Test {
protected:
    Json call(const Words& command, const Json& extra = Json::object()) {
        return world.rpc().call("exec", params(command, extra));
    }
    Json refusal(const Words& command, const Json& extra = Json::object()) {
        return world.rpc().refusal("exec", params(command, extra)).at("data");
    }
    static Json params(const Words& command, const Json& extra) {
        Json params = {{"ctx", "server-1"}, {"command", command}};
        params.update(extra);
        return params;
    }

    World world;
};

TEST_F(ExecRpc, GivesWhatTheProgramPrinted) {
    const Json ran = call({"sh", "-c", "cat; echo err >&2; exit 3"}, {{"stdin", "in\nput"}});
    EXPECT_EQ(ran, (Json{{"exit_code", 3},
                         {"signal", nullptr},
                         {"stdout", "in\nput"},
                         {"stderr", "err\n"},
                         {"encoding", "utf-8"},
                         {"truncated", false}}));
    EXPECT_EQ(call({"printf", "%s|", "a b", "$HOME"}).at("stdout"), "a b|$HOME|");
    const Json killed = call({"sh", "-c", "kill -TERM $$"});
    EXPECT_EQ(killed.at("exit_code"), 143);
    EXPECT_EQ(killed.at("signal"), "TERM");
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("refs"), 0);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(ExecRpc, PassesBytesThatAreNoText) {
    const Json ran = call({"cat"}, {{"stdin", "AP/+"}, {"stdin_encoding", "base64"}});
    EXPECT_EQ(ran.at("encoding"), "base64");
    EXPECT_EQ(ran.at("stdout"), "AP/+");
    EXPECT_EQ(ran.at("stderr"), "");
    EXPECT_EQ(refusal({"cat"}, {{"stdin", "A"}, {"stdin_encoding", "base64"}}).at("kind"), "invalid_params");
}

TEST_F(ExecRpc, KeepsAMebibyteOfEachOutput) {
    const Json ran = call({"sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; printf é >&2"});
    EXPECT_TRUE(ran.at("truncated"));
    EXPECT_EQ(ran.at("stdout").get<std::string>().size(), 1U << 20U);
    EXPECT_EQ(ran.at("stderr"), "é");
    EXPECT_EQ(call({"wc", "-c"}, {{"stdin", std::string(4U << 20U, 'x')}}).at("stdout"), "4194304\n");
    EXPECT_EQ(refusal({"cat"}, {{"stdin", std::string((4U << 20U) + 1, 'x')}}).at("kind"), "limit");
    // Cut in the middle of a character.
    const Json cut = call({"sh", "-c", "printf x; yes é | head -c 3000000 | tr -d '\\n'"});
    EXPECT_EQ(cut.at("encoding"), "utf-8");
    // The program does not have to read it.
    EXPECT_EQ(call({"true"}, {{"stdin", std::string(4U << 20U, 'x')}}).at("exit_code"), 0);
}

TEST_F(ExecRpc, SetsDirectoryAndEnvironment) {
    make_dirs(world.sshd.home(1) + "/it's here");
    const Json ran = call({"sh", "-c", "pwd; printf '%s' \"$SECRET\"; cat"},
                          {{"cwd", "~/it's here"}, {"env", {{"SECRET", "it's \"a\" $HOME\n"}}}, {"stdin", "rest"}});
    EXPECT_EQ(ran.at("stdout"), world.sshd.home(1) + "/it's here\nit's \"a\" $HOME\nrest");
    EXPECT_EQ(refusal({"true"}, {{"cwd", "/no/such"}}).at("kind"), "bad_cwd");
    EXPECT_EQ(refusal({"true"}, {{"env", {{"A=B", "x"}}}}).at("kind"), "invalid_params");
    EXPECT_EQ(refusal({"true"}, {{"env", {{"A", std::string("x\0y", 3)}}}}).at("kind"), "invalid_params");
    EXPECT_EQ(refusal({std::string("a\0b", 3)}).at("kind"), "invalid_params");
}

TEST_F(ExecRpc, EndsTheProgramInTime) {
    const std::string file = world.dir / "pid";
    const Json error = refusal({"sh", "-c", "echo $$ >" + file + "; exec sleep 1000"}, {{"timeout_ms", 1000}});
    EXPECT_EQ(error.at("kind"), "timeout");
    EXPECT_FALSE(alive(std::stoi(read_file(file))));
    // One that wants to stay.
    const Json stubborn =
        refusal({"sh", "-c", "trap '' TERM; echo $$ >" + file + "; sleep 1000; sleep 1000"}, {{"timeout_ms", 1000}});
    EXPECT_EQ(stubborn.at("kind"), "timeout");
    EXPECT_FALSE(alive(std::stoi(read_file(file))));
}

TEST_F(ExecRpc, EndsWithItsCaller) {
    const std::string file = world.dir / "pid";
    RpcClient client(world.daemon.socket_path());
    client.send("exec", params({"sh", "-c", "echo $$ >" + file + "; exec sleep 1000"}, Json::object()));
    EXPECT_TRUE(wait_until([&] { return exists(file) && !read_file(file).empty(); }));
    client.close();
    EXPECT_TRUE(ends(std::stoi(read_file(file))));
}

TEST_F(ExecRpc, EndsWithItsMaster) {
    const int id = world.rpc().send("exec", params({"sleep", "1000"}, Json::object()));
    RpcClient other(world.daemon.socket_path());
    Json connection;
    EXPECT_TRUE(wait_until([&] {
        connection = other.call("stats").at("connections");
        return !connection.empty() && connection.at(0).at("channels").at("used") == 2;
    }));
    // Used is the slot; the program is there once the server knows it.
    EXPECT_TRUE(wait_until([&] {
        return run({"ps", "-A", "-o", "args="}).output.find("sleep 1000") != std::string::npos;
    }));
    ::kill(connection.at(0).at("master_pid").get<int>(), SIGKILL);
    EXPECT_EQ(world.rpc().reply(id).at("error").at("data").at("kind"), "master_lost");
}

TEST_F(ExecRpc, EndsWithTheDaemon) {
    const int id =
        world.rpc().send("exec", params({"sh", "-c", "echo >" + (world.dir / "on") + "; sleep 1000"}, Json::object()));
    EXPECT_TRUE(wait_until([&] { return exists(world.dir / "on"); }));
    world.daemon.stop();
    EXPECT_EQ(world.rpc().reply(id).at("error").at("data").at("kind"), "shutting_down");
    world.start_daemon();
}

TEST(ExecRpcChannels, AreWaitedFor) {
    World world(with_config("MaxSessions 2"));
    std::vector<int> ids;
    for (int i = 0; i < 20; ++i) {
        ids.push_back(world.rpc().send("exec", {{"ctx", "server-1"}, {"command", {"echo", std::to_string(i)}}}));
    }
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(world.rpc().reply(ids[static_cast<std::size_t>(i)]).at("result").at("stdout"),
                  std::to_string(i) + '\n');
    }
    EXPECT_EQ(world.sshd.logins(), 1);
    const auto& told = world.rpc().notifications();
    EXPECT_TRUE(std::any_of(told.begin(), told.end(), [](const Json& it) {
        return it.at("params").value("phase", "") == "waiting_for_channel";
    }));
}

}  // namespace
}  // namespace cmssh::test
