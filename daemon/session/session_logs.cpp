// Sessions::logs.
#include "daemon/session/screen_text.hpp"
#include "daemon/session/sessions.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// The whole scrollback may have to come over a slow line.
constexpr Duration kLogsDeadline = std::chrono::minutes(2);

}  // namespace

asio::awaitable<Result<api::LogsResult>> Sessions::logs(api::LogsParams params, Caller caller) {
    auto found = table_.find(params.session);
    if (!found) {
        co_return std::move(found).error();
    }
    const RecordPtr record = *found;
    std::optional<LogCursor> since;
    if (params.since) {
        since = parse_log_cursor(*params.since);
        if (!since) {
            co_return Error{.kind = ErrorKind::InvalidParams,
                            .message = "params.since: " + printable(*params.since) + " is no cursor of logs",
                            .hint = "the cursor of an earlier answer, or none"};
        }
    }
    const Instant deadline = clock_.now() + config_.pool.connect_timeout + kLogsDeadline;
    bool in_time = true;
    while (record->being_started && in_time) {
        in_time = co_await record->changed.wait_until(deadline);
    }
    // It may end while it is asked about: then its last screen is what is wanted.
    while (!api::ended(record->view.state)) {
        if (record->connection == nullptr) {
            co_return Error{.kind = ErrorKind::MasterLost,
                            .message = "the server of " + record->view.id + " is not known any more"};
        }
        Connection::Want want;
        want.progress = [progress = caller.progress, ctx = record->view.ctx,
                         server = record->view.server.key](std::string_view phase) { progress(ctx, server, phase); };
        const ConnectionUse connection(*record->connection);
        const auto ready = co_await connection->ensure_tmux(std::move(want));
        if (api::ended(record->view.state)) {
            break;
        }
        if (!ready || record->place.pane_id.empty()) {
            Error error{.kind = ErrorKind::TmuxFailed, .message = record->view.id + " has not been started yet"};
            if (!ready) {
                error = ready.error();
            }
            error.session = record->view.id;
            error.server = record->view.server.key;
            co_return error;
        }
        const std::string pane = tmux::pane_target(record->view.id, record->place);
        std::vector<std::string> lines = {tmux::pane_state_command(pane), tmux::capture_command(pane)};
        auto replies = co_await ready->channel->request_all(std::move(lines), deadline);
        const auto state = replies[0] ? tmux::parse_pane_state(*replies[0]) : std::nullopt;
        if (replies[1] && state) {
            Capture capture;
            capture.lines = std::move(*replies[1]);
            capture.last_is_open = !state->dead && state->cursor_column > 0;
            co_return cut_log(std::move(capture), params, since);
        }
        const auto& failure = replies[1] ? replies[0] : replies[1];
        if (api::ended(record->view.state)) {
            break;
        }
        Error error = failure ? Error{.kind = ErrorKind::TmuxFailed, .message = "tmux gave no state of the pane"}
                              : failure.error();
        if (error.kind != ErrorKind::TmuxFailed) {
            error.session = record->view.id;
            error.server = record->view.server.key;
            co_return error;
        }
        // tmux no longer has it, and the scan under way will say how it ended.
        scan(*connection, true);
        in_time = co_await record->changed.wait_until(deadline);
        if (!in_time) {
            error.session = record->view.id;
            co_return error;
        }
    }
    Capture capture;
    capture.lines = split_lines(registry_.screen(record->view.id).value_or(""));
    co_return cut_log(std::move(capture), params, since);
}

}  // namespace cmssh
