#include "protocol/methods.hpp"

#include <array>
#include <cstdlib>
#include <tuple>
#include <utility>

#include "protocol/events.hpp"
#include "protocol/schema.hpp"

namespace cmssh::api {

std::string_view to_string(SessionState state) {
    switch (state) {
        case SessionState::Starting:
            return "starting";
        case SessionState::Running:
            return "running";
        case SessionState::Unreachable:
            return "unreachable";
        case SessionState::Exited:
            return "exited";
        case SessionState::Killed:
            return "killed";
        case SessionState::Lost:
            return "lost";
    }
    std::abort();
}

std::string_view to_string(ConnectionState state) {
    switch (state) {
        case ConnectionState::Connecting:
            return "connecting";
        case ConnectionState::Up:
            return "up";
        case ConnectionState::Degraded:
            return "degraded";
        case ConnectionState::Backoff:
            return "backoff";
        case ConnectionState::NeedsAuth:
            return "needs_auth";
        case ConnectionState::Draining:
            return "draining";
        case ConnectionState::Idle:
            return "idle";
        case ConnectionState::Failed:
            return "failed";
    }
    std::abort();
}

std::string_view to_string(Encoding encoding) {
    switch (encoding) {
        case Encoding::Utf8:
            return "utf-8";
        case Encoding::Base64:
            return "base64";
    }
    std::abort();
}

std::string_view to_string(ForwardKind kind) {
    switch (kind) {
        case ForwardKind::Local:
            return "local";
        case ForwardKind::Remote:
            return "remote";
        case ForwardKind::Dynamic:
            return "dynamic";
    }
    std::abort();
}

std::string_view to_string(EventType type) {
    switch (type) {
        case EventType::SessionStarted:
            return "session.started";
        case EventType::SessionEnded:
            return "session.ended";
        case EventType::SessionUnreachable:
            return "session.unreachable";
        case EventType::SessionReachable:
            return "session.reachable";
        case EventType::ConnectionChanged:
            return "connection.changed";
        case EventType::ForwardChanged:
            return "forward.changed";
        case EventType::Overflow:
            return "overflow";
    }
    std::abort();
}

bool ended(SessionState state) {
    return state == SessionState::Exited || state == SessionState::Killed || state == SessionState::Lost;
}

template <>
struct Values<SessionState> {
    static constexpr std::array list = {SessionState::Starting, SessionState::Running, SessionState::Unreachable,
                                        SessionState::Exited,   SessionState::Killed,  SessionState::Lost};
};

template <>
struct Values<ConnectionState> {
    static constexpr std::array list = {
        ConnectionState::Connecting, ConnectionState::Up,       ConnectionState::Degraded, ConnectionState::Backoff,
        ConnectionState::NeedsAuth,  ConnectionState::Draining, ConnectionState::Idle,     ConnectionState::Failed};
};

template <>
struct Values<Encoding> {
    static constexpr std::array list = {Encoding::Utf8, Encoding::Base64};
};

template <>
struct Values<ForwardKind> {
    static constexpr std::array list = {ForwardKind::Local, ForwardKind::Remote, ForwardKind::Dynamic};
};

template <>
struct Values<EventType> {
    static constexpr std::array list = kEventTypes;
};

template <>
struct Fields<Server> {
    static constexpr std::string_view name = "Server";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("user", &Server::user, "login name"), field("host", &Server::host, "host name or address"),
        field("port", &Server::port, "TCP port").range(1, 65535),
        field("via", &Server::via, "the hop to it, null where there is none"),
        field("key", &Server::key, "what identifies the server: user@host:port and its route"));
};

template <>
struct Fields<TmuxPlace> {
    static constexpr std::string_view name = "TmuxPlace";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("socket", &TmuxPlace::socket, "tmux -L NAME on the server"),
                                                 field("session", &TmuxPlace::session, "tmux session name"));
};

template <>
struct Fields<Session> {
    static constexpr std::string_view name = "Session";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("id", &Session::id, "sess-… and the name of its tmux session"),
        field("name", &Session::name, "unique among sessions not ended; the id where none was given"),
        field("ctx", &Session::ctx, "the context it was started in"),
        field("server", &Session::server, "where it runs"),
        field("command", &Session::command, "the command and its arguments"),
        field("cwd", &Session::cwd, "working directory on the server, null for the home directory"),
        field("state", &Session::state, "unreachable: was running at as_of and cannot be asked now"),
        field("exit_code", &Session::exit_code, "of the command, once it has exited"),
        field("signal", &Session::signal, "what ended it, without SIG"),
        field("reason", &Session::reason, "why it was lost"), field("created_at", &Session::created_at, "RFC 3339 UTC"),
        field("ended_at", &Session::ended_at, "RFC 3339 UTC"),
        field("as_of", &Session::as_of, "when the server last told of it, RFC 3339 UTC"),
        field("tmux", &Session::tmux, "where it is in the server's tmux"));
};

template <>
struct Fields<Channels> {
    static constexpr std::string_view name = "Channels";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("used", &Channels::used, "open on the master"),
                                                 field("max", &Channels::max, "what the server allows"),
                                                 field("queued", &Channels::queued, "calls that wait for one"));
};

template <>
struct Fields<Rtt> {
    static constexpr std::string_view name = "Rtt";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("last", &Rtt::last, "milliseconds"), field("p50", &Rtt::p50, "milliseconds"),
                        field("p95", &Rtt::p95, "milliseconds"));
};

template <>
struct Fields<Probes> {
    static constexpr std::string_view name = "Probes";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("ok", &Probes::ok, "probes answered"),
                                                 field("failed", &Probes::failed, "probes that failed"),
                                                 field("last_at", &Probes::last_at, "RFC 3339 UTC"));
};

template <>
struct Fields<LastError> {
    static constexpr std::string_view name = "LastError";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("kind", &LastError::kind, "as in an error's data.kind"),
                                                 field("message", &LastError::message, "for a person"),
                                                 field("at", &LastError::at, "RFC 3339 UTC"),
                                                 field("ssh_stderr", &LastError::ssh_stderr, "what ssh wrote"),
                                                 field("hint", &LastError::hint, "the next thing to type"));
};

template <>
struct Fields<OwnMaster> {
    static constexpr std::string_view name = "OwnMaster";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("master_pid", &OwnMaster::master_pid, "process id of ssh"),
                                                 field("control_path", &OwnMaster::control_path, "its control socket"));
};

template <>
struct Fields<Connection> {
    static constexpr std::string_view name = "Connection";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("server", &Connection::server, "what it leads to"),
                        field("state", &Connection::state, "of the connection"),
                        field("refs", &Connection::refs, "sessions not ended and leases"),
                        field("sessions", &Connection::sessions, "not ended"),
                        field("leases", &Connection::leases, "short-lived holds"),
                        field("channels", &Connection::channels, "of the master"),
                        field("master_pid", &Connection::master_pid, "process id of ssh"),
                        field("adopted", &Connection::adopted, "the master was found running, not started"),
                        field("control_path", &Connection::control_path, "the master's control socket"),
                        field("reused_count", &Connection::reused_count, "calls that needed no login"),
                        field("handshakes", &Connection::handshakes, "logins made"),
                        field("reconnects", &Connection::reconnects, "logins made after a loss"),
                        field("since", &Connection::since, "when this state began, RFC 3339 UTC"),
                        field("uptime_s", &Connection::uptime_s, "of the master, in seconds"),
                        field("rtt_ms", &Connection::rtt_ms, "round trip times of probes"),
                        field("probes", &Connection::probes, "end-to-end probes"),
                        field("last_error", &Connection::last_error, "of the last attempt or probe that failed"),
                        field("retry_at", &Connection::retry_at, "when the next attempt is due, RFC 3339 UTC"),
                        field("linger_s", &Connection::linger_s, "seconds until an unused master goes"),
                        field("own_masters", &Connection::own_masters,
                              "beside the shared one, each for one lease: those of acquire with own_master")
                            .defaulted());
};

template <>
struct Fields<DaemonStats> {
    static constexpr std::string_view name = "DaemonStats";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("pid", &DaemonStats::pid, "process id"), field("version", &DaemonStats::version, "of cmsshd"),
        field("uptime_s", &DaemonStats::uptime_s, "seconds"),
        field("rss_bytes", &DaemonStats::rss_bytes, "resident memory"),
        field("cpu_s", &DaemonStats::cpu_s, "processor time used, in seconds"),
        field("clients", &DaemonStats::clients, "connected now"), field("requests", &DaemonStats::requests, "served"),
        field("errors", &DaemonStats::errors, "error replies sent"),
        field("unsaved", &DaemonStats::unsaved, "the registry could not be written and is in memory only"),
        field("config", &DaemonStats::config, "the path of the configuration file, which need not be there"));
};

template <>
struct Fields<Size> {
    static constexpr std::string_view name = "Size";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("cols", &Size::cols, "columns").range(1, 10000),
                                                 field("rows", &Size::rows, "rows").range(1, 10000));
};

template <>
struct Fields<Empty> {
    static constexpr std::string_view name = "Empty";
    static constexpr Use use = Use::Params;
    static constexpr std::tuple<> list = {};
};

constexpr std::string_view kAuthSockDoc = "the caller's SSH_AUTH_SOCK";
constexpr std::string_view kInteractiveDoc = "a person is there to answer prompts";
constexpr std::string_view kRefusedDoc =
    "a lease of the caller's on which the server refused a channel: given back, and another is waited for";

template <>
struct Fields<StartParams> {
    static constexpr std::string_view name = "StartParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("ctx", &StartParams::ctx, "context or ssh destination; the default context where it is absent"),
        field("command", &StartParams::command, "the command and its arguments").not_empty(),
        field("name", &StartParams::name, "unique among sessions not ended"),
        field("cwd", &StartParams::cwd, "working directory on the server"),
        field("env", &StartParams::env, "set in the command's environment").defaulted(),
        field("size", &StartParams::size, "of the session's screen"),
        field("request_id", &StartParams::request_id, "given again: the same session, never a second one"),
        field("auth_sock", &StartParams::auth_sock, kAuthSockDoc),
        field("interactive", &StartParams::interactive, kInteractiveDoc).defaulted(),
        field("tell_reuse", &StartParams::tell_reuse,
              "send `progress` also where no login is waited for, with the phase using_existing")
            .defaulted());
};

template <>
struct Fields<StartResult> {
    static constexpr std::string_view name = "StartResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("session", &StartResult::session, "the session started"),
                        field("connection", &StartResult::connection, "what it was started over"),
                        field("reused", &StartResult::reused, "false: this call made the login"));
};

template <>
struct Fields<ListParams> {
    static constexpr std::string_view name = "ListParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("ctx", &ListParams::ctx, "only those of this context"),
                        field("all", &ListParams::all, "those that have ended too").defaulted(),
                        field("state", &ListParams::state, "only those in this state"));
};

template <>
struct Fields<ListResult> {
    static constexpr std::string_view name = "ListResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("sessions", &ListResult::sessions, "newest last"));
};
template <>
struct Fields<ListedSessions> {
    static constexpr auto list = std::make_tuple(field("sessions", &ListedSessions::sessions, ""));
};

constexpr std::string_view kSessionDoc = "id, unique prefix of an id, or name";

template <>
struct Fields<SessionParams> {
    static constexpr std::string_view name = "SessionParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("session", &SessionParams::session, kSessionDoc));
};

template <>
struct Fields<SessionResult> {
    static constexpr std::string_view name = "SessionResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("session", &SessionResult::session, "the session"));
};

template <>
struct Fields<KillParams> {
    static constexpr std::string_view name = "KillParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("session", &KillParams::session, kSessionDoc),
        field("signal", &KillParams::signal,
              "TERM, SIGTERM or 15: to the foreground process group; absent: the session is ended"),
        field("forget", &KillParams::forget, "for a server that will not come back: lost without asking it")
            .defaulted(),
        field("auth_sock", &KillParams::auth_sock, kAuthSockDoc),
        field("interactive", &KillParams::interactive, kInteractiveDoc).defaulted());
};

template <>
struct Fields<KillResult> {
    static constexpr std::string_view name = "KillResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("session", &KillResult::session, "the session"),
                        field("pending", &KillResult::pending, "to be carried out once the server is back"),
                        field("reason", &KillResult::reason, "why it is pending; absent where it is not").omitted());
};

template <>
struct Fields<WaitParams> {
    static constexpr std::string_view name = "WaitParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("session", &WaitParams::session, kSessionDoc),
                        field("timeout_ms", &WaitParams::timeout_ms, "absent: as long as it takes").at_least(0),
                        field("auth_sock", &WaitParams::auth_sock, kAuthSockDoc),
                        field("interactive", &WaitParams::interactive, kInteractiveDoc).defaulted());
};

constexpr std::string_view kCtxDoc = "context or ssh destination";

template <>
struct Fields<LogsParams> {
    static constexpr std::string_view name = "LogsParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("session", &LogsParams::session, kSessionDoc),
        field("lines", &LogsParams::lines, "only the last ones").range(0, 10'000'000),
        field("since", &LogsParams::since,
              "cursor of an earlier answer: what came after it; empty: from the beginning"),
        field("escapes", &LogsParams::escapes, "with the escape sequences for colours").defaulted(),
        field("wait_ms", &LogsParams::wait_ms,
              "complete lines only; with since, waits so long until there are some, or the session ends "
              "or gets out of reach")
            .at_least(0),
        field("auth_sock", &LogsParams::auth_sock, kAuthSockDoc),
        field("interactive", &LogsParams::interactive, kInteractiveDoc).defaulted());
};

template <>
struct Fields<LogsResult> {
    static constexpr std::string_view name = "LogsResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("text", &LogsResult::text, "scrollback and screen; a last line without line end is not complete yet"),
        field("cursor", &LogsResult::cursor, "where the complete lines of the text end"),
        field("truncated", &LogsResult::truncated, "earlier lines exist, or existed, that are not in the text"),
        field("ended", &LogsResult::ended, "the session has, and nothing comes behind this text"),
        field("state", &LogsResult::state, "of the session"));
};

template <>
struct Fields<SendParams> {
    static constexpr std::string_view name = "SendParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("session", &SendParams::session, kSessionDoc),
                        field("text", &SendParams::text, "typed or pasted byte for byte"),
                        field("keys", &SendParams::keys, "tmux key names, before the text").defaulted(),
                        field("enter", &SendParams::enter, "press Enter behind the text").defaulted(),
                        field("auth_sock", &SendParams::auth_sock, kAuthSockDoc),
                        field("interactive", &SendParams::interactive, kInteractiveDoc).defaulted());
};

template <>
struct Fields<AttachParams> {
    static constexpr std::string_view name = "AttachParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("session", &AttachParams::session, kSessionDoc),
                        field("auth_sock", &AttachParams::auth_sock, kAuthSockDoc),
                        field("interactive", &AttachParams::interactive, kInteractiveDoc).defaulted(),
                        field("read_only", &AttachParams::read_only, "nothing that is typed gets there").defaulted(),
                        field("refused", &AttachParams::refused, kRefusedDoc));
};

template <>
struct Fields<AttachResult> {
    static constexpr std::string_view name = "AttachResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("lease", &AttachResult::lease, "ends with release or the caller's connection"),
                        field("argv", &AttachResult::argv, "what to execute on a terminal"),
                        field("control_path", &AttachResult::control_path, "the master's control socket"),
                        field("command", &AttachResult::command, "for a channel with a terminal on that master"),
                        field("session", &AttachResult::session, "the session"));
};

template <>
struct Fields<AcquireParams> {
    static constexpr std::string_view name = "AcquireParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("ctx", &AcquireParams::ctx, kCtxDoc), field("auth_sock", &AcquireParams::auth_sock, kAuthSockDoc),
        field("interactive", &AcquireParams::interactive, kInteractiveDoc).defaulted(),
        field("refused", &AcquireParams::refused, kRefusedDoc),
        field("pid", &AcquireParams::pid,
              "a process of the caller's user that holds the lease until it ends, in place of the caller's connection; "
              "a server whose last login failed is not tried again for it")
            .at_least(1),
        field("hang_up", &AcquireParams::hang_up,
              "a command runs with the lease as its mark: where the lease ends without release, it gets SIGHUP")
            .defaulted(),
        field("channel", &AcquireParams::channel, "false: for what opens no session, such as ssh -W").defaulted(),
        field("own_master", &AcquireParams::own_master,
              "a login for this lease alone, for what would slow down the others; the shared one all the same where "
              "that needs a person or is refused")
            .defaulted(),
        field("link", &AcquireParams::link,
              "with pid: a file name below ssh/ in the runtime directory that leads to control_path while the lease "
              "lasts"),
        field("settings", &AcquireParams::settings,
              "digest of what `ssh -G` says for the caller's own ssh: refused where the daemon's would log in another "
              "way"));
};

template <>
struct Fields<AcquireResult> {
    static constexpr std::string_view name = "AcquireResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("lease", &AcquireResult::lease, "one channel on the master; ends with release or its holder"),
        field("control_path", &AcquireResult::control_path, "the master's control socket"),
        field("connection", &AcquireResult::connection, "the connection"),
        field("reused", &AcquireResult::reused, "false: this call made the login"));
};

template <>
struct Fields<LeaseParams> {
    static constexpr std::string_view name = "LeaseParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("lease", &LeaseParams::lease, "of the caller"));
};

template <>
struct Fields<LeaseSignalParams> {
    static constexpr std::string_view name = "LeaseSignalParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("lease", &LeaseSignalParams::lease, "of the caller"),
                                                 field("signal", &LeaseSignalParams::signal, "TERM, SIGTERM or 15"));
};

template <>
struct Fields<ExecParams> {
    static constexpr std::string_view name = "ExecParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("ctx", &ExecParams::ctx, kCtxDoc), field("command", &ExecParams::command, "arrives as given").not_empty(),
        field("stdin", &ExecParams::standard_input, "at most 4 MiB"),
        field("stdin_encoding", &ExecParams::stdin_encoding, "of stdin").defaulted(),
        field("timeout_ms", &ExecParams::timeout_ms, "absent: as long as it takes").at_least(0),
        field("cwd", &ExecParams::cwd, "directory on the server"),
        field("env", &ExecParams::env, "variables of the command").defaulted(),
        field("auth_sock", &ExecParams::auth_sock, kAuthSockDoc),
        field("interactive", &ExecParams::interactive, kInteractiveDoc).defaulted());
};

template <>
struct Fields<ExecResult> {
    static constexpr std::string_view name = "ExecResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("exit_code", &ExecResult::exit_code, "128 + n where a signal ended it"),
                        field("signal", &ExecResult::signal, "what ended it, without SIG"),
                        field("stdout", &ExecResult::standard_output, "at most 1 MiB"),
                        field("stderr", &ExecResult::standard_error, "at most 1 MiB"),
                        field("encoding", &ExecResult::encoding, "of both: base64 where one is not valid UTF-8"),
                        field("truncated", &ExecResult::truncated, "there was more"));
};

template <>
struct Fields<ForwardAddParams> {
    static constexpr std::string_view name = "ForwardAddParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("ctx", &ForwardAddParams::ctx, kCtxDoc), field("kind", &ForwardAddParams::kind, "as ssh -L, -R and -D"),
        field("listen", &ForwardAddParams::listen, "[address:]port or path; remote with port 0: the server chooses"),
        field("target", &ForwardAddParams::target, "host:port or path; none for dynamic, nor for SOCKS on the server"),
        field("session", &ForwardAddParams::session, "it ends with this session"),
        field("lease", &ForwardAddParams::lease, "it ends with this lease"),
        field("auth_sock", &ForwardAddParams::auth_sock, kAuthSockDoc),
        field("interactive", &ForwardAddParams::interactive, kInteractiveDoc).defaulted());
};

template <>
struct Fields<Forward> {
    static constexpr std::string_view name = "Forward";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("id", &Forward::id, "for forward.remove"), field("ctx", &Forward::ctx, "the context it was added in"),
        field("server", &Forward::server, "where it leads"), field("kind", &Forward::kind, "as ssh -L, -R and -D"),
        field("listen", &Forward::listen, "[address:]port or path"),
        field("target", &Forward::target, "host:port or path; null for dynamic"),
        field("session", &Forward::session, "it ends with this session"),
        field("lease", &Forward::lease, "it ends with this lease"),
        field("active", &Forward::active, "it forwards now"), field("error", &Forward::error, "why it does not"));
};

template <>
struct Fields<ForwardResult> {
    static constexpr std::string_view name = "ForwardResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("forward", &ForwardResult::forward, "the forward"));
};

template <>
struct Fields<ForwardListParams> {
    static constexpr std::string_view name = "ForwardListParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("ctx", &ForwardListParams::ctx, "only of this context"));
};

template <>
struct Fields<ForwardListResult> {
    static constexpr std::string_view name = "ForwardListResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("forwards", &ForwardListResult::forwards, "oldest first"));
};

template <>
struct Fields<ForwardRemoveParams> {
    static constexpr std::string_view name = "ForwardRemoveParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("forward", &ForwardRemoveParams::forward, "its id"));
};

template <>
struct Fields<AnswerParams> {
    static constexpr std::string_view name = "AnswerParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("prompt", &AnswerParams::prompt, "of a prompt notification"),
                        field("text", &AnswerParams::text, "what the person typed"),
                        field("confirm", &AnswerParams::confirm, "yes or no"),
                        field("cancel", &AnswerParams::cancel, "the person does not answer: the login is given up"));
};

template <>
struct Fields<AskpassParams> {
    static constexpr std::string_view name = "AskpassParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("token", &AskpassParams::token, "of the login"),
                                                 field("text", &AskpassParams::text, "what ssh asks"),
                                                 field("kind", &AskpassParams::kind, "ssh's SSH_ASKPASS_PROMPT"));
};

template <>
struct Fields<AskpassResult> {
    static constexpr std::string_view name = "AskpassResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("text", &AskpassResult::text, "what ssh is told"));
};

template <>
struct Fields<Prompt> {
    static constexpr std::string_view name = "Prompt";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("prompt", &Prompt::prompt, "for answer"), field("text", &Prompt::text, "what ssh asks"),
                        field("echo", &Prompt::echo, "the answer may be shown while it is typed"),
                        field("confirm", &Prompt::confirm, "a question of yes or no"),
                        field("notice", &Prompt::notice, "nothing is to be answered"),
                        field("ctx", &Prompt::ctx, "the context that is logged in to"));
};

template <>
struct Fields<LeaseLost> {
    static constexpr std::string_view name = "LeaseLost";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("lease", &LeaseLost::lease, "whose master was given up"));
};

template <>
struct Fields<ConnectParams> {
    static constexpr std::string_view name = "ConnectParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("ctx", &ConnectParams::ctx, kCtxDoc), field("auth_sock", &ConnectParams::auth_sock, kAuthSockDoc),
        field("interactive", &ConnectParams::interactive, kInteractiveDoc).defaulted());
};

template <>
struct Fields<ConnectResult> {
    static constexpr std::string_view name = "ConnectResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("connection", &ConnectResult::connection, "the connection"),
                        field("reused", &ConnectResult::reused, "false: this call made the login"));
};

template <>
struct Fields<DisconnectParams> {
    static constexpr std::string_view name = "DisconnectParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("ctx", &DisconnectParams::ctx, kCtxDoc),
                        field("force", &DisconnectParams::force, "does not wait for leases to end").defaulted());
};

template <>
struct Fields<ConnectionResult> {
    static constexpr std::string_view name = "ConnectionResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("connection", &ConnectionResult::connection, "the connection"));
};

template <>
struct Fields<CheckParams> {
    static constexpr std::string_view name = "CheckParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(field("ctx", &CheckParams::ctx, "absent: every connection"));
};

template <>
struct Fields<ConnectionsResult> {
    static constexpr std::string_view name = "ConnectionsResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("connections", &ConnectionsResult::connections, "as found by the probes"));
};

template <>
struct Fields<StatsResult> {
    static constexpr std::string_view name = "StatsResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("connections", &StatsResult::connections, "every entry of the pool"),
        field("connection_stats", &StatsResult::connection_stats, "server key to number of sessions not ended"),
        field("total_connections", &StatsResult::total_connections, "live masters"),
        field("total_sessions", &StatsResult::total_sessions, "not ended"),
        field("total_refs", &StatsResult::total_refs, "sessions not ended and leases"),
        field("handshakes", &StatsResult::handshakes, "logins made"),
        field("handshakes_saved", &StatsResult::handshakes_saved, "calls that needed no login"),
        field("daemon", &StatsResult::daemon, "of the daemon itself"));
};

template <>
struct Fields<Context> {
    static constexpr std::string_view name = "Context";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("name", &Context::name, "of the context"),
                        field("server", &Context::server, "null where ssh -G has not been asked yet or refused"),
                        field("source", &Context::source, "config, ssh_config or destination"),
                        field("default", &Context::is_default, "taken where a call names none"));
};

template <>
struct Fields<ContextsParams> {
    static constexpr std::string_view name = "ContextsParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("known", &ContextsParams::known, "asks ssh -G about no server").defaulted());
};

template <>
struct Fields<ContextsResult> {
    static constexpr std::string_view name = "ContextsResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(field("contexts", &ContextsResult::contexts, "those known"));
};

template <>
struct Fields<VersionResult> {
    static constexpr std::string_view name = "VersionResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("version", &VersionResult::version, "of cmsshd"),
        field("protocol", &VersionResult::protocol, "raised by a change that a client cannot pass over"),
        field("capabilities", &VersionResult::capabilities, "what this daemon can do beyond it"));
};

template <>
struct Fields<Progress> {
    static constexpr std::string_view name = "Progress";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("id", &Progress::id, "of the request that waits"),
                        field("ctx", &Progress::ctx, "its context"), field("server", &Progress::server, "server key"),
                        field("phase", &Progress::phase,
                              "queued, connecting (ssh logs in), opening_tmux, waiting_for_channel or using_existing"));
};

template <>
struct Fields<SubscribeParams> {
    static constexpr std::string_view name = "SubscribeParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list = std::make_tuple(
        field("types", &SubscribeParams::types, "absent: all; overflow comes to everybody").not_empty());
};

template <>
struct Fields<Snapshot> {
    static constexpr std::string_view name = "Snapshot";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("sessions", &Snapshot::sessions, "not ended"),
                        field("connections", &Snapshot::connections, "every entry of the pool"),
                        field("forwards", &Snapshot::forwards, "all of them"));
};

template <>
struct Fields<SubscribeResult> {
    static constexpr std::string_view name = "SubscribeResult";
    static constexpr Use use = Use::Result;
    static constexpr auto list =
        std::make_tuple(field("subscription", &SubscribeResult::subscription, "its id, for unsubscribe"),
                        field("snapshot", &SubscribeResult::snapshot, "what there is right before the first event"));
};

template <>
struct Fields<UnsubscribeParams> {
    static constexpr std::string_view name = "UnsubscribeParams";
    static constexpr Use use = Use::Params;
    static constexpr auto list =
        std::make_tuple(field("subscription", &UnsubscribeParams::subscription, "its id, of this client"));
};

template <>
struct Fields<Event> {
    static constexpr std::string_view name = "Event";
    static constexpr Use use = Use::Result;
    static constexpr auto list = std::make_tuple(
        field("subscription", &Event::subscription, "whose event it is"),
        field("seq", &Event::seq, "1 for the first of a subscription, and up by one each time"),
        field("type", &Event::type, "overflow: the last one, since its reader is too slow; subscribe again"),
        field("at", &Event::at, "RFC 3339 UTC"),
        field("removed", &Event::removed, "true: the connection or the forward is not listed any more").omitted(),
        field("session", &Event::session, "as it is now, with types session.*").omitted(),
        field("connection", &Event::connection, "as it is now, with connection.changed").omitted(),
        field("forward", &Event::forward, "as it is now, with forward.changed").omitted());
};

template <typename T>
Result<T> read(const Json& json) {
    T value;
    const detail::Path root{.parent = nullptr, .name = Fields<T>::use == Use::Params ? "params" : "result"};
    if (Result<void> outcome = detail::read_struct(json, root, value); !outcome) {
        return std::move(outcome).error();
    }
    return value;
}

template <typename T>
JsonText write(const T& value) {
    JsonText json;
    detail::append_value(json.text, value);
    return json;
}

template <typename T>
Json param_list(Json& components) {
    Json params = Json::array();
    const auto add = [&](const auto& field, bool required) {
        if (detail::required(field) == required) {
            params.push_back({{"name", field.name},
                              {"summary", field.doc},
                              {"required", required},
                              {"schema", detail::field_schema(field, components)}});
        }
    };
    std::apply(
        [&](const auto&... field) {
            (add(field, true), ...);
            (add(field, false), ...);
        },
        Fields<T>::list);
    return params;
}

template <typename T>
Json result_entry(Json& components) {
    return {{"name", Fields<T>::name}, {"schema", detail::struct_schema<T>(components)}};
}

#define CMSSH_STRUCT(T)                           \
    template Result<T> read<T>(const Json& json); \
    template JsonText write<T>(const T& value);
#define CMSSH_PARAMS(T) \
    CMSSH_STRUCT(T)     \
    template Json param_list<T>(Json & components);
#define CMSSH_RESULT(T) \
    CMSSH_STRUCT(T)     \
    template Json result_entry<T>(Json & components);

CMSSH_STRUCT(Server)
CMSSH_STRUCT(TmuxPlace)
CMSSH_STRUCT(Session)
CMSSH_STRUCT(Channels)
CMSSH_STRUCT(Rtt)
CMSSH_STRUCT(Probes)
CMSSH_STRUCT(LastError)
CMSSH_STRUCT(Connection)
CMSSH_STRUCT(DaemonStats)
CMSSH_STRUCT(Size)
CMSSH_PARAMS(Empty)
template Json result_entry<Empty>(Json& components);
CMSSH_PARAMS(StartParams)
CMSSH_RESULT(StartResult)
CMSSH_PARAMS(ListParams)
CMSSH_RESULT(ListResult)
template JsonText write<ListedSessions>(const ListedSessions& value);
CMSSH_PARAMS(SessionParams)
CMSSH_RESULT(SessionResult)
CMSSH_PARAMS(KillParams)
CMSSH_RESULT(KillResult)
CMSSH_PARAMS(WaitParams)
CMSSH_PARAMS(LogsParams)
CMSSH_RESULT(LogsResult)
CMSSH_PARAMS(SendParams)
CMSSH_PARAMS(AttachParams)
CMSSH_RESULT(AttachResult)
CMSSH_PARAMS(AcquireParams)
CMSSH_RESULT(AcquireResult)
CMSSH_PARAMS(LeaseParams)
CMSSH_PARAMS(LeaseSignalParams)
CMSSH_PARAMS(ExecParams)
CMSSH_RESULT(ExecResult)
CMSSH_PARAMS(ForwardAddParams)
CMSSH_STRUCT(Forward)
CMSSH_RESULT(ForwardResult)
CMSSH_PARAMS(ForwardListParams)
CMSSH_RESULT(ForwardListResult)
CMSSH_PARAMS(ForwardRemoveParams)
CMSSH_PARAMS(AnswerParams)
CMSSH_PARAMS(AskpassParams)
CMSSH_STRUCT(AskpassResult)
CMSSH_PARAMS(ConnectParams)
CMSSH_RESULT(ConnectResult)
CMSSH_PARAMS(DisconnectParams)
CMSSH_RESULT(ConnectionResult)
CMSSH_PARAMS(CheckParams)
CMSSH_RESULT(ConnectionsResult)
CMSSH_RESULT(StatsResult)
CMSSH_STRUCT(Context)
CMSSH_PARAMS(ContextsParams)
CMSSH_RESULT(ContextsResult)
CMSSH_RESULT(VersionResult)
CMSSH_STRUCT(Progress)
CMSSH_STRUCT(Prompt)
CMSSH_STRUCT(LeaseLost)

CMSSH_PARAMS(SubscribeParams)
CMSSH_STRUCT(Snapshot)
CMSSH_RESULT(SubscribeResult)
CMSSH_PARAMS(UnsubscribeParams)
CMSSH_RESULT(Event)

#undef CMSSH_STRUCT
#undef CMSSH_PARAMS
#undef CMSSH_RESULT

}  // namespace cmssh::api
