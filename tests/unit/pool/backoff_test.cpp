#include "daemon/pool/backoff.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cmssh {
namespace {

using std::chrono::milliseconds;

constexpr double kAlmostOne = 0x1.fffffffffffffp-1;  // the greatest double below 1
constexpr BackoffLimits kLimits{.initial = milliseconds(500), .max = milliseconds(60000)};

TEST(Backoff, DoublesItsCeilingUpToTheMaximum) {
    const std::pair<int, int> ceilings[] = {{0, 500},    {1, 1000},   {2, 2000},   {3, 4000},    {4, 8000},
                                            {5, 16000},  {6, 32000},  {7, 60000},  {8, 60000},   {30, 60000},
                                            {31, 60000}, {32, 60000}, {64, 60000}, {1000, 60000}};
    for (const auto& [failures, ceiling] : ceilings) {
        EXPECT_EQ(backoff_delay(kLimits, failures, 0.5), milliseconds(ceiling / 2)) << failures;
        EXPECT_EQ(backoff_delay(kLimits, failures, kAlmostOne), milliseconds(ceiling - 1)) << failures;
    }
}

TEST(Backoff, HasFullJitter) {
    for (int failures = 0; failures < 40; ++failures) {
        EXPECT_EQ(backoff_delay(kLimits, failures, 0), milliseconds(0)) << failures;
        milliseconds before(-1);
        for (double random = 0; random < 1; random += 1.0 / 64) {
            const auto delay = backoff_delay(kLimits, failures, random);
            EXPECT_GT(delay, before) << failures << ' ' << random;
            EXPECT_LT(delay, kLimits.max);
            before = delay;
        }
    }
}

TEST(Backoff, DoesNotOverflow) {
    constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
    const BackoffLimits wide{.initial = milliseconds(kMost), .max = milliseconds(kMost)};
    for (const int failures : {0, 30, 63, 64, std::numeric_limits<int>::max()}) {
        EXPECT_GT(backoff_delay(wide, failures, kAlmostOne), milliseconds(kMost / 2)) << failures;
        EXPECT_LT(backoff_delay(kLimits, failures, kAlmostOne), kLimits.max) << failures;
    }
}

TEST(Backoff, TakesOddLimits) {
    EXPECT_EQ(backoff_delay(kLimits, -1, 0.5), milliseconds(250));
    EXPECT_EQ(backoff_delay(kLimits, std::numeric_limits<int>::min(), 0.5), milliseconds(250));
    EXPECT_EQ(backoff_delay({.initial = milliseconds(0), .max = milliseconds(60000)}, 30, 0.5), milliseconds(0));
    // A maximum below the first delay wins.
    EXPECT_EQ(backoff_delay({.initial = milliseconds(500), .max = milliseconds(100)}, 0, 0.5), milliseconds(50));
}

}  // namespace
}  // namespace cmssh
