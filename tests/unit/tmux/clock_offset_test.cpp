#include "daemon/tmux/clock_offset.hpp"

#include <gtest/gtest.h>

namespace cmssh::tmux {
namespace {

// The second that a server's clock shows, `offset_ms` ahead of ours.
std::int64_t second_at(std::int64_t ours_ms, std::int64_t offset_ms) {
    return (ours_ms + offset_ms) / 1000;
}

constexpr std::int64_t kNow = 1'700'000'000'000;

TEST(ClockOffset, IsKnownToASecondFromOneReply) {
    for (const std::int64_t offset : {-3'600'000, -700, 0, 300, 86'400'123}) {
        ClockOffset clock;
        clock.add(second_at(kNow + 5, offset), kNow, kNow + 10);
        EXPECT_LE(clock.ms(), offset);
        EXPECT_GT(clock.ms(), offset - 1'010);
    }
}

TEST(ClockOffset, IsKnownToTheWayOfAReplyFromMany) {
    constexpr std::int64_t kOffset = 12'345;
    ClockOffset clock;
    for (std::int64_t at = kNow; at < kNow + 15'000; at += 97) {
        clock.add(second_at(at + 5, kOffset), at, at + 10);
    }
    EXPECT_LE(clock.ms(), kOffset);
    EXPECT_GE(clock.ms(), kOffset - 100 - 10);
}

TEST(ClockOffset, IsNotSpoiltByAReplyThatWasHeldUp) {
    ClockOffset clock;
    clock.add(second_at(kNow + 5, 0), kNow, kNow + 10);
    clock.add(second_at(kNow + 20, 0), kNow + 15, kNow + 15'000);          // the reply
    clock.add(second_at(kNow + 30'000, 0), kNow + 15'010, kNow + 30'005);  // the request
    EXPECT_LE(clock.ms(), 0);
    EXPECT_GT(clock.ms(), -1'010);
}

TEST(ClockOffset, FollowsAClockThatIsSet) {
    ClockOffset clock;
    for (const std::int64_t offset : {0, 3'600'000, -3'600'000, 5'000}) {
        clock.add(second_at(kNow + 5, offset), kNow, kNow + 10);
        EXPECT_LE(clock.ms(), offset);
        EXPECT_GT(clock.ms(), offset - 1'010);
    }
}

}  // namespace
}  // namespace cmssh::tmux
