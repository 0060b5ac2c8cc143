// cmctl as people and scripts use it: what it prints where, and the codes it ends with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;

std::string without_end(std::string line) {
    if (line.ends_with('\n')) {
        line.pop_back();
    }
    return line;
}

// Servers and a config, but no daemon yet.
class WithoutDaemon : public testing::Test {
protected:
    WithoutDaemon() { world.daemon.stop(); }
    [[nodiscard]] std::string log_file() const { return world.dir / "state/cmssh/cmsshd.log"; }

    World world;
};

TEST(Cmctl, DoesTheMainJob) {
    World world;
    const std::string first_key = world.key("127.0.0.1");
    const auto start = [&world](const char* ctx, const char* task) {
        return world.daemon.cmctl({"start", "--ctx", ctx, "sh", "-c", "exec cat", task});
    };
    const Finished first = start("server-1", "task 1");
    EXPECT_EQ(first.status.code, 0) << first.errors;
    EXPECT_THAT(first.output, MatchesRegex("sess-[a-z2-7]+\n"));
    EXPECT_EQ(first.errors, "server-1: establishing master connection (" + first_key + ")\n");

    const Finished second = start("server-1", "task 2");
    EXPECT_EQ(second.errors, "server-1: using existing master connection (" + first_key + ")\n");
    const Finished third = start("server-2", "task 3");
    EXPECT_EQ(third.errors, "server-2: establishing master connection (" + world.key("127.0.0.2") + ")\n");

    const Finished ids = world.daemon.cmctl({"list", "-q"});
    EXPECT_EQ(ids.output, first.output + second.output + third.output);
    const Finished table = world.daemon.cmctl({"list"});
    EXPECT_THAT(table.output, HasSubstr("sh -c 'exec cat' 'task 2'"));
    EXPECT_THAT(table.output, HasSubstr("running"));

    const Finished stats = world.daemon.cmctl({"stats"});
    EXPECT_THAT(stats.output, HasSubstr(first_key + ": 2 sessions"));
    EXPECT_THAT(stats.output, HasSubstr(world.key("127.0.0.2") + ": 1 session "));
    EXPECT_THAT(stats.output, HasSubstr("\ntotal_connections: 2\n"));

    const Finished killed = world.daemon.cmctl({"kill", without_end(first.output)});
    EXPECT_EQ(killed.status.code, 0);
    EXPECT_EQ(killed.output, without_end(first.output) + ": killed\n");
    EXPECT_THAT(world.daemon.cmctl({"stats"}).output, HasSubstr(first_key + ": 1 session "));
    EXPECT_EQ(world.stats().at("total_connections"), 2);
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(Cmctl, GivesTheCommandsOwnCode) {
    World world;
    const auto code = [&world](const char* script) {
        return world.daemon.cmctl({"start", "--ctx", "server-1", "--wait", "sh", "-c", script}).status.code;
    };
    EXPECT_EQ(code("exit 0"), 0);
    EXPECT_EQ(code("exit 42"), 42);
    EXPECT_EQ(code("kill -SEGV $$"), 128 + 11);
    EXPECT_EQ(world.daemon.cmctl({"start", "--ctx", "server-1", "--wait", "no-such-program"}).status.code, 127);

    const std::string id = world.start_id("server-1", {"cat"});
    // The shell that starts it ignores SIGTERM.
    ASSERT_TRUE(wait_until([&] { return command_line(world.pane_pid(1, id)) == "cat"; }));
    EXPECT_EQ(world.daemon.cmctl({"kill", "-s", "TERM", id}).output, id + ": was sent TERM\n");
    EXPECT_EQ(world.daemon.cmctl({"wait", id}).status.code, 128 + 15);
    const std::string other = world.start_id("server-1", {"cat"});
    EXPECT_EQ(world.daemon.cmctl({"kill", other}).status.code, 0);
    EXPECT_EQ(world.daemon.cmctl({"wait", other}).status.code, 129);
}

TEST(Cmctl, TakesCtxFromTheEndOfTheLineOnly) {
    World world;
    const Finished end = world.daemon.cmctl({"start", "cat", "--ctx", "server-2"});
    EXPECT_EQ(end.status.code, 0) << end.errors;
    EXPECT_THAT(end.errors, HasSubstr("took --ctx server-2 from the end of the line"));
    EXPECT_EQ(world.session(without_end(end.output)).at("command"), Json::array({"cat"}));

    const Finished both = world.daemon.cmctl({"start", "--ctx", "server-1", "echo", "--ctx", "server-2", "-q"});
    const Json session = world.session(without_end(both.output));
    EXPECT_EQ(session.at("ctx"), "server-1");
    EXPECT_EQ(session.at("command"), Json::array({"echo", "--ctx", "server-2", "-q"}));

    const Finished kept = world.daemon.cmctl({"start", "--", "echo", "--ctx", "server-2"});
    EXPECT_EQ(kept.status.code, 2) << "with -- the words are the command's, and no context is left";
}

TEST(Cmctl, WithoutAContextTellsTheContexts) {
    World world({}, "[contexts.build]\nhost = \"server-1\"\n[contexts.gpu]\nhost = \"server-2\"\n");
    const Finished none = world.daemon.cmctl({"start", "cat"});
    EXPECT_EQ(none.status.code, 2);
    EXPECT_THAT(none.output, IsEmpty());
    EXPECT_THAT(none.errors, HasSubstr("build\n"));
    EXPECT_THAT(none.errors, HasSubstr("gpu\n"));
    const Json contexts = Json::parse(world.daemon.cmctl({"contexts", "--json"}).output).at("contexts");
    ASSERT_GE(contexts.size(), 2U);
    EXPECT_EQ(contexts.at(0).at("name"), "build");
    EXPECT_EQ(contexts.at(0).at("source"), "config");
    EXPECT_EQ(contexts.at(0).at("default"), false);
    EXPECT_EQ(contexts.at(0).at("server").at("key"), world.key("127.0.0.1"));
}

TEST(Cmctl, EndsWithTheCodeOfTheError) {
    World world;
    const auto code = [&world](const Words& words) { return world.daemon.cmctl(words).status.code; };
    EXPECT_EQ(code({"no-such-verb"}), 2);
    EXPECT_EQ(code({"list", "--no-such-option"}), 2);
    EXPECT_EQ(code({"start", "--no-such-option", "x"}), 2);
    EXPECT_EQ(code({"start"}), 2);
    EXPECT_EQ(code({"start", "--ctx", "server-1", "--name", "not a name", "cat"}), 2);
    EXPECT_EQ(code({"start", "--ctx", "server-1", "--env", "NOT_SET_HERE", "cat"}), 2);
    EXPECT_EQ(code({"start", "--ctx", "server-1", "--timeout", "soon", "cat"}), 2);
    EXPECT_EQ(code({"rpc", "get", "no json"}), 2);
    EXPECT_EQ(code({"wait", "sess-none"}), 3);
    EXPECT_EQ(code({"kill", "none"}), 3);
    EXPECT_EQ(code({"start", "--ctx", "-oProxyCommand=x", "cat"}), 3);
    EXPECT_EQ(code({"start", "--ctx", "127.0.0.1:1", "cat"}), 5);
    EXPECT_EQ(code({"check", "127.0.0.1:1"}), 5);
    EXPECT_EQ(code({"start", "--ctx", "server-1", "--cwd", "/no/such/dir", "cat"}), 1);
    const std::string id = world.start_id("server-1", {"cat"});
    EXPECT_EQ(code({"wait", id, "--timeout", "10ms"}), 124);
    EXPECT_EQ(code({"--help"}), 0);
    EXPECT_EQ(code({"start", "--help"}), 0);
    EXPECT_EQ(code({"kill", "--help"}), 0);
}

TEST(Cmctl, ToldOfAnErrorSaysWhatToTypeNext) {
    World world;
    const Finished plain = world.daemon.cmctl({"start", "--ctx", "127.0.0.1:1", "cat"});
    EXPECT_THAT(plain.output, IsEmpty());
    EXPECT_THAT(plain.errors, HasSubstr("\ncmctl: "));
    EXPECT_THAT(plain.errors, HasSubstr("Connection refused"));
    EXPECT_THAT(plain.errors, HasSubstr("\nhint: "));
    const Finished json = world.daemon.cmctl({"get", "--json"});
    EXPECT_EQ(json.status.code, 2);
    const Finished refused = world.daemon.cmctl({"wait", "none", "--json"});
    const Json error = Json::parse(refused.errors);
    EXPECT_EQ(error.at("code"), -32014);
    EXPECT_EQ(error.at("data").at("kind"), "session_not_found");
}

TEST(Cmctl, PrintsResultsOfTheApiAsJson) {
    World world;
    const Json started = Json::parse(world.daemon.cmctl({"start", "--ctx", "server-1", "--json", "cat"}).output);
    EXPECT_EQ(started.at("reused"), false);
    const std::string id = started.at("session").at("id");
    // When the daemon heard of it last changes between two calls.
    const auto timeless = [](Json result, const Json::json_pointer& session) {
        EXPECT_EQ(result.at(session).erase("as_of"), 1U);
        return result;
    };
    const Json::json_pointer first("/sessions/0");
    const Json::json_pointer only("/session");
    EXPECT_EQ(timeless(Json::parse(world.daemon.cmctl({"list", "--json"}).output), first),
              timeless(world.rpc().call("list"), first));
    EXPECT_EQ(Json::parse(world.daemon.cmctl({"stats", "--json"}).output).at("total_refs"), 1);
    EXPECT_EQ(Json::parse(world.daemon.cmctl({"check", "--json"}).output).at("connections").at(0).at("state"), "up");
    const std::string named = Json{{"session", id}}.dump();
    const Json shown = timeless(world.rpc().call("get", {{"session", id}}), only);
    EXPECT_EQ(timeless(Json::parse(world.daemon.cmctl({"rpc", "get", named}).output), only), shown);
    EXPECT_EQ(timeless(Json::parse(world.daemon.cmctl({"rpc", "get", "-"}, named).output), only), shown);
    EXPECT_EQ(Json::parse(world.daemon.cmctl({"kill", id, "--json"}).output).at("session").at("state"), "killed");
    const Json waited = Json::parse(
        world.daemon.cmctl({"start", "--ctx", "server-1", "--wait", "--json", "sh", "-c", "exit 3"}).output);
    EXPECT_EQ(waited.at("session").at("exit_code"), 3);
    EXPECT_EQ(Json::parse(world.daemon.cmctl({"version", "--json"}).output).at("protocol"), 1);
}

TEST(Cmctl, HandsOnTheCallersVariables) {
    World world;
    const std::string file = world.dir / "seen";
    const Finished started = world.daemon.cmctl({"start", "--ctx", "server-1", "--wait", "--env", "LANG", "--env",
                                                 "GIVEN=a b=$c\n", "--", "sh", "-c",
                                                 "printf '%s|%s|%s|%s' \"$LANG\" \"$GIVEN\" \"$CMSSH_SESSION\" "
                                                 "\"$CMSSH_SESSION_CTX\" >\"$0\"",
                                                 file});
    EXPECT_EQ(started.status.code, 0) << started.errors;
    EXPECT_EQ(read_file(file), "C.UTF-8|a b=$c\n|" + without_end(started.output) + "|server-1");
}

TEST(Cmctl, ShowsNoTerminalWhatItWouldActOn) {
    World world;
    world.start("server-1", {"sh", "-c", "exec cat # \x1b]0;title\x07\x1b[31m\xc2\x9b"});
    const Finished table = world.daemon.cmctl({"list", "--color", "never"});
    const Finished json = world.daemon.cmctl({"list", "--json"});
    for (const std::string& output : {table.output, json.output}) {
        EXPECT_EQ(output.find('\x1b'), std::string::npos);
        EXPECT_EQ(output.find('\x07'), std::string::npos);
        EXPECT_EQ(output.find("\xc2\x9b"), std::string::npos);
    }
    EXPECT_THAT(world.daemon.cmctl({"list", "--color", "always"}).output, HasSubstr("\x1b[32mrunning\x1b[0m"));
}

TEST(Cmctl, KillsSeveralAndTellsTheFirstFailure) {
    World world;
    const std::string first = world.start_id("server-1", {"cat"});
    const std::string last = world.start_id("server-1", {"cat"});
    const Finished killed = world.daemon.cmctl({"kill", "-q", first, "none", last});
    EXPECT_EQ(killed.status.code, 3);
    EXPECT_EQ(killed.output, first + "\n" + last + "\n");
    EXPECT_TRUE(world.list().empty());
}

TEST(Cmctl, SaysThatItUsesAConnectionBeforeItWaits) {
    World world;
    world.start("server-1", {"cat"});
    const pid_t tmux = std::stoi(world.tmux(1, {"display-message", "-p", "#{pid}"}).output);
    ASSERT_EQ(::kill(tmux, SIGSTOP), 0);
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    Process starting({CMSSH_CMCTL, "start", "--ctx", "server-1", "cat"}, spawn);
    const std::string said = "server-1: using existing master connection (" + world.key("127.0.0.1") + ")\n";
    EXPECT_TRUE(wait_until([&] { return starting.errors() == said; }));
    ASSERT_EQ(::kill(tmux, SIGCONT), 0);
    EXPECT_EQ(*starting.wait(), (ExitStatus{.code = 0, .signal = 0}));
    EXPECT_EQ(starting.errors(), said);
}

TEST(Cmctl, EndsWithItsWaitOnCtrlC) {
    World world;
    const std::string id = world.start_id("server-1", {"cat"});
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    Process waiting({CMSSH_CMCTL, "wait", id}, spawn);
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 2; }));
    waiting.send_signal(SIGINT);
    EXPECT_EQ(waiting.wait(), (ExitStatus{.code = 130, .signal = 0}));
    EXPECT_THAT(waiting.errors(), HasSubstr("cmctl wait " + id));
    EXPECT_EQ(world.session(id).at("state"), "running");
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 1; }))
        << "the call ends with its caller";
}

TEST(Cmctl, RepeatsAStartOnceAfterALostDaemon) {
    World world;
    const pid_t daemon = world.daemon.pid();
    ::kill(daemon, SIGSTOP);
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    Process starting({CMSSH_CMCTL, "start", "--ctx", "server-1", "cat"}, spawn);
    // It is in poll(2): connected, and its request is written.
    ASSERT_TRUE(wait_until([&] {
        return read_file("/proc/" + std::to_string(starting.pid()) + "/wchan") != "0" &&
               read_file("/proc/" + std::to_string(starting.pid()) + "/syscall").starts_with("7 ");
    }));
    world.daemon.crash();
    EXPECT_EQ(starting.wait(), (ExitStatus{.code = 0, .signal = 0})) << starting.errors();
    EXPECT_THAT(starting.errors(), HasSubstr("asking once more"));
    EXPECT_EQ(world.tmux_sessions(1), Words{without_end(starting.output())});
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

// The killed daemon's ssh is still at it: it must not stand in the way, nor stay.
TEST(Cmctl, RepeatsAStartWhoseLoginWasLostWithTheDaemon) {
    World world(servers(1));
    world.sshd.add_ssh_config(
        "Host slow\n    HostName 127.0.0.1\n    ProxyCommand sh -c 'sleep 0.3; exec socat - TCP:%h:%p'\n");
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    Process starting({CMSSH_CMCTL, "start", "--ctx", "slow", "cat"}, spawn);
    ASSERT_TRUE(wait_until([&] { return !world.daemon.ssh_processes().empty(); }));
    const std::vector<pid_t> left = world.daemon.ssh_processes();
    world.daemon.crash();
    EXPECT_EQ(starting.wait(), (ExitStatus{.code = 0, .signal = 0}))
        << starting.errors() << read_file(world.dir / "state/cmssh/cmsshd.log");
    EXPECT_EQ(world.tmux_sessions(1), Words{without_end(starting.output())});
    EXPECT_TRUE(wait_until([&] { return std::none_of(left.begin(), left.end(), alive); }));
    EXPECT_EQ(world.daemon.cmctl({"disconnect", "--force", "slow"}).status.code, 0);
    EXPECT_EQ(world.daemon.ssh_processes(), std::vector<pid_t>{});
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

TEST(Cmctl, TakesAVerbsNameForASessionsName) {
    World world(servers(1));
    for (const char* name : {"list", "status", "start", "kill"}) {
        EXPECT_EQ(world.daemon.cmctl({"start", "--ctx", "server-1", "--name", name, "cat"}).status.code, 0);
    }
    EXPECT_THAT(world.daemon.cmctl({"kill", "list", "status", "start"}).output,
                MatchesRegex("(sess-[a-z2-7]+: killed\n){3}"));
    EXPECT_EQ(world.list().size(), 1U);
    for (const Words& words :
         {Words{"list", "kill", "kill"}, Words{"version", "connect", "server-2"}, Words{"status", "list"},
          Words{"rpc", "shutdown", "{}", "version"}, Words{"daemon", "bogus"}, Words{"daemon"}, Words{"bogus"}}) {
        const Finished refused = world.daemon.cmctl(words);
        EXPECT_EQ(refused.status.code, 2) << words.front();
        EXPECT_THAT(refused.errors, HasSubstr("hint: cmctl ")) << words.front();
    }
    EXPECT_EQ(world.list().size(), 1U);
    EXPECT_EQ(world.stats().at("total_connections"), 1);
    EXPECT_THAT(world.daemon.cmctl({"--help"}).output, HasSubstr("disconnect"));
    EXPECT_THAT(world.daemon.cmctl({"list", "--help"}).output, HasSubstr("--json"));
}

TEST(Cmctl, TellsEachErrorInTwoLines) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"cat"});
    const std::pair<Words, int> cases[] = {
        {{"stats", "--openmetrics", "--json"}, 2},
        {{"stats", "--openmetrics", "--no-spawn", "--socket", world.dir / "none"}, 4},
        {{"stats", "--openmetrics", "more"}, 2},
        {{"completion", "nosuchshell"}, 2},
        {{"completion"}, 2},
        {{"events", "--type", "nosuch"}, 2},
        {{"events", "--no-spawn", "--socket", world.dir / "none"}, 4},
        {{"list", "--state", "nosuch"}, 2},
        {{"logs", id, "-n", "-1"}, 2},
        {{"send", id, "--key", "nosuch"}, 2},
        {{"kill", id, "-s", "NOSUCH"}, 2},
        {{"check", "bad ctx"}, 3},
        {{"exec", "--ctx", "bad ctx", "true"}, 3},
        {{"forward", "add", "--ctx", "server-1", "-L", "nonsense"}, 2},
        {{"start", "--ctx", "server-1", "--name", "a b", "true"}, 2},
    };
    for (const auto& [words, code] : cases) {
        const Finished told = world.daemon.cmctl(words);
        const std::string line = testing::PrintToString(words);
        EXPECT_EQ(told.status.code, code) << line << told.errors;
        EXPECT_EQ(told.output, "") << line;
        EXPECT_THAT(told.errors, MatchesRegex("cmctl: [^\n]+\nhint: [^\n]+\n")) << line;
    }
    const Finished doctor = world.daemon.cmctl({"doctor", "bad ctx"});
    EXPECT_EQ(doctor.status.code, 3);
    EXPECT_THAT(doctor.output, HasSubstr("FAIL  bad ctx: connection  no context is named 'bad ctx'"));
    EXPECT_THAT(doctor.output, HasSubstr("\n      -> cmctl contexts\n"));
    EXPECT_EQ(world.daemon.cmctl({"doctor", "127.0.0.1:1"}).status.code, 1);
}

TEST(Cmctl, SpeaksOfWhatWasTypedAndTheApiOfItsParams) {
    World world(servers(1));
    const auto errors = [&world](Words words) { return world.daemon.cmctl(std::move(words)).errors; };
    EXPECT_THAT(errors({"start", "--ctx=server-1", "--name", "a b", "true"}), HasSubstr("cmctl: --name: a b is not "));
    EXPECT_THAT(errors({"start", "--ctx=server-1", "--env", "1X=y", "true"}), HasSubstr("cmctl: --env: 1X is not "));
    EXPECT_THAT(errors({"start", "--ctx=server-1", "--cwd", "", "true"}), HasSubstr("cmctl: --cwd: expected a path"));
    EXPECT_THAT(errors({"start", "--ctx=server-1", "--", ""}), HasSubstr("cmctl: CMD"));
    const std::string params = R"({"ctx": "server-1", "command": ["true"], "name": "a b"})";
    EXPECT_THAT(errors({"rpc", "start", params}), HasSubstr("cmctl: params.name: a b is not "));
    EXPECT_THAT(errors({"rpc", "start", "{}"}), HasSubstr("hint: cmctl rpc rpc.discover"));
    EXPECT_THAT(errors({"start", "--ctx=server-1", "--name", "a b", "--json", "true"}), HasSubstr("params.name"));
}

TEST(Cmctl, HelpFitsEightyColumns) {
    const auto expect_to_fit = [](const Words& words) {
        const Finished help = run(words);
        EXPECT_EQ(help.status.code, 0) << words[1];
        std::istringstream lines(help.output);
        for (std::string line; std::getline(lines, line);) {
            EXPECT_LE(line.size(), 80U) << words[1] << ": " << line;
        }
        return help.output;
    };
    std::istringstream lines(expect_to_fit({CMSSH_CMCTL, "--help"}));
    int verbs = 0;
    bool listed = false;
    for (std::string line; std::getline(lines, line);) {
        listed = line == "Verbs:" || (listed && !line.empty());
        if (listed && line.starts_with("  ")) {
            ++verbs;
            const std::string verb = line.substr(2, line.find(' ', 2) - 2);
            EXPECT_THAT(expect_to_fit({CMSSH_CMCTL, verb, "--help"}), HasSubstr("Usage: cmctl " + verb));
        }
    }
    EXPECT_GT(verbs, 20);
    EXPECT_THAT(run({CMSSH_CMCTL, "events", "--help"}).output, HasSubstr("  --type T  "));
}

TEST(Cmctl, LeavesWhatStandsBehindADoubleDashAlone) {
    World world(servers(1));
    const Finished kept = world.daemon.cmctl({"start", "--ctx=server-1", "--json", "cat", "--", "--ctx", "server-2"});
    EXPECT_EQ(Json::parse(kept.output).at("session").at("command"), Json({"cat", "--", "--ctx", "server-2"}));
    const Finished none = world.daemon.cmctl({"start", "cat", "--", "--ctx", "server-1"});
    EXPECT_THAT(none.errors, Not(HasSubstr("took --ctx")));
}

TEST(Cmctl, WritesNothingToWhereverAClosedDescriptorLeads) {
    World world(servers(1));
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    const auto script = [&spawn](const std::string& redirection) {
        return run({"sh", "-c", "\"$0\" start --ctx server-1 --wait sh -c 'exit 7' " + redirection, CMSSH_CMCTL}, spawn,
                   in(kPatience))
            .status.code;
    };
    EXPECT_EQ(script("2>&-"), 7);
    EXPECT_EQ(script(">&-"), 7);
    EXPECT_EQ(script("<&- >&- 2>&-"), 7);
    const Finished lost = run({"sh", "-c", "\"$0\" start --ctx server-1 true >&-", CMSSH_CMCTL}, spawn, in(kPatience));
    EXPECT_EQ(lost.status.code, 1);
    EXPECT_THAT(lost.errors, HasSubstr("standard output"));
    EXPECT_EQ(world.stats().at("daemon").at("errors"), 0);
}

TEST(Cmctl, HasNoTimeoutTooLongToCount) {
    World world(servers(1));
    EXPECT_EQ(world.daemon.cmctl({"--timeout", "9999999h", "list"}).status.code, 0);
    EXPECT_EQ(world.daemon.cmctl({"start", "--timeout", "9999999h", "--ctx", "server-1", "--wait", "true"}).status.code,
              0);
}

TEST(Cmctl, ChecksAndDisconnectsWhatItKnowsOnly) {
    World world(servers(1));
    EXPECT_NE(world.daemon.cmctl({"check", "nosuch.invalid"}).status.code, 0);
    EXPECT_EQ(world.daemon.cmctl({"disconnect", "nosuch.invalid"}).status.code, 0);
    EXPECT_EQ(world.stats().at("connections"), Json::array());
    EXPECT_EQ(world.daemon.cmctl({"connect", "127.0.0.1:1"}).status.code, 5);
    EXPECT_EQ(world.daemon.cmctl({"check"}).status.code, 0) << "nobody needs the one that failed";
}

TEST_F(WithoutDaemon, DisconnectEndsWhatAnEarlierDaemonLeft) {
    EXPECT_EQ(world.daemon.cmctl({"connect", "server-1"}).status.code, 0);
    const Json stats = Json::parse(world.daemon.cmctl({"stats", "--json"}).output);
    const pid_t master = stats.at("connections").at(0).at("master_pid");
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
    EXPECT_EQ(world.daemon.cmctl({"check", "server-1"}).status.code, 0) << "it is there, and works";
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
    EXPECT_TRUE(alive(master));
    EXPECT_THAT(world.daemon.cmctl({"disconnect", "server-1"}).output, HasSubstr(": idle\n"));
    EXPECT_FALSE(alive(master));
    EXPECT_EQ(world.daemon.control_sockets(), Words{});
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

TEST_F(WithoutDaemon, NoSpawnEndsWithItsOwnCode) {
    const Finished list = world.daemon.cmctl({"list", "--no-spawn"});
    EXPECT_EQ(list.status.code, 4);
    EXPECT_THAT(list.errors, HasSubstr("hint: cmctl daemon start"));
    EXPECT_EQ(world.daemon.cmctl({"daemon", "status"}).status.code, 4);
    EXPECT_EQ(world.daemon.cmctl({"daemon", "reload"}).status.code, 4);
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
    EXPECT_EQ(world.daemon.cmctl({"version"}).output, "cmctl 0.1.0\ncmsshd does not run\n");
}

TEST_F(WithoutDaemon, StartsOneOnDemandAndLetsGoOfIt) {
    // The pipe ends with cmctl: the daemon has nothing of its caller's open.
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    const Finished piped =
        run({"sh", "-c", "\"$0\" start --ctx server-1 cat 2>&1 | cat", CMSSH_CMCTL}, spawn, in(kPatience));
    EXPECT_THAT(piped.output, ContainsRegex("establishing master connection"));
    EXPECT_EQ(world.daemon.cmctl({"daemon", "status"}).status.code, 0);
    EXPECT_THAT(read_file(log_file()), HasSubstr("serves"));
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
    EXPECT_FALSE(exists(world.daemon.socket_path())) << "it is gone when stop returns";
    EXPECT_EQ(world.tmux_sessions(1).size(), 1U) << "its session is not";
    // The next one finds session and master.
    const Finished list = world.daemon.cmctl({"connect", "server-1"});
    EXPECT_EQ(list.status.code, 0) << list.errors;
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

TEST_F(WithoutDaemon, ManyAtOnceStartOne) {
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    std::vector<std::unique_ptr<Process>> clients;
    for (int i = 0; i < 20; ++i) {
        clients.push_back(std::make_unique<Process>(Words{CMSSH_CMCTL, "stats", "--json"}, spawn));
    }
    std::set<int> daemons;
    for (const auto& client : clients) {
        ASSERT_EQ(client->wait(), (ExitStatus{.code = 0, .signal = 0})) << client->errors();
        daemons.insert(Json::parse(client->output()).at("daemon").at("pid").get<int>());
    }
    EXPECT_EQ(daemons.size(), 1U);
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

TEST_F(WithoutDaemon, TellsWhyOneDoesNotStart) {
    write_file(world.daemon.config_file(), "[pool]\nbogus = 1\n");
    const Finished status = world.daemon.cmctl({"status"});
    EXPECT_EQ(status.status.code, 2);
    EXPECT_THAT(status.errors, HasSubstr(world.daemon.config_file() + ":2: pool.bogus"));
    EXPECT_FALSE(exists(world.daemon.socket_path()));
}

}  // namespace
}  // namespace cmssh::test
