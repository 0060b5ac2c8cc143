#include <algorithm>
#include <utility>

#include "daemon/pool/connection.hpp"
#include "daemon/pool/under_way.hpp"

namespace cmssh {
namespace {

// A tmux that ends as soon as it is asked is not asked again in a tight loop.
constexpr Duration kReopenPause = std::chrono::seconds(1);
constexpr Duration kLongestReopenPause = std::chrono::minutes(1);
constexpr Duration kRefusedPause = std::chrono::milliseconds(200);
// Longer than tmux takes for it.
constexpr Duration kSpareDeadline = std::chrono::seconds(15);
// Of those that have ended meanwhile, tmux knows the next newest only from 3.5 on.
constexpr std::size_t kNewestSessions = 8;

}  // namespace

TmuxChannel* Connection::tmux() const {
    return tmux_ != nullptr && tmux_->is_open() ? tmux_.get() : nullptr;
}

asio::awaitable<Result<void>> Connection::open_tmux(Instant deadline) {
    const auto master = master_;
    const UnderWayOn opening(opening_tmux_on_, master, changed_);
    auto opened = co_await TmuxChannel::open(services_.executor, services_.clock, master, services_.config.sessions,
                                             ownership(), deadline);
    if (opened && (master != master_ || shutting_down_)) {
        (*opened)->close();
        co_await (*opened)->joined();
        co_return lost();
    }
    if (master != master_) {
        co_return lost();
    }
    if (!opened) {
        // Said once where it is waited for a channel.
        const bool waits = tmux_error_ && tmux_error_->kind == ErrorKind::ChannelRefused;
        tmux_error_ = opened.error();
        tmux_error_->server = key_text_;
        if (!waits || tmux_error_->kind != ErrorKind::ChannelRefused) {
            note_error(*tmux_error_);
        }
        co_return *tmux_error_;
    }
    tmux_error_.reset();
    channels_->own_opened(true);
    served_ = true;
    tmux_ = std::move(*opened);
    tell_changed();
    TmuxChannel::Listener listener;
    listener.on_notification = [this](const tmux::Notification& notification) {
        services_.observer.on_notification(*this, notification);
    };
    listener.on_closed = [this] {
        drop_tmux();
        services_.observer.on_unreachable(*this);
        reopen_tmux_later();
    };
    listener.on_answers_again = [this] { services_.observer.on_reachable(*this); };
    tmux_->set_listener(std::move(listener));
    spare_.reached();
    co_return Result<void>();
}

bool Connection::others_have_the_channels(const Error& of_tmux) const {
    return of_tmux.kind == ErrorKind::ChannelRefused && channels_->taken() > 0;
}

asio::awaitable<Result<void>> Connection::open_tmux_in_turn(Instant deadline) {
    for (;;) {
        auto opened = co_await open_tmux(deadline);
        if (opened || !others_have_the_channels(opened.error()) || services_.clock.now() >= deadline) {
            co_return opened;
        }
        channels_->own_refused();
        // One that was given back may not be gone at the server yet.
        const auto channels = channels_;
        co_await channels->changed().wait_until(std::min(deadline, services_.clock.now() + kRefusedPause));
        while (opening_tmux()) {
            co_await changed_.wait();
        }
        if (tmux() != nullptr) {
            co_return Result<void>();
        }
        if (!has_master()) {
            co_return lost();
        }
    }
}

void Connection::reopen_tmux_later() {
    if (refs() > 0 && wants_tmux() && has_master() && !shutting_down_ && !reopening_tmux_) {
        reopening_tmux_ = true;  // before it has begun
        tasks_.spawn(key_text_, reopen_tmux());
    }
}

asio::awaitable<void> Connection::reopen_tmux() {
    const Marked reopening(reopening_tmux_, changed_);
    Instant next = tmux_tried_at_ + kReopenPause;
    Duration pause = kReopenPause;
    while (refs() > 0 && has_master() && !shutting_down_ && tmux() == nullptr) {
        if (opening_tmux()) {
            co_await changed_.wait();
            continue;
        }
        if (services_.clock.now() < next) {
            co_await changed_.wait_until(next);
            continue;
        }
        tmux_tried_at_ = services_.clock.now();
        const auto opened = co_await open_tmux(connect_deadline());
        if (opened) {
            services_.observer.on_reachable(*this);
        } else {
            pause = std::min(pause * 2, kLongestReopenPause);
            next = services_.clock.now() + pause;
        }
    }
}

asio::awaitable<void> Connection::open_restored_tmux() {
    if (tmux() != nullptr || opening_tmux() || !has_master()) {
        co_return;
    }
    const auto opened = co_await open_tmux(connect_deadline());
    if (opened) {
        services_.observer.on_reachable(*this);
    } else {
        reopen_tmux_later();
    }
}

void Connection::drop_tmux() {
    if (tmux_ != nullptr) {
        channels_->own_opened(false);
        tmux_->close();
        spare_.forget();
        tasks_.spawn(key_text_, bury(std::move(tmux_)));
        tell_changed();
    }
}

asio::awaitable<void> Connection::bury(std::unique_ptr<TmuxChannel> channel) {
    co_await channel->joined();
}

asio::awaitable<std::optional<std::int64_t>> Connection::make_spare() {
    TmuxChannel* channel = tmux();
    if (channel == nullptr) {
        co_return std::nullopt;
    }
    spare_made_with_ = services_.config.sessions;
    auto commands =
        tmux::make_spare_commands(services_.config.sessions, ownership(), newest_sessions_, channel->version());
    const auto replies = co_await channel->request_all(std::move(commands), services_.clock.now() + kSpareDeadline);
    co_return tmux::parse_spare(replies);
}

void Connection::keep_spare() {
    spare_.keep(true);
    if (tmux() != nullptr && !spare_.pid()) {
        spare_.reached();
    }
}

std::optional<std::int64_t> Connection::spare_pid() {
    if (spare_made_with_ != services_.config.sessions) {
        spare_.take();
    }
    return spare_.pid();
}

void Connection::note_started(const std::string& session_id) {
    newest_sessions_.push_front(session_id);
    if (newest_sessions_.size() > kNewestSessions) {
        newest_sessions_.pop_back();
    }
}

asio::awaitable<void> Connection::remove_spare() {
    if (auto* channel = tmux()) {
        (void)co_await channel->request(tmux::remove_spare_command(ownership()),
                                        services_.clock.now() + kSpareDeadline);
    }
}

asio::awaitable<Result<Connection::ReadyTmux>> Connection::ensure_tmux(Want want) {
    auto ready = co_await ensure_master(std::move(want));
    if (!ready) {
        co_return std::move(ready).error();
    }
    bool tried = ready->logged_in;
    while (opening_tmux()) {
        tried = true;
        co_await changed_.wait();
    }
    if (tmux() == nullptr) {
        if (shutting_down_) {
            co_return stopping();
        }
        if (!has_master()) {
            co_return lost();
        }
        // The answer to who waited for that try is its outcome, or each of them would wait for one more. But who made
        // it may wait for a channel.
        if (tried && tmux_error_ && !others_have_the_channels(*tmux_error_)) {
            end_if_useless();
            co_return *tmux_error_;
        }
        const auto opened = co_await open_tmux_in_turn(connect_deadline());
        if (!opened) {
            reopen_tmux_later();
            co_return opened.error();
        }
        services_.observer.on_reachable(*this);
    }
    ReadyTmux result;
    result.channel = tmux();
    result.reused = ready->reused;
    if (result.channel == nullptr) {
        co_return lost();
    }
    co_return result;
}

}  // namespace cmssh
