#include <poll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "client/attach.hpp"
#include "client/call.hpp"
#include "client/follow.hpp"
#include "client/given_context.hpp"
#include "client/interrupt.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/patient_client.hpp"
#include "client/prompt.hpp"
#include "client/session_table.hpp"
#include "client/terminal.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// What the daemon is given over a call's own deadline to say itself that time is up.
constexpr auto kGrace = std::chrono::seconds(2);

std::string random_request_id() {
    std::array<unsigned char, 16> bytes{};
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
        std::abort();  // getrandom(2): reads of up to 256 bytes always succeed once the kernel's pool is ready
    }
    std::string id;
    for (const unsigned char byte : bytes) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        id += kDigits[byte >> 4U];
        id += kDigits[byte & 0xfU];
    }
    return id;
}

std::optional<api::Size> terminal_size() {
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO, STDIN_FILENO}) {
        winsize size{};
        if (::isatty(fd) != 0 && ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
            return api::Size{.cols = size.ws_col, .rows = size.ws_row};
        }
    }
    return std::nullopt;
}

// nullopt: told on stderr what is wrong.
std::optional<Json> start_params(const StartOptions& options) {
    Json params = Json::object();
    Json env = Json::object();
    for (const std::string& given : options.env) {
        const auto equals = given.find('=');
        const std::string name = given.substr(0, equals);
        if (equals != std::string::npos) {
            env[name] = given.substr(equals + 1);
        } else if (const char* value = std::getenv(name.c_str())) {
            env[name] = value;
        } else {
            std::fprintf(stderr, "cmctl: start: --env %s: there is no such variable here\nhint: --env %s=VALUE\n",
                         printable(name).c_str(), printable(name).c_str());
            return std::nullopt;
        }
    }
    if (!env.empty()) {
        params["env"] = std::move(env);
    }
    params["command"] = options.command;
    const auto put = [&params](const char* name, const std::optional<std::string>& value) {
        if (value) {
            params[name] = *value;
        }
    };
    put("ctx", options.ctx);
    put("name", options.name);
    put("cwd", options.cwd);
    if (const auto size = terminal_size()) {
        params["size"] = {{"cols", size->cols}, {"rows", size->rows}};
    }
    params["request_id"] = random_request_id();
    add_login_params(params);
    return params;
}

// Says which connection a start uses, once and before it waits.
class Announcer {
public:
    Announcer(bool quiet, StatusLine& status) : quiet_(quiet), status_(status) {}

    void waits_for_login(const Json& params) {
        const auto progress = api::read<api::Progress>(params);
        if (!progress) {
            return;
        }
        std::string phase = progress->phase;
        if (phase == "using_existing") {
            return say(progress->ctx, kReuse, progress->server);
        }
        if (phase == "connecting") {
            say(progress->ctx, "establishing master connection", progress->server);
        }
        std::replace(phase.begin(), phase.end(), '_', ' ');
        status_.set(progress->ctx + ": " + phase);
    }
    // Who waited for another call's login did not make one, nor did who repeats a request.
    void is_started(const api::StartResult& result) { say(result.session.ctx, kReuse, result.session.server.key); }

private:
    static constexpr const char* kReuse = "using existing master connection";

    void say(const std::string& ctx, const char* what, const std::string& key) {
        if (!said_ && !quiet_) {
            std::fprintf(stderr, "%s: %s (%s)\n", printable(ctx).c_str(), what, printable(key).c_str());
        }
        said_ = true;
    }

    bool quiet_;
    bool said_ = false;
    StatusLine& status_;
};

// An answer, and the connection that it came over.
struct Started {
    Reply<api::StartResult> reply;
    RpcClient client;
};

std::variant<Started, int> start_session(const GlobalOptions& global, const Json& params, bool ctx_given,
                                         std::optional<Instant> deadline) {
    StatusLine status;
    Announcer announcer(global.quiet, status);
    SecondTry again;
    for (;;) {
        auto connected = RpcClient::connect(global, deadline);
        if (const auto* failure = std::get_if<CallError>(&connected)) {
            return print_error(global, *failure);
        }
        RpcClient& client = std::get<RpcClient>(connected);
        client.on_idle([&status] { status.tick(); });
        answer_prompts(client, &status);
        auto outcome = call<api::StartResult>(client, "start", params, deadline, [&announcer](const Json& progress) {
            announcer.waits_for_login(progress);
        });
        status.clear();
        client.on_idle({});
        client.set_questioner(nullptr);
        if (auto* reply = std::get_if<Reply<api::StartResult>>(&outcome)) {
            announcer.is_started(reply->value);
            return Started{.reply = std::move(*reply), .client = std::move(client)};
        }
        const auto& failure = std::get<CallError>(outcome);
        // The same request_id: the session that the lost daemon may have started is not started again.
        const bool first = again.first();
        if (again.after(failure, client)) {
            std::fputs(first ? "cmctl: the daemon was lost, asking once more\n" : "", stderr);
            continue;
        }
        CallError told = failure;
        const bool given_up = told.exit_code == exit_code::kTimeout || told.exit_code == exit_code::kInterrupted;
        if (told.daemon_lost || (told.error.hint.empty() && given_up)) {
            told.error.hint = "cmctl list tells whether it was started";
        }
        const int code = print_error(global, told);
        if (!ctx_given && failure.error.kind == ErrorKind::InvalidParams && !global.json) {
            print_contexts_to_choose(client, deadline);
        }
        return code;
    }
}

std::string no_exit_code_text(const api::Session& session) {
    std::string text = session.id + ": " + state_text(session);
    if (session.state == api::SessionState::Killed && session.signal) {
        text += " by " + *session.signal;
    }
    return text;
}

int failed_wait(const GlobalOptions& global, CallError failure, const std::string& session) {
    if (failure.error.kind == ErrorKind::Cancelled && failure.error.hint.empty()) {
        failure.error.hint = "cmctl wait " + session + ", the session runs on";
    }
    return print_error(global, failure);
}

// Until its end, the deadline, or for a moment where a person may have to be asked for it.
Outcome<api::SessionResult> wait_a_while(PatientClient& client, const std::string& session,
                                         std::optional<Instant> deadline) {
    constexpr auto kMoment = std::chrono::seconds(5);
    StatusLine status;
    status.set("waiting for " + session);
    client.on_idle([&status] { status.tick(); });
    if (person_is_there()) {
        const Instant moment = std::chrono::steady_clock::now() + kMoment;
        deadline = deadline ? std::min(*deadline, moment) : moment;
    }
    const auto params = [&] {
        Json json = {{"session", session}};
        if (const auto auth_sock = environment_value("SSH_AUTH_SOCK")) {
            json["auth_sock"] = *auth_sock;
        }
        if (deadline) {
            const auto left =
                std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
            json["timeout_ms"] = std::max<std::int64_t>(left.count(), 0);
        }
        return json;
    };
    auto outcome =
        client.call<api::SessionResult>("wait", params, deadline ? std::optional(*deadline + kGrace) : std::nullopt);
    client.on_idle({});
    status.clear();
    return outcome;
}

// A wait that failed is told; otherwise the session that has ended.
std::variant<Reply<api::SessionResult>, int> wait_for_end(const GlobalOptions& global, PatientClient& client,
                                                          const std::string& session, std::optional<Instant> deadline) {
    ReachedByPerson reached(global);
    const auto named = [&] { return Json{{"session", session}}; };
    for (;;) {
        // Only where a person is there to be asked, it matters how the session is meanwhile.
        if (person_is_there()) {
            const auto now = client.call<api::SessionResult>("get", named, deadline);
            const auto* known = std::get_if<Reply<api::SessionResult>>(&now);
            if (auto failure = known != nullptr ? reached.see(known->value.session.ctx, known->value.session.state)
                                                : std::nullopt) {
                return failed_wait(global, std::move(*failure), session);
            }
        }
        auto outcome = wait_a_while(client, session, deadline);
        auto* failure = std::get_if<CallError>(&outcome);
        const bool in_time = !deadline || std::chrono::steady_clock::now() < *deadline;
        if (failure != nullptr && failure->error.kind == ErrorKind::Timeout && in_time) {
            continue;
        }
        if (failure != nullptr) {
            return failed_wait(global, std::move(*failure), session);
        }
        auto& reply = std::get<Reply<api::SessionResult>>(outcome);
        if (!reply.value.session.exit_code && !global.quiet) {
            std::fprintf(stderr, "%s\n", printable(no_exit_code_text(reply.value.session)).c_str());
        }
        return std::move(reply);
    }
}

std::string kill_text(const api::KillResult& result, const KillOptions& options) {
    const api::Session& session = result.session;
    if (result.pending) {
        const std::string what =
            options.signal ? "will be sent " + signal_name(signal_number(*options.signal)) : "will be killed";
        return session.id + ": " + what + " once " + session.server.key + " is reachable" +
               (result.reason ? " (" + *result.reason + ')' : std::string());
    }
    if (options.signal && !api::ended(session.state)) {
        return session.id + ": was sent " + signal_name(signal_number(*options.signal));
    }
    return session.id + ": " + state_text(session);
}

}  // namespace

int start(const GlobalOptions& global, StartOptions options) {
    if (options.attach && (global.json || !on_terminal())) {
        std::fputs(global.json ? "cmctl: start: --attach and --json exclude each other\n"
                               : "cmctl: start: --attach: standard input and output must be a terminal\n",
                   stderr);
        std::fputs("hint: cmctl start --help\n", stderr);
        return exit_code::kUsage;
    }
    if (options.attach) {
        guard_terminal();
    }
    if (!options.ctx) {
        options.ctx = environment_value("CMSSH_CTX");
    }
    auto params = start_params(options);
    if (!params) {
        return exit_code::kUsage;
    }
    (*params)["tell_reuse"] = !global.quiet;
    const auto deadline = deadline_of(global);
    catch_interrupts();
    auto outcome = start_session(global, *params, options.ctx.has_value(), deadline);
    if (const int* code = std::get_if<int>(&outcome)) {
        return *code;
    }
    auto& [reply, client] = std::get<Started>(outcome);
    const std::string id = reply.value.session.id;
    // One document also where the end is waited for; and what is followed has standard output to itself.
    if (options.follow) {
        std::fprintf(stderr, "%s", global.quiet ? "" : (id + '\n').c_str());
    } else if (!global.json) {
        print_line(id);
        std::fflush(stdout);
    } else if (!options.wait) {
        print_json(reply.json);
    }
    if (options.attach) {
        return attach_started(global, std::move(client), id);
    }
    if (!options.wait && !options.follow) {
        return exit_code::kOk;
    }
    PatientClient patient(global, deadline, std::move(client));
    if (options.follow) {
        FollowFrom from;
        from.beginning = true;
        if (const auto failed = follow(global, patient, reply.value.session, from, deadline)) {
            return *failed;
        }
    }
    auto waited = wait_for_end(global, patient, id, deadline);
    if (const int* code = std::get_if<int>(&waited)) {
        return *code;
    }
    auto& ended = std::get<Reply<api::SessionResult>>(waited);
    if (global.json) {
        reply.json["session"] = std::move(ended.json["session"]);
        print_json(reply.json);
    }
    return exit_code_of(ended.value.session);
}

int wait(const GlobalOptions& global, const std::string& session) {
    const auto deadline = deadline_of(global);
    catch_interrupts();
    PatientClient client(global, deadline);
    auto waited = wait_for_end(global, client, session, deadline);
    if (const int* code = std::get_if<int>(&waited)) {
        return *code;
    }
    const auto& reply = std::get<Reply<api::SessionResult>>(waited);
    if (global.json) {
        print_json(reply.json);
    }
    return exit_code_of(reply.value.session);
}

int list(const GlobalOptions& global, const ListOptions& options) {
    if (options.watch) {
        return watch_list(global, options);
    }
    const auto outcome = call<api::ListResult>(global, "list", list_params(options));
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& sessions = std::get<Reply<api::ListResult>>(outcome).value.sessions;
    if (global.quiet) {
        for (const api::Session& session : sessions) {
            print_line(session.id);
        }
    } else if (!sessions.empty()) {
        session_table(sessions).print(global);
    } else if (::isatty(STDERR_FILENO) != 0) {
        std::fprintf(stderr, "%s\n", no_sessions_text(options).c_str());
    }
    return exit_code::kOk;
}

namespace {

int follow_logs(const GlobalOptions& global, const LogsOptions& options) {
    const auto deadline = deadline_of(global);
    catch_interrupts();
    PatientClient client(global, deadline);
    const auto params = [&] { return Json{{"session", options.session}}; };
    // By its id from here on: a name may be another session's later.
    const auto found = client.call<api::SessionResult>("get", params, deadline);
    if (const auto* failure = std::get_if<CallError>(&found)) {
        return print_error(global, *failure);
    }
    FollowFrom from;
    from.lines = options.lines;
    const auto& session = std::get<Reply<api::SessionResult>>(found).value.session;
    return follow(global, client, session, from, deadline).value_or(exit_code::kOk);
}

}  // namespace

int logs(const GlobalOptions& global, const LogsOptions& options) {
    if (options.follow) {
        return follow_logs(global, options);
    }
    Json params = {{"session", options.session}};
    if (options.lines) {
        params["lines"] = *options.lines;
    }
    add_login_params(params);
    const auto outcome = call_with_login<api::LogsResult>(global, "logs", std::move(params));
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& reply = std::get<Reply<api::LogsResult>>(outcome);
    // As it is for a file or a pipe; a terminal gets nothing that it would act on.
    std::string text = ::isatty(STDOUT_FILENO) != 0 ? printable_lines(reply.value.text) : reply.value.text;
    if (!text.empty() && text.back() != '\n') {
        text += '\n';
    }
    std::fwrite(text.data(), 1, text.size(), stdout);
    return exit_code::kOk;
}

int kill(const GlobalOptions& global, const KillOptions& options) {
    const auto deadline = deadline_of(global);
    auto connected = RpcClient::connect(global, deadline);
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    RpcClient& client = std::get<RpcClient>(connected);
    int first_failure = exit_code::kOk;
    Json results = Json::array();
    for (const std::string& session : options.sessions) {
        Json params = {{"session", session}, {"forget", options.forget}};
        if (options.signal) {
            params["signal"] = *options.signal;
        }
        add_login_params(params);
        auto outcome = call_with_login<api::KillResult>(client, "kill", std::move(params), deadline);
        if (const auto* failure = std::get_if<CallError>(&outcome)) {
            const int code = print_error(global, *failure);
            first_failure = first_failure == exit_code::kOk ? code : first_failure;
            if (failure->exit_code == exit_code::kNoDaemon) {
                break;
            }
            continue;
        }
        auto& reply = std::get<Reply<api::KillResult>>(outcome);
        if (global.json) {
            results.push_back(std::move(reply.json));
        } else {
            print_line(global.quiet ? reply.value.session.id : kill_text(reply.value, options));
        }
    }
    if (global.json && !results.empty()) {
        print_json(options.sessions.size() == 1 ? results.front() : results);
    }
    return first_failure;
}

}  // namespace cmssh::client
