// The API socket as a stranger's program meets it: both framings, JSON-RPC 2.0 to the letter, and whatever else bytes
// can be.
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "tests/support/other_user.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};

class Rpc : public ::testing::Test {
protected:
    // Sends one line and reads one.
    Json exchange(const std::string& line) {
        world.rpc().send_bytes(line + '\n');
        return Json::parse(world.rpc().read_line());
    }
    void expect_error(const std::string& line, int code, const Json& id = nullptr) {
        const Json reply = exchange(line);
        EXPECT_EQ(reply.value("jsonrpc", ""), "2.0") << line;
        ASSERT_TRUE(reply.contains("id")) << line;
        EXPECT_EQ(reply.at("id"), id) << line;
        EXPECT_FALSE(reply.contains("result")) << line;
        EXPECT_EQ(reply.at("error").at("code"), code) << line << '\n' << reply;
        EXPECT_TRUE(reply.at("error").at("message").is_string()) << line;
    }
    void expect_serving() {
        EXPECT_EQ(exchange(R"({"jsonrpc":"2.0","id":"still","method":"ping"})"),
                  Json({{"jsonrpc", "2.0"}, {"id", "still"}, {"result", Json::object()}}));
    }
    // The last words of a connection that the daemon closes.
    void expect_closed(RpcClient& client, int code) {
        const std::string text = client.read_to_end();
        const auto begin = text.find('{');
        ASSERT_NE(begin, std::string::npos) << text;
        const Json reply = Json::parse(text.substr(begin));
        EXPECT_EQ(reply.at("error").at("code"), code) << text;
        EXPECT_TRUE(reply.at("id").is_null()) << text;
        expect_serving();
    }
    static std::string framed(const std::string& text) {
        return "Content-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text;
    }
    static Json read_framed(RpcClient& client) {
        std::string header;
        while (!header.ends_with("\r\n\r\n")) {
            header += client.read_bytes(1);
        }
        constexpr std::string_view kName = "Content-Length: ";
        EXPECT_TRUE(header.starts_with(kName)) << header;
        return Json::parse(client.read_bytes(std::stoul(header.substr(kName.size()))));
    }

    World world{servers(1), "[rpc]\nmax_message = \"64KiB\"\nmax_clients = 20\n"};
};

constexpr const char* kPing = R"({"jsonrpc":"2.0","id":1,"method":"ping"})";
const Json kPong = {{"jsonrpc", "2.0"}, {"id", 1}, {"result", Json::object()}};

TEST_F(Rpc, AnswersOneLineWithOneLine) {
    EXPECT_EQ(exchange(kPing), kPong);
    EXPECT_EQ(exchange(std::string("\r\n\n  ") + kPing + " \r"), kPong);
}

TEST_F(Rpc, AnswersContentLengthWithContentLength) {
    const std::string text = std::string(" ") + kPing + "\n";
    world.rpc().send_bytes(framed(text) + framed(text));
    EXPECT_EQ(read_framed(world.rpc()), kPong);
    EXPECT_EQ(read_framed(world.rpc()), kPong);
    world.rpc().send_bytes("content-length:" + std::to_string(text.size()) +
                           "\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n" + text);
    EXPECT_EQ(read_framed(world.rpc()), kPong);
}

TEST_F(Rpc, TakesMessagesByteByByte) {
    for (const char byte : std::string(kPing) + '\n') {
        world.rpc().send_bytes(std::string(1, byte));
    }
    EXPECT_EQ(Json::parse(world.rpc().read_line()), kPong);
    RpcClient other(world.daemon.socket_path());
    for (const char byte : framed(kPing)) {
        other.send_bytes(std::string(1, byte));
    }
    EXPECT_EQ(read_framed(other), kPong);
}

// The examples of https://www.jsonrpc.org/specification, section 7, with methods that exist here.
TEST_F(Rpc, NamedParametersAndAnyKindOfId) {
    const Json expected = {{"sessions", Json::array()}};
    EXPECT_EQ(exchange(R"({"jsonrpc": "2.0", "method": "list", "params": {"all": true}, "id": 3})").at("result"),
              expected);
    EXPECT_EQ(exchange(R"({"id": 4, "params": {"all": false}, "method": "list", "jsonrpc": "2.0"})").at("result"),
              expected);
    for (const std::string id : {"0", "-5", "18446744073709551615", "1.5", "\"\"", "\"größer\"", "null"}) {
        const Json reply = exchange(R"({"jsonrpc":"2.0","method":"ping","id":)" + id + '}');
        EXPECT_EQ(reply.at("id"), Json::parse(id));
        EXPECT_TRUE(reply.contains("result"));
    }
}

TEST_F(Rpc, PositionalParametersAreRefused) {
    expect_error(R"({"jsonrpc": "2.0", "method": "list", "params": [42, 23], "id": 1})", -32602, 1);
}

TEST_F(Rpc, NotificationsAreNotAnswered) {
    world.rpc().send_bytes(R"({"jsonrpc": "2.0", "method": "ping", "params": {}})"
                           "\n"
                           R"({"jsonrpc": "2.0", "method": "foobar"})"
                           "\n"
                           R"({"jsonrpc": "2.0", "method": "list", "params": [1, 2]})"
                           "\n"
                           R"({"jsonrpc": "2.0", "method": "list", "params": {"no such": 1}})"
                           "\n");
    expect_serving();
}

TEST_F(Rpc, AMethodThatDoesNotExist) {
    expect_error(R"({"jsonrpc": "2.0", "method": "foobar", "id": "1"})", -32601, "1");
    expect_error(R"({"jsonrpc": "2.0", "method": "", "id": 7})", -32601, 7);
    expect_error(R"({"jsonrpc": "2.0", "method": "Ping", "id": 8})", -32601, 8);
}

TEST_F(Rpc, InvalidJson) {
    for (const std::string line :
         {R"({"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz])", "{", "[", "{]", "{\"a\":1,}",
          "{'jsonrpc':'2.0'}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x", "[1,2",
          R"([{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method")",
          "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\x01\"}",
          "{\"jsonrpc\":\"2.0\",\"id\":123456789012345678901234567890,\"method\":\"ping\"}"}) {
        expect_error(line, -32700);
    }
    world.rpc().send_bytes(std::string("{\"a\":\"\0\"}\n", 10));
    EXPECT_EQ(Json::parse(world.rpc().read_line()).at("error").at("code"), -32700);
    expect_serving();
}

TEST_F(Rpc, InvalidRequests) {
    expect_error(R"({"jsonrpc": "2.0", "method": 1, "params": "bar"})", -32600);
    expect_error(R"({"jsonrpc": "2.0", "method": "ping", "params": "bar", "id": 5})", -32600, 5);
    expect_error(R"({"jsonrpc": "1.0", "method": "ping", "id": 5})", -32600, 5);
    expect_error(R"({"method": "ping", "id": 5})", -32600, 5);
    expect_error(R"({"jsonrpc": "2.0", "id": 5})", -32600, 5);
    expect_error(R"({"jsonrpc": "2.0", "method": "ping", "id": {"a": 1}})", -32600);
    expect_error(R"({"jsonrpc": "2.0", "method": "ping", "id": true})", -32600);
    expect_error("{}", -32600);
    expect_error("[]", -32600);
    expect_serving();
}

TEST_F(Rpc, InvalidBatches) {
    const Json invalid = exchange("[1,2,3]");
    ASSERT_EQ(invalid.size(), 3U);
    for (const auto& reply : invalid) {
        EXPECT_EQ(reply.at("error").at("code"), -32600);
        EXPECT_TRUE(reply.at("id").is_null());
    }
    EXPECT_EQ(exchange("[1]").size(), 1U);
    std::string large = "[" + std::string(kPing);
    for (int i = 0; i < 100; ++i) {
        large += ',' + std::string(kPing);
    }
    expect_error(large + ']', -32019);
    expect_serving();
}

TEST_F(Rpc, Batches) {
    const Json replies = exchange(R"([{"jsonrpc": "2.0", "method": "list", "params": {"all": true}, "id": "1"},)"
                                  R"({"jsonrpc": "2.0", "method": "ping", "params": {}},)"
                                  R"({"jsonrpc": "2.0", "method": "list", "params": [42,23], "id": "2"},)"
                                  R"({"foo": "boo"},)"
                                  R"({"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},)"
                                  R"({"jsonrpc": "2.0", "method": "ping", "id": "9"}])");
    ASSERT_TRUE(replies.is_array());
    std::map<Json, Json> by_id;
    for (const auto& reply : replies) {
        by_id[reply.at("id")] = reply;
    }
    EXPECT_EQ(replies.size(), 5U);
    EXPECT_EQ(by_id["1"].at("result").at("sessions"), Json::array());
    EXPECT_EQ(by_id["2"].at("error").at("code"), -32602);
    EXPECT_EQ(by_id[nullptr].at("error").at("code"), -32600);
    EXPECT_EQ(by_id["5"].at("error").at("code"), -32601);
    EXPECT_EQ(by_id["9"].at("result"), Json::object());
}

TEST_F(Rpc, ABatchOfNotificationsIsNotAnswered) {
    world.rpc().send_bytes(
        R"([{"jsonrpc": "2.0", "method": "ping"},{"jsonrpc": "2.0", "method": "foobar", "params": {}}])"
        "\n");
    expect_serving();
}

TEST_F(Rpc, DeepNesting) {
    const auto nested = [](std::size_t depth) {
        return R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":)" + std::string(depth, '[') +
               std::string(depth, ']') + "}}";
    };
    expect_error(nested(62), -32602, 1);
    expect_error(nested(63), -32700);
    expect_error(std::string(60'000, '['), -32700);
    expect_error(std::string(30'000, '[') + std::string(30'000, ']'), -32700);
    std::string objects;
    for (int i = 0; i < 10'000; ++i) {
        objects += "{\"a\":";
    }
    expect_error(objects, -32700);
    expect_serving();
}

TEST_F(Rpc, ParametersAreReadStrictly) {
    const auto refused = [this](const std::string& method, const Json& params, const std::string& named) {
        const Json error = world.rpc().refusal(method, params);
        EXPECT_EQ(error.at("code"), -32602) << error;
        EXPECT_NE(error.at("message").get<std::string>().find(named), std::string::npos) << error;
    };
    refused("ping", {{"unknown", 1}}, "unknown");
    refused("list", {{"all", "yes"}}, "all");
    refused("list", {{"state", "asleep"}}, "state");
    refused("get", Json::object(), "session");
    refused("get", {{"session", 5}}, "session");
    refused("get", {{"session", nullptr}}, "session");
    refused("start", {{"ctx", "server-1"}}, "command");
    refused("start", {{"ctx", "server-1"}, {"command", Json::array()}}, "command");
    refused("start", {{"ctx", "server-1"}, {"command", {""}}}, "command");
    refused("start", {{"ctx", "server-1"}, {"command", "sleep 1"}}, "command");
    refused("start", {{"ctx", "server-1"}, {"command", {"sleep", 1}}}, "command");
    refused("start", {{"ctx", "server-1"}, {"command", {std::string("a\0b", 3)}}}, "command");
    refused("start", {{"ctx", "server-1"}, {"command", kLong}, {"env", {{"A", 1}}}}, "env");
    refused("start", {{"ctx", "server-1"}, {"command", kLong}, {"env", {{"A=B", "x"}}}}, "env");
    refused("start", {{"ctx", "server-1"}, {"command", kLong}, {"env", {{"1A", "x"}}}}, "env");
    refused("start", {{"ctx", "server-1"}, {"command", kLong}, {"size", {{"cols", 0}, {"rows", 24}}}}, "cols");
    refused("start", {{"ctx", "server-1"}, {"command", kLong}, {"size", {{"cols", 80}, {"rows", -1}}}}, "rows");
    refused("wait", {{"session", "x"}, {"timeout_ms", -1}}, "timeout_ms");
    refused("wait", {{"session", "x"}, {"timeout_ms", 1.5}}, "timeout_ms");
    EXPECT_EQ(world.sshd.logins(), 0);
}

TEST_F(Rpc, ATooLongLineIsRefusedAndEndsTheConnection) {
    RpcClient client(world.daemon.socket_path());
    client.send_bytes(std::string("{\"a\":\"") + std::string(64 * 1024, 'x'));
    expect_closed(client, -32019);
}

TEST_F(Rpc, AMessageOfTheLongestLengthIsTaken) {
    std::string text = kPing;
    text.resize(64 * 1024, ' ');
    EXPECT_EQ(exchange(text), kPong);
    RpcClient client(world.daemon.socket_path());
    client.send_bytes(framed(text));
    EXPECT_EQ(read_framed(client), kPong);
    client.send_bytes("Content-Length: 65537\r\n\r\n");
    expect_closed(client, -32019);
}

TEST_F(Rpc, WhatIsNoJsonRpcIsRefusedAndEndsTheConnection) {
    for (const std::string& bytes :
         {std::string("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), std::string("SSH-2.0-OpenSSH_9.2\r\n"),
          std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), std::string("\0\0\0\4", 4),
          std::string("\"text\"\n"), std::string("Content-Length: -1\r\n\r\n"),
          std::string("Content-Length: 10\r\nContent-Length: 10\r\n\r\n"), std::string("Content-Length: 1x\r\n\r\n"),
          std::string("Content-Type: text/plain\r\n\r\n"), std::string("Content-Length: 2\r\n\r\n{}rubbish\r\n")}) {
        RpcClient client(world.daemon.socket_path());
        client.send_bytes(bytes);
        client.close_writing();
        const std::string text = client.read_to_end();
        EXPECT_NE(text.find("-32600"), std::string::npos) << bytes << " -> " << text;
    }
    expect_serving();
}

TEST_F(Rpc, ManyCallsMayBeUnderWay) {
    std::string requests;
    constexpr int kCalls = 1000;
    for (int id = 1; id <= kCalls; ++id) {
        requests += R"({"jsonrpc":"2.0","method":"ping","id":)" + std::to_string(id) + "}\n";
    }
    world.rpc().send_bytes(requests);
    std::set<int> answered;
    for (int i = 0; i < kCalls; ++i) {
        answered.insert(Json::parse(world.rpc().read_line()).at("id").get<int>());
    }
    EXPECT_EQ(answered.size(), 1000U);
}

TEST_F(Rpc, ASlowCallDoesNotHoldUpTheNext) {
    const std::string id = world.start_id("server-1", kLong);
    const int slow = world.rpc().send("wait", {{"session", id}});
    EXPECT_EQ(world.rpc().call("ping"), Json::object());
    world.rpc().call("kill", {{"session", id}});
    EXPECT_EQ(world.rpc().reply(slow).at("result").at("session").at("state"), "killed");
}

TEST_F(Rpc, AClientThatOnlyReadsOnGetsItsAnswers) {
    RpcClient client(world.daemon.socket_path());
    const int call = client.send("start", {{"ctx", "server-1"}, {"command", kLong}});
    client.close_writing();
    EXPECT_EQ(client.reply(call).at("result").at("session").at("state"), "running");
    EXPECT_EQ(client.read_to_end(), "");
}

// printf '…' | nc -N
TEST_F(Rpc, ALastLineNeedsNoEnd) {
    for (const bool whole : {true, false}) {
        RpcClient client(world.daemon.socket_path());
        const std::string line(kPing);
        client.send_bytes(line.substr(0, line.size() - (whole ? 0 : 1)));
        client.close_writing();
        const Json reply = Json::parse(client.read_line());
        EXPECT_EQ(whole ? reply : reply.at("error").at("code"), whole ? kPong : Json(-32700));
        EXPECT_EQ(client.read_to_end(), "");
    }
}

TEST_F(Rpc, AClientThatLeavesInMidCallTakesNothingWithIt) {
    const std::string id = world.start_id("server-1", kLong);
    {
        RpcClient client(world.daemon.socket_path());
        client.send("wait", {{"session", id}});
        client.send("check");
        client.send_bytes("{\"jsonrpc\":");
    }
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 1; }));
    EXPECT_EQ(world.session(id).at("state"), "running");
}

TEST_F(Rpc, AClientThatNeverReadsHoldsUpNobody) {
    RpcClient lazy(world.daemon.socket_path());
    std::string requests;
    constexpr int kCalls = 1000;
    for (int id = 1; id <= kCalls; ++id) {
        requests += R"({"jsonrpc":"2.0","method":"rpc.discover","id":)" + std::to_string(id) + "}\n";
    }
    lazy.send_bytes(requests);
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(world.rpc().call("ping"), Json::object());
    }
    // And it loses nothing when it does read.
    for (int i = 0; i < kCalls; ++i) {
        ASSERT_TRUE(Json::parse(lazy.read_line()).contains("result"));
    }
}

TEST_F(Rpc, OneClientTooManyIsToldSo) {
    std::vector<std::unique_ptr<RpcClient>> clients;
    for (int i = 0; i < 20; ++i) {
        clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
        EXPECT_EQ(clients.back()->call("ping"), Json::object());
    }
    RpcClient extra(world.daemon.socket_path());
    EXPECT_NE(extra.read_to_end().find("-32019"), std::string::npos);
    clients.pop_back();
    ASSERT_TRUE(wait_until([&] { return clients.front()->call("stats").at("daemon").at("clients") == 19; }));
    EXPECT_EQ(world.rpc().call("ping"), Json::object());
}

TEST_F(Rpc, TheSocketIsItsUsersAlone) {
    struct stat status {};
    ASSERT_EQ(::stat(world.daemon.socket_path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    ASSERT_EQ(::stat(world.daemon.runtime_dir().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0700U);
    ASSERT_EQ(::stat((world.dir / "state/cmssh").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

// Even where the file's mode would let it in.
TEST_F(Rpc, AnotherUserIsClosedUnheard) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "only root can become another user";
    }
    for (const auto& path : {world.dir.path(), world.dir / "run", world.daemon.runtime_dir()}) {
        ASSERT_EQ(::chmod(path.c_str(), 0711), 0);
    }
    ASSERT_EQ(::chmod(world.daemon.socket_path().c_str(), 0666), 0);
    const auto client = [&] {
        const AsNobody nobody;
        return std::make_unique<RpcClient>(world.daemon.socket_path());
    }();
    EXPECT_THROW(client->call("ping"), RpcFailure);
    expect_serving();
}

TEST_F(Rpc, DiscoverDescribesEveryMethod) {
    const Json document = world.rpc().call("rpc.discover");
    EXPECT_TRUE(document.at("openrpc").get<std::string>().starts_with("1."));
    std::set<std::string> described;
    for (const auto& method : document.at("methods")) {
        described.insert(method.at("name"));
        EXPECT_TRUE(method.at("params").is_array());
        EXPECT_TRUE(method.at("result").at("schema").is_object());
        EXPECT_TRUE(method.at("errors").is_array());
    }
    const Json version = world.rpc().call("version");
    EXPECT_EQ(version.at("protocol"), 1);
    for (const auto& capability : version.at("capabilities")) {
        EXPECT_TRUE(described.contains(capability) || capability == "rpc.discover") << capability;
    }
    for (const auto& method : described) {
        EXPECT_NE(world.rpc().reply(world.rpc().send(method, {{"no such parameter", 1}})).at("error").at("code"),
                  -32601)
            << method << " is described, but does not exist";
    }
}

TEST_F(Rpc, StatsTellOfTheDaemonItself) {
    const Json before = world.stats().at("daemon");
    EXPECT_EQ(before.at("pid"), world.daemon.pid());
    EXPECT_EQ(before.at("clients"), 1);
    EXPECT_GT(before.at("rss_bytes"), 0);
    world.rpc().refusal("get", {{"session", "nobody"}});
    const Json after = world.stats().at("daemon");
    EXPECT_EQ(after.at("requests").get<int>(), before.at("requests").get<int>() + 2);
    EXPECT_EQ(after.at("errors").get<int>(), before.at("errors").get<int>() + 1);
}

}  // namespace
}  // namespace cmssh::test
