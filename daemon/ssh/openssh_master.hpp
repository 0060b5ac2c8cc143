// The real Master: an `ssh -fN` process behind its control socket, watched through a pidfd.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/posix/stream_descriptor.hpp>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/event.hpp"
#include "daemon/base/process.hpp"
#include "daemon/ssh/master.hpp"
#include "daemon/ssh/mux_client.hpp"

namespace cmssh {

class OpensshMaster final : public Master {
public:
    struct Origin {
        std::string control_path;  // empty: it no longer listens
        std::string log_file;      // removed with the master
        std::string mark;  // NAME=value in the environment of its process and of its ProxyCommand; empty: not known
        pid_t pid = 0;
        bool adopted = false;
    };
    OpensshMaster(asio::any_io_executor executor, Clock& clock, Origin origin, UniqueFd pidfd, MuxConnection control);

    [[nodiscard]] pid_t pid() const override { return origin_.pid; }
    [[nodiscard]] bool adopted() const override { return origin_.adopted; }
    asio::awaitable<Result<void>> check(Instant deadline) override;
    asio::awaitable<Result<std::unique_ptr<Channel>>> open_channel(std::string command, Instant deadline) override;
    asio::awaitable<void> wait_for_death() override;
    [[nodiscard]] bool dead() const override { return dead_; }
    asio::awaitable<Result<void>> stop_listening(Instant deadline) override;
    asio::awaitable<void> end(Instant deadline) override;
    void release() override;

private:
    asio::awaitable<Result<void>> ask_to_stop_listening(UniqueFd socket);
    void signal(int number);
    void drop_control();
    void remove_files();

    asio::any_io_executor executor_;
    Clock& clock_;
    Origin origin_;
    asio::posix::stream_descriptor pidfd_;
    // Kept open for alive checks: half the cost of a new one each time. Dropped after an answer that came late.
    std::optional<MuxConnection> control_;
    bool checking_ = false;
    bool dead_ = false;
    Event died_;
};

class OpensshLauncher final : public MasterLauncher {
public:
    OpensshLauncher(asio::any_io_executor executor, Clock& clock, ProcessSpawner& spawner, const Config& config,
                    std::vector<std::string> environment, std::string runtime_dir);

    asio::awaitable<Result<std::shared_ptr<Master>>> launch(LaunchRequest request) override;
    asio::awaitable<Result<std::shared_ptr<Master>>> find(LaunchRequest request) override;

private:
    [[nodiscard]] std::string log_file_of(const std::string& key) const;
    // In the environment of all that was ever started for this control path.
    [[nodiscard]] std::string path_mark(const LaunchRequest& request) const;
    // A daemon that was killed may have left a login under way, which would come to the control path after ours, or a
    // master that no longer answers.
    void end_leftovers(const LaunchRequest& request);
    // nullptr: nothing is there (any more), a login is needed.
    asio::awaitable<Result<std::shared_ptr<Master>>> adopt(const LaunchRequest& request, const std::string& log_file);
    asio::awaitable<Result<std::shared_ptr<Master>>> log_in(LaunchRequest request, std::string log_file);
    asio::awaitable<Result<std::shared_ptr<Master>>> take(UniqueFd socket, OpensshMaster::Origin origin,
                                                          Instant deadline);
    // An encrypted key that no agent holds looks like any refused key to ssh in batch mode.
    asio::awaitable<bool> some_key_wants_passphrase(const LaunchRequest& request);

    asio::any_io_executor executor_;
    Clock& clock_;
    ProcessSpawner& spawner_;
    const Config& config_;
    std::vector<std::string> environment_;
    std::string runtime_dir_;
    std::set<std::string> swept_;  // control paths whose leftovers were looked for
};

}  // namespace cmssh
