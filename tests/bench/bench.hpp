#pragma once
// The first driver: one caller at a time, beside plain ssh and tmux, on servers that tests/bench/run has made
// (packaging/demo-servers.sh). Processes are timed from posix_spawn to their end, API calls from the request's first
// byte to the reply's last on a kept socket.
#include <chrono>
#include <memory>
#include <string>

#include "tests/bench/api.hpp"
#include "tests/bench/process.hpp"
#include "tests/bench/results.hpp"

namespace bench {

constexpr auto kRoundTrip = std::chrono::milliseconds(50);

struct Setup {
    std::string dir;       // the servers' directory
    std::string port;      // of the private sshd
    std::string far_port;  // of the proxy in front of server 3
    std::string user;
    int rounds = 30;
    bool peers_only = false;
};

class Bench {
public:
    explicit Bench(Setup setup);
    void all();
    std::string report() const;

private:
    // The peers' way to server N (127.0.0.N), over a master of their own at `control`, or none.
    Words ssh(const std::string& n, const std::string& control, const Words& rest) const;
    static std::string context(const std::string& n) { return n == "far" ? "far" : "server-" + n; }
    std::string home_of(const std::string& n) const { return setup_.dir + "/server-" + (n == "far" ? "3" : n); }

    void start_daemon();
    void end_our_sessions();
    // The keeper stays, as ours does: a tmux server without a session would end, and the next start pay for it.
    void end_peer_sessions(const std::string& name, const std::string& tmux_directory);

    double start_by_api(const std::string& n);
    // The second of two: no spare session is ready for it.
    double second_start_by_api(const std::string& n);
    // Until tmux's first bytes are on the terminal.
    double cmctl_attach(const std::string& n);
    double ssh_attach(const std::string& n) const;
    static Words cmctl_start(const std::string& n) { return {"cmctl", "start", "--ctx", context(n), "sleep", "300"}; }
    static Words cmctl_exec(const std::string& n, const Words& command);
    static Words tmux_start(const std::string& name) {
        return {"tmux", "-L", name, "new-session", "-d", "sleep", "300"};
    }

    void begin_peer(const std::string& n);
    void end_peer(const std::string& n);
    // The seed's way: a subprocess for each step. The whole program's time.
    double python_start(const std::string& n) const;
    // On a server that a daemon just started has connected by itself.
    double prewarmed_start_by_api();
    void cold_start_by_api(const std::string& name, const std::string& n);

    void near(const std::string& rc, const std::string& n, int rounds);
    void throughput();
    void far();
    void ten_masters();

    Setup setup_;
    std::unique_ptr<Api> api_;
    Results results_;
    int masters_ = 0;
    double idle_cpu_ms_ = 0, rss_mib_ = 0, masters_pss_mib_ = 0;
};

}  // namespace bench
