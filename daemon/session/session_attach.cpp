// Sessions::find_running: a session for somebody who wants to attach to it.
#include "daemon/session/sessions.hpp"

namespace cmssh {
namespace {

// A start under way asks tmux and looks at the directory; a server that is reachable again is asked for its sessions.
constexpr Duration kStartDeadline = std::chrono::minutes(1);
constexpr Duration kScanDeadline = std::chrono::seconds(15);

Error told_of(const SessionRecord& record, Error error) {
    error.ctx = record.view.ctx;
    error.server = record.view.server.key;
    error.session = record.view.id;
    return error;
}

Error ended_error(const SessionRecord& record) {
    std::string how(to_string(record.view.state));
    if (record.view.reason) {
        how += ": " + *record.view.reason;
    }
    return told_of(record, {.kind = ErrorKind::SessionEnded,
                            .message = record.view.id + " has ended (" + how + ")",
                            .hint = "cmctl logs " + record.view.id});
}

}  // namespace

asio::awaitable<Result<Sessions::FoundSession>> Sessions::find_running(std::string word,
                                                                       std::optional<std::string> auth_sock,
                                                                       bool interactive, Caller caller) {
    auto found = table_.find(word);
    if (!found) {
        co_return std::move(found).error();
    }
    const RecordPtr record = *found;
    const api::Session& view = record->view;
    Instant deadline = clock_.now() + config_.pool.connect_timeout + kStartDeadline;
    bool in_time = true;
    while (record->being_started && in_time && !*caller.gone && !shutting_down_) {
        in_time = co_await Event::wait_for_either(record->changed, *caller.gone_event, deadline);
    }
    if (api::ended(view.state)) {
        co_return ended_error(*record);
    }
    if (record->connection == nullptr) {
        Error error{.kind = ErrorKind::MasterLost, .message = "the server of " + view.id + " is not known any more"};
        error.hint = "cmctl connect " + view.ctx;
        co_return told_of(*record, std::move(error));
    }
    FoundSession result;
    result.server.context.name = view.ctx;
    result.server.connection = ConnectionUse(*record->connection);
    Connection& connection = *result.server.connection;
    auto want = want_of(caller, view.ctx, connection.key_text(), std::move(auth_sock), interactive);
    const auto ready = co_await connection.ensure_tmux(std::move(want));
    if (!ready && !api::ended(view.state)) {
        co_return told_of(*record, ready.error());
    }
    // What is reachable again, or was asked for without an answer, may be gone: tmux is asked.
    if (view.state != api::SessionState::Running && !api::ended(view.state)) {
        scan(connection, true);
    }
    deadline = clock_.now() + kScanDeadline;
    while (view.state != api::SessionState::Running && !api::ended(view.state) && in_time && !*caller.gone &&
           !shutting_down_) {
        in_time = co_await Event::wait_for_either(record->changed, *caller.gone_event, deadline);
    }
    if (api::ended(view.state)) {
        co_return ended_error(*record);
    }
    if (shutting_down_) {
        co_return told_of(*record, {.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"});
    }
    if (view.state != api::SessionState::Running) {
        co_return told_of(*record, {.kind = ErrorKind::Timeout,
                                    .message = "the server did not tell in time whether " + view.id + " is there",
                                    .hint = "cmctl check " + view.ctx});
    }
    result.view = view;
    co_return result;
}

}  // namespace cmssh
