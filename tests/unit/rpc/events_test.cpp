#include "daemon/rpc/events.hpp"

#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <list>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using api::ConnectionState;
using api::EventType;
using api::SessionState;
using Kind = EventHub::Kind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FakeSource final : public EventSource {
public:
    [[nodiscard]] api::Snapshot all() const override {
        api::Snapshot snapshot;
        for (const auto& [id, session] : sessions) {
            if (!api::ended(session.state)) {
                snapshot.sessions.push_back(session);
            }
        }
        for (const auto& [key, connection] : connections) {
            snapshot.connections.push_back(connection);
        }
        for (const auto& [id, forward] : forwards) {
            snapshot.forwards.push_back(forward);
        }
        return snapshot;
    }
    [[nodiscard]] std::optional<api::Session> session(const std::string& id) const override {
        return find(sessions, id);
    }
    [[nodiscard]] std::optional<api::Connection> connection(const std::string& key) const override {
        return find(connections, key);
    }
    [[nodiscard]] std::optional<api::Forward> forward(const std::string& id) const override {
        return find(forwards, id);
    }

    std::map<std::string, api::Session> sessions;
    std::map<std::string, api::Connection> connections;
    std::map<std::string, api::Forward> forwards;

private:
    template <typename T>
    static std::optional<T> find(const std::map<std::string, T>& in, const std::string& key) {
        const auto found = in.find(key);
        return found == in.end() ? std::nullopt : std::optional(found->second);
    }
};

// A client that reads as much as the test lets it.
class FakeSink final : public EventSink {
public:
    void push(const JsonText& params) override {
        given_ += params.text.size();
        if (reads) {
            taken_ = given_;
        }
        events.push_back(Json::parse(params.text));
    }
    void flush() override { ++flushes; }
    [[nodiscard]] std::uint64_t given() const override { return given_; }
    [[nodiscard]] std::uint64_t taken() const override { return taken_; }
    void keep(bool on) override { kept += on ? 1 : -1; }

    void read_all() { taken_ = given_; }
    [[nodiscard]] std::vector<std::string> types() const {
        std::vector<std::string> found;
        for (const Json& event : events) {
            found.push_back(event.at("type"));
        }
        return found;
    }

    bool reads = true;
    int kept = 0;
    int flushes = 0;
    std::vector<Json> events;

private:
    std::uint64_t given_ = 0;
    std::uint64_t taken_ = 0;
};

class Events : public ::testing::Test {
protected:
    Events() { hub.set_source(source); }
    ~Events() override {
        hub.request_stop();
        loop.run(hub.shut_down());
    }

    api::SubscribeResult subscribe(FakeSink& to, std::optional<std::vector<EventType>> types = std::nullopt) {
        api::SubscribeParams params;
        params.types = std::move(types);
        auto result = hub.subscribe(params, to);
        EXPECT_TRUE(result.ok());
        return std::move(*result);
    }
    void set(const std::string& id, SessionState state) {
        source.sessions[id].id = id;
        source.sessions[id].state = state;
        hub.touch(Kind::Session, id);
    }
    void set(const std::string& key, ConnectionState state, int refs) {
        auto& connection = source.connections[key];
        connection.server.key = key;
        connection.state = state;
        connection.refs = refs;
        hub.touch(Kind::Connection, key);
    }
    void set_forward(const std::string& id, bool active) {
        source.forwards[id].id = id;
        source.forwards[id].active = active;
        hub.touch(Kind::Forward, id);
    }

    fakes::TestLoop loop;
    FakeSource source;
    EventHub hub{loop.executor(), loop.clock()};
    FakeSink sink;
    FakeSink other;
};

TEST_F(Events, FollowASessionThroughItsLife) {
    subscribe(sink);
    for (const auto state : {SessionState::Starting, SessionState::Running, SessionState::Unreachable,
                             SessionState::Running, SessionState::Exited}) {
        set("sess-a", state);
        loop.run_ready();
    }
    EXPECT_THAT(sink.types(),
                ElementsAre("session.started", "session.unreachable", "session.reachable", "session.ended"));
    EXPECT_EQ(sink.events.back().at("session").at("state"), "exited");
    EXPECT_FALSE(sink.events.back().contains("connection"));
    EXPECT_FALSE(sink.events.back().contains("removed"));
}

TEST_F(Events, CountUpByOneForEachSubscription) {
    const auto first = subscribe(sink);
    set("sess-a", SessionState::Running);
    loop.run_ready();
    const auto second = subscribe(other);
    EXPECT_NE(first.subscription, second.subscription);
    set("sess-b", SessionState::Running);
    loop.run_ready();
    set("sess-a", SessionState::Killed);
    loop.run_ready();
    ASSERT_EQ(sink.events.size(), 3U);
    ASSERT_EQ(other.events.size(), 2U);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(sink.events[i].at("seq"), i + 1);
        EXPECT_EQ(sink.events[i].at("subscription"), first.subscription);
    }
    EXPECT_EQ(other.events[0].at("seq"), 1);
    EXPECT_EQ(other.events[1].at("seq"), 2);
    EXPECT_EQ(other.events[1].at("at"), "2023-11-14T22:13:20.000Z");
}

class ManySubscribers : public Events {
protected:
    ManySubscribers() {
        for (auto& each : many) {
            subscribe(each);
        }
        set("sess-a", SessionState::Running);
        loop.run_ready();
        set("sess-b", SessionState::Running);
        loop.run_ready();
    }
    ~ManySubscribers() override { hub.request_stop(); }

    std::array<FakeSink, 9> many;
};

TEST_F(ManySubscribers, AreWrittenToOnceForWhatHappensInTenMilliseconds) {
    for (const auto& each : many) {
        EXPECT_THAT(each.types(), IsEmpty());
    }
    loop.advance(std::chrono::milliseconds(10));
    for (const auto& each : many) {
        EXPECT_THAT(each.types(), ElementsAre("session.started", "session.started"));
        EXPECT_EQ(each.flushes, 1);
    }
    set("sess-a", SessionState::Exited);
    loop.advance(std::chrono::milliseconds(10));
    EXPECT_EQ(many[8].types().size(), 3U);
}

TEST_F(ManySubscribers, KnowWhatWasToldWhenTheDaemonStops) {
    hub.request_stop();
    for (const auto& each : many) {
        EXPECT_THAT(each.types(), ElementsAre("session.started", "session.started"));
    }
    EXPECT_TRUE(loop.start(hub.shut_down()).done());
}

TEST_F(Events, WhatTheSnapshotShowsIsNoEvent) {
    subscribe(other);
    set("sess-a", SessionState::Running);
    set("key", ConnectionState::Up, 1);
    // In the same step of the loop: before anybody was told.
    const auto result = subscribe(sink);
    EXPECT_EQ(result.snapshot.sessions.size(), 1U);
    EXPECT_EQ(result.snapshot.connections.size(), 1U);
    loop.run_ready();
    EXPECT_THAT(sink.types(), IsEmpty());
    EXPECT_THAT(other.types(), ElementsAre("session.started", "connection.changed"));
    set("sess-a", SessionState::Exited);
    loop.run_ready();
    EXPECT_THAT(sink.types(), ElementsAre("session.ended"));
}

TEST_F(Events, AConnectionIsToldOnceForEachStepAndNotForItsRoundTrips) {
    set("key", ConnectionState::Up, 0);
    subscribe(sink);
    set("key", ConnectionState::Up, 1);
    set("key", ConnectionState::Up, 2);
    loop.run_ready();
    ASSERT_THAT(sink.types(), ElementsAre("connection.changed"));
    EXPECT_EQ(sink.events[0].at("connection").at("refs"), 2);
    source.connections["key"].rtt_ms = api::Rtt{.last = 1, .p50 = 1, .p95 = 1};
    source.connections["key"].uptime_s = 7;
    source.connections["key"].reused_count = 9;
    hub.touch(Kind::Connection, "key");
    loop.run_ready();
    EXPECT_EQ(sink.events.size(), 1U);
    source.connections["key"].channels.queued = 1;
    hub.touch(Kind::Connection, "key");
    loop.run_ready();
    EXPECT_EQ(sink.events.size(), 2U);
    source.connections.erase("key");
    hub.touch(Kind::Connection, "key");
    loop.run_ready();
    ASSERT_EQ(sink.events.size(), 3U);
    EXPECT_EQ(sink.events[2].at("removed"), true);
    EXPECT_EQ(sink.events[2].at("connection").at("server").at("key"), "key");
}

TEST_F(Events, AForwardIsToldFromItsBeginningToItsEnd) {
    subscribe(sink);
    set_forward("fwd-a", false);
    loop.run_ready();
    set_forward("fwd-a", true);
    loop.run_ready();
    source.forwards.clear();
    hub.touch(Kind::Forward, "fwd-a");
    loop.run_ready();
    ASSERT_THAT(sink.types(), ElementsAre("forward.changed", "forward.changed", "forward.changed"));
    EXPECT_EQ(sink.events[0].at("forward").at("active"), false);
    EXPECT_EQ(sink.events[1].at("forward").at("active"), true);
    EXPECT_EQ(sink.events[2].at("removed"), true);
}

TEST_F(Events, AStartThatFailsEndsWhatASnapshotHad) {
    set("sess-a", SessionState::Starting);
    subscribe(sink);
    source.sessions.clear();
    hub.touch(Kind::Session, "sess-a");
    loop.run_ready();
    ASSERT_THAT(sink.types(), ElementsAre("session.ended"));
    EXPECT_EQ(sink.events[0].at("session").at("state"), "lost");
    set("sess-b", SessionState::Starting);
    loop.run_ready();
    source.sessions.clear();
    hub.touch(Kind::Session, "sess-b");
    loop.run_ready();
    EXPECT_EQ(sink.events.size(), 1U) << "nobody had heard of it";
}

TEST_F(Events, OnlyTheTypesThatWereAskedFor) {
    subscribe(sink, std::vector{EventType::SessionEnded});
    set("sess-a", SessionState::Running);
    set("key", ConnectionState::Up, 0);
    loop.run_ready();
    set("sess-a", SessionState::Exited);
    loop.run_ready();
    EXPECT_THAT(sink.types(), ElementsAre("session.ended"));
    EXPECT_EQ(sink.events[0].at("seq"), 1);
}

TEST_F(Events, WhoDoesNotReadIsToldOnceAndGetsNoMore) {
    const auto first = subscribe(sink);
    subscribe(other);
    sink.reads = false;
    for (std::size_t i = 0; i < EventHub::kMaxWaiting + 10; ++i) {
        set("key", ConnectionState::Up, static_cast<int>(i) + 1);
        loop.run_ready();
    }
    ASSERT_EQ(sink.events.size(), EventHub::kMaxWaiting + 1);
    EXPECT_EQ(sink.events.back().at("type"), "overflow");
    EXPECT_EQ(sink.events.back().at("seq"), EventHub::kMaxWaiting + 1);
    EXPECT_FALSE(sink.events.back().contains("connection"));
    EXPECT_EQ(sink.kept, 0);
    EXPECT_EQ(other.events.size(), EventHub::kMaxWaiting + 10) << "nobody else is held up";
    api::UnsubscribeParams gone;
    gone.subscription = first.subscription;
    EXPECT_FALSE(hub.unsubscribe(gone, sink).ok());
    sink.read_all();
    const auto again = subscribe(sink);
    EXPECT_EQ(again.snapshot.connections.front().refs, static_cast<int>(EventHub::kMaxWaiting) + 10);
    set("key", ConnectionState::Idle, 0);
    loop.run_ready();
    EXPECT_EQ(sink.events.back().at("seq"), 1);
    EXPECT_EQ(sink.events.back().at("subscription"), again.subscription);
}

TEST_F(Events, LargeOnesOverflowByTheirSize) {
    subscribe(sink);
    sink.reads = false;
    source.sessions["sess-a"].command = {std::string(64 * 1024, 'x')};
    for (int i = 0; i < 100; ++i) {
        set("sess-a", i % 2 == 0 ? SessionState::Running : SessionState::Unreachable);
        loop.run_ready();
    }
    EXPECT_LT(sink.events.size(), 20U);
    EXPECT_EQ(sink.events.back().at("type"), "overflow");
}

TEST_F(Events, ReadingInTimeNeverOverflows) {
    subscribe(sink);
    sink.reads = false;
    for (std::size_t i = 0; i < 3 * EventHub::kMaxWaiting; ++i) {
        set("key", ConnectionState::Up, static_cast<int>(i) + 1);
        loop.run_ready();
        if (i % 1000 == 0) {
            sink.read_all();
        }
    }
    EXPECT_EQ(sink.events.size(), 3 * EventHub::kMaxWaiting);
}

asio::awaitable<void> turns(asio::any_io_executor executor, int count) {
    for (int i = 0; i < count; ++i) {
        co_await asio::post(executor, asio::use_awaitable);
    }
}

TEST_F(Events, ForManyLetTheLoopTurnBetween) {
    std::list<FakeSink> sinks(100);
    for (FakeSink& it : sinks) {
        subscribe(it);
    }
    const auto told = [&sinks] {
        return std::count_if(sinks.begin(), sinks.end(), [](const FakeSink& it) { return !it.events.empty(); });
    };
    std::ptrdiff_t told_by_then = 0;
    Event never(loop.clock());
    const auto other_work = [&]() -> asio::awaitable<void> {
        co_await never.wait_until(loop.now() + std::chrono::milliseconds(10));
        co_await turns(loop.executor(), 5);
        told_by_then = told();
        set("sess-a", SessionState::Exited);
    };
    set("sess-a", SessionState::Running);
    loop.run_ready();
    const auto worked = loop.start(other_work());
    loop.advance(std::chrono::milliseconds(10));
    ASSERT_TRUE(worked.done());
    EXPECT_GT(told_by_then, 0);
    EXPECT_LT(told_by_then, 100);
    for (const FakeSink& it : sinks) {
        EXPECT_THAT(it.types(), ElementsAre("session.started", "session.ended"));
        EXPECT_EQ(it.events.back().at("seq"), 2);
        hub.end_all_of(it);
    }
}

TEST_F(Events, AreToldBeforeTheEnd) {
    subscribe(sink);
    subscribe(other);
    const auto tell_and_stop = [&]() -> asio::awaitable<void> {
        set("sess-a", SessionState::Running);
        co_await turns(loop.executor(), 1);
        hub.request_stop();
    };
    loop.run(tell_and_stop());
    EXPECT_THAT(sink.types(), ElementsAre("session.started"));
    EXPECT_THAT(other.types(), ElementsAre("session.started"));
}

TEST(Event, WrittenForEachSubscriptionIsAsWrittenWhole) {
    api::Event event;
    event.subscription = "sub-\"7\"";
    event.seq = 12;
    event.type = EventType::SessionStarted;
    event.at = "2026-01-01T00:00:00.000Z";
    event.session.emplace().id = "sess-a";
    EXPECT_EQ(api::event_text(event.subscription, event.seq, api::event_rest(event)).text, api::write(event).text);
}

TEST_F(Events, EndWithUnsubscribeOfTheirOwnClient) {
    const auto result = subscribe(sink);
    EXPECT_EQ(sink.kept, 1);
    api::UnsubscribeParams params;
    params.subscription = result.subscription;
    EXPECT_FALSE(hub.unsubscribe(params, other).ok());
    EXPECT_TRUE(hub.unsubscribe(params, sink).ok());
    EXPECT_EQ(sink.kept, 0);
    set("sess-a", SessionState::Running);
    loop.run_ready();
    EXPECT_THAT(sink.types(), IsEmpty());
}

TEST_F(Events, AClientHasOnlySoManySubscriptions) {
    for (std::size_t i = 0; i < EventHub::kMaxPerClient; ++i) {
        subscribe(sink);
    }
    const auto refused = hub.subscribe({}, sink);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::Limit);
    hub.end_all_of(sink);
    EXPECT_EQ(sink.kept, 0);
    subscribe(sink);
}

// What a client makes of a snapshot and events.
struct Mirror {
    explicit Mirror(const api::Snapshot& snapshot) {
        for (const auto& session : snapshot.sessions) {
            sessions[session.id] = to_string(session.state);
        }
        for (const auto& connection : snapshot.connections) {
            connections[connection.server.key] = {std::string(to_string(connection.state)), connection.refs};
        }
        for (const auto& forward : snapshot.forwards) {
            forwards[forward.id] = forward.active;
        }
        drop_starting();
    }
    void apply(const Json& event) {
        const std::string type = event.at("type");
        const bool removed = event.value("removed", false);
        if (type == "connection.changed") {
            const Json& it = event.at("connection");
            const std::string key = it.at("server").at("key");
            connections[key] = {it.at("state"), it.at("refs")};
            if (removed) {
                connections.erase(key);
            }
        } else if (type == "forward.changed") {
            const Json& it = event.at("forward");
            forwards[it.at("id")] = it.at("active");
            if (removed) {
                forwards.erase(it.at("id").get<std::string>());
            }
        } else {
            const Json& it = event.at("session");
            sessions[it.at("id")] = it.at("state");
            if (type == "session.ended") {
                sessions.erase(it.at("id").get<std::string>());
            }
        }
    }
    // Nothing is told of them.
    void drop_starting() {
        std::erase_if(sessions, [](const auto& it) { return it.second == "starting"; });
    }
    bool operator==(const Mirror&) const = default;

    std::map<std::string, std::string> sessions;
    std::map<std::string, std::pair<std::string, int>> connections;
    std::map<std::string, bool> forwards;
};

// Whenever somebody subscribes, and however changes and steps of the loop follow each other: snapshot and events give
// what there is.
TEST_F(Events, SnapshotAndEventsGiveWhatThereIs) {
    for (unsigned seed = 1; seed <= 50; ++seed) {
        SCOPED_TRACE(seed);
        std::mt19937 random(seed);
        const auto pick = [&random](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
        source = FakeSource();
        std::list<FakeSink> sinks;
        std::list<Mirror> mirrors;
        for (int step = 0; step < 200; ++step) {
            const std::string name = std::to_string(pick(4));
            switch (pick(8)) {
                case 0:
                case 1: {
                    constexpr SessionState kStates[] = {SessionState::Starting, SessionState::Running,
                                                        SessionState::Unreachable, SessionState::Exited};
                    const auto state = kStates[pick(4)];
                    const auto known = source.sessions.find(name);
                    const bool ran = known != source.sessions.end() && known->second.state != SessionState::Starting;
                    if (!(ran && state == SessionState::Starting)) {
                        set(name, state);
                    }
                    break;
                }
                case 2: {
                    // A start that failed.
                    const auto known = source.sessions.find(name);
                    if (known != source.sessions.end() && known->second.state == SessionState::Starting) {
                        source.sessions.erase(known);
                        hub.touch(Kind::Session, name);
                    }
                    break;
                }
                case 3:
                    set(name, pick(2) == 0 ? ConnectionState::Up : ConnectionState::Backoff, pick(3));
                    break;
                case 4:
                    source.connections.erase(name);
                    hub.touch(Kind::Connection, name);
                    break;
                case 5:
                    set_forward(name, pick(2) == 0);
                    if (pick(3) == 0) {
                        source.forwards.erase(name);
                    }
                    break;
                case 6:
                    loop.run_ready();
                    break;
                default:
                    if (sinks.size() < 5) {
                        mirrors.emplace_back(subscribe(sinks.emplace_back()).snapshot);
                    } else if (pick(5) == 0) {
                        hub.end_all_of(sinks.front());
                        sinks.pop_front();
                        mirrors.pop_front();
                    }
                    break;
            }
        }
        loop.run_ready();
        const Mirror truth(source.all());
        auto mirror = mirrors.begin();
        for (const FakeSink& one : sinks) {
            std::uint64_t seq = 0;
            for (const Json& event : one.events) {
                EXPECT_EQ(event.at("seq"), ++seq);
                mirror->apply(event);
            }
            EXPECT_EQ(mirror->sessions, truth.sessions);
            EXPECT_EQ(mirror->connections, truth.connections);
            EXPECT_EQ(mirror->forwards, truth.forwards);
            hub.end_all_of(one);
            ++mirror;
        }
        ASSERT_FALSE(HasFailure());
    }
}

}  // namespace
}  // namespace cmssh
