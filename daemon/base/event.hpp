// A condition variable for coroutines of one thread: whoever waits is woken by notify_all(), or at a deadline. The
// waiter checks its condition in a loop; between the check and the wait nothing else runs, so no wake-up is lost.
#pragma once

#include <asio/awaitable.hpp>

#include <vector>

#include "daemon/base/clock.hpp"

namespace cmssh {

class Event {
public:
    explicit Event(Clock& clock) : clock_(clock) {}
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    // false: the deadline came first.
    asio::awaitable<bool> wait_until(Instant deadline);
    asio::awaitable<void> wait();
    // Everybody who waits now is resumed, later, from the loop. The Event may be destroyed right after.
    void notify_all();

    // Waits for either; false: the deadline came first.
    static asio::awaitable<bool> wait_for_either(Event& one, Event& other, Instant deadline);

private:
    Clock& clock_;
    struct Waiter {
        std::unique_ptr<Timer> timer;
        bool notified = false;
    };
    // Shared with the waiters: each outlives the Event where its owner goes away after a notify_all().
    std::vector<std::shared_ptr<Waiter>> waiters_;
};

}  // namespace cmssh
