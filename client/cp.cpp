// cmctl cp: the system's own scp does the copying, and gets its connection from us (scp_channel.hpp).
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 declares it without C linkage
}

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "client/call.hpp"
#include "client/copy_size.hpp"
#include "client/cp_operand.hpp"
#include "client/host.hpp"
#include "client/interrupt.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/scp_channel.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

constexpr int kSignalled = 128;
constexpr int kConnectionFailed = 255;  // scp's, where its ssh ended early
constexpr int kIdleMilliseconds = 1000;
constexpr std::size_t kMaxWord = 4096;

// The lease that the copy goes over, and scp's questions about it.
class CopyLease {
public:
    CopyLease(const GlobalOptions& global, RpcClient client, Json params)
        : global_(global), client_(std::move(client)), params_(std::move(params)) {
        client_.on_notification([this](std::string_view method, const Json& told) {
            if (method == "lease" && lease_ && told.value("lease", "") == lease_->lease) {
                given_up_ = true;
            }
        });
    }

    // On a master of its own where the copy is big. False: told on stderr, and failure() is its exit code.
    bool acquire_for(const std::vector<CpOperand>& sources);
    // Answers one packet of a channel; false: there will be none any more.
    bool answer(int socket);
    void hear() { daemon_lost_ = daemon_lost_ || client_.receive_notifications().has_value(); }
    // -1: not to be polled.
    [[nodiscard]] int fd() const { return daemon_lost_ ? -1 : client_.fd(); }
    // Of the connection, where it failed.
    [[nodiscard]] std::optional<int> failure() const { return failure_; }

private:
    bool acquire();

    const GlobalOptions& global_;
    RpcClient client_;
    Json params_;
    std::optional<api::AcquireResult> lease_;
    bool given_up_ = false;  // a new master is, or will be, in its place
    bool daemon_lost_ = false;
    std::optional<int> failure_;
};

bool CopyLease::acquire_for(const std::vector<CpOperand>& sources) {
    std::uint64_t local = 0;
    for (const CpOperand& source : sources) {
        local += source.ctx ? 0 : local_copy_size(source.path);
    }
    const bool remote = sources.front().ctx.has_value();
    params_["own_master"] =
        remote ? remote_copy_is_big(client_, *sources.front().ctx, sources, deadline_of(global_)) : local >= kBigCopy;
    const bool acquired = acquire();
    params_.erase("own_master");  // of the first try: what the server refuses there goes over the shared one
    return acquired;
}

bool CopyLease::acquire() {
    auto outcome = call_with_login<api::AcquireResult>(client_, "acquire", params_, deadline_of(global_));
    params_.erase("refused");
    if (const auto* failed = std::get_if<CallError>(&outcome)) {
        failure_ = print_error(global_, *failed);
        return false;
    }
    lease_ = std::move(std::get<Reply<api::AcquireResult>>(outcome).value);
    given_up_ = false;
    return true;
}

bool CopyLease::answer(int socket) {
    std::string word(kMaxWord, '\0');
    const ssize_t size = ::recv(socket, word.data(), word.size(), MSG_DONTWAIT);
    if (size <= 0) {
        return size < 0 && (errno == EAGAIN || errno == EINTR);
    }
    word.resize(static_cast<std::size_t>(size));
    if (word == scp_talk::kLost) {
        std::fprintf(stderr, "cmctl: cp: the connection to %s was lost\n",
                     printable(lease_->connection.server.key).c_str());
        failure_ = exit_code::kUnreachable;
        return true;
    }
    if (word == scp_talk::kNoStatus) {
        std::fprintf(stderr, "cmctl: cp: %s ended it without a status: it may have no sftp\nhint: cmctl cp -O\n",
                     printable(lease_->connection.server.key).c_str());
        failure_ = exit_code::kFailed;
        return true;
    }
    bool good = true;
    if (word == scp_talk::kRefused) {
        params_["refused"] = lease_->lease;
        good = acquire();
    } else if (given_up_) {
        client_.notify("release", {{"lease", lease_->lease}});
        good = acquire();
    }
    const std::string_view path = good ? std::string_view(lease_->control_path) : scp_talk::kStop;
    (void)::send(socket, path.data(), path.size(), MSG_NOSIGNAL);
    return true;
}

std::vector<std::string> scp_command(const CpOptions& options, bool quiet, const std::vector<CpOperand>& operands) {
    // By the process and not by its path: that may be another program by now.
    std::vector<std::string> argv = {"scp", "-r", "-S", "/proc/" + std::to_string(::getpid()) + "/exe"};
    if (options.preserve) {
        argv.emplace_back("-p");
    }
    if (options.old_protocol) {
        argv.emplace_back("-O");
    }
    if (quiet) {
        argv.emplace_back("-q");
    }
    argv.emplace_back("--");
    for (const CpOperand& operand : operands) {
        argv.push_back(scp_word(operand));
    }
    return argv;
}

// In our process group, so that the terminal's signals reach it and it draws its progress. errno where it fails.
std::variant<pid_t, int> spawn_scp(const std::vector<std::string>& argv, int socket) {
    std::vector<char*> words;
    for (const std::string& word : argv) {
        words.push_back(const_cast<char*>(word.c_str()));
    }
    words.push_back(nullptr);
    std::string variable = std::string(kScpSocketVariable) + '=' + std::to_string(socket);
    std::vector<char*> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        if (!std::string_view(*entry).starts_with(kScpSocketVariable)) {
            environment.push_back(*entry);
        }
    }
    environment.push_back(variable.data());
    environment.push_back(nullptr);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGPIPE);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, "scp", nullptr, &attributes, words.data(), environment.data());
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        return std::variant<pid_t, int>(std::in_place_index<1>, error);
    }
    return std::variant<pid_t, int>(std::in_place_index<0>, pid);
}

// Until scp has ended; its exit code.
int serve_scp(pid_t scp, int socket, CopyLease& lease) {
    const UniqueFd process(::pidfd_open(scp, 0));
    bool told = false;
    for (;;) {  // negative descriptors are passed over
        if (interrupted() && !told) {
            told = true;
            ::kill(scp, SIGINT);
        }
        std::array<pollfd, 3> waited{pollfd{.fd = process.get(), .events = POLLIN, .revents = 0},
                                     pollfd{.fd = socket, .events = POLLIN, .revents = 0},
                                     pollfd{.fd = lease.fd(), .events = POLLIN, .revents = 0}};
        // Also for a Ctrl-C that came right before.
        if (::poll(waited.data(), waited.size(), kIdleMilliseconds) <= 0) {
            continue;
        }
        if (waited[2].revents != 0) {
            lease.hear();
        }
        // What it said before its end comes first.
        if (waited[1].revents != 0) {
            socket = lease.answer(socket) ? socket : -1;
        } else if (waited[0].revents != 0) {
            int status = 0;
            ::waitpid(scp, &status, 0);
            return WIFSIGNALED(status) ? kSignalled + WTERMSIG(status) : WEXITSTATUS(status);
        }
    }
}

Json acquire_params(const std::string& ctx) {
    Json params = {{"ctx", ctx}};
    add_login_params(params);
    return params;
}

}  // namespace

int cp(const GlobalOptions& global, const CpOptions& options) {
    if (global.host) {
        return not_with_host(global, "cp",
                             "scp the files there first, then " + ssh_text(*global.host) + " cmctl cp FILE CTX:");
    }
    std::vector<CpOperand> operands;
    for (const std::string& text : options.paths) {
        operands.push_back(parse_cp_operand(text));
    }
    const std::vector<CpOperand> sources(operands.begin(), operands.end() - 1);
    const auto ctx = server_of_copy(sources, operands.back());
    if (!ctx) {
        return print_error(global, CallError{.error = ctx.error(), .exit_code = exit_code::kUsage});
    }
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        std::fprintf(stderr, "cmctl: cp: socketpair: %s\n", std::strerror(errno));
        return exit_code::kFailed;
    }
    const UniqueFd ours(ends[0]);
    UniqueFd its(ends[1]);
    catch_interrupts();
    auto connected = RpcClient::connect(global, deadline_of(global));
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    CopyLease lease(global, std::move(std::get<RpcClient>(connected)), acquire_params(*ctx));
    if (!lease.acquire_for(sources)) {
        return *lease.failure();
    }
    ::fcntl(its.get(), F_SETFD, 0);
    const auto spawned = spawn_scp(scp_command(options, global.quiet, operands), its.get());
    if (const int* error = std::get_if<1>(&spawned)) {
        std::fprintf(stderr, "cmctl: cp: scp: %s\nhint: install OpenSSH's client\n", std::strerror(*error));
        return exit_code::kFailed;
    }
    its.reset();
    const int code = serve_scp(std::get<0>(spawned), ours.get(), lease);
    if (interrupted()) {
        return exit_code::kInterrupted;
    }
    if (code != exit_code::kOk && lease.failure()) {
        return *lease.failure();
    }
    // scp has this for a file that it cannot read, too.
    return code == kConnectionFailed ? exit_code::kFailed : code;
}

}  // namespace cmssh::client
