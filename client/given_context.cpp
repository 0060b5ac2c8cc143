#include "client/given_context.hpp"

#include <cstdio>
#include <cstdlib>

#include "client/call.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {

std::optional<std::string> environment_value(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
}

void print_contexts_to_choose(RpcClient& client, std::optional<Instant> deadline) {
    const auto known = call<api::ContextsResult>(client, "contexts", Json::object(), deadline);
    const auto* reply = std::get_if<Reply<api::ContextsResult>>(&known);
    if (reply == nullptr) {
        return;
    }
    if (reply->value.contexts.empty()) {
        std::fputs("contexts: none are configured; any ssh destination is one\n", stderr);
        return;
    }
    std::fputs("contexts:\n", stderr);
    for (const api::Context& context : reply->value.contexts) {
        std::fprintf(stderr, "    %s\n", printable(context.name).c_str());
    }
}

}  // namespace cmssh::client
