// A process of our user that is no child of ours, watched for its end. A pid that is given to another process meanwhile
// is not mistaken for it.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/posix/stream_descriptor.hpp>

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "daemon/base/unique_fd.hpp"
#include "protocol/result.hpp"

namespace cmssh {

class WatchedProcess {
public:
    // InvalidParams where there is no such process of ours.
    static Result<std::unique_ptr<WatchedProcess>> open(const asio::any_io_executor& executor, pid_t pid);

    WatchedProcess(const asio::any_io_executor& executor, UniqueFd pidfd, pid_t pid, std::uint64_t started);

    // True: it has ended. False: after close().
    asio::awaitable<bool> wait();
    void close();

    // Whether it has a connection over TCP, or a pipe to a program that makes one, behind its standard descriptors. An
    // ssh that goes over a master has neither. False too where that cannot be told any more.
    [[nodiscard]] bool has_own_connection() const;

    [[nodiscard]] pid_t pid() const { return pid_; }
    // In the kernel's ticks since boot: no two processes share it and the pid.
    [[nodiscard]] std::uint64_t started() const { return started_; }

private:
    asio::posix::stream_descriptor pidfd_;
    pid_t pid_;
    std::uint64_t started_;
};

}  // namespace cmssh
