#include "tests/simulation/virtual_clock.hpp"

#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <utility>

namespace cmssh::sim {

template <typename Handler>
struct VirtualClock::HandlerWait final : Wait {
    explicit HandlerWait(Handler its) : handler(std::move(its)) {}
    void complete(bool fired) override {
        const auto executor = asio::get_associated_executor(handler);
        asio::post(executor, [handler = std::move(handler), fired]() mutable { std::move(handler)(fired); });
    }
    Handler handler;
};

class VirtualClock::VirtualTimer final : public Timer {
public:
    explicit VirtualTimer(VirtualClock& clock) : clock_(clock) {}

    asio::awaitable<bool> wait_until(Instant deadline) override;
    void wake() override { clock_.finish(slot_, number_, false); }

private:
    friend struct Begin;
    VirtualClock& clock_;
    std::size_t slot_ = 0;
    std::uint64_t number_ = 0;
};

struct VirtualClock::Begin {
    VirtualTimer* timer;

    template <typename Handler>
    void operator()(Handler handler, Instant deadline) const {
        VirtualClock& clock = timer->clock_;
        if (clock.free_slots_.empty()) {
            clock.free_slots_.push_back(clock.slots_.size());
            clock.slots_.emplace_back();
        }
        const std::size_t index = clock.free_slots_.back();
        clock.free_slots_.pop_back();
        const std::uint64_t number = clock.next_++;
        timer->slot_ = index;
        timer->number_ = number;
        auto cancellation = asio::get_associated_cancellation_slot(handler);
        if (cancellation.is_connected()) {
            cancellation.assign(
                [&clock, index, number](asio::cancellation_type /*type*/) { clock.finish(index, number, false); });
        }
        Slot& slot = clock.slots_[index];
        slot.number = number;
        slot.wait = std::make_unique<HandlerWait<Handler>>(std::move(handler));
        slot.has_deadline = deadline != Instant::max();
        if (deadline <= clock.now() || (clock.crashed_ && slot.has_deadline)) {
            clock.finish(index, number, true);
        } else if (slot.has_deadline) {
            clock.timers_.push(Due{deadline, number, index});
        }
    }
};

asio::awaitable<bool> VirtualClock::VirtualTimer::wait_until(Instant deadline) {
    return asio::async_initiate<const asio::use_awaitable_t<>, void(bool)>(Begin{this}, asio::use_awaitable, deadline);
}

std::unique_ptr<Timer> VirtualClock::make_timer() {
    return std::make_unique<VirtualTimer>(*this);
}

void VirtualClock::finish(std::size_t slot, std::uint64_t number, bool fired) {
    if (number == 0 || slots_[slot].number != number) {
        return;
    }
    woken_ = true;
    slots_[slot].number = 0;
    const auto wait = std::move(slots_[slot].wait);
    free_slots_.push_back(slot);
    wait->complete(fired);
}

void VirtualClock::drop_stale() {
    while (!timers_.empty() && slots_[timers_.top().slot].number != timers_.top().number) {
        timers_.pop();
    }
}

bool VirtualClock::step(Duration until) {
    drop_stale();
    const Duration timer_at = timers_.empty() ? Duration::max() : timers_.top().at - kStart + asleep_;
    const Duration event_at = events_.empty() ? Duration::max() : events_.top().at;
    if (std::min(timer_at, event_at) > until) {
        world_ = std::max(world_, until);
        return false;
    }
    if (event_at <= timer_at) {
        world_ = std::max(world_, event_at);
        const auto run = std::move(events_.top().run);
        events_.pop();
        run();
        return true;
    }
    world_ = std::max(world_, timer_at);
    const Due due = timers_.top();
    timers_.pop();
    finish(due.slot, due.number, true);
    return true;
}

void VirtualClock::sleep(Duration by) {
    const Duration awake = world_ - asleep_;
    const Duration until = world_ + by;
    sleeping_ = true;
    while (!events_.empty() && events_.top().at <= until) {
        world_ = std::max(world_, events_.top().at);
        asleep_ = world_ - awake;
        const auto run = std::move(events_.top().run);
        events_.pop();
        run();
    }
    world_ = until;
    asleep_ = world_ - awake;
    sleeping_ = false;
}

void VirtualClock::crash() {
    crashed_ = true;
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].has_deadline) {
            finish(slot, slots_[slot].number, true);
        }
    }
}

}  // namespace cmssh::sim
