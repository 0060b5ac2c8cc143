// An operation with a deadline: the one place where `op || timer` is written (Asio 1.22 has no cancel_after).
// The operation must be safe to cancel: what it holds is released by destructors.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/experimental/awaitable_operators.hpp>

#include <optional>
#include <utility>
#include <variant>

#include "daemon/base/clock.hpp"

namespace cmssh {

// nullopt: the deadline came first.
template <typename T>
asio::awaitable<std::optional<T>> with_deadline(Clock& clock, Instant deadline, asio::awaitable<T> operation) {
    using asio::experimental::awaitable_operators::operator||;
    const auto timer = clock.make_timer();
    auto outcome = co_await (std::move(operation) || timer->wait_until(deadline));
    if (outcome.index() == 0) {
        co_return std::optional<T>(std::in_place, std::get<0>(std::move(outcome)));
    }
    co_return std::nullopt;
}

}  // namespace cmssh
