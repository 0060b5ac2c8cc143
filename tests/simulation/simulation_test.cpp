// The simulation's seeds as tests. What fails is replayed, with all that happens, by
//   build/release/tests/simulation_tests --seed=N --trace
#include <gtest/gtest.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/simulation/scenario.hpp"

namespace cmssh::sim {
namespace {

struct Arguments {
    std::uint64_t first = 1;
    std::uint64_t count = 1000;  // of all shards
    std::uint64_t shard = 1;
    std::uint64_t shards = 1;
    int hours = 24;
    bool one = false;
    bool trace = false;
};
Arguments arguments;
std::string program = "simulation_tests";

Outcome simulate(std::uint64_t seed, bool trace = false) {
    Options options;
    options.seed = seed;
    options.hours = arguments.hours;
    options.trace = trace;
    options.directory = "/dev/shm/cmssh-simulation-" + std::to_string(::getpid());
    return run_day(options);
}

std::string replay(std::uint64_t seed) {
    return program + " --seed=" + std::to_string(seed) +
           (arguments.hours == 24 ? "" : " --hours=" + std::to_string(arguments.hours)) + " --trace";
}

TEST(Simulation, HoldsWhatMustBeTrue) {
    Outcome sum;
    const auto began = std::chrono::steady_clock::now();
    int failures = 0;
    for (std::uint64_t seed = arguments.first; seed < arguments.first + arguments.count; ++seed) {
        const Outcome outcome = simulate(seed);
        sum.steps += outcome.steps;
        sum.starts += outcome.starts;
        sum.executions += outcome.executions;
        sum.logins += outcome.logins;
        sum.crashes += outcome.crashes;
        sum.faults += outcome.faults;
        if (!outcome.violation.empty()) {
            ADD_FAILURE() << "seed " << seed << ": " << outcome.violation << "\n  " << replay(seed);
            if (++failures == 20) {
                break;
            }
        }
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    std::printf(
        "seeds %llu to %llu: %.1f s, %llu starts, %llu executions, %llu logins, %llu faults, %llu crashes, %llu "
        "steps\n",
        static_cast<unsigned long long>(arguments.first),
        static_cast<unsigned long long>(arguments.first + arguments.count - 1), took.count(),
        static_cast<unsigned long long>(sum.starts), static_cast<unsigned long long>(sum.executions),
        static_cast<unsigned long long>(sum.logins), static_cast<unsigned long long>(sum.faults),
        static_cast<unsigned long long>(sum.crashes), static_cast<unsigned long long>(sum.steps));
}

TEST(Simulation, IsTheSameForTheSameSeed) {
    const Outcome one = simulate(arguments.first);
    const Outcome other = simulate(arguments.first);
    EXPECT_EQ(one.hash, other.hash) << replay(arguments.first);
    EXPECT_EQ(one.events, other.events);
    EXPECT_EQ(one.steps, other.steps);
    EXPECT_EQ(one.violation, other.violation);
}

// --name or --name=NUMBER; false: another argument.
bool read_argument(std::string_view argument) {
    const auto number = [argument](std::string_view name, auto& value) {
        if (!argument.starts_with(name)) {
            return false;
        }
        const char* end = argument.data() + argument.size();
        return std::from_chars(argument.data() + name.size(), end, value).ptr == end;
    };
    if (number("--seed=", arguments.first)) {
        arguments.one = true;
        arguments.count = 1;
        return true;
    }
    if (argument == "--trace") {
        arguments.trace = true;
        return true;
    }
    return number("--first=", arguments.first) || number("--count=", arguments.count) ||
           number("--shard=", arguments.shard) || number("--shards=", arguments.shards) ||
           number("--hours=", arguments.hours);
}

}  // namespace

int run(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    program = argv[0];
    if (const char* seeds = std::getenv("CMSSH_SIM_SEEDS")) {
        arguments.count = std::strtoull(seeds, nullptr, 10);
    }
    for (int i = 1; i < argc; ++i) {
        if (!read_argument(argv[i])) {
            std::fprintf(stderr,
                         "usage: %s [--seed=N [--trace] | --first=N --count=N --shard=N --shards=N] [--hours=N]\n",
                         argv[0]);
            return 2;
        }
    }
    if (!arguments.one) {
        arguments.count = std::max<std::uint64_t>(1, arguments.count / arguments.shards);
        arguments.first += (arguments.shard - 1) * arguments.count;
    }
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("daemon", std::make_shared<spdlog::sinks::stdout_sink_st>()));
    spdlog::set_pattern("              . %l %v");
    spdlog::set_level(arguments.trace ? spdlog::level::debug : spdlog::level::off);
    if (!arguments.one) {
        return RUN_ALL_TESTS();
    }
    const Outcome outcome = simulate(arguments.first, arguments.trace);
    std::printf("seed %llu: %s, hash %016llx\n", static_cast<unsigned long long>(arguments.first),
                outcome.violation.empty() ? "all held" : outcome.violation.c_str(),
                static_cast<unsigned long long>(outcome.hash));
    return outcome.violation.empty() ? 0 : 1;
}

}  // namespace cmssh::sim

int main(int argc, char** argv) {
    return cmssh::sim::run(argc, argv);
}
