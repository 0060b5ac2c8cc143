// StoredSession::pending_kill, what is to be done once the session's server can be asked: "" is a kill by tmux,
// anything else are names of signals in the order in which they were asked for, with a blank between them. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh {

using PendingKill = std::optional<std::string>;

// None for a kill by tmux.
[[nodiscard]] std::vector<std::string> pending_signals(const PendingKill& pending);
// Each once, as the kernel does. A kill by tmux stays what it is.
void add_signal(PendingKill& pending, std::string_view name);
// false: it was not among them.
bool take_signal(PendingKill& pending, std::string_view name);

}  // namespace cmssh
