#include "tests/soak/faults.hpp"

#include <signal.h>

#include <algorithm>
#include <array>
#include <sstream>

namespace cmssh::test {
namespace {

// Some end before a probe has noticed, some long after the daemon has acted.
constexpr int kLongestStopMs = 6000;
constexpr int kLongestDownMs = 4000;

}  // namespace

Faults::Faults(Desk& desk, Servers& servers, Daemon& daemon, unsigned seed)
    : desk_(desk), servers_(servers), daemon_(daemon), random_(seed), down_(2) {}

int Faults::any(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random_);
}

std::optional<pid_t> Faults::any_ssh() {
    const auto found = daemon_.all_ssh_processes();
    if (found.empty()) {
        return std::nullopt;
    }
    return found[static_cast<std::size_t>(any(0, static_cast<int>(found.size()) - 1))];
}

void Faults::go_on(Daemons daemons) {
    end_those_before(std::chrono::steady_clock::now());
    const double daemon_weight = daemons == Daemons::Killed ? 3 : 0;
    switch (std::discrete_distribution<int>({6, 3, 1, 2, 3, daemon_weight})(random_)) {
        case 0:
            kill_master();
            break;
        case 1:
            stop_master();
            break;
        case 2:
            cut();
            break;
        case 3:
            stop_sshd();
            break;
        case 4:
            drop_tmux_clients();
            break;
        default:
            end_daemon();
    }
}

void Faults::heal() {
    end_those_before(Deadline::max());
}

void Faults::end_those_before(Deadline now) {
    std::erase_if(stopped_, [&](const Stopped& stopped) {
        if (stopped.until > now) {
            return false;
        }
        ::kill(stopped.pid, SIGCONT);
        return true;
    });
    for (std::size_t half = 0; half < down_.size(); ++half) {
        if (down_[half] && *down_[half] <= now) {
            servers_.half(static_cast<int>(half)).start();
            down_[half].reset();
        }
    }
}

void Faults::kill_master() {
    if (const auto pid = any_ssh()) {
        ::kill(*pid, SIGKILL);
        desk_.count("fault: a master killed");
    }
}

void Faults::stop_master() {
    if (const auto pid = any_ssh()) {
        ::kill(*pid, SIGSTOP);
        stopped_.push_back({.pid = *pid, .until = in(std::chrono::milliseconds(any(1, kLongestStopMs)))});
        desk_.count("fault: a master stopped");
    }
}

// All that one sshd has at once; new ones can be made.
void Faults::cut() {
    const int half = any(0, 1);
    if (!down_[static_cast<std::size_t>(half)]) {
        servers_.half(half).signal_connections(SIGKILL);
        desk_.count("fault: ten servers' connections cut");
    }
}

void Faults::stop_sshd() {
    const int half = any(0, 1);
    auto& down = down_[static_cast<std::size_t>(half)];
    if (down) {
        return;
    }
    if (any(0, 1) == 1) {
        servers_.half(half).signal_connections(SIGKILL);
    }
    servers_.half(half).stop();
    down = in(std::chrono::milliseconds(any(100, kLongestDownMs)));
    desk_.count("fault: an sshd stopped");
}

void Faults::drop_tmux_clients() {
    const int n = any(1, Servers::kCount);
    const bool killed = any(0, 1) == 1;
    std::istringstream lines(
        servers_.tmux(n, {"list-clients", "-F", killed ? "#{client_pid}" : "#{client_name}"}).output);
    for (std::string client; std::getline(lines, client);) {
        if (killed) {
            ::kill(std::stoi(client), SIGKILL);
        } else {
            (void)servers_.tmux(n, {"detach-client", "-t", client});
        }
        desk_.count("fault: a tmux client dropped");
    }
}

void Faults::end_daemon() {
    if (any(1, 5) == 1) {
        daemon_.stop();
        desk_.count("fault: the daemon stopped");
    } else {
        daemon_.crash();
        desk_.count("fault: the daemon killed");
    }
    daemon_.start();
}

}  // namespace cmssh::test
