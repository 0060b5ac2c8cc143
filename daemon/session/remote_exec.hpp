// Programs on a server that are no sessions: the API's `exec`, from its lease to its end; and signals for any program
// that has a lease as its mark (protocol/remote_command.hpp).
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <memory>
#include <set>
#include <string>

#include "daemon/base/task_group.hpp"
#include "daemon/session/leases.hpp"

namespace cmssh {

class RemoteExec {
public:
    RemoteExec(asio::any_io_executor executor, Clock& clock, const Config& config, Sessions& sessions, Leases& leases);

    // On timeout_ms, and where the caller is gone, the program is ended first.
    asio::awaitable<Result<api::ExecResult>> exec(api::ExecParams params, Caller caller);
    // Answers when it is on its way.
    asio::awaitable<Result<api::Empty>> signal(api::LeaseSignalParams params, Caller caller);

    // Every exec ends with ShuttingDown; nobody is hung up on any more.
    void request_stop();
    // After request_stop(), before the pool goes.
    asio::awaitable<void> shut_down();

    static constexpr std::size_t kMaxInput = 4 * 1024 * 1024;
    static constexpr std::size_t kMaxOutput = 1024 * 1024;  // of each of the two that is kept

private:
    struct Run;
    using RunPtr = std::shared_ptr<Run>;  // shared by the call and the tasks that carry its bytes

    asio::awaitable<Result<Connection::OpenChannel>> open(Connection& connection, Connection::Lease& lease,
                                                          std::string command, Connection::Want want,
                                                          ChannelBudget::Patience patience);
    asio::awaitable<void> feed(RunPtr run);
    asio::awaitable<void> collect(RunPtr run);
    // Until it is over, the deadline has come, or nobody waits for it any more.
    asio::awaitable<void> wait(RunPtr run, Instant deadline, const Caller& caller);
    asio::awaitable<void> end_program(RunPtr run, Connection& connection);
    asio::awaitable<Result<void>> send_signal(Connection& connection, std::string mark, int signal);
    asio::awaitable<void> hang_up(std::string mark, ConnectionUse connection, Connection::Lease lease);

    Clock& clock_;
    const Config& config_;
    Sessions& sessions_;
    Leases& leases_;
    std::set<RunPtr> runs_;
    bool stopping_ = false;
    TaskGroup tasks_;
};

}  // namespace cmssh
