#pragma once
// What `ssh -O check` asks, as the daemon asks it: its own mux client, on a control connection that it keeps.
#include <sys/types.h>

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include <exception>
#include <stdexcept>
#include <string>

#include "daemon/ssh/mux_client.hpp"
#include "tests/bench/process.hpp"

namespace bench {

class NativeCheck {
public:
    explicit NativeCheck(const std::string& control_path)
        : connection_(io_.get_executor(), cmssh::open_control_socket(control_path).fd) {}

    double run() {
        pid_t master = 0;
        const auto began = Clock::now();
        asio::co_spawn(io_, ask(master), [](const std::exception_ptr& failure) {
            if (failure != nullptr) {
                std::rethrow_exception(failure);
            }
        });
        io_.run();
        const double took = ms_since(began);
        io_.restart();
        if (master == 0) {
            throw std::runtime_error("no master answers the native check");
        }
        return took;
    }

private:
    asio::awaitable<void> ask(pid_t& master) {
        const auto alive = co_await connection_.alive();
        master = alive ? *alive : 0;
    }

    asio::io_context io_{1};
    cmssh::MuxConnection connection_;
};

}  // namespace bench
