#include "client/terminal.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "protocol/errors.hpp"

namespace cmssh::client {
namespace {

// Mouse and focus reports, bracketed paste, extended keys, keypad and cursor keys, attributes, character sets, the
// scroll region; then the main screen and the cursor.
constexpr std::string_view kPlainScreen =
    "\033[?1000l\033[?1002l\033[?1003l\033[?1005l\033[?1006l\033[?1004l\033[?2004l\033[>4m\033[?1l\033>\033[m\033(B\017"
    "\033[r\033[?1049l\033[?25h";

bool equal(const termios& one, const termios& other) {
    return one.c_iflag == other.c_iflag && one.c_oflag == other.c_oflag && one.c_lflag == other.c_lflag &&
           one.c_cflag == other.c_cflag && std::memcmp(one.c_cc, other.c_cc, sizeof(one.c_cc)) == 0;
}

std::optional<termios> modes() {
    termios now{};
    return ::tcgetattr(STDIN_FILENO, &now) == 0 ? std::optional(now) : std::nullopt;
}

// In the parent, which has SIGTTOU blocked: it may set the modes from the background too.
[[noreturn]] void wait_for(pid_t child, const sigset_t& signals, const std::optional<termios>& before) {
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) {
        siginfo_t info{};
        const int signal = ::sigwaitinfo(&signals, &info);
        // Those that the terminal sends have reached the child too.
        const bool from_process = info.si_code <= 0;
        const bool typed = signal == SIGINT || signal == SIGQUIT;
        if (signal == SIGTERM || signal == SIGHUP || (typed && from_process)) {
            ::kill(child, signal);
        }
    }
    if (WIFEXITED(status)) {
        ::_exit(WEXITSTATUS(status));
    }
    const auto now = modes();
    if (before && now && !equal(*before, *now)) {
        leave_screen();
        ::tcsetattr(STDIN_FILENO, TCSANOW, &*before);
    }
    const int signal = WTERMSIG(status);
    const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(signal, SIG_DFL);
    sigset_t only;
    ::sigemptyset(&only);
    ::sigaddset(&only, signal);
    ::raise(signal);
    ::sigprocmask(SIG_UNBLOCK, &only, nullptr);
    ::_exit(exit_code::kFailed);
}

}  // namespace

bool on_terminal() {
    return ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
}

void guard_terminal() {
    const auto before = modes();
    sigset_t signals;
    ::sigemptyset(&signals);
    for (const int signal : {SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTTOU}) {
        ::sigaddset(&signals, signal);
    }
    // Inherited as ignored, it would take the child's end with it.
    ::signal(SIGCHLD, SIG_DFL);
    sigset_t old{};
    ::sigprocmask(SIG_BLOCK, &signals, &old);
    std::fflush(nullptr);
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child > 0) {
        wait_for(child, signals, before);
    }
    // Without a process to spare there is nobody to guard it, and all else works.
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (::getppid() != parent) {
            ::_exit(exit_code::kFailed);
        }
    }
    ::sigprocmask(SIG_SETMASK, &old, nullptr);
}

RawMode::RawMode() {
    const auto now = modes();
    if (!now) {
        return;
    }
    before_ = *now;
    enter();
}

void RawMode::enter() {
    termios raw = before_;
    // As OpenSSH 9.2 sshtty.c enter_raw_mode().
    raw.c_iflag |= IGNPAR;
    raw.c_iflag &= ~static_cast<tcflag_t>(ISTRIP | INLCR | IGNCR | ICRNL | IXON | IXANY | IXOFF | IUCLC);
    raw.c_lflag &= ~static_cast<tcflag_t>(ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHONL | IEXTEN);
    raw.c_oflag &= ~static_cast<tcflag_t>(OPOST);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    raw_ = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

RawMode::~RawMode() {
    if (raw_) {
        ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    }
}

void leave_screen() {
    // Where the terminal is gone there is nothing to leave.
    (void)!::write(STDOUT_FILENO, kPlainScreen.data(), kPlainScreen.size());
}

}  // namespace cmssh::client
