// OpenSSH's mux protocol from the client's side, natively: what `ssh -O check` and `ssh -S` do, without a process. No
// call has a deadline of its own: the caller puts one around it, and cancelling closes the socket, which is all a
// master understands.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/local/stream_protocol.hpp>

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "daemon/base/control_socket.hpp"
#include "daemon/base/unique_fd.hpp"
#include "protocol/mux.hpp"
#include "protocol/result.hpp"

namespace cmssh {

class MuxConnection {
public:
    MuxConnection(const asio::any_io_executor& executor, UniqueFd fd);

    // Hello and the packet in one write where it is the first: the master greets without waiting for ours.
    asio::awaitable<Result<void>> send(std::string packet);
    // The next reply after the hello; MasterLost where the master closed the connection.
    asio::awaitable<Result<mux::Reply>> receive();

    asio::awaitable<Result<pid_t>> alive();
    // The master's socket file is gone after it; this connection and others go on.
    asio::awaitable<Result<void>> stop_listening();
    // Gives the three descriptors (stdin, stdout, stderr) to the master. After success the connection belongs to the
    // session: receive() then gives its ExitMessage, and end of file says that it is over.
    asio::awaitable<Result<void>> new_session(mux::NewSession session, std::array<int, 3> descriptors);
    // ChannelRefused where the master, or the server of a remote one, does not listen there. The port that the server
    // chose, 0 where it had none to choose. Until a remote one is answered this connection answers nothing else.
    asio::awaitable<Result<int>> open_forward(mux::Forward forward);
    // What goes through it already goes on.
    asio::awaitable<Result<void>> close_forward(mux::Forward forward);
    void close();

private:
    // A packet and the reply to it.
    asio::awaitable<Result<mux::Reply>> ask(std::string packet);

    asio::local::stream_protocol::socket socket_;
    mux::PacketReader reader_;
    std::uint32_t next_request_ = 1;
    bool greeted_ = false;
    bool hello_seen_ = false;
};

}  // namespace cmssh
