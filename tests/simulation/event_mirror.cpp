#include "tests/simulation/event_mirror.hpp"

namespace cmssh::sim {

EventMirror::EventMirror(asio::any_io_executor executor, Clock& clock, const Sessions& sessions, const Pool& pool)
    : hub(std::move(executor), clock), truth_(sessions, pool, nullptr) {
    hub.set_source(truth_);
}

void EventMirror::subscribe() {
    const auto subscribed = hub.subscribe({}, *this);
    if (subscribed) {
        seen_ = picture_of(subscribed->snapshot);
    }
}

// Nothing is told of those that are starting, or have ended.
void EventMirror::put(Picture& picture, const api::Session& session) {
    if (session.state == api::SessionState::Starting || api::ended(session.state)) {
        picture.sessions.erase(session.id);
    } else {
        picture.sessions[session.id] = to_string(session.state);
    }
}

// Without the number of channels allowed: a limit that was learnt is forgotten by the clock, and no event says so.
void EventMirror::put(Picture& picture, const api::Connection& it) {
    picture.connections[it.server.key] =
        std::string(to_string(it.state)) + " since " + it.since + ", " + std::to_string(it.sessions) + " sessions, " +
        std::to_string(it.leases) + " leases, " + std::to_string(it.refs) + " refs, channels " +
        std::to_string(it.channels.used) + '+' + std::to_string(it.channels.queued) + ", master " +
        std::to_string(it.master_pid.value_or(0)) + ", reconnects " + std::to_string(it.reconnects) +
        (it.retry_at ? ", waits" : "") + (it.last_error ? ", " + it.last_error->at + it.last_error->message : "");
}

EventMirror::Picture EventMirror::picture_of(const api::Snapshot& snapshot) {
    Picture picture;
    for (const auto& session : snapshot.sessions) {
        put(picture, session);
    }
    for (const auto& connection : snapshot.connections) {
        put(picture, connection);
    }
    return picture;
}

void EventMirror::push(const JsonText& params) {
    const auto event = api::read<api::Event>(Json::parse(params.text));
    if (!event || event->seq != ++seq_ || event->type == api::EventType::Overflow) {
        failure_ = "an event that should not come: " + params.text;
    } else if (event->session) {
        put(seen_, *event->session);
    } else if (event->connection && event->removed.value_or(false)) {
        seen_.connections.erase(event->connection->server.key);
    } else if (event->connection) {
        put(seen_, *event->connection);
    }
}

std::optional<std::string> EventMirror::difference() const {
    if (!failure_.empty()) {
        return failure_;
    }
    const Picture truth = picture_of(truth_.all());
    const auto compare = [](const auto& seen, const auto& is) -> std::optional<std::string> {
        if (seen == is) {
            return std::nullopt;
        }
        std::string text = "the events say";
        for (const auto& [key, what] : seen) {
            text += " [" + key + ' ' + what + ']';
        }
        text += ", and there is";
        for (const auto& [key, what] : is) {
            text += " [" + key + ' ' + what + ']';
        }
        return text;
    };
    if (auto sessions = compare(seen_.sessions, truth.sessions)) {
        return sessions;
    }
    return compare(seen_.connections, truth.connections);
}

}  // namespace cmssh::sim
