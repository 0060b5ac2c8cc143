// `cmctl mcp`: one client on standard input and output, a line per message. Every call has a connection to the daemon
// of its own, so that a long one keeps nobody waiting and a cancelled one is over for the daemon, too.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <list>
#include <utility>
#include <vector>

#include "client/host.hpp"
#include "client/mcp.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"
#include "protocol/framing.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client {
namespace {

constexpr std::size_t kMaxMessage = 8 * 1024 * 1024;  // as the daemon's own limit
constexpr std::size_t kMaxCalls = 64;
// A daemon that runs tells its version in microseconds.
constexpr auto kAnswerDeadline = std::chrono::seconds(5);
// For what is under way when the client has closed its side; it ends us by a signal after two.
constexpr auto kLastAnswers = std::chrono::seconds(1);
constexpr int kTick = 200;
constexpr int kNoSuchResource = -32002;  // the specification's

using Answer = std::variant<Json, CallError>;

struct McpCall {
    Json id;
    std::shared_ptr<RpcClient> daemon;
    std::function<Json(Answer)> reply;  // a whole message
    Instant began;
};

Json protocol_error(const Json& id, int code, const std::string& message) {
    return {{"jsonrpc", "2.0"}, {"id", id}, {"error", {{"code", code}, {"message", message}}}};
}

Json invalid(const Json& id, const std::string& message) {
    return protocol_error(id, static_cast<int>(ErrorKind::InvalidParams), message);
}

std::string string_in(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

class McpServer {
public:
    explicit McpServer(const GlobalOptions& global) : global_(global), input_(kMaxMessage) {}

    int run() {
        while (!failed_) {
            if (ended_ && (calls_.empty() || std::chrono::steady_clock::now() >= *ended_ + kLastAnswers)) {
                return exit_code::kOk;
            }
            wait();
            continue_calls();
        }
        return exit_code::kFailed;
    }

private:
    void wait() {
        std::vector<pollfd> waited = {{.fd = ended_ ? -1 : STDIN_FILENO, .events = POLLIN, .revents = 0}};
        for (const McpCall& call : calls_) {
            waited.push_back({.fd = call.daemon->fd(), .events = POLLIN, .revents = 0});
        }
        ::poll(waited.data(), waited.size(), calls_.empty() ? -1 : kTick);
        if (waited[0].revents != 0) {
            read_input();
        }
    }

    void read_input() {
        std::string bytes(64 * 1024, '\0');
        const ssize_t count = ::read(STDIN_FILENO, bytes.data(), bytes.size());
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
            return;
        }
        if (count <= 0) {
            ended_ = std::chrono::steady_clock::now();
            input_.feed("\n");
        } else {
            input_.feed(std::string_view(bytes.data(), static_cast<std::size_t>(count)));
        }
        for (;;) {
            auto message = input_.next();
            if (!message) {
                send(make_error(nullptr, message.error()));
                failed_ = true;
                return;
            }
            if (!*message) {
                return;
            }
            // Batches are of one version of the protocol alone; what they hold is answered one by one.
            for (Incoming& incoming : parse_message(**message).items) {
                if (const auto* bad = std::get_if<BadRequest>(&incoming)) {
                    send(make_error(bad->id, bad->error));
                } else {
                    serve(std::move(std::get<Request>(incoming)));
                }
            }
        }
    }

    void serve(Request request) {
        if (!request.id) {
            if (request.method == "notifications/cancelled") {
                const Json id = request.params.value("requestId", Json());
                calls_.remove_if([&id](const McpCall& call) { return call.id == id; });
            }
            return;
        }
        const Json id = *request.id;
        if (request.method == "initialize") {
            send(make_result(id, mcp::greeting(string_in(request.params, "protocolVersion"))));
        } else if (request.method == "ping") {
            send(make_result(id, Json::object()));
        } else if (request.method == "tools/list") {
            send(make_result(id, mcp::tools()));
        } else if (request.method == "tools/call") {
            call_tool(id, request.params);
        } else if (request.method == "resources/list") {
            list_resources(id, string_in(request.params, "cursor"));
        } else if (request.method == "resources/templates/list") {
            send(make_result(id, mcp::resource_templates()));
        } else if (request.method == "resources/read") {
            read_resource(id, string_in(request.params, "uri"));
        } else {
            send(protocol_error(id, static_cast<int>(ErrorKind::MethodNotFound), "no such method: " + request.method));
        }
    }

    void call_tool(const Json& id, const Json& params) {
        const std::string name = string_in(params, "name");
        if (!mcp::is_tool(name)) {
            send(invalid(id, "no such tool: " + name));
            return;
        }
        auto arguments = mcp::tool_params(name, params.value("arguments", Json()));
        if (!arguments) {
            send(make_result(id, mcp::tool_failure(arguments.error())));
            return;
        }
        const Json meta = params.value("_meta", Json());
        const Json token = meta.is_object() ? meta.value("progressToken", Json()) : Json();
        const auto reply = [id](Answer answer) {
            auto* failure = std::get_if<CallError>(&answer);
            return make_result(id, failure != nullptr ? mcp::tool_failure(failure->error)
                                                      : mcp::tool_result(std::move(std::get<Json>(answer))));
        };
        begin(id, name, std::move(*arguments), reply, token);
    }

    void list_resources(const Json& id, const std::string& cursor) {
        const auto reply = [id, cursor](Answer answer) {
            if (const auto* failure = std::get_if<CallError>(&answer)) {
                return make_error(id, mcp::for_model(failure->error));
            }
            auto page = mcp::resources(std::get<Json>(answer).value("sessions", Json::array()), cursor);
            return page ? make_result(id, std::move(*page)) : invalid(id, "no such cursor");
        };
        begin(id, "list", {{"all", true}}, reply);
    }

    void read_resource(const Json& id, const std::string& uri) {
        const auto no_such_resource = [id, uri] {
            Json error = protocol_error(id, kNoSuchResource, "no such resource");
            error["error"]["data"] = {{"uri", uri}};
            return error;
        };
        const auto session = mcp::session_of_uri(uri);
        if (!session) {
            send(no_such_resource());
            return;
        }
        const auto reply = [id, uri, no_such_resource](Answer answer) {
            const auto* failure = std::get_if<CallError>(&answer);
            if (failure != nullptr) {
                const bool missing = failure->error.kind == ErrorKind::SessionNotFound;
                return missing ? no_such_resource() : make_error(id, mcp::for_model(failure->error));
            }
            return make_result(id, mcp::resource(uri, std::get<Json>(answer)));
        };
        begin(id, "logs", {{"session", *session}}, reply);
    }

    // token: null where the client wants no progress.
    void begin(const Json& id, const std::string& method, Json params, std::function<Json(Answer)> reply,
               const Json& token = {}) {
        if (calls_.size() >= kMaxCalls) {
            send(reply(CallError{.error = {.kind = ErrorKind::Limit,
                                           .message = std::to_string(kMaxCalls) + " calls are under way",
                                           .hint = "wait for some, or cancel them"}}));
            return;
        }
        auto connected = RpcClient::connect(global_, std::nullopt);
        if (auto* failure = std::get_if<CallError>(&connected)) {
            send(reply(std::move(*failure)));
            return;
        }
        auto daemon = std::make_shared<RpcClient>(std::move(std::get<RpcClient>(connected)));
        RpcClient::Progress progress;
        if (!token.is_null()) {
            progress = [this, token, steps = 0](const Json& told) mutable { tell_progress(token, ++steps, told); };
        }
        if (auto failure = daemon->begin_call(method, std::move(params), progress)) {
            send(reply(std::move(*failure)));
            return;
        }
        calls_.push_back({id, std::move(daemon), std::move(reply), std::chrono::steady_clock::now()});
    }

    void tell_progress(const Json& token, int step, const Json& told) {
        const auto progress = api::read<api::Progress>(told);
        if (!progress) {
            return;
        }
        std::string phase = progress->phase;
        std::replace(phase.begin(), phase.end(), '_', ' ');
        send(make_notification(
            "notifications/progress",
            {{"progressToken", token}, {"progress", step}, {"message", progress->ctx + ": " + phase}}));
    }

    void continue_calls() {
        for (auto call = calls_.begin(); call != calls_.end();) {
            auto answer = call->daemon->continue_call();
            const bool silent = !answer && !call->daemon->was_answered() &&
                                std::chrono::steady_clock::now() >= call->began + kAnswerDeadline;
            if (silent) {
                answer = CallError{.error = {.kind = ErrorKind::Timeout,
                                             .message = "the daemon does not answer",
                                             .hint = "cmctl daemon status"}};
            }
            if (answer) {
                send(call->reply(std::move(*answer)));
                call = calls_.erase(call);
            } else {
                ++call;
            }
        }
    }

    void send(const Json& message) {
        const std::string line = frame(dump_json(message), Framing::Line);
        const bool written = std::fwrite(line.data(), 1, line.size(), stdout) == line.size();
        failed_ = failed_ || !written || std::fflush(stdout) != 0;
    }

    const GlobalOptions& global_;
    FrameReader input_;
    std::list<McpCall> calls_;
    std::optional<Instant> ended_;  // the client has closed its side
    bool failed_ = false;
};

}  // namespace

int mcp_server(const GlobalOptions& global) {
    if (global.host) {
        return run_there(global, {"mcp"}, HostTerminal::None);
    }
    if (::isatty(STDIN_FILENO) != 0) {
        std::fputs("cmctl: mcp: standard input is for a client of the Model Context Protocol\nhint: cmctl mcp --help\n",
                   stderr);
        return exit_code::kUsage;
    }
    return McpServer(global).run();
}

}  // namespace cmssh::client
