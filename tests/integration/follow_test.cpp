// What a session prints, as it comes: by the API's long poll and by cmctl, each line once, over whatever breaks
// meanwhile.
#include <gmock/gmock.h>

#include <signal.h>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string numbered(int from, int to) {
    std::string text;
    for (int i = from; i <= to; ++i) {
        text += std::to_string(i) + '\n';
    }
    return text;
}

// A session whose program runs each line of shell that the test gives it.
class Shell {
public:
    explicit Shell(World& world, const std::string& name = "input") : input_(world.dir / name) {
        id = world.start_id(
            "server-1",
            {"sh", "-c", R"(mkfifo "$0"; exec 3<>"$0"; while read -r line <&3; do eval "$line"; done)", input_});
        EXPECT_TRUE(wait_until([&] { return exists(input_); }));
    }
    void run(const std::string& line) { write_file(input_, line + '\n'); }

    std::string id;

private:
    std::string input_;
};

class Cmctl {
public:
    Cmctl(const World& world, const Words& words) : process_(world.daemon.spawn_cmctl(words)) {}
    [[nodiscard]] bool prints(const std::string& text) const {
        return wait_until([&] { return process_.output().size() >= text.size(); }) && process_.output() == text;
    }
    [[nodiscard]] bool says(const std::string& text) const {
        return wait_until([&] { return process_.errors().find(text) != std::string::npos; });
    }
    [[nodiscard]] std::string output() const { return process_.output(); }
    [[nodiscard]] std::string errors() const { return process_.errors(); }
    int code() {
        const auto status = process_.wait();
        return status ? status->code : -1;
    }
    void interrupt() { process_.send_signal(SIGINT); }

private:
    Process process_;
};

TEST(Follow, GivesEachLineOnceAndEndsWithTheSession) {
    World world(servers(1));
    Shell shell(world);
    shell.run("echo one; echo two");
    ASSERT_TRUE(wait_until([&] {
        return world.rpc().call("logs", {{"session", shell.id}}).at("text") == "one\ntwo\n";
    }));
    Cmctl all(world, {"logs", "-f", shell.id});
    Cmctl last(world, {"logs", "-f", "-n", "1", shell.id});
    EXPECT_TRUE(all.prints("one\ntwo\n")) << all.output() << all.errors();
    EXPECT_TRUE(last.prints("two\n")) << last.output();
    shell.run("printf 'three\\nfo'");
    EXPECT_TRUE(all.prints("one\ntwo\nthree\n")) << all.output();
    shell.run("printf 'ur\\n\\n$ '");
    EXPECT_TRUE(last.prints("two\nthree\nfour\n\n")) << last.output();
    shell.run("exit 5");
    EXPECT_EQ(all.code(), 0);
    EXPECT_EQ(last.code(), 0);
    // The line that was never ended comes at the end.
    EXPECT_EQ(all.output(), "one\ntwo\nthree\nfour\n\n$\n");
    EXPECT_EQ(last.output(), "two\nthree\nfour\n\n$\n");
    EXPECT_EQ(all.errors() + last.errors(), "");
    const Finished again = world.daemon.cmctl({"logs", "-f", shell.id});
    EXPECT_EQ(again.status.code, 0);
    EXPECT_EQ(again.output, all.output());
}

TEST(Follow, MayLeaveOutWhatIsThereAlready) {
    World world(servers(1));
    Shell shell(world);
    shell.run("echo old");
    ASSERT_TRUE(wait_until([&] { return world.rpc().call("logs", {{"session", shell.id}}).at("text") == "old\n"; }));
    Cmctl follower(world, {"logs", "-f", "-n", "0", shell.id});
    ASSERT_TRUE(wait_until([&] {
        shell.run("echo new");
        return !follower.output().empty();
    }));
    shell.run("echo last; exit");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_THAT(follower.output(), ::testing::MatchesRegex("(new\n)+last\n"));
}

TEST(Follow, LinesThatAreWrittenInPartsAndWrappedAreWhole) {
    World world(servers(1));
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    std::string expected;
    for (int i = 1; i <= 30; ++i) {
        // Of 1 to 300 characters, in a terminal of 80: some end at its edge.
        const std::string line =
            std::to_string(i) + std::string(static_cast<std::size_t>(i) * 10 - std::to_string(i).size(), 'x');
        shell.run("printf %s '" + line.substr(0, line.size() / 2) + "'; printf '%s\\n' '" +
                  line.substr(line.size() / 2) + "'");
        expected += line + '\n';
        if (i % 3 == 0) {
            EXPECT_TRUE(follower.prints(expected)) << follower.output();
        }
    }
    shell.run("exit");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), expected);
}

TEST(Follow, TenThousandLinesWithTheMasterKilledInTheMiddle) {
    World world(servers(1));
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    shell.run("i=0; while [ $i -lt 10000 ]; do i=$((i+1)); echo $i; done; echo end; read -r line <&3; exit 0");
    ASSERT_TRUE(wait_until([&] { return follower.output().size() > 1000; }));
    const auto masters = world.daemon.ssh_processes();
    ASSERT_EQ(masters.size(), 1U);
    ::kill(masters.front(), SIGKILL);
    EXPECT_TRUE(follower.prints(numbered(1, 10000) + "end\n"));
    shell.run("");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), numbered(1, 10000) + "end\n");
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(Follow, WaitsForAServerThatIsAway) {
    World world(servers(1), "[pool]\nbackoff_initial = \"100ms\"\nbackoff_max = \"200ms\"\n");
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    shell.run("echo one");
    EXPECT_TRUE(follower.prints("one\n"));
    world.sshd.signal_connections(SIGKILL);
    world.sshd.stop();
    EXPECT_TRUE(follower.says("out of reach"));
    shell.run("echo two; echo three");
    world.sshd.start();
    EXPECT_TRUE(follower.prints("one\ntwo\nthree\n")) << follower.output();
    const std::string said = follower.errors();
    EXPECT_EQ(said.find("out of reach"), said.rfind("out of reach")) << said;
    shell.run("exit");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), "one\ntwo\nthree\n");
}

TEST(Follow, GoesOnWithTheNextDaemon) {
    World world(servers(1));
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    Cmctl waiter(world, {"wait", shell.id});
    shell.run("seq 100; printf open");
    EXPECT_TRUE(follower.prints(numbered(1, 100)));
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 3; }));
    world.daemon.crash();
    shell.run("printf 'ed\\n'; seq 101 300");
    world.start_daemon();
    EXPECT_TRUE(follower.prints(numbered(1, 100) + "opened\n" + numbered(101, 300))) << follower.output();
    world.daemon.stop();
    EXPECT_TRUE(follower.says("the daemon is gone"));
    shell.run("echo last; exit 3");
    world.start_daemon();
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), numbered(1, 100) + "opened\n" + numbered(101, 300) + "last\n");
    EXPECT_EQ(waiter.code(), 3) << waiter.errors();
}

// tmux drops a tenth of its rows at a time: what was read is found again by reckoning, however alike the lines are.
TEST(Follow, GoesOnWhereTheScrollbackIsFull) {
    World world(servers(1), "[sessions]\nscrollback = 200\n");
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    std::string expected;
    for (int round = 0; round < 60; ++round) {
        shell.run("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo tick; done");
        for (int i = 0; i < 13; ++i) {
            expected += "tick\n";
        }
        ASSERT_TRUE(follower.prints(expected)) << round;
    }
    shell.run("exit");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), expected);
    EXPECT_EQ(follower.errors(), "");
}

TEST(Follow, SaysWhereLinesAreMissing) {
    World world(servers(1), "[sessions]\nscrollback = 100\n");
    Shell shell(world);
    shell.run("seq 50");
    Json log = world.rpc().call("logs", {{"session", shell.id}});
    ASSERT_TRUE(wait_until([&] {
        log = world.rpc().call("logs", {{"session", shell.id}});
        return log.at("text") == numbered(1, 50);
    }));
    Cmctl follower(world, {"logs", "-f", shell.id});
    EXPECT_TRUE(follower.prints(numbered(1, 50)));
    shell.run("seq 51 20000");
    EXPECT_TRUE(wait_until([&] { return follower.output().ends_with("\n20000\n"); }));
    EXPECT_THAT(follower.errors(), HasSubstr("lines are missing"));
    const Json after = world.rpc().call("logs", {{"session", shell.id}, {"since", log.at("cursor")}});
    EXPECT_EQ(after.at("truncated"), true);
    shell.run("exit");
    EXPECT_EQ(follower.code(), 0);
}

TEST(Follow, LinesThatAreWrittenOverAreGivenAnewAndOthersAreNot) {
    World world(servers(1));
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    shell.run("printf 'head\\nbar 0\\nfoot\\n'");
    EXPECT_TRUE(follower.prints("head\nbar 0\nfoot\n"));
    shell.run("printf '\\033[2Abar 1\\033[2B\\rnext\\n'");
    EXPECT_TRUE(follower.prints("head\nbar 0\nfoot\nbar 1\nnext\n")) << follower.output();
    // A progress that stays in its line is that line's business.
    shell.run("printf '10%%\\r'; printf '99%%\\r'; printf '100%%\\n'");
    EXPECT_TRUE(follower.prints("head\nbar 0\nfoot\nbar 1\nnext\n100%\n")) << follower.output();
    shell.run("exit");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), "head\nbar 0\nfoot\nbar 1\nnext\n100%\n");
}

TEST(Follow, WhatIsOnAScreenOfItsOwnIsNoLog) {
    World world(servers(1));
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    shell.run("seq 4; echo before");
    EXPECT_TRUE(follower.prints("1\n2\n3\n4\nbefore\n"));
    shell.run("printf '\\033[?1049h\\033[Hfull\\nscreen\\n'");
    ASSERT_TRUE(wait_until([&] {
        return world.rpc().call("logs", {{"session", shell.id}}).at("text").get<std::string>().find("screen") !=
               std::string::npos;
    }));
    shell.run("printf '\\033[?1049l'; echo behind");
    EXPECT_TRUE(follower.prints("1\n2\n3\n4\nbefore\nbehind\n")) << follower.output();
    shell.run("exit");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), "1\n2\n3\n4\nbefore\nbehind\n");
}

TEST(Follow, ATerminalOfAnotherSizeChangesNothing) {
    World world(servers(1));
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    std::string expected;
    const std::string wide(150, 'w');
    for (const char* size : {"80x24", "50x10", "200x50", "80x5", "80x24"}) {
        const std::string text(size);
        const auto cross = text.find('x');
        ASSERT_EQ(world
                      .tmux(1, {"resize-window", "-t", '=' + shell.id + ':', "-x", text.substr(0, cross), "-y",
                                text.substr(cross + 1)})
                      .status.code,
                  0);
        shell.run("seq 40; echo " + wide + "; echo " + text);
        expected += numbered(1, 40) + wide + '\n' + text + '\n';
        EXPECT_TRUE(follower.prints(expected)) << size << '\n' << follower.output();
    }
    shell.run("exit");
    EXPECT_EQ(follower.code(), 0);
    EXPECT_EQ(follower.output(), expected);
    EXPECT_EQ(follower.errors(), "");
}

TEST(Follow, InterruptedSaysHowToReturn) {
    World world(servers(1));
    Shell shell(world);
    Cmctl follower(world, {"logs", "-f", shell.id});
    shell.run("echo one");
    EXPECT_TRUE(follower.prints("one\n"));
    follower.interrupt();
    EXPECT_EQ(follower.code(), 130);
    EXPECT_THAT(follower.errors(), HasSubstr("cmctl logs -f " + shell.id + ", the session runs on"));
    EXPECT_EQ(world.session(shell.id).at("state"), "running");
    EXPECT_EQ(world.daemon.cmctl({"logs", "-f", "--timeout", "10ms", shell.id}).status.code, 124);
    EXPECT_EQ(world.daemon.cmctl({"logs", "-f", "--json", shell.id}).status.code, 2);
    EXPECT_EQ(world.daemon.cmctl({"logs", "-f", "nobody"}).status.code, 3);
}

TEST(Follow, AStartGivesTheLinesAndTheCommandsOwnCode) {
    World world(servers(1));
    const auto start = [&](const Words& words) {
        Words all = {"start", "--ctx", "server-1", "--follow"};
        all.insert(all.end(), words.begin(), words.end());
        return world.daemon.cmctl(all);
    };
    const Finished done = start({"sh", "-c", "seq 3; exit 42"});
    EXPECT_EQ(done.output, "1\n2\n3\n");
    EXPECT_EQ(done.status.code, 42);
    EXPECT_THAT(done.errors, StartsWith("server-1: establishing master connection"));
    EXPECT_THAT(done.errors, HasSubstr("\nsess-"));
    EXPECT_EQ(start({"sh", "-c", "kill -TERM $$"}).status.code, 128 + 15);
    EXPECT_EQ(start({"--wait", "true"}).status.code, 2);
    EXPECT_EQ(start({"--json", "true"}).status.code, 2);

    Cmctl follower(world, {"start", "--ctx", "server-1", "--name", "followed", "--follow", "sh", "-c",
                           "echo here; exec sleep 1000"});
    EXPECT_TRUE(follower.prints("here\n"));
    follower.interrupt();
    EXPECT_EQ(follower.code(), 130);
    EXPECT_THAT(follower.errors(), HasSubstr("the session runs on"));
    EXPECT_EQ(world.session("followed").at("state"), "running");
}

TEST(Follow, TheApiWaitsForMore) {
    World world(servers(1));
    Shell shell(world);
    shell.run("printf 'one\\nopen'");
    ASSERT_TRUE(wait_until([&] {
        return world.rpc().call("logs", {{"session", shell.id}}).at("text") == "one\nopen";
    }));
    Json log = world.rpc().call("logs", {{"session", shell.id}, {"wait_ms", 0}});
    EXPECT_EQ(log.at("text"), "one\n");
    EXPECT_EQ(log.at("ended"), false);
    EXPECT_EQ(log.at("state"), "running");
    log = world.rpc().call("logs", {{"session", shell.id}, {"wait_ms", 300}, {"since", log.at("cursor")}});
    EXPECT_EQ(log.at("text"), "");
    const int asked =
        world.rpc().send("logs", {{"session", shell.id}, {"wait_ms", 60000}, {"since", log.at("cursor")}});
    shell.run("printf 'ed\\n'");
    log = world.rpc().reply(asked).at("result");
    EXPECT_EQ(log.at("text"), "opened\n");
    const int last = world.rpc().send("logs", {{"session", shell.id}, {"wait_ms", 60000}, {"since", log.at("cursor")}});
    shell.run("exit 1");
    log = world.rpc().reply(last).at("result");
    EXPECT_EQ(log.at("text"), "");
    EXPECT_EQ(log.at("ended"), true);
    EXPECT_EQ(log.at("state"), "exited");
    EXPECT_EQ(world.rpc().call("logs", {{"session", shell.id}, {"since", ""}}).at("text"), "one\nopened\n");
}

}  // namespace
}  // namespace cmssh::test
