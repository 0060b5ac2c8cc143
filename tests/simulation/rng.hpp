// Chance from a seed: the same numbers on every machine and with every standard library.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>

#include "daemon/base/clock.hpp"

namespace cmssh::sim {

class Rng {
public:
    explicit Rng(std::uint64_t seed) : state_(seed) {}

    // splitmix64
    std::uint64_t bits() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27U)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31U);
    }
    double unit() { return static_cast<double>(bits() >> 11U) * 0x1.0p-53; }
    bool chance(double probability) { return unit() < probability; }
    // In [0, count).
    std::size_t below(std::size_t count) { return static_cast<std::size_t>(unit() * static_cast<double>(count)); }
    Duration between(Duration low, Duration high) {
        return low + std::chrono::duration_cast<Duration>((high - low) * unit());
    }
    Duration exponential(Duration mean) { return std::chrono::duration_cast<Duration>(mean * -std::log(1.0 - unit())); }

private:
    std::uint64_t state_;
};

// What daemon/base/random.hpp gives while this is set; see random.cpp.
void set_product_random(Rng* rng);

}  // namespace cmssh::sim
