#include "daemon/base/event.hpp"

#include <asio/experimental/awaitable_operators.hpp>

#include <algorithm>
#include <variant>

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

asio::awaitable<bool> Event::wait_for_either(Event& one, Event& other, Instant deadline) {
    using asio::experimental::awaitable_operators::operator||;
    const auto outcome = co_await (one.wait_until(deadline) || other.wait_until(deadline));
    co_return std::visit([](bool notified) { return notified; }, outcome);
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
