// An operation with a deadline: the one place where `op || timer` is written (Asio 1.22 has no cancel_after).
// The operation must be safe to cancel: what it holds is released by destructors.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/experimental/awaitable_operators.hpp>

#include <exception>
#include <optional>
#include <utility>
#include <variant>

#include "daemon/base/clock.hpp"

namespace cmssh {

// `||` waits for a success: a failure has to be one, or it would be a time-out, and only at the deadline.
template <typename T>
asio::awaitable<std::optional<T>> keep_failure(asio::awaitable<T> operation, std::exception_ptr& failure) {
    try {
        co_return std::optional<T>(std::in_place, co_await std::move(operation));
    } catch (...) {
        failure = std::current_exception();
    }
    co_return std::nullopt;
}

// nullopt: the deadline came first.
template <typename T>
asio::awaitable<std::optional<T>> with_deadline(Clock& clock, Instant deadline, asio::awaitable<T> operation) {
    using asio::experimental::awaitable_operators::operator||;
    const auto timer = clock.make_timer();
    std::exception_ptr failure;
    auto outcome = co_await (keep_failure(std::move(operation), failure) || timer->wait_until(deadline));
    if (outcome.index() != 0) {
        co_return std::nullopt;
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
    co_return std::get<0>(std::move(outcome));
}

}  // namespace cmssh
