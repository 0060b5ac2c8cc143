// Bounds how many logins run at once in the whole pool (pool.max_concurrent_connects); first come, first served.
#pragma once

#include <asio/awaitable.hpp>

#include <deque>
#include <memory>
#include <utility>

#include "daemon/base/event.hpp"

namespace cmssh {

class ConnectSlots {
public:
    ConnectSlots(Clock& clock, const int& limit) : clock_(clock), limit_(limit) {}

    class Slot {
    public:
        explicit Slot(ConnectSlots& slots) : slots_(&slots) {}
        Slot(Slot&& other) noexcept : slots_(std::exchange(other.slots_, nullptr)) {}
        Slot& operator=(Slot&&) = delete;
        ~Slot() {
            if (slots_ != nullptr) {
                --slots_->used_;
                slots_->wake_next();
            }
        }

    private:
        ConnectSlots* slots_;
    };

    // Each login ahead ends by its own deadline, so this wait ends too. One login begins in a turn of the loop, because
    // starting a process takes as long as it takes on a busy machine: calls are answered in between.
    asio::awaitable<Slot> acquire() {
        const auto turn = std::make_shared<Event>(clock_);
        line_.push_back(turn);
        while (line_.front() != turn || used_ >= limit_ || beginning_) {
            co_await turn->wait();
        }
        line_.pop_front();
        ++used_;
        Slot slot(*this);
        beginning_ = true;
        co_await turn->wait_until(clock_.now());
        beginning_ = false;
        wake_next();
        co_return slot;
    }

private:
    // Only the one whose turn it is: two hundred in line would be woken forty thousand times before all have logged in.
    void wake_next() {
        if (!line_.empty() && used_ < limit_ && !beginning_) {
            line_.front()->notify_all();
        }
    }

    Clock& clock_;
    const int& limit_;  // of the config: a reload changes it
    int used_ = 0;
    bool beginning_ = false;
    std::deque<std::shared_ptr<Event>> line_;  // shared with the calls that wait
};

}  // namespace cmssh
