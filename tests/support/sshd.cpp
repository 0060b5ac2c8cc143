#include "tests/support/sshd.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pwd.h>
#include <shadow.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>

namespace cmssh::test {
namespace {

constexpr const char* kSshd = "/usr/sbin/sshd";
// openssl passwd -6 -salt cmsshtest 'open sesame'
constexpr const char* kPasswordHash =
    "$6$cmsshtest$xnyoipgTQA3DzspIdjPVU1uSevxRbhU28rqDFcit4E3iwYf.0tMtsA7q3EEYvlbpd/xu7HrTdm8V0At8ZEV4p1";

std::string address(int server) {
    return "127.0.0." + std::to_string(server);
}

int count(std::string_view text, std::string_view part) {
    int found = 0;
    for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) {
        ++found;
    }
    return found;
}

// Below the range of ports that the kernel hands out by itself.
int any_port() {
    static std::mt19937 generator{std::random_device{}()};
    return std::uniform_int_distribution<int>(10'000, 32'000)(generator);
}

// A root whose password is locked is refused by an sshd that does not ask PAM.
bool locked_root() {
    if (::geteuid() != 0) {
        return false;
    }
    const struct spwd* entry = ::getspnam("root");
    return entry != nullptr && entry->sp_pwdp != nullptr && entry->sp_pwdp[0] == '!';
}

void make_key(const std::string& path) {
    const auto made = run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "cmssh-test", "-f", path});
    if (made.status.code != 0) {
        throw std::runtime_error("ssh-keygen: " + made.errors);
    }
}

// A home directory as a new user has it.
void make_home(const std::string& path) {
    make_dirs(path);
    std::filesystem::copy("/etc/skel", path,
                          std::filesystem::copy_options::recursive | std::filesystem::copy_options::skip_existing);
    // zsh asks a user who has no startup file what to do.
    for (const char* name : {"/.zshrc", "/.hushlogin"}) {
        write_file(path + name, "");
    }
}

}  // namespace

std::string own_user() {
    const struct passwd* entry = ::getpwuid(::geteuid());
    if (entry == nullptr) {
        throw std::runtime_error("who runs the tests has no account");
    }
    return entry->pw_name;
}

Sshd::Sshd(const TempDir& dir, SshdOptions options, const std::string& name)
    : dir_(dir), options_(std::move(options)), name_(name) {
    if (!exists(kSshd)) {
        throw std::runtime_error(std::string(kSshd) + " is missing: packaging/install-deps --test");
    }
    if (::geteuid() == 0) {
        ::mkdir("/run/sshd", 0755);
    }
    make_dirs(dir_ / name_);
    for (int server = 1; server <= options_.servers; ++server) {
        make_home(home(server));
    }
    make_key(file("host_key"));
    make_key(file("user_key"));
    const std::string host_key = read_file(file("host_key.pub"));
    write_file(file("known_hosts"), "* " + host_key.substr(0, host_key.rfind(' ')) + '\n');

    constexpr int kAttempts = 10;
    for (int attempt = 1;; ++attempt) {
        port_ = any_port();
        second_port_ = any_port();
        write_config();
        if (try_start()) {
            break;
        }
        if (attempt == kAttempts) {
            throw std::runtime_error("the private sshd does not start: " + log());
        }
    }
    write_file(ssh_config(), "Host *\n    Port " + std::to_string(port_) + "\n    User " + own_user() +
                                 "\n    IdentityFile " + user_key() +
                                 "\n    IdentitiesOnly yes\n    IdentityAgent none\n    UserKnownHostsFile " +
                                 known_hosts() + "\n    GlobalKnownHostsFile none\n    StrictHostKeyChecking yes\n");
    for (int server = 1; server <= options_.servers; ++server) {
        add_ssh_config("Host server-" + std::to_string(server) + "\n    HostName " + address(server) + '\n');
    }
}

bool Sshd::can_have_other_user() {
    return ::geteuid() == 0 && run({"unshare", "-m", "true"}).status.code == 0;
}

std::string Sshd::file(std::string_view what) const {
    return dir_ / (name_ + '/' + std::string(what));
}

std::string Sshd::home(int server) const {
    return file("home" + std::to_string(options_.one_machine ? 1 : server));
}

Words Sshd::environment(int server) const {
    return {"HOME=" + home(server), "TMUX_TMPDIR=" + home(server), std::string("PATH=") + kPath};
}

void Sshd::write_config() const {
    std::string text;
    std::string match;
    const auto listen = [&](const std::string& where, int port) {
        text += "ListenAddress " + where + ':' + std::to_string(port) + '\n';
    };
    const auto serve = [&](const std::string& where, int server) {
        match += "Match LocalAddress " + where + '\n';
        if (const auto more = options_.server_config.find(server); more != options_.server_config.end()) {
            match += more->second + '\n';
        }
        match += "SetEnv HOME=" + home(server) + " TMUX_TMPDIR=" + home(server);
        if (const auto shell = options_.shell.find(server); shell != options_.shell.end()) {
            // What sshd itself would do for an account with that shell.
            match += " SHELL=" + shell->second;
        }
        if (const auto more = options_.environment.find(server); more != options_.environment.end()) {
            match += ' ' + more->second;
        }
        match += '\n';
        if (const auto shell = options_.shell.find(server); shell != options_.shell.end()) {
            match += "ForceCommand exec " + shell->second + " -c \"$SSH_ORIGINAL_COMMAND\"\n";
        }
    };
    for (int server = 1; server <= options_.servers; ++server) {
        listen(address(server), port_);
        serve(address(server), server);
    }
    if (options_.second_port) {
        listen(address(1), second_port_);
    }
    if (options_.ipv6) {
        listen("[::1]", port_);
        serve("::1", 1);
    }
    // The first value counts of every option but MaxStartups.
    text += "MaxStartups 200\n" + options_.config + "\nHostKey " + file("host_key") + "\nAuthorizedKeysFile " +
            file("user_key.pub") + "\nPidFile none\nStrictModes no\nUsePAM " +
            (locked_root() || !options_.pam.empty() ? "yes" : "no") +
            "\nUseDNS no\nPermitUserRC no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n";
    write_file(file("sshd_config"), text + match);
}

bool Sshd::try_start() {
    Words argv = {kSshd, "-D", "-e", "-f", file("sshd_config")};
    if (!options_.other_user.empty()) {
        const struct passwd* own = ::getpwuid(::geteuid());
        write_file(file("passwd"), read_file("/etc/passwd") + options_.other_user +
                                       ":x:" + std::to_string(own->pw_uid) + ':' + std::to_string(own->pw_gid) +
                                       "::" + own->pw_dir + ':' + own->pw_shell + '\n');
        write_file(file("shadow"), own_user() + ":*:19000:0:99999:7:::\n" + options_.other_user + ':' + kPasswordHash +
                                       ":19000:0:99999:7:::\n");
        std::string script = "mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/shadow\" /etc/shadow && ";
        if (!options_.pam.empty()) {
            make_dirs(file("pam.d"));
            write_file(file("pam.d/sshd"), options_.pam);
            script += "mount --bind \"$1/pam.d\" /etc/pam.d && ";
        }
        const Words in_namespace = {"unshare", "-m",        "/bin/sh", "-c", script + "shift && exec \"$@\"",
                                    "sh",      dir_ / name_};
        argv.insert(argv.begin(), in_namespace.begin(), in_namespace.end());
    }
    SpawnOptions spawn;
    spawn.merge_errors = true;
    process_ = std::make_unique<Process>(argv, spawn);
    const int wanted = options_.servers + (options_.second_port ? 1 : 0) + (options_.ipv6 ? 1 : 0);
    const bool answered = wait_until([&] {
        const std::string text = process_->output();
        return count(text, "Server listening on ") == wanted || count(text, "error: Bind to port ") > 0 ||
               !process_->running();
    });
    if (!answered) {
        throw std::runtime_error("the private sshd does not start: " + process_->output());
    }
    return count(process_->output(), "Server listening on ") == wanted;
}

void Sshd::add_ssh_config(std::string_view text) {
    write_file(ssh_config(), std::string(text) + '\n' + read_file(ssh_config()));
}

int Sshd::logins() const {
    const std::string text = earlier_log_ + log();
    return count(text, "Accepted publickey for ") + count(text, "Accepted password for ") +
           count(text, "Accepted keyboard-interactive/pam for ");
}

void Sshd::stop() {
    process_->send_signal(SIGKILL);
    (void)process_->wait();
}

void Sshd::signal_connections(int number) const {
    // A connection is a process, or two where sshd separates privileges: the outer one then says [priv], and makes the
    // inner one a moment after the client has heard that it is in.
    const auto serves = [](pid_t pid) {
        const std::string title = command_line(pid);
        return title.starts_with("sshd: ") && title.find('[') == std::string::npos;
    };
    for (const pid_t connection : children_of(process_->pid())) {
        std::vector<pid_t> inner;
        (void)wait_until([&] {
            inner = children_of(connection);
            std::erase_if(inner, [&](pid_t pid) { return !serves(pid); });
            return !inner.empty() || serves(connection) || !alive(connection);
        });
        for (const pid_t pid : inner) {
            ::kill(pid, number);
        }
        ::kill(connection, number);
    }
}

void Sshd::start() {
    earlier_log_ += log();
    // The port is still ours: nobody is given it by chance.
    if (!wait_until([this] { return try_start(); })) {
        throw std::runtime_error("the private sshd does not start again: " + process_->output());
    }
}

}  // namespace cmssh::test
