#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>

#include "client/call.hpp"
#include "client/host.hpp"
#include "client/interrupt.hpp"
#include "client/output.hpp"
#include "client/spawn_daemon.hpp"
#include "client/verbs.hpp"
#include "daemon/base/unique_fd.hpp"
#include "protocol/names.hpp"
#include "protocol/paths.hpp"

namespace cmssh::client {
namespace {

// The daemon gives itself less for an orderly end.
constexpr auto kStopDeadline = std::chrono::seconds(15);

std::string own_socket_path(const GlobalOptions& global) {
    return socket_path(process_environment(), global.socket);
}

int not_running(const GlobalOptions& global) {
    return print_error(global, CallError{.error = {.kind = ErrorKind::Internal,
                                                   .message = "no daemon listens on " + own_socket_path(global),
                                                   .hint = "cmctl daemon start"},
                                         .exit_code = exit_code::kNoDaemon});
}

// Waits until the process is gone; false: it was not in time.
bool wait_for_exit(int pidfd, Instant deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd waited{.fd = pidfd, .events = POLLIN, .revents = 0};
        const int ready = ::poll(&waited, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready >= 0 || errno != EINTR || interrupted()) {
            return ready > 0;
        }
    }
}

// nullopt: no daemon runs.
std::optional<std::variant<RpcClient, CallError>> connect_where_it_runs(const GlobalOptions& global) {
    if (!global.host) {
        return RpcClient::connect_running(own_socket_path(global), deadline_of(global));
    }
    GlobalOptions running_only = global;
    running_only.no_spawn = true;
    return RpcClient::connect(running_only, deadline_of(global));
}

std::string read_standard_input() {
    std::string text;
    std::array<char, 64 * 1024> buffer{};
    while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), stdin)) {
        text.append(buffer.data(), count);
    }
    return text;
}

}  // namespace

int daemon_start(const GlobalOptions& global) {
    if (global.host) {
        return run_there(global, {"daemon", "start"}, HostTerminal::None);
    }
    const auto outcome = call<api::VersionResult>(global, "version", Json::object());
    if (const auto* failure = std::get_if<CallError>(&outcome)) {
        return print_error(global, *failure);
    }
    return exit_code::kOk;
}

int daemon_stop(const GlobalOptions& global) {
    if (global.host) {
        return run_there(global, {"daemon", "stop"}, HostTerminal::None);
    }
    auto running = RpcClient::connect_running(own_socket_path(global), deadline_of(global));
    if (!running) {
        const auto real = socket_of_daemon();
        if (real && RpcClient::connect_running(*real, deadline_of(global))) {
            return print_error(global, CallError{.error = {.kind = ErrorKind::Internal,
                                                           .message = "your daemon serves on " + *real,
                                                           .hint = "cmctl --socket " + *real + " daemon stop"}});
        }
        return exit_code::kOk;
    }
    if (const auto* failure = std::get_if<CallError>(&*running)) {
        return print_error(global, *failure);
    }
    RpcClient& client = std::get<RpcClient>(*running);
    const Instant deadline = deadline_of(global).value_or(std::chrono::steady_clock::now() + kStopDeadline);
    catch_interrupts();
    // One that speaks another protocol is stopped too: that is what the error of every other verb asks for.
    client.accept_any_version();
    auto stats = client.call("stats", Json::object(), deadline);
    if (const auto* failure = std::get_if<CallError>(&stats)) {
        return print_error(global, *failure);
    }
    const Json& daemon = std::get<Json>(stats)["daemon"];
    const int pid =
        daemon.is_object() && daemon.contains("pid") && daemon["pid"].is_number() ? daemon["pid"].get<int>() : 0;
    const UniqueFd process(pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)) : -1);
    const auto stopped = client.call("shutdown", Json::object(), deadline);
    if (const auto* failure = std::get_if<CallError>(&stopped); failure != nullptr && !failure->daemon_lost) {
        return print_error(global, *failure);
    }
    // Not the socket: under systemd it outlives the daemon.
    if (process && !wait_for_exit(process.get(), deadline)) {
        return print_error(global, CallError{.error = {.kind = ErrorKind::Timeout,
                                                       .message = "cmsshd (pid " + std::to_string(pid) +
                                                                  ") is still ending what it does",
                                                       .hint = "cmctl daemon status"},
                                             .exit_code = exit_code::kTimeout});
    }
    return exit_code::kOk;
}

int daemon_status(const GlobalOptions& global) {
    if (global.host) {
        return run_there(global, {"daemon", "status"}, HostTerminal::None);
    }
    if (!RpcClient::connect_running(own_socket_path(global), deadline_of(global))) {
        return not_running(global);
    }
    return status(global);
}

int daemon_reload(const GlobalOptions& global) {
    if (global.host) {
        return run_there(global, {"daemon", "reload"}, HostTerminal::None);
    }
    auto running = RpcClient::connect_running(own_socket_path(global), deadline_of(global));
    if (!running) {
        return not_running(global);
    }
    if (const auto* failure = std::get_if<CallError>(&*running)) {
        return print_error(global, *failure);
    }
    const auto outcome = call<api::Empty>(std::get<RpcClient>(*running), "reload", Json::object(), deadline_of(global));
    if (const auto* failure = std::get_if<CallError>(&outcome)) {
        return print_error(global, *failure);
    }
    return exit_code::kOk;
}

int rpc(const GlobalOptions& global, const RpcOptions& options) {
    std::string text = options.params.value_or("{}");
    if (text == "-") {
        text = read_standard_input();
    }
    auto params = parse_json(text);
    if (!params || !params->is_object()) {
        const std::string why = params ? "expected an object" : params.error().message;
        return print_error(global, CallError{.error = {.kind = ErrorKind::InvalidParams,
                                                       .message = "rpc: the params are no JSON object: " + why,
                                                       .hint = "cmctl rpc get '{\"session\":\"…\"}'"},
                                             .exit_code = exit_code::kUsage});
    }
    const auto deadline = deadline_of(global);
    catch_interrupts();
    auto connected = RpcClient::connect(global, deadline);
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    const auto answer = std::get<RpcClient>(connected).call(options.method, std::move(*params), deadline);
    if (const auto* failure = std::get_if<CallError>(&answer)) {
        return print_error(global, *failure);
    }
    print_json(std::get<Json>(answer));
    return exit_code::kOk;
}

int version(const GlobalOptions& global) {
    Json json = {{"cmctl", CMSSH_VERSION}, {"version", nullptr}};
    std::string daemon = "does not run";
    if (auto running = connect_where_it_runs(global)) {
        auto* client = std::get_if<RpcClient>(&*running);
        if (client == nullptr) {
            return print_error(global, std::get<CallError>(*running));
        }
        const auto outcome = call<api::VersionResult>(*client, "version", Json::object(), deadline_of(global));
        if (const auto* failure = std::get_if<CallError>(&outcome)) {
            return print_error(global, *failure);
        }
        const auto& reply = std::get<Reply<api::VersionResult>>(outcome);
        json.update(reply.json);
        daemon = reply.value.version;
    }
    if (global.json) {
        print_json(json);
    } else {
        print_line("cmctl " CMSSH_VERSION);
        print_line("cmsshd " + daemon);
    }
    return exit_code::kOk;
}

}  // namespace cmssh::client
