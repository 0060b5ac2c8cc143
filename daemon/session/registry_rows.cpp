#include "daemon/session/registry_rows.hpp"

#include <SQLiteCpp/Column.h>

#include <algorithm>
#include <utility>

#include "daemon/session/pending_kill.hpp"
#include "protocol/jsonrpc.hpp"
#include "protocol/names.hpp"

namespace cmssh::rows {
namespace {

// The end of the year 9999: a time beyond it can't be shown.
constexpr std::int64_t kLatestMs = tmux::kLatestTime * 1000 + 999;

// Session is StoredSession or const StoredSession.
template <typename Session, typename Visit>
void session_columns(Session& session, Visit&& column) {
    column("id", session.view.id);
    column("name", session.view.name);
    column("ctx", session.view.ctx);
    column("user", session.view.server.user);
    column("host", session.view.server.host);
    column("port", session.view.server.port);
    column("via", session.view.server.via);
    column("server_key", session.view.server.key);
    column("command", session.view.command);
    column("cwd", session.view.cwd);
    column("state", session.view.state);
    column("exit_code", session.view.exit_code);
    column("signal", session.view.signal);
    column("reason", session.view.reason);
    column("created_at", session.view.created_at);
    column("ended_at", session.view.ended_at);
    column("as_of", session.view.as_of);
    column("tmux_socket", session.view.tmux.socket);
    column("tmux_session", session.view.tmux.session);
    column("created_ms", session.created_ms);
    column("ended_ms", session.ended_ms);
    column("request_id", session.request_id);
    column("pane_id", session.place.pane_id);
    column("window_id", session.place.window_id);
    column("pane_pid", session.place.pane_pid);
    column("boot_id", session.life.boot_id);
    column("tmux_life", session.life.tmux);
    column("signals_sent", session.signals_sent);
    column("pending_kill", session.pending_kill);
}

// key_text comes first and apart: it follows from the others.
template <typename Connection, typename Visit>
void connection_columns(Connection& connection, Visit&& column) {
    column("user", connection.key.user);
    column("host", connection.key.host);
    column("port", connection.key.port);
    column("via", connection.key.via);
    column("alias", connection.key.alias);
    column("identity", connection.key.as);
    column("control_path", connection.control_path);
    column("route_host", connection.route.destination.host);
    column("route_user", connection.route.destination.user);
    column("route_port", connection.route.destination.port);
    column("route_identity_file", connection.route.identity_file);
    column("ssh_user", connection.dump.user);
    column("ssh_hostname", connection.dump.hostname);
    column("ssh_port", connection.dump.port);
    column("ssh_proxyjump", connection.dump.proxyjump);
    column("ssh_proxycommand", connection.dump.proxycommand);
    column("ssh_hostkeyalias", connection.dump.hostkeyalias);
    column("ssh_identityfiles", connection.dump.identityfiles);
    column("ssh_identitiesonly", connection.dump.identitiesonly);
    column("ssh_server_alive_set", connection.dump.server_alive_set);
    column("held_back", connection.held_back);
    column("held_back_by", connection.held_back_by);
}

template <typename Forward, typename Visit>
void forward_columns(Forward& forward, Visit&& column) {
    column("id", forward.view.id);
    column("ctx", forward.view.ctx);
    column("server_key", forward.view.server.key);
    column("kind", forward.view.kind);
    column("listen", forward.view.listen);
    column("target", forward.view.target);
    column("session", forward.view.session);
    column("lease", forward.view.lease);
    column("asked_listen", forward.listen);
}

class Names {
public:
    void operator()(const char* name, const auto& /*value*/) {
        names_ += (count_ == 0 ? "" : ", ") + std::string(name);
        places_ += count_ == 0 ? "?" : ", ?";
        ++count_;
    }
    [[nodiscard]] std::string insert(const std::string& table) const {
        return "INSERT OR REPLACE INTO " + table + " (" + names_ + ") VALUES (" + places_ + ")";
    }
    [[nodiscard]] std::string select(const std::string& table) const { return "SELECT " + names_ + " FROM " + table; }

private:
    std::string names_;
    std::string places_;
    int count_ = 0;
};

Names session_names() {
    Names names;
    const StoredSession none;
    session_columns(none, names);
    return names;
}

Names connection_names() {
    Names names;
    const StoredConnection none;
    names("key_text", 0);
    connection_columns(none, names);
    return names;
}

Names forward_names() {
    Names names;
    const StoredForward none;
    forward_columns(none, names);
    return names;
}

class Binder {
public:
    explicit Binder(SQLite::Statement& statement) : statement_(statement) {}

    void operator()(const char* /*name*/, const std::string& value) { statement_.bindNoCopy(++at_, value); }
    void operator()(const char* /*name*/, std::int64_t value) { statement_.bind(++at_, value); }
    void operator()(const char* /*name*/, int value) { statement_.bind(++at_, value); }
    void operator()(const char* /*name*/, bool value) { statement_.bind(++at_, value ? 1 : 0); }
    void operator()(const char* /*name*/, api::SessionState value) {
        statement_.bind(++at_, std::string(api::to_string(value)));
    }
    void operator()(const char* /*name*/, api::ForwardKind value) {
        statement_.bind(++at_, std::string(api::to_string(value)));
    }
    template <typename T>
    void operator()(const char* name, const std::optional<T>& value) {
        if (value) {
            (*this)(name, *value);
        } else {
            statement_.bind(++at_);
        }
    }
    void operator()(const char* /*name*/, const std::vector<std::string>& value) { copy(dump_json(value)); }
    void operator()(const char* /*name*/, const std::set<int>& value) { copy(dump_json(value)); }
    void operator()(const char* /*name*/, const api::LastError& value) { copy(api::write(value).text); }

    // A copy, which SQLite keeps: key_text is nobody's member.
    void copy(const std::string& value) { statement_.bind(++at_, value); }

private:
    SQLite::Statement& statement_;
    int at_ = 0;
};

class Reader {
public:
    explicit Reader(const SQLite::Statement& statement) : statement_(statement) {}

    void operator()(const char* name, std::string& value) {
        const SQLite::Column column = statement_.getColumn(at_++);
        if (!column.isText()) {
            report(name, "is no text");
            return;
        }
        value = column.getString();
    }
    void operator()(const char* name, std::int64_t& value) { read_integer(name, value); }
    void operator()(const char* name, int& value) { read_integer(name, value); }
    void operator()(const char* name, bool& value) {
        int number = 0;
        read_integer(name, number);
        value = number != 0;
    }
    void operator()(const char* name, api::SessionState& value) {
        using enum api::SessionState;
        std::string text;
        (*this)(name, text);
        for (const auto state : {Starting, Running, Unreachable, Exited, Killed, Lost}) {
            if (text == api::to_string(state)) {
                value = state;
                return;
            }
        }
        report(name, "is not a state");
    }
    void operator()(const char* name, api::ForwardKind& value) {
        using enum api::ForwardKind;
        std::string text;
        (*this)(name, text);
        for (const auto kind : {Local, Remote, Dynamic}) {
            if (text == api::to_string(kind)) {
                value = kind;
                return;
            }
        }
        report(name, "is not a kind");
    }
    template <typename T>
    void operator()(const char* name, std::optional<T>& value) {
        if (statement_.isColumnNull(at_)) {
            value.reset();
            ++at_;
        } else {
            (*this)(name, value.emplace());
        }
    }
    void operator()(const char* name, std::vector<std::string>& value) {
        const auto add = [&value](const Json& item) {
            if (item.is_string()) {
                value.push_back(item.get_ref<const std::string&>());
            }
            return item.is_string();
        };
        read_list(name, add, "is not a list of texts");
    }
    void operator()(const char* name, std::set<int>& value) {
        const auto add = [&value](const Json& item) {
            const bool fits = item.is_number_unsigned() && item.get<std::uint64_t>() < 128;
            if (fits) {
                value.insert(static_cast<int>(item.get<std::uint64_t>()));
            }
            return fits;
        };
        read_list(name, add, "is not a list of signals");
    }

    void operator()(const char* name, api::LastError& value) {
        std::string text;
        (*this)(name, text);
        const Result<Json> json = parse_json(text);
        auto read = json ? api::read<api::LastError>(*json) : json.error();
        if (read) {
            value = std::move(*read);
        } else {
            report(name, "is no error");
        }
    }

    void expect(bool holds, const char* name, const char* otherwise) {
        if (!holds) {
            report(name, otherwise);
        }
    }
    [[nodiscard]] const std::string& problem() const { return problem_; }

private:
    template <typename T>
    void read_integer(const char* name, T& value) {
        const SQLite::Column column = statement_.getColumn(at_++);
        if (!column.isInteger() || !std::in_range<T>(column.getInt64())) {
            report(name, "is no integer that fits");
            return;
        }
        value = static_cast<T>(column.getInt64());
    }

    void read_list(const char* name, const auto& add, const char* otherwise) {
        std::string text;
        (*this)(name, text);
        const Result<Json> json = parse_json(text);
        if (!json || !json->is_array() || !std::all_of(json->begin(), json->end(), add)) {
            report(name, otherwise);
        }
    }

    void report(const char* name, const char* what) {
        if (problem_.empty()) {
            problem_ = std::string(name) + " " + what;
        }
    }

    const SQLite::Statement& statement_;
    int at_ = 0;
    std::string problem_;
};

bool valid_port(int port) {
    return port >= 1 && port <= 65535;
}

// As a tmux session's name comes from a server: nothing that ends a word or a line.
bool valid_id(std::string_view id) {
    constexpr std::size_t kMaxLength = 256;
    return id.starts_with(kSessionIdPrefix) && id.size() <= kMaxLength &&
           std::none_of(id.begin(), id.end(), [](unsigned char byte) { return byte <= ' ' || byte == 0x7f; });
}

bool valid_forward_id(std::string_view id) {
    constexpr std::size_t kMaxLength = 64;
    return id.starts_with("fwd-") && id.size() <= kMaxLength && std::all_of(id.begin(), id.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
           });
}

}  // namespace

std::string insert_session() {
    return session_names().insert("sessions");
}
std::string select_sessions() {
    return session_names().select("sessions");
}
std::string insert_forward() {
    return forward_names().insert("forwards");
}
std::string select_forwards() {
    return forward_names().select("forwards");
}
std::string insert_connection() {
    return connection_names().insert("connections");
}
std::string select_connections() {
    return connection_names().select("connections");
}

void bind(SQLite::Statement& statement, const StoredSession& session) {
    session_columns(session, Binder(statement));
}

void bind(SQLite::Statement& statement, const StoredConnection& connection) {
    Binder binder(statement);
    binder.copy(connection.key.text());
    connection_columns(connection, binder);
}

void bind(SQLite::Statement& statement, const StoredForward& forward) {
    forward_columns(forward, Binder(statement));
}

std::string read(const SQLite::Statement& statement, StoredSession& session) {
    Reader reader(statement);
    session_columns(session, reader);
    const auto valid_time = [](std::int64_t ms) { return ms >= 0 && ms <= kLatestMs; };
    reader.expect(valid_id(session.view.id), "id", "is not a session's");
    reader.expect(!session.view.server.key.empty(), "server_key", "is empty");
    reader.expect(valid_port(session.view.server.port), "port", "is out of range");
    reader.expect(valid_time(session.created_ms), "created_ms", "is out of range");
    reader.expect(valid_time(session.ended_ms), "ended_ms", "is out of range");
    reader.expect(session.place.pane_pid >= 0, "pane_pid", "is out of range");
    const auto signals = pending_signals(session.pending_kill);
    const bool known =
        std::all_of(signals.begin(), signals.end(), [](const auto& it) { return signal_number(it) != 0; });
    reader.expect(known, "pending_kill", "is not a signal");
    return reader.problem();
}

std::string read(const SQLite::Statement& statement, StoredConnection& connection) {
    Reader reader(statement);
    std::string key_text;
    reader("key_text", key_text);
    connection_columns(connection, reader);
    // What becomes an argument of ssh keeps to the allow-lists.
    const Destination& destination = connection.route.destination;
    reader.expect(key_text == connection.key.text(), "key_text", "is not that of the row");
    reader.expect(valid_host(connection.key.host), "host", "is no host");
    reader.expect(valid_user(connection.key.user), "user", "is no user");
    reader.expect(valid_port(connection.key.port), "port", "is out of range");
    reader.expect(valid_host(destination.host), "route_host", "is no host");
    reader.expect(!destination.user || valid_user(*destination.user), "route_user", "is no user");
    reader.expect(!destination.port || valid_port(*destination.port), "route_port", "is out of range");
    reader.expect(valid_host(connection.dump.hostname), "ssh_hostname", "is no host");
    reader.expect(valid_user(connection.dump.user), "ssh_user", "is no user");
    reader.expect(valid_port(connection.dump.port), "ssh_port", "is out of range");
    reader.expect(connection.control_path.starts_with('/'), "control_path", "is not absolute");
    return reader.problem();
}

std::string read(const SQLite::Statement& statement, StoredForward& forward) {
    Reader reader(statement);
    forward_columns(forward, reader);
    reader.expect(valid_forward_id(forward.view.id), "id", "is not a forward's");
    return reader.problem();
}

}  // namespace cmssh::rows
