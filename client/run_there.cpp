#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "client/host.hpp"
#include "client/output.hpp"

extern char** environ;

namespace cmssh::client {
namespace {

constexpr int kSshFailed = 255;
constexpr int kNotFound = 127;
constexpr int kSignalled = 128;

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

// As a shell has it; negative: -errno of what could not be started.
int run(std::vector<std::string> argv) {
    const SignalsForSsh signals;
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
    const int failure = posix_spawnp(&pid, words[0], nullptr, &attributes, words.data(), environ);
    posix_spawnattr_destroy(&attributes);
    if (failure != 0) {
        return -failure;
    }
    ssh_pid = pid;
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    ssh_pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : kSignalled + WTERMSIG(status);
}

CallError failure_there(const std::string& host, int code) {
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
    auto argv = ssh_to_host(*global.host, terminal, words);
    if (!argv) {
        return print_error(global, bad_host(argv.error()));
    }
    std::fflush(stdout);
    const int code = run(std::move(*argv));
    if (code < 0 || (!hands_on && (code == kSshFailed || code == kNotFound))) {
        return print_error(global, failure_there(*global.host, code));
    }
    return code;
}

}  // namespace cmssh::client
