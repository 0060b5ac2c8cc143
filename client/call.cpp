#include "client/call.hpp"

#include <poll.h>

#include <chrono>

namespace cmssh::client {
namespace {

// The socket of a process that is being killed takes connections a moment longer than it answers.
constexpr auto kDyingDaemon = std::chrono::seconds(1);
constexpr int kPauseMilliseconds = 10;

}  // namespace

bool SecondTry::after(const CallError& failure, const RpcClient& client) {
    if (!failure.daemon_lost) {
        return false;
    }
    const Instant now = std::chrono::steady_clock::now();
    if (!lost_at_) {
        lost_at_ = now;
        return true;
    }
    if (client.was_answered() || now >= *lost_at_ + kDyingDaemon) {
        return false;
    }
    ::poll(nullptr, 0, kPauseMilliseconds);
    return true;
}

}  // namespace cmssh::client
