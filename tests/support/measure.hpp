// What a fault costs those who have nothing to do with it: how long their calls take, the daemon's memory and its time
// on the processor.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <vector>

namespace cmssh::test {

// Of a sanitizer's build neither time nor memory says much.
#ifdef CMSSH_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

class Latencies {
public:
    template <typename Call>
    void measure(Call call) {
        const auto begin = std::chrono::steady_clock::now();
        call();
        taken_.push_back(std::chrono::steady_clock::now() - begin);
    }
    // All but one in twenty, which the machine may hold up; and none a second. A debug build is given three times that,
    // a sanitizer's five times.
    void expect_below(std::chrono::milliseconds limit);

private:
    std::vector<std::chrono::steady_clock::duration> taken_;
};

// Of a process, from now on.
class Usage {
public:
    explicit Usage(pid_t pid);
    // How much more than at first it had at most.
    void expect_memory_below(std::size_t bytes) const;
    // Of the time since then, the part that it computed.
    [[nodiscard]] double processor_share() const;

private:
    pid_t pid_;
    std::size_t first_bytes_;
    double first_seconds_;
    std::chrono::steady_clock::time_point begin_;
};

}  // namespace cmssh::test
