// Two hundred masters: what they cost, that they die at once, and that the daemon does.
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>

#include "tests/bench/load.hpp"
#include "tests/bench/plot.hpp"
#include "tests/bench/results.hpp"

namespace bench {

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

constexpr int kEach = 5;
constexpr int kMaxConnects = 8;       // the default of pool.max_concurrent_connects
constexpr double kLimitMs = 120'000;  // for all to be up again
constexpr int kCallsBetween = 40;     // two of `stats`, which is work for the daemon
constexpr auto kProbes = 15s;         // health_interval: an idle time measured is a multiple of it

int count_of(const json& stats, const std::string& state) {
    return static_cast<int>(std::count_if(stats.at("connections").begin(), stats.at("connections").end(),
                                          [&](const json& connection) { return connection.at("state") == state; }));
}

std::string states(const json& stats) {
    std::map<std::string, int> found;
    for (const auto& connection : stats.at("connections")) {
        ++found[connection.at("state").get<std::string>()];
    }
    std::string text;
    for (const auto& [state, count] : found) {
        text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + state;
    }
    return text + "; last error of the first: " + stats.at("connections").at(0).at("last_error").dump();
}

std::set<int> masters_of(const json& stats) {
    std::set<int> pids;
    for (const auto& connection : stats.at("connections")) {
        if (connection.at("master_pid").is_number()) {
            pids.insert(connection["master_pid"].get<int>());
        }
    }
    return pids;
}

// What is `connecting` in stats waits for its turn too; a login is an ssh that has not gone into the background yet,
// which makes it the leader of a session.
int logins_under_way(int daemon) {
    const std::string processes = "/proc/" + std::to_string(daemon) + "/task/" + std::to_string(daemon) + "/children";
    std::istringstream children(contents(processes));
    int logins = 0;
    for (pid_t child = 0; children >> child;) {
        const std::string argv = contents("/proc/" + std::to_string(child) + "/cmdline");
        logins += argv.find("-fN") != std::string::npos && getsid(child) != child ? 1 : 0;
    }
    return logins;
}

// A process that only sends back what it is sent: what a call costs here at least.
class Echo {
public:
    Echo() {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_) != 0 || (pid_ = fork()) < 0) {
            throw std::runtime_error("no process to compare with");
        }
        if (pid_ == 0) {
            close(ends_[0]);
            for (char byte = 0; read(ends_[1], &byte, 1) == 1 && write(ends_[1], &byte, 1) == 1;) {
            }
            _exit(0);
        }
        close(ends_[1]);
    }
    Echo(const Echo&) = delete;
    Echo& operator=(const Echo&) = delete;
    ~Echo() {
        close(ends_[0]);
        waitpid(pid_, nullptr, 0);
    }
    double timed() const {
        char byte = 0;
        const auto began = Clock::now();
        if (write(ends_[0], &byte, 1) != 1 || read(ends_[0], &byte, 1) != 1) {
            throw std::runtime_error("the process to compare with has ended");
        }
        return ms_since(began);
    }

private:
    int ends_[2] = {-1, -1};
    pid_t pid_ = -1;
};

double idle_share(const Daemon& daemon, std::chrono::seconds time) {
    const double before = cpu_ms(daemon.pid());
    const auto began = Clock::now();
    settle(time);
    return (cpu_ms(daemon.pid()) - before) / ms_since(began) * 100;
}

std::string percentiles(const Samples& samples) {
    return format("%.2f ms, ", samples.median()) + format("%.2f ms, ", samples.at(0.99)) +
           format("%.2f ms", samples.at(1));
}

}  // namespace

void live_masters(Daemon& daemon, const Place& place, Report& report) {
    // Room that the parts before have used and left would take the masters in, and it remembers their sessions.
    daemon.start_anew();
    Api& api = daemon.api();
    Series rss{"RSS, MiB", {{0, daemon.rss_mib()}}}, idle{"idle CPU, % of a core", {}};
    int connected = 0;
    double connecting_ms = 0, connecting_cpu_ms = 0;
    for (const int masters : {10, 50, 100, kServers}) {
        const auto began = Clock::now();
        const double used = cpu_ms(daemon.pid());
        connect_servers(api, place, connected + 1, masters);
        connecting_ms += ms_since(began);
        connecting_cpu_ms += cpu_ms(daemon.pid()) - used;
        connected = masters;
        settle(2s);
        rss.points.emplace_back(masters, daemon.rss_mib());
        if (place.idle) {
            idle.points.emplace_back(masters, idle_share(daemon, masters == kServers ? 2 * kProbes : kProbes));
        }
    }
    const int live = api.call("stats").at("total_connections").get<int>();
    if (live != kServers) {
        throw std::runtime_error(std::to_string(live) + " masters are up");
    }
    const double growth = (rss.points.back().second - rss.points[1].second) * 1024 / (kServers - 10);
    report.heading("200 live masters, no session");
    report.row("time to connect all of them",
               format("%.1f s, ", connecting_ms / 1000) + format("%.0f ms each", connecting_ms / kServers));
    report.at_most("of that time the daemon runs", "%.1f %%", connecting_cpu_ms / connecting_ms * 100, 10);
    // As many at a time as the daemon has. Ours start a tmux there besides.
    const std::string bare = "seq 1 " + std::to_string(kServers) + " | xargs -P " + std::to_string(kMaxConnects) +
                             " -I{} ssh -F " + place.dir + "/ssh_config -p " + place.port + " 127.0.0.{} true";
    report.at_most("the same / as many `ssh host true`, 8 at a time", "%.2f",
                   connecting_ms / run(place.dir, {"sh", "-c", bare}), 1.3);
    report.at_most("daemon's RSS", "%.1f MiB", rss.points.back().second, 30 / 1.048576);
    report.at_most("growth for each master, from 10 to 200", "%.1f KiB", growth, 64);
    if (place.idle) {
        report.at_most("idle, probes every 15 s, of a core", "%.2f %%", idle.points.back().second, 0.3);
        report.plot("idle-against-masters", "idle CPU against masters",
                    line_chart({"CPU time of the idle daemon against live masters", "masters", "% of a core"}, {idle}));
    }
    report.plot("memory-against-masters", "RSS against masters",
                line_chart({"Memory of the daemon against live masters", "masters", "MiB"}, {rss}));

    const auto began = Clock::now();
    start_sessions(api, place, 1, kServers, kEach);
    const double took = ms_since(began);
    report.heading("sessions on them");
    report.row("1,000 sessions started on 200 servers, 32 in flight", format("%.1f s", took / 1000));
    report.row("daemon's RSS with them", format("%.1f MiB", daemon.rss_mib()));
}

void masters_die(Daemon& daemon, const Place& place, Report& report) {
    Api other(place.socket());
    const json before = daemon.api().call("stats");
    const auto dead = masters_of(before);
    const SchedStat ran_before = sched_stat(daemon.pid());
    for (const int pid : dead) {
        kill(pid, SIGKILL);
    }
    const auto began = Clock::now();
    Samples calls, echoes, large_calls;
    const Echo echo;
    int most = 0, waiting = 0, up = 0;
    double took = 0;
    while (up < kServers) {
        for (int i = 0; i < kCallsBetween; ++i) {
            calls.ms.push_back(other.timed("version"));
            settle(1ms);
            echoes.ms.push_back(echo.timed());
            most = std::max(most, logins_under_way(daemon.pid()));
            settle(4ms);
        }
        double large = 0;
        const json stats = daemon.api().call("stats", json::object(), &large);
        large_calls.ms.push_back(large);
        waiting = std::max(waiting, count_of(stats, "connecting"));
        up = 0;
        for (const auto& connection : stats.at("connections")) {
            up += connection.at("state") == "up" && !dead.contains(connection.at("master_pid").get<int>()) ? 1 : 0;
        }
        took = ms_since(began);
        if (took > kLimitMs) {
            throw std::runtime_error("after two minutes " + std::to_string(up) + " of 200 masters are up again; " +
                                     states(stats));
        }
    }
    const int logins = daemon.api().call("stats").at("handshakes").get<int>() - before.at("handshakes").get<int>();
    const int sessions = daemon.api().call("stats").at("total_sessions").get<int>();
    report.heading("200 masters die at once");
    report.row("until all are up again", format("%.1f s", took / 1000));
    report.row("logins", std::to_string(logins), "200", logins == kServers);
    report.row("most logins at a time, of the most that were `connecting`",
               std::to_string(most) + " of " + std::to_string(waiting), "at most " + std::to_string(kMaxConnects),
               most <= kMaxConnects && most > 0);
    report.row("another call (`version`) meanwhile: p50, p99, max of " + std::to_string(calls.ms.size()),
               percentiles(calls), "all under 20 ms", calls.at(1) < 20);
    report.row("`stats` meanwhile: p50, p99, max of " + std::to_string(large_calls.ms.size()),
               percentiles(large_calls));
    report.row("a process that only sends a byte back, meanwhile", percentiles(echoes));
    const SchedStat ran = sched_stat(daemon.pid());
    report.row(
        "the daemon meanwhile: runs; can run and waits for a core",
        format("%.0f ms; ", ran.ran_ms - ran_before.ran_ms) + format("%.0f ms", ran.waited_ms - ran_before.waited_ms));
    report.row("sessions not ended after it", std::to_string(sessions), before.at("total_sessions").dump(),
               sessions == before.at("total_sessions").get<int>());
}

void restart(Daemon& daemon, const Place&, Report& report) {
    const json before = daemon.api().call("stats");
    const auto masters = masters_of(before);
    const double serving = daemon.kill_and_start();
    const auto began = Clock::now() - std::chrono::microseconds(std::llround(serving * 1000));
    const double used = cpu_ms(daemon.pid());
    json stats;
    double adopted = 0, up = 0;
    while (up == 0) {
        stats = daemon.api().call("stats");
        const double now = ms_since(began);
        const bool same = masters_of(stats) == masters && count_of(stats, "backoff") == 0;
        if (same && adopted == 0) {
            adopted = now;
        }
        if (same && count_of(stats, "up") == kServers) {
            up = now;
        }
        if (now > kLimitMs) {
            throw std::runtime_error(
                "after two minutes not all 200 masters are adopted: " + std::to_string(masters_of(stats).size()) +
                " masters, " + std::to_string(count_of(stats, "up")) + " up");
        }
        settle(10ms);
    }
    const int logins = stats.at("handshakes").get<int>();
    const int sessions = stats.at("total_sessions").get<int>();
    report.heading("the daemon is killed and started, with 200 masters and " + before.at("total_sessions").dump() +
                   " sessions");
    report.at_most("from exec to the first answer", "%.0f ms", serving, 50);
    report.row("CPU time of the daemon until then", format("%.0f ms", used));
    report.at_most("from exec until all masters are adopted", "%.0f ms", adopted, 2000);
    report.row("from exec until every server has answered", format("%.0f ms", up));
    report.row("logins", std::to_string(logins), "0", logins == 0);
    report.row("sessions not ended, and refs, after it",
               std::to_string(sessions) + ", " + stats.at("total_refs").dump(),
               before.at("total_sessions").dump() + ", " + before.at("total_refs").dump(),
               sessions == before.at("total_sessions").get<int>() && stats.at("total_refs") == before.at("total_refs"));
}

}  // namespace bench
