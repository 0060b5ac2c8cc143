// Somebody else at the daemon while it is attacked: how long its calls take, and what the attack leaves behind.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/measure.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {

// How long `ping` takes somebody else, over and over, until it is stopped or has seen enough.
class Pings {
public:
    explicit Pings(const std::string& socket_path) : client_(socket_path) {}

    void ping() {
        const auto begin = std::chrono::steady_clock::now();
        client_.call("ping");
        took_.push_back(std::chrono::steady_clock::now() - begin);
    }
    [[nodiscard]] std::chrono::nanoseconds p99() {
        std::sort(took_.begin(), took_.end());
        return took_.at(took_.size() * 99 / 100);
    }
    [[nodiscard]] std::size_t count() const { return took_.size(); }

private:
    RpcClient client_;
    std::vector<std::chrono::nanoseconds> took_;
};

// What is not optimised takes several times as long.
#ifdef NDEBUG
inline constexpr std::chrono::nanoseconds kLongestPing = 20ms;
#else
inline constexpr std::chrono::nanoseconds kLongestPing = 100ms;
#endif

// Everybody else's p99 is below 20 ms; on a machine that is too busy for that without an attack, not much above it.
class Bystander {
public:
    explicit Bystander(World& world) : world_(world) {
        Pings quiet(world.daemon.socket_path());
        constexpr int kPings = 300;
        for (int i = 0; i < kPings; ++i) {
            quiet.ping();
        }
        limit_ = std::max(kLongestPing, 10 * quiet.p99());
    }
    // While the attack goes on in a thread of its own, again and again until enough was seen; what it throws is a
    // failure.
    template <typename Attack>
    void watch(Attack attack) {
        constexpr std::size_t kFewest = 500;
        std::atomic<std::size_t> seen = 0;
        std::atomic<bool> over = false;
        std::string failure;
        std::thread attacker([&] {
            try {
                do {
                    attack();
                } while (seen < kFewest);
            } catch (const std::exception& thrown) {
                failure = thrown.what();
            }
            over = true;
        });
        Pings pings(world_.daemon.socket_path());
        std::string starved;
        try {
            for (; !over; ++seen) {
                pings.ping();
                peak_ = std::max(peak_, resident_bytes(world_.daemon.pid()));
            }
        } catch (const std::exception& thrown) {
            starved = thrown.what();
            seen = kFewest;
        }
        attacker.join();
        EXPECT_EQ(failure, "");
        ASSERT_EQ(starved, "");
        const auto p99 = pings.p99();
        ::testing::Test::RecordProperty("p99_microseconds", static_cast<int>(p99 / 1us));
        ::testing::Test::RecordProperty("peak_kib", static_cast<int>(peak_ / 1024));
        if (!kSanitized) {
            EXPECT_LT(p99, limit_) << "of " << pings.count();
        }
    }
    // Resident memory of the daemon meanwhile.
    [[nodiscard]] std::size_t peak() const { return peak_; }

private:
    World& world_;
    std::size_t peak_ = 0;
    std::chrono::nanoseconds limit_{};
};

// The daemon as it is between two attacks.
class Footprint {
public:
    explicit Footprint(World& world) : world_(world) {
        expect_one_client();
        descriptors_ = descriptors_of(world.daemon.pid());
        resident_ = resident_bytes(world.daemon.pid());
    }

    void expect_back(std::size_t more) {
        expect_one_client();
        EXPECT_TRUE(wait_until([&] { return descriptors_of(world_.daemon.pid()) == descriptors_; }))
            << descriptors_of(world_.daemon.pid()) << " descriptors, before " << descriptors_;
        const std::size_t now = resident_bytes(world_.daemon.pid());
        ::testing::Test::RecordProperty("resident_kib", static_cast<int>(now / 1024));
        if (!kSanitized) {
            EXPECT_LT(now, resident_ + more) << "before " << resident_;
        }
    }

private:
    void expect_one_client() {
        EXPECT_TRUE(wait_until([&] { return world_.stats().at("daemon").at("clients") == 1; }));
    }

    World& world_;
    int descriptors_ = 0;
    std::size_t resident_ = 0;
};

}  // namespace cmssh::test
