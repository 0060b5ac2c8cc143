// How long to wait before the next login of a connection that wants to be up. Pure.
#pragma once

#include <chrono>

namespace cmssh {

struct BackoffLimits {
    std::chrono::milliseconds initial{};
    std::chrono::milliseconds max{};
};

// Full jitter: somewhere from 0 to min(max, initial * 2^failures). unit_random: in [0, 1).
[[nodiscard]] std::chrono::milliseconds backoff_delay(const BackoffLimits& limits, int failures, double unit_random);

}  // namespace cmssh
