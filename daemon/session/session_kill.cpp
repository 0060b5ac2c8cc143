// Sessions::kill and what is left of a killed session on its server.
#include <signal.h>

#include <algorithm>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/session/pending_kill.hpp"
#include "daemon/session/screen_text.hpp"
#include "daemon/session/sessions.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr Duration kKillDeadline = std::chrono::seconds(15);
// A program that has ended is told of within a second or two, by any tmux.
constexpr Duration kEndingDeadline = std::chrono::seconds(5);
constexpr int kForegroundGone = 3;  // signal_command's exit code

}  // namespace

asio::awaitable<Result<api::KillResult>> Sessions::kill(api::KillParams params, Caller caller) {
    auto found = table_.find(params.session);
    if (!found) {
        co_return std::move(found).error();
    }
    const RecordPtr record = *found;
    int signal = 0;
    if (params.signal) {
        signal = signal_number(*params.signal);
        if (signal == 0) {
            co_return Error{.kind = ErrorKind::InvalidParams,
                            .message = "params.signal: " + printable(*params.signal) + " is no signal",
                            .hint = "TERM, INT, KILL, … or a number"};
        }
    }
    if (record->being_started && !record->tmux_asked && !api::ended(record->view.state)) {
        // It waits for a login, and is given up when that has ended.
        record->cancelled = true;
        api::KillResult cancelled;
        cancelled.session = record->view;
        cancelled.pending = true;
        co_return cancelled;
    }
    const Instant deadline = clock_.now() + config_.pool.connect_timeout + kKillDeadline;
    bool in_time = true;
    while (record->being_started && in_time) {
        in_time = co_await record->changed.wait_until(deadline);
    }
    if (record->being_started) {
        Error error{.kind = ErrorKind::Timeout,
                    .message = record->view.id + " is still being started",
                    .hint = "cmctl kill " + record->view.id};
        error.session = record->view.id;
        error.server = record->view.server.key;
        co_return error;
    }
    if (table_.by_id(record->view.id) == nullptr) {
        co_return Error{.kind = ErrorKind::SessionNotFound,
                        .message = "the start of " + record->view.id + " failed",
                        .hint = "cmctl list --all"};
    }
    api::KillResult result;
    if (api::ended(record->view.state)) {
        result.session = record->view;
        co_return result;
    }
    if (params.forget) {
        if (record->connection == nullptr) {
            end(*record, api::SessionState::Lost, std::string(kForgotten));
            result.session = record->view;
            co_return result;
        }
        const ConnectionUse connection(*record->connection);
        end(*record, api::SessionState::Lost, std::string(kForgotten));
        // Where the server is there after all, its tmux lets go of what has ended.
        scan(*connection, true);
        result.session = record->view;
        co_return result;
    }
    if (record->connection == nullptr) {
        co_return pending_kill(*record, signal, "its server is not known any more");
    }
    ConnectionUse connection(*record->connection);
    const bool cold = connection->tmux() == nullptr;
    if (cold) {
        // A login takes its time, and what was asked for is not to end with us.
        (void)pending_kill(*record, signal, "its server is not reached yet");
    }
    auto want =
        want_of(caller, record->view.ctx, record->view.server.key, std::move(params.auth_sock), params.interactive);
    const auto ready = co_await connection->ensure_tmux(std::move(want));
    if (api::ended(record->view.state)) {
        result.session = record->view;
        co_return result;
    }
    if (!ready) {
        co_return pending_kill(*record, signal, ready.error().message);
    }
    if (cold && record->pending_kill == "") {
        // A signal leaves a kill that was asked for before in its place.
        signal = 0;
    } else if (cold && signal != 0 && !take_signal(record->pending_kill, signal_name(signal))) {
        // Whoever looked at the server first sends it.
        result.session = record->view;
        co_return result;
    }
    if (signal == 0) {
        co_return co_await kill_by_tmux(record, std::move(connection));
    }
    auto sent = co_await kill_by_signal(record, std::move(connection), signal, cold ? Promise::Given : Promise::None);
    if (cold) {
        registry_.put(*record, Durability::Process);
    }
    co_return sent;
}

// Durable: it is carried out when the server is reachable, by whichever daemon.
api::KillResult Sessions::pending_kill(SessionRecord& record, int signal, const std::string& why) {
    log_info(record.view.id, "kill is pending: " + why);
    // A signal does not take the place of a kill that is asked for already, nor of another signal.
    if (signal == 0) {
        record.pending_kill = "";
    } else {
        add_signal(record.pending_kill, signal_name(signal));
    }
    registry_.put(record, Durability::Power);
    api::KillResult result;
    result.session = record.view;
    result.pending = true;
    result.reason = why;
    return result;
}

asio::awaitable<Result<api::KillResult>> Sessions::kill_by_tmux(RecordPtr record, ConnectionUse connection) {
    struct UnderWay {
        explicit UnderWay(int& count) : kills(count) { ++kills; }
        ~UnderWay() { --kills; }
        UnderWay(const UnderWay&) = delete;
        UnderWay& operator=(const UnderWay&) = delete;
        int& kills;
    };
    const UnderWay under_way(record->kills_under_way);
    const Instant deadline = clock_.now() + kKillDeadline;
    const auto unanswered = [this, &record](const Error& why) {
        if (!api::ended(record->view.state)) {
            return pending_kill(*record, 0, why.message);
        }
        api::KillResult ended;
        ended.session = record->view;
        return ended;
    };
    // Whatever becomes of this daemon: it was asked for, and should the answer be lost, a session that is gone was
    // killed by us.
    record->pending_kill = "";
    record->signals_sent.insert(SIGHUP);
    registry_.put(*record, Durability::Process);
    // tmux may have it without our having been told so: its pane is then the session's only one.
    const bool confirmed = !record->place.pane_id.empty();
    const std::string pane = tmux::pane_target(record->view.id, record->place);
    // The screen is kept before tmux lets go of it.
    const auto captured = co_await connection->tmux()->request(tmux::capture_command(pane), deadline);
    TmuxChannel* channel = connection->tmux();
    if ((!captured && captured.error().kind != ErrorKind::TmuxFailed) || channel == nullptr ||
        api::ended(record->view.state)) {
        co_return unanswered(captured ? Error{.kind = ErrorKind::MasterLost, .message = "the connection was lost"}
                                      : captured.error());
    }
    if (captured) {
        registry_.put_ended(*record, joined_lines(*captured), Durability::Power);
    }
    if (registry_.unsaved() && confirmed) {
        co_return co_await kill_unsaved(record, std::move(connection));
    }
    const auto clock_offset_ms = channel->clock_offset_ms();
    std::vector<std::string> lines = {tmux::show_command(record->view.id), tmux::kill_session_command(record->view.id)};
    const auto replies = co_await channel->request_all(std::move(lines), deadline);
    api::KillResult result;
    const auto& shown = replies[0];
    const auto& killed = replies[1];
    if (!killed && killed.error().kind != ErrorKind::TmuxFailed) {
        co_return unanswered(killed.error());
    }
    if (!api::ended(record->view.state)) {
        // It may have ended by itself before the kill came: then that is what happened.
        const tmux::PaneRow* own = nullptr;
        std::vector<tmux::PaneRow> rows;
        if (shown) {
            rows = tmux::parse_panes(*shown);
            for (const auto& row : rows) {
                if (!confirmed || row.place.pane_id == record->place.pane_id) {
                    own = &row;
                }
            }
        }
        if (own != nullptr && own->dead && !own->status_pending()) {
            end_by_row(*record, *own, clock_offset_ms, std::nullopt);
        } else if (!killed && confirmed) {
            end(*record, api::SessionState::Lost, std::string(kGone));
        } else {
            end(*record, api::SessionState::Killed, std::nullopt);
            sweep_later(*connection, {record->view.id, record->place.pane_pid});
        }
    }
    result.session = record->view;
    co_return result;
}

// What can't be saved is the server's to remember: the program is ended, and its pane stays with screen and status
// until it can be.
asio::awaitable<Result<api::KillResult>> Sessions::kill_unsaved(RecordPtr record, ConnectionUse connection) {
    constexpr Duration kEnding = tmux::kSweepDelay + kEndingDeadline;
    record->signals_sent.insert(SIGKILL);
    if (TmuxChannel* channel = connection->tmux()) {
        tmux::SessionNote note = note_of(*record);
        note.killed = true;
        (void)co_await channel->request(tmux::set_note_command(record->view.id, note), clock_.now() + kKillDeadline);
    }
    auto killed = co_await kill_by_signal(record, ConnectionUse(*connection), SIGHUP, Promise::None);
    if (api::ended(record->view.state) || (killed && killed->pending)) {
        co_return killed;
    }
    sweep_later(*connection, {record->view.id, record->place.pane_pid});
    const Instant deadline = clock_.now() + kEnding;
    bool in_time = true;
    while (!api::ended(record->view.state) && !shutting_down_ && in_time) {
        in_time = co_await record->changed.wait_until(deadline);
    }
    api::KillResult result;
    result.session = record->view;
    result.pending = !api::ended(record->view.state);
    co_return result;
}

asio::awaitable<Result<api::KillResult>> Sessions::kill_by_signal(RecordPtr record, ConnectionUse connection,
                                                                  int signal, Promise promise) {
    const Instant deadline = clock_.now() + kKillDeadline;
    // While tmux has the pane alive, its pid is nobody else's.
    TmuxChannel* channel = connection->tmux();
    TmuxChannel::Reply shown = Error{.kind = ErrorKind::MasterLost, .message = "the connection was lost"};
    if (channel != nullptr) {
        shown = co_await channel->request(tmux::show_command(record->view.id), deadline);
    }
    if (!shown && shown.error().kind != ErrorKind::TmuxFailed) {
        co_return pending_or_ended(*record, signal, shown.error());
    }
    const auto rows = shown ? tmux::parse_panes(*shown) : std::vector<tmux::PaneRow>();
    const bool alive = std::any_of(rows.begin(), rows.end(), [&record](const tmux::PaneRow& row) {
        return row.place.pane_id == record->place.pane_id && row.place.pane_pid == record->place.pane_pid && !row.dead;
    });
    if (!alive) {
        co_return co_await not_signalled(std::move(record), std::move(connection), signal);
    }
    // Before it is sent: the end may be announced before the channel that carried the signal has closed. One that was
    // promised stays so until it is: should this daemon end in between, twice is better than never.
    record->signals_sent.insert(signal);
    StoredSession kept = *record;
    if (promise == Promise::Given) {
        add_signal(kept.pending_kill, signal_name(signal));
    }
    registry_.put(kept, Durability::Process);
    const auto sent = co_await connection->run(tmux::signal_command(record->place.pane_pid, signal), deadline);
    if (!sent) {
        Error error = sent.error();
        if (error.kind == ErrorKind::ChannelRefused) {
            record->signals_sent.erase(signal);
        } else {
            error.message = "signal " + signal_name(signal) + " may have arrived: " + error.message;
            error.hint = "cmctl get " + record->view.id;
        }
        error.session = record->view.id;
        error.server = record->view.server.key;
        co_return error;
    }
    if (sent->exit_code != 0 && !api::ended(record->view.state)) {
        record->signals_sent.erase(signal);
        if (sent->exit_code != kForegroundGone) {
            Error error{.kind = ErrorKind::Internal,
                        .message = "signal " + signal_name(signal) +
                                   " was not sent: " + printable(first_line(sent->standard_error))};
            error.session = record->view.id;
            co_return error;
        }
        co_return co_await not_signalled(std::move(record), std::move(connection), signal);
    }
    api::KillResult result;
    result.session = record->view;
    co_return result;
}

api::KillResult Sessions::pending_or_ended(SessionRecord& record, int signal, const Error& why) {
    if (!api::ended(record.view.state)) {
        return pending_kill(record, signal, why.message);
    }
    api::KillResult result;
    result.session = record.view;
    return result;
}

// Nothing was there for the signal: it is just ending, or it has no process in the foreground.
asio::awaitable<Result<api::KillResult>> Sessions::not_signalled(RecordPtr record, ConnectionUse connection,
                                                                 int signal) {
    const Instant deadline = clock_.now() + kEndingDeadline;
    scan(*connection, true);
    bool in_time = true;
    while (!api::ended(record->view.state) && !shutting_down_ && in_time) {
        in_time = co_await record->changed.wait_until(deadline);
    }
    if (!api::ended(record->view.state)) {
        Error error{.kind = ErrorKind::TmuxFailed,
                    .message = "signal " + signal_name(signal) + " was not sent: " + record->view.id +
                               " has no process in the foreground of its terminal",
                    .hint = "cmctl kill " + record->view.id};
        error.session = record->view.id;
        error.server = record->view.server.key;
        co_return error;
    }
    api::KillResult result;
    result.session = record->view;
    co_return result;
}

asio::awaitable<void> Sessions::carry_out_kill(RecordPtr record) {
    const auto can_be_asked = [&record] {
        return record->connection != nullptr && record->connection->tmux() != nullptr && record->kills_under_way == 0;
    };
    if (can_be_asked() && record->pending_kill == "") {
        (void)co_await kill_by_tmux(record, ConnectionUse(*record->connection));
        co_return;
    }
    for (auto names = pending_signals(record->pending_kill); can_be_asked() && !names.empty();
         names = pending_signals(record->pending_kill)) {
        (void)take_signal(record->pending_kill, names.front());
        const int signal = signal_number(names.front());
        const auto killed = co_await kill_by_signal(record, ConnectionUse(*record->connection), signal, Promise::Given);
        if (killed && killed->pending) {
            break;
        }
        if (!killed && !api::ended(record->view.state)) {
            const auto kind = killed.error().kind;
            if (kind == ErrorKind::MasterLost || kind == ErrorKind::Timeout || kind == ErrorKind::ChannelRefused) {
                (void)pending_kill(*record, signal, killed.error().message);
                break;
            }
            log_warn(record->view.id, "the kill that was asked for is given up: " + killed.error().message);
        }
    }
    registry_.put(*record, Durability::Power);
}

void Sessions::keep_leftover(const std::string& server_key, tmux::Leftover leftover) {
    if (leftover.pane_pid > 1) {
        leftovers_[server_key].sessions.push_back(std::move(leftover));
    }
}

void Sessions::sweep_later(Connection& connection, tmux::Leftover leftover) {
    keep_leftover(connection.key_text(), std::move(leftover));
    begin_sweep(connection);
}

void Sessions::begin_sweep(Connection& connection) {
    const auto found = leftovers_.find(connection.key_text());
    if (found != leftovers_.end() && !found->second.under_way && !shutting_down_) {
        found->second.under_way = true;
        tasks_.spawn(connection.key_text(), sweep(ConnectionUse(connection)));
    }
}

// The waiting is done on the server, where it outlives the connection and this daemon. What does not get there is kept
// for the next connection.
asio::awaitable<void> Sessions::sweep(ConnectionUse connection) {
    constexpr int kTries = 5;
    constexpr Duration kPause = std::chrono::seconds(1);
    const std::string key = connection->key_text();
    for (int tries = 0; tries < kTries && !leftovers_[key].sessions.empty() && !shutting_down_;) {
        auto& due = leftovers_[key].sessions;
        const auto count = static_cast<std::ptrdiff_t>(std::min(due.size(), tmux::kSweptAtOnce));
        const std::vector<tmux::Leftover> now(due.begin(), due.begin() + count);
        due.erase(due.begin(), due.begin() + count);
        auto command = tmux::sweep_command(now, tmux::kSweepDelay);
        const auto swept = co_await connection->run(std::move(command), clock_.now() + kKillDeadline);
        if (swept && swept->exit_code == 0) {
            tries = 0;
            continue;
        }
        log_warn(key, "what is left of killed sessions was not ended yet: " +
                          (swept ? printable(first_line(swept->standard_error)) : swept.error().message));
        auto& left = leftovers_[key].sessions;
        left.insert(left.begin(), now.begin(), now.end());
        if (!swept && swept.error().kind == ErrorKind::MasterLost) {
            break;
        }
        ++tries;
        co_await stop_.wait_until(clock_.now() + kPause);
    }
    auto& left = leftovers_[key];
    left.under_way = false;
    for (auto& session : left.sessions) {
        session.since = tmux::Leftover::Since::LongAgo;
    }
    if (left.sessions.empty()) {
        leftovers_.erase(key);
    }
}

}  // namespace cmssh
