#include "daemon/base/random.hpp"

#include <sys/random.h>

#include <cstdlib>
#include <random>

namespace cmssh {

std::uint64_t random_bits() {
    std::uint64_t bits = 0;
    if (::getrandom(&bits, sizeof(bits), 0) != sizeof(bits)) {
        std::abort();
    }
    return bits;
}

std::function<double()> make_unit_random() {
    return [engine = std::mt19937_64(random_bits())]() mutable {
        return std::uniform_real_distribution<double>(0, 1)(engine);
    };
}

}  // namespace cmssh
