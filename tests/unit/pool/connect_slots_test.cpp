#include "daemon/pool/connect_slots.hpp"

#include <asio/post.hpp>

#include <gmock/gmock.h>

#include <array>
#include <memory>
#include <vector>

#include "daemon/base/task_group.hpp"
#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Logins that last until the test ends them.
class ConnectSlotsTest : public ::testing::Test {
protected:
    ~ConnectSlotsTest() override {
        while (!running_.empty()) {
            end(running_.front());
        }
    }

    void begin(int login) { loop_.start(take(login)); }
    void end(int login) {
        std::erase(running_, login);
        held_[static_cast<std::size_t>(login)].reset();
        loop_.run_ready();
    }

    fakes::TestLoop loop_;
    int limit_ = 2;
    ConnectSlots slots_{loop_.clock(), limit_};
    std::vector<int> running_;  // in the order in which they got their slots

    asio::awaitable<void> take(int login) {
        auto slot = co_await slots_.acquire();
        running_.push_back(login);
        held_[static_cast<std::size_t>(login)] = std::make_unique<ConnectSlots::Slot>(std::move(slot));
    }

private:
    std::array<std::unique_ptr<ConnectSlots::Slot>, 10> held_;
};

TEST_F(ConnectSlotsTest, LetsAsManyThroughAsTheLimit) {
    for (int login = 0; login < 5; ++login) {
        begin(login);
    }
    EXPECT_THAT(running_, ElementsAre(0, 1));
    end(1);
    EXPECT_THAT(running_, ElementsAre(0, 2));
    end(0);
    end(2);
    EXPECT_THAT(running_, ElementsAre(3, 4));
}

// Each starts a process, which takes its time on a busy machine.
TEST_F(ConnectSlotsTest, BeginsOneLoginInATurnOfTheLoop) {
    limit_ = 3;
    std::vector<std::size_t> running_in_turn;
    TaskGroup tasks(loop_.executor(), loop_.clock());
    for (int login = 0; login < 3; ++login) {
        tasks.spawn("login", take(login));
    }
    asio::post(loop_.executor(), [&] { running_in_turn.push_back(running_.size()); });
    loop_.run_ready();
    EXPECT_THAT(running_, ElementsAre(0, 1, 2));
    ASSERT_EQ(running_in_turn.size(), 1U);
    EXPECT_LE(running_in_turn[0], 1U);
}

TEST_F(ConnectSlotsTest, ServesWhoCameFirst) {
    limit_ = 1;
    for (int login = 0; login < 9; ++login) {
        begin(login);
    }
    for (int login = 0; login < 9; ++login) {
        EXPECT_THAT(running_, ElementsAre(login));
        end(login);
    }
    EXPECT_THAT(running_, IsEmpty());
}

TEST_F(ConnectSlotsTest, LetsNobodyOvertakeWhoWaits) {
    limit_ = 1;
    begin(0);
    begin(1);
    limit_ = 2;  // a reload tells nobody
    begin(2);
    EXPECT_THAT(running_, ElementsAre(0));
    end(0);
    EXPECT_THAT(running_, ElementsAre(1, 2));
}

TEST_F(ConnectSlotsTest, FollowsALimitThatAReloadChanged) {
    for (int login = 0; login < 6; ++login) {
        begin(login);
    }
    limit_ = 1;
    end(0);
    EXPECT_THAT(running_, ElementsAre(1));
    end(1);
    EXPECT_THAT(running_, ElementsAre(2));
    limit_ = 3;
    end(2);
    EXPECT_THAT(running_, ElementsAre(3, 4, 5));
}

TEST_F(ConnectSlotsTest, AMovedSlotIsGivenBackOnce) {
    limit_ = 1;
    {
        auto slot = loop_.run(slots_.acquire());
        const ConnectSlots::Slot moved(std::move(slot));
        begin(0);
        EXPECT_THAT(running_, IsEmpty());
    }
    loop_.run_ready();
    begin(1);
    EXPECT_THAT(running_, ElementsAre(0));
}

}  // namespace
}  // namespace cmssh
