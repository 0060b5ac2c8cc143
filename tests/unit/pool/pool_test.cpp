#include "daemon/pool/pool.hpp"

#include <asio/post.hpp>

#include <gtest/gtest.h>

#include <optional>

#include "daemon/base/task_group.hpp"
#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;

class NoObserver final : public ConnectionObserver {
public:
    void on_reachable(Connection& /*connection*/) override {}
    void on_unreachable(Connection& /*connection*/) override {}
    void on_notification(Connection& /*connection*/, const tmux::Notification& /*notification*/) override {}
};

class PoolTest : public ::testing::Test {
protected:
    ~PoolTest() override { loop_.run(pool_.shut_down()); }

    Result<Connection*> get(const std::string& host) {
        Identity identity;
        identity.key = ServerKey{.user = "u", .host = host};
        return pool_.get(identity, SshRoute{}, false);
    }

    fakes::TestLoop loop_;
    Config config_;
    fakes::FakeLauncher launcher_{loop_.clock()};
    ConnectSlots slots_{loop_.clock(), config_.pool.max_concurrent_connects};
    NoObserver observer_;
    Pool pool_{ConnectionServices{.executor = loop_.executor(),
                                  .clock = loop_.clock(),
                                  .config = config_,
                                  .launcher = launcher_,
                                  .slots = slots_,
                                  .observer = observer_,
                                  .owner = "me",
                                  .unit_random = [] { return 0.5; }},
               "/run/user/1000/cmssh"};
};

TEST_F(PoolTest, OneKeyHasOneConnection) {
    const auto one = get("a");
    ASSERT_TRUE(one);
    EXPECT_EQ(*get("a"), *one);
    EXPECT_NE(*get("b"), *one);
    EXPECT_EQ(pool_.find("u@a:22"), *one);
    EXPECT_EQ(pool_.find("u@c:22"), nullptr);
}

TEST_F(PoolTest, ForgetsOnlyWhatNobodyHoldsOrUses) {
    const auto used = get("used");
    const auto held = get("held");
    const ConnectionUse use(**used);
    const Hold hold(**held, HoldKind::Session);
    for (std::size_t i = 2; i < Pool::kMaxConnections; ++i) {
        ASSERT_TRUE(get("h" + std::to_string(i)));
    }
    loop_.run_ready();
    EXPECT_EQ(pool_.connections().size(), Pool::kMaxConnections);
    ASSERT_TRUE(get("one-more"));
    EXPECT_EQ(pool_.connections().size(), 3U);
    EXPECT_EQ(pool_.find("u@used:22"), *used);
    EXPECT_EQ(pool_.find("u@held:22"), *held);
}

TEST_F(PoolTest, RefusesMoreServersInUseThanItHolds) {
    std::vector<ConnectionUse> uses;
    for (std::size_t i = 0; i < Pool::kMaxConnections; ++i) {
        const auto connection = get("h" + std::to_string(i));
        ASSERT_TRUE(connection);
        uses.emplace_back(**connection);
    }
    const auto refused = get("one-more");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Limit);
}

StoredConnection stored(const std::string& host) {
    StoredConnection one;
    one.key = ServerKey{.user = "u", .host = host};
    one.control_path = "/run/" + host;
    return one;
}

TEST_F(PoolTest, TakesOverAllMastersAtOnceWithoutASlot) {
    constexpr int kMasters = 50;
    config_.pool.max_concurrent_connects = 1;
    launcher_.find_takes = 300ms;
    launcher_.leftover = std::make_shared<fakes::FakeMaster>(loop_.clock(), 77, true);
    std::vector<StoredConnection> all;
    std::vector<Hold> sessions;
    for (int i = 0; i < kMasters; ++i) {
        all.push_back(stored("h" + std::to_string(i)));
        const auto connection = pool_.get(all.back(), false);
        ASSERT_TRUE(connection);
        sessions.emplace_back(**connection, HoldKind::Session);
    }
    const auto restored = loop_.start(pool_.restore(all));
    loop_.advance(300ms);
    ASSERT_TRUE(restored.done());
    for (const auto& [key, connection] : pool_.connections()) {
        EXPECT_TRUE(connection->has_master()) << key;
    }
    EXPECT_EQ(launcher_.count(), 0U);
}

// Knows how many masters had been asked when the first tmux client was.
class WatchedMaster final : public fakes::FakeMaster {
public:
    WatchedMaster(Clock& clock, const fakes::FakeLauncher& launcher)
        : FakeMaster(clock, 77, true), launcher_(launcher) {}

    asio::awaitable<Result<std::unique_ptr<Channel>>> open_channel(std::string command, Instant deadline) override {
        if (channels_asked == 0) {
            asked_before_tmux = launcher_.looked_at.size();
        }
        return FakeMaster::open_channel(std::move(command), deadline);
    }

    std::size_t asked_before_tmux = 0;

private:
    const fakes::FakeLauncher& launcher_;
};

TEST_F(PoolTest, AsksForMastersBetweenOtherThingsAndOpensTmuxBehindAll) {
    constexpr std::size_t kMasters = 50;
    const auto master = std::make_shared<WatchedMaster>(loop_.clock(), launcher_);
    launcher_.leftover = master;
    std::vector<StoredConnection> all;
    std::vector<Hold> sessions;
    for (std::size_t i = 0; i < kMasters; ++i) {
        all.push_back(stored("h" + std::to_string(i)));
        const auto connection = pool_.get(all.back(), false);
        ASSERT_TRUE(connection);
        sessions.emplace_back(**connection, HoldKind::Session);
    }
    TaskGroup tasks(loop_.executor(), loop_.clock());
    tasks.spawn("restore", pool_.restore(all));
    std::optional<std::size_t> asked_meanwhile;
    asio::post(loop_.executor(),
               [&] { asio::post(loop_.executor(), [&] { asked_meanwhile = launcher_.looked_at.size(); }); });
    loop_.run_ready();
    EXPECT_LT(asked_meanwhile, kMasters);
    EXPECT_EQ(launcher_.looked_at.size(), kMasters);
    EXPECT_GE(master->asked_before_tmux, kMasters - 16) << "the last few have their turn by then";
    EXPECT_EQ(master->channels_asked, static_cast<int>(kMasters));
}

TEST_F(PoolTest, ForgetsWhatCannotBeTakenOverAndIsNotNeeded) {
    ASSERT_TRUE(pool_.get(stored("unneeded"), false));
    const auto needed = pool_.get(stored("needed"), false);
    ASSERT_TRUE(needed);
    ASSERT_TRUE(pool_.get(stored("pinned"), true));
    {
        const Hold session(**needed, HoldKind::Session);
        loop_.run(pool_.restore({stored("unneeded"), stored("needed"), stored("pinned"), stored("unknown")}));
        EXPECT_EQ(pool_.find("u@unneeded:22"), nullptr);
        EXPECT_EQ(pool_.find("u@needed:22"), *needed);
        EXPECT_NE(pool_.find("u@pinned:22"), nullptr);
        loop_.advance(1s);
        EXPECT_EQ(launcher_.count(), 2U);
    }
    for (std::size_t i = 0; i < launcher_.count(); ++i) {
        launcher_.fail(i, ErrorKind::ConnectFailed, "the test is over");
    }
}

class Unreached : public PoolTest {
protected:
    void fail(const std::string& host, ErrorKind kind) {
        const auto done = loop_.start((*get(host))->ensure_tmux({}));
        loop_.run_ready();
        launcher_.fail(launcher_.count() - 1, kind, "no");
        loop_.run_ready();
        EXPECT_TRUE(done.done());
    }
    [[nodiscard]] bool known(const std::string& host) { return pool_.find("u@" + host + ":22") != nullptr; }
};

TEST_F(Unreached, IsForgottenAfterAWhile) {
    const int idle = loop_.clock().timers();
    fail("typo", ErrorKind::DnsFailure);
    fail("locked", ErrorKind::NeedsAuth);
    loop_.advance(Pool::kUnreachedKept - 1s);
    EXPECT_TRUE(known("typo"));
    EXPECT_EQ(pool_.find("u@typo:22")->describe().last_error->kind, "dns_failure");
    fail("locked", ErrorKind::AuthFailed);
    loop_.advance(2s);
    EXPECT_FALSE(known("typo"));
    EXPECT_TRUE(known("locked")) << "it was asked for since";
    loop_.advance(Pool::kUnreachedKept);
    EXPECT_FALSE(known("locked"));
    EXPECT_EQ(loop_.clock().timers(), idle) << "nothing is left to be waited for";
    fail("later", ErrorKind::ConnectRefused);
    loop_.advance(Pool::kUnreachedKept + 1s);
    EXPECT_FALSE(known("later"));
}

TEST_F(Unreached, IsKeptWhereItIsConfiguredOrUsedOrWasReached) {
    fail("configured", ErrorKind::ConnectTimeout);
    pool_.find("u@configured:22")->set_configured();
    fail("used", ErrorKind::ConnectTimeout);
    auto use = std::make_optional<ConnectionUse>(*pool_.find("u@used:22"));
    const auto up = loop_.start((*get("reached"))->ensure_tmux({}));
    auto master = launcher_.succeed(launcher_.count() - 1);
    loop_.run_ready();
    ASSERT_TRUE(up.done());
    master->die();
    loop_.run_ready();
    fail("reached", ErrorKind::ConnectTimeout);
    loop_.advance(3 * Pool::kUnreachedKept);
    EXPECT_TRUE(known("configured"));
    EXPECT_TRUE(known("used"));
    EXPECT_TRUE(known("reached"));
    use.reset();
    loop_.advance(1min);
    EXPECT_FALSE(known("used"));
}

class WakeUp : public PoolTest {
protected:
    std::shared_ptr<fakes::FakeMaster> bring_up(const std::string& host) {
        const auto up = loop_.start((*get(host))->ensure_tmux({}));
        auto master = launcher_.succeed(launcher_.count() - 1);
        loop_.run_ready();
        EXPECT_TRUE(up.done() && *up);
        return master;
    }
};

TEST_F(WakeUp, ProbesAllAtOnce) {
    config_.pool.health_interval = 1h;
    const auto one = bring_up("a");
    const auto other = bring_up("b");
    loop_.advance(1min);
    EXPECT_EQ(one->checks, 0);
    loop_.clock().sleep(1900ms);
    loop_.advance(5s);
    EXPECT_EQ(one->checks, 0) << "that was no sleep";
    loop_.clock().sleep(8h);
    loop_.advance(5s);
    EXPECT_EQ(one->checks, 1);
    EXPECT_EQ(other->checks, 1);
    loop_.advance(1min);
    EXPECT_EQ(one->checks, 1);
}

TEST_F(WakeUp, RetriesSoonWhatWasGivenUpForLong) {
    const auto master = bring_up("a");
    const Hold session(**get("a"), HoldKind::Session);
    master->die();
    loop_.run_ready();
    for (std::size_t i = 1; i <= 8; ++i) {
        loop_.advance(60s);
        ASSERT_EQ(launcher_.count(), i + 1);
        launcher_.fail(i, ErrorKind::ConnectTimeout, "no network");
        loop_.run_ready();
    }
    loop_.clock().sleep(8h);
    loop_.advance(5s + 250ms);
    ASSERT_EQ(launcher_.count(), 10U);
    launcher_.fail(9, ErrorKind::ConnectTimeout, "the test is over");
}

TEST_F(WakeUp, IsWaitedForOnlyWhileThereIsSomethingToProbe) {
    const int idle = [this] {
        (void)get("a");
        loop_.run_ready();
        return loop_.clock().timers();
    }();
    const auto master = bring_up("a");
    EXPECT_GT(loop_.clock().timers(), idle);
    loop_.advance(11min);
    ASSERT_TRUE(master->dead());
    EXPECT_EQ(loop_.clock().timers(), idle);
    const auto next = bring_up("a");
    loop_.clock().sleep(1h);
    loop_.advance(5s);
    EXPECT_EQ(next->checks, 1) << "it is watched for again";
}

}  // namespace
}  // namespace cmssh
