#include "tests/support/process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <ostream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace cmssh::test {
namespace {

// Before ctest's own limit, which would leave processes behind.
constexpr std::chrono::seconds kLongestTest{100};

std::system_error failure(const std::string& what, int error = errno) {
    return {error, std::generic_category(), what};
}

std::set<pid_t>& owned_pids() {
    static std::set<pid_t> pids;
    return pids;
}

UniqueFd memory_file() {
    UniqueFd fd(::memfd_create("output", MFD_CLOEXEC));
    if (!fd) {
        throw failure("memfd_create");
    }
    // Several processes write to it at once. Linux locks the shared offset of files that were opened by name only, and
    // a memfd was not: without this, lines are lost.
    if (::fcntl(fd.get(), F_SETFL, O_APPEND) != 0) {
        throw failure("fcntl");
    }
    return fd;
}

std::string contents(int fd) {
    struct stat status {};
    ::fstat(fd, &status);
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    const ssize_t count = ::pread(fd, text.data(), text.size(), 0);
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return text;
}

std::vector<char*> pointers(const Words& words) {
    std::vector<char*> list;
    for (const auto& word : words) {
        list.push_back(const_cast<char*>(word.c_str()));
    }
    list.push_back(nullptr);
    return list;
}

// Empty where there is no such process.
std::string read_proc(pid_t pid, const char* name) {
    std::ifstream file("/proc/" + std::to_string(pid) + '/' + name);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

struct Stat {
    char state = '\0';
    pid_t parent = 0;
};

// nullopt: no such process.
std::optional<Stat> stat_of(pid_t pid) {
    const std::string text = read_proc(pid, "stat");
    // The name in parentheses may hold anything.
    const auto end = text.rfind(')');
    if (end == std::string::npos) {
        return std::nullopt;
    }
    std::istringstream rest(text.substr(end + 1));
    Stat stat;
    rest >> stat.state >> stat.parent;
    return stat;
}

std::vector<pid_t> all_pids() {
    std::vector<pid_t> pids;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") == std::string::npos) {
            pids.push_back(std::stoi(name));
        }
    }
    return pids;
}

std::vector<pid_t> descendants(const std::set<pid_t>& except) {
    std::multimap<pid_t, pid_t> by_parent;
    for (const pid_t pid : all_pids()) {
        if (const auto stat = stat_of(pid)) {
            by_parent.emplace(stat->parent, pid);
        }
    }
    std::vector<pid_t> found;
    std::vector<pid_t> parents{::getpid()};
    while (!parents.empty()) {
        const auto [first, last] = by_parent.equal_range(parents.back());
        parents.pop_back();
        for (auto child = first; child != last; ++child) {
            if (!except.contains(child->second)) {
                found.push_back(child->second);
                parents.push_back(child->second);
            }
        }
    }
    return found;
}

void end_all(const std::set<pid_t>& except) {
    const Deadline deadline = in(kPatience);
    for (auto found = descendants(except); !found.empty(); found = descendants(except)) {
        for (const pid_t pid : found) {
            ::kill(pid, SIGKILL);
            // Those that are not our own children become it when their parents end.
            ::waitpid(pid, nullptr, WNOHANG);
        }
        if (std::chrono::steady_clock::now() >= deadline) {
            throw std::runtime_error("processes do not end, the first is " + command_line(found.front()));
        }
        ::poll(nullptr, 0, 1);
    }
}

}  // namespace

void PrintTo(const ExitStatus& status, std::ostream* stream) {
    if (status.signal != 0) {
        *stream << "signal " << status.signal;
    } else {
        *stream << "exit code " << status.code;
    }
}

Process::Process(const Words& argv, const SpawnOptions& options) : output_(memory_file()), errors_(memory_file()) {
    UniqueFd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!options.input.empty()) {
        input = memory_file();
        if (::pwrite(input.get(), options.input.data(), options.input.size(), 0) < 0) {
            throw failure("pwrite");
        }
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output_.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, options.merge_errors ? output_.get() : errors_.get(), STDERR_FILENO);
    if (!options.terminal.empty()) {
        ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, options.terminal.c_str(), O_RDWR, 0);
        ::posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
        ::posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDERR_FILENO);
    }
    for (const int fd : options.descriptors) {
        ::posix_spawn_file_actions_adddup2(&actions, fd, fd);
    }
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    // A group of its own: a ^C in the terminal goes to the tests, which then end what they started.
    ::posix_spawnattr_setpgroup(&attributes, 0);
    const int leads = options.terminal.empty() ? POSIX_SPAWN_SETPGROUP : POSIX_SPAWN_SETSID;
    ::posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | leads));
    Words environment = options.environment;
    if (environment.empty()) {
        environment.push_back(std::string("PATH=") + kPath);
    }
    const int error = ::posix_spawnp(&pid_, argv.front().c_str(), &actions, &attributes, pointers(argv).data(),
                                     pointers(environment).data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        throw failure("cannot start " + argv.front(), error);
    }
    owned_pids().insert(pid_);
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
}

Process::~Process() {
    if (running()) {
        send_signal(SIGKILL);
        (void)wait();
    }
    owned_pids().erase(pid_);
}

bool Process::running() {
    return !wait(in(0ms));
}

void Process::send_signal(int number) {
    if (!status_) {
        ::kill(pid_, number);
    }
}

std::optional<ExitStatus> Process::wait(Deadline deadline) {
    while (!status_) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
        const int ready = ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready == 0) {
            return std::nullopt;
        }
        int status = 0;
        if (ready == 1 && ::waitpid(pid_, &status, 0) == pid_) {
            status_ = WIFSIGNALED(status) ? ExitStatus{.code = -1, .signal = WTERMSIG(status)}
                                          : ExitStatus{.code = WEXITSTATUS(status), .signal = 0};
        }
    }
    return status_;
}

std::string Process::output() const {
    return contents(output_.get());
}

std::string Process::errors() const {
    return contents(errors_.get());
}

Finished run(const Words& argv, const SpawnOptions& options, Deadline deadline) {
    Process process(argv, options);
    const auto status = process.wait(deadline);
    if (!status) {
        throw std::runtime_error(argv.front() + " did not end: " + process.output() + process.errors());
    }
    return {.status = *status, .output = process.output(), .errors = process.errors()};
}

bool alive(pid_t pid) {
    const auto stat = stat_of(pid);
    return stat && stat->state != 'Z' && stat->state != 'X';
}

std::string command_line(pid_t pid) {
    std::string text = read_proc(pid, "cmdline");
    while (text.ends_with('\0')) {
        text.pop_back();
    }
    std::replace(text.begin(), text.end(), '\0', ' ');
    return text;
}

std::vector<pid_t> children_of(pid_t pid) {
    std::vector<pid_t> children;
    for (const pid_t candidate : all_pids()) {
        const auto stat = stat_of(candidate);
        if (stat && stat->parent == pid && stat->state != 'Z') {
            children.push_back(candidate);
        }
    }
    return children;
}

int descriptors_of(pid_t pid) {
    const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid) + "/fd");
    return static_cast<int>(std::distance(begin(all), end(all)));
}

std::size_t resident_bytes(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
    std::size_t all = 0;
    std::size_t resident = 0;
    file >> all >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

void begin_test() {
    if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        throw failure("PR_SET_CHILD_SUBREAPER");
    }
    static std::atomic<Deadline> limit;
    const char* given = std::getenv("CMSSH_TEST_SECONDS");  // for what is run by hand
    limit = in(given != nullptr ? std::chrono::seconds(std::atoi(given)) : kLongestTest);
    static const bool guarded = [] {
        sigset_t signals;
        ::sigemptyset(&signals);
        ::sigaddset(&signals, SIGINT);
        ::sigaddset(&signals, SIGTERM);
        ::sigaddset(&signals, SIGHUP);
        ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
        std::thread([signals] {
            const timespec second{.tv_sec = 1, .tv_nsec = 0};
            while (::sigtimedwait(&signals, nullptr, &second) < 0) {
                if (std::chrono::steady_clock::now() > limit.load()) {
                    std::fputs("the test takes too long\n", stderr);
                    break;
                }
            }
            end_all({});
            ::_exit(1);
        }).detach();
        return true;
    }();
    (void)guarded;
}

void reap_orphans() {
    for (const pid_t pid : all_pids()) {
        const auto stat = stat_of(pid);
        if (stat && stat->parent == ::getpid() && stat->state == 'Z' && !owned_pids().contains(pid)) {
            ::waitpid(pid, nullptr, WNOHANG);
        }
    }
}

void kill_strays() {
    end_all(owned_pids());
}

}  // namespace cmssh::test
