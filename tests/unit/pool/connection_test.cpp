// Connection with a fake launcher and clock: what no timing of real processes shows for sure.
#include "daemon/pool/connection.hpp"

#include <gmock/gmock.h>

#include <functional>

#include "daemon/pool/pool.hpp"
#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using fakes::FakeMaster;
using State = api::ConnectionState;
using ::testing::ElementsAre;

class CountingObserver final : public ConnectionObserver {
public:
    void on_reachable(Connection& /*connection*/) override { ++reachable; }
    void on_unreachable(Connection& /*connection*/) override { ++unreachable; }
    void on_notification(Connection& /*connection*/, const tmux::Notification& /*notification*/) override {}

    int reachable = 0;
    int unreachable = 0;
};

class ConnectionTest : public ::testing::Test {
protected:
    using Ready = Result<Connection::Ready>;
    using ReadyTmux = Result<Connection::ReadyTmux>;

    ~ConnectionTest() override {
        for (std::size_t i = 0; i < launcher_.count(); ++i) {
            if (!launcher_.login(i).outcome) {
                launcher_.fail(i, ErrorKind::ConnectFailed, "the test is over");
            }
        }
        loop_.run(connection_.shut_down());
    }

    fakes::Outcome<Ready> want_up(std::optional<std::string> auth_sock = std::nullopt) {
        Connection::Want want;
        want.auth_sock = std::move(auth_sock);
        return loop_.start(connection_.ensure_up(std::move(want)));
    }
    fakes::Outcome<ReadyTmux> want_tmux() { return loop_.start(connection_.ensure_tmux({})); }
    fakes::Outcome<Result<void>> disconnect(bool force = true) {
        return loop_.start(connection_.disconnect(force, loop_.now() + 1h));
    }
    std::shared_ptr<FakeMaster> succeed(std::size_t index, bool adopted = false) {
        auto master = launcher_.succeed(index, adopted);
        loop_.run_ready();
        return master;
    }
    void fail(std::size_t index, std::string message, ErrorKind kind = ErrorKind::ConnectFailed) {
        launcher_.fail(index, kind, std::move(message));
        loop_.run_ready();
    }
    std::shared_ptr<FakeMaster> bring_up() {
        const auto up = want_tmux();
        auto master = succeed(launcher_.count() - 1);
        EXPECT_TRUE(up.done() && *up);
        return master;
    }
    [[nodiscard]] State state() const { return connection_.describe().state; }

    fakes::TestLoop loop_;
    Config config_;
    fakes::FakeLauncher launcher_{loop_.clock()};
    ConnectSlots slots_{loop_.clock(), config_.pool.max_concurrent_connects};
    CountingObserver observer_;
    ConnectionServices services_{.executor = loop_.executor(),
                                 .clock = loop_.clock(),
                                 .config = config_,
                                 .launcher = launcher_,
                                 .slots = slots_,
                                 .observer = observer_,
                                 .owner = "me",
                                 .unit_random = [] { return 0.5; }};
    Connection connection_{services_, ServerKey{.user = "u", .host = "h"}, "/run/ctl", false};
};

TEST_F(ConnectionTest, CallersShareOneLogin) {
    const auto first = want_up();
    const auto second = want_up();
    ASSERT_EQ(launcher_.count(), 1U);
    succeed(0);
    ASSERT_TRUE(first.done() && *first && second.done() && *second);
    EXPECT_FALSE((*first)->reused);
    EXPECT_TRUE((*second)->reused);
    EXPECT_TRUE((*second)->logged_in);
    const auto third = want_up();
    ASSERT_TRUE(third.done() && *third);
    EXPECT_FALSE((*third)->logged_in);
    EXPECT_EQ(connection_.handshakes(), 1U);
    EXPECT_EQ(connection_.reused_count(), 2U);
}

TEST_F(ConnectionTest, EachCallerIsToldOfTheLoginThatItWaitedFor) {
    // The first to be told of a failure tries again at once, before the second is told.
    const auto twice = [this]() -> asio::awaitable<std::string> {
        const auto first = co_await connection_.ensure_up({});
        const auto second = co_await connection_.ensure_up({});
        co_return first.error().message + ", " + second.error().message;
    };
    const auto impatient = loop_.start(twice());
    const auto patient = want_up();
    fail(0, "first");
    ASSERT_TRUE(patient.done() && !*patient);
    EXPECT_EQ(patient->error().message, "first");
    ASSERT_EQ(launcher_.count(), 2U);
    fail(1, "second");
    ASSERT_TRUE(impatient.done());
    EXPECT_EQ(*impatient, "first, second");
}

TEST_F(ConnectionTest, ALoginGivenUpIsCancelledAndItsProcessEnded) {
    const auto waiting = want_up();
    const auto gone = disconnect();
    ASSERT_TRUE(waiting.done() && !*waiting);
    EXPECT_EQ(waiting->error().kind, ErrorKind::Cancelled);
    EXPECT_TRUE(launcher_.login(0).process_ended);
    EXPECT_FALSE(gone.done()) << "there is still a process";
    fail(0, "killed");
    ASSERT_TRUE(gone.done() && *gone);
    EXPECT_EQ(state(), State::Idle);
    EXPECT_FALSE(connection_.describe().last_error) << "what was asked for is no error";
}

TEST_F(ConnectionTest, TheNextLoginWaitsForTheEndOfOneGivenUp) {
    const auto first = want_up();
    const auto gone = disconnect();
    const auto second = want_up();
    EXPECT_EQ(launcher_.count(), 1U) << "both would use the same control path";
    const auto late = succeed(0);
    EXPECT_EQ(late->told_to_end, 1) << "nobody wants it any more";
    ASSERT_EQ(launcher_.count(), 2U);
    const auto master = succeed(1);
    ASSERT_TRUE(second.done() && *second);
    EXPECT_EQ(master->told_to_end, 0);
    EXPECT_EQ(connection_.describe().master_pid, master->pid());
    EXPECT_TRUE(gone.done());
}

TEST_F(ConnectionTest, ALoginGivenUpWhileTmuxIsOpenedEndsItsOwnMasterOnly) {
    const auto first = want_tmux();
    const auto old = launcher_.succeed(0);
    old->holds_channels = true;
    loop_.run_ready();
    ASSERT_EQ(old->channels_asked, 1);
    const auto gone = disconnect();
    const auto second = want_tmux();
    ASSERT_TRUE(first.done() && !*first);
    EXPECT_EQ(first->error().kind, ErrorKind::Cancelled);
    EXPECT_TRUE(old->dead());
    ASSERT_EQ(launcher_.count(), 2U);
    const auto master = succeed(1);
    EXPECT_EQ(master->told_to_end, 0);
    ASSERT_TRUE(second.done() && *second);
    EXPECT_TRUE(gone.done());
}

TEST_F(ConnectionTest, AQueuedLoginIsGivenUpWithoutALogin) {
    config_.pool.max_concurrent_connects = 1;
    {
        const auto others = loop_.run(slots_.acquire());
        const auto waiting = want_up();
        const auto gone = disconnect();
        ASSERT_TRUE(waiting.done() && gone.done());
        EXPECT_EQ((*waiting).error().kind, ErrorKind::Cancelled);
    }
    loop_.run_ready();
    EXPECT_EQ(launcher_.count(), 0U);
    EXPECT_FALSE(connection_.busy());
}

TEST_F(ConnectionTest, DisconnectIsNotHeldUpByALoginThatCameAfterIt) {
    const auto first = want_up();
    const auto gone = disconnect();
    const auto second = want_up();
    EXPECT_TRUE(gone.done());
    fail(0, "killed");
    succeed(1);
    EXPECT_EQ(state(), State::Up);
}

TEST_F(ConnectionTest, ALoginThatThrowsIsOneThatFailed) {
    const auto waiting = want_up();
    launcher_.login(0).throws = true;
    succeed(0);
    ASSERT_TRUE(waiting.done() && !*waiting);
    EXPECT_EQ((*waiting).error().kind, ErrorKind::Internal);
    const auto again = want_up();
    ASSERT_EQ(launcher_.count(), 2U);
    succeed(1);
    EXPECT_TRUE(again.done() && *again);
}

TEST_F(ConnectionTest, ProgressNamesThePhasesOfTheLoginWaitedFor) {
    std::vector<std::string> told;
    Connection::Want want;
    want.progress = [&](std::string_view phase) { told.emplace_back(phase); };
    const auto ready = loop_.start(connection_.ensure_tmux(std::move(want)));
    const auto master = launcher_.succeed(0);
    master->holds_channels = true;
    loop_.run_ready();
    master->let_channels_through();
    loop_.run_ready();
    ASSERT_TRUE(ready.done() && *ready);
    EXPECT_THAT(told, ElementsAre("queued", "connecting", "opening_tmux"));
}

TEST_F(ConnectionTest, AClosedChannelIsOpenedAgainUntilItWorks) {
    const auto master = bring_up();
    const Hold session(connection_, HoldKind::Session);
    master->channel_error = Error{.kind = ErrorKind::ChannelRefused, .message = "no channel"};
    const int before = master->channels_asked;
    master->close_channels();
    loop_.run_ready();
    EXPECT_EQ(master->channels_asked, before + 1);
    EXPECT_EQ(observer_.unreachable, 1);
    loop_.advance(2s);
    EXPECT_EQ(master->channels_asked, before + 2);
    loop_.advance(2s);
    EXPECT_EQ(master->channels_asked, before + 2) << "the pauses grow";
    master->channel_error.reset();
    loop_.advance(2s);
    EXPECT_EQ(master->channels_asked, before + 3);
    EXPECT_EQ(observer_.reachable, 2);
    EXPECT_NE(connection_.tmux(), nullptr);
}

TEST_F(ConnectionTest, AChannelThatNobodyNeedsIsNotOpenedAgain) {
    const auto master = bring_up();
    const int before = master->channels_asked;
    {
        const Hold session(connection_, HoldKind::Session);
        master->channel_error = Error{.kind = ErrorKind::ChannelRefused, .message = "no channel"};
        master->close_channels();
        loop_.run_ready();
    }
    loop_.advance(5min);
    EXPECT_EQ(master->channels_asked, before + 1);
    EXPECT_EQ(state(), State::Up);
}

TEST_F(ConnectionTest, AReconnectWithoutItsChannelOpensItLater) {
    const auto first = bring_up();
    const Hold session(connection_, HoldKind::Session);
    first->die();
    loop_.advance(1s);
    ASSERT_EQ(launcher_.count(), 2U);
    const auto second = launcher_.succeed(1);
    second->channel_error = Error{.kind = ErrorKind::ChannelRefused, .message = "no channel"};
    loop_.run_ready();
    EXPECT_EQ(state(), State::Up);
    second->channel_error.reset();
    loop_.advance(2s);
    EXPECT_EQ(observer_.reachable, 2);
}

TEST_F(ConnectionTest, WhoWaitsForAChannelGetsTheOutcomeOfThatTry) {
    const auto master = bring_up();
    master->close_channels();
    loop_.run_ready();
    master->holds_channels = true;
    const int before = master->channels_asked;
    const auto first = want_tmux();
    const auto second = want_tmux();
    master->channel_error = Error{.kind = ErrorKind::ChannelRefused, .message = "no channel"};
    master->let_channels_through();
    loop_.run_ready();
    ASSERT_TRUE(first.done() && !*first && second.done() && !*second);
    EXPECT_EQ(second->error().message, "no channel");
    EXPECT_EQ(master->channels_asked, before + 1);
}

TEST_F(ConnectionTest, AMasterOfNoUseIsEnded) {
    const auto ready = want_tmux();
    const auto master = launcher_.succeed(0);
    master->channel_error = Error{.kind = ErrorKind::TmuxMissing, .message = "no tmux"};
    loop_.run_ready();
    ASSERT_TRUE(ready.done() && !*ready);
    EXPECT_EQ(ready->error().kind, ErrorKind::TmuxMissing);
    EXPECT_EQ(master->told_to_end, 1);
    EXPECT_EQ(state(), State::Idle);
}

TEST_F(ConnectionTest, AMasterThatSomebodyWantedForItselfStays) {
    const auto tmux = want_tmux();
    const auto up = want_up();
    const auto master = launcher_.succeed(0);
    master->channel_error = Error{.kind = ErrorKind::TmuxMissing, .message = "no tmux"};
    loop_.run_ready();
    EXPECT_FALSE(*tmux);
    EXPECT_TRUE(up.done() && *up);
    EXPECT_EQ(master->told_to_end, 0);
    EXPECT_EQ(state(), State::Up);
}

TEST_F(ConnectionTest, AMasterThatDiesWithSessionsIsReplacedWithTheAgentThatWorked) {
    const auto up = want_up("/agent");
    const auto first = succeed(0);
    ASSERT_TRUE(up.done() && *up);
    const Hold session(connection_, HoldKind::Session);
    first->die();
    loop_.run_ready();
    EXPECT_EQ(state(), State::Backoff);
    loop_.advance(1s);
    ASSERT_EQ(launcher_.count(), 2U);
    EXPECT_EQ(launcher_.login(1).request.auth_sock, "/agent");
    succeed(1);
    EXPECT_EQ(state(), State::Up);
    EXPECT_EQ(connection_.describe().reconnects, 1U);
}

TEST_F(ConnectionTest, AnUnneededMasterEndsAfterTheLinger) {
    const auto master = bring_up();
    loop_.advance(10min);
    EXPECT_EQ(master->told_to_end, 1);
    EXPECT_EQ(state(), State::Idle);
}

TEST_F(ConnectionTest, DrainWaitsForLeasesAndForceDoesNot) {
    const auto master = bring_up();
    const Hold lease(connection_, HoldKind::Lease);
    const auto drained = disconnect(false);
    EXPECT_FALSE(drained.done());
    EXPECT_EQ(state(), State::Draining);
    const auto forced = disconnect(true);
    ASSERT_TRUE(drained.done() && forced.done());
    EXPECT_EQ(master->told_to_end, 1);
}

TEST_F(ConnectionTest, StopsWhileALoginWaitsForTheEndOfAMaster) {
    const auto master = bring_up();
    master->ends_when_told = false;
    const auto gone = disconnect();
    const auto waiting = want_up();
    const auto stopped = loop_.start(connection_.shut_down());
    ASSERT_TRUE(waiting.done() && gone.done() && stopped.done());
    EXPECT_TRUE(master->released);
}

TEST_F(ConnectionTest, AMasterThatDoesNotEndIsLetGo) {
    const auto master = bring_up();
    master->ends_when_told = false;
    const auto gone = disconnect();
    loop_.advance(3s);
    ASSERT_TRUE(gone.done() && *gone);
    EXPECT_TRUE(master->released);
    const auto again = want_up();
    succeed(1);
    EXPECT_TRUE(again.done() && *again);
}

TEST_F(ConnectionTest, IsBusyWhileItIsUsed) {
    EXPECT_FALSE(connection_.busy());
    {
        ConnectionUse use(connection_);
        const ConnectionUse moved = std::move(use);
        EXPECT_TRUE(connection_.busy());
    }
    EXPECT_FALSE(connection_.busy());
    EXPECT_EQ(connection_.refs(), 0) << "a use is no ref";
}

TEST_F(ConnectionTest, AProbeOfAMasterThatIsReplacedMeanwhileSaysNothingOfTheNewOne) {
    const auto master = bring_up();
    const Hold session(connection_, HoldKind::Session);
    master->stopped = true;
    const auto checked = loop_.start(connection_.check());
    master->die();
    loop_.run_ready();
    ASSERT_TRUE(checked.done());
    EXPECT_EQ(connection_.describe().probes.failed, 0U);
}

}  // namespace
}  // namespace cmssh
