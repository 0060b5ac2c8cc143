#include "daemon/base/task_group.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;

class TaskGroupTest : public ::testing::Test {
protected:
    ~TaskGroupTest() override {
        event_.notify_all();
        loop_.run_ready();
    }

    asio::awaitable<void> wait_for_event() {
        ++begun_;
        co_await event_.wait();
        ++ended_;
    }
    asio::awaitable<void> fail() {
        co_await event_.wait();
        throw std::runtime_error("failed");
    }
    asio::awaitable<void> spawn_another() {
        co_await event_.wait();
        group_.spawn("another", wait_for_event());
        begun_when_spawned_ = begun_;
    }

    fakes::TestLoop loop_;
    Event event_{loop_.clock()};
    TaskGroup group_{loop_.executor(), loop_.clock()};
    int begun_ = 0;
    int ended_ = 0;
    int begun_when_spawned_ = -1;
};

TEST_F(TaskGroupTest, BeginsATaskFromTheLoop) {
    group_.spawn("task", wait_for_event());
    EXPECT_EQ(begun_, 0);
    EXPECT_EQ(group_.size(), 1U) << "it counts already";
    loop_.run_ready();
    EXPECT_EQ(begun_, 1);
}

TEST_F(TaskGroupTest, BeginsNoTaskInsideTheOneThatSpawnsIt) {
    group_.spawn("task", spawn_another());
    loop_.run_ready();
    event_.notify_all();
    loop_.run_ready();
    EXPECT_EQ(begun_when_spawned_, 0);
    EXPECT_EQ(begun_, 1);
}

TEST_F(TaskGroupTest, IsJoinedOnceAllHaveEnded) {
    group_.spawn("one", wait_for_event());
    group_.spawn("two", wait_for_event());
    const auto first = loop_.start(group_.join_until(Instant::max()));
    const auto second = loop_.start(group_.join_until(Instant::max()));
    EXPECT_FALSE(first.done());
    event_.notify_all();
    loop_.run_ready();
    EXPECT_EQ(ended_, 2);
    ASSERT_TRUE(first.done() && second.done());
    EXPECT_TRUE(*first);
    EXPECT_TRUE(*second);
    EXPECT_EQ(group_.size(), 0U);
}

TEST_F(TaskGroupTest, IsJoinedAtOnceWhereItIsEmpty) {
    EXPECT_TRUE(loop_.run(group_.join_until(loop_.now() - 1s)));
}

TEST_F(TaskGroupTest, GivesUpAtTheDeadlineAndCancelsNothing) {
    group_.spawn("task", wait_for_event());
    const auto joined = loop_.start(group_.join_until(loop_.now() + 5s));
    loop_.advance(5s);
    ASSERT_TRUE(joined.done());
    EXPECT_FALSE(*joined);
    EXPECT_EQ(group_.size(), 1U);
    event_.notify_all();
    loop_.run_ready();
    EXPECT_EQ(ended_, 1);
}

TEST_F(TaskGroupTest, OutlivesATaskThatFails) {
    group_.spawn("bad", fail());
    group_.spawn("good", wait_for_event());
    loop_.run_ready();
    ::testing::internal::CaptureStdout();  // where spdlog's first logger writes
    event_.notify_all();
    EXPECT_NO_THROW(loop_.run_ready());
    const std::string log = ::testing::internal::GetCapturedStdout();
    EXPECT_NE(log.find("bad: task ended by an exception: failed"), std::string::npos) << log;
    EXPECT_EQ(ended_, 1);
    EXPECT_TRUE(loop_.run(group_.join_until(loop_.now())));
}

TEST_F(TaskGroupTest, WaitsForWhatATaskSpawned) {
    group_.spawn("task", spawn_another());
    const auto joined = loop_.start(group_.join_until(Instant::max()));
    event_.notify_all();
    loop_.run_ready();
    EXPECT_FALSE(joined.done());
    event_.notify_all();
    loop_.run_ready();
    EXPECT_TRUE(joined.done());
}

}  // namespace
}  // namespace cmssh
