// The ssh process behind a connection, and its control path: whatever stands there already.
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};
constexpr const char* kShortTimeout = "[pool]\nconnect_timeout = \"1s\"\n";

// A socket that is bound to a path, and stays there as a file when this is closed.
class PathSocket {
public:
    explicit PathSocket(const std::string& path)
        : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
            throw std::runtime_error(path + ": " + std::strerror(errno));
        }
    }
    void listen() { ASSERT_EQ(::listen(fd_.get(), 64), 0); }
    // Takes one caller where there is one, and hangs up on it.
    bool hang_up_on_one() {
        const UniqueFd caller(::accept(fd_.get(), nullptr, nullptr));
        return static_cast<bool>(caller);
    }

private:
    UniqueFd fd_;
};

std::string control_path(World& world) {
    return world.daemon.runtime_dir() + "/cm-ssh-" + world.key("127.0.0.1");
}

Json refused_start(World& world) {
    const Json error = world.rpc().refusal("start", {{"ctx", "server-1"}, {"command", kLong}});
    EXPECT_EQ(error.at("data").at("kind"), "connect_failed") << error;
    EXPECT_NE(error.at("data").value("hint", "").find(control_path(world)), std::string::npos) << error;
    return error;
}

// The start works once what stood on the path is out of the way.
void expect_start_after_removal(World& world) {
    ASSERT_TRUE(std::filesystem::remove(control_path(world)));
    EXPECT_EQ(world.start("server-1", kLong).at("reused"), false);
}

TEST(Master, ListensOnAReadablePathThatIsTheUsersAlone) {
    World world(servers(1));
    const Json connection = world.start("server-1", kLong).at("connection");
    EXPECT_EQ(connection.at("control_path"), control_path(world));
    struct stat status {};
    ASSERT_EQ(::lstat(control_path(world).c_str(), &status), 0);
    EXPECT_TRUE(S_ISSOCK(status.st_mode));
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_EQ(connection.at("adopted"), false);
    EXPECT_TRUE(alive(connection.at("master_pid")));
}

TEST(Master, ListensOnAPathThatTheAliasIsNotPartOf) {
    World world(servers(1));
    const std::string alias(60, 'a');
    world.sshd.add_ssh_config("Host " + alias + "\n    HostName 127.0.0.1\n");
    EXPECT_EQ(world.start(alias, kLong).at("connection").at("control_path"), control_path(world));
}

// ssh itself makes short addresses of long ones, so that it is the user's name that is long here.
TEST(Master, ListensOnAShortPathWhereTheNameIsLong) {
    if (!Sshd::can_have_other_user()) {
        GTEST_SKIP() << "another user for the sshd alone needs root and a mount namespace";
    }
    SshdOptions options = servers(1);
    options.other_user = std::string(60, 'u');
    World world(options);
    const Json started = world.start(options.other_user + "@server-1", kLong);
    EXPECT_EQ(started.at("connection").at("server").at("user"), options.other_user);
    const std::string path = started.at("connection").at("control_path");
    const std::string name = path.substr(path.rfind('/') + 1);
    EXPECT_TRUE(name.starts_with("cm-ssh-")) << path;
    EXPECT_EQ(name.size(), 7U + 16U) << path;
    EXPECT_EQ(name.find_first_not_of("0123456789abcdef", 7), std::string::npos) << path;
    EXPECT_TRUE(exists(path));
    EXPECT_EQ(world.start(options.other_user + "@server-1", kLong).at("reused"), true);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Master, ListensWhereTheConfigSays) {
    const TempDir elsewhere;
    World world(servers(1), "[pool]\ncontrol_path = \"" + elsewhere.path() + "/cm-ssh-%r@%h:%p\"\n");
    const Json started = world.start("server-1", kLong);
    EXPECT_EQ(started.at("connection").at("control_path"), elsewhere.path() + "/cm-ssh-" + world.key("127.0.0.1"));
    EXPECT_TRUE(exists(elsewhere.path() + "/cm-ssh-" + world.key("127.0.0.1")));
}

TEST(Master, CanBeUsedByPlainSsh) {
    World world(servers(1));
    const std::string path = world.start("server-1", kLong).at("connection").at("control_path");
    const auto output = run(
        {"ssh", "-F", world.sshd.ssh_config(), "-S", path, "-o", "ProxyCommand=false", "server-1", "echo", "hello"});
    EXPECT_EQ(output.output, "hello\n") << output.errors;
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Master, IsNotWhatTheUsersSshConfigWouldMakeOfIt) {
    World world(servers(1));
    const std::string canary = world.dir / "canary";
    world.sshd.add_ssh_config("Host server-1\n    ControlMaster auto\n    ControlPath " + (world.dir / "own") +
                              "\n    ControlPersist no\n    RemoteCommand touch " + canary +
                              "\n    RequestTTY force\n    PermitLocalCommand yes\n    LocalCommand touch " + canary +
                              "\n    LocalForward " + (world.dir / "forward") +
                              " 127.0.0.1:1\n    ForwardAgent yes\n    LogLevel QUIET\n    BatchMode no\n");
    EXPECT_EQ(world.start("server-1", kLong).at("reused"), false);
    EXPECT_EQ(world.start("server-1", kLong).at("reused"), true);
    EXPECT_TRUE(exists(control_path(world)));
    EXPECT_FALSE(exists(world.dir / "own"));
    EXPECT_FALSE(exists(world.dir / "forward"));
    EXPECT_FALSE(exists(canary));
    EXPECT_EQ(world.sshd.logins(), 1);
}

// Whoever is on it would have the agent: other tools, and every session.
TEST(Master, HandsNoAgentOnAndLeavesNoCore) {
    World world(servers(1));
    const std::string agent_socket = world.dir / "agent";
    const Process agent({"ssh-agent", "-D", "-a", agent_socket});
    ASSERT_TRUE(wait_until([&] { return exists(agent_socket); }));
    world.sshd.add_ssh_config("Host server-1\n    IdentityAgent " + agent_socket + "\n    ForwardAgent yes\n");
    const Words ask = {"sh", "-c", "echo \"agent: ${SSH_AUTH_SOCK-none}\""};
    EXPECT_EQ(run({"ssh", "-F", world.sshd.ssh_config(), "server-1", "echo \"agent: ${SSH_AUTH_SOCK-none}\""})
                  .output.find("agent: none"),
              std::string::npos)
        << "plain ssh does not hand it on either";
    EXPECT_EQ(world.rpc().call("exec", {{"ctx", "server-1"}, {"command", ask}}).at("stdout"), "agent: none\n");
    // Nor where one of those who are on it wants it to.
    const std::string path = world.connection(world.key("127.0.0.1")).at("control_path");
    EXPECT_EQ(run({"ssh", "-A", "-F", world.sshd.ssh_config(), "-S", path, "-o", "ProxyCommand=false", "server-1",
                   "echo \"agent: ${SSH_AUTH_SOCK-none}\""})
                  .output,
              "agent: none\n");
    const std::string id = world.start_id("server-1", {"sh", "-c", ask.back() + "; exec sleep 1000"});
    const auto shown = [&] { return world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>(); };
    EXPECT_TRUE(wait_until([&] { return !shown().empty(); }));
    EXPECT_EQ(shown(), "agent: none\n");
    const pid_t master = world.connection(world.key("127.0.0.1")).at("master_pid");
    for (const pid_t pid : {world.daemon.pid(), master}) {
        rlimit core{};
        ASSERT_EQ(::prlimit(pid, RLIMIT_CORE, nullptr, &core), 0);
        EXPECT_EQ(core.rlim_max, 0U) << command_line(pid);
    }
}

TEST(Master, LeavesNothingBehindWhenItIsEnded) {
    World world(servers(1));
    const pid_t master = world.start("server-1", kLong).at("connection").at("master_pid");
    const Json connection = world.rpc().call("disconnect", {{"ctx", "server-1"}}).at("connection");
    EXPECT_EQ(connection.at("state"), "idle");
    EXPECT_TRUE(connection.at("master_pid").is_null());
    EXPECT_FALSE(alive(master));
    EXPECT_EQ(world.daemon.control_sockets(), Words{});
    for (const auto& entry : std::filesystem::directory_iterator(world.daemon.runtime_dir())) {
        EXPECT_NE(entry.path().extension(), ".log") << entry.path();
    }
}

TEST(ControlPath, WithAStaleSocketIsTakenOver) {
    World world(servers(1));
    { const PathSocket stale(control_path(world)); }
    ASSERT_TRUE(exists(control_path(world)));
    EXPECT_EQ(world.start("server-1", kLong).at("reused"), false);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("adopted"), false);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(ControlPath, OfAKilledMasterIsTakenOver) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    const pid_t master = world.connection(world.key("127.0.0.1")).at("master_pid");
    ASSERT_EQ(world.rpc().call("kill", {{"session", id}}).at("session").at("state"), "killed");
    world.daemon.crash();
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return !alive(master); }));
    ASSERT_TRUE(exists(control_path(world))) << "a killed ssh leaves its socket";
    world.start_daemon();
    EXPECT_EQ(world.start("server-1", kLong).at("reused"), false);
    EXPECT_EQ(world.sshd.logins(), 2);
}

class SomebodysMaster : public ::testing::Test {
protected:
    // What a person may have left running there.
    pid_t start_plain_ssh() {
        const auto output = run({"ssh", "-F", world.sshd.ssh_config(), "-fNM", "-S", control_path(world), "-o",
                                 "ControlPersist=10m", "server-1"});
        EXPECT_EQ(output.status.code, 0) << output.errors;
        for (const pid_t pid : children_of(::getpid())) {
            if (command_line(pid).find(control_path(world)) != std::string::npos) {
                return pid;
            }
        }
        throw std::runtime_error("no ssh runs");
    }

    World world{servers(1), kShortTimeout};
};

TEST_F(SomebodysMaster, IsUsedInsteadOfALogin) {
    const pid_t master = start_plain_ssh();
    const Json started = world.start("server-1", kLong);
    EXPECT_EQ(started.at("reused"), true);
    EXPECT_EQ(started.at("connection").at("adopted"), true);
    EXPECT_EQ(started.at("connection").at("master_pid"), master);
    EXPECT_EQ(started.at("connection").at("handshakes"), 0);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(SomebodysMaster, ThatDiesIsReplacedByALogin) {
    const pid_t master = start_plain_ssh();
    const std::string id = world.start_id("server-1", kLong);
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("handshakes") == 1; }));
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("adopted"), false);
}

TEST_F(SomebodysMaster, ThatIsStoppedIsLeftAlone) {
    const pid_t master = start_plain_ssh();
    ASSERT_EQ(::kill(master, SIGSTOP), 0);
    refused_start(world);
    EXPECT_TRUE(alive(master));
    EXPECT_TRUE(exists(control_path(world)));
    EXPECT_EQ(world.sshd.logins(), 1);
    ASSERT_EQ(::kill(master, SIGCONT), 0);
    EXPECT_EQ(world.start("server-1", kLong).at("connection").at("master_pid"), master);
}

// Its process answers, but nothing comes back from the server.
TEST_F(SomebodysMaster, OnADeadPathIsLeftAlone) {
    const pid_t master = start_plain_ssh();
    world.sshd.signal_connections(SIGSTOP);
    refused_start(world);
    EXPECT_TRUE(alive(master));
    EXPECT_TRUE(exists(control_path(world)));
    world.sshd.signal_connections(SIGCONT);
    EXPECT_EQ(world.start("server-1", kLong).at("connection").at("master_pid"), master);
}

// As one whose path died without a word: it is not told, and does not go when it is asked to.
TEST(Master, TheNextOneEndsAControlClientThatIsStuckOnTheServer) {
    World world(servers(1));
    const Json started = world.start("server-1", kLong);
    const std::string id = started.at("session").at("id");
    const auto clients = [&] { return world.tmux(1, {"list-clients", "-F", "#{client_pid}"}).output; };
    const pid_t stuck = std::stoi(clients());
    ASSERT_EQ(::kill(stuck, SIGSTOP), 0);
    ASSERT_EQ(::kill(started.at("connection").at("master_pid").get<pid_t>(), SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return !alive(stuck); }));
    ASSERT_TRUE(world.becomes(id, "running"));
    EXPECT_NE(std::stoi(clients()), stuck);
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(ControlPath, WithAnotherUsersSocketIsNotConnectedTo) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "only root can give a socket away";
    }
    World world(servers(1));
    PathSocket foreign(control_path(world));
    foreign.listen();
    constexpr uid_t kNobody = 65534;
    ASSERT_EQ(::chown(control_path(world).c_str(), kNobody, kNobody), 0);
    const Json error = refused_start(world);
    EXPECT_NE(error.at("message").get<std::string>().find("65534"), std::string::npos) << error;
    EXPECT_FALSE(foreign.hang_up_on_one()) << "somebody has connected";
    EXPECT_TRUE(exists(control_path(world)));
    EXPECT_EQ(world.sshd.logins(), 0);
    expect_start_after_removal(world);
}

TEST(ControlPath, WithASymlinkIsNotFollowed) {
    World world(servers(1));
    PathSocket aside(world.dir / "aside");
    aside.listen();
    for (const auto& target : {world.dir / "aside", world.dir / "nowhere"}) {
        ASSERT_EQ(::symlink(target.c_str(), control_path(world).c_str()), 0);
        refused_start(world);
        EXPECT_FALSE(aside.hang_up_on_one()) << "somebody has connected";
        EXPECT_FALSE(exists(world.dir / "nowhere"));
        ASSERT_TRUE(std::filesystem::is_symlink(control_path(world)));
        ASSERT_TRUE(std::filesystem::remove(control_path(world)));
    }
    EXPECT_EQ(world.sshd.logins(), 0);
}

TEST(ControlPath, WithAFileOrDirectoryIsLeftAsItIs) {
    World world(servers(1));
    write_file(control_path(world), "somebody's");
    refused_start(world);
    EXPECT_EQ(read_file(control_path(world)), "somebody's");
    ASSERT_TRUE(std::filesystem::remove(control_path(world)));
    make_dirs(control_path(world));
    refused_start(world);
    EXPECT_EQ(world.sshd.logins(), 0);
    expect_start_after_removal(world);
}

TEST(ControlPath, WithASilentSocketIsLeftAlone) {
    World world(servers(1), kShortTimeout);
    PathSocket silent(control_path(world));
    silent.listen();
    refused_start(world);
    EXPECT_TRUE(exists(control_path(world)));
    EXPECT_EQ(world.sshd.logins(), 0);
}

// ssh would log in, find the path taken, and stay connected for ever without being anybody's master.
TEST(ControlPath, WithASocketThatHangsUpLeavesNoSshBehind) {
    World world(servers(1));
    PathSocket rude(control_path(world));
    rude.listen();
    const int call = world.rpc().send("start", {{"ctx", "server-1"}, {"command", kLong}});
    std::optional<Json> reply;
    ASSERT_TRUE(wait_until([&] {
        rude.hang_up_on_one();
        try {
            reply = world.rpc().reply(call, in(0ms));
        } catch (const RpcFailure&) {
        }
        return reply.has_value();
    }));
    EXPECT_EQ(reply->at("error").at("data").at("kind"), "connect_failed") << *reply;
    EXPECT_TRUE(exists(control_path(world)));
    EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes().empty(); }));
    EXPECT_EQ(world.stats().at("total_refs"), 0);
}

}  // namespace
}  // namespace cmssh::test
