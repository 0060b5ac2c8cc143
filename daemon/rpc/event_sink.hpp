// Where the events of a subscription go: to one client.
#pragma once

#include <cstdint>

#include "protocol/jsonrpc.hpp"

namespace cmssh {

class EventSink {
public:
    virtual ~EventSink() = default;
    // One notification `event`, whatever waits for the client already; on its way with flush(), at the latest. Nothing
    // where it is gone.
    virtual void push(const JsonText& params) = 0;
    virtual void flush() = 0;
    // Bytes for this client, from its first on: those that were given, and those that the kernel has taken.
    [[nodiscard]] virtual std::uint64_t given() const = 0;
    [[nodiscard]] virtual std::uint64_t taken() const = 0;
    // As often with true as with false: it is served on meanwhile, though it may have closed its writing side.
    virtual void keep(bool on) = 0;
};

}  // namespace cmssh
