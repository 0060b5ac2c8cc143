// How long a connection is kept, who ends it, and what that does to its sessions.
#include <gtest/gtest.h>

#include <signal.h>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};

class Linger : public ::testing::Test {
protected:
    World world{servers(2), "[pool]\ncontrol_persist = \"1s\"\n"};
    const std::string key = world.key("127.0.0.1");
};

TEST_F(Linger, BeginsWithTheEndOfTheLastSession) {
    const std::string one = world.start_id("server-1", kLong);
    const Json started = world.start("server-1", kLong);
    EXPECT_TRUE(started.at("connection").at("linger_s").is_null());
    const pid_t master = started.at("connection").at("master_pid");
    const auto end = [&](const std::string& id) {
        // An interactive shell, which it is at first, ignores the signal.
        EXPECT_TRUE(wait_until([&] { return command_line(world.pane_pid(1, id)) == "sleep 1000"; }));
        EXPECT_EQ(::kill(world.pane_pid(1, id), SIGTERM), 0);
        EXPECT_EQ(world.wait(id).at("state"), "exited");
    };
    end(one);
    EXPECT_TRUE(world.connection(key).at("linger_s").is_null());
    end(started.at("session").at("id"));
    const Json lingering = world.connection(key);
    EXPECT_EQ(lingering.at("state"), "up");
    EXPECT_EQ(lingering.at("refs"), 0);
    EXPECT_GT(lingering.at("linger_s"), 0.0);
    EXPECT_LE(lingering.at("linger_s"), 1.0);
    EXPECT_TRUE(world.connection_becomes(key, "idle"));
    EXPECT_FALSE(alive(master));
    EXPECT_EQ(world.daemon.control_sockets(), Words{});
    EXPECT_EQ(world.stats().at("total_connections"), 0);
    EXPECT_TRUE(world.connection(key).at("last_error").is_null()) << "nothing went wrong";
}

TEST_F(Linger, IsOverWithTheNextSession) {
    world.rpc().call("connect", {{"ctx", "server-1"}});
    EXPECT_FALSE(world.connection(key).at("linger_s").is_null());
    const Json started = world.start("server-1", kLong);
    EXPECT_EQ(started.at("reused"), true);
    EXPECT_TRUE(started.at("connection").at("linger_s").is_null());
    // The other server's connection has the same linger, and nothing that needs it.
    world.rpc().call("connect", {{"ctx", "server-2"}});
    EXPECT_TRUE(world.connection_becomes(world.key("127.0.0.2"), "idle"));
    EXPECT_EQ(world.connection(key).at("state"), "up");
    EXPECT_EQ(world.connection(key).at("master_pid"), started.at("connection").at("master_pid"));
}

TEST_F(Linger, BeginsAnewWithEveryUse) {
    world.rpc().call("connect", {{"ctx", "server-1"}});
    ASSERT_TRUE(wait_until([&] { return world.connection(key).at("linger_s") < 0.5; }));
    const std::string id = world.start_id("server-1", kLong);
    world.rpc().call("kill", {{"session", id}, {"forget", true}});
    EXPECT_GT(world.connection(key).at("linger_s"), 0.8);
}

TEST_F(Linger, IsThatOfTheConfigThatWasReloaded) {
    world.rpc().call("connect", {{"ctx", "server-1"}});
    world.daemon.write_config("[pool]\ncontrol_persist = \"1h\"\n");
    world.rpc().call("reload");
    const std::string id = world.start_id("server-1", kLong);
    world.rpc().call("kill", {{"session", id}, {"forget", true}});
    EXPECT_GT(world.connection(key).at("linger_s"), 3000.0);
}

TEST_F(Linger, BeginsWithAKillToo) {
    const std::string id = world.start_id("server-1", kLong);
    world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(world.connection(key).at("refs"), 0);
    EXPECT_GT(world.connection(key).at("linger_s"), 0.0);
}

// A daemon that was killed looks after nothing: ssh itself ends what is left, after five seconds at the least.
TEST_F(Linger, IsKeptBySshWhereTheDaemonIsGone) {
    const pid_t master = world.rpc().call("connect", {{"ctx", "server-1"}}).at("connection").at("master_pid");
    world.daemon.crash();
    EXPECT_TRUE(alive(master));
    EXPECT_TRUE(wait_until([&] { return !alive(master); }));
    EXPECT_EQ(world.daemon.control_sockets(), Words{});
}

// tmux 3.3 keeps a control client whose last words nobody reads, and with it the channel and the master.
TEST_F(Linger, LeavesNoControlClientOnTheServer) {
    world.start("server-1", kLong);
    for (int i = 0; i < 30; ++i) {
        world.rpc().send("start", {{"ctx", "server-1"}, {"command", {"true"}}});
    }
    world.daemon.crash();
    EXPECT_TRUE(wait_until([&] { return world.tmux(1, {"list-clients"}).output.empty(); }));
    EXPECT_EQ(world.tmux(1, {"list-clients"}).status.code, 0) << "tmux serves";
}

TEST(Disconnect, LeavesTheSessionsRunning) {
    World world(servers(1));
    const std::string key = world.key("127.0.0.1");
    const std::string id = world.start_id("server-1", kLong);
    const pid_t master = world.connection(key).at("master_pid");
    const Json connection = world.rpc().call("disconnect", {{"ctx", "server-1"}}).at("connection");
    EXPECT_EQ(connection.at("state"), "idle");
    EXPECT_EQ(connection.at("sessions"), 1);
    EXPECT_TRUE(connection.at("retry_at").is_null());
    EXPECT_FALSE(alive(master));
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    EXPECT_EQ(world.list(), Words{id});
    EXPECT_EQ(world.tmux_sessions(1), Words{id});
    EXPECT_EQ(world.sshd.logins(), 1);

    const Json started = world.start("server-1", kLong);
    EXPECT_EQ(started.at("reused"), false);
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_EQ(world.stats().at("total_sessions"), 2);
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(Disconnect, BringsTheServerBackForAKill) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    const Json killed = world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(killed.at("pending"), false);
    EXPECT_EQ(killed.at("session").at("state"), "killed");
    EXPECT_EQ(world.tmux_sessions(1), Words{});
}

TEST(Disconnect, IsEndedByAWaitForASessionThere) {
    World world(servers(1));
    const std::string file = world.dir / "gate";
    const std::string id =
        world.start_id("server-1", {"sh", "-c", "until [ -e \"$0\" ]; do sleep 0.01; done; exit 5", file});
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    write_file(file, "");
    EXPECT_EQ(world.rpc().call("wait", {{"session", id}}).at("session").at("exit_code"), 5);
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(Disconnect, IsToldToAWaitThatCannotEndIt) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    world.sshd.stop();
    const Json error = world.rpc().refusal("wait", {{"session", id}});
    EXPECT_EQ(error.at("data").at("kind"), "connect_refused");
    EXPECT_EQ(error.at("data").at("session"), id);
    world.sshd.start();
}

TEST(Disconnect, OfWhatIsNotConnectedIsNoError) {
    World world(servers(1));
    for (const bool force : {false, true}) {
        const Json connection =
            world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", force}}).at("connection");
        EXPECT_EQ(connection.at("state"), "idle");
    }
    EXPECT_EQ(world.sshd.logins(), 0);
}

TEST(Disconnect, WaitsForLeasesUnlessItIsForced) {
    World world(servers(1));
    const std::string key = world.key("127.0.0.1");
    world.rpc().call("acquire", {{"ctx", "server-1"}});
    ASSERT_EQ(world.connection(key).at("leases"), 1);
    const int draining = world.rpc().send("disconnect", {{"ctx", "server-1"}});
    RpcClient other(world.daemon.socket_path());
    ASSERT_TRUE(world.connection_becomes(key, "draining"));
    EXPECT_TRUE(world.connection(key).at("master_pid").is_number());
    EXPECT_EQ(other.call("disconnect", {{"ctx", "server-1"}, {"force", true}}).at("connection").at("state"), "idle");
    EXPECT_EQ(world.rpc().reply(draining).at("result").at("connection").at("state"), "idle");
}

// A start that comes while a connection is drained is not lost: it gets the next one.
TEST(Disconnect, LetsTheNextStartLogInAnew) {
    World world(servers(1));
    const std::string first = world.start_id("server-1", kLong);
    const int disconnect = world.rpc().send("disconnect", {{"ctx", "server-1"}});
    const int start = world.rpc().send("start", {{"ctx", "server-1"}, {"command", kLong}});
    EXPECT_TRUE(world.rpc().reply(disconnect).contains("result"));
    const Json started = world.rpc().reply(start);
    ASSERT_TRUE(started.contains("result")) << started;
    EXPECT_TRUE(world.becomes(first, "running"));
    EXPECT_EQ(world.tmux_sessions(1).size(), 2U);
    EXPECT_EQ(world.stats().at("total_connections"), 1);
}

class Check : public ::testing::Test {
protected:
    World world{servers(1), "[pool]\nhealth_interval = \"1h\"\nhealth_timeout = \"200ms\"\nunhealthy_after = 100\n"};
    const std::string key = world.key("127.0.0.1");
};

TEST_F(Check, MeasuresARoundTrip) {
    world.start("server-1", kLong);
    const Json before = world.connection(key).at("probes");
    const Json checked = world.rpc().call("check", {{"ctx", "server-1"}}).at("connections");
    ASSERT_EQ(checked.size(), 1U);
    EXPECT_EQ(checked.at(0).at("state"), "up");
    EXPECT_EQ(checked.at(0).at("probes").at("ok").get<int>(), before.at("ok").get<int>() + 1);
    EXPECT_GT(checked.at(0).at("rtt_ms").at("last"), 0.0);
    EXPECT_TRUE(checked.at(0).at("probes").at("last_at").is_string());
}

TEST_F(Check, ConnectsNowhereByItself) {
    EXPECT_EQ(world.rpc().call("check").at("connections"), Json::array());
    const Json checked = world.rpc().call("check", {{"ctx", "server-1"}}).at("connections");
    ASSERT_EQ(checked.size(), 1U);
    EXPECT_EQ(checked.at(0).at("state"), "idle");
    EXPECT_EQ(world.sshd.logins(), 0);
}

// The ssh process answers all the time: it is the server behind it that does not.
TEST_F(Check, TellsADeadPathFromALiveProcess) {
    const std::string id = world.start_id("server-1", kLong);
    const auto check = [this] { return world.rpc().call("check").at("connections").at(0); };
    world.sshd.signal_connections(SIGSTOP);
    const Json degraded = check();
    EXPECT_EQ(degraded.at("state"), "degraded");
    EXPECT_EQ(degraded.at("probes").at("failed"), 1);
    EXPECT_TRUE(degraded.at("last_error").is_object());
    EXPECT_EQ(world.list(), Words{id}) << "answers without the server";
    world.sshd.signal_connections(SIGCONT);
    ASSERT_TRUE(wait_until([&] { return check().at("state") == "up"; }));
    EXPECT_EQ(world.session(id).at("state"), "running");
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Check, TellsAStoppedProcess) {
    const Json started = world.start("server-1", kLong);
    const pid_t master = started.at("connection").at("master_pid");
    ASSERT_EQ(::kill(master, SIGSTOP), 0);
    EXPECT_EQ(world.rpc().call("check").at("connections").at(0).at("state"), "degraded");
    ASSERT_EQ(::kill(master, SIGCONT), 0);
    ASSERT_TRUE(wait_until([&] { return world.rpc().call("check").at("connections").at(0).at("state") == "up"; }));
}

}  // namespace
}  // namespace cmssh::test
