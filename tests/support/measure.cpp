#include "tests/support/measure.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tests/support/files.hpp"

namespace cmssh::test {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

#ifdef NDEBUG
constexpr bool kWithoutOptimisation = false;
#else
constexpr bool kWithoutOptimisation = true;
#endif

std::string proc_file(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + '/' + name;
}

// The most that it has had in memory since the last reset.
std::size_t peak_bytes(pid_t pid) {
    std::ifstream file(proc_file(pid, "status"));
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("VmHWM:")) {
            return std::stoul(line.substr(6)) * 1024;
        }
    }
    throw std::runtime_error("the process has no memory");
}

double processor_seconds(pid_t pid) {
    const std::string text = read_file(proc_file(pid, "stat"));
    std::istringstream rest(text.substr(text.rfind(')') + 1));
    // proc(5): the fields behind the name are 3 to …, utime and stime 14 and 15.
    std::string word;
    for (int field = 3; field < 14; ++field) {
        rest >> word;
    }
    double user = 0;
    double system = 0;
    rest >> user >> system;
    return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

void Latencies::expect_below(milliseconds limit) {
    ASSERT_FALSE(taken_.empty());
    std::sort(taken_.begin(), taken_.end());
    const auto most = taken_[(taken_.size() - 1) * 19 / 20];
    const auto worst = taken_.back();
    const int factor = kSanitized ? 5 : kWithoutOptimisation ? 3 : 1;
    std::printf("%zu calls meanwhile: p95 %lld ms, worst %lld ms\n", taken_.size(),
                static_cast<long long>(duration_cast<milliseconds>(most).count()),
                static_cast<long long>(duration_cast<milliseconds>(worst).count()));
    EXPECT_LT(most, limit * factor);
    EXPECT_LT(worst, std::chrono::seconds(1) * factor);
}

Usage::Usage(pid_t pid) : pid_(pid), begin_(std::chrono::steady_clock::now()) {
    // proc(5): 5 resets the peak.
    write_file(proc_file(pid, "clear_refs"), "5");
    first_bytes_ = peak_bytes(pid);
    first_seconds_ = processor_seconds(pid);
}

void Usage::expect_memory_below(std::size_t bytes) const {
    const std::size_t more = std::max(peak_bytes(pid_), first_bytes_) - first_bytes_;
    std::printf("memory meanwhile: %zu MiB more than %zu MiB\n", more >> 20, first_bytes_ >> 20);
    if (!kSanitized) {
        EXPECT_LT(more, bytes);
    }
}

double Usage::processor_share() const {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin_;
    return (processor_seconds(pid_) - first_seconds_) / passed.count();
}

}  // namespace cmssh::test
