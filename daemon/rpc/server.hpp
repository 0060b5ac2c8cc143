// The API socket: accepts clients of our own uid and owns their sessions.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/local/stream_protocol.hpp>

#include <list>
#include <memory>

#include "daemon/base/config.hpp"
#include "daemon/base/unique_fd.hpp"
#include "daemon/rpc/client_session.hpp"

namespace cmssh {

class RpcServer {
public:
    RpcServer(asio::any_io_executor executor, Clock& clock, const Config& config, RequestHandler& handler,
              UniqueFd listening);

    // Until stop_accepting().
    asio::awaitable<void> run();
    void stop_accepting();
    // Lets replies under way go out until the deadline, then closes every client.
    asio::awaitable<void> shut_down(Instant deadline);

    [[nodiscard]] int clients() const { return static_cast<int>(clients_.size()); }
    [[nodiscard]] const RpcCounters& counters() const { return counters_; }

private:
    asio::awaitable<void> serve(std::list<std::unique_ptr<ClientSession>>::iterator client);
    void note_gone();
    void make_records();
    void refuse(asio::local::stream_protocol::socket socket, const Error& error);

    asio::any_io_executor executor_;
    Clock& clock_;
    const Config& config_;
    RequestHandler& handler_;
    asio::local::stream_protocol::acceptor acceptor_;
    ClientMemory memory_;  // outlives the clients
    // Given up for a moment when descriptors run out, so that a client can be told instead of left waiting.
    UniqueFd reserve_;
    std::list<std::unique_ptr<ClientSession>> clients_;
    int most_clients_ = 0;  // since memory was last given back
    std::size_t records_made_ = 0;
    RpcCounters counters_;
    bool stopping_ = false;
    Event stop_;
    TaskGroup tasks_;
};

}  // namespace cmssh
