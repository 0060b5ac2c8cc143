#include "protocol/methods.hpp"

#include <array>

#include "protocol/schema.hpp"

namespace cmssh::api {

template <>
struct Words<SessionState> {
    static constexpr std::array<std::string_view, 6> list = {"starting", "running", "unreachable",
                                                             "exited",   "killed",  "lost"};
};
template <>
struct Words<ConnectionState> {
    static constexpr std::array<std::string_view, 8> list = {"connecting", "up",       "degraded", "backoff",
                                                             "needs_auth", "draining", "idle",     "failed"};
};

std::string_view to_string(SessionState state) {
    return Words<SessionState>::list[static_cast<std::size_t>(state)];
}

std::string_view to_string(ConnectionState state) {
    return Words<ConnectionState>::list[static_cast<std::size_t>(state)];
}

bool ended(SessionState state) {
    return state == SessionState::Exited || state == SessionState::Killed || state == SessionState::Lost;
}

// The lists. clang-format would put each field on three lines.
// clang-format off
template <>
struct Fields<Server> {
    static constexpr std::string_view name = "Server";
    static constexpr auto list = std::make_tuple(
        required("user", &Server::user, "The remote account"),
        required("host", &Server::host, "As `ssh -G` gives it"),
        ranged("port", &Server::port, "TCP port", Presence::Required, 1, 65535),
        required("via", &Server::via, "The hop, null where there is none"),
        required("key", &Server::key, "What makes two destinations one server: user@host:port [via HOP] [alias NAME] [as FILE]"));
};
template <>
struct Fields<TmuxPlace> {
    static constexpr std::string_view name = "TmuxPlace";
    static constexpr auto list = std::make_tuple(
        required("socket", &TmuxPlace::socket, "tmux -L"),
        required("session", &TmuxPlace::session, "The name of the tmux session"));
};
template <>
struct Fields<Session> {
    static constexpr std::string_view name = "Session";
    static constexpr auto list = std::make_tuple(
        required("id", &Session::id, "sess-… ; also the name of its tmux session"),
        required("name", &Session::name, "Unique among sessions not ended; the id by default"),
        required("ctx", &Session::ctx, "The context it was started with"),
        required("server", &Session::server, ""),
        required("command", &Session::command, "The command and its arguments"),
        required("cwd", &Session::cwd, "As asked for; null: the user's home"),
        required("state", &Session::state, "unreachable: the server can't be asked now; lost: it is gone without a status"),
        ranged("exit_code", &Session::exit_code, "Of a command that ended by itself", Presence::Required, 0, 255),
        required("signal", &Session::signal, "Without SIG, of a command that a signal ended"),
        required("reason", &Session::reason, "Why it is lost"),
        required("created_at", &Session::created_at, "RFC 3339 UTC"),
        required("ended_at", &Session::ended_at, "The server's clock less its offset to ours"),
        required("as_of", &Session::as_of, "When the server last said so"),
        required("tmux", &Session::tmux, ""));
};
template <>
struct Fields<Channels> {
    static constexpr std::string_view name = "Channels";
    static constexpr auto list = std::make_tuple(
        required("used", &Channels::used, "Open now"),
        required("max", &Channels::max, "The server's MaxSessions as far as it is known"),
        required("queued", &Channels::queued, "Waiting for one"));
};
template <>
struct Fields<Rtt> {
    static constexpr std::string_view name = "Rtt";
    static constexpr auto list = std::make_tuple(
        required("last", &Rtt::last, "Milliseconds"),
        required("p50", &Rtt::p50, "Milliseconds"),
        required("p95", &Rtt::p95, "Milliseconds"));
};
template <>
struct Fields<Probes> {
    static constexpr std::string_view name = "Probes";
    static constexpr auto list = std::make_tuple(
        ranged("ok", &Probes::ok, "", Presence::Required, 0, std::numeric_limits<std::int64_t>::max()),
        ranged("failed", &Probes::failed, "", Presence::Required, 0, std::numeric_limits<std::int64_t>::max()),
        required("last_at", &Probes::last_at, "RFC 3339 UTC"));
};
template <>
struct Fields<LastError> {
    static constexpr std::string_view name = "LastError";
    static constexpr auto list = std::make_tuple(
        required("kind", &LastError::kind, "As in an error's data.kind"),
        required("message", &LastError::message, ""),
        required("at", &LastError::at, "RFC 3339 UTC"),
        required("ssh_stderr", &LastError::ssh_stderr, "What ssh wrote"),
        required("hint", &LastError::hint, "The next thing to type"));
};
template <>
struct Fields<Connection> {
    static constexpr std::int64_t kMany = std::numeric_limits<std::int64_t>::max();
    static constexpr std::string_view name = "Connection";
    static constexpr auto list = std::make_tuple(
        required("server", &Connection::server, ""),
        required("state", &Connection::state, ""),
        required("refs", &Connection::refs, "Sessions not ended, and leases"),
        required("sessions", &Connection::sessions, "Not ended"),
        required("leases", &Connection::leases, ""),
        required("channels", &Connection::channels, ""),
        required("master_pid", &Connection::master_pid, "Of the ssh master, null where there is none"),
        required("adopted", &Connection::adopted, "The master was there before this daemon"),
        required("control_path", &Connection::control_path, ""),
        ranged("reused_count", &Connection::reused_count, "Calls served without a login of their own", Presence::Required, 0, kMany),
        ranged("handshakes", &Connection::handshakes, "Logins made", Presence::Required, 0, kMany),
        ranged("reconnects", &Connection::reconnects, "Logins after a loss", Presence::Required, 0, kMany),
        required("since", &Connection::since, "When it entered its state, RFC 3339 UTC"),
        required("uptime_s", &Connection::uptime_s, "Of the master"),
        required("rtt_ms", &Connection::rtt_ms, "Round trips to the server's tmux"),
        required("probes", &Connection::probes, ""),
        required("last_error", &Connection::last_error, ""),
        required("retry_at", &Connection::retry_at, "The next attempt, in state backoff"),
        required("linger_s", &Connection::linger_s, "What is left until an unused master ends"));
};
template <>
struct Fields<DaemonStats> {
    static constexpr std::int64_t kMany = std::numeric_limits<std::int64_t>::max();
    static constexpr std::string_view name = "DaemonStats";
    static constexpr auto list = std::make_tuple(
        required("pid", &DaemonStats::pid, ""),
        required("version", &DaemonStats::version, ""),
        required("uptime_s", &DaemonStats::uptime_s, ""),
        ranged("rss_bytes", &DaemonStats::rss_bytes, "", Presence::Required, 0, kMany),
        required("cpu_s", &DaemonStats::cpu_s, ""),
        required("clients", &DaemonStats::clients, "Connected now"),
        ranged("requests", &DaemonStats::requests, "", Presence::Required, 0, kMany),
        ranged("errors", &DaemonStats::errors, "", Presence::Required, 0, kMany),
        required("unsaved", &DaemonStats::unsaved, "The registry can't be written"));
};
template <>
struct Fields<Size> {
    static constexpr std::string_view name = "Size";
    static constexpr auto list = std::make_tuple(
        ranged("cols", &Size::cols, "", Presence::Required, 1, 10000),
        ranged("rows", &Size::rows, "", Presence::Required, 1, 10000));
};
template <>
struct Fields<Empty> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple();
};
template <>
struct Fields<StartParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        optional("ctx", &StartParams::ctx, "A context, or an ssh destination; default_ctx otherwise"),
        required("command", &StartParams::command, "The command and its arguments, byte for byte"),
        optional("name", &StartParams::name, "[A-Za-z0-9][A-Za-z0-9_-]{0,63}, not sess-…"),
        optional("cwd", &StartParams::cwd, "Directory on the server"),
        optional("env", &StartParams::env, "Variables of the session"),
        optional("size", &StartParams::size, "Of its terminal"),
        optional("request_id", &StartParams::request_id, "The same one again: the same session, never a second one"),
        optional("auth_sock", &StartParams::auth_sock, "The caller's SSH_AUTH_SOCK"),
        optional("interactive", &StartParams::interactive, "A person is there to answer prompts"));
};
template <>
struct Fields<StartResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("session", &StartResult::session, ""),
        required("connection", &StartResult::connection, ""),
        required("reused", &StartResult::reused, "false: this call's need made the login"));
};
template <>
struct Fields<ListParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        optional("ctx", &ListParams::ctx, "Only of this context"),
        optional("all", &ListParams::all, "Ended ones too"),
        optional("state", &ListParams::state, "Only in this state"));
};
template <>
struct Fields<ListResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(required("sessions", &ListResult::sessions, "Newest last"));
};
template <>
struct Fields<SessionParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("session", &SessionParams::session, "An id, a unique prefix of one, or a name"));
};
template <>
struct Fields<SessionResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(required("session", &SessionResult::session, ""));
};
template <>
struct Fields<KillParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("session", &KillParams::session, "An id, a unique prefix of one, or a name"),
        optional("signal", &KillParams::signal, "To the foreground process group; without it the session is ended"),
        optional("forget", &KillParams::forget, "For a server that will not come back"));
};
template <>
struct Fields<KillResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("session", &KillResult::session, ""),
        required("pending", &KillResult::pending, "Carried out when the server can be reached again"));
};
template <>
struct Fields<WaitParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("session", &WaitParams::session, "An id, a unique prefix of one, or a name"),
        ranged("timeout_ms", &WaitParams::timeout_ms, "Milliseconds", Presence::Optional, 0,
               std::numeric_limits<std::int64_t>::max()));
};
template <>
struct Fields<ConnectParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("ctx", &ConnectParams::ctx, "A context, or an ssh destination"),
        optional("auth_sock", &ConnectParams::auth_sock, "The caller's SSH_AUTH_SOCK"),
        optional("interactive", &ConnectParams::interactive, "A person is there to answer prompts"));
};
template <>
struct Fields<ConnectResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("connection", &ConnectResult::connection, ""),
        required("reused", &ConnectResult::reused, "false: this call's need made the login"));
};
template <>
struct Fields<DisconnectParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("ctx", &DisconnectParams::ctx, "A context, or an ssh destination"),
        optional("force", &DisconnectParams::force, "Do not wait for leases to end"));
};
template <>
struct Fields<ConnectionResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(required("connection", &ConnectionResult::connection, ""));
};
template <>
struct Fields<CheckParams> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(optional("ctx", &CheckParams::ctx, "Only this one"));
};
template <>
struct Fields<ConnectionsResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(required("connections", &ConnectionsResult::connections, ""));
};
template <>
struct Fields<StatsResult> {
    static constexpr std::int64_t kMany = std::numeric_limits<std::int64_t>::max();
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("connections", &StatsResult::connections, ""),
        required("connection_stats", &StatsResult::connection_stats, "Server key to sessions not ended"),
        required("total_connections", &StatsResult::total_connections, "Live masters"),
        required("total_sessions", &StatsResult::total_sessions, "Not ended"),
        required("total_refs", &StatsResult::total_refs, ""),
        ranged("handshakes", &StatsResult::handshakes, "Logins made", Presence::Required, 0, kMany),
        ranged("handshakes_saved", &StatsResult::handshakes_saved, "Calls that needed none", Presence::Required, 0, kMany),
        required("daemon", &StatsResult::daemon, ""));
};
template <>
struct Fields<Context> {
    static constexpr std::string_view name = "Context";
    static constexpr auto list = std::make_tuple(
        required("name", &Context::name, ""),
        required("server", &Context::server, "null while it is not known"),
        required("source", &Context::source, "config, ssh_config or destination"),
        required("default", &Context::is_default, ""));
};
template <>
struct Fields<ContextsResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(required("contexts", &ContextsResult::contexts, ""));
};
template <>
struct Fields<VersionResult> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("version", &VersionResult::version, ""),
        required("protocol", &VersionResult::protocol, ""),
        required("capabilities", &VersionResult::capabilities, "The methods"));
};
template <>
struct Fields<Progress> {
    static constexpr std::string_view name = "";
    static constexpr auto list = std::make_tuple(
        required("id", &Progress::id, "Of the request"),
        required("ctx", &Progress::ctx, ""),
        required("server", &Progress::server, "The server's key"),
        required("phase", &Progress::phase, "queued, connecting or opening_tmux"));
};
// clang-format on

template <typename T>
Result<T> read(const Json& json) {
    T value{};
    if (auto error = read_struct(json, value, "params")) {
        return std::move(*error);
    }
    return value;
}

template <typename T>
Json write(const T& value) {
    return write_value(value);
}

#define CMSSH_API_STRUCT(Type)                     \
    template Result<Type> read<Type>(const Json&); \
    template Json write<Type>(const Type&)
CMSSH_API_STRUCT(Server);
CMSSH_API_STRUCT(Session);
CMSSH_API_STRUCT(Connection);
CMSSH_API_STRUCT(Size);
CMSSH_API_STRUCT(Empty);
CMSSH_API_STRUCT(StartParams);
CMSSH_API_STRUCT(StartResult);
CMSSH_API_STRUCT(ListParams);
CMSSH_API_STRUCT(ListResult);
CMSSH_API_STRUCT(SessionParams);
CMSSH_API_STRUCT(SessionResult);
CMSSH_API_STRUCT(KillParams);
CMSSH_API_STRUCT(KillResult);
CMSSH_API_STRUCT(WaitParams);
CMSSH_API_STRUCT(ConnectParams);
CMSSH_API_STRUCT(ConnectResult);
CMSSH_API_STRUCT(DisconnectParams);
CMSSH_API_STRUCT(ConnectionResult);
CMSSH_API_STRUCT(CheckParams);
CMSSH_API_STRUCT(ConnectionsResult);
CMSSH_API_STRUCT(StatsResult);
CMSSH_API_STRUCT(Context);
CMSSH_API_STRUCT(ContextsResult);
CMSSH_API_STRUCT(VersionResult);
CMSSH_API_STRUCT(Progress);
#undef CMSSH_API_STRUCT

namespace {

Json describe_errors(const std::vector<ErrorKind>& kinds) {
    Json errors = Json::array();
    for (const auto kind : kinds) {
        errors.push_back({{"code", static_cast<int>(kind)}, {"message", error_info(kind).name}});
    }
    return errors;
}

template <typename Params, typename Returned>
Json describe_method(Json& components, std::string_view name, std::string_view summary, std::vector<ErrorKind> kinds) {
    const Json schema = schema_of<Params>(components);
    Json params = Json::array();
    const Json required_names = schema.value("required", Json::array());
    for (const auto& [param, param_schema] : schema.at("properties").items()) {
        bool is_required = false;
        for (const auto& required_name : required_names) {
            is_required = is_required || required_name == param;
        }
        params.push_back({{"name", param}, {"required", is_required}, {"schema", param_schema}});
    }
    kinds.push_back(ErrorKind::InvalidParams);
    kinds.push_back(ErrorKind::Internal);
    return {{"name", name},
            {"summary", summary},
            {"paramStructure", "by-name"},
            {"params", std::move(params)},
            {"result", {{"name", "result"}, {"schema", schema_of<Returned>(components)}}},
            {"errors", describe_errors(kinds)}};
}

Json make_document(const std::string& version) {
    using K = ErrorKind;
    const std::vector<K> login = {K::UnknownContext, K::DnsFailure,     K::ConnectRefused, K::ConnectTimeout,
                                  K::ConnectFailed,  K::HostKeyUnknown, K::HostKeyChanged, K::AuthFailed,
                                  K::NeedsAuth,      K::MasterLost,     K::Limit,          K::Timeout,
                                  K::Cancelled,      K::ShuttingDown,   K::BadConfig};
    const auto with_login = [&login](std::vector<K> kinds) {
        kinds.insert(kinds.end(), login.begin(), login.end());
        return kinds;
    };
    Json components = Json::object();
    Json methods = Json::array();
    methods.push_back(describe_method<StartParams, StartResult>(
        components, "start", "Start a command in a detached tmux session",
        with_login({K::ChannelRefused, K::TmuxMissing, K::TmuxFailed, K::NameTaken, K::InvalidName, K::BadCwd})));
    methods.push_back(describe_method<ListParams, ListResult>(components, "list", "The sessions that the daemon knows", {}));
    methods.push_back(describe_method<SessionParams, SessionResult>(components, "get", "One session",
                                                                    {K::SessionNotFound, K::Ambiguous}));
    methods.push_back(describe_method<KillParams, KillResult>(
        components, "kill", "End a session, or send it a signal",
        {K::SessionNotFound, K::Ambiguous, K::MasterLost, K::ChannelRefused, K::TmuxFailed, K::Timeout}));
    methods.push_back(describe_method<WaitParams, SessionResult>(
        components, "wait", "Wait until a session has ended",
        {K::SessionNotFound, K::Ambiguous, K::Timeout, K::ShuttingDown}));
    methods.push_back(describe_method<Empty, StatsResult>(components, "stats", "Connections, their sessions and the daemon", {}));
    methods.push_back(describe_method<ConnectParams, ConnectResult>(components, "connect", "Make a server's connection",
                                                                    with_login({})));
    methods.push_back(describe_method<DisconnectParams, ConnectionResult>(
        components, "disconnect", "End a server's connection; its sessions run on",
        {K::UnknownContext, K::ConnectFailed, K::Timeout}));
    methods.push_back(describe_method<CheckParams, ConnectionsResult>(
        components, "check", "Probe connections now, the master and the path", {K::UnknownContext, K::ConnectFailed}));
    methods.push_back(describe_method<Empty, ContextsResult>(components, "contexts", "The known contexts", {}));
    methods.push_back(describe_method<Empty, Empty>(components, "ping", "Whether the daemon answers", {}));
    methods.push_back(describe_method<Empty, VersionResult>(components, "version", "Version and methods", {}));
    methods.push_back(describe_method<Empty, Empty>(components, "reload", "Read the config again; a bad one changes nothing",
                                                    {K::BadConfig}));
    methods.push_back(describe_method<Empty, Empty>(components, "shutdown", "Stop the daemon; sessions and masters live on", {}));
    Json discover = describe_method<Empty, Empty>(components, "rpc.discover", "This document", {});
    discover["result"] = {{"name", "OpenRPC document"}, {"schema", {{"type", "object"}}}};
    methods.push_back(std::move(discover));
    return {{"openrpc", "1.3.2"},
            {"info",
             {{"title", "cmsshd"},
              {"version", version},
              {"description",
               "JSON-RPC 2.0 on a Unix socket: one JSON text per line, or Content-Length headers. A call that waits for a "
               "login sends `progress` notifications {id, ctx, server, phase}."}}},
            {"methods", std::move(methods)},
            {"components", {{"schemas", std::move(components)}}}};
}

}  // namespace

const Json& openrpc_document(const std::string& version) {
    static const Json document = make_document(version);
    return document;
}

}  // namespace cmssh::api
