// Reading without memory of one's own: who waits for bytes, as hundreds of channels and clients do, has none waiting
// for them.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <array>
#include <string>

namespace cmssh {

// Waits until there is something, and gives what is there, up to 64 KiB. Empty: `error` says why, eof at its end. The
// stream is non-blocking.
template <typename Stream>
asio::awaitable<std::string> read_available(Stream& stream, asio::error_code& error) {
    static thread_local std::array<char, std::size_t{64} * 1024> shared;
    std::size_t count = 0;
    do {
        // A read that succeeds at once would not let anybody else have a turn.
        co_await stream.async_wait(Stream::wait_read, asio::redirect_error(asio::use_awaitable, error));
        if (!error) {
            count = stream.read_some(asio::buffer(shared), error);
        }
    } while (error == asio::error::would_block);
    co_return std::string(shared.data(), count);
}

}  // namespace cmssh
