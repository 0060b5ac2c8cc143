// What the daemon and systemd say to each other, by systemd's own protocols and its own socket activation. The units in
// a real user's manager: tests/systemd/run.
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};

// NOTIFY_SOCKET of sd_notify(3).
class NotifySocket {
public:
    explicit NotifySocket(std::string path)
        : path_(std::move(path)), fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
        const int on = 1;
        if (::setsockopt(fd_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0 ||
            ::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
            throw std::runtime_error("cannot bind " + path_);
        }
    }
    [[nodiscard]] std::string variable() const { return "NOTIFY_SOCKET=" + path_; }

    struct Message {
        std::string text;  // empty: none came
        pid_t sender = -1;
    };
    [[nodiscard]] Message receive(Deadline deadline = in(kPatience)) const {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd readable{.fd = fd_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&readable, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0))) != 1) {
            return {};
        }
        std::array<char, 4096> bytes{};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control{};
        iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
        msghdr header{};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        const ssize_t count = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC);
        Message message{.text = {bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))}};
        if (const cmsghdr* found = CMSG_FIRSTHDR(&header); found != nullptr && found->cmsg_type == SCM_CREDENTIALS) {
            ucred sender{};
            std::memcpy(&sender, CMSG_DATA(found), sizeof(sender));
            message.sender = sender.pid;
        }
        return message;
    }
    // The next one that is no plain sign of life.
    [[nodiscard]] Message next_event() const {
        const Deadline deadline = in(kPatience);
        Message message = receive(deadline);
        while (message.text.starts_with("WATCHDOG=1\n")) {
            message = receive(deadline);
        }
        return message;
    }
    // One that begins and ends so comes, whatever comes before.
    [[nodiscard]] bool hears(const std::string& text) const {
        const Deadline deadline = in(kPatience);
        for (;;) {
            const Message message = receive(deadline);
            if (message.text.empty() || message.text == text) {
                return message.text == text;
            }
        }
    }

private:
    std::string path_;
    UniqueFd fd_;
};

class Systemd : public ::testing::Test {
protected:
    void SetUp() override {
        world.daemon.stop();
        options.environment = world.daemon.environment();
    }

    World world{servers(1)};
    SpawnOptions options;
};

TEST_F(Systemd, HearsOfEveryStepOfTheDaemonsLife) {
    const NotifySocket notify(world.dir / "notify");
    options.environment.push_back(notify.variable());
    options.environment.push_back("WATCHDOG_USEC=200000");
    Process daemon({CMSSH_CMSSHD}, options);
    if (CMSSH_WITH_SYSTEMD == 0) {
        // Built without libsystemd: it serves all the same, and says nothing.
        ASSERT_TRUE(wait_until([&] { return exists(world.daemon.socket_path()); }));
        EXPECT_EQ(world.rpc().call("reload"), Json::object());
        daemon.send_signal(SIGTERM);
        EXPECT_EQ(daemon.wait(), (ExitStatus{.code = 0, .signal = 0}));
        EXPECT_EQ(notify.receive(in(0ms)).text, "");
        return;
    }
    const auto ready = notify.next_event();
    EXPECT_EQ(ready.text, "READY=1\nSTATUS=serves: 0 sessions, 0 connections");
    EXPECT_EQ(ready.sender, daemon.pid()) << "NotifyAccess=main";
    world.start("server-1", kLong);
    EXPECT_TRUE(notify.hears("WATCHDOG=1\nSTATUS=serves: 1 session, 1 connection"));

    EXPECT_EQ(world.rpc().call("reload"), Json::object());
    EXPECT_EQ(notify.next_event().text, "RELOADING=1\nSTATUS=reading the configuration");
    EXPECT_EQ(notify.next_event().text, "READY=1\nSTATUS=serves: 1 session, 1 connection");

    world.daemon.write_config("nonsense = 1\n");
    EXPECT_EQ(world.rpc().refusal("reload").at("data").at("kind"), "bad_config");
    daemon.send_signal(SIGTERM);
    EXPECT_EQ(notify.next_event().text, "STOPPING=1\nSTATUS=stopping") << "a refused reload is none";
    EXPECT_EQ(daemon.wait(), (ExitStatus{.code = 0, .signal = 0}));
}

#if CMSSH_WITH_SYSTEMD
TEST_F(Systemd, MissesTheSignsOfLifeOfADaemonThatHangs) {
    const NotifySocket notify(world.dir / "notify");
    options.environment.push_back(notify.variable());
    constexpr auto kInterval = 100ms;  // of the signs of life: half of what systemd wants
    options.environment.push_back("WATCHDOG_USEC=200000");
    Process daemon({CMSSH_CMSSHD}, options);
    EXPECT_TRUE(notify.next_event().text.starts_with("READY=1\n"));
    EXPECT_TRUE(notify.receive().text.starts_with("WATCHDOG=1\n"));
    daemon.send_signal(SIGSTOP);
    // What was sent before it stopped.
    while (!notify.receive(in(5 * kInterval)).text.empty()) {
    }
    daemon.send_signal(SIGCONT);
    EXPECT_TRUE(notify.receive().text.starts_with("WATCHDOG=1\n"));
    daemon.send_signal(SIGTERM);
    EXPECT_EQ(daemon.wait(), (ExitStatus{.code = 0, .signal = 0}));
}
#endif

// By systemd-socket-activate, which becomes the daemon with the first connection.
class SocketActivation : public Systemd {
protected:
    void listen() {
        Words argv = {"systemd-socket-activate", "--listen=" + world.daemon.socket_path(), "--fdname=cmsshd.socket"};
        for (const std::string& entry : options.environment) {
            argv.push_back("--setenv=" + entry);
        }
        argv.emplace_back(CMSSH_CMSSHD);
        daemon = std::make_unique<Process>(argv, options);
        // The file is there before it is listened on.
        ASSERT_TRUE(wait_until([&] { return daemon->errors().find("Listening on") != std::string::npos; }))
            << daemon->errors();
    }

    std::unique_ptr<Process> daemon;
};

TEST_F(SocketActivation, StartsTheDaemonWithTheFirstCall) {
    listen();
    EXPECT_EQ(world.stats().at("daemon").at("pid"), daemon->pid());
    EXPECT_EQ(world.daemon.cmctl({"start", "--no-spawn", "--ctx", "server-1", "sleep", "1000"}).status.code, 0);
    EXPECT_EQ(world.stats().at("total_sessions"), 1);
    daemon->send_signal(SIGTERM);
    EXPECT_EQ(daemon->wait(), (ExitStatus{.code = 0, .signal = 0}));
    EXPECT_TRUE(exists(world.daemon.socket_path())) << "it is not the daemon's to remove";
}

TEST_F(SocketActivation, TellsWhoCallsThatTheConfigIsBad) {
    world.daemon.write_config("nonsense = 1\n");
    listen();
    const Finished told = world.daemon.cmctl({"list", "--no-spawn"});
    EXPECT_EQ(told.status.code, 2) << told.errors;
    EXPECT_NE(told.errors.find(world.daemon.config_file() + ":1"), std::string::npos) << told.errors;
    EXPECT_EQ(daemon->wait(), (ExitStatus{.code = 2, .signal = 0}));
}

TEST_F(SocketActivation, TellsEverybodyWhoWaitsInHisOwnFraming) {
    world.daemon.write_config("nonsense = 1\n");
    listen();
    daemon->send_signal(SIGSTOP);
    RpcClient line(world.daemon.socket_path());
    line.send("list");
    RpcClient headers(world.daemon.socket_path());
    headers.send_bytes("Content-Length: 2\r\n\r\n{}");
    const RpcClient silent(world.daemon.socket_path());
    daemon->send_signal(SIGCONT);
    const Json error = Json::parse(line.read_line());
    EXPECT_TRUE(error.at("id").is_null());
    EXPECT_EQ(error.at("error").at("code"), -32023);
    EXPECT_EQ(error.at("error").at("data").at("kind"), "bad_config");
    EXPECT_TRUE(headers.read_line().starts_with("Content-Length: "));
    EXPECT_EQ(daemon->wait(), (ExitStatus{.code = 2, .signal = 0}));
}

TEST_F(SocketActivation, TellsWhoCallsThatAnotherDaemonServes) {
    world.start_daemon();
    // As where its socket was taken from it.
    std::filesystem::rename(world.daemon.socket_path(), world.dir / "moved");
    listen();
    const Finished told = world.daemon.cmctl({"list", "--no-spawn"});
    EXPECT_EQ(told.status.code, 1) << told.errors;
    EXPECT_NE(told.errors.find("another cmsshd of this user"), std::string::npos) << told.errors;
    EXPECT_EQ(daemon->wait(), (ExitStatus{.code = 3, .signal = 0}));
}

}  // namespace
}  // namespace cmssh::test
