#include "daemon/rpc/events.hpp"

#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <tuple>

#include "protocol/names.hpp"

namespace cmssh {
namespace {

using api::EventType;
using api::SessionState;

// Between two turns of the loop: the reply to what made the event comes a few turns behind it.
constexpr std::size_t kSubscribersAtOnce = 2;
constexpr std::size_t kEventsAtOnce = 64;
// With more subscribers than a few, each is written to once for what happens within this time: what a start changes
// reaches them behind its reply, and does not wake all of them while it is under way.
constexpr std::size_t kFewSubscribers = 8;
constexpr Duration kGather = std::chrono::milliseconds(10);

// What makes an event; round trip times, ages and the like change all the time, and do not. retry_at is computed from
// what is left, so its milliseconds differ from call to call: `since` tells one wait from another.
auto told_of(const api::Connection& it) {
    const auto& error = it.last_error;
    return std::make_tuple(it.state, it.since, it.refs, it.sessions, it.leases, it.channels.used, it.channels.max,
                           it.channels.queued, it.master_pid, it.reconnects, it.retry_at.has_value(),
                           error ? error->kind + '\n' + error->at + '\n' + error->message : std::string());
}

auto told_of(const api::Forward& it) {
    return std::make_tuple(it.active, it.listen, it.error);
}

// nullopt: no event.
std::optional<EventType> change(const std::optional<SessionState>& before, SessionState now) {
    const bool ran = before == SessionState::Running || before == SessionState::Unreachable;
    switch (now) {
        case SessionState::Starting:
            return std::nullopt;
        case SessionState::Running:
        case SessionState::Unreachable:
            if (!ran) {
                return EventType::SessionStarted;
            }
            if (*before == now) {
                return std::nullopt;
            }
            return now == SessionState::Running ? EventType::SessionReachable : EventType::SessionUnreachable;
        case SessionState::Exited:
        case SessionState::Killed:
        case SessionState::Lost:
            return EventType::SessionEnded;
    }
    return std::nullopt;
}

}  // namespace

EventHub::EventHub(asio::any_io_executor executor, Clock& clock)
    : executor_(executor), clock_(clock), stop_(clock), tasks_(std::move(executor), clock) {}

std::string EventHub::now_text() const {
    return format_time(clock_.wall_ms());
}

void EventHub::touch(Kind kind, const std::string& key) {
    if (subscribers_.empty() || !is_touched_.emplace(kind, key).second) {
        return;
    }
    touched_.emplace_back(kind, key);
    if (!telling_) {
        telling_ = true;
        tasks_.spawn("events", tell_soon());
    }
}

asio::awaitable<void> EventHub::tell_soon() {
    telling_ = false;
    tell_touched();
    co_return;
}

void EventHub::tell_touched() {
    is_touched_.clear();
    for (const auto& [kind, key] : std::exchange(touched_, {})) {
        switch (kind) {
            case Kind::Session:
                tell_session(key);
                break;
            case Kind::Connection:
                tell_connection(key);
                break;
            case Kind::Forward:
                tell_forward(key);
                break;
        }
    }
}

void EventHub::tell_session(const std::string& id) {
    const auto known = sessions_.find(id);
    auto now = source_->session(id);
    if (!now) {
        if (known == sessions_.end()) {
            return;
        }
        // A start that failed, of a session that was in a snapshot.
        now = known->second;
        now->state = SessionState::Lost;
        now->reason = "it was not started";
        now->ended_at = now_text();
    }
    const auto before = known == sessions_.end() ? std::nullopt : std::optional(known->second.state);
    const auto type = change(before, now->state);
    if (!type) {
        return;
    }
    if (api::ended(now->state)) {
        sessions_.erase(id);
    } else {
        sessions_[id] = *now;
    }
    api::Event event;
    event.type = *type;
    event.session = std::move(now);
    publish(std::move(event));
}

void EventHub::tell_connection(const std::string& key) {
    const auto known = connections_.find(key);
    auto now = source_->connection(key);
    api::Event event;
    event.type = EventType::ConnectionChanged;
    if (now) {
        if (known != connections_.end() && told_of(known->second) == told_of(*now)) {
            return;
        }
        connections_[key] = *now;
        event.connection = std::move(now);
    } else {
        if (known == connections_.end()) {
            return;
        }
        event.removed = true;
        event.connection = std::move(known->second);
        connections_.erase(known);
    }
    publish(std::move(event));
}

void EventHub::tell_forward(const std::string& id) {
    const auto known = forwards_.find(id);
    auto now = source_->forward(id);
    api::Event event;
    event.type = EventType::ForwardChanged;
    if (now) {
        if (known != forwards_.end() && told_of(known->second) == told_of(*now)) {
            return;
        }
        forwards_[id] = *now;
        event.forward = std::move(now);
    } else {
        if (known == forwards_.end()) {
            return;
        }
        event.removed = true;
        event.forward = std::move(known->second);
        event.forward->active = false;
        forwards_.erase(known);
    }
    publish(std::move(event));
}

void EventHub::publish(api::Event event) {
    event.at = now_text();
    Told told{.type = event.type, .at = event.at, .rest = {}};
    told.rest = api::event_rest(std::move(event));
    stream_.push_back(std::move(told));
    if (!delivering_) {
        delivering_ = true;
        tasks_.spawn("events", deliver_soon());
    }
}

asio::awaitable<void> EventHub::deliver_soon() {
    if (subscribers_.size() > kFewSubscribers) {
        co_await stop_.wait_until(clock_.now() + kGather);
    }
    while (deliver_some()) {
        co_await asio::post(executor_, asio::use_awaitable);
    }
    delivering_ = false;
}

bool EventHub::deliver_some() {
    for (std::size_t i = 0; i < kSubscribersAtOnce && !subscribers_.empty(); ++i) {
        Subscriber& first = subscribers_.front();
        if (first.next == stream_end()) {
            break;
        }
        deliver_to(first);
        if (first.overflowed) {
            end_those([](const Subscriber& it) { return it.overflowed; });
        } else if (first.next == stream_end()) {
            subscribers_.splice(subscribers_.end(), subscribers_, subscribers_.begin());
        }
    }
    const std::uint64_t needed = subscribers_.empty() ? stream_end() : subscribers_.front().next;
    for (; stream_begin_ < needed; ++stream_begin_) {
        stream_.pop_front();
    }
    return !stream_.empty();
}

void EventHub::deliver_to(Subscriber& subscriber) {
    for (std::size_t i = 0; i < kEventsAtOnce && subscriber.next < stream_end() && !subscriber.overflowed; ++i) {
        const Told& told = stream_[subscriber.next - stream_begin_];
        ++subscriber.next;
        if (!subscriber.types || subscriber.types->contains(told.type)) {
            deliver(subscriber, told);
        }
    }
    subscriber.sink->flush();
}

void EventHub::deliver(Subscriber& subscriber, const Told& told) {
    EventSink& sink = *subscriber.sink;
    while (!subscriber.waiting.empty() && subscriber.waiting.front().end <= sink.taken()) {
        subscriber.waiting_bytes -= subscriber.waiting.front().bytes;
        subscriber.waiting.pop_front();
    }
    ++subscriber.last_seq;
    if (subscriber.waiting.size() >= kMaxWaiting || subscriber.waiting_bytes >= kMaxWaitingBytes) {
        api::Event overflow;
        overflow.subscription = subscriber.id;
        overflow.seq = subscriber.last_seq;
        overflow.at = told.at;
        sink.push(api::write(overflow));
        subscriber.overflowed = true;
        return;
    }
    const std::uint64_t begin = sink.given();
    sink.push(api::event_text(subscriber.id, subscriber.last_seq, told.rest));
    const Waiting waiting{.end = sink.given(), .bytes = sink.given() - begin};
    subscriber.waiting.push_back(waiting);
    subscriber.waiting_bytes += waiting.bytes;
}

Result<api::SubscribeResult> EventHub::subscribe(const api::SubscribeParams& params, EventSink& sink) {
    if (stopping_) {
        return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
    }
    const auto count = std::count_if(subscribers_.begin(), subscribers_.end(),
                                     [&sink](const Subscriber& it) { return it.sink == &sink; });
    if (static_cast<std::size_t>(count) >= kMaxPerClient) {
        return Error{.kind = ErrorKind::Limit,
                     .message = "this client has " + std::to_string(count) + " subscriptions already",
                     .hint = "unsubscribe one"};
    }
    // What the snapshot shows already is no event for this subscriber.
    tell_touched();
    api::SubscribeResult result;
    result.subscription = "sub-" + std::to_string(++last_id_);
    result.snapshot = source_->all();
    remember_all(result.snapshot);
    Subscriber subscriber;
    subscriber.id = result.subscription;
    subscriber.sink = &sink;
    subscriber.next = stream_end();
    if (params.types) {
        subscriber.types.emplace(params.types->begin(), params.types->end());
    }
    subscribers_.push_back(std::move(subscriber));
    sink.keep(true);
    return result;
}

void EventHub::remember_all(const api::Snapshot& snapshot) {
    // Others are still to be told of what differs from what they know: nothing, but for sessions that are starting.
    for (const auto& session : snapshot.sessions) {
        sessions_.try_emplace(session.id, session);
    }
    for (const auto& connection : snapshot.connections) {
        connections_.try_emplace(connection.server.key, connection);
    }
    for (const auto& forward : snapshot.forwards) {
        forwards_.try_emplace(forward.id, forward);
    }
}

Result<api::Empty> EventHub::unsubscribe(const api::UnsubscribeParams& params, const EventSink& sink) {
    const auto before = subscribers_.size();
    end_those([&](const Subscriber& it) { return it.sink == &sink && it.id == params.subscription; });
    if (subscribers_.size() == before) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "params.subscription: " + printable(params.subscription) + " is none of this client",
                     .hint = "one ends with the connection that it was given to, and with an overflow"};
    }
    return api::Empty();
}

void EventHub::end_all_of(const EventSink& sink) {
    end_those([&sink](const Subscriber& it) { return it.sink == &sink; });
}

void EventHub::end_those(const std::function<bool(const Subscriber&)>& which) {
    for (auto it = subscribers_.begin(); it != subscribers_.end();) {
        if (which(*it)) {
            it->sink->keep(false);
            it = subscribers_.erase(it);
        } else {
            ++it;
        }
    }
    if (subscribers_.empty()) {
        touched_.clear();
        is_touched_.clear();
        sessions_.clear();
        connections_.clear();
        forwards_.clear();
    }
}

void EventHub::request_stop() {
    stopping_ = true;
    while (deliver_some()) {
    }
    end_those([](const Subscriber&) { return true; });
    stop_.notify_all();
}

asio::awaitable<void> EventHub::shut_down() {
    co_await tasks_.join_until(Instant::max());
}

}  // namespace cmssh
