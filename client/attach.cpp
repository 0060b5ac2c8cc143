#include "client/attach.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "client/call.hpp"
#include "client/held_signals.hpp"
#include "client/host.hpp"
#include "client/interrupt.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/terminal.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"
#include "protocol/paths.hpp"

namespace cmssh::client {
namespace {

// A channel of a server that can be reached opens within a round trip or two.
constexpr auto kOpenDeadline = std::chrono::seconds(15);
constexpr auto kAliveDeadline = std::chrono::seconds(2);
// The daemon hears of a session's end within a second.
constexpr std::int64_t kEndDeadlineMs = 10'000;
constexpr auto kGrace = std::chrono::seconds(2);
// A master may die between the daemon's answer and its use, which the daemon knows a moment later.
constexpr int kTries = 3;
constexpr int kFirstPause = 100;
constexpr int kLongestPause = 5000;
constexpr std::chrono::seconds kSeekPause(1);
constexpr std::chrono::seconds kSeekDeadline(3);
constexpr char kEscape = '~';

volatile sig_atomic_t window_changed = 0;
volatile sig_atomic_t continued = 0;

void on_signal(int signal) {
    (signal == SIGCONT ? continued : window_changed) = 1;
}

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

// What another try may find otherwise.
bool may_pass(const CallError& failure) {
    switch (failure.error.kind) {
        case ErrorKind::DnsFailure:
        case ErrorKind::ConnectRefused:
        case ErrorKind::ConnectTimeout:
        case ErrorKind::ConnectFailed:
        case ErrorKind::MasterLost:
        case ErrorKind::ChannelRefused:
        case ErrorKind::Timeout:
        case ErrorKind::Limit:
        case ErrorKind::ShuttingDown:
            return true;
        default:
            return failure.exit_code == exit_code::kNoDaemon;
    }
}

}  // namespace

Attachment::Attachment(const GlobalOptions& global, std::string session, Typing typing)
    : global_(global), session_(std::move(session)), typing_(typing), deadline_(deadline_of(global)) {
    struct sigaction action {};
    action.sa_handler = on_signal;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGWINCH, &action, nullptr);
    ::sigaction(SIGCONT, &action, nullptr);
}

void Attachment::use(RpcClient client) {
    client_ = std::move(client);
    client_->on_notification([this](std::string_view method, const Json& params) {
        const auto lost = method == "lease" ? std::optional(api::read<api::LeaseLost>(params)) : std::nullopt;
        if (lost && *lost && way_ && (*lost)->lease == way_->lease) {
            doubted_ = true;
        }
    });
}

std::optional<CallError> Attachment::reach_daemon() {
    if (client_) {
        return std::nullopt;
    }
    auto connected = RpcClient::connect(global_, deadline_);
    if (auto* failure = std::get_if<CallError>(&connected)) {
        return std::move(*failure);
    }
    use(std::move(std::get<RpcClient>(connected)));
    // Leases ended with the connection that they were given to.
    refused_.reset();
    return std::nullopt;
}

std::optional<CallError> Attachment::ask_way() {
    if (auto failure = reach_daemon()) {
        return failure;
    }
    Json params = {{"session", session_}, {"read_only", typing_ == Typing::IsIgnored}};
    add_login_params(params);
    if (refused_) {
        params["refused"] = *refused_;
    }
    auto outcome = call_with_login<api::AttachResult>(*client_, "attach", std::move(params), deadline_);
    if (auto* failure = std::get_if<CallError>(&outcome)) {
        if (failure->exit_code == exit_code::kNoDaemon) {
            client_.reset();
        } else if (refused_) {
            client_->notify("release", {{"lease", *refused_}});
        }
        refused_.reset();
        return std::move(*failure);
    }
    refused_.reset();
    way_ = std::move(std::get<Reply<api::AttachResult>>(outcome).value);
    doubted_ = false;
    session_ = way_->session.id;
    return std::nullopt;
}

AttachEnd Attachment::run() {
    for (int tries = 1;;) {
        if (auto failure = ask_way()) {
            if (!was_on_ || !may_pass(*failure)) {
                return failed(std::move(*failure));
            }
            if (!wait_for_way()) {
                return failed(interrupted_call());
            }
            continue;
        }
        if (waiting_) {
            // Typed at nobody, and meant for nobody who comes now.
            ::tcflush(STDIN_FILENO, TCIFLUSH);
        }
        mux::NewSession wanted;
        wanted.want_tty = true;
        wanted.term = variable("TERM");
        wanted.command = way_->command;
        wanted.escape = kEscape;
        const int errors = ::isatty(STDERR_FILENO) != 0 ? STDERR_FILENO : STDOUT_FILENO;
        auto opened = MuxSession::open(way_->control_path, wanted, {STDIN_FILENO, STDOUT_FILENO, errors},
                                       std::chrono::steady_clock::now() + kOpenDeadline);
        if (!opened) {
            Error error = std::move(opened).error();
            if (error.kind == ErrorKind::ChannelRefused) {
                refused_ = way_->lease;
                way_.reset();
                continue;
            }
            let_go();
            const bool again = error.kind == ErrorKind::MasterLost && tries++ < kTries;
            CallError failure{.error = std::move(error)};
            failure.exit_code = error_info(failure.error.kind).exit_code;
            if (!(was_on_ ? may_pass(failure) : again)) {
                return failed(std::move(failure));
            }
            if (!wait_for_way()) {
                return failed(interrupted_call());
            }
            continue;
        }
        was_on_ = true;
        waiting_ = false;
        deadline_.reset();
        Left left = Left::Exited;
        {
            RawMode raw;
            left = stay_on(*opened, raw);
        }
        if (auto end = end_of(*opened, left)) {
            let_go();
            return std::move(*end);
        }
        let_go();
        if (!wait_for_way()) {
            return failed(interrupted_call());
        }
    }
}

Attachment::Left Attachment::stay_on(MuxSession& session, RawMode& raw) {
    const Instant began = std::chrono::steady_clock::now();
    const HeldSignals signals;
    // What came along with the last answer makes nothing readable.
    bool daemon_speaks = true;
    for (;;) {
        if (daemon_speaks && client_ && client_->receive_notifications()) {
            client_.reset();  // and the lease with it
            seek_at_ = std::chrono::steady_clock::now() + kSeekPause;
        }
        if (!client_) {
            seek_daemon();
        }
        if (std::chrono::steady_clock::now() - began > std::chrono::milliseconds(kLongestPause)) {
            pause_ = 0;
        }
        if (session.ended()) {
            return session.exit_status() ? Left::Exited : Left::WithoutStatus;
        }
        if (doubted_) {
            return Left::Doubted;
        }
        if (interrupted()) {
            return Left::Interrupted;
        }
        if (continued != 0) {
            // The shell that it was stopped to had the terminal meanwhile.
            continued = 0;
            raw.enter();
            window_changed = 1;
        }
        if (window_changed != 0) {
            window_changed = 0;
            session.window_changed();
        }
        std::array<pollfd, 2> waited{pollfd{.fd = session.fd(), .events = POLLIN, .revents = 0},
                                     pollfd{.fd = client_ ? client_->fd() : -1, .events = POLLIN, .revents = 0}};
        const timespec seek = {.tv_sec = kSeekPause.count(), .tv_nsec = 0};
        const int ready = ::ppoll(waited.data(), waited.size(), client_ ? nullptr : &seek, signals.before());
        if (ready > 0 && waited[0].revents != 0) {
            session.receive();
        }
        daemon_speaks = ready > 0 && waited[1].revents != 0;
    }
}

// The daemon is gone, while what is on the master stays. The next one gives a lease on it, and without one nobody sees
// the end of the session. One that was asked to stop has removed its socket, and is not started again by this.
void Attachment::seek_daemon() {
    const Instant now = std::chrono::steady_clock::now();
    if (now < seek_at_) {
        return;
    }
    seek_at_ = now + kSeekPause;
    GlobalOptions global = global_;
    global.no_spawn = global.no_spawn || ::access(socket_path(process_environment(), global.socket).c_str(), F_OK) != 0;
    auto connected = RpcClient::connect(global, now + kSeekDeadline);
    if (!std::holds_alternative<RpcClient>(connected)) {
        return;
    }
    use(std::move(std::get<RpcClient>(connected)));
    refused_.reset();
    auto outcome = call<api::AttachResult>(
        *client_, "attach", {{"session", session_}, {"read_only", typing_ == Typing::IsIgnored}}, now + kSeekDeadline);
    auto* reply = std::get_if<Reply<api::AttachResult>>(&outcome);
    if (reply == nullptr) {
        client_.reset();
        return;
    }
    doubted_ = reply->value.control_path != way_->control_path;
    way_ = std::move(reply->value);
}

std::optional<AttachEnd> Attachment::end_of(const MuxSession& session, Left left) {
    const std::optional<int> status = left == Left::Exited ? session.exit_status() : std::nullopt;
    if (status == 0) {
        return detached();
    }
    if (status == api::kAttachedToNothing) {
        return session_is_gone();
    }
    constexpr int kSignalBase = 128;
    if (!status || *status > kSignalBase) {
        leave_screen();
    }
    if (status) {
        CallError failure;
        failure.error.kind = ErrorKind::TmuxFailed;
        failure.error.message = session.has_no_terminal()
                                    ? "the server gives no terminals"
                                    : "tmux on the server ended with status " + std::to_string(*status);
        failure.error.hint = "cmctl attach " + session_ + ", the session runs on";
        failure.exit_code = error_info(ErrorKind::TmuxFailed).exit_code;
        return failed(std::move(failure));
    }
    if (left == Left::Interrupted) {
        return failed(interrupted_call());
    }
    if (left == Left::WithoutStatus &&
        session.master_answers(way_->control_path, std::chrono::steady_clock::now() + kAliveDeadline)) {
        return detached();
    }
    return std::nullopt;
}

AttachEnd Attachment::detached() {
    if (!global_.quiet) {
        print_note(global_, session_ + ": detached, it runs on; to come back: cmctl attach " + session_);
    }
    return AttachEnd{.was_on = true};
}

AttachEnd Attachment::session_is_gone() {
    if (auto failure = reach_daemon()) {
        return failed(std::move(*failure));
    }
    auto outcome =
        call<api::SessionResult>(*client_, "wait", {{"session", session_}, {"timeout_ms", kEndDeadlineMs}},
                                 std::chrono::steady_clock::now() + std::chrono::milliseconds(kEndDeadlineMs) + kGrace);
    if (auto* failure = std::get_if<CallError>(&outcome)) {
        if (failure->error.kind == ErrorKind::Timeout) {
            failure->error.message = session_ + " is not in the server's tmux any more, and how it ended is not known";
            failure->error.hint = "cmctl check " + way_->session.ctx;
        }
        return failed(std::move(*failure));
    }
    return AttachEnd{.was_on = was_on_, .ended = std::get<Reply<api::SessionResult>>(outcome).value.session};
}

AttachEnd Attachment::failed(CallError failure) {
    if (failure.error.kind == ErrorKind::Cancelled && failure.error.hint.empty()) {
        failure.error.hint = "cmctl attach " + session_ + ", the session runs on";
    }
    AttachEnd end{.was_on = was_on_};
    if (failure.error.kind == ErrorKind::SessionEnded && client_) {
        auto outcome = call<api::SessionResult>(*client_, "get", {{"session", session_}},
                                                std::chrono::steady_clock::now() + kGrace);
        if (auto* reply = std::get_if<Reply<api::SessionResult>>(&outcome)) {
            end.ended = std::move(reply->value.session);
        }
    }
    end.failure = std::move(failure);
    return end;
}

bool Attachment::wait_for_way() {
    if (!waiting_) {
        waiting_ = true;
        if (was_on_) {
            std::fprintf(stderr, "cmctl: connection to %s lost, waiting for it (Ctrl-C gives up)\n",
                         printable(way_ ? way_->session.ctx : session_).c_str());
        }
    }
    if (pause_ > 0) {
        ::poll(nullptr, 0, pause_);
    }
    pause_ = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
    return !interrupted();
}

void Attachment::let_go() {
    if (way_ && client_) {
        client_->notify("release", {{"lease", way_->lease}});
    }
}

namespace {

int tell_end(const GlobalOptions& global, const AttachEnd& end) {
    if (end.failure) {
        return print_error(global, *end.failure);
    }
    return end.exit_code;
}

// As printed text of a session may be: the terminal acts on nothing in it.
void print_log(RpcClient& client, const api::Session& session, std::optional<int> lines) {
    Json params = {{"session", session.id}};
    if (lines) {
        params["lines"] = *lines;
    }
    auto outcome = call<api::LogsResult>(client, "logs", std::move(params), std::nullopt);
    if (const auto* reply = std::get_if<Reply<api::LogsResult>>(&outcome); reply && !reply->value.text.empty()) {
        const std::string text = printable_lines(reply->value.text);
        std::fputs((text.ends_with('\n') ? text : text + '\n').c_str(), stdout);
        std::fflush(stdout);
    }
}

// What a screen holds less the line that says how it ended, and the shell's next prompt.
int lines_of_screen() {
    constexpr int kOwnLines = 2;
    constexpr int kUsual = 24;
    winsize size{};
    const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > kOwnLines;
    return (known ? size.ws_row : kUsual) - kOwnLines;
}

// The way to the daemon stays open meanwhile, and tells how the session ended.
int attach_started_there(const GlobalOptions& global, RpcClient& client, const std::string& session) {
    GlobalOptions silent = global;
    silent.quiet = true;
    silent.timeout.reset();
    const int code = run_there(silent, {"attach", session}, HostTerminal::Ours);
    const auto found = call<api::SessionResult>(client, "get", {{"session", session}}, std::nullopt);
    const auto* reply = std::get_if<Reply<api::SessionResult>>(&found);
    if (reply == nullptr || !api::ended(reply->value.session.state)) {
        return code;
    }
    print_log(client, reply->value.session, code == exit_code::kOk ? std::optional(lines_of_screen()) : std::nullopt);
    if (!global.quiet) {
        std::fprintf(stderr, "%s: %s\n", session.c_str(), printable(state_text(reply->value.session)).c_str());
    }
    return exit_code_of(reply->value.session);
}

}  // namespace

int attach_started(const GlobalOptions& global, RpcClient client, const std::string& session) {
    if (global.host) {
        return attach_started_there(global, client, session);
    }
    Attachment attachment(global, session, Typing::Arrives);
    attachment.use(std::move(client));
    const AttachEnd end = attachment.run();
    if (!end.ended) {
        return tell_end(global, end);
    }
    auto connected = RpcClient::connect(global, std::nullopt);
    if (auto* again = std::get_if<RpcClient>(&connected)) {
        // tmux took what was on the terminal with it.
        print_log(*again, *end.ended, end.was_on ? std::optional(lines_of_screen()) : std::nullopt);
    }
    if (!global.quiet) {
        std::fprintf(stderr, "%s: %s\n", end.ended->id.c_str(), printable(state_text(*end.ended)).c_str());
    }
    return exit_code_of(*end.ended);
}

int attach(const GlobalOptions& global, const AttachOptions& options) {
    if (!on_terminal()) {
        print_note(global,
                   "cmctl: attach: standard input and output must be a terminal\n"
                   "hint: cmctl logs S and cmctl send S need none");
        return exit_code::kUsage;
    }
    if (global.host) {
        std::vector<std::string> words = {"attach", options.session};
        if (options.read_only) {
            words.emplace_back("--read-only");
        }
        return run_there(global, std::move(words), HostTerminal::Ours);
    }
    guard_terminal();
    catch_interrupts();
    Attachment attachment(global, options.session, options.read_only ? Typing::IsIgnored : Typing::Arrives);
    if (const std::string own = variable("CMSSH_SESSION"); !own.empty()) {
        const auto deadline = deadline_of(global);
        auto connected = RpcClient::connect(global, deadline);
        if (const auto* failure = std::get_if<CallError>(&connected)) {
            return print_error(global, *failure);
        }
        RpcClient& client = std::get<RpcClient>(connected);
        const auto found = call<api::SessionResult>(client, "get", {{"session", options.session}}, deadline);
        if (const auto* failure = std::get_if<CallError>(&found)) {
            return print_error(global, *failure);
        }
        if (std::get<Reply<api::SessionResult>>(found).value.session.id == own) {
            print_note(global,
                       "cmctl: attach: this terminal is a window of " + printable(own) + " itself\nhint: cmctl list");
            return exit_code::kUsage;
        }
        attachment.use(std::move(client));
    }
    if (!global.quiet && (!variable("CMSSH_SESSION").empty() || !variable("TMUX").empty())) {
        std::fputs(
            "cmctl: inside tmux already: its prefix key once is for the tmux that you are in, twice for that of the "
            "session\n",
            stderr);
    }
    const AttachEnd end = attachment.run();
    if (!end.ended || !end.was_on) {
        return tell_end(global, end);
    }
    const api::Session& session = *end.ended;
    if (!global.quiet) {
        print_note(global,
                   session.id + ": " + printable(state_text(session)) + "; what it printed: cmctl logs " + session.id);
    }
    return session.state == api::SessionState::Lost ? exit_code::kFailed : exit_code::kOk;
}

}  // namespace cmssh::client
