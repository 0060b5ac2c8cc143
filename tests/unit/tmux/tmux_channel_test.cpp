// Replies go to who asked, also where a line has several commands.
#include "daemon/tmux/tmux_channel.hpp"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TmuxChannelTest : public ::testing::Test {
protected:
    TmuxChannelTest() {
        tmux::Ownership owner{.owner = "0123456789abcdef", .server_key = "hren@server1:22"};
        auto opened = loop_.run(TmuxChannel::open(loop_.executor(), loop_.clock(), master_, SessionsConfig{},
                                                  std::move(owner), loop_.now() + 1h));
        channel_ = std::move(opened).value();
        master_->tmux_answers["next"] = {{.text = "its own"}};
    }
    ~TmuxChannelTest() override {
        channel_->close();
        loop_.run(channel_->joined());
    }

    // What the group's answer is, when the next request has got its own.
    TmuxChannel::Reply ask_group(std::vector<fakes::TmuxAnswer> answers) {
        master_->tmux_answers["group"] = std::move(answers);
        const auto group = loop_.start(channel_->request_group("group", loop_.now() + 1h));
        const auto next = loop_.start(channel_->request("next", loop_.now() + 1h));
        EXPECT_TRUE(group.done() && next.done());
        EXPECT_TRUE(*next);
        EXPECT_THAT(**next, ElementsAre("its own"));
        return *group;
    }

    fakes::TestLoop loop_;
    std::shared_ptr<fakes::FakeMaster> master_ = std::make_shared<fakes::FakeMaster>(loop_.clock(), 1, false);
    std::unique_ptr<TmuxChannel> channel_;
};

TEST_F(TmuxChannelTest, GroupIsAnsweredByItsRow) {
    const auto reply = ask_group({{}, {}, {.text = "of a hook"}, {}, {.text = "cmssh @1 %2 3"}});
    ASSERT_TRUE(reply);
    EXPECT_THAT(*reply, ElementsAre("cmssh @1 %2 3"));
}

TEST_F(TmuxChannelTest, GroupIsAnsweredByItsFirstError) {
    for (const std::size_t before : {0U, 1U, 5U}) {
        std::vector<fakes::TmuxAnswer> answers(before);
        answers.push_back({.error = true, .text = "duplicate session: sess-a"});
        const auto reply = ask_group(std::move(answers));
        ASSERT_FALSE(reply);
        EXPECT_EQ(reply.error().kind, ErrorKind::TmuxFailed);
        EXPECT_THAT(reply.error().message, HasSubstr("duplicate session"));
    }
}

TEST_F(TmuxChannelTest, GroupWithoutAnAnswerTimesOut) {
    master_->tmux_answers["group"] = {};
    const auto group = loop_.start(channel_->request_group("group", loop_.now() + 1s));
    loop_.advance(1s);
    ASSERT_TRUE(group.done());
    EXPECT_EQ(group->error().kind, ErrorKind::Timeout);
}

TEST_F(TmuxChannelTest, GroupIsLostWithItsChannel) {
    master_->tmux_answers["group"] = {{}, {}};
    const auto group = loop_.start(channel_->request_group("group", loop_.now() + 1h));
    EXPECT_FALSE(group.done());
    master_->close_channels();
    loop_.run_ready();
    ASSERT_TRUE(group.done());
    EXPECT_EQ(group->error().kind, ErrorKind::MasterLost);
}

// After a reconnect the keeper is there, so all commands succeed: the subscription was another client's, or nobody's,
// and the end of a session was never told.
TEST_F(TmuxChannelTest, SetUpIsRepeatedWhereTmuxHadNotAttachedTheClientYet) {
    const auto subscriptions = [this] {
        return std::count_if(master_->tmux_heard.begin(), master_->tmux_heard.end(),
                             [](const std::string& line) { return line.starts_with("refresh-client -B"); });
    };
    EXPECT_EQ(subscriptions(), 1);
    master_->tmux_starts_late = true;
    tmux::Ownership owner{.owner = "0123456789abcdef", .server_key = "hren@server1:22"};
    const auto opened = loop_.start(TmuxChannel::open(loop_.executor(), loop_.clock(), master_, SessionsConfig{},
                                                      std::move(owner), loop_.now() + 1h));
    ASSERT_TRUE(opened.done());
    ASSERT_TRUE(*opened);
    EXPECT_EQ(subscriptions(), 3);
    (*opened)->get()->close();
    loop_.run((*opened)->get()->joined());
}

TEST_F(TmuxChannelTest, GroupGoesWithTheLinesAroundIt) {
    master_->tmux_heard.clear();
    master_->tmux_answers["group"] = {{}, {.text = "cmssh done"}};
    master_->tmux_answers["bad"] = {{.error = true, .text = "no"}};
    const auto ask = [this](std::vector<std::string> ahead, std::vector<std::string> behind) {
        return loop_.start(channel_->request_group("group", loop_.now() + 1h, std::move(ahead), std::move(behind)));
    };
    const auto good = ask({"one", "two"}, {"bad"});
    ASSERT_TRUE(good.done());
    ASSERT_TRUE(*good);
    EXPECT_THAT(**good, ElementsAre("cmssh done"));
    EXPECT_THAT(master_->tmux_heard, ElementsAre("one", "two", "group", "bad"));
    const auto bad = ask({"one", "bad", "two"}, {});
    ASSERT_TRUE(bad.done());
    ASSERT_FALSE(*bad);
    EXPECT_EQ(bad->error().kind, ErrorKind::TmuxFailed);
    const auto next = loop_.start(channel_->request("next", loop_.now() + 1h));
    EXPECT_THAT(**next, ElementsAre("its own"));
}

}  // namespace
}  // namespace cmssh
