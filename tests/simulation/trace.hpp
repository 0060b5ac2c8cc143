// What happened, in order: always as a hash, and as text where it is asked for.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "daemon/base/clock.hpp"

namespace cmssh::sim {

class Trace {
public:
    explicit Trace(bool shown) : shown_(shown) {}

    void note(Duration at, std::string_view what, std::string_view about = {}, std::uint64_t number = 0) {
        mix(static_cast<std::uint64_t>(at.count()));
        mix(what);
        mix(about);
        mix(number);
        ++events_;
        if (shown_) {
            const double seconds = std::chrono::duration<double>(at).count();
            std::printf("%13.6f %s %s", seconds, std::string(what).c_str(), std::string(about).c_str());
            if (number != 0) {
                std::printf(" #%llu", static_cast<unsigned long long>(number));
            }
            std::printf("\n");
            std::fflush(stdout);
        }
    }
    [[nodiscard]] bool shown() const { return shown_; }
    [[nodiscard]] std::uint64_t hash() const { return hash_; }
    [[nodiscard]] std::uint64_t events() const { return events_; }

private:
    void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15ULL + (hash_ >> 29U); }
    void mix(std::string_view text) {
        std::uint64_t value = 0xcbf29ce484222325ULL;
        for (const char c : text) {
            value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
        }
        mix(value);
    }

    bool shown_;
    std::uint64_t hash_ = 1;
    std::uint64_t events_ = 0;
};

}  // namespace cmssh::sim
