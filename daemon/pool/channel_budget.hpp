// The channels of one master: sshd allows a connection MaxSessions of them and refuses the next. One is the daemon's
// own, for the server's tmux; the rest goes to who asks, first come first served.
#pragma once

#include <asio/awaitable.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "daemon/base/event.hpp"
#include "protocol/result.hpp"

namespace cmssh {

class ChannelBudget {
public:
    // configured: pool.max_channels, of the config that a reload changes.
    ChannelBudget(Clock& clock, const int& configured) : clock_(clock), configured_(configured), changed_(clock) {}

    // Of a master that was taken over: clients of an earlier daemon may have channels of it.
    void inherit() { inherited_ = true; }
    // Called when what is taken, queued or allowed may have changed.
    void set_on_changed(std::function<void()> listener) { on_changed_ = std::move(listener); }

    // One channel, given back by its destructor.
    class Slot {
    public:
        Slot() = default;
        Slot(Slot&& other) noexcept
            : budget_(std::exchange(other.budget_, nullptr)),
              ticket_(other.ticket_),
              refusals_(std::exchange(other.refusals_, 0)) {}
        Slot& operator=(Slot&& other) noexcept;
        ~Slot();

        explicit operator bool() const { return budget_ != nullptr; }
        [[nodiscard]] const ChannelBudget* budget() const { return budget_.get(); }

    private:
        friend class ChannelBudget;
        Slot(std::shared_ptr<ChannelBudget> budget, std::uint64_t ticket)
            : budget_(std::move(budget)), ticket_(ticket) {}

        std::shared_ptr<ChannelBudget> budget_;
        std::uint64_t ticket_ = 0;
        int refusals_ = 0;
    };

    enum class Turn { InOrder, First };
    struct Patience {
        Instant deadline;
        // Set together: whoever waits gives up when the event finds the flag set.
        Event* gone_event = nullptr;
        const bool* gone = nullptr;

        [[nodiscard]] bool is_gone() const { return gone != nullptr && *gone; }
    };
    // Timeout; Cancelled; ChannelRefused where the server leaves none for anybody but the daemon; MasterLost after
    // close().
    static asio::awaitable<Result<Slot>> take(std::shared_ptr<ChannelBudget> budget, Turn turn, Patience patience);
    // The server refused the slot's channel. One that has just ended may not be gone there yet, so that it is tried
    // again some times; then as many as there were is the limit, and another slot is waited for, in the place in line
    // that it had. Where it is the only one and one has worked before, something that has outlived its channel is in
    // its place, or on a master that was taken over what an earlier daemon's clients run: it is tried until the
    // deadline. Errors of take().
    static asio::awaitable<Result<Slot>> refused(Slot slot, Patience patience);

    // The server seems to have refused the slot's channel to somebody who does without one now. Where it was the only
    // one there may be another reason, and nothing is learnt.
    static void given_up(Slot slot);

    // Of the daemon's own channel.
    void own_opened(bool open) { own_open_ = open; }
    void own_refused();
    // Resumes its waiters when a slot is given back.
    [[nodiscard]] Event& changed() { return changed_; }

    // Its master takes no new channels.
    void close();

    [[nodiscard]] int limit() const;
    // Nobody has to wait.
    [[nodiscard]] bool has_free() const { return queue_.empty() && taken_ + kOwn < limit(); }
    [[nodiscard]] int taken() const { return taken_; }
    [[nodiscard]] int queued() const { return static_cast<int>(queue_.size()); }

private:
    static asio::awaitable<Result<Slot>> take(std::shared_ptr<ChannelBudget> budget, std::uint64_t ticket,
                                              Patience patience);
    asio::awaitable<void> wait(Instant until, const Patience& patience);
    void learn(int limit);
    // What the server has allowed where it refuses one of those that are taken.
    [[nodiscard]] int open_but_one() const;
    // The server may have room for more than what is taken, which something that is not counted here has now.
    [[nodiscard]] bool has_leftovers() const { return one_worked_ || inherited_; }
    void tell() const {
        if (on_changed_) {
            on_changed_();
        }
    }
    [[nodiscard]] Error timed_out() const;

    // The tmux channel.
    static constexpr int kOwn = 1;
    static constexpr int kRetries = 5;
    static constexpr Duration kFirstPause = std::chrono::milliseconds(20);  // doubled each time
    // A process that outlives its channel takes a place for as long as it runs, which may have been what was learnt.
    static constexpr Duration kLearntFor = std::chrono::minutes(1);

    Clock& clock_;
    const int& configured_;
    int learnt_ = 0;
    Instant learnt_until_{};
    int taken_ = 0;
    bool own_open_ = false;
    bool inherited_ = false;
    bool one_worked_ = false;  // was given back without having been refused
    bool closed_ = false;
    struct Waiting {
        std::uint64_t ticket = 0;  // in the order of their coming; 0: before all of these
        const void* who = nullptr;
    };
    std::deque<Waiting> queue_;  // the next first
    std::uint64_t last_ticket_ = 0;
    Event changed_;
    std::function<void()> on_changed_;
};

}  // namespace cmssh
