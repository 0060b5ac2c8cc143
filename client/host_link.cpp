#include "client/host_link.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "client/host.hpp"
#include "client/interrupt.hpp"
#include "client/typed_command.hpp"
#include "protocol/names.hpp"

extern char** environ;

namespace cmssh::client {
namespace {

// An orderly end takes a round trip or two. One that others share as a ControlMaster stays as long as they do.
constexpr auto kEndDeadline = std::chrono::seconds(1);
constexpr std::size_t kKept = 4096;
constexpr int kSshFailed = 255;
constexpr int kNotFound = 127;

CallError not_started(const char* what, int error) {
    return CallError{.error = {.kind = ErrorKind::Internal,
                               .message = std::string(what) + ": " + std::strerror(error),
                               .hint = error == ENOENT ? "install OpenSSH's client" : ""},
                     .exit_code = exit_code::kFailed};
}

// 0, or errno. The process group stays ours: a terminal lets nobody else read from it.
int spawn_ssh(std::vector<std::string> argv, int stream, int errors, pid_t& pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, stream, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, stream, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
    sigset_t signals;
    ::sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    ::sigaddset(&signals, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<char*> words;
    for (std::string& word : argv) {
        words.push_back(word.data());
    }
    words.push_back(nullptr);
    const int failure = posix_spawnp(&pid, words[0], &actions, &attributes, words.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return failure;
}

}  // namespace

std::variant<HostLink::Opened, CallError> HostLink::open(const GlobalOptions& global) {
    std::vector<std::string> words = {"proxy"};
    const auto options = daemon_options(global);
    words.insert(words.end(), options.begin(), options.end());
    auto argv = ssh_to_host(*global.host, HostTerminal::None, words, typed_host(global));
    if (!argv) {
        return bad_host(argv.error());
    }
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        return not_started("socketpair", errno);
    }
    UniqueFd ours(ends[0]);
    const UniqueFd its(ends[1]);
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return not_started("pipe", errno);
    }
    UniqueFd errors(ends[0]);
    const UniqueFd its_errors(ends[1]);
    ::fcntl(errors.get(), F_SETFL, O_NONBLOCK);
    UniqueFd copy(::fcntl(ours.get(), F_DUPFD_CLOEXEC, 0));
    pid_t ssh = -1;
    if (const int failure = spawn_ssh(std::move(*argv), its.get(), its_errors.get(), ssh); failure != 0) {
        return not_started("ssh", failure);
    }
    return Opened(std::make_shared<HostLink>(global, ssh, std::move(copy), std::move(errors)), std::move(ours));
}

HostLink::HostLink(const GlobalOptions& global, pid_t ssh, UniqueFd ours, UniqueFd errors)
    : host_(*global.host), quiet_(global.json), ssh_(ssh), ours_(std::move(ours)), errors_(std::move(errors)) {}

HostLink::~HostLink() {
    ::shutdown(ours_.get(), SHUT_RDWR);
    if (waiting_ && !status_) {
        ::kill(ssh_, SIGTERM);
    }
    (void)wait_for_end();
}

void HostLink::relay_errors() {
    std::array<char, 4096> bytes{};
    for (;;) {
        const ssize_t count = ::read(errors_.get(), bytes.data(), bytes.size());
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (count <= 0) {
            errors_.reset();
            return;
        }
        const std::string_view text(bytes.data(), static_cast<std::size_t>(count));
        said_ += text;
        if (said_.size() > kKept) {
            said_.erase(0, said_.size() - kKept);
        }
        if (!quiet_ || through_) {
            std::fputs((::isatty(STDERR_FILENO) != 0 ? printable_lines(text) : std::string(text)).c_str(), stderr);
        }
    }
}

std::optional<int> HostLink::wait_for_end() {
    if (status_) {
        return status_;
    }
    const Instant deadline = std::chrono::steady_clock::now() + kEndDeadline;
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, ssh_, 0)));
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        std::array<pollfd, 2> waited{pollfd{.fd = process.get(), .events = POLLIN, .revents = 0},
                                     pollfd{.fd = errors_.get(), .events = POLLIN, .revents = 0}};
        const int ready =
            ::poll(waited.data(), waited.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (waited[1].revents != 0) {
            relay_errors();
        }
        if (waited[0].revents != 0) {
            break;
        }
        if (ready == 0 || (ready < 0 && errno != EINTR)) {
            return std::nullopt;
        }
    }
    if (errors_) {
        relay_errors();
    }
    int status = 0;
    if (::waitpid(ssh_, &status, WNOHANG) != ssh_) {
        return std::nullopt;
    }
    status_ = status;
    return status;
}

CallError HostLink::why_lost() {
    const auto status = wait_for_end();
    waiting_ = waiting_ && !status;
    if (interrupted()) {
        return interrupted_call();
    }
    const int code = status && WIFEXITED(*status) ? WEXITSTATUS(*status) : kSshFailed;
    if (!through_ && code != 0) {
        CallError failure = failed_before_answer(code);
        if (!said_.empty() && quiet_) {
            failure.error.ssh_stderr = said_;
        }
        return failure;
    }
    CallError failure{.error = {.kind = ErrorKind::MasterLost,
                                .message = "the ssh to " + host_ + " was cut before the answer came",
                                .hint = ssh_text(host_) + " cmctl version"},
                      .exit_code = exit_code::kUnreachable,
                      .daemon_lost = true};
    if (status && code != kSshFailed) {
        failure.error.kind = ErrorKind::Internal;
        failure.error.message = "the daemon on " + host_ + " closed the connection before it answered";
        failure.error.hint = "cmctl daemon status";
        failure.exit_code = exit_code::kNoDaemon;
    }
    return failure;
}

CallError HostLink::failed_before_answer(int code) const {
    CallError failure;
    failure.exit_code = exit_code::kNoDaemon;
    Error& error = failure.error;
    if (code == kSshFailed && says_login_refused(said_)) {
        return login_refused(host_);
    }
    if (code == kSshFailed) {
        error.kind = ErrorKind::ConnectFailed;
        error.message = "cannot reach " + host_;
        error.hint = ssh_text(host_) + " true";
        failure.exit_code = exit_code::kUnreachable;
    } else if (code == kNotFound || said_.find("ommand not found") != std::string::npos) {
        error.message = "there is no cmctl on " + host_;
        error.hint = "install cmssh there, in the PATH that " + ssh_text(host_) + " env shows";
    } else if (code == exit_code::kNoDaemon) {
        error.message = "no daemon was reached on " + host_;
        error.hint = "cmctl daemon start";
    } else {
        error.message = "cmctl proxy on " + host_ + " ended with exit code " + std::to_string(code);
        error.hint = ssh_text(host_) + " cmctl version";
    }
    return failure;
}

CallError HostLink::not_a_daemon() {
    return CallError{
        .error = {.kind = ErrorKind::Internal,
                  .message = "what came from " + host_ + " is not cmctl's: does its shell print something?",
                  .hint = ssh_text(host_) + " true must print nothing"},
        .exit_code = exit_code::kNoDaemon};
}

}  // namespace cmssh::client
