// The params and results of every API method as plain structs. Each struct lists its fields once (protocol/schema.hpp);
// reading, writing and the OpenRPC schemas all come from that list. Times are RFC 3339 UTC with milliseconds.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/jsonrpc.hpp"
#include "protocol/result.hpp"

namespace cmssh::api {

inline constexpr int kProtocolVersion = 1;

enum class SessionState { Starting, Running, Unreachable, Exited, Killed, Lost };
enum class ConnectionState { Connecting, Up, Degraded, Backoff, NeedsAuth, Draining, Idle, Failed };
[[nodiscard]] std::string_view to_string(SessionState state);
[[nodiscard]] std::string_view to_string(ConnectionState state);
[[nodiscard]] bool ended(SessionState state);  // exited, killed or lost

struct Server {
    std::string user;
    std::string host;
    int port = 22;
    std::optional<std::string> via;  // null where there is no hop
    std::string key;
};

struct TmuxPlace {
    std::string socket;
    std::string session;
};

struct Session {
    std::string id;
    std::string name;
    std::string ctx;
    Server server;
    std::vector<std::string> command;
    std::optional<std::string> cwd;
    SessionState state = SessionState::Starting;
    std::optional<int> exit_code;
    std::optional<std::string> signal;  // "TERM"
    std::optional<std::string> reason;
    std::string created_at;
    std::optional<std::string> ended_at;
    std::string as_of;
    TmuxPlace tmux;
};

struct Channels {
    int used = 0;
    int max = 0;
    int queued = 0;
};

struct Rtt {
    double last = 0;
    double p50 = 0;
    double p95 = 0;
};

struct Probes {
    std::uint64_t ok = 0;
    std::uint64_t failed = 0;
    std::optional<std::string> last_at;
};

struct LastError {
    std::string kind;
    std::string message;
    std::string at;
    std::optional<std::string> ssh_stderr;
    std::optional<std::string> hint;
};

// Beside the shared one, for one lease.
struct OwnMaster {
    int master_pid = 0;
    std::string control_path;
};

struct Connection {
    Server server;
    ConnectionState state = ConnectionState::Idle;
    int refs = 0;
    int sessions = 0;  // not ended
    int leases = 0;
    Channels channels;
    std::optional<int> master_pid;
    bool adopted = false;
    std::string control_path;
    std::uint64_t reused_count = 0;
    std::uint64_t handshakes = 0;
    std::uint64_t reconnects = 0;
    std::string since;    // in this state
    double uptime_s = 0;  // of the master
    std::optional<Rtt> rtt_ms;
    Probes probes;
    std::optional<LastError> last_error;
    std::optional<std::string> retry_at;
    std::optional<double> linger_s;  // what is left of the linger
    std::vector<OwnMaster> own_masters;
};

struct DaemonStats {
    int pid = 0;
    std::string version;
    double uptime_s = 0;
    std::uint64_t rss_bytes = 0;
    double cpu_s = 0;
    int clients = 0;
    std::uint64_t requests = 0;
    std::uint64_t errors = 0;
    bool unsaved = false;
    std::string config;  // the file, whether it is there or not
};

struct Size {
    int cols = 80;
    int rows = 24;
};

struct Empty {};

struct StartParams {
    std::optional<std::string> ctx;
    std::vector<std::string> command;
    std::optional<std::string> name;
    std::optional<std::string> cwd;
    std::map<std::string, std::string> env;
    std::optional<Size> size;
    std::optional<std::string> request_id;
    std::optional<std::string> auth_sock;
    bool interactive = false;
    bool tell_reuse = false;
};
struct StartResult {
    Session session;
    Connection connection;
    bool reused = false;
};

struct ListParams {
    std::optional<std::string> ctx;
    bool all = false;
    std::optional<SessionState> state;
};
struct ListResult {
    std::vector<Session> sessions;
};
// The same, to be written from where the sessions are.
struct ListedSessions {
    std::vector<const Session*> sessions;
};

struct SessionParams {  // get
    std::string session;
};
struct SessionResult {  // get, wait
    Session session;
};

struct KillParams {
    std::string session;
    std::optional<std::string> signal;  // "TERM", "SIGTERM" or "15"
    bool forget = false;
    std::optional<std::string> auth_sock;
    bool interactive = false;
};
struct KillResult {
    Session session;
    bool pending = false;
    std::optional<std::string> reason = {};  // why it is pending
};

struct WaitParams {
    std::string session;
    std::optional<std::int64_t> timeout_ms;
    std::optional<std::string> auth_sock;
    bool interactive = false;
};

struct LogsParams {
    std::string session;
    std::optional<int> lines;          // the last ones only
    std::optional<std::string> since;  // a cursor of an earlier answer
    bool escapes = false;
    std::optional<std::int64_t> wait_ms;
    std::optional<std::string> auth_sock;
    bool interactive = false;
};
struct LogsResult {
    std::string text;
    std::string cursor;
    bool truncated = false;
    bool ended = false;
    SessionState state = SessionState::Starting;
};

struct SendParams {
    std::string session;
    std::optional<std::string> text;
    std::vector<std::string> keys;  // as tmux names them: "C-c", "Enter"
    bool enter = true;              // behind the text
    std::optional<std::string> auth_sock;
    bool interactive = false;
};

struct AttachParams {
    std::string session;
    std::optional<std::string> auth_sock;
    bool interactive = false;
    bool read_only = false;
    std::optional<std::string> refused;  // as in AcquireParams
};
struct AttachResult {
    std::string lease;
    std::vector<std::string> argv;  // an ssh that does it in its own terminal
    std::string control_path;
    std::string command;  // for a channel with a terminal
    Session session;
};
// What `command` exits with where the session is not there (any more); with 0 where it was detached from.
inline constexpr int kAttachedToNothing = 3;

struct AcquireParams {
    std::optional<std::string> ctx;
    std::optional<std::string> auth_sock;
    bool interactive = false;
    std::optional<std::string> refused;   // a lease of the same caller, on whose channel the server refused
    std::optional<int> pid;               // a process that holds the lease instead of the caller's connection
    bool hang_up = false;                 // what runs under its mark gets SIGHUP where it ends without release
    bool channel = true;                  // false: for what opens no session, such as ssh -W
    bool own_master = false;              // where the server takes one without a person
    std::optional<std::string> link;      // with pid: a name below the runtime dir's ssh/ for the control path
    std::optional<std::string> settings;  // settings_digest() of what the caller's own ssh would do
};
struct AcquireResult {
    std::string lease;
    std::string control_path;
    Connection connection;
    bool reused = false;
};

struct LeaseParams {  // release
    std::string lease;
};
struct LeaseSignalParams {
    std::string lease;
    std::string signal;  // "TERM", "SIGTERM" or "15"
};

enum class Encoding { Utf8, Base64 };
[[nodiscard]] std::string_view to_string(Encoding encoding);

struct ExecParams {
    std::string ctx;
    std::vector<std::string> command;
    std::optional<std::string> standard_input;
    Encoding stdin_encoding = Encoding::Utf8;
    std::optional<std::int64_t> timeout_ms;
    std::optional<std::string> cwd;
    std::map<std::string, std::string> env;
    std::optional<std::string> auth_sock;
    bool interactive = false;
};
struct ExecResult {
    int exit_code = 0;
    std::optional<std::string> signal;
    std::string standard_output;
    std::string standard_error;
    Encoding encoding = Encoding::Utf8;  // of both outputs
    bool truncated = false;
};

enum class ForwardKind { Local, Remote, Dynamic };
[[nodiscard]] std::string_view to_string(ForwardKind kind);

struct ForwardAddParams {
    std::optional<std::string> ctx;
    ForwardKind kind = ForwardKind::Local;
    std::string listen;                  // "8080", "127.0.0.1:8080", "/path"
    std::optional<std::string> target;   // "host:80", "/path"; none for dynamic
    std::optional<std::string> session;  // it ends with it
    std::optional<std::string> lease;    // it ends with it; neither: it is the context's
    std::optional<std::string> auth_sock;
    bool interactive = false;
};
struct Forward {
    std::string id;
    std::string ctx;
    Server server;
    ForwardKind kind = ForwardKind::Local;
    std::string listen;
    std::optional<std::string> target;
    std::optional<std::string> session;
    std::optional<std::string> lease;
    bool active = false;
    std::optional<std::string> error;  // why it is not
};
struct ForwardResult {
    Forward forward;
};
struct ForwardListParams {
    std::optional<std::string> ctx;
};
struct ForwardListResult {
    std::vector<Forward> forwards;
};
struct ForwardRemoveParams {
    std::string forward;
};

struct AnswerParams {
    std::string prompt;
    std::optional<std::string> text;
    std::optional<bool> confirm;
    std::optional<bool> cancel;
};

// askpass, which only the daemon's own askpass program calls (protocol/askpass.hpp)
struct AskpassParams {
    std::string token;
    std::string text;
    std::string kind;
};
struct AskpassResult {
    std::string text;
};

struct ConnectParams {
    std::string ctx;
    std::optional<std::string> auth_sock;
    bool interactive = false;
};
struct ConnectResult {
    Connection connection;
    bool reused = false;
};

struct DisconnectParams {
    std::string ctx;
    bool force = false;
};
struct ConnectionResult {
    Connection connection;
};

struct CheckParams {
    std::optional<std::string> ctx;
};
struct ConnectionsResult {
    std::vector<Connection> connections;
};

struct StatsResult {
    std::vector<Connection> connections;
    std::map<std::string, int> connection_stats;  // server key → sessions not ended
    int total_connections = 0;                    // live masters
    int total_sessions = 0;
    int total_refs = 0;
    std::uint64_t handshakes = 0;
    std::uint64_t handshakes_saved = 0;
    DaemonStats daemon;
};

struct Context {
    std::string name;
    std::optional<Server> server;  // null where `ssh -G` has not been asked yet or refused
    std::string source;            // "config", "ssh_config" or "destination"
    bool is_default = false;       // "default" on the wire
};
struct ContextsParams {
    bool known = false;  // servers that are known already: ssh -G, which may ask the DNS, is not run
};
struct ContextsResult {
    std::vector<Context> contexts;
};

struct VersionResult {
    std::string version;
    int protocol = kProtocolVersion;
    std::vector<std::string> capabilities;
};

// Notification `progress`: what a call that waits for a login or a channel is waiting for; "using_existing" where it
// was asked to tell that it does not.
struct Progress {
    Json id;  // of the request
    std::string ctx;
    std::string server;  // key
    std::string phase;  // "queued", "connecting" (ssh logs in), "opening_tmux", "waiting_for_channel", "using_existing"
};

// Notification `prompt`: what ssh asks the person behind a call with `interactive`; answered by the method `answer`.
struct Prompt {
    std::string prompt;  // its id
    std::string text;
    bool echo = false;     // whether the answer may be seen while it is typed
    bool confirm = false;  // a question of yes or no
    bool notice = false;   // nothing is to be answered: it only says what ssh waits for
    std::string ctx;
};

// Notification `lease`: the master that a lease is on has been given up, and a new one is, or will be, in its place.
struct LeaseLost {
    std::string lease;
};

// Strict readers: an unknown, missing, mistyped or out-of-range field is an InvalidParams error that names it.
// Writers put every field, null where it is unset. Instantiated in methods.cpp for every struct above.
template <typename T>
[[nodiscard]] Result<T> read(const Json& json);
template <typename T>
[[nodiscard]] JsonText write(const T& value);

// The OpenRPC 1.3 document that rpc.discover returns.
[[nodiscard]] const Json& openrpc_document(const std::string& version);

}  // namespace cmssh::api
