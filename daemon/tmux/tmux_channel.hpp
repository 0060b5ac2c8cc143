// One long-lived channel to a server's tmux in control mode: each request is one round trip and no remote shell.
// Replies come in the order of the requests; what tmux announces by itself goes to the listener. It owns its
// coroutines: call close() and await joined() before it is destroyed.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/event.hpp"
#include "daemon/base/task_group.hpp"
#include "daemon/ssh/master.hpp"
#include "daemon/tmux/clock_offset.hpp"
#include "daemon/tmux/tmux_commands.hpp"
#include "protocol/tmux_control.hpp"

namespace cmssh {

class TmuxChannel {
public:
    struct Listener {
        std::function<void(const tmux::Notification&)> on_notification;
        std::function<void()> on_closed;  // the channel ended by itself; not after close()
        // Requests had no answer in time, and all those answers have come after all: what was given up can be done.
        std::function<void()> on_answers_again;
    };

    // TmuxMissing, TmuxFailed (too old, or it does not start; with what the server printed), ChannelRefused, MasterLost
    // or Timeout. The setup commands are on their way when it returns.
    static asio::awaitable<Result<std::unique_ptr<TmuxChannel>>> open(asio::any_io_executor executor, Clock& clock,
                                                                      std::shared_ptr<Master> master,
                                                                      const SessionsConfig& config,
                                                                      tmux::Ownership ownership, Instant deadline);
    ~TmuxChannel();
    TmuxChannel(const TmuxChannel&) = delete;
    TmuxChannel& operator=(const TmuxChannel&) = delete;

    void set_listener(Listener listener) { listener_ = std::move(listener); }

    // Sends the lines in one write and waits for all their replies. A reply that is tmux's error is a TmuxFailed error
    // in its place; Timeout or MasterLost (the channel closed) stand for those that did not come, and the command may
    // have run.
    using Reply = Result<std::vector<std::string>>;
    // The first line may hold several commands: its reply is the first one's, blocks_behind_first is how many follow.
    asio::awaitable<std::vector<Reply>> request_all(std::vector<std::string> lines, Instant deadline,
                                                    int blocks_behind_first = 0);
    asio::awaitable<Reply> request(std::string line, Instant deadline);
    // One line of several commands, whichever of them run: its reply is the first error, or else the first answer in
    // which a line begins with tmux::kRowMark. So the last command that runs gives such a line, and no other does.
    asio::awaitable<Reply> request_group(std::string line, Instant deadline);
    // The same with lines of one command each around it, all in one write, which is under way when this first waits.
    // The first error of one ahead is the reply; what becomes of those behind is nobody's concern.
    asio::awaitable<Reply> request_group(std::string line, Instant deadline, std::vector<std::string> ahead,
                                         std::vector<std::string> behind);
    // Level 2: a round trip to the server's tmux.
    asio::awaitable<Result<Duration>> round_trip(Instant deadline);

    [[nodiscard]] bool is_open() const { return open_; }
    [[nodiscard]] const std::string& remote_home() const { return remote_home_; }
    [[nodiscard]] tmux::Version version() const { return version_; }  // 0.0: one that is not known
    [[nodiscard]] const tmux::ServerLife& life() const { return life_; }
    // The server's clock less ours, in milliseconds.
    [[nodiscard]] std::int64_t clock_offset_ms() const { return clock_offset_.ms(); }

    void close();
    asio::awaitable<void> joined();

private:
    struct Pending {
        explicit Pending(Clock& clock) : sent_ms(clock.wall_ms()), done(clock) {}
        std::int64_t sent_ms;
        bool group = false;
        int blocks_behind = 0;  // that come after the one that is the reply
        bool answered = false;
        bool given_up = false;  // by its caller, at its deadline
        std::optional<Reply> reply;
        Event done;
    };

    TmuxChannel(asio::any_io_executor executor, Clock& clock, std::shared_ptr<Master> master,
                std::unique_ptr<Channel> channel);

    // Until tmux has attached our client: what it reads before that goes to no session of ours.
    asio::awaitable<Result<void>> wait_for_start(Instant deadline);
    asio::awaitable<Result<void>> greet(std::string token, Instant deadline);
    asio::awaitable<Result<void>> read_greeting(std::string token);
    asio::awaitable<void> read_replies();
    asio::awaitable<void> read_errors();
    asio::awaitable<void> write_queue();
    void keep_diagnostics(std::string_view text);
    void handle(std::string_view bytes);
    void handle_block(tmux::Block block);
    std::vector<std::shared_ptr<Pending>> post(const std::vector<std::string>& lines);
    void send(std::string_view bytes);
    void fail_pending();
    [[nodiscard]] bool takes_requests() const;
    asio::awaitable<Reply> reply_to(std::shared_ptr<Pending> pending, Instant deadline);

    asio::any_io_executor executor_;
    Clock& clock_;
    std::shared_ptr<Master> master_;  // shared with its connection: the channel must not outlive it
    std::unique_ptr<Channel> channel_;
    Listener listener_;
    tmux::ControlParser parser_;
    // Shared with the callers: one that gave up leaves its place in the order of replies.
    std::deque<std::shared_ptr<Pending>> pending_;
    std::string unread_;  // read with the greeting, of the control stream
    std::string unwritten_;
    std::string diagnostics_;  // the end of what came on standard error
    std::string remote_home_;
    tmux::Version version_;
    tmux::ServerLife life_;
    tmux::ClockOffset clock_offset_;
    bool open_ = true;
    bool started_ = false;  // the start-up commands were answered
    bool closing_ = false;
    std::size_t overdue_ = 0;  // of pending_: given up
    Event start_answered_;
    Event write_wanted_;
    TaskGroup tasks_;
};

}  // namespace cmssh
