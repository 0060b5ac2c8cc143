#include "client/spawn_daemon.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "client/interrupt.hpp"
#include "protocol/paths.hpp"

extern char** environ;

namespace cmssh::client {
namespace {

constexpr auto kStartDeadline = std::chrono::seconds(10);
constexpr auto kSystemdDeadline = std::chrono::seconds(5);
constexpr int kReadyFd = 3;
constexpr const char* kLogName = "cmsshd.log";
constexpr int kExitUsage = 2;
constexpr int kExitAnotherServes = 3;
constexpr off_t kShownLog = 4096;
constexpr int kExitPause = 5;  // milliseconds

CallError not_started(std::string message, std::string hint, int code = exit_code::kNoDaemon) {
    return CallError{.error = {.kind = ErrorKind::Internal, .message = std::move(message), .hint = std::move(hint)},
                     .exit_code = code};
}

struct Spawned {
    pid_t pid = -1;
    int failure = 0;  // errno
};

Spawned spawn(std::vector<std::string> argv, std::vector<std::string> environment, int ready_fd, int log_fd) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    // Nothing of the caller's stays open in a process that outlives it: `id=$(cmctl start …)` must see the end of file.
    if (log_fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, log_fd, STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, log_fd, STDERR_FILENO);
        posix_spawn_file_actions_addchdir_np(&actions, "/");
    } else {
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    }
    if (ready_fd >= 0) {
        posix_spawn_file_actions_adddup2(&actions, ready_fd, kReadyFd);
        posix_spawn_file_actions_addclosefrom_np(&actions, kReadyFd + 1);
    }
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigaddset(&signals, SIGPIPE);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    const auto pointers = [](std::vector<std::string>& words) {
        std::vector<char*> result;
        for (auto& word : words) {
            result.push_back(word.data());
        }
        result.push_back(nullptr);
        return result;
    };
    Spawned spawned;
    auto arguments = pointers(argv);
    auto variables = pointers(environment);
    spawned.failure =
        ::posix_spawnp(&spawned.pid, arguments[0], &actions, &attributes, arguments.data(), variables.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return spawned;
}

std::vector<std::string> own_environment() {
    std::vector<std::string> environment;
    for (char** variable = environ; *variable != nullptr; ++variable) {
        environment.emplace_back(*variable);
    }
    return environment;
}

void make_dirs(const std::string& path) {
    for (auto slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
        (void)::mkdir(path.substr(0, slash).c_str(), 0700);
    }
    (void)::mkdir(path.c_str(), 0700);
}

// On a read-only or full disk the daemon goes on from memory, and so does its log. In a directory that is not ours
// alone nothing is made either: the daemon itself says why it does not start there. errno where there is none.
UniqueFd open_log(const std::string& dir) {
    UniqueFd log;
    const UniqueFd parent(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    bool foreign = !parent && (errno == ELOOP || errno == ENOTDIR);
    if (parent) {
        struct stat status {};
        foreign = ::fstat(parent.get(), &status) != 0 || status.st_uid != ::geteuid() || (status.st_mode & 077U) != 0;
        if (!foreign) {
            log.reset(::openat(parent.get(), kLogName, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
        }
    }
    if (!log && (foreign || errno == EROFS || errno == ENOSPC || errno == EDQUOT)) {
        log.reset(::memfd_create(kLogName, MFD_CLOEXEC));
    }
    return log;
}

std::string tail_of(int log_fd, off_t from) {
    const off_t end = ::lseek(log_fd, 0, SEEK_END);
    const off_t begin = std::max(from, end - kShownLog);
    std::string text(static_cast<std::size_t>(std::max<off_t>(end - begin, 0)), '\0');
    const ssize_t count = ::pread(log_fd, text.data(), text.size(), begin);
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    while (text.ends_with('\n')) {
        text.pop_back();
    }
    return text;
}

std::string absolute(const std::string& path) {
    std::array<char, PATH_MAX> directory{};
    if (path.starts_with('/') || ::getcwd(directory.data(), directory.size()) == nullptr) {
        return path;
    }
    return std::string(directory.data()) + '/' + path;
}

// As waitpid gives it; nullopt: it still ran at the deadline.
std::optional<int> wait_for_exit(pid_t pid, Instant deadline) {
    int status = 0;
    while (::waitpid(pid, &status, WNOHANG) == 0) {
        if (std::chrono::steady_clock::now() >= deadline || interrupted()) {
            return std::nullopt;
        }
        ::poll(nullptr, 0, kExitPause);
    }
    return status;
}

// true: systemd listens for us now.
bool start_systemd_socket(const PathEnvironment& environment, Instant deadline) {
    const auto runtime = environment.get("XDG_RUNTIME_DIR");
    if (!runtime || ::access((*runtime + "/systemd/private").c_str(), F_OK) != 0) {
        return false;
    }
    const Spawned spawned =
        spawn({"systemctl", "--user", "--quiet", "start", "cmsshd.socket"}, own_environment(), -1, -1);
    if (spawned.failure != 0) {
        return false;
    }
    const auto status = wait_for_exit(spawned.pid, deadline);
    if (!status) {
        ::kill(spawned.pid, SIGKILL);
        ::waitpid(spawned.pid, nullptr, 0);
        return false;
    }
    return WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
}

}  // namespace

Error last_words(const std::string& said) {
    constexpr std::string_view kMessage = "cmsshd: ";
    constexpr std::string_view kHint = "hint: ";
    std::string_view rest = std::string_view(said).substr(0, said.find_last_not_of('\n') + 1);
    const auto take_last = [&rest](std::string_view begin) {
        const auto at = rest.rfind('\n') + 1;  // npos + 1 is 0
        std::string text;
        if (rest.substr(at).starts_with(begin)) {
            text = rest.substr(at + begin.size());
            rest = rest.substr(0, at == 0 ? 0 : at - 1);
        }
        return text;
    };
    Error error;
    error.hint = take_last(kHint);
    error.message = take_last(kMessage);
    if (error.message.empty()) {
        error.message = rest;
    }
    return error;
}

std::optional<std::string> socket_of_daemon() {
    const std::string lock = runtime_dir(process_environment()) + "/cmsshd.lock";
    const UniqueFd fd(::open(lock.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    std::string path(PATH_MAX, '\0');
    const ssize_t count = fd ? ::pread(fd.get(), path.data(), path.size(), 0) : 0;
    path.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    return path.starts_with('/') ? std::optional(std::move(path)) : std::nullopt;
}

std::string find_cmsshd() {
    std::string self(4096, '\0');
    const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
    if (length > 0) {
        self.resize(static_cast<std::size_t>(length));
        const std::string dir = self.substr(0, self.rfind('/'));
        // Installed side by side; in a build tree in folders of their own.
        for (const std::string& beside : {dir + "/cmsshd", dir + "/../daemon/cmsshd"}) {
            if (::access(beside.c_str(), X_OK) == 0) {
                return beside;
            }
        }
    }
    return "cmsshd";
}

SpawnOutcome spawn_daemon(const GlobalOptions& global, std::optional<Instant> caller_deadline) {
    const Instant now = std::chrono::steady_clock::now();
    const auto bounded = [&](std::chrono::seconds limit) {
        return caller_deadline ? std::min(*caller_deadline, now + limit) : now + limit;
    };
    const Instant deadline = bounded(kStartDeadline);
    const auto environment = process_environment();
    const bool default_socket = !global.socket && !environment.get("CMSSH_SOCKET");
    const auto config = global.config ? global.config : environment.get("CMSSH_CONFIG");
    if (default_socket && !config && start_systemd_socket(environment, bounded(kSystemdDeadline))) {
        return {};
    }
    const std::string dir = state_dir(environment);
    make_dirs(dir);
    const std::string log_path = dir + '/' + kLogName;
    const UniqueFd log = open_log(dir);
    if (!log) {
        return not_started(log_path + ": " + std::strerror(errno), "set XDG_STATE_HOME to a directory of your own");
    }
    const off_t log_begin = ::lseek(log.get(), 0, SEEK_END);
    std::array<int, 2> ready{-1, -1};
    if (::pipe2(ready.data(), O_CLOEXEC) != 0) {
        return not_started(std::string("pipe: ") + std::strerror(errno), "");
    }
    UniqueFd ready_read(ready[0]);
    UniqueFd ready_write(ready[1]);

    // It runs in the root directory.
    std::vector<std::string> argv = {find_cmsshd(), "--socket", absolute(socket_path(environment, global.socket))};
    if (config) {
        argv.insert(argv.end(), {"--config", absolute(*config)});
    }
    auto variables = own_environment();
    variables.push_back("CMSSH_READY_FD=" + std::to_string(kReadyFd));
    const Spawned spawned = spawn(argv, std::move(variables), ready_write.get(), log.get());
    if (spawned.failure != 0) {
        return not_started("cannot start " + argv[0] + ": " + std::strerror(spawned.failure),
                           "install cmsshd beside cmctl or in PATH");
    }
    ready_write.reset();

    const auto not_in_time = [&] {
        return not_started("the daemon did not start in time", "look into " + log_path,
                           caller_deadline == deadline ? exit_code::kTimeout : exit_code::kNoDaemon);
    };
    pollfd waited{.fd = ready_read.get(), .events = POLLIN, .revents = 0};
    int polled = -1;
    do {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        polled = ::poll(&waited, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    } while (polled < 0 && errno == EINTR && !interrupted());
    if (polled < 0) {
        return interrupted_call();
    }
    if (polled == 0) {
        return not_in_time();
    }
    char byte = 0;
    if (::read(ready_read.get(), &byte, 1) == 1) {
        return {};
    }
    const auto status = wait_for_exit(spawned.pid, deadline);
    if (!status) {
        return interrupted() ? interrupted_call() : not_in_time();
    }
    const int code = WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
    if (code == kExitAnotherServes) {
        SpawnOutcome outcome;
        outcome.another_serves = true;
        return outcome;
    }
    const Error why = last_words(tail_of(log.get(), log_begin));
    return not_started("the daemon did not start" + (why.message.empty() ? std::string() : ": " + why.message),
                       why.hint.empty() ? "look into " + log_path : why.hint,
                       code == kExitUsage ? exit_code::kUsage : exit_code::kNoDaemon);
}

}  // namespace cmssh::client
