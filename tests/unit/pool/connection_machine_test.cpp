#include "daemon/pool/connection_machine.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using M = ConnectionMachine;
using State = M::State;
using Action = M::Action;

constexpr Duration kLinger = 10min;

struct Subject {
    explicit Subject(bool pinned = false) : machine(Instant{}, pinned) {
        settings.linger = kLinger;
        settings.backoff = {.initial = 500ms, .max = 60s};
        settings.unhealthy_after = 2;
    }

    Action on(const M::Event& event, double random = 0.5) { return machine.on(event, settings, now, random); }
    void refs(int sessions, int leases = 0) { on(M::RefsChanged{.refs = sessions + leases, .leases = leases}); }
    void up() {
        on(M::Wanted{});
        on(M::LoggedIn{});
    }
    void degraded() {
        up();
        on(M::ProbeFailed{});
    }
    void killing() {
        up();
        on(M::ProbeFailed{.level = ProbeLevel::Process});
        on(M::ProbeFailed{.level = ProbeLevel::Process});
    }
    void backoff() {
        up();
        on(M::MasterDied{});
    }
    [[nodiscard]] State state() const { return machine.state(); }
    [[nodiscard]] std::optional<Duration> left() const {
        const auto deadline = machine.deadline();
        return deadline ? std::optional(*deadline - now) : std::nullopt;
    }

    MachineSettings settings;
    Instant now{};
    ConnectionMachine machine;
};

std::string describe(State state, Action action) {
    const std::string text(api::to_string(state));
    switch (action) {
        case Action::None:
            return text;
        case Action::LogIn:
            return text + " + log in";
        case Action::EndMaster:
            return text + " + end master";
        case Action::Restore:
            return text + " + restore";
        case Action::KillMaster:
            return text + " + kill master";
        case Action::RetireMaster:
            return text + " + retire master";
        case Action::ReplaceMaster:
            return text + " + replace master";
    }
    return text;
}

// Where a connection with one session can be. The two drainings: a lease holds it up; the master was told to end.
// Killing: its process did not answer.
enum class Start { Idle, Connecting, Up, Degraded, Backoff, NeedsAuth, Failed, Draining, Ending, Killing };

Subject subject_in(Start start) {
    Subject subject;
    subject.refs(1);
    switch (start) {
        case Start::Idle:
            break;
        case Start::Connecting:
            subject.on(M::Wanted{});
            break;
        case Start::Up:
            subject.up();
            break;
        case Start::Degraded:
            subject.degraded();
            break;
        case Start::Backoff:
            subject.backoff();
            break;
        case Start::NeedsAuth:
            subject.on(M::Wanted{});
            subject.on(M::LoginFailed{.kind = ErrorKind::NeedsAuth});
            break;
        case Start::Failed:
            subject.on(M::Wanted{});
            subject.on(M::LoginFailed{.kind = ErrorKind::ConnectRefused});
            break;
        case Start::Draining:
            subject.refs(1, 1);
            subject.up();
            subject.on(M::DisconnectAsked{});
            break;
        case Start::Ending:
            subject.up();
            subject.on(M::DisconnectAsked{});
            break;
        case Start::Killing:
            subject.killing();
            break;
    }
    return subject;
}

struct Row {
    std::string_view name;
    M::Event event;
    // One for each Start; "": nothing happens; "-": can't come.
    std::array<std::string_view, 10> outcomes;
};

constexpr std::string_view kLogIn = "connecting + log in";
constexpr std::string_view kEnd = "draining + end master";

const std::vector<Row>& table() {
    static const std::vector<Row> rows = {
        // idle, connecting, up, degraded, backoff, needs_auth, failed, draining, ending, killing
        {"wanted", M::Wanted{}, {kLogIn, "", "", "", kLogIn, kLogIn, kLogIn, "connecting + replace master", "", ""}},
        {"logged in", M::LoggedIn{}, {"idle + end master", "up", "-", "-", "-", "-", "-", "-", "-", "-"}},
        {"adopted", M::LoggedIn{.adopted = true}, {"idle + end master", "up", "-", "-", "-", "-", "-", "-", "-", "-"}},
        {"login failed",
         M::LoginFailed{.kind = ErrorKind::ConnectRefused},
         {"", "failed", "", "", "", "", "", "", "", ""}},
        {"needs auth",
         M::LoginFailed{.kind = ErrorKind::NeedsAuth},
         {"", "needs_auth", "", "", "", "", "", "", "", ""}},
        {"master died", M::MasterDied{}, {"", "", "backoff", "backoff", "", "", "", "idle", "idle", "backoff"}},
        {"probe began", M::ProbeBegan{}, {"", "", "", "", "", "", "", "", "", ""}},
        {"probe answered", M::ProbeAnswered{}, {"", "", "", "up", "", "", "", "", "", ""}},
        {"no path", M::ProbeFailed{}, {"", "", "degraded", "backoff + retire master", "", "", "", "", "", ""}},
        {"no process",
         M::ProbeFailed{.level = ProbeLevel::Process},
         {"", "", "degraded", "degraded + kill master", "", "", "", "", "", ""}},
        {"woke up", M::WokeUp{}, {"", "", "", "", "", "", "", "", "", ""}},
        {"restore", M::RestoreAsked{}, {"connecting + restore", "", "", "", "", "", "", "", "", ""}},
        {"nothing to restore", M::NothingToRestore{}, {"", "backoff", "", "", "", "", "", "", "", ""}},
        {"one more session", M::RefsChanged{.refs = 2, .leases = 0}, {"", "", "", "", "", "", "", kEnd, "", ""}},
        {"one more lease", M::RefsChanged{.refs = 3, .leases = 2}, {"", "", "", "", "", "", "", "", "", ""}},
        {"no refs", M::RefsChanged{}, {"", "", "", "", "idle", "", "", kEnd, "", ""}},
        {"disconnect", M::DisconnectAsked{}, {"idle", "idle", kEnd, kEnd, "idle", "idle", "idle", "", "", "draining"}},
        {"disconnect, force",
         M::DisconnectAsked{.force = true},
         {"idle", "idle", kEnd, kEnd, "idle", "idle", "idle", kEnd, "", "draining"}},
        {"time came", M::TimeCame{}, {"", "", "", "", kLogIn, "", "", "", "", ""}},
    };
    return rows;
}

TEST(ConnectionMachine, FollowsItsTable) {
    for (const Row& row : table()) {
        for (std::size_t i = 0; i < row.outcomes.size(); ++i) {
            if (row.outcomes[i] == "-") {
                continue;
            }
            Subject subject = subject_in(static_cast<Start>(i));
            const std::string before = describe(subject.state(), Action::None);
            // Past every retry, before the end of any linger.
            subject.now += 1min;
            const Action action = subject.on(row.event);
            EXPECT_EQ(describe(subject.state(), action), row.outcomes[i].empty() ? before : row.outcomes[i])
                << before << ", " << row.name;
        }
    }
}

// Whatever comes in whatever order: no state without its way out, and one master at most that takes new work.
TEST(ConnectionMachine, ActsSoundlyInEveryOrderOfFiveEvents) {
    const std::vector<M::Event> events = {
        M::Wanted{},          M::LoggedIn{},
        M::LoginFailed{},     M::MasterDied{},
        M::ProbeFailed{},     M::ProbeFailed{.level = ProbeLevel::Process},
        M::RestoreAsked{},    M::NothingToRestore{},
        M::RefsChanged{},     M::RefsChanged{.refs = 1, .leases = 0},
        M::DisconnectAsked{}, M::DisconnectAsked{.force = true},
        M::TimeCame{},        M::RefsChanged{.refs = 1, .leases = 1},
    };
    const std::size_t orders = events.size() * events.size() * events.size() * events.size() * events.size();
    enum class Trying { Nothing, ALogin, ARestore };
    for (std::size_t order = 0; order < orders; ++order) {
        Subject subject;
        subject.settings.unhealthy_after = 1;
        Trying trying = Trying::Nothing;
        bool master = false;
        bool ending = false;
        std::size_t rest = order;
        for (int step = 0; step < 5; ++step, rest /= events.size()) {
            const M::Event& event = events[rest % events.size()];
            subject.now += 20min;
            // What the driver of the machine does not send.
            const bool got_master = std::holds_alternative<M::LoggedIn>(event);
            const bool login_failed = std::holds_alternative<M::LoginFailed>(event);
            const bool found_none = std::holds_alternative<M::NothingToRestore>(event);
            const bool died = std::holds_alternative<M::MasterDied>(event);
            if ((got_master && trying == Trying::Nothing) || (login_failed && trying != Trying::ALogin) ||
                (found_none && trying != Trying::ARestore) || (died && !master)) {
                continue;
            }
            const Action action = subject.on(event);
            if (got_master || login_failed || found_none) {
                trying = Trying::Nothing;
                master = got_master;
            } else if (died) {
                master = ending = false;
            }
            if (subject.state() != State::Connecting) {
                trying = Trying::Nothing;  // the driver ends it itself
            }
            if (action == Action::RetireMaster || action == Action::ReplaceMaster) {
                ASSERT_TRUE(master && !ending) << order;
                master = false;
            }
            if (action == Action::LogIn || action == Action::Restore || action == Action::ReplaceMaster) {
                ASSERT_FALSE(trying != Trying::Nothing || master) << order;
                ASSERT_EQ(subject.state(), State::Connecting) << order;
                trying = action == Action::Restore ? Trying::ARestore : Trying::ALogin;
            } else if (action == Action::EndMaster || action == Action::KillMaster) {
                ASSERT_TRUE(master && !ending) << order;
                ending = true;
            }
            const State state = subject.state();
            const bool has_master = state == State::Up || state == State::Degraded || state == State::Draining;
            ASSERT_EQ(has_master, master) << order;
            ASSERT_EQ(state == State::Connecting, trying != Trying::Nothing) << order;
            ASSERT_EQ(subject.machine.probe_at().has_value(), master && !ending) << order;
            if (state == State::Backoff) {
                ASSERT_TRUE(subject.machine.deadline()) << order;
            }
        }
    }
}

TEST(ConnectionMachine, BeginsIdle) {
    const Subject subject;
    EXPECT_EQ(subject.state(), State::Idle);
    EXPECT_FALSE(subject.machine.deadline());
    EXPECT_EQ(subject.machine.handshakes(), 0U);
    EXPECT_EQ(subject.machine.reconnects(), 0U);
}

TEST(ConnectionMachine, TellsSinceWhenItIsInItsState) {
    Subject subject;
    subject.now += 1s;
    subject.on(M::Wanted{});
    EXPECT_EQ(subject.machine.since(), subject.now);
    const Instant connecting = subject.now;
    subject.now += 1s;
    subject.on(M::Wanted{});
    subject.refs(1);
    EXPECT_EQ(subject.machine.since(), connecting);
    subject.on(M::LoggedIn{});
    EXPECT_EQ(subject.machine.since(), subject.now);
}

TEST(ConnectionMachineLinger, StartsWhenTheLastRefGoes) {
    Subject subject;
    subject.refs(2, 1);
    subject.up();
    EXPECT_FALSE(subject.left());
    subject.now += 1h;
    subject.refs(1);
    EXPECT_FALSE(subject.left());
    subject.refs(0);
    EXPECT_EQ(subject.left(), kLinger);
    subject.now += 1min;
    subject.refs(0);
    EXPECT_EQ(subject.left(), kLinger - 1min) << "told twice";
    subject.refs(1);
    EXPECT_FALSE(subject.left());
}

TEST(ConnectionMachineLinger, StartsWithALoginThatNobodyHolds) {
    Subject subject;
    subject.up();
    EXPECT_EQ(subject.left(), kLinger);
}

TEST(ConnectionMachineLinger, EndsTheMasterOnTime) {
    Subject subject;
    subject.up();
    subject.now += kLinger - 1ns;
    EXPECT_EQ(subject.on(M::TimeCame{}), Action::None);
    EXPECT_EQ(subject.state(), State::Up);
    subject.now += 1ns;
    EXPECT_EQ(subject.on(M::TimeCame{}), Action::EndMaster);
    EXPECT_EQ(subject.state(), State::Draining);
    EXPECT_FALSE(subject.left());
    subject.on(M::MasterDied{});
    EXPECT_EQ(subject.state(), State::Idle);
}

TEST(ConnectionMachineLinger, IsForEverWithoutAPersist) {
    Subject subject;
    subject.settings.linger = std::nullopt;
    subject.up();
    EXPECT_FALSE(subject.left());
    subject.refs(1);
    subject.refs(0);
    EXPECT_FALSE(subject.left());
    subject.now += std::chrono::hours(24 * 365);
    EXPECT_EQ(subject.on(M::TimeCame{}), Action::None);
    EXPECT_EQ(subject.state(), State::Up);
}

TEST(ConnectionMachineLinger, OfZeroEndsTheMasterAtOnce) {
    Subject subject;
    subject.settings.linger = 0s;
    subject.refs(1);
    subject.up();
    subject.refs(0);
    EXPECT_EQ(subject.left(), 0s);
    EXPECT_EQ(subject.on(M::TimeCame{}), Action::EndMaster);
}

TEST(ConnectionMachineLinger, IsNotForAPinnedConnection) {
    Subject subject(true);
    subject.up();
    EXPECT_FALSE(subject.left());
    subject.refs(1);
    subject.refs(0);
    EXPECT_FALSE(subject.left());
}

TEST(ConnectionMachineLinger, BeginsWhenTheConnectionIsNotPinnedAnyMore) {
    Subject subject(true);
    subject.up();
    subject.on(M::Pinned{.on = false});
    EXPECT_EQ(subject.left(), kLinger);
    subject.refs(1);
    EXPECT_FALSE(subject.left());
}

// Otherwise a path that comes and goes would keep a master that nobody needs.
TEST(ConnectionMachineLinger, IsOverWhenTheConnectionIsPinned) {
    Subject subject;
    subject.up();
    ASSERT_EQ(subject.left(), kLinger);
    subject.on(M::Pinned{});
    EXPECT_FALSE(subject.machine.deadline());
    subject.on(M::MasterDied{});
    EXPECT_EQ(subject.state(), State::Backoff);
}

TEST(ConnectionMachineLinger, RunsOnThroughGoodAndBadHealth) {
    Subject subject;
    subject.up();
    subject.now += 1min;
    subject.on(M::ProbeFailed{});
    ASSERT_EQ(subject.state(), State::Degraded);
    EXPECT_EQ(subject.left(), kLinger - 1min);
    subject.now += 1min;
    subject.on(M::ProbeAnswered{});
    ASSERT_EQ(subject.state(), State::Up);
    EXPECT_EQ(subject.left(), kLinger - 2min);
    subject.on(M::ProbeFailed{});
    subject.now += kLinger;
    EXPECT_EQ(subject.on(M::TimeCame{}), Action::EndMaster);
}

TEST(ConnectionMachineHealth, DegradesAtOnceAndActsAfterAsManyFailuresAsSet) {
    Subject subject;
    subject.settings.unhealthy_after = 3;
    subject.refs(1);
    subject.up();
    EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::None);
    EXPECT_EQ(subject.state(), State::Degraded);
    EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::None);
    subject.on(M::ProbeAnswered{});
    EXPECT_EQ(subject.state(), State::Up) << "one answer is enough";
    EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::None);
    EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::None) << "they must come in a row";
    EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::RetireMaster);
    EXPECT_EQ(subject.state(), State::Backoff);
}

TEST(ConnectionMachineHealth, ForgetsTheFailuresOfTheMasterBefore) {
    Subject subject;
    subject.refs(1);
    subject.up();
    subject.on(M::ProbeFailed{});
    subject.on(M::MasterDied{});
    subject.on(M::ProbeFailed{});
    subject.up();
    EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::None);
    EXPECT_EQ(subject.state(), State::Degraded);
}

// What was up is retried at once, and its death by then has taken its time.
TEST(ConnectionMachineHealth, ADeadPathIsRetriedWithinTheFirstDelay) {
    Subject subject;
    subject.refs(1);
    subject.up();
    subject.now += 30s;
    subject.on(M::ProbeFailed{});
    subject.on(M::ProbeFailed{});
    EXPECT_EQ(subject.left(), 250ms);
    subject.now += 250ms;
    EXPECT_EQ(subject.on(M::TimeCame{}), Action::LogIn);
    subject.on(M::LoggedIn{});
    EXPECT_EQ(subject.machine.reconnects(), 1U);
}

TEST(ConnectionMachineHealth, ADeadPathThatNobodyNeedsIsEnded) {
    Subject subject;
    subject.up();
    subject.on(M::ProbeFailed{});
    EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::EndMaster);
    EXPECT_EQ(subject.state(), State::Draining);
    subject.on(M::MasterDied{});
    EXPECT_EQ(subject.state(), State::Idle);
}

TEST(ConnectionMachineHealth, AMasterIsKilledOnce) {
    Subject subject;
    subject.up();
    subject.killing();
    EXPECT_EQ(subject.on(M::ProbeFailed{.level = ProbeLevel::Process}), Action::None);
    EXPECT_EQ(subject.on(M::DisconnectAsked{.force = true}), Action::None);
    subject.now += kLinger;
    EXPECT_EQ(subject.on(M::TimeCame{}), Action::None);
    EXPECT_FALSE(subject.machine.probe_at());
    subject.on(M::MasterDied{});
    EXPECT_EQ(subject.state(), State::Idle);
}

TEST(ConnectionMachineHealth, ADrainedMasterIsKilledWhereItDoesNotAnswerAndElseLeftToItsLeases) {
    Subject subject;
    subject.refs(1, 1);
    subject.up();
    subject.on(M::DisconnectAsked{});
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(subject.on(M::ProbeFailed{}), Action::None);
    }
    EXPECT_EQ(subject.on(M::ProbeFailed{.level = ProbeLevel::Process}), Action::KillMaster);
    EXPECT_EQ(subject.state(), State::Draining);
    EXPECT_EQ(subject.on(M::RefsChanged{}), Action::None);
}

TEST(ConnectionMachineProbes, ComeInTimeAndJitterOnlyShortens) {
    EXPECT_EQ(probe_delay(15s, 0.0), Duration(15s));
    EXPECT_EQ(probe_delay(15s, 0.5), Duration(13500ms));
    EXPECT_GE(probe_delay(15s, 0.999), Duration(12s));
}

TEST(ConnectionMachineProbes, AreCountedFromTheBeginOfTheLast) {
    Subject subject;
    subject.settings.health_interval = 10s;
    EXPECT_FALSE(subject.machine.probe_at());
    subject.up();
    EXPECT_EQ(subject.machine.probe_at(), subject.now + 9s);
    subject.now += 9s;
    subject.on(M::ProbeBegan{});
    EXPECT_EQ(subject.machine.probe_at(), subject.now + 9s);
    subject.now += 5s;
    subject.on(M::ProbeFailed{});
    EXPECT_EQ(subject.machine.probe_at(), subject.now + 4s);
    subject.on(M::MasterDied{});
    EXPECT_FALSE(subject.machine.probe_at());
}

TEST(ConnectionMachineWakeUp, ProbesWhatIsUpAndSpreadsWhatIsToBeRetried) {
    Subject subject;
    subject.refs(1);
    subject.up();
    subject.now += 1s;
    subject.on(M::WokeUp{});
    EXPECT_EQ(subject.machine.probe_at(), subject.now);
    subject.on(M::MasterDied{});
    for (int i = 0; i < 6; ++i) {
        subject.on(M::Wanted{});
        subject.on(M::LoginFailed{});
    }
    ASSERT_GT(subject.left(), 10s);
    subject.on(M::WokeUp{}, 0.2);
    EXPECT_EQ(subject.left(), 100ms);
    subject.on(M::WokeUp{}, 0.9);
    EXPECT_EQ(subject.left(), 100ms) << "never later than it was";
}

TEST(ConnectionMachineRestore, IsNeitherAHandshakeNorAReconnect) {
    Subject subject;
    subject.refs(1);
    EXPECT_EQ(subject.on(M::RestoreAsked{}), Action::Restore);
    subject.on(M::LoggedIn{.adopted = true, .restored = true});
    EXPECT_EQ(subject.state(), State::Up);
    EXPECT_EQ(subject.machine.handshakes(), 0U);
    EXPECT_EQ(subject.machine.reconnects(), 0U);
    subject.on(M::MasterDied{});
    subject.up();
    EXPECT_EQ(subject.machine.reconnects(), 1U);
}

TEST(ConnectionMachineRestore, WithoutAMasterIsARetryOfWhatWasUpOrNothing) {
    Subject needed;
    needed.refs(1);
    needed.on(M::RestoreAsked{});
    needed.on(M::NothingToRestore{});
    EXPECT_EQ(needed.state(), State::Backoff);
    EXPECT_EQ(needed.left(), 250ms);
    needed.now += 250ms;
    needed.on(M::TimeCame{});
    needed.on(M::LoginFailed{});
    EXPECT_EQ(needed.state(), State::Backoff) << "it goes on";

    Subject pinned(true);
    pinned.on(M::RestoreAsked{});
    pinned.on(M::NothingToRestore{});
    EXPECT_EQ(pinned.state(), State::Backoff);

    Subject unneeded;
    unneeded.on(M::RestoreAsked{});
    unneeded.on(M::NothingToRestore{});
    EXPECT_EQ(unneeded.state(), State::Idle);
    EXPECT_FALSE(unneeded.left());
}

TEST(ConnectionMachineRestore, LeavesWhatIsHeldBackUntilItIsWanted) {
    Subject held;
    held.refs(1);
    held.on(M::RestoreAsked{.held_back = true});
    held.on(M::NothingToRestore{});
    EXPECT_EQ(held.state(), State::Idle);
    EXPECT_TRUE(held.machine.held_back());
    EXPECT_EQ(held.on(M::Wanted{}), Action::LogIn);
    held.on(M::LoggedIn{});
    EXPECT_FALSE(held.machine.held_back());
}

TEST(ConnectionMachine, IsHeldBackByWhatNeedsAPersonAndByADisconnect) {
    Subject failed;
    failed.refs(1);
    failed.up();
    EXPECT_FALSE(failed.machine.held_back());
    failed.on(M::MasterDied{});
    failed.now += 250ms;
    failed.on(M::TimeCame{});
    failed.on(M::LoginFailed{.kind = ErrorKind::ConnectRefused});
    EXPECT_FALSE(failed.machine.held_back());
    failed.now += 1min;
    failed.on(M::TimeCame{});
    failed.on(M::LoginFailed{.kind = ErrorKind::AuthFailed});
    EXPECT_TRUE(failed.machine.held_back());

    Subject disconnected;
    disconnected.refs(1);
    disconnected.up();
    disconnected.on(M::DisconnectAsked{});
    EXPECT_TRUE(disconnected.machine.held_back());
}

TEST(ConnectionMachineLogin, FailsIntoAStateByWhoNeedsItAndWhy) {
    struct Case {
        bool was_up;
        bool held;
        bool pinned;
        ErrorKind kind;
        State state;
    };
    const Case cases[] = {
        // The first login: its caller hears of the failure and decides.
        {false, true, false, ErrorKind::ConnectTimeout, State::Failed},
        {false, false, false, ErrorKind::ConnectTimeout, State::Failed},
        {false, true, false, ErrorKind::NeedsAuth, State::NeedsAuth},
        // A reconnect for sessions, and prewarming, go on by themselves…
        {true, true, false, ErrorKind::ConnectTimeout, State::Backoff},
        {true, true, false, ErrorKind::DnsFailure, State::Backoff},
        {true, true, false, ErrorKind::MasterLost, State::Backoff},
        {false, false, true, ErrorKind::ConnectRefused, State::Backoff},
        {true, false, true, ErrorKind::ConnectRefused, State::Backoff},
        // …but not where a person has to do something.
        {true, true, false, ErrorKind::NeedsAuth, State::NeedsAuth},
        {true, true, false, ErrorKind::AuthFailed, State::Failed},
        {true, true, false, ErrorKind::HostKeyUnknown, State::Failed},
        {false, false, true, ErrorKind::HostKeyChanged, State::Failed},
        {false, false, true, ErrorKind::NeedsAuth, State::NeedsAuth},
    };
    for (const Case& c : cases) {
        Subject subject(c.pinned);
        subject.refs(1);
        if (c.was_up) {
            subject.backoff();
        }
        subject.on(M::Wanted{});
        subject.refs(c.held ? 1 : 0);
        EXPECT_EQ(subject.on(M::LoginFailed{.kind = c.kind}), Action::None);
        EXPECT_EQ(subject.state(), c.state) << c.was_up << c.held << c.pinned << error_info(c.kind).name;
        EXPECT_EQ(subject.left().has_value(), c.state == State::Backoff);
    }
}

TEST(ConnectionMachineLogin, IsNotWorthAReconnectAfterADisconnect) {
    Subject subject;
    subject.refs(1);
    subject.up();
    subject.on(M::DisconnectAsked{});
    subject.on(M::MasterDied{});
    EXPECT_EQ(subject.state(), State::Idle);
    subject.on(M::Wanted{});
    subject.on(M::LoginFailed{.kind = ErrorKind::ConnectTimeout});
    EXPECT_EQ(subject.state(), State::Failed);
}

TEST(ConnectionMachineBackoff, GrowsWithEachFailure) {
    Subject subject;
    subject.refs(1);
    subject.up();
    subject.now += 1min;
    subject.on(M::MasterDied{});
    for (const Duration wait : {250ms, 500ms, 1000ms, 2000ms, 4000ms, 8000ms, 16000ms, 30000ms, 30000ms}) {
        ASSERT_EQ(subject.state(), State::Backoff);
        EXPECT_EQ(subject.left(), wait);
        subject.now += wait - 1ns;
        EXPECT_EQ(subject.on(M::TimeCame{}), Action::None);
        subject.now += 1ns;
        EXPECT_EQ(subject.on(M::TimeCame{}), Action::LogIn);
        EXPECT_FALSE(subject.left());
        subject.on(M::LoginFailed{.kind = ErrorKind::ConnectRefused});
    }
}

TEST(ConnectionMachineBackoff, RetriesWhatWasUpAtOnceButForAMasterThatDiedYoung) {
    struct Case {
        Duration lived;
        Duration wait;  // after three failures
        Duration then;  // where that retry fails
    };
    for (const Case& c : {Case{0s, 2000ms, 8000ms}, Case{10s - 1ns, 2000ms, 8000ms}, Case{10s, 250ms, 4000ms},
                          Case{1min - 1ns, 250ms, 4000ms}, Case{1min, 250ms, 500ms}, Case{24h, 250ms, 500ms}}) {
        Subject subject;
        subject.refs(1);
        subject.up();
        subject.now += 1min;
        subject.on(M::MasterDied{});
        for (int failure = 0; failure < 3; ++failure) {
            subject.on(M::Wanted{});
            subject.on(M::LoginFailed{.kind = ErrorKind::ConnectRefused});
        }
        subject.up();
        subject.now += c.lived;
        subject.on(M::MasterDied{});
        EXPECT_EQ(subject.left(), c.wait) << c.lived.count();
        subject.on(M::Wanted{});
        subject.on(M::LoginFailed{.kind = ErrorKind::ConnectRefused});
        EXPECT_EQ(subject.left(), c.then) << c.lived.count();
    }
}

TEST(ConnectionMachineBackoff, IsForgottenWithTheLastRef) {
    Subject subject;
    subject.refs(1);
    subject.backoff();
    subject.refs(0);
    EXPECT_EQ(subject.state(), State::Idle);
    EXPECT_FALSE(subject.left());
    subject.refs(1);
    subject.up();
    subject.now += 30s;
    subject.on(M::MasterDied{});
    EXPECT_EQ(subject.left(), 250ms);
}

TEST(ConnectionMachineBackoff, StaysForAPinnedConnectionWithoutRefs) {
    Subject subject(true);
    subject.refs(1);
    subject.backoff();
    subject.refs(0);
    EXPECT_EQ(subject.state(), State::Backoff);
}

TEST(ConnectionMachine, GoesIdleWhereNobodyNeedsTheMasterThatDied) {
    Subject subject;
    subject.refs(1);
    subject.up();
    subject.refs(0);
    subject.on(M::MasterDied{});
    EXPECT_EQ(subject.state(), State::Idle);
    EXPECT_FALSE(subject.left());
}

TEST(ConnectionMachine, DrainsUntilTheLastLeaseWhateverTheSessions) {
    Subject subject;
    subject.refs(2, 2);
    subject.up();
    EXPECT_EQ(subject.on(M::DisconnectAsked{}), Action::None);
    EXPECT_EQ(subject.state(), State::Draining);
    EXPECT_EQ(subject.on(M::RefsChanged{.refs = 3, .leases = 1}), Action::None);
    EXPECT_EQ(subject.on(M::RefsChanged{.refs = 2, .leases = 0}), Action::EndMaster);
    EXPECT_EQ(subject.on(M::RefsChanged{.refs = 0, .leases = 0}), Action::None) << "it was told already";
    EXPECT_EQ(subject.on(M::DisconnectAsked{.force = true}), Action::None);
}

TEST(ConnectionMachine, NewWorkDoesNotWaitForTheLeasesOfADrainedMaster) {
    Subject subject;
    subject.refs(2, 1);
    subject.up();
    subject.on(M::DisconnectAsked{});
    EXPECT_EQ(subject.on(M::Wanted{}), Action::ReplaceMaster);
    EXPECT_EQ(subject.state(), State::Connecting);
    subject.on(M::LoggedIn{});
    EXPECT_EQ(subject.machine.reconnects(), 0U) << "a disconnect was asked for";
    EXPECT_EQ(subject.on(M::RefsChanged{.refs = 2, .leases = 0}), Action::None) << "the old one is not ours";
}

TEST(ConnectionMachine, TellsTheNextMasterToEndToo) {
    Subject subject;
    for (int round = 0; round < 3; ++round) {
        subject.up();
        EXPECT_EQ(subject.on(M::DisconnectAsked{}), Action::EndMaster);
        subject.on(M::MasterDied{});
        EXPECT_EQ(subject.state(), State::Idle);
    }
}

TEST(ConnectionMachine, CountsHandshakesAndReconnects) {
    Subject subject;
    subject.refs(1);
    const auto counts = [&] { return std::pair(subject.machine.handshakes(), subject.machine.reconnects()); };
    subject.up();
    EXPECT_EQ(counts(), std::pair(1UL, 0UL));
    subject.on(M::MasterDied{});
    subject.on(M::Wanted{});
    subject.on(M::LoginFailed{});
    EXPECT_EQ(counts(), std::pair(1UL, 0UL)) << "a failed login";
    subject.up();
    EXPECT_EQ(counts(), std::pair(2UL, 1UL));
    subject.on(M::MasterDied{});
    subject.on(M::Wanted{});
    subject.on(M::LoggedIn{.adopted = true});
    EXPECT_EQ(counts(), std::pair(2UL, 2UL)) << "an adopted master costs no handshake";
    subject.on(M::DisconnectAsked{});
    subject.on(M::MasterDied{});
    subject.up();
    EXPECT_EQ(counts(), std::pair(3UL, 2UL)) << "a disconnect was asked for";
}

TEST(NeedsAPerson, IsForWhatARetryWouldMeetAgain) {
    for (const ErrorKind kind :
         {ErrorKind::NeedsAuth, ErrorKind::AuthFailed, ErrorKind::HostKeyUnknown, ErrorKind::HostKeyChanged}) {
        EXPECT_TRUE(needs_a_person(kind)) << error_info(kind).name;
    }
    for (const ErrorKind kind : {ErrorKind::DnsFailure, ErrorKind::ConnectRefused, ErrorKind::ConnectTimeout,
                                 ErrorKind::ConnectFailed, ErrorKind::MasterLost, ErrorKind::Timeout}) {
        EXPECT_FALSE(needs_a_person(kind)) << error_info(kind).name;
    }
}

}  // namespace
}  // namespace cmssh
