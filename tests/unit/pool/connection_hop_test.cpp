// Connections that are reached over others, with a fake launcher and clock.
#include <gmock/gmock.h>

#include <map>

#include "daemon/pool/connection.hpp"
#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using fakes::FakeMaster;
using State = api::ConnectionState;
using Lease = Connection::Lease;

class SilentObserver final : public ConnectionObserver {
public:
    void on_reachable(Connection& /*connection*/) override {}
    void on_unreachable(Connection& /*connection*/) override {}
    void on_notification(Connection& /*connection*/, const tmux::Notification& /*notification*/) override {}
};

class ConnectionHopTest : public ::testing::Test {
protected:
    ~ConnectionHopTest() override {
        for (std::size_t i = 0; i < launcher_.count(); ++i) {
            if (!launcher_.login(i).outcome) {
                launcher_.fail(i, ErrorKind::ConnectFailed, "the test is over");
            }
        }
        for (const auto& [host, connection] : connections_) {
            connection->request_stop();
        }
        for (const auto& [host, connection] : connections_) {
            loop_.run(connection->shut_down());
        }
    }

    // via: as ssh -G gives ProxyJump.
    Connection& add(const std::string& host, const std::string& via = {}) {
        ServerKey key;
        key.user = "u";
        key.host = host;
        key.via = via;
        auto& connection = connections_[host];
        connection = std::make_unique<Connection>(services_, key, "/run/" + host, false);
        SshRoute route;
        route.destination.host = host;
        SshConfigDump dump;
        dump.proxyjump = via;
        connection->set_route(route, dump);
        return *connection;
    }
    fakes::Outcome<Result<Connection::Ready>> want_up(Connection& connection) {
        Connection::Want want;
        want.tmux = false;
        return loop_.start(connection.ensure_up(std::move(want)));
    }
    std::shared_ptr<FakeMaster> succeed(std::size_t index) {
        auto master = launcher_.succeed(index);
        loop_.run_ready();
        return master;
    }
    [[nodiscard]] std::string launched(std::size_t index) const { return launcher_.login(index).request.key.host; }

    fakes::TestLoop loop_;
    Config config_;
    fakes::FakeLauncher launcher_{loop_.clock()};
    ConnectSlots slots_{loop_.clock(), config_.pool.max_concurrent_connects};
    SilentObserver observer_;
    std::map<std::string, std::unique_ptr<Connection>> connections_;
    // Not a coroutine itself: nothing of it is captured.
    asio::awaitable<Result<ConnectionUse>> find(SshRoute route) {
        co_return ConnectionUse(*connections_.at(route.destination.host));
    }
    ConnectionServices services_{.executor = loop_.executor(),
                                 .clock = loop_.clock(),
                                 .config = config_,
                                 .launcher = launcher_,
                                 .slots = slots_,
                                 .observer = observer_,
                                 .owner = "me",
                                 .unit_random = [] { return 0.5; },
                                 .find_hop = [this](SshRoute route) { return find(std::move(route)); }};
};

TEST_F(ConnectionHopTest, TheHopIsUpFirstAndHeldWhileTheMasterLives) {
    Connection& hop = add("hop");
    Connection& server = add("server", "hop");
    const auto up = want_up(server);
    ASSERT_EQ(launcher_.count(), 1U);
    EXPECT_EQ(launched(0), "hop");
    EXPECT_FALSE(launcher_.login(0).request.hop);
    succeed(0);
    ASSERT_EQ(launcher_.count(), 2U);
    EXPECT_EQ(launched(1), "server");
    ASSERT_TRUE(launcher_.login(1).request.hop);
    EXPECT_EQ(launcher_.login(1).request.hop->control_path, "/run/hop");
    const auto master = succeed(1);
    ASSERT_TRUE(up.done() && *up);
    EXPECT_EQ(hop.refs(), 1);
    EXPECT_EQ(hop.describe().channels.used, 0) << "a stream is no session";
    EXPECT_TRUE(loop_.run(server.disconnect(true, loop_.now() + 1h)));
    EXPECT_EQ(hop.refs(), 0);
}

TEST_F(ConnectionHopTest, ALoginThatWaitsForItsHopHoldsNoSlot) {
    config_.pool.max_concurrent_connects = 1;
    add("hop");
    const auto up = want_up(add("server", "hop"));
    ASSERT_EQ(launcher_.count(), 1U);
    succeed(0);
    ASSERT_EQ(launcher_.count(), 2U);
    succeed(1);
    EXPECT_TRUE(up.done() && *up);
}

TEST_F(ConnectionHopTest, AHopThatFailsIsNamedAndNoLoginIsTried) {
    add("hop");
    const auto up = want_up(add("server", "hop"));
    launcher_.fail(0, ErrorKind::HostKeyChanged, "someone is in between");
    loop_.run_ready();
    ASSERT_TRUE(up.done() && !*up);
    EXPECT_EQ(up->error().kind, ErrorKind::HostKeyChanged);
    EXPECT_EQ(up->error().server, "u@hop:22");
    EXPECT_EQ(up->error().message, "the hop u@hop:22 on the way to u@server:22 via hop: someone is in between");
    EXPECT_EQ(launcher_.count(), 1U);
}

TEST_F(ConnectionHopTest, AHopThatIsLostDuringTheLoginIsNamed) {
    add("hop");
    const auto up = want_up(add("server", "hop"));
    const auto master = succeed(0);
    ASSERT_EQ(launcher_.count(), 2U);
    master->die();
    loop_.run_ready();
    launcher_.fail(1, ErrorKind::ConnectFailed, "closed by UNKNOWN");
    loop_.run_ready();
    ASSERT_TRUE(up.done() && !*up);
    EXPECT_EQ(up->error().kind, ErrorKind::MasterLost);
    EXPECT_EQ(up->error().server, "u@hop:22");
}

TEST_F(ConnectionHopTest, AWayThatLeadsBackIsRefused) {
    Connection& one = add("one", "two");
    Connection& two = add("two", "three");
    add("three", "one");
    const auto first = want_up(one);
    ASSERT_TRUE(first.done() && !*first);
    EXPECT_EQ(first->error().kind, ErrorKind::ConnectFailed);
    EXPECT_EQ(launcher_.count(), 0U);
    EXPECT_EQ(one.refs() + two.refs(), 0);
    const auto itself = want_up(add("self", "self"));
    EXPECT_TRUE(itself.done() && !*itself);
}

TEST_F(ConnectionHopTest, WithoutATmuxUntilSomebodyWantsOne) {
    Connection& server = add("server");
    const auto up = want_up(server);
    succeed(0);
    ASSERT_TRUE(up.done() && *up);
    EXPECT_EQ(server.tmux(), nullptr);
    const auto tmux = loop_.start(server.ensure_tmux({}));
    ASSERT_TRUE(tmux.done() && *tmux);
    EXPECT_NE(server.tmux(), nullptr);
}

TEST_F(ConnectionHopTest, InPassingNothingIsTriedThatFailedLately) {
    Connection& server = add("server");
    EXPECT_FALSE(server.why_not_in_passing(false));
    (void)want_up(server);
    EXPECT_FALSE(server.why_not_in_passing(false)) << "a login under way is waited for";
    launcher_.fail(0, ErrorKind::AuthFailed, "no");
    loop_.run_ready();
    ASSERT_TRUE(server.why_not_in_passing(false));
    EXPECT_FALSE(server.why_not_in_passing(true)) << "a person may answer otherwise";
    loop_.advance(6min);
    EXPECT_FALSE(server.why_not_in_passing(false));
}

}  // namespace
}  // namespace cmssh
