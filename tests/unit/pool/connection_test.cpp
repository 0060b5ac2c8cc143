// Connection with a fake launcher and clock: what no timing of real processes shows for sure.
#include "daemon/pool/connection.hpp"

#include <gmock/gmock.h>

#include <functional>
#include <random>

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
    void on_master(Connection& /*connection*/) override { ++masters; }
    void on_no_master(Connection& /*connection*/) override { ++no_masters; }

    int reachable = 0;
    int unreachable = 0;
    int masters = 0;
    int no_masters = 0;
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

// With the jitter of 0.5 a probe begins every 13.5 s, or a tick of 235 ms earlier, and its deadline is 5 s: a dead path
// is acted upon after 32 s.
constexpr Duration kFirstFailure = 18500ms;
constexpr Duration kSecondFailure = 32s;

class ConnectionHealth : public ConnectionTest {
protected:
    [[nodiscard]] api::Connection view() const { return connection_.describe(); }
    // With a session; its path was found to be dead, and it has stepped aside.
    std::shared_ptr<FakeMaster> retire() {
        auto master = bring_up();
        session_ = Hold(connection_, HoldKind::Session);
        master->cut_path();
        loop_.advance(kSecondFailure);
        EXPECT_EQ(state(), State::Backoff);
        EXPECT_FALSE(connection_.has_master());
        return master;
    }

    Hold session_;
};

TEST_F(ConnectionHealth, IsProbedByItselfWithoutAChannelOfItsOwn) {
    const auto master = bring_up();
    const int before = master->channels_asked;
    EXPECT_FALSE(view().rtt_ms);
    loop_.advance(13260ms);
    EXPECT_EQ(view().probes.ok, 0U);
    loop_.advance(240ms);
    EXPECT_EQ(view().probes.ok, 1U);
    EXPECT_TRUE(view().rtt_ms);
    EXPECT_TRUE(view().probes.last_at);
    loop_.advance(135s);
    EXPECT_EQ(view().probes.ok, 11U);
    EXPECT_EQ(master->checks, 11);
    EXPECT_EQ(master->channels_asked, before);
}

TEST_F(ConnectionHealth, ProbesBeginAtTicksThatConnectionsShare) {
    bring_up();
    loop_.advance(20ms);
    Connection other(services_, ServerKey{.user = "u", .host = "other"}, "/run/other", false);
    const auto up = loop_.start(other.ensure_up({}));
    succeed(1);
    ASSERT_TRUE(up.done() && *up);
    const Instant end = loop_.now() + 15s;
    while (view().probes.ok == 0 && loop_.now() < end) {
        loop_.advance(1ms);
    }
    EXPECT_EQ(other.describe().probes.ok, 1U);
    loop_.run(other.shut_down());
}

TEST_F(ConnectionHealth, IsDoubtedInTimeWhereTheTimeoutIsLongerThanTheInterval) {
    config_.pool.health_interval = 1s;
    config_.pool.health_timeout = 4s;
    config_.pool.unhealthy_after = 3;
    const auto master = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    master->cut_path();
    loop_.advance(6500ms);
    EXPECT_EQ(state(), State::Degraded);
    loop_.advance(500ms);
    EXPECT_EQ(observer_.unreachable, 1) << "1 s * 3 + 4 s";
    EXPECT_EQ(view().probes.failed, 3U);
}

TEST_F(ConnectionHealth, WithoutATmuxAndWithoutRefsCostsTheServerNothing) {
    const auto up = want_up();
    const auto master = launcher_.succeed(0);
    master->channel_error = Error{.kind = ErrorKind::TmuxMissing, .message = "no tmux"};
    loop_.run_ready();
    const int before = master->channels_asked;
    loop_.advance(1min);
    EXPECT_EQ(master->channels_asked, before);
    EXPECT_GT(master->checks, 3);
    EXPECT_FALSE(view().rtt_ms) << "nothing was measured";
    EXPECT_EQ(state(), State::Up);
}

TEST_F(ConnectionHealth, ADeadPathIsReplacedUnderItsLeases) {
    const auto old = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    auto lease = std::make_unique<Hold>(connection_, HoldKind::Lease);
    old->cut_path();
    loop_.advance(kFirstFailure);
    EXPECT_EQ(state(), State::Degraded);
    EXPECT_EQ(observer_.unreachable, 0);
    EXPECT_EQ(view().last_error->kind, "timeout");
    loop_.advance(kSecondFailure - kFirstFailure);
    EXPECT_EQ(state(), State::Backoff);
    EXPECT_TRUE(view().retry_at);
    EXPECT_FALSE(view().master_pid);
    EXPECT_EQ(observer_.unreachable, 1);
    EXPECT_FALSE(old->listens);
    loop_.advance(250ms);
    ASSERT_EQ(launcher_.count(), 2U);
    const auto next = succeed(1);
    EXPECT_EQ(state(), State::Up);
    EXPECT_EQ(view().master_pid, next->pid());
    EXPECT_EQ(observer_.reachable, 2);
    EXPECT_EQ(old->told_to_end, 0) << "somebody is on it";
    EXPECT_EQ(view().leases, 1);
    // What comes back changes nothing any more.
    old->join_path();
    loop_.advance(1min);
    EXPECT_EQ(observer_.reachable, 2);
    EXPECT_EQ(view().master_pid, next->pid());
    lease.reset();
    loop_.run_ready();
    EXPECT_TRUE(old->dead());
    EXPECT_EQ(next->told_to_end, 0);
    EXPECT_EQ(state(), State::Up);
    EXPECT_EQ(observer_.unreachable, 1) << "its end is no news";
}

TEST_F(ConnectionHealth, AnEmptyMasterThatStepsAsideIsEnded) {
    const auto old = retire();
    EXPECT_FALSE(old->listens);
    EXPECT_TRUE(old->dead());
    EXPECT_EQ(state(), State::Backoff);
}

TEST_F(ConnectionHealth, APathThatComesBackInTimeKeepsItsMaster) {
    const auto master = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    master->cut_path();
    loop_.advance(kFirstFailure);
    ASSERT_EQ(state(), State::Degraded);
    master->join_path();
    loop_.advance(kSecondFailure - kFirstFailure);
    EXPECT_EQ(state(), State::Up);
    EXPECT_EQ(observer_.unreachable, 0);
    EXPECT_EQ(observer_.reachable, 2) << "what could not be done meanwhile is done now";
    EXPECT_EQ(launcher_.count(), 1U);
}

TEST_F(ConnectionHealth, AStoppedMasterIsKilledAndReplaced) {
    const auto old = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    const Hold lease(connection_, HoldKind::Lease);
    old->stopped = true;
    loop_.advance(kFirstFailure);
    EXPECT_EQ(state(), State::Degraded);
    loop_.advance(kSecondFailure - kFirstFailure);
    EXPECT_TRUE(old->dead());
    EXPECT_EQ(state(), State::Backoff);
    loop_.advance(250ms);
    ASSERT_EQ(launcher_.count(), 2U);
    succeed(1);
    EXPECT_EQ(state(), State::Up);
    EXPECT_EQ(view().leases, 1);
}

TEST_F(ConnectionHealth, TheNextLoginWaitsUntilTheControlPathIsFree) {
    const auto old = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    const Hold lease(connection_, HoldKind::Lease);
    old->cut_path();
    loop_.advance(kSecondFailure - 1s);
    old->stopped = true;  // its process has answered the last probe already
    loop_.advance(1s);
    ASSERT_EQ(state(), State::Backoff);
    loop_.advance(4700ms);
    EXPECT_EQ(state(), State::Connecting);
    EXPECT_EQ(launcher_.count(), 1U);
    EXPECT_FALSE(old->dead());
    loop_.advance(300ms);
    EXPECT_TRUE(old->dead()) << "it did not step aside";
    ASSERT_EQ(launcher_.count(), 2U);
    succeed(1);
    EXPECT_EQ(state(), State::Up);
}

TEST_F(ConnectionHealth, WhatHangsOnTheOldMasterHoldsUpNothingOnTheNext) {
    const auto old = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    const Hold lease(connection_, HoldKind::Lease);
    loop_.advance(20s);
    old->holds_channels = true;
    old->close_channels();
    const auto waiting = want_tmux();
    const auto command = loop_.start(connection_.run("true", loop_.now() + 1h));
    loop_.run_ready();
    ASSERT_FALSE(waiting.done() || command.done());
    loop_.start(connection_.disconnect(false, loop_.now() + 1h));
    const auto next_up = want_up();
    ASSERT_EQ(launcher_.count(), 2U);
    succeed(1);
    ASSERT_TRUE(next_up.done() && *next_up);
    EXPECT_NE(connection_.tmux(), nullptr);
    const auto next_command = loop_.start(connection_.run("true", loop_.now() + 1h));
    EXPECT_TRUE(next_command.done());
    old->let_channels_through();
    loop_.run_ready();
    EXPECT_TRUE(waiting.done() && command.done());
    EXPECT_NE(connection_.tmux(), nullptr) << "the late channel is of the old master";
}

TEST_F(ConnectionHealth, ACheckIsAProbeThatBeganAfterItWasAsked) {
    const auto master = bring_up();
    master->stopped = true;
    loop_.advance(13500ms);
    ASSERT_EQ(master->checks, 1);
    const auto first = loop_.start(connection_.check());
    const auto second = loop_.start(connection_.check());
    EXPECT_EQ(master->checks, 1) << "one at a time";
    master->resume();
    loop_.run_ready();
    EXPECT_TRUE(first.done() && second.done());
    EXPECT_EQ(master->checks, 2) << "they share the next";
    EXPECT_EQ(view().probes.ok, 2U);
}

TEST_F(ConnectionHealth, AWantedServerIsTriedAtOnceAndOnlyOnce) {
    retire();
    const auto first = want_up();
    const auto second = want_up();
    EXPECT_EQ(launcher_.count(), 2U) << "during the backoff";
    loop_.advance(1min);
    EXPECT_EQ(launcher_.count(), 2U);
    succeed(1);
    EXPECT_TRUE(first.done() && *first && second.done() && *second);
}

TEST_F(ConnectionHealth, DeathDuringAProbeMakesOneAttempt) {
    const auto master = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    master->cut_path();
    loop_.advance(14s);
    const auto checked = loop_.start(connection_.check());
    master->die();
    loop_.run_ready();
    EXPECT_TRUE(checked.done());
    EXPECT_EQ(state(), State::Backoff);
    loop_.advance(1min);
    EXPECT_EQ(launcher_.count(), 2U);
    EXPECT_EQ(view().probes.failed, 0U);
}

TEST_F(ConnectionHealth, DisconnectWaitsForWhoIsOnARetiredMasterUnlessItIsForced) {
    for (const bool force : {false, true}) {
        const auto old = bring_up();
        session_ = Hold(connection_, HoldKind::Session);
        auto lease = std::make_unique<Hold>(connection_, HoldKind::Lease);
        old->cut_path();
        loop_.advance(kSecondFailure);
        ASSERT_EQ(state(), State::Backoff);
        const auto gone = disconnect(force);
        EXPECT_EQ(state(), State::Idle);
        EXPECT_EQ(gone.done(), force);
        EXPECT_EQ(old->dead(), force);
        lease.reset();
        loop_.run_ready();
        EXPECT_TRUE(gone.done() && *gone);
        EXPECT_TRUE(old->dead());
        const auto before = launcher_.count();
        loop_.advance(1min);
        EXPECT_EQ(launcher_.count(), before) << "it was asked to stay away";
    }
}

TEST_F(ConnectionHealth, StoppingKeepsARetiredMasterForWhoIsOnIt) {
    const Hold lease(connection_, HoldKind::Lease);
    const auto old = bring_up();
    old->cut_path();
    loop_.advance(kSecondFailure);
    ASSERT_EQ(state(), State::Backoff);
    ASSERT_FALSE(old->dead());
    loop_.run(connection_.shut_down());
    EXPECT_TRUE(old->released);
    EXPECT_EQ(old->told_to_end, 0);
}

TEST_F(ConnectionHealth, StoppingEndsARetiredMasterThatNobodyIsOn) {
    const auto old = bring_up();
    session_ = Hold(connection_, HoldKind::Session);
    old->cut_path();
    loop_.advance(kSecondFailure - 1s);
    old->stopped = true;  // it does not step aside before we stop
    loop_.advance(1s);
    ASSERT_EQ(state(), State::Backoff);
    EXPECT_TRUE(loop_.start(connection_.shut_down()).done());
    EXPECT_TRUE(old->dead());
}

TEST_F(ConnectionHealth, StoppingDuringTheLoginOfAReplacementEndsIt) {
    retire();
    loop_.advance(250ms);
    ASSERT_EQ(launcher_.count(), 2U);
    const auto stopped = loop_.start(connection_.shut_down());
    const auto late = succeed(1);
    EXPECT_TRUE(stopped.done());
    EXPECT_TRUE(late->released);
}

TEST_F(ConnectionHealth, ADrainedMasterMakesWayForNewWork) {
    const auto old = bring_up();
    auto lease = std::make_unique<Hold>(connection_, HoldKind::Lease);
    const auto gone = disconnect(false);
    EXPECT_EQ(state(), State::Draining);
    EXPECT_TRUE(old->listens) << "a lease may still open channels";
    const auto up = want_up();
    EXPECT_FALSE(old->listens);
    ASSERT_EQ(launcher_.count(), 2U);
    const auto next = succeed(1);
    ASSERT_TRUE(up.done() && *up);
    EXPECT_FALSE((*up)->reused);
    EXPECT_FALSE(gone.done());
    EXPECT_EQ(old->told_to_end, 0);
    lease.reset();
    loop_.run_ready();
    EXPECT_TRUE(gone.done() && *gone);
    EXPECT_TRUE(old->dead());
    EXPECT_EQ(next->told_to_end, 0);
    EXPECT_EQ(state(), State::Up);
}

TEST_F(ConnectionHealth, NothingIsTriedAfterWhatNeedsAPerson) {
    retire();
    loop_.advance(250ms);
    fail(1, "no key fits", ErrorKind::AuthFailed);
    EXPECT_EQ(state(), State::Failed);
    loop_.advance(24h);
    EXPECT_EQ(launcher_.count(), 2U);
    EXPECT_EQ(view().last_error->kind, "auth_failed");
}

TEST_F(ConnectionHealth, TellsWhenItHasAMasterAndWhenNothingOfItIsNeeded) {
    {
        const Hold session(connection_, HoldKind::Session);
        const auto master = bring_up();
        EXPECT_EQ(observer_.masters, 1);
        master->die();
        loop_.advance(1s);
        succeed(1);
        EXPECT_EQ(observer_.masters, 2);
        disconnect();
        EXPECT_EQ(state(), State::Idle);
        EXPECT_EQ(observer_.no_masters, 0) << "its session is still on the server";
    }
    EXPECT_EQ(observer_.no_masters, 1);
    bring_up();
    EXPECT_EQ(observer_.masters, 3);
    loop_.advance(10min);
    EXPECT_EQ(state(), State::Idle);
    EXPECT_EQ(observer_.no_masters, 2);
}

TEST_F(ConnectionHealth, StoppingIsNoReasonToForgetAnything) {
    {
        const Hold session(connection_, HoldKind::Session);
        bring_up();
        loop_.run(connection_.shut_down());
    }
    EXPECT_EQ(observer_.no_masters, 0);
}

// Whatever happens in whatever order: one attempt at a time, one master that takes new work, and none left behind.
TEST_F(ConnectionHealth, KeepsToOneMasterThroughAThousandRandomEvents) {
    constexpr int kRuns = 40;
    constexpr int kEvents = 1000;
    std::mt19937 random(20240607);
    const auto any = [&random](std::size_t count) { return static_cast<std::size_t>(random() % count); };
    std::vector<std::shared_ptr<FakeMaster>> masters;
    std::vector<Hold> leases;
    std::vector<Hold> sessions;
    std::size_t decided = 0;
    const auto decide = [&](bool good) {
        if (decided == launcher_.count()) {
            return;
        }
        if (good) {
            masters.push_back(launcher_.succeed(decided));
        } else {
            launcher_.fail(decided, any(4) == 0 ? ErrorKind::AuthFailed : ErrorKind::ConnectTimeout, "no");
        }
        ++decided;
    };
    const auto living = [&] {
        std::erase_if(masters, [](const auto& it) { return it->dead(); });
        return masters.size();
    };
    const auto drop_one = [&](std::vector<Hold>& holds) {
        if (!holds.empty()) {
            holds.erase(holds.begin() + static_cast<std::ptrdiff_t>(any(holds.size())));
        }
    };
    for (int run = 0; run < kRuns; ++run) {
        for (int event = 0; event < kEvents; ++event) {
            const auto master = living() == 0 ? nullptr : masters[any(masters.size())];
            switch (any(18)) {
                case 0:
                    (void)want_up();
                    break;
                case 1:
                    (void)want_tmux();
                    break;
                case 2:
                    (void)loop_.start(connection_.disconnect(false, loop_.now() + 10s));
                    break;
                case 3:
                    (void)loop_.start(connection_.disconnect(any(2) == 0, loop_.now() + 10s));
                    break;
                case 4:
                    leases.emplace_back(connection_, HoldKind::Lease);
                    break;
                case 5:
                    sessions.emplace_back(connection_, HoldKind::Session);
                    break;
                case 6:
                    drop_one(leases);
                    break;
                case 7:
                    drop_one(sessions);
                    break;
                case 8:
                case 9:
                    decide(true);
                    break;
                case 10:
                    decide(false);
                    break;
                case 11:
                    if (master) {
                        master->die();
                    }
                    break;
                case 12:
                    if (master) {
                        any(2) == 0 ? master->cut_path() : master->join_path();
                    }
                    break;
                case 13:
                    if (master) {
                        master->stopped = true;
                    }
                    break;
                case 14:
                    if (master) {
                        master->resume();
                    }
                    break;
                case 15:
                    (void)loop_.start(connection_.check());
                    break;
                case 16:
                    connection_.wake_up();
                    break;
                default:
                    loop_.advance(std::chrono::milliseconds(any(20'000)));
                    break;
            }
            if (any(3) != 0) {
                loop_.run_ready();
            }
            ASSERT_LE(launcher_.count(), decided + 1) << "run " << run << ", event " << event;
            living();
            ASSERT_LE(std::count_if(masters.begin(), masters.end(), [](const auto& it) { return it->listens; }), 1)
                << "run " << run << ", event " << event;
        }
        while (decided < launcher_.count()) {
            decide(any(2) == 0);
            loop_.run_ready();
        }
        leases.clear();
        sessions.clear();
        (void)disconnect();
        loop_.advance(1min);
        ASSERT_EQ(living(), 0U) << "run " << run;
        ASSERT_EQ(connection_.refs(), 0);
        ASSERT_FALSE(connection_.busy()) << "run " << run;
    }
}

class ConnectionRestore : public ConnectionTest {
protected:
    fakes::Outcome<fakes::Finished> restore(std::optional<api::LastError> held_back_by = {}) {
        StoredConnection stored = connection_.stored();
        stored.control_path = "/run/old-ctl";
        stored.held_back = held_back_by.has_value();
        stored.held_back_by = std::move(held_back_by);
        return loop_.start(restore_and_open(std::move(stored)));
    }
    std::shared_ptr<FakeMaster> leave_master() {
        launcher_.leftover = std::make_shared<FakeMaster>(loop_.clock(), 77, true);
        return launcher_.leftover;
    }

private:
    // As the pool does: nobody waits for the tmux channel.
    asio::awaitable<void> restore_and_open(StoredConnection stored) {
        const bool found = co_await connection_.restore(std::move(stored));
        if (found) {
            tasks_.spawn("tmux", connection_.open_restored_tmux());
        }
    }

    TaskGroup tasks_{loop_.executor(), loop_.clock()};
};

TEST_F(ConnectionRestore, TakesOverWithoutALoginAndOpensItsTmuxLater) {
    const Hold session(connection_, HoldKind::Session);
    const auto master = leave_master();
    master->holds_channels = true;
    const auto restored = restore();
    ASSERT_TRUE(restored.done());
    EXPECT_EQ(state(), State::Up);
    EXPECT_THAT(launcher_.looked_at, ElementsAre("/run/old-ctl"));
    const auto view = connection_.describe();
    EXPECT_EQ(view.master_pid, 77);
    EXPECT_TRUE(view.adopted);
    EXPECT_EQ(view.handshakes + view.reconnects, 0U);
    EXPECT_EQ(view.control_path, "/run/old-ctl");
    EXPECT_EQ(connection_.stored().control_path, "/run/old-ctl");
    EXPECT_EQ(observer_.masters, 1);
    EXPECT_EQ(observer_.reachable, 0);
    master->let_channels_through();
    loop_.run_ready();
    EXPECT_EQ(observer_.reachable, 1);
    EXPECT_EQ(launcher_.count(), 0U);
}

TEST_F(ConnectionRestore, WithoutAMasterReconnectsForItsSessionsOnTheUsualPath) {
    const Hold session(connection_, HoldKind::Session);
    ASSERT_TRUE(restore().done());
    EXPECT_EQ(state(), State::Backoff);
    EXPECT_FALSE(connection_.describe().last_error);
    loop_.advance(250ms);
    ASSERT_EQ(launcher_.count(), 1U);
    EXPECT_EQ(launcher_.login(0).request.control_path, "/run/ctl");
    succeed(0);
    EXPECT_EQ(observer_.reachable, 1);
}

TEST_F(ConnectionRestore, WithoutAMasterAndWithoutNeedIsIdle) {
    ASSERT_TRUE(restore().done());
    EXPECT_EQ(state(), State::Idle);
    EXPECT_EQ(observer_.no_masters, 1);
    loop_.advance(1h);
    EXPECT_EQ(launcher_.count(), 0U);
}

TEST_F(ConnectionRestore, ThatIsHeldBackSaysWhy) {
    const Hold session(connection_, HoldKind::Session);
    const auto restored_as = [this](const std::string& kind) {
        api::LastError why;
        why.kind = kind;
        return restore(std::move(why)).done();
    };
    ASSERT_TRUE(restored_as("needs_auth"));
    EXPECT_EQ(state(), State::NeedsAuth);
    EXPECT_EQ(connection_.describe().last_error->kind, "needs_auth");
    EXPECT_EQ(connection_.stored().held_back_by->kind, "needs_auth");
    ASSERT_TRUE(disconnect().done());
    EXPECT_FALSE(connection_.stored().held_back_by) << "now it is a person's wish";
    ASSERT_TRUE(restored_as("host_key_changed"));
    EXPECT_EQ(state(), State::Failed);
    loop_.advance(1h);
    EXPECT_EQ(launcher_.count(), 0U);
}

TEST_F(ConnectionRestore, ACallMeanwhileGetsTheMasterThatIsFound) {
    const auto master = leave_master();
    launcher_.find_takes = 1s;
    const auto restored = restore();
    const auto up = want_up();
    EXPECT_FALSE(up.done() || restored.done());
    loop_.advance(1s);
    ASSERT_TRUE(up.done() && *up && restored.done());
    EXPECT_TRUE((*up)->reused);
    EXPECT_EQ(launcher_.count(), 0U);
}

TEST_F(ConnectionRestore, ACallMeanwhileLogsInWhereNoneIsFound) {
    launcher_.find_takes = 1s;
    const auto restored = restore();
    const auto up = want_up();
    loop_.advance(1s);
    ASSERT_EQ(launcher_.count(), 1U);
    succeed(0);
    ASSERT_TRUE(up.done() && *up);
    EXPECT_FALSE((*up)->reused);
}

TEST_F(ConnectionRestore, ADisconnectMeanwhileEndsWhatIsFound) {
    const auto master = leave_master();
    launcher_.find_takes = 1s;
    const auto restored = restore();
    const auto gone = disconnect();
    EXPECT_TRUE(restored.done());
    EXPECT_FALSE(gone.done());
    loop_.advance(1s);
    EXPECT_TRUE(gone.done() && *gone);
    EXPECT_TRUE(master->dead());
    EXPECT_EQ(state(), State::Idle);
}

TEST_F(ConnectionRestore, StoppingMeanwhileLeavesWhatIsFound) {
    const auto master = leave_master();
    launcher_.find_takes = 1s;
    const auto restored = restore();
    const auto stopped = loop_.start(connection_.shut_down());
    EXPECT_TRUE(restored.done());
    loop_.advance(1s);
    EXPECT_TRUE(stopped.done());
    EXPECT_TRUE(master->released);
    EXPECT_EQ(master->told_to_end, 0);
}

TEST_F(ConnectionRestore, ComesTooLateWhereTheServerIsWantedAlready) {
    const auto up = want_up();
    ASSERT_TRUE(restore().done());
    EXPECT_EQ(launcher_.count(), 1U);
    EXPECT_TRUE(launcher_.looked_at.empty());
}

}  // namespace
}  // namespace cmssh
