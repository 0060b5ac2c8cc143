// What the machine refuses for a while: descriptors, processes, the disk, the time. Calls that need it say so, the
// others go on, and nothing is lost when it is there again.
#include <gmock/gmock.h>

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>

#include "tests/support/measure.hpp"
#include "tests/support/other_user.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Words kLong = {"sleep", "1000"};

// The process gets no descriptor any more while this lives; it keeps those that it has.
class NoDescriptors {
public:
    explicit NoDescriptors(pid_t pid) : pid_(pid) {
        rlim_t free = 0;
        while (std::filesystem::is_symlink("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(free))) {
            ++free;
        }
        if (::prlimit(pid, RLIMIT_NOFILE, nullptr, &before_) != 0) {
            throw std::runtime_error("prlimit");
        }
        const rlimit none{free, before_.rlim_max};
        if (::prlimit(pid, RLIMIT_NOFILE, &none, nullptr) != 0) {
            throw std::runtime_error("prlimit");
        }
    }
    ~NoDescriptors() { ::prlimit(pid_, RLIMIT_NOFILE, &before_, nullptr); }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;

private:
    pid_t pid_;
    rlimit before_{};
};

void expect_limit(const Json& error) {
    EXPECT_EQ(error.at("code"), -32019) << error;
    EXPECT_EQ(error.at("data").at("kind"), "limit") << error;
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("Too many open files")) << error;
}

TEST(Descriptors, ThatAreExhaustedStopWhatNeedsThemOnly) {
    World world(servers(2));
    const std::string id = world.start_id("server-1", {"sh", "-c", "echo text; exec cat"});
    (void)world.spare(1);
    const int before = descriptors_of(world.daemon.pid());
    const pid_t master = world.connection(world.key("127.0.0.1")).at("master_pid");
    {
        const NoDescriptors none(world.daemon.pid());
        // Who is connected is served, sessions on servers that are connected too.
        EXPECT_EQ(world.list(), Words{id});
        EXPECT_TRUE(wait_until([&] {
            return world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>() == "text\n";
        }));
        world.rpc().call("send", {{"session", id}, {"text", "more"}});
        EXPECT_EQ(world.start("server-1", kLong).at("session").at("state"), "running");
        expect_limit(world.rpc().refusal("start", {{"ctx", "server-2"}, {"command", kLong}}));
        expect_limit(world.rpc().refusal("exec", {{"ctx", "server-1"}, {"command", {"true"}}}));
        EXPECT_EQ(world.rpc().call("check", {{"ctx", "server-1"}}).at("connections").at(0).at("state"), "up");
        // Newcomers are told why.
        for (int i = 0; i < 3; ++i) {
            RpcClient newcomer(world.daemon.socket_path());
            EXPECT_THAT(newcomer.read_to_end(), HasSubstr("no file descriptors left"));
        }
    }
    EXPECT_EQ(RpcClient(world.daemon.socket_path()).call("ping"), Json::object());
    EXPECT_EQ(world.start("server-2", kLong).at("session").at("state"), "running");
    EXPECT_EQ(world.rpc().call("exec", {{"ctx", "server-1"}, {"command", {"true"}}}).at("exit_code"), 0);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("master_pid"), master);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("reconnects"), 0);
    EXPECT_EQ(world.sshd.logins(), 2);
    world.rpc().call("disconnect", {{"ctx", "server-2"}, {"force", true}});
    EXPECT_TRUE(wait_until([&] { return descriptors_of(world.daemon.pid()) <= before; }))
        << before << " before, " << descriptors_of(world.daemon.pid()) << " now";
}

// A master that dies meanwhile cannot be replaced, until it can.
TEST(Descriptors, ThatAreGivenBackBringTheConnectionBack) {
    World world(servers(1), "[pool]\nbackoff_initial = \"100ms\"\nbackoff_max = \"200ms\"\n");
    const std::string id = world.start_id("server-1", kLong);
    const std::string key = world.key("127.0.0.1");
    const pid_t master = world.connection(key).at("master_pid");
    // Less than there is: not even a reserve to accept newcomers with, and what the master's end gives back is taken
    // away too.
    const rlimit few{3, 1024};
    ASSERT_EQ(::prlimit(world.daemon.pid(), RLIMIT_NOFILE, &few, nullptr), 0);
    ASSERT_EQ(::kill(master, SIGKILL), 0);
    EXPECT_TRUE(world.becomes(id, "unreachable"));
    EXPECT_TRUE(wait_until([&] {
        const Json connection = world.connection(key);
        return connection.at("state") == "backoff" && connection.at("last_error").at("kind") == "limit";
    }));
    RpcClient newcomer(world.daemon.socket_path());
    const int asked = newcomer.send("ping");
    const Usage usage(world.daemon.pid());
    EXPECT_THROW((void)newcomer.reply(asked, in(1s)), RpcFailure);
    std::printf("processor without descriptors: %.1f %%\n", usage.processor_share() * 100);
    EXPECT_LT(usage.processor_share(), kSanitized ? 0.5 : 0.2);
    const rlimit many{1024, 1024};
    ASSERT_EQ(::prlimit(world.daemon.pid(), RLIMIT_NOFILE, &many, nullptr), 0);
    EXPECT_TRUE(newcomer.reply(asked).contains("result"));
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_EQ(world.sshd.logins(), 2);
}

std::int64_t wake_ups(pid_t pid) {
    const std::string text = read_file("/proc/" + std::to_string(pid) + "/status");
    constexpr std::string_view kName = "\nvoluntary_ctxt_switches:";
    return std::stoll(text.substr(text.find(kName) + kName.size()));
}

// Not even one to accept a newcomer with, who is in line all the time: it is looked after ten times a second, and not
// without end.
TEST(Descriptors, ThatAreExhaustedCostNoTime) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", kLong);
    (void)world.spare(1);
    const rlimit none{3, 1024};
    ASSERT_EQ(::prlimit(world.daemon.pid(), RLIMIT_NOFILE, &none, nullptr), 0);
    std::vector<std::unique_ptr<RpcClient>> newcomers;
    std::vector<int> asked;
    for (int i = 0; i < 10; ++i) {
        newcomers.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
        asked.push_back(newcomers.back()->send("ping"));
    }
    const Usage usage(world.daemon.pid());
    const std::int64_t before = wake_ups(world.daemon.pid());
    constexpr int kSeconds = 3;
    EXPECT_THROW((void)newcomers.back()->reply(asked.back(), in(std::chrono::seconds(kSeconds))), RpcFailure);
    const std::int64_t woken = wake_ups(world.daemon.pid()) - before;
    std::printf("without a descriptor: %.1f %% of a processor, woken %lld times\n", usage.processor_share() * 100,
                static_cast<long long>(woken));
    EXPECT_LT(usage.processor_share(), kSanitized ? 0.25 : 0.05);
    EXPECT_LT(woken, 30 * kSeconds);
    EXPECT_EQ(world.list(), Words{id});
    const rlimit many{1024, 1024};
    ASSERT_EQ(::prlimit(world.daemon.pid(), RLIMIT_NOFILE, &many, nullptr), 0);
    for (std::size_t i = 0; i < newcomers.size(); ++i) {
        EXPECT_TRUE(newcomers[i]->reply(asked[i]).contains("result"));
    }
}

// Root is refused no process, so that the daemon is somebody else's.
TEST(Processes, ThatAreRefusedStopWhatNeedsThemOnly) {
    const Words become = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    Words look = become;
    look.insert(look.end(), {"test", "-x", CMSSH_CMSSHD});
    if (::geteuid() != 0 || run(look).status.code != 0) {
        GTEST_SKIP() << "only root can become another user, who must be able to run " << CMSSH_CMSSHD;
    }
    World world(servers(2));
    world.daemon.stop();
    for (const char* name : {"home", "run", "state", "config"}) {
        std::filesystem::recursive_directory_iterator files(world.dir / name);
        ASSERT_EQ(::chown((world.dir / name).c_str(), kNobody, kNobody), 0);
        for (const auto& entry : files) {
            ASSERT_EQ(::lchown(entry.path().c_str(), kNobody, kNobody), 0);
        }
    }
    ASSERT_EQ(::chown(world.sshd.user_key().c_str(), kNobody, kNobody), 0);
    for (const auto& path : {world.dir.path(), world.dir / "sshd"}) {
        ASSERT_EQ(::chmod(path.c_str(), 0711), 0);
    }
    world.daemon.start_by(become);
    world.daemon.start();
    // The daemon asks the kernel whose the connection was when it was made.
    const auto client = [&] {
        const AsNobody nobody;
        return std::make_unique<RpcClient>(world.daemon.socket_path());
    }();
    const auto start = [&](const char* ctx) { return client->send("start", {{"ctx", ctx}, {"command", kLong}}); };
    ASSERT_TRUE(client->reply(start("server-1")).contains("result"));
    // Of another user's process, some root may not change it: its own user may.
    const auto limit_processes = [&](const std::string& most) {
        Words words = become;
        words.insert(words.end(), {"prlimit", "--pid", std::to_string(world.daemon.pid()), "--nproc=" + most + ':'});
        const Finished limited = run(words);
        ASSERT_EQ(limited.status.code, 0) << limited.errors;
    };
    limit_processes("1");
    const Json refused = client->reply(start("server-2"));
    ASSERT_TRUE(refused.contains("error")) << refused;
    EXPECT_EQ(refused.at("error").at("data").at("kind"), "limit") << refused;
    EXPECT_THAT(refused.at("error").at("message").get<std::string>(), HasSubstr("cannot start ssh"));
    EXPECT_TRUE(client->reply(start("server-1")).contains("result"));
    EXPECT_EQ(client->call("list").at("sessions").size(), 2U);
    limit_processes("100");
    EXPECT_TRUE(client->reply(start("server-2")).contains("result"));
    EXPECT_EQ(world.sshd.logins(), 2);
}

// A small file system of its own on a directory, which this process and those that it starts from now on see.
class SmallDisk {
public:
    [[nodiscard]] static bool possible() { return ::geteuid() == 0 && ::unshare(CLONE_NEWNS) == 0; }
    explicit SmallDisk(std::string path) : path_(std::move(path)) {
        if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("tmpfs", path_.c_str(), "tmpfs", 0, "size=1m,mode=0700") != 0) {
            throw std::runtime_error("mount");
        }
    }
    ~SmallDisk() { ::umount2(path_.c_str(), MNT_DETACH); }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;

    void fill() const {
        std::ofstream file(path_ + "/filler", std::ios::binary);
        // The last pieces are small.
        for (const std::size_t size : {std::size_t{4096}, std::size_t{1}}) {
            file.clear();
            while (file << std::string(size, 'x') << std::flush) {
            }
        }
    }
    void clear() const { std::filesystem::remove(path_ + "/filler"); }
    void remount(unsigned long flags) const {
        ASSERT_EQ(::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | flags, nullptr), 0) << std::strerror(errno);
    }

private:
    std::string path_;
};

// It has shown its text before it ended: tmux before 3.7 may lose what comes right before the end, on a busy machine.
std::string session_that_ended(World& world, const std::string& name, const std::string& text, int code) {
    const std::string end = world.dir / ("end-of-" + name);
    const std::string id =
        world.start_id("server-1",
                       {"sh", "-c", "echo \"$1\"; until [ -e \"$0\" ]; do sleep 0.02; done; exit \"$2\"", end, text,
                        std::to_string(code)},
                       {{"name", name}});
    const auto shown = [&] { return world.rpc().call("logs", {{"session", id}}).at("text"); };
    EXPECT_TRUE(wait_until([&] { return shown() == text + '\n'; }));
    write_file(end, "");
    EXPECT_EQ(world.wait(id).at("exit_code"), code);
    EXPECT_EQ(shown(), text + '\n');
    return id;
}

class Disk : public ::testing::Test {
protected:
    void SetUp() override {
        if (!SmallDisk::possible()) {
            GTEST_SKIP() << "no file system can be mounted";
        }
        world.emplace(servers(1));
        world->daemon.stop();
        disk.emplace(world->dir / "state");
        world->start_daemon();
    }
    void TearDown() override {
        if (world) {
            world->daemon.stop();
        }
    }
    [[nodiscard]] bool unsaved() { return world->stats().at("daemon").at("unsaved"); }

    std::optional<World> world;
    std::optional<SmallDisk> disk;
};

TEST_F(Disk, ThatIsFullIsSaidAndWaitedOut) {
    const std::string before = world->start_id("server-1", kLong, {{"name", "before"}});
    disk->fill();
    const std::string meanwhile = session_that_ended(*world, "meanwhile", "text", 3);
    EXPECT_TRUE(unsaved());
    // A daemon that starts now has what was saved, and what the server tells.
    world->daemon.crash();
    world->start_daemon();
    EXPECT_EQ(world->session("before").at("id"), before);
    EXPECT_TRUE(world->becomes(before, "running"));
    EXPECT_EQ(world->wait(meanwhile).at("exit_code"), 3);
    EXPECT_TRUE(wait_until([&] { return unsaved(); }));
    disk->clear();
    EXPECT_TRUE(wait_until([&] { return !unsaved(); }));
    world->daemon.crash();
    world->start_daemon();
    EXPECT_THAT(world->list({{"all", true}}), ElementsAre(before, meanwhile));
    EXPECT_EQ(world->session("meanwhile").at("exit_code"), 3);
    EXPECT_EQ(world->rpc().call("logs", {{"session", meanwhile}}).at("text"), "text\n");
}

TEST_F(Disk, ThatIsReadOnlyIsSaidAndWaitedOut) {
    const std::string before = world->start_id("server-1", kLong, {{"name", "before"}});
    world->daemon.crash();
    disk->remount(MS_RDONLY);
    world->start_daemon();
    EXPECT_EQ(world->session("before").at("id"), before);
    EXPECT_TRUE(world->becomes(before, "running"));
    const std::string meanwhile = world->start_id("server-1", kLong);
    EXPECT_TRUE(unsaved());
    disk->remount(0);
    EXPECT_TRUE(wait_until([&] { return !unsaved(); }));
    world->daemon.crash();
    world->start_daemon();
    EXPECT_THAT(world->list(), ElementsAre(before, meanwhile));
    EXPECT_EQ(world->sshd.logins(), 1);
}

// EIO from the kernel's calls, as of a disk that dies.
class BadDisk : public ::testing::Test {
protected:
    void SetUp() override {
        world.daemon.stop();
        world.daemon.add_environment(std::string("LD_PRELOAD=") + CMSSH_BAD_DISK);
        world.daemon.add_environment("CMSSH_BAD_DISK=" + gate);
        world.start_daemon();
    }
    void next_daemon() {
        world.daemon.crash();
        world.start_daemon();
    }
    [[nodiscard]] bool unsaved() { return world.stats().at("daemon").at("unsaved"); }
    [[nodiscard]] int logged(const std::string& text) const {
        const std::string log = world.daemon.log();
        int count = 0;
        for (auto at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) {
            ++count;
        }
        return count;
    }
    void expect_nothing_set_aside() const {
        for (const auto& entry : std::filesystem::directory_iterator(world.dir / "state/cmssh")) {
            EXPECT_EQ(entry.path().string().find(".db."), std::string::npos) << entry.path();
        }
    }

    World world{servers(1)};
    const std::string gate = world.dir / "bad-disk";
};

TEST_F(BadDisk, ThatTakesNoWritesIsSaidOnceAndWaitedOut) {
    const std::string before = world.start_id("server-1", kLong, {{"name", "before"}});
    const std::string gone = session_that_ended(world, "gone", "saved", 4);
    EXPECT_FALSE(unsaved());
    write_file(gate + ".writes", "");
    const std::string meanwhile = session_that_ended(world, "meanwhile", "text", 3);
    const std::string killed = world.start_id("server-1", kLong, {{"name", "killed"}});
    EXPECT_EQ(world.rpc().call("kill", {{"session", killed}}).at("session").at("state"), "killed");
    EXPECT_TRUE(unsaved());
    EXPECT_EQ(logged("can't be written (disk I/O error)"), 1) << world.daemon.log();
    // A daemon that starts now has what was saved, and what the server tells.
    next_daemon();
    EXPECT_EQ(world.session("before").at("id"), before);
    EXPECT_EQ(world.session("gone").at("exit_code"), 4);
    EXPECT_TRUE(world.becomes(before, "running"));
    EXPECT_EQ(world.wait(meanwhile).at("exit_code"), 3);
    EXPECT_EQ(world.wait(killed).at("state"), "killed");
    EXPECT_TRUE(unsaved());
    EXPECT_EQ(logged("can't be written (disk I/O error)"), 2) << "once by each daemon";
    std::filesystem::remove(gate + ".writes");
    EXPECT_TRUE(wait_until([&] { return !unsaved(); }));
    EXPECT_EQ(logged("can be written again"), 1);
    next_daemon();
    EXPECT_THAT(world.list({{"all", true}}), ElementsAre(before, gone, meanwhile, killed));
    EXPECT_EQ(world.session(meanwhile).at("exit_code"), 3);
    EXPECT_EQ(world.session(killed).at("state"), "killed");
    EXPECT_EQ(world.rpc().call("logs", {{"session", gone}}).at("text"), "saved\n");
    EXPECT_EQ(world.rpc().call("logs", {{"session", meanwhile}}).at("text"), "text\n");
    EXPECT_TRUE(world.becomes(before, "running"));
    expect_nothing_set_aside();
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(BadDisk, ThatCannotBeReadHidesTheRegistryUntilItCan) {
    const std::string running = world.start_id("server-1", kLong, {{"name", "running"}});
    const std::string gone = session_that_ended(world, "gone", "saved", 4);
    write_file(gate + ".reads", "");
    next_daemon();
    EXPECT_TRUE(unsaved());
    const std::string meanwhile = world.start_id("server-1", kLong, {{"name", "meanwhile"}});
    // The server tells of it, and of nothing that has ended.
    EXPECT_TRUE(wait_until([&] { return world.list({{"all", true}}) == Words{running, meanwhile}; }));
    std::filesystem::remove(gate + ".reads");
    EXPECT_TRUE(wait_until([&] { return !unsaved(); }));
    EXPECT_TRUE(wait_until([&] { return world.list({{"all", true}}) == Words{running, gone, meanwhile}; }));
    next_daemon();
    EXPECT_THAT(world.list({{"all", true}}), ElementsAre(running, gone, meanwhile));
    EXPECT_EQ(world.session(gone).at("exit_code"), 4);
    EXPECT_EQ(world.rpc().call("logs", {{"session", gone}}).at("text"), "saved\n");
    expect_nothing_set_aside();
    EXPECT_EQ(world.sshd.logins(), 1);
}

// By another program, under a daemon that serves.
TEST(Registry, ThatIsOverwrittenWhileItIsOpenIsMadeAnew) {
    World world(servers(1));
    const std::string before = world.start_id("server-1", kLong, {{"name", "before"}});
    const std::string registry = world.dir / "state/cmssh/registry.db";
    write_file(registry, std::string(100'000, 'x'));
    write_file(registry + "-wal", std::string(100'000, 'x'));
    const std::string after = world.start_id("server-1", kLong, {{"name", "after"}});
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("unsaved") == false; }));
    EXPECT_EQ(world.list(), (Words{before, after}));
    world.daemon.crash();
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return world.list() == Words{before, after}; }));
    EXPECT_TRUE(world.becomes("before", "running"));
    EXPECT_TRUE(world.becomes("after", "running"));
    EXPECT_EQ(world.sshd.logins(), 1);
}

const std::string kOftenProbed =
    "[pool]\nhealth_interval = \"300ms\"\nhealth_timeout = \"300ms\"\nunhealthy_after = 1\n";

// Can't be loaded into a sanitizer's build.
#ifndef CMSSH_SANITIZED
std::string libfaketime() {
    for (const auto& directory : std::filesystem::directory_iterator("/usr/lib")) {
        const auto library = directory.path() / "faketime/libfaketime.so.1";
        if (std::filesystem::exists(library)) {
            return library;
        }
    }
    throw std::runtime_error("libfaketime is not installed");
}

std::int64_t seconds_of(const Json& time) {
    std::tm parts{};
    EXPECT_NE(::strptime(time.get<std::string>().c_str(), "%Y-%m-%dT%H:%M:%S", &parts), nullptr) << time;
    return ::timegm(&parts);
}

// Two hours there, and four back: nothing runs out, and nothing waits for hours.
TEST(WallClock, ThatJumpsDecidesNothing) {
    const std::string library = libfaketime();
    constexpr std::int64_t kJump = 7200;
    World world(servers(1), kOftenProbed);
    const std::string clock = world.dir / "clock";
    const auto jump = [&](std::int64_t offset) {
        write_file(clock + ".next", (offset < 0 ? "" : "+") + std::to_string(offset) + '\n');
        std::filesystem::rename(clock + ".next", clock);
    };
    jump(0);
    world.daemon.stop();
    for (const std::string& variable :
         {"LD_PRELOAD=" + library, "FAKETIME_TIMESTAMP_FILE=" + clock, std::string("FAKETIME_NO_CACHE=1"),
          std::string("FAKETIME_DONT_FAKE_MONOTONIC=1"), std::string("DONT_FAKE_MONOTONIC=1")}) {
        world.daemon.add_environment(variable);
    }
    world.start_daemon();
    const std::string id = world.start_id("server-1", kLong);
    const std::string key = world.key("127.0.0.1");
    const Json before = world.connection(key);
    const auto begin = std::chrono::steady_clock::now();
    RpcClient patient(world.daemon.socket_path());
    const int waiting = patient.send("wait", {{"session", id}, {"timeout_ms", 2500}});
    for (const std::int64_t offset : {kJump, -kJump}) {
        SCOPED_TRACE(offset);
        jump(offset);
        const Json started = world.start("server-1", {"sh", "-c", "exit 3"}).at("session");
        EXPECT_NEAR(static_cast<double>(seconds_of(started.at("created_at"))),
                    static_cast<double>(std::time(nullptr) + offset), 60);
        const Json ended = world.wait(started.at("id"));
        EXPECT_EQ(ended.at("exit_code"), 3);
        EXPECT_NEAR(static_cast<double>(seconds_of(ended.at("ended_at"))),
                    static_cast<double>(std::time(nullptr) + offset), 60);
        const int probes = world.connection(key).at("probes").at("ok");
        EXPECT_TRUE(wait_until([&] { return world.connection(key).at("probes").at("ok") >= probes + 3; }));
    }
    EXPECT_EQ(patient.reply(waiting).at("error").at("data").at("kind"), "timeout");
    const auto waited = std::chrono::steady_clock::now() - begin;
    EXPECT_GE(waited, 2400ms);
    EXPECT_LT(waited, 10s);
    const Json after = world.connection(key);
    EXPECT_EQ(after.at("state"), "up");
    EXPECT_EQ(after.at("master_pid"), before.at("master_pid"));
    EXPECT_EQ(after.at("reconnects"), 0);
    EXPECT_EQ(after.at("probes").at("failed"), 0);
    EXPECT_EQ(world.session(id).at("state"), "running");
    EXPECT_EQ(world.sshd.logins(), 1);
}
#endif

// As a machine that was asleep does.
TEST(StoppedDaemon, GoesOnWithEverythingWhenItIsContinued) {
    World world(servers(1), kOftenProbed);
    const std::string id = world.start_id("server-1", kLong);
    const std::string key = world.key("127.0.0.1");
    const Json before = world.connection(key);
    ASSERT_EQ(::kill(world.daemon.pid(), SIGSTOP), 0);
    RpcClient newcomer(world.daemon.socket_path());
    const int asked = newcomer.send("get", {{"session", id}});
    const int started = world.rpc().send("start", {{"ctx", "server-1"}, {"command", kLong}});
    // Ten probes' time.
    EXPECT_THROW((void)newcomer.reply(asked, in(3s)), RpcFailure);
    ASSERT_EQ(::kill(world.daemon.pid(), SIGCONT), 0);
    EXPECT_EQ(newcomer.reply(asked).at("result").at("session").at("state"), "running");
    EXPECT_EQ(world.rpc().reply(started).at("result").at("session").at("state"), "running");
    const int probes = world.connection(key).at("probes").at("ok");
    EXPECT_TRUE(wait_until([&] { return world.connection(key).at("probes").at("ok") >= probes + 3; }));
    const Json after = world.connection(key);
    EXPECT_EQ(after.at("state"), "up");
    EXPECT_EQ(after.at("master_pid"), before.at("master_pid"));
    EXPECT_EQ(after.at("probes").at("failed"), 0);
    EXPECT_EQ(after.at("reconnects"), 0);
    EXPECT_EQ(world.sshd.logins(), 1);
}

// With the settings that people have: two probes of each connection were due meanwhile.
TEST(StoppedDaemon, ForHalfAMinuteTakesNoServerForDead) {
    constexpr int kServers = 5;
    World world(servers(kServers));
    Words sessions;
    for (int server = 1; server <= kServers; ++server) {
        sessions.push_back(world.start_id("server-" + std::to_string(server), kLong));
    }
    RpcClient watcher(world.daemon.socket_path());
    watcher.call("subscribe");
    const Json before = world.stats();
    // One is under way, whose answer is there long before the daemon looks.
    world.sshd.signal_connections(SIGSTOP);
    const int checked = world.rpc().send("check");
    for (int turn = 0; turn < 20; ++turn) {
        watcher.call("ping");
    }
    ASSERT_EQ(::kill(world.daemon.pid(), SIGSTOP), 0);
    world.sshd.signal_connections(SIGCONT);
    RpcClient newcomer(world.daemon.socket_path());
    const int asked = newcomer.send("list");
    EXPECT_THROW((void)newcomer.reply(asked, in(30s)), RpcFailure);
    ASSERT_EQ(::kill(world.daemon.pid(), SIGCONT), 0);
    const Json listed = newcomer.reply(asked).at("result").at("sessions");
    ASSERT_EQ(listed.size(), sessions.size());
    for (const Json& session : listed) {
        EXPECT_EQ(session.at("state"), "running");
    }
    EXPECT_TRUE(world.rpc().reply(checked).contains("result"));
    // The one that was under way, and one for all that were due: the next are due a while later.
    const auto probes = [](const Json& connection) { return connection.at("probes").at("ok").get<int>(); };
    const auto most_probes = [&](const Json& stats) {
        int most = 0;
        for (std::size_t i = 0; i < kServers; ++i) {
            most = std::max(most, probes(stats.at("connections").at(i)) - probes(before.at("connections").at(i)));
        }
        return most;
    };
    EXPECT_TRUE(wait_until([&] {
        const Json now = world.stats();
        for (std::size_t i = 0; i < kServers; ++i) {
            if (probes(now.at("connections").at(i)) < probes(before.at("connections").at(i)) + 2) {
                return false;
            }
        }
        return true;
    }));
    EXPECT_FALSE(wait_until([&] { return most_probes(world.stats()) > 2; }, in(2s)));
    const Json after = world.stats();
    for (std::size_t i = 0; i < kServers; ++i) {
        const Json& connection = after.at("connections").at(i);
        EXPECT_EQ(connection.at("state"), "up") << connection;
        EXPECT_EQ(connection.at("since"), before.at("connections").at(i).at("since"));
        EXPECT_EQ(connection.at("master_pid"), before.at("connections").at(i).at("master_pid"));
        EXPECT_EQ(connection.at("probes").at("failed"), 0) << connection;
        EXPECT_EQ(connection.at("reconnects"), 0);
    }
    EXPECT_EQ(after.at("handshakes"), before.at("handshakes"));
    EXPECT_EQ(world.sshd.logins(), kServers);
    watcher.call("ping");
    for (const Json& event : watcher.notifications()) {
        EXPECT_NE(event.at("params").at("type"), "session.unreachable") << event;
    }
}

}  // namespace
}  // namespace cmssh::test
