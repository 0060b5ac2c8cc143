#include "client/patient_client.hpp"

#include <poll.h>

#include <algorithm>
#include <cstdio>

#include "client/interrupt.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// What a service manager needs to start the next one.
constexpr auto kNextDaemon = std::chrono::seconds(30);
constexpr int kPauseMilliseconds = 50;

}  // namespace

void PatientClient::tell_loss(const CallError& failure) const {
    if (global_.quiet) {
        return;
    }
    if (global_.host && failure.exit_code == exit_code::kUnreachable) {
        std::fprintf(stderr, "cmctl: the ssh to %s was cut, connecting again\n", printable(*global_.host).c_str());
    } else {
        std::fputs("cmctl: the daemon is gone, waiting for the next one\n", stderr);
    }
}

std::optional<CallError> PatientClient::connect() {
    for (;;) {
        GlobalOptions how = global_;
        how.no_spawn = how.no_spawn || stopped_;
        auto connected = RpcClient::connect(how, deadline_);
        if (auto* client = std::get_if<RpcClient>(&connected)) {
            client_ = std::move(*client);
            return std::nullopt;
        }
        auto& failure = std::get<CallError>(connected);
        if (failure.exit_code != exit_code::kNoDaemon || !lost_at_ ||
            std::chrono::steady_clock::now() >= *lost_at_ + kNextDaemon) {
            return std::move(failure);
        }
        ::poll(nullptr, 0, kPauseMilliseconds);
        if (interrupted()) {
            return interrupted_call();
        }
    }
}

std::variant<Json, CallError> PatientClient::call_json(std::string_view method, const std::function<Json()>& params,
                                                       std::optional<Instant> deadline) {
    for (;;) {
        if (!client_) {
            if (auto failure = connect()) {
                return std::move(*failure);
            }
        }
        // Its ticks also notice a Ctrl-C that came between two waits.
        client_->on_idle(idle_ ? idle_ : [] {});
        if (interrupted()) {
            return interrupted_call();
        }
        auto answer = client_->call(method, params(), deadline);
        const auto* failure = std::get_if<CallError>(&answer);
        const bool stops = failure != nullptr && failure->error.kind == ErrorKind::ShuttingDown;
        if (failure == nullptr || (!failure->daemon_lost && !stops)) {
            lost_at_.reset();
            stopped_ = false;
            return answer;
        }
        const Instant now = std::chrono::steady_clock::now();
        if (!lost_at_) {
            lost_at_ = now;
            tell_loss(*failure);
        } else if (now >= *lost_at_ + kNextDaemon) {
            return answer;
        }
        stopped_ = stopped_ || stops;
        client_.reset();
        // The socket of a process that is being killed takes connections a moment longer than it answers.
        ::poll(nullptr, 0, kPauseMilliseconds);
        if (interrupted()) {
            return interrupted_call();
        }
    }
}

}  // namespace cmssh::client
