#include "daemon/base/event.hpp"

#include <algorithm>

namespace cmssh {

asio::awaitable<bool> Event::wait_until(Instant deadline) {
    auto waiter = std::make_shared<Waiter>();
    waiter->timer = clock_.make_timer();
    waiters_.push_back(waiter);
    co_await waiter->timer->wait_until(deadline);
    // After a notification `this` may be gone.
    if (waiter->notified) {
        co_return true;
    }
    std::erase(waiters_, waiter);
    co_return false;
}

asio::awaitable<void> Event::wait() {
    co_await wait_until(Instant::max());
}

void Event::notify_all() {
    const auto waiters = std::move(waiters_);
    waiters_.clear();
    for (const auto& waiter : waiters) {
        waiter->notified = true;
        waiter->timer->wake();
    }
}

}  // namespace cmssh
