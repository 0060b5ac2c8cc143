// A Channel over OpenSSH's mux protocol: the ends of a socket pair (input and output) and a pipe (errors) that the
// master was given the other ends of, and the control connection that says when the session is over.
#pragma once

#include <asio/local/stream_protocol.hpp>
#include <asio/posix/stream_descriptor.hpp>

#include "daemon/ssh/master.hpp"
#include "daemon/ssh/mux_client.hpp"

namespace cmssh {

class MuxChannel final : public Channel {
public:
    // Opens a session that runs `command` through the user's login shell, as sshd does. Not timed: see mux_client.hpp.
    static asio::awaitable<Result<std::unique_ptr<Channel>>> open(asio::any_io_executor executor,
                                                                  std::string control_path, std::string command);

    MuxChannel(const asio::any_io_executor& executor, MuxConnection control, UniqueFd stream, UniqueFd errors);

    asio::awaitable<std::string> read_output() override;
    asio::awaitable<std::string> read_error() override;
    std::size_t try_write(std::string_view bytes) override;
    asio::awaitable<bool> wait_writable() override;
    void close_input() override;
    asio::awaitable<std::optional<int>> exit_status() override;
    void close() override;

private:
    MuxConnection control_;
    asio::local::stream_protocol::socket stream_;
    asio::posix::stream_descriptor errors_;
};

}  // namespace cmssh
