// cmctl cp: the system's scp over the connection that is there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

// Bytes that no encoding leaves alone, the same each time.
std::string noise(std::size_t size) {
    std::string bytes(size, '\0');
    std::uint32_t state = 12345;
    for (char& byte : bytes) {
        state = state * 1664525U + 1013904223U;
        byte = static_cast<char>(state >> 24U);
    }
    return bytes;
}

Finished cp(World& world, Words words) {
    words.insert(words.begin(), "cp");
    return world.daemon.cmctl(words);
}

SshdOptions with_sftp() {
    SshdOptions options = servers(1);
    // An sshd begins in the account's own home, which is ours and no test's.
    options.config = "Subsystem sftp cd $HOME; exec /usr/lib/openssh/sftp-server";
    return options;
}

SpawnOptions in_environment(const World& world) {
    SpawnOptions options;
    options.environment = world.daemon.environment();
    return options;
}

TEST(Cp, CopiesAFileThereAndBackOverOneLogin) {
    World world(with_sftp());
    const std::string bytes = noise(3 * 1024 * 1024 + 1);
    write_file(world.dir / "file", bytes);
    const auto there = cp(world, {world.dir / "file", "server-1:copy"});
    EXPECT_EQ(there.status.code, 0) << there.errors;
    EXPECT_EQ(there.output, "") << "no progress where there is no terminal";
    EXPECT_EQ(read_file(world.sshd.home(1) + "/copy"), bytes);
    const auto back = cp(world, {"server-1:copy", world.dir / "back"});
    EXPECT_EQ(back.status.code, 0) << back.errors;
    EXPECT_EQ(read_file(world.dir / "back"), bytes);
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("leases"), 0);
}

TEST(Cp, CopiesDirectoriesWhole) {
    World world(with_sftp());
    make_dirs(world.dir / "tree/deep/empty");
    write_file(world.dir / "tree/a", noise(70000));
    write_file(world.dir / "tree/deep/b", "b");
    ASSERT_EQ(::chmod((world.dir / "tree/a").c_str(), 0750), 0);
    const auto there = cp(world, {"-p", world.dir / "tree", "server-1:"});
    EXPECT_EQ(there.status.code, 0) << there.errors;
    struct stat here {};
    struct stat copy {};
    EXPECT_EQ(::stat((world.dir / "tree/deep/b").c_str(), &here), 0);
    EXPECT_EQ(::stat((world.sshd.home(1) + "/tree/deep/b").c_str(), &copy), 0);
    EXPECT_EQ(here.st_mtim.tv_sec, copy.st_mtim.tv_sec);
    const auto back = cp(world, {"-r", "server-1:tree", world.dir / "back"});
    EXPECT_EQ(back.status.code, 0) << back.errors;
    EXPECT_EQ(read_file(world.dir / "back/a"), noise(70000));
    EXPECT_EQ(read_file(world.dir / "back/deep/b"), "b");
    EXPECT_TRUE(fs::is_directory(world.dir / "back/deep/empty"));
    EXPECT_EQ(fs::status(world.dir / "back/a").permissions() & fs::perms::all, static_cast<fs::perms>(0750));
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Cp, LogsInOnceMoreForWhatIsBig) {
    World world(with_sftp());
    const std::string bytes = noise(33 * 1024 * 1024);
    make_dirs(world.dir / "tree");
    write_file(world.dir / "tree/big", bytes);
    ASSERT_EQ(::symlink("tree/big", (world.sshd.home(1) + "/link").c_str()), 0);
    const std::vector<Words> lines = {
        {world.dir / "tree/big", "server-1:"}, {world.dir / "tree", "server-1:"},
        {"server-1:big", world.dir / "back"},  {"server-1:~/tree", world.dir / "back-tree"},
        {"server-1:bi*", world.dir / "back"},  {"server-1:link", world.dir / "back"}};
    int logins = 1;
    for (const Words& line : lines) {
        const auto copied = cp(world, line);
        EXPECT_EQ(copied.status.code, 0) << copied.errors;
        EXPECT_EQ(world.sshd.logins(), ++logins) << line.front();
    }
    EXPECT_EQ(read_file(world.sshd.home(1) + "/tree/big"), bytes);
    EXPECT_EQ(read_file(world.dir / "back"), bytes);
    EXPECT_EQ(read_file(world.dir / "back-tree/big"), bytes);
    const Json connection = world.connection(world.key("127.0.0.1"));
    EXPECT_EQ(connection.at("handshakes"), logins);
    EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes().size() == 1; }));
}

TEST(Cp, TakesAnyNames) {
    World world(with_sftp());
    const Words names = {"a b",        "it's",  "\"q\"", "a:b",  "-rf",  "--",
                         "$(touch x)", "`x`;y", "Grüße", "100%", "a\nb", "[x]y*?"};
    make_dirs(world.sshd.home(1) + "/in");
    for (const std::string& name : names) {
        SCOPED_TRACE(name);
        const std::string path = world.dir / name;
        write_file(path, name);
        EXPECT_EQ(cp(world, {path, "server-1:in"}).status.code, 0);
        EXPECT_EQ(read_file(world.sshd.home(1) + "/in/" + name), name);
        EXPECT_EQ(cp(world, {"server-1:in/" + name, world.dir / "back"}).status.code, 0);
        EXPECT_EQ(read_file(world.dir / "back"), name);
    }
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Cp, TakesSeveralAndPatterns) {
    World world(with_sftp());
    write_file(world.dir / "one.txt", "1");
    write_file(world.dir / "two.txt", "2");
    EXPECT_EQ(cp(world, {world.dir / "one.txt", world.dir / "two.txt", "server-1:."}).status.code, 0);
    make_dirs(world.dir / "all");
    make_dirs(world.dir / "both");
    EXPECT_EQ(cp(world, {"server-1:*.txt", world.dir / "all"}).status.code, 0);
    EXPECT_EQ(cp(world, {"server-1:one.txt", "server-1:./two.txt", world.dir / "both"}).status.code, 0);
    for (const char* where : {"all", "both"}) {
        EXPECT_EQ(read_file(world.dir / where + "/one.txt"), "1");
        EXPECT_EQ(read_file(world.dir / where + "/two.txt"), "2");
    }
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Cp, ExitsAsScpDoesAndWith5WhereTheConnectionFails) {
    World world(with_sftp());
    EXPECT_EQ(cp(world, {"/no/such/file", "server-1:x"}).status.code, 1);
    write_file(world.dir / "file", "x");
    const auto missing = cp(world, {"server-1:missing", world.dir / "back"});
    EXPECT_EQ(missing.status.code, 1);
    EXPECT_THAT(missing.errors, HasSubstr("missing"));
    for (const Words& wrong : {Words{"a", "b"}, Words{"server-1:a", "server-2:b"},
                               Words{"server-1:a", "server-2:b", "c"}, Words{"server-1:a", "b", "c"}, Words{"a"}}) {
        const auto refused = cp(world, wrong);
        EXPECT_EQ(refused.status.code, 2) << refused.errors;
        EXPECT_THAT(refused.errors, HasSubstr("hint: "));
    }
    world.sshd.stop();
    ::kill(world.connection(world.key("127.0.0.1")).at("master_pid").get<pid_t>(), SIGKILL);
    const auto away = cp(world, {world.dir / "file", "server-1:"});
    EXPECT_EQ(away.status.code, 5) << away.errors;
    EXPECT_EQ(cp(world, {world.dir / "file", "no such ctx:"}).status.code, 3);
}

// One channel is the daemon's, one is taken: the limit is learnt from the refusal, and the copy waits its turn.
TEST(Cp, WaitsForAChannelWhereTheServerRefusesOne) {
    SshdOptions options = with_sftp();
    options.config += "\nMaxSessions 2";
    World world(options);
    write_file(world.dir / "file", "x");
    const std::string pipe = world.dir / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}});
    Process other({"ssh", "-F", "none", "-S", lease.at("control_path"), "-o", "ProxyCommand=false", "x", "cat " + pipe},
                  in_environment(world));
    UniqueFd writer;
    ASSERT_TRUE(wait_until([&] {
        writer.reset(::open(pipe.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
        return static_cast<bool>(writer);
    })) << other.errors();
    Process copy({CMSSH_CMCTL, "cp", world.dir / "file", "server-1:copy"}, in_environment(world));
    EXPECT_TRUE(wait_until([&] {
        const Json channels = world.connection(world.key("127.0.0.1")).at("channels");
        return channels.at("max") == 2 && channels.at("queued") == 1;
    }));
    writer.reset();
    ASSERT_TRUE(other.wait());
    world.rpc().call("release", {{"lease", lease.at("lease")}});
    const auto status = copy.wait();
    ASSERT_TRUE(status);
    EXPECT_EQ(status->code, 0) << copy.errors();
    EXPECT_EQ(read_file(world.sshd.home(1) + "/copy"), "x");
    EXPECT_EQ(world.sshd.logins(), 1);
}

// A copy that is under way until somebody reads from the pipe on the server.
class StuckCopy {
public:
    explicit StuckCopy(World& world) {
        EXPECT_EQ(::mkfifo((world.sshd.home(1) + "/pipe").c_str(), 0600), 0);
        write_file(world.dir / "file", noise(1 << 20));
        copy_.emplace(Words{CMSSH_CMCTL, "cp", world.dir / "file", "server-1:pipe"}, in_environment(world));
        EXPECT_TRUE(wait_until([&] { return !children_of(copy_->pid()).empty(); }));
        const pid_t scp = children_of(copy_->pid()).front();
        EXPECT_TRUE(wait_until([&] { return !children_of(scp).empty(); }));
    }
    Process* operator->() { return &*copy_; }

private:
    std::optional<Process> copy_;
};

TEST(Cp, EndsWithCtrlC) {
    World world(with_sftp());
    StuckCopy copy(world);
    copy->send_signal(SIGINT);
    const auto status = copy->wait();
    ASSERT_TRUE(status);
    EXPECT_EQ(status->code, 130) << copy->errors();
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("leases") == 0; }));
}

TEST(Cp, ShowsItsProgressOnATerminal) {
    World world(with_sftp());
    write_file(world.dir / "file", noise(1 << 20));
    const auto copied =
        run({"script", "-qec", CMSSH_CMCTL " cp " + (world.dir / "file") + " server-1:copy", "/dev/null"},
            in_environment(world));
    EXPECT_EQ(copied.status.code, 0) << copied.output;
    EXPECT_THAT(copied.output, HasSubstr("100%"));
}

TEST(Cp, SaysThatTheConnectionWasLost) {
    World world(with_sftp());
    world.rpc().call("connect", {{"ctx", "server-1"}});
    const pid_t master = world.connection(world.key("127.0.0.1")).at("master_pid");
    StuckCopy copy(world);
    ::kill(master, SIGKILL);
    const auto status = copy->wait();
    ASSERT_TRUE(status);
    EXPECT_EQ(status->code, 5) << copy->errors();
    EXPECT_THAT(copy->errors(), HasSubstr("cmctl: cp: "));
}

TEST(Cp, HasAWayToAServerWithoutSftp) {
    World world(servers(1));
    write_file(world.dir / "file", "x");
    const auto refused = cp(world, {world.dir / "file", "server-1:copy"});
    EXPECT_EQ(refused.status.code, 1) << refused.errors;
    EXPECT_THAT(refused.errors, HasSubstr("hint: cmctl cp -O"));
    const auto copied = cp(world, {"-O", world.dir / "file", "server-1:" + world.sshd.home(1) + "/copy"});
    EXPECT_EQ(copied.status.code, 0) << copied.errors;
    EXPECT_EQ(read_file(world.sshd.home(1) + "/copy"), "x");
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Cp, GoesTheWayOfTheDaemonsSsh) {
    World world(with_sftp());
    // Only the file that ssh.options names knows this one.
    world.sshd.add_ssh_config("Host only-here\n    HostName 127.0.0.1\n");
    write_file(world.dir / "file", "x");
    const auto copied = cp(world, {world.dir / "file", "only-here:copy"});
    EXPECT_EQ(copied.status.code, 0) << copied.errors;
    EXPECT_EQ(read_file(world.sshd.home(1) + "/copy"), "x");
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Cp, ReachesAnIpv6AddressInBrackets) {
    SshdOptions options = with_sftp();
    options.ipv6 = true;
    World world(options);
    write_file(world.dir / "file", "x");
    const auto copied = cp(world, {world.dir / "file", "[::1]:copy"});
    EXPECT_EQ(copied.status.code, 0) << copied.errors;
    EXPECT_EQ(read_file(world.sshd.home(1) + "/copy"), "x");
}

}  // namespace
}  // namespace cmssh::test
