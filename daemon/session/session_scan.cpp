// Sessions and what their servers' tmux says of them: listed, reconciled (reconcile.hpp), and carried out here.
#include <signal.h>

#include <algorithm>
#include <set>

#include "daemon/base/log.hpp"
#include "daemon/session/screen_text.hpp"
#include "daemon/session/sessions.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// Longer than any answer takes: a server's tmux answers in milliseconds. The last screen may be tens of megabytes.
constexpr Duration kScanDeadline = std::chrono::seconds(15);
constexpr Duration kCaptureDeadline = std::chrono::minutes(1);
// tmux collects a dead pane's status a moment after it says that the pane is dead.
constexpr Duration kStatusPause = std::chrono::milliseconds(20);
constexpr Duration kLongestStatusPause = std::chrono::seconds(2);
// Far more than a person has on one server. Each becomes a session here, at the word of the server alone.
constexpr std::size_t kMostPanes = 10'000;
// Of them, so many at a time: other servers' calls come in between.
constexpr std::size_t kActionsAtOnce = 64;

KnownSession known_session(const SessionRecord& record) {
    KnownSession session;
    session.id = record.view.id;
    session.state = record.view.state;
    session.pane_id = record.place.pane_id;
    session.life = record.life;
    session.being_started = record.being_started;
    session.forgotten = record.view.reason == kForgotten;
    session.hangup_sent = record.signals_sent.contains(SIGHUP);
    session.kill_pending = record.pending_kill.has_value() && record.kills_under_way == 0;
    return session;
}

}  // namespace

void Sessions::on_reachable(Connection& connection) {
    begin_sweep(connection);
    scan(connection, true);
    tasks_.spawn(connection.key_text(), remove_old_buffers(ConnectionUse(connection)));
}

void Sessions::on_unreachable(Connection& connection) {
    for (const auto& record : table_.all()) {
        if (record->connection == &connection && record->view.state == api::SessionState::Running) {
            set_state(*record, api::SessionState::Unreachable);
        }
    }
}

void Sessions::on_notification(Connection& connection, const tmux::Notification& notification) {
    if (notification.name == "subscription-changed") {
        scan(connection, false);
        return;
    }
    // Both name the window first: "@3", "@3 dead".
    const std::string_view window = std::string_view(notification.rest).substr(0, notification.rest.find(' '));
    const bool closed = notification.name == "unlinked-window-close";
    if (!closed && !(notification.name == "unlinked-window-renamed" && notification.rest.ends_with(" dead"))) {
        return;
    }
    const auto& records = table_.all();
    // The newest first: what ends is often young.
    const auto found = std::find_if(records.rbegin(), records.rend(), [&](const RecordPtr& record) {
        return record->connection == &connection && record->place.window_id == window;
    });
    if (found != records.rend()) {
        scan(connection, closed);
    }
}

void Sessions::scan(Connection& connection, bool everything) {
    if (shutting_down_) {
        return;
    }
    Scan& scan = scans_[&connection];
    scan.again = true;
    scan.everything = scan.everything || everything;
    if (!scan.running) {
        scan.running = true;
        tasks_.spawn(connection.key_text(), run_scan(ConnectionUse(connection)));
    }
}

std::vector<KnownSession> Sessions::known_on(const Connection& connection) const {
    std::vector<KnownSession> known;
    for (const auto& record : table_.all()) {
        // An ended one has let go of its connection; its pane may still be there.
        if (record->connection != &connection &&
            !(record->connection == nullptr && record->view.server.key == connection.key_text())) {
            continue;
        }
        known.push_back(known_session(*record));
    }
    return known;
}

asio::awaitable<void> Sessions::run_scan(ConnectionUse used) {
    Connection& connection = *used;
    Duration status_pause = kStatusPause;
    while (scans_[&connection].again && !shutting_down_) {
        Scan& scan = scans_[&connection];
        scan.again = false;
        TmuxChannel* channel = connection.tmux();
        if (channel == nullptr) {
            break;
        }
        Listing listing;
        listing.complete = std::exchange(scan.everything, false);
        listing.life = channel->life();
        // A session that is made while the list is on its way is not in it.
        std::set<std::string> asked_about;
        for (const auto& session : known_on(connection)) {
            if (!session.being_started) {
                asked_about.insert(session.id);
            }
        }
        const auto reply = co_await channel->request(tmux::list_command(connection.ownership(), !listing.complete),
                                                     clock_.now() + kScanDeadline);
        if (!reply) {
            log_debug(connection.key_text(), "sessions were not listed: " + reply.error().message);
            continue;
        }
        if (reply->size() > kMostPanes) {
            log_warn(connection.key_text(), "the server's tmux claims " + std::to_string(reply->size()) +
                                                " panes of ours, which is not believed: no session is found there");
            continue;
        }
        listing.panes = tmux::parse_panes(*reply);
        auto known = known_on(connection);
        for (auto& session : known) {
            session.was_asked_about = asked_about.contains(session.id);
        }
        const bool all_told = co_await carry_out(connection, reconcile(known, listing));
        if (listing.complete && listed_.insert(connection.key_text()).second) {
            listed_changed_.notify_all();
        }
        if (!all_told) {
            co_await stop_.wait_until(clock_.now() + status_pause);
            status_pause = std::min(status_pause * 2, kLongestStatusPause);
            if (auto* still = connection.tmux(); still != nullptr && !shutting_down_) {
                (void)co_await still->request(tmux::collect_status_command(), clock_.now() + kScanDeadline);
            }
            scans_[&connection].again = true;
        }
    }
    scans_.erase(&connection);
}

asio::awaitable<bool> Sessions::carry_out(Connection& connection, std::vector<Action> actions) {
    bool all_told = true;
    std::size_t carried_out = 0;
    for (const auto& action : actions) {
        if (++carried_out % kActionsAtOnce == 0) {
            co_await stop_.wait_until(clock_.now());
        }
        if (std::holds_alternative<AwaitStatus>(action)) {
            all_told = false;
        } else if (const auto* unknown = std::get_if<Adopt>(&action)) {
            adopt(connection, unknown->row);
        } else if (const auto* remove = std::get_if<RemovePane>(&action)) {
            if (const auto record = table_.by_id(remove->session_id);
                record != nullptr && record->view.reason == kForgotten) {
                sweep_later(connection, {record->view.id, remove->place.pane_pid});
            }
            tasks_.spawn(connection.key_text(),
                         remove_pane(ConnectionUse(connection), tmux::pane_target(remove->session_id, remove->place)));
        } else if (const auto* running = std::get_if<SetRunning>(&action)) {
            // Others may have decided while an earlier action waited (a kill has ended it), and the server may be out
            // of reach again by now.
            if (const auto record = table_.by_id(running->id);
                record != nullptr && !record->being_started && connection.tmux() != nullptr &&
                (!api::ended(record->view.state) || may_come_back(known_session(*record)))) {
                set_running(*record, connection, running->row);
            }
        } else if (const auto* kill = std::get_if<CarryOutKill>(&action)) {
            if (auto record = table_.by_id(kill->id); record != nullptr && record->pending_kill) {
                tasks_.spawn(kill->id, carry_out_kill(std::move(record)));
            }
        } else if (const auto* finished = std::get_if<Finish>(&action)) {
            if (auto record = table_.by_id(finished->id); record != nullptr && !record->being_started) {
                co_await finish(std::move(record), connection, finished->row);
            }
        } else if (const auto* lost = std::get_if<Lose>(&action)) {
            const auto record = table_.by_id(lost->id);
            if (record != nullptr && !api::ended(record->view.state) && !record->being_started) {
                end(*record, api::SessionState::Lost, std::string(lost->reason));
            }
        } else if (const auto* killed = std::get_if<ConfirmKill>(&action)) {
            const auto record = table_.by_id(killed->id);
            if (record != nullptr && !api::ended(record->view.state)) {
                sweep_later(connection, {record->view.id, record->place.pane_pid, tmux::Leftover::Since::LongAgo});
                end(*record, api::SessionState::Killed, std::nullopt);
            }
        }
    }
    co_return all_told;
}

void Sessions::set_running(SessionRecord& record, Connection& connection, const tmux::PaneRow& row) {
    const bool ended = api::ended(record.view.state);
    const bool news = ended || record.place.pane_id.empty();
    if (ended) {
        // Given up, and it was on its way all the same.
        record.view.ended_at.reset();
        record.view.reason.reset();
        record.ended_ms = 0;
    }
    if (record.connection == nullptr) {
        attach_to(record, connection);
    }
    // A person may have moved it to another window.
    record.place = row.place;
    if (TmuxChannel* channel = connection.tmux()) {
        record.life = channel->life();
    }
    record.view.as_of = now_text();
    if (record.view.state != api::SessionState::Running) {
        set_state(record, api::SessionState::Running);
    }
    if (news) {
        registry_.put(record, Durability::Process);
    }
}

// Its status was read with the list; now its last screen. Both are committed before tmux is told to let go of it.
asio::awaitable<void> Sessions::finish(RecordPtr record, Connection& connection, tmux::PaneRow row) {
    TmuxChannel* channel = connection.tmux();
    if (channel == nullptr) {
        co_return;  // the scan at the next on_reachable() finds it again
    }
    const auto clock_offset_ms = channel->clock_offset_ms();
    const std::string pane = tmux::pane_target(record->view.id, row.place);
    const auto captured = co_await channel->request(tmux::capture_command(pane), clock_.now() + kCaptureDeadline);
    const bool gone = !captured && captured.error().kind == ErrorKind::TmuxFailed;
    if ((!captured && !gone) || record->being_started) {
        co_return;
    }
    if (!api::ended(record->view.state) || record->connection == nullptr) {
        record->place = row.place;
        end_by_row(*record, row, clock_offset_ms, captured ? std::optional(joined_lines(*captured)) : std::nullopt);
    }
    tasks_.spawn(record->view.id, remove_pane(ConnectionUse(connection), pane));
}

void Sessions::adopt(Connection& connection, const tmux::PaneRow& row) {
    if (table_.by_id(row.session_id) != nullptr) {
        return;
    }
    auto record = std::make_shared<SessionRecord>(clock_);
    record->view.id = row.session_id;
    record->view.name = table_.name_in_use(row.note.name) ? row.session_id : row.note.name;
    record->view.ctx = row.note.ctx;
    record->view.server = connection.server();
    record->view.command = row.note.command;
    record->view.cwd = row.note.cwd;
    record->created_ms = row.note.created_ms;
    record->view.created_at = format_time(record->created_ms);
    record->view.as_of = now_text();
    record->view.state = api::SessionState::Running;
    record->view.tmux = {.socket = config_.sessions.tmux_socket, .session = row.session_id};
    record->request_id = row.note.request_id;
    record->place = row.place;
    if (TmuxChannel* channel = connection.tmux()) {
        record->life = channel->life();
    }
    attach_to(*record, connection);
    table_.add(record);
    tell_changed(*record);
    registry_.put(*record, Durability::Process);
    log_info(record->view.id, "found on " + connection.key_text());
}

asio::awaitable<void> Sessions::remove_pane(ConnectionUse connection, std::string pane) {
    // What is not saved is the server's to remember: keep_registry() comes back to it.
    if (auto* channel = connection->tmux(); channel != nullptr && !registry_.unsaved()) {
        (void)co_await channel->request(tmux::kill_pane_command(pane), clock_.now() + kScanDeadline);
    }
}

}  // namespace cmssh
