// What goes wrong, chosen by a seed: masters killed and stopped, sshds gone for a while, connections cut, tmux clients
// dropped, the daemon killed. One thread has it all.
#pragma once

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/soak/caller.hpp"
#include "tests/soak/servers.hpp"
#include "tests/support/daemon.hpp"

namespace cmssh::test {

class Faults {
public:
    Faults(Desk& desk, Servers& servers, Daemon& daemon, unsigned seed);

    enum class Daemons { Killed, LeftAlone };
    // One more fault, and the end of those that have lasted long enough.
    void go_on(Daemons daemons);
    // Nothing is stopped or down any more.
    void heal();

private:
    void end_those_before(Deadline now);
    void kill_master();
    void stop_master();
    void cut();
    void stop_sshd();
    void drop_tmux_clients();
    void end_daemon();

    [[nodiscard]] int any(int least, int most);
    std::optional<pid_t> any_ssh();

    struct Stopped {
        pid_t pid = 0;
        Deadline until;
    };

    Desk& desk_;
    Servers& servers_;
    Daemon& daemon_;
    std::mt19937 random_;
    std::vector<Stopped> stopped_;
    std::vector<std::optional<Deadline>> down_;  // of each sshd: until when
};

}  // namespace cmssh::test
