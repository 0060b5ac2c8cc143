// Forwards: real bytes through ports and sockets, and what becomes of them when masters, owners and daemons go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;

const Words kLong = {"sleep", "1000"};
constexpr const char* kAlert = "[pool]\nhealth_interval = \"200ms\"\nhealth_timeout = \"500ms\"\n";

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;

    [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Address tcp(int port) {
    Address address;
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<std::uint16_t>(port));
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::memcpy(&address.storage, &v4, sizeof(v4));
    address.size = sizeof(v4);
    return address;
}

Address unix_path(const std::string& path) {
    Address address;
    sockaddr_un place{};
    place.sun_family = AF_UNIX;
    path.copy(place.sun_path, sizeof(place.sun_path) - 1);
    std::memcpy(&address.storage, &place, sizeof(place));
    address.size = sizeof(place);
    return address;
}

// One end of a connection. Everything that is waited for has a deadline.
class Stream {
public:
    explicit Stream(UniqueFd fd) : fd_(std::move(fd)) {
        const timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }
    // Nobody listens: an empty one.
    static Stream connect(const Address& address) {
        UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        return ::connect(fd.get(), address.get(), address.size) == 0 ? Stream(std::move(fd)) : Stream(UniqueFd());
    }

    explicit operator bool() const { return static_cast<bool>(fd_); }
    void send(std::string_view bytes) const {
        ASSERT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    }
    // Shorter where it ends before.
    [[nodiscard]] std::string read(std::size_t size) const {
        std::string bytes(size, '\0');
        const ssize_t count = ::recv(fd_.get(), bytes.data(), size, MSG_WAITALL);
        bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
        return bytes;
    }

private:
    UniqueFd fd_;
};

// What a forward leads to.
class Listener {
public:
    explicit Listener(const Address& address)
        : fd_(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        if (::bind(fd_.get(), address.get(), address.size) != 0 || ::listen(fd_.get(), 8) != 0) {
            throw std::runtime_error(std::string("a listener: ") + std::strerror(errno));
        }
        const timeval patience{.tv_sec = kPatience.count(), .tv_usec = 0};
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    }
    Listener() : Listener(tcp(0)) {}

    [[nodiscard]] int port() const {
        sockaddr_in address{};
        socklen_t size = sizeof(address);
        ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
        return ntohs(address.sin_port);
    }
    [[nodiscard]] std::string target() const { return "127.0.0.1:" + std::to_string(port()); }
    [[nodiscard]] Stream accept() const {
        return Stream(UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    }

private:
    UniqueFd fd_;
};

int free_port() {
    return Listener().port();
}

bool somebody_listens(int port) {
    return static_cast<bool>(Stream::connect(tcp(port)));
}

// Both ways, from a client's end to what the forward leads to.
void expect_connected(const Stream& client, const Listener& target) {
    ASSERT_TRUE(client);
    const Stream server = target.accept();
    ASSERT_TRUE(server);
    client.send("question");
    EXPECT_EQ(server.read(8), "question");
    server.send("answer");
    EXPECT_EQ(client.read(6), "answer");
}

Json add(World& world, const std::string& kind, const std::string& listen, const std::string& target,
         Json extra = Json::object()) {
    Json params = {{"ctx", "server-1"}, {"kind", kind}, {"listen", listen}};
    if (!target.empty()) {
        params["target"] = target;
    }
    params.update(extra);
    return world.rpc().call("forward.add", params).at("forward");
}

Json forwards(World& world) {
    return world.rpc().call("forward.list").at("forwards");
}

bool is_active(World& world) {
    const Json all = forwards(world);
    return all.size() == 1 && all.at(0).at("active") == true;
}

pid_t master_pid(World& world) {
    const Json pid = world.connection(world.key("127.0.0.1")).at("master_pid");
    return pid.is_null() ? 0 : pid.get<pid_t>();
}

int port_of(const Json& forward) {
    const std::string listen = forward.at("listen");
    return std::stoi(listen.substr(listen.rfind(':') + 1));
}

TEST(Forward, LeadsFromAPortHereToWhatTheServerReaches) {
    World world(servers(1));
    const Listener target;
    const int port = free_port();
    const Json forward = add(world, "local", std::to_string(port), target.target());
    EXPECT_EQ(forward.at("active"), true);
    EXPECT_EQ(forward.at("ctx"), "server-1");
    EXPECT_EQ(forward.at("error"), nullptr);
    expect_connected(Stream::connect(tcp(port)), target);
    const Json connection = world.connection(world.key("127.0.0.1"));
    EXPECT_EQ(connection.at("leases"), 1) << "it keeps the connection";
    EXPECT_LE(connection.at("channels").at("used"), 1) << "and takes no channel";
    EXPECT_EQ(world.sshd.logins(), 1);

    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    EXPECT_FALSE(somebody_listens(port));
    EXPECT_EQ(forwards(world), Json::array());
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("refs"), 0);
    EXPECT_EQ(world.rpc().refusal("forward.remove", {{"forward", forward.at("id")}}).at("code"), -32602);
}

TEST(Forward, LeadsFromAPortOfTheServerToWhatIsReachedFromHere) {
    World world(servers(1));
    const Listener target;
    const Json forward = add(world, "remote", "0", target.target());
    const int port = port_of(forward);
    EXPECT_GT(port, 0) << "the server chose one";
    expect_connected(Stream::connect(tcp(port)), target);
    EXPECT_EQ(world.rpc()
                  .refusal("forward.add",
                           {{"ctx", "server-1"}, {"kind", "remote"}, {"listen", "0"}, {"target", target.target()}})
                  .at("data")
                  .at("kind"),
              "name_taken");
    const Listener other;
    EXPECT_NE(port_of(add(world, "remote", "127.0.0.1:0", other.target())), port);
    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    EXPECT_TRUE(wait_until([&] { return !somebody_listens(port); }));
}

// SOCKS5, RFC 1928: no authentication, CONNECT to an IPv4 address.
void expect_socks(int port, const Listener& target) {
    const Stream client = Stream::connect(tcp(port));
    ASSERT_TRUE(client);
    client.send({"\x05\x01\x00", 3});
    EXPECT_EQ(client.read(2), std::string("\x05\x00", 2));
    std::string request("\x05\x01\x00\x01\x7f\x00\x00\x01", 8);
    request += static_cast<char>(target.port() >> 8);
    request += static_cast<char>(target.port() & 0xff);
    client.send(request);
    const std::string reply = client.read(10);
    ASSERT_EQ(reply.size(), 10U);
    EXPECT_EQ(reply[1], '\0');
    expect_connected(client, target);
}

TEST(Forward, IsASocksServerHere) {
    World world(servers(1));
    const Listener target;
    const int port = free_port();
    add(world, "dynamic", "127.0.0.1:" + std::to_string(port), "");
    expect_socks(port, target);
}

TEST(Forward, IsASocksServerOnTheServer) {
    World world(servers(1));
    const Listener target;
    expect_socks(port_of(add(world, "remote", "0", "")), target);
}

TEST(Forward, LeadsFromASocketToASocket) {
    World world(servers(1));
    const Listener target(unix_path(world.dir / "target"));
    const std::string path = world.dir / "listen here";
    const Json forward = add(world, "local", path, world.dir / "target");
    expect_connected(Stream::connect(unix_path(path)), target);
    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    EXPECT_FALSE(exists(path));
    const std::string there = world.dir / "there";
    add(world, "remote", there, world.dir / "target");
    expect_connected(Stream::connect(unix_path(there)), target);
}

TEST(Forward, SaysWhichAddressIsInUse) {
    World world(servers(1));
    const Listener somebody;
    const auto refuse = [&](const std::string& listen) {
        const Json error = world.rpc().refusal(
            "forward.add", {{"ctx", "server-1"}, {"kind", "local"}, {"listen", listen}, {"target", "a:1"}});
        EXPECT_EQ(error.at("data").at("kind"), "name_taken") << error;
        return error.at("message").get<std::string>();
    };
    // ssh itself would listen on the other loopback address, and say that all is well.
    EXPECT_THAT(refuse(std::to_string(somebody.port())), HasSubstr(somebody.target() + " is in use"));
    EXPECT_THAT(refuse("*:" + std::to_string(somebody.port())), HasSubstr(":" + std::to_string(somebody.port())));
    write_file(world.dir / "file", "precious");
    EXPECT_THAT(refuse(world.dir / "file"), HasSubstr(world.dir / "file"));
    EXPECT_EQ(read_file(world.dir / "file"), "precious");
    const int port = free_port();
    const Json forward = add(world, "local", std::to_string(port), "a:1");
    EXPECT_THAT(refuse(std::to_string(port)), HasSubstr(forward.at("id").get<std::string>()));
    EXPECT_EQ(forwards(world).size(), 1U);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("refs"), 1);
}

TEST(Forward, SaysWhatIsWrongWithWhatItIsAskedFor) {
    SshdOptions options = servers(2);
    options.server_config[2] = "AllowTcpForwarding no";
    World world(options);
    const Listener somebody;
    const auto refuse = [&](Json params) {
        if (!params.contains("ctx")) {
            params["ctx"] = "server-1";
        }
        return world.rpc().refusal("forward.add", params);
    };
    Json error = refuse({{"kind", "local"}, {"listen", "192.0.2.1:8080"}, {"target", "a:1"}});
    EXPECT_EQ(error.at("code"), -32602);
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("192.0.2.1:8080"));
    error = refuse({{"kind", "local"}, {"listen", "8080"}, {"target", "8080"}});
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("params.target"));
    error = refuse({{"kind", "local"}, {"listen", "/nowhere/socket"}, {"target", "a:1"}});
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("/nowhere"));
    error = refuse({{"kind", "remote"}, {"listen", somebody.target()}, {"target", "a:1"}});
    EXPECT_EQ(error.at("data").at("kind"), "channel_refused") << error;
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr(std::to_string(somebody.port())));
    error = refuse({{"ctx", "server-2"}, {"kind", "remote"}, {"listen", "0"}, {"target", "a:1"}});
    EXPECT_EQ(error.at("data").at("kind"), "channel_refused") << error;
    error = refuse({{"kind", "dynamic"}, {"listen", "1080"}, {"session", "sess-none"}});
    EXPECT_EQ(error.at("data").at("kind"), "session_not_found") << error;
    error = refuse({{"kind", "dynamic"}, {"listen", "1080"}, {"lease", "lease-none"}});
    EXPECT_EQ(error.at("code"), -32602) << error;
    EXPECT_EQ(forwards(world), Json::array());
}

TEST(Forward, IsThereAgainOnTheSamePortWhenItsMasterWasKilled) {
    World world(servers(1));
    const Listener target;
    const int port = free_port();
    add(world, "local", std::to_string(port), target.target());
    const int there = port_of(add(world, "remote", "0", target.target()));
    const std::string path = world.dir / "socket";
    add(world, "local", path, target.target());
    const pid_t before = master_pid(world);
    ::kill(before, SIGKILL);
    EXPECT_TRUE(wait_until([&] {
        bool active = master_pid(world) != before;
        for (const Json& forward : forwards(world)) {
            active = active && forward.at("active") == true;
        }
        return active;
    })) << forwards(world);
    expect_connected(Stream::connect(tcp(port)), target);
    expect_connected(Stream::connect(tcp(there)), target);
    expect_connected(Stream::connect(unix_path(path)), target);
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(Forward, IsNotActiveAndSaysWhyWhileTheServerIsAway) {
    World world(servers(1));
    const Listener target;
    add(world, "local", std::to_string(free_port()), target.target());
    const pid_t master = master_pid(world);
    world.sshd.stop();
    ::kill(master, SIGKILL);
    EXPECT_TRUE(wait_until([&] {
        const Json forward = forwards(world).at(0);
        return forward.at("active") == false && forward.at("error").is_string();
    }));
    EXPECT_FALSE(forwards(world).at(0).at("error").get<std::string>().empty());
    world.sshd.start();
    EXPECT_TRUE(wait_until([&] { return is_active(world); }));
}

TEST(Forward, MovesToTheMasterThatTakesThePlaceOfADoubtfulOne) {
    World world(servers(1), kAlert);
    const Listener target;
    const int port = free_port();
    add(world, "local", std::to_string(port), target.target());
    const pid_t before = master_pid(world);
    world.sshd.signal_connections(SIGSTOP);
    EXPECT_TRUE(wait_until([&] {
        const pid_t now = master_pid(world);
        return now != 0 && now != before && is_active(world);
    }));
    expect_connected(Stream::connect(tcp(port)), target);
}

// The path comes back, and with it what went through the master that had stepped aside.
TEST(Forward, KeepsWhatGoesThroughTheOldMasterUntilItEnds) {
    World world(servers(1), kAlert);
    const Listener target;
    const int port = free_port();
    add(world, "local", std::to_string(port), target.target());
    const pid_t before = master_pid(world);
    {
        const Stream client = Stream::connect(tcp(port));
        const Stream server = target.accept();
        world.sshd.signal_connections(SIGSTOP);
        EXPECT_TRUE(wait_until([&] {
            const pid_t now = master_pid(world);
            return now != 0 && now != before && is_active(world);
        }));
        world.sshd.signal_connections(SIGCONT);
        client.send("question");
        EXPECT_EQ(server.read(8), "question");
        EXPECT_TRUE(alive(before));
    }
    EXPECT_TRUE(wait_until([&] { return !alive(before); }));
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("leases") == 1; }));
}

// It is open again in the next one: "there is no such forward" would not be true. Found by the soak.
TEST(Forward, IsNotDeniedByADaemonThatStops) {
    World world(servers(2));
    const Listener target;
    const int port = free_port();
    const Json forward = add(world, "local", std::to_string(port), target.target());
    add(world, "local", std::to_string(free_port()), target.target(), {{"ctx", "server-2"}});
    // Its master does not answer, and so keeps the daemon for a second.
    const pid_t silent = world.connection(world.key("127.0.0.2")).at("master_pid");
    ASSERT_EQ(::kill(silent, SIGSTOP), 0);
    ASSERT_EQ(::kill(world.daemon.pid(), SIGTERM), 0);
    ASSERT_TRUE(wait_until([&] { return forwards(world).size() == 1; }));
    const Json error = world.rpc().refusal("forward.remove", {{"forward", forward.at("id")}});
    EXPECT_EQ(error.at("data").at("kind"), "shutting_down") << error;
    ASSERT_EQ(::kill(silent, SIGCONT), 0);
    ASSERT_TRUE(wait_until([&] { return !world.daemon.running(); }));
    world.start_daemon();
    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    EXPECT_EQ(forwards(world).size(), 1U);
}

TEST(Forward, GoesToTheServerOfItsSession) {
    World world(servers(2));
    const std::string id = world.start_id("server-2", kLong);
    const std::string port = std::to_string(free_port());
    const Json params = {{"kind", "dynamic"}, {"listen", port}, {"session", id}};
    const Json forward = world.rpc().call("forward.add", params).at("forward");
    EXPECT_EQ(forward.at("ctx"), "server-2");
    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    Json elsewhere = params;
    elsewhere["ctx"] = "server-1";
    const Json error = world.rpc().refusal("forward.add", elsewhere);
    EXPECT_EQ(error.at("data").at("kind"), "invalid_params");
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.daemon.cmctl({"forward", "add", "--session", id, "-D", port}).status.code, 0);
}

TEST(Forward, EndsWithItsSession) {
    World world(servers(1));
    const Listener target;
    const int port = free_port();
    const std::string id = world.start_id("server-1", kLong);
    const Json forward = add(world, "local", std::to_string(port), target.target(), {{"session", id}});
    EXPECT_EQ(forward.at("session"), id);
    expect_connected(Stream::connect(tcp(port)), target);
    world.rpc().call("kill", {{"session", id}});
    world.wait(id);
    EXPECT_TRUE(wait_until([&] { return forwards(world).empty(); }));
    EXPECT_FALSE(somebody_listens(port));
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("refs") == 0; }));
    const Json error = world.rpc().refusal(
        "forward.add", {{"ctx", "server-1"}, {"kind", "dynamic"}, {"listen", std::to_string(port)}, {"session", id}});
    EXPECT_EQ(error.at("data").at("kind"), "session_ended");
}

TEST(Forward, EndsWithItsLease) {
    World world(servers(1));
    const int port = free_port();
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}}).at("lease");
    add(world, "dynamic", std::to_string(port), "", {{"lease", lease}});
    EXPECT_TRUE(somebody_listens(port));
    world.rpc().call("release", {{"lease", lease}});
    EXPECT_TRUE(wait_until([&] { return forwards(world).empty(); }));
    EXPECT_FALSE(somebody_listens(port));
    {
        RpcClient client(world.daemon.socket_path());
        const Json its = client.call("acquire", {{"ctx", "server-1"}}).at("lease");
        EXPECT_EQ(
            world.rpc()
                .refusal("forward.add",
                         {{"ctx", "server-1"}, {"kind", "dynamic"}, {"listen", std::to_string(port)}, {"lease", its}})
                .at("code"),
            -32602);
        client.call("forward.add",
                    {{"ctx", "server-1"}, {"kind", "dynamic"}, {"listen", std::to_string(port)}, {"lease", its}});
        EXPECT_TRUE(somebody_listens(port));
    }
    EXPECT_TRUE(wait_until([&] { return forwards(world).empty(); }));
    EXPECT_FALSE(somebody_listens(port));
}

TEST(Forward, DoesNotHoldUpADisconnectAndComesBackWithTheConnection) {
    World world(servers(1));
    const Listener target;
    const int port = free_port();
    add(world, "local", std::to_string(port), target.target());
    EXPECT_EQ(world.rpc().call("disconnect", {{"ctx", "server-1"}}).at("connection").at("state"), "idle");
    EXPECT_FALSE(somebody_listens(port));
    const Json forward = forwards(world).at(0);
    EXPECT_EQ(forward.at("active"), false);
    EXPECT_THAT(forward.at("error").get<std::string>(), HasSubstr("not connected"));
    world.rpc().call("connect", {{"ctx", "server-1"}});
    EXPECT_TRUE(wait_until([&] { return is_active(world); }));
    expect_connected(Stream::connect(tcp(port)), target);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("leases"), 1);
}

TEST(Forward, EndsWithADaemonThatIsStopped) {
    World world(servers(1));
    const int port = free_port();
    add(world, "dynamic", std::to_string(port), "");
    const pid_t master = master_pid(world);
    world.daemon.stop();
    EXPECT_TRUE(alive(master));
    EXPECT_FALSE(somebody_listens(port));
}

class ForwardOverARestart : public testing::TestWithParam<bool> {
protected:
    void restart() {
        GetParam() ? world.daemon.crash() : world.daemon.stop();
        world.start_daemon();
    }

    World world{servers(1)};
    const Listener target;
    const int port = free_port();
};

TEST_P(ForwardOverARestart, IsOpenAgain) {
    const Json forward = add(world, "local", std::to_string(port), target.target());
    const Json remote = add(world, "remote", "0", target.target());
    restart();
    ASSERT_TRUE(wait_until([&] {
        const Json listed = forwards(world);
        return listed.size() == 2 && listed[0].at("active") == true && listed[1].at("active") == true;
    }));
    for (const Json& listed : forwards(world)) {
        EXPECT_EQ(listed, listed.at("id") == forward.at("id") ? forward : remote);
    }
    expect_connected(Stream::connect(tcp(port)), target);
    EXPECT_EQ(world.sshd.logins(), 1);
    for (const Json& listed : forwards(world)) {
        world.rpc().call("forward.remove", {{"forward", listed.at("id")}});
    }
    restart();
    EXPECT_EQ(world.rpc().call("connect", {{"ctx", "server-1"}}).at("reused"), true);
    EXPECT_EQ(forwards(world), Json::array());
    EXPECT_FALSE(somebody_listens(port));
}

TEST_P(ForwardOverARestart, EndsWithItsOwner) {
    const std::string id = world.start_id("server-1", kLong);
    add(world, "local", std::to_string(port), target.target(), {{"session", id}});
    const std::string lease = world.rpc().call("acquire", {{"ctx", "server-1"}}).at("lease");
    const int leased = free_port();
    add(world, "local", std::to_string(leased), target.target(), {{"lease", lease}});
    restart();
    EXPECT_TRUE(wait_until([&] { return forwards(world).size() == 1; }));
    EXPECT_TRUE(wait_until([&] { return !somebody_listens(leased); }));
    ASSERT_TRUE(wait_until([&] { return is_active(world); }));
    GetParam() ? world.daemon.crash() : world.daemon.stop();
    ASSERT_EQ(world.tmux(1, {"kill-session", "-t", '=' + id}).status.code, 0);
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return forwards(world).empty(); }));
    EXPECT_TRUE(wait_until([&] { return !somebody_listens(port); }));
}

TEST_P(ForwardOverARestart, LogsInToNothingThatWasDisconnected) {
    const std::string id = world.start_id("server-1", kLong);
    add(world, "local", std::to_string(port), target.target());
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    restart();
    ASSERT_TRUE(wait_until([&] { return forwards(world).size() == 1; }));
    EXPECT_FALSE(is_active(world));
    EXPECT_EQ(world.sshd.logins(), 1);
    world.rpc().call("connect", {{"ctx", "server-1"}});
    EXPECT_TRUE(wait_until([&] { return is_active(world); }));
}

// As where a person is in the middle of editing it.
TEST_P(ForwardOverARestart, IsNotForgottenWhileSshsConfigurationIsWrong) {
    const Json forward = add(world, "local", std::to_string(port), target.target());
    const std::string config = read_file(world.sshd.ssh_config());
    write_file(world.sshd.ssh_config(), "Bogus yes\n" + config);
    restart();
    ASSERT_EQ(forwards(world).size(), 1U) << "from the first answer on";
    EXPECT_TRUE(wait_until([&] { return is_active(world); })) << "its master needs no configuration";
    write_file(world.sshd.ssh_config(), config);
    expect_connected(Stream::connect(tcp(port)), target);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_P(ForwardOverARestart, CanBeRemovedAtOnce) {
    const Json forward = add(world, "local", std::to_string(port), target.target());
    restart();
    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    EXPECT_EQ(forwards(world), Json::array());
    EXPECT_FALSE(somebody_listens(port));
}

// sshd's default leaves the file of a socket, and listens on none that is there.
TEST_P(ForwardOverARestart, OfASocketThereIsOpenAgain) {
    const std::string path = world.dir / "there";
    const Json forward = add(world, "remote", path, target.target());
    restart();
    ASSERT_TRUE(wait_until([&] { return is_active(world); })) << forwards(world);
    ::kill(master_pid(world), SIGKILL);
    ASSERT_TRUE(wait_until([&] { return !is_active(world); }));
    ASSERT_TRUE(wait_until([&] { return is_active(world); })) << forwards(world);
    world.rpc().call("forward.remove", {{"forward", forward.at("id")}});
    EXPECT_FALSE(exists(path));
    add(world, "remote", path, target.target());
    expect_connected(Stream::connect(unix_path(path)), target);
}

INSTANTIATE_TEST_SUITE_P(Memory, ForwardOverARestart, testing::Values(false, true),
                         [](const auto& restart) { return restart.param ? "AfterACrash" : "AfterAStop"; });

TEST(Forward, IsAddedListedAndRemovedByCmctl) {
    World world(servers(1));
    const Listener target;
    const int port = free_port();
    const auto added = world.daemon.cmctl(
        {"forward", "add", "--ctx", "server-1", "-L", "127.0.0.1:" + std::to_string(port) + ":" + target.target()});
    ASSERT_EQ(added.status.code, 0) << added.errors;
    ASSERT_TRUE(added.output.starts_with("fwd-")) << added.output;
    const std::string id = added.output.substr(0, added.output.size() - 1);
    expect_connected(Stream::connect(tcp(port)), target);
    const auto listed = world.daemon.cmctl({"forward", "list"});
    EXPECT_THAT(listed.output, HasSubstr(id));
    EXPECT_THAT(listed.output, HasSubstr(target.target()));
    EXPECT_EQ(Json::parse(world.daemon.cmctl({"forward", "list", "--json"}).output).at("forwards").size(), 1U);
    const auto busy = world.daemon.cmctl({"forward", "add", "--ctx", "server-1", "-D", std::to_string(target.port())});
    EXPECT_EQ(busy.status.code, 1);
    EXPECT_THAT(busy.errors, HasSubstr(target.target() + " is in use"));
    EXPECT_EQ(world.daemon.cmctl({"forward", "rm", "fwd-none"}).status.code, 3);
    EXPECT_EQ(world.daemon.cmctl({"forward", "rm", id}).status.code, 0);
    EXPECT_FALSE(somebody_listens(port));
    for (const Words& wrong : {Words{"forward", "add"}, Words{"forward", "add", "-L", "8080"}, Words{"forward", "rm"},
                               Words{"forward", "make"}, Words{"forward", "list", "x"}}) {
        EXPECT_EQ(world.daemon.cmctl(wrong).status.code, 2) << wrong.back();
    }
}

}  // namespace
}  // namespace cmssh::test
