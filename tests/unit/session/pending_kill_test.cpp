#include "daemon/session/pending_kill.hpp"

#include <gmock/gmock.h>

namespace cmssh {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(PendingKill, KeepsSignalsInTheirOrder) {
    PendingKill pending;
    EXPECT_THAT(pending_signals(pending), IsEmpty());
    add_signal(pending, "USR1");
    add_signal(pending, "TERM");
    add_signal(pending, "USR1");
    EXPECT_THAT(pending_signals(pending), ElementsAre("TERM", "USR1"));
    EXPECT_FALSE(take_signal(pending, "USR"));
    EXPECT_TRUE(take_signal(pending, "TERM"));
    EXPECT_THAT(pending_signals(pending), ElementsAre("USR1"));
    EXPECT_TRUE(take_signal(pending, "USR1"));
    EXPECT_EQ(pending, std::nullopt);
    EXPECT_FALSE(take_signal(pending, "USR1"));
}

TEST(PendingKill, ByTmuxStaysWhatItIs) {
    PendingKill pending = "";
    add_signal(pending, "TERM");
    EXPECT_EQ(pending, "");
    EXPECT_THAT(pending_signals(pending), IsEmpty());
    EXPECT_FALSE(take_signal(pending, "TERM"));
    EXPECT_EQ(pending, "");
}

}  // namespace
}  // namespace cmssh
