// Sessions on servers: started, known, waited for and ended. What the server's tmux says is the truth; a record here
// follows it, and the registry remembers the record: before tmux is asked, after it answered, and before it is told to
// let go. Owns the records; uses the pool's connections, whose observer it is.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "daemon/base/task_group.hpp"
#include "daemon/pool/pool.hpp"
#include "daemon/session/contexts.hpp"
#include "daemon/session/reconcile.hpp"
#include "daemon/session/registry.hpp"
#include "daemon/session/screen_text.hpp"
#include "daemon/session/session_table.hpp"
#include "daemon/ssh/identity.hpp"
#include "daemon/tmux/tmux_scripts.hpp"

namespace cmssh {

// Who asks: where progress goes, and whether an answer is still wanted.
struct Caller {
    std::function<void(const std::string& ctx, const std::string& server, std::string_view phase)> progress;
    // Notified when the caller is gone; `gone` is then true.
    Event* gone_event = nullptr;
    const bool* gone = nullptr;
    bool wants_answer = true;  // false: it sent a notification, and may leave at once
    // Tells which calls come from one client; valid until the client is gone.
    const void* client = nullptr;
    // Notifications to that client, as long as it is there.
    std::function<void(std::string_view method, const JsonText& params)> notify;
};

// What a call wants of a connection: its progress goes to the caller, and so do ssh's questions where `interactive`
// says that a person is there and an answer could come.
[[nodiscard]] Connection::Want want_of(const Caller& caller, const std::string& ctx, const std::string& server_key,
                                       std::optional<std::string> auth_sock = std::nullopt, bool interactive = false);

// Masters that an earlier daemon left, by what lies in the runtime dir.
struct LeftMasters {
    std::vector<ServerKey> servers;
    std::set<std::string> unnamed;   // control paths that do not tell their server
    std::vector<std::string> names;  // contexts and aliases that may lead to one of these
};

class Sessions final : public ConnectionObserver {
public:
    Sessions(asio::any_io_executor executor, Clock& clock, const Config& config, IdentityResolver& resolver,
             Registry& registry);

    // Told of a master that is given up with leases on it.
    void set_on_doubted(std::function<void(Connection& connection, std::uint64_t generation)> listener) {
        on_doubted_ = std::move(listener);
    }
    // Told of each session whose state may have changed, or that is known or not known any more from now on.
    void set_on_changed(std::function<void(const std::string& id)> listener) { on_changed_ = std::move(listener); }
    // The pool's connections report to us, so it is made after us; set before the first call.
    void set_pool(Pool& pool) { pool_ = &pool; }
    // What else the registry keeps: taken from what it had, and put into it once more.
    struct Keeper {
        std::function<void(std::vector<StoredForward>)> restore;
        std::function<void()> put_all;
    };
    void set_keeper(Keeper keeper) { keeper_ = std::move(keeper); }

    asio::awaitable<Result<api::StartResult>> start(api::StartParams params, Caller caller);
    // The sessions are the table's: to be written before anything else is done.
    [[nodiscard]] api::ListedSessions list(const api::ListParams& params);
    [[nodiscard]] Result<api::SessionResult> get(const api::SessionParams& params) const;
    asio::awaitable<Result<api::KillResult>> kill(api::KillParams params, Caller caller);
    asio::awaitable<Result<api::SessionResult>> wait(api::WaitParams params, Caller caller);
    asio::awaitable<Result<api::LogsResult>> logs(api::LogsParams params, Caller caller);
    // Of calls for one session, each types all that it has before the next.
    asio::awaitable<Result<api::Empty>> send(api::SendParams params, Caller caller);

    // What an earlier daemon knew. Its masters are adopted, and servers with sessions are connected to.
    void restore(Registry::Contents contents);
    // Returns once it is known which of an earlier daemon's masters live, or at the deadline.
    asio::awaitable<void> wait_for_restore(Instant deadline);
    // Masters that listen in the runtime dir and that the registry did not have: taken over with the sessions on them.
    asio::awaitable<void> meet(LeftMasters left);
    // Keeps the registry, now and then: what could not be saved, what was lost with the file, what is found again.
    asio::awaitable<void> keep_registry();

    struct Found {
        ResolvedContext context;
        ConnectionUse connection;
        bool is_new = false;  // the pool had none
    };
    // The connection that a context leads to, made where there is none, not connected.
    asio::awaitable<Result<Found>> find_connection(std::optional<std::string> ctx);
    // The same for a plain ssh, where the daemon's would do what that ssh does (SshConfigDump::settings); InvalidParams
    // where it would not.
    asio::awaitable<Result<Found>> find_connection_like(std::string ctx, std::string settings);
    // That of a server on the way to another, by no context.
    asio::awaitable<Result<ConnectionUse>> find_hop(SshRoute route);
    // The one that has, or had, its master there; nullptr: none.
    [[nodiscard]] Connection* connection_at(const std::string& control_path) const;
    // nullptr: it is not known.
    [[nodiscard]] Connection* connection_of(const std::string& key_text) const { return pool_->find(key_text); }

    struct FoundSession {
        Found server;
        api::Session view;
    };
    // A session that runs, and its server, whose tmux can be asked. SessionEnded for one that has ended.
    asio::awaitable<Result<FoundSession>> find_running(std::string word, std::optional<std::string> auth_sock,
                                                       bool interactive, Caller caller);

    [[nodiscard]] const SessionTable& table() const { return table_; }
    // Every wait ends with ShuttingDown.
    void request_stop();
    // After request_stop(), when nobody calls any more.
    asio::awaitable<void> shut_down();

    void on_reachable(Connection& connection) override;
    void on_unreachable(Connection& connection) override;
    void on_notification(Connection& connection, const tmux::Notification& notification) override;
    void on_master(Connection& connection) override;
    void on_held_back(Connection& connection) override { on_master(connection); }
    void on_no_master(Connection& connection) override;
    void on_doubted(Connection& connection, std::uint64_t generation) override {
        if (on_doubted_) {
            on_doubted_(connection, generation);
        }
    }

private:
    using RecordPtr = SessionTable::RecordPtr;

    // One scan of a server's panes at a time; what is asked for meanwhile is done right after.
    struct Scan {
        bool running = false;
        bool again = false;
        bool everything = false;
    };
    // What somebody waits for to change: asked about a few times a second, once for all who wait.
    struct Watch {
        explicit Watch(Clock& clock) : nudge(clock) {}
        int followers = 0;
        bool running = false;
        Instant wanted_until{};
        std::optional<tmux::PaneState> state;  // the last one
        std::uint64_t changes = 0;             // of the state, each told by the record's event
        // The last cursors that were given out, and how many changes were known by then: who comes back with one has
        // to wait for the next.
        std::deque<std::pair<std::string, std::uint64_t>> given;
        Event nudge;
    };
    class Follower;
    struct Leftovers {
        std::vector<tmux::Leftover> sessions;
        bool under_way = false;
    };

    asio::awaitable<Result<Found>> find_connection_of(ResolvedContext context, std::optional<std::string> settings);
    [[nodiscard]] Result<void> check_start(const api::StartParams& params) const;
    [[nodiscard]] RecordPtr make_record(const api::StartParams& params, const Found& found);
    enum class Tried { Never, Before };  // whether tmux may have been asked for it already
    asio::awaitable<Result<api::StartResult>> start_record(RecordPtr record, const api::StartParams& params,
                                                           std::map<std::string, std::string> env, Tried tried,
                                                           Caller caller);
    asio::awaitable<Result<api::StartResult>> repeated_start(RecordPtr record, api::StartParams params, Caller caller);
    asio::awaitable<Result<api::StartResult>> start_again(RecordPtr record, api::StartParams params, Caller caller);
    asio::awaitable<Result<api::StartResult>> start_on(RecordPtr record, tmux::NewSession session,
                                                       Connection::Want want, Tried tried, Caller caller);
    void drop_unsent(SessionRecord& record);
    asio::awaitable<std::optional<Result<api::StartResult>>> started_before(RecordPtr record, Connection& connection);
    void remember_life(SessionRecord& record, const tmux::ServerLife& life);
    asio::awaitable<Result<tmux::Started>> find_started(RecordPtr record);
    // The reply of a start in the connection's spare session, empty where there was none to take over.
    asio::awaitable<std::vector<TmuxChannel::Reply>> take_over_spare(Connection& connection,
                                                                     const tmux::NewSession& session);
    asio::awaitable<Result<void>> check_directory(RecordPtr record, std::string directory, std::string seen);
    // By the server's tmux; true where it does not say.
    asio::awaitable<bool> enters_directory(RecordPtr record, std::string directory);
    [[nodiscard]] api::KillResult pending_kill(SessionRecord& record, int signal, const std::string& why);
    [[nodiscard]] api::KillResult pending_or_ended(SessionRecord& record, int signal, const Error& why);
    asio::awaitable<Result<api::KillResult>> kill_by_tmux(RecordPtr record, ConnectionUse connection);
    asio::awaitable<Result<api::KillResult>> kill_unsaved(RecordPtr record, ConnectionUse connection);
    enum class Promise { None, Given };  // whether a caller was told that the signal is pending
    asio::awaitable<Result<api::KillResult>> kill_by_signal(RecordPtr record, ConnectionUse connection, int signal,
                                                            Promise promise);
    asio::awaitable<Result<api::KillResult>> not_signalled(RecordPtr record, ConnectionUse connection, int signal);
    asio::awaitable<void> settle(RecordPtr record);

    // Where its server's tmux can be asked; brings the connection up. The error names session and server.
    asio::awaitable<Result<TmuxChannel*>> reach(RecordPtr record, const ConnectionUse& connection,
                                                Connection::Want want);
    // `near`: the state of the pane, a moment ago.
    asio::awaitable<Result<api::LogsResult>> read_log(RecordPtr record, ConnectionUse connection,
                                                      api::LogsParams params, std::optional<LogCursor> since,
                                                      std::optional<tmux::PaneState> near, Instant deadline);
    asio::awaitable<Result<Capture>> capture(RecordPtr record, ConnectionUse connection, tmux::Escapes escapes,
                                             std::optional<std::int64_t> first, Instant deadline);
    [[nodiscard]] api::LogsResult last_log(const SessionRecord& record, const api::LogsParams& params,
                                           const std::optional<LogCursor>& since) const;
    asio::awaitable<void> watch_pane(RecordPtr record, std::shared_ptr<Watch> watch);
    asio::awaitable<Result<api::Empty>> type(RecordPtr record, api::SendParams params, Caller caller, Instant deadline);
    asio::awaitable<void> remove_old_buffers(ConnectionUse connection);

    void scan(Connection& connection, bool everything);
    asio::awaitable<void> run_scan(ConnectionUse connection);
    [[nodiscard]] std::vector<KnownSession> known_on(const Connection& connection) const;
    // false: the status of some pane is still to come.
    asio::awaitable<bool> carry_out(Connection& connection, std::vector<Action> actions);
    asio::awaitable<void> finish(RecordPtr record, Connection& connection, tmux::PaneRow row);
    void set_running(SessionRecord& record, Connection& connection, const tmux::PaneRow& row);
    void adopt(Connection& connection, const tmux::PaneRow& row);
    asio::awaitable<void> remove_pane(ConnectionUse connection, std::string pane);
    asio::awaitable<void> carry_out_kill(RecordPtr record);
    void end(SessionRecord& record, api::SessionState state, std::optional<std::string> reason,
             std::optional<std::string> screen = std::nullopt);
    void end_by_row(SessionRecord& record, const tmux::PaneRow& row, std::int64_t clock_offset_ms,
                    std::optional<std::string> screen);
    void attach_to(SessionRecord& record, Connection& connection);
    void restore_session(StoredSession stored);
    asio::awaitable<void> restore_connections(std::vector<StoredConnection> stored);
    asio::awaitable<void> reattach(RecordPtr record);
    asio::awaitable<void> meet_at(std::string name, std::function<bool(const Connection&)> is_there);
    // For who waits for a session that is out of reach, where nobody else tries to reach it.
    void reach_for_wait(const RecordPtr& record, const Caller& caller, api::WaitParams& params,
                        std::shared_ptr<std::optional<Error>> failure);
    asio::awaitable<void> reach(RecordPtr record, ConnectionUse connection, Connection::Want want,
                                std::shared_ptr<std::optional<Error>> failure);
    void set_state(SessionRecord& record, api::SessionState state);
    void tell_changed(const SessionRecord& record) const;
    void forget_ended();
    // To be ended at the next on_reachable().
    void keep_leftover(const std::string& server_key, tmux::Leftover leftover);
    void sweep_later(Connection& connection, tmux::Leftover leftover);
    void begin_sweep(Connection& connection);
    asio::awaitable<void> sweep(ConnectionUse connection);
    [[nodiscard]] std::string now_text() const;

    asio::any_io_executor executor_;
    Clock& clock_;
    const Config& config_;
    IdentityResolver& resolver_;
    Registry& registry_;
    Pool* pool_ = nullptr;
    Keeper keeper_;
    int restoring_ = 0;
    Event restored_;
    std::function<void(Connection& connection, std::uint64_t generation)> on_doubted_;
    std::function<void(const std::string& id)> on_changed_;
    SessionTable table_;
    std::map<Connection*, Scan> scans_;
    // Servers of which every session of ours is known: the registry has them, or they were listed since. By key.
    std::set<std::string> listed_;
    Event listed_changed_;
    std::map<std::string, Leftovers> leftovers_;             // by the server's key
    std::map<std::string, std::shared_ptr<Watch>> watches_;  // by session; shared with who follows it
    std::set<std::string> paste_buffers_;                    // in use now
    bool shutting_down_ = false;
    Event stop_;
    TaskGroup tasks_;
};

}  // namespace cmssh
