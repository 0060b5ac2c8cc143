// Calls that may have to log in to a server: what they tell the daemon for it, and what they show meanwhile.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "client/call.hpp"
#include "client/output.hpp"

namespace cmssh::client {

// The caller's ssh-agent, and whether a person is there to answer ssh's questions.
void add_login_params(Json& params);

// While it lives, a call of this client shows what it waits for, and ssh's questions are put to the person.
class LoginWatch {
public:
    // tells: say what is waited for.
    explicit LoginWatch(RpcClient& client, bool tells = true);
    ~LoginWatch();
    LoginWatch(const LoginWatch&) = delete;
    LoginWatch& operator=(const LoginWatch&) = delete;

    [[nodiscard]] RpcClient::Progress progress();

private:
    RpcClient& client_;
    bool tells_;
    StatusLine line_;
};

template <typename T>
Outcome<T> call_with_login(RpcClient& client, std::string_view method, Json params, std::optional<Instant> deadline,
                           bool tells = true) {
    LoginWatch watch(client, tells);
    return call<T>(client, method, std::move(params), deadline, watch.progress());
}

// The same on a connection of its own.
template <typename T>
Outcome<T> call_with_login(const GlobalOptions& global, std::string_view method, Json params) {
    const auto deadline = deadline_of(global);
    auto client = RpcClient::connect(global, deadline);
    if (auto* failure = std::get_if<CallError>(&client)) {
        return std::move(*failure);
    }
    return call_with_login<T>(std::get<RpcClient>(client), method, std::move(params), deadline);
}

// For who waits for a session, on whose server a login may need a person: asks that person, once each time that the
// session has got out of reach.
class ReachedByPerson {
public:
    explicit ReachedByPerson(const GlobalOptions& global) : global_(global) {}
    // What was heard of the session last. The failure: the person cancelled it.
    [[nodiscard]] std::optional<CallError> see(const std::string& ctx, api::SessionState state);

private:
    const GlobalOptions& global_;
    bool asked_ = false;
};

}  // namespace cmssh::client
