// One connected client: reads requests, has them carried out side by side, writes replies in the order they are ready.
// Over its share of requests in flight, or of unread replies, a client is simply not read from.
#pragma once

#include <asio/local/stream_protocol.hpp>

#include <cstdint>
#include <deque>
#include <string>

#include "daemon/base/event.hpp"
#include "daemon/base/task_group.hpp"
#include "daemon/rpc/event_sink.hpp"
#include "protocol/framing.hpp"
#include "protocol/jsonrpc.hpp"

namespace cmssh {

class ClientSession;

// Carries out one request. The reply's "result" or "error" is returned; it is dropped for a notification.
class RequestHandler {
public:
    virtual ~RequestHandler() = default;
    virtual asio::awaitable<Result<JsonText>> handle(Request request, ClientSession& client) = 0;
    // It has no request under way and sends no more.
    virtual void client_gone(const ClientSession& /*client*/) {}
};

struct RpcCounters {
    std::uint64_t requests = 0;
    std::uint64_t errors = 0;
};

// What all clients together have sent that is not done yet and not read of replies: one bound for all of them, where
// each has its own besides.
class ClientMemory {
public:
    static constexpr std::size_t kMost = 128UL * 1024 * 1024;

    void change(std::size_t before, std::size_t after) { bytes_ += after - before; }
    [[nodiscard]] bool full() const { return bytes_ > kMost; }

private:
    std::size_t bytes_ = 0;
};

class ClientSession final : public EventSink {
public:
    ClientSession(asio::local::stream_protocol::socket socket, Clock& clock, RequestHandler& handler,
                  RpcCounters& counters, ClientMemory& memory, std::size_t max_message);
    ~ClientSession() override;
    ClientSession(const ClientSession&) = delete;
    ClientSession& operator=(const ClientSession&) = delete;

    // Until the client is gone and its last request is done.
    asio::awaitable<void> run();
    // Takes no more requests; run() ends when the replies to those under way are written.
    void stop_reading();
    // Ends it now; what is under way is told by gone().
    void close() { hang_up(); }

    // A notification for this client; dropped where it no longer reads.
    void notify(std::string_view method, const JsonText& params);
    void push(const JsonText& params) override;
    void flush() override;
    [[nodiscard]] std::uint64_t given() const override { return taken_ + outgoing_.size(); }
    [[nodiscard]] std::uint64_t taken() const override { return taken_; }
    void keep(bool on) override;
    [[nodiscard]] const bool& gone() const { return gone_; }
    [[nodiscard]] Event& gone_event() { return gone_event_; }

private:
    asio::awaitable<void> read_loop();
    asio::awaitable<void> write_loop();
    // After end of file: tells a client that is gone from one that only has nothing more to say.
    asio::awaitable<void> watch_for_hangup();
    asio::awaitable<void> serve(Message message, std::size_t size);
    asio::awaitable<std::optional<JsonText>> serve_one(Incoming incoming);
    [[nodiscard]] bool over_its_share() const;
    void account();  // to be called wherever what it holds has changed
    void send(JsonText json);
    void queue(JsonText json);
    bool write_some();  // false: it reads no more
    void hang_up();

    asio::local::stream_protocol::socket socket_;
    RequestHandler& handler_;
    RpcCounters& counters_;
    ClientMemory& memory_;
    std::size_t max_message_;
    FrameReader reader_;
    std::string outgoing_;
    bool backlog_ = false;  // the kernel did not take all of it: write_loop() has the rest
    std::uint64_t taken_ = 0;
    int kept_ = 0;
    bool gone_ = false;
    bool reading_ = true;
    int in_flight_ = 0;
    std::size_t in_flight_bytes_ = 0;
    std::size_t accounted_ = 0;
    Event gone_event_;
    Event changed_;
    TaskGroup tasks_;
};

}  // namespace cmssh
