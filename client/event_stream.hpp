// A connection on which the daemon tells what changes, and the wait for that. Blocking, without a tick: Ctrl-C, a new
// window size, a key and a reader that has gone end the wait at once. One for each process: it catches SIGWINCH.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/call.hpp"
#include "client/rpc_client.hpp"
#include "protocol/events.hpp"

namespace cmssh::client {

class EventStream {
public:
    // types: only these; empty: all. global outlives it.
    EventStream(const GlobalOptions& global, std::vector<std::string> types);
    EventStream(const EventStream&) = delete;
    EventStream& operator=(const EventStream&) = delete;

    // Connects where there is no connection, and subscribes (again): from here on events follow the snapshot. After
    // catch_interrupts().
    [[nodiscard]] Outcome<api::SubscribeResult> open(std::optional<Instant> deadline);
    // After a lost daemon: waits for the next one, without starting one. What came of the old one is gone.
    [[nodiscard]] Outcome<api::SubscribeResult> open_next();
    // The same without waiting; nullopt: none runs.
    [[nodiscard]] std::optional<Outcome<api::SubscribeResult>> try_next(Instant deadline);
    void close() { client_.reset(); }
    [[nodiscard]] bool connected() const { return client_.has_value(); }

    enum class Woken {
        Events,
        Time,
        Resized,
        Interrupted,
        Input,        // there is some
        OutputClosed  // nobody reads standard output
    };
    // input: to look for input on; -1: nowhere. The error: the daemon is lost.
    [[nodiscard]] std::variant<Woken, CallError> wait(std::optional<Instant> until, int input = -1);
    // Those that came since; the params of each.
    [[nodiscard]] std::vector<Json> take();

    // For calls between the waits: what comes meanwhile is taken later. Only where it is connected.
    [[nodiscard]] RpcClient& client() { return *client_; }

private:
    void take_over(RpcClient client);
    Outcome<api::SubscribeResult> subscribe(std::optional<Instant> deadline);

    const GlobalOptions& global_;
    std::vector<std::string> types_;
    std::optional<RpcClient> client_;
    std::string subscription_;
    std::vector<Json> events_;
};

}  // namespace cmssh::client
