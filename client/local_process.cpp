#include "client/local_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "daemon/base/unique_fd.hpp"

extern char** environ;

namespace cmssh::client {
namespace {

constexpr std::size_t kMaxOutput = 64 * 1024;
constexpr int kExitPause = 5;  // milliseconds

struct Pipe {
    UniqueFd read;
    UniqueFd write;

    [[nodiscard]] bool open() {
        std::array<int, 2> ends{-1, -1};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
            return false;
        }
        read.reset(ends[0]);
        write.reset(ends[1]);
        return true;
    }
};

int left_until(Instant deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

// What there is to read now; false: the end.
bool read_some(const UniqueFd& from, std::string& into) {
    std::array<char, 4096> bytes{};
    const ssize_t count = ::read(from.get(), bytes.data(), bytes.size());
    if (count > 0) {
        into.append(bytes.data(), std::min(static_cast<std::size_t>(count), kMaxOutput - into.size()));
    }
    return count > 0 || (count < 0 && errno == EINTR);
}

// Both to their ends; false: not in time.
bool read_both(Pipe& output, Pipe& errors, Said& said, Instant deadline) {
    bool output_open = true;
    bool errors_open = true;
    while (output_open || errors_open) {
        std::array<pollfd, 2> waited{
            pollfd{.fd = output_open ? output.read.get() : -1, .events = POLLIN, .revents = 0},
            pollfd{.fd = errors_open ? errors.read.get() : -1, .events = POLLIN, .revents = 0}};
        const int ready = ::poll(waited.data(), waited.size(), left_until(deadline));
        if (ready == 0 || (ready < 0 && errno != EINTR)) {
            return false;
        }
        if (ready > 0 && waited[0].revents != 0) {
            output_open = read_some(output.read, said.output);
        }
        if (ready > 0 && waited[1].revents != 0) {
            errors_open = read_some(errors.read, said.errors);
        }
    }
    return true;
}

// As waitpid gives it; nullopt: it still ran at the deadline.
std::optional<int> wait_for(pid_t pid, Instant deadline) {
    int status = 0;
    for (;;) {
        const pid_t waited = ::waitpid(pid, &status, WNOHANG);
        if (waited == pid) {
            return status;
        }
        if ((waited < 0 && errno != EINTR) || std::chrono::steady_clock::now() >= deadline) {
            return std::nullopt;
        }
        ::poll(nullptr, 0, kExitPause);
    }
}

}  // namespace

std::optional<Said> run_program(std::vector<std::string> argv, Instant deadline) {
    Pipe output;
    Pipe errors;
    if (!output.open() || !errors.open()) {
        return std::nullopt;
    }
    std::vector<char*> words;
    for (std::string& word : argv) {
        words.push_back(word.data());
    }
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output.write.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, errors.write.get(), STDERR_FILENO);
    // A group of its own, to be killed as a whole.
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    pid_t child = -1;
    const int failure = ::posix_spawnp(&child, words[0], &actions, &attributes, words.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failure != 0) {
        return std::nullopt;
    }
    output.write.reset();
    errors.write.reset();
    Said said;
    const bool in_time = read_both(output, errors, said, deadline);
    const auto status = in_time ? wait_for(child, deadline) : std::nullopt;
    if (!status) {
        ::kill(-child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        return std::nullopt;
    }
    said.exit_code = WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status);
    return said;
}

}  // namespace cmssh::client
