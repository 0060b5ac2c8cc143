// What a subscriber hears of sessions, connections and forwards, and what cmctl makes of it.
#include <gmock/gmock.h>

#include <signal.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

const Words kLong = {"sleep", "1000"};
constexpr const char* kConfig =
    "[pool]\nhealth_interval = \"300ms\"\nhealth_timeout = \"300ms\"\nbackoff_initial = \"200ms\"\nbackoff_max = "
    "\"1s\"\n";

// One subscription on a connection of its own.
class Subscriber {
public:
    explicit Subscriber(const World& world, const Json& params = Json::object()) : client(world.daemon.socket_path()) {
        subscribe(params);
    }
    void subscribe(const Json& params = Json::object()) {
        const Json result = client.call("subscribe", params);
        id = result.at("subscription");
        snapshot = result.at("snapshot");
        seq_ = 0;
    }
    Json next(Deadline deadline = in(kPatience)) {
        Json message;
        if (given_ < client.notifications().size()) {
            message = client.notifications()[given_++];
        } else {
            message = Json::parse(client.read_line(deadline));
        }
        EXPECT_EQ(message.at("method"), "event");
        EXPECT_FALSE(message.contains("id"));
        Json event = message.at("params");
        EXPECT_EQ(event.at("subscription"), id);
        EXPECT_EQ(event.at("seq"), ++seq_) << event;
        EXPECT_EQ(event.at("at").get<std::string>().size(), std::string("2026-11-23T08:16:34.123Z").size());
        return event;
    }
    // Passes over others.
    Json next_of(const std::string& type, Deadline deadline = in(kPatience)) {
        for (;;) {
            Json event = next(deadline);
            if (event.at("type") == type) {
                return event;
            }
        }
    }

    RpcClient client;
    std::string id;
    Json snapshot;

private:
    std::uint64_t seq_ = 0;
    std::size_t given_ = 0;
};

class Events : public ::testing::Test {
protected:
    // And nobody gets back in until the sshd is started again.
    void cut() {
        world.sshd.stop();
        ASSERT_EQ(::kill(world.connection(key).at("master_pid").get<pid_t>(), SIGKILL), 0);
    }

    // More events than are kept for a reader.
    void make_many() {
        for (int i = 0; i < 1500; ++i) {
            const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}});
            world.rpc().call("release", {{"lease", lease.at("lease")}});
        }
    }

    World world{servers(1), kConfig};
    const std::string key = world.key("127.0.0.1");
};

TEST_F(Events, OfASessionsLifeWithItsConnection) {
    Subscriber subscriber(world);
    EXPECT_THAT(subscriber.snapshot.at("sessions"), IsEmpty());
    EXPECT_THAT(subscriber.snapshot.at("connections"), IsEmpty());
    const std::string id = world.start_id("server-1", {"sh", "-c", "exit 7"}, {{"name", "short"}});
    Words states;
    Json event = subscriber.next();
    for (; event.at("type") == "connection.changed"; event = subscriber.next()) {
        EXPECT_EQ(event.at("connection").at("server").at("key"), key);
        const std::string state = event.at("connection").at("state");
        if (states.empty() || states.back() != state) {
            states.push_back(state);
        }
    }
    EXPECT_EQ(states.back(), "up");
    EXPECT_EQ(event.at("type"), "session.started");
    EXPECT_EQ(event.at("session").at("id"), id);
    EXPECT_EQ(event.at("session").at("name"), "short");
    EXPECT_EQ(event.at("session").at("state"), "running");
    // Either may be told first.
    bool ended = false;
    bool let_go = false;
    while (!ended || !let_go) {
        event = subscriber.next();
        if (event.at("type") == "session.ended") {
            ended = true;
            EXPECT_EQ(event.at("session").at("id"), id);
            EXPECT_EQ(event.at("session").at("state"), "exited");
            EXPECT_EQ(event.at("session").at("exit_code"), 7);
        } else if (event.at("type") == "connection.changed") {
            let_go = event.at("connection").at("refs") == 0;
        }
    }
}

TEST_F(Events, OfAKill) {
    const std::string id = world.start_id("server-1", kLong);
    Subscriber subscriber(world, {{"types", {"session.ended"}}});
    ASSERT_EQ(subscriber.snapshot.at("sessions").size(), 1U);
    EXPECT_EQ(subscriber.snapshot.at("sessions")[0].at("id"), id);
    EXPECT_EQ(subscriber.snapshot.at("connections")[0].at("state"), "up");
    world.rpc().call("kill", {{"session", id}});
    const Json event = subscriber.next();
    EXPECT_EQ(event.at("type"), "session.ended");
    EXPECT_EQ(event.at("session").at("state"), "killed");
}

TEST_F(Events, OfACutAndOfTheWayBack) {
    const std::string id = world.start_id("server-1", kLong);
    Subscriber subscriber(world);
    cut();
    EXPECT_EQ(subscriber.next_of("session.unreachable").at("session").at("state"), "unreachable");
    Json connection = subscriber.next_of("connection.changed").at("connection");
    while (connection.at("state") != "backoff") {
        connection = subscriber.next_of("connection.changed").at("connection");
    }
    EXPECT_TRUE(connection.at("retry_at").is_string());
    EXPECT_TRUE(connection.at("last_error").is_object());
    world.sshd.start();
    const Json back = subscriber.next_of("session.reachable");
    EXPECT_EQ(back.at("session").at("id"), id);
    EXPECT_EQ(back.at("session").at("state"), "running");
}

TEST_F(Events, OfForwards) {
    Subscriber subscriber(world, {{"types", {"forward.changed"}}});
    EXPECT_THAT(subscriber.snapshot.at("forwards"), IsEmpty());
    const Json forward = world.rpc()
                             .call("forward.add", {{"ctx", "server-1"},
                                                   {"kind", "local"},
                                                   {"listen", world.dir / "listen.sock"},
                                                   {"target", "127.0.0.1:9"}})
                             .at("forward");
    Json event = subscriber.next();
    while (!event.at("forward").at("active").get<bool>()) {
        event = subscriber.next();
    }
    EXPECT_EQ(event.at("type"), "forward.changed");
    EXPECT_EQ(event.at("forward"), forward);
    EXPECT_FALSE(event.contains("removed"));
    Subscriber late(world, {{"types", {"forward.changed"}}});
    EXPECT_EQ(late.snapshot.at("forwards"), Json::array({forward}));
    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    event = late.next();
    while (!event.contains("removed")) {
        EXPECT_EQ(event.at("forward").at("active"), false);
        event = late.next();
    }
    EXPECT_EQ(event.at("removed"), true);
    EXPECT_EQ(event.at("forward").at("id"), forward.at("id"));
}

TEST_F(Events, ASlowReaderIsToldAndBeginsAnew) {
    world.start("server-1", kLong);
    Subscriber slow(world);
    Subscriber other(world, {{"types", {"session.ended"}}});
    make_many();
    Json event = slow.next();
    int events = 1;
    while (event.at("type") != "overflow") {
        event = slow.next();
        ++events;
    }
    EXPECT_GT(events, 1024) << "it was told too early";
    EXPECT_FALSE(event.contains("connection"));
    const std::string before = slow.id;
    slow.subscribe();
    EXPECT_NE(slow.id, before);
    EXPECT_EQ(slow.snapshot.at("sessions").size(), 1U);
    const std::string id = slow.snapshot.at("sessions")[0].at("id");
    world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(slow.next_of("session.ended").at("session").at("id"), id);
    EXPECT_EQ(other.next().at("seq"), 1);
}

TEST_F(Events, EndWithUnsubscribeAndWithTheSocket) {
    Subscriber subscriber(world);
    Subscriber other(world, {{"types", {"session.started"}}});
    EXPECT_EQ(subscriber.client.call("unsubscribe", {{"subscription", subscriber.id}}), Json::object());
    EXPECT_EQ(subscriber.client.refusal("unsubscribe", {{"subscription", subscriber.id}}).at("code"), -32602);
    EXPECT_EQ(subscriber.client.refusal("unsubscribe", {{"subscription", other.id}}).at("code"), -32602);
    const auto clients = [this] { return world.stats().at("daemon").at("clients").get<int>(); };
    const int before = clients();
    {
        Subscriber closing(world);
        EXPECT_EQ(clients(), before + 1);
    }
    EXPECT_TRUE(wait_until([&] { return clients() == before; }));
    world.start("server-1", kLong);
    EXPECT_EQ(other.next().at("type"), "session.started");
    EXPECT_EQ(subscriber.client.call("ping"), Json::object());
    EXPECT_THAT(subscriber.client.notifications(), IsEmpty());
}

TEST_F(Events, WrongParamsAreRefused) {
    const Json error = world.rpc().refusal("subscribe", {{"types", {"session.begun"}}});
    EXPECT_EQ(error.at("code"), -32602);
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("session.unreachable"));
    EXPECT_EQ(world.rpc().refusal("subscribe", {{"types", Json::array()}}).at("code"), -32602);
    EXPECT_EQ(world.rpc().refusal("subscribe", {{"ctx", "server-1"}}).at("code"), -32602);
    const Json capabilities = world.rpc().call("version").at("capabilities");
    EXPECT_NE(std::find(capabilities.begin(), capabilities.end(), "subscribe"), capabilities.end());
}

TEST_F(Events, ComeInTheFramingOfTheRequest) {
    RpcClient client(world.daemon.socket_path());
    const std::string text = Json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "subscribe"}}.dump();
    client.send_bytes("Content-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text);
    const auto read = [&client] {
        std::string header;
        while (!header.ends_with("\r\n\r\n")) {
            header += client.read_bytes(1);
        }
        return Json::parse(client.read_bytes(std::stoul(header.substr(header.find(':') + 1))));
    };
    EXPECT_EQ(read().at("id"), 1);
    world.start("server-1", kLong);
    const Json event = read();
    EXPECT_EQ(event.at("method"), "event");
    EXPECT_EQ(event.at("params").at("seq"), 1);
}

TEST_F(Events, GoOnToAClientThatHasNothingMoreToSay) {
    Subscriber subscriber(world, {{"types", {"session.started"}}});
    subscriber.client.close_writing();
    world.start("server-1", kLong);
    EXPECT_EQ(subscriber.next().at("type"), "session.started");
    const auto began = std::chrono::steady_clock::now();
    world.daemon.stop();
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(4)) << "the daemon waited for it to leave";
    EXPECT_EQ(subscriber.client.read_to_end(), "");
}

// Everything at once: what a subscriber makes of it is what `list` and `stats` say in the end.
TEST_F(Events, WithTheSnapshotGiveWhatThereIs) {
    world.start("server-1", kLong);
    Subscriber subscriber(world);
    std::map<std::string, Json> sessions;
    std::map<std::string, Json> connections;
    const auto brief = [](const Json& it) {
        return Json{{"state", it.at("state")},           {"refs", it.at("refs")},
                    {"channels", it.at("channels")},     {"since", it.at("since")},
                    {"sessions", it.at("sessions")},     {"leases", it.at("leases")},
                    {"reconnects", it.at("reconnects")}, {"last_error", it.at("last_error")}};
    };
    for (const Json& it : subscriber.snapshot.at("sessions")) {
        sessions[it.at("id")] = it;
    }
    for (const Json& it : subscriber.snapshot.at("connections")) {
        connections[it.at("server").at("key")] = brief(it);
    }
    Words ids;
    for (int i = 0; i < 6; ++i) {
        ids.push_back(world.start_id("server-1", i % 2 == 0 ? kLong : Words{"true"}));
    }
    world.sshd.signal_connections(SIGKILL);
    world.rpc().call("kill", {{"session", ids[0]}});
    world.rpc().call("exec", {{"ctx", "server-1"}, {"command", {"true"}}});
    ASSERT_TRUE(wait_until([&] { return world.list() == Words({world.list()[0], ids[2], ids[4]}); }));
    ASSERT_TRUE(world.connection_becomes(key, "up"));
    ASSERT_TRUE(world.becomes(ids[2], "running"));
    ASSERT_TRUE(wait_until([&] { return world.connection(key).at("leases") == 0; }));
    // The mark: behind all that has happened so far.
    const std::string mark = world.start_id("server-1", kLong, {{"name", "mark"}});
    const auto matches = [&] {
        std::map<std::string, Json> expected;
        const Json listed = world.rpc().call("list");
        for (const Json& it : listed.at("sessions")) {
            expected[it.at("id")] = it.at("state");
        }
        std::map<std::string, Json> seen;
        for (const auto& [id, it] : sessions) {
            seen[id] = it.at("state");
        }
        return seen == expected && connections.at(key) == brief(world.connection(key));
    };
    // Until nothing more comes.
    bool found = false;
    try {
        while (!found) {
            const Json event = subscriber.next(in(std::chrono::seconds(5)));
            const std::string type = event.at("type");
            if (type == "connection.changed") {
                connections[event.at("connection").at("server").at("key")] = brief(event.at("connection"));
            } else if (type == "session.ended") {
                sessions.erase(event.at("session").at("id").get<std::string>());
            } else {
                sessions[event.at("session").at("id")] = event.at("session");
            }
            found = sessions.contains(mark) && matches();
        }
    } catch (const RpcFailure&) {
    }
    EXPECT_TRUE(found) << Json(sessions).dump(1) << Json(connections).dump(1) << world.stats().dump(1);
}

// cmctl as a process that runs on.
class Watcher {
public:
    Watcher(const World& world, const Words& words) : process_(world.daemon.spawn_cmctl(words)) {}
    [[nodiscard]] bool prints(const std::string& text) {
        return wait_until([&] { return process_.output().find(text) != std::string::npos; });
    }
    [[nodiscard]] std::string output() const { return process_.output(); }
    [[nodiscard]] std::string errors() const { return process_.errors(); }
    [[nodiscard]] Words lines() const {
        Words found;
        std::istringstream text(process_.output());
        for (std::string line; std::getline(text, line);) {
            found.push_back(line);
        }
        return found;
    }
    void interrupt() { process_.send_signal(SIGINT); }
    void stop() { process_.send_signal(SIGSTOP); }
    void go_on() { process_.send_signal(SIGCONT); }
    int code() {
        const auto status = process_.wait();
        return status ? status->code : -1;
    }

private:
    Process process_;
};

class CmctlEvents : public Events {};

TEST_F(CmctlEvents, ArePrintedOneALine) {
    Watcher watcher(world, {"events", "--type", "session.started", "--type", "session.ended"});
    std::string id;
    // Until it has subscribed nothing can be expected of it.
    ASSERT_TRUE(wait_until([&] {
        id = world.start_id("server-1", {"sh", "-c", "exit 3"});
        world.wait(id);
        return watcher.output().find(id) != std::string::npos;
    }));
    EXPECT_TRUE(watcher.prints("session.ended        " + id + " on server-1: exited 3\n")) << watcher.output();
    EXPECT_THAT(watcher.output(), HasSubstr("session.started      " + id + " on server-1: sh -c 'exit 3'\n"));
    EXPECT_THAT(watcher.output(), Not(HasSubstr("connection.changed")));
    EXPECT_THAT(watcher.output(), Not(HasSubstr("\033")));
    watcher.interrupt();
    EXPECT_EQ(watcher.code(), 0);
    EXPECT_EQ(watcher.errors(), "");
}

TEST_F(CmctlEvents, AreOneDocumentALineWithJson) {
    Watcher watcher(world, {"events", "--json"});
    ASSERT_TRUE(wait_until([&] {
        world.wait(world.start_id("server-1", {"true"}));
        return watcher.output().find("session.ended") != std::string::npos;
    }));
    watcher.interrupt();
    EXPECT_EQ(watcher.code(), 0);
    for (const std::string& line : watcher.lines()) {
        EXPECT_TRUE(Json::parse(line).at("seq").is_number()) << line;
    }
}

TEST_F(CmctlEvents, EndWithTheDaemonAndWithTheirReader) {
    Watcher watcher(world, {"events"});
    ASSERT_TRUE(wait_until([&] {
        world.wait(world.start_id("server-1", {"true"}));
        return watcher.output().find("session.ended") != std::string::npos;
    }));
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    Process piped({"sh", "-c", R"("$0" events --type connection.changed | head -n 1; echo over)", CMSSH_CMCTL}, spawn);
    ASSERT_TRUE(wait_until([&] {
        world.wait(world.start_id("server-1", {"true"}));
        return piped.output().find("connection.changed") != std::string::npos;
    }));
    EXPECT_TRUE(piped.wait()) << "it does not see that nobody reads it";
    world.daemon.crash();
    EXPECT_EQ(watcher.code(), 4);
    EXPECT_THAT(watcher.errors(), HasSubstr("cmctl: the daemon is gone"));
}

TEST_F(CmctlEvents, SayWhereSomeAreMissingAndGoOn) {
    Watcher watcher(world, {"events"});
    ASSERT_TRUE(wait_until([&] {
        world.wait(world.start_id("server-1", {"true"}));
        return watcher.output().find("session.ended") != std::string::npos;
    }));
    watcher.stop();
    make_many();
    watcher.go_on();
    EXPECT_TRUE(watcher.prints("overflow             events are missing here")) << watcher.output();
    std::string id;
    EXPECT_TRUE(wait_until([&] {
        id = world.start_id("server-1", {"true"});
        world.wait(id);
        return watcher.output().find(id) != std::string::npos;
    }));
    watcher.interrupt();
    EXPECT_EQ(watcher.code(), 0);
}

TEST_F(CmctlEvents, OfAnUnknownTypeAreAUsageError) {
    const Finished finished = world.daemon.cmctl({"events", "--type", "session.begun"});
    EXPECT_EQ(finished.status, ExitStatus{.code = 2});
    EXPECT_THAT(finished.errors, HasSubstr("session.begun"));
    EXPECT_THAT(finished.errors, HasSubstr("session.ended"));
}

TEST_F(Events, ListWatchPrintsTheTableAgain) {
    Watcher watcher(world, {"list", "--watch"});
    ASSERT_TRUE(watcher.prints("no sessions that have not ended\n"));
    const std::string id = world.start_id("server-1", kLong, {{"name", "watched"}});
    EXPECT_TRUE(watcher.prints("running")) << watcher.output();
    EXPECT_THAT(watcher.output(), HasSubstr(id + "  watched"));
    cut();
    EXPECT_TRUE(watcher.prints("unreachable")) << watcher.output();
    world.daemon.crash();
    world.sshd.start();
    world.start_daemon();
    ASSERT_TRUE(world.becomes(id, "running"));
    const auto runs_again = [&] {
        const std::string output = watcher.output();
        return output.rfind("running") > output.rfind("unreachable");
    };
    EXPECT_TRUE(wait_until(runs_again)) << watcher.output() << watcher.errors();
    EXPECT_THAT(watcher.errors(), HasSubstr("the daemon is gone, waiting for the next one"));
    EXPECT_THAT(watcher.output(), Not(HasSubstr("\033")));
    watcher.interrupt();
    EXPECT_EQ(watcher.code(), 0);
}

TEST_F(Events, ListWatchDrawsOverTheTableOnATerminal) {
    Terminal terminal({CMSSH_CMCTL, "--no-spawn", "list", "--watch"}, world.daemon.environment());
    ASSERT_TRUE(terminal.prints("\033[Hno sessions that have not ended\033[K")) << terminal.output();
    const std::string id = world.start_id("server-1", kLong);
    EXPECT_TRUE(terminal.prints("\033[H")) << terminal.output();
    EXPECT_TRUE(terminal.prints("running"));
    EXPECT_TRUE(terminal.prints("\033[K\r\n\033[J"));
    for (int i = 0; i < 5; ++i) {
        world.start("server-1", kLong);
    }
    terminal.resize(60, 5);
    EXPECT_TRUE(terminal.prints("… 4 more\033[K\r\n\033[J")) << terminal.output();
    terminal.type("\x03");
    EXPECT_EQ(terminal.wait(), 0);
}

}  // namespace
}  // namespace cmssh::test
