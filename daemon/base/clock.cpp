#include "daemon/base/clock.hpp"

#include <asio/error.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

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

std::unique_ptr<Timer> SystemClock::make_timer() {
    return std::make_unique<SystemTimer>(executor_);
}

}  // namespace cmssh
