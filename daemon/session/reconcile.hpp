// What to do about each session once a server's tmux has said what it has: the sessions known here against the panes
// seen there. It decides; Sessions acts. Pure.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/tmux/tmux_commands.hpp"
#include "protocol/methods.hpp"

namespace cmssh {

// Reasons of lost sessions, as the API tells them.
inline constexpr std::string_view kForgotten = "forgotten at the user's wish";
inline constexpr std::string_view kNeverStarted = "the server's tmux never got it";
inline constexpr std::string_view kRebooted = "the server was rebooted";
inline constexpr std::string_view kTmuxServerGone = "the tmux server that had it is gone";
inline constexpr std::string_view kGone = "it is gone from the server's tmux";

// Why nothing is left of what was in another life of the server's tmux.
[[nodiscard]] std::string_view why_gone(const tmux::ServerLife& then, const tmux::ServerLife& now);

// What is known here of one session on the server, as far as it decides.
struct KnownSession {
    std::string id;
    api::SessionState state = api::SessionState::Running;
    std::string pane_id;          // empty: tmux has never said that it has the session
    tmux::ServerLife life;        // in which life of the server's tmux it was asked for, or seen last
    bool being_started = false;   // a call is at it, and decides itself
    bool was_asked_about = true;  // known before the list was asked for: that it is missing means something
    bool forgotten = false;
    bool hangup_sent = false;  // our kill was sent; whether it arrived is not known
    bool kill_pending = false;
};

// Its end is a guess, not a report: tmux never confirmed it, and may have got it late.
[[nodiscard]] bool may_come_back(const KnownSession& session);

struct Listing {
    tmux::ServerLife life;
    bool complete = false;  // false: dead panes only, nothing is said of what is missing
    std::vector<tmux::PaneRow> panes;
};

// An unknown session of ours: remember it as running. What else there is to do about it follows as its own action.
struct Adopt {
    tmux::PaneRow row;
};
struct SetRunning {
    std::string id;
    tmux::PaneRow row;
};
struct CarryOutKill {
    std::string id;
};
// Dead, and tmux has not collected its status yet: look again.
struct AwaitStatus {};
// It ended by itself: read its last screen, commit, and only then let tmux remove it.
struct Finish {
    std::string id;
    tmux::PaneRow row;
};
// Its end is committed already.
struct RemovePane {
    std::string session_id;
    tmux::Started place;
};
struct Lose {
    std::string id;
    std::string_view reason;
};
// Our kill, whose answer was lost, was carried out.
struct ConfirmKill {
    std::string id;
};
using Action = std::variant<Adopt, SetRunning, CarryOutKill, AwaitStatus, Finish, RemovePane, Lose, ConfirmKill>;

// At most one row per pane. In the order of the panes, then of the sessions that are missing.
[[nodiscard]] std::vector<Action> reconcile(const std::vector<KnownSession>& known, const Listing& listing);

}  // namespace cmssh
