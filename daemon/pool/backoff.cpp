#include "daemon/pool/backoff.hpp"

#include <algorithm>
#include <cmath>

namespace cmssh {

std::chrono::milliseconds backoff_delay(const BackoffLimits& limits, int failures, double unit_random) {
    const double initial = static_cast<double>(limits.initial.count());
    const double most = static_cast<double>(limits.max.count());
    // 2^30 times any delay is past every maximum.
    const double ceiling = std::min(most, std::ldexp(initial, std::clamp(failures, 0, 30)));
    return std::chrono::milliseconds(static_cast<std::int64_t>(ceiling * unit_random));
}

}  // namespace cmssh
