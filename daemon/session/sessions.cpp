#include "daemon/session/sessions.hpp"

#include <algorithm>
#include <limits>

#include "daemon/base/log.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr Duration kResolveDeadline = std::chrono::seconds(15);
// An earlier daemon may have ended before it had what is left of a killed session ended.
constexpr std::chrono::milliseconds kSweptAgain = std::chrono::minutes(10);

}  // namespace

Sessions::Sessions(asio::any_io_executor executor, Clock& clock, const Config& config, IdentityResolver& resolver,
                   Registry& registry)
    : executor_(executor),
      clock_(clock),
      config_(config),
      resolver_(resolver),
      registry_(registry),
      restored_(clock),
      listed_changed_(clock),
      stop_(clock),
      tasks_(std::move(executor), clock) {}

std::string Sessions::now_text() const {
    return format_time(clock_.wall_ms());
}

namespace {

// Whom ssh may ask for a call that says that a person is there; nullptr where nobody waits for its answer.
std::shared_ptr<Person> person_of(const Caller& caller, std::string ctx) {
    if (!caller.wants_answer || !caller.notify) {
        return nullptr;
    }
    auto person = std::make_shared<Person>();
    person->ctx = std::move(ctx);
    person->client = caller.client;
    person->gone = caller.gone;
    person->gone_event = caller.gone_event;
    person->show = [notify = caller.notify](const api::Prompt& prompt) { notify("prompt", api::write(prompt)); };
    return person;
}

// Or is up, or about to be.
bool reconnects_by_itself(ConnectionMachine::State state) {
    using State = ConnectionMachine::State;
    return state != State::Idle && state != State::NeedsAuth && state != State::Failed;
}

}  // namespace

Connection::Want want_of(const Caller& caller, const std::string& ctx, const std::string& server_key,
                         std::optional<std::string> auth_sock, bool interactive) {
    Connection::Want want;
    want.auth_sock = std::move(auth_sock);
    want.person = interactive ? person_of(caller, ctx) : nullptr;
    want.progress = [progress = caller.progress, ctx, server_key](std::string_view phase) {
        progress(ctx, server_key, phase);
    };
    return want;
}

asio::awaitable<Result<Sessions::Found>> Sessions::find_connection(std::optional<std::string> ctx) {
    auto context = resolve_context(config_, ctx);
    if (!context) {
        co_return std::move(context).error();
    }
    co_return co_await find_connection_of(std::move(*context), std::nullopt);
}

asio::awaitable<Result<Sessions::Found>> Sessions::find_connection_like(std::string ctx, std::string settings) {
    auto context = resolve_context(config_, ctx);
    if (!context) {
        co_return std::move(context).error();
    }
    co_return co_await find_connection_of(std::move(*context), std::move(settings));
}

asio::awaitable<Result<ConnectionUse>> Sessions::find_hop(SshRoute route) {
    ResolvedContext context;
    context.name = route.destination.host;
    context.route = std::move(route);
    auto found = co_await find_connection_of(std::move(context), std::nullopt);
    if (!found) {
        co_return std::move(found).error();
    }
    co_return std::move(found->connection);
}

Connection* Sessions::connection_at(const std::string& control_path) const {
    for (const auto& [key, connection] : pool_->connections()) {
        if (connection->control_path() == control_path) {
            return connection.get();
        }
    }
    return nullptr;
}

asio::awaitable<Result<Sessions::Found>> Sessions::find_connection_of(ResolvedContext context,
                                                                      std::optional<std::string> settings) {
    auto identity = co_await resolver_.resolve(context.route, clock_.now() + kResolveDeadline);
    if (shutting_down_) {
        // Its ssh may have been ended with the others, and the pool was told already.
        co_return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
    }
    if (!identity) {
        Error error = std::move(identity).error();
        error.ctx = context.name;
        co_return error;
    }
    if (settings && *settings != identity->dump.settings) {
        co_return Error{.kind = ErrorKind::InvalidParams,
                        .message = "params.settings: the daemon's ssh would not do the same for " + context.name};
    }
    const bool is_new = pool_->find(identity->key.text()) == nullptr;
    auto connection = pool_->get(*identity, context.route, context.prewarm);
    if (!connection) {
        Error error = std::move(connection).error();
        error.ctx = context.name;
        co_return error;
    }
    (*connection)->set_ctx(context.name);
    if (context.configured) {
        (*connection)->set_configured();
    }
    Found found;
    found.context = std::move(context);
    found.connection = ConnectionUse(**connection);
    found.is_new = is_new;
    co_return found;
}

void Sessions::restore(Registry::Contents contents) {
    for (const auto& stored : contents.connections) {
        listed_.insert(stored.key.text());
        if (const auto made = pool_->get(stored, false); !made) {
            log_warn(stored.key.text(), "is not taken over: " + made.error().message);
        }
    }
    for (; !contents.sessions.empty(); contents.sessions.pop_front()) {
        restore_session(std::move(contents.sessions.front()));
    }
    forget_ended();
    if (keeper_.restore) {
        keeper_.restore(std::move(contents.forwards));
    }
    ++restoring_;
    tasks_.spawn("restore", restore_connections(std::move(contents.connections)));
}

void Sessions::restore_session(StoredSession stored) {
    auto record = std::make_shared<SessionRecord>(clock_, std::move(stored));
    if (!api::ended(record->view.state)) {
        if (record->view.state == api::SessionState::Running) {
            record->view.state = api::SessionState::Unreachable;
        }
        if (Connection* connection = pool_->find(record->view.server.key)) {
            connection->set_ctx(record->view.ctx);
            attach_to(*record, *connection);
        } else {
            tasks_.spawn(record->view.id, reattach(record));
        }
    }
    if (!api::ended(record->view.state)) {
        tell_changed(*record);
    } else if (record->view.state == api::SessionState::Killed &&
               record->ended_ms > clock_.wall_ms() - kSweptAgain.count()) {
        keep_leftover(record->view.server.key,
                      {record->view.id, record->place.pane_pid, tmux::Leftover::Since::LongAgo});
    }
    table_.add(std::move(record));
}

asio::awaitable<void> Sessions::restore_connections(std::vector<StoredConnection> stored) {
    std::vector<std::string> keys;
    for (const auto& connection : stored) {
        keys.push_back(connection.key.text());
    }
    co_await pool_->restore(std::move(stored));
    for (const auto& key : keys) {
        if (pool_->find(key) == nullptr) {
            registry_.remove_connection(key);
        }
    }
    --restoring_;
    restored_.notify_all();
}

asio::awaitable<void> Sessions::wait_for_restore(Instant deadline) {
    bool in_time = true;
    while (restoring_ > 0 && !shutting_down_ && in_time) {
        in_time = co_await restored_.wait_until(deadline);
    }
}

asio::awaitable<void> Sessions::meet(LeftMasters left) {
    for (const auto& server : left.servers) {
        if (pool_->find(server.text()) == nullptr) {
            // ssh's configuration may lead elsewhere by that name.
            const std::function<bool(const Connection&)> is_there = [&server](const Connection& connection) {
                return connection.key_text() == server.text();
            };
            co_await meet_at(server.text(), is_there);
        }
    }
    // Each is asked of ssh -G.
    constexpr std::size_t kMostNames = 200;
    left.names.resize(std::min(left.names.size(), kMostNames));
    const std::function<bool(const Connection&)> is_left = [&left](const Connection& connection) {
        return left.unnamed.contains(connection.control_path());
    };
    for (const auto& name : left.names) {
        for (const auto& [key, connection] : pool_->connections()) {
            left.unnamed.erase(connection->control_path());
        }
        if (left.unnamed.empty() || shutting_down_) {
            co_return;
        }
        co_await meet_at(name, is_left);
    }
}

asio::awaitable<void> Sessions::meet_at(std::string name, std::function<bool(const Connection&)> is_there) {
    auto found = co_await find_connection(std::move(name));
    if (!found) {
        co_return;
    }
    if (is_there(*found->connection)) {
        co_await found->connection->check();
        if (found->connection->has_master()) {
            (void)co_await found->connection->ensure_tmux({});
        }
    }
    const std::string reached = found->connection->key_text();
    found->connection = ConnectionUse();
    pool_->forget_idle(reached);
}

asio::awaitable<void> Sessions::keep_registry() {
    // Seldom where all is well: a daemon that has nothing to do does nothing.
    constexpr Duration kLook = std::chrono::seconds(5);
    constexpr Duration kRetry = std::chrono::seconds(1);
    constexpr Duration kCheckpoint = std::chrono::minutes(1);
    Instant checkpoint_at = clock_.now() + kCheckpoint;
    while (!shutting_down_) {
        co_await stop_.wait_until(clock_.now() + (registry_.unsaved() ? kRetry : kLook));
        if (registry_.unsaved()) {
            registry_.retry();
            if (!registry_.unsaved()) {
                // Panes that were kept because their ends were not saved.
                for (const auto& [key, connection] : pool_->connections()) {
                    if (connection->tmux() != nullptr) {
                        scan(*connection, true);
                    }
                }
            }
        }
        if (registry_.take_found()) {
            auto contents = registry_.load();
            std::erase_if(contents.sessions,
                          [this](const StoredSession& stored) { return table_.by_id(stored.view.id) != nullptr; });
            std::erase_if(contents.connections,
                          [this](const StoredConnection& stored) { return pool_->find(stored.key.text()) != nullptr; });
            restore(std::move(contents));
        }
        if (registry_.take_rebuilt()) {
            for (const auto& record : table_.all()) {
                registry_.put(*record, Durability::Process);
            }
            for (const auto& [key, connection] : pool_->connections()) {
                if (connection->has_master() || connection->refs() > 0) {
                    registry_.put(connection->stored());
                }
            }
            if (keeper_.put_all) {
                keeper_.put_all();
            }
        }
        if (clock_.now() >= checkpoint_at || registry_.has_long_log()) {
            checkpoint_at = clock_.now() + kCheckpoint;
            registry_.checkpoint();
        }
    }
}

void Sessions::on_master(Connection& connection) {
    registry_.put(connection.stored());
}

void Sessions::on_no_master(Connection& connection) {
    registry_.remove_connection(connection.key_text());
}

// The registry has the session and not its server: by its context, where that leads there still.
asio::awaitable<void> Sessions::reattach(RecordPtr record) {
    auto found = co_await find_connection(record->view.ctx);
    if (!found) {
        log_warn(record->view.id, "its server is not known any more: " + found.error().message);
        co_return;
    }
    if (found->connection->key_text() != record->view.server.key) {
        log_warn(record->view.id, record->view.ctx + " leads to " + found->connection->key_text() +
                                      " now, and not to " + record->view.server.key);
        co_return;
    }
    if (!api::ended(record->view.state) && record->connection == nullptr) {
        attach_to(*record, *found->connection);
        StoredConnection stored = found->connection->stored();
        stored.held_back = false;
        const bool has_master = co_await found->connection->restore(std::move(stored));
        if (has_master) {
            co_await found->connection->open_restored_tmux();
        }
    }
}

api::ListedSessions Sessions::list(const api::ListParams& params) {
    forget_ended();
    api::ListedSessions result;
    for (const auto& record : table_.all()) {
        const auto& view = record->view;
        if (params.ctx && view.ctx != *params.ctx) {
            continue;
        }
        if (params.state ? view.state == *params.state : params.all || !api::ended(view.state)) {
            result.sessions.push_back(&view);
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
    const auto failure = std::make_shared<std::optional<Error>>();
    reach_for_wait(record, caller, params, failure);
    bool in_time = true;
    while (!api::ended(record->view.state) && !*failure && !*caller.gone && !shutting_down_ && in_time) {
        in_time = co_await Event::wait_for_either(record->changed, *caller.gone_event, deadline);
    }
    if (!api::ended(record->view.state) && *failure) {
        Error error = **failure;
        error.session = record->view.id;
        co_return error;
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

void Sessions::reach_for_wait(const RecordPtr& record, const Caller& caller, api::WaitParams& params,
                              std::shared_ptr<std::optional<Error>> failure) {
    if (api::ended(record->view.state) || record->connection == nullptr ||
        reconnects_by_itself(record->connection->state())) {
        return;
    }
    auto want =
        want_of(caller, record->view.ctx, record->view.server.key, std::move(params.auth_sock), params.interactive);
    tasks_.spawn(record->view.id,
                 reach(record, ConnectionUse(*record->connection), std::move(want), std::move(failure)));
}

asio::awaitable<void> Sessions::reach(RecordPtr record, ConnectionUse connection, Connection::Want want,
                                      std::shared_ptr<std::optional<Error>> failure) {
    const auto ready = co_await connection->ensure_tmux(std::move(want));
    if (!ready && !reconnects_by_itself(connection->state())) {
        *failure = ready.error();
        record->changed.notify_all();
    }
}

void Sessions::set_state(SessionRecord& record, api::SessionState state) {
    record.view.state = state;
    record.changed.notify_all();
    tell_changed(record);
}

void Sessions::tell_changed(const SessionRecord& record) const {
    if (on_changed_) {
        on_changed_(record.view.id);
    }
}

void Sessions::end(SessionRecord& record, api::SessionState state, std::optional<std::string> reason,
                   std::optional<std::string> screen) {
    if (record.ended_ms == 0) {
        record.ended_ms = clock_.wall_ms();
    }
    record.view.ended_at = format_time(record.ended_ms);
    record.view.as_of = now_text();
    record.view.reason = std::move(reason);
    record.view.state = state;
    record.pending_kill.reset();
    if (screen) {
        // The pane goes next.
        registry_.put_ended(record, *screen, Durability::Power);
    } else {
        registry_.put(record, Durability::Process);
    }
    log_info(record.view.id, std::string(to_string(state)) + (record.view.reason ? ": " + *record.view.reason : ""));
    record.changed.notify_all();
    tell_changed(record);
    record.connection = nullptr;
    // Last: it may end the connection.
    record.hold = Hold();
}

void Sessions::end_by_row(SessionRecord& record, const tmux::PaneRow& row, std::int64_t clock_offset_ms,
                          std::optional<std::string> screen) {
    if (row.exit_status) {
        record.view.exit_code = row.exit_status;
    }
    if (row.signal != 0) {
        record.view.signal = signal_name(row.signal);
        record.view.exit_code.reset();
    }
    record.ended_ms = 0;
    if (row.dead_time != 0) {
        // tmux gives the second. Our clock may have been set back behind its start.
        constexpr std::int64_t kHalfASecond = 500;
        record.ended_ms = std::max(record.created_ms,
                                   std::min(row.dead_time * 1000 + kHalfASecond - clock_offset_ms, clock_.wall_ms()));
    }
    const bool by_us = row.note.killed || (row.signal != 0 && record.signals_sent.contains(row.signal));
    end(record, by_us ? api::SessionState::Killed : api::SessionState::Exited, std::nullopt, std::move(screen));
}

void Sessions::attach_to(SessionRecord& record, Connection& connection) {
    record.connection = &connection;
    record.hold = Hold(connection, HoldKind::Session);
}

void Sessions::forget_ended() {
    for (const auto& id : table_.forget_ended(clock_.wall_ms() - config_.sessions.keep_ended.count())) {
        registry_.remove(id);
    }
}

void Sessions::request_stop() {
    shutting_down_ = true;
    stop_.notify_all();
    listed_changed_.notify_all();
    for (const auto& [id, watch] : watches_) {
        watch->nudge.notify_all();
    }
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
