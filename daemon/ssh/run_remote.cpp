#include <asio/experimental/awaitable_operators.hpp>

#include <algorithm>

#include "daemon/base/timeout.hpp"
#include "daemon/ssh/master.hpp"

namespace cmssh {
namespace {

constexpr int kEndNotTold = 255;  // clientloop.c, ssh(1): "255 if an error occurred"

asio::awaitable<std::string> collect(Channel& channel, asio::awaitable<std::string> (Channel::*read)(),
                                     std::size_t max_bytes) {
    std::string text;
    for (;;) {
        const std::string bytes = co_await (channel.*read)();
        if (bytes.empty()) {
            co_return text;
        }
        text.append(bytes, 0, max_bytes - std::min(max_bytes, text.size()));
    }
}

asio::awaitable<Result<RemoteOutput>> run_to_end(Channel& channel, std::size_t max_bytes) {
    using asio::experimental::awaitable_operators::operator&&;
    auto texts = co_await (collect(channel, &Channel::read_output, max_bytes) &&
                           collect(channel, &Channel::read_error, max_bytes));
    const std::optional<int> exit_code = co_await channel.exit_status();
    if (!exit_code || *exit_code == kEndNotTold) {
        co_return Error{.kind = ErrorKind::MasterLost,
                        .message = "the connection was lost while a command ran on the server"};
    }
    RemoteOutput output;
    output.exit_code = *exit_code;
    output.standard_output = std::move(std::get<0>(texts));
    output.standard_error = std::move(std::get<1>(texts));
    co_return output;
}

}  // namespace

asio::awaitable<Result<RemoteOutput>> run_remote(Clock& clock, Master& master, std::string command, Instant deadline,
                                                 std::size_t max_bytes) {
    auto channel = co_await master.open_channel(std::move(command), deadline);
    if (!channel) {
        co_return std::move(channel).error();
    }
    (*channel)->close_input();
    auto output = co_await with_deadline(clock, deadline, run_to_end(**channel, max_bytes));
    if (!output) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "a command on the server did not end in time"};
    }
    co_return std::move(*output);
}

}  // namespace cmssh
