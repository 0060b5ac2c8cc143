// What lies between us and a server: packets that are lost, all or some of them, and a server that takes no more
// connections.
#include <gmock/gmock.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>

#include "tests/support/lossy_path.hpp"
#include "tests/support/measure.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;

const Words kLong = {"sleep", "1000"};

// far: server-1, over a path that can lose packets.
class Path : public ::testing::Test {
protected:
    explicit Path(const std::string& pool = {})
        : world(servers(1), "[pool]\nbackoff_initial = \"200ms\"\nbackoff_max = \"500ms\"\n" + pool),
          path(world.sshd.port()),
          key(own_user() + "@127.0.0.1:" + std::to_string(path.port())) {
        world.sshd.add_ssh_config("Host far\n    HostName 127.0.0.1\n    Port " + std::to_string(path.port()) + '\n');
    }

    World world;
    LossyPath path;
    const std::string key;
};

class BlackHole : public Path {
protected:
    BlackHole() : Path("connect_timeout = \"2s\"\nhealth_interval = \"300ms\"\nhealth_timeout = \"500ms\"\n") {}
};

// Nothing arrives any more, in either direction, and nobody says so.
TEST_F(BlackHole, IsNoticedInTimeWithoutAStormAndWaitedOut) {
    const Json started = world.start("far", kLong);
    const std::string id = started.at("session").at("id");
    const pid_t master = started.at("connection").at("master_pid");
    const std::string honest = world.start_id("server-1", kLong);
    path.lose(100);
    const auto cut = std::chrono::steady_clock::now();
    ASSERT_TRUE(world.becomes(id, "unreachable"));
    const std::chrono::duration<double> noticed = std::chrono::steady_clock::now() - cut;
    std::printf("black hole: noticed after %.1f s\n", noticed.count());
    // Two probes, each an interval after the one before, and the last one's timeout.
    EXPECT_LT(noticed.count(), kSanitized ? 10.0 : 3.0);
    const Json last = world.session(id);
    const std::string probed_at = world.connection(key).at("probes").at("last_at");
    // A few attempts, one at a time; the old master goes when it is proven dead.
    std::set<pid_t> attempts;
    Latencies latencies;
    std::size_t most = 0;
    const auto failed_for_good = [&] {
        const Json connection = world.connection(key);
        return connection.at("state") == "backoff" && connection.at("last_error").at("kind") == "connect_timeout";
    };
    constexpr std::size_t kAttempts = 2;
    ASSERT_TRUE(wait_until([&] {
        const auto processes = world.daemon.ssh_processes();
        most = std::max(most, processes.size());
        attempts.insert(processes.begin(), processes.end());
        latencies.measure([&] { EXPECT_EQ(world.list().size(), 2U); });
        latencies.measure([&] { EXPECT_EQ(world.session(honest).at("state"), "running"); });
        return attempts.size() >= kAttempts + 2 && failed_for_good();
    }));
    latencies.expect_below(50ms);
    EXPECT_LE(most, 3U) << "one for the other server, the old master, and one attempt";
    EXPECT_EQ(world.session(id).at("as_of"), last.at("as_of")) << "what is said of it is as old as it is";
    EXPECT_EQ(world.connection(key).at("probes").at("last_at"), probed_at);
    EXPECT_EQ(world.connection(key).at("reconnects"), 0);
    EXPECT_EQ(path.connections(), 1);
    path.lose(0);
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_TRUE(wait_until([&] { return !alive(master); }));
    EXPECT_EQ(world.connection(key).at("reconnects"), 1);
    EXPECT_EQ(world.connection(key).at("handshakes"), 2);
    EXPECT_EQ(world.stats().at("total_connections"), 2);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("handshakes"), 1) << "the other server's has noticed nothing";
    EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes().size() == 2; }));
}

// TCP sends again what was lost, and waits twice as long each time: it is slow, and it is a connection.
class Loss : public Path {
protected:
    // A silence of 20 s is one too many, as it is with the usual settings: there is none of it by mere chance.
    Loss() : Path("health_timeout = \"10s\"\n") {}
};

TEST_F(Loss, OfThirtyPacketsInAHundredIsNoOutage) {
    const Json started = world.start("far", kLong);
    const std::string id = started.at("session").at("id");
    RpcClient watcher(world.daemon.socket_path());
    watcher.call("subscribe");
    path.lose(30);
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(world.rpc().call("exec", {{"ctx", "far"}, {"command", {"echo", "word"}}}).at("stdout"), "word\n");
    constexpr int kProbes = 15;
    for (int i = 0; i < kProbes; ++i) {
        world.rpc().call("check", {{"ctx", "far"}});
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const Json connection = world.connection(key);
    std::printf("an exec and %d probes in %.1f s, round trips %s, %u packets lost\n", kProbes, took.count(),
                connection.at("rtt_ms").dump().c_str(), path.lost());
    EXPECT_GT(path.lost(), 5U);
    EXPECT_EQ(connection.at("master_pid"), started.at("connection").at("master_pid"));
    EXPECT_EQ(connection.at("reconnects"), 0);
    EXPECT_EQ(world.session(id).at("state"), "running");
    watcher.call("ping");
    int degraded = 0;
    for (const Json& event : watcher.notifications()) {
        const Json& told = event.at("params");
        EXPECT_NE(told.at("type"), "session.unreachable") << event;
        degraded += told.contains("connection") && told.at("connection").at("state") == "degraded" ? 1 : 0;
    }
    EXPECT_LE(degraded, 1) << "it flaps";
    path.lose(0);
    EXPECT_TRUE(world.connection_becomes(key, "up"));
    EXPECT_EQ(world.sshd.logins(), 1);
}

// RST, to the master and to sshd, in mid-connection.
TEST_F(Path, ThatIsResetIsSeenAtOnce) {
    const Json started = world.start("far", kLong);
    const std::string id = started.at("session").at("id");
    const pid_t master = started.at("connection").at("master_pid");
    path.reset();
    ASSERT_TRUE(wait_until([&] { return world.connection(key).at("reconnects") == 1; }));
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_FALSE(alive(master));
    EXPECT_EQ(path.connections(), 2);
    EXPECT_EQ(world.connection(key).at("probes").at("failed"), 0);
    EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes().size() == 1; }));
}

// A machine without any network, for the daemon and what it starts.
TEST(NoNetwork, IsAnErrorThatSaysSo) {
    if (::geteuid() != 0 || run({"unshare", "-n", "true"}).status.code != 0) {
        GTEST_SKIP() << "no network namespace can be made";
    }
    World world(servers(1));
    world.daemon.stop();
    world.daemon.start_by({"unshare", "-n"});
    world.start_daemon();
    const Json error = world.rpc().refusal("start", {{"ctx", "server-1"}, {"command", kLong}});
    EXPECT_EQ(error.at("data").at("kind"), "connect_failed") << error;
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("Network is unreachable"));
    EXPECT_TRUE(world.list().empty());
    EXPECT_EQ(world.stats().at("total_connections"), 0);
    EXPECT_TRUE(world.daemon.ssh_processes().empty());
}

// A connection to sshd that never logs in.
class IdleConnection {
public:
    explicit IdleConnection(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(static_cast<std::uint16_t>(port));
        char byte = 0;
        // sshd's greeting: it counts from then on.
        if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
            ::read(fd_.get(), &byte, 1) != 1) {
            throw std::runtime_error("no sshd answers");
        }
    }

private:
    UniqueFd fd_;
};

TEST(MaxStartups, ThatAreReachedAreAnErrorAndWaitedOutByWhatWasUp) {
    SshdOptions options = servers(2);
    options.config = "MaxStartups 1";
    World world(options, "[pool]\nbackoff_initial = \"100ms\"\nbackoff_max = \"300ms\"\n");
    const std::string id = world.start_id("server-1", kLong);
    std::optional<IdleConnection> idle(world.sshd.port());
    const Json error = world.rpc().refusal("start", {{"ctx", "server-2"}, {"command", kLong}});
    EXPECT_EQ(error.at("data").at("kind"), "connect_failed") << error;
    EXPECT_NE(error.at("data").value("hint", ""), "") << error;
    EXPECT_NE(error.at("data").value("ssh_stderr", ""), "") << error;
    const std::string key = world.key("127.0.0.1");
    ASSERT_EQ(::kill(world.connection(key).at("master_pid").get<pid_t>(), SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] {
        const Json connection = world.connection(key);
        return connection.at("state") == "backoff" && connection.at("last_error").at("kind") == "connect_failed";
    }));
    EXPECT_LE(world.daemon.ssh_processes().size(), 1U) << "one attempt at a time";
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    idle.reset();
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_EQ(world.start("server-2", kLong).at("session").at("state"), "running");
    EXPECT_EQ(world.sshd.logins(), 3);
}

}  // namespace
}  // namespace cmssh::test
