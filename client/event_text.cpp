#include "client/event_text.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "client/output.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

constexpr std::size_t kTypeColumns = 19;

std::string local_time(const std::string& time) {
    std::tm parts{};
    if (::strptime(time.c_str(), "%Y-%m-%dT%H:%M:%S", &parts) == nullptr) {
        return time;
    }
    const std::time_t seconds = ::timegm(&parts);
    std::array<char, 32> text{};
    if (::localtime_r(&seconds, &parts) == nullptr ||
        std::strftime(text.data(), text.size(), "%b %d %H:%M:%S", &parts) == 0) {
        return time;
    }
    return text.data();
}

std::string session_text(api::EventType type, const api::Session& session) {
    std::string text = session.id;
    if (session.name != session.id) {
        text += " (" + session.name + ")";
    }
    text += " on " + session.ctx + ": ";
    if (type == api::EventType::SessionStarted) {
        return text + command_text(session.command) +
               (session.state == api::SessionState::Unreachable ? " (unreachable)" : "");
    }
    return text + state_text(session);
}

std::string connection_text(const api::Connection& connection, bool removed) {
    std::string text = connection.server.key + ": ";
    if (removed) {
        return text + "forgotten";
    }
    text += std::string(to_string(connection.state));
    if (connection.sessions > 0) {
        text += ", " + count_text(static_cast<std::uint64_t>(connection.sessions), "session");
    }
    if (connection.leases > 0) {
        text += ", " + count_text(static_cast<std::uint64_t>(connection.leases), "lease");
    }
    if (connection.channels.used > 0) {
        text += ", " + std::to_string(connection.channels.used) + " of " + std::to_string(connection.channels.max) +
                " channels";
    }
    if (connection.channels.queued > 0) {
        text += ", " + std::to_string(connection.channels.queued) + " waiting";
    }
    const bool sound = connection.state == api::ConnectionState::Up || connection.state == api::ConnectionState::Idle;
    if (connection.last_error && !sound) {
        text += "; " + connection.last_error->message;
    }
    if (connection.retry_at) {
        text += "; next attempt at " + local_time(*connection.retry_at);
    }
    return text;
}

std::string forward_text(const api::Forward& forward, bool removed) {
    std::string text = forward.id + " on " + forward.ctx + ": " + std::string(to_string(forward.kind)) + " " +
                       forward.listen + (forward.target ? " to " + *forward.target : "");
    if (removed) {
        return text + ", removed";
    }
    return text + (forward.active ? ", active" : ", not active" + (forward.error ? ": " + *forward.error : ""));
}

Style style_of_event(const api::Event& event) {
    if (event.session) {
        return style_of(event.session->state);
    }
    if (event.connection) {
        return event.removed.value_or(false) ? Style::Faint : style_of(event.connection->state);
    }
    if (event.forward) {
        return event.forward->active ? Style::Good : Style::Doubtful;
    }
    return Style::Bad;
}

}  // namespace

std::string subject_of(const api::Event& event) {
    return event.session      ? event.session->id
           : event.connection ? event.connection->server.key
           : event.forward    ? event.forward->id
                              : std::string();
}

std::string event_line(const api::Event& event, bool color) {
    const bool removed = event.removed.value_or(false);
    const std::string what = event.session      ? session_text(event.type, *event.session)
                             : event.connection ? connection_text(*event.connection, removed)
                             : event.forward    ? forward_text(*event.forward, removed)
                                                : "events are missing here: they came faster than they were read";
    std::string type(to_string(event.type));
    type.resize(std::max(type.size(), kTypeColumns), ' ');
    return printable(local_time(event.at)) + "  " + styled(type, color ? style_of_event(event) : Style::Plain) + "  " +
           printable(what);
}

}  // namespace cmssh::client
