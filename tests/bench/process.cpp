#include "tests/bench/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace bench {

double ms_since(Clock::time_point from) {
    return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

void settle(std::chrono::milliseconds pause) {
    std::this_thread::sleep_for(pause);
}

std::string joined(const Words& words) {
    std::string line;
    for (const auto& word : words) {
        line += (line.empty() ? "" : " ") + word;
    }
    return line;
}

std::string contents(const std::string& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

std::vector<char*> pointers_to(const Words& words) {
    std::vector<char*> pointers;
    for (const auto& word : words) {
        pointers.push_back(const_cast<char*>(word.c_str()));
    }
    pointers.push_back(nullptr);
    return pointers;
}

double run(const std::string& dir, const Words& words, const Words& extra_environment) {
    const std::vector<char*> argv = pointers_to(words);
    std::vector<char*> environment;
    for (const auto& entry : extra_environment) {
        environment.push_back(const_cast<char*>(entry.c_str()));
    }
    for (char** entry = environ; *entry != nullptr; ++entry) {
        environment.push_back(*entry);
    }
    environment.push_back(nullptr);
    const std::string output = dir + "/output";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);

    const auto began = Clock::now();
    pid_t pid = 0;
    const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        throw std::runtime_error(words[0] + ": " + std::strerror(error));
    }
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    pollfd ended{pidfd, POLLIN, 0};
    const bool in_time = poll(&ended, 1, kStepLimitMs) == 1;
    if (!in_time) {
        kill(pid, SIGKILL);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    const double took = ms_since(began);
    close(pidfd);
    if (!in_time || status != 0) {
        throw std::runtime_error(joined(words) + (in_time ? " failed:\n" : " did not end:\n") + contents(output));
    }
    return took;
}

double run_on_terminal(const Words& words, const std::string& text) {
    const std::vector<char*> argv = pointers_to(words);
    const winsize size{24, 80, 0, 0};
    int terminal = -1;
    const auto began = Clock::now();
    const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
    if (pid < 0) {
        throw std::runtime_error(std::string("forkpty: ") + std::strerror(errno));
    }
    if (pid == 0) {
        setenv("TERM", "xterm-256color", 1);
        execvp(argv[0], argv.data());
        _exit(127);
    }
    std::string printed;
    double took = 0;
    bool found = false;
    while (!found) {
        pollfd readable{terminal, POLLIN, 0};
        char bytes[4096];
        const ssize_t n = poll(&readable, 1, kStepLimitMs) == 1 ? read(terminal, bytes, sizeof bytes) : -1;
        took = ms_since(began);
        if (n <= 0) {
            break;
        }
        printed.append(bytes, static_cast<std::size_t>(n));
        found = printed.find(text) != std::string::npos;
    }
    close(terminal);
    waitpid(pid, nullptr, 0);
    if (!found) {
        throw std::runtime_error(joined(words) + " did not get there:\n" + printed);
    }
    return took;
}

SchedStat sched_stat(int pid) {
    SchedStat total;
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
        double ran = 0, waited = 0;
        std::ifstream(task.path() / "schedstat") >> ran >> waited;
        total.ran_ms += ran / 1e6;
        total.waited_ms += waited / 1e6;
    }
    return total;
}

double cpu_ms(int pid) {
    return sched_stat(pid).ran_ms;
}

namespace {

struct MachineTimes {
    double busy = 0, all = 0;
};
MachineTimes machine_times() {
    std::ifstream stat("/proc/stat");
    std::string cpu;
    stat >> cpu;
    MachineTimes times;
    double ticks = 0;
    for (int field = 0; field < 8 && stat >> ticks; ++field) {
        times.all += ticks;
        times.busy += field == 3 || field == 4 ? 0 : ticks;  // idle, iowait
    }
    return times;
}

}  // namespace

double settle_until_idle(std::chrono::milliseconds longest) {
    constexpr double kIdle = 0.03;
    const auto began = Clock::now();
    for (double share = 1;;) {
        const auto before = machine_times();
        settle(std::chrono::milliseconds(500));
        const auto after = machine_times();
        share = (after.busy - before.busy) / std::max(after.all - before.all, 1.0);
        if (share < kIdle || Clock::now() - began > longest) {
            return share;
        }
    }
}

double proc_field(const std::string& file, const std::string& field) {
    std::ifstream lines(file);
    for (std::string name; lines >> name;) {
        if (name == field) {
            double value = 0;
            lines >> value;
            return value;
        }
        lines.ignore(1 << 16, '\n');
    }
    return 0;
}

}  // namespace bench
