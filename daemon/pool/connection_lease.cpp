#include <utility>

#include "daemon/pool/connection.hpp"

namespace cmssh {
namespace {

// Nobody types a command to be told that a login fails again, and servers punish who tries too often.
constexpr Duration kForgetFailureAfter = std::chrono::minutes(5);

}  // namespace

Hold::Hold(Connection& connection, HoldKind kind)
    : connection_(&connection), kind_(kind), generation_(connection.generation_) {
    connection_->change_refs(kind_, generation_, 1);
}

Hold::~Hold() {
    if (connection_ != nullptr) {
        connection_->change_refs(kind_, generation_, -1);
    }
}

Hold& Hold::operator=(Hold&& other) noexcept {
    if (this != &other) {
        const Hold released = std::move(*this);
        connection_ = std::exchange(other.connection_, nullptr);
        kind_ = other.kind_;
        generation_ = other.generation_;
    }
    return *this;
}

ConnectionUse::ConnectionUse(Connection& connection) : connection_(&connection) {
    ++connection_->users_;
}

ConnectionUse::~ConnectionUse() {
    if (connection_ != nullptr) {
        --connection_->users_;
    }
}

ConnectionUse& ConnectionUse::operator=(ConnectionUse&& other) noexcept {
    std::swap(connection_, other.connection_);
    return *this;
}

asio::awaitable<Result<Connection::Lease>> Connection::lease(Want want, ChannelBudget::Patience patience) {
    return lease_in_turn(std::move(want), ChannelBudget::Turn::InOrder, patience);
}

std::optional<Error> Connection::why_not_in_passing(bool with_a_person) const {
    using State = ConnectionMachine::State;
    const bool lately = services_.clock.now() - machine_.since() < kForgetFailureAfter;
    switch (machine_.state()) {
        case State::Up:
        case State::Idle:
        case State::Connecting:
            return std::nullopt;
        case State::NeedsAuth:
        case State::Failed:
            if (!lately || with_a_person) {
                return std::nullopt;
            }
            break;
        case State::Degraded:
        case State::Draining:
        case State::Backoff:
            break;
    }
    Error error{.kind = machine_.state() == State::NeedsAuth ? ErrorKind::NeedsAuth : ErrorKind::ConnectFailed,
                .message = key_text_ + " is " + std::string(to_string(machine_.state()))};
    error.server = key_text_;
    return error;
}

asio::awaitable<Result<Connection::Lease>> Connection::lease_without_channel(Want want) {
    const Hold waiting(*this, HoldKind::Lease);
    auto ready = co_await ensure_up(std::move(want));
    if (!ready) {
        co_return std::move(ready).error();
    }
    if (!has_master()) {
        co_return lost();
    }
    Lease lease;
    lease.hold = Hold(*this, HoldKind::Lease);
    lease.generation = generation_;
    lease.control_path = control_path_;
    lease.reused = ready->reused;
    co_return lease;
}

asio::awaitable<Result<Connection::Lease>> Connection::lease_in_turn(Want want, ChannelBudget::Turn turn,
                                                                     ChannelBudget::Patience patience) {
    const Hold waiting(*this, HoldKind::Lease);
    for (;;) {
        auto ready = co_await ensure_up(want);
        if (!ready) {
            co_return std::move(ready).error();
        }
        const auto channels = channels_;
        if (want.progress && !channels->has_free()) {
            want.progress("waiting_for_channel");
        }
        auto channel = co_await ChannelBudget::take(channels, turn, patience);
        const bool replaced = channels != channels_ || !has_master();
        if (!channel && channel.error().kind != ErrorKind::MasterLost) {
            co_return std::move(channel).error();
        }
        if (channel && !replaced) {
            Lease lease;
            lease.hold = Hold(*this, HoldKind::Lease);
            lease.channel = std::move(*channel);
            lease.generation = generation_;
            lease.control_path = control_path_;
            lease.reused = ready->reused;
            co_return lease;
        }
        if (shutting_down_ || services_.clock.now() >= patience.deadline) {
            co_return shutting_down_ ? stopping() : lost();
        }
    }
}

asio::awaitable<Result<Connection::Lease>> Connection::lease_again(Lease refused, Want want,
                                                                   ChannelBudget::Patience patience) {
    if (refused.channel.budget() == channels_.get() && has_master()) {
        auto channel = co_await ChannelBudget::refused(std::move(refused.channel), patience);
        if (channel && refused.generation == generation_ && has_master()) {
            refused.channel = std::move(*channel);
            co_return std::move(refused);
        }
        if (!channel && channel.error().kind != ErrorKind::MasterLost) {
            co_return std::move(channel).error();
        }
    }
    refused = Lease();
    co_return co_await lease_in_turn(std::move(want), ChannelBudget::Turn::First, patience);
}

asio::awaitable<Result<Connection::OpenChannel>> Connection::open_channel(const Lease& lease, std::string command,
                                                                          Instant deadline) {
    OpenChannel open;
    open.master = master_;
    if (open.master == nullptr || lease.generation != generation_) {
        co_return lost();
    }
    auto channel = co_await open.master->open_channel(std::move(command), deadline);
    if (!channel) {
        co_return std::move(channel).error();
    }
    open.channel = std::move(*channel);
    co_return open;
}

}  // namespace cmssh
