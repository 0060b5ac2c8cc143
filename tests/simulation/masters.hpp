// The product's seams on the world: its masters, its launcher and its spawner. Made for one life of the daemon; once it
// has crashed they reach nobody, and everything is lost to them.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "daemon/base/event.hpp"
#include "daemon/base/process.hpp"
#include "daemon/ssh/master.hpp"
#include "tests/simulation/world.hpp"

namespace cmssh::sim {

class SimChannel final : public Channel {
public:
    SimChannel(World& world, StreamPtr stream);
    ~SimChannel() override;
    asio::awaitable<std::string> read_output() override;
    asio::awaitable<std::string> read_error() override;
    std::size_t try_write(std::string_view bytes) override;
    asio::awaitable<bool> wait_writable() override;
    void close_input() override {}
    asio::awaitable<std::optional<int>> exit_status() override;
    void close() override;

private:
    asio::awaitable<std::string> read(std::string Stream::*from);

    World& world_;
    StreamPtr stream_;
    bool closed_ = false;
    Event changed_;
};

class SimMaster final : public Master {
public:
    SimMaster(World& world, Process& process, bool adopted);
    ~SimMaster() override;

    [[nodiscard]] pid_t pid() const override { return static_cast<pid_t>(process_->pid); }
    [[nodiscard]] bool adopted() const override { return adopted_; }
    asio::awaitable<Result<void>> check(Instant deadline) override;
    asio::awaitable<Result<std::unique_ptr<Channel>>> open_channel(std::string command, Instant deadline) override;
    asio::awaitable<Result<int>> open_forward(mux::Forward forward, Instant deadline) override;
    asio::awaitable<Result<void>> close_forward(mux::Forward forward, Instant deadline) override;
    asio::awaitable<void> wait_for_death() override;
    [[nodiscard]] bool dead() const override { return dead_; }
    asio::awaitable<Result<void>> stop_listening(Instant deadline) override;
    asio::awaitable<void> end(Instant deadline) override;
    void release() override;

    // Its process has changed.
    void tell();
    // The daemon is gone.
    void orphan();
    [[nodiscard]] bool let_go() const { return released_; }

private:
    asio::awaitable<Result<void>> answer(Instant deadline);

    World& world_;
    Process* process_;
    bool adopted_;
    bool dead_ = false;
    bool released_ = false;
    bool orphaned_ = false;
    Event changed_;
};

class SimLauncher final : public MasterLauncher {
public:
    explicit SimLauncher(World& world) : world_(world) {}
    asio::awaitable<Result<std::shared_ptr<Master>>> launch(LaunchRequest request) override;
    asio::awaitable<Result<std::shared_ptr<Master>>> find(LaunchRequest request) override;
    // Those of this daemon, which is stopping.
    void kill_logins();

private:
    asio::awaitable<Result<std::shared_ptr<Master>>> adopt(const LaunchRequest& request);

    World& world_;
    std::set<std::string> swept_;
};

// Answers `ssh -G HOST`.
class SimSpawner final : public ProcessSpawner {
public:
    explicit SimSpawner(World& world) : world_(world) {}
    Result<std::unique_ptr<ChildProcess>> spawn(SpawnRequest request) override;

    bool reading = false;  // what it wrote may not have been read yet

private:
    World& world_;
};

}  // namespace cmssh::sim
