// A clock that stands still until the test moves it, and the loop that runs whatever is ready meanwhile.
#pragma once

#include <gtest/gtest.h>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "daemon/base/clock.hpp"

namespace cmssh::fakes {

class FakeClock final : public Clock {
public:
    explicit FakeClock(asio::io_context& io) : io_(io) {}

    static constexpr std::int64_t kWallStart = 1'700'000'000'000;  // 2023-11-14T22:13:20Z

    [[nodiscard]] Instant now() const override { return now_; }
    [[nodiscard]] std::int64_t wall_ms() const override {
        return kWallStart + std::chrono::duration_cast<std::chrono::milliseconds>(now_ - kStart + asleep_).count();
    }
    [[nodiscard]] Duration asleep() const override { return asleep_; }
    [[nodiscard]] std::unique_ptr<Timer> make_timer() override { return std::make_unique<FakeTimer>(*this); }

    // The machine sleeps: no timer runs.
    void sleep(Duration by) { asleep_ += by; }

    // For tests that nothing is kept of a wait that is over.
    [[nodiscard]] int timers() const { return timers_; }

    // Runs what is ready until nothing is.
    void run_ready() {
        io_.restart();
        while (io_.poll() > 0) {
            io_.restart();
        }
    }

    // Moves on, stopping at each deadline on the way.
    void advance(Duration by) {
        const Instant target = now_ + by;
        run_ready();
        for (auto due = next(); due && *due <= target; due = next()) {
            now_ = std::max(now_, *due);
            fire();
            run_ready();
        }
        now_ = target;
        run_ready();
    }

private:
    class FakeTimer final : public Timer {
    public:
        explicit FakeTimer(FakeClock& clock) : clock_(clock), timer_(clock.io_) { ++clock_.timers_; }
        ~FakeTimer() override {
            --clock_.timers_;
            EXPECT_FALSE(waiting_) << "a timer was destroyed while somebody waits on it";
        }

        asio::awaitable<bool> wait_until(Instant deadline) override {
            EXPECT_FALSE(waiting_) << "two wait on one timer";
            // Also where the frame is destroyed with the loop.
            struct Armed {
                FakeTimer& self;
                ~Armed() {
                    self.waiting_ = false;
                    self.clock_.armed_.erase(&self);
                }
            };
            deadline_ = deadline;
            fired_ = deadline <= clock_.now_;
            waiting_ = true;
            const Armed armed{*this};
            clock_.armed_.insert(this);
            timer_.expires_at(fired_ ? Instant{} : Instant::max());
            asio::error_code error;
            co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
            co_return fired_;
        }

        void wake() override { timer_.cancel(); }

        void fire() {
            fired_ = true;
            timer_.cancel();
        }

        FakeClock& clock_;
        asio::steady_timer timer_;
        Instant deadline_;
        bool fired_ = false;
        bool waiting_ = false;
    };

    [[nodiscard]] std::optional<Instant> next() const {
        std::optional<Instant> first;
        for (const FakeTimer* timer : armed_) {
            if (!timer->fired_ && (!first || timer->deadline_ < *first)) {
                first = timer->deadline_;
            }
        }
        return first;
    }

    void fire() {
        for (FakeTimer* timer : armed_) {
            if (timer->deadline_ <= now_) {
                timer->fire();
            }
        }
    }

    // Long after the epoch, as a machine's uptime is: an Instant{} of the product code is "never yet".
    static constexpr Instant kStart{std::chrono::hours(1000)};

    asio::io_context& io_;
    Instant now_ = kStart;
    Duration asleep_{};
    std::set<FakeTimer*> armed_;
    int timers_ = 0;
};

// What a coroutine that was started gave, once it has ended.
template <typename T>
class Outcome {
public:
    Outcome() : value_(std::make_shared<std::optional<T>>()) {}
    [[nodiscard]] bool done() const { return value_->has_value(); }
    [[nodiscard]] T& operator*() const { return value_->value(); }
    [[nodiscard]] T* operator->() const { return &value_->value(); }
    void set(T value) const { value_->emplace(std::move(value)); }

private:
    std::shared_ptr<std::optional<T>> value_;
};

struct Finished {};

class TestLoop {
public:
    [[nodiscard]] asio::any_io_executor executor() { return io_.get_executor(); }
    FakeClock& clock() { return clock_; }
    [[nodiscard]] Instant now() const { return clock_.now(); }
    void run_ready() { clock_.run_ready(); }
    void advance(Duration by) { clock_.advance(by); }

    // Runs it as far as it goes without time.
    template <typename T>
    Outcome<T> start(asio::awaitable<T> task) {
        Outcome<T> outcome;
        begin(keep(std::move(task), outcome));
        return outcome;
    }
    Outcome<Finished> start(asio::awaitable<void> task) {
        Outcome<Finished> outcome;
        begin(keep(std::move(task), outcome));
        return outcome;
    }
    // For what ends without time.
    template <typename T>
    T run(asio::awaitable<T> task) {
        Outcome<T> outcome = start(std::move(task));
        if (!outcome.done()) {
            throw std::runtime_error("the coroutine did not end");
        }
        return std::move(*outcome);
    }
    void run(asio::awaitable<void> task) { EXPECT_TRUE(start(std::move(task)).done()) << "the coroutine did not end"; }

private:
    template <typename T>
    static asio::awaitable<void> keep(asio::awaitable<T> task, Outcome<T> outcome) {
        outcome.set(co_await std::move(task));
    }
    static asio::awaitable<void> keep(asio::awaitable<void> task, Outcome<Finished> outcome) {
        co_await std::move(task);
        outcome.set({});
    }
    void begin(asio::awaitable<void> task) {
        asio::co_spawn(io_, std::move(task), [](std::exception_ptr failure) {
            if (failure) {
                std::rethrow_exception(failure);
            }
        });
        run_ready();
    }

    asio::io_context io_;
    FakeClock clock_{io_};
};

}  // namespace cmssh::fakes
