#include "daemon/ssh/mux_client.hpp"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>

#include "daemon/base/fd_passing.hpp"

namespace cmssh {
namespace {

Error master_lost(std::string what) {
    return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master " + std::move(what)};
}

}  // namespace

MuxConnection::MuxConnection(const asio::any_io_executor& executor, UniqueFd fd)
    : socket_(executor, asio::local::stream_protocol(), fd.release()) {}

asio::awaitable<Result<void>> MuxConnection::send(std::string packet) {
    if (!greeted_) {
        packet.insert(0, mux::hello());
        greeted_ = true;
    }
    asio::error_code error;
    co_await asio::async_write(socket_, asio::buffer(packet), asio::redirect_error(asio::use_awaitable, error));
    if (error) {
        co_return master_lost("closed its control connection");
    }
    co_return Result<void>();
}

asio::awaitable<Result<mux::Reply>> MuxConnection::receive() {
    std::array<char, 1024> bytes{};
    for (;;) {
        for (;;) {
            auto packet = reader_.next();
            if (!packet) {
                co_return std::move(packet).error();
            }
            if (!*packet) {
                break;
            }
            auto reply = mux::parse_reply(**packet);
            if (!reply) {
                co_return std::move(reply).error();
            }
            if (!hello_seen_) {
                const auto* hello = std::get_if<mux::Hello>(&*reply);
                if (hello == nullptr || hello->version != mux::kVersion) {
                    co_return master_lost("speaks another version of the mux protocol");
                }
                hello_seen_ = true;
                continue;
            }
            co_return std::move(*reply);
        }
        asio::error_code error;
        const auto count =
            co_await socket_.async_read_some(asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
        if (error) {
            co_return master_lost("closed its control connection");
        }
        reader_.feed(std::string_view(bytes.data(), count));
    }
}

asio::awaitable<Result<mux::Reply>> MuxConnection::ask(std::string packet) {
    const auto sent = co_await send(std::move(packet));
    if (!sent) {
        co_return sent.error();
    }
    co_return co_await receive();
}

asio::awaitable<Result<pid_t>> MuxConnection::alive() {
    const auto id = next_request_++;
    auto reply = co_await ask(mux::alive_check(id));
    if (!reply) {
        co_return std::move(reply).error();
    }
    const auto* answer = std::get_if<mux::Alive>(&*reply);
    if (answer == nullptr || answer->request_id != id) {
        co_return master_lost("gave a wrong answer to an alive check");
    }
    co_return static_cast<pid_t>(answer->pid);
}

asio::awaitable<Result<void>> MuxConnection::stop_listening() {
    const auto id = next_request_++;
    auto reply = co_await ask(mux::stop_listening(id));
    if (!reply) {
        co_return std::move(reply).error();
    }
    if (const auto* refusal = std::get_if<mux::Refused>(&*reply)) {
        co_return master_lost("does not stop listening: " + refusal->reason);
    }
    const auto* answer = std::get_if<mux::Ok>(&*reply);
    if (answer == nullptr || answer->request_id != id) {
        co_return master_lost("gave a wrong answer to a request to stop listening");
    }
    co_return Result<void>();
}

asio::awaitable<Result<void>> MuxConnection::new_session(mux::NewSession session, std::array<int, 3> descriptors) {
    const auto id = next_request_++;
    auto packet = mux::new_session(id, session);
    if (packet.size() > mux::kMaxPacket) {
        co_return Error{.kind = ErrorKind::Limit, .message = "the command line is too long for ssh"};
    }
    const auto sent = co_await send(std::move(packet));
    if (!sent) {
        co_return sent.error();
    }
    // From here until the third descriptor the master serves nobody else (mux.c reads them with poll(-1)).
    for (const int descriptor : descriptors) {
        for (;;) {
            const auto failure = send_descriptor(socket_.native_handle(), descriptor);
            if (!failure) {
                break;
            }
            if (failure != std::errc::operation_would_block) {
                co_return master_lost("did not take a session's descriptors: " + failure.message());
            }
            asio::error_code error;
            co_await socket_.async_wait(asio::socket_base::wait_write,
                                        asio::redirect_error(asio::use_awaitable, error));
            if (error) {
                co_return master_lost("closed its control connection");
            }
        }
    }
    auto reply = co_await receive();
    if (!reply) {
        co_return std::move(reply).error();
    }
    if (const auto* refusal = std::get_if<mux::Refused>(&*reply)) {
        co_return Error{.kind = ErrorKind::ChannelRefused,
                        .message = "the server refused another channel on this connection: " + refusal->reason,
                        .hint = "raise MaxSessions in the server's sshd_config, or lower pool.max_channels"};
    }
    const auto* opened = std::get_if<mux::SessionOpened>(&*reply);
    if (opened == nullptr || opened->request_id != id) {
        co_return master_lost("gave a wrong answer to a session request");
    }
    co_return Result<void>();
}

asio::awaitable<Result<int>> MuxConnection::open_forward(mux::Forward forward) {
    const auto id = next_request_++;
    auto reply = co_await ask(mux::open_forward(id, forward));
    if (!reply) {
        co_return std::move(reply).error();
    }
    if (const auto* refusal = std::get_if<mux::Refused>(&*reply)) {
        co_return Error{.kind = ErrorKind::ChannelRefused, .message = refusal->reason};
    }
    if (const auto* chosen = std::get_if<mux::RemotePort>(&*reply); chosen != nullptr && chosen->request_id == id) {
        co_return static_cast<int>(chosen->port);
    }
    const auto* answer = std::get_if<mux::Ok>(&*reply);
    if (answer == nullptr || answer->request_id != id) {
        co_return master_lost("gave a wrong answer to a request to forward");
    }
    co_return 0;
}

asio::awaitable<Result<void>> MuxConnection::close_forward(mux::Forward forward) {
    const auto id = next_request_++;
    auto reply = co_await ask(mux::close_forward(id, forward));
    if (!reply) {
        co_return std::move(reply).error();
    }
    if (const auto* refusal = std::get_if<mux::Refused>(&*reply)) {
        co_return Error{.kind = ErrorKind::ChannelRefused, .message = refusal->reason};
    }
    co_return Result<void>();
}

void MuxConnection::close() {
    asio::error_code ignored;
    socket_.close(ignored);
}

}  // namespace cmssh
