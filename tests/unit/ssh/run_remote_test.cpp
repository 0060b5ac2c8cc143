// What is told of a command on a server, by how its channel ended.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/fake_master.hpp"

namespace cmssh {
namespace {

class EndedChannel final : public Channel {
public:
    explicit EndedChannel(std::optional<int> status) : status_(status) {}
    asio::awaitable<std::string> read_output() override { co_return std::exchange(output_, {}); }
    asio::awaitable<std::string> read_error() override { co_return std::string(); }
    std::size_t try_write(std::string_view bytes) override { return bytes.size(); }
    asio::awaitable<bool> wait_writable() override { co_return false; }
    void close_input() override {}
    asio::awaitable<std::optional<int>> exit_status() override { co_return status_; }
    void close() override {}

private:
    std::optional<int> status_;
    std::string output_ = "some words";
};

class OneChannelMaster final : public fakes::FakeMaster {
public:
    OneChannelMaster(Clock& clock, std::optional<int> status) : FakeMaster(clock, 1000, false), status_(status) {}
    asio::awaitable<Result<std::unique_ptr<Channel>>> open_channel(std::string /*command*/,
                                                                   Instant /*deadline*/) override {
        co_return std::unique_ptr<Channel>(std::make_unique<EndedChannel>(status_));
    }

private:
    std::optional<int> status_;
};

Result<RemoteOutput> run(std::optional<int> status) {
    asio::io_context io;
    fakes::FakeClock clock(io);
    OneChannelMaster master(clock, status);
    std::optional<Result<RemoteOutput>> told;
    const auto task = [&]() -> asio::awaitable<void> {
        auto output = co_await run_remote(clock, master, "a command", Instant::max(), 4);
        told = std::move(output);
    };
    asio::co_spawn(io, task(), [](std::exception_ptr failure) { EXPECT_FALSE(failure); });
    clock.run_ready();
    return told.value_or(Error{.kind = ErrorKind::Timeout, .message = "it waits"});
}

TEST(RunRemote, TellsHowTheCommandEnded) {
    for (const int status : {0, 1, 127, 254}) {
        const auto output = run(status);
        ASSERT_TRUE(output) << output.error().message;
        EXPECT_EQ(output->exit_code, status);
        EXPECT_EQ(output->standard_output, "some");
    }
}

TEST(RunRemote, IsLostWhereTheCommandsEndIsNotTold) {
    for (const std::optional<int> status : {std::optional<int>(), std::optional(255)}) {
        const auto output = run(status);
        ASSERT_FALSE(output);
        EXPECT_EQ(output.error().kind, ErrorKind::MasterLost);
    }
}

}  // namespace
}  // namespace cmssh
