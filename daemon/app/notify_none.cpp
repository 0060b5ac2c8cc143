// Built where libsystemd is not: nobody is told.
#include "daemon/app/notify.hpp"

namespace cmssh {

void notify_ready(const std::string& /*status*/) {}
void notify_reloading() {}
void notify_stopping() {}
void notify_watchdog(const std::string& /*status*/) {}
std::optional<std::chrono::microseconds> watchdog_interval() {
    return std::nullopt;
}

}  // namespace cmssh
