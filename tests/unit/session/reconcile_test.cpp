// Every cell of: what is known of a session × what the server's tmux says of it.
#include "daemon/session/reconcile.hpp"

#include <gmock/gmock.h>

namespace cmssh {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using State = api::SessionState;

const tmux::ServerLife kLife{.boot_id = "boot-1", .tmux = "100 1700000000"};

enum class Pane { Alive, Dead, StatusPending };

tmux::PaneRow pane(Pane what, const std::string& id = "sess-a", const std::string& pane_id = "%1") {
    tmux::PaneRow row;
    row.session_id = id;
    row.place = {.pane_id = pane_id, .window_id = "@1", .pane_pid = 4000};
    row.dead = what != Pane::Alive;
    if (what == Pane::Dead) {
        row.exit_status = 3;
    }
    return row;
}

KnownSession session(State state) {
    KnownSession known;
    known.id = "sess-a";
    known.state = state;
    known.pane_id = "%1";
    known.life = kLife;
    return known;
}

KnownSession intent(State state = State::Starting) {
    KnownSession known = session(state);
    known.pane_id.clear();
    known.life = {};
    return known;
}

std::string text(const Action& action) {
    struct Name {
        std::string operator()(const Adopt& a) const { return "adopt " + a.row.session_id + ' ' + a.row.place.pane_id; }
        std::string operator()(const SetRunning& a) const { return "running " + a.id; }
        std::string operator()(const CarryOutKill& a) const { return "kill " + a.id; }
        std::string operator()(const AwaitStatus&) const { return "look again"; }
        std::string operator()(const Finish& a) const { return "finish " + a.id; }
        std::string operator()(const RemovePane& a) const { return "remove " + a.place.pane_id; }
        std::string operator()(const Lose& a) const { return "lose " + a.id + ": " + std::string(a.reason); }
        std::string operator()(const ConfirmKill& a) const { return "killed " + a.id; }
    };
    return std::visit(Name{}, action);
}

std::vector<std::string> decide(const std::vector<KnownSession>& known, const std::vector<tmux::PaneRow>& panes,
                                bool complete = true, const tmux::ServerLife& life = kLife) {
    std::vector<std::string> texts;
    for (const auto& action : reconcile(known, {.life = life, .complete = complete, .panes = panes})) {
        texts.push_back(text(action));
    }
    return texts;
}

std::string lost(std::string_view reason) {
    return "lose sess-a: " + std::string(reason);
}

TEST(Reconcile, AnUnknownSessionOfOursIsAdopted) {
    EXPECT_THAT(decide({}, {pane(Pane::Alive)}), ElementsAre("adopt sess-a %1", "running sess-a"));
}

TEST(Reconcile, AnUnknownSessionThatEndedIsAdoptedAndItsEndRead) {
    EXPECT_THAT(decide({}, {pane(Pane::Dead)}), ElementsAre("adopt sess-a %1", "finish sess-a"));
    EXPECT_THAT(decide({}, {pane(Pane::StatusPending)}), ElementsAre("adopt sess-a %1", "look again"));
}

TEST(Reconcile, ASessionThatIsNotNamedAsOursAreIsLeftAlone) {
    EXPECT_THAT(decide({}, {pane(Pane::Alive, "job"), pane(Pane::Dead, "other", "%2")}), IsEmpty());
}

TEST(Reconcile, OfAnUnknownSessionTheFirstPaneIsTheSession) {
    EXPECT_THAT(decide({}, {pane(Pane::Alive, "sess-a", "%10"), pane(Pane::Dead, "sess-a", "%9")}),
                ElementsAre("adopt sess-a %9", "finish sess-a"));
}

TEST(Reconcile, AStartNotAnsweredThatArrivedRuns) {
    EXPECT_THAT(decide({intent()}, {pane(Pane::Alive)}), ElementsAre("running sess-a"));
}

TEST(Reconcile, AStartNotAnsweredThatArrivedAndEndedIsFinished) {
    EXPECT_THAT(decide({intent()}, {pane(Pane::Dead)}), ElementsAre("finish sess-a"));
    EXPECT_THAT(decide({intent()}, {pane(Pane::StatusPending)}), ElementsAre("look again"));
}

TEST(Reconcile, AStartThatNeverArrivedIsLostAndNotRunByItself) {
    EXPECT_THAT(decide({intent()}, {}), ElementsAre(lost(kNeverStarted)));
}

TEST(Reconcile, AStartThatWasGivenUpAndArrivesAllTheSameIsShownAsItIs) {
    EXPECT_THAT(decide({intent(State::Lost)}, {pane(Pane::Alive)}), ElementsAre("running sess-a"));
    EXPECT_THAT(decide({intent(State::Lost)}, {pane(Pane::Dead)}), ElementsAre("finish sess-a"));
    EXPECT_THAT(decide({intent(State::Lost)}, {}), IsEmpty());
}

TEST(Reconcile, ACallThatIsAtItDecidesItself) {
    auto known = intent();
    known.being_started = true;
    EXPECT_THAT(decide({known}, {}), IsEmpty());
    EXPECT_THAT(decide({known}, {pane(Pane::Alive)}), IsEmpty());
    EXPECT_THAT(decide({known}, {pane(Pane::Dead)}), ElementsAre("look again"));
}

TEST(Reconcile, WhatRunsThereRuns) {
    EXPECT_THAT(decide({session(State::Running)}, {pane(Pane::Alive)}), ElementsAre("running sess-a"));
    EXPECT_THAT(decide({session(State::Unreachable)}, {pane(Pane::Alive)}), ElementsAre("running sess-a"));
}

TEST(Reconcile, WhatEndedWhileAwayIsFinished) {
    EXPECT_THAT(decide({session(State::Running)}, {pane(Pane::Dead)}), ElementsAre("finish sess-a"));
    EXPECT_THAT(decide({session(State::Unreachable)}, {pane(Pane::Dead)}), ElementsAre("finish sess-a"));
    EXPECT_THAT(decide({session(State::Unreachable)}, {pane(Pane::StatusPending)}), ElementsAre("look again"));
}

TEST(Reconcile, WhatIsGoneIsLostWithTheReason) {
    const auto known = session(State::Unreachable);
    EXPECT_THAT(decide({known}, {}), ElementsAre(lost(kGone)));
    EXPECT_THAT(decide({known}, {}, true, {.boot_id = "boot-1", .tmux = "200 1700000100"}),
                ElementsAre(lost(kTmuxServerGone)));
    EXPECT_THAT(decide({known}, {}, true, {.boot_id = "boot-2", .tmux = "100 1700000100"}),
                ElementsAre(lost(kRebooted)));
    // A server that has no boot id to tell.
    EXPECT_THAT(decide({known}, {}, true, {.boot_id = "", .tmux = "200 1700000100"}),
                ElementsAre(lost(kTmuxServerGone)));
}

TEST(Reconcile, AListOfDeadPanesSaysNothingOfWhatIsMissing) {
    EXPECT_THAT(decide({session(State::Running), intent()}, {}, false), IsEmpty());
}

TEST(Reconcile, ASessionYoungerThanTheListIsNotMissing) {
    auto known = session(State::Running);
    known.was_asked_about = false;
    EXPECT_THAT(decide({known}, {}), IsEmpty());
}

TEST(Reconcile, AKillAskedForWhileUnreachableIsCarriedOut) {
    auto known = session(State::Unreachable);
    known.kill_pending = true;
    EXPECT_THAT(decide({known}, {pane(Pane::Alive)}), ElementsAre("running sess-a", "kill sess-a"));
    // It ended by itself before: that is what happened.
    EXPECT_THAT(decide({known}, {pane(Pane::Dead)}), ElementsAre("finish sess-a"));
    EXPECT_THAT(decide({known}, {}), ElementsAre(lost(kGone)));
}

TEST(Reconcile, AKillWhoseAnswerWasLostWasCarriedOutWhereTheSessionIsGone) {
    auto known = session(State::Unreachable);
    known.hangup_sent = true;
    EXPECT_THAT(decide({known}, {}), ElementsAre("killed sess-a"));
    EXPECT_THAT(decide({known}, {pane(Pane::Alive)}), ElementsAre("running sess-a"));
    EXPECT_THAT(decide({known}, {pane(Pane::Dead)}), ElementsAre("finish sess-a"));
}

TEST(Reconcile, WhatIsCommittedAsEndedIsRemovedThere) {
    for (const State state : {State::Exited, State::Killed, State::Lost}) {
        EXPECT_THAT(decide({session(state)}, {pane(Pane::Dead)}), ElementsAre("remove %1"));
        EXPECT_THAT(decide({session(state)}, {pane(Pane::Alive)}), ElementsAre("remove %1"));
        EXPECT_THAT(decide({session(state)}, {}), IsEmpty());
    }
}

TEST(Reconcile, AForgottenStartIsRemovedWhereItArrives) {
    auto known = intent(State::Lost);
    known.forgotten = true;
    EXPECT_THAT(decide({known}, {pane(Pane::Alive)}), ElementsAre("remove %1"));
}

TEST(Reconcile, APaneThatAPersonMadeBesideOursIsNotTheSession) {
    const auto beside = pane(Pane::Dead, "sess-a", "%7");
    EXPECT_THAT(decide({session(State::Running)}, {pane(Pane::Alive), beside}), ElementsAre("running sess-a"));
    EXPECT_THAT(decide({session(State::Exited)}, {pane(Pane::Dead), beside}), ElementsAre("remove %1"));
}

TEST(Reconcile, ASessionWhoseOwnPaneWasClosedIsLostThoughAnotherIsOpen) {
    EXPECT_THAT(decide({session(State::Running)}, {pane(Pane::Alive, "sess-a", "%7")}), ElementsAre(lost(kGone)));
}

TEST(Reconcile, SessionsDoNotMeddleWithEachOther) {
    auto other = session(State::Running);
    other.id = "sess-b";
    other.pane_id = "%2";
    EXPECT_THAT(
        decide({session(State::Running), other}, {pane(Pane::Dead), pane(Pane::Alive, "sess-c", "%3")}),
        ElementsAre("finish sess-a", "adopt sess-c %3", "running sess-c", "lose sess-b: " + std::string(kGone)));
}

}  // namespace
}  // namespace cmssh
