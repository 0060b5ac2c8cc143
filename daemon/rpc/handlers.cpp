#include "daemon/rpc/handlers.hpp"

#include <set>

#include "daemon/base/log.hpp"
#include "daemon/ssh/ssh_aliases.hpp"
#include "protocol/askpass.hpp"
#include "protocol/methods.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// A daemon that has just begun asks its masters' sockets, which takes milliseconds.
constexpr Duration kRestoreDeadline = std::chrono::seconds(1);
constexpr Duration kDrainDeadline = std::chrono::hours(24);
constexpr Duration kContextsDeadline = std::chrono::seconds(3);
constexpr const char* kFromConfig = "config";
constexpr const char* kDestination = "destination";

template <typename T>
Result<JsonText> written(Result<T> result) {
    if (!result) {
        return std::move(result).error();
    }
    return api::write(*result);
}

}  // namespace

Handlers::Handlers(Clock& clock, const Config& config, Sessions& sessions, Leases& leases, RemoteExec& remote_exec,
                   Forwards& forwards, Pool& pool, IdentityResolver& resolver, AskpassRelay& askpass, EventHub& events,
                   DaemonControl& control, std::string home)
    : clock_(clock),
      config_(config),
      sessions_(sessions),
      leases_(leases),
      remote_exec_(remote_exec),
      forwards_(forwards),
      pool_(pool),
      resolver_(resolver),
      askpass_(askpass),
      events_(events),
      control_(control),
      home_(std::move(home)) {}

const std::map<std::string_view, Handlers::Method>& Handlers::methods() {
    static const std::map<std::string_view, Method> kMethods = {
        {"start", &Handlers::start},
        {"list", &Handlers::list},
        {"get", &Handlers::get},
        {"kill", &Handlers::kill},
        {"wait", &Handlers::wait},
        {"logs", &Handlers::logs},
        {"attach", &Handlers::attach},
        {"send", &Handlers::send},
        {"acquire", &Handlers::acquire},
        {"release", &Handlers::release},
        {"signal", &Handlers::signal},
        {"exec", &Handlers::exec},
        {"forward.add", &Handlers::forward_add},
        {"forward.list", &Handlers::forward_list},
        {"forward.remove", &Handlers::forward_remove},
        {"stats", &Handlers::stats},
        {"subscribe", &Handlers::subscribe},
        {"unsubscribe", &Handlers::unsubscribe},
        {"answer", &Handlers::answer},
        {"connect", &Handlers::connect},
        {"disconnect", &Handlers::disconnect},
        {"check", &Handlers::check},
        {"contexts", &Handlers::contexts},
        {"ping", &Handlers::ping},
        {"version", &Handlers::version},
        {"reload", &Handlers::reload},
        {"shutdown", &Handlers::shutdown},
        {"rpc.discover", &Handlers::discover},
    };
    return kMethods;
}

asio::awaitable<Result<JsonText>> Handlers::handle(Request request, ClientSession& client) {
    const auto known = methods().find(request.method);
    Method method = known != methods().end() ? known->second : nullptr;
    if (request.method == askpass::kMethod) {
        method = &Handlers::askpass;  // not for clients, and so in no list of methods
    }
    if (method == nullptr) {
        co_return Error{.kind = ErrorKind::MethodNotFound,
                        .message = "no method is named " + printable(request.method),
                        .hint = "rpc.discover lists them"};
    }
    Call call;
    call.params = std::move(request.params);
    call.sink = &client;
    call.caller.gone = &client.gone();
    call.caller.wants_answer = request.id.has_value();
    call.caller.gone_event = &client.gone_event();
    call.caller.client = &client;
    call.caller.notify = [&client](std::string_view name, const JsonText& params) { client.notify(name, params); };
    call.caller.progress = [&client, id = request.id](const std::string& ctx, const std::string& server,
                                                      std::string_view phase) {
        if (id) {
            api::Progress progress;
            progress.id = *id;
            progress.ctx = ctx;
            progress.server = server;
            progress.phase = phase;
            client.notify("progress", api::write(progress));
        }
    };
    co_return co_await (this->*method)(std::move(call));
}

void Handlers::client_gone(const ClientSession& client) {
    events_.end_all_of(client);
    leases_.end_all_of(&client);
}

asio::awaitable<Result<JsonText>> Handlers::start(Call call) {
    auto params = api::read<api::StartParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await sessions_.start(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::list(Call call) {
    const auto params = api::read<api::ListParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    co_return written(Result<api::ListedSessions>(sessions_.list(*params)));
}

asio::awaitable<Result<JsonText>> Handlers::get(Call call) {
    const auto params = api::read<api::SessionParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    co_return written(sessions_.get(*params));
}

asio::awaitable<Result<JsonText>> Handlers::kill(Call call) {
    auto params = api::read<api::KillParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await sessions_.kill(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::wait(Call call) {
    auto params = api::read<api::WaitParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await sessions_.wait(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::logs(Call call) {
    auto params = api::read<api::LogsParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await sessions_.logs(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::attach(Call call) {
    auto params = api::read<api::AttachParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await leases_.attach(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::send(Call call) {
    auto params = api::read<api::SendParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await sessions_.send(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::acquire(Call call) {
    auto params = api::read<api::AcquireParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await leases_.acquire(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::release(Call call) {
    const auto params = api::read<api::LeaseParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    co_return written(leases_.release(*params, call.caller));
}

asio::awaitable<Result<JsonText>> Handlers::signal(Call call) {
    auto params = api::read<api::LeaseSignalParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await remote_exec_.signal(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::exec(Call call) {
    auto params = api::read<api::ExecParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await remote_exec_.exec(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::forward_add(Call call) {
    auto params = api::read<api::ForwardAddParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await forwards_.add(std::move(*params), std::move(call.caller)));
}

asio::awaitable<Result<JsonText>> Handlers::forward_list(Call call) {
    const auto params = api::read<api::ForwardListParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    co_return written(Result<api::ForwardListResult>(forwards_.list(*params)));
}

asio::awaitable<Result<JsonText>> Handlers::forward_remove(Call call) {
    auto params = api::read<api::ForwardRemoveParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(co_await forwards_.remove(std::move(*params)));
}

asio::awaitable<Result<JsonText>> Handlers::stats(Call call) {
    if (const auto params = api::read<api::Empty>(call.params); !params) {
        co_return params.error();
    }
    co_await sessions_.wait_for_restore(clock_.now() + kRestoreDeadline);
    api::StatsResult result;
    for (const auto& [key, connection] : pool_.connections()) {
        auto view = connection->describe();
        result.connection_stats[key] = view.sessions;
        result.total_connections += static_cast<int>(connection->masters());
        result.total_sessions += view.sessions;
        result.total_refs += view.refs;
        result.handshakes += view.handshakes;
        result.handshakes_saved += view.reused_count;
        result.connections.push_back(std::move(view));
    }
    result.daemon = control_.describe();
    co_return api::write(result);
}

asio::awaitable<Result<JsonText>> Handlers::subscribe(Call call) {
    const auto params = api::read<api::SubscribeParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    if (!call.caller.wants_answer) {
        // Whoever is not told of the subscription does not ask for events.
        co_return api::write(api::Empty{});
    }
    co_await sessions_.wait_for_restore(clock_.now() + kRestoreDeadline);
    co_return written(events_.subscribe(*params, *call.sink));
}

asio::awaitable<Result<JsonText>> Handlers::unsubscribe(Call call) {
    const auto params = api::read<api::UnsubscribeParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    co_return written(events_.unsubscribe(*params, *call.sink));
}

asio::awaitable<Result<JsonText>> Handlers::connect(Call call) {
    auto params = api::read<api::ConnectParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    auto found = co_await sessions_.find_connection(params->ctx);
    if (!found) {
        co_return std::move(found).error();
    }
    Connection& connection = *found->connection;
    auto want = want_of(call.caller, found->context.name, connection.key_text(), std::move(params->auth_sock),
                        params->interactive);
    auto ready = co_await connection.ensure_up(std::move(want));
    if (!ready) {
        Error error = std::move(ready).error();
        error.ctx = found->context.name;
        error.server = error.server.value_or(connection.key_text());
        if (error.kind == ErrorKind::Cancelled) {
            error.hint = "cmctl connect " + found->context.name;
        }
        co_return error;
    }
    api::ConnectResult result;
    result.connection = connection.describe();
    result.reused = ready->reused;
    co_return api::write(result);
}

asio::awaitable<Result<JsonText>> Handlers::answer(Call call) {
    auto params = api::read<api::AnswerParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    co_return written(askpass_.answer(std::move(*params), call.caller.client));
}

asio::awaitable<Result<JsonText>> Handlers::askpass(Call call) {
    auto params = api::read<api::AskpassParams>(call.params);
    if (!params) {
        co_return std::move(params).error();
    }
    auto answered = co_await askpass_.ask(std::move(*params), *call.caller.gone, *call.caller.gone_event);
    if (!answered) {
        co_return std::move(answered).error();
    }
    JsonText result = api::write(*answered);
    wipe(answered->text);
    co_return result;
}

asio::awaitable<Result<JsonText>> Handlers::disconnect(Call call) {
    const auto params = api::read<api::DisconnectParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    auto found = co_await sessions_.find_connection(params->ctx);
    if (!found) {
        co_return std::move(found).error();
    }
    Connection& connection = *found->connection;
    ConnectionUse use(connection);
    const auto done = co_await pool_.disconnect(std::move(use), params->force, clock_.now() + kDrainDeadline);
    if (!done) {
        Error error = done.error();
        error.ctx = found->context.name;
        error.hint = "cmctl disconnect --force " + found->context.name;
        co_return error;
    }
    api::ConnectionResult result;
    result.connection = connection.describe();
    forget_if_new(std::move(*found));
    co_return api::write(result);
}

// Asking about a server is no reason to remember it.
void Handlers::forget_if_new(Sessions::Found found) {
    const std::string key = found.connection->key_text();
    found.connection = ConnectionUse();
    if (found.is_new) {
        pool_.forget_idle(key);
    }
}

asio::awaitable<Result<JsonText>> Handlers::check(Call call) {
    const auto params = api::read<api::CheckParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    api::ConnectionsResult result;
    if (params->ctx) {
        auto found = co_await sessions_.find_connection(params->ctx);
        if (!found) {
            co_return std::move(found).error();
        }
        Connection& connection = *found->connection;
        co_await pool_.check(&connection);
        result.connections.push_back(connection.describe());
        forget_if_new(std::move(*found));
        co_return api::write(result);
    }
    co_await pool_.check(nullptr);
    for (const auto& [key, connection] : pool_.connections()) {
        result.connections.push_back(connection->describe());
    }
    co_return api::write(result);
}

asio::awaitable<Result<JsonText>> Handlers::contexts(Call call) {
    const auto params = api::read<api::ContextsParams>(call.params);
    if (!params) {
        co_return params.error();
    }
    // Every name once, by where it is said first; in that order they are asked about, as far as the time goes: an
    // ssh_config can name hundreds.
    std::vector<api::Context> views;
    std::set<std::string> named;
    const auto add = [&](const std::string& name, const char* source) {
        if (named.insert(name).second) {
            api::Context view;
            view.name = name;
            view.source = source;
            view.is_default = config_.default_ctx == name;
            views.push_back(std::move(view));
        }
    };
    for (const auto& [name, context] : config_.contexts) {
        add(name, kFromConfig);
    }
    for (const auto& alias : ssh_aliases(config_.ssh.options, home_)) {
        add(alias, "ssh_config");
    }
    if (config_.default_ctx) {
        add(*config_.default_ctx, kDestination);
    }
    for (const auto& record : sessions_.table().all()) {
        if (!api::ended(record->view.state)) {
            add(record->view.ctx, kDestination);
        }
    }
    const Instant deadline = params->known ? clock_.now() : clock_.now() + kContextsDeadline;
    for (auto& view : views) {
        view.server = co_await find_server(view.name, deadline);
    }
    api::ContextsResult result;
    result.contexts = std::move(views);
    co_return api::write(result);
}

// Within no time: what is known already.
asio::awaitable<std::optional<api::Server>> Handlers::find_server(std::optional<std::string> ctx, Instant deadline) {
    const auto context = resolve_context(config_, ctx);
    if (!context) {
        co_return std::nullopt;
    }
    if (const Identity* identity = resolver_.known(context->route)) {
        co_return describe(identity->key);
    }
    if (deadline <= clock_.now()) {
        co_return std::nullopt;
    }
    const auto identity = co_await resolver_.resolve(context->route, deadline);
    if (!identity) {
        co_return std::nullopt;
    }
    co_return describe(identity->key);
}

asio::awaitable<Result<JsonText>> Handlers::ping(Call call) {
    co_return written(api::read<api::Empty>(call.params));
}

asio::awaitable<Result<JsonText>> Handlers::version(Call call) {
    if (const auto params = api::read<api::Empty>(call.params); !params) {
        co_return params.error();
    }
    api::VersionResult result;
    result.version = CMSSH_VERSION;
    for (const auto& [name, method] : methods()) {
        result.capabilities.emplace_back(name);
    }
    co_return api::write(result);
}

asio::awaitable<Result<JsonText>> Handlers::reload(Call call) {
    if (const auto params = api::read<api::Empty>(call.params); !params) {
        co_return params.error();
    }
    if (auto reloaded = control_.reload(); !reloaded) {
        co_return std::move(reloaded).error();
    }
    co_return api::write(api::Empty{});
}

asio::awaitable<Result<JsonText>> Handlers::shutdown(Call call) {
    if (const auto params = api::read<api::Empty>(call.params); !params) {
        co_return params.error();
    }
    log_info("cmsshd", "asked to stop by a client");
    control_.request_stop();
    co_return api::write(api::Empty{});
}

asio::awaitable<Result<JsonText>> Handlers::discover(Call call) {
    if (const auto params = api::read<api::Empty>(call.params); !params) {
        co_return params.error();
    }
    co_return JsonText{dump_json(api::openrpc_document(CMSSH_VERSION))};
}

}  // namespace cmssh
