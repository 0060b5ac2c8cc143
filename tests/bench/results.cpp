#include "tests/bench/results.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace bench {
namespace {

constexpr int kSessionsAtOnce = 5;  // rounds between clean-ups

}  // namespace

double Samples::at(double share) const {
    auto sorted = ms;
    std::sort(sorted.begin(), sorted.end());
    return sorted.at(static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5));
}

void Results::add(const std::string& name, double ms) {
    if (!samples_.contains(name)) {
        order_.push_back(name);
    }
    samples_[name].ms.push_back(ms);
}

void measure(Results& results, const std::vector<Operation>& operations, int rounds,
             const std::function<void()>& clean) {
    for (const auto& operation : operations) {  // once unmeasured: files into the cache, first-use work done
        operation.run();
        settle();
    }
    clean();
    for (int round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < operations.size(); ++i) {
            const auto& operation = operations[(i + static_cast<std::size_t>(round)) % operations.size()];
            settle();
            results.add(operation.name, operation.run());
        }
        if ((round + 1) % kSessionsAtOnce == 0) {
            clean();
        }
    }
    clean();
}

double in_a_row(const std::function<double()>& run) {
    constexpr int kTimes = 10;
    double total = 0;
    for (int i = 0; i < kTimes; ++i) {
        total += run();
    }
    return total / kTimes;
}

std::string format(const char* pattern, double value) {
    char text[64];
    std::snprintf(text, sizeof text, pattern, value);
    return text;
}

std::string machine() {
    utsname kernel{};
    uname(&kernel);
    double load = 0;
    getloadavg(&load, 1);
    return std::to_string(std::thread::hardware_concurrency()) + " cores, Linux " + kernel.release +
           ", load average of the last minute " + format("%.1f", load);
}

}  // namespace bench
