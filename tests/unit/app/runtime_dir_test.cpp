#include "daemon/app/runtime_dir.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>

#include "tests/unit/app/scratch.hpp"

namespace cmssh {
namespace {

using testing::HasSubstr;

mode_t mode_of(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777U : 0;
}

void expect_refused(const std::string& path, const std::string& problem) {
    const auto dir = open_private_dir(path, false);
    ASSERT_FALSE(dir.ok()) << path;
    EXPECT_EQ(dir.error().kind, ErrorKind::BadConfig);
    EXPECT_EQ(dir.error().message, path + ": " + problem);
    EXPECT_FALSE(dir.error().hint.empty());
}

TEST(RuntimeDir, IsMadeForItsOwnerAlone) {
    const ScratchDir scratch;
    const std::string path = scratch / "run";
    const auto dir = open_private_dir(path, false);
    ASSERT_TRUE(dir.ok());
    EXPECT_EQ(mode_of(path), 0700U);
    EXPECT_EQ(::faccessat(dir->get(), ".", R_OK | W_OK | X_OK, 0), 0);
    EXPECT_TRUE(open_private_dir(path, false).ok()) << "the second time it is there";
}

TEST(RuntimeDir, GetsItsParentsOnlyWhereAsked) {
    const ScratchDir scratch;
    const std::string path = scratch / "a/b/c";
    expect_refused(path, "No such file or directory");
    ASSERT_TRUE(open_private_dir(path, true).ok());
    EXPECT_EQ(mode_of(scratch / "a"), 0700U);
    EXPECT_EQ(mode_of(path), 0700U);
}

TEST(RuntimeDir, OpenToOthersIsRefusedAndLeftAsItIs) {
    const ScratchDir scratch;
    for (const mode_t mode : {0770U, 0720U, 0740U, 0710U, 0707U, 0701U, 0755U, 01777U}) {
        const std::string path = scratch / std::to_string(mode);
        ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
        ASSERT_EQ(::chmod(path.c_str(), mode), 0);
        expect_refused(path, "is open to other users");
        EXPECT_EQ(open_private_dir(path, false).error().hint, "chmod 700 " + path);
        EXPECT_EQ(mode_of(path), mode);
    }
}

TEST(RuntimeDir, ASymlinkIsRefused) {
    const ScratchDir scratch;
    ASSERT_EQ(::mkdir((scratch / "real").c_str(), 0700), 0);
    ASSERT_EQ(::symlink("real", (scratch / "link").c_str()), 0);
    expect_refused(scratch / "link", "is not a directory");
    // Behind a slash the kernel follows it.
    const auto dir = open_private_dir(scratch / "link//", false);
    ASSERT_FALSE(dir.ok());
    EXPECT_EQ(dir.error().message, scratch / "link: is not a directory");
    ASSERT_EQ(::symlink("nothing", (scratch / "dangling").c_str()), 0);
    expect_refused(scratch / "dangling", "is not a directory");
}

TEST(RuntimeDir, AFileIsRefused) {
    const ScratchDir scratch;
    expect_refused(scratch.write("file", "x"), "is not a directory");
}

TEST(RuntimeDir, OfAnotherUserIsRefused) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "only root can give a directory away";
    }
    const ScratchDir scratch;
    const std::string path = scratch / "foreign";
    ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
    ASSERT_EQ(::chown(path.c_str(), 4711, 4711), 0);
    expect_refused(path, "belongs to uid 4711");
}

// By a process of its own, which does what `then` says while it has it.
bool another_takes(
    const std::string& dir, const std::function<void()>& then = [] {}) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        const auto lock = DaemonLock::take(dir);
        const bool taken = lock.ok() && lock->has_value();
        if (taken) {
            then();
        }
        ::_exit(taken ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return status == 0;
}

TEST(DaemonLock, IsHeldOnceAndGivenBack) {
    const ScratchDir scratch;
    auto first = DaemonLock::take(scratch.path());
    ASSERT_TRUE(first.ok() && first->has_value());
    EXPECT_EQ(mode_of(scratch / "cmsshd.lock"), 0600U);
    EXPECT_FALSE(another_takes(scratch.path()));
    first->reset();
    EXPECT_TRUE(another_takes(scratch.path()));
}

TEST(DaemonLock, EndsWithItsProcessWhateverThatHasForked) {
    const ScratchDir scratch;
    std::array<int, 2> ends{-1, -1};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    // What it forks has every descriptor of its own, until it is let go.
    EXPECT_TRUE(another_takes(scratch.path(), [&] {
        if (::fork() == 0) {
            writing.reset();
            char byte = 0;
            ::_exit(static_cast<int>(::read(reading.get(), &byte, 1)));
        }
    }));
    EXPECT_TRUE(another_takes(scratch.path()));
}

TEST(DaemonLock, DoesNotFollowASymlink) {
    const ScratchDir scratch;
    const std::string file = scratch.write("file", "kept");
    ASSERT_EQ(::symlink(file.c_str(), (scratch / "cmsshd.lock").c_str()), 0);
    const auto lock = DaemonLock::take(scratch.path());
    ASSERT_FALSE(lock.ok());
    EXPECT_THAT(lock.error().message, HasSubstr("/cmsshd.lock: "));
}

}  // namespace
}  // namespace cmssh
