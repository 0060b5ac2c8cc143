// One session made ahead on a server, for the next start to take over: tmux needs longer to make one than for all else
// of a start. Decides when it is made and let go of; the connection that owns it talks to tmux. A start never waits for
// it and never depends on it.
#pragma once

#include <asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "daemon/base/event.hpp"

namespace cmssh {

class SpareSession {
public:
    struct Actions {
        // Makes it, in place of one that is still there, and gives its pane's pid; nullopt where that failed.
        std::function<asio::awaitable<std::optional<std::int64_t>>()> make;
        std::function<asio::awaitable<void>()> remove;
    };
    SpareSession(Clock& clock, Actions actions) : clock_(clock), actions_(std::move(actions)), changed_(clock) {}

    // A start is under way while it lives: nothing is made meanwhile, and one may be made some time after.
    class Start {
    public:
        explicit Start(SpareSession& spare);
        ~Start();
        Start(const Start&) = delete;
        Start& operator=(const Start&) = delete;

    private:
        SpareSession& spare_;
    };

    // Its pane's pid, where there is one.
    [[nodiscard]] std::optional<std::int64_t> pid() const { return pid_; }
    // It is the caller's from now on.
    void take() { pid_.reset(); }
    // What became of it: it could not be taken over where it was too young, or is gone.
    enum class Outcome { TakenOver, Missed };
    void tried(Outcome outcome);
    // From now on there is one also before the first start and long after the last; or no more.
    void keep(bool on);
    // The server's tmux has come into reach.
    void reached();
    // The server's tmux is out of reach, which lets go of it by itself.
    void forget();

    asio::awaitable<void> run();  // until request_stop()
    void request_stop();

    // Between the end of a start and the making: longer than a script needs to come with its next start, which would
    // wait in tmux behind the making. Doubled by each start that came too early all the same.
    static constexpr Duration kPause = std::chrono::milliseconds(5);
    static constexpr Duration kLongestPause = std::chrono::seconds(10);
    // Left there without a start for this long.
    static constexpr Duration kLeft = std::chrono::minutes(10);

private:
    [[nodiscard]] Instant next_step() const;
    asio::awaitable<void> make();
    void lengthen_pause();

    Clock& clock_;
    Actions actions_;
    std::optional<std::int64_t> pid_;
    bool making_ = false;
    bool forgotten_ = false;  // while it was being made
    bool wanted_ = false;
    bool kept_ = false;
    int under_way_ = 0;  // starts
    Instant last_start_{};
    Duration pause_ = kPause;
    bool stopped_ = false;
    Event changed_;
};

}  // namespace cmssh
