// Owns coroutines that nobody awaits: a failed one is logged, and join() waits for all. A group does not cancel: its
// owner ends the work by closing what the coroutines wait on, then joins.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <cstddef>
#include <string>

#include "daemon/base/event.hpp"

namespace cmssh {

class TaskGroup {
public:
    TaskGroup(asio::any_io_executor executor, Clock& clock) : executor_(std::move(executor)), empty_(clock) {}
    ~TaskGroup();
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;

    // The task starts from the loop, not before spawn() returns.
    void spawn(std::string name, asio::awaitable<void> task);
    // false: some task still ran at the deadline.
    asio::awaitable<bool> join_until(Instant deadline);
    [[nodiscard]] std::size_t size() const { return running_; }

private:
    asio::any_io_executor executor_;
    Event empty_;
    std::size_t running_ = 0;
};

}  // namespace cmssh
