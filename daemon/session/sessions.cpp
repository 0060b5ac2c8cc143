#include "daemon/session/sessions.hpp"

#include <algorithm>
#include <limits>

#include "daemon/base/log.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr Duration kScanDeadline = std::chrono::seconds(30);
// tmux shows a dead pane a moment before it has collected the program's status, and may need a push to do so.
constexpr Duration kStatusPause = std::chrono::milliseconds(20);
constexpr Duration kLongestStatusPause = std::chrono::seconds(2);
constexpr Duration kResolveDeadline = std::chrono::seconds(15);

}  // namespace

Sessions::Sessions(asio::any_io_executor executor, Clock& clock, const Config& config, IdentityResolver& resolver)
    : executor_(executor),
      clock_(clock),
      config_(config),
      resolver_(resolver),
      stop_(clock),
      tasks_(std::move(executor), clock) {}

std::string Sessions::now_text() const {
    return format_time(clock_.wall_ms());
}

asio::awaitable<Result<Sessions::Found>> Sessions::find_connection(std::optional<std::string> ctx) {
    auto context = resolve_context(config_, ctx);
    if (!context) {
        co_return std::move(context).error();
    }
    auto identity = co_await resolver_.resolve(context->route, clock_.now() + kResolveDeadline);
    if (shutting_down_) {
        // Its ssh may have been ended with the others, and the pool was told already.
        co_return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
    }
    if (!identity) {
        Error error = std::move(identity).error();
        error.ctx = context->name;
        co_return error;
    }
    const bool is_new = pool_->find(identity->key.text()) == nullptr;
    auto connection = pool_->get(*identity, context->route, context->prewarm);
    if (!connection) {
        Error error = std::move(connection).error();
        error.ctx = context->name;
        co_return error;
    }
    Found found;
    found.context = std::move(*context);
    found.connection = ConnectionUse(**connection);
    found.is_new = is_new;
    co_return found;
}

Result<api::ListResult> Sessions::list(const api::ListParams& params) {
    table_.forget_ended(clock_.wall_ms() - config_.sessions.keep_ended.count());
    api::ListResult result;
    for (const auto& record : table_.all()) {
        const auto& view = record->view;
        if (params.ctx && view.ctx != *params.ctx) {
            continue;
        }
        if (params.state ? view.state == *params.state : params.all || !api::ended(view.state)) {
            result.sessions.push_back(view);
        }
    }
    return result;
}

Result<api::SessionResult> Sessions::get(const api::SessionParams& params) const {
    auto found = table_.find(params.session);
    if (!found) {
        return std::move(found).error();
    }
    api::SessionResult result;
    result.session = (*found)->view;
    return result;
}

asio::awaitable<Result<api::SessionResult>> Sessions::wait(api::WaitParams params, Caller caller) {
    auto found = table_.find(params.session);
    if (!found) {
        co_return std::move(found).error();
    }
    const RecordPtr record = *found;
    Instant deadline = Instant::max();
    if (params.timeout_ms) {
        // A century is "no deadline", and no overflow.
        constexpr std::int64_t kLongest = 100LL * 365 * 24 * 3600 * 1000;
        deadline = clock_.now() + std::chrono::milliseconds(std::min(*params.timeout_ms, kLongest));
    }
    bool in_time = true;
    while (!api::ended(record->view.state) && !*caller.gone && !shutting_down_ && in_time) {
        in_time = co_await Event::wait_for_either(record->changed, *caller.gone_event, deadline);
    }
    if (!api::ended(record->view.state)) {
        Error error{.kind = shutting_down_ ? ErrorKind::ShuttingDown : ErrorKind::Timeout,
                    .message = record->view.id + " has not ended",
                    .hint = "cmctl wait " + record->view.id};
        error.session = record->view.id;
        co_return error;
    }
    api::SessionResult result;
    result.session = record->view;
    co_return result;
}

void Sessions::set_state(SessionRecord& record, api::SessionState state) {
    record.view.state = state;
    record.changed.notify_all();
}

void Sessions::end(SessionRecord& record, api::SessionState state, std::optional<std::string> reason) {
    if (record.ended_ms == 0) {
        record.ended_ms = clock_.wall_ms();
    }
    record.view.ended_at = format_time(record.ended_ms);
    record.view.as_of = now_text();
    record.view.reason = std::move(reason);
    record.pending_kill.reset();
    log_info(record.view.id, std::string(to_string(state)) + (record.view.reason ? ": " + *record.view.reason : ""));
    set_state(record, state);
    record.connection = nullptr;
    // Last: it may end the connection.
    record.hold = Hold();
}

void Sessions::end_by_row(SessionRecord& record, const tmux::PaneRow& row, std::int64_t clock_offset_ms) {
    if (row.exit_status) {
        record.view.exit_code = row.exit_status;
    }
    if (row.signal != 0) {
        record.view.signal = signal_name(row.signal);
        record.view.exit_code.reset();
    }
    if (row.dead_time != 0) {
        // Our clock may have been set back behind its start.
        record.ended_ms =
            std::max(record.created_ms, std::min(row.dead_time * 1000 - clock_offset_ms, clock_.wall_ms()));
    }
    const bool by_us = row.signal != 0 && record.signals_sent.contains(row.signal);
    end(record, by_us ? api::SessionState::Killed : api::SessionState::Exited, std::nullopt);
}

void Sessions::on_reachable(Connection& connection) {
    scan(connection, true);
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

asio::awaitable<void> Sessions::run_scan(ConnectionUse used) {
    Connection& connection = *used;
    Duration status_pause = kStatusPause;
    while (scans_[&connection].again && !shutting_down_) {
        Scan& scan = scans_[&connection];
        scan.again = false;
        const bool everything = std::exchange(scan.everything, false);
        TmuxChannel* channel = connection.tmux();
        if (channel == nullptr) {
            break;
        }
        // A session that is made while the list is on its way is not in it.
        std::vector<RecordPtr> asked_about;
        if (everything) {
            for (const auto& record : table_.all()) {
                if (record->connection == &connection && !record->being_started) {
                    asked_about.push_back(record);
                }
            }
        }
        const auto reply = co_await channel->request(tmux::list_command(connection.ownership(), !everything),
                                                     clock_.now() + kScanDeadline);
        if (!reply) {
            log_debug(connection.key_text(), "sessions were not listed: " + reply.error().message);
            continue;
        }
        bool status_pending = false;
        std::set<std::string> seen;
        for (const auto& row : tmux::parse_panes(*reply)) {
            seen.insert(row.session_id);
            apply(connection, row, status_pending);
        }
        for (const auto& record : asked_about) {
            if (!api::ended(record->view.state) && !seen.contains(record->view.id)) {
                end(*record, api::SessionState::Lost, "it is gone from the server's tmux");
            }
        }
        if (status_pending) {
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

void Sessions::apply(Connection& connection, const tmux::PaneRow& row, bool& status_pending) {
    TmuxChannel* channel = connection.tmux();
    auto record = table_.by_id(row.session_id);
    if (record == nullptr) {
        adopt(connection, row);
        record = table_.by_id(row.session_id);
    }
    if (record == nullptr || channel == nullptr || record->being_started) {
        // A start under way looks again when it is done.
        status_pending = status_pending || (row.dead && record != nullptr && record->being_started);
        return;
    }
    if (record->place.pane_id.empty()) {
        record->place = row.place;
    }
    if (record->place.pane_id != row.place.pane_id) {
        return;  // a pane that a person made beside ours
    }
    if (api::ended(record->view.state)) {
        // Read and told, or given up: tmux may let go of it.
        tasks_.spawn(record->view.id, remove_pane(ConnectionUse(connection), row.place.pane_id));
        return;
    }
    if (row.status_pending()) {
        status_pending = true;
        return;
    }
    if (row.dead) {
        end_by_row(*record, row, channel->clock_offset_ms());
        tasks_.spawn(record->view.id, remove_pane(ConnectionUse(connection), row.place.pane_id));
        return;
    }
    record->view.as_of = now_text();
    if (record->view.state != api::SessionState::Running) {
        set_state(*record, api::SessionState::Running);
    }
    if (record->pending_kill) {
        tasks_.spawn(record->view.id, carry_out_kill(record));
    }
}

void Sessions::adopt(Connection& connection, const tmux::PaneRow& row) {
    if (!row.session_id.starts_with(kSessionIdPrefix)) {
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
    record->connection = &connection;
    record->hold = Hold(connection, HoldKind::Session);
    table_.add(record);
    log_info(record->view.id, "found on " + connection.key_text());
}

asio::awaitable<void> Sessions::remove_pane(ConnectionUse connection, std::string pane_id) {
    if (auto* channel = connection->tmux()) {
        (void)co_await channel->request(tmux::kill_pane_command(pane_id), clock_.now() + kScanDeadline);
    }
}

asio::awaitable<void> Sessions::carry_out_kill(RecordPtr record) {
    const std::string signal = *std::exchange(record->pending_kill, std::nullopt);
    Connection* connection = record->connection;
    if (connection == nullptr || connection->tmux() == nullptr) {
        record->pending_kill = signal;
        co_return;
    }
    if (signal.empty()) {
        (void)co_await kill_by_tmux(record, ConnectionUse(*connection));
    } else {
        (void)co_await kill_by_signal(record, ConnectionUse(*connection), signal_number(signal));
    }
}

void Sessions::request_stop() {
    shutting_down_ = true;
    stop_.notify_all();
    for (const auto& record : table_.all()) {
        record->changed.notify_all();
    }
}

asio::awaitable<void> Sessions::shut_down() {
    co_await tasks_.join_until(Instant::max());
    // The holds go before the connections.
    for (const auto& record : table_.all()) {
        record->hold = Hold();
    }
}

}  // namespace cmssh
