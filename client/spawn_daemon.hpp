// Starts the daemon where nothing listens: by systemd's socket where there is one, else by running cmsshd.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "client/rpc_client.hpp"

namespace cmssh::client {

struct SpawnOutcome {
    SpawnOutcome() = default;
    SpawnOutcome(CallError why_not) : failure(std::move(why_not)) {}

    std::optional<CallError> failure;  // nullopt: somebody listens now
    bool another_serves = false;       // a daemon of this user runs already, perhaps on another socket
};
// Message and hint of a cmsshd that did not start, from all that it printed: the last two lines, where it said so.
[[nodiscard]] Error last_words(const std::string& said);
// Where this user's daemon says that it listens; nullopt: it says nothing, or there is none.
[[nodiscard]] std::optional<std::string> socket_of_daemon();
// The one that was installed with this cmctl, before any other in PATH.
[[nodiscard]] std::string find_cmsshd();
// Takes until the caller's deadline, and 10 s at most.
[[nodiscard]] SpawnOutcome spawn_daemon(const GlobalOptions& global, std::optional<Instant> caller_deadline);

}  // namespace cmssh::client
