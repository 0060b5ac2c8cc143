// Sessions::logs: reading what a session has printed, and waiting for more of it.
#include <algorithm>

#include "daemon/session/sessions.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// The whole scrollback may have to come over a slow line.
constexpr Duration kLogsDeadline = std::chrono::minutes(2);
// Between two looks at a pane that somebody follows: while it prints, and when it has been silent for a while. A look
// is one line each way and a tenth of a millisecond of tmux's time.
constexpr Duration kLook = std::chrono::milliseconds(200);
constexpr Duration kSeldomLook = std::chrono::milliseconds(500);
constexpr Duration kSilence = std::chrono::seconds(5);
constexpr Duration kLookDeadline = std::chrono::seconds(15);
// Followers of one session at a time that need not look twice.
constexpr std::size_t kGiven = 16;
// A follower comes back for more at once.
constexpr Duration kKeepWatching = std::chrono::seconds(2);

Error about(const SessionRecord& record, Error error) {
    error.session = record.view.id;
    error.server = record.view.server.key;
    return error;
}

}  // namespace

// Has a session watched while it is there.
class Sessions::Follower {
public:
    Follower(Sessions& sessions, const RecordPtr& record) : sessions_(sessions) {
        auto& watch = sessions.watches_[record->view.id];
        if (watch == nullptr) {
            watch = std::make_shared<Watch>(sessions.clock_);
        }
        watch_ = watch;
        ++watch_->followers;
        if (!watch_->running) {
            watch_->running = true;
            sessions.tasks_.spawn(record->view.id, sessions.watch_pane(record, watch_));
        }
    }
    ~Follower() {
        --watch_->followers;
        watch_->wanted_until = sessions_.clock_.now() + kKeepWatching;
    }
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;

    [[nodiscard]] const Watch& watch() const { return *watch_; }
    void give(const std::string& cursor, std::uint64_t looked_at) {
        watch_->given.emplace_back(cursor, looked_at);
        if (watch_->given.size() > kGiven) {
            watch_->given.pop_front();
        }
    }
    [[nodiscard]] std::optional<std::uint64_t> looked_at(const std::string& cursor) const {
        for (const auto& [given, changes] : watch_->given) {
            if (given == cursor) {
                return changes;
            }
        }
        return std::nullopt;
    }

private:
    Sessions& sessions_;
    std::shared_ptr<Watch> watch_;
};

asio::awaitable<void> Sessions::watch_pane(RecordPtr record, std::shared_ptr<Watch> watch) {
    Instant changed_at = clock_.now();
    while (!api::ended(record->view.state) && !shutting_down_ &&
           (watch->followers > 0 || clock_.now() < watch->wanted_until)) {
        if (record->connection == nullptr || record->connection->tmux() == nullptr || record->being_started ||
            record->place.pane_id.empty()) {
            // Out of reach: whatever changes that is told.
            co_await Event::wait_for_either(record->changed, watch->nudge, clock_.now() + kLookDeadline);
            continue;
        }
        const ConnectionUse connection(*record->connection);
        const std::string pane = tmux::pane_target(record->view.id, record->place);
        const auto reply =
            co_await connection->tmux()->request(tmux::pane_state_command(pane), clock_.now() + kLookDeadline);
        const auto state = reply ? tmux::parse_pane_state(*reply) : std::nullopt;
        if (state && state != watch->state) {
            watch->state = state;
            ++watch->changes;
            changed_at = clock_.now();
            record->changed.notify_all();
        }
        const Duration pause = clock_.now() < changed_at + kSilence ? kLook : kSeldomLook;
        co_await watch->nudge.wait_until(clock_.now() + pause);
    }
    watch->running = false;
    if (watch->followers == 0) {
        watches_.erase(record->view.id);
    }
}

asio::awaitable<Result<api::LogsResult>> Sessions::logs(api::LogsParams params, Caller caller) {
    auto found = table_.find(params.session);
    if (!found) {
        co_return std::move(found).error();
    }
    const RecordPtr record = *found;
    std::optional<LogCursor> since;
    if (params.since) {
        // Nothing at all is where everything begins.
        since = params.since->empty() ? LogCursor() : parse_log_cursor(*params.since);
        if (!since) {
            co_return Error{.kind = ErrorKind::InvalidParams,
                            .message = "params.since: " + printable(*params.since) + " is no cursor of logs",
                            .hint = "the cursor of an earlier answer, or none"};
        }
    }
    Instant deadline = clock_.now() + config_.pool.connect_timeout + kLogsDeadline;
    Instant patience = clock_.now();
    std::optional<Follower> follower;
    if (params.wait_ms && since) {
        // A century is "no deadline", and no overflow.
        constexpr std::int64_t kLongest = 100LL * 365 * 24 * 3600 * 1000;
        patience += std::chrono::milliseconds(std::min(*params.wait_ms, kLongest));
        deadline = std::max(deadline, patience + kLogsDeadline);
        follower.emplace(*this, record);
    }
    bool in_time = true;
    while (record->being_started && in_time) {
        in_time = co_await record->changed.wait_until(deadline);
    }
    const auto is_reachable = [record] {
        return record->connection != nullptr && record->connection->tmux() != nullptr;
    };
    const bool was_reachable = is_reachable();
    // Of the watch's changes.
    auto looked_at = follower ? follower->looked_at(*params.since) : std::optional<std::uint64_t>();
    // It may end while it is asked about: then its last screen is what is wanted.
    while (!api::ended(record->view.state)) {
        std::optional<tmux::PaneState> near;
        if (follower) {
            // Who waits for more leaves it to others to bring a server back that is out of reach.
            const Watch& watch = follower->watch();
            const bool news = is_reachable() && watch.state && looked_at != watch.changes &&
                              !(since->place && is_seen(*since->place, *watch.state));
            if (!news) {
                if (shutting_down_) {
                    co_return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
                }
                if (*caller.gone) {
                    co_return Error{.kind = ErrorKind::Cancelled, .message = "the caller is gone"};
                }
                if (clock_.now() >= patience || (was_reachable && !is_reachable())) {
                    api::LogsResult nothing;
                    nothing.cursor = to_text(*since);
                    nothing.state = record->view.state;
                    if (looked_at) {
                        follower->give(nothing.cursor, *looked_at);
                    }
                    co_return nothing;
                }
                co_await Event::wait_for_either(record->changed, *caller.gone_event, patience);
                continue;
            }
            looked_at = watch.changes;
            near = watch.state;
        }
        if (record->connection == nullptr) {
            co_return Error{.kind = ErrorKind::MasterLost,
                            .message = "the server of " + record->view.id + " is not known any more"};
        }
        if (!follower) {
            const ConnectionUse connection(*record->connection);
            auto want =
                want_of(caller, record->view.ctx, record->view.server.key, params.auth_sock, params.interactive);
            const auto ready = co_await reach(record, connection, std::move(want));
            if (api::ended(record->view.state)) {
                break;
            }
            if (!ready) {
                co_return ready.error();
            }
        }
        auto read = co_await read_log(record, ConnectionUse(*record->connection), params, since, near, deadline);
        if (read) {
            read->state = record->view.state;
            if (!follower || !read->text.empty() || read->truncated) {
                if (follower) {
                    follower->give(read->cursor, *looked_at);
                }
                co_return std::move(*read);
            }
            since = parse_log_cursor(read->cursor);
            continue;
        }
        if (api::ended(record->view.state)) {
            break;
        }
        if (read.error().kind != ErrorKind::TmuxFailed) {
            if (follower) {
                continue;
            }
            co_return about(*record, read.error());
        }
        // tmux no longer has it, and the scan under way will say how it ended.
        if (record->connection != nullptr) {
            scan(*record->connection, true);
        }
        in_time = co_await record->changed.wait_until(deadline);
        if (!in_time) {
            co_return about(*record, read.error());
        }
    }
    co_return last_log(*record, params, since);
}

api::LogsResult Sessions::last_log(const SessionRecord& record, const api::LogsParams& params,
                                   const std::optional<LogCursor>& since) const {
    Capture capture;
    capture.lines = split_lines(registry_.screen(record.view.id).value_or(""));
    auto result = cut_log(std::move(capture), params, since);
    result.ended = true;
    result.state = record.view.state;
    return result;
}

asio::awaitable<Result<api::LogsResult>> Sessions::read_log(RecordPtr record, ConnectionUse connection,
                                                            api::LogsParams params, std::optional<LogCursor> since,
                                                            std::optional<tmux::PaneState> near, Instant deadline) {
    const auto escapes = params.escapes ? tmux::Escapes::Kept : tmux::Escapes::LeftOut;
    if (since && since->place) {
        if (!near) {
            const std::string pane = tmux::pane_target(record->view.id, record->place);
            auto* channel = connection->tmux();
            if (channel == nullptr) {
                co_return Error{.kind = ErrorKind::MasterLost,
                                .message = "the connection to the server's tmux was lost"};
            }
            const auto reply = co_await channel->request(tmux::pane_state_command(pane), deadline);
            near = reply ? tmux::parse_pane_state(*reply) : std::nullopt;
        }
        // Behind a screen that a program will take away again, nothing is known to have come or gone.
        if (params.wait_ms && near && near->alternate && !near->dead) {
            api::LogsResult nothing;
            nothing.cursor = to_text(*since);
            co_return nothing;
        }
        const auto first = near ? first_row_needed(*since->place, *near) : std::nullopt;
        if (first) {
            // Counted from the top of the screen.
            auto captured =
                co_await capture(record, ConnectionUse(*connection), escapes, *first - near->history, deadline);
            if (!captured) {
                co_return std::move(captured).error();
            }
            auto read = read_on(std::move(*captured), params, *since);
            if (read) {
                co_return std::move(*read);
            }
        }
    }
    auto captured = co_await capture(record, ConnectionUse(*connection), escapes, std::nullopt, deadline);
    if (!captured) {
        co_return std::move(captured).error();
    }
    co_return cut_log(std::move(*captured), params, since);
}

// From a row on, counted from the top of the screen, or everything.
asio::awaitable<Result<Capture>> Sessions::capture(RecordPtr record, ConnectionUse connection, tmux::Escapes escapes,
                                                   std::optional<std::int64_t> first, Instant deadline) {
    constexpr int kTries = 3;
    for (int attempt = 1;; ++attempt) {
        auto* channel = connection->tmux();
        if (channel == nullptr) {
            co_return Error{.kind = ErrorKind::MasterLost, .message = "the connection to the server's tmux was lost"};
        }
        const std::string pane = tmux::pane_target(record->view.id, record->place);
        const std::int64_t first_row = first.value_or(-kRowsAbove);
        // tmux answers them one behind the other, unless they came in two parts: the same state before and behind says
        // that nothing moved.
        std::vector<std::string> lines = {tmux::pane_state_command(pane), tmux::capture_command(pane, first, escapes),
                                          tmux::rows_command(pane, first_row, channel->version()),
                                          tmux::pane_state_command(pane)};
        auto replies = co_await channel->request_all(std::move(lines), deadline);
        for (const auto& reply : replies) {
            if (!reply) {
                co_return reply.error();
            }
        }
        const auto before = tmux::parse_pane_state(*replies[0]);
        const auto behind = tmux::parse_pane_state(*replies[3]);
        if (!before || !behind) {
            co_return Error{.kind = ErrorKind::TmuxFailed, .message = "tmux gave no state of the pane"};
        }
        Capture capture;
        capture.lines = std::move(*replies[1]);
        capture.last_is_open = !behind->dead && behind->cursor_column > 0;
        capture.first_row = std::max<std::int64_t>(behind->history + first_row, 0);
        const auto rows = static_cast<std::int64_t>(replies[2]->size());
        if (before == behind && capture.first_row + rows == behind->history + behind->height) {
            capture.state = behind;
            capture.rows = std::move(*replies[2]);
        } else if (attempt < kTries) {
            continue;
        }
        co_return capture;
    }
}

}  // namespace cmssh
