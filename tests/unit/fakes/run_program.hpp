// Real programs for tests of what is generated for them: started without a shell, away from the test's terminal.
#pragma once

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
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/unique_fd.hpp"

namespace cmssh::fakes {

class TempDir {
public:
    TempDir() {
        std::string name = std::filesystem::temp_directory_path() / "cmssh-unit-XXXXXX";
        if (::mkdtemp(name.data()) == nullptr) {
            throw std::runtime_error("mkdtemp " + name);
        }
        path_ = name;
    }
    ~TempDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    std::string write(const std::string& name, std::string_view text, bool executable = false) const {
        const std::filesystem::path file = std::filesystem::path(path_) / name;
        std::filesystem::create_directories(file.parent_path());
        std::ofstream(file, std::ios::binary) << text;
        if (executable) {
            std::filesystem::permissions(file, std::filesystem::perms::owner_all);
        }
        return file;
    }

private:
    std::string path_;
};

// Nothing here takes a second.
constexpr std::chrono::milliseconds kHangs = std::chrono::seconds(20);

// Whether there is something to read, or the end, before whatever waits here is called hanging.
inline bool readable_soon(int descriptor) {
    const auto deadline = std::chrono::steady_clock::now() + kHangs;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd polled{descriptor, POLLIN, 0};
        const int count = ::poll(&polled, 1, std::max(0, static_cast<int>(left.count())));
        // A SIGCHLD may interrupt it.
        if (count >= 0 || errno != EINTR) {
            return count == 1;
        }
    }
}

using Environment = std::map<std::string, std::string>;

// A process that leads a session of its own.
class Program {
public:
    // terminal: what the first three descriptors open, which becomes its controlling terminal.
    Program(std::vector<std::string> argv, const Environment& environment, int standard_output, int standard_error,
            const std::string& terminal = {}) {
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        posix_spawn_file_actions_addopen(&actions, 0, terminal.empty() ? "/dev/null" : terminal.c_str(), O_RDWR, 0);
        posix_spawn_file_actions_adddup2(&actions, terminal.empty() ? standard_output : 0, 1);
        posix_spawn_file_actions_adddup2(&actions, terminal.empty() ? standard_error : 0, 2);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        std::vector<std::string> entries;
        for (const auto& [name, value] : environment) {
            entries.push_back(name + '=' + value);
        }
        auto arguments = pointers(argv);
        auto variables = pointers(entries);
        const int failure =
            ::posix_spawn(&pid_, arguments[0], &actions, &attributes, arguments.data(), variables.data());
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        if (failure != 0) {
            throw std::runtime_error("posix_spawn " + argv[0]);
        }
    }
    ~Program() {
        if (!collected_) {
            ::kill(-pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    [[nodiscard]] pid_t pid() const { return pid_; }
    // As waitpid gives it.
    int wait() {
        const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
        if (!readable_soon(pidfd.get())) {
            throw std::runtime_error("the process did not end");
        }
        int status = 0;
        ::waitpid(pid_, &status, 0);
        collected_ = true;
        return status;
    }
    [[nodiscard]] bool running() {
        collected_ = collected_ || ::waitpid(pid_, nullptr, WNOHANG) == pid_;
        return !collected_;
    }

private:
    static std::vector<char*> pointers(std::vector<std::string>& words) {
        std::vector<char*> result;
        for (auto& word : words) {
            result.push_back(word.data());
        }
        result.push_back(nullptr);
        return result;
    }

    pid_t pid_ = -1;
    bool collected_ = false;
};

struct Ran {
    int exit_code = -1;  // -1: a signal ended it
    std::string output;
    std::string errors;
};

inline Ran run_program(std::vector<std::string> argv, const Environment& environment) {
    struct Pipe {
        Pipe() {
            std::array<int, 2> ends{};
            if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
                throw std::runtime_error("pipe2");
            }
            read = UniqueFd(ends[0]);
            write = UniqueFd(ends[1]);
        }
        UniqueFd read;
        UniqueFd write;
    };
    Pipe output;
    Pipe errors;
    const std::string name = argv[0];
    Program program(std::move(argv), environment, output.write.get(), errors.write.get());
    output.write.reset();
    errors.write.reset();
    Ran ran;
    const auto deadline = std::chrono::steady_clock::now() + kHangs;
    std::array<pollfd, 2> polled{pollfd{output.read.get(), POLLIN, 0}, pollfd{errors.read.get(), POLLIN, 0}};
    while (polled[0].fd >= 0 || polled[1].fd >= 0) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) {
            throw std::runtime_error(name + " did not end");
        }
        if (::poll(polled.data(), polled.size(), static_cast<int>(left.count())) <= 0) {
            continue;
        }
        for (std::size_t i = 0; i < polled.size(); ++i) {
            if (polled[i].fd < 0 || polled[i].revents == 0) {
                continue;
            }
            std::array<char, 65536> chunk{};
            const ssize_t count = ::read(polled[i].fd, chunk.data(), chunk.size());
            if (count <= 0) {
                polled[i].fd = -1;
            } else {
                (i == 0 ? ran.output : ran.errors).append(chunk.data(), static_cast<std::size_t>(count));
            }
        }
    }
    const int status = program.wait();
    ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return ran;
}

// Those of this machine that sshd could give a command line.
inline std::vector<std::string> login_shells() {
    std::vector<std::string> found;
    for (const auto* name : {"sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "ksh", "mksh"}) {
        const std::string path = std::string("/usr/bin/") + name;
        if (::access(path.c_str(), X_OK) == 0) {
            found.push_back(path);
        }
    }
    return found;
}

}  // namespace cmssh::fakes
