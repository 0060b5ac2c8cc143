// Calls for who waits long: repeated over a daemon that is lost or stops, once the next one serves. A daemon that was
// asked to stop is not started again by this; one that is lost is, where that is allowed.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <variant>

#include "client/call.hpp"
#include "client/rpc_client.hpp"

namespace cmssh::client {

class PatientClient {
public:
    // client: a connection that there is already.
    PatientClient(const GlobalOptions& global, std::optional<Instant> deadline,
                  std::optional<RpcClient> client = std::nullopt)
        : global_(global), deadline_(deadline), client_(std::move(client)) {}

    // Called while a call waits, as RpcClient::on_idle.
    void on_idle(std::function<void()> idle) { idle_ = std::move(idle); }

    // deadline: of each try. The params are asked for again with each.
    template <typename T>
    Outcome<T> call(std::string_view method, const std::function<Json()>& params, std::optional<Instant> deadline) {
        auto answer = call_json(method, params, deadline);
        if (auto* failure = std::get_if<CallError>(&answer)) {
            return std::move(*failure);
        }
        return read_reply<T>(std::move(std::get<Json>(answer)));
    }

private:
    std::variant<Json, CallError> call_json(std::string_view method, const std::function<Json()>& params,
                                            std::optional<Instant> deadline);
    std::optional<CallError> connect();
    void tell_loss(const CallError& failure) const;

    const GlobalOptions& global_;
    std::optional<Instant> deadline_;
    std::optional<RpcClient> client_;
    std::function<void()> idle_;
    std::optional<Instant> lost_at_;  // until the next answers
    bool stopped_ = false;            // it was asked to
};

}  // namespace cmssh::client
