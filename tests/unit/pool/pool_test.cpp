#include "daemon/pool/pool.hpp"

#include <gtest/gtest.h>

#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

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

}  // namespace
}  // namespace cmssh
