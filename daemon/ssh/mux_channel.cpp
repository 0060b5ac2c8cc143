#include "daemon/ssh/mux_channel.hpp"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "daemon/base/os_error.hpp"
#include "daemon/base/read_available.hpp"

namespace cmssh {
asio::awaitable<Result<std::unique_ptr<Channel>>> MuxChannel::open(asio::any_io_executor executor,
                                                                   std::string control_path, std::string command) {
    auto socket = open_control_socket(control_path);
    if (socket.state == ControlSocketState::Unknown) {
        co_return os_error("socket", socket.failure);
    }
    if (socket.state != ControlSocketState::Live) {
        co_return Error{.kind = ErrorKind::MasterLost,
                        .message = "the ssh master does not listen on its control socket"};
    }
    std::array<int, 2> stream{-1, -1};
    std::array<int, 2> errors{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream.data()) != 0) {
        co_return os_error("socketpair", errno);
    }
    UniqueFd our_stream(stream[0]);
    UniqueFd its_stream(stream[1]);
    if (::pipe2(errors.data(), O_CLOEXEC) != 0) {
        co_return os_error("pipe", errno);
    }
    UniqueFd our_errors(errors[0]);
    UniqueFd its_errors(errors[1]);

    MuxConnection control(executor, std::move(socket.fd));
    mux::NewSession session;
    session.command = std::move(command);
    const std::array<int, 3> descriptors{its_stream.get(), its_stream.get(), its_errors.get()};
    const auto opened = co_await control.new_session(std::move(session), descriptors);
    if (!opened) {
        co_return opened.error();
    }
    std::unique_ptr<Channel> channel =
        std::make_unique<MuxChannel>(executor, std::move(control), std::move(our_stream), std::move(our_errors));
    co_return channel;
}

MuxChannel::MuxChannel(const asio::any_io_executor& executor, MuxConnection control, UniqueFd stream, UniqueFd errors)
    : control_(std::move(control)),
      stream_(executor, asio::local::stream_protocol(), stream.release()),
      errors_(executor, errors.release()) {
    stream_.non_blocking(true);
    errors_.non_blocking(true);
}

asio::awaitable<std::string> MuxChannel::read_output() {
    asio::error_code ended;
    co_return co_await read_available(stream_, ended);
}

asio::awaitable<std::string> MuxChannel::read_error() {
    asio::error_code ended;
    co_return co_await read_available(errors_, ended);
}

std::size_t MuxChannel::try_write(std::string_view bytes) {
    const ssize_t sent = ::send(stream_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent > 0 ? static_cast<std::size_t>(sent) : 0;
}

asio::awaitable<bool> MuxChannel::wait_writable() {
    asio::error_code error;
    co_await stream_.async_wait(asio::socket_base::wait_write, asio::redirect_error(asio::use_awaitable, error));
    co_return !error;
}

void MuxChannel::close_input() {
    asio::error_code ignored;
    stream_.shutdown(asio::socket_base::shutdown_send, ignored);
}

asio::awaitable<std::optional<int>> MuxChannel::exit_status() {
    std::optional<int> status;
    for (;;) {
        const auto reply = co_await control_.receive();
        if (!reply) {
            co_return status;
        }
        if (const auto* exit = std::get_if<mux::ExitMessage>(&*reply)) {
            status = static_cast<int>(exit->exit_value);
        }
    }
}

void MuxChannel::close() {
    asio::error_code ignored;
    control_.close();
    stream_.close(ignored);
    errors_.close(ignored);
}

}  // namespace cmssh
