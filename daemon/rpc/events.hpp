// Who is told of what changes. The parts of the daemon say only that something may have changed; once the loop's step
// under way is done, it is compared with what was told of it last, and each difference becomes one event for every
// subscriber. A snapshot and the place in that stream where it stands come from one step, so nothing is missing between
// them. Without subscribers nothing is kept or compared. With many, what else the daemon does goes on between them, and
// they are told up to 10 ms later.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/event.hpp"
#include "daemon/base/task_group.hpp"
#include "daemon/rpc/event_sink.hpp"
#include "daemon/rpc/event_source.hpp"
#include "protocol/events.hpp"

namespace cmssh {

class EventHub {
public:
    EventHub(asio::any_io_executor executor, Clock& clock);

    // Before the first subscriber.
    void set_source(const EventSource& source) { source_ = &source; }

    enum class Kind { Session, Connection, Forward };
    // Something about it may have changed. key: a session's or forward's id, a server's key.
    void touch(Kind kind, const std::string& key);

    // Limit at kMaxPerClient. The events go to the sink until unsubscribe(), end_all_of() or an overflow.
    Result<api::SubscribeResult> subscribe(const api::SubscribeParams& params, EventSink& sink);
    // InvalidParams where the sink has none of that id (any more).
    Result<api::Empty> unsubscribe(const api::UnsubscribeParams& params, const EventSink& sink);
    void end_all_of(const EventSink& sink);
    // Nobody is told anything more, once they know what was told.
    void request_stop();
    asio::awaitable<void> shut_down();

    static constexpr std::size_t kMaxPerClient = 16;
    // What waits for one subscriber to read it, beyond what the kernel keeps.
    static constexpr std::size_t kMaxWaiting = 1024;
    static constexpr std::uint64_t kMaxWaitingBytes = 1024 * 1024;

private:
    struct Waiting {
        std::uint64_t end = 0;  // in the stream of its client
        std::uint64_t bytes = 0;
    };
    struct Told {
        api::EventType type = api::EventType::Overflow;
        std::string at;
        std::string rest;  // event_rest()
    };
    struct Subscriber {
        std::string id;
        std::optional<std::set<api::EventType>> types;
        EventSink* sink = nullptr;
        std::uint64_t next = 0;  // in the stream
        std::uint64_t last_seq = 0;
        std::deque<Waiting> waiting = {};
        std::uint64_t waiting_bytes = 0;
        bool overflowed = false;
    };

    void remember_all(const api::Snapshot& snapshot);
    asio::awaitable<void> tell_soon();
    void tell_touched();
    void tell_session(const std::string& id);
    void tell_connection(const std::string& key);
    void tell_forward(const std::string& id);
    void publish(api::Event event);
    [[nodiscard]] std::uint64_t stream_end() const { return stream_begin_ + stream_.size(); }
    asio::awaitable<void> deliver_soon();
    // Some more of the stream to the next few; false: everybody has it.
    bool deliver_some();
    void deliver_to(Subscriber& subscriber);
    static void deliver(Subscriber& subscriber, const Told& told);
    [[nodiscard]] std::string now_text() const;
    void end_those(const std::function<bool(const Subscriber&)>& which);

    asio::any_io_executor executor_;
    Clock& clock_;
    const EventSource* source_ = nullptr;
    std::list<Subscriber> subscribers_;  // who has least of the stream first
    // What some of them are still to be given.
    std::deque<Told> stream_;
    std::uint64_t stream_begin_ = 0;
    bool delivering_ = false;  // soon
    std::uint64_t last_id_ = 0;
    // As told last.
    std::map<std::string, api::Session> sessions_;
    std::map<std::string, api::Connection> connections_;
    std::map<std::string, api::Forward> forwards_;
    std::vector<std::pair<Kind, std::string>> touched_;  // in order
    std::set<std::pair<Kind, std::string>> is_touched_;
    bool telling_ = false;  // soon
    bool stopping_ = false;
    Event stop_;
    TaskGroup tasks_;
};

}  // namespace cmssh
