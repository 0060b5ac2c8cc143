// The daemon's own life: what it starts on, what it refuses to start on, its config, and what outlives it.
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};

class UnixSocket {
public:
    UnixSocket(const std::string& path, int type) : fd_(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
            (type == SOCK_STREAM && ::listen(fd_.get(), 64) != 0)) {
            throw std::runtime_error("cannot listen on " + path);
        }
    }
    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    UniqueFd fd_;
};

// A world whose daemon is not running, to see how another one fares in its place.
class DaemonStart : public ::testing::Test {
protected:
    void SetUp() override { world.daemon.stop(); }

    [[nodiscard]] Finished start(const Words& arguments = {}, const Words& environment = {}) const {
        SpawnOptions spawn;
        spawn.environment = world.daemon.environment();
        spawn.environment.insert(spawn.environment.begin(), environment.begin(), environment.end());
        Words argv = {CMSSH_CMSSHD};
        argv.insert(argv.end(), arguments.begin(), arguments.end());
        return run(argv, spawn);
    }
    static void expect_refusal(const Finished& finished, int code, const std::string& text) {
        EXPECT_EQ(finished.status, (ExitStatus{.code = code, .signal = 0})) << finished.errors;
        EXPECT_NE(finished.errors.find(text), std::string::npos) << finished.errors;
        EXPECT_EQ(finished.output, "");
    }

    World world{servers(1)};
};

TEST_F(DaemonStart, IsRefusedWhereAnotherServes) {
    world.start_daemon();
    expect_refusal(start(), 3, "another cmsshd");
    EXPECT_EQ(world.rpc().call("ping"), Json::object());
}

TEST_F(DaemonStart, IsForOneOfTwentyAtOnce) {
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    std::vector<std::unique_ptr<Process>> daemons;
    for (int i = 0; i < 20; ++i) {
        daemons.push_back(std::make_unique<Process>(Words{CMSSH_CMSSHD}, spawn));
    }
    const auto running = [&] {
        return std::count_if(daemons.begin(), daemons.end(), [](const auto& it) { return it->running(); });
    };
    ASSERT_TRUE(wait_until([&] { return running() == 1; }));
    ASSERT_TRUE(wait_until([&] { return exists(world.daemon.socket_path()); }));
    EXPECT_EQ(world.rpc().call("ping"), Json::object());
    for (const auto& daemon : daemons) {
        if (!daemon->running()) {
            EXPECT_EQ(*daemon->wait(), (ExitStatus{.code = 3, .signal = 0})) << daemon->errors();
        } else {
            EXPECT_EQ(world.stats().at("daemon").at("pid"), daemon->pid());
        }
    }
}

TEST_F(DaemonStart, IsForOneOfThoseThatShareARegistry) {
    world.start_daemon();
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    make_dirs(world.dir / "run-2");
    ASSERT_EQ(::chmod((world.dir / "run-2").c_str(), 0700), 0);
    for (std::string& entry : spawn.environment) {
        if (entry.starts_with("XDG_RUNTIME_DIR=")) {
            entry = "XDG_RUNTIME_DIR=" + (world.dir / "run-2");
        }
    }
    const Finished second = run({CMSSH_CMSSHD}, spawn);
    EXPECT_EQ(second.status, (ExitStatus{.code = 3, .signal = 0}));
    EXPECT_NE(second.errors.find("keeps its sessions in "), std::string::npos) << second.errors;
    EXPECT_NE(second.errors.find("XDG_STATE_HOME"), std::string::npos) << second.errors;
}

TEST_F(DaemonStart, ReplacesTheSocketOfACrashedOne) {
    world.start_daemon();
    world.daemon.crash();
    ASSERT_TRUE(exists(world.daemon.socket_path()));
    world.start_daemon();
    EXPECT_EQ(world.rpc().call("ping"), Json::object());
}

// A process id that is somebody else's by now says nothing.
TEST_F(DaemonStart, BelievesNoLockFileThatNobodyHolds) {
    const std::string lock = world.daemon.runtime_dir() + "/cmsshd.lock";
    ASSERT_TRUE(exists(lock));
    { const UnixSocket stale(world.daemon.socket_path(), SOCK_STREAM); }
    for (const std::string& text : {std::to_string(::getpid()) + '\n', std::string(100'000, '\xff'), std::string()}) {
        write_file(lock, text);
        write_file(world.dir / "state/cmssh/cmsshd.lock", text);
        world.start_daemon();
        EXPECT_EQ(world.rpc().call("ping"), Json::object());
        expect_refusal(start(), 3, "another cmsshd");
        world.daemon.crash();
        ASSERT_TRUE(exists(world.daemon.socket_path()));
    }
    world.start_daemon();
}

TEST_F(DaemonStart, IsRefusedOnASocketThatAnotherProgramServes) {
    const UnixSocket other(world.dir / "other.sock", SOCK_STREAM);
    expect_refusal(start({"--socket", world.dir / "other.sock"}), 3, world.dir / "other.sock");
    EXPECT_TRUE(exists(world.dir / "other.sock"));
}

TEST_F(DaemonStart, OnDemandIsWithPathsOfTheCallersDirectory) {
    make_dirs(world.dir / "here");
    write_file(world.dir / "here/mine.toml", "[contexts.only-here]\nhost = \"server-1\"\n");
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    const auto here = [&](const std::string& arguments) {
        return run({"sh", "-c", "cd \"$1\" && exec \"$2\" " + arguments, "sh", world.dir / "here", CMSSH_CMCTL}, spawn);
    };
    const Finished listed = here("--config mine.toml --socket mine.sock contexts");
    EXPECT_EQ(listed.status.code, 0) << listed.errors;
    EXPECT_NE(listed.output.find("only-here"), std::string::npos) << listed.output;
    EXPECT_TRUE(exists(world.dir / "here/mine.sock"));
    EXPECT_EQ(here("--socket mine.sock daemon stop").status.code, 0);
    EXPECT_FALSE(exists(world.dir / "here/mine.sock"));
}

TEST_F(DaemonStart, IsFoundByThoseWhoLookElsewhere) {
    const std::string real = world.dir / "other.sock";
    EXPECT_EQ(world.daemon.cmctl({"--socket", real, "list"}).status.code, 0);
    const Finished lost = world.daemon.cmctl({"list"});
    EXPECT_EQ(lost.status.code, 4);
    EXPECT_NE(lost.errors.find("cmctl --socket " + real + " daemon stop"), std::string::npos) << lost.errors;
    const Finished stop = world.daemon.cmctl({"daemon", "stop"});
    EXPECT_EQ(stop.status.code, 1);
    EXPECT_NE(stop.errors.find("hint: cmctl --socket " + real + " daemon stop"), std::string::npos) << stop.errors;
    EXPECT_EQ(world.daemon.cmctl({"--socket", real, "daemon", "stop"}).status.code, 0);
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

TEST_F(DaemonStart, OnDemandThatFailsSaysWhyInTwoLines) {
    write_file(world.daemon.config_file(), "foo = 1\n");
    const Finished finished = world.daemon.cmctl({"list"});
    EXPECT_EQ(finished.status.code, 2);
    EXPECT_EQ(std::count(finished.errors.begin(), finished.errors.end(), '\n'), 2) << finished.errors;
    EXPECT_TRUE(finished.errors.starts_with("cmctl: the daemon did not start: ")) << finished.errors;
    EXPECT_NE(finished.errors.find("foo: unknown key\nhint: "), std::string::npos) << finished.errors;
}

TEST_F(DaemonStart, LeavesAFileInThePlaceOfItsSocketAlone) {
    write_file(world.daemon.socket_path(), "somebody's");
    expect_refusal(start(), 1, world.daemon.socket_path());
    EXPECT_EQ(read_file(world.daemon.socket_path()), "somebody's");
}

TEST_F(DaemonStart, IsRefusedInARuntimeDirThatOthersCanEnter) {
    ASSERT_EQ(::chmod(world.daemon.runtime_dir().c_str(), 0755), 0);
    expect_refusal(start(), 1, world.daemon.runtime_dir());
}

TEST_F(DaemonStart, IsRefusedInARuntimeDirThatIsASymlink) {
    std::filesystem::rename(world.daemon.runtime_dir(), world.dir / "moved");
    std::filesystem::create_symlink(world.dir / "moved", world.daemon.runtime_dir());
    expect_refusal(start(), 1, world.daemon.runtime_dir());
}

TEST_F(DaemonStart, IsRefusedInARuntimeDirOfAnotherUser) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "only root can give a directory away";
    }
    constexpr uid_t kNobody = 65534;
    ASSERT_EQ(::chown(world.daemon.runtime_dir().c_str(), kNobody, kNobody), 0);
    expect_refusal(start(), 1, "65534");
}

TEST_F(DaemonStart, TellsWhatIsWrongInTheConfig) {
    world.daemon.write_config("[pool]\nhealth_interval = \"soon\"\n");
    const Finished wrong = start();
    expect_refusal(wrong, 2, world.daemon.config_file() + ":4");
    expect_refusal(wrong, 2, "health_interval");
    world.daemon.write_config("[pool]\nhealth_intervall = \"15s\"\n");
    expect_refusal(start(), 2, "health_intervall");
    expect_refusal(start({"--config", world.dir / "no_such_file"}), 2, world.dir / "no_such_file");
    expect_refusal(start({}, {"CMSSH_CONFIG=" + (world.dir / "no_such_file")}), 2, world.dir / "no_such_file");
}

TEST_F(DaemonStart, RefusesUnknownOptions) {
    expect_refusal(start({"--no-such-option"}), 2, "no-such-option");
    expect_refusal(start({"--log-level", "loud"}), 2, "loud");
    EXPECT_EQ(start({"--version"}).output.substr(0, 7), "cmsshd ");
}

TEST_F(DaemonStart, TakesItsOwnDefaultConfig) {
    const Finished printed = start({"--print-default-config"});
    EXPECT_EQ(printed.status.code, 0);
    write_file(world.dir / "default.toml", printed.output);
    world.daemon.start({"--config", world.dir / "default.toml"});
    EXPECT_EQ(world.rpc().call("ping"), Json::object());
}

TEST_F(DaemonStart, TakesOverASocketThatItIsGiven) {
    const UnixSocket given(world.daemon.socket_path(), SOCK_STREAM);
    SpawnOptions spawn;
    spawn.environment = world.daemon.environment();
    spawn.descriptors.push_back(given.fd());
    Process daemon(
        {"bash", "-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" 3<&\"$1\"", CMSSH_CMSSHD, std::to_string(given.fd())},
        spawn);
    EXPECT_EQ(world.stats().at("daemon").at("pid"), daemon.pid());
    daemon.send_signal(SIGTERM);
    EXPECT_EQ(daemon.wait(), (ExitStatus{.code = 0, .signal = 0}));
    EXPECT_TRUE(exists(world.daemon.socket_path())) << "it is not the daemon's to remove";
}

TEST(DaemonStop, RemovesTheSocketAndLeavesMastersAndSessions) {
    World world(servers(1));
    const Json started = world.start("server-1", kLong);
    const pid_t master = started.at("connection").at("master_pid");
    world.daemon.stop();
    EXPECT_FALSE(exists(world.daemon.socket_path()));
    EXPECT_TRUE(alive(master));
    EXPECT_EQ(world.tmux_sessions(1), Words{started.at("session").at("id")});
}

// What the daemon's start has begun by itself ends with it, and not by its own deadlines.
TEST(DaemonStop, WaitsForNoSshThatHangs) {
    World world(servers(1));
    const std::string asked = world.dir / "asked";
    const std::string program = world.dir / "ssh";
    write_file(program, "#!/bin/sh\necho >" + asked + "\nexec sleep 1000\n");
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    write_file(world.daemon.config_file(),
               "[contexts.warm]\nhost = \"server-1\"\nprewarm = true\n[ssh]\nprogram = \"" + program + "\"\n");
    world.daemon.stop();
    world.start_daemon();
    ASSERT_TRUE(wait_until([&] { return exists(asked); }));
    const auto begin = std::chrono::steady_clock::now();
    world.daemon.stop();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s) << "of the 15 that ssh -G has";
}

TEST(DaemonStop, ByACallIsAnswered) {
    World world(servers(1));
    EXPECT_EQ(world.rpc().call("shutdown"), Json::object());
    EXPECT_EQ(world.rpc().read_to_end(), "");
    EXPECT_TRUE(wait_until([&] { return !world.daemon.running(); }));
    EXPECT_FALSE(exists(world.daemon.socket_path()));
}

enum class End { Stop, Crash };

void PrintTo(End end, std::ostream* stream) {
    *stream << (end == End::Stop ? "AfterAStop" : "AfterACrash");
}

// What the next daemon finds.
class NextDaemon : public ::testing::TestWithParam<End> {
protected:
    void replace_daemon() {
        end_daemon();
        world.start_daemon();
    }
    void end_daemon() {
        if (GetParam() == End::Stop) {
            world.daemon.stop();
        } else {
            world.daemon.crash();
        }
    }

    World world{servers(1)};
};

TEST_P(NextDaemon, AdoptsTheMasterAndFindsTheSessions) {
    const Json before = world.start("server-1", kLong, {{"name", "job"}, {"cwd", "/tmp"}, {"request_id", "once"}});
    const std::string id = before.at("session").at("id");
    replace_daemon();
    const Json connected = world.rpc().call("connect", {{"ctx", "server-1"}});
    EXPECT_EQ(connected.at("reused"), true);
    EXPECT_EQ(connected.at("connection").at("adopted"), true);
    EXPECT_EQ(connected.at("connection").at("master_pid"), before.at("connection").at("master_pid"));
    ASSERT_TRUE(world.becomes("job", "running"));
    const Json found = world.session("job");
    for (const auto* field : {"id", "name", "ctx", "server", "command", "cwd", "state", "created_at", "tmux"}) {
        EXPECT_EQ(found.at(field), before.at("session").at(field)) << field;
    }
    EXPECT_EQ(world.start("server-1", kLong, {{"request_id", "once"}}).at("session").at("id"), id);
    EXPECT_EQ(world.tmux_sessions(1), Words{id});
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.rpc().call("kill", {{"session", "job"}}).at("session").at("state"), "killed");
    EXPECT_EQ(world.tmux_sessions(1), Words{});
}

TEST_P(NextDaemon, TellsWhatEndedWithoutADaemon) {
    const std::string id = world.start_id("server-1", {"sh", "-c", "read line; exit 6"});
    end_daemon();
    EXPECT_EQ(world.tmux(1, {"send-keys", "-t", id, "Enter"}).status.code, 0);
    ASSERT_TRUE(wait_until([&] {
        return world.tmux(1, {"display-message", "-p", "-t", id, "#{pane_dead}"}).output == "1\n";
    }));
    world.start_daemon();
    world.rpc().call("connect", {{"ctx", "server-1"}});
    ASSERT_TRUE(wait_until([&] { return world.list({{"all", true}}).size() == 1; }));
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("exit_code"), 6);
}

INSTANTIATE_TEST_SUITE_P(Daemon, NextDaemon, ::testing::Values(End::Stop, End::Crash),
                         ::testing::PrintToStringParamName());

// Of another machine of the same person, say.
TEST(OtherDaemon, HasSessionsOfItsOwn) {
    World world(servers(1));
    const std::string ours = world.start_id("server-1", kLong, {{"name", "job"}});
    const TempDir other_dir;
    Daemon other(other_dir, world.sshd.ssh_config());
    other.start();
    RpcClient rpc(other.socket_path());
    const Json started = rpc.call("start", {{"ctx", "server-1"}, {"command", kLong}, {"name", "job"}});
    EXPECT_EQ(started.at("reused"), false);
    const std::string theirs = started.at("session").at("id");
    EXPECT_EQ(world.tmux_sessions(1).size(), 2U);
    EXPECT_EQ(world.list(), Words{ours});
    EXPECT_EQ(rpc.call("list").at("sessions").size(), 1U);
    rpc.call("kill", {{"session", "job"}});
    EXPECT_EQ(world.tmux_sessions(1), Words{ours});
    EXPECT_EQ(world.session("job").at("state"), "running");
}

TEST(Config, ContextsGiveServerDirectoryAndEnvironment) {
    World world(servers(2));
    const std::string port = std::to_string(world.sshd.port());
    world.daemon.stop();
    world.daemon.write_config(
        "default_ctx = \"here\"\n"
        "[contexts.here]\nhost = \"127.0.0.1\"\ncwd = \"~/src\"\nenv = { A = \"context's\", B = \"context's\" }\n"
        "[contexts.there]\nhost = \"server-2\"\nuser = \"" +
        own_user() + "\"\nport = " + port +
        "\n"
        "[tools.record]\ncommand = [\"sh\", \"-c\", 'echo \"$PWD $A $B $*\" >\"$0.part\" && mv \"$0.part\" \"$0\"']\n");
    world.start_daemon();
    make_dirs(world.sshd.home(1) + "/src");
    const std::string file = world.dir / "file";
    const Json started =
        world.rpc().call("start", {{"command", {"record", file, "task 1"}}, {"env", {{"B", "call's"}}}});
    EXPECT_EQ(started.at("session").at("ctx"), "here");
    EXPECT_EQ(started.at("session").at("cwd"), "~/src");
    EXPECT_EQ(started.at("session").at("server").at("key"), world.key("127.0.0.1"));
    ASSERT_TRUE(wait_until([&] { return exists(file); }));
    EXPECT_EQ(read_file(file), world.sshd.home(1) + "/src context's call's task 1\n");
    EXPECT_EQ(world.start("there", kLong).at("session").at("server").at("key"), world.key("127.0.0.2"));
    const Json contexts = world.rpc().call("contexts").at("contexts");
    const auto here =
        std::find_if(contexts.begin(), contexts.end(), [](const Json& it) { return it.at("name") == "here"; });
    ASSERT_NE(here, contexts.end());
    EXPECT_EQ(here->at("source"), "config");
    EXPECT_EQ(here->at("default"), true);
    EXPECT_EQ(here->at("server").at("key"), world.key("127.0.0.1"));
}

TEST(Config, AnIdentityFileOfAContextIsUsed) {
    SshdOptions options = servers(2);
    World world(options);
    const std::string key = world.dir / "context_key";
    std::filesystem::copy_file(world.sshd.user_key(), key);
    world.sshd.add_ssh_config("Host bare\n    HostName 127.0.0.1\n    IdentityFile none\n");
    world.daemon.stop();
    world.daemon.write_config("[contexts.keyed]\nhost = \"server-1\"\nidentity_file = \"" + key + "\"\n");
    world.start_daemon();
    const Json started = world.start("keyed", kLong);
    EXPECT_EQ(started.at("session").at("state"), "running");
    EXPECT_NE(started.at("session").at("server").at("key").get<std::string>().find(" as " + key), std::string::npos)
        << started;
}

TEST(Config, APrewarmedContextIsConnectedAheadAndKept) {
    World world(servers(2), "[pool]\ncontrol_persist = \"1s\"\n[contexts.warm]\nhost = \"server-1\"\nprewarm = true\n");
    EXPECT_TRUE(world.connection_becomes(world.key("127.0.0.1"), "up"));
    EXPECT_EQ(world.rpc().call("connect", {{"ctx", "server-2"}}).at("reused"), false);
    EXPECT_TRUE(world.connection_becomes(world.key("127.0.0.2"), "idle")) << "its linger is over";
    const Json warm = world.connection(world.key("127.0.0.1"));
    EXPECT_EQ(warm.at("state"), "up");
    EXPECT_EQ(warm.at("refs"), 0);
    EXPECT_TRUE(warm.at("linger_s").is_null());
    EXPECT_EQ(world.start("warm", kLong).at("reused"), true);
}

TEST(Reload, LetsGoOfWhatIsNotPrewarmedAnyMore) {
    const std::string both =
        "[pool]\ncontrol_persist = \"1s\"\n[contexts.warm]\nhost = \"server-1\"\nprewarm = true\n"
        "[contexts.other]\nhost = \"server-2\"\nprewarm = ";
    World world(servers(2), both + "true\n");
    for (const int server : {1, 2}) {
        EXPECT_GT(world.spare(server), 0);
    }
    world.daemon.write_config(both + "false\n");
    world.rpc().call("reload");
    EXPECT_TRUE(wait_until([&] { return world.spare_sessions(2) == 0; }));
    EXPECT_TRUE(world.connection_becomes(world.key("127.0.0.2"), "idle")) << "its linger is over";
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("state"), "up");
    EXPECT_EQ(world.spare_sessions(1), 1);
}

TEST(Reload, TakesTheNewConfig) {
    World world(servers(1));
    EXPECT_EQ(world.rpc().refusal("start", {{"ctx", "new name"}, {"command", kLong}}).at("code"), -32001);
    for (const std::string name : {"by-call", "by-signal"}) {
        world.daemon.write_config("default_ctx = \"" + name + "\"\n[contexts." + name + "]\nhost = \"server-1\"\n");
        if (name == "by-call") {
            EXPECT_EQ(world.rpc().call("reload"), Json::object());
        } else {
            ASSERT_EQ(::kill(world.daemon.pid(), SIGHUP), 0);
        }
        ASSERT_TRUE(wait_until([&] {
            const Json contexts = world.rpc().call("contexts").at("contexts");
            return std::any_of(contexts.begin(), contexts.end(), [&](const Json& it) { return it.at("name") == name; });
        }));
        EXPECT_EQ(world.rpc().call("start", {{"command", kLong}}).at("session").at("ctx"), name);
    }
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Reload, KeepsTheOldConfigWhereTheNewOneIsBad) {
    World world(servers(1), "default_ctx = \"server-1\"\n");
    world.daemon.write_config("default_ctx = 7\n");
    const Json error = world.rpc().refusal("reload");
    EXPECT_EQ(error.at("code"), -32023) << error;
    EXPECT_EQ(error.at("data").at("kind"), "bad_config");
    EXPECT_NE(error.at("message").get<std::string>().find(world.daemon.config_file() + ":1"), std::string::npos)
        << error;
    EXPECT_EQ(world.rpc().call("start", {{"command", kLong}}).at("session").at("ctx"), "server-1");
}

TEST(Reload, SeesAChangedSshConfigWithoutBeingAsked) {
    World world(servers(2));
    world.sshd.add_ssh_config("Host moving\n    HostName 127.0.0.1\n");
    EXPECT_EQ(world.start("moving", kLong).at("session").at("server").at("key"), world.key("127.0.0.1"));
    world.sshd.add_ssh_config("Host moving\n    HostName 127.0.0.2\n");
    EXPECT_EQ(world.start("moving", kLong).at("session").at("server").at("key"), world.key("127.0.0.2"));
}

}  // namespace
}  // namespace cmssh::test
