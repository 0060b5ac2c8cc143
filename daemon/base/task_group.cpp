#include "daemon/base/task_group.hpp"

#include <asio/co_spawn.hpp>
#include <asio/post.hpp>

#include <cassert>
#include <exception>

#include "daemon/base/log.hpp"

namespace cmssh {

TaskGroup::~TaskGroup() {
    assert(running_ == 0 && "join a TaskGroup before it is destroyed");
}

void TaskGroup::spawn(std::string name, asio::awaitable<void> task) {
    ++running_;
    auto ended = [this, name = std::move(name)](const std::exception_ptr& failure) {
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
    };
    // co_spawn() alone begins it at once where the loop is what calls us.
    asio::post(executor_, [executor = executor_, task = std::move(task), ended = std::move(ended)]() mutable {
        asio::co_spawn(executor, std::move(task), std::move(ended));
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
