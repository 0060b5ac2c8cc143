#include "client/rpc_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include "client/given_context.hpp"
#include "client/host_link.hpp"
#include "client/interrupt.hpp"
#include "client/spawn_daemon.hpp"
#include "protocol/methods.hpp"
#include "protocol/names.hpp"
#include "protocol/paths.hpp"

namespace cmssh::client {
namespace {

// A daemon that runs answers `version` in microseconds; one that is stopped or stuck, never.
constexpr auto kAnswerDeadline = std::chrono::seconds(5);
// One that stops holds its lock a moment longer than its socket.
constexpr auto kEndingDaemon = std::chrono::seconds(2);
constexpr int kEndingDaemonPauseMilliseconds = 50;
// ssh may have to ask the person first; sshd gives them two minutes, too.
constexpr auto kLoginDeadline = std::chrono::minutes(2);
constexpr std::size_t kReadSize = 64 * 1024;
constexpr int kIdleMilliseconds = 200;

CallError no_daemon(std::string message, std::string hint, bool lost = false) {
    return CallError{.error = {.kind = ErrorKind::Internal, .message = std::move(message), .hint = std::move(hint)},
                     .exit_code = exit_code::kNoDaemon,
                     .daemon_lost = lost};
}

CallError lost_daemon() {
    return no_daemon("the daemon closed the connection before it answered", "cmctl daemon status", true);
}

// waits_for: what the daemon said that it does, or empty.
CallError no_answer_in_time(const std::string& waits_for = {}) {
    return CallError{.error = {.kind = ErrorKind::Timeout,
                               .message = "no answer in time" + (waits_for.empty() ? "" : ": " + waits_for),
                               .hint = "give a longer --timeout, or look at cmctl daemon status"},
                     .exit_code = exit_code::kTimeout};
}

// connect() blocks where the queue of a daemon that does not accept is full, and poll() does not help: its deadline is
// the one for sending.
void bound_connect(int socket, Instant deadline) {
    const auto left = std::chrono::ceil<std::chrono::microseconds>(deadline - std::chrono::steady_clock::now());
    const auto microseconds = std::max<std::int64_t>(left.count(), 1);  // 0 would be for ever
    timeval limit{};
    limit.tv_sec = microseconds / 1'000'000;
    limit.tv_usec = microseconds % 1'000'000;
    ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

}  // namespace

CallError interrupted_call() {
    return CallError{.error = {.kind = ErrorKind::Cancelled, .message = "interrupted"},
                     .exit_code = exit_code::kInterrupted};
}

std::optional<Instant> deadline_of(const GlobalOptions& global) {
    return global.timeout ? std::optional(std::chrono::steady_clock::now() + *global.timeout) : std::nullopt;
}

RpcClient::RpcClient(UniqueFd fd) : fd_(std::move(fd)), reader_(std::numeric_limits<std::size_t>::max()) {}

std::optional<std::variant<RpcClient, CallError>> RpcClient::connect_running(const std::string& path,
                                                                             std::optional<Instant> deadline) {
    using Outcome = std::variant<RpcClient, CallError>;
    sockaddr_un address{};
    if (path.size() >= sizeof(address.sun_path)) {
        return Outcome(no_daemon(printable(path) + " is too long for a socket", "give a shorter --socket"));
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Instant answer_by = std::chrono::steady_clock::now() + kAnswerDeadline;
    const bool hurried = deadline && *deadline < answer_by;
    bound_connect(fd.get(), hurried ? *deadline : answer_by);
    if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        if (errno == ENOENT || errno == ECONNREFUSED) {
            return std::nullopt;
        }
        if (errno == EAGAIN) {
            return Outcome(hurried ? no_answer_in_time()
                                   : no_daemon("the daemon does not answer", "cmctl daemon status"));
        }
        if (errno == EINTR && interrupted()) {
            return Outcome(interrupted_call());
        }
        return Outcome(no_daemon(printable(path) + ": " + std::strerror(errno), "cmctl daemon status"));
    }
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != ::geteuid()) {
        return Outcome(no_daemon(printable(path) + " is served by uid " + std::to_string(peer.uid) + ", not by you",
                                 "set XDG_RUNTIME_DIR or --socket to a place of your own"));
    }
    return Outcome(RpcClient(std::move(fd)));
}

// Nothing else is said, and nobody else asks, until the daemon there has answered: the terminal is ssh's until then.
std::variant<RpcClient, CallError> RpcClient::connect_to_host(const GlobalOptions& global,
                                                              std::optional<Instant> deadline) {
    auto opened = HostLink::open(global);
    if (auto* failure = std::get_if<CallError>(&opened)) {
        return std::move(*failure);
    }
    auto& [link, fd] = std::get<HostLink::Opened>(opened);
    RpcClient client(std::move(fd));
    client.link_ = std::move(link);
    const Instant latest = std::chrono::steady_clock::now() + kLoginDeadline;
    if (auto failure = client.greet(deadline ? std::min(*deadline, latest) : latest)) {
        return std::move(*failure);
    }
    client.link_->is_through();
    return client;
}

std::optional<CallError> RpcClient::greet(std::optional<Instant> deadline) {
    link_->set_waiting(true);
    const int id = next_id_++;
    if (auto failure = send(frame(dump_json(make_request(id, "version", Json::object())), Framing::Line), deadline)) {
        return failure;
    }
    auto received = receive(deadline);
    if (auto* failure = std::get_if<CallError>(&received)) {
        return std::move(*failure);
    }
    link_->set_waiting(false);
    if (auto failure = check_version(std::get<Json>(received))) {
        failure->error.hint = "install the same version of cmssh on both machines";
        return failure;
    }
    version_known_ = true;
    return std::nullopt;
}

CallError RpcClient::lost() const {
    return link_ ? link_->why_lost() : lost_daemon();
}

CallError RpcClient::not_a_daemon() const {
    return link_ ? link_->not_a_daemon() : no_daemon("what listens on the socket is no cmsshd", "cmctl daemon status");
}

std::variant<RpcClient, CallError> RpcClient::connect(const GlobalOptions& global, std::optional<Instant> deadline) {
    if (global.host) {
        return connect_to_host(global, deadline);
    }
    const auto environment = process_environment();
    const std::string path = socket_path(environment, global.socket);
    if (auto running = connect_running(path, deadline)) {
        return std::move(*running);
    }
    if (global.no_spawn) {
        return no_daemon("no daemon listens on " + printable(path), "cmctl daemon start");
    }
    const Instant until = std::chrono::steady_clock::now() + kEndingDaemon;
    SpawnOutcome spawned;
    do {
        spawned = spawn_daemon(global, deadline);
        if (spawned.failure) {
            return std::move(*spawned.failure);
        }
        if (auto running = connect_running(path, deadline)) {
            return std::move(*running);
        }
    } while (spawned.another_serves && !interrupted() && std::chrono::steady_clock::now() < until &&
             ::poll(nullptr, 0, kEndingDaemonPauseMilliseconds) == 0);
    if (spawned.another_serves) {
        const auto real = socket_of_daemon();
        return no_daemon("your daemon serves on " + real.value_or("another socket") + ", not on " + printable(path),
                         real ? "cmctl --socket " + *real + " daemon stop, or use that one" : "use that one");
    }
    return no_daemon("the daemon was started and does not listen on " + printable(path), "cmctl daemon status");
}

// nullopt: ready. Otherwise why not.
std::optional<CallError> RpcClient::wait_for(short events, std::optional<Instant> deadline) {
    for (;;) {
        int timeout = -1;
        if (deadline) {
            const auto left =
                std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
            timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, std::numeric_limits<int>::max()));
        }
        const int terminal = questioner_ ? questioner_->fd() : -1;
        // Also for a Ctrl-C that came right before poll().
        const bool ticks = (idle_ || terminal >= 0) && (timeout < 0 || timeout > kIdleMilliseconds);
        std::array<pollfd, 3> waited{pollfd{.fd = fd_.get(), .events = events, .revents = 0},
                                     pollfd{.fd = terminal, .events = POLLIN, .revents = 0},  // -1: passed over
                                     pollfd{.fd = link_ ? link_->errors_fd() : -1, .events = POLLIN, .revents = 0}};
        const int ready = ::poll(waited.data(), waited.size(), ticks ? kIdleMilliseconds : timeout);
        if (ready > 0 && waited[2].revents != 0) {
            link_->relay_errors();
        }
        if (ready > 0 && waited[0].revents != 0) {
            return std::nullopt;
        }
        if (ready > 0 && waited[1].revents != 0) {
            questioner_->read_input(*this);
        }
        if (ready > 0) {
            continue;
        }
        if (ready == 0 && ticks) {
            if (terminal < 0) {
                idle_();
            }
        } else if (ready == 0) {
            return no_answer_in_time(waits_for_);
        }
        if (interrupted() || (ready < 0 && errno != EINTR)) {
            return interrupted_call();
        }
    }
}

std::optional<CallError> RpcClient::send(std::string_view bytes, std::optional<Instant> deadline) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN) {
            if (auto failure = wait_for(POLLOUT, deadline)) {
                return failure;
            }
        } else if (errno != EINTR) {
            return lost();
        }
    }
    return std::nullopt;
}

std::optional<std::variant<Json, CallError>> RpcClient::next_message() {
    auto message = reader_.next();
    if (!message) {
        return not_a_daemon();
    }
    if (!*message) {
        return std::nullopt;
    }
    auto json = parse_json(**message);
    if (!json || !json->is_object()) {
        return not_a_daemon();
    }
    return std::move(*json);
}

std::variant<Json, CallError> RpcClient::receive(std::optional<Instant> deadline) {
    std::string bytes(kReadSize, '\0');
    for (;;) {
        if (auto message = next_message()) {
            return std::move(*message);
        }
        if (auto failure = wait_for(POLLIN, deadline)) {
            return std::move(*failure);
        }
        const ssize_t count = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
            return lost();
        }
        if (count > 0) {
            reader_.feed(std::string_view(bytes.data(), static_cast<std::size_t>(count)));
        }
    }
}

void RpcClient::hear(const Json& notification, const Progress& progress) {
    const auto method = notification.find("method");
    const auto params = notification.find("params");
    if (!method->is_string() || params == notification.end()) {
        return;
    }
    const auto& name = method->get_ref<const std::string&>();
    if (name == "progress") {
        if (auto told = api::read<api::Progress>(*params)) {
            std::replace(told->phase.begin(), told->phase.end(), '_', ' ');
            waits_for_ = printable(told->ctx + ": " + told->phase + " (" + told->server + ')');
        }
        if (progress) {
            progress(*params);
        }
    } else if (name == "prompt" && questioner_) {
        questioner_->ask(*this, *params);
    } else if (listener_) {
        listener_(name, *params);
    }
}

void RpcClient::notify(std::string_view method, Json params) {
    const Json request = {{"jsonrpc", "2.0"}, {"method", method}, {"params", std::move(params)}};
    // Where the daemon is gone, the call that waits says so.
    (void)send(frame(dump_json(request), Framing::Line), std::chrono::steady_clock::now() + kAnswerDeadline);
}

std::optional<CallError> RpcClient::receive_notifications() {
    std::string bytes(kReadSize, '\0');
    const ssize_t count = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        return lost();
    }
    reader_.feed(std::string_view(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))));
    for (;;) {
        auto message = reader_.next();
        if (!message) {
            return not_a_daemon();
        }
        if (!*message) {
            return std::nullopt;
        }
        const auto json = parse_json(**message);
        if (json && json->is_object() && json->contains("method")) {
            hear(*json, {});
        }
    }
}

std::optional<CallError> RpcClient::check_version(const Json& reply) const {
    const auto result = reply.find("result");
    if (result != reply.end() && result->is_object() && result->contains("protocol") &&
        (*result)["protocol"] == api::kProtocolVersion) {
        return std::nullopt;
    }
    std::string theirs = "unknown";
    if (result != reply.end() && result->is_object() && result->contains("version") &&
        (*result)["version"].is_string()) {
        theirs = (*result)["version"].get<std::string>();
    }
    return CallError{
        .error = {.kind = ErrorKind::Internal,
                  .message = "the daemon (" + theirs + ") and this cmctl (" CMSSH_VERSION ") speak different protocols",
                  .hint = "cmctl daemon stop, then try again: sessions and connections live on"},
        .exit_code = exit_code::kIncompatible};
}

std::variant<Json, CallError> RpcClient::call(std::string_view method, Json params, std::optional<Instant> deadline,
                                              const Progress& progress) {
    waits_for_.clear();
    if (link_) {
        link_->set_waiting(true);
        // A path of this machine means nothing there.
        if (const auto agent = environment_value("SSH_AUTH_SOCK");
            agent && params.value("auth_sock", Json()) == *agent) {
            params.erase("auth_sock");
        }
    }
    auto outcome = exchange(method, std::move(params), deadline, progress);
    if (questioner_) {
        questioner_->stop(*this);
    }
    const auto* failure = std::get_if<CallError>(&outcome);
    const bool given_up = failure != nullptr &&
                          (failure->exit_code == exit_code::kInterrupted || failure->exit_code == exit_code::kTimeout);
    if (link_ && !given_up) {
        link_->set_waiting(false);
    }
    return outcome;
}

std::optional<CallError> RpcClient::begin(std::string_view method, Json params, std::optional<Instant> deadline) {
    version_id_ = version_known_ ? 0 : next_id_++;
    call_id_ = next_id_++;
    std::string bytes;
    if (version_id_ != 0) {
        // Along with the request: no round trip of its own.
        bytes = frame(dump_json(make_request(version_id_, "version", Json::object())), Framing::Line);
    }
    bytes += frame(dump_json(make_request(call_id_, method, std::move(params))), Framing::Line);
    return send(bytes, deadline);
}

std::optional<std::variant<Json, CallError>> RpcClient::take(Json message, const Progress& progress) {
    if (message.contains("method")) {
        hear(message, progress);
        return std::nullopt;
    }
    const Json reply_id = message.value("id", Json());
    if (version_id_ != 0 && reply_id == version_id_) {
        if (auto failure = check_version(message)) {
            return std::move(*failure);
        }
        version_known_ = true;
        return std::nullopt;
    }
    if (const auto error = message.find("error");
        error != message.end() && (reply_id == call_id_ || reply_id.is_null())) {
        CallError failed;
        failed.error = error_from_json(*error);
        failed.exit_code = error_info(failed.error.kind).exit_code;
        return failed;
    }
    if (reply_id == call_id_ && message.contains("result")) {
        return std::move(message["result"]);
    }
    return std::nullopt;
}

std::variant<Json, CallError> RpcClient::exchange(std::string_view method, Json params, std::optional<Instant> deadline,
                                                  const Progress& progress) {
    const Instant answer_by = std::chrono::steady_clock::now() + kAnswerDeadline;
    const auto first_deadline = deadline && *deadline < answer_by ? deadline : std::optional(answer_by);
    if (auto failure = begin(method, std::move(params), first_deadline)) {
        return std::move(*failure);
    }
    for (;;) {
        auto received = receive(version_known_ ? deadline : first_deadline);
        if (auto* failure = std::get_if<CallError>(&received)) {
            if (failure->error.kind == ErrorKind::Timeout && !version_known_ && first_deadline == answer_by) {
                return no_daemon("the daemon does not answer", "cmctl daemon status");
            }
            return std::move(*failure);
        }
        if (auto answer = take(std::move(std::get<Json>(received)), progress)) {
            return std::move(*answer);
        }
    }
}

std::optional<CallError> RpcClient::begin_call(std::string_view method, Json params, Progress progress) {
    progress_ = std::move(progress);
    return begin(method, std::move(params), std::chrono::steady_clock::now() + kAnswerDeadline);
}

std::optional<std::variant<Json, CallError>> RpcClient::continue_call() {
    std::string bytes(kReadSize, '\0');
    const ssize_t count = ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        return lost();
    }
    reader_.feed(std::string_view(bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))));
    while (auto message = next_message()) {
        if (auto* failure = std::get_if<CallError>(&*message)) {
            return std::move(*failure);
        }
        if (auto answer = take(std::move(std::get<Json>(*message)), progress_)) {
            return answer;
        }
    }
    return std::nullopt;
}

}  // namespace cmssh::client
