// Telling the one who started the daemon how it is doing: systemd by sd_notify(3) (notify_systemd.cpp, or
// notify_none.cpp where libsystemd is not), and cmctl through a pipe.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "daemon/base/unique_fd.hpp"

namespace cmssh {

// status: one line for `systemctl status`.
void notify_ready(const std::string& status);
// notify_ready() follows.
void notify_reloading();
void notify_stopping();
void notify_watchdog(const std::string& status);
// How often systemd wants to hear notify_watchdog(): already halved. nullopt: not at all.
[[nodiscard]] std::optional<std::chrono::microseconds> watchdog_interval();

// The pipe of CMSSH_READY_FD: whoever spawned the daemon reads "READY\n" from it once the daemon serves, or end of
// file.
class ReadyPipe {
public:
    // Takes the descriptor over and forgets the variable.
    [[nodiscard]] static ReadyPipe from_environment();
    void announce();

private:
    UniqueFd fd_;
};

}  // namespace cmssh
