// Sessions on a real server: what was asked for is what runs there, and what became of it is what is told.
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

// What shells, ssh, tmux and JSON give a meaning to.
const Words kNasty = {"plain",
                      "two words",
                      "",
                      " leading and trailing ",
                      "it's",
                      "say \"hi\"",
                      "$HOME ${HOME} $(id) `id`",
                      "back\\slash \\n \\\\",
                      "!! !x ^a^b",
                      "a;b & c | d > e < f",
                      "* ? [a-z] {a,b} ~",
                      "line\nfeed\n",
                      "tab\tand\rreturn",
                      "\x01\x1b[31m\x7f",
                      "größer 東京 🚀 é",
                      "#{pane_id} #(id) #[fg=red] ##",
                      "%1 %% %H",
                      "-n",
                      "--",
                      "'\"'\"'",
                      "\\'",
                      "end\\"};

// A command that writes its arguments to a file on the server, each ended by a NUL.
Words record_to(const std::string& file, const Words& arguments) {
    Words command = {"sh", "-c", R"(printf '%s\0' "$@" >"$0.part" && mv "$0.part" "$0")", file};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
}

Words recorded(const std::string& file) {
    if (!wait_until([&] { return exists(file); })) {
        throw std::runtime_error("nothing wrote " + file);
    }
    Words arguments;
    const std::string text = read_file(file);
    for (std::size_t begin = 0; begin < text.size();) {
        const auto end = text.find('\0', begin);
        arguments.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return arguments;
}

std::string kind_of(const Json& error) {
    return error.at("data").at("kind");
}

TEST(Session, IsStartedListedAndWaitedFor) {
    World world;
    const Json started = world.start("server-1", {"sh", "-c", "read line; exit 7"}, {{"name", "seven"}});
    const Json session = started.at("session");
    const std::string id = session.at("id");
    EXPECT_EQ(session.at("state"), "running");
    EXPECT_EQ(session.at("name"), "seven");
    EXPECT_EQ(session.at("ctx"), "server-1");
    EXPECT_EQ(session.at("server").at("key"), world.key("127.0.0.1"));
    EXPECT_EQ(session.at("command"), Json::array({"sh", "-c", "read line; exit 7"}));
    EXPECT_EQ(session.at("tmux"), Json({{"socket", "cmssh"}, {"session", id}}));
    EXPECT_TRUE(session.at("ended_at").is_null());
    EXPECT_EQ(started.at("reused"), false);
    EXPECT_EQ(world.list(), Words{id});
    EXPECT_EQ(world.session("seven").at("id"), id);
    EXPECT_EQ(world.session(id.substr(0, 8)).at("id"), id);
    EXPECT_EQ(world.tmux_sessions(1), Words{id});

    EXPECT_EQ(world.tmux(1, {"send-keys", "-t", id, "Enter"}).status.code, 0);
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("exit_code"), 7);
    EXPECT_TRUE(ended.at("signal").is_null());
    EXPECT_TRUE(ended.at("ended_at").is_string());
    EXPECT_EQ(world.list(), Words{});
    EXPECT_EQ(world.list({{"all", true}}), Words{id});
    EXPECT_EQ(world.list({{"state", "exited"}}), Words{id});
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1).empty(); })) << "its pane stays on the server";
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Session, ASecondOneUsesTheLoginOfTheFirst) {
    World world;
    EXPECT_EQ(world.start("server-1", {"sleep", "1000"}).at("reused"), false);
    const Json second = world.start("server-1", {"sleep", "1000"});
    EXPECT_EQ(second.at("reused"), true);
    EXPECT_EQ(second.at("connection").at("sessions"), 2);
    EXPECT_EQ(world.sshd.logins(), 1);
}

class LoginShell : public ::testing::TestWithParam<const char*> {
protected:
    static SshdOptions servers() {
        SshdOptions options = test::servers(1);
        options.shell[1] = GetParam();
        // Without a locale fish 3.6 takes the bytes of variables for Latin-1.
        options.environment[1] = "LANG=C.UTF-8";
        return options;
    }
};

TEST_P(LoginShell, LeavesArgumentsAsTheyWereGiven) {
    World world(servers());
    const std::string file = world.dir / "arguments";
    world.start("server-1", record_to(file, kNasty));
    EXPECT_EQ(recorded(file), kNasty);
}

TEST_P(LoginShell, LeavesEnvironmentAndDirectoryAsTheyWereGiven) {
    World world(servers());
    const std::string directory = world.dir / "it's a \"dir\" $HOME #{pane_id} #(id) !x größer\\";
    make_dirs(directory);
    Json env = Json::object();
    for (std::size_t i = 0; i < kNasty.size(); ++i) {
        env["V" + std::to_string(i)] = kNasty[i];
    }
    // What a script between tmux and the program might use itself. (Not i: Debian's own /etc/profile unsets it.)
    for (const auto* name : {"c", "d", "e", "k", "l", "p", "s", "t"}) {
        env[name] = name;
    }
    const std::string file = world.dir / "environment";
    world.start(
        "server-1",
        {"sh", "-c", R"((readlink -n /proc/self/cwd; printf '\0'; env -0) >"$0.part" && mv "$0.part" "$0")", file},
        {{"env", env}, {"cwd", directory}});
    const Words lines = recorded(file);
    EXPECT_EQ(lines.front(), directory);
    const std::set<std::string> environment(lines.begin(), lines.end());
    for (std::size_t i = 0; i < kNasty.size(); ++i) {
        EXPECT_TRUE(environment.contains("V" + std::to_string(i) + '=' + kNasty[i])) << kNasty[i];
    }
    for (const auto* name : {"c", "d", "e", "k", "l", "p", "s", "t"}) {
        EXPECT_TRUE(environment.contains(std::string(name) + '=' + name)) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Session, LoginShell,
                         ::testing::Values("/bin/bash", "/bin/dash", "/bin/zsh", "/usr/bin/fish", "/bin/tcsh"),
                         [](const auto& shell) {
                             const std::string path = shell.param;
                             return path.substr(path.rfind('/') + 1);
                         });

TEST(Session, HasTheEnvironmentOfALoginShell) {
    World world;
    write_file(world.sshd.home(1) + "/.profile", "export FROM_PROFILE='set there'\n");
    write_file(world.sshd.home(1) + "/.bashrc", "export FROM_BASHRC='set there'\n. ~/.profile\n");
    const std::string file = world.dir / "environment";
    const std::string id = world.start_id("server-1", record_to(file, {}), {{"env", {{"EMPTY", ""}}}});
    (void)recorded(file);
    const std::string other = world.dir / "other";
    const std::string second =
        world.start_id("server-1", {"sh", "-c", R"(env -0 >"$0.part" && mv "$0.part" "$0")", other});
    const Words lines = recorded(other);
    const std::set<std::string> environment(lines.begin(), lines.end());
    EXPECT_TRUE(environment.contains("FROM_PROFILE=set there"));
    EXPECT_TRUE(environment.contains("CMSSH_SESSION=" + second));
    EXPECT_TRUE(environment.contains("CMSSH_SESSION_CTX=server-1"));
    EXPECT_TRUE(environment.contains("HOME=" + world.sshd.home(1)));
}

TEST(Session, HasWhatCshGivesAPersonAlone) {
    SshdOptions options = servers(1);
    options.shell[1] = "/bin/tcsh";
    World world(options);
    write_file(world.sshd.home(1) + "/.cshrc", "if ( ! $?prompt ) exit\nsetenv FROM_CSHRC yes\n");
    write_file(world.sshd.home(1) + "/.login", "setenv FROM_LOGIN yes\n");
    const std::string file = world.dir / "environment";
    world.start_id("server-1", {"sh", "-c", R"(env -0 >"$0.part" && mv "$0.part" "$0")", file});
    const Words lines = recorded(file);
    const std::set<std::string> environment(lines.begin(), lines.end());
    EXPECT_TRUE(environment.contains("FROM_LOGIN=yes"));
    EXPECT_TRUE(environment.contains("FROM_CSHRC=yes"));
}

TEST(Session, TakesAHundredKilobytes) {
    World world;
    std::string big;
    while (big.size() < 100 * 1024) {
        big += "it's \"big\" $HOME #{x}\n größer ";
    }
    const std::string file = world.dir / "arguments";
    const std::string id = world.start_id("server-1", record_to(file, {big, "end"}));
    EXPECT_EQ(recorded(file), (Words{big, "end"}));
    EXPECT_EQ(world.session(id).at("command").at(4), big);
}

TEST(Session, RefusesWhatIsTooLongForTheServersKernel) {
    World world;
    EXPECT_EQ(
        kind_of(world.rpc().refusal("start", {{"ctx", "server-1"}, {"command", {"x", std::string(131'072, 'a')}}})),
        "limit");
    EXPECT_EQ(world.sshd.logins(), 0);
}

TEST(Session, DirectoryIsRelativeToTheServersHome) {
    World world;
    make_dirs(world.sshd.home(1) + "/src/app");
    for (const std::string cwd : {"src/app", "~/src/app", "~/src/./app/"}) {
        const std::string file = world.dir / "cwd";
        world.start("server-1", {"sh", "-c", R"(pwd >"$0.part" && mv "$0.part" "$0")", file}, {{"cwd", cwd}});
        ASSERT_TRUE(wait_until([&] { return exists(file); }));
        EXPECT_EQ(read_file(file), world.sshd.home(1) + "/src/app\n") << cwd;
        EXPECT_EQ(::unlink(file.c_str()), 0);
    }
}

TEST(Session, DirectoryMayBeReachedThroughASymlink) {
    World world;
    make_dirs(world.dir / "real");
    ASSERT_EQ(::symlink((world.dir / "real").c_str(), (world.dir / "link").c_str()), 0);
    const std::string id = world.start_id("server-1", {"sh", "-c", "exit 3"}, {{"cwd", world.dir / "link"}});
    EXPECT_EQ(world.wait(id).at("exit_code"), 3);
}

TEST(Session, DirectoryMayHoldALineFeed) {
    World world;
    const std::string directory = world.dir / "two\nlines\n";
    make_dirs(directory);
    const std::string file = world.dir / "cwd";
    world.start("server-1", {"sh", "-c", R"(readlink -n /proc/self/cwd >"$0.part" && mv "$0.part" "$0")", file},
                {{"cwd", directory}});
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    EXPECT_EQ(read_file(file), directory);
}

TEST(Session, SizeIsThatOfItsWindow) {
    World world;
    const std::string id = world.start_id("server-1", {"sleep", "1000"}, {{"size", {{"cols", 132}, {"rows", 43}}}});
    EXPECT_EQ(world.tmux(1, {"display-message", "-p", "-t", id, "#{window_width}x#{window_height}"}).output,
              "132x43\n");
}

TEST(Session, EndsWithTheCodeOfItsCommand) {
    World world;
    const std::vector<std::pair<Words, int>> cases = {
        {{"true"}, 0}, {{"sh", "-c", "exit 255"}, 255}, {{"no-such-command"}, 127}, {{"/etc/passwd"}, 126}};
    Words ids;
    for (const auto& [command, code] : cases) {
        ids.push_back(world.start_id("server-1", command));
    }
    for (std::size_t i = 0; i < cases.size(); ++i) {
        const Json ended = world.wait(ids[i]);
        EXPECT_EQ(ended.at("state"), "exited") << cases[i].first.front();
        EXPECT_EQ(ended.at("exit_code"), cases[i].second) << cases[i].first.front();
    }
}

TEST(Session, ThatASignalEndsHasExited) {
    World world;
    const std::string id = world.start_id("server-1", {"sh", "-c", "kill -USR1 $$"});
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("signal"), "USR1");
    EXPECT_TRUE(ended.at("exit_code").is_null());
}

TEST(Session, WaitGivesUpAtItsTimeout) {
    World world;
    const std::string id = world.start_id("server-1", {"sleep", "1000"});
    const Json error = world.rpc().refusal("wait", {{"session", id}, {"timeout_ms", 50}});
    EXPECT_EQ(kind_of(error), "timeout");
    EXPECT_EQ(error.at("data").at("session"), id);
    EXPECT_EQ(world.session(id).at("state"), "running");
}

TEST(Session, EveryWaiterIsTold) {
    World world;
    const std::string id = world.start_id("server-1", {"sh", "-c", "read line; exit 4"});
    RpcClient other(world.daemon.socket_path());
    const int first = world.rpc().send("wait", {{"session", id}});
    const int second = world.rpc().send("wait", {{"session", id}});
    const int third = other.send("wait", {{"session", id}});
    EXPECT_EQ(world.tmux(1, {"send-keys", "-t", id, "Enter"}).status.code, 0);
    EXPECT_EQ(world.rpc().reply(first).at("result").at("session").at("exit_code"), 4);
    EXPECT_EQ(world.rpc().reply(second).at("result").at("session").at("exit_code"), 4);
    EXPECT_EQ(other.reply(third).at("result").at("session").at("exit_code"), 4);
}

TEST(RequestId, GivesTheSameSessionAgain) {
    World world;
    const Json request = {{"request_id", "once"}};
    const Json first = world.start("server-1", {"sleep", "1000"}, request);
    const Json again = world.start("server-1", {"sleep", "1000"}, request);
    EXPECT_EQ(again.at("session").at("id"), first.at("session").at("id"));
    EXPECT_EQ(first.at("reused"), false);
    EXPECT_EQ(again.at("reused"), true);
    EXPECT_NE(world.start_id("server-1", {"sleep", "1000"}, {{"request_id", "another"}}), first.at("session").at("id"));
    EXPECT_EQ(world.tmux_sessions(1).size(), 2U);
}

TEST(RequestId, OfTwentyCallsAtOnceGivesOneSession) {
    World world;
    constexpr int kCalls = 20;
    std::vector<std::unique_ptr<RpcClient>> clients;
    for (int i = 0; i < kCalls; ++i) {
        clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
    }
    for (const auto& client : clients) {
        EXPECT_EQ(client->send("start", {{"ctx", "server-1"}, {"command", {"sleep", "1000"}}, {"request_id", "once"}}),
                  1);
    }
    std::set<std::string> ids;
    int not_reused = 0;
    for (const auto& client : clients) {
        const Json result = client->reply(1).at("result");
        ids.insert(result.at("session").at("id"));
        not_reused += result.at("reused") == false ? 1 : 0;
    }
    EXPECT_EQ(ids.size(), 1U);
    EXPECT_EQ(not_reused, 1);
    EXPECT_EQ(world.tmux_sessions(1).size(), 1U);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(RequestId, OfAnEndedSessionStillGivesIt) {
    World world;
    const Json request = {{"request_id", "once"}};
    const std::string id = world.start_id("server-1", {"true"}, request);
    EXPECT_EQ(world.wait(id).at("state"), "exited");
    const Json again = world.start("server-1", {"true"}, request).at("session");
    EXPECT_EQ(again.at("id"), id);
    EXPECT_EQ(again.at("state"), "exited");
}

TEST(RequestId, IsFreeAgainAfterAFailedStart) {
    World world;
    const Json request = {{"request_id", "once"}};
    Json bad = {{"ctx", "server-1"}, {"command", {"true"}}, {"cwd", "/no/such/directory"}, {"request_id", "once"}};
    EXPECT_EQ(kind_of(world.rpc().refusal("start", bad)), "bad_cwd");
    EXPECT_EQ(world.start("server-1", {"sleep", "1000"}, request).at("session").at("state"), "running");
}

TEST(Kill, EndsTheSessionOnTheServer) {
    World world;
    const std::string file = world.dir / "pid";
    const std::string id =
        world.start_id("server-1", {"sh", "-c", R"(echo $$ >"$0.part" && mv "$0.part" "$0"; exec sleep 1000)", file});
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    const pid_t pid = std::stoi(read_file(file));
    const Json result = world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(result.at("pending"), false);
    EXPECT_EQ(result.at("session").at("state"), "killed");
    EXPECT_TRUE(result.at("session").at("ended_at").is_string());
    EXPECT_EQ(world.tmux_sessions(1), Words{});
    EXPECT_TRUE(wait_until([&] { return !alive(pid); }));
    EXPECT_EQ(world.stats().at("total_sessions"), 0);
}

TEST(Kill, OfAnEndedSessionIsNoError) {
    World world;
    const std::string id = world.start_id("server-1", {"sh", "-c", "exit 5"});
    EXPECT_EQ(world.wait(id).at("state"), "exited");
    const Json result = world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(result.at("session").at("state"), "exited");
    EXPECT_EQ(result.at("session").at("exit_code"), 5);
    EXPECT_EQ(result.at("pending"), false);
}

TEST(Kill, WithASignalReachesTheForegroundProcesses) {
    World world;
    const std::string id = world.start_id("server-1", {"sleep", "1000"});
    ASSERT_TRUE(wait_until([&] { return command_line(world.pane_pid(1, id)) == "sleep 1000"; }));
    EXPECT_EQ(world.rpc().call("kill", {{"session", id}, {"signal", "SIGINT"}}).at("pending"), false);
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "killed");
    EXPECT_EQ(ended.at("signal"), "INT");
}

// A program may have cleared its environment, or written its title over it.
TEST(Kill, ReachesAProgramWithoutAnEnvironment) {
    World world;
    const std::string script = R"(trap "" HUP; echo $$ >"$0.part" && mv "$0.part" "$0"; sleep 1000 & wait)";
    const std::string file = world.dir / "pid";
    const std::string id = world.start_id("server-1", {"env", "-i", "/bin/sh", "-c", script, file});
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    world.rpc().call("kill", {{"session", id}, {"signal", "TERM"}});
    EXPECT_EQ(world.wait(id).at("signal"), "TERM");
    const std::string other = world.dir / "other";
    const std::string next = world.start_id("server-1", {"env", "-i", "/bin/sh", "-c", script, other});
    ASSERT_TRUE(wait_until([&] { return exists(other); }));
    const pid_t left = std::stoi(read_file(other));
    world.rpc().call("kill", {{"session", next}});
    EXPECT_TRUE(wait_until([&] { return !alive(left); }));
}

TEST(Kill, WithASignalThatIsHandledLeavesTheEndToTheProgram) {
    World world;
    const std::string file = world.dir / "ready";
    const std::string id =
        world.start_id("server-1", {"sh", "-c", R"(trap 'exit 9' TERM; : >"$0"; while :; do sleep 0.01; done)", file});
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    EXPECT_EQ(world.rpc().call("kill", {{"session", id}, {"signal", "15"}}).at("pending"), false);
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("exit_code"), 9);
}

// After the five seconds that it has to end by itself.
TEST(Kill, EndsWhatIgnoresTheHangup) {
    World world;
    const std::string file = world.dir / "pid";
    const std::string id = world.start_id(
        "server-1",
        {"sh", "-c", R"(trap '' HUP; echo $$ >"$0.part" && mv "$0.part" "$0"; while :; do sleep 0.1; done)", file});
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    const pid_t pid = std::stoi(read_file(file));
    EXPECT_EQ(world.rpc().call("kill", {{"session", id}}).at("session").at("state"), "killed");
    EXPECT_TRUE(alive(pid));
    EXPECT_TRUE(wait_until([&] { return !alive(pid); }));
}

TEST(Session, TellsItsProgramItsOwnIdAndNoOther) {
    World world;
    const Json error = world.rpc().refusal(
        "start", {{"ctx", "server-1"}, {"command", {"true"}}, {"env", {{"CMSSH_SESSION", "sess-aaaaaaaa"}}}});
    EXPECT_EQ(error.at("code"), -32602);
}

TEST(Kill, EndsWhatIgnoresTheHangupOnTheNextConnectionAtTheLatest) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"sh", "-c", "trap '' HUP; exec sleep 1000"});
    const pid_t program = world.pane_pid(1, id);
    ASSERT_TRUE(wait_until([&] { return command_line(program) == "sleep 1000"; }));
    world.rpc().call("kill", {{"session", id}});
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    world.start("server-1", Words({"sleep", "1000"}));
    EXPECT_TRUE(wait_until([&] { return !alive(program); }));
}

TEST(Kill, OfASessionThatWaitsForItsLoginGivesItUp) {
    World world(servers(1));
    // Connections are taken, and nobody speaks.
    ASSERT_EQ(::kill(world.sshd.pid(), SIGSTOP), 0);
    RpcClient caller(world.daemon.socket_path());
    const int start =
        caller.send("start", {{"ctx", "server-1"}, {"command", Words({"sleep", "1000"})}, {"name", "job"}});
    ASSERT_TRUE(wait_until([&] { return world.list().size() == 1; }));
    const Json killed = world.rpc().call("kill", {{"session", "job"}});
    EXPECT_EQ(killed.at("pending"), true);
    ASSERT_EQ(::kill(world.sshd.pid(), SIGCONT), 0);
    EXPECT_EQ(caller.reply(start).at("error").at("data").at("kind"), "cancelled");
    EXPECT_EQ(world.list({{"all", true}}), Words{});
    EXPECT_EQ(world.tmux_sessions(1), Words{});
}

TEST(Kill, TouchesNoOtherSession) {
    World world;
    const std::string one = world.start_id("server-1", {"sleep", "1000"}, {{"name", "job1"}});
    const std::string ten = world.start_id("server-1", {"sleep", "1000"}, {{"name", "job10"}});
    EXPECT_EQ(world.rpc().call("kill", {{"session", "job1"}}).at("session").at("id"), one);
    EXPECT_EQ(world.tmux_sessions(1), Words{ten});
    EXPECT_EQ(world.list(), Words{ten});
}

TEST(Kill, WithForgetGivesTheSessionUp) {
    World world;
    const std::string id = world.start_id("server-1", {"sleep", "1000"});
    const Json session = world.rpc().call("kill", {{"session", id}, {"forget", true}}).at("session");
    EXPECT_EQ(session.at("state"), "lost");
    EXPECT_TRUE(session.at("reason").is_string());
    EXPECT_EQ(world.stats().at("total_refs"), 0);
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1).empty(); })) << "the server is there";
}

TEST(Name, IsFreeAgainOnceItsSessionHasEnded) {
    World world;
    const std::string first = world.start_id("server-1", {"sleep", "1000"}, {{"name", "job"}});
    const Json taken = world.rpc().refusal("start", {{"ctx", "server-1"}, {"command", {"true"}}, {"name", "job"}});
    EXPECT_EQ(kind_of(taken), "name_taken");
    world.rpc().call("kill", {{"session", "job"}});
    const std::string second = world.start_id("server-1", {"sleep", "1000"}, {{"name", "job"}});
    EXPECT_EQ(world.session("job").at("id"), second);
    world.rpc().call("kill", {{"session", "job"}});
    EXPECT_EQ(world.session("job").at("id"), second) << "the newest of those that have ended";
    EXPECT_EQ(world.session(first).at("state"), "killed");
}

// What would make the file, were it ever run by a shell, by ssh or by tmux.
class Metacharacters : public ::testing::Test {
protected:
    void TearDown() override { EXPECT_FALSE(exists(canary)) << "something was executed"; }

    [[nodiscard]] Words attacks() const {
        return {"$(touch " + canary + ")",
                "`touch " + canary + "`",
                ";touch " + canary + ";",
                "|touch " + canary,
                "&& touch " + canary,
                "\ntouch " + canary + "\n",
                "'; touch " + canary + "; '",
                "\"; touch " + canary + "; \"",
                "#(touch " + canary + ")",
                "-oProxyCommand=touch " + canary,
                "-oProxyCommand=touch${IFS}" + canary,
                "%{touch " + canary + "}"};
    }

    World world;
    const std::string canary = world.dir / "canary";
};

TEST_F(Metacharacters, InAContextAreRefused) {
    for (const auto& attack : attacks()) {
        for (const auto& ctx :
             {attack, "user@" + attack, attack + "@server-1", "ssh://" + attack + "@server-1", "server-1:" + attack,
              "[" + attack + "]:22", "ssh://user@" + attack + ":22", "server-1" + attack}) {
            const Json error = world.rpc().refusal("start", {{"ctx", ctx}, {"command", {"true"}}});
            EXPECT_EQ(kind_of(error), "unknown_context") << ctx;
        }
    }
    for (const std::string ctx :
         {"", "-", "-V", "a b", "a\tb", "a\nb", "a/b", "a*", "größer", "a\\b", "ssh://", "@", ":22"}) {
        EXPECT_EQ(kind_of(world.rpc().refusal("connect", {{"ctx", ctx}})), "unknown_context") << ctx;
    }
    EXPECT_EQ(world.stats().at("connections"), Json::array());
}

TEST_F(Metacharacters, InANameAreRefused) {
    for (const auto& attack : attacks()) {
        const Json params = {{"ctx", "server-1"}, {"command", {"true"}}, {"name", attack}};
        EXPECT_EQ(kind_of(world.rpc().refusal("start", params)), "invalid_name") << attack;
        EXPECT_EQ(kind_of(world.rpc().refusal("get", {{"session", attack}})), "session_not_found") << attack;
    }
}

TEST_F(Metacharacters, InADirectoryAreLiteral) {
    for (const auto& attack : attacks()) {
        const Json params = {{"ctx", "server-1"}, {"command", {"true"}}, {"cwd", attack}};
        EXPECT_EQ(kind_of(world.rpc().refusal("start", params)), "bad_cwd") << attack;
    }
    EXPECT_EQ(world.list(), Words{});
    EXPECT_EQ(world.tmux_sessions(1), Words{});
}

TEST_F(Metacharacters, InArgumentsAndEnvironmentAreLiteral) {
    Json env = Json::object();
    for (const auto& attack : attacks()) {
        env["V" + std::to_string(env.size())] = attack;
        const Json params = {{"ctx", "server-1"}, {"command", {"true"}}, {"env", {{attack, "value"}}}};
        EXPECT_EQ(world.rpc().refusal("start", params).at("code"), -32602) << attack;
    }
    const std::string file = world.dir / "arguments";
    const std::string id = world.start_id("server-1", record_to(file, attacks()), {{"env", env}});
    EXPECT_EQ(recorded(file), attacks());
    Words started;
    for (const auto& attack : attacks()) {
        EXPECT_EQ(world.rpc().refusal("kill", {{"session", id}, {"signal", attack}}).at("code"), -32602) << attack;
        const Json params = {{"ctx", "server-1"}, {"command", {attack}}};
        if (attack.starts_with('-')) {
            EXPECT_EQ(world.rpc().refusal("start", params).at("code"), -32602) << attack;
        } else {
            started.push_back(world.start_id("server-1", {attack}));
        }
    }
    for (const auto& session : started) {
        EXPECT_EQ(world.wait(session).at("exit_code"), 127);
    }
}

}  // namespace
}  // namespace cmssh::test
