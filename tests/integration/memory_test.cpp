// What is known of sessions survives the daemon, the connection and the server's tmux, and is true.
#include <gmock/gmock.h>

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <random>
#include <set>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Words kLong = {"sleep", "1000"};
const std::string kImpatient = "[pool]\nbackoff_initial = \"20ms\"\nbackoff_max = \"200ms\"\n";

// A command that ends with a code when it is let: what it has printed, tmux has read by then.
Words until(const std::string& file, int code) {
    return {"sh", "-c", R"(echo text; mkfifo "$0.fifo"; read -r line <"$0.fifo"; exit "$1")", file,
            std::to_string(code)};
}

void let_end(const std::string& file) {
    ASSERT_TRUE(wait_until([&] { return exists(file + ".fifo"); }));
    write_file(file + ".fifo", "go\n");
}

// Nobody can log in, and who was there is cut off.
void cut(World& world) {
    ::kill(world.sshd.pid(), SIGSTOP);
    world.sshd.signal_connections(SIGKILL);
    world.sshd.stop();
}

bool dead_in_tmux(World& world, const std::string& id) {
    return wait_until([&] {
        return world.tmux(1, {"display-message", "-p", "-t", '=' + id + ':', "#{pane_dead}"}).output == "1\n";
    });
}

enum class End { Stop, Crash };
void PrintTo(End end, std::ostream* stream) {
    *stream << (end == End::Stop ? "AfterAStop" : "AfterACrash");
}

class Restart : public ::testing::TestWithParam<End> {
protected:
    void end_daemon() {
        if (GetParam() == End::Stop) {
            world.daemon.stop();
        } else {
            world.daemon.crash();
        }
    }
    World world{servers(2), kImpatient};
};

TEST_P(Restart, TakesOverMastersAndSessionsByItself) {
    const std::string one = world.start_id("server-1", kLong, {{"name", "one"}});
    const std::string two = world.start_id("server-1", kLong);
    const std::string three = world.start_id("server-2", kLong);
    const Json before = world.stats();
    end_daemon();
    world.start_daemon();
    // Known at once, whatever the servers do.
    EXPECT_THAT(world.list(), ElementsAre(one, two, three));
    EXPECT_EQ(world.stats().at("total_refs"), 3);
    for (const auto& id : {one, two, three}) {
        EXPECT_TRUE(world.becomes(id, "running")) << id;
    }
    const Json after = world.stats();
    EXPECT_EQ(after.at("total_connections"), 2);
    EXPECT_EQ(after.at("connection_stats"), before.at("connection_stats"));
    for (const auto& connection : after.at("connections")) {
        EXPECT_EQ(connection.at("adopted"), true);
        EXPECT_EQ(connection.at("handshakes"), 0);
        EXPECT_EQ(connection.at("reconnects"), 0);
        EXPECT_EQ(connection.at("master_pid"), world.connection(connection.at("server").at("key")).at("master_pid"));
    }
    EXPECT_EQ(world.sshd.logins(), 2);
    EXPECT_EQ(world.session("one").at("id"), one);
}

TEST_P(Restart, LogsInToNothingThatWasDisconnected) {
    const std::string id = world.start_id("server-1", kLong);
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    end_daemon();
    world.start_daemon();
    // Its neighbour shows that what is to be restored has been.
    world.start("server-2", kLong);
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("state") == "idle"; }));
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    EXPECT_EQ(world.sshd.logins(), 2);
    world.rpc().call("connect", {{"ctx", "server-1"}});
    EXPECT_TRUE(world.becomes(id, "running"));
}

TEST_P(Restart, IsOutlivedByAWait) {
    const std::string file = world.dir / "gate";
    const std::string id = world.start_id("server-1", until(file, 7));
    Process waiting = world.daemon.spawn_cmctl({"wait", id});
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 2; }));
    end_daemon();
    world.start_daemon();
    let_end(file);
    EXPECT_EQ(*waiting.wait(), (ExitStatus{.code = 7, .signal = 0})) << waiting.errors();
}

TEST(Crash, IsOutlivedByAWaitThatStartsTheNextDaemon) {
    World world(servers(1));
    const std::string file = world.dir / "gate";
    const std::string id = world.start_id("server-1", until(file, 7));
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    Process waiting({CMSSH_CMCTL, "wait", id}, spawn);
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 2; }));
    world.daemon.crash();
    EXPECT_TRUE(wait_until([&] { return waiting.errors().find("the daemon is gone") != std::string::npos; }));
    let_end(file);
    EXPECT_EQ(*waiting.wait(), (ExitStatus{.code = 7, .signal = 0})) << waiting.errors();
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

TEST_P(Restart, ShowsWhatEndedBefore) {
    const std::string file = world.dir / "gate";
    const std::string exited = world.start_id("server-1", until(file, 7));
    let_end(file);
    world.wait(exited);
    const std::string killed = world.start_id("server-1", kLong);
    world.rpc().call("kill", {{"session", killed}});
    const Json before = world.session(exited);
    end_daemon();
    world.start_daemon();
    EXPECT_EQ(world.list(), Words{});
    EXPECT_THAT(world.list({{"all", true}}), ElementsAre(exited, killed));
    EXPECT_EQ(world.session(exited), before);
    EXPECT_EQ(world.session(killed).at("state"), "killed");
    EXPECT_EQ(world.rpc().call("logs", {{"session", exited}}).at("text"), "text\n");
}

TEST_P(Restart, TellsWhatEndedMeanwhile) {
    const std::string file = world.dir / "gate";
    const std::string id = world.start_id("server-1", until(file, 9));
    end_daemon();
    let_end(file);
    ASSERT_TRUE(dead_in_tmux(world, id));
    world.start_daemon();
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("exit_code"), 9);
    EXPECT_EQ(world.rpc().call("logs", {{"session", id}}).at("text"), "text\n");
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1).empty(); }));
}

TEST_P(Restart, LogsInAgainWhereTheMasterIsGoneToo) {
    const std::string id = world.start_id("server-1", kLong);
    end_daemon();
    cut(world);
    world.sshd.start();
    world.start_daemon();
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST_P(Restart, RemembersAMasterWithoutSessions) {
    const Json connected = world.rpc().call("connect", {{"ctx", "server-1"}});
    end_daemon();
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return world.stats().at("total_connections") == 1; }));
    const Json again = world.rpc().call("connect", {{"ctx", "server-1"}});
    EXPECT_EQ(again.at("reused"), true);
    EXPECT_EQ(again.at("connection").at("master_pid"), connected.at("connection").at("master_pid"));
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_P(Restart, CountsItsConnectionsFromTheFirstAnswerOn) {
    world.start("server-1", kLong);
    end_daemon();
    world.start_daemon();
    EXPECT_EQ(world.stats().at("total_connections"), 1);
}

TEST_P(Restart, CarriesOutAKillThatWasPending) {
    const std::string id = world.start_id("server-1", kLong);
    const std::string other = world.start_id("server-1", kLong);
    cut(world);
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    const Json pending = world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(pending.at("pending"), true);
    EXPECT_EQ(pending.at("session").at("state"), "unreachable");
    end_daemon();
    world.start_daemon();
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    world.sshd.start();
    EXPECT_EQ(world.wait(id).at("state"), "killed");
    EXPECT_TRUE(world.becomes(other, "running"));
    EXPECT_THAT(world.tmux_sessions(1), ElementsAre(other));
}

TEST_P(Restart, CarriesOutAKillThatWaitedForALogin) {
    const std::string id = world.start_id("server-1", kLong);
    const std::string signalled = world.start_id("server-1", kLong);
    ::kill(world.sshd.pid(), SIGSTOP);
    world.sshd.signal_connections(SIGKILL);
    ASSERT_TRUE(world.becomes(signalled, "unreachable"));
    (void)world.rpc().send("kill", {{"session", id}});
    (void)world.rpc().send("kill", {{"session", signalled}, {"signal", "KILL"}});
    (void)world.rpc().call("ping");
    end_daemon();
    ::kill(world.sshd.pid(), SIGCONT);
    world.start_daemon();
    EXPECT_EQ(world.wait(id).at("state"), "killed");
    EXPECT_EQ(world.wait(signalled).at("signal"), "KILL");
}

INSTANTIATE_TEST_SUITE_P(Memory, Restart, ::testing::Values(End::Stop, End::Crash),
                         ::testing::PrintToStringParamName());

TEST(Outage, KeepsTheExitCodeAndTheLastScreen) {
    World world(servers(1), kImpatient);
    const std::string file = world.dir / "gate";
    const std::string id = world.start_id("server-1", until(file, 5));
    const std::string other = world.start_id("server-1", kLong);
    cut(world);
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    let_end(file);
    ASSERT_TRUE(dead_in_tmux(world, id));
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    world.sshd.start();
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("exit_code"), 5);
    EXPECT_EQ(world.rpc().call("logs", {{"session", id}}).at("text"), "text\n");
    EXPECT_TRUE(world.becomes(other, "running"));
}

TEST(Outage, ForgetGivesASessionUpAndFreesItsName) {
    World world(servers(1), kImpatient);
    const std::string id = world.start_id("server-1", kLong, {{"name", "job"}});
    cut(world);
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    const Json forgotten = world.rpc().call("kill", {{"session", id}, {"forget", true}});
    EXPECT_EQ(forgotten.at("session").at("state"), "lost");
    EXPECT_EQ(forgotten.at("pending"), false);
    world.sshd.start();
    // Who asks during an attempt has its outcome, and this one may have begun before.
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("state") != "connecting"; }));
    const std::string next = world.start_id("server-1", kLong, {{"name", "job"}});
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1) == Words{next}; }));
}

TEST(Outage, ForgetEndsWhatIgnoresItOnceTheServerIsBack) {
    World world(servers(1), kImpatient);
    const std::string id = world.start_id("server-1", {"sh", "-c", "trap '' HUP; exec sleep 1000"});
    const pid_t program = world.pane_pid(1, id);
    ASSERT_TRUE(wait_until([&] { return command_line(program) == "sleep 1000"; }));
    cut(world);
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    world.rpc().call("kill", {{"session", id}, {"forget", true}});
    world.sshd.start();
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("state") != "connecting"; }));
    world.start("server-1", kLong);
    EXPECT_TRUE(wait_until([&] { return !alive(program); }));
}

// As the server's clock has it, whenever it was asked.
TEST(Outage, HidesNoEndAndNoTimeOfOne) {
    World world(servers(1), kImpatient);
    // Most of them together, and some alone.
    constexpr int kTogether = 8;
    constexpr int kSessions = 12;
    const std::string script = "sleep $1; date +%s >\"$0.part\"; mv \"$0.part\" \"$0\"; exit 7";
    Words ids;
    for (int i = 0; i < kSessions; ++i) {
        const std::string file = world.dir / ("ended-" + std::to_string(i));
        const std::string seconds = std::to_string(1 + std::max(0, i - kTogether));
        ids.push_back(world.start_id("server-1", {"sh", "-c", script, file, seconds}));
    }
    cut(world);
    for (int i = 0; i < kSessions; ++i) {
        ASSERT_TRUE(wait_until([&] { return exists(world.dir / ("ended-" + std::to_string(i))); }));
    }
    const std::int64_t all_ended = std::time(nullptr);
    ASSERT_TRUE(wait_until([&] { return std::time(nullptr) >= all_ended + 5; }));
    world.sshd.start();
    for (int i = 0; i < kSessions; ++i) {
        const Json ended = world.wait(ids[static_cast<std::size_t>(i)]);
        EXPECT_EQ(ended.at("exit_code"), 7);
        const std::int64_t truth = std::stoll(read_file(world.dir / ("ended-" + std::to_string(i))));
        std::tm time{};
        ASSERT_NE(::strptime(ended.at("ended_at").get<std::string>().c_str(), "%Y-%m-%dT%H:%M:%S", &time), nullptr);
        // tmux tells whole seconds, and collects what it missed within two.
        EXPECT_LE(std::abs(::timegm(&time) - truth), 3) << ended.at("ended_at");
    }
}

// By somebody who is attached, or by a script: to us it is the same session.
TEST(Renamed, SessionKeepsItsNameAndItsEnd) {
    World world(servers(1));
    // The first one warms up; the second has the spare session of the first, or one of its own.
    for (int i = 0; i < 2; ++i) {
        const std::string file = world.dir / ("gate-" + std::to_string(i));
        const std::string id = world.start_id("server-1", until(file, 5));
        ASSERT_EQ(world.tmux(1, {"rename-session", "-t", '=' + id, "mine"}).status.code, 0);
        EXPECT_TRUE(wait_until([&] { return world.tmux(1, {"has-session", "-t", '=' + id}).status.code == 0; }));
        let_end(file);
        const Json ended = world.wait(id);
        EXPECT_EQ(ended.at("state"), "exited");
        EXPECT_EQ(ended.at("exit_code"), 5);
    }
}

TEST(TmuxServer, ThatIsKilledLosesItsSessionsWithTheReason) {
    World world(servers(2), kImpatient);
    const std::string id = world.start_id("server-1", kLong);
    const std::string elsewhere = world.start_id("server-2", kLong);
    const pid_t server = std::stoi(world.tmux(1, {"display-message", "-p", "#{pid}"}).output);
    ASSERT_EQ(::kill(server, SIGKILL), 0);
    const Json lost = world.wait(id);
    EXPECT_EQ(lost.at("state"), "lost");
    EXPECT_THAT(lost.at("reason").get<std::string>(), HasSubstr("tmux server"));
    EXPECT_EQ(world.session(elsewhere).at("state"), "running");
    // And it serves again.
    EXPECT_TRUE(world.becomes(world.start_id("server-1", kLong), "running"));
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(TmuxSession, ThatSomebodyKilledByHandIsLost) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    const std::string other = world.start_id("server-1", kLong);
    EXPECT_EQ(world.tmux(1, {"kill-session", "-t", '=' + id}).status.code, 0);
    EXPECT_EQ(world.wait(id).at("state"), "lost");
    EXPECT_EQ(world.session(other).at("state"), "running");
}

// Each start appends a line to a file of its own: how often it ran is counted, not believed.
TEST(Crash, AtAnyMomentOfAStartStartsEverythingOnce) {
    constexpr int kCrashes = 100;
    World world(servers(1));
    std::mt19937 random(20261124);
    std::set<std::string> ids;
    const auto file = [&world](int i) { return world.dir / ("ran-" + std::to_string(i)); };
    for (int i = 0; i < kCrashes; ++i) {
        SCOPED_TRACE(i);
        const Json params = {{"ctx", "server-1"},
                             {"command", {"sh", "-c", R"(echo once >>"$0"; exec sleep 1000)", file(i)}},
                             {"request_id", "start-" + std::to_string(i)}};
        (void)world.rpc().send("start", params);
        // The first has a login to be hit in, the others a few milliseconds.
        const int most_ms = i == 0 ? 300 : 12;
        ::poll(nullptr, 0, std::uniform_int_distribution<int>(0, most_ms)(random));
        world.daemon.crash();
        world.start_daemon();
        const std::string id = world.rpc().call("start", params).at("session").at("id");
        EXPECT_TRUE(ids.insert(id).second);
        EXPECT_TRUE(wait_until([&] { return exists(file(i)) && !read_file(file(i)).empty(); }));
        if (i % 2 == 0) {
            world.rpc().call("kill", {{"session", id}});
        }
    }
    for (int i = 0; i < kCrashes; ++i) {
        EXPECT_EQ(read_file(file(i)), "once\n") << i;
    }
    EXPECT_EQ(world.list({{"all", true}}).size(), static_cast<std::size_t>(kCrashes));
    EXPECT_EQ(world.list().size(), world.tmux_sessions(1).size());
    // One login, and one more at most where the first was hit in its middle.
    EXPECT_LE(world.sshd.logins(), 2);
    EXPECT_EQ(world.daemon.all_ssh_processes().size(), 1U);
    EXPECT_EQ(world.daemon.control_sockets().size(), 1U);
}

// In the middle of a start: the daemon, the master, both, or what the server has of the connection. A thousand times by
// CMSSH_TEST_KILLS=1000 CMSSH_TEST_SECONDS=1000.
TEST(Crash, OfWhateverThereIsLosesNothingAndStartsNothingTwice) {
    const char* given = std::getenv("CMSSH_TEST_KILLS");
    const int kills = given != nullptr ? std::atoi(given) : 40;
    World world(servers(1), kImpatient);
    std::mt19937 random(20261128);
    std::set<std::string> running;
    const std::string key = world.key("127.0.0.1");
    const auto file = [&world](int i) { return world.dir / ("ran-" + std::to_string(i)); };
    for (int i = 0; i < kills; ++i) {
        SCOPED_TRACE(i);
        const Json params = {{"ctx", "server-1"},
                             {"command", {"sh", "-c", R"(echo once >>"$0"; exec sleep 1000)", file(i)}},
                             {"request_id", "start-" + std::to_string(i)}};
        (void)world.rpc().send("start", params);
        ::poll(nullptr, 0, std::uniform_int_distribution<int>(0, 12)(random));
        const int victim = std::uniform_int_distribution<int>(0, 3)(random);
        if (victim == 1 || victim == 2) {
            for (const pid_t master : world.daemon.all_ssh_processes()) {
                ::kill(master, SIGKILL);
            }
        }
        if (victim == 3) {
            world.sshd.signal_connections(SIGKILL);
        }
        if (victim == 0 || victim == 2) {
            world.daemon.crash();
            world.start_daemon();
        }
        std::string id;
        ASSERT_TRUE(wait_until([&] {
            RpcClient client(world.daemon.socket_path());
            const Json reply = client.reply(client.send("start", params));
            id = reply.contains("result") ? reply.at("result").at("session").at("id").get<std::string>() : "";
            return !id.empty();
        })) << "victim "
            << victim;
        EXPECT_TRUE(running.insert(id).second);
        EXPECT_TRUE(wait_until([&] { return exists(file(i)) && !read_file(file(i)).empty(); }));
        if (i % 8 != 0) {
            world.rpc().call("kill", {{"session", id}});
            running.erase(id);
        }
    }
    for (int i = 0; i < kills; ++i) {
        EXPECT_EQ(read_file(file(i)), "once\n") << i;
    }
    EXPECT_EQ(world.list({{"all", true}}).size(), static_cast<std::size_t>(kills));
    for (const std::string& id : running) {
        EXPECT_TRUE(world.becomes(id, "running")) << id;
    }
    EXPECT_EQ(world.tmux_sessions(1).size(), running.size());
    EXPECT_TRUE(wait_until([&] { return world.daemon.all_ssh_processes().size() == 1; })) << "a stray ssh";
    EXPECT_EQ(world.daemon.control_sockets().size(), 1U);
}

// At a random moment of a kill: the next daemon goes on with it, and the last screen is there.
TEST(Crash, InTheMiddleOfAKillLosesNeitherTheKillNorTheScreen) {
    World world(servers(1), kImpatient);
    std::mt19937 random(20261129);
    for (int i = 0; i < 20; ++i) {
        SCOPED_TRACE(i);
        const std::string id = world.start_id("server-1", {"sh", "-c", "echo text; exec sleep 1000"});
        ASSERT_TRUE(wait_until([&] { return world.rpc().call("logs", {{"session", id}}).at("text") == "text\n"; }));
        (void)world.rpc().send("kill", {{"session", id}});
        // The daemon has it, once it answers what was sent behind it.
        (void)world.session(id);
        ::poll(nullptr, 0, std::uniform_int_distribution<int>(0, 6)(random));
        world.daemon.crash();
        world.start_daemon();
        EXPECT_TRUE(world.becomes(id, "killed"));
        EXPECT_EQ(world.rpc().call("logs", {{"session", id}}).at("text"), "text\n");
    }
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1).empty(); }));
}

// The repeat is the first that the next daemon hears; what ran is found on the server before anything is started there.
TEST(Registry, ThatIsLostStartsNothingTwice) {
    World world(servers(1));
    const std::string file = world.dir / "ran";
    const Json params = {{"ctx", "server-1"},
                         {"name", "job"},
                         {"request_id", "once"},
                         {"command", {"sh", "-c", R"(echo once >>"$0"; exec sleep 1000)", file}}};
    const std::string id = world.rpc().call("start", params).at("session").at("id");
    ASSERT_TRUE(wait_until([&] { return exists(file) && read_file(file) == "once\n"; }));
    for (const bool damaged : {true, false}) {
        SCOPED_TRACE(damaged);
        world.daemon.crash();
        const std::string registry = world.dir / "state/cmssh/registry.db";
        for (const char* suffix : {"", "-wal", "-shm"}) {
            std::filesystem::remove(registry + suffix);
        }
        if (damaged) {
            write_file(registry, "no database");
        }
        world.start_daemon();
        const Json repeated = world.rpc().call("start", params);
        EXPECT_EQ(repeated.at("session").at("id"), id);
        EXPECT_EQ(repeated.at("session").at("name"), "job");
        EXPECT_EQ(repeated.at("reused"), true);
        EXPECT_EQ(world.list(), Words{id});
        EXPECT_EQ(world.tmux_sessions(1).size(), 1U);
    }
    EXPECT_EQ(read_file(file), "once\n");
}

// EFBIG for every write: what a full disk does, for one process.
TEST(Registry, ThatCannotBeWrittenIsSaidAndSavedLater) {
    World world(servers(1));
    const std::string before = world.start_id("server-1", kLong);
    EXPECT_EQ(world.stats().at("daemon").at("unsaved"), false);
    const rlimit none{0, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(world.daemon.pid(), RLIMIT_FSIZE, &none, nullptr), 0);
    const std::string file = world.dir / "gate";
    const std::string meanwhile = world.start_id("server-1", until(file, 3));
    let_end(file);
    EXPECT_EQ(world.wait(meanwhile).at("exit_code"), 3);
    EXPECT_EQ(world.stats().at("daemon").at("unsaved"), true);
    EXPECT_EQ(world.rpc().call("logs", {{"session", meanwhile}}).at("text"), "text\n");
    const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(world.daemon.pid(), RLIMIT_FSIZE, &all, nullptr), 0);
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("unsaved") == false; }));
    world.daemon.crash();
    world.start_daemon();
    EXPECT_THAT(world.list({{"all", true}}), ElementsAre(before, meanwhile));
    EXPECT_EQ(world.session(meanwhile).at("exit_code"), 3);
    EXPECT_EQ(world.rpc().call("logs", {{"session", meanwhile}}).at("text"), "text\n");
}

// A program that tells each signal that it gets.
const Words kListener = {
    "bash", "-c", "trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo ready; while :; do read -rt 0.1 <> <(:); done"};

TEST(PendingSignal, LeavesTheOthersInTheirPlace) {
    World world(servers(1), kImpatient);
    const std::string id = world.start_id("server-1", kListener);
    const auto text = [&] { return world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>(); };
    ASSERT_TRUE(wait_until([&] { return text() == "ready\n"; }));
    cut(world);
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    for (const auto* signal : {"USR1", "SIGUSR2"}) {
        EXPECT_EQ(world.rpc().call("kill", {{"session", id}, {"signal", signal}}).at("pending"), true);
    }
    world.daemon.crash();
    world.sshd.start();
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return text() == "ready\nusr1\nusr2\n"; })) << text();
}

TEST(PendingSignal, OfEachWhoWaitsForOneLoginIsSent) {
    World world;
    const std::string id = world.start_id("server-1", kListener);
    const auto text = [&] { return world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>(); };
    ASSERT_TRUE(wait_until([&] { return text() == "ready\n"; }));
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    RpcClient other(world.daemon.socket_path());
    const int one = world.rpc().send("kill", {{"session", id}, {"signal", "USR1"}});
    const int two = other.send("kill", {{"session", id}, {"signal", "USR2"}});
    EXPECT_TRUE(world.rpc().reply(one).contains("result"));
    EXPECT_TRUE(other.reply(two).contains("result"));
    EXPECT_TRUE(wait_until([&] { return text().size() == std::string("ready\nusr1\nusr2\n").size(); })) << text();
}

// A server whose `ps`, when it is first asked for `column` (without one: for a terminal's foreground), waits to be let
// go on.
class SlowServer {
public:
    explicit SlowServer(const std::string& column = "tpgid") {
        write_file(ps_,
                   "#!/bin/sh\ncase $* in *" + column +
                       "*) if mkdir \"$0.asked\" 2>/dev/null; then\n"
                       "while [ ! -e \"$0.go\" ]; do sleep 0.05; done\n[ ! -e \"$0.fail\" ] || exit 1\nfi ;; esac\n"
                       "exec /bin/ps \"$@\"\n");
        std::filesystem::permissions(ps_, std::filesystem::perms::owner_all);
    }
    [[nodiscard]] SshdOptions options() const {
        SshdOptions options = servers(1);
        options.environment[1] = "PATH=" + bin_.path() + ":/usr/local/bin:/usr/bin:/bin";
        return options;
    }
    [[nodiscard]] bool is_asked() const {
        return wait_until([this] { return exists(ps_ + ".asked"); });
    }
    void go_on() const { write_file(ps_ + ".go", ""); }
    void fail() const { write_file(ps_ + ".fail", ""); }

private:
    TempDir bin_;
    std::string ps_ = bin_ / "ps";
};

TEST(Signal, WhoseConnectionIsLostMayHaveArrived) {
    const SlowServer server;
    World world(server.options());
    const std::string id = world.start_id("server-1", kLong);
    ASSERT_TRUE(wait_until([&] { return command_line(world.pane_pid(1, id)) == "sleep 1000"; }));
    const int call = world.rpc().send("kill", {{"session", id}, {"signal", "TERM"}});
    ASSERT_TRUE(server.is_asked());
    const pid_t master = world.connection(world.key("127.0.0.1")).at("master_pid");
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    const Json error = world.rpc().reply(call).at("error");
    EXPECT_EQ(error.at("data").at("kind"), "master_lost") << error;
    EXPECT_EQ(error.at("data").at("session"), id);
    EXPECT_NE(error.at("data").value("hint", ""), "");
    server.go_on();
    EXPECT_EQ(world.wait(id).at("state"), "killed");
    EXPECT_EQ(world.session(id).at("signal"), "TERM");
}

TEST(PendingSignal, IsNotLostWithTheDaemonThatSendsIt) {
    const SlowServer server;
    World world(server.options(), kImpatient);
    const std::string id = world.start_id("server-1", kListener);
    const auto text = [&] { return world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>(); };
    ASSERT_TRUE(wait_until([&] { return text() == "ready\n"; }));
    cut(world);
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    const Json asked = world.rpc().call("kill", {{"session", id}, {"signal", "USR1"}});
    EXPECT_EQ(asked.at("pending"), true);
    EXPECT_NE(asked.at("reason"), "");
    world.sshd.start();
    ASSERT_TRUE(server.is_asked());
    world.daemon.crash();
    server.fail();
    server.go_on();
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return text() == "ready\nusr1\n"; })) << text();
}

// Ignores SIGHUP, and leaves its pid in the file.
Words ignores_hangup(const std::string& file) {
    return {"sh", "-c", R"(trap "" HUP; echo $$ >"$0.part"; mv "$0.part" "$0"; while :; do sleep 0.1; done)", file};
}

// What ignores SIGHUP is ended also where tmux's answer to the kill was lost.
TEST(Outage, InTheMiddleOfAKillLeavesNoProgramBehind) {
    World world(servers(1), kImpatient);
    const std::string file = world.dir / "pid";
    const std::string id = world.start_id("server-1", ignores_hangup(file));
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    const pid_t program = std::stoi(read_file(file));
    const pid_t tmux = std::stoi(world.tmux(1, {"display-message", "-p", "#{pid}"}).output);
    ASSERT_EQ(::kill(tmux, SIGSTOP), 0);
    const int call = world.rpc().send("kill", {{"session", id}});
    (void)world.rpc().call("ping");
    cut(world);
    EXPECT_EQ(world.rpc().reply(call).at("result").at("pending"), true);
    ASSERT_EQ(::kill(tmux, SIGCONT), 0);
    EXPECT_EQ(world.tmux(1, {"kill-session", "-t", '=' + id}).status.code, 0);
    EXPECT_TRUE(alive(program));
    world.sshd.start();
    EXPECT_EQ(world.wait(id).at("state"), "killed");
    EXPECT_TRUE(wait_until([&] { return !alive(program); }));
}

TEST(Crash, BehindAKillLeavesNoProgramBehind) {
    const SlowServer server("etimes");
    server.fail();
    server.go_on();
    World world(server.options());
    const std::string file = world.dir / "pid";
    const std::string id = world.start_id("server-1", ignores_hangup(file));
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    const pid_t program = std::stoi(read_file(file));
    EXPECT_EQ(world.rpc().call("kill", {{"session", id}}).at("session").at("state"), "killed");
    ASSERT_TRUE(server.is_asked());
    world.daemon.crash();
    EXPECT_TRUE(alive(program)) << "nothing of it was seen";
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return !alive(program); }));
}

// What it can't save of a kill, the server remembers.
TEST(Registry, ThatCannotBeWrittenLosesNoKill) {
    World world(servers(1));
    const std::string file = world.dir / "gate";
    const std::string killed = world.start_id("server-1", until(file, 3));
    ASSERT_TRUE(wait_until([&] { return exists(file + ".fifo"); }));
    const std::string deaf = world.start_id("server-1", {"sh", "-c", "trap '' HUP; echo text; sleep 1000"});
    ASSERT_TRUE(wait_until([&] { return world.rpc().call("logs", {{"session", deaf}}).at("text") == "text\n"; }));
    const rlimit none{0, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(world.daemon.pid(), RLIMIT_FSIZE, &none, nullptr), 0);
    for (const std::string& id : {killed, deaf}) {
        const Json result = world.rpc().call("kill", {{"session", id}});
        EXPECT_EQ(result.at("session").at("state"), "killed") << result;
        EXPECT_EQ(world.rpc().call("logs", {{"session", id}}).at("text"), "text\n");
    }
    EXPECT_EQ(world.stats().at("daemon").at("unsaved"), true);
    world.daemon.crash();
    world.start_daemon();
    EXPECT_EQ(world.wait(killed).at("signal"), "HUP");
    EXPECT_EQ(world.wait(deaf).at("signal"), "KILL");
    for (const std::string& id : {killed, deaf}) {
        EXPECT_EQ(world.session(id).at("state"), "killed");
        EXPECT_EQ(world.rpc().call("logs", {{"session", id}}).at("text"), "text\n");
    }
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1).empty(); }));
}

// Of a server with a HostKeyAlias, the socket's name is only a hash.
TEST(Registry, ThatIsGoneIsMadeAnewFromServersThatTheirSocketsDoNotName) {
    World world(servers(1));
    world.sshd.add_ssh_config("Host named\n    HostName 127.0.0.1\n    HostKeyAlias 127.0.0.1\n");
    const std::string id = world.start_id("named", kLong);
    world.daemon.crash();
    std::filesystem::remove_all(world.dir / "state/cmssh");
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return world.list() == Words{id}; }));
    EXPECT_EQ(world.session(id).at("state"), "running");
    EXPECT_EQ(world.sshd.logins(), 1);
}

// After a downgrade: it is kept for the daemon that can read it, and the servers tell what runs.
TEST(Registry, OfANewerDaemonIsKeptAsItIsAndMadeAnewFromTheServers) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong, {{"name", "job"}});
    world.daemon.stop();
    const std::string file = world.dir / "state/cmssh/registry.db";
    std::string bytes = read_file(file);
    // SQLite's file format: user_version is the four bytes at 60.
    bytes.at(63) = 99;
    write_file(file, bytes);
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return world.list() == Words{id}; }));
    EXPECT_TRUE(world.becomes("job", "running"));
    EXPECT_EQ(world.stats().at("daemon").at("unsaved"), false);
    EXPECT_NE(world.daemon.log().find("of a newer cmsshd"), std::string::npos) << world.daemon.log();
    std::string kept;
    for (const auto& entry : std::filesystem::directory_iterator(world.dir / "state/cmssh")) {
        const std::string name = entry.path().filename();
        if (name.starts_with("registry.db.newer-") && !name.ends_with("-wal") && !name.ends_with("-shm")) {
            kept = read_file(entry.path());
        }
    }
    EXPECT_TRUE(kept == bytes) << kept.size();
    // Once: the next daemon goes on with its own.
    world.daemon.crash();
    world.start_daemon();
    EXPECT_EQ(world.session("job").at("id"), id);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Registry, ThatIsDamagedIsSetAsideAndMadeAnewFromTheServers) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong, {{"name", "job"}});
    world.daemon.stop();
    const std::string file = world.dir / "state/cmssh/registry.db";
    ASSERT_TRUE(exists(file));
    write_file(file, std::string(4096, 'x'));
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return world.list() == Words{id}; }));
    EXPECT_EQ(world.session("job").at("state"), "running");
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_THAT(world.daemon.log(), HasSubstr("registry.db.damaged-"));
}

}  // namespace
}  // namespace cmssh::test
