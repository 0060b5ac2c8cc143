// `cmctl __complete`: what the shells' scripts ask while a command line is typed. Whatever goes wrong, there is nothing
// to complete then, and no word about it in the middle of somebody's typing.
#include <fcntl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "client/call.hpp"
#include "client/completion.hpp"
#include "client/given_context.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"
#include "protocol/paths.hpp"

namespace cmssh::client {
namespace {

// A person waits for a key to do something.
constexpr std::chrono::milliseconds kPatience{500};

// Where systemd listens for a daemon that does not run, connecting would start it. The lock of one that runs is looked
// at and not tried: for that moment a daemon that starts would not get it.
bool daemon_runs(const PathEnvironment& environment) {
    const std::string path = runtime_dir(environment) + "/cmsshd.lock";
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return file && ::fcntl(file.get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

std::optional<RpcClient> connect_quietly(const Completion& completion, Instant deadline) {
    if (completion.elsewhere || environment_value("CMSSH_HOST")) {
        return std::nullopt;
    }
    const auto environment = process_environment();
    const std::string path = socket_path(environment, completion.socket);
    if (path == socket_path({.get = [&](std::string_view name) -> std::optional<std::string> {
                                 return name == "CMSSH_SOCKET" ? std::nullopt : environment.get(name);
                             },
                             .uid = environment.uid,
                             .run_user_exists = environment.run_user_exists},
                            std::nullopt) &&
        !daemon_runs(environment)) {
        return std::nullopt;
    }
    auto connected = RpcClient::connect_running(path, deadline);
    if (!connected || !std::holds_alternative<RpcClient>(*connected)) {
        return std::nullopt;
    }
    return std::move(std::get<RpcClient>(*connected));
}

void add_contexts(Completion& completion, const api::ContextsResult& result, const char* behind) {
    for (const api::Context& context : result.contexts) {
        completion.candidates.push_back(
            {.word = context.name + behind, .text = context.server ? context.server->key : context.source});
    }
}

// By id and, where it has one, by name; not the ones that stand on the line.
void add_sessions(Completion& completion, const api::ListResult& result) {
    const auto is_given = [&completion](const std::string& word) {
        return std::find(completion.given.begin(), completion.given.end(), word) != completion.given.end();
    };
    for (const api::Session& session : result.sessions) {
        if (is_given(session.id) || is_given(session.name)) {
            continue;
        }
        const std::string text = session.ctx + ": " + command_text(session.command) + " (" + state_text(session) + ')';
        if (session.name != session.id) {
            completion.candidates.push_back({.word = session.name, .text = text});
        }
        completion.candidates.push_back({.word = session.id, .text = text});
    }
}

void add_forwards(Completion& completion, const api::ForwardListResult& result) {
    for (const api::Forward& forward : result.forwards) {
        const std::string to = forward.target ? " to " + *forward.target : "";
        completion.candidates.push_back(
            {.word = forward.id,
             .text = forward.ctx + ": " + std::string(to_string(forward.kind)) + ' ' + forward.listen + to});
    }
}

void ask_daemon(Completion& completion) {
    const Instant deadline = std::chrono::steady_clock::now() + kPatience;
    auto client = connect_quietly(completion, deadline);
    if (!client) {
        return;
    }
    const auto ask = [&]<typename T>(const char* method, Json params, auto add) {
        const auto outcome = call<T>(*client, method, std::move(params), deadline);
        if (const auto* reply = std::get_if<Reply<T>>(&outcome)) {
            add(reply->value);
        }
    };
    switch (completion.asked) {
        case Asked::Nothing:
            return;
        case Asked::Contexts:
        case Asked::Servers:
            return ask.template operator()<api::ContextsResult>("contexts", {{"known", true}}, [&](const auto& result) {
                add_contexts(completion, result, completion.asked == Asked::Servers ? ":" : "");
            });
        case Asked::RunningSessions:
        case Asked::AllSessions:
            return ask.template operator()<api::ListResult>(
                "list", {{"all", completion.asked == Asked::AllSessions}},
                [&](const auto& result) { add_sessions(completion, result); });
        case Asked::Forwards:
            return ask.template operator()<api::ForwardListResult>(
                "forward.list", Json::object(), [&](const auto& result) { add_forwards(completion, result); });
    }
}

}  // namespace

int complete(const std::vector<std::string>& words) {
    Completion completion = complete_line(words);
    if (completion.asked != Asked::Nothing) {
        ask_daemon(completion);
    }
    std::fputs(completion_lines(completion).c_str(), stdout);
    return exit_code::kOk;
}

}  // namespace cmssh::client
