#include "daemon/session/forwards.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "daemon/base/control_socket.hpp"
#include "daemon/base/log.hpp"
#include "daemon/base/random.hpp"
#include "daemon/ssh/listen_probe.hpp"
#include "protocol/forward_spec.hpp"
#include "protocol/names.hpp"
#include "protocol/remote_command.hpp"

namespace cmssh {
namespace {

// A port that was lost to somebody else, or that a server has not yet let go of.
constexpr Duration kFirstRetry = std::chrono::seconds(1);
constexpr Duration kLongestRetry = std::chrono::seconds(30);
constexpr Duration kStopDeadline = std::chrono::seconds(1);

bool listens_here(const mux::Forward& forward) {
    return forward.type != mux::ForwardType::Remote;
}

// "127.0.0.1:0" and the port that the server chose.
std::string with_port(const std::string& listen, int port) {
    return listen.substr(0, listen.rfind(':') + 1) + std::to_string(port);
}

void unlink_stale(const mux::Forward& forward) {
    // ssh leaves the file of a socket that it no longer listens on.
    if (listens_here(forward) && forward.listen.port == mux::kUnixPath &&
        open_control_socket(forward.listen.host).state == ControlSocketState::Stale) {
        ::unlink(forward.listen.host.c_str());
    }
}

Error not_listening(const api::Forward& view, const mux::Forward& forward, const std::string& reason) {
    const std::string who = listens_here(forward) ? "the ssh master" : view.server.key;
    Error error{.kind = ErrorKind::ChannelRefused,
                .message = who + " does not listen on " + printable(view.listen) + ": " + printable(reason)};
    if (listens_here(forward)) {
        return error;
    }
    error.hint =
        forward.listen.port == mux::kUnixPath
            ? "remove the path there; StreamLocalBindUnlink in the server's sshd_config does it each time"
            : "it is in use there, or AllowTcpForwarding or PermitListen of the server's sshd_config forbids it";
    return error;
}

std::string reason_without_master(const Connection& connection) {
    using State = ConnectionMachine::State;
    const bool disconnected = connection.state() == State::Idle || connection.state() == State::Draining;
    if (disconnected || !connection.last_error()) {
        return connection.key_text() + " is not connected";
    }
    return connection.last_error()->message;
}

}  // namespace

Forwards::Forwards(asio::any_io_executor executor, Clock& clock, const Config& config, Sessions& sessions,
                   Leases& leases, Registry& registry)
    : clock_(clock),
      config_(config),
      sessions_(sessions),
      leases_(leases),
      registry_(registry),
      tasks_(std::move(executor), clock) {}

asio::awaitable<Result<api::ForwardResult>> Forwards::add(api::ForwardAddParams params, Caller caller) {
    auto wanted = parse_forward(params.kind, params.listen, params.target);
    if (!wanted) {
        co_return std::move(wanted).error();
    }
    if (params.session && params.lease) {
        co_return Error{.kind = ErrorKind::InvalidParams,
                        .message = "params.lease: a forward has one owner, and params.session names one already"};
    }
    SessionTable::RecordPtr session;
    if (params.session) {
        auto found = sessions_.table().find(*params.session);
        if (!found) {
            co_return std::move(found).error();
        }
        session = std::move(*found);
        if (!params.ctx) {
            params.ctx = session->view.ctx;
        }
    }
    const auto record = std::make_shared<Record>(clock_);
    record->wanted = std::move(*wanted);
    record->opened = record->wanted;
    record->listen = params.listen;
    record->view.kind = params.kind;
    record->view.listen = params.listen;
    record->view.target = params.target;
    record->view.lease = params.lease;
    if (session) {
        record->view.session = session->view.id;
    }
    auto made = co_await connect(record, params, session, caller);
    if (made && stopping_) {
        made = Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
    }
    if (made && session && api::ended(session->view.state)) {
        made = Error{.kind = ErrorKind::SessionEnded, .message = session->view.id + " has ended"};
        made.error().session = session->view.id;
    }
    if (made && params.lease && !leases_.holds(*params.lease, caller)) {
        made = Error{.kind = ErrorKind::InvalidParams,
                     .message = "params.lease: " + printable(*params.lease) + " is no lease of this client"};
    }
    if (!made) {
        co_await close(record);
        forget(record);
        if (!record->view.id.empty()) {
            registry_.remove_forward(record->view.id);
        }
        record->closed = true;
        record->changed.notify_all();
        co_return std::move(made).error();
    }
    if (record->view.listen != record->listen) {
        put(*record);  // with the port that the server chose
    }
    tasks_.spawn(record->view.id, keep(record));
    if (session) {
        tasks_.spawn(record->view.id, end_with_session(record, std::move(session)));
    }
    if (params.lease) {
        tasks_.spawn(record->view.id, end_with_lease(record, std::move(caller)));
    }
    api::ForwardResult result;
    result.forward = record->view;
    co_return result;
}

asio::awaitable<Result<void>> Forwards::connect(RecordPtr record, const api::ForwardAddParams& params,
                                                SessionTable::RecordPtr session, Caller caller) {
    auto found = co_await sessions_.find_connection(params.ctx);
    if (!found) {
        co_return std::move(found).error();
    }
    record->connection = std::move(found->connection);
    Connection& connection = *record->connection;
    record->view.ctx = found->context.name;
    record->view.server = connection.server();
    if (session && session->view.server.key != record->view.server.key) {
        co_return Error{.kind = ErrorKind::InvalidParams,
                        .message = "params.session: " + session->view.id + " is on " + session->view.server.key +
                                   ", and " + printable(record->view.ctx) + " leads to " + record->view.server.key,
                        .hint = "leave params.ctx out: it is the session's then"};
    }
    if (records_.size() >= kMaxForwards) {
        co_return Error{.kind = ErrorKind::Limit,
                        .message = "there are " + std::to_string(kMaxForwards) + " forwards already",
                        .hint = "cmctl forward list"};
    }
    auto free = check_free(*record);
    if (!free) {
        co_return free;
    }
    do {
        record->view.id = make_forward_id(random_bits());
    } while (std::any_of(records_.begin(), records_.end(),
                         [&record](const RecordPtr& other) { return other->view.id == record->view.id; }));
    // From here on nobody else gets the place where it listens.
    records_.push_back(record);
    tell_changed(*record);
    record->hold = Hold(connection, HoldKind::Lease);
    auto want = want_of(caller, record->view.ctx, connection.key_text(), params.auth_sock, params.interactive);
    const auto ready = co_await connection.ensure_up(std::move(want));
    auto made = ready ? Result<void>() : Result<void>(ready.error());
    if (made) {
        const auto master = connection.master();
        if (master == nullptr) {
            made = Error{.kind = ErrorKind::MasterLost, .message = reason_without_master(connection)};
        } else {
            // Before it is open: whatever becomes of this daemon, it is known.
            put(*record);
            made = co_await open(record, master);
        }
    }
    if (!made) {
        made.error().ctx = record->view.ctx;
        made.error().server = connection.key_text();
        if (made.error().kind == ErrorKind::Cancelled && made.error().hint.empty()) {
            made.error().hint = "cmctl connect " + record->view.ctx;
        }
    }
    co_return made;
}

void Forwards::restore(std::vector<StoredForward> stored) {
    for (auto& forward : stored) {
        const std::string& id = forward.view.id;
        auto wanted = parse_forward(forward.view.kind, forward.view.listen, forward.view.target);
        auto opened = parse_forward(forward.view.kind, forward.listen, forward.view.target);
        if (!wanted || !opened) {
            log_warn(id, "is not understood and forgotten");
            registry_.remove_forward(id);
            continue;
        }
        // A registry that can be read only now has those of this daemon, too.
        if (std::any_of(records_.begin(), records_.end(), [&id](const auto& known) { return known->view.id == id; })) {
            continue;
        }
        const auto record = std::make_shared<Record>(clock_);
        record->wanted = std::move(*wanted);
        record->opened = std::move(*opened);
        record->was_open = true;
        record->listen = std::move(forward.listen);
        record->view = std::move(forward.view);
        record->view.active = false;
        record->view.error = "not yet";
        if (Connection* connection = sessions_.connection_of(record->view.server.key)) {
            record->connection = ConnectionUse(*connection);
            record->view.server = connection->server();
        }
        records_.push_back(record);
        tell_changed(*record);
        tasks_.spawn(record->view.id, restore_one(record));
    }
}

void Forwards::put_all() {
    for (const auto& record : records_) {
        put(*record);
    }
}

void Forwards::put(const Record& record) {
    StoredForward stored;
    stored.view = record.view;
    stored.listen = record.listen;
    registry_.put(stored);
}

asio::awaitable<void> Forwards::restore_one(RecordPtr record) {
    co_await sessions_.wait_for_restore(Instant::max());
    if (!record->connection) {
        co_await find_again(record);
    }
    if (record->connection) {
        Connection& connection = *record->connection;
        // It may be open there still.
        record->on = connection.master();
        const auto session = record->view.session ? sessions_.table().by_id(*record->view.session) : nullptr;
        if (session) {
            tasks_.spawn(record->view.id, end_with_session(record, session));
        } else if (record->view.lease || record->view.session) {
            end(*record);  // its owner went with the daemon, or without one
        }
        if (!record->ended && !connection.stored().held_back) {
            record->hold = Hold(connection, HoldKind::Lease);
            tasks_.spawn(record->view.id, bring_up(record));
        }
    }
    co_await keep(record);
}

// Ends it where ssh's configuration leads elsewhere by that name.
asio::awaitable<void> Forwards::find_again(RecordPtr record) {
    while (!record->ended && !stopping_) {
        auto found = co_await sessions_.find_connection(record->view.ctx);
        if (found && found->connection->key_text() == record->view.server.key) {
            record->connection = std::move(found->connection);
            record->view.server = record->connection->server();
            co_return;
        }
        if (found) {
            log_warn(record->view.id, "is forgotten: " + printable(record->view.ctx) + " leads to " +
                                          found->connection->key_text() + " now");
            end(*record);
            co_return;
        }
        record->view.error = found.error().message;
        tell_changed(*record);
        co_await record->changed.wait_until(clock_.now() + kLongestRetry);
    }
}

asio::awaitable<void> Forwards::bring_up(RecordPtr record) {
    Connection::Want want;
    (void)co_await record->connection->ensure_up(std::move(want));
}

Result<void> Forwards::check_free(const Record& record) const {
    const auto same_place = [&record](const RecordPtr& other) {
        if (listens_here(record.wanted) != listens_here(other->wanted)) {
            return false;
        }
        if (listens_here(record.wanted)) {
            return record.wanted.listen == other->wanted.listen;
        }
        // An ssh master gives the same port to who asks for any port twice, with one target.
        const bool any_port = record.wanted.listen.port == 0;
        return record.view.server.key == other->view.server.key &&
               (any_port ? record.wanted == other->opened : record.wanted.listen == other->wanted.listen);
    };
    const auto found = std::find_if(records_.begin(), records_.end(), same_place);
    if (found == records_.end()) {
        return {};
    }
    const api::Forward& other = (*found)->view;
    if (!listens_here(record.wanted) && record.wanted.listen.port == 0) {
        return Error{.kind = ErrorKind::NameTaken,
                     .message = "ssh gives one port for -R 0 to " +
                                printable(record.view.target.value_or("any target")) + " on a connection, and " +
                                other.id + " has it: " + printable(other.listen),
                     .hint = "give a port"};
    }
    return Error{.kind = ErrorKind::NameTaken,
                 .message = printable(other.listen) + " is forwarded already: " + other.id,
                 .hint = "cmctl forward rm " + other.id};
}

asio::awaitable<Result<void>> Forwards::open(RecordPtr record, std::shared_ptr<Master> master) {
    const bool remote = !listens_here(record->wanted);
    const mux::Forward forward = record->wanted;
    const Instant deadline = clock_.now() + (remote ? config_.pool.connect_timeout : config_.pool.health_timeout);
    if (master->adopted()) {
        // An earlier daemon may have left it open there.
        (void)co_await master->close_forward(record->opened, deadline);
    }
    if (!remote) {
        auto free = probe_listen(forward.listen);
        if (!free) {
            co_return free;
        }
    }
    co_await unlink_there(record);
    // Before the answer: one that does not come in time leaves something to be closed too.
    record->on = master;
    record->opened = forward;
    if (std::exchange(record->listen, record->view.listen) != record->view.listen) {
        put(*record);
    }
    const auto port = co_await master->open_forward(forward, deadline);
    if (!port && port.error().kind == ErrorKind::ChannelRefused) {
        record->on.reset();
        co_return not_listening(record->view, forward, port.error().message);
    }
    if (!port) {
        co_return port.error();
    }
    if (*port != 0) {
        record->wanted.listen.port = static_cast<std::uint32_t>(*port);
        record->view.listen = with_port(record->view.listen, *port);
    }
    record->was_open = true;
    record->view.active = true;
    record->view.error.reset();
    tell_changed(*record);
    co_return Result<void>();
}

asio::awaitable<void> Forwards::close(RecordPtr record) {
    const auto master = record->on.lock();
    record->on.reset();
    record->view.active = false;
    tell_changed(*record);
    if (master != nullptr && !master->dead()) {
        const Instant deadline = clock_.now() + (stopping_ ? kStopDeadline : Duration(config_.pool.health_timeout));
        (void)co_await master->close_forward(record->opened, deadline);
    }
    unlink_stale(record->opened);
}

// sshd leaves the file of a socket that it no longer listens on, and does not listen where one is.
asio::awaitable<void> Forwards::unlink_there(RecordPtr record) {
    const mux::Forward& forward = record->opened;
    if (listens_here(forward) || forward.listen.port != mux::kUnixPath || !record->was_open ||
        !record->connection->has_master()) {
        co_return;
    }
    std::string script = "p=" + sh_quote(forward.listen.host) + R"sh(
[ -S "$p" ] && [ -r /proc/net/unix ] || exit 0
while IFS= read -r l; do case $l in *" $p") exit 0 ;; esac; done </proc/net/unix
rm -f -- "$p")sh";
    (void)co_await record->connection->run(for_any_shell(script), clock_.now() + config_.pool.connect_timeout);
}

asio::awaitable<void> Forwards::keep(RecordPtr record) {
    std::weak_ptr<Master> tried;
    Duration pause = kFirstRetry;
    Instant retry_at{};
    while (!record->ended && !stopping_) {
        Connection& connection = *record->connection;
        const auto master = connection.master();
        if (record->view.active && (master == nullptr || record->on.lock() != master)) {
            co_await step_aside(record);
            continue;
        }
        hold_as_needed(*record);
        Instant until = Instant::max();
        if (!record->view.active && master == nullptr) {
            record->view.error = reason_without_master(connection);
            tell_changed(*record);
        } else if (!record->view.active) {
            if (tried.lock() != master) {
                tried = master;
                pause = kFirstRetry;
                retry_at = clock_.now();
            }
            if (clock_.now() >= retry_at) {
                const auto opened = co_await open(record, master);
                if (opened) {
                    log_info(record->view.id, "is open again");
                } else {
                    record->view.error = opened.error().message;
                    tell_changed(*record);
                    log_warn(record->view.id, "is not open: " + opened.error().message);
                    retry_at = clock_.now() + pause;
                    pause = std::min(pause * 2, kLongestRetry);
                }
                continue;
            }
            until = retry_at;
        }
        co_await Event::wait_for_either(record->changed, connection.changed(), until);
    }
    co_await close(record);
    if (record->ended) {
        if (record->connection) {
            co_await unlink_there(record);
        }
        registry_.remove_forward(record->view.id);
    }
    record->closed = true;
    record->changed.notify_all();
    forget(record);
    record->earlier.clear();
    record->hold = Hold();
}

asio::awaitable<void> Forwards::step_aside(RecordPtr record) {
    Connection& connection = *record->connection;
    if (const auto master = record->on.lock(); master != nullptr && !master->dead()) {
        Earlier earlier;
        earlier.master = master;
        earlier.hold = std::exchange(record->hold, Hold(connection, HoldKind::Lease));
        record->earlier.push_back(std::move(earlier));
    }
    record->view.error = reason_without_master(connection);
    co_await close(record);
}

void Forwards::hold_as_needed(Record& record) {
    std::erase_if(record.earlier, [](const Earlier& earlier) {
        const auto master = earlier.master.lock();
        return master == nullptr || master->dead();
    });
    // A connection is disconnected with all that goes through it.
    switch (record.connection->state()) {
        case ConnectionMachine::State::Idle:
        case ConnectionMachine::State::Draining:
            record.earlier.clear();
            record.hold = Hold();
            break;
        case ConnectionMachine::State::Connecting:
        case ConnectionMachine::State::Up:
        case ConnectionMachine::State::Degraded:
        case ConnectionMachine::State::Backoff:
        case ConnectionMachine::State::NeedsAuth:
        case ConnectionMachine::State::Failed:
            if (!record.hold) {
                record.hold = Hold(*record.connection, HoldKind::Lease);
            }
            break;
    }
}

asio::awaitable<void> Forwards::end_with_session(RecordPtr record, SessionTable::RecordPtr session) {
    while (!record->ended && !stopping_ && !api::ended(session->view.state)) {
        co_await Event::wait_for_either(record->changed, session->changed, Instant::max());
    }
    // The session outlives this daemon.
    if (!stopping_) {
        end(*record);
    }
}

asio::awaitable<void> Forwards::end_with_lease(RecordPtr record, Caller caller) {
    while (!record->ended && !stopping_ && leases_.holds(*record->view.lease, caller)) {
        co_await Event::wait_for_either(record->changed, leases_.ended(), Instant::max());
    }
    end(*record);
}

void Forwards::end(Record& record) {
    record.ended = true;
    record.changed.notify_all();
}

void Forwards::forget(const RecordPtr& record) {
    std::erase(records_, record);
    tell_changed(*record);
}

void Forwards::tell_changed(const Record& record) const {
    if (on_changed_ && !record.view.id.empty()) {
        on_changed_(record.view.id);
    }
}

std::optional<api::Forward> Forwards::find(const std::string& id) const {
    const auto found = std::find_if(records_.begin(), records_.end(),
                                    [&id](const RecordPtr& record) { return record->view.id == id; });
    return found == records_.end() ? std::nullopt : std::optional((*found)->view);
}

api::ForwardListResult Forwards::list(const api::ForwardListParams& params) const {
    api::ForwardListResult result;
    for (const auto& record : records_) {
        if (!params.ctx || record->view.ctx == *params.ctx) {
            result.forwards.push_back(record->view);
        }
    }
    return result;
}

asio::awaitable<Result<api::Empty>> Forwards::remove(api::ForwardRemoveParams params) {
    const auto found = std::find_if(records_.begin(), records_.end(),
                                    [&params](const RecordPtr& record) { return record->view.id == params.forward; });
    if (found == records_.end()) {
        if (stopping_) {
            // The next daemon has it again.
            co_return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
        }
        co_return Error{.kind = ErrorKind::InvalidParams,
                        .message = "params.forward: there is no forward " + printable(params.forward),
                        .hint = "cmctl forward list"};
    }
    const RecordPtr record = *found;
    end(*record);
    while (!record->closed) {
        co_await record->changed.wait();
    }
    co_return api::Empty();
}

asio::awaitable<void> Forwards::close_all() {
    stopping_ = true;
    for (const auto& record : records_) {
        record->changed.notify_all();
    }
    co_await tasks_.join_until(clock_.now() + kStopDeadline);
}

asio::awaitable<void> Forwards::shut_down() {
    co_await tasks_.join_until(Instant::max());
    records_.clear();
}

}  // namespace cmssh
