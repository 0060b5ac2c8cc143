// In place of daemon/base/random.cpp: the product's chance comes from the seed too.
#include "daemon/base/random.hpp"

#include <cassert>

#include "tests/simulation/rng.hpp"

namespace cmssh {
namespace {

sim::Rng* source = nullptr;

}  // namespace

void sim::set_product_random(Rng* rng) {
    source = rng;
}

std::uint64_t random_bits() {
    assert(source != nullptr);
    return source->bits();
}

std::function<double()> make_unit_random() {
    return [] { return source->unit(); };
}

}  // namespace cmssh
