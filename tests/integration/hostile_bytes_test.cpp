// Bytes that are no requests, too many of them, too slowly, or for nobody to read: an error or a close, and nobody else
// is held up.
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "tests/support/bystander.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;

const Words kLong = {"sleep", "1000"};

constexpr std::size_t kMiB = 1024 * 1024;

// An ssh that knows no server: nothing that a mutation makes of a name is looked up anywhere.
void blind_ssh(World& world) {
    const std::string program = world.dir / "no-ssh";
    write_file(program, "#!/bin/sh\necho 'no such server' >&2\nexit 255\n");
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    write_file(world.daemon.config_file(), "[ssh]\nprogram = \"" + program + "\"\n");
    world.rpc().call("reload");
}

// One of each method but shutdown, and subscribe: that keeps a connection open. session: of one that has ended, or a
// wait would not be over.
Words valid_requests(const std::string& session) {
    const std::pair<const char*, Json> calls[] = {
        {"start",
         {{"ctx", "server-1"},
          {"command", {"printf", "%s", "a b"}},
          {"name", "job"},
          {"cwd", "~/src"},
          {"env", {{"A", "b"}, {"LANG", "C"}}},
          {"size", {{"cols", 80}, {"rows", 24}}},
          {"request_id", "r-1"}}},
        {"list", {{"ctx", "server-1"}, {"all", true}, {"state", "exited"}}},
        {"get", {{"session", session}}},
        {"kill", {{"session", session}, {"signal", "TERM"}, {"forget", false}}},
        {"wait", {{"session", session}, {"timeout_ms", 1}}},
        {"logs", {{"session", session}, {"lines", 10}, {"escapes", true}}},
        {"send", {{"session", session}, {"text", "größer 漢\u202e"}, {"keys", {"Up", "C-c"}}, {"enter", false}}},
        {"attach", {{"session", session}, {"interactive", false}}},
        {"acquire", {{"ctx", "server-1"}, {"auth_sock", "/tmp/agent"}}},
        {"release", {{"lease", "lease-aaaaaaaaaaaa"}}},
        {"exec",
         {{"ctx", "server-1"},
          {"command", {"cat"}},
          {"stdin", "aGk="},
          {"stdin_encoding", "base64"},
          {"timeout_ms", 100}}},
        {"forward.add", {{"ctx", "server-1"}, {"kind", "local"}, {"listen", "127.0.0.1:0"}, {"target", "localhost:1"}}},
        {"forward.list", {{"ctx", "server-1"}}},
        {"forward.remove", {{"forward", "fwd-aaaaaaaa"}}},
        {"connect", {{"ctx", "server-1"}, {"interactive", false}}},
        {"disconnect", {{"ctx", "server-1"}, {"force", false}}},
        {"check", {{"ctx", "server-1"}}},
        {"stats", Json::object()},
        {"contexts", Json::object()},
        {"unsubscribe", {{"subscription", "sub-1"}}},
        {"answer", {{"prompt", "p-1"}, {"text", "yes"}, {"cancel", false}}},
        {"ping", Json::object()},
        {"version", Json::object()},
        {"reload", Json::object()},
        {"rpc.discover", Json::object()},
    };
    Words requests;
    int id = 0;
    for (const auto& [method, params] : calls) {
        requests.push_back(Json{{"jsonrpc", "2.0"}, {"id", ++id}, {"method", method}, {"params", params}}.dump());
    }
    requests.push_back('[' + requests[1] + ',' + requests[2] + ',' + requests.back() + ']');
    return requests;
}

class Mutator {
public:
    Mutator(Words valid, unsigned seed) : valid_(std::move(valid)), random_(seed) {}

    // Some bytes that begin as a request in either framing, and end anywhere.
    std::string next() {
        std::string text = pick(valid_);
        const bool headers = below(4) == 0;
        if (headers && below(2) == 0) {
            text = framed(text);
        }
        for (std::size_t count = below(4); count != static_cast<std::size_t>(-1); --count) {
            mutate(text);
        }
        if (headers && !text.starts_with("Content")) {
            text = framed(text);
        }
        return text;
    }

private:
    static std::string framed(const std::string& text) {
        return "Content-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text;
    }
    std::size_t below(std::size_t end) { return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_); }
    const std::string& pick(const Words& words) { return words[below(words.size())]; }

    void mutate(std::string& text) {
        static const Words kDictionary = {"null",
                                          "-1",
                                          "1e400",
                                          "18446744073709551616",
                                          "1.5",
                                          "true",
                                          "\"\"",
                                          "[]",
                                          "{}",
                                          "\\u0000",
                                          "\\ud800",
                                          "\xff",
                                          "\xc3",
                                          "\x1b]0;x\x07",
                                          "\n",
                                          "\r\n\r\n",
                                          "\"",
                                          "\\",
                                          "[[[[",
                                          "{\"a\":",
                                          "Content-Length: 5\r\n",
                                          "$(id)",
                                          "-oProxyCommand=x",
                                          "\u202e",
                                          "99999999999999999999",
                                          "\t",
                                          "}{",
                                          "\"id\":1,"};
        const std::size_t at = below(text.size() + 1);
        const std::size_t length = std::min(below(16) + 1, text.size() - at);
        switch (below(7)) {
            case 0:
                if (at < text.size()) {
                    text[at] = static_cast<char>(below(256));
                }
                break;
            case 1:
                text.erase(at, length);
                break;
            case 2:
                text.insert(at, text.substr(at, length));
                break;
            case 3:
                text.insert(at, pick(kDictionary));
                break;
            case 4:
                text.resize(at);
                break;
            case 5: {
                const std::string& other = pick(valid_);
                text = text.substr(0, at) + other.substr(below(other.size()));
                break;
            }
            default:
                text.replace(at, length, pick(kDictionary));
                break;
        }
    }

    Words valid_;
    std::mt19937 random_;
};

// Whatever came back: replies, each whole. The calls have ended by then, and the connection with them.
void expect_replies(const std::string& text, const std::string& to) {
    const auto is_reply = [](const Json& it) {
        return it.is_object() && it.value("jsonrpc", "") == "2.0" &&
               (it.contains("method") || (it.contains("id") && it.contains("result") != it.contains("error")));
    };
    std::size_t at = 0;
    while (at < text.size()) {
        std::size_t end = text.find('\n', at);
        if (text.compare(at, 16, "Content-Length: ") == 0) {
            at = text.find("\r\n\r\n", at) + 4;
            end = at + std::stoul(text.substr(text.rfind(' ', at) + 1));
        }
        const Json message = Json::parse(text.substr(at, end - at), nullptr, false);
        const bool good =
            message.is_array() ? std::all_of(message.begin(), message.end(), is_reply) : is_reply(message);
        if (!good) {
            throw std::runtime_error("to " + Json(to).dump(-1, ' ', true, Json::error_handler_t::replace) + " came " +
                                     text.substr(0, 1000));
        }
        at = end + (text[end] == '\n' ? 1 : 0);
    }
}

// Some at once, as a crowd would.
void attack_with(World& world, Mutator& mutator, int count) {
    constexpr std::size_t kAtOnce = 16;
    struct Attempt {
        RpcClient client;
        std::string bytes;
    };
    std::vector<std::unique_ptr<Attempt>> attempts;
    while (count > 0 || !attempts.empty()) {
        if (count > 0 && attempts.size() < kAtOnce) {
            --count;
            attempts.push_back(
                std::make_unique<Attempt>(Attempt{RpcClient(world.daemon.socket_path()), mutator.next()}));
            try {
                attempts.back()->client.send_bytes(attempts.back()->bytes);
                attempts.back()->client.close_writing();
            } catch (const RpcFailure&) {
                // It was closed at once.
            }
            continue;
        }
        for (const auto& attempt : attempts) {
            expect_replies(attempt->client.read_to_end(), attempt->bytes);
        }
        attempts.clear();
    }
}

TEST(Mutations, OfValidRequestsAreAnsweredOrClosedAndHoldUpNobody) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"true"});
    world.wait(id);
    blind_ssh(world);
    Mutator mutator(valid_requests(id), 20261129);
    attack_with(world, mutator, 1000);  // what is made at the first use is there now
    Bystander bystander(world);
    Footprint before(world);
    bystander.watch([&] { attack_with(world, mutator, 9000); });
    before.expect_back(4 * kMiB);
    EXPECT_EQ(world.session(id).at("exit_code"), 0);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Dribblers, HoldUpNobodyAndAreServedInTheEnd) {
    World world(servers(1));
    constexpr int kClients = 100;
    const std::string ping = R"({"jsonrpc":"2.0","id":1,"method":"ping"})";
    const std::string forms[] = {ping + '\n', "Content-Length: " + std::to_string(ping.size()) + "\r\n\r\n" + ping};
    Bystander bystander(world);
    Footprint before(world);
    bystander.watch([&] {
        std::vector<std::unique_ptr<RpcClient>> clients;
        for (int i = 0; i < kClients; ++i) {
            clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
        }
        for (std::size_t at = 0; at < forms[1].size(); ++at) {
            for (std::size_t i = 0; i < clients.size(); ++i) {
                clients[i]->send_bytes(at < forms[i % 2].size() ? forms[i % 2].substr(at, 1) : "");
            }
        }
        for (const auto& client : clients) {
            client->close_writing();
            if (client->read_to_end().find(R"("result":{})") == std::string::npos) {
                throw std::runtime_error("a dribbler was not served");
            }
        }
    });
    before.expect_back(4 * kMiB);
}

TEST(TooLongMessages, EndTheirConnectionsAndHoldUpNobody) {
    World world(servers(1));
    constexpr std::size_t kMaxMessage = 8 * kMiB;
    Bystander bystander(world);
    Footprint before(world);
    bystander.watch([&] {
        for (const char* begin :
             {"{\"a\":\"", "[", " ", "Content-Length: 8388609\r\n\r\n", "Content-Length: 99999999999999999999"}) {
            RpcClient client(world.daemon.socket_path());
            const std::string filling(64 * 1024, 'x');
            std::size_t sent = 0;
            try {
                for (client.send_bytes(begin); sent <= kMaxMessage + kMiB; sent += filling.size()) {
                    client.send_bytes(filling);
                }
                throw std::runtime_error(std::string(begin) + " is read without an end");
            } catch (const RpcFailure&) {
                // It was closed.
            }
            const std::string told = client.read_to_end();
            if (told.find("-32019") == std::string::npos && told.find("-32600") == std::string::npos) {
                throw std::runtime_error(std::string(begin) + ": " + told);
            }
        }
    });
    before.expect_back(4 * kMiB);
}

// As JSON they are many times as large as they are long.
TEST(LargeMessages, OfManyValuesLeaveNoMemoryBehindAndHoldUpNobody) {
    World world(servers(1));
    Bystander bystander(world);
    Footprint before(world);
    const auto code_for = [&](const std::string& message) {
        RpcClient client(world.daemon.socket_path());
        client.send_bytes(message + '\n');
        return Json::parse(client.read_line()).at("error").at("code").get<int>();
    };
    const auto brackets = [](const std::string& filling, std::size_t size) {
        std::string text = R"({"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":[)" + filling;
        while (text.size() + filling.size() + 4 < size) {
            text += ',' + filling;
        }
        return text + "]}}";
    };
    const auto fields = [](const std::string& begin, const std::string& prefix, const std::string& value) {
        constexpr int kFields = 19'900;
        std::string text = begin + R"(")" + prefix + R"(0":)" + value;
        for (int i = 1; i < kFields; ++i) {
            text += ",\"" + prefix + std::to_string(i) + "\":" + value;
        }
        return text;
    };
    // As many as are allowed, and more.
    const std::pair<std::string, int> messages[] = {
        {brackets("{}", 100 * 1024), -32602},
        {brackets("[[[]]]", 80 * 1024), -32602},
        {fields(R"({"jsonrpc":"2.0","id":1,"method":"list","params":{)", "k", "1") + "}}", -32602},
        {fields(R"({"jsonrpc":"2.0","id":1,"method":"list","params":{)", std::string(200, 'k'), "{}") + "}}", -32602},
        {fields(R"({"jsonrpc":"2.0","id":1,"method":"start","params":{"ctx":"server-1","command":["x"],"env":{)", "V",
                "\"\"") +
             "}}}",
         -32019},
        {brackets("{}", 8 * kMiB), -32019},
        {brackets("[[[]]]", 8 * kMiB), -32019},
    };
    bystander.watch([&] {
        for (const auto& [message, code] : messages) {
            if (const int answered = code_for(message); answered != code) {
                throw std::runtime_error(message.substr(0, 100) + " is answered by " + std::to_string(answered));
            }
        }
    });
    if (!kSanitized) {
        EXPECT_LT(bystander.peak(), 64 * kMiB);
    }
    before.expect_back(16 * kMiB);
}

// Each is within its own bound, and together they are twice what all may hold.
TEST(LargeMessages, OfManyClientsAreBoundedTogether) {
    World world(servers(1));
    Bystander bystander(world);
    Footprint before(world);
    constexpr std::size_t kClients = 40;
    constexpr std::size_t kEach = 6 * kMiB;
    static_assert(kClients * kEach > 200 * kMiB);
    std::size_t refused = 0;
    bystander.watch([&] {
        refused = 0;
        std::vector<std::unique_ptr<RpcClient>> clients;
        for (std::size_t i = 0; i < kClients; ++i) {
            clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
            try {
                clients.back()->send_bytes('[' + std::string(kEach, ' '));
            } catch (const RpcFailure&) {
                ++refused;
                if (clients.back()->read_to_end().find("-32019") == std::string::npos) {
                    throw std::runtime_error("closed without a word");
                }
            }
        }
    });
    EXPECT_GE(refused, kClients / 3);
    EXPECT_LT(refused, kClients);
    if (!kSanitized) {
        EXPECT_LT(bystander.peak(), 192 * kMiB);
    }
    before.expect_back(16 * kMiB);
}

TEST(ContentLengths, ThatAreLiesReserveNothingAndEndTheirConnectionAlone) {
    World world(servers(1));
    Footprint before(world);
    // As large as is allowed, and never sent.
    std::vector<std::unique_ptr<RpcClient>> clients;
    constexpr int kClients = 200;
    for (int i = 0; i < kClients; ++i) {
        clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
        clients.back()->send_bytes("Content-Length: 8388608\r\n\r\n{");
    }
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == kClients + 1; }));
    if (!kSanitized) {
        EXPECT_LT(resident_bytes(world.daemon.pid()), 64 * kMiB);
    }
    for (const auto& client : clients) {
        client->close_writing();
        EXPECT_EQ(client->read_to_end(), "") << "a half message is none";
    }
    clients.clear();
    const std::string ping = R"({"jsonrpc":"2.0","id":1,"method":"ping"})";
    const std::pair<std::string, std::string> lies[] = {
        {"Content-Length: 0\r\n\r\n", "-32700"},
        {"Content-Length: 39\r\n\r\n" + ping, "-32700"},
        {"Content-Length: 41\r\n\r\n" + ping + "Content-Length: 40\r\n\r\n" + ping, "-32700"},
        {"Content-Length: 40\r\n\r\n" + ping + ping, "-32600"},
        {"Content-Length: 40, 40\r\n\r\n" + ping, "-32600"},
        {"Content-Length: 0x28\r\n\r\n" + ping, "-32600"},
        {"Content-Length: +40\r\n\r\n" + ping, "-32600"},
        {"Content-Length: 18446744073709551656\r\n\r\n" + ping, "-32019"},
        {"Content-Length: 40\r\n" + std::string(5000, 'X'), "-32600"},
        {"Content-Length", "-32600"},
    };
    for (const auto& [bytes, code] : lies) {
        RpcClient client(world.daemon.socket_path());
        client.send_bytes(bytes);
        client.close_writing();
        EXPECT_THAT(client.read_to_end(), HasSubstr(code)) << bytes;
    }
    before.expect_back(4 * kMiB);
}

TEST(Unread, RepliesAreBoundedAndHoldUpNobody) {
    World world(servers(1));
    constexpr std::size_t kReply = 30'000;
    constexpr std::size_t kCalls = 2000;
    static_assert(kReply * kCalls * 3 > 128 * kMiB);
    world.start("server-1", {"cat", std::string(kReply, 'x')}, {{"name", "job"}});
    // So much fits into the kernel's buffer, whether or not it is read.
    std::string requests;
    for (std::size_t i = 0; i < kCalls; ++i) {
        requests += R"({"jsonrpc":"2.0","method":"get","params":{"session":"job"},"id":1})"
                    "\n";
    }
    Bystander bystander(world);
    Footprint before(world);
    bystander.watch([&] {
        std::vector<std::unique_ptr<RpcClient>> lazy;
        RpcClient other(world.daemon.socket_path());
        for (int i = 0; i < 3; ++i) {
            lazy.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
            lazy.back()->send_bytes(requests);
            // Until it is as far as it gets: a few hundred replies.
            for (int turn = 0; turn < 50; ++turn) {
                other.call("ping");
            }
        }
    });
    if (!kSanitized) {
        EXPECT_LT(bystander.peak(), 64 * kMiB);
    }
    before.expect_back(16 * kMiB);
}

TEST(InFlight, RequestsAreBoundedForEachClient) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    RpcClient busy(world.daemon.socket_path());
    constexpr int kInFlight = 128;
    std::vector<int> waits;
    for (int i = 0; i < kInFlight; ++i) {
        waits.push_back(busy.send("wait", {{"session", id}}));
    }
    const int held = busy.send("ping");
    const auto requests = [&] { return world.stats().at("daemon").at("requests").get<int>(); };
    // The start, all that wait, and each that asked.
    int asked = 0;
    ASSERT_TRUE(wait_until([&] { return requests() == kInFlight + 1 + ++asked; }));
    // What comes after it on another connection is answered, while its own is not even read.
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(requests(), kInFlight + 1 + ++asked);
    }
    world.rpc().call("kill", {{"session", id}});
    for (const int wait : waits) {
        EXPECT_EQ(busy.reply(wait).at("result").at("session").at("state"), "killed");
    }
    EXPECT_TRUE(busy.reply(held).contains("result"));
}

TEST(Subscriptions, AreBoundedForEachClient) {
    World world(servers(1));
    constexpr int kMost = 16;
    std::string last;
    for (int i = 0; i < kMost; ++i) {
        last = world.rpc().call("subscribe").at("subscription");
    }
    EXPECT_EQ(world.rpc().refusal("subscribe").at("code"), -32019);
    RpcClient other(world.daemon.socket_path());
    EXPECT_TRUE(other.call("subscribe").contains("subscription"));
    world.rpc().call("unsubscribe", {{"subscription", last}});
    EXPECT_TRUE(world.rpc().call("subscribe").contains("subscription"));
}

}  // namespace
}  // namespace cmssh::test
