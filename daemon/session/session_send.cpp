// Sessions::send.
#include <algorithm>

#include "daemon/base/log.hpp"
#include "daemon/base/random.hpp"
#include "daemon/session/sessions.hpp"
#include "daemon/tmux/tmux_keys.hpp"
#include "protocol/names.hpp"
#include "protocol/tmux_control.hpp"

namespace cmssh {
namespace {

// Megabytes may have to go over a slow line.
constexpr Duration kSendDeadline = std::chrono::minutes(2);
constexpr Duration kCleanDeadline = std::chrono::seconds(15);

// A place in line. Others may be woken by the end of it, not before this coroutine waits again.
class Turn {
public:
    explicit Turn(std::shared_ptr<SessionRecord> record) : record_(std::move(record)) {
        record_->senders.push_back(this);
    }
    ~Turn() { end(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    [[nodiscard]] bool has_come() const { return record_->senders.front() == this; }
    void end() {
        if (std::erase(record_->senders, this) > 0) {
            record_->changed.notify_all();
        }
    }

private:
    std::shared_ptr<SessionRecord> record_;  // shared with the table: the session may be forgotten meanwhile
};

// One that is in use: not taken for one that was left behind.
class PasteBuffer {
public:
    PasteBuffer(std::set<std::string>& in_use, std::string name) : in_use_(in_use), name_(std::move(name)) {
        in_use_.insert(name_);
    }
    ~PasteBuffer() { in_use_.erase(name_); }
    PasteBuffer(const PasteBuffer&) = delete;
    PasteBuffer& operator=(const PasteBuffer&) = delete;

    [[nodiscard]] const std::string& name() const { return name_; }

private:
    std::set<std::string>& in_use_;
    std::string name_;
};

Result<void> check(const api::SendParams& params) {
    if (params.text && !tmux::valid_utf8(*params.text)) {
        return Error{.kind = ErrorKind::InvalidParams, .message = "params.text is not valid UTF-8"};
    }
    for (const auto& key : params.keys) {
        if (!tmux::valid_key(key)) {
            return Error{.kind = ErrorKind::InvalidParams,
                         .message = "params.keys: '" + printable(key) + "' is not the name of a key",
                         .hint =
                             "as tmux names them: C-c, M-x, Enter, Tab, BTab, Escape, Up, S-Up, F1, …, or one "
                             "character; words are text"};
        }
    }
    if (params.text.value_or("").empty() && params.keys.empty() && !params.enter) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "there is nothing to send",
                     .hint = "give a text or keys, or leave enter on"};
    }
    return {};
}

Error about(const SessionRecord& record, Error error) {
    error.session = record.view.id;
    error.server = record.view.server.key;
    return error;
}

Error has_ended(const SessionRecord& record) {
    return about(record, Error{.kind = ErrorKind::SessionEnded,
                               .message = record.view.id + " has ended",
                               .hint = "cmctl logs " + record.view.id});
}

}  // namespace

asio::awaitable<Result<TmuxChannel*>> Sessions::reach(RecordPtr record, const ConnectionUse& connection,
                                                      Connection::Want want) {
    auto ready = co_await connection->ensure_tmux(std::move(want));
    if (!ready) {
        co_return about(*record, std::move(ready).error());
    }
    if (record->place.pane_id.empty()) {
        co_return about(*record,
                        Error{.kind = ErrorKind::TmuxFailed, .message = record->view.id + " has not been started yet"});
    }
    co_return ready->channel;
}

asio::awaitable<Result<api::Empty>> Sessions::send(api::SendParams params, Caller caller) {
    if (auto checked = check(params); !checked) {
        co_return std::move(checked).error();
    }
    auto found = table_.find(params.session);
    if (!found) {
        co_return std::move(found).error();
    }
    const Instant deadline = clock_.now() + config_.pool.connect_timeout + kSendDeadline;
    co_return co_await type(std::move(*found), std::move(params), std::move(caller), deadline);
}

asio::awaitable<Result<api::Empty>> Sessions::type(RecordPtr record, api::SendParams params, Caller caller,
                                                   Instant deadline) {
    Turn turn(record);
    bool in_time = true;
    while ((!turn.has_come() || record->being_started) && in_time && !shutting_down_) {
        in_time = co_await record->changed.wait_until(deadline);
    }
    if (shutting_down_) {
        co_return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
    }
    if (!in_time) {
        co_return about(
            *record, Error{.kind = ErrorKind::Timeout,
                           .message = record->being_started ? record->view.id + " is still being started"
                                                            : record->view.id + " is still being sent something else"});
    }
    if (table_.by_id(record->view.id) == nullptr) {
        co_return Error{.kind = ErrorKind::SessionNotFound,
                        .message = "the start of " + record->view.id + " failed",
                        .hint = "cmctl list --all"};
    }
    if (api::ended(record->view.state)) {
        co_return has_ended(*record);
    }
    if (record->connection == nullptr) {
        co_return about(*record, Error{.kind = ErrorKind::MasterLost,
                                       .message = "the server of " + record->view.id + " is not known any more"});
    }
    const ConnectionUse connection(*record->connection);
    auto want =
        want_of(caller, record->view.ctx, record->view.server.key, std::move(params.auth_sock), params.interactive);
    const auto channel = co_await reach(record, connection, std::move(want));
    if (api::ended(record->view.state)) {
        co_return has_ended(*record);
    }
    if (!channel) {
        co_return channel.error();
    }
    if (caller.wants_answer && *caller.gone) {
        // Who gave up while the login was on its way does not expect it to be typed any more.
        co_return Error{.kind = ErrorKind::Cancelled, .message = "the caller is gone"};
    }
    const PasteBuffer buffer(paste_buffers_,
                             tmux::send_buffer_prefix(connection->ownership()) + std::to_string(random_bits()));
    tmux::Input input;
    input.session_id = record->view.id;
    input.pane = tmux::pane_target(record->view.id, record->place);
    input.keys = std::move(params.keys);
    input.text = std::move(params.text).value_or("");
    input.enter = params.enter && (params.text || input.keys.empty());
    input.buffer = buffer.name();
    input.tmux = (*channel)->version();
    std::vector<std::string> behind;
    if (!input.text.empty()) {
        // Where it was not pasted. Otherwise tmux has no such buffer any more.
        behind.push_back(tmux::delete_buffer_command(input.buffer));
    }
    auto ahead = tmux::buffer_commands(input);
    auto line = tmux::type_command(input);
    input.text.clear();
    // tmux carries out lines in their order: the next may be on its way as soon as this one is.
    turn.end();
    const auto reply =
        co_await (*channel)->request_group(std::move(line), deadline, std::move(ahead), std::move(behind));
    const auto typed = reply ? tmux::parse_typed(*reply) : tmux::Typed::NoPane;
    if (typed == tmux::Typed::All) {
        co_return api::Empty();
    }
    if (api::ended(record->view.state)) {
        co_return has_ended(*record);
    }
    if (!reply && reply.error().kind != ErrorKind::TmuxFailed) {
        Error error = about(*record, reply.error());
        error.message += "; what was sent may have arrived";
        error.hint = "cmctl logs " + record->view.id;
        co_return error;
    }
    if (typed == tmux::Typed::Closed) {
        co_return about(*record, Error{.kind = ErrorKind::TmuxFailed,
                                       .message = "somebody has turned the input of " + record->view.id + " off",
                                       .hint = "tmux select-pane -e, on the server"});
    }
    if (typed == tmux::Typed::Ended || (!reply && reply.error().message.find("has exited") != std::string::npos)) {
        co_return has_ended(*record);
    }
    // tmux no longer has it, and the scan under way will say how it ended.
    scan(*connection, true);
    while (!api::ended(record->view.state) && in_time && !shutting_down_) {
        in_time = co_await record->changed.wait_until(std::min(deadline, clock_.now() + kCleanDeadline));
    }
    if (api::ended(record->view.state)) {
        co_return has_ended(*record);
    }
    co_return about(*record, reply ? Error{.kind = ErrorKind::TmuxFailed,
                                           .message = "tmux on the server has no pane of " + record->view.id}
                                   : reply.error());
}

// Of an earlier daemon, or of a connection that broke: with what was to be typed in them.
asio::awaitable<void> Sessions::remove_old_buffers(ConnectionUse connection) {
    TmuxChannel* channel = connection->tmux();
    if (channel == nullptr) {
        co_return;
    }
    const auto listed =
        co_await channel->request(tmux::list_buffers_command(connection->ownership()), clock_.now() + kCleanDeadline);
    channel = connection->tmux();
    if (!listed || channel == nullptr) {
        co_return;
    }
    std::vector<std::string> lines;
    for (const auto& name : *listed) {
        if (name.starts_with(tmux::send_buffer_prefix(connection->ownership())) && !paste_buffers_.contains(name)) {
            lines.push_back(tmux::delete_buffer_command(name));
        }
    }
    if (!lines.empty()) {
        (void)co_await channel->request_all(std::move(lines), clock_.now() + kCleanDeadline);
    }
}

}  // namespace cmssh
