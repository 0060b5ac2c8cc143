// Replies go to who asked, also where a line has several commands.
#include "daemon/tmux/tmux_channel.hpp"

#include <gmock/gmock.h>

#include <utility>

#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class TmuxChannelTest : public ::testing::Test {
protected:
    TmuxChannelTest() {
        channel_ = std::move(*open(1h)).value();
        master_->tmux_answers["next"] = {{.text = "its own"}};
    }
    ~TmuxChannelTest() override { end(channel_); }

    fakes::Outcome<Result<std::unique_ptr<TmuxChannel>>> open(Duration longest) {
        return loop_.start(TmuxChannel::open(loop_.executor(), loop_.clock(), master_, SessionsConfig{}, owner_,
                                             loop_.now() + longest));
    }
    void end(const std::unique_ptr<TmuxChannel>& channel) {
        channel->close();
        loop_.run(channel->joined());
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
    const tmux::Ownership owner_{.owner = "0123456789abcdef", .server_key = "hren@server1:22"};
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

TEST_F(TmuxChannelTest, TellsOnceThatAllWhatWasGivenUpHasBeenAnswered) {
    int told = 0;
    channel_->set_listener({.on_notification = {}, .on_closed = {}, .on_answers_again = [&told] { ++told; }});
    EXPECT_TRUE(loop_.run(channel_->round_trip(loop_.now() + 1s)));
    EXPECT_EQ(told, 0) << "nothing was given up";
    master_->cut_path();
    const auto one = loop_.start(channel_->request("one", loop_.now() + 1s));
    const auto other = loop_.start(channel_->request("other", loop_.now() + 2s));
    const auto patient = loop_.start(channel_->request("patient", loop_.now() + 1h));
    loop_.advance(2s);
    ASSERT_TRUE(one.done() && other.done());
    EXPECT_EQ(told, 0);
    master_->join_path();
    loop_.run_ready();
    ASSERT_TRUE(patient.done());
    EXPECT_TRUE(*patient);
    EXPECT_EQ(told, 1);
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

std::string start_block(int number, const std::string& lines, const char* end = "%end") {
    const std::string numbers = " 1700000000 " + std::to_string(number) + " 0\n";
    return "%begin" + numbers + lines + end + numbers;
}

TEST_F(TmuxChannelTest, KnowsTheLifeFromTheStart) {
    EXPECT_EQ(channel_->life().tmux, "1 2");
    master_->tmux_start = start_block(0, "") + start_block(1, "of a hook\n") +
                          start_block(2, "no such session\n", "%error") + start_block(3, "cmssh-life 34 56\n") +
                          start_block(4, "cmssh-life 7 8\n");
    const auto opened = open(1h);
    ASSERT_TRUE(opened.done());
    ASSERT_TRUE(*opened);
    EXPECT_EQ((*opened)->get()->life().tmux, "34 56");
    end(opened->value());
}

// What tmux reads before it has attached our client is about a session that is not there, and the subscription would be
// another client's.
TEST_F(TmuxChannelTest, SetsUpOnceTheClientIsAttachedAndWaitsForNoAnswer) {
    master_->tmux_heard.clear();
    const std::string start = std::exchange(master_->tmux_start, start_block(0, ""));
    const auto late = open(1s);
    EXPECT_FALSE(late.done());
    EXPECT_THAT(master_->tmux_heard, IsEmpty());
    loop_.advance(1s);
    ASSERT_TRUE(late.done());
    EXPECT_EQ(late->error().kind, ErrorKind::Timeout);
    EXPECT_THAT(master_->tmux_heard, IsEmpty());

    master_->tmux_start = start;
    for (const std::string& command : tmux::setup_commands(SessionsConfig{}, owner_, 0)) {
        master_->tmux_answers[command] = {};
    }
    const auto opened = open(1h);
    ASSERT_TRUE(opened.done());
    EXPECT_THAT(master_->tmux_heard, Contains(StartsWith("refresh-client -B")).Times(1));
    end(opened->value());
}

TEST_F(TmuxChannelTest, SaysWhyTmuxDidNotStart) {
    master_->tmux_start = start_block(0, "create session failed\n", "%error") + "%exit\n";
    const auto opened = open(1h);
    ASSERT_FALSE(opened.done());
    master_->close_channels();
    loop_.run_ready();
    ASSERT_TRUE(opened.done());
    EXPECT_EQ(opened->error().kind, ErrorKind::TmuxFailed);
    EXPECT_THAT(opened->error().message, HasSubstr("did not start: create session failed"));
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
