#include "daemon/app/listen_socket.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "tests/unit/app/scratch.hpp"

namespace cmssh {
namespace {

using testing::HasSubstr;

sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

UniqueFd bound_socket(const std::string& path, int type = SOCK_STREAM) {
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
}

UniqueFd listener(const std::string& path, int backlog = 8) {
    UniqueFd fd = bound_socket(path);
    EXPECT_EQ(::listen(fd.get(), backlog), 0);
    return fd;
}

UniqueFd connected(const std::string& path) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_un address = address_of(path);
    return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ? std::move(fd)
                                                                                                  : UniqueFd();
}

bool exists(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

void expect_refused(const std::string& path, const std::string& problem) {
    const auto socket = ListenSocket::open(path);
    ASSERT_FALSE(socket.ok()) << path;
    EXPECT_EQ(socket.error().kind, ErrorKind::BadConfig);
    EXPECT_THAT(socket.error().message, HasSubstr(problem));
}

// systemd's descriptor has a fixed number, which may be in use here.
int exit_code_of_child(const std::function<int()>& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(body());
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void hand_over(int fd, const std::string& count) {
    ::dup2(fd, 3);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", count.c_str(), 1);
    ::setenv("LISTEN_FDNAMES", "x", 1);
}

TEST(ListenSocket, IsForItsOwnerAloneAndAcceptsConnections) {
    const ScratchDir scratch;
    const std::string path = scratch / "s";
    const mode_t before = ::umask(0);
    auto socket = ListenSocket::open(path);
    EXPECT_EQ(::umask(before), 0U) << "the process's umask is back";
    ASSERT_TRUE(socket.ok() && socket->has_value());
    EXPECT_FALSE((*socket)->activated());
    struct stat status {};
    ASSERT_EQ(::lstat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode, S_IFSOCK | 0600U);
    EXPECT_TRUE(connected(path));
    const UniqueFd fd = (*socket)->take_fd();
    EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::fcntl(fd.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(ListenSocket, ReplacesOneThatNobodyListensOn) {
    const ScratchDir scratch;
    const std::string path = scratch / "s";
    listener(path).reset();
    ASSERT_TRUE(exists(path));
    const auto socket = ListenSocket::open(path);
    ASSERT_TRUE(socket.ok() && socket->has_value());
    EXPECT_TRUE(connected(path));
}

TEST(ListenSocket, ReplacesOneThatIsAboutToBeClosed) {
    const ScratchDir scratch;
    const std::string path = scratch / "s";
    UniqueFd held = listener(path);
    const pid_t holder = ::fork();
    if (holder == 0) {
        pollfd asked{.fd = held.get(), .events = POLLIN, .revents = 0};
        ::_exit(::poll(&asked, 1, 10000) == 1 ? 0 : 1);
    }
    held.reset();
    const auto socket = ListenSocket::open(path);
    ASSERT_TRUE(socket.ok() && socket->has_value());
    int status = -1;
    EXPECT_EQ(::waitpid(holder, &status, 0), holder);
    EXPECT_EQ(status, 0) << "it was asked while it was open";
    EXPECT_TRUE(connected(path));
}

TEST(ListenSocket, DoesNotStealALiveOne) {
    const ScratchDir scratch;
    const std::string path = scratch / "s";
    const UniqueFd live = listener(path);
    const auto socket = ListenSocket::open(path);
    ASSERT_TRUE(socket.ok());
    EXPECT_FALSE(socket->has_value());
    EXPECT_TRUE(connected(path));
}

TEST(ListenSocket, DoesNotStealALiveOneThatIsTooBusyToAccept) {
    const ScratchDir scratch;
    const std::string path = scratch / "s";
    const UniqueFd live = listener(path, 0);
    const UniqueFd queued = connected(path);
    ASSERT_TRUE(queued);
    ASSERT_FALSE(connected(path)) << "the queue is full";
    const auto socket = ListenSocket::open(path);
    ASSERT_TRUE(socket.ok());
    EXPECT_FALSE(socket->has_value());
    EXPECT_TRUE(exists(path));
}

TEST(ListenSocket, LeavesWhatIsNotALeftoverOfItsOwn) {
    const ScratchDir scratch;
    const std::string file = scratch.write("file", "kept");
    expect_refused(file, "is there already and is not a socket");
    ASSERT_EQ(::symlink("elsewhere", (scratch / "link").c_str()), 0);
    expect_refused(scratch / "link", "is there already and is not a socket");
    const UniqueFd datagrams = bound_socket(scratch / "datagrams", SOCK_DGRAM);
    expect_refused(scratch / "datagrams", "Address already in use");
    for (const auto* name : {"file", "link", "datagrams"}) {
        EXPECT_TRUE(exists(scratch / name)) << name;
    }
    if (::geteuid() == 0) {
        listener(scratch / "foreign").reset();
        ASSERT_EQ(::lchown((scratch / "foreign").c_str(), 4711, 4711), 0);
        expect_refused(scratch / "foreign", "belongs to uid 4711");
        EXPECT_TRUE(exists(scratch / "foreign"));
    }
}

TEST(ListenSocket, NeedsAPathThatASocketCanHave) {
    const ScratchDir scratch;
    expect_refused("", "expected a path, got none");
    expect_refused(scratch / "missing/s", "No such file or directory");
    expect_refused(scratch / std::string(108, 'x'), "and a socket's path has at most 107");
    const std::string longest = scratch / std::string(107 - scratch.path().size() - 1, 'x');
    const auto socket = ListenSocket::open(longest);
    EXPECT_TRUE(socket.ok() && socket->has_value());
}

TEST(ListenSocket, RemovesOnlyTheFileThatItMade) {
    const ScratchDir scratch;
    const std::string path = scratch / "s";
    auto socket = ListenSocket::open(path);
    ASSERT_TRUE(socket.ok() && socket->has_value());
    // Another one takes the name while the first inode still exists, so that it cannot be used again.
    ASSERT_EQ(::rename(path.c_str(), (scratch / "moved").c_str()), 0);
    const UniqueFd other = listener(path);
    (*socket)->unlink_own();
    EXPECT_TRUE(exists(path));
    ASSERT_EQ(::rename((scratch / "moved").c_str(), path.c_str()), 0);
    (*socket)->unlink_own();
    EXPECT_FALSE(exists(path));
    (*socket)->unlink_own();
}

TEST(ListenSocket, IsTakenOverFromSystemd) {
    const ScratchDir scratch;
    const std::string path = scratch / "systemd";
    const UniqueFd from_systemd = listener(path);
    const int code = exit_code_of_child([&] {
        hand_over(from_systemd.get(), "1");
        auto socket = ListenSocket::open(scratch / "own");
        if (!socket.ok() || !socket->has_value() || !(*socket)->activated() || exists(scratch / "own")) {
            return 1;
        }
        (*socket)->unlink_own();
        const bool forgotten = std::getenv("LISTEN_PID") == nullptr && std::getenv("LISTEN_FDS") == nullptr &&
                               std::getenv("LISTEN_FDNAMES") == nullptr;
        const UniqueFd fd = (*socket)->take_fd();
        const bool flags =
            (::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0 && (::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0;
        return forgotten && flags && fd.get() == 3 && exists(path) ? 0 : 2;
    });
    EXPECT_EQ(code, 0);
}

TEST(ListenSocket, WhatSystemdHandsOverHasToBeOneListeningSocket) {
    const ScratchDir scratch;
    const UniqueFd live = listener(scratch / "live");
    const UniqueFd silent = bound_socket(scratch / "silent");
    const UniqueFd datagrams = bound_socket(scratch / "datagrams", SOCK_DGRAM);
    const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const struct {
        int fd;
        const char* count;
        const char* problem;
    } cases[] = {
        {live.get(), "2", "LISTEN_FDS: expected one socket, got 2"},
        {silent.get(), "1", "LISTEN_FDS: expected a listening Unix stream socket"},
        {datagrams.get(), "1", "LISTEN_FDS: expected a listening Unix stream socket"},
        {file.get(), "1", "LISTEN_FDS: expected a listening Unix stream socket"},
    };
    for (const auto& [fd, count, problem] : cases) {
        const int code = exit_code_of_child([&, fd = fd, count = count, problem = problem] {
            hand_over(fd, count);
            const auto socket = ListenSocket::open(scratch / "own");
            return !socket.ok() && socket.error().message == problem ? 0 : 1;
        });
        EXPECT_EQ(code, 0) << problem;
    }
}

TEST(ListenFds, AreOnlyThoseMeantForThisProcess) {
    const std::string self = std::to_string(::getpid());
    const struct {
        std::string pid;
        std::string count;
        int expected;
    } cases[] = {
        {self, "1", 1}, {self, "3", 3}, {self, "0", 0}, {self, "-1", 0}, {self, "1x", 0},
        {self, "", 0},  {"1", "1", 0},  {"", "1", 0},   {"x", "1", 0},   {self, "99999999999999999999", 0},
    };
    for (const auto& [pid, count, expected] : cases) {
        const ScopedVariable listen_pid("LISTEN_PID", pid);
        const ScopedVariable listen_fds("LISTEN_FDS", count);
        EXPECT_EQ(take_listen_fds(), expected) << pid << ' ' << count;
        EXPECT_EQ(std::getenv("LISTEN_PID"), nullptr);
        EXPECT_EQ(std::getenv("LISTEN_FDS"), nullptr);
    }
    EXPECT_EQ(take_listen_fds(), 0);
}

}  // namespace
}  // namespace cmssh
