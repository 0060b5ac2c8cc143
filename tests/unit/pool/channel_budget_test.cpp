#include "daemon/pool/channel_budget.hpp"

#include <gmock/gmock.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

// Callers that want a channel, and keep it until the test takes it from them.
class ChannelBudgetTest : public ::testing::Test {
protected:
    ~ChannelBudgetTest() override {
        budget_->close();
        loop_.run_ready();
    }

    struct Caller {
        std::optional<Error> error;
        ChannelBudget::Slot slot;
        bool done = false;
    };

    void ask(std::size_t caller, ChannelBudget::Turn turn = ChannelBudget::Turn::InOrder) {
        loop_.start(take(callers_.at(caller), turn));
    }
    void refuse(std::size_t caller) {
        callers_.at(caller).done = false;
        loop_.start(ask_again(callers_.at(caller)));
    }
    void refuse_until_learnt(std::size_t caller) {
        for (int i = 0; i < 6; ++i) {
            refuse(caller);
            loop_.advance(1s);
        }
    }
    void give_back(std::size_t caller) {
        callers_.at(caller).slot = ChannelBudget::Slot();
        callers_.at(caller).done = false;
        loop_.run_ready();
    }
    [[nodiscard]] std::vector<std::size_t> holders() const {
        std::vector<std::size_t> found;
        for (std::size_t i = 0; i < callers_.size(); ++i) {
            if (callers_[i].slot) {
                found.push_back(i);
            }
        }
        return found;
    }

    // Caller 0, which has the only channel.
    void expect_tried_until_the_deadline(const char* message) {
        refuse_until_learnt(0);
        EXPECT_FALSE(callers_[0].error);
        EXPECT_THAT(holders(), ElementsAre(0)) << "to be tried again";
        EXPECT_EQ(budget_->limit(), configured_);
        loop_.advance(1h);
        refuse(0);
        ASSERT_TRUE(callers_[0].error);
        EXPECT_EQ(callers_[0].error->kind, ErrorKind::Timeout);
        EXPECT_THAT(callers_[0].error->message, HasSubstr(message));
    }

    fakes::TestLoop loop_;
    int configured_ = 3;
    std::shared_ptr<ChannelBudget> budget_ = std::make_shared<ChannelBudget>(loop_.clock(), configured_);
    std::array<Caller, 8> callers_;
    ChannelBudget::Patience patience_{.deadline = loop_.clock().now() + 1h};

private:
    asio::awaitable<void> take(Caller& caller, ChannelBudget::Turn turn) {
        auto taken = co_await ChannelBudget::take(budget_, turn, patience_);
        keep(caller, std::move(taken));
    }
    asio::awaitable<void> ask_again(Caller& caller) {
        auto taken = co_await ChannelBudget::refused(std::move(caller.slot), patience_);
        keep(caller, std::move(taken));
    }
    static void keep(Caller& caller, Result<ChannelBudget::Slot> taken) {
        caller.done = true;
        if (taken) {
            caller.slot = std::move(*taken);
        } else {
            caller.error = taken.error();
        }
    }
};

TEST_F(ChannelBudgetTest, WaitsForALeftoverWhereOneChannelHasWorked) {
    configured_ = 2;
    ask(0);
    give_back(0);
    ask(0);
    expect_tried_until_the_deadline("were in use");
}

TEST_F(ChannelBudgetTest, WaitsForWhatAnEarlierDaemonsClientsHave) {
    configured_ = 9;
    budget_->inherit();
    budget_->own_opened(true);
    ask(0);
    budget_->own_refused();
    expect_tried_until_the_deadline("before this daemon");
}

TEST_F(ChannelBudgetTest, LearnsFromTheDaemonsOwn) {
    configured_ = 9;
    ask(0);
    ask(1);
    ask(2);
    budget_->own_refused();
    EXPECT_EQ(budget_->limit(), 3);
    give_back(0);
    budget_->own_opened(true);
    ask(3);
    EXPECT_THAT(holders(), ElementsAre(1, 2));
    give_back(1);
    EXPECT_THAT(holders(), ElementsAre(2, 3));
}

TEST_F(ChannelBudgetTest, LearnsOneLessWithoutTheDaemonsOwn) {
    configured_ = 9;
    ask(0);
    ask(1);
    ask(2);
    refuse_until_learnt(2);
    EXPECT_EQ(budget_->limit(), 2);
}

TEST_F(ChannelBudgetTest, KeepsOneForTheDaemon) {
    for (std::size_t i = 0; i < 4; ++i) {
        ask(i);
    }
    EXPECT_THAT(holders(), ElementsAre(0, 1));
    EXPECT_EQ(budget_->taken(), 2);
    EXPECT_EQ(budget_->queued(), 2);
    give_back(0);
    EXPECT_THAT(holders(), ElementsAre(1, 2));
}

TEST_F(ChannelBudgetTest, ServesWhoCameFirstButForWhoGoesFirst) {
    for (std::size_t i = 0; i < 4; ++i) {
        ask(i);
    }
    ask(4, ChannelBudget::Turn::First);
    give_back(0);
    EXPECT_THAT(holders(), ElementsAre(1, 4));
    give_back(1);
    EXPECT_THAT(holders(), ElementsAre(2, 4));
}

TEST_F(ChannelBudgetTest, ARefusedChannelIsTriedAgainBeforeItTeachesAnything) {
    ask(0);
    ask(1);
    refuse(1);
    EXPECT_FALSE(callers_[1].done);
    loop_.advance(20ms);
    EXPECT_TRUE(callers_[1].done);
    EXPECT_THAT(holders(), ElementsAre(0, 1));
    EXPECT_EQ(budget_->limit(), 3);
}

TEST_F(ChannelBudgetTest, LearnsALowerLimitAndComesBackToItsPlace) {
    budget_->own_opened(true);
    ask(0);
    ask(1);
    ask(2);
    refuse_until_learnt(1);
    EXPECT_EQ(budget_->limit(), 2);
    EXPECT_THAT(holders(), ElementsAre(0));
    give_back(0);
    EXPECT_THAT(holders(), ElementsAre(1));
}

TEST_F(ChannelBudgetTest, WhoIsRefusedKeepsItsPlaceInLine) {
    configured_ = 10;
    budget_->own_opened(true);
    for (std::size_t i = 0; i < 5; ++i) {
        ask(i);
    }
    for (int tries = 0; tries < 6; ++tries) {
        for (std::size_t i = 1; i < 5; ++i) {
            if (callers_[i].slot) {
                refuse(i);
            }
        }
        loop_.advance(1s);
    }
    ASSERT_THAT(holders(), ElementsAre(0));
    ask(5);
    for (std::size_t i = 0; i < 5; ++i) {
        give_back(i);
        EXPECT_THAT(holders(), ElementsAre(i + 1));
    }
}

TEST_F(ChannelBudgetTest, LearnsFromWhoDoesWithout) {
    budget_->own_opened(true);
    ask(0);
    ChannelBudget::given_up(std::move(callers_[0].slot));
    EXPECT_EQ(budget_->limit(), 3) << "the only one may have gone elsewhere for another reason";
    ask(0);
    ask(1);
    ChannelBudget::given_up(std::move(callers_[1].slot));
    EXPECT_EQ(budget_->limit(), 2);
    EXPECT_EQ(budget_->taken(), 1);
}

TEST_F(ChannelBudgetTest, SaysSoWhereTheServerAllowsOnlyTheDaemonsOwn) {
    ask(0);
    refuse_until_learnt(0);
    ASSERT_TRUE(callers_[0].error);
    EXPECT_EQ(callers_[0].error->kind, ErrorKind::ChannelRefused);
    EXPECT_THAT(callers_[0].error->hint, HasSubstr("MaxSessions"));
    ask(1);
    ASSERT_TRUE(callers_[1].error);
    EXPECT_EQ(callers_[1].error->kind, ErrorKind::ChannelRefused);
}

TEST_F(ChannelBudgetTest, ForgetsWhatItLearntInTime) {
    budget_->own_opened(true);
    patience_.deadline += 24h;
    ask(0);
    ask(1);
    refuse_until_learnt(1);
    EXPECT_FALSE(callers_[1].done);
    loop_.advance(1min);
    EXPECT_EQ(budget_->limit(), 3);
    EXPECT_THAT(holders(), ElementsAre(0, 1));
}

TEST_F(ChannelBudgetTest, AWaitHasADeadline) {
    ask(0);
    ask(1);
    ask(2);
    ask(3);
    loop_.advance(1h);
    ASSERT_TRUE(callers_[2].error);
    EXPECT_EQ(callers_[2].error->kind, ErrorKind::Timeout);
    EXPECT_EQ(budget_->queued(), 0);
}

TEST_F(ChannelBudgetTest, WhoIsGoneLeavesTheLine) {
    ask(0);
    ask(1);
    Event gone_event(loop_.clock());
    bool gone = false;
    patience_.gone_event = &gone_event;
    patience_.gone = &gone;
    ask(2);
    patience_.gone_event = nullptr;
    patience_.gone = nullptr;
    ask(3);
    gone = true;
    gone_event.notify_all();
    loop_.run_ready();
    ASSERT_TRUE(callers_[2].error);
    EXPECT_EQ(callers_[2].error->kind, ErrorKind::Cancelled);
    give_back(0);
    EXPECT_THAT(holders(), ElementsAre(1, 3));
}

TEST_F(ChannelBudgetTest, EndsEveryWaitWithItsMaster) {
    ask(0);
    ask(1);
    ask(2);
    budget_->close();
    loop_.run_ready();
    ASSERT_TRUE(callers_[2].error);
    EXPECT_EQ(callers_[2].error->kind, ErrorKind::MasterLost);
    EXPECT_THAT(holders(), ElementsAre(0, 1)) << "these are still open on it";
}

TEST_F(ChannelBudgetTest, FollowsAReloadedLimit) {
    for (std::size_t i = 0; i < 4; ++i) {
        ask(i);
    }
    configured_ = 5;
    give_back(0);
    EXPECT_THAT(holders(), ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace cmssh
