#include "daemon/pool/spare_session.hpp"

#include <gtest/gtest.h>

#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using Outcome = SpareSession::Outcome;

class SpareSessionTest : public ::testing::Test {
protected:
    SpareSessionTest() { loop_.start(spare_.run()); }
    ~SpareSessionTest() override {
        spare_.request_stop();
        made_.notify_all();
        loop_.run_ready();
        EXPECT_EQ(loop_.clock().timers(), 0);
    }

    void start_and_end() {
        { const SpareSession::Start under_way(spare_); }
        loop_.run_ready();
    }
    void finish_making(std::optional<std::int64_t> pid) {
        pid_ = pid;
        made_.notify_all();
        loop_.run_ready();
    }
    void make(std::int64_t pid) {
        start_and_end();
        loop_.advance(SpareSession::kLongestPause);
        finish_making(pid);
    }
    // How long after a start the making begins.
    Duration pause() {
        const int before = makings_;
        start_and_end();
        const Instant begin = loop_.now();
        while (makings_ == before) {
            loop_.advance(1ms);
        }
        return loop_.now() - begin;
    }

    asio::awaitable<std::optional<std::int64_t>> do_make() {
        ++makings_;
        co_await made_.wait();
        co_return pid_;
    }
    asio::awaitable<void> do_remove() {
        ++removals_;
        co_return;
    }

    fakes::TestLoop loop_;
    Event made_{loop_.clock()};
    std::optional<std::int64_t> pid_;
    int makings_ = 0;
    int removals_ = 0;
    SpareSession spare_{loop_.clock(),
                        {.make = [this] { return do_make(); }, .remove = [this] { return do_remove(); }}};
};

TEST_F(SpareSessionTest, IsMadeSomeTimeAfterAStart) {
    loop_.advance(1h);
    EXPECT_EQ(makings_, 0) << "nobody has started anything";
    start_and_end();
    loop_.advance(SpareSession::kPause - 1ms);
    EXPECT_EQ(makings_, 0);
    loop_.advance(1ms);
    EXPECT_EQ(makings_, 1);
    EXPECT_FALSE(spare_.pid());
    finish_making(7);
    EXPECT_EQ(spare_.pid(), 7);
    loop_.advance(1min);
    EXPECT_EQ(makings_, 1);
}

TEST_F(SpareSessionTest, IsNotMadeWhileStartsAreUnderWay) {
    start_and_end();
    {
        const SpareSession::Start under_way(spare_);
        loop_.advance(1h);
        EXPECT_EQ(makings_, 0);
    }
    loop_.advance(SpareSession::kPause);
    EXPECT_EQ(makings_, 1);
}

TEST_F(SpareSessionTest, IsNotMadeBetweenStartsThatFollowOneAnother) {
    for (int i = 0; i < 100; ++i) {
        start_and_end();
        loop_.advance(SpareSession::kPause - 1ms);
    }
    EXPECT_EQ(makings_, 0);
    loop_.advance(1ms);
    EXPECT_EQ(makings_, 1);
}

TEST_F(SpareSessionTest, IsMadeAgainOnceItWasTaken) {
    make(7);
    {
        const SpareSession::Start under_way(spare_);
        spare_.take();
        EXPECT_FALSE(spare_.pid());
        spare_.tried(Outcome::TakenOver);
        loop_.advance(1s);
        EXPECT_EQ(makings_, 1);
    }
    loop_.advance(SpareSession::kPause);
    EXPECT_EQ(makings_, 2);
}

TEST_F(SpareSessionTest, StaysForAStartThatDoesNotTakeIt) {
    make(7);
    start_and_end();
    loop_.advance(1min);
    EXPECT_EQ(makings_, 1);
    EXPECT_EQ(spare_.pid(), 7);
}

TEST_F(SpareSessionTest, WaitsLongerAfterAStartThatCameWhileItWasMade) {
    EXPECT_EQ(pause(), SpareSession::kPause);
    start_and_end();
    finish_making(7);
    spare_.take();
    EXPECT_EQ(pause(), SpareSession::kPause * 2);
    finish_making(8);
    spare_.take();
    spare_.tried(Outcome::TakenOver);
    EXPECT_EQ(pause(), SpareSession::kPause);
}

TEST_F(SpareSessionTest, WaitsLongerAfterEachFailureUpToALimit) {
    Duration expected = SpareSession::kPause;
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(pause(), expected);
        finish_making(i % 2 == 0 ? std::nullopt : std::optional<std::int64_t>(7));
        if (i % 2 != 0) {
            spare_.take();
            spare_.tried(Outcome::Missed);
        }
        expected = std::min(expected * 2, SpareSession::kLongestPause);
    }
}

TEST_F(SpareSessionTest, IsNotTriedAgainByItselfAfterAFailure) {
    start_and_end();
    loop_.advance(SpareSession::kPause);
    finish_making(std::nullopt);
    loop_.advance(1h);
    EXPECT_EQ(makings_, 1);
}

TEST_F(SpareSessionTest, GoesAfterALongTimeWithoutAStart) {
    make(7);
    start_and_end();
    loop_.advance(SpareSession::kLeft - 1ms);
    EXPECT_EQ(spare_.pid(), 7);
    EXPECT_EQ(removals_, 0);
    loop_.advance(1ms);
    EXPECT_FALSE(spare_.pid());
    EXPECT_EQ(removals_, 1);
    loop_.advance(1h);
    EXPECT_EQ(makings_, 1);
    make(8);
    EXPECT_EQ(spare_.pid(), 8);
}

TEST_F(SpareSessionTest, ThatIsKeptIsThereBeforeTheFirstStartAndLongAfterTheLast) {
    spare_.reached();
    loop_.advance(1h);
    EXPECT_EQ(makings_, 0) << "this one is not kept yet";
    spare_.keep(true);
    spare_.reached();
    loop_.run_ready();
    EXPECT_EQ(makings_, 1);
    finish_making(7);
    loop_.advance(SpareSession::kLeft * 2);
    EXPECT_EQ(spare_.pid(), 7);
    EXPECT_EQ(removals_, 0);
    spare_.forget();
    loop_.advance(1h);
    EXPECT_EQ(makings_, 1) << "nothing can be made there";
    spare_.reached();
    loop_.run_ready();
    finish_making(8);
    EXPECT_EQ(spare_.pid(), 8);
    spare_.keep(false);
    loop_.run_ready();
    EXPECT_FALSE(spare_.pid());
    EXPECT_EQ(removals_, 1);
}

TEST_F(SpareSessionTest, IsForgottenWithItsChannel) {
    make(7);
    spare_.forget();
    EXPECT_FALSE(spare_.pid());
    loop_.advance(1h);
    EXPECT_EQ(makings_, 1);
    EXPECT_EQ(removals_, 0);
}

TEST_F(SpareSessionTest, IsForgottenWhileItIsMade) {
    start_and_end();
    loop_.advance(SpareSession::kPause);
    ASSERT_EQ(makings_, 1);
    spare_.forget();
    finish_making(7);
    EXPECT_FALSE(spare_.pid());
    make(8);
    EXPECT_EQ(spare_.pid(), 8);
}

}  // namespace
}  // namespace cmssh
