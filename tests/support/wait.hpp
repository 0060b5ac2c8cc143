// Deadlines of the integration tests. Nothing waits for a time to pass, only for something to become true.
#pragma once

#include <poll.h>

#include <chrono>

namespace cmssh::test {

using namespace std::chrono_literals;
using Deadline = std::chrono::steady_clock::time_point;

// For what takes milliseconds on an idle machine: a sanitizer's build on a busy one is a hundred times slower.
inline constexpr std::chrono::seconds kPatience{30};

inline Deadline in(std::chrono::milliseconds duration) {
    return std::chrono::steady_clock::now() + duration;
}

// For facts outside of this process that nobody announces.
template <typename Predicate>
[[nodiscard]] bool wait_until(Predicate predicate, Deadline deadline = in(kPatience)) {
    constexpr int kPauseMs = 5;
    while (!predicate()) {
        if (std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        ::poll(nullptr, 0, kPauseMs);
    }
    return true;
}

}  // namespace cmssh::test
