// Every way in which a call can fail, for real: the kind that a program branches on, and the hint that a person needs.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <filesystem>
#include <sstream>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};

// A port of 127.0.0.1 that is ours: connections to it are refused, or, with listen(), accepted by the kernel and never
// answered.
class Port {
public:
    Port() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(address);
        if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
            ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
            throw std::runtime_error("no port is free");
        }
        number_ = ntohs(address.sin_port);
    }
    void listen() { ASSERT_EQ(::listen(fd_.get(), 64), 0); }
    // That came in since listen(); hangs up on them.
    [[nodiscard]] int take_connections() {
        int count = 0;
        while (UniqueFd(::accept(fd_.get(), nullptr, nullptr))) {
            ++count;
        }
        return count;
    }
    [[nodiscard]] std::string destination() const { return "127.0.0.1:" + std::to_string(number_); }

private:
    UniqueFd fd_;
    int number_ = 0;
};

void expect_kind(const Json& error, const std::string& kind, int code) {
    EXPECT_EQ(error.at("code"), code) << error;
    EXPECT_EQ(error.at("data").at("kind"), kind) << error;
    EXPECT_FALSE(error.at("message").get<std::string>().empty()) << error;
    EXPECT_FALSE(error.at("data").value("hint", "").empty()) << error;
}

// Of a start that could not log in or find a tmux.
void expect_no_connection(const Json& error, const std::string& kind, int code, const std::string& ctx,
                          const std::string& key) {
    expect_kind(error, kind, code);
    EXPECT_EQ(error.at("data").value("ctx", ""), ctx) << error;
    EXPECT_EQ(error.at("data").value("server", ""), key) << error;
}

void expect_ssh_said(const Json& error, const std::string& text) {
    EXPECT_NE(error.at("data").value("ssh_stderr", "").find(text), std::string::npos) << error;
}

void expect_nothing_left(World& world) {
    EXPECT_EQ(world.list({{"all", true}}), Words{});
    EXPECT_EQ(world.stats().at("total_refs"), 0);
    // A login that turned out to be of no use is given up behind the reply.
    EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes().empty(); })) << "an ssh is left";
    EXPECT_TRUE(wait_until([&] { return world.daemon.control_sockets().empty(); })) << "a control socket is left";
    EXPECT_TRUE(wait_until([&] { return world.stats().at("total_connections") == 0; }));
    for (const auto& entry : std::filesystem::directory_iterator(world.daemon.runtime_dir())) {
        EXPECT_NE(entry.path().extension(), ".log") << entry.path();
    }
}

Json refused_start(World& world, const std::string& ctx) {
    return world.rpc().refusal("start", {{"ctx", ctx}, {"command", kLong}});
}

TEST(Error, ConnectRefused) {
    World world;
    const Port closed;
    const std::string key = own_user() + '@' + closed.destination();
    const Json error = refused_start(world, closed.destination());
    expect_no_connection(error, "connect_refused", -32003, closed.destination(), key);
    expect_ssh_said(error, "Connection refused");
    expect_nothing_left(world);
    const Json connection = world.connection(key);
    EXPECT_EQ(connection.at("state"), "failed");
    EXPECT_EQ(connection.at("last_error").at("kind"), "connect_refused");
    EXPECT_EQ(connection.at("handshakes"), 0);
}

TEST(Error, IsThatOfTheOneAttemptForAllWhoWaitedForIt) {
    World world({}, "[pool]\nconnect_timeout = \"1s\"\n");
    Port silent;
    silent.listen();
    constexpr int kCalls = 20;
    for (int call = 1; call <= kCalls; ++call) {
        EXPECT_EQ(world.rpc().send("start", {{"ctx", silent.destination()}, {"command", kLong}}), call);
    }
    for (int call = 1; call <= kCalls; ++call) {
        expect_kind(world.rpc().reply(call).at("error"), "connect_timeout", -32004);
    }
    EXPECT_EQ(silent.take_connections(), 1);
    expect_nothing_left(world);
}

TEST(Error, ConnectTimeout) {
    World world({}, "[pool]\nconnect_timeout = \"1s\"\n");
    Port silent;
    silent.listen();
    const Json error = refused_start(world, silent.destination());
    expect_no_connection(error, "connect_timeout", -32004, silent.destination(),
                         own_user() + '@' + silent.destination());
    expect_nothing_left(world);
}

TEST(Error, DnsFailure) {
    World world;
    const std::string key = own_user() + "@no-such-host.invalid:" + std::to_string(world.sshd.port());
    const Json error = refused_start(world, "no-such-host.invalid");
    expect_no_connection(error, "dns_failure", -32002, "no-such-host.invalid", key);
    expect_ssh_said(error, "Could not resolve hostname");
    expect_nothing_left(world);
}

TEST(Error, HostKeyUnknown) {
    World world;
    write_file(world.dir / "no_hosts", "");
    for (const std::string checking : {"yes", "ask"}) {
        world.sshd.add_ssh_config("Host new-" + checking + "\n    HostName 127.0.0.1\n    UserKnownHostsFile " +
                                  (world.dir / "no_hosts") + "\n    StrictHostKeyChecking " + checking + '\n');
        const Json error = refused_start(world, "new-" + checking);
        expect_no_connection(error, "host_key_unknown", -32006, "new-" + checking, world.key("127.0.0.1"));
        expect_ssh_said(error, "Host key verification failed");
        expect_nothing_left(world);
    }
    EXPECT_EQ(read_file(world.dir / "no_hosts"), "") << "nobody has accepted the key";
}

TEST(Error, HostKeyChanged) {
    World world;
    const std::string own_key = read_file(world.sshd.user_key() + ".pub");
    write_file(world.dir / "old_hosts", "[127.0.0.1]:" + std::to_string(world.sshd.port()) + ' ' + own_key);
    world.sshd.add_ssh_config("Host changed\n    HostName 127.0.0.1\n    UserKnownHostsFile " +
                              (world.dir / "old_hosts") + '\n');
    const Json error = refused_start(world, "changed");
    expect_no_connection(error, "host_key_changed", -32007, "changed", world.key("127.0.0.1"));
    expect_ssh_said(error, "REMOTE HOST IDENTIFICATION HAS CHANGED");
    EXPECT_NE(error.at("data").value("hint", "").find(" -R '[127.0.0.1]:"), std::string::npos) << error;
    expect_nothing_left(world);
}

TEST(Error, AuthFailed) {
    SshdOptions options;
    options.server_config[2] = "AuthorizedKeysFile none";
    World world(options);
    const Json error = refused_start(world, "server-2");
    expect_no_connection(error, "auth_failed", -32008, "server-2", world.key("127.0.0.2"));
    expect_ssh_said(error, "Permission denied (publickey)");
    expect_nothing_left(world);
}

TEST(Error, AuthFailedForAUserWhoMayNotLogIn) {
    World world;
    const Json error = refused_start(world, "no-such-user@server-1");
    expect_no_connection(error, "auth_failed", -32008, "no-such-user@server-1",
                         "no-such-user@127.0.0.1:" + std::to_string(world.sshd.port()));
    expect_nothing_left(world);
}

TEST(Error, NeedsAuthWhereOnlyAPasswordHelps) {
    SshdOptions options;
    options.server_config[1] = "PasswordAuthentication yes\nPubkeyAuthentication no";
    options.server_config[2] = "PasswordAuthentication yes\nAuthenticationMethods publickey,password";
    World world(options);
    for (int server = 1; server <= 2; ++server) {
        const std::string name = "server-" + std::to_string(server);
        const std::string key = world.key("127.0.0." + std::to_string(server));
        const Json error = refused_start(world, name);
        expect_no_connection(error, "needs_auth", -32009, name, key);
        expect_ssh_said(error, "password");
        expect_nothing_left(world);
        EXPECT_EQ(world.connection(key).at("state"), "needs_auth");
    }
}

TEST(Error, NeedsAuthWhereAKeyWantsItsPassphrase) {
    SshdOptions options;
    World world(options);
    const std::string encrypted = world.dir / "encrypted_key";
    ASSERT_EQ(run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", encrypted}).status.code, 0);
    world.sshd.add_ssh_config("Host locked\n    HostName 127.0.0.1\n    User no-such-user\n    IdentityFile " +
                              encrypted + '\n');
    const Json error = refused_start(world, "locked");
    expect_kind(error, "needs_auth", -32009);
    EXPECT_NE(error.at("data").value("hint", "").find("ssh-add"), std::string::npos) << error;
    expect_ssh_said(error, "Permission denied");
    expect_nothing_left(world);
}

TEST(Error, ConnectFailedBySshsOwnConfiguration) {
    World world;
    world.sshd.add_ssh_config("Host broken\n    NoSuchOption yes\n");
    const Json error = refused_start(world, "broken");
    expect_kind(error, "connect_failed", -32005);
    expect_ssh_said(error, "nosuchoption");
    expect_nothing_left(world);
}

TEST(Error, ConnectFailedThroughAHopThatIsDown) {
    World world;
    const Port closed;
    world.sshd.add_ssh_config("Host far\n    HostName 127.0.0.2\n    ProxyJump " + closed.destination() + '\n');
    const Json error = refused_start(world, "far");
    // Where ssh keeps the hop's own words to itself, they are not known.
    const int code = error.at("code");
    EXPECT_TRUE(code == -32003 || code == -32005) << error;
    EXPECT_EQ(error.at("data").value("ctx", ""), "far");
    EXPECT_FALSE(error.at("data").value("hint", "").empty()) << error;
    EXPECT_FALSE(error.at("data").value("ssh_stderr", "").empty()) << error;
    expect_nothing_left(world);
}

TEST(Error, ConnectRefusedBehindAHop) {
    World world;
    const Port closed;
    world.sshd.add_ssh_config("Host far\n    HostName 127.0.0.1\n    Port " +
                              closed.destination().substr(std::string("127.0.0.1:").size()) +
                              "\n    ProxyJump server-2\n");
    const Json error = refused_start(world, "far");
    expect_kind(error, "connect_refused", -32003);
    expect_ssh_said(error, "open failed: connect failed: Connection refused");
    EXPECT_EQ(world.daemon.ssh_processes().size(), 1U) << "the hop's master, for the next who comes";
    EXPECT_EQ(world.connection(world.key("127.0.0.2")).at("leases"), 0);
    EXPECT_TRUE(world.list().empty());
}

// An ssh that is none.
class SshProgram : public ::testing::Test {
protected:
    void use(const std::string& program, const std::string& pool = {}) {
        write_file(world.daemon.config_file(), "[pool]\n" + pool + "[ssh]\nprogram = \"" + program +
                                                   "\"\noptions = [\"-F\", \"" + world.sshd.ssh_config() + "\"]\n");
        world.rpc().call("reload");
    }
    void expect_served_by_the_real_one() {
        use("ssh");
        EXPECT_EQ(world.start("server-1", kLong).at("session").at("state"), "running");
        EXPECT_EQ(world.sshd.logins(), 1);
    }

    void expect_ended(const std::string& begin, const std::string& kind) {
        const std::string program = world.dir / "wrapper";
        const std::string pids = world.dir / "pids";
        write_file(program, "#!/bin/sh\n" + begin + "\necho $$ >>" + pids + "\nsleep 1001 &\necho $! >>" + pids +
                                "\nsleep 1002\n:\n");
        std::filesystem::permissions(program, std::filesystem::perms::owner_all);
        use(program, "connect_timeout = \"1s\"\n");
        const Json error = refused_start(world, "server-1");
        EXPECT_EQ(error.at("data").at("kind"), kind) << error;
        expect_nothing_left(world);
        std::istringstream lines(read_file(pids));
        int count = 0;
        for (pid_t pid = 0; lines >> pid; ++count) {
            EXPECT_TRUE(wait_until([pid] { return !alive(pid); })) << command_line(pid);
        }
        EXPECT_EQ(count, 2);
        expect_served_by_the_real_one();
    }

    World world{servers(1)};
};

TEST_F(SshProgram, ThatIsMissingIsNamed) {
    const std::string program = world.dir / "no-such-ssh";
    use(program);
    const Json error = refused_start(world, "server-1");
    expect_kind(error, "internal", -32024);
    EXPECT_NE(error.at("message").get<std::string>().find("cannot start " + program), std::string::npos) << error;
    EXPECT_NE(error.at("data").value("hint", "").find("ssh.program"), std::string::npos) << error;
    expect_nothing_left(world);
    expect_served_by_the_real_one();
}

// Each of its processes is gone with the error.
TEST_F(SshProgram, ThatHangsEndsWithItsWholeGroup) {
    expect_ended(R"(case " $* " in *' -G '*) exec ssh "$@" ;; esac)", "connect_timeout");
}

// Before the server's name is known: this has a time of its own, Match exec may ask a network.
TEST_F(SshProgram, ThatHangsAtOnceEndsWithItsWholeGroup) {
    expect_ended("", "timeout");
}

TEST(Error, TmuxMissing) {
    SshdOptions options;
    const TempDir programs;
    for (const char* name : {"sh", "bash", "env", "sed", "tail", "cat"}) {
        std::filesystem::create_symlink(std::string("/bin/") + name, programs / name);
    }
    options.environment[1] = "PATH=" + programs.path();
    World world(options);
    write_file(world.sshd.home(1) + "/.profile", "PATH=" + programs.path() + "\n");
    const Json error = refused_start(world, "server-1");
    expect_no_connection(error, "tmux_missing", -32012, "server-1", world.key("127.0.0.1"));
    expect_nothing_left(world);
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.start("server-2", kLong).at("session").at("state"), "running");
}

TEST(Error, TmuxTooOld) {
    SshdOptions options;
    const TempDir programs;
    write_file(programs / "tmux", "#!/bin/sh\necho tmux 3.1c\n");
    std::filesystem::permissions(programs / "tmux", std::filesystem::perms::owner_all);
    options.environment[1] = "PATH=" + programs.path() + ":/usr/bin:/bin";
    World world(options);
    const Json error = refused_start(world, "server-1");
    expect_no_connection(error, "tmux_failed", -32013, "server-1", world.key("127.0.0.1"));
    EXPECT_NE(error.at("message").get<std::string>().find("3.1c"), std::string::npos) << error;
    expect_nothing_left(world);
}

TEST(Error, ChannelRefusedWhereTheServerAllowsNone) {
    SshdOptions options;
    options.server_config[1] = "MaxSessions 0";
    World world(options);
    const Json error = refused_start(world, "server-1");
    expect_no_connection(error, "channel_refused", -32011, "server-1", world.key("127.0.0.1"));
    expect_nothing_left(world);
}

TEST(Error, ChannelRefusedWhereTheOneAllowedIsTaken) {
    SshdOptions options;
    options.server_config[1] = "MaxSessions 1";
    World world(options);
    const std::string id = world.start_id("server-1", kLong);
    const std::string second = world.start_id("server-1", kLong);
    const Json nowhere = {{"ctx", "server-1"}, {"command", kLong}, {"cwd", "/no/such/directory"}};
    EXPECT_EQ(world.rpc().refusal("start", nowhere).at("data").at("kind"), "bad_cwd");
    const std::string link = world.dir / "link";
    std::filesystem::create_symlink("/usr", link);
    world.rpc().call("kill", {{"session", world.start_id("server-1", kLong, {{"cwd", link}})}});
    const Json error = world.rpc().refusal("kill", {{"session", id}, {"signal", "TERM"}});
    expect_kind(error, "channel_refused", -32011);
    EXPECT_EQ(error.at("data").value("session", ""), id);
    EXPECT_EQ(world.session(id).at("state"), "running");
    EXPECT_EQ(world.rpc().call("kill", {{"session", id}}).at("session").at("state"), "killed");
    EXPECT_EQ(world.list(), Words{second});
    EXPECT_EQ(world.sshd.logins(), 1) << "no login of its own for a channel";
}

TEST(Error, BadCwd) {
    World world;
    write_file(world.dir / "file", "");
    for (const std::string& cwd : {std::string("/no/such/directory"), std::string("~/nowhere"), world.dir / "file",
                                   std::string("relative"), std::string("~no-such-user/x")}) {
        const Json error = world.rpc().refusal("start", {{"ctx", "server-1"}, {"command", kLong}, {"cwd", cwd}});
        expect_no_connection(error, "bad_cwd", -32018, "server-1", world.key("127.0.0.1"));
        EXPECT_NE(error.at("message").get<std::string>().find(cwd.substr(cwd.rfind('/') + 1)), std::string::npos)
            << error;
    }
    EXPECT_EQ(world.list({{"all", true}}), Words{});
    EXPECT_EQ(world.stats().at("total_refs"), 0);
    EXPECT_EQ(world.tmux_sessions(1), Words{});
}

TEST(Error, NameTaken) {
    World world;
    world.start("server-1", kLong, {{"name", "job"}});
    const Json params = {{"ctx", "server-2"}, {"command", kLong}, {"name", "job"}};
    expect_kind(world.rpc().refusal("start", params), "name_taken", -32016);
    EXPECT_EQ(world.list().size(), 1U);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Error, NameTakenByOneOfTwoAtOnce) {
    World world;
    const Json params = {{"ctx", "server-1"}, {"command", kLong}, {"name", "job"}};
    const int first = world.rpc().send("start", params);
    const int second = world.rpc().send("start", params);
    const Json one = world.rpc().reply(first);
    const Json two = world.rpc().reply(second);
    EXPECT_NE(one.contains("result"), two.contains("result")) << one << two;
    expect_kind(one.contains("error") ? one.at("error") : two.at("error"), "name_taken", -32016);
    EXPECT_EQ(world.tmux_sessions(1).size(), 1U);
}

TEST(Error, InvalidName) {
    World world;
    for (const std::string& name :
         {std::string(), std::string("-x"), std::string("_x"), std::string("a b"), std::string("sess-abcdefgh"),
          std::string(65, 'a'), std::string("größer"), std::string("a:b"), std::string("a.b")}) {
        const Json params = {{"ctx", "server-1"}, {"command", kLong}, {"name", name}};
        expect_kind(world.rpc().refusal("start", params), "invalid_name", -32017);
    }
    EXPECT_EQ(world.sshd.logins(), 0);
}

TEST(Error, SessionNotFound) {
    World world;
    for (const auto* method : {"get", "kill", "wait"}) {
        for (const auto* session : {"sess-aaaaaaaa", "nobody", ""}) {
            expect_kind(world.rpc().refusal(method, {{"session", session}}), "session_not_found", -32014);
        }
    }
}

TEST(Error, Ambiguous) {
    World world;
    world.start("server-1", kLong);
    EXPECT_NO_THROW(world.session("sess-"));
    world.start("server-1", kLong);
    for (const auto* method : {"get", "kill", "wait"}) {
        expect_kind(world.rpc().refusal(method, {{"session", "sess-"}}), "ambiguous", -32015);
    }
    EXPECT_EQ(world.list().size(), 2U);
}

TEST(Error, UnknownContext) {
    World world;
    const Json error = refused_start(world, "not a destination");
    expect_kind(error, "unknown_context", -32001);
    EXPECT_EQ(error.at("data").value("ctx", ""), "not a destination");
    expect_nothing_left(world);
}

TEST(Error, NoContextGivenAndNoneConfigured) {
    World world;
    const Json error = world.rpc().refusal("start", {{"command", kLong}});
    EXPECT_EQ(error.at("code"), -32602);
    EXPECT_FALSE(error.at("data").value("hint", "").empty()) << error;
}

TEST(Error, MasterLostWhileTmuxWasAsked) {
    World world;
    world.start("server-1", kLong);
    const pid_t tmux = std::stoi(world.tmux(1, {"display-message", "-p", "#{pid}"}).output);
    ASSERT_EQ(::kill(tmux, SIGSTOP), 0);
    const int call = world.rpc().send("start", {{"ctx", "server-1"}, {"command", kLong}});
    ASSERT_TRUE(wait_until([&] { return world.list().size() == 2; }));
    const std::string id = world.list().back();
    EXPECT_EQ(world.session(id).at("state"), "starting");
    const pid_t master = world.connection(world.key("127.0.0.1")).at("master_pid");
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    const Json error = world.rpc().reply(call).at("error");
    expect_kind(error, "master_lost", -32010);
    EXPECT_EQ(error.at("data").value("session", ""), id);
    EXPECT_EQ(world.session(id).at("state"), "starting");
    ASSERT_EQ(::kill(tmux, SIGCONT), 0);
    // What tmux says once it can be asked is what holds.
    ASSERT_TRUE(wait_until([&] { return world.session(id).at("state") != "starting"; }));
    const Words there = world.tmux_sessions(1);
    const bool runs = std::find(there.begin(), there.end(), id) != there.end();
    EXPECT_EQ(world.session(id).at("state"), runs ? "running" : "lost");
}

TEST(Error, Cancelled) {
    World world;
    Port silent;
    silent.listen();
    const int call = world.rpc().send("start", {{"ctx", silent.destination()}, {"command", kLong}});
    ASSERT_TRUE(wait_until([&] { return !world.daemon.ssh_processes().empty(); }));
    RpcClient other(world.daemon.socket_path());
    EXPECT_EQ(other.call("disconnect", {{"ctx", silent.destination()}}).at("connection").at("state"), "idle");
    expect_kind(world.rpc().reply(call).at("error"), "cancelled", -32021);
    EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes().empty(); }, in(5s))) << "the login runs on";
    expect_nothing_left(world);
}

// The second start found the login of the first, which nobody wanted any more, on its control path.
TEST(Error, CancelledIsTheFirstStartOnly) {
    World world;
    world.sshd.add_ssh_config("Host slow\n    HostName 127.0.0.1\n    ProxyCommand sh -c 'until [ -e " +
                              world.dir.path() + "/go ]; do sleep 0.02; done; exec ssh -F " + world.sshd.ssh_config() +
                              " -W %h:%p server-1'\n");
    const int first = world.rpc().send("start", {{"ctx", "slow"}, {"command", kLong}});
    ASSERT_TRUE(wait_until([&] { return !world.daemon.ssh_processes().empty(); }));
    ASSERT_TRUE(wait_until([&] {
        const Json connections = world.stats().at("connections");
        return !connections.empty() && connections.at(0).at("state") == "connecting";
    }));
    RpcClient other(world.daemon.socket_path());
    const int disconnect = other.send("disconnect", {{"ctx", "slow"}});
    const int second = other.send("start", {{"ctx", "slow"}, {"command", kLong}});
    EXPECT_TRUE(other.reply(disconnect).contains("result"));
    expect_kind(world.rpc().reply(first).at("error"), "cancelled", -32021);
    write_file(world.dir / "go", "");
    const Json started = other.reply(second);
    ASSERT_TRUE(started.contains("result")) << started;
    EXPECT_EQ(started.at("result").at("reused"), false);
    EXPECT_EQ(started.at("result").at("session").at("state"), "running");
    EXPECT_EQ(world.tmux_sessions(1).size(), 1U);
}

TEST(Error, ShuttingDown) {
    World world;
    Port silent;
    silent.listen();
    const std::string id = world.start_id("server-1", kLong);
    const int start = world.rpc().send("start", {{"ctx", silent.destination()}, {"command", kLong}});
    const int wait = world.rpc().send("wait", {{"session", id}});
    ASSERT_TRUE(world.connection_becomes(own_user() + '@' + silent.destination(), "connecting"));
    RpcClient other(world.daemon.socket_path());
    EXPECT_EQ(other.call("shutdown"), Json::object());
    EXPECT_EQ(world.rpc().reply(start).at("error").at("data").at("kind"), "shutting_down");
    EXPECT_EQ(world.rpc().reply(wait).at("error").at("data").at("kind"), "shutting_down");
    EXPECT_TRUE(wait_until([&] { return !world.daemon.running(); }));
    EXPECT_EQ(world.tmux_sessions(1), Words{id});
}

// `ssh -G` runs the commands of Match exec in the user's ssh_config, however long they take.
TEST(Error, ShuttingDownWhileADestinationIsResolved) {
    World world;
    world.sshd.add_ssh_config("Match host slow exec \"sleep 1000\"\n");
    const int start = world.rpc().send("start", {{"ctx", "slow"}, {"command", kLong}});
    ASSERT_TRUE(wait_until([&] { return !world.daemon.ssh_processes().empty(); }));
    RpcClient other(world.daemon.socket_path());
    EXPECT_EQ(other.call("shutdown"), Json::object());
    EXPECT_EQ(world.rpc().reply(start).at("error").at("data").at("kind"), "shutting_down");
    EXPECT_TRUE(wait_until([&] { return !world.daemon.running(); }));
}

}  // namespace
}  // namespace cmssh::test
