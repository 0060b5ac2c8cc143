// Logins that ask, with a fake ssh: who is asked, and what becomes of the calls that wait.
#include <gmock/gmock.h>

#include "daemon/pool/connection.hpp"
#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using State = api::ConnectionState;

class NoObserver final : public ConnectionObserver {
public:
    void on_reachable(Connection& /*connection*/) override {}
    void on_unreachable(Connection& /*connection*/) override {}
    void on_notification(Connection& /*connection*/, const tmux::Notification& /*notification*/) override {}
};

class LoginQuestionsTest : public ::testing::Test {
protected:
    using Ready = Result<Connection::Ready>;
    using Answer = std::optional<std::string>;

    // A client with a person behind it.
    class Someone {
    public:
        explicit Someone(Clock& clock) : gone_event_(clock) {
            person->ctx = "server-a";
            person->client = this;
            person->show = [this](const api::Prompt& prompt) { prompts.push_back(prompt); };
            person->gone = &gone_;
            person->gone_event = &gone_event_;
        }
        void hang_up() {
            gone_ = true;
            gone_event_.notify_all();
        }

        std::shared_ptr<Person> person = std::make_shared<Person>();
        std::vector<api::Prompt> prompts;

    private:
        bool gone_ = false;
        Event gone_event_;
    };

    LoginQuestionsTest() { connection_.set_ctx("server-a"); }
    ~LoginQuestionsTest() override {
        for (std::size_t i = 0; i < launcher_.count(); ++i) {
            if (!launcher_.login(i).outcome) {
                launcher_.fail(i, ErrorKind::ConnectFailed, "the test is over");
            }
        }
        loop_.run(connection_.shut_down());
    }

    fakes::Outcome<Ready> want_up(const Someone* someone = nullptr) {
        Connection::Want want;
        want.person = someone != nullptr ? someone->person : nullptr;
        return loop_.start(connection_.ensure_up(std::move(want)));
    }
    [[nodiscard]] const std::shared_ptr<LoginQuestions>& questions(std::size_t login) const {
        return launcher_.login(login).request.questions;
    }
    // What ssh asks through its askpass program.
    fakes::Outcome<Answer> ask(std::size_t login, std::string text, Question::Kind kind = Question::Kind::Text) {
        Question question;
        question.text = std::move(text);
        question.kind = kind;
        return loop_.start(questions(login)->ask(std::move(question), helper_gone_, helper_gone_event_));
    }
    // false: it was not asked of them.
    bool answer(std::size_t login, const Someone& someone, api::AnswerParams params) {
        params.prompt = someone.prompts.empty() ? "none" : someone.prompts.back().prompt;
        const auto answered = questions(login)->answer(params, &someone);
        loop_.run_ready();
        return answered && *answered;
    }
    bool answer(std::size_t login, const Someone& someone, const std::string& text) {
        api::AnswerParams params;
        params.text = text;
        return answer(login, someone, std::move(params));
    }
    bool cancel(std::size_t login, const Someone& someone) {
        api::AnswerParams params;
        params.cancel = true;
        return answer(login, someone, std::move(params));
    }
    bool confirm(std::size_t login, const Someone& someone, bool yes) {
        api::AnswerParams params;
        params.confirm = yes;
        return answer(login, someone, std::move(params));
    }
    void succeed(std::size_t login) {
        launcher_.succeed(login);
        loop_.run_ready();
    }
    void fail(std::size_t login, ErrorKind kind) {
        launcher_.fail(login, kind, "ssh said no");
        loop_.run_ready();
    }
    [[nodiscard]] State state() const { return connection_.describe().state; }
    static ErrorKind kind(const fakes::Outcome<Ready>& outcome) {
        return outcome.done() && !*outcome ? outcome->error().kind : ErrorKind::ParseError;
    }

    fakes::TestLoop loop_;
    Config config_;
    fakes::FakeLauncher launcher_{loop_.clock()};
    ConnectSlots slots_{loop_.clock(), config_.pool.max_concurrent_connects};
    NoObserver observer_;
    ConnectionServices services_{.executor = loop_.executor(),
                                 .clock = loop_.clock(),
                                 .config = config_,
                                 .launcher = launcher_,
                                 .slots = slots_,
                                 .observer = observer_,
                                 .owner = "me",
                                 .unit_random = [] { return 0.5; }};
    Connection connection_{services_, ServerKey{.user = "u", .host = "h"}, "/run/ctl", false};
    Someone ann_{loop_.clock()};
    Someone ben_{loop_.clock()};
    bool helper_gone_ = false;
    Event helper_gone_event_{loop_.clock()};
};

TEST_F(LoginQuestionsTest, OnlyTheLoginOfACallWithAPersonMayAsk) {
    const auto batch = want_up();
    EXPECT_EQ(questions(0), nullptr);
    fail(0, ErrorKind::NeedsAuth);
    EXPECT_EQ(kind(batch), ErrorKind::NeedsAuth);
    const auto asked = want_up(&ann_);
    ASSERT_NE(questions(1), nullptr);
    succeed(1);
    ASSERT_TRUE(asked.done() && *asked);
    EXPECT_FALSE((*asked)->reused);
}

TEST_F(LoginQuestionsTest, AnAnswerGoesToWhoAsked) {
    const auto up = want_up(&ann_);
    const auto password = ask(0, "Password: ");
    ASSERT_EQ(ann_.prompts.size(), 1U);
    EXPECT_EQ(ann_.prompts[0].text, "Password: ");
    EXPECT_EQ(ann_.prompts[0].ctx, "server-a");
    EXPECT_FALSE(ann_.prompts[0].echo);
    EXPECT_FALSE(password.done());
    EXPECT_FALSE(answer(0, ben_, "hers")) << "a stranger";
    EXPECT_TRUE(answer(0, ann_, "secret"));
    ASSERT_TRUE(password.done());
    EXPECT_EQ(*password, "secret");
    EXPECT_FALSE(answer(0, ann_, "again"));
    const auto code = ask(0, "Code: ");
    EXPECT_TRUE(answer(0, ann_, ""));
    ASSERT_TRUE(code.done());
    EXPECT_EQ(*code, "");
    succeed(0);
    EXPECT_TRUE(up.done() && *up);
}

TEST_F(LoginQuestionsTest, OnlyAHostKeyQuestionIsAskedWithEcho) {
    const auto up = want_up(&ann_);
    const auto host_key = ask(0, "Are you sure you want to continue connecting (yes/no/[fingerprint])? ");
    EXPECT_TRUE(ann_.prompts.back().echo);
    EXPECT_FALSE(ann_.prompts.back().confirm);
    EXPECT_TRUE(confirm(0, ann_, true));
    EXPECT_EQ(*host_key, "yes");
    const auto add_key = ask(0, "Add key to agent?", Question::Kind::Confirm);
    EXPECT_TRUE(ann_.prompts.back().confirm);
    EXPECT_TRUE(confirm(0, ann_, false));
    EXPECT_EQ(*add_key, "no");
    const auto password = ask(0, "Password (yes/no): ");
    EXPECT_FALSE(ann_.prompts.back().echo);
    EXPECT_FALSE(confirm(0, ann_, true));
}

TEST_F(LoginQuestionsTest, ACancelEndsTheLoginAndEachCallerIsToldWhatIsTrue) {
    const auto hers = want_up(&ann_);
    const auto nobodys = want_up();
    const auto password = ask(0, "Password: ");
    EXPECT_TRUE(cancel(0, ann_));
    EXPECT_EQ(kind(hers), ErrorKind::Cancelled);
    ASSERT_TRUE(password.done());
    EXPECT_FALSE(*password);
    EXPECT_TRUE(launcher_.login(0).process_ended) << "ssh would take an empty answer for the password";
    fail(0, ErrorKind::ConnectFailed);
    ASSERT_EQ(kind(nobodys), ErrorKind::NeedsAuth);
    EXPECT_EQ(nobodys->error().hint, "cmctl connect server-a");
    EXPECT_EQ(state(), State::NeedsAuth);
    EXPECT_EQ(launcher_.count(), 1U);
    EXPECT_FALSE(connection_.busy());
}

TEST_F(LoginQuestionsTest, TheNextPersonIsAskedWhereOneCancels) {
    const auto hers = want_up(&ann_);
    const auto his = want_up(&ben_);
    const auto password = ask(0, "Password: ");
    EXPECT_TRUE(ben_.prompts.empty());
    EXPECT_TRUE(cancel(0, ann_));
    EXPECT_EQ(kind(hers), ErrorKind::Cancelled);
    ASSERT_EQ(ben_.prompts.size(), 1U);
    EXPECT_NE(ben_.prompts[0].prompt, ann_.prompts[0].prompt);
    EXPECT_FALSE(answer(0, ann_, "late"));
    EXPECT_TRUE(answer(0, ben_, "secret"));
    EXPECT_EQ(*password, "secret");
    succeed(0);
    EXPECT_TRUE(his.done() && *his);
}

TEST_F(LoginQuestionsTest, TheNextPersonIsAskedWhereOneIsGone) {
    const auto hers = want_up(&ann_);
    const auto password = ask(0, "Password: ");
    const auto his = want_up(&ben_);
    ann_.hang_up();
    loop_.run_ready();
    EXPECT_EQ(kind(hers), ErrorKind::Cancelled);
    EXPECT_TRUE(answer(0, ben_, "secret"));
    EXPECT_EQ(*password, "secret");
    ben_.hang_up();
    loop_.run_ready();
    EXPECT_FALSE(launcher_.login(0).process_ended) << "nothing is asked";
    const auto nobodys = want_up();
    const auto code = ask(0, "Code: ");
    EXPECT_TRUE(launcher_.login(0).process_ended);
    ASSERT_TRUE(code.done());
    fail(0, ErrorKind::ConnectFailed);
    EXPECT_EQ(kind(nobodys), ErrorKind::NeedsAuth);
}

TEST_F(LoginQuestionsTest, AQuestionIsGivenUpAfterAWhile) {
    const auto hers = want_up(&ann_);
    const auto password = ask(0, "Password: ");
    loop_.advance(kAnswerPatience - 1s);
    EXPECT_FALSE(password.done());
    loop_.advance(1s);
    ASSERT_TRUE(password.done());
    EXPECT_FALSE(*password);
    EXPECT_TRUE(launcher_.login(0).process_ended);
    fail(0, ErrorKind::ConnectFailed);
    ASSERT_EQ(kind(hers), ErrorKind::NeedsAuth);
    EXPECT_THAT(hers->error().message, HasSubstr("in time"));
    EXPECT_EQ(state(), State::NeedsAuth);
}

TEST_F(LoginQuestionsTest, ALoginThatCouldNotAskIsMadeOnceMoreForWhoCanBeAsked) {
    const auto nobodys = want_up();
    const auto hers = want_up(&ann_);
    fail(0, ErrorKind::HostKeyUnknown);
    EXPECT_EQ(kind(nobodys), ErrorKind::HostKeyUnknown);
    EXPECT_FALSE(hers.done());
    ASSERT_EQ(launcher_.count(), 2U);
    ASSERT_NE(questions(1), nullptr);
    fail(1, ErrorKind::HostKeyUnknown);
    EXPECT_EQ(kind(hers), ErrorKind::HostKeyUnknown) << "she said no";
    EXPECT_EQ(launcher_.count(), 2U);
}

TEST_F(LoginQuestionsTest, ALoginThatFailedOtherwiseIsNotMadeOnceMore) {
    const auto nobodys = want_up();
    const auto hers = want_up(&ann_);
    fail(0, ErrorKind::ConnectRefused);
    EXPECT_EQ(kind(hers), ErrorKind::ConnectRefused);
    EXPECT_EQ(launcher_.count(), 1U);
}

TEST_F(LoginQuestionsTest, AReconnectNeverAsks) {
    const auto hers = want_up(&ann_);
    const auto first = launcher_.succeed(0);
    loop_.run_ready();
    ASSERT_TRUE(hers.done() && *hers);
    const Hold session(connection_, HoldKind::Session);
    first->die();
    loop_.advance(1s);
    ASSERT_EQ(launcher_.count(), 2U);
    EXPECT_EQ(questions(1), nullptr);
    fail(1, ErrorKind::NeedsAuth);
    EXPECT_EQ(state(), State::NeedsAuth);
    loop_.advance(1h);
    EXPECT_EQ(launcher_.count(), 2U);
    const auto again = want_up(&ann_);
    ASSERT_EQ(launcher_.count(), 3U);
    EXPECT_NE(questions(2), nullptr);
}

TEST_F(LoginQuestionsTest, ALoginThatWaitsForAPersonHoldsNobodyUp) {
    config_.pool.max_concurrent_connects = 1;
    const auto hers = want_up(&ann_);
    const auto other = loop_.start(slots_.acquire());
    EXPECT_FALSE(other.done());
    const auto password = ask(0, "Password: ");
    EXPECT_TRUE(other.done());
    EXPECT_TRUE(answer(0, ann_, "secret"));
    succeed(0);
    EXPECT_TRUE(hers.done() && *hers);
}

TEST_F(LoginQuestionsTest, TheTimeOfAnswersIsNotTheLogins) {
    const auto hers = want_up(&ann_);
    EXPECT_EQ(questions(0)->time_asked(), 0s);
    const auto password = ask(0, "Password: ");
    loop_.advance(30s);
    EXPECT_TRUE(questions(0)->asking());
    EXPECT_EQ(questions(0)->time_asked(), 30s);
    EXPECT_TRUE(answer(0, ann_, "secret"));
    EXPECT_FALSE(questions(0)->asking());
    loop_.advance(10s);
    EXPECT_EQ(questions(0)->time_asked(), 30s);
    const auto code = ask(0, "Code: ");
    loop_.advance(5s);
    EXPECT_EQ(questions(0)->time_asked(), 35s);
}

TEST_F(LoginQuestionsTest, AreAskedOneAtATime) {
    const auto hers = want_up(&ann_);
    const auto one = ask(0, "one");
    const auto other = ask(0, "other");
    EXPECT_EQ(ann_.prompts.size(), 1U);
    EXPECT_TRUE(answer(0, ann_, "1"));
    ASSERT_EQ(ann_.prompts.size(), 2U);
    EXPECT_TRUE(answer(0, ann_, "2"));
    EXPECT_EQ(*one, "1");
    EXPECT_EQ(*other, "2");
}

TEST_F(LoginQuestionsTest, ANoticeIsOverWithItsProgram) {
    const auto hers = want_up(&ann_);
    const auto touch = ask(0, "Confirm user presence for key", Question::Kind::Notice);
    ASSERT_EQ(ann_.prompts.size(), 1U);
    EXPECT_TRUE(ann_.prompts[0].notice);
    EXPECT_FALSE(answer(0, ann_, "touched"));
    helper_gone_ = true;
    helper_gone_event_.notify_all();
    loop_.run_ready();
    EXPECT_TRUE(touch.done());
    EXPECT_FALSE(launcher_.login(0).process_ended);
    succeed(0);
    EXPECT_TRUE(hers.done() && *hers);
}

TEST_F(LoginQuestionsTest, EndWithADisconnect) {
    const auto hers = want_up(&ann_);
    const auto password = ask(0, "Password: ");
    const auto gone = loop_.start(connection_.disconnect(true, loop_.now() + 1h));
    EXPECT_EQ(kind(hers), ErrorKind::Cancelled);
    ASSERT_TRUE(password.done());
    EXPECT_FALSE(*password);
    EXPECT_FALSE(answer(0, ann_, "late"));
    fail(0, ErrorKind::ConnectFailed);
    EXPECT_TRUE(gone.done());
    EXPECT_EQ(state(), State::Idle);
}

TEST_F(LoginQuestionsTest, ATokenIsGoodForItsLoginOnly) {
    AskpassRelay relay("/usr/bin/cmsshd", "/run/cmsshd.sock");
    const auto hers = want_up(&ann_);
    auto ticket = relay.open(questions(0));
    std::vector<std::string> environment = {"DISPLAY=:1"};
    ticket->add_to(environment);
    EXPECT_THAT(environment,
                ::testing::IsSupersetOf({"DISPLAY=:1", "SSH_ASKPASS=/usr/bin/cmsshd", "SSH_ASKPASS_REQUIRE=force",
                                         "CMSSH_ASKPASS_SOCKET=/run/cmsshd.sock"}));
    EXPECT_EQ(std::count(environment.begin(), environment.end(), "DISPLAY=none"), 0);
    const std::string prefix = "CMSSH_ASKPASS_TOKEN=";
    const auto entry =
        std::find_if(environment.begin(), environment.end(), [&](const auto& it) { return it.starts_with(prefix); });
    ASSERT_NE(entry, environment.end());
    api::AskpassParams params;
    params.token = entry->substr(prefix.size());
    params.text = "Password: ";
    EXPECT_EQ(params.token.size(), 32U);
    const auto asked = loop_.start(relay.ask(params, helper_gone_, helper_gone_event_));
    ASSERT_EQ(ann_.prompts.size(), 1U);
    api::AnswerParams answer;
    answer.prompt = ann_.prompts[0].prompt;
    answer.text = "secret";
    EXPECT_FALSE(relay.answer(answer, &ben_));
    EXPECT_TRUE(relay.answer(answer, &ann_));
    loop_.run_ready();
    ASSERT_TRUE(asked.done() && *asked);
    EXPECT_EQ((*asked)->text, "secret");
    ticket.reset();
    const auto dead = loop_.run(relay.ask(params, helper_gone_, helper_gone_event_));
    EXPECT_EQ(dead.error().kind, ErrorKind::InvalidParams);
}

}  // namespace
}  // namespace cmssh
