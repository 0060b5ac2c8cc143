#include "client/login_call.hpp"

#include <algorithm>

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

}  // namespace cmssh::client
