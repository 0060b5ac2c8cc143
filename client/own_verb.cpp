#include "client/own_verb.hpp"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "client/host.hpp"

namespace cmssh::client {
namespace {

constexpr int kSignalBase = 128;

// As a shell does for what it waits for.
class IgnoredInterrupts {
public:
    IgnoredInterrupts() {
        struct sigaction ignore {};
        ignore.sa_handler = SIG_IGN;
        ::sigaction(SIGINT, &ignore, &interrupt_);
        ::sigaction(SIGQUIT, &ignore, &quit_);
    }
    ~IgnoredInterrupts() {
        ::sigaction(SIGINT, &interrupt_, nullptr);
        ::sigaction(SIGQUIT, &quit_, nullptr);
    }
    IgnoredInterrupts(const IgnoredInterrupts&) = delete;
    IgnoredInterrupts& operator=(const IgnoredInterrupts&) = delete;

private:
    struct sigaction interrupt_ {};
    struct sigaction quit_ {};
};

std::vector<std::string> command_line(const GlobalOptions& global, const std::vector<std::string>& words) {
    std::vector<std::string> line = {"cmctl"};
    const auto daemon = daemon_options(global);
    line.insert(line.end(), daemon.begin(), daemon.end());
    // Empty: this machine, whatever CMSSH_HOST says.
    line.insert(line.end(), {"--host", global.host.value_or("")});
    if (global.color != ColorWhen::Auto) {
        line.insert(line.end(), {"--color", global.color == ColorWhen::Always ? "always" : "never"});
    }
    line.insert(line.end(), words.begin(), words.end());
    return line;
}

}  // namespace

int run_own_verb(const GlobalOptions& global, const std::vector<std::string>& words) {
    std::vector<std::string> line = command_line(global, words);
    std::vector<char*> argv;
    for (std::string& word : line) {
        argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGINT);
    ::sigaddset(&defaults, SIGQUIT);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    const IgnoredInterrupts ignored;
    pid_t pid = -1;
    const int failed = ::posix_spawn(&pid, "/proc/self/exe", nullptr, &attributes, argv.data(), environ);
    ::posix_spawnattr_destroy(&attributes);
    if (failed != 0) {
        return -1;
    }
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : kSignalBase + WTERMSIG(status);
}

}  // namespace cmssh::client
