#include "daemon/rpc/server.hpp"

#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "daemon/base/log.hpp"
#include "daemon/base/memory.hpp"

namespace cmssh {
namespace {

// An accept loop without descriptors would spin: 2.3 million errors a second.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

// With fewer it is not worth the time.
constexpr int kManyClients = 20;

constexpr std::size_t kRecordsAtOnce = 128;

UniqueFd open_reserve() {
    return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

bool is_own_uid(int socket) {
    ucred peer{};
    socklen_t size = sizeof(peer);
    return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

}  // namespace

RpcServer::RpcServer(asio::any_io_executor executor, Clock& clock, const Config& config, RequestHandler& handler,
                     UniqueFd listening)
    : executor_(executor),
      clock_(clock),
      config_(config),
      handler_(handler),
      acceptor_(executor, asio::local::stream_protocol(), listening.release()),
      reserve_(open_reserve()),
      stop_(clock),
      tasks_(std::move(executor), clock) {}

asio::awaitable<void> RpcServer::run() {
    while (!stopping_) {
        asio::error_code error;
        auto socket = co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (stopping_) {
            break;
        }
        if (error == asio::error::no_descriptors || error == std::errc::too_many_files_open_in_system) {
            reserve_.reset();
            asio::error_code again;
            auto extra = co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, again));
            if (!again && is_own_uid(extra.native_handle())) {
                refuse(std::move(extra),
                       Error{.kind = ErrorKind::Limit,
                             .message = "the daemon has no file descriptors left",
                             .hint = "close some clients, or raise the daemon's limit of open files"});
            }
            reserve_ = open_reserve();
            co_await stop_.wait_until(clock_.now() + kAcceptPause);
            continue;
        }
        if (error) {
            log_warn("rpc", "accept: " + error.message());
            co_await stop_.wait_until(clock_.now() + kAcceptPause);
            continue;
        }
        if (!is_own_uid(socket.native_handle())) {
            continue;
        }
        if (clients() >= config_.rpc.max_clients) {
            refuse(std::move(socket),
                   Error{.kind = ErrorKind::Limit,
                         .message = "the daemon serves " + std::to_string(clients()) + " clients already",
                         .hint = "close some, or raise rpc.max_clients"});
            continue;
        }
        clients_.push_front(std::make_unique<ClientSession>(std::move(socket), clock_, handler_, counters_, memory_,
                                                            static_cast<std::size_t>(config_.rpc.max_message)));
        most_clients_ = std::max(most_clients_, clients());
        make_records();
        tasks_.spawn("client", serve(clients_.begin()));
    }
}

void RpcServer::refuse(asio::local::stream_protocol::socket socket, const Error& error) {
    ++counters_.errors;
    const std::string line = frame(dump_json(make_error(nullptr, error)), Framing::Line);
    (void)::send(socket.native_handle(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

asio::awaitable<void> RpcServer::serve(std::list<std::unique_ptr<ClientSession>>::iterator client) {
    co_await (*client)->run();
    clients_.erase(client);
    note_gone();
    stop_.notify_all();
}

// What many clients had lies scattered between what is still in use, and malloc keeps it by itself.
void RpcServer::note_gone() {
    if (most_clients_ < kManyClients || clients() > most_clients_ / 4) {
        return;
    }
    most_clients_ = clients();
    give_memory_back();
}

// Asio's reactor keeps the record of a descriptor for a later one. Made one by one, they would lie between what else a
// client has, and each hold a page of it for good.
void RpcServer::make_records() {
    if (clients_.size() < records_made_ || !reserve_) {
        return;
    }
    std::vector<asio::posix::stream_descriptor> made;
    made.reserve(kRecordsAtOnce);
    asio::error_code error;
    while (made.size() < kRecordsAtOnce && !error) {
        made.emplace_back(executor_);
        made.back().assign(reserve_.get(), error);  // no more than a refusal by epoll, which does not take /dev/null
    }
    for (auto& descriptor : made) {
        (void)descriptor.release();
    }
    records_made_ += kRecordsAtOnce;
}

void RpcServer::stop_accepting() {
    stopping_ = true;
    asio::error_code ignored;
    acceptor_.close(ignored);
    stop_.notify_all();
}

asio::awaitable<void> RpcServer::shut_down(Instant deadline) {
    for (const auto& client : clients_) {
        client->stop_reading();
    }
    bool in_time = true;
    while (!clients_.empty() && in_time) {
        in_time = co_await stop_.wait_until(deadline);
    }
    for (const auto& client : clients_) {
        client->close();
    }
    co_await tasks_.join_until(Instant::max());
}

}  // namespace cmssh
