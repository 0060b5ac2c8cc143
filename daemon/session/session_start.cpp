// Sessions::start and what belongs to it.
#include "daemon/base/log.hpp"
#include "daemon/base/random.hpp"
#include "daemon/session/sessions.hpp"
#include "protocol/names.hpp"
#include "protocol/tmux_control.hpp"

namespace cmssh {
namespace {

// Linux refuses an argument of 128 KiB (MAX_ARG_STRLEN), and tmux 3.2 to 3.7c takes control lines of 1 MB: a session's
// line holds its command once as text and once, hex encoded, as metadata.
constexpr std::size_t kMaxArgument = 128 * 1024 - 1;
constexpr std::size_t kMaxCommand = 256 * 1024;
constexpr std::size_t kMaxEnvironment = 256 * 1024;
// tmux's parser takes ten thousand words of a line at most, whatever their length; a variable is two.
constexpr std::size_t kMaxWords = 8000;
// What tmux_scripts.cpp calls its own.
constexpr std::string_view kScriptsVariables = "cmssh_";
constexpr std::string_view kScriptsCopies = "CMSSH_ENV_";
// Longer than any start takes: a server's tmux answers in milliseconds.
constexpr Duration kStartDeadline = std::chrono::seconds(15);
// For a cd on the server, which hangs only where a file system does.
constexpr Duration kEnterDeadline = std::chrono::seconds(3);
constexpr Duration kEnterPause = std::chrono::milliseconds(20);
constexpr Duration kSettleDeadline = std::chrono::hours(1);

Error invalid(std::string message, std::string hint = {}) {
    return Error{.kind = ErrorKind::InvalidParams, .message = std::move(message), .hint = std::move(hint)};
}

Result<void> check_text(const std::string& what, const std::string& text) {
    if (text.find('\0') != std::string::npos) {
        return invalid(what + " holds a NUL byte");
    }
    if (!tmux::valid_utf8(text)) {
        return invalid(what + " is not valid UTF-8");
    }
    return {};
}

Result<void> check_environment(const std::string& where, const std::map<std::string, std::string>& env) {
    std::size_t total = 0;
    for (const auto& [name, value] : env) {
        if (!valid_env_name(name)) {
            return invalid(where + ": " + printable(name) + " is not a variable's name",
                           "letters, digits and _, and no digit first");
        }
        if (name == "CMSSH_SESSION" || name == "CMSSH_SESSION_CTX") {
            return invalid(where + ": " + name + " is what tells a session its own id and context", "leave it out");
        }
        if (name.starts_with(kScriptsVariables) || name.starts_with(kScriptsCopies)) {
            return invalid(where + ": " + printable(name) + " is a name that the start itself uses", "another name");
        }
        if (auto checked = check_text(where + '.' + name, value); !checked) {
            return checked;
        }
        total += name.size() + value.size() + 2;
        if (kScriptsCopies.size() + name.size() + 1 + value.size() > kMaxArgument || total > kMaxEnvironment) {
            return Error{.kind = ErrorKind::Limit,
                         .message = where + '.' + name + " is too long",
                         .hint = "put long input into a file on the server"};
        }
    }
    return {};
}

Result<void> check_environment_of(const ResolvedContext& context) {
    return check_environment("contexts." + context.name + ".env", context.env);
}

// Where a working directory as a person writes it lies on the server.
std::string directory_on_server(const std::string& cwd, const std::string& home) {
    if (cwd.starts_with('/')) {
        return cwd;
    }
    if (cwd == "~" || cwd.starts_with("~/")) {
        return home + cwd.substr(1);
    }
    return home + '/' + cwd;
}

// The path as the kernel shows it where no symlink is in it: without empty and "." parts.
std::string plain_path(std::string_view path) {
    std::string plain;
    while (!path.empty()) {
        const auto end = path.find('/');
        const auto part = path.substr(0, end);
        if (!part.empty() && part != ".") {
            plain += '/';
            plain += part;
        }
        path.remove_prefix(end == std::string_view::npos ? path.size() : end + 1);
    }
    return plain.empty() ? "/" : plain;
}

}  // namespace

Result<void> Sessions::check_start(const api::StartParams& params) const {
    if (params.command.empty() || params.command.front().empty()) {
        return invalid("params.command: expected a command");
    }
    if (params.command.front().starts_with('-')) {
        // The shell's exec would take it for an option, and dash has no -- to prevent that.
        return invalid("params.command: " + printable(params.command.front()) + " looks like an option",
                       "give a program of that name with its path");
    }
    if (params.command.size() + 2 * params.env.size() > kMaxWords) {
        return Error{.kind = ErrorKind::Limit,
                     .message = "params.command and params.env: over " + std::to_string(kMaxWords) +
                                " words, of which a variable is two",
                     .hint = "put long input into a file on the server"};
    }
    std::size_t total = 0;
    for (const auto& argument : params.command) {
        if (auto checked = check_text("params.command", argument); !checked) {
            return checked;
        }
        total += argument.size() + 1;
        if (argument.size() > kMaxArgument || total > kMaxCommand) {
            return Error{.kind = ErrorKind::Limit,
                         .message = "params.command: over 128 KiB in one argument or 256 KiB in all",
                         .hint = "put long input into a file on the server"};
        }
    }
    if (params.name && !valid_session_name(*params.name)) {
        return Error{.kind = ErrorKind::InvalidName,
                     .message = "params.name: " + printable(*params.name) + " is not a session's name",
                     .hint = "letters, digits, - and _, first a letter or digit, at most 64, and not sess-…"};
    }
    if (params.name && table_.name_in_use(*params.name)) {
        return Error{.kind = ErrorKind::NameTaken,
                     .message = "a session that has not ended is named " + *params.name,
                     .hint = "choose another --name, or cmctl kill " + *params.name};
    }
    if (params.cwd) {
        if (auto checked = check_text("params.cwd", *params.cwd); !checked) {
            return checked;
        }
        if (params.cwd->size() > 4096 || params.cwd->empty()) {
            return Error{.kind = ErrorKind::BadCwd,
                         .message = "params.cwd: expected a path of 1 to 4096 bytes",
                         .hint = "give a --cwd that exists on the server"};
        }
    }
    return check_environment("params.env", params.env);
}

Sessions::RecordPtr Sessions::make_record(const api::StartParams& params, const Found& found) {
    auto record = std::make_shared<SessionRecord>(clock_);
    do {
        record->view.id = make_session_id(random_bits());
    } while (table_.by_id(record->view.id) != nullptr);
    record->view.name = params.name.value_or(record->view.id);
    record->view.ctx = found.context.name;
    record->view.server = found.connection->server();
    record->view.command = params.command;
    if (const auto tool = config_.tools.find(params.command.front()); tool != config_.tools.end()) {
        record->view.command = tool->second;
        record->view.command.insert(record->view.command.end(), params.command.begin() + 1, params.command.end());
    }
    record->view.cwd = params.cwd ? params.cwd : found.context.cwd;
    record->created_ms = clock_.wall_ms();
    record->view.created_at = format_time(record->created_ms);
    record->view.as_of = record->view.created_at;
    record->view.tmux = {.socket = config_.sessions.tmux_socket, .session = record->view.id};
    record->request_id = params.request_id.value_or("");
    record->connection = &*found.connection;
    record->hold = Hold(*found.connection, HoldKind::Session);
    record->being_started = true;
    if (const TmuxChannel* channel = found.connection->tmux()) {
        record->life = channel->life();
    }
    return record;
}

asio::awaitable<Result<api::StartResult>> Sessions::start(api::StartParams params, Caller caller) {
    if (params.request_id) {
        if (params.request_id->size() > 256 || params.request_id->empty()) {
            co_return invalid("params.request_id: expected 1 to 256 bytes");
        }
        if (auto known = table_.by_request(*params.request_id)) {
            co_return co_await repeated_start(std::move(known), std::move(params), std::move(caller));
        }
    }
    if (auto checked = check_start(params); !checked) {
        co_return std::move(checked).error();
    }
    auto found = co_await find_connection(params.ctx);
    if (!found) {
        co_return std::move(found).error();
    }
    if (auto checked = check_environment_of(found->context); !checked) {
        co_return std::move(checked).error();
    }
    // Others ran while `ssh -G` did.
    if (params.request_id) {
        if (auto known = table_.by_request(*params.request_id)) {
            co_return co_await repeated_start(std::move(known), std::move(params), std::move(caller));
        }
    }
    if (auto checked = check_start(params); !checked) {
        co_return std::move(checked).error();
    }
    forget_ended();
    auto record = make_record(params, *found);
    table_.add(record);
    // Before anything is sent: whatever becomes of this daemon, the session is known.
    registry_.put(*record, Durability::Process);
    auto env = std::move(found->context.env);
    co_return co_await start_record(std::move(record), params, std::move(env), Tried::Never, std::move(caller));
}

asio::awaitable<Result<api::StartResult>> Sessions::start_record(RecordPtr record, const api::StartParams& params,
                                                                 std::map<std::string, std::string> env, Tried tried,
                                                                 Caller caller) {
    tmux::NewSession session;
    session.id = record->view.id;
    session.note = note_of(*record);
    session.size = params.size;
    session.env = std::move(env);
    for (const auto& [name, value] : params.env) {
        session.env[name] = value;
    }
    if (params.tell_reuse && record->connection->tmux() != nullptr) {
        caller.progress(record->view.ctx, record->view.server.key, "using_existing");
    }
    auto want = want_of(caller, record->view.ctx, record->view.server.key, params.auth_sock, params.interactive);
    auto started = co_await start_on(record, std::move(session), std::move(want), tried, std::move(caller));
    record->being_started = false;
    if (started && started->session.id != record->view.id) {
        drop_unsent(*record);
        record->changed.notify_all();
        co_return started;
    }
    if (!started) {
        Error error = std::move(started).error();
        error.ctx = record->view.ctx;
        error.server = error.server.value_or(record->view.server.key);
        if (error.kind == ErrorKind::Cancelled) {
            error.hint = "cmctl connect " + record->view.ctx;
        }
        if (tried == Tried::Before && !error.session && error.kind != ErrorKind::BadCwd) {
            // What became of the earlier try is not known yet.
            error.session = record->view.id;
            scan(*record->connection, true);
        } else if (record->view.state == api::SessionState::Starting && !error.session) {
            drop_unsent(*record);
        }
        record->start_error = error;
        record->changed.notify_all();
        co_return error;
    }
    record->changed.notify_all();
    co_return started;
}

// Nothing of it is on the server.
void Sessions::drop_unsent(SessionRecord& record) {
    record.hold = Hold();
    record.connection = nullptr;
    record.view.state = api::SessionState::Lost;
    table_.remove(record.view.id);
    tell_changed(record);
    registry_.remove(record.view.id);
}

// A registry that was lost, or set aside, had the request maybe: then its session has been found among those of the
// server by now, and is the result's. nullopt: this start is the first.
asio::awaitable<std::optional<Result<api::StartResult>>> Sessions::started_before(RecordPtr record,
                                                                                  Connection& connection) {
    const std::string& key = connection.key_text();
    const Instant deadline = clock_.now() + kStartDeadline;
    bool in_time = true;
    while (!listed_.contains(key) && in_time && !shutting_down_) {
        in_time = co_await listed_changed_.wait_until(deadline);
    }
    const auto found = table_.by_request(record->request_id);
    if (found != nullptr && found != record) {
        if (found->view.name == found->view.id && record->view.name != record->view.id) {
            // Ours had it meanwhile.
            found->view.name = record->view.name;
            registry_.put(*found, Durability::Process);
        }
        api::StartResult result;
        result.session = found->view;
        result.connection = connection.describe();
        result.reused = true;
        co_return std::optional<Result<api::StartResult>>(std::move(result));
    }
    if (!listed_.contains(key)) {
        Error error{.kind = ErrorKind::Timeout,
                    .message = "the sessions on " + key + " were not listed in time",
                    .hint = "cmctl check " + record->view.ctx};
        co_return std::optional<Result<api::StartResult>>(std::move(error));
    }
    co_return std::nullopt;
}

asio::awaitable<Result<api::StartResult>> Sessions::repeated_start(RecordPtr record, api::StartParams params,
                                                                   Caller caller) {
    const Instant deadline = clock_.now() + config_.pool.connect_timeout + kStartDeadline;
    bool in_time = true;
    while (record->being_started && in_time) {
        in_time = co_await record->changed.wait_until(deadline);
    }
    if (table_.by_id(record->view.id) == nullptr) {
        if (auto found = table_.by_request(*params.request_id)) {
            co_return co_await repeated_start(std::move(found), std::move(params), std::move(caller));
        }
        Error gone{.kind = ErrorKind::Cancelled,
                   .message = "the start with this request_id failed",
                   .hint = "start again with another request_id"};
        co_return record->start_error ? *record->start_error : gone;
    }
    const bool never_arrived = record->view.state == api::SessionState::Starting ||
                               (record->view.state == api::SessionState::Lost && record->view.reason == kNeverStarted);
    if (!record->being_started && never_arrived && record->place.pane_id.empty()) {
        co_return co_await start_again(std::move(record), std::move(params), std::move(caller));
    }
    api::StartResult result;
    result.session = record->view;
    result.reused = true;
    if (auto* connection = pool_->find(record->view.server.key)) {
        result.connection = connection->describe();
    } else {
        result.connection.server = record->view.server;
    }
    co_return result;
}

// An earlier daemon, or a connection that broke, left it undone: the same session, by the same id, which tmux takes
// only once.
asio::awaitable<Result<api::StartResult>> Sessions::start_again(RecordPtr record, api::StartParams params,
                                                                Caller caller) {
    record->being_started = true;
    record->tmux_asked = true;  // by the earlier try, for all that is known
    auto found = co_await find_connection(record->view.ctx);
    if (found && found->connection->key_text() != record->view.server.key) {
        found = Error{.kind = ErrorKind::UnknownContext,
                      .message = record->view.ctx + " leads to another server than when this was asked for",
                      .hint = "start again with another request_id"};
    }
    if (found) {
        if (auto checked = check_environment_of(found->context); !checked) {
            found = std::move(checked).error();
        }
    }
    if (!found) {
        record->being_started = false;
        record->changed.notify_all();
        Error error = std::move(found).error();
        error.session = record->view.id;
        co_return error;
    }
    record->view.state = api::SessionState::Starting;
    record->view.reason.reset();
    record->view.ended_at.reset();
    record->ended_ms = 0;
    if (record->connection == nullptr) {
        attach_to(*record, *found->connection);
    }
    registry_.put(*record, Durability::Process);
    auto env = std::move(found->context.env);
    co_return co_await start_record(std::move(record), params, std::move(env), Tried::Before, std::move(caller));
}

asio::awaitable<Result<api::StartResult>> Sessions::start_on(RecordPtr record, tmux::NewSession session,
                                                             Connection::Want want, Tried tried, Caller caller) {
    Connection& connection = *record->connection;
    const SpareSession::Start under_way(connection.spare());
    auto ready = co_await connection.ensure_tmux(want);
    if (ready && tried == Tried::Never && !record->request_id.empty() && !listed_.contains(connection.key_text())) {
        auto before = co_await started_before(record, connection);
        if (before) {
            co_return std::move(*before);
        }
        // The channel may be another one by now.
        const bool reused = ready->reused;
        ready = co_await connection.ensure_tmux(std::move(want));
        if (ready) {
            ready->reused = reused;
        }
    }
    if (!ready) {
        co_return std::move(ready).error();
    }
    if (caller.wants_answer && *caller.gone) {
        // Someone who gave up while the login was on its way does not look for the session that it would bring.
        co_return Error{.kind = ErrorKind::Cancelled, .message = "the caller is gone"};
    }
    if (record->cancelled) {
        co_return Error{.kind = ErrorKind::Cancelled, .message = record->view.id + " was killed before it was started"};
    }
    record->tmux_asked = true;
    TmuxChannel& channel = *ready->channel;
    const tmux::ServerLife life = channel.life();
    session.tmux = channel.version();
    if (tried == Tried::Before && !record->life.tmux.empty() && record->life.tmux != life.tmux) {
        // It may have run in the tmux that was there then: to run it in this one could be the second time.
        end(*record, api::SessionState::Lost, std::string(why_gone(record->life, life)));
        api::StartResult result;
        result.session = record->view;
        result.connection = connection.describe();
        result.reused = ready->reused;
        co_return result;
    }
    remember_life(*record, life);
    if (session.note.cwd) {
        const auto& cwd = *session.note.cwd;
        if (!cwd.starts_with('/') && channel.remote_home().empty()) {
            co_return Error{.kind = ErrorKind::BadCwd,
                            .message = printable(cwd) + " is not an absolute path, and the server's user has no HOME"};
        }
        session.directory = directory_on_server(cwd, channel.remote_home());
    }
    auto replies = co_await take_over_spare(connection, session);
    if (replies.empty()) {
        TmuxChannel* now = connection.tmux();
        if (now == nullptr || now->life() != life) {
            co_return Error{.kind = ErrorKind::MasterLost, .message = "the connection to the server's tmux was lost"};
        }
        auto commands = tmux::start_commands(config_.sessions, connection.ownership(), session);
        if (!session.directory.empty()) {
            commands.push_back(tmux::pane_directory_command(session.id));
        }
        replies = co_await now->request_all(std::move(commands), clock_.now() + kStartDeadline,
                                            tmux::blocks_behind_start(session));
    }
    auto place =
        replies.front() ? tmux::parse_started(*replies.front()) : Result<tmux::Started>(replies.front().error());
    if (!place && place.error().message.find("duplicate session") != std::string::npos) {
        // An earlier try of it did arrive.
        place = co_await find_started(record);
    }
    if (!place) {
        Error error = std::move(place).error();
        if (error.kind == ErrorKind::Timeout || error.kind == ErrorKind::MasterLost) {
            // It may run, or run yet: what tmux says once it can be asked is what holds.
            error.session = session.id;
            error.hint = "cmctl list";
            tasks_.spawn(session.id, settle(record));
        }
        co_return error;
    }
    record->place = std::move(*place);
    if (!session.directory.empty()) {
        const auto& seen = replies.back();
        const std::string path = seen && !seen->empty() ? seen->front() : std::string();
        auto entered = co_await check_directory(record, session.directory, path);
        if (!entered) {
            co_return std::move(entered).error();
        }
    }
    record->view.as_of = now_text();
    connection.note_started(record->view.id);
    // The answer may be the last thing that came.
    set_state(*record, connection.tmux() != nullptr ? api::SessionState::Running : api::SessionState::Unreachable);
    registry_.put(*record, Durability::Process);
    log_info(record->view.id, "started on " + connection.key_text());
    api::StartResult result;
    result.session = record->view;
    result.connection = connection.describe();
    result.reused = ready->reused;
    co_return result;
}

// Before tmux is asked.
void Sessions::remember_life(SessionRecord& record, const tmux::ServerLife& life) {
    if (record.life != life) {
        record.life = life;
        registry_.put(record, Durability::Process);
    }
}

asio::awaitable<Result<tmux::Started>> Sessions::find_started(RecordPtr record) {
    TmuxChannel* channel = record->connection->tmux();
    if (channel == nullptr) {
        co_return Error{.kind = ErrorKind::MasterLost, .message = "the connection to the server's tmux was lost"};
    }
    const auto shown = co_await channel->request(tmux::show_command(record->view.id), clock_.now() + kStartDeadline);
    if (!shown) {
        co_return shown.error();
    }
    for (auto& row : tmux::parse_panes(*shown)) {
        if (row.note.created_ms == record->created_ms && row.note.request_id == record->request_id) {
            co_return std::move(row.place);
        }
    }
    co_return Error{.kind = ErrorKind::TmuxFailed,
                    .message = "another session on the server is named " + record->view.id,
                    .hint = "start again"};
}

asio::awaitable<std::vector<TmuxChannel::Reply>> Sessions::take_over_spare(Connection& connection,
                                                                           const tmux::NewSession& session) {
    std::vector<TmuxChannel::Reply> replies;
    TmuxChannel* channel = connection.tmux();
    const auto pid = channel != nullptr ? connection.spare_pid() : std::nullopt;
    auto line = pid ? tmux::take_over_command(connection.ownership(), *pid, session) : std::nullopt;
    if (!line) {
        co_return replies;
    }
    connection.spare().take();
    auto reply = co_await channel->request_group(std::move(*line), clock_.now() + kStartDeadline);
    const bool refused = reply ? !tmux::parse_started(*reply) : reply.error().kind == ErrorKind::TmuxFailed;
    connection.spare().tried(refused ? SpareSession::Outcome::Missed : SpareSession::Outcome::TakenOver);
    if (!refused) {
        replies.push_back(std::move(reply));
    }
    co_return replies;
}

asio::awaitable<Result<void>> Sessions::check_directory(RecordPtr record, std::string directory, std::string seen) {
    Connection& connection = *record->connection;
    const std::string wanted = plain_path(directory);
    if (seen == wanted) {
        co_return Result<void>();
    }
    // tmux answered before its child had entered the directory, or there is a symlink in the path.
    const Instant deadline = clock_.now() + kStartDeadline;
    if (auto* channel = connection.tmux()) {
        const auto again = co_await channel->request(tmux::pane_directory_command(record->view.id), deadline);
        if (again && !again->empty() && again->front() == wanted) {
            co_return Result<void>();
        }
    }
    const auto tried = co_await connection.run(tmux::try_directory_command(directory), deadline);
    // The server may have no channel left for it.
    const bool entered = tried ? tried->exit_code == 0 : co_await enters_directory(record, directory);
    if (entered) {
        co_return Result<void>();
    }
    if (auto* channel = connection.tmux()) {
        (void)co_await channel->request(tmux::kill_session_command(record->view.id), deadline);
    }
    co_return Error{
        .kind = ErrorKind::BadCwd,
        .message = "the server has no directory " + printable(directory) + " that its user can enter" +
                   (!tried || tried->standard_error.empty() ? "" : ": " + printable(first_line(tried->standard_error))),
        .hint = "give a --cwd that exists on the server"};
}

asio::awaitable<bool> Sessions::enters_directory(RecordPtr record, std::string directory) {
    const Instant deadline = clock_.now() + kEnterDeadline;
    TmuxChannel* channel = record->connection->tmux();
    if (channel != nullptr) {
        (void)co_await channel->request(tmux::try_directory_of_command(record->view.id, directory), deadline);
    }
    while (clock_.now() < deadline && !shutting_down_) {
        channel = record->connection->tmux();
        if (channel == nullptr) {
            break;
        }
        const auto answer = co_await channel->request(tmux::entered_command(record->view.id), deadline);
        if (!answer || (!answer->empty() && !answer->front().empty())) {
            co_return !answer || answer->front() != "no";
        }
        co_await stop_.wait_until(clock_.now() + kEnterPause);
    }
    // The session's own script runs the command there or not at all.
    co_return true;
}

asio::awaitable<void> Sessions::settle(RecordPtr record) {
    while (record->being_started) {
        co_await record->changed.wait();
    }
    Connection* connection = record->connection;
    if (connection == nullptr || connection->tmux() == nullptr) {
        co_return;  // the scan at the next on_reachable() decides
    }
    // Replies come in order: when this one is here, the start was carried out or never will be.
    const auto reply =
        co_await connection->tmux()->request(tmux::show_command(record->view.id), clock_.now() + kSettleDeadline);
    const bool answered = reply || reply.error().kind == ErrorKind::TmuxFailed;
    if (answered && !api::ended(record->view.state) && record->connection != nullptr) {
        scan(*connection, true);
    }
}

}  // namespace cmssh
