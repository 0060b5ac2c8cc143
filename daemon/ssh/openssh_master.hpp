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
    asio::awaitable<Result<int>> open_forward(mux::Forward forward, Instant deadline) override;
    asio::awaitable<Result<void>> close_forward(mux::Forward forward, Instant deadline) override;
    asio::awaitable<void> wait_for_death() override;
    [[nodiscard]] bool dead() const override { return dead_; }
    asio::awaitable<Result<void>> stop_listening(Instant deadline) override;
    asio::awaitable<void> end(Instant deadline) override;
    void release() override;

private:
    class AskingRemote;
    // Shared by the call that waits for an answer on it and release(), which ends the wait.
    using ControlPtr = std::shared_ptr<MuxConnection>;
    // A control connection of its own, to this master and no other.
    asio::awaitable<Result<ControlPtr>> open_control();
    asio::awaitable<Result<int>> ask_to_forward(mux::Forward forward, Instant deadline);
    asio::awaitable<Result<void>> ask_to_stop_listening();
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
    std::vector<std::weak_ptr<MuxConnection>> asking_;
    std::vector<mux::Forward> forwards_;  // that it listens for
    // Before 10.5 a master that is asked for a remote forward while another is unanswered uses freed memory.
    bool asking_remote_ = false;
    ControlPtr unanswered_;  // where the answer of a remote one that came too late is to come
    bool dead_ = false;
    Event died_;
    Event remote_answered_;
};

class OpensshLauncher final : public MasterLauncher {
public:
    OpensshLauncher(asio::any_io_executor executor, Clock& clock, ProcessSpawner& spawner, const Config& config,
                    AskpassRelay& askpass, std::vector<std::string> environment, std::string runtime_dir);

    asio::awaitable<Result<std::shared_ptr<Master>>> launch(LaunchRequest request) override;
    asio::awaitable<Result<std::shared_ptr<Master>>> find(LaunchRequest request) override;

private:
    [[nodiscard]] std::string log_file_of(const std::string& key) const;
    [[nodiscard]] std::string log_file_of(const LaunchRequest& request) const;
    // In the environment of all that was ever started for this control path.
    [[nodiscard]] std::string path_mark(const LaunchRequest& request) const;
    // A daemon that was killed may have left a login under way, which would come to the control path after ours, or a
    // master that no longer answers.
    void end_leftovers(const LaunchRequest& request);
    // nullptr: nothing is there (any more), a login is needed.
    asio::awaitable<Result<std::shared_ptr<Master>>> adopt(const LaunchRequest& request, const std::string& log_file);
    asio::awaitable<Result<std::shared_ptr<Master>>> log_in(LaunchRequest request, std::string log_file);
    // nullopt: at the request's deadline, or what it has become while somebody was asked.
    asio::awaitable<std::optional<ExitStatus>> wait_for_login(ChildProcess& ssh, const LaunchRequest& request);
    asio::awaitable<Result<std::shared_ptr<Master>>> take(UniqueFd socket, OpensshMaster::Origin origin,
                                                          Instant deadline);
    // An encrypted key that no agent holds looks like any refused key to ssh in batch mode.
    asio::awaitable<bool> some_key_wants_passphrase(const LaunchRequest& request);

    asio::any_io_executor executor_;
    Clock& clock_;
    ProcessSpawner& spawner_;
    const Config& config_;
    AskpassRelay& askpass_;
    std::vector<std::string> environment_;
    std::string runtime_dir_;
    Instant made_at_;
    std::set<std::string> swept_;                // control paths whose leftovers were looked for
    std::optional<std::set<std::string>> left_;  // path_mark()s of what runs, when they were first looked for
};

}  // namespace cmssh
