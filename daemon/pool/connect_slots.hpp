// Bounds how many logins run at once in the whole pool (pool.max_concurrent_connects); first come, first served.
#pragma once

#include <asio/awaitable.hpp>

#include <cstdint>
#include <utility>

#include "daemon/base/event.hpp"

namespace cmssh {

class ConnectSlots {
public:
    ConnectSlots(Clock& clock, const int& limit) : limit_(limit), freed_(clock) {}

    class Slot {
    public:
        explicit Slot(ConnectSlots& slots) : slots_(&slots) {}
        Slot(Slot&& other) noexcept : slots_(std::exchange(other.slots_, nullptr)) {}
        Slot& operator=(Slot&&) = delete;
        ~Slot() {
            if (slots_ != nullptr) {
                --slots_->used_;
                slots_->freed_.notify_all();
            }
        }

    private:
        ConnectSlots* slots_;
    };

    // Each login ahead ends by its own deadline, so this wait ends too.
    asio::awaitable<Slot> acquire() {
        const std::uint64_t turn = next_turn_++;
        while (turn != serving_ || used_ >= limit_) {
            co_await freed_.wait();
        }
        ++serving_;
        ++used_;
        freed_.notify_all();
        co_return Slot(*this);
    }

private:
    const int& limit_;  // of the config: a reload changes it
    int used_ = 0;
    std::uint64_t next_turn_ = 0;
    std::uint64_t serving_ = 0;
    Event freed_;
};

}  // namespace cmssh
