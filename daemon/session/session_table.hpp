// The sessions that this daemon knows, and how a word names one of them. In memory. No I/O.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/base/event.hpp"
#include "daemon/pool/connection.hpp"
#include "daemon/tmux/tmux_commands.hpp"
#include "protocol/methods.hpp"
#include "protocol/result.hpp"

namespace cmssh {

struct SessionRecord {
    explicit SessionRecord(Clock& clock) : changed(clock) {}

    api::Session view;
    std::int64_t created_ms = 0;
    std::int64_t ended_ms = 0;
    Connection* connection = nullptr;  // until it has ended; the hold keeps it alive
    Hold hold;
    tmux::Started place;
    std::string request_id;
    bool being_started = false;               // a call is at it: nobody else decides about its state
    std::set<int> signals_sent;               // by our kill
    std::optional<std::string> pending_kill;  // of a server that can't be reached: "" or a signal
    Event changed;
};

class SessionTable {
public:
    using RecordPtr = std::shared_ptr<SessionRecord>;  // shared with the calls that wait for it

    void add(RecordPtr record);
    void remove(const std::string& id);
    // Forgets sessions that ended before `before_ms`, and the oldest ended ones over kMaxEnded.
    void forget_ended(std::int64_t before_ms);

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
