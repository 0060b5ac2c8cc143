#include "daemon/session/leases.hpp"

#include "daemon/base/random.hpp"
#include "daemon/base/timeout.hpp"
#include "daemon/ssh/ssh_command.hpp"
#include "daemon/tmux/tmux_scripts.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// A plain ssh opens its channel, or logs in by itself, in one round trip from its lease.
constexpr Duration kHasItsChannelAfter = std::chrono::milliseconds(500);

// Where an ssh was killed, its command gets the end of its input then, and has the channel until it ends.
constexpr Duration kEndsThereWithin = std::chrono::milliseconds(200);

Error not_yours(const std::string& id) {
    return Error{.kind = ErrorKind::InvalidParams,
                 .message = printable(id) + " is no lease of this client",
                 .hint = "a lease ends with the connection that it was given to"};
}

}  // namespace

Leases::Leases(asio::any_io_executor executor, Clock& clock, const Config& config, Sessions& sessions,
               std::string links_directory)
    : executor_(executor),
      clock_(clock),
      config_(config),
      sessions_(sessions),
      ended_(clock),
      links_(std::move(links_directory)),
      tasks_(std::move(executor), clock) {
    sessions_.set_on_doubted(
        [this](const Connection& connection, std::uint64_t generation) { tell_doubted(connection, generation); });
}

asio::awaitable<Result<api::AcquireResult>> Leases::acquire(api::AcquireParams params, Caller caller) {
    auto found = co_await find(params);
    if (!found) {
        co_return std::move(found).error();
    }
    Connection& connection = *found->connection;
    auto want = want_of(caller, found->context.name, connection.key_text(), params.auth_sock, params.interactive);
    want.tmux = !params.pid.has_value();
    auto id = co_await grant(*found, params, std::move(want), std::move(caller));
    if (!id) {
        co_return std::move(id).error();
    }
    leases_.at(*id).hang_up = params.hang_up;
    const Connection::Lease& lease = leases_.at(*id).lease;
    api::AcquireResult result;
    result.lease = std::move(*id);
    result.control_path = lease.control_path;
    result.connection = connection.describe();
    result.reused = lease.reused;
    co_return result;
}

asio::awaitable<Result<api::AttachResult>> Leases::attach(api::AttachParams params, Caller caller) {
    auto found =
        co_await sessions_.find_running(std::move(params.session), params.auth_sock, params.interactive, caller);
    if (!found) {
        co_return std::move(found).error();
    }
    auto want =
        want_of(caller, found->view.ctx, found->view.server.key, std::move(params.auth_sock), params.interactive);
    api::AcquireParams lease;
    lease.refused = std::move(params.refused);
    auto id = co_await grant(found->server, lease, std::move(want), std::move(caller));
    if (!id) {
        Error error = std::move(id).error();
        error.session = found->view.id;
        co_return error;
    }
    const auto viewer = params.read_only ? tmux::Viewer::Watches : tmux::Viewer::TakesPart;
    api::AttachResult result;
    result.control_path = leases_.at(*id).lease.control_path;
    result.lease = std::move(*id);
    result.command = tmux::attach_command(config_.sessions, found->view.id, viewer);
    result.argv = terminal_command(config_.ssh, result.control_path, found->view.server.host, result.command);
    result.session = std::move(found->view);
    co_return result;
}

asio::awaitable<Result<Sessions::Found>> Leases::find(const api::AcquireParams& params) {
    if (params.link && !params.pid) {
        co_return Error{.kind = ErrorKind::InvalidParams, .message = "params.link: is for a lease of a process"};
    }
    if (params.own_master && (params.pid || params.refused || !params.channel)) {
        co_return Error{.kind = ErrorKind::InvalidParams,
                        .message = "params.own_master: goes with none of pid, refused and channel"};
    }
    if (!params.channel && params.refused) {
        co_return Error{.kind = ErrorKind::InvalidParams, .message = "params.refused: a lease without a channel"};
    }
    if (params.settings) {
        co_return co_await sessions_.find_connection_like(params.ctx.value_or(""), *params.settings);
    }
    co_return co_await sessions_.find_connection(params.ctx);
}

asio::awaitable<Result<std::string>> Leases::grant(Sessions::Found& found, const api::AcquireParams& params,
                                                   Connection::Want want, Caller caller) {
    ChannelBudget::Patience patience;
    patience.deadline = clock_.now() + config_.pool.connect_timeout + kQueueDeadline;
    patience.gone_event = caller.gone_event;
    patience.gone = caller.gone;
    Held held;
    held.connection = &*found.connection;
    if (params.pid) {
        auto process = WatchedProcess::open(executor_, *params.pid);
        if (!process) {
            co_return std::move(process).error();
        }
        held.process = std::move(*process);
        if (const auto* id = held_by(*held.process, *held.connection)) {
            co_return *id;
        }
        drop_refused(*held.connection);
        if (auto refusal = held.connection->why_not_in_passing(params.interactive)) {
            co_return std::move(*refusal);
        }
    }
    auto lease = co_await this->lease(*held.connection, params, std::move(want), patience, caller);
    if (!lease) {
        Error error = std::move(lease).error();
        error.ctx = found.context.name;
        error.server = error.server.value_or(held.connection->key_text());
        if (error.kind == ErrorKind::Cancelled && error.hint.empty()) {
            error.hint = "cmctl connect " + found.context.name;
        }
        co_return error;
    }
    if (patience.is_gone()) {
        co_return Error{.kind = ErrorKind::Cancelled, .message = "the caller is gone"};
    }
    held.lease = std::move(*lease);
    held.notice = std::make_unique<EndNotice>(ended_);
    if (held.process) {
        ControlLinks::Holder holder;
        holder.pid = held.process->pid();
        holder.started = held.process->started();
        holder.control_path = held.lease.control_path;
        if (params.link) {
            auto link = links_.take(*params.link, holder);
            if (!link) {
                co_return std::move(link).error();
            }
            held.link = std::move(*link);
        }
    } else {
        held.caller = std::move(caller);
    }
    co_return add(std::move(held));
}

asio::awaitable<Result<Connection::Lease>> Leases::lease(Connection& connection, const api::AcquireParams& params,
                                                         Connection::Want want, ChannelBudget::Patience patience,
                                                         const Caller& caller) {
    if (!params.channel) {
        co_return co_await connection.lease_without_channel(std::move(want));
    }
    if (params.own_master) {
        co_return co_await connection.lease_own_master(std::move(want), patience);
    }
    if (!params.refused) {
        co_return co_await connection.lease(std::move(want), patience);
    }
    auto before = take(*params.refused, caller);
    if (!before) {
        co_return std::move(before).error();
    }
    if (before->connection != &connection) {
        co_return Error{.kind = ErrorKind::InvalidParams,
                        .message = "params.refused: " + printable(*params.refused) + " is a lease of another server"};
    }
    co_return co_await connection.lease_again(std::move(before->lease), std::move(want), patience);
}

const std::string* Leases::held_by(const WatchedProcess& process, const Connection& connection) const {
    for (const auto& [id, held] : leases_) {
        if (held.process && held.process->pid() == process.pid() && held.process->started() == process.started() &&
            held.connection == &connection) {
            return &id;
        }
    }
    return nullptr;
}

std::string Leases::add(Held held) {
    std::string id;
    do {
        id = make_lease_id(random_bits());
    } while (leases_.contains(id));
    if (held.process) {
        tasks_.spawn(id, end_with_process(id, held.process));
    }
    leases_.emplace(id, std::move(held));
    return id;
}

asio::awaitable<void> Leases::end_with_process(std::string id, std::shared_ptr<WatchedProcess> process) {
    const auto early = co_await with_deadline(clock_, clock_.now() + kHasItsChannelAfter, process->wait());
    if (!early) {
        if (const auto found = leases_.find(id); found != leases_.end()) {
            drop_refused(*found->second.connection);
        }
        co_await process->wait();
    }
    const auto found = leases_.find(id);
    if (found == leases_.end()) {
        co_return;
    }
    const ConnectionUse connection(*found->second.connection);
    const ChannelBudget::Slot slot = std::move(found->second.lease.channel);
    leases_.erase(found);
    if (slot) {
        const auto timer = clock_.make_timer();
        co_await timer->wait_until(clock_.now() + kEndsThereWithin);
    }
}

// A server that allows fewer channels than we thought refuses one to an ssh, which then logs in by itself and says why.
// The next is to wait for its turn.
void Leases::drop_refused(const Connection& connection) {
    for (auto it = leases_.begin(); it != leases_.end();) {
        Held& held = it->second;
        if (held.connection == &connection && held.process && held.lease.channel &&
            held.process->has_own_connection()) {
            ChannelBudget::given_up(std::move(held.lease.channel));
            if (held.lease.reused) {
                held.connection->take_back_reuse();
            }
            it = leases_.erase(it);
        } else {
            ++it;
        }
    }
}

void Leases::restore() {
    for (const auto& holder : links_.take_over()) {
        Held held;
        held.link = links_.again(holder);
        auto process = WatchedProcess::open(executor_, holder.pid);
        held.connection = sessions_.connection_at(holder.control_path);
        if (!process || (*process)->started() != holder.started || held.connection == nullptr) {
            continue;
        }
        held.process = std::move(*process);
        held.lease.hold = Hold(*held.connection, HoldKind::Lease);
        held.lease.control_path = holder.control_path;
        add(std::move(held));
    }
}

asio::awaitable<void> Leases::shut_down() {
    for (auto& [id, held] : leases_) {
        if (held.process) {
            held.link.leave();
            held.process->close();
        }
    }
    leases_.clear();
    co_await tasks_.join_until(Instant::max());
}

Result<Leases::Held> Leases::take(const std::string& id, const Caller& caller) {
    const auto found = leases_.find(id);
    if (found == leases_.end() || found->second.caller.client != caller.client) {
        return not_yours(id);
    }
    Held held = std::move(found->second);
    leases_.erase(found);
    return held;
}

Result<api::Empty> Leases::release(const api::LeaseParams& params, const Caller& caller) {
    const auto held = take(params.lease, caller);
    return held ? Result<api::Empty>(api::Empty()) : held.error();
}

bool Leases::holds(const std::string& lease, const Caller& caller) const {
    const auto found = leases_.find(lease);
    return found != leases_.end() && found->second.caller.client == caller.client;
}

void Leases::end_all_of(const void* client) {
    for (auto& [id, held] : leases_) {
        if (held.caller.client == client && held.hang_up && on_abandoned_) {
            on_abandoned_(id, ConnectionUse(*held.connection), std::move(held.lease));
        }
    }
    std::erase_if(leases_, [client](const auto& lease) { return lease.second.caller.client == client; });
}

Result<ConnectionUse> Leases::connection_of(const std::string& id, const Caller& caller) const {
    const auto found = leases_.find(id);
    if (found == leases_.end() || found->second.caller.client != caller.client) {
        return not_yours(id);
    }
    return ConnectionUse(*found->second.connection);
}

void Leases::tell_doubted(const Connection& connection, std::uint64_t generation) {
    for (const auto& [id, held] : leases_) {
        const bool shared = !held.lease.own;
        if (held.connection == &connection && held.lease.generation == generation && shared && held.caller.notify) {
            api::LeaseLost lost;
            lost.lease = id;
            held.caller.notify("lease", api::write(lost));
        }
    }
}

}  // namespace cmssh
