// A call and its result as a struct of the API.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "client/rpc_client.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client {

// What a call gave: `json` is what --json prints.
template <typename T>
struct Reply {
    T value;
    Json json;
};

template <typename T>
using Outcome = std::variant<Reply<T>, CallError>;

template <typename T>
Outcome<T> read_reply(Json json) {
    auto value = api::read<T>(json);
    if (!value) {
        return CallError{.error = {.kind = ErrorKind::Internal,
                                   .message = "the daemon's answer is not understood: " + value.error().message,
                                   .hint = "cmctl daemon stop, then try again: sessions and connections live on"},
                         .exit_code = exit_code::kIncompatible};
    }
    return Reply<T>{.value = std::move(*value), .json = std::move(json)};
}

template <typename T>
Outcome<T> call(RpcClient& client, std::string_view method, Json params, std::optional<Instant> deadline,
                const RpcClient::Progress& progress = {}) {
    auto answer = client.call(method, std::move(params), deadline, progress);
    if (auto* failure = std::get_if<CallError>(&answer)) {
        return std::move(*failure);
    }
    return read_reply<T>(std::move(std::get<Json>(answer)));
}

// For a call that may be repeated where the daemon was lost: once.
class SecondTry {
public:
    // Whether to call again, now. client: that of the call that failed so.
    [[nodiscard]] bool after(const CallError& failure, const RpcClient& client);
    [[nodiscard]] bool first() const { return !lost_at_; }

private:
    std::optional<Instant> lost_at_;
};

// One call that only asks, on a connection of its own.
template <typename T>
Outcome<T> call(const GlobalOptions& global, std::string_view method, const Json& params) {
    const auto deadline = deadline_of(global);
    SecondTry again;
    for (;;) {
        auto client = RpcClient::connect(global, deadline);
        if (auto* failure = std::get_if<CallError>(&client)) {
            return std::move(*failure);
        }
        auto outcome = call<T>(std::get<RpcClient>(client), method, params, deadline);
        const auto* failure = std::get_if<CallError>(&outcome);
        if (failure == nullptr || !again.after(*failure, std::get<RpcClient>(client))) {
            return outcome;
        }
    }
}

}  // namespace cmssh::client
