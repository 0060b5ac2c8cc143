#include "client/login_call.hpp"

#include <algorithm>
#include <utility>

#include "client/given_context.hpp"
#include "client/prompt.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client {

void add_login_params(Json& params) {
    if (const auto auth_sock = environment_value("SSH_AUTH_SOCK")) {
        params["auth_sock"] = *auth_sock;
    }
    params["interactive"] = person_is_there();
}

LoginWatch::LoginWatch(RpcClient& client, bool tells) : client_(client), tells_(tells) {
    client_.on_idle([this] { line_.tick(); });
    answer_prompts(client_, &line_);
}

LoginWatch::~LoginWatch() {
    client_.on_idle({});
    client_.set_questioner(nullptr);
}

RpcClient::Progress LoginWatch::progress() {
    return [this](const Json& params) {
        auto told = api::read<api::Progress>(params);
        if (tells_ && told) {
            std::replace(told->phase.begin(), told->phase.end(), '_', ' ');
            line_.set(told->ctx + ": " + told->phase + " (" + told->server + ')');
        }
    };
}

std::optional<CallError> ReachedByPerson::see(const std::string& ctx, api::SessionState state) {
    if (state != api::SessionState::Unreachable) {
        asked_ = false;
        return std::nullopt;
    }
    if (std::exchange(asked_, true) || !person_is_there()) {
        return std::nullopt;
    }
    Json params = {{"ctx", ctx}};
    add_login_params(params);
    auto connected = call_with_login<api::ConnectResult>(global_, "connect", std::move(params));
    auto* failure = std::get_if<CallError>(&connected);
    // Whatever else it is, the session comes back or it does not: that is waited for.
    if (failure != nullptr && failure->error.kind == ErrorKind::Cancelled) {
        return std::move(*failure);
    }
    return std::nullopt;
}

}  // namespace cmssh::client
