#include "tests/soak/servers.hpp"

#include <sstream>

namespace cmssh::test {

Servers::Servers(const TempDir& dir) : near_(dir, servers(kOfEach), "near"), far_(dir, servers(kOfEach), "far") {
    for (int n = kOfEach + 1; n <= kCount; ++n) {
        near_.add_ssh_config("Host " + name(n) + "\n    HostName 127.0.0." + std::to_string(number_there(n)) +
                             "\n    Port " + std::to_string(far_.port()) + "\n    IdentityFile " + far_.user_key() +
                             "\n    UserKnownHostsFile " + far_.known_hosts() + '\n');
    }
}

std::string Servers::address(int n) const {
    return "127.0.0." + std::to_string(number_there(n)) + ':' + std::to_string(sshd_of(n).port());
}

Finished Servers::tmux(int n, const Words& arguments) const {
    SpawnOptions spawn;
    spawn.environment = sshd_of(n).environment(number_there(n));
    Words argv = {"tmux", "-L", "cmssh"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return run(argv, spawn);
}

Words Servers::tmux_lines(const Words& arguments) const {
    Words found;
    for (int n = 1; n <= kCount; ++n) {
        std::istringstream lines(tmux(n, arguments).output);
        for (std::string line; std::getline(lines, line);) {
            found.push_back(line);
        }
    }
    return found;
}

Words Servers::tmux_sessions() const {
    Words names = tmux_lines({"list-sessions", "-F", "#{session_name}"});
    std::erase_if(names, [](const std::string& name) { return !name.starts_with("sess-"); });
    return names;
}

Words Servers::tmux_clients() const {
    return tmux_lines({"list-clients", "-F", "#{client_pid}"});
}

}  // namespace cmssh::test
