#include "tests/support/daemon.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace cmssh::test {

Daemon::Daemon(const TempDir& dir, std::string ssh_config) : dir_(dir), ssh_config_(std::move(ssh_config)) {
    for (const char* name : {"home", "run", "state", "config/cmssh"}) {
        make_dirs(dir_ / name);
    }
    environment_ = {"HOME=" + (dir_ / "home"),
                    "XDG_RUNTIME_DIR=" + (dir_ / "run"),
                    "XDG_STATE_HOME=" + (dir_ / "state"),
                    "XDG_CONFIG_HOME=" + (dir_ / "config"),
                    std::string("PATH=") + kPath,
                    "LANG=C.UTF-8"};
    for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"}) {
        if (const char* value = std::getenv(name)) {
            environment_.push_back(std::string(name) + '=' + value);
        }
    }
    write_config("");
}

Daemon::~Daemon() {
    if (running()) {
        stop();
    }
    expect_clean_log();
    if (::testing::Test::HasFailure()) {
        std::fprintf(stderr, "---- cmsshd\n%s", log().c_str());
    }
}

void Daemon::write_config(std::string_view text) {
    // What stands before the first table comes first.
    const bool begins_with_table = text.empty() || text.front() == '[';
    const std::string ssh = "[ssh]\noptions = [\"-F\", \"" + ssh_config_ + "\"]\n";
    write_file(config_file(), begins_with_table ? ssh + std::string(text) : std::string(text) + '\n' + ssh);
}

void Daemon::start(const Words& arguments) {
    earlier_log_ = log();
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        throw std::runtime_error("pipe2");
    }
    const UniqueFd ready(ends[0]);
    UniqueFd announced(ends[1]);
    SpawnOptions spawn;
    spawn.environment = environment_;
    spawn.environment.push_back("CMSSH_READY_FD=" + std::to_string(announced.get()));
    spawn.descriptors.push_back(announced.get());
    spawn.merge_errors = true;
    Words argv = started_by_;
    argv.emplace_back(CMSSH_CMSSHD);
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    process_ = std::make_unique<Process>(argv, spawn);
    announced.reset();

    constexpr std::string_view kReady = "READY\n";
    std::string said;
    pollfd readable{.fd = ready.get(), .events = POLLIN, .revents = 0};
    constexpr int kPatienceMs = std::chrono::duration_cast<std::chrono::milliseconds>(kPatience).count();
    while (said.size() < kReady.size() && ::poll(&readable, 1, kPatienceMs) == 1) {
        std::array<char, 64> bytes{};
        const ssize_t count = ::read(ready.get(), bytes.data(), bytes.size());
        if (count <= 0) {
            break;
        }
        said.append(bytes.data(), static_cast<std::size_t>(count));
    }
    if (said != kReady) {
        throw std::runtime_error("cmsshd does not start: " + process_->output());
    }
}

void Daemon::stop() {
    process_->send_signal(SIGTERM);
    const auto status = process_->wait();
    if (!status) {
        ADD_FAILURE() << "cmsshd does not end on SIGTERM";
        return;
    }
    EXPECT_EQ(*status, (ExitStatus{.code = 0, .signal = 0})) << "cmsshd's end on SIGTERM";
}

void Daemon::crash() {
    EXPECT_TRUE(running()) << "cmsshd ended by itself";
    process_->send_signal(SIGKILL);
    (void)process_->wait();
}

std::string Daemon::log() const {
    return earlier_log_ + (process_ != nullptr ? process_->output() : "");
}

void Daemon::expect_clean_log() const {
    const std::string text = log();
    for (const char* report : {"ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer",
                               "runtime error: ", "ended by an exception", "terminate called"}) {
        EXPECT_EQ(text.find(report), std::string::npos) << report;
    }
}

std::vector<pid_t> Daemon::ssh_processes() const {
    std::vector<pid_t> found;
    for (const pid_t pid : children_of(process_->pid())) {
        if (command_line(pid).starts_with("ssh")) {
            found.push_back(pid);
        }
    }
    return found;
}

std::vector<pid_t> Daemon::all_ssh_processes() const {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) {
            continue;
        }
        const pid_t pid = std::stoi(name);
        const std::string command = command_line(pid);
        if (command.starts_with("ssh ") && command.find(runtime_dir()) != std::string::npos && alive(pid)) {
            found.push_back(pid);
        }
    }
    return found;
}

Words Daemon::control_sockets() const {
    Words found;
    for (const auto& entry : std::filesystem::directory_iterator(runtime_dir())) {
        const std::string name = entry.path().filename();
        if (name.starts_with("cm-ssh-")) {
            found.push_back(name);
        }
    }
    return found;
}

Finished Daemon::cmctl(const Words& arguments, const std::string& input, Deadline deadline) const {
    SpawnOptions spawn;
    spawn.environment = environment_;
    spawn.input = input;
    Words argv = {CMSSH_CMCTL};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return run(argv, spawn, deadline);
}

Process Daemon::spawn_cmctl(const Words& arguments) const {
    SpawnOptions spawn;
    spawn.environment = environment_;
    Words argv = {CMSSH_CMCTL, "--no-spawn"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return Process(argv, spawn);
}

}  // namespace cmssh::test
