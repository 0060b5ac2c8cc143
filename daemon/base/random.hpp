// Chance from the kernel. What the simulation must decide gets its randomness passed in instead.
#pragma once

#include <cstdint>
#include <functional>

namespace cmssh {

[[nodiscard]] std::uint64_t random_bits();

// Numbers in [0, 1), for jitter.
[[nodiscard]] std::function<double()> make_unit_random();

}  // namespace cmssh
