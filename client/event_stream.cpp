#include "client/event_stream.hpp"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "client/held_signals.hpp"
#include "client/interrupt.hpp"

namespace cmssh::client {
namespace {

// What a service manager needs to start the next one.
constexpr auto kNextDaemon = std::chrono::seconds(30);
constexpr auto kPause = std::chrono::milliseconds(100);

volatile sig_atomic_t window_changed = 0;

void on_window_change(int /*signal*/) {
    window_changed = 1;
}

timespec time_until(Instant until) {
    const auto left = std::max(until - std::chrono::steady_clock::now(), std::chrono::steady_clock::duration::zero());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    timespec time{};
    time.tv_sec = seconds.count();
    time.tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(left - seconds).count();
    return time;
}

}  // namespace

EventStream::EventStream(const GlobalOptions& global, std::vector<std::string> types)
    : global_(global), types_(std::move(types)) {
    struct sigaction action {};
    action.sa_handler = on_window_change;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGWINCH, &action, nullptr);
}

void EventStream::take_over(RpcClient client) {
    client_ = std::move(client);
    client_->on_notification([this](std::string_view method, const Json& params) {
        if (method == "event" && params.is_object()) {
            events_.push_back(params);
        }
    });
}

Outcome<api::SubscribeResult> EventStream::open(std::optional<Instant> deadline) {
    if (!client_) {
        auto connected = RpcClient::connect(global_, deadline);
        if (auto* failure = std::get_if<CallError>(&connected)) {
            return std::move(*failure);
        }
        take_over(std::move(std::get<RpcClient>(connected)));
    }
    return subscribe(deadline);
}

Outcome<api::SubscribeResult> EventStream::subscribe(std::optional<Instant> deadline) {
    Json params = Json::object();
    if (!types_.empty()) {
        params["types"] = types_;
    }
    auto outcome = call<api::SubscribeResult>(*client_, "subscribe", std::move(params), deadline);
    if (const auto* reply = std::get_if<Reply<api::SubscribeResult>>(&outcome)) {
        subscription_ = reply->value.subscription;
    }
    return outcome;
}

std::optional<Outcome<api::SubscribeResult>> EventStream::try_next(Instant deadline) {
    GlobalOptions how = global_;
    how.no_spawn = true;
    client_.reset();
    events_.clear();
    auto connected = RpcClient::connect(how, deadline);
    auto* client = std::get_if<RpcClient>(&connected);
    if (client == nullptr) {
        return std::nullopt;
    }
    take_over(std::move(*client));
    auto outcome = subscribe(deadline);
    const auto* failure = std::get_if<CallError>(&outcome);
    if (failure != nullptr) {
        client_.reset();
    }
    if (failure != nullptr && failure->exit_code == exit_code::kNoDaemon) {
        return std::nullopt;
    }
    return outcome;
}

Outcome<api::SubscribeResult> EventStream::open_next() {
    const Instant until = std::chrono::steady_clock::now() + kNextDaemon;
    for (;;) {
        if (auto outcome = try_next(until)) {
            return std::move(*outcome);
        }
        const HeldSignals held;
        if (interrupted()) {
            return interrupted_call();
        }
        const Instant now = std::chrono::steady_clock::now();
        if (now >= until) {
            return CallError{
                .error = {.kind = ErrorKind::Internal, .message = "the daemon is gone", .hint = "cmctl daemon start"},
                .exit_code = exit_code::kNoDaemon,
                .daemon_lost = true};
        }
        const timespec pause = time_until(now + kPause);
        ::ppoll(nullptr, 0, &pause, held.before());
    }
}

std::variant<EventStream::Woken, CallError> EventStream::wait(std::optional<Instant> until, int input) {
    const HeldSignals held;
    for (;;) {
        auto lost = client_ ? client_->receive_notifications() : std::nullopt;
        if (!events_.empty()) {
            return Woken::Events;
        }
        if (lost) {
            return std::move(*lost);
        }
        if (interrupted()) {
            return Woken::Interrupted;
        }
        if (std::exchange(window_changed, 0) != 0) {
            return Woken::Resized;
        }
        std::array<pollfd, 3> waited{pollfd{.fd = client_ ? client_->fd() : -1, .events = POLLIN, .revents = 0},
                                     pollfd{.fd = STDOUT_FILENO, .events = 0, .revents = 0},
                                     pollfd{.fd = input, .events = POLLIN, .revents = 0}};  // -1: passed over
        const timespec left = until ? time_until(*until) : timespec{};
        const int ready = ::ppoll(waited.data(), waited.size(), until ? &left : nullptr, held.before());
        if (ready > 0 && waited[1].revents != 0) {
            return Woken::OutputClosed;
        }
        if (ready > 0 && waited[2].revents != 0) {
            return Woken::Input;
        }
        if (ready == 0) {
            return Woken::Time;
        }
    }
}

std::vector<Json> EventStream::take() {
    std::vector<Json> taken;
    for (Json& event : std::exchange(events_, {})) {
        // What an earlier subscription of this connection had on its way.
        if (event.value("subscription", "") == subscription_) {
            taken.push_back(std::move(event));
        }
    }
    return taken;
}

}  // namespace cmssh::client
