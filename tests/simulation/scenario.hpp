// One simulated day from a seed: people who start, kill and wait, everything that fails around them, a daemon that
// crashes between any two steps, and what must be true all the while.
#pragma once

#include <cstdint>
#include <string>

namespace cmssh::sim {

struct Outcome {
    std::uint64_t seed = 0;
    std::uint64_t hash = 0;  // of all that happened
    std::uint64_t events = 0;
    std::uint64_t steps = 0;
    std::uint64_t starts = 0;
    std::uint64_t executions = 0;
    std::uint64_t logins = 0;
    std::uint64_t crashes = 0;
    std::uint64_t faults = 0;
    std::string violation;  // empty: none
};

struct Options {
    std::uint64_t seed = 0;
    int hours = 24;
    bool trace = false;
    std::string directory;  // for the registry
};

[[nodiscard]] Outcome run_day(const Options& options);

}  // namespace cmssh::sim
