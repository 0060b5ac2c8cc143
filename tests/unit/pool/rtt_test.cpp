#include "daemon/pool/rtt.hpp"

#include <gtest/gtest.h>

namespace cmssh {
namespace {

using std::chrono::milliseconds;

RttWindow window_of(int count, int first = 1) {
    RttWindow window;
    for (int i = 0; i < count; ++i) {
        window.add(milliseconds(first + i));
    }
    return window;
}

TEST(RttWindow, HasNothingToSayAtFirst) {
    EXPECT_FALSE(RttWindow().summary());
}

TEST(RttWindow, SumsUpInMilliseconds) {
    RttWindow window;
    window.add(std::chrono::microseconds(1500));
    const auto summary = window.summary();
    ASSERT_TRUE(summary);
    EXPECT_DOUBLE_EQ(summary->last, 1.5);
    EXPECT_DOUBLE_EQ(summary->p50, 1.5);
    EXPECT_DOUBLE_EQ(summary->p95, 1.5);
}

// Round-trip times of 1, 2, 3 … ms.
TEST(RttWindow, TakesPercentilesOfItsSamples) {
    struct Case {
        int count;
        double last, p50, p95;
    };
    for (const Case& c : {Case{2, 2, 1, 1}, Case{3, 3, 2, 2}, Case{20, 20, 10, 19}, Case{64, 64, 32, 60}}) {
        const auto summary = window_of(c.count).summary();
        ASSERT_TRUE(summary) << c.count;
        EXPECT_DOUBLE_EQ(summary->last, c.last) << c.count;
        EXPECT_DOUBLE_EQ(summary->p50, c.p50) << c.count;
        EXPECT_DOUBLE_EQ(summary->p95, c.p95) << c.count;
    }
}

TEST(RttWindow, DoesNotCareForTheOrder) {
    RttWindow window;
    for (const int rtt : {9, 1, 5, 3, 7}) {
        window.add(milliseconds(rtt));
    }
    EXPECT_DOUBLE_EQ(window.summary()->p50, 5);
    EXPECT_DOUBLE_EQ(window.summary()->last, 7);
}

TEST(RttWindow, ForgetsAllButTheLast64) {
    const auto summary = window_of(64 + 1000).summary();
    ASSERT_TRUE(summary);
    EXPECT_DOUBLE_EQ(summary->last, 1064);
    EXPECT_DOUBLE_EQ(summary->p50, 1032);
    EXPECT_DOUBLE_EQ(summary->p95, 1060);
}

}  // namespace
}  // namespace cmssh
