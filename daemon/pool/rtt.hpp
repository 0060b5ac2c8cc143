// The last round-trip times of one connection. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "daemon/base/clock.hpp"
#include "protocol/methods.hpp"

namespace cmssh {

class RttWindow {
public:
    void add(Duration rtt) {
        samples_[next_ % kSize] = std::chrono::duration<double, std::milli>(rtt).count();
        ++next_;
    }

    [[nodiscard]] std::optional<api::Rtt> summary() const {
        if (next_ == 0) {
            return std::nullopt;
        }
        const std::size_t count = std::min(next_, kSize);
        auto sorted = samples_;
        std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
        return api::Rtt{.last = samples_[(next_ - 1) % kSize],
                        .p50 = sorted[(count - 1) / 2],
                        .p95 = sorted[(count - 1) * 95 / 100]};
    }

private:
    // A quarter of an hour of probes at the default interval.
    static constexpr std::size_t kSize = 64;
    std::array<double, kSize> samples_{};
    std::size_t next_ = 0;
};

}  // namespace cmssh
