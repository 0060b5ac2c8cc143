// A person's terminal on a session, by `cmctl attach` and `start --attach`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <cstring>

#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kDetach =
    "\x02"
    "d";
constexpr const char* kCtrlC = "\x03";
constexpr const char* kLost = "connection to server-1 lost, waiting for it (Ctrl-C gives up)";

// Answers each line, and ends when it is told to.
const Words kProgram = {
    "sh", "-c", "echo ready; while read -r line; do case $line in quit) exit 7 ;; *) echo \"<$line>\" ;; esac; done"};

// tmux takes two keys that arrive together for pasted text, and the detach key then for text as well.
void take_keys_as_typed(World& world) {
    write_file(world.sshd.home(1) + "/.tmux.conf", "set -g assume-paste-time 0\n");
}

class Attach : public testing::Test {
protected:
    Attach() { take_keys_as_typed(world); }
    static Words attach(const Words& more) {
        Words words = {CMSSH_CMCTL, "attach"};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }
    [[nodiscard]] Words environment(const Words& more = {}) const {
        Words words = world.daemon.environment();
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }
    std::string start() { return world.start_id("server-1", kProgram, {{"name", "it"}}); }
    Json connection() { return world.connection(world.key("127.0.0.1")); }
    pid_t master() { return connection().at("master_pid").get<pid_t>(); }
    bool runs(const std::string& id) { return world.session(id).at("state") == "running"; }
    // Types a line and sees the program's answer.
    static bool answers(Terminal& terminal, const std::string& line) {
        terminal.type(line + '\r');
        return terminal.prints('<' + line + '>');
    }

    World world;
};

void expect_same(const termios& now, const termios& before) {
    EXPECT_EQ(now.c_iflag, before.c_iflag);
    EXPECT_EQ(now.c_oflag, before.c_oflag);
    EXPECT_EQ(now.c_lflag, before.c_lflag);
    EXPECT_EQ(now.c_cflag, before.c_cflag);
    EXPECT_EQ(std::memcmp(now.c_cc, before.c_cc, sizeof(now.c_cc)), 0);
}

bool is_raw(const Terminal& terminal) {
    return (terminal.modes().c_lflag & static_cast<tcflag_t>(ICANON)) == 0;
}

TEST_F(Attach, BringsKeysAndOutputAcross) {
    const std::string id = start();
    Terminal terminal(attach({"it"}), environment());
    ASSERT_TRUE(terminal.prints("ready")) << terminal.output();
    EXPECT_TRUE(answers(terminal, "grüße 東京"));
    EXPECT_EQ(connection().at("leases"), 1);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Attach, TheProgramSeesTheSizeOfTheWindow) {
    const std::string id = world.start_id(
        "server-1",
        {"sh", "-c", "trap 'echo \"[$(stty size)]\"' WINCH; echo ready; while :; do sleep 1000 & wait $!; done"});
    ASSERT_TRUE(wait_until([&] {
        return world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>() != "";
    }));
    Terminal terminal(attach({id}), environment(), 90, 30);
    EXPECT_TRUE(terminal.prints("[29 90]")) << "tmux's status line has the last row";
    terminal.resize(101, 41);
    EXPECT_TRUE(terminal.prints("[40 101]")) << terminal.output();
}

TEST_F(Attach, DetachingLeavesTheSessionRunning) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    EXPECT_TRUE(wait_until([&] { return is_raw(terminal); }));
    terminal.type(kDetach);
    EXPECT_TRUE(terminal.prints(id + ": detached, it runs on; to come back: cmctl attach " + id));
    EXPECT_EQ(terminal.wait(), 0);
    expect_same(terminal.modes(), before);
    EXPECT_TRUE(runs(id));
    EXPECT_TRUE(wait_until([&] { return connection().at("leases") == 0; }));
    Terminal again(attach({id}), environment());
    EXPECT_TRUE(again.prints("ready"));
}

TEST_F(Attach, SshsEscapeLeavesTheSessionRunning) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    terminal.type("\r~.");
    EXPECT_TRUE(terminal.prints("\033[?1049l")) << "the screen of tmux stays";
    EXPECT_TRUE(terminal.prints("detached, it runs on"));
    EXPECT_EQ(terminal.wait(), 0);
    expect_same(terminal.modes(), before);
    EXPECT_TRUE(runs(id));
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Attach, ComesBackByItselfWhenTheMasterIsKilled) {
    start();
    Terminal terminal(attach({"it"}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    ASSERT_TRUE(answers(terminal, "one"));
    ::kill(master(), SIGKILL);
    ASSERT_TRUE(terminal.prints(kLost)) << terminal.output();
    ASSERT_TRUE(terminal.prints("<one>")) << terminal.output();
    EXPECT_TRUE(answers(terminal, "two"));
    EXPECT_EQ(world.sshd.logins(), 2);
    EXPECT_EQ(connection().at("leases"), 1);
    terminal.type(kDetach);
    EXPECT_EQ(terminal.wait(), 0);
    expect_same(terminal.modes(), before);
}

TEST_F(Attach, CtrlCGivesUpWaiting) {
    const std::string id = start();
    Terminal terminal(attach({"it"}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    const pid_t gone = master();
    world.sshd.stop();
    ::kill(gone, SIGKILL);
    ASSERT_TRUE(terminal.prints(kLost)) << terminal.output();
    expect_same(terminal.modes(), before);
    terminal.type(kCtrlC);
    EXPECT_TRUE(terminal.prints("cmctl attach " + id + ", the session runs on"));
    EXPECT_EQ(terminal.wait(), 130);
    expect_same(terminal.modes(), before);
}

TEST_F(Attach, ComesBackWhenTheServerCanBeReachedAgain) {
    start();
    Terminal terminal(attach({"it"}), environment());
    ASSERT_TRUE(terminal.prints("ready"));
    const pid_t gone = master();
    world.sshd.stop();
    ::kill(gone, SIGKILL);
    ASSERT_TRUE(terminal.prints(kLost)) << terminal.output();
    // Somebody has been told that there is no way.
    ASSERT_TRUE(wait_until([&] { return !connection().at("last_error").is_null(); }));
    world.sshd.start();
    ASSERT_TRUE(terminal.prints("ready")) << terminal.output();
    EXPECT_TRUE(answers(terminal, "back"));
}

TEST_F(Attach, HasTheTerminalAgainWhenItIsContinued) {
    start();
    Terminal terminal(attach({"it"}), environment());
    ASSERT_TRUE(terminal.prints("ready"));
    ASSERT_TRUE(wait_until([&] { return is_raw(terminal); }));
    for (const pid_t pid : children_of(terminal.pid())) {
        ASSERT_EQ(::kill(pid, SIGSTOP), 0);
        terminal.set_modes(terminal.first_modes());
        ASSERT_EQ(::kill(pid, SIGCONT), 0);
    }
    EXPECT_TRUE(wait_until([&] { return is_raw(terminal); }));
    EXPECT_TRUE(answers(terminal, "after it was continued"));
}

TEST_F(Attach, OutlivesTheDaemon) {
    start();
    // The next daemon is for the test to start.
    Terminal terminal({CMSSH_CMCTL, "--no-spawn", "attach", "it"}, environment());
    ASSERT_TRUE(terminal.prints("ready"));
    world.daemon.crash();
    EXPECT_TRUE(answers(terminal, "without a daemon"));
    world.start_daemon();
    EXPECT_TRUE(answers(terminal, "with the next one"));
    EXPECT_TRUE(wait_until([&] { return connection().at("leases") == 1; })) << "it has a lease there too";
    ASSERT_TRUE(world.connection_becomes(world.key("127.0.0.1"), "up"));
    ::kill(master(), SIGKILL);
    ASSERT_TRUE(terminal.prints(kLost));
    ASSERT_TRUE(terminal.prints("<with the next one>"));
    EXPECT_TRUE(answers(terminal, "on the next master"));
}

TEST_F(Attach, ServesATerminalThatTheServerDoesNotKnow) {
    const std::string id = start();
    Terminal terminal(attach({"it"}), environment({"TERM=no-such-terminal"}));
    ASSERT_TRUE(terminal.prints("ready"));
    EXPECT_TRUE(answers(terminal, "as an xterm"));
    terminal.type(kDetach);
    EXPECT_EQ(terminal.wait(), 0);
    EXPECT_TRUE(runs(id));
}

TEST(AttachOnADeadPath, MovesToTheNextMaster) {
    World world({}, "[pool]\nhealth_interval = \"200ms\"\nhealth_timeout = \"500ms\"\n");
    world.start_id("server-1", kProgram, {{"name", "it"}});
    Terminal terminal({CMSSH_CMCTL, "attach", "it"}, world.daemon.environment());
    ASSERT_TRUE(terminal.prints("ready"));
    world.sshd.signal_connections(SIGSTOP);
    ASSERT_TRUE(terminal.prints(kLost)) << terminal.output();
    ASSERT_TRUE(terminal.prints("ready")) << terminal.output();
    terminal.type("here\r");
    EXPECT_TRUE(terminal.prints("<here>"));
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST_F(Attach, ACrashLeavesTheTerminalAsItWas) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    ASSERT_TRUE(wait_until([&] { return is_raw(terminal); }));
    const auto workers = children_of(terminal.pid());
    ASSERT_EQ(workers.size(), 1U);
    ::kill(workers.front(), SIGKILL);
    EXPECT_TRUE(terminal.prints("\033[?1049l\033[?25h")) << "the screen of tmux stays";
    EXPECT_EQ(terminal.wait(), 128 + SIGKILL);
    expect_same(terminal.modes(), before);
    EXPECT_TRUE(runs(id));
    EXPECT_TRUE(wait_until([&] { return connection().at("leases") == 0; }));
}

TEST_F(Attach, LeavesTheTerminalAsItWasWhenItsParentIsKilled) {
    start();
    Terminal terminal(attach({"it"}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    ASSERT_TRUE(wait_until([&] { return is_raw(terminal); }));
    ::kill(terminal.pid(), SIGKILL);
    EXPECT_EQ(terminal.wait(), 128 + SIGKILL);
    // Before that, or behind it.
    EXPECT_TRUE(wait_until([&] { return terminal.output().find("the session runs on") != std::string::npos; }));
    expect_same(terminal.modes(), before);
}

TEST_F(Attach, EndsWellOnSigterm) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    ASSERT_TRUE(wait_until([&] { return is_raw(terminal); }));
    ::kill(terminal.pid(), SIGTERM);
    EXPECT_TRUE(terminal.prints("\033[?1049l"));
    EXPECT_EQ(terminal.wait(), 130);
    expect_same(terminal.modes(), before);
    EXPECT_TRUE(runs(id));
}

TEST_F(Attach, ReadOnlyWatches) {
    const std::string id = start();
    Terminal watching(attach({"--read-only", id}), environment());
    ASSERT_TRUE(watching.prints("ready"));
    Terminal typing(attach({id}), environment());
    ASSERT_TRUE(typing.prints("ready"));
    ASSERT_TRUE(answers(typing, "seen"));
    EXPECT_TRUE(watching.prints("<seen>"));
    watching.type("forbidden\r");
    watching.type(kDetach);
    EXPECT_EQ(watching.wait(), 0);
    EXPECT_THAT(world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>(), Not(HasSubstr("forbidden")));
}

TEST_F(Attach, TwoAtOnceSeeTheSame) {
    const std::string id = start();
    Terminal one(attach({id}), environment());
    ASSERT_TRUE(one.prints("ready"));
    Terminal two({CMSSH_CMCTL, "a", id}, environment());
    ASSERT_TRUE(two.prints("ready"));
    EXPECT_EQ(connection().at("leases"), 2);
    ASSERT_TRUE(answers(one, "from one"));
    EXPECT_TRUE(two.prints("<from one>"));
    ASSERT_TRUE(answers(two, "from two"));
    EXPECT_TRUE(one.prints("<from two>"));
    one.type(kDetach);
    EXPECT_EQ(one.wait(), 0);
    EXPECT_TRUE(answers(two, "alone"));
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Attach, TellsHowTheSessionEnded) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    terminal.type("quit\r");
    EXPECT_TRUE(terminal.prints(id + ": exited 7"));
    EXPECT_EQ(terminal.wait(), 0) << "its exit code is about attaching";
    expect_same(terminal.modes(), before);
}

TEST_F(Attach, TellsThatTheSessionWasKilled) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    ASSERT_TRUE(terminal.prints("ready"));
    EXPECT_EQ(world.daemon.cmctl({"kill", id}).status.code, 0);
    EXPECT_TRUE(terminal.prints(id + ": killed"));
    EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Attach, TellsThatTheSessionIsLost) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    EXPECT_EQ(world.tmux(1, {"kill-server"}).status.code, 0);
    EXPECT_TRUE(terminal.prints(id + ": lost")) << terminal.output();
    EXPECT_EQ(terminal.wait(), 1);
    expect_same(terminal.modes(), before);
}

TEST_F(Attach, TellsThatTheSessionEndedWhileThereWasNoWay) {
    const std::string id = start();
    Terminal terminal(attach({id}), environment());
    ASSERT_TRUE(terminal.prints("ready"));
    const pid_t gone = master();
    world.sshd.stop();
    ::kill(gone, SIGKILL);
    ASSERT_TRUE(terminal.prints(kLost));
    EXPECT_EQ(world.tmux(1, {"send-keys", "-t", id, "quit", "Enter"}).status.code, 0);
    ASSERT_TRUE(wait_until([&] {
        return world.tmux(1, {"display-message", "-p", "-t", '=' + id + ':', "#{pane_dead}"}).output == "1\n";
    }));
    world.sshd.start();
    EXPECT_TRUE(terminal.prints(id + ": exited 7")) << terminal.output();
    EXPECT_EQ(terminal.wait(), 0);
}

TEST_F(Attach, ASessionThatHasEndedIsAnError) {
    const std::string id = start();
    world.rpc().call("kill", {{"session", id}});
    Terminal terminal(attach({id}), environment());
    EXPECT_TRUE(terminal.prints(id + " has ended (killed)"));
    EXPECT_TRUE(terminal.prints("hint: cmctl logs " + id));
    EXPECT_EQ(terminal.wait(), 1);
    Terminal none(attach({"no-such-session"}), environment());
    EXPECT_EQ(none.wait(), 3);
    const Json error = world.rpc().refusal("attach", {{"session", id}});
    EXPECT_EQ(error.at("data").at("kind"), "session_ended");
    EXPECT_EQ(error.at("data").at("session"), id);
}

TEST_F(Attach, KnowsTheSessionThatItIsIn) {
    const std::string id = start();
    Terminal itself(attach({"it"}), environment({"CMSSH_SESSION=" + id}));
    EXPECT_TRUE(itself.prints("this terminal is a window of " + id + " itself"));
    EXPECT_EQ(itself.wait(), 2);
    EXPECT_EQ(connection().at("leases"), 0);
    Terminal other(attach({"it"}), environment({"CMSSH_SESSION=sess-elsewhere"}));
    EXPECT_TRUE(other.prints("twice for that of the session"));
    EXPECT_TRUE(other.prints("ready"));
    Terminal plain(attach({"it"}), environment({"TMUX=/tmp/tmux-0/default,1,0"}));
    EXPECT_TRUE(plain.prints("twice for that of the session"));
    EXPECT_TRUE(plain.prints("ready"));
}

TEST_F(Attach, NeedsATerminal) {
    const std::string id = start();
    const Finished attached = world.daemon.cmctl({"attach", id});
    EXPECT_EQ(attached.status.code, 2);
    EXPECT_THAT(attached.errors, HasSubstr("standard input and output must be a terminal"));
    const Finished started = world.daemon.cmctl({"start", "--ctx", "server-2", "--attach", "cat"});
    EXPECT_EQ(started.status.code, 2);
    EXPECT_THAT(started.errors, HasSubstr("standard input and output must be a terminal"));
    EXPECT_EQ(world.list({{"all", true}}), Words{id});
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Attach, GivesOtherToolsAnSshThatLogsInNowhere) {
    const std::string id = start();
    const Json way = world.rpc().call("attach", {{"session", id}});
    EXPECT_EQ(way.at("session").at("id"), id);
    Terminal terminal(way.at("argv").get<Words>(), environment());
    ASSERT_TRUE(terminal.prints("ready")) << terminal.output();
    EXPECT_TRUE(answers(terminal, "by ssh"));
    terminal.type(kDetach);
    EXPECT_EQ(terminal.wait(), 0);
    EXPECT_EQ(world.sshd.logins(), 1);
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    Terminal nowhere(way.at("argv").get<Words>(), environment());
    EXPECT_EQ(nowhere.wait(), 255);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(AttachWithFewChannels, WaitsForOneThatTheServerGives) {
    SshdOptions options = servers(1);
    options.config = "MaxSessions 2\n";
    World world(options);
    take_keys_as_typed(world);
    const std::string id = world.start_id("server-1", kProgram);
    Terminal one({CMSSH_CMCTL, "attach", id}, world.daemon.environment());
    ASSERT_TRUE(one.prints("ready"));
    Terminal two({CMSSH_CMCTL, "attach", id}, world.daemon.environment());
    ASSERT_TRUE(wait_until([&] {
        const Json channels = world.connection(world.key("127.0.0.1")).at("channels");
        return channels.at("max") == 2 && channels.at("queued") == 1;
    }));
    one.type(kDetach);
    EXPECT_EQ(one.wait(), 0);
    EXPECT_TRUE(two.prints("ready")) << two.output();
    EXPECT_EQ(world.sshd.logins(), 1);
}

class StartAttach : public Attach {
protected:
    static Words start_attach(const Words& command) {
        Words words = {CMSSH_CMCTL, "start", "--ctx", "server-1", "--attach"};
        words.insert(words.end(), command.begin(), command.end());
        return words;
    }
};

TEST_F(StartAttach, IsOnTheSessionThatItStarts) {
    Terminal terminal(start_attach(kProgram), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("sess-"));
    ASSERT_TRUE(terminal.prints("ready")) << terminal.output();
    ASSERT_TRUE(answers(terminal, "hello"));
    terminal.type(kDetach);
    EXPECT_EQ(terminal.wait(), 0);
    expect_same(terminal.modes(), before);
    EXPECT_EQ(world.list().size(), 1U);
}

TEST_F(StartAttach, GivesTheCommandsCodeAndLeavesItsLastScreen) {
    Terminal terminal(start_attach(kProgram), environment());
    const termios before = terminal.first_modes();
    ASSERT_TRUE(terminal.prints("ready"));
    ASSERT_TRUE(answers(terminal, "last words"));
    terminal.type("quit\r");
    ASSERT_TRUE(terminal.prints("\033[?1049l"));
    EXPECT_TRUE(terminal.prints("<last words>"));
    EXPECT_TRUE(terminal.prints(": exited 7"));
    EXPECT_EQ(terminal.wait(), 7);
    expect_same(terminal.modes(), before);
}

TEST_F(StartAttach, HearsOfTheEndFromTheNextDaemon) {
    Words words = start_attach(kProgram);
    words.insert(words.begin() + 1, "--no-spawn");
    Terminal terminal(words, environment());
    ASSERT_TRUE(terminal.prints("ready"));
    world.daemon.crash();
    ASSERT_TRUE(answers(terminal, "without a daemon"));
    terminal.type("quit\r");
    world.start_daemon();
    EXPECT_TRUE(terminal.prints(": exited 7"));
    EXPECT_EQ(terminal.wait(), 7);
}

TEST_F(StartAttach, ShowsWhatAShortCommandPrinted) {
    for (int i = 0; i < 5; ++i) {
        Terminal terminal(start_attach({"sh", "-c", "echo short; exit 42"}), environment());
        EXPECT_EQ(terminal.wait(), 42) << terminal.output();
        const std::string& output = terminal.output();
        const auto screen_left = output.rfind("\033[?1049l");
        EXPECT_THAT(output.substr(screen_left == std::string::npos ? 0 : screen_left), HasSubstr("short\r\n"));
        EXPECT_THAT(output, HasSubstr(": exited 42"));
    }
}

TEST_F(StartAttach, TakesNoJsonAndNoWait) {
    Terminal json({CMSSH_CMCTL, "start", "--json", "--ctx", "server-1", "--attach", "cat"}, environment());
    EXPECT_EQ(json.wait(), 2);
    Terminal wait({CMSSH_CMCTL, "start", "--wait", "--ctx", "server-1", "--attach", "cat"}, environment());
    EXPECT_EQ(wait.wait(), 2);
    EXPECT_EQ(world.sshd.logins(), 0);
}

}  // namespace
}  // namespace cmssh::test
