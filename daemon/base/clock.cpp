#include "daemon/base/clock.hpp"

#include <asio/error.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <time.h>

#include <algorithm>

namespace cmssh {
namespace {

class SystemTimer final : public Timer {
public:
    explicit SystemTimer(const asio::any_io_executor& executor) : timer_(executor) {}

    asio::awaitable<bool> wait_until(Instant deadline) override {
        timer_.expires_at(deadline);
        asio::error_code error;
        co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
        co_return !error;
    }

    void wake() override { timer_.cancel(); }

private:
    asio::steady_timer timer_;
};

}  // namespace

std::int64_t SystemClock::wall_ms() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

Duration SystemClock::asleep() const {
    const auto read = [](clockid_t id) {
        timespec time{};
        ::clock_gettime(id, &time);
        return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
    };
    const auto awake = read(CLOCK_MONOTONIC);
    return std::max<Duration>(read(CLOCK_BOOTTIME) - awake, Duration::zero());
}

std::unique_ptr<Timer> SystemClock::make_timer() {
    return std::make_unique<SystemTimer>(executor_);
}

}  // namespace cmssh
