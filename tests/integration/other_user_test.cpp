// Other users of this machine: told nothing, heard by nobody, and what they made first left as it is.
#include <gmock/gmock.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "tests/support/other_user.hpp"
#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A listening socket of another user that counts who comes and what they say.
class ForeignSocket {
public:
    explicit ForeignSocket(std::string path)
        : path_(std::move(path)), fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
        const AsNobody nobody;
        if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
            ::listen(fd_.get(), 64) != 0) {
            throw std::runtime_error(path_ + ": " + std::strerror(errno));
        }
    }

    // Of everybody so far, all of whom have hung up by then.
    std::string heard() {
        std::string text;
        while (const UniqueFd caller{::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)}) {
            ++callers;
            std::array<char, 4096> bytes{};
            for (ssize_t count = 0; (count = ::read(caller.get(), bytes.data(), bytes.size())) > 0;) {
                text.append(bytes.data(), static_cast<std::size_t>(count));
            }
        }
        return text;
    }
    void expect_untouched() const {
        struct stat status {};
        ASSERT_EQ(::lstat(path_.c_str(), &status), 0) << path_ << " was removed";
        EXPECT_TRUE(S_ISSOCK(status.st_mode));
    }

    int callers = 0;

private:
    std::string path_;
    UniqueFd fd_;
};

class OtherUser : public ::testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) {
            GTEST_SKIP() << "only root can become another user";
        }
        world = std::make_unique<World>(servers(1));
        // The first two lead to the rest; a world's own directory is private.
        for (const auto& path : {world->dir.path(), world->dir / "run"}) {
            ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
        }
    }
    // As /tmp is: whoever comes first has the name.
    std::string shared_dir() {
        const std::string path = world->dir / "shared";
        EXPECT_EQ(::mkdir(path.c_str(), 0700), 0);
        EXPECT_EQ(::chmod(path.c_str(), 01777), 0);
        return path;
    }

    std::unique_ptr<World> world;
};

TEST_F(OtherUser, IsClosedUnreadWithEverythingOpenToAll) {
    for (const auto& path : {world->dir / "run", world->daemon.runtime_dir()}) {
        ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
    }
    ASSERT_EQ(::chmod(world->daemon.socket_path().c_str(), 0666), 0);
    const Json before = world->stats().at("daemon");
    const int descriptors = descriptors_of(world->daemon.pid());
    constexpr int kCallers = 200;
    for (int i = 0; i < kCallers; ++i) {
        std::unique_ptr<RpcClient> caller;
        {
            const AsNobody nobody;
            caller = std::make_unique<RpcClient>(world->daemon.socket_path());
        }
        try {
            caller->send("shutdown");
        } catch (const RpcFailure&) {
            // It was closed before.
        }
        EXPECT_EQ(caller->read_to_end(), "");
    }
    const Json after = world->stats().at("daemon");
    EXPECT_EQ(after.at("requests").get<int>(), before.at("requests").get<int>() + 1) << "ours alone";
    EXPECT_EQ(after.at("errors"), before.at("errors"));
    EXPECT_TRUE(wait_until([&] { return descriptors_of(world->daemon.pid()) == descriptors; }));
    EXPECT_TRUE(world->daemon.running());
    ASSERT_EQ(::chmod(world->daemon.runtime_dir().c_str(), 0700), 0);
}

TEST_F(OtherUser, IsToldNothingByCmctlWhereItServes) {
    ForeignSocket foreign(shared_dir() + "/cmsshd.sock");
    const std::string path = world->dir / "shared/cmsshd.sock";
    const Words verbs[] = {{"list"},
                           {"start", "--ctx", "server-1", "--", "secret"},
                           {"exec", "--ctx", "server-1", "--", "secret"},
                           {"send", "sess-a", "secret"},
                           {"logs", "-f", "sess-a"},
                           {"events"},
                           {"connect", "server-1"},
                           {"cp", "server-1:secret", "."},
                           {"rpc", "ping"},
                           {"proxy"},
                           {"daemon", "stop"},
                           {"doctor"}};
    for (const Words& verb : verbs) {
        Words line = {"--socket", path};
        line.insert(line.end(), verb.begin(), verb.end());
        const Finished told = world->daemon.cmctl(line, "secret\n");
        EXPECT_NE(told.status.code, 0) << verb.front();
        EXPECT_THAT(told.output + told.errors, HasSubstr("65534")) << verb.front();
        EXPECT_EQ(foreign.heard(), "") << verb.front();
    }
    Terminal terminal({CMSSH_CMCTL, "--socket", path, "attach", "sess-a"}, world->daemon.environment());
    EXPECT_TRUE(terminal.prints("65534")) << terminal.output();
    EXPECT_EQ(terminal.wait(), 4);
    EXPECT_EQ(foreign.heard(), "");
    EXPECT_GT(foreign.callers, 0) << "nobody has tried";
    foreign.expect_untouched();
}

TEST_F(OtherUser, IsToldNothingWhereItWaitsOnAControlPath) {
    world->daemon.stop();
    world->daemon.write_config("[pool]\ncontrol_path = \"" + shared_dir() + "/cm-ssh-%r@%h:%p\"\n");
    world->start_daemon();
    const std::string path = world->dir / "shared/cm-ssh-" + world->key("127.0.0.1");
    ForeignSocket foreign(path);
    // With the file's owner as it ought to be, only the kernel can tell who listens.
    for (const uid_t owner : {kNobody, ::geteuid()}) {
        ASSERT_EQ(::lchown(path.c_str(), owner, owner), 0);
        const Json error = world->rpc().refusal("start", {{"ctx", "server-1"}, {"command", {"secret"}}});
        EXPECT_EQ(error.at("data").at("kind"), "connect_failed") << error;
        EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("65534"));
        EXPECT_EQ(world->daemon.cmctl({"exec", "--ctx", "server-1", "--", "secret"}).status.code, 255);
        EXPECT_EQ(foreign.heard(), "");
        foreign.expect_untouched();
    }
    EXPECT_GT(foreign.callers, 0) << "the second owner lets us connect";
    EXPECT_EQ(world->sshd.logins(), 0);
    EXPECT_THAT(world->daemon.ssh_processes(), IsEmpty());
}

// What a directory looks like from outside: nothing of it may change where it is refused.
std::string facts_of(const std::string& path) {
    std::ostringstream facts;
    const auto add = [&facts](const std::string& name) {
        struct stat status {};
        EXPECT_EQ(::lstat(name.c_str(), &status), 0) << name;
        facts << name << ' ' << status.st_ino << ' ' << std::oct << status.st_mode << std::dec << ' ' << status.st_uid
              << ' ' << status.st_ctim.tv_sec << '.' << status.st_ctim.tv_nsec << '\n';
    };
    add(path);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
        add(entry.path());
    }
    return facts.str();
}

TEST_F(OtherUser, KeepsADirectoryThatItMadeFirstAsItIs) {
    world->daemon.stop();
    const std::string theirs = world->dir / "theirs";
    make_dirs(theirs + "/cmssh");
    write_file(theirs + "/cmssh/cmsshd.lock", "");
    write_file(theirs + "/cmssh/cm-ssh-" + world->key("127.0.0.1"), "");
    for (const auto& path : {theirs, theirs + "/cmssh", theirs + "/cmssh/cmsshd.lock"}) {
        ASSERT_EQ(::chown(path.c_str(), kNobody, kNobody), 0);
        ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
    }
    const std::string link = world->dir / "link";
    make_dirs(link);
    std::filesystem::create_directory_symlink(theirs + "/cmssh", link + "/cmssh");
    const std::string open = world->dir / "open";
    make_dirs(open + "/cmssh");
    ASSERT_EQ(::chmod((open + "/cmssh").c_str(), 0770), 0);
    for (const std::string& runtime : {theirs, link, open}) {
        for (const char* variable : {"XDG_RUNTIME_DIR=", "XDG_STATE_HOME="}) {
            for (const Words& argv : {Words{CMSSH_CMSSHD}, Words{CMSSH_CMCTL, "list"}}) {
                SpawnOptions spawn;
                for (const std::string& entry : world->daemon.environment()) {
                    spawn.environment.push_back(entry.starts_with(variable) ? variable + runtime : entry);
                }
                const std::string before = facts_of(runtime) + facts_of(theirs);
                const Finished refused = run(argv, spawn);
                EXPECT_NE(refused.status.code, 0) << variable << runtime;
                EXPECT_THAT(refused.errors, HasSubstr(runtime + "/cmssh")) << variable;
                EXPECT_THAT(refused.errors, HasSubstr("hint: ")) << variable << runtime;
                EXPECT_EQ(facts_of(runtime) + facts_of(theirs), before) << variable << runtime;
            }
        }
    }
}

// Without a runtime dir of the system's it is a name in /tmp, which anybody can have first. In a mount namespace, with
// a /tmp of its own.
TEST_F(OtherUser, KeepsTheNameInTmpThatItHadFirst) {
    if (run({"unshare", "-m", "true"}).status.code != 0) {
        GTEST_SKIP() << "no mount namespace can be made";
    }
    world->daemon.stop();
    SpawnOptions spawn;
    for (std::string entry : world->daemon.environment()) {
        if (const auto at = entry.find(world->dir.path()); at != std::string::npos) {
            entry.replace(at, world->dir.path().size(), "/mnt");
        }
        if (!entry.starts_with("XDG_RUNTIME_DIR=")) {
            spawn.environment.push_back(entry);
        }
    }
    const std::string dir = "/tmp/cmssh-" + std::to_string(::geteuid());
    const auto with = [&](const std::string& made_first, const Words& argv) {
        Words line = {"unshare",
                      "-m",
                      "sh",
                      "-ec",
                      "mount --bind \"$0\" /mnt\n: >/mnt/cmsshd\n: >/mnt/cmctl\nmount --bind \"$1\" /mnt/cmsshd\n"
                      "mount --bind \"$2\" /mnt/cmctl\nshift 2\nmount -t tmpfs -o mode=1777 none /tmp\n"
                      "mount -t tmpfs none /run/user\n" +
                          made_first + "\n\"$@\" || echo \"exit $?\"\nls -lan " + dir + "/ | tail -n +2",
                      world->dir.path(),
                      CMSSH_CMSSHD,
                      CMSSH_CMCTL};
        line.insert(line.end(), argv.begin(), argv.end());
        return run(line, spawn);
    };
    const std::string make = "mkdir -m 700 " + dir + "; : >" + dir + "/theirs; ";
    for (const std::string& made_first : {make + "chown -R 65534:65534 " + dir, make + "chmod 777 " + dir,
                                          "mkdir -m 700 /tmp/theirs; : >/tmp/theirs/theirs; ln -s theirs " + dir}) {
        for (const Words& argv : {Words{"/mnt/cmsshd"}, Words{"/mnt/cmctl", "list"}}) {
            const Finished refused = with(made_first, argv);
            EXPECT_EQ(refused.status.code, 0) << refused.errors;
            EXPECT_THAT(refused.errors, HasSubstr(dir)) << made_first;
            EXPECT_THAT(refused.errors, HasSubstr("hint: ")) << made_first;
            EXPECT_THAT(refused.output, ::testing::StartsWith("exit ")) << made_first;
            EXPECT_EQ(std::count(refused.output.begin(), refused.output.end(), '\n'), 4)
                << "the exit code, . and .., and their file: " << refused.output;
        }
    }
    const Finished served = with(":", {"/mnt/cmctl", "list"});
    EXPECT_THAT(served.output, HasSubstr("cmsshd.sock")) << served.errors;
}

TEST(RuntimeDir, WhosePathIsTooLongForASocketIsRefused) {
    World world(servers(1));
    world.daemon.stop();
    const std::string deep = world.dir / std::string(100, 'd');
    make_dirs(deep);
    SpawnOptions spawn;
    for (const std::string& entry : world.daemon.environment()) {
        spawn.environment.push_back(entry.starts_with("XDG_RUNTIME_DIR=") ? "XDG_RUNTIME_DIR=" + deep : entry);
    }
    for (const auto& [argv, reason] : {std::pair(Words{CMSSH_CMSSHD}, "at most 107"),
                                       std::pair(Words{CMSSH_CMCTL, "list"}, "too long for a socket")}) {
        const Finished refused = run(argv, spawn);
        EXPECT_NE(refused.status.code, 0);
        EXPECT_THAT(refused.errors, HasSubstr(deep + "/cmssh/cmsshd.sock"));
        EXPECT_THAT(refused.errors, HasSubstr(reason));
    }
}

}  // namespace
}  // namespace cmssh::test
