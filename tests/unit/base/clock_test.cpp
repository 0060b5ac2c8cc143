#include "daemon/base/clock.hpp"

#include <gtest/gtest.h>

#include "daemon/base/timeout.hpp"
#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;

// What the rest relies on holds for the real clock as for the fake one.
class Clocks : public ::testing::Test {
protected:
    // Whether the deadline came. No waiting: it has passed, or the timer is woken.
    static bool wait(asio::io_context& io, Timer& timer, Instant deadline, bool wake) {
        std::optional<bool> came;
        const auto task = [&timer, &came, deadline]() -> asio::awaitable<void> {
            const bool result = co_await timer.wait_until(deadline);
            came = result;
        };
        const auto rethrow = [](std::exception_ptr failure) {
            if (failure) {
                std::rethrow_exception(failure);
            }
        };
        asio::co_spawn(io, task(), rethrow);
        io.restart();
        io.poll();
        if (wake) {
            timer.wake();
        }
        io.restart();
        io.run_for(20s);
        return came.value();
    }
    static void check(asio::io_context& io, Clock& clock) {
        const auto timer = clock.make_timer();
        timer->wake();
        EXPECT_TRUE(wait(io, *timer, clock.now(), false)) << "a wake() before the wait is none";
        EXPECT_TRUE(wait(io, *timer, clock.now() - 1h, false));
        EXPECT_TRUE(wait(io, *timer, Instant{}, false));
        EXPECT_FALSE(wait(io, *timer, Instant::max(), true));
        EXPECT_FALSE(wait(io, *timer, clock.now() + 1h, true));
        EXPECT_TRUE(wait(io, *timer, clock.now(), false)) << "it serves again";
    }
    static asio::awaitable<void> be_cancelled(Clock& clock, std::optional<bool>& came) {
        const auto inner = clock.make_timer();
        auto waiting = inner->wait_until(Instant::max());
        const auto result = co_await with_deadline(clock, clock.now(), std::move(waiting));
        came = result.value_or(false);
    }
    static void check_cancellation(asio::io_context& io, Clock& clock) {
        std::optional<bool> came;
        asio::co_spawn(io, be_cancelled(clock, came), [](std::exception_ptr) {});
        io.restart();
        io.run_for(20s);
        ASSERT_TRUE(came);
        EXPECT_FALSE(*came);
    }

    asio::io_context io_;
};

TEST_F(Clocks, SystemClocksTimersKeepTheirContract) {
    SystemClock clock(io_.get_executor());
    check(io_, clock);
    check_cancellation(io_, clock);
}

TEST_F(Clocks, FakeClocksTimersKeepItToo) {
    fakes::FakeClock clock(io_);
    check(io_, clock);
    check_cancellation(io_, clock);
}

TEST_F(Clocks, SystemClockIsMonotonicAndKnowsTheYear) {
    SystemClock clock(io_.get_executor());
    const Instant first = clock.now();
    EXPECT_GE(clock.now(), first);
    constexpr std::int64_t kYear2023 = 1'672'531'200'000;
    constexpr std::int64_t kYear2200 = 7'258'118'400'000;
    EXPECT_GT(clock.wall_ms(), kYear2023);
    EXPECT_LT(clock.wall_ms(), kYear2200);
}

TEST(FakeClock, StopsAtEachDeadlineOnTheWay) {
    fakes::TestLoop loop;
    std::vector<Duration> seen;
    const Instant begin = loop.now();
    const auto tick = [&]() -> asio::awaitable<void> {
        const auto timer = loop.clock().make_timer();
        for (int i = 0; i < 3; ++i) {
            co_await timer->wait_until(loop.now() + 2s);
            seen.push_back(loop.now() - begin);
        }
    };
    const auto ticked = loop.start(tick());
    loop.advance(5s);
    EXPECT_EQ(seen, (std::vector<Duration>{2s, 4s}));
    EXPECT_EQ(loop.now() - begin, 5s);
    EXPECT_EQ(loop.clock().wall_ms(), fakes::FakeClock::kWallStart + 5000);
    loop.advance(1s);
    EXPECT_TRUE(ticked.done());
}

TEST(SystemClock, SleepsNotWhileATestRuns) {
    asio::io_context io;
    const SystemClock clock(io.get_executor());
    const Duration before = clock.asleep();
    EXPECT_GE(before, 0s);
    EXPECT_LT(std::chrono::abs(clock.asleep() - before), 1s);
}

TEST(FakeClock, SleepsWithoutATimerRunning) {
    asio::io_context io;
    fakes::FakeClock clock(io);
    const Instant before = clock.now();
    const auto wall = clock.wall_ms();
    clock.sleep(8h);
    EXPECT_EQ(clock.now(), before);
    EXPECT_EQ(clock.asleep(), Duration(8h));
    EXPECT_EQ(clock.wall_ms() - wall, std::chrono::milliseconds(8h).count());
}

}  // namespace
}  // namespace cmssh
