#pragma once
// The second driver: what many sessions, servers, callers and clients cost. Each part is a function that leaves the
// daemon as it found it or says so, and writes its rows as it goes. Servers are named by their address (there are no
// contexts), sessions run without a shell, so that it is the daemon and tmux that are measured.
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/api.hpp"
#include "tests/bench/process.hpp"
#include "tests/bench/report.hpp"

namespace bench {

constexpr int kServers = 200;

struct Place {
    std::string dir;   // the servers' directory, made by tests/bench/run
    std::string port;  // of the private sshds
    bool idle;         // the daemon with idle masters is measured too, which takes more than a minute
    std::string host(int n) const { return "127.0.0." + std::to_string(n); }
    std::string ctx(int n) const { return host(n) + ":" + port; }
    std::string home(int n) const { return dir + "/server-" + std::to_string(n); }
    std::string socket() const { return dir + "/run/cmssh/cmsshd.sock"; }
};

// cmsshd, started here and not through cmctl, because it is killed and timed.
class Daemon {
public:
    explicit Daemon(const Place& place);
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon();

    // Both give the time from exec to the first answer.
    double start();
    double kill_and_start();
    // Without what it remembers.
    void start_anew();
    int pid() const { return pid_; }
    double rss_mib() const;
    Api& api() { return *api_; }

private:
    void end(int signal);

    const Place& place_;
    pid_t pid_ = -1;
    std::unique_ptr<Api> api_;
};

// `sleep 900` on server N by the API; gives its time.
double start_session(Api& api, const Place& place, int n);
void start_sessions(Api& api, const Place& place, int first, int last, int each);
// Ends the sessions of a server, or of all.
void end_sessions(Api& api, const Place& place, int n = 0);
// All of them, as many at a time as the daemon lets.
void connect_servers(Api& api, const Place& place, int first, int last);
void disconnect(Api& api, const Place& place, int n);

// Every part takes the daemon's state as the comment says.
void cold_callers(Daemon& daemon, const Place& place, Report& report);
void starts_in_a_row(Daemon& daemon, const Place& place, Report& report);
void starts_in_flight(Daemon& daemon, const Place& place, Report& report);
void distance(Daemon& daemon, const Place& place, Report& report);
// One system call each, listed.
void one_start_counted(Daemon& daemon, const Place& place, Report& report);
void client_program(const Place& place, Report& report);
// Connects all kServers and leaves them so, with five sessions each: the four below want that.
void live_masters(Daemon& daemon, const Place& place, Report& report);
void reads(Daemon& daemon, const Place& place, Report& report);
void many_clients(Daemon& daemon, const Place& place, Report& report);
void masters_die(Daemon& daemon, const Place& place, Report& report);
void restart(Daemon& daemon, const Place& place, Report& report);

}  // namespace bench
