// The API's methods: params read, the work handed to sessions, pool and daemon, results written.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "daemon/rpc/client_session.hpp"
#include "daemon/rpc/events.hpp"
#include "daemon/session/forwards.hpp"
#include "daemon/session/leases.hpp"
#include "daemon/session/remote_exec.hpp"
#include "daemon/session/sessions.hpp"

namespace cmssh {

// What methods ask of the daemon itself.
class DaemonControl {
public:
    virtual ~DaemonControl() = default;
    virtual Result<void> reload() = 0;
    virtual void request_stop() = 0;
    [[nodiscard]] virtual api::DaemonStats describe() const = 0;
};

class Handlers final : public RequestHandler {
public:
    Handlers(Clock& clock, const Config& config, Sessions& sessions, Leases& leases, RemoteExec& remote_exec,
             Forwards& forwards, Pool& pool, IdentityResolver& resolver, AskpassRelay& askpass, EventHub& events,
             DaemonControl& control, std::string home);

    asio::awaitable<Result<JsonText>> handle(Request request, ClientSession& client) override;
    void client_gone(const ClientSession& client) override;

private:
    struct Call {
        Json params;
        Caller caller;
        EventSink* sink = nullptr;
    };
    using Method = asio::awaitable<Result<JsonText>> (Handlers::*)(Call);
    static const std::map<std::string_view, Method>& methods();

    asio::awaitable<Result<JsonText>> start(Call call);
    asio::awaitable<Result<JsonText>> list(Call call);
    asio::awaitable<Result<JsonText>> get(Call call);
    asio::awaitable<Result<JsonText>> kill(Call call);
    asio::awaitable<Result<JsonText>> wait(Call call);
    asio::awaitable<Result<JsonText>> logs(Call call);
    asio::awaitable<Result<JsonText>> attach(Call call);
    asio::awaitable<Result<JsonText>> send(Call call);
    asio::awaitable<Result<JsonText>> acquire(Call call);
    asio::awaitable<Result<JsonText>> release(Call call);
    asio::awaitable<Result<JsonText>> signal(Call call);
    asio::awaitable<Result<JsonText>> exec(Call call);
    asio::awaitable<Result<JsonText>> forward_add(Call call);
    asio::awaitable<Result<JsonText>> forward_list(Call call);
    asio::awaitable<Result<JsonText>> forward_remove(Call call);
    asio::awaitable<Result<JsonText>> stats(Call call);
    asio::awaitable<Result<JsonText>> subscribe(Call call);
    asio::awaitable<Result<JsonText>> unsubscribe(Call call);
    asio::awaitable<Result<JsonText>> answer(Call call);
    asio::awaitable<Result<JsonText>> askpass(Call call);
    asio::awaitable<Result<JsonText>> connect(Call call);
    asio::awaitable<Result<JsonText>> disconnect(Call call);
    asio::awaitable<Result<JsonText>> check(Call call);
    asio::awaitable<Result<JsonText>> contexts(Call call);
    void forget_if_new(Sessions::Found found);
    asio::awaitable<std::optional<api::Server>> find_server(std::optional<std::string> ctx, Instant deadline);
    asio::awaitable<Result<JsonText>> ping(Call call);
    asio::awaitable<Result<JsonText>> version(Call call);
    asio::awaitable<Result<JsonText>> reload(Call call);
    asio::awaitable<Result<JsonText>> shutdown(Call call);
    asio::awaitable<Result<JsonText>> discover(Call call);

    Clock& clock_;
    const Config& config_;
    Sessions& sessions_;
    Leases& leases_;
    RemoteExec& remote_exec_;
    Forwards& forwards_;
    Pool& pool_;
    IdentityResolver& resolver_;
    AskpassRelay& askpass_;
    EventHub& events_;
    DaemonControl& control_;
    std::string home_;
};

}  // namespace cmssh
