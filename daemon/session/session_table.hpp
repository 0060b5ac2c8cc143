// The sessions that this daemon knows, and how a word names one of them. No I/O: Sessions keeps the registry in step.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/base/event.hpp"
#include "daemon/pool/connection.hpp"
#include "daemon/session/stored.hpp"
#include "protocol/methods.hpp"
#include "protocol/result.hpp"

namespace cmssh {

// What is remembered of a session, and what this life of the daemon has of it beside.
struct SessionRecord : StoredSession {
    explicit SessionRecord(Clock& clock) : changed(clock) {}
    SessionRecord(Clock& clock, StoredSession stored) : StoredSession(std::move(stored)), changed(clock) {}

    Connection* connection = nullptr;  // until it has ended; the hold keeps it alive
    Hold hold;
    bool being_started = false;             // a call is at it: nobody else decides about its state
    int kills_under_way = 0;                // by kill-session: the pending one is not carried out beside them
    bool tmux_asked = false;                // of this start: it may run
    bool cancelled = false;                 // killed before tmux was asked
    std::optional<Error> start_error = {};  // why it is no session; for who waited for the same start
    Event changed;
    std::deque<const void*> senders;  // who types into it, and who waits for that, first come first served
};

class SessionTable {
public:
    using RecordPtr = std::shared_ptr<SessionRecord>;  // shared with the calls that wait for it

    void add(RecordPtr record);
    void remove(const std::string& id);
    // Forgets sessions that ended before `before_ms`, and the oldest ended ones over kMaxEnded. Their ids.
    std::vector<std::string> forget_ended(std::int64_t before_ms);

    // Oldest first, by the time of their start.
    [[nodiscard]] const std::vector<RecordPtr>& all() const { return records_; }
    [[nodiscard]] RecordPtr by_id(std::string_view id) const;
    // An id, a name (the session not ended, else the newest), or a unique prefix of an id.
    [[nodiscard]] Result<RecordPtr> find(std::string_view word) const;
    [[nodiscard]] bool name_in_use(std::string_view name) const;
    [[nodiscard]] RecordPtr by_request(std::string_view request_id) const;

    static constexpr std::size_t kMaxEnded = 10000;

private:
    std::vector<RecordPtr> records_;
    std::unordered_map<std::string, RecordPtr> by_id_;
    std::unordered_map<std::string, RecordPtr> by_request_;
};

}  // namespace cmssh
