#include "daemon/app/notify.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "tests/unit/app/scratch.hpp"

namespace cmssh {
namespace {

class NotifySocket : public testing::Test {
protected:
    void SetUp() override {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
        ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    }

    // What has been sent by now; a datagram on this machine is there when its sending returns.
    std::string received() {
        std::array<char, 256> message{};
        const ssize_t size = ::recv(socket_.get(), message.data(), message.size(), MSG_DONTWAIT);
        return size < 0 ? "nothing" : std::string(message.data(), static_cast<std::size_t>(size));
    }

    ScratchDir scratch_;
    std::string path_ = scratch_ / "notify";
    UniqueFd socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

TEST_F(NotifySocket, HearsHowTheDaemonIsDoing) {
    const ScopedVariable variable("NOTIFY_SOCKET", path_);
    notify_ready("serving");
#if !CMSSH_WITH_SYSTEMD
    EXPECT_EQ(received(), "nothing");
#else
    EXPECT_EQ(received(), "READY=1\nSTATUS=serving");
    notify_reloading();
    EXPECT_EQ(received(), "RELOADING=1\nSTATUS=reading the configuration");
    notify_watchdog("2 sessions");
    EXPECT_EQ(received(), "WATCHDOG=1\nSTATUS=2 sessions");
    notify_stopping();
    EXPECT_EQ(received(), "STOPPING=1\nSTATUS=stopping");
    EXPECT_EQ(received(), "nothing");
#endif
}

TEST(Notify, DoesNothingWithoutAListener) {
    const ScratchDir scratch;
    const ScopedVariable variable("NOTIFY_SOCKET", scratch / "nobody");
    notify_ready("serving");
    notify_reloading();
    notify_watchdog("2 sessions");
    notify_stopping();
}

TEST(Watchdog, IsFedTwiceAsOftenAsWanted) {
    const ScopedVariable interval("WATCHDOG_USEC", "30000000");
#if !CMSSH_WITH_SYSTEMD
    EXPECT_FALSE(watchdog_interval());
#else
    EXPECT_EQ(watchdog_interval(), std::chrono::seconds(15));
    const ScopedVariable other("WATCHDOG_PID", "1");
    EXPECT_EQ(watchdog_interval(), std::nullopt) << "meant for another process";
#endif
}

TEST(Watchdog, IsNotFedWhereNobodyWatches) {
    ::unsetenv("WATCHDOG_USEC");
    ::unsetenv("WATCHDOG_PID");
    EXPECT_EQ(watchdog_interval(), std::nullopt);
}

class ReadyPipeTest : public testing::Test {
protected:
    void SetUp() override {
        std::array<int, 2> ends{};
        ASSERT_EQ(::pipe(ends.data()), 0);
        reading_ = UniqueFd(ends[0]);
        writing_ = UniqueFd(ends[1]);
    }

    std::string read_all() {
        std::string text;
        std::array<char, 64> part{};
        for (ssize_t size = 0; (size = ::read(reading_.get(), part.data(), part.size())) > 0;) {
            text.append(part.data(), static_cast<std::size_t>(size));
        }
        return text;
    }

    UniqueFd reading_;
    UniqueFd writing_;
};

TEST_F(ReadyPipeTest, SaysReadyOnceAndEnds) {
    const ScopedVariable variable("CMSSH_READY_FD", std::to_string(writing_.get()));
    ReadyPipe pipe = ReadyPipe::from_environment();
    EXPECT_EQ(std::getenv("CMSSH_READY_FD"), nullptr);
    EXPECT_NE(::fcntl(writing_.get(), F_GETFD) & FD_CLOEXEC, 0) << "ssh would keep it open";
    (void)writing_.release();
    pipe.announce();
    pipe.announce();
    EXPECT_EQ(read_all(), "READY\n");
}

TEST_F(ReadyPipeTest, EndsUnsaidWhereTheDaemonFails) {
    const ScopedVariable variable("CMSSH_READY_FD", std::to_string(writing_.release()));
    { const ReadyPipe pipe = ReadyPipe::from_environment(); }
    EXPECT_EQ(read_all(), "");
}

TEST(ReadyPipe, IgnoresWhatIsNoDescriptorForIt) {
    for (const auto* text : {"", "x", "3x", "-1", "0", "1", "2", "987654", "99999999999999999999"}) {
        const ScopedVariable variable("CMSSH_READY_FD", text);
        ReadyPipe pipe = ReadyPipe::from_environment();
        pipe.announce();
        EXPECT_EQ(std::getenv("CMSSH_READY_FD"), nullptr) << text;
    }
    ReadyPipe::from_environment().announce();
    EXPECT_NE(::fcntl(STDOUT_FILENO, F_GETFD), -1);
}

}  // namespace
}  // namespace cmssh
