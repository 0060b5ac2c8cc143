#include "daemon/session/reconcile.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "protocol/names.hpp"

namespace cmssh {
namespace {

// Of "%12": panes of a session are numbered in the order in which they were made.
int pane_number(const tmux::PaneRow& row) {
    const std::string& id = row.place.pane_id;
    int number = 0;
    std::from_chars(id.data() + 1, id.data() + id.size(), number);
    return number;
}

// The panes of ours: of a session that is not known, the first that was made. A person may have made others beside it.
std::vector<const tmux::PaneRow*> own_panes(const std::vector<tmux::PaneRow>& panes,
                                            const std::map<std::string_view, const KnownSession*>& known) {
    std::map<std::string_view, const tmux::PaneRow*> first;
    for (const auto& row : panes) {
        auto& oldest = first[row.session_id];
        if (oldest == nullptr || pane_number(row) < pane_number(*oldest)) {
            oldest = &row;
        }
    }
    std::vector<const tmux::PaneRow*> own;
    for (const auto& row : panes) {
        const auto found = known.find(row.session_id);
        const bool confirmed = found != known.end() && !found->second->pane_id.empty();
        if (confirmed ? row.place.pane_id == found->second->pane_id : first[row.session_id] == &row) {
            own.push_back(&row);
        }
    }
    return own;
}

void about_pane(const tmux::PaneRow& row, bool kill_pending, std::vector<Action>& actions) {
    if (row.status_pending()) {
        actions.emplace_back(AwaitStatus{});
    } else if (row.dead) {
        actions.emplace_back(Finish{row.session_id, row});
    } else {
        actions.emplace_back(SetRunning{row.session_id, row});
        if (kill_pending) {
            actions.emplace_back(CarryOutKill{row.session_id});
        }
    }
}

std::string_view why_it_is_missing(const KnownSession& session, const tmux::ServerLife& now) {
    if (!session.life.tmux.empty() && session.life != now) {
        return why_gone(session.life, now);
    }
    return session.pane_id.empty() ? kNeverStarted : kGone;
}

}  // namespace

bool may_come_back(const KnownSession& session) {
    return session.state == api::SessionState::Lost && session.pane_id.empty() && !session.forgotten;
}

std::string_view why_gone(const tmux::ServerLife& then, const tmux::ServerLife& now) {
    const bool rebooted = !then.boot_id.empty() && !now.boot_id.empty() && then.boot_id != now.boot_id;
    return rebooted ? kRebooted : kTmuxServerGone;
}

std::vector<Action> reconcile(const std::vector<KnownSession>& known, const Listing& listing) {
    std::map<std::string_view, const KnownSession*> by_id;
    for (const auto& session : known) {
        by_id[session.id] = &session;
    }
    std::vector<Action> actions;
    std::set<std::string_view> seen;
    for (const tmux::PaneRow* row : own_panes(listing.panes, by_id)) {
        seen.insert(row->session_id);
        const auto found = by_id.find(row->session_id);
        if (found == by_id.end()) {
            if (row->session_id.starts_with(kSessionIdPrefix)) {
                actions.emplace_back(Adopt{*row});
                about_pane(*row, false, actions);
            }
            continue;
        }
        const KnownSession& session = *found->second;
        if (session.being_started) {
            if (row->dead) {
                actions.emplace_back(AwaitStatus{});
            }
        } else if (api::ended(session.state) && !may_come_back(session)) {
            actions.emplace_back(RemovePane{row->session_id, row->place});
        } else {
            about_pane(*row, session.kill_pending, actions);
        }
    }
    if (!listing.complete) {
        return actions;
    }
    for (const auto& session : known) {
        if (seen.contains(session.id) || api::ended(session.state) || session.being_started ||
            !session.was_asked_about) {
            continue;
        }
        if (session.hangup_sent) {
            actions.emplace_back(ConfirmKill{session.id});
        } else {
            actions.emplace_back(Lose{session.id, why_it_is_missing(session, listing.life)});
        }
    }
    return actions;
}

}  // namespace cmssh
