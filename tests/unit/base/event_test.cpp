#include "daemon/base/event.hpp"

#include <gmock/gmock.h>

#include <optional>
#include <vector>

#include "daemon/base/timeout.hpp"
#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EventTest : public ::testing::Test {
protected:
    asio::awaitable<void> note_when_woken(int who) {
        co_await event_->wait();
        woken_.push_back(who);
    }
    asio::awaitable<void> note_twice(int who) {
        co_await event_->wait();
        woken_.push_back(who);
        co_await event_->wait();
        woken_.push_back(who);
    }
    asio::awaitable<bool> give_up_at(Instant deadline) {
        auto waiting = event_->wait_until(Instant::max());
        const auto woken = co_await with_deadline(loop_.clock(), deadline, std::move(waiting));
        co_return woken.has_value();
    }

    fakes::TestLoop loop_;
    std::optional<Event> event_{loop_.clock()};
    std::vector<int> woken_;
};

TEST_F(EventTest, WakesAtTheDeadlineWithoutANotification) {
    const auto woken = loop_.start(event_->wait_until(loop_.now() + 5s));
    loop_.advance(5s - 1ns);
    EXPECT_FALSE(woken.done());
    loop_.advance(1ns);
    ASSERT_TRUE(woken.done());
    EXPECT_FALSE(*woken);
}

TEST_F(EventTest, WakesAtANotificationBeforeTheDeadline) {
    const auto woken = loop_.start(event_->wait_until(loop_.now() + 5s));
    event_->notify_all();
    loop_.run_ready();
    ASSERT_TRUE(woken.done());
    EXPECT_TRUE(*woken);
    loop_.advance(10s);
}

TEST_F(EventTest, ADeadlineThatHasPassedIsOne) {
    EXPECT_FALSE(loop_.run(event_->wait_until(loop_.now())));
    EXPECT_FALSE(loop_.run(event_->wait_until(loop_.now() - 1h)));
}

TEST_F(EventTest, WakesEverybodyWhoWaitsInOrderAndFromTheLoop) {
    for (const int who : {1, 2, 3}) {
        loop_.start(note_when_woken(who));
    }
    event_->notify_all();
    EXPECT_THAT(woken_, IsEmpty()) << "not from within notify_all()";
    loop_.run_ready();
    EXPECT_THAT(woken_, ElementsAre(1, 2, 3));
}

TEST_F(EventTest, ForgetsANotificationThatNobodyWaitedFor) {
    event_->notify_all();
    loop_.start(note_when_woken(1));
    EXPECT_THAT(woken_, IsEmpty());
    event_->notify_all();
    loop_.run_ready();
    EXPECT_THAT(woken_, ElementsAre(1));
}

TEST_F(EventTest, WakesWhoWaitsAgainOnlyTheNextTime) {
    loop_.start(note_twice(1));
    event_->notify_all();
    event_->notify_all();
    loop_.run_ready();
    EXPECT_THAT(woken_, ElementsAre(1));
    event_->notify_all();
    loop_.run_ready();
    EXPECT_THAT(woken_, ElementsAre(1, 1));
}

TEST_F(EventTest, MayBeDestroyedRightAfterItWokeEverybody) {
    loop_.start(note_when_woken(1));
    const auto woken = loop_.start(event_->wait_until(loop_.now() + 5s));
    event_->notify_all();
    event_.reset();
    loop_.run_ready();
    EXPECT_THAT(woken_, ElementsAre(1));
    EXPECT_TRUE(*woken);
}

TEST_F(EventTest, ANotificationAtTheDeadlineCounts) {
    const auto woken = loop_.start(event_->wait_until(loop_.now() + 5s));
    const auto notify = [this]() -> asio::awaitable<void> {
        const auto timer = loop_.clock().make_timer();
        co_await timer->wait_until(loop_.now() + 5s);
        event_->notify_all();
    };
    loop_.start(notify());
    loop_.advance(5s);
    // Either may come first; what counts is that the loop of a waiter sees its condition again.
    EXPECT_TRUE(woken.done());
}

TEST_F(EventTest, AWaiterThatGivesUpLeavesTheOthersWaiting) {
    const auto given_up = loop_.start(give_up_at(loop_.now() + 5s));
    loop_.start(note_when_woken(1));
    loop_.advance(5s);
    ASSERT_TRUE(given_up.done());
    EXPECT_FALSE(*given_up);
    EXPECT_THAT(woken_, IsEmpty());
    event_->notify_all();
    loop_.run_ready();
    EXPECT_THAT(woken_, ElementsAre(1));
}

TEST_F(EventTest, KeepsNothingOfAWaitThatIsOver) {
    for (int i = 0; i < 100; ++i) {
        loop_.start(event_->wait_until(loop_.now() + 5s));
        loop_.advance(i % 2 == 0 ? 5s : 1s);
        event_->notify_all();
        loop_.run_ready();
    }
    EXPECT_EQ(loop_.clock().timers(), 0);
}

}  // namespace
}  // namespace cmssh
