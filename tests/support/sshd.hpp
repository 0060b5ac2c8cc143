// A private sshd on loopback: every address 127.0.0.N is a server of its own, with its own home directory and tmux.
// Its keys are its own, and so is the ssh_config that leads to it. Nothing of it touches ~/.ssh or port 22.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tests/support/files.hpp"
#include "tests/support/process.hpp"

namespace cmssh::test {

struct SshdOptions {
    int servers = 2;           // 127.0.0.1 … 127.0.0.N
    bool ipv6 = false;         // [::1] as well, the same machine as 127.0.0.1
    bool second_port = false;  // 127.0.0.1 on another port as well
    bool one_machine = false;  // all addresses lead to one home directory and one tmux
    std::string config;        // sshd_config for all servers
    // Of single servers: sshd_config, more NAME=value words for their sessions, the user's login shell.
    std::map<int, std::string> server_config;
    std::map<int, std::string> environment;
    std::map<int, std::string> shell;
    // Another name of our own account, with kPassword. It exists for this sshd alone, in a mount namespace with an
    // /etc/passwd and an /etc/shadow of its own: see can_have_other_user().
    std::string other_user;
    std::string pam;  // with other_user: what its sshd asks PAM by, in an /etc/pam.d of its own
};

inline constexpr const char* kPassword = "open sesame";

[[nodiscard]] inline SshdOptions servers(int count) {
    SshdOptions options;
    options.servers = count;
    return options;
}

class Sshd {
public:
    // Several in one directory need different names.
    Sshd(const TempDir& dir, SshdOptions options, const std::string& name = "sshd");
    Sshd(const Sshd&) = delete;
    Sshd& operator=(const Sshd&) = delete;

    [[nodiscard]] static bool can_have_other_user();

    [[nodiscard]] int port() const { return port_; }
    [[nodiscard]] int second_port() const { return second_port_; }
    // The directory that is the home of our account on server N, and holds its tmux's socket.
    [[nodiscard]] std::string home(int server) const;
    [[nodiscard]] pid_t pid() const { return process_->pid(); }

    // For `ssh -F`: any address of ours is a destination, without asking anything.
    [[nodiscard]] std::string ssh_config() const { return file("ssh_config"); }
    // Put before what stands in it: ssh takes the first value that it reads.
    void add_ssh_config(std::string_view text);
    [[nodiscard]] std::string user_key() const { return file("user_key"); }
    [[nodiscard]] std::string known_hosts() const { return file("known_hosts"); }

    // How often somebody has logged in so far.
    [[nodiscard]] int logins() const;
    [[nodiscard]] std::string log() const { return process_->output(); }
    // What a program on server N gets from sshd, for looking at it from outside: `tmux -L cmssh ls`.
    [[nodiscard]] Words environment(int server) const;
    // Nobody can connect any more; who is connected stays.
    void stop();
    // To the processes that serve the connections there are: SIGKILL cuts them, SIGSTOP makes them dead paths.
    void signal_connections(int number) const;
    // On the same ports.
    void start();

private:
    [[nodiscard]] std::string file(std::string_view what) const;
    void write_config() const;
    bool try_start();

    const TempDir& dir_;
    SshdOptions options_;
    std::string name_;
    int port_ = 0;
    int second_port_ = 0;
    std::unique_ptr<Process> process_;
    std::string earlier_log_;
};

// The name of the account that runs the tests.
[[nodiscard]] std::string own_user();

}  // namespace cmssh::test
