#include "daemon/pool/connection_machine.hpp"

#include <algorithm>
#include <utility>

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

Duration probe_delay(Duration interval, double unit_random) {
    constexpr double kMostJitter = 0.2;
    return std::chrono::duration_cast<Duration>(interval * (1.0 - kMostJitter * unit_random));
}

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
                if (action == Action::LogIn || action == Action::ReplaceMaster) {
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
                reconnects_ += was_up_ && !login.restored ? 1 : 0;
                was_up_ = true;
                held_back_ = false;
                up_at_ = now;
                failed_probes_ = 0;
                probe_at_ = now + probe_delay(settings.health_interval, unit_random);
                enter(State::Up, now);
                update_linger(settings, now);
                return Action::None;
            },
            [&](const LoginFailed& failure) { return on_login_failed(failure.kind, settings, now, unit_random); },
            [&](const MasterDied&) { return on_master_died(settings, now, unit_random); },
            [&](const ProbeBegan&) {
                // After a failure one may begin late, where the timeout is longer than the interval: the silence
                // meanwhile counts as if each had begun on time.
                const Instant base = failed_probes_ > 0 ? std::min(probe_at_, now) : now;
                probe_at_ = base + probe_delay(settings.health_interval, unit_random);
                return Action::None;
            },
            [&](const ProbeAnswered&) {
                failed_probes_ = 0;
                if (state_ == State::Degraded && !ending_) {
                    change_health(State::Up, now);
                }
                return Action::None;
            },
            [&](const ProbeFailed& probe) { return on_probe_failed(probe.level, settings, now, unit_random); },
            [&](const WokeUp&) {
                on_wake_up(settings, now, unit_random);
                return Action::None;
            },
            [&](const RestoreAsked& asked) {
                if (state_ != State::Idle) {
                    return Action::None;
                }
                held_back_ = asked.held_back;
                held_in_ = asked.held_in;
                enter(State::Connecting, now);
                return Action::Restore;
            },
            [&](const NothingToRestore&) { return on_nothing_to_restore(settings, now, unit_random); },
            [&](const RefsChanged& refs) { return on_refs(refs, settings, now); },
            [&](const Pinned& pinned) { return on_pinned(pinned, settings, now); },
            [&](const DisconnectAsked& asked) {
                held_back_ = true;
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
        case State::Draining:
            // Held up by leases: they keep that master, and new work does not wait for them.
            if (ending_) {
                return Action::None;
            }
            was_up_ = false;
            failures_ = 0;
            return Action::ReplaceMaster;
        case State::Connecting:
        case State::Up:
        case State::Degraded:
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
    held_back_ = needs_a_person(kind);
    if (kind == ErrorKind::NeedsAuth) {
        enter(State::NeedsAuth, now);
    } else if (((was_up_ && refs_ > 0) || pinned_) && !held_back_) {
        back_off(settings, failures_, now, unit_random);
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
    back_off_after_loss(settings, now, unit_random);
    return Action::None;
}

ConnectionMachine::Action ConnectionMachine::on_probe_failed(ProbeLevel level, const MachineSettings& settings,
                                                             Instant now, double unit_random) {
    if (!has_master() || ending_) {
        return Action::None;
    }
    ++failed_probes_;
    if (state_ == State::Up) {
        change_health(State::Degraded, now);
    }
    if (failed_probes_ < settings.unhealthy_after) {
        return Action::None;
    }
    if (level == ProbeLevel::Process) {
        // Nobody on it is served any more.
        ending_ = true;
        return Action::KillMaster;
    }
    if (state_ == State::Draining) {
        return Action::None;  // it goes with its leases, or by ssh's own keepalive
    }
    if (!needed()) {
        enter(State::Draining, now);
        ending_ = true;
        return Action::EndMaster;
    }
    back_off_after_loss(settings, now, unit_random);
    return Action::RetireMaster;
}

void ConnectionMachine::on_wake_up(const MachineSettings& settings, Instant now, double unit_random) {
    probe_at_ = now;
    if (state_ == State::Backoff) {
        // The network is likely to be another one than the failures were about.
        deadline_ = std::min(*deadline_, now + backoff_delay(settings.backoff, 0, unit_random));
    }
}

ConnectionMachine::Action ConnectionMachine::on_nothing_to_restore(const MachineSettings& settings, Instant now,
                                                                   double unit_random) {
    if (state_ != State::Connecting) {
        return Action::None;
    }
    if (needed() && !held_back_) {
        was_up_ = true;  // for the daemon before
        back_off(settings, failures_, now, unit_random);
    } else {
        enter(held_back_ ? held_in_ : State::Idle, now);
    }
    return Action::None;
}

ConnectionMachine::Action ConnectionMachine::on_refs(const RefsChanged& event, const MachineSettings& settings,
                                                     Instant now) {
    const bool was_needed = needed();
    refs_ = event.refs;
    leases_ = event.leases;
    return after_change_of_need(was_needed, settings, now);
}

ConnectionMachine::Action ConnectionMachine::on_pinned(const Pinned& event, const MachineSettings& settings,
                                                       Instant now) {
    const bool was_needed = needed();
    pinned_ = event.on;
    return after_change_of_need(was_needed, settings, now);
}

ConnectionMachine::Action ConnectionMachine::after_change_of_need(bool was_needed, const MachineSettings& settings,
                                                                  Instant now) {
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
            return std::exchange(ending_, true) ? Action::None : Action::EndMaster;
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

std::optional<Instant> ConnectionMachine::probe_at() const {
    return has_master() && !ending_ ? std::optional(probe_at_) : std::nullopt;
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

void ConnectionMachine::back_off_after_loss(const MachineSettings& settings, Instant now, double unit_random) {
    const Duration lived = now - up_at_;
    // What was up is retried at once, but for what never stays up; what failed before counts again where that fails.
    back_off(settings, lived < kYoung ? failures_ : 0, now, unit_random);
    if (lived < kYoung) {
        ++failures_;
    } else if (lived >= kHealthy) {
        failures_ = 0;
    }
}

void ConnectionMachine::back_off(const MachineSettings& settings, int failures, Instant now, double unit_random) {
    enter(State::Backoff, now);
    deadline_ = now + backoff_delay(settings.backoff, failures, unit_random);
}

}  // namespace cmssh
