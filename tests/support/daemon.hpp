// The real cmsshd, and cmctl in the same environment. Both see nothing of the person's who runs the tests.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/rpc_client.hpp"

namespace cmssh::test {

class Daemon {
public:
    // ssh_config: what every ssh gets with -F. Not started yet.
    Daemon(const TempDir& dir, std::string ssh_config);
    // Stops it, and fails the test where it did not end well.
    ~Daemon();
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    // More of config.toml: tables other than [ssh].
    void write_config(std::string_view text);
    // For its next start: of all its variables one more; words that go before its own on the command line, of a program
    // that becomes it.
    void add_environment(const std::string& variable) { environment_.push_back(variable); }
    void start_by(Words words) { started_by_ = std::move(words); }
    // Returns when it serves. On failure: throws, with what it said.
    void start(const Words& arguments = {});
    // SIGTERM, and waits.
    void stop();
    // SIGKILL, and waits: what a crash leaves behind.
    void crash();

    [[nodiscard]] pid_t pid() const { return process_->pid(); }
    [[nodiscard]] bool running() { return process_ != nullptr && process_->running(); }
    [[nodiscard]] std::string runtime_dir() const { return dir_ / "run/cmssh"; }
    [[nodiscard]] std::string socket_path() const { return runtime_dir() + "/cmsshd.sock"; }
    [[nodiscard]] std::string config_file() const { return dir_ / "config/cmssh/config.toml"; }
    [[nodiscard]] const Words& environment() const { return environment_; }
    // Of all its lives.
    [[nodiscard]] std::string log() const;
    // Its ssh processes: masters, and logins under way.
    [[nodiscard]] std::vector<pid_t> ssh_processes() const;
    // The same of all its lives: masters that an earlier one left too.
    [[nodiscard]] std::vector<pid_t> all_ssh_processes() const;
    // Files in the runtime dir that are sockets of masters or were meant to become one.
    [[nodiscard]] Words control_sockets() const;

    [[nodiscard]] Finished cmctl(const Words& arguments, const std::string& input = {},
                                 Deadline deadline = in(kPatience)) const;

    // One that runs on; it starts no daemon.
    [[nodiscard]] Process spawn_cmctl(const Words& arguments) const;

private:
    void expect_clean_log() const;

    const TempDir& dir_;
    std::string ssh_config_;
    Words environment_;
    Words started_by_;
    std::unique_ptr<Process> process_;
    std::string earlier_log_;
};

}  // namespace cmssh::test
