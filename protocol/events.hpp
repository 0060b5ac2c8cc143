// What `subscribe` gives, and the notifications `event` that follow it. Read and written as the structs of methods.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/methods.hpp"

namespace cmssh::api {

enum class EventType {
    SessionStarted,      // the server's tmux has it
    SessionEnded,        // exited, killed or lost; lost without a start before: it came to nothing
    SessionUnreachable,  // its server can't be asked
    SessionReachable,    // it runs, and its server can be asked again
    ConnectionChanged,   // its state, refs, channels, last error or next attempt
    ForwardChanged,      // where it listens, and whether it forwards
    Overflow             // the last one of a subscription: more would have waited for its reader than is kept
};
inline constexpr std::array kEventTypes = {
    EventType::SessionStarted,   EventType::SessionEnded,      EventType::SessionUnreachable,
    EventType::SessionReachable, EventType::ConnectionChanged, EventType::ForwardChanged,
    EventType::Overflow};
[[nodiscard]] std::string_view to_string(EventType type);

struct SubscribeParams {
    std::optional<std::vector<EventType>> types;  // absent: all; overflow comes to everybody
};
// All that the events are about, right before the first of them.
struct Snapshot {
    std::vector<Session> sessions;  // not ended
    std::vector<Connection> connections;
    std::vector<Forward> forwards;
};
struct SubscribeResult {
    std::string subscription;
    Snapshot snapshot;
};
struct UnsubscribeParams {
    std::string subscription;
};

// Notification `event`. Of the optional fields those that are unset are not written.
struct Event {
    std::string subscription;
    std::uint64_t seq = 0;  // 1 for the first of a subscription, and up by one each time
    EventType type = EventType::Overflow;
    std::string at;
    std::optional<bool> removed;  // true: the connection or the forward is not listed any more
    std::optional<Session> session;
    std::optional<Connection> connection;
    std::optional<Forward> forward;
};

// write(event) in two steps, the first of which is the same for all its subscriptions: what stands behind subscription
// and seq; and the whole of it.
[[nodiscard]] std::string event_rest(Event event);
[[nodiscard]] JsonText event_text(std::string_view subscription, std::uint64_t seq, std::string_view rest);

}  // namespace cmssh::api
