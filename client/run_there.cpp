#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/host.hpp"
#include "client/output.hpp"
#include "client/typed_command.hpp"
#include "daemon/base/unique_fd.hpp"

extern char** environ;

namespace cmssh::client {
namespace {

constexpr int kSshFailed = 255;
constexpr int kNotFound = 127;
constexpr int kSignalled = 128;
constexpr std::size_t kKept = 4096;

volatile sig_atomic_t ssh_pid = 0;

void hand_on(int signal) {
    if (ssh_pid > 0) {
        ::kill(ssh_pid, signal);
    }
}

// Ctrl-C and Ctrl-\ reach ssh by themselves; what is sent to us alone is handed on. For as long as ssh runs.
class SignalsForSsh {
public:
    SignalsForSsh() {
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            struct sigaction action {};
            const bool typed = kSignals[i] == SIGINT || kSignals[i] == SIGQUIT;
            action.sa_handler = typed ? SIG_IGN : hand_on;
            ::sigemptyset(&action.sa_mask);
            ::sigaction(kSignals[i], &action, &before_[i]);
        }
    }
    ~SignalsForSsh() {
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            ::sigaction(kSignals[i], &before_[i], nullptr);
        }
    }
    SignalsForSsh(const SignalsForSsh&) = delete;
    SignalsForSsh& operator=(const SignalsForSsh&) = delete;

    // Those that ssh finds as we did. Ignored ones stay ignored, as below nohup.
    [[nodiscard]] sigset_t defaults() const {
        sigset_t set;
        ::sigemptyset(&set);
        ::sigaddset(&set, SIGPIPE);
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            if (before_[i].sa_handler != SIG_IGN) {
                ::sigaddset(&set, kSignals[i]);
            }
        }
        return set;
    }

private:
    static constexpr std::array kSignals = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
    std::array<struct sigaction, kSignals.size()> before_{};
};

// How ssh ended, as a shell has it, or -errno of what could not be started, and the last of what it said.
struct Ended {
    int code = 0;
    std::string said;
};

// To our own standard error as it comes. False: nothing more comes.
bool relay(int from, std::string& said) {
    std::array<char, 4096> bytes{};
    for (;;) {
        const ssize_t count = ::read(from, bytes.data(), bytes.size());
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (count <= 0) {
            return false;
        }
        std::fwrite(bytes.data(), 1, static_cast<std::size_t>(count), stderr);
        said.append(bytes.data(), static_cast<std::size_t>(count));
        said.erase(0, said.size() - std::min(said.size(), kKept));
    }
}

// Until ssh has ended: a master that it left behind may keep the pipe for ever.
void relay_until_end(pid_t pid, int errors, std::string& said) {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    for (;;) {
        std::array<pollfd, 2> waited{pollfd{.fd = process.get(), .events = POLLIN, .revents = 0},
                                     pollfd{.fd = errors, .events = POLLIN, .revents = 0}};
        if (::poll(waited.data(), waited.size(), -1) < 0 && errno != EINTR) {
            return;
        }
        const bool ended = waited[0].revents != 0;
        if (((waited[1].revents != 0 || ended) && !relay(errors, said)) || ended) {
            return;
        }
    }
}

// listens: what it says passes through us, who learn why it failed.
Ended run(std::vector<std::string> argv, bool listens) {
    const SignalsForSsh signals;
    UniqueFd errors;
    UniqueFd its_errors;
    if (std::array<int, 2> ends{-1, -1}; listens && ::pipe2(ends.data(), O_CLOEXEC) == 0) {
        errors.reset(ends[0]);
        its_errors.reset(ends[1]);
        ::fcntl(errors.get(), F_SETFL, O_NONBLOCK);
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (its_errors) {
        posix_spawn_file_actions_adddup2(&actions, its_errors.get(), STDERR_FILENO);
    }
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    const sigset_t defaults = signals.defaults();
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    std::vector<char*> words;
    for (std::string& word : argv) {
        words.push_back(word.data());
    }
    words.push_back(nullptr);
    pid_t pid = -1;
    const int failure = posix_spawnp(&pid, words[0], &actions, &attributes, words.data(), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) {
        return {.code = -failure, .said = {}};
    }
    ssh_pid = pid;
    its_errors.reset();
    Ended ended;
    if (errors) {
        relay_until_end(pid, errors.get(), ended.said);
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    ssh_pid = 0;
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : kSignalled + WTERMSIG(status);
    return ended;
}

CallError failure_there(const std::string& host, const Ended& ended) {
    const int code = ended.code;
    if (code == kSshFailed && says_login_refused(ended.said)) {
        return login_refused(host);
    }
    CallError failure;
    if (code < 0) {
        failure.error.message = std::string("ssh: ") + std::strerror(-code);
        failure.error.hint = "install OpenSSH's client";
        failure.exit_code = exit_code::kFailed;
    } else if (code == kNotFound) {
        failure.error.message = "there is no cmctl on " + host;
        failure.error.hint = "install cmssh there, in the PATH that " + ssh_text(host) + " env shows";
        failure.exit_code = exit_code::kNoDaemon;
    } else {
        failure.error.message = "the ssh to " + host + " failed, or was cut";
        failure.error.hint = ssh_text(host) + " cmctl version";
        failure.exit_code = exit_code::kUnreachable;
    }
    return failure;
}

}  // namespace

int run_there(const GlobalOptions& global, std::vector<std::string> verb, HostTerminal terminal, bool hands_on) {
    // Not from there to yet another one.
    std::vector<std::string> words = {"--host", ""};
    const auto daemon = daemon_options(global);
    words.insert(words.end(), daemon.begin(), daemon.end());
    if (global.timeout) {
        words.push_back("--timeout=" + std::to_string(global.timeout->count()) + "ms");
    }
    if (global.json) {
        words.emplace_back("--json");
    }
    if (global.quiet) {
        words.emplace_back("--quiet");
    }
    words.emplace_back(use_color(global) ? "--color=always" : "--color=never");
    words.insert(words.end(), std::make_move_iterator(verb.begin()), std::make_move_iterator(verb.end()));
    auto argv = ssh_to_host(*global.host, terminal, words, typed_host(global).value_or(""));
    if (!argv) {
        return print_error(global, bad_host(argv.error()));
    }
    std::fflush(stdout);
    const Ended ended = run(std::move(*argv), !hands_on);
    if (ended.code < 0 || (!hands_on && (ended.code == kSshFailed || ended.code == kNotFound))) {
        return print_error(global, failure_there(*global.host, ended));
    }
    return ended.code;
}

}  // namespace cmssh::client
