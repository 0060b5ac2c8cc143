#include "daemon/base/timeout.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "daemon/base/event.hpp"
#include "protocol/result.hpp"
#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;

class WithDeadline : public ::testing::Test {
protected:
    struct Guard {
        bool& destroyed;
        ~Guard() { destroyed = true; }
    };
    asio::awaitable<std::unique_ptr<std::string>> after_event() {
        const Guard guard{released_};
        co_await event_.wait();
        if (fails_) {
            throw std::runtime_error("failed");
        }
        co_return std::make_unique<std::string>("value");
    }
    asio::awaitable<Result<int>> at_once(Result<int> result) { co_return result; }

    fakes::TestLoop loop_;
    Event event_{loop_.clock()};
    bool released_ = false;
    bool fails_ = false;
};

TEST_F(WithDeadline, GivesTheValueThatCameInTime) {
    const auto outcome = loop_.start(with_deadline(loop_.clock(), loop_.now() + 5s, after_event()));
    loop_.advance(5s - 1ns);
    EXPECT_FALSE(outcome.done());
    event_.notify_all();
    loop_.run_ready();
    ASSERT_TRUE(outcome.done());
    ASSERT_TRUE(outcome->has_value());
    EXPECT_EQ(***outcome, "value");
}

TEST_F(WithDeadline, EndsTheOperationAtTheDeadline) {
    const auto outcome = loop_.start(with_deadline(loop_.clock(), loop_.now() + 5s, after_event()));
    loop_.advance(5s);
    ASSERT_TRUE(outcome.done());
    EXPECT_FALSE(outcome->has_value());
    EXPECT_TRUE(released_) << "by its destructors, before with_deadline() returned";
    event_.notify_all();
    loop_.run_ready();
}

TEST_F(WithDeadline, PassesAFailureOn) {
    fails_ = true;
    loop_.start(with_deadline(loop_.clock(), loop_.now() + 5s, after_event()));
    event_.notify_all();
    EXPECT_THROW(loop_.run_ready(), std::runtime_error);
    EXPECT_TRUE(released_);
}

TEST_F(WithDeadline, TakesWhatIsThereAlready) {
    for (const Duration left : {5s, 0s, -5s}) {
        const auto value = loop_.run(with_deadline(loop_.clock(), loop_.now() + left, at_once(7)));
        ASSERT_TRUE(value && *value) << left.count();
        EXPECT_EQ(**value, 7);
        const auto error = loop_.run(with_deadline(loop_.clock(), loop_.now() + left, at_once(Error{})));
        ASSERT_TRUE(error) << left.count();
        EXPECT_FALSE(*error);
    }
}

TEST_F(WithDeadline, OfAnotherInsideItHoldsTheNearerOne) {
    auto inner = with_deadline(loop_.clock(), loop_.now() + 10s, after_event());
    const auto outcome = loop_.start(with_deadline(loop_.clock(), loop_.now() + 5s, std::move(inner)));
    loop_.advance(5s);
    ASSERT_TRUE(outcome.done());
    EXPECT_FALSE(outcome->has_value());
    EXPECT_TRUE(released_);
}

TEST_F(WithDeadline, IsNeverOverWithoutOne) {
    const auto outcome = loop_.start(with_deadline(loop_.clock(), Instant::max(), after_event()));
    loop_.advance(std::chrono::hours(24 * 365));
    EXPECT_FALSE(outcome.done());
    event_.notify_all();
    loop_.run_ready();
    EXPECT_TRUE(outcome.done());
}

}  // namespace
}  // namespace cmssh
