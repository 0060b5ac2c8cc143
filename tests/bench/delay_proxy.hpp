#pragma once
// A TCP proxy on loopback that makes one server look far away: every byte arrives half a round trip after it was
// sent, in either direction, and a connection costs the round trip of TCP's own handshake. Threads, because each of
// them only ever sleeps until the next chunk is due.
#include <chrono>
#include <cstdint>
#include <string>

namespace bench {

class DelayProxy {
public:
    // Listens on 127.0.0.1, port() says where, and forwards to `host`:`to_port`. Runs until the process ends.
    DelayProxy(std::string host, std::uint16_t to_port, std::chrono::microseconds round_trip);
    std::uint16_t port() const { return port_; }

private:
    std::uint16_t port_ = 0;
};

}  // namespace bench
