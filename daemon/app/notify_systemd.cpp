#include <systemd/sd-daemon.h>

#include <cstdint>

#include "daemon/app/notify.hpp"

namespace cmssh {

void notify_ready(const std::string& status) {
    ::sd_notify(0, ("READY=1\nSTATUS=" + status).c_str());
}

void notify_reloading() {
    ::sd_notify(0, "RELOADING=1\nSTATUS=reading the configuration");
}

void notify_stopping() {
    ::sd_notify(0, "STOPPING=1\nSTATUS=stopping");
}

void notify_watchdog(const std::string& status) {
    ::sd_notify(0, ("WATCHDOG=1\nSTATUS=" + status).c_str());
}

std::optional<std::chrono::microseconds> watchdog_interval() {
    std::uint64_t microseconds = 0;
    if (::sd_watchdog_enabled(0, &microseconds) <= 0) {
        return std::nullopt;
    }
    return std::chrono::microseconds(microseconds / 2);
}

}  // namespace cmssh
