#include "daemon/base/task_group.hpp"

#include <asio/co_spawn.hpp>

#include <cassert>
#include <exception>

#include "daemon/base/log.hpp"

namespace cmssh {

TaskGroup::~TaskGroup() {
    assert(running_ == 0 && "join a TaskGroup before it is destroyed");
}

void TaskGroup::spawn(std::string name, asio::awaitable<void> task) {
    ++running_;
    asio::co_spawn(executor_, std::move(task), [this, name = std::move(name)](std::exception_ptr failure) {
        if (failure) {
            try {
                std::rethrow_exception(failure);
            } catch (const std::exception& error) {
                log_error(name, std::string("task ended by an exception: ") + error.what());
            }
        }
        if (--running_ == 0) {
            empty_.notify_all();
        }
    });
}

asio::awaitable<bool> TaskGroup::join_until(Instant deadline) {
    while (running_ != 0) {
        const bool in_time = co_await empty_.wait_until(deadline);
        if (!in_time) {
            break;
        }
    }
    co_return running_ == 0;
}

}  // namespace cmssh
