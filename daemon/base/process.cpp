#include "daemon/base/process.hpp"

#include <asio/experimental/awaitable_operators.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/signal_set.hpp>
#include <asio/use_awaitable.hpp>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "daemon/base/event.hpp"
#include "daemon/base/log.hpp"
#include "daemon/base/os_error.hpp"
#include "daemon/base/timeout.hpp"

namespace cmssh {
namespace {

class PosixChild;

ExitStatus to_exit_status(int status) {
    if (WIFSIGNALED(status)) {
        return {.code = 0, .signal = WTERMSIG(status)};
    }
    return {.code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace

// One loop collects every child, ours or inherited: a signal that stands for several exits loses none.
struct PosixSpawner::Reaper : std::enable_shared_from_this<PosixSpawner::Reaper> {
    explicit Reaper(const asio::any_io_executor& executor) : signals(executor, SIGCHLD) {}

    void watch();
    void collect();

    asio::signal_set signals;
    std::map<pid_t, PosixChild*> children;
};

namespace {

class PosixChild final : public ChildProcess {
public:
    PosixChild(pid_t pid, Clock& clock, std::map<pid_t, PosixChild*>& children, std::shared_ptr<void> keep_alive)
        : pid_(pid), exited_(clock), children_(children), keep_alive_(std::move(keep_alive)) {
        children_[pid_] = this;
    }
    ~PosixChild() override {
        kill_group();
        children_.erase(pid_);
    }

    [[nodiscard]] pid_t pid() const override { return pid_; }

    asio::awaitable<std::optional<ExitStatus>> wait_until(Instant deadline) override {
        bool in_time = true;
        while (!status_ && in_time) {
            in_time = co_await exited_.wait_until(deadline);
        }
        const std::optional<ExitStatus> status = status_;
        co_return status;
    }

    void kill_group() override {
        if (!status_) {
            ::kill(-pid_, SIGKILL);
        }
    }

    void set_exited(ExitStatus status) {
        status_ = status;
        exited_.notify_all();
    }

private:
    pid_t pid_;
    std::optional<ExitStatus> status_;
    Event exited_;
    std::map<pid_t, PosixChild*>& children_;
    std::shared_ptr<void> keep_alive_;  // the reaper that holds children_
};

}  // namespace

void PosixSpawner::Reaper::watch() {
    signals.async_wait([self = shared_from_this()](const asio::error_code& error, int) {
        if (error) {
            return;
        }
        self->collect();
        self->watch();
    });
}

void PosixSpawner::Reaper::collect() {
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0; pid = ::waitpid(-1, &status, WNOHANG)) {
        const auto child = children.find(pid);
        if (child == children.end()) {
            continue;
        }
        const ExitStatus exit = to_exit_status(status);
        // A login that failed may leave its ProxyCommand behind; a master that came up has left this group's leader for
        // dead on purpose and needs it. The pid can't be reused between waitpid and here.
        if (exit.signal != 0 || exit.code != 0) {
            ::kill(-pid, SIGKILL);
        }
        child->second->set_exited(exit);
    }
}

PosixSpawner::PosixSpawner(const asio::any_io_executor& executor, Clock& clock)
    : reaper_(std::make_shared<Reaper>(executor)), clock_(clock) {
    reaper_->watch();
}

PosixSpawner::~PosixSpawner() {
    stop();
}

void PosixSpawner::stop() {
    asio::error_code ignored;
    reaper_->signals.cancel(ignored);
}

void PosixSpawner::end_all() {
    ended_ = true;
    for (const auto& [pid, child] : reaper_->children) {
        child->kill_group();
    }
}

Result<std::unique_ptr<ChildProcess>> PosixSpawner::spawn(SpawnRequest request) {
    if (ended_) {
        return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);

    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    const auto redirect = [&](const UniqueFd& from, int to) {
        if (from) {
            posix_spawn_file_actions_adddup2(&actions, from.get(), to);
        } else {
            posix_spawn_file_actions_addopen(&actions, to, "/dev/null", O_WRONLY, 0);
        }
    };
    redirect(request.standard_output, STDOUT_FILENO);
    redirect(request.standard_error, STDERR_FILENO);

    sigset_t none;
    sigset_t defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    for (const int signal : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGQUIT, SIGXFSZ}) {
        sigaddset(&defaults, signal);
    }
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    std::vector<char*> argv;
    for (auto& argument : request.argv) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    std::vector<char*> environment;
    for (auto& entry : request.environment) {
        environment.push_back(entry.data());
    }
    environment.push_back(nullptr);

    pid_t pid = -1;
    const int failure = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (failure != 0) {
        Error error = os_error("cannot start " + request.argv[0], failure);
        if (failure == ENOENT) {
            error.hint = "install " + request.argv[0] + " or set ssh.program in the config";
        }
        return error;
    }
    std::unique_ptr<ChildProcess> child = std::make_unique<PosixChild>(pid, clock_, reaper_->children, reaper_);
    return child;
}

namespace {

asio::awaitable<std::string> read_all(asio::any_io_executor executor, UniqueFd from, std::size_t max_bytes) {
    asio::posix::stream_descriptor stream(executor, from.release());
    std::string text;
    std::array<char, 4096> chunk{};
    asio::error_code error;
    for (;;) {
        const auto count =
            co_await stream.async_read_some(asio::buffer(chunk), asio::redirect_error(asio::use_awaitable, error));
        if (error) {
            co_return text;
        }
        // Read on past the cap: a child blocked on a full pipe would not end.
        text.append(chunk.data(), std::min(count, max_bytes - text.size()));
    }
}

}  // namespace

asio::awaitable<Result<CapturedOutput>> run_captured(asio::any_io_executor executor, Clock& clock,
                                                     ProcessSpawner& spawner, std::vector<std::string> argv,
                                                     std::vector<std::string> environment, Instant deadline,
                                                     std::size_t max_bytes) {
    using asio::experimental::awaitable_operators::operator&&;
    std::array<int, 2> out{};
    std::array<int, 2> err{};
    if (::pipe2(out.data(), O_CLOEXEC) != 0) {
        co_return os_error("pipe", errno);
    }
    UniqueFd out_read(out[0]);
    UniqueFd out_write(out[1]);
    if (::pipe2(err.data(), O_CLOEXEC) != 0) {
        co_return os_error("pipe", errno);
    }
    UniqueFd err_read(err[0]);
    UniqueFd err_write(err[1]);

    const std::string program = argv[0];
    SpawnRequest request;
    request.argv = std::move(argv);
    request.environment = std::move(environment);
    request.standard_output = std::move(out_write);
    request.standard_error = std::move(err_write);
    auto child = spawner.spawn(std::move(request));
    if (!child) {
        co_return std::move(child).error();
    }
    auto reading =
        read_all(executor, std::move(out_read), max_bytes) && read_all(executor, std::move(err_read), max_bytes);
    auto texts = co_await with_deadline(clock, deadline, std::move(reading));
    std::optional<ExitStatus> status;
    if (texts) {
        status = co_await (*child)->wait_until(deadline);
    }
    if (!status) {
        (*child)->kill_group();
        co_return Error{.kind = ErrorKind::Timeout, .message = program + " did not end in time"};
    }
    CapturedOutput captured;
    captured.status = *status;
    captured.standard_output = std::move(std::get<0>(*texts));
    captured.standard_error = std::move(std::get<1>(*texts));
    co_return captured;
}

namespace {

// Calls seen(pid, "NAME=value") for every variable of every process whose environment can be read: ours.
void for_each_variable(const std::function<void(pid_t, std::string_view)>& seen) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
        const std::string name = entry.path().filename();
        pid_t pid = 0;
        const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (failure != std::errc() || end != name.data() + name.size() || pid == ::getpid()) {
            continue;
        }
        std::ifstream file(entry.path() / "environ", std::ios::binary);
        // Empty where the process ends meanwhile: the stream keeps the failure to itself.
        std::ostringstream text;
        text << file.rdbuf();
        const std::string environment = text.str();
        for (std::size_t at = 0; at < environment.size();) {
            const std::string_view variable(environment.c_str() + at);
            seen(pid, variable);
            at += variable.size() + 1;
        }
    }
}

}  // namespace

int kill_marked_processes(const std::string& name_and_value) {
    int killed = 0;
    pid_t last = 0;
    for_each_variable([&](pid_t pid, std::string_view variable) {
        if (variable == name_and_value && pid != last) {
            last = pid;
            killed += ::kill(pid, SIGKILL) == 0 ? 1 : 0;
        }
    });
    return killed;
}

std::set<std::string> marks_of_processes(const std::string& name) {
    std::set<std::string> marks;
    for_each_variable([&](pid_t, std::string_view variable) {
        if (variable.starts_with(name + '=')) {
            marks.emplace(variable);
        }
    });
    return marks;
}

}  // namespace cmssh
