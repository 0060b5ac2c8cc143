#include "daemon/pool/connection_machine.hpp"

#include <algorithm>

namespace cmssh {
namespace {

// A master that dies sooner counts as a failed attempt; one that lives longer than the other clears what went before.
constexpr Duration kYoung = std::chrono::seconds(10);
constexpr Duration kHealthy = std::chrono::minutes(1);

template <typename... Handlers>
struct Overloaded : Handlers... {
    using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

bool needs_a_person(ErrorKind kind) {
    return kind == ErrorKind::NeedsAuth || kind == ErrorKind::AuthFailed || kind == ErrorKind::HostKeyUnknown ||
           kind == ErrorKind::HostKeyChanged;
}

ConnectionMachine::Action ConnectionMachine::on(const Event& event, const MachineSettings& settings, Instant now,
                                                double unit_random) {
    return std::visit(
        Overloaded{
            [&](const Wanted&) {
                const Action action = on_wanted();
                if (action == Action::LogIn) {
                    enter(State::Connecting, now);
                }
                return action;
            },
            [&](const LoggedIn& login) {
                if (state_ != State::Connecting) {
                    // Disconnected while the login ran.
                    ending_ = true;
                    return Action::EndMaster;
                }
                handshakes_ += login.adopted ? 0 : 1;
                reconnects_ += was_up_ ? 1 : 0;
                was_up_ = true;
                up_at_ = now;
                failed_probes_ = 0;
                enter(State::Up, now);
                update_linger(settings, now);
                return Action::None;
            },
            [&](const LoginFailed& failure) { return on_login_failed(failure.kind, settings, now, unit_random); },
            [&](const MasterDied&) { return on_master_died(settings, now, unit_random); },
            [&](const ProbeAnswered&) {
                failed_probes_ = 0;
                if (state_ == State::Degraded) {
                    change_health(State::Up, now);
                }
                return Action::None;
            },
            [&](const ProbeFailed&) {
                ++failed_probes_;
                if (state_ == State::Up && failed_probes_ >= settings.unhealthy_after) {
                    change_health(State::Degraded, now);
                }
                return Action::None;
            },
            [&](const RefsChanged& refs) { return on_refs(refs, settings, now); },
            [&](const DisconnectAsked& asked) {
                switch (state_) {
                    case State::Up:
                    case State::Degraded:
                    case State::Draining:
                        if (state_ != State::Draining) {
                            enter(State::Draining, now);
                        }
                        if ((asked.force || leases_ == 0) && !ending_) {
                            ending_ = true;
                            return Action::EndMaster;
                        }
                        return Action::None;
                    case State::Connecting:
                    case State::Backoff:
                    case State::NeedsAuth:
                    case State::Failed:
                    case State::Idle:
                        break;
                }
                was_up_ = false;
                failures_ = 0;
                enter(State::Idle, now);
                return Action::None;
            },
            [&](const TimeCame&) { return on_time(now); },
        },
        event);
}

ConnectionMachine::Action ConnectionMachine::on_wanted() {
    switch (state_) {
        case State::Idle:
        case State::Backoff:
        case State::NeedsAuth:
        case State::Failed:
            return Action::LogIn;
        case State::Connecting:
        case State::Up:
        case State::Degraded:
        case State::Draining:
            return Action::None;
    }
    return Action::None;
}

ConnectionMachine::Action ConnectionMachine::on_login_failed(ErrorKind kind, const MachineSettings& settings,
                                                             Instant now, double unit_random) {
    if (state_ != State::Connecting) {
        return Action::None;
    }
    ++failures_;
    if (kind == ErrorKind::NeedsAuth) {
        enter(State::NeedsAuth, now);
    } else if (((was_up_ && refs_ > 0) || pinned_) && !needs_a_person(kind)) {
        back_off(settings, now, unit_random);
    } else {
        enter(State::Failed, now);
    }
    return Action::None;
}

ConnectionMachine::Action ConnectionMachine::on_master_died(const MachineSettings& settings, Instant now,
                                                            double unit_random) {
    const bool asked_for = state_ == State::Draining;
    ending_ = false;
    if (state_ != State::Up && state_ != State::Degraded && !asked_for) {
        return Action::None;
    }
    if (asked_for || !needed()) {
        was_up_ = false;
        failures_ = 0;
        enter(State::Idle, now);
        return Action::None;
    }
    const Duration lived = now - up_at_;
    if (lived < kYoung) {
        ++failures_;
    } else if (lived >= kHealthy) {
        failures_ = 0;
    }
    back_off(settings, now, unit_random);
    return Action::None;
}

ConnectionMachine::Action ConnectionMachine::on_refs(const RefsChanged& event, const MachineSettings& settings,
                                                     Instant now) {
    const bool was_needed = needed();
    refs_ = event.refs;
    leases_ = event.leases;
    switch (state_) {
        case State::Up:
        case State::Degraded:
            if (was_needed != needed()) {
                update_linger(settings, now);
            }
            return Action::None;
        case State::Draining:
            if (leases_ == 0 && !ending_) {
                ending_ = true;
                return Action::EndMaster;
            }
            return Action::None;
        case State::Backoff:
            if (!needed()) {
                was_up_ = false;
                failures_ = 0;
                enter(State::Idle, now);
            }
            return Action::None;
        case State::Connecting:
        case State::NeedsAuth:
        case State::Failed:
        case State::Idle:
            return Action::None;
    }
    return Action::None;
}

ConnectionMachine::Action ConnectionMachine::on_time(Instant now) {
    if (!deadline_ || now < *deadline_) {
        return Action::None;
    }
    switch (state_) {
        case State::Backoff:
            enter(State::Connecting, now);
            return Action::LogIn;
        case State::Up:
        case State::Degraded:
            enter(State::Draining, now);
            ending_ = true;
            return Action::EndMaster;
        case State::Connecting:
        case State::Draining:
        case State::NeedsAuth:
        case State::Failed:
        case State::Idle:
            deadline_.reset();
            return Action::None;
    }
    return Action::None;
}

void ConnectionMachine::enter(State state, Instant now) {
    state_ = state;
    since_ = now;
    deadline_.reset();
}

void ConnectionMachine::change_health(State state, Instant now) {
    const auto linger = deadline_;
    enter(state, now);
    deadline_ = linger;
}

void ConnectionMachine::update_linger(const MachineSettings& settings, Instant now) {
    if (needed() || !settings.linger) {
        deadline_.reset();
    } else {
        deadline_ = now + *settings.linger;
    }
}

void ConnectionMachine::back_off(const MachineSettings& settings, Instant now, double unit_random) {
    enter(State::Backoff, now);
    deadline_ = now + backoff_delay(settings.backoff, failures_, unit_random);
}

}  // namespace cmssh
