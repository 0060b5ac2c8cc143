// The pool's entry for one server: carries out what ConnectionMachine decides. Owns the master and the tmux channel;
// hands out Holds, which are its refs. The pool may forget one that nobody holds or uses.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/config.hpp"
#include "daemon/base/event.hpp"
#include "daemon/base/task_group.hpp"
#include "daemon/pool/channel_budget.hpp"
#include "daemon/pool/connect_slots.hpp"
#include "daemon/pool/connection_machine.hpp"
#include "daemon/pool/rtt.hpp"
#include "daemon/pool/spare_session.hpp"
#include "daemon/pool/stored_connection.hpp"
#include "daemon/ssh/identity.hpp"
#include "daemon/ssh/master.hpp"
#include "daemon/tmux/tmux_channel.hpp"
#include "protocol/methods.hpp"

namespace cmssh {

class Connection;

// What a connection tells the sessions on it, and who keeps what a later daemon needs.
class ConnectionObserver {
public:
    virtual ~ConnectionObserver() = default;
    // The server's tmux can be asked (again).
    virtual void on_reachable(Connection& connection) = 0;
    virtual void on_unreachable(Connection& connection) = 0;
    virtual void on_notification(Connection& connection, const tmux::Notification& notification) = 0;
    // It has a master, by a login or one that was there: stored() is good for taking it over later.
    virtual void on_master(Connection& /*connection*/) {}
    // Held, and of those that no daemon logs in to by itself from now on: stored() says so, and why.
    virtual void on_held_back(Connection& /*connection*/) {}
    // Nobody holds it any more, and it has no master and makes none. Not where the daemon stops.
    virtual void on_no_master(Connection& /*connection*/) {}
    // A master is given up that still has leases: who is on it had better come again.
    virtual void on_doubted(Connection& /*connection*/, std::uint64_t /*generation*/) {}
};

class ConnectionUse;

// What every connection of a pool needs; outlives them.
struct ConnectionServices {
    asio::any_io_executor executor;
    Clock& clock;
    const Config& config;
    MasterLauncher& launcher;
    ConnectSlots& slots;
    ConnectionObserver& observer;
    std::string owner;  // tmux::Ownership
    std::function<double()> unit_random;
    // The connection to another server that one is reached over. Not set: ssh goes there by itself.
    std::function<asio::awaitable<Result<ConnectionUse>>(SshRoute route)> find_hop = {};
    // Something about a connection may have changed that the API shows.
    std::function<void(const std::string& key)> on_changed = {};
    std::function<void()> on_active = {};  // set by the pool: some connection has become active()
    std::function<void()> on_failed = {};  // set by the pool: some connection is without a master until it is asked for
    std::string runtime_dir = {};          // set by the pool: where masters that are not shared listen
};

// The server as the API shows it.
[[nodiscard]] api::Server describe(const ServerKey& key);

enum class HoldKind { Session, Lease };

// One ref, given back by its destructor.
class Hold {
public:
    Hold() = default;
    Hold(Connection& connection, HoldKind kind);
    ~Hold();
    Hold(Hold&& other) noexcept
        : connection_(std::exchange(other.connection_, nullptr)), kind_(other.kind_), generation_(other.generation_) {}
    Hold& operator=(Hold&& other) noexcept;

    explicit operator bool() const { return connection_ != nullptr; }

private:
    Connection* connection_ = nullptr;
    HoldKind kind_ = HoldKind::Session;
    std::uint64_t generation_ = 0;  // of the master that a lease is on
};

// Keeps the pool from forgetting a connection while a coroutine is at it. No ref: it does not keep the master.
class ConnectionUse {
public:
    ConnectionUse() = default;
    explicit ConnectionUse(Connection& connection);
    ~ConnectionUse();
    ConnectionUse(ConnectionUse&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}
    ConnectionUse& operator=(ConnectionUse&& other) noexcept;

    explicit operator bool() const { return connection_ != nullptr; }
    Connection* operator->() const { return connection_; }
    Connection& operator*() const { return *connection_; }

private:
    Connection* connection_ = nullptr;
};

// A master beside the shared one, which ends with this. Declared behind what holds the connection.
class OwnMaster {
public:
    OwnMaster() = default;
    OwnMaster(Connection& connection, std::shared_ptr<Master> master)
        : connection_(&connection), master_(std::move(master)) {}
    ~OwnMaster();
    OwnMaster(OwnMaster&& other) noexcept
        : connection_(std::exchange(other.connection_, nullptr)), master_(std::move(other.master_)) {}
    OwnMaster& operator=(OwnMaster&& other) noexcept;

    explicit operator bool() const { return connection_ != nullptr; }

private:
    Connection* connection_ = nullptr;
    std::shared_ptr<Master> master_;  // shared with its connection
};

// Who awaits one of its calls holds it or uses it meanwhile.
class Connection {
public:
    Connection(ConnectionServices& services, ServerKey key, std::string control_path, bool pinned);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // The route and dump of the latest resolution: what the next login uses.
    void set_route(SshRoute route, SshConfigDump dump);
    // What a caller named it, for hints.
    void set_ctx(std::string ctx) { ctx_ = std::move(ctx); }
    // A configured context leads to it: it is shown however it fares.
    void set_configured() { configured_ = true; }
    // Kept without refs from now on.
    void pin() { feed(ConnectionMachine::Pinned{.on = true}); }
    // It goes as any other from now on, and so does its spare session.
    void unpin();

    struct Want {
        std::optional<std::string> auth_sock;
        std::function<void(std::string_view phase)> progress;  // only while a login is waited for
        // Whom ssh may ask; nullptr: nobody is there. Cancelled where they gave up or are gone.
        std::shared_ptr<Person> person = nullptr;  // shared with the login's questions
        bool tmux = true;  // false: not for sessions of ours, such as a plain ssh to a git server
    };
    struct Ready {
        bool reused = true;      // false: this call's need made the login
        bool logged_in = false;  // a login was made, or waited for
    };
    // Up, with a master. Joins a login under way; otherwise makes one and fails with its error. With a person: a login
    // that failed because nobody could be asked is made once more.
    asio::awaitable<Result<Ready>> ensure_up(Want want);
    // Up, with an open tmux channel. The channel is good until the next co_await.
    struct ReadyTmux {
        TmuxChannel* channel = nullptr;
        bool reused = true;
    };
    asio::awaitable<Result<ReadyTmux>> ensure_tmux(Want want);
    // A lease, with a channel on the master that listens at control_path.
    struct Lease {
        Hold hold;
        ChannelBudget::Slot channel;
        OwnMaster own;
        std::uint64_t generation = 0;  // of the shared master
        std::string control_path;
        bool reused = false;
    };
    // Up, with a channel free: waits for one, first come first served, until the deadline.
    asio::awaitable<Result<Lease>> lease(Want want, ChannelBudget::Patience patience);
    // Up. The lease has no channel: for what opens no session on the server.
    asio::awaitable<Result<Lease>> lease_without_channel(Want want);
    // Up. A lease with a master of its own, for what would slow down everybody who shares one. As lease() where the
    // server takes no second login without a person.
    asio::awaitable<Result<Lease>> lease_own_master(Want want, ChannelBudget::Patience patience);
    // Why it is of no use to a plain ssh that can as well log in itself: it is not sound, or would be tried too soon
    // after it failed, without a person who could answer. nullopt: it is, or may be.
    [[nodiscard]] std::optional<Error> why_not_in_passing(bool with_a_person) const;
    // The server refused the lease's channel: the same lease again, on another try or another place in line.
    asio::awaitable<Result<Lease>> lease_again(Lease refused, Want want, ChannelBudget::Patience patience);
    // A command line on the lease's channel. Errors of Master::open_channel; MasterLost where its master is not the
    // present one any more.
    struct OpenChannel {
        std::shared_ptr<Master> master;  // shared with its connection: the channel must not outlive it
        std::unique_ptr<Channel> channel;
    };
    asio::awaitable<Result<OpenChannel>> open_channel(const Lease& lease, std::string command, Instant deadline);
    // nullptr while there is none.
    [[nodiscard]] TmuxChannel* tmux() const;
    [[nodiscard]] SpareSession& spare() { return spare_; }
    // For a prewarmed connection: SpareSession::keep(true).
    void keep_spare();
    // spare().pid(); one that was made with other settings is let go of.
    [[nodiscard]] std::optional<std::int64_t> spare_pid();
    // Tells what a person who attaches to the newest session expects.
    void note_started(const std::string& session_id);
    // A command line on a channel of its own, one at a time and before those who wait for a lease. MasterLost where
    // there is no master.
    asio::awaitable<Result<RemoteOutput>> run(std::string command, Instant deadline);

    // Takes over the master that an earlier daemon left at this path, without a login. Where there is none: reconnects
    // by and by if it is held or pinned, under the rules of backoff, else goes idle. Where it is held back, it waits as
    // it did for the earlier daemon. Nothing where the connection is wanted already. true: a master was found, and
    // open_restored_tmux() is next.
    asio::awaitable<bool> restore(StoredConnection stored);
    asio::awaitable<void> open_restored_tmux();
    // What restore() needs.
    [[nodiscard]] StoredConnection stored() const;

    // Both levels, now. What is not up is not brought up, but a master that is there already is adopted.
    asio::awaitable<void> check();
    // The machine has slept: whether the path is still there is asked at once.
    void wake_up();
    // Gives up a login under way. Returns once the master is gone, and those that stepped aside, or, without force,
    // when the leases did not end within the deadline (Timeout). Who wants the server meanwhile gets a new master at
    // once.
    asio::awaitable<Result<void>> disconnect(bool force, Instant deadline);
    // Its master goes over that one's, or its login waits for that one.
    [[nodiscard]] bool goes_over(const Connection& other) const;
    // Lets go of the masters that stepped aside: who is on one keeps it, and it ends with the last of them by itself.
    void leave_retired();
    // Lets go of the master and ends every wait; the process and its sessions live on.
    void request_stop();
    asio::awaitable<void> shut_down();

    [[nodiscard]] const ServerKey& key() const { return key_; }
    [[nodiscard]] const std::string& key_text() const { return key_text_; }
    [[nodiscard]] const std::string& control_path() const { return control_path_; }
    [[nodiscard]] tmux::Ownership ownership() const { return {services_.owner, key_text_}; }
    // That takes new work; nullptr: there is none, or it is to go.
    [[nodiscard]] std::shared_ptr<Master> master() const;
    // Notified whenever its state, its master or its refs have changed.
    [[nodiscard]] Event& changed() { return changed_; }
    [[nodiscard]] ConnectionMachine::State state() const { return machine_.state(); }
    [[nodiscard]] const std::optional<api::LastError>& last_error() const { return last_error_; }
    [[nodiscard]] bool has_master() const { return master_ != nullptr && !master_->dead(); }
    [[nodiscard]] std::size_t masters() const { return (has_master() ? 1U : 0U) + own_masters_.size(); }
    // It has a master, or will have one without being asked.
    [[nodiscard]] bool active() const;
    [[nodiscard]] bool busy() const { return refs() > 0 || users_ > 0 || tasks_.size() > kOwnTasks; }
    // It has failed, never had a master, and no configured context leads to it: a name that was mistyped, maybe.
    [[nodiscard]] bool never_reached() const;
    [[nodiscard]] Instant since() const { return machine_.since(); }
    [[nodiscard]] api::Server server() const { return cmssh::describe(key_); }
    [[nodiscard]] api::Connection describe() const;
    [[nodiscard]] int refs() const { return sessions_ + leases_; }
    [[nodiscard]] std::uint64_t handshakes() const { return machine_.handshakes() + own_logins_; }
    [[nodiscard]] std::uint64_t reused_count() const { return reused_count_; }
    // Who was counted has logged in by itself.
    void take_back_reuse() { --reused_count_; }

private:
    friend class Hold;
    friend class ConnectionUse;
    friend class OwnMaster;

    // One login, from the wish for it to its outcome. Shared by the task that makes it and the calls that wait for it.
    struct Login {
        std::optional<std::string> auth_sock;
        std::string phase = "queued";
        std::shared_ptr<LoginInterrupt> interrupt = std::make_shared<LoginInterrupt>();
        std::shared_ptr<LoginQuestions> questions;  // null: nobody is asked
        std::optional<ConnectSlots::Slot> slot;     // until it is over, or waits for a person
        std::optional<std::string> restore_path;    // set: only a master that listens there is wanted
        bool tmux = true;                           // the channel to the server's tmux is opened with it
        bool adopted = false;                       // it needed none: a master was there
        bool asked = false;                         // a person
        std::optional<Error> error;                 // why it brought no master; set from outside where it was given up
    };
    using LoginPtr = std::shared_ptr<Login>;

    // SIGTERM, then SIGKILL: a master that is told to go is gone by then.
    static constexpr Duration kEndGrace = std::chrono::seconds(3);
    // For one that does not answer: enough to end a stopped one well, and not worth waiting for longer.
    static constexpr Duration kKillGrace = std::chrono::milliseconds(200);

    // The connection that a master goes through, held as long as the master lives. Empty: it goes by itself.
    struct Hop {
        ConnectionUse connection;
        Lease lease;
        std::string host;  // as the destination is written

        [[nodiscard]] bool lost() const {
            return !connection->has_master() || connection->generation_ != lease.generation;
        }
    };

    // A master that stepped aside for the next, with the leases on it. Ended when it is empty.
    struct Retired {
        std::shared_ptr<Master> master;  // shared with the task that watches for its death
        std::optional<Hop> hop = {};
        std::uint64_t generation = 0;
        int leases = 0;
        bool listens = true;  // its control path is not free yet
    };

    // A master that is not shared.
    struct Own {
        std::shared_ptr<Master> master;  // shared with its lease and the task that watches for its death
        std::optional<Hop> hop = {};
        std::string control_path;
    };

    static constexpr std::size_t kOwnTasks = 2;  // they run as long as it does

    void feed(const ConnectionMachine::Event& event);
    void act(ConnectionMachine::Action action);
    void tell_use();
    [[nodiscard]] std::string held_back_for() const;
    [[nodiscard]] ConnectionMachine::State shown_state() const;
    void tell_changed() const;
    [[nodiscard]] std::shared_ptr<ChannelBudget> new_budget() const;
    void change_refs(HoldKind kind, std::uint64_t generation, int by);
    void change_leases(std::uint64_t generation, int by);
    void set_phase(Login& login, std::string phase);
    void note_error(const Error& error);

    asio::awaitable<void> log_in(LoginPtr login);
    asio::awaitable<Result<void>> make_master(LoginPtr login);
    asio::awaitable<Result<void>> adopt_or_launch(LoginPtr login, std::optional<Hop> hop);
    asio::awaitable<Result<void>> find_master(LoginPtr login);
    void take_master(std::shared_ptr<Master> master, Login& login);
    [[nodiscard]] LoginPtr new_login();
    // For a login that waits for its answers in vain.
    [[nodiscard]] Error unanswered(LoginQuestions::GivenUp why) const;
    // In connection_hop.cpp.
    asio::awaitable<Result<std::optional<Hop>>> reach_hop(LoginPtr login);
    [[nodiscard]] static HopSocket hop_socket(const Hop& hop);
    asio::awaitable<void> hold_hop_again(std::shared_ptr<Master> master);
    // Waits for it, or for one that does.
    [[nodiscard]] bool waits_for(const Connection& other) const;
    [[nodiscard]] Error hop_failed(const std::string& hop, Error error) const;
    [[nodiscard]] LaunchRequest launch_request() const;
    // Whether the next master can come to it.
    [[nodiscard]] bool control_path_is_free() const;
    // Of an earlier daemon: nobody asked for it yet.
    asio::awaitable<bool> has_leftover_master();
    asio::awaitable<void> end_leftover_master();
    void give_up_login();
    [[nodiscard]] Error stopping() const;
    [[nodiscard]] Error lost() const;
    asio::awaitable<void> watch_master(std::shared_ptr<Master> master);
    asio::awaitable<void> end_master(std::shared_ptr<Master> master, Duration grace);
    void retire_master();
    asio::awaitable<void> retire(std::shared_ptr<Master> master);
    asio::awaitable<void> end_retired(std::shared_ptr<Master> master, Duration grace);
    void end_all_retired();
    // In connection_own.cpp.
    asio::awaitable<Result<void>> log_in_beside(const Want& want, Lease& lease);
    asio::awaitable<void> watch_own(std::shared_ptr<Master> master);
    void give_back(const Master& master);
    asio::awaitable<void> end_own(std::shared_ptr<Master> master);
    void end_all_own();
    void leave_own();
    void forget_own(const Master& master);
    [[nodiscard]] Retired* find_retired(const Master& master);
    void forget_retired(const Master& master);
    asio::awaitable<void> follow_deadline();
    [[nodiscard]] Instant next_probe() const;
    asio::awaitable<Result<void>> open_tmux(Instant deadline);
    [[nodiscard]] bool wants_tmux() const { return wants_tmux_ || sessions_ > 0; }
    // of_tmux: why its channel could not be opened.
    [[nodiscard]] bool others_have_the_channels(const Error& of_tmux) const;
    // Where others have all the channels, it gets the next.
    asio::awaitable<Result<void>> open_tmux_in_turn(Instant deadline);
    // Where the channel is missing and sessions are on it: tries until it is open, or not needed any more.
    void reopen_tmux_later();
    asio::awaitable<void> reopen_tmux();
    // One probe at a time: what is asked for meanwhile is the next one, shared by all who ask.
    void begin_probe();
    // due: when it should have begun, from when on silence counts.
    asio::awaitable<void> probe(bool thorough, Instant due);
    // The round trip, where it is measured.
    asio::awaitable<Result<std::optional<Duration>>> probe_path(bool thorough, Instant deadline);
    [[nodiscard]] bool opening_tmux() const { return opening_tmux_on_ != nullptr && opening_tmux_on_ == master_.get(); }
    [[nodiscard]] bool running_command() const {
        return running_command_on_ != nullptr && running_command_on_ == master_.get();
    }
    asio::awaitable<std::optional<std::int64_t>> make_spare();
    asio::awaitable<void> remove_spare();
    void drop_tmux();
    asio::awaitable<void> bury(std::unique_ptr<TmuxChannel> channel);
    asio::awaitable<Result<Ready>> ensure_master(Want want);
    asio::awaitable<Result<Lease>> lease_in_turn(Want want, ChannelBudget::Turn turn, ChannelBudget::Patience patience);
    asio::awaitable<Result<Ready>> wait_for_login(LoginPtr login, Want& want, bool ours);
    // A login that found no tmux is not left behind, unless somebody wanted the connection itself.
    void end_if_useless();
    [[nodiscard]] MachineSettings settings() const;
    [[nodiscard]] Instant connect_deadline() const;

    ConnectionServices& services_;
    ServerKey key_;
    std::string key_text_;
    std::string control_path_;
    SshRoute route_;
    SshConfigDump dump_;
    std::string ctx_;
    bool configured_ = false;
    ConnectionMachine machine_;
    std::shared_ptr<Master> master_;               // shared with the task that watches for its death
    std::optional<Hop> hop_;                       // of the master
    std::vector<const Connection*> awaited_hops_;  // of logins that wait for them
    std::shared_ptr<ChannelBudget> channels_;      // of the master, or of the last one
    std::unique_ptr<TmuxChannel> tmux_;
    // What a channel is being opened on: it may hang on one that has stepped aside, which holds up no other.
    const Master* opening_tmux_on_ = nullptr;
    const Master* running_command_on_ = nullptr;
    bool reopening_tmux_ = false;
    SpareSession spare_;
    SessionsConfig spare_made_with_;
    std::deque<std::string> newest_sessions_;  // the newest first
    std::vector<Retired> retired_;
    std::vector<Own> own_masters_;
    std::uint64_t own_logins_ = 0;
    bool only_shared_ = false;      // a second login beside the shared master would need a person, or was refused
    std::uint64_t generation_ = 1;  // of the master, or of the next one
    std::string held_back_told_;    // what for; empty: it is not
    bool in_use_ = false;           // of what on_no_master() tells the end
    bool reached_ = false;          // it had a master
    bool served_ = false;           // the master has been of use to somebody
    std::optional<std::string> restore_path_;      // for the restore that is asked for
    LoginPtr login_;                               // the one that is wanted: set while the state is connecting
    bool launching_ = false;                       // one that was given up may still be at its end
    std::optional<std::string> wanted_auth_sock_;  // of the call that wants the next login
    bool wanted_questions_ = false;                // it has a person
    std::optional<std::string> good_auth_sock_;    // of the last login that worked; in memory only
    std::optional<Error> tmux_error_;              // of the last try to open the channel
    Instant tmux_tried_at_{};                      // by itself
    bool wants_tmux_ = false;                      // somebody who did not come for the connection alone
    int sessions_ = 0;
    int leases_ = 0;
    int present_leases_ = 0;  // of these, on the present master or waiting for one
    int users_ = 0;
    int waiting_ = 0;  // calls in ensure_master()
    bool probing_ = false;
    std::uint64_t probes_begun_ = 0;
    std::uint64_t probes_ended_ = 0;
    std::uint64_t reused_count_ = 0;
    RttWindow rtt_;
    std::uint64_t probes_ok_ = 0;
    std::uint64_t probes_failed_ = 0;
    std::optional<std::int64_t> probed_at_ms_;
    std::optional<api::LastError> last_error_;
    std::int64_t since_ms_ = 0;
    std::optional<Instant> master_since_;
    bool shutting_down_ = false;
    Event changed_;
    Event deadline_changed_;
    TaskGroup tasks_;
};

}  // namespace cmssh
