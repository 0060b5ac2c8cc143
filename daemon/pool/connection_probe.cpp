#include <asio/experimental/awaitable_operators.hpp>

#include "daemon/pool/connection.hpp"

namespace cmssh {

asio::awaitable<void> Connection::check() {
    const bool leftover = co_await has_leftover_master();
    if (leftover) {
        (void)co_await ensure_up({});
    }
    const std::uint64_t wanted = probes_begun_ + 1;
    while (probes_ended_ < wanted && has_master() && !shutting_down_) {
        if (probing_) {
            co_await changed_.wait();
        } else {
            begin_probe();
            co_await probe(true, services_.clock.now());
        }
    }
}

void Connection::begin_probe() {
    probing_ = true;
    ++probes_begun_;
    feed(ConnectionMachine::ProbeBegan{});
}

asio::awaitable<void> Connection::probe(bool thorough, Instant due) {
    using asio::experimental::awaitable_operators::operator&&;
    struct Ended {
        explicit Ended(Connection& connection) : of(connection) {}
        ~Ended() {
            of.probing_ = false;
            ++of.probes_ended_;
            of.changed_.notify_all();
            of.deadline_changed_.notify_all();
        }
        Connection& of;
    };
    const Ended ended(*this);
    const auto master = master_;
    if (master == nullptr) {
        co_return;
    }
    // However late it is, by a loop that stood still or a timeout longer than the interval, an answer has some time.
    const auto& pool = services_.config.pool;
    const Duration least = std::min<Duration>(pool.health_timeout, probe_delay(pool.health_interval, 1.0));
    const Instant deadline = std::max(due + pool.health_timeout, services_.clock.now() + least);
    const auto [process, path] = co_await (master->check(deadline) && probe_path(thorough, deadline));
    probed_at_ms_ = services_.clock.wall_ms();
    if (master != master_ || master->dead() || shutting_down_) {
        co_return;
    }
    if (process && path) {
        ++probes_ok_;
        if (*path) {
            rtt_.add(**path);
        }
        feed(ConnectionMachine::ProbeAnswered{});
        co_return;
    }
    ++probes_failed_;
    note_error(process ? path.error() : process.error());
    feed(ConnectionMachine::ProbeFailed{.level = process ? ProbeLevel::Path : ProbeLevel::Process});
}

// A command of its own, which costs the server a process, only where a person asks or sessions depend on the answer:
// without them and without a tmux, ssh's own keepalive has to do.
asio::awaitable<Result<std::optional<Duration>>> Connection::probe_path(bool thorough, Instant deadline) {
    if (auto* channel = tmux(); channel != nullptr) {
        const auto trip = co_await channel->round_trip(deadline);
        if (trip) {
            co_return std::optional<Duration>(*trip);
        }
        // Only silence speaks against the path: tmux's refusal came through it, and a channel that closed is told of.
        if (trip.error().kind != ErrorKind::Timeout) {
            co_return std::optional<Duration>();
        }
        co_return trip.error();
    }
    if (running_command() || !(thorough || refs() > 0)) {
        co_return std::optional<Duration>();
    }
    const auto output = co_await run("exec true", deadline);
    if (!output && output.error().kind != ErrorKind::ChannelRefused && output.error().kind != ErrorKind::Limit) {
        co_return output.error();
    }
    co_return std::optional<Duration>();
}

}  // namespace cmssh
