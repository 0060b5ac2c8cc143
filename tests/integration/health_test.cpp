// What a connection does when its master, its path or its server goes, and comes back. After each test there is one
// ssh process for each connection, and nothing else.
#include <gmock/gmock.h>

#include <signal.h>

#include <algorithm>
#include <cstdio>

#include "tests/support/measure.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const Words kLong = {"sleep", "1000"};

std::string pool_config(const std::string& more) {
    return "[pool]\nhealth_timeout = \"300ms\"\nbackoff_initial = \"200ms\"\n" + more;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

class Health : public ::testing::Test {
protected:
    explicit Health(const std::string& config = "health_interval = \"1h\"\n")
        : world(servers(1), pool_config(config)) {}

    // A session and the master that carries it.
    void bring_up() {
        const Json started = world.start("server-1", kLong);
        session = started.at("session").at("id");
        master = started.at("connection").at("master_pid");
    }
    void expect_one_master() {
        EXPECT_TRUE(wait_until([this] { return world.daemon.ssh_processes().size() == 1; }));
        EXPECT_THAT(world.daemon.ssh_processes(), ElementsAre(world.connection(key).at("master_pid").get<pid_t>()));
        EXPECT_EQ(world.daemon.control_sockets().size(), 1U);
        EXPECT_EQ(world.stats().at("total_connections"), 1);
    }
    void expect_no_master() {
        EXPECT_TRUE(wait_until([this] { return world.daemon.ssh_processes().empty(); }));
        EXPECT_THAT(world.daemon.control_sockets(), IsEmpty());
        EXPECT_EQ(world.stats().at("total_connections"), 0);
    }
    // The session that was there before runs on, on another master.
    void expect_replaced() {
        EXPECT_TRUE(world.connection_becomes(key, "up"));
        EXPECT_TRUE(world.becomes(session, "running"));
        const Json connection = world.connection(key);
        EXPECT_NE(connection.at("master_pid"), master);
        EXPECT_EQ(connection.at("reconnects"), 1);
        EXPECT_EQ(world.tmux_sessions(1), Words{session});
        EXPECT_EQ(world.sshd.logins(), 2);
        EXPECT_TRUE(wait_until([this] { return !alive(master); }));
        expect_one_master();
        const std::string another = world.start_id("server-1", kLong);
        EXPECT_EQ(world.session(another).at("state"), "running");
    }

    World world;
    const std::string key = world.key("127.0.0.1");
    std::string session;
    pid_t master = 0;
};

class FastHealth : public Health {
protected:
    FastHealth() : Health("health_interval = \"300ms\"\n") {}
};

TEST_F(Health, AKilledMasterIsNoticedAtOnceAndReplaced) {
    bring_up();
    const auto killed = std::chrono::steady_clock::now();
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(wait_until([this] { return world.connection(key).at("master_pid") != master; }));
    const double noticed = seconds_since(killed);
    ASSERT_TRUE(wait_until([this] { return world.connection(key).at("state") == "up"; }));
    const double up = seconds_since(killed);
    std::printf("killed master: noticed after %.0f ms, up again after %.0f ms\n", noticed * 1e3, up * 1e3);
    EXPECT_LT(noticed, 1.0);
    expect_replaced();
}

TEST_F(FastHealth, AStoppedMasterIsReplaced) {
    bring_up();
    const auto stopped = std::chrono::steady_clock::now();
    ASSERT_EQ(::kill(master, SIGSTOP), 0);
    ASSERT_TRUE(world.connection_becomes(key, "degraded"));
    // What the daemon knows waits for nobody.
    Latencies latencies;
    ASSERT_TRUE(wait_until([&] {
        bool replaced = false;
        latencies.measure([&] { replaced = world.connection(key).at("master_pid") != master; });
        latencies.measure([&] { EXPECT_THAT(world.list(), ElementsAre(session)); });
        return replaced;
    }));
    latencies.expect_below(50ms);
    std::printf("stopped master: given up after %.0f ms\n", seconds_since(stopped) * 1e3);
    expect_replaced();
}

// By somebody's hand: on purpose or not, the sessions need one.
TEST_F(Health, AMasterThatIsToldToEndIsReplacedWhileItIsNeeded) {
    bring_up();
    int logins = 1;
    for (const bool politely : {false, true}) {
        SCOPED_TRACE(politely);
        const Json before = world.connection(key);
        const pid_t old = before.at("master_pid");
        if (politely) {
            const Finished told =
                run({"ssh", "-F", world.sshd.ssh_config(), "-O", "exit", "-S", before.at("control_path"), "server-1"});
            EXPECT_EQ(told.status.code, 0) << told.errors;
        } else {
            ASSERT_EQ(::kill(old, SIGTERM), 0);
        }
        ASSERT_TRUE(wait_until([&] {
            const Json now = world.connection(key);
            return now.at("state") == "up" && now.at("master_pid") != old;
        }));
        EXPECT_TRUE(world.becomes(session, "running"));
        EXPECT_EQ(world.sshd.logins(), ++logins);
        EXPECT_FALSE(alive(old));
        expect_one_master();
    }
    world.rpc().call("kill", {{"session", session}});
    ASSERT_EQ(world.connection(key).at("refs"), 0);
    ASSERT_EQ(::kill(world.connection(key).at("master_pid").get<pid_t>(), SIGTERM), 0);
    EXPECT_TRUE(world.connection_becomes(key, "idle"));
    expect_no_master();
    EXPECT_EQ(world.sshd.logins(), logins) << "nobody needs one";
}

TEST_F(FastHealth, ADeadPathIsReplacedWhileItsProcessIsFine) {
    bring_up();
    world.sshd.signal_connections(SIGSTOP);
    const auto cut = std::chrono::steady_clock::now();
    ASSERT_TRUE(wait_until([this] { return world.session(session).at("state") == "unreachable"; }));
    std::printf("dead path: given up after %.0f ms\n", seconds_since(cut) * 1e3);
    expect_replaced();
    world.sshd.signal_connections(SIGCONT);
}

// Who is on the old master stays there, and it goes with them.
TEST_F(FastHealth, ALeaseKeepsTheMasterThatStepsAside) {
    bring_up();
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}});
    world.sshd.signal_connections(SIGSTOP);
    ASSERT_TRUE(wait_until([this] {
        const Json connection = world.connection(key);
        return connection.at("state") == "up" && connection.at("master_pid") != master;
    }));
    EXPECT_EQ(world.connection(key).at("leases"), 1);
    EXPECT_TRUE(alive(master));
    EXPECT_EQ(world.daemon.control_sockets().size(), 1U);
    EXPECT_EQ(world.stats().at("total_connections"), 1);
    world.rpc().call("release", {{"lease", lease.at("lease")}});
    EXPECT_EQ(world.connection(key).at("leases"), 0);
    EXPECT_TRUE(wait_until([this] { return !alive(master); }));
    world.sshd.signal_connections(SIGCONT);
    EXPECT_TRUE(world.becomes(session, "running"));
    expect_one_master();
}

class PatientHealth : public Health {
protected:
    PatientHealth() : Health("health_interval = \"300ms\"\nunhealthy_after = 100\n") {}
};

TEST_F(PatientHealth, APathThatComesBackKeepsItsMaster) {
    bring_up();
    world.sshd.signal_connections(SIGSTOP);
    ASSERT_TRUE(world.connection_becomes(key, "degraded"));
    EXPECT_EQ(world.session(session).at("state"), "running");
    world.sshd.signal_connections(SIGCONT);
    ASSERT_TRUE(world.connection_becomes(key, "up"));
    EXPECT_EQ(world.connection(key).at("master_pid"), master);
    EXPECT_EQ(world.sshd.logins(), 1);
    expect_one_master();
}

TEST_F(FastHealth, IsMeasuredWithoutAProcess) {
    bring_up();
    ASSERT_TRUE(wait_until([this] { return world.connection(key).at("probes").at("ok") >= 5; }));
    const Json connection = world.connection(key);
    EXPECT_EQ(connection.at("probes").at("failed"), 0);
    EXPECT_GT(connection.at("rtt_ms").at("p50"), 0.0);
    EXPECT_LE(connection.at("rtt_ms").at("p50"), connection.at("rtt_ms").at("p95"));
    EXPECT_EQ(connection.at("channels").at("used"), 1);
    expect_one_master();
}

TEST_F(Health, AServerThatIsAwayIsTriedUntilItIsBack) {
    bring_up();
    world.sshd.stop();
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(wait_until([this] {
        const Json connection = world.connection(key);
        return connection.at("state") == "backoff" && connection.at("last_error").at("kind") == "connect_refused";
    }));
    EXPECT_TRUE(world.connection(key).at("retry_at").is_string());
    EXPECT_EQ(world.session(session).at("state"), "unreachable");
    EXPECT_THAT(world.list(), ElementsAre(session));
    EXPECT_EQ(world.stats().at("total_connections"), 0);
    // Asked for, it is tried now, and the answer is that attempt's.
    const Json refusal = world.rpc().refusal("connect", {{"ctx", "server-1"}});
    EXPECT_EQ(refusal.at("data").at("kind"), "connect_refused");
    world.sshd.start();
    expect_replaced();
}

TEST_F(Health, AnAccountThatLetsNobodyInIsNotTriedAgain) {
    bring_up();
    const std::string keys = world.sshd.user_key() + ".pub";
    write_file(keys, "");
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(world.connection_becomes(key, "failed"));
    const Json connection = world.connection(key);
    EXPECT_EQ(connection.at("last_error").at("kind"), "auth_failed");
    EXPECT_TRUE(connection.at("retry_at").is_null());
    EXPECT_EQ(world.session(session).at("state"), "unreachable");
    expect_no_master();
    // Longer than every delay there could be by now. Nothing is to come, so nothing can be waited for.
    const auto attempts = [this] {
        const std::string log = world.sshd.log();
        std::size_t count = 0;
        for (auto at = log.find("Connection closed by authenticating user"); at != std::string::npos;
             at = log.find("Connection closed by authenticating user", at + 1)) {
            ++count;
        }
        return count;
    };
    EXPECT_FALSE(wait_until([&] { return attempts() > 1; }, in(1500ms)));
    EXPECT_EQ(world.connection(key).at("state"), "failed");
    // The next daemon does not try it either, and says why.
    world.daemon.crash();
    world.start_daemon();
    EXPECT_TRUE(world.connection_becomes(key, "failed"));
    EXPECT_EQ(world.connection(key).at("last_error"), connection.at("last_error"));
    EXPECT_EQ(attempts(), 1U);
}

// The path is there, and nothing can be said of any session.
TEST_F(FastHealth, ATmuxThatDoesNotAnswerIsShown) {
    bring_up();
    const pid_t tmux = std::stoi(world.tmux(1, {"display-message", "-p", "#{pid}"}).output);
    ASSERT_EQ(::kill(tmux, SIGSTOP), 0);
    ASSERT_TRUE(wait_until([this] {
        const Json connection = world.connection(key);
        return connection.at("state") == "degraded" && connection.at("master_pid") != master &&
               connection.at("last_error").at("kind") == "timeout";
    }));
    EXPECT_EQ(world.session(session).at("state"), "unreachable");
    const int logins = world.sshd.logins();
    const auto ok = world.connection(key).at("probes").at("ok").get<int>();
    ASSERT_TRUE(wait_until([&] { return world.connection(key).at("probes").at("ok").get<int>() > ok + 5; }));
    EXPECT_EQ(world.connection(key).at("state"), "degraded");
    EXPECT_EQ(world.sshd.logins(), logins) << "a new connection would not mend it";
    ASSERT_EQ(::kill(tmux, SIGCONT), 0);
    EXPECT_TRUE(world.connection_becomes(key, "up"));
    EXPECT_TRUE(world.becomes(session, "running"));
}

// For so short that no probe notices it.
TEST_F(Health, AKillThatATmuxDidNotAnswerIsCarriedOutOnceItDoes) {
    bring_up();
    const pid_t tmux = std::stoi(world.tmux(1, {"display-message", "-p", "#{pid}"}).output);
    ASSERT_EQ(::kill(tmux, SIGSTOP), 0);
    const Json killed = world.rpc().call("kill", {{"session", session}});
    EXPECT_EQ(killed.at("pending"), true);
    EXPECT_EQ(world.connection(key).at("state"), "up");
    ASSERT_EQ(::kill(tmux, SIGCONT), 0);
    EXPECT_TRUE(world.becomes(session, "killed"));
    EXPECT_EQ(world.tmux_sessions(1), Words{});
}

TEST_F(Health, ADisconnectDuringTheBackoffEndsIt) {
    bring_up();
    world.sshd.stop();
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(world.connection_becomes(key, "backoff"));
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    world.sshd.start();
    EXPECT_EQ(world.connection(key).at("state"), "idle");
    EXPECT_TRUE(world.connection(key).at("retry_at").is_null());
    expect_no_master();
    EXPECT_EQ(world.sshd.logins(), 1);
}

// New work does not wait for a lease on the master that is drained.
TEST_F(Health, ADrainedMasterMakesWay) {
    bring_up();
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}});
    ASSERT_EQ(world.connection(key).at("leases"), 1);
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    Process user({"ssh", "-F", world.sshd.ssh_config(), "-S", world.connection(key).at("control_path"), "-o",
                  "ProxyCommand=false", "server-1", "echo in; sleep 1000"},
                 spawn);
    ASSERT_TRUE(wait_until([&] { return user.output() == "in\n"; })) << user.errors();
    RpcClient drainer(world.daemon.socket_path());
    const int draining = drainer.send("disconnect", {{"ctx", "server-1"}});
    ASSERT_TRUE(world.connection_becomes(key, "draining"));
    const Json started = world.start("server-1", kLong);
    EXPECT_EQ(started.at("reused"), false);
    EXPECT_TRUE(alive(master));
    EXPECT_TRUE(user.running());
    EXPECT_EQ(world.daemon.control_sockets().size(), 1U);
    world.rpc().call("release", {{"lease", lease.at("lease")}});
    EXPECT_TRUE(drainer.reply(draining).contains("result"));
    EXPECT_TRUE(wait_until([this] { return !alive(master); }));
    EXPECT_EQ(world.connection(key).at("master_pid"), started.at("connection").at("master_pid"));
    EXPECT_TRUE(world.becomes(session, "running"));
    expect_one_master();
}

TEST_F(FastHealth, StoppingDuringAReplacementLeavesNothingBehind) {
    bring_up();
    world.sshd.signal_connections(SIGSTOP);
    ASSERT_TRUE(wait_until([this] { return world.connection(key).at("master_pid") != master; }));
    world.daemon.stop();
    EXPECT_TRUE(wait_until([this] { return !alive(master); }));
}

// ssh has a process for the way over another host, on that one's master; it goes with its own, however that ends.
class HealthByJump : public ::testing::Test {
protected:
    HealthByJump() : world(servers(2), pool_config("health_interval = \"300ms\"\n")) {
        world.sshd.add_ssh_config("Host far\n    HostName 127.0.0.2\n    ProxyJump server-1\n");
    }
    void expect_replaced_after(int signal) {
        const Json started = world.start("far", kLong);
        const std::string key = started.at("connection").at("server").at("key");
        const pid_t master = started.at("connection").at("master_pid");
        const pid_t hop = world.connection(world.key("127.0.0.1")).at("master_pid");
        std::vector<pid_t> old = world.daemon.ssh_processes();
        ASSERT_EQ(std::erase(old, hop), 1U);
        ASSERT_EQ(old.size(), 2U);
        ASSERT_EQ(::kill(master, signal), 0);
        ASSERT_TRUE(wait_until([&] {
            const Json connection = world.connection(key);
            return connection.at("state") == "up" && connection.at("master_pid") != master;
        }));
        EXPECT_TRUE(wait_until([&] { return std::none_of(old.begin(), old.end(), alive); }));
        EXPECT_EQ(world.daemon.ssh_processes().size(), 3U);
        EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("master_pid"), hop);
        EXPECT_TRUE(world.becomes(started.at("session").at("id"), "running"));
    }

    World world;
};

TEST_F(HealthByJump, LeavesNothingOfAKilledMaster) {
    expect_replaced_after(SIGKILL);
}

TEST_F(HealthByJump, LeavesNothingOfAStoppedMaster) {
    expect_replaced_after(SIGSTOP);
}

// An earlier daemon's master that does not answer is in nobody's way.
TEST_F(Health, AStoppedMasterOfAnEarlierDaemonIsReplaced) {
    bring_up();
    world.daemon.crash();
    ASSERT_EQ(::kill(master, SIGSTOP), 0);
    world.start_daemon();
    ASSERT_TRUE(wait_until([this] {
        try {
            world.rpc().call("connect", {{"ctx", "server-1"}});
            return true;
        } catch (const RpcFailure&) {
            return false;
        }
    }));
    EXPECT_FALSE(alive(master));
    EXPECT_NE(world.connection(key).at("master_pid"), master);
    expect_one_master();
}

}  // namespace
}  // namespace cmssh::test
