#include "daemon/session/pending_kill.hpp"

#include <sstream>

namespace cmssh {

std::vector<std::string> pending_signals(const PendingKill& pending) {
    std::istringstream words(pending.value_or(""));
    std::vector<std::string> names;
    for (std::string name; words >> name;) {
        names.push_back(std::move(name));
    }
    return names;
}

void add_signal(PendingKill& pending, std::string_view name) {
    if (pending == "") {
        return;
    }
    (void)take_signal(pending, name);
    pending = pending ? *pending + ' ' + std::string(name) : std::string(name);
}

bool take_signal(PendingKill& pending, std::string_view name) {
    PendingKill left;
    bool found = false;
    for (const auto& one : pending_signals(pending)) {
        if (one == name) {
            found = true;
        } else {
            left = left ? *left + ' ' + one : one;
        }
    }
    if (found) {
        pending = std::move(left);
    }
    return found;
}

}  // namespace cmssh
