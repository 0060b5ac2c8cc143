// What the registry keeps: plain data, between Registry and those who use it. Environment values are in none of it.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/pool/stored_connection.hpp"
#include "daemon/session/pending_kill.hpp"
#include "daemon/tmux/tmux_commands.hpp"
#include "protocol/methods.hpp"

namespace cmssh {

// A session as it is remembered.
struct StoredSession {
    api::Session view;  // view.server.key is the connection's key
    std::int64_t created_ms = 0;
    std::int64_t ended_ms = 0;   // 0: not ended
    std::string request_id;      // empty: none
    tmux::Started place;         // empty ids: tmux has never said that it has the session
    tmux::ServerLife life;       // of the server's tmux, when it was asked for or seen there last
    std::set<int> signals_sent;  // by our kill
    PendingKill pending_kill;
};
// What the server's tmux is to keep about it.
[[nodiscard]] inline tmux::SessionNote note_of(const StoredSession& session) {
    tmux::SessionNote note;
    note.name = session.view.name;
    note.ctx = session.view.ctx;
    note.command = session.view.command;
    note.cwd = session.view.cwd;
    note.created_ms = session.created_ms;
    note.request_id = session.request_id;
    return note;
}

struct StoredForward {
    api::Forward view;   // of its server, the key alone
    std::string listen;  // as its master was asked: the server may have chosen the port that the view tells
};

struct StoredContents {
    std::list<StoredSession> sessions;  // oldest first; each is more than a kilobyte to move
    std::vector<StoredConnection> connections;
    std::vector<StoredForward> forwards;
};

// What a commit survives: the death of the process, or also that of the machine (one fsync more).
enum class Durability { Process, Power };

// What a file does not have yet: the latest value of each entry, nullopt for one that is removed.
struct StoredChanges {
    std::map<std::string, std::optional<StoredSession>, std::less<>> sessions;        // by id
    std::map<std::string, std::optional<std::string>, std::less<>> screens;           // by the session's id
    std::map<std::string, std::optional<StoredConnection>, std::less<>> connections;  // by the key's text
    std::map<std::string, std::optional<StoredForward>, std::less<>> forwards;        // by id
    Durability durability = Durability::Process;

    [[nodiscard]] bool empty() const {
        return sessions.empty() && screens.empty() && connections.empty() && forwards.empty();
    }
    [[nodiscard]] std::size_t size() const { return sessions.size() + connections.size() + forwards.size(); }
};

}  // namespace cmssh
