// The life of one connection as a pure state machine: events in, at most one action out, time and randomness passed in.
// It decides; daemon/pool/connection.cpp acts. Refs are what keeps a connection: sessions not ended, and leases.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "daemon/base/clock.hpp"
#include "daemon/pool/backoff.hpp"
#include "protocol/errors.hpp"
#include "protocol/methods.hpp"

namespace cmssh {

struct MachineSettings {
    std::optional<Duration> linger;  // nullopt: for ever
    BackoffLimits backoff;
    Duration health_interval = std::chrono::seconds(15);
    int unhealthy_after = 2;
};

// What a probe asks: the ssh process, or the server through it.
enum class ProbeLevel { Process, Path };

// Until the next probe. Jitter only shortens it, by a fifth at most: what is up together is not probed together for
// ever.
[[nodiscard]] Duration probe_delay(Duration interval, double unit_random);

class ConnectionMachine {
public:
    using State = api::ConnectionState;

    // Events.
    struct Wanted {};  // a call needs the server
    struct LoggedIn {
        bool adopted = false;
        bool restored = false;  // by Restore: nothing was lost, so it is no reconnect
    };
    struct LoginFailed {
        ErrorKind kind = ErrorKind::ConnectFailed;
    };
    struct MasterDied {};
    struct ProbeBegan {};  // on time, or before it
    struct ProbeAnswered {};
    struct ProbeFailed {
        ProbeLevel level = ProbeLevel::Path;  // the lowest that failed
    };
    struct WokeUp {};      // the machine slept meanwhile
    struct RestoreAsked {  // an earlier daemon had a master here
        bool held_back = false;
        State held_in = State::Idle;  // where it then waits: with an error, or without
    };
    struct NothingToRestore {};
    struct RefsChanged {
        int refs = 0;    // all of them
        int leases = 0;  // of these, on the present master
    };
    struct Pinned {
        bool on = true;  // kept without refs from now on; or no more
    };
    struct DisconnectAsked {
        bool force = false;
    };
    struct TimeCame {};  // deadline() was reached
    using Event = std::variant<Wanted, LoggedIn, LoginFailed, MasterDied, ProbeBegan, ProbeAnswered, ProbeFailed,
                               WokeUp, RestoreAsked, NothingToRestore, RefsChanged, Pinned, DisconnectAsked, TimeCame>;

    enum class Action {
        None,
        LogIn,
        Restore,        // look for the master of an earlier daemon: LoggedIn or NothingToRestore is to follow
        EndMaster,      // MasterDied is to follow
        KillMaster,     // the same for one that does not answer
        RetireMaster,   // it steps aside with who is on it, and is no longer the machine's: no MasterDied
        ReplaceMaster,  // RetireMaster, then LogIn
    };

    // pinned: a prewarmed connection, kept without refs.
    ConnectionMachine(Instant now, bool pinned) : since_(now), pinned_(pinned) {}

    // unit_random: in [0, 1), for the jitter of a retry.
    [[nodiscard]] Action on(const Event& event, const MachineSettings& settings, Instant now, double unit_random);

    [[nodiscard]] State state() const { return state_; }
    // Its master was told to end: MasterDied is to come.
    [[nodiscard]] bool ending() const { return ending_; }
    // It waits for a call, whatever needs it: a person is needed for the next login, or has disconnected it.
    [[nodiscard]] bool held_back() const { return held_back_; }
    [[nodiscard]] Instant since() const { return since_; }
    // When TimeCame is due: the end of the linger (up) or the next attempt (backoff).
    [[nodiscard]] std::optional<Instant> deadline() const { return deadline_; }
    // When the next probe is due; nullopt: there is nothing to be probed.
    [[nodiscard]] std::optional<Instant> probe_at() const;
    [[nodiscard]] std::uint64_t handshakes() const { return handshakes_; }
    [[nodiscard]] std::uint64_t reconnects() const { return reconnects_; }

private:
    Action on_wanted();
    Action on_login_failed(ErrorKind kind, const MachineSettings& settings, Instant now, double unit_random);
    Action on_master_died(const MachineSettings& settings, Instant now, double unit_random);
    Action on_probe_failed(ProbeLevel level, const MachineSettings& settings, Instant now, double unit_random);
    void on_wake_up(const MachineSettings& settings, Instant now, double unit_random);
    Action on_nothing_to_restore(const MachineSettings& settings, Instant now, double unit_random);
    Action on_refs(const RefsChanged& event, const MachineSettings& settings, Instant now);
    Action on_pinned(const Pinned& event, const MachineSettings& settings, Instant now);
    Action after_change_of_need(bool was_needed, const MachineSettings& settings, Instant now);
    Action on_time(Instant now);

    void enter(State state, Instant now);
    void change_health(State state, Instant now);  // the linger runs on
    void update_linger(const MachineSettings& settings, Instant now);
    void back_off(const MachineSettings& settings, int failures, Instant now, double unit_random);
    // For a master that was up.
    void back_off_after_loss(const MachineSettings& settings, Instant now, double unit_random);
    [[nodiscard]] bool has_master() const {
        return state_ == State::Up || state_ == State::Degraded || state_ == State::Draining;
    }
    [[nodiscard]] bool needed() const { return refs_ > 0 || pinned_; }

    State state_ = State::Idle;
    Instant since_;
    std::optional<Instant> deadline_;
    Instant probe_at_{};
    bool pinned_;
    int refs_ = 0;
    int leases_ = 0;
    bool ending_ = false;  // EndMaster or KillMaster was asked for
    bool held_back_ = false;
    State held_in_ = State::Idle;  // of a restore
    bool was_up_ = false;          // since the last idle: the next login is a reconnect
    Instant up_at_{};
    int failures_ = 0;       // attempts in a row that failed, or died young
    int failed_probes_ = 0;  // in a row
    std::uint64_t handshakes_ = 0;
    std::uint64_t reconnects_ = 0;
};

// Kinds that the next attempt would meet again, and that a server punishes (sshd's PerSourcePenalties, fail2ban): a
// connection never retries these by itself.
[[nodiscard]] bool needs_a_person(ErrorKind kind);

}  // namespace cmssh
