// `cmctl doctor`: looks here, asks the daemon, and asks servers through it, each with one `exec` of one script.
#include <pwd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "client/doctor.hpp"
#include "client/given_context.hpp"
#include "client/interrupt.hpp"
#include "client/local_process.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/spawn_daemon.hpp"
#include "client/typed_command.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"
#include "protocol/paths.hpp"
#include "protocol/server_key.hpp"

namespace cmssh::client {
namespace {

// Of each program that is asked here, and of the script on a server.
constexpr std::chrono::seconds kPatience{5};
constexpr std::chrono::seconds kServerPatience{40};
constexpr std::size_t kLongHostName = 64;

Instant soon() {
    return std::chrono::steady_clock::now() + kPatience;
}

// As the daemon names a registry that it cannot use, the oldest first.
std::vector<std::string> set_aside_in(const std::string& directory) {
    std::vector<std::string> found;
    std::error_code failure;
    for (std::filesystem::directory_iterator entry(directory, failure), end; !failure && entry != end;
         entry.increment(failure)) {
        const std::string name = entry->path().filename();
        for (const char* kind : {"newer", "damaged", "foreign"}) {
            const bool beside = name.ends_with("-wal") || name.ends_with("-shm") || name.ends_with("-journal");
            if (name.starts_with(std::string("registry.db.") + kind + '-') && !beside) {
                found.push_back(entry->path());
            }
        }
    }
    std::sort(found.begin(), found.end(), [](const std::string& one, const std::string& other) {
        return one.substr(one.rfind('-')) < other.substr(other.rfind('-'));
    });
    return found;
}

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

// What the configuration says, where it is valid.
struct Settings {
    std::string ssh = "ssh";
    std::string control_path;
    std::string tmux = "tmux";
    std::string shell = "login-interactive";
    std::vector<Tool> tools;
};

Settings read_settings(const std::string& summary) {
    Settings settings;
    const auto json = parse_json(summary);
    if (!json || !json->is_object()) {
        return settings;
    }
    const auto take = [&json](const char* name, std::string& into) {
        if (const auto found = json->find(name); found != json->end() && found->is_string()) {
            into = *found;
        }
    };
    take("ssh", settings.ssh);
    take("control_path", settings.control_path);
    take("tmux", settings.tmux);
    take("shell", settings.shell);
    if (const auto tools = json->find("tools"); tools != json->end() && tools->is_object()) {
        for (const auto& [name, program] : tools->items()) {
            settings.tools.push_back({.name = name, .program = program.is_string() ? program.get<std::string>() : ""});
        }
    }
    return settings;
}

class Doctor {
public:
    Doctor(const GlobalOptions& global, const std::optional<std::string>& ctx) : global_(global), ctx_(ctx) {}

    std::vector<Check> examine() {
        look_at_config();
        look_at_login();
        look_at_directories();
        const auto deadline = deadline_of(global_);
        auto connected = RpcClient::connect(global_, deadline);
        if (const auto* failure = std::get_if<CallError>(&connected)) {
            fail(kHere, "daemon", failure->error);
        } else {
            ask_daemon(std::get<RpcClient>(connected), deadline);
        }
        return std::move(checks_);
    }

    // What was asked about is neither a context nor a destination.
    [[nodiscard]] bool no_such_context() const { return no_such_context_; }

private:
    void add(Check check) { checks_.push_back(std::move(check)); }
    void add(std::vector<Check> checks) { std::move(checks.begin(), checks.end(), std::back_inserter(checks_)); }
    void fail(const std::string& where, const std::string& name, const Error& error) {
        add(Check{
            .where = where, .name = name, .status = CheckStatus::Fail, .detail = error.message, .hint = error.hint});
    }

    void look_at_config() {
        std::vector<std::string> words = {find_cmsshd(), "--check-config"};
        if (global_.config) {
            words.insert(words.end(), {"--config", *global_.config});
        }
        const auto said = run_program(words, soon());
        const std::string path = config_path(environment_, global_.config);
        std::optional<ConfigAnswer> answer;
        if (said) {
            answer = ConfigAnswer{.exit_code = said->exit_code, .errors = said->errors};
            settings_ = read_settings(said->output);
        }
        add(judge_config(answer, path, exists(path)));
    }

    void look_at_login() {
        const auto version = run_program({settings_.ssh, "-V"}, soon());
        add(judge_ssh(settings_.ssh, version ? std::optional(version->errors) : std::nullopt));
        AgentAnswer agent;
        agent.socket = environment_value("SSH_AUTH_SOCK");
        if (agent.socket) {
            if (const auto keys = run_program({"ssh-add", "-l"}, soon())) {
                agent.exit_code = keys->exit_code;
                agent.output = keys->output;
            }
        }
        add(judge_agent(agent));
    }

    void look_at_directories() {
        DirectoryState directory{.path = runtime_dir(environment_)};
        struct stat status {};
        if (::lstat(directory.path.c_str(), &status) == 0) {
            directory.exists = true;
            directory.directory = S_ISDIR(status.st_mode);
            directory.owner = status.st_uid;
            directory.mode = status.st_mode;
        }
        add(judge_runtime_dir(directory, ::geteuid()));
        // By a name that is longer than there is room for, so that what has to fit is what always will.
        const ServerKey server{.user = "user", .host = std::string(kLongHostName, 'h')};
        add(judge_paths(socket_path(environment_, global_.socket),
                        control_path(server, directory.path, settings_.control_path)));
        const passwd* const self = ::getpwuid(::geteuid());
        LingerState linger;
        linger.systemd = exists("/run/systemd/system");
        linger.user = self != nullptr ? self->pw_name : "";
        linger.lingers = !linger.user.empty() && exists("/var/lib/systemd/linger/" + linger.user);
        add(judge_linger(linger));
        std::optional<std::string> units;
        const auto runtime = environment_.get("XDG_RUNTIME_DIR");
        if (runtime && exists(*runtime + "/systemd/private")) {
            const auto said = run_program({"systemctl", "--user", "show", "--property=Id,LoadState,ActiveState",
                                           "cmsshd.socket", "cmsshd.service"},
                                          soon());
            units = said && said->exit_code == 0 ? std::optional(said->output) : std::nullopt;
        }
        add(judge_units(units));
    }

    void ask_daemon(RpcClient& client, std::optional<Instant> deadline) {
        VersionsFound versions;
        versions.client = CMSSH_VERSION;
        if (const auto said = run_program({find_cmsshd(), "--version"}, soon())) {
            std::istringstream words(said->output);
            std::string program, number;
            words >> program >> number;
            versions.installed = number.empty() ? std::nullopt : std::optional(number);
        }
        const auto version = call<api::VersionResult>(client, "version", Json::object(), deadline);
        if (const auto* failure = std::get_if<CallError>(&version)) {
            fail(kHere, "versions", failure->error);
            return;
        }
        versions.running = std::get<Reply<api::VersionResult>>(version).value.version;
        add(judge_versions(versions));
        const auto stats = call<api::StatsResult>(client, "stats", Json::object(), deadline);
        if (const auto* failure = std::get_if<CallError>(&stats)) {
            fail(kHere, "daemon", failure->error);
            return;
        }
        const auto& found = std::get<Reply<api::StatsResult>>(stats).value;
        add(Check{.where = kHere,
                  .name = "daemon",
                  .status = CheckStatus::Ok,
                  .detail = "cmsshd " + found.daemon.version + ", pid " + std::to_string(found.daemon.pid)});
        if (!global_.host) {
            add(judge_config_of_daemon(found.daemon.config, config_path(environment_, global_.config)));
        }
        add(judge_registry(found.daemon.unsaved,
                           global_.host ? std::vector<std::string>() : set_aside_in(state_dir(environment_))));
        if (ctx_) {
            ask_server(client, *ctx_, deadline);
            return;
        }
        for (const api::Connection& connection : found.connections) {
            if (connection.state == api::ConnectionState::Up) {
                ask_connected(client, connection, deadline);
            }
        }
    }

    // By a name that leads to it: what leads to the same address may lead to another connection.
    void ask_connected(RpcClient& client, const api::Connection& connection, std::optional<Instant> deadline) {
        const auto known = call<api::ContextsResult>(client, "contexts", {{"known", true}}, deadline);
        if (const auto* reply = std::get_if<Reply<api::ContextsResult>>(&known)) {
            for (const api::Context& context : reply->value.contexts) {
                if (context.server && context.server->key == connection.server.key) {
                    ask_server(client, context.name, deadline);
                    return;
                }
            }
        }
        add(judge_connection(connection.server.key, connection));
    }

    void ask_server(RpcClient& client, const std::string& ctx, std::optional<Instant> deadline) {
        std::array<unsigned char, 8> bytes{};
        if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
            std::abort();  // getrandom(2): reads of up to 256 bytes always succeed once the kernel's pool is ready
        }
        std::string token = "cmssh-doctor-";
        for (const unsigned char byte : bytes) {
            token += static_cast<char>('a' + byte % 26);
        }
        Json command = {"/bin/sh", "-c", server_script(), "sh", token, settings_.tmux, settings_.shell};
        for (const Tool& tool : settings_.tools) {
            command.push_back(tool.program);
        }
        Json params = {{"ctx", ctx},
                       {"command", std::move(command)},
                       {"timeout_ms", std::chrono::milliseconds(kServerPatience).count()}};
        add_login_params(params);
        const auto answer = call_with_login<api::ExecResult>(client, "exec", std::move(params), deadline);
        if (const auto* failure = std::get_if<CallError>(&answer)) {
            const bool tmux =
                failure->error.kind == ErrorKind::TmuxMissing || failure->error.kind == ErrorKind::TmuxFailed;
            fail(ctx, tmux ? "tmux" : "connection", failure->error);
            no_such_context_ = failure->error.kind == ErrorKind::UnknownContext;
            return;
        }
        const auto checked = call<api::ConnectionsResult>(client, "check", {{"ctx", ctx}}, deadline);
        if (const auto* failure = std::get_if<CallError>(&checked)) {
            fail(ctx, "connection", failure->error);
            return;
        }
        for (const api::Connection& connection : std::get<Reply<api::ConnectionsResult>>(checked).value.connections) {
            add(judge_connection(ctx, connection));
        }
        const auto& result = std::get<Reply<api::ExecResult>>(answer).value;
        if (const auto facts = parse_server_facts(result.standard_output, token)) {
            add(judge_server(ctx, *facts, settings_.tools));
            return;
        }
        const std::string said(first_line(result.standard_error));
        add(Check{.where = ctx,
                  .name = "server",
                  .status = CheckStatus::Fail,
                  .detail = "a shell script does not run to its end there" + (said.empty() ? "" : ": " + said),
                  .hint = "cmctl exec --ctx " + command_text({ctx}) + " -- /bin/sh -c 'echo ok'"});
    }

    const GlobalOptions& global_;
    const std::optional<std::string>& ctx_;
    const PathEnvironment environment_ = process_environment();
    Settings settings_;
    std::vector<Check> checks_;
    bool no_such_context_ = false;
};

Json json_of(const std::vector<Check>& checks) {
    Json list = Json::array();
    for (const Check& check : checks) {
        Json entry = {{"where", check.where},
                      {"name", check.name},
                      {"status", to_string(check.status)},
                      {"detail", check.detail}};
        if (!check.hint.empty()) {
            entry["hint"] = check.hint;
        }
        list.push_back(std::move(entry));
    }
    return {{"checks", std::move(list)}};
}

Style style_of(CheckStatus status) {
    return status == CheckStatus::Ok ? Style::Good : status == CheckStatus::Warn ? Style::Doubtful : Style::Bad;
}

void print(const GlobalOptions& global, const std::vector<Check>& checks) {
    std::vector<const Check*> shown;
    for (const Check& check : checks) {
        if (!global.quiet || check.status != CheckStatus::Ok) {
            shown.push_back(&check);
        }
    }
    Table table({});
    for (const Check* check : shown) {
        // As wide as the widest, whichever there are.
        const char* const word = check->status == CheckStatus::Fail   ? "FAIL"
                                 : check->status == CheckStatus::Warn ? "warn"
                                                                      : "ok  ";
        table.add({{word, style_of(check->status)},
                   {check->where == kHere ? check->name : check->where + ": " + check->name},
                   {check->detail}});
    }
    // Nothing is cut: this is what people send to somebody who can help.
    std::istringstream lines(table.render(use_color(global), 0));
    std::string line;
    for (const Check* check : shown) {
        std::getline(lines, line);
        std::fputs((line + "\n").c_str(), stdout);
        if (!check->hint.empty()) {
            print_line("      -> " + printable(for_typing(global, check->hint)));
        }
    }
}

}  // namespace

int doctor(const GlobalOptions& global, const std::optional<std::string>& ctx) {
    catch_interrupts();
    Doctor doctor(global, ctx);
    const std::vector<Check> checks = doctor.examine();
    if (interrupted()) {
        return exit_code::kInterrupted;
    }
    if (global.json) {
        print_json(json_of(checks));
    } else {
        print(global, checks);
    }
    const bool failed =
        std::any_of(checks.begin(), checks.end(), [](const Check& it) { return it.status == CheckStatus::Fail; });
    return doctor.no_such_context() ? exit_code::kNotFound : failed ? exit_code::kFailed : exit_code::kOk;
}

}  // namespace cmssh::client
