// Time that jumps to the next thing that is due. Two kinds of things wait: the daemon's timers, which stand still while
// the machine sleeps, and events of the world around it.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <queue>
#include <utility>
#include <vector>

#include "daemon/base/clock.hpp"

namespace cmssh::sim {

class VirtualClock final : public Clock {
public:
    // Long after the epoch, as a machine's uptime is: an Instant{} of the product is "never yet".
    static constexpr Instant kStart{std::chrono::hours(1000)};
    static constexpr std::int64_t kWallStart = 1'700'000'000'000;

    [[nodiscard]] Instant now() const override { return kStart + (world_ - asleep_); }
    [[nodiscard]] std::int64_t wall_ms() const override {
        return kWallStart + std::chrono::duration_cast<std::chrono::milliseconds>(world_).count();
    }
    [[nodiscard]] Duration asleep() const override { return asleep_; }
    [[nodiscard]] std::unique_ptr<Timer> make_timer() override;

    // Since the beginning, the machine's sleep with it.
    [[nodiscard]] Duration world() const { return world_; }
    void after(Duration delay, std::function<void()> event) {
        events_.push(Event{world_ + std::max(delay, Duration::zero()), next_++, std::move(event)});
    }
    // Goes on to what is due next and carries it out. False: nothing is before `until`, and it is that late now.
    bool step(Duration until);
    // The world goes on, and the daemon does not.
    void sleep(Duration by);
    // Whether a wait has ended since the last call: the daemon has something to do.
    [[nodiscard]] bool take_woken() { return std::exchange(woken_, false); }
    [[nodiscard]] bool sleeping() const { return sleeping_; }

    // The daemon has crashed, and what is left of it is to end at once: its waits are at their deadlines, those to come
    // too, until revive().
    void crash();
    void revive() { crashed_ = false; }
    [[nodiscard]] bool crashed() const { return crashed_; }

private:
    class VirtualTimer;
    struct Wait {
        virtual ~Wait() = default;
        virtual void complete(bool fired) = 0;
    };
    template <typename Handler>
    struct HandlerWait;
    struct Begin;

    struct Slot {
        std::unique_ptr<Wait> wait;
        std::uint64_t number = 0;  // of the wait; 0: none
        bool has_deadline = false;
    };
    struct Due {
        Instant at;
        std::uint64_t number;
        std::size_t slot;
        friend bool operator>(const Due& one, const Due& other) {
            return one.at != other.at ? one.at > other.at : one.number > other.number;
        }
    };
    struct Event {
        Duration at;
        std::uint64_t number;
        // Moved out of the queue's top, which is popped at once.
        mutable std::function<void()> run;
        friend bool operator>(const Event& one, const Event& other) {
            return one.at != other.at ? one.at > other.at : one.number > other.number;
        }
    };

    void finish(std::size_t slot, std::uint64_t number, bool fired);
    void drop_stale();

    Duration world_{};
    Duration asleep_{};
    bool sleeping_ = false;
    bool woken_ = false;
    bool crashed_ = false;
    std::uint64_t next_ = 1;
    std::vector<Slot> slots_;
    std::vector<std::size_t> free_slots_;
    std::priority_queue<Due, std::vector<Due>, std::greater<>> timers_;
    std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

}  // namespace cmssh::sim
