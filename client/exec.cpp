// cmctl exec: the daemon gives a lease, the server's master our own three streams, and the program's end is ours.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "client/call.hpp"
#include "client/given_context.hpp"
#include "client/host.hpp"
#include "client/interrupt.hpp"
#include "client/login_call.hpp"
#include "client/mux_session.hpp"
#include "client/output.hpp"
#include "client/terminal.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"
#include "protocol/remote_command.hpp"

namespace cmssh::client {
namespace {

// As ssh has it.
constexpr int kConnectionFailed = 255;
constexpr int kEndedWithoutStatus = 129;
constexpr int kSignalled = 128;
// The server confirms a channel before it starts anything on it.
constexpr auto kOpenDeadline = std::chrono::seconds(30);
constexpr auto kAliveDeadline = std::chrono::seconds(2);
// What a command that is told to end has for that, over --timeout.
constexpr auto kEndDeadline = std::chrono::seconds(2);

// The master makes our descriptors non-blocking for as long as it has them, one before OpenSSH 8.7 for ever. Whoever
// shares them with us gets them back as they were.
class StreamFlags {
public:
    StreamFlags() {
        for (std::size_t fd = 0; fd < flags_.size(); ++fd) {
            flags_[fd] = ::fcntl(static_cast<int>(fd), F_GETFL);
        }
    }
    ~StreamFlags() {
        for (std::size_t fd = 0; fd < flags_.size(); ++fd) {
            if (flags_[fd] >= 0 && ::fcntl(static_cast<int>(fd), F_GETFL) != flags_[fd]) {
                ::fcntl(static_cast<int>(fd), F_SETFL, flags_[fd]);
            }
        }
    }
    StreamFlags(const StreamFlags&) = delete;
    StreamFlags& operator=(const StreamFlags&) = delete;

private:
    std::array<int, 3> flags_{};
};

bool is_ignored(int signal) {
    struct sigaction action {};
    return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// From here on signals are read, and end nothing by themselves. One that is ignored, as nohup has it, stays so.
class Signals {
public:
    Signals() {
        sigset_t set;
        ::sigemptyset(&set);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) {
            if (!is_ignored(signal)) {
                ::sigaddset(&set, signal);
            }
        }
        ::sigprocmask(SIG_BLOCK, &set, nullptr);
        fd_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    [[nodiscard]] int fd() const { return fd_.get(); }
    // 0: none is there.
    [[nodiscard]] int next() const {
        signalfd_siginfo info{};
        return ::read(fd_.get(), &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo) : 0;
    }

private:
    UniqueFd fd_;
};

// A command that runs: its session on the master, and the lease that it is marked with.
class Execution {
public:
    Execution(RpcClient client, api::AcquireResult lease, MuxSession session, bool terminal)
        : client_(std::move(client)), lease_(std::move(lease)), session_(std::move(session)), terminal_(terminal) {
        if (terminal_) {
            raw_.emplace();
        }
    }

    // The exit code. Left by a signal or at the deadline, the lease ends unreleased, and the daemon hangs up on what
    // may still run under it.
    int run(std::optional<Instant> deadline);

private:
    // Polls once. An exit code where that is all.
    std::optional<int> wait_once(const Signals& signals, std::optional<Instant> deadline);
    std::optional<int> take_signal(int signal);
    bool forward(int signal);
    int ended();

    RpcClient client_;
    api::AcquireResult lease_;
    MuxSession session_;
    std::vector<MuxSession> signalling_;  // closed, they might not come to it
    bool terminal_;
    std::optional<RawMode> raw_;  // while the command has the terminal
    bool daemon_lost_ = false;
    bool out_of_time_ = false;
    int forwarded_ = 0;
};

int Execution::run(std::optional<Instant> deadline) {
    const Signals signals;
    if (interrupted()) {
        (void)forward(SIGINT);
    }
    for (;;) {
        if (const auto code = wait_once(signals, deadline)) {
            return out_of_time_ ? exit_code::kTimeout : *code;
        }
        if (!deadline || std::chrono::steady_clock::now() < *deadline) {
            continue;
        }
        if (out_of_time_ || terminal_) {
            return exit_code::kTimeout;
        }
        std::fputs("cmctl: exec: not done in time\n", stderr);
        out_of_time_ = true;
        deadline = std::chrono::steady_clock::now() + kEndDeadline;
        (void)forward(SIGTERM);
    }
}

std::optional<int> Execution::wait_once(const Signals& signals, std::optional<Instant> deadline) {
    int timeout = -1;
    if (deadline) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
        timeout = static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30));
    }
    // Negative descriptors are passed over.
    std::array<pollfd, 3> waited{pollfd{.fd = session_.fd(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = signals.fd(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = daemon_lost_ ? -1 : client_.fd(), .events = POLLIN, .revents = 0}};
    if (::poll(waited.data(), waited.size(), timeout) <= 0) {
        return std::nullopt;
    }
    if (waited[0].revents != 0) {
        session_.receive();
        if (session_.ended()) {
            return ended();
        }
    }
    // The session has no need of the daemon: it goes on without.
    if (waited[2].revents != 0 && client_.receive_notifications()) {
        daemon_lost_ = true;
    }
    if (waited[1].revents != 0) {
        while (const int signal = signals.next()) {
            if (const auto code = take_signal(signal)) {
                return code;
            }
        }
    }
    return std::nullopt;
}

std::optional<int> Execution::take_signal(int signal) {
    if (signal == SIGWINCH) {
        if (terminal_) {
            session_.window_changed();
        }
        return std::nullopt;
    }
    // What has a terminal is hung up on when the session closes.
    if (terminal_ || (signal == SIGINT && forwarded_ == SIGINT)) {
        return kSignalled + signal;
    }
    if (!forward(signal)) {
        std::fprintf(stderr, "cmctl: exec: left the command on %s\n", printable(lease_.connection.server.key).c_str());
        return kSignalled + signal;
    }
    return std::nullopt;
}

// false: nobody takes it.
bool Execution::forward(int signal) {
    forwarded_ = signal;
    if (!daemon_lost_) {
        client_.notify("signal", {{"lease", lease_.lease}, {"signal", signal_name(signal)}});
        return true;
    }
    // The next daemon knows nothing of this lease; the master serves us on.
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    mux::NewSession request;
    request.command = for_any_shell(signal_exec_script(lease_.lease, signal));
    auto signalling = MuxSession::open(lease_.control_path, request, {null.get(), null.get(), null.get()},
                                       std::chrono::steady_clock::now() + kAliveDeadline);
    if (signalling) {
        signalling_.push_back(std::move(*signalling));
    }
    return signalling.ok();
}

int Execution::ended() {
    raw_.reset();
    if (session_.has_no_terminal()) {
        std::fputs("cmctl: exec: the server gave no terminal\n", stderr);
    }
    if (const auto status = session_.exit_status()) {
        if (!daemon_lost_) {
            client_.notify("release", {{"lease", lease_.lease}});
        }
        return *status;
    }
    const std::string server = printable(lease_.connection.server.key);
    if (!session_.master_answers(lease_.control_path, std::chrono::steady_clock::now() + kAliveDeadline)) {
        std::fprintf(stderr, "cmctl: exec: the connection to %s was lost\n", server.c_str());
        return kConnectionFailed;
    }
    if (terminal_) {
        std::fprintf(stderr, "cmctl: exec: left the command on %s\n", server.c_str());
        return kConnectionFailed;
    }
    if (forwarded_ != 0) {
        return kSignalled + forwarded_;
    }
    std::fprintf(stderr, "cmctl: exec: the command on %s ended without an exit status\n", server.c_str());
    return kEndedWithoutStatus;
}

int print_failure(const GlobalOptions& global, const CallError& failure) {
    const int code = print_error(global, failure);
    return code == exit_code::kUnreachable || code == exit_code::kNeedsPerson ? kConnectionFailed : code;
}

Json acquire_params(const ExecOptions& options, bool terminal) {
    Json params = {{"hang_up", !terminal}};
    add_login_params(params);
    if (options.ctx) {
        params["ctx"] = *options.ctx;
    }
    return params;
}

// What a session that could not be opened is to the caller.
CallError not_opened(Error error, const api::AcquireResult& lease, bool in_time) {
    error.server = lease.connection.server.key;
    // The path is dead: that is the connection's failure and not the caller's deadline.
    if (error.kind == ErrorKind::Timeout && in_time) {
        error.kind = ErrorKind::MasterLost;
    }
    CallError failure;
    failure.exit_code = error_info(error.kind).exit_code;
    failure.error = std::move(error);
    return failure;
}

int exec_there(const GlobalOptions& global, const ExecOptions& options, bool terminal) {
    std::vector<std::string> words = {"exec"};
    if (options.ctx) {
        words.insert(words.end(), {"--ctx", *options.ctx});
    }
    if (terminal) {
        words.emplace_back("-t");
    }
    words.emplace_back("--");
    words.insert(words.end(), options.command.begin(), options.command.end());
    return run_there(global, std::move(words), terminal ? HostTerminal::Ours : HostTerminal::None, true);
}

}  // namespace

int exec(const GlobalOptions& global, ExecOptions options) {
    bool terminal = options.terminal;
    if (terminal && ::isatty(STDIN_FILENO) == 0) {
        std::fputs("cmctl: exec: no terminal on the server, because standard input is none\n", stderr);
        terminal = false;
    }
    if (terminal) {
        guard_terminal();
    }
    if (!options.ctx) {
        options.ctx = environment_value("CMSSH_CTX");
    }
    if (global.host) {
        return exec_there(global, options, terminal);
    }
    const auto deadline = deadline_of(global);
    if (!is_ignored(SIGINT)) {
        catch_interrupts();
    }
    auto connected = RpcClient::connect(global, deadline);
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_failure(global, *failure);
    }
    RpcClient& client = std::get<RpcClient>(connected);
    mux::NewSession request;
    request.want_tty = terminal;
    if (terminal) {
        request.term = environment_value("TERM").value_or("");
        request.escape = '~';
    }
    Json params = acquire_params(options, terminal);
    const StreamFlags as_they_were;
    SecondTry again;
    for (;;) {
        // Only where a person looks: standard error is the command's.
        const bool tells = !global.quiet && ::isatty(STDERR_FILENO) != 0;
        auto outcome = call_with_login<api::AcquireResult>(client, "acquire", params, deadline, tells);
        if (const auto* failure = std::get_if<CallError>(&outcome)) {
            // Nothing has been run.
            if (again.after(*failure, client)) {
                auto next = RpcClient::connect(global, deadline);
                if (const auto* unreached = std::get_if<CallError>(&next)) {
                    return print_failure(global, *unreached);
                }
                client = std::move(std::get<RpcClient>(next));
                params.erase("refused");
                continue;
            }
            const int code = print_failure(global, *failure);
            if (!options.ctx && failure->error.kind == ErrorKind::InvalidParams && !global.json) {
                print_contexts_to_choose(client, deadline);
            }
            return code;
        }
        auto lease = std::move(std::get<Reply<api::AcquireResult>>(outcome).value);
        request.command = exec_command(lease.lease, options.command, terminal ? ExecInput::Terminal : ExecInput::Plain);
        if (request.command.size() > kMaxCommandLine) {
            Error error{.kind = ErrorKind::Limit,
                        .message = "the command line is too long",
                        .hint = "give long input on standard input, or in a file on the server"};
            client.notify("release", {{"lease", lease.lease}});
            return print_failure(global, not_opened(std::move(error), lease, true));
        }
        const Instant open_by = std::chrono::steady_clock::now() + kOpenDeadline;
        auto session = MuxSession::open(lease.control_path, request, {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
                                        deadline ? std::min(*deadline, open_by) : open_by);
        if (session) {
            Execution execution(std::move(client), std::move(lease), std::move(*session), terminal);
            return execution.run(deadline);
        }
        if (session.error().kind != ErrorKind::ChannelRefused) {
            const bool in_time = !deadline || std::chrono::steady_clock::now() < *deadline;
            return print_failure(global, not_opened(std::move(session).error(), lease, in_time));
        }
        // The daemon tries again some times, learns how many channels there are, and then waits for one.
        params["refused"] = lease.lease;
    }
}

}  // namespace cmssh::client
