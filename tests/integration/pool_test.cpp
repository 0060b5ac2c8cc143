// One connection per server: which destinations are one server, and what shares a login.
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <set>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};

TEST(Pool, KeepsOneConnectionPerUserHostAndPort) {
    if (!Sshd::can_have_other_user()) {
        GTEST_SKIP() << "another user for the sshd alone needs root and a mount namespace";
    }
    SshdOptions options;
    options.second_port = true;
    options.other_user = "cmtest";
    World world(options);
    const std::string port = std::to_string(world.sshd.port());
    const std::string other_port = std::to_string(world.sshd.second_port());
    world.sshd.add_ssh_config("Host short-name\n    HostName 127.0.0.1\n");
    const std::string own = own_user();

    struct Row {
        std::string ctx;
        std::string key;
        bool reused;
    };
    const std::vector<Row> rows = {{"server-1", own + "@127.0.0.1:" + port, false},
                                   {"server-1", own + "@127.0.0.1:" + port, true},
                                   {"server-2", own + "@127.0.0.2:" + port, false},
                                   {"cmtest@server-1", "cmtest@127.0.0.1:" + port, false},
                                   {"127.0.0.1:" + other_port, own + "@127.0.0.1:" + other_port, false},
                                   {"short-name", own + "@127.0.0.1:" + port, true}};
    std::map<std::string, int> sessions;
    std::set<int> masters;
    for (const auto& row : rows) {
        const Json started = world.start(row.ctx, kLong);
        EXPECT_EQ(started.at("session").at("server").at("key"), row.key) << row.ctx;
        EXPECT_EQ(started.at("connection").at("server").at("key"), row.key) << row.ctx;
        EXPECT_EQ(started.at("reused"), row.reused) << row.ctx;
        EXPECT_EQ(started.at("session").at("state"), "running") << row.ctx;
        masters.insert(started.at("connection").at("master_pid").get<int>());
        ++sessions[row.key];
    }
    const Json stats = world.stats();
    EXPECT_EQ(stats.at("connection_stats"), Json(sessions));
    EXPECT_EQ(stats.at("total_connections"), 4);
    EXPECT_EQ(stats.at("total_sessions"), 6);
    EXPECT_EQ(stats.at("total_refs"), 6);
    EXPECT_EQ(stats.at("handshakes"), 4);
    EXPECT_EQ(stats.at("handshakes_saved"), 2);
    EXPECT_EQ(masters.size(), 4U);
    EXPECT_EQ(world.daemon.ssh_processes().size(), 4U);
    EXPECT_EQ(world.sshd.logins(), 4);
}

TEST(Pool, EverySpellingOfOneServerSharesItsConnection) {
    World world(servers(1));
    world.sshd.add_ssh_config("Host loud\n    HostName LOCALHOST\nHost quiet\n    HostName localhost\n");
    const std::string port = std::to_string(world.sshd.port());
    for (const auto& ctx : {std::string("server-1"), std::string("127.0.0.1"), own_user() + "@127.0.0.1",
                            "127.0.0.1:" + port, "ssh://" + own_user() + "@127.0.0.1:" + port}) {
        EXPECT_EQ(world.start(ctx, kLong).at("connection").at("server").at("key"), world.key("127.0.0.1")) << ctx;
    }
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.rpc().call("connect", {{"ctx", "loud"}}).at("reused"), false);
    EXPECT_EQ(world.rpc().call("connect", {{"ctx", "quiet"}}).at("reused"), true);
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(Pool, AnIpv6AddressStandsInBracketsInTheKey) {
    SshdOptions options = servers(1);
    options.ipv6 = true;
    World world(options);
    const std::string key = own_user() + "@[::1]:" + std::to_string(world.sshd.port());
    const Json started = world.start("[::1]:" + std::to_string(world.sshd.port()), kLong);
    EXPECT_EQ(
        started.at("session").at("server"),
        Json({{"user", own_user()}, {"host", "::1"}, {"port", world.sshd.port()}, {"via", nullptr}, {"key", key}}));
    EXPECT_EQ(started.at("reused"), false);
    EXPECT_EQ(world.start("::1", kLong).at("reused"), true);
}

TEST(Pool, OneAddressBehindTwoHopsIsTwoServers) {
    World world(servers(3));
    world.sshd.add_ssh_config(
        "Host far-a\n    HostName 127.0.0.3\n    ProxyJump server-1\n"
        "Host far-b\n    HostName 127.0.0.3\n    ProxyJump server-2\n");
    const std::string near = world.start_id("127.0.0.3", kLong);
    const std::string a = world.start_id("far-a", kLong);
    const std::string b = world.start_id("far-b", kLong);
    EXPECT_EQ(world.session(near).at("server").at("key"), world.key("127.0.0.3"));
    EXPECT_EQ(world.session(near).at("server").at("via"), nullptr);
    EXPECT_EQ(world.session(a).at("server").at("key"), world.key("127.0.0.3") + " via server-1");
    EXPECT_EQ(world.session(a).at("server").at("via"), "server-1");
    EXPECT_EQ(world.session(b).at("server").at("key"), world.key("127.0.0.3") + " via server-2");
    EXPECT_EQ(world.stats().at("total_connections"), 5) << "and the two hops";
    EXPECT_EQ(world.start("far-a", kLong).at("reused"), true);
}

TEST(Pool, AProxyCommandIsPartOfTheServerAndItsTextIsNotShown) {
    World world(servers(1));
    world.sshd.add_ssh_config("Host through\n    HostName 127.0.0.1\n    ProxyCommand env SECRET=hunter2 ssh -F " +
                              world.sshd.ssh_config() + " -W %h:%p server-1\n");
    const Json started = world.start("through", kLong);
    const std::string key = started.at("connection").at("server").at("key");
    EXPECT_TRUE(key.starts_with(world.key("127.0.0.1") + " via cmd-")) << key;
    EXPECT_EQ(started.dump().find("hunter2"), std::string::npos);
    EXPECT_EQ(world.stats().dump().find("hunter2"), std::string::npos);
}

TEST(Pool, AKeyOfItsOwnIsAServerOfItsOwn) {
    World world(servers(1));
    world.sshd.add_ssh_config("Host deploy\n    HostName 127.0.0.1\n    IdentityFile " + world.dir.path() +
                              "/other_key\nHost named\n    HostName 127.0.0.1\n    HostKeyAlias elsewhere\n");
    world.start("server-1", kLong);
    EXPECT_EQ(world.start("deploy", kLong).at("connection").at("server").at("key"),
              world.key("127.0.0.1") + " as " + world.dir.path() + "/other_key," + world.sshd.user_key());
    EXPECT_EQ(world.start("named", kLong).at("connection").at("server").at("key"),
              world.key("127.0.0.1") + " alias elsewhere");
    EXPECT_EQ(world.sshd.logins(), 3);
}

TEST(Pool, AHundredColdStartsAtOnceMakeOneLogin) {
    World world(servers(1));
    constexpr int kCalls = 100;
    std::vector<std::unique_ptr<RpcClient>> clients;
    for (int i = 0; i < kCalls; ++i) {
        clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
    }
    for (const auto& client : clients) {
        EXPECT_EQ(client->send("start", {{"ctx", "server-1"}, {"command", kLong}}), 1);
    }
    int not_reused = 0;
    std::set<std::string> ids;
    for (const auto& client : clients) {
        const Json reply = client->reply(1);
        ASSERT_TRUE(reply.contains("result")) << reply;
        ids.insert(reply.at("result").at("session").at("id"));
        not_reused += reply.at("result").at("reused") == false ? 1 : 0;
    }
    EXPECT_EQ(ids.size(), 100U);
    EXPECT_EQ(not_reused, 1);
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.tmux_sessions(1).size(), 100U);
    const Json connection = world.connection(world.key("127.0.0.1"));
    EXPECT_EQ(connection.at("handshakes"), 1);
    EXPECT_EQ(connection.at("reused_count"), 99);
    EXPECT_EQ(connection.at("sessions"), 100);
    EXPECT_EQ(world.daemon.ssh_processes().size(), 1U);
}

TEST(Pool, ColdStartsOnManyServersAtOnceMakeOneLoginEach) {
    constexpr int kServers = 12;
    World world(servers(kServers));
    std::vector<int> ids;
    for (int call = 0; call < 3 * kServers; ++call) {
        ids.push_back(
            world.rpc().send("start", {{"ctx", "server-" + std::to_string(call % kServers + 1)}, {"command", kLong}}));
    }
    for (const int id : ids) {
        EXPECT_TRUE(world.rpc().reply(id).contains("result"));
    }
    EXPECT_EQ(world.sshd.logins(), kServers);
    EXPECT_EQ(world.stats().at("total_connections"), kServers);
    EXPECT_EQ(world.stats().at("total_sessions"), 3 * kServers);
}

TEST(Pool, ProgressOfALoginIsToldToWhoWaitsForIt) {
    World world(servers(1));
    const int id = world.rpc().send("start", {{"ctx", "server-1"}, {"command", kLong}});
    EXPECT_TRUE(world.rpc().reply(id).contains("result"));
    ASSERT_FALSE(world.rpc().notifications().empty());
    for (const auto& notification : world.rpc().notifications()) {
        EXPECT_EQ(notification.at("method"), "progress");
        EXPECT_EQ(notification.at("params").at("id"), id);
        EXPECT_EQ(notification.at("params").at("ctx"), "server-1");
        EXPECT_EQ(notification.at("params").at("server"), world.key("127.0.0.1"));
        EXPECT_TRUE(notification.at("params").at("phase").is_string());
    }
    const auto told = world.rpc().notifications().size();
    world.start("server-1", kLong);
    EXPECT_EQ(world.rpc().notifications().size(), told) << "a warm start waits for no login";
}

// Two names of one machine: both connections see both sessions in its one tmux.
class OneMachine : public ::testing::Test {
protected:
    static SshdOptions one_machine() {
        SshdOptions options;
        options.one_machine = true;
        return options;
    }
    // What both had stays as it was.
    void expect_both_running() {
        EXPECT_EQ(world.session(one).at("state"), "running");
        EXPECT_EQ(world.session(two).at("state"), "running");
        EXPECT_EQ(world.tmux_sessions(1).size(), 2U);
        EXPECT_EQ(world.list(), (Words{one, two}));
    }

    World world{one_machine()};
    const std::string one = world.start_id("server-1", kLong);
    const std::string two = world.start_id("server-2", kLong);
    const std::string key_one = world.key("127.0.0.1");
    const std::string key_two = world.key("127.0.0.2");
};

TEST_F(OneMachine, EachNameHasItsOwnSessions) {
    expect_both_running();
    EXPECT_EQ(world.connection(key_one).at("sessions"), 1);
    EXPECT_EQ(world.connection(key_two).at("sessions"), 1);
}

TEST_F(OneMachine, TheCutOfOneNameLeavesTheOthersSessionsAlone) {
    const pid_t master = world.connection(key_two).at("master_pid");
    world.sshd.stop();
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    EXPECT_TRUE(world.becomes(two, "unreachable"));
    EXPECT_EQ(world.session(one).at("state"), "running");
    EXPECT_EQ(world.tmux_sessions(1).size(), 2U);
    EXPECT_EQ(world.rpc().call("kill", {{"session", one}}).at("session").at("state"), "killed");
    EXPECT_EQ(world.session(two).at("state"), "unreachable");

    world.sshd.start();
    EXPECT_TRUE(world.becomes(two, "running"));
    EXPECT_EQ(world.tmux_sessions(1), Words{two});
    EXPECT_EQ(world.list(), Words{two});
}

TEST_F(OneMachine, AReconnectOfOneNameTakesNothingFromTheOther) {
    const pid_t master = world.connection(key_two).at("master_pid");
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return world.connection(key_two).at("reconnects") == 1; }));
    EXPECT_TRUE(world.becomes(two, "running"));
    expect_both_running();
    EXPECT_EQ(world.connection(key_one).at("sessions"), 1);
    EXPECT_EQ(world.connection(key_two).at("sessions"), 1);
    EXPECT_EQ(world.connection(key_one).at("handshakes"), 1);
}

TEST_F(OneMachine, ASessionThatIsGoneIsLostForItsOwnNameOnly) {
    EXPECT_EQ(world.tmux(1, {"kill-session", "-t", two}).status.code, 0);
    const Json lost = world.wait(two);
    EXPECT_EQ(lost.at("state"), "lost");
    EXPECT_TRUE(lost.at("reason").is_string());
    EXPECT_EQ(world.session(one).at("state"), "running");
}

// tmux before 3.7 ends with all that it has where an event meets a client that has just come (RELIABILITY).
TEST(ManyNames, OfOneMachineComeAtOnce) {
    constexpr int kNames = 9;
    SshdOptions options = servers(kNames);
    options.one_machine = true;
    World world(options);
    const std::string first = world.start_id("server-1", kLong);
    const std::string tmux = world.tmux(1, {"display-message", "-p", "#{pid}"}).output;
    std::vector<int> calls;
    for (int n = 2; n <= kNames; ++n) {
        calls.push_back(world.rpc().send("start", {{"ctx", "server-" + std::to_string(n)}, {"command", kLong}}));
    }
    for (const int call : calls) {
        const Json reply = world.rpc().reply(call);
        EXPECT_TRUE(reply.contains("result")) << reply;
    }
    EXPECT_EQ(world.tmux(1, {"display-message", "-p", "#{pid}"}).output, tmux);
    EXPECT_EQ(world.session(first).at("state"), "running");
    EXPECT_EQ(world.tmux_sessions(1).size(), static_cast<std::size_t>(kNames));
}

TEST(Reconnect, BringsTheSessionsBack) {
    World world(servers(2));
    const std::string id = world.start_id("server-1", kLong);
    const std::string key = world.key("127.0.0.1");
    const pid_t master = world.connection(key).at("master_pid");
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return world.connection(key).at("reconnects") == 1; }));
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_NE(world.connection(key).at("master_pid"), master);
    EXPECT_EQ(world.connection(key).at("handshakes"), 2);
    EXPECT_EQ(world.tmux_sessions(1), Words{id});
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(Reconnect, WaitsForAServerThatIsDown) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    const std::string key = world.key("127.0.0.1");
    world.sshd.signal_connections(SIGKILL);
    world.sshd.stop();
    EXPECT_TRUE(world.becomes(id, "unreachable"));
    EXPECT_EQ(world.list(), Words{id});
    ASSERT_TRUE(wait_until([&] {
        const Json error = world.connection(key).at("last_error");
        return error.is_object() && error.at("kind") == "connect_refused";
    }));
    // A call makes one attempt now, and gets that attempt's error.
    const Json error = world.rpc().refusal("start", {{"ctx", "server-1"}, {"command", kLong}});
    EXPECT_EQ(error.at("data").at("kind"), "connect_refused");
    EXPECT_EQ(world.list(), Words{id});

    world.sshd.start();
    EXPECT_EQ(world.start("server-1", kLong).at("session").at("state"), "running");
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_EQ(world.stats().at("total_sessions"), 2);
}

// A session that ended while nobody could ask has its true exit code.
TEST(Reconnect, FindsWhatEndedMeanwhile) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"sh", "-c", "read line; exit 6"});
    world.sshd.signal_connections(SIGKILL);
    world.sshd.stop();
    EXPECT_TRUE(world.becomes(id, "unreachable"));
    EXPECT_EQ(world.tmux(1, {"send-keys", "-t", id, "Enter"}).status.code, 0);
    ASSERT_TRUE(wait_until([&] {
        return world.tmux(1, {"display-message", "-p", "-t", id, "#{pane_dead}"}).output == "1\n";
    }));
    world.sshd.start();
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("exit_code"), 6);
}

TEST(Reconnect, CarriesOutAKillThatWasPending) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    world.sshd.signal_connections(SIGKILL);
    world.sshd.stop();
    EXPECT_TRUE(world.becomes(id, "unreachable"));
    const Json killed = world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(killed.at("pending"), true);
    EXPECT_EQ(killed.at("session").at("state"), "unreachable");
    world.sshd.start();
    EXPECT_EQ(world.wait(id).at("state"), "killed");
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1).empty(); }));
}

TEST(Reconnect, TellsThatTheServersTmuxIsGone) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    const pid_t tmux = std::stoi(world.tmux(1, {"display-message", "-p", "#{pid}"}).output);
    ASSERT_EQ(::kill(tmux, SIGKILL), 0);
    const Json lost = world.wait(id);
    EXPECT_EQ(lost.at("state"), "lost");
    EXPECT_TRUE(lost.at("reason").is_string());
    EXPECT_EQ(world.start("server-1", kLong).at("session").at("state"), "running");
    EXPECT_EQ(world.sshd.logins(), 1) << "the connection itself was well";
}

}  // namespace
}  // namespace cmssh::test
