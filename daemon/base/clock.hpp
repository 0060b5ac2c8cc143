// Time as the daemon sees it: the seam behind which tests and the simulation put a clock of their own. Nothing outside
// daemon/base reads a clock or makes a timer.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <memory>

namespace cmssh {

using Instant = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// One wait at a time. Destroying it while somebody waits is not allowed.
class Timer {
public:
    virtual ~Timer() = default;
    // true: the deadline came; false: wake() was called, or the waiting coroutine was cancelled.
    virtual asio::awaitable<bool> wait_until(Instant deadline) = 0;
    // Ends the wait under way, if any.
    virtual void wake() = 0;
};

class Clock {
public:
    virtual ~Clock() = default;
    // Monotonic, and standing still while the machine sleeps.
    [[nodiscard]] virtual Instant now() const = 0;
    // Wall clock in milliseconds since the epoch; for what is shown, never for a deadline.
    [[nodiscard]] virtual std::int64_t wall_ms() const = 0;
    // How long the machine has slept since its boot, give or take a moment: now() does not count it.
    [[nodiscard]] virtual Duration asleep() const = 0;
    [[nodiscard]] virtual std::unique_ptr<Timer> make_timer() = 0;
};

class SystemClock final : public Clock {
public:
    explicit SystemClock(asio::any_io_executor executor) : executor_(std::move(executor)) {}
    [[nodiscard]] Instant now() const override { return std::chrono::steady_clock::now(); }
    [[nodiscard]] std::int64_t wall_ms() const override;
    [[nodiscard]] Duration asleep() const override;
    [[nodiscard]] std::unique_ptr<Timer> make_timer() override;

private:
    asio::any_io_executor executor_;
};

}  // namespace cmssh
