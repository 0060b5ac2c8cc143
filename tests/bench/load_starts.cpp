// Many starts: on a cold server, in a row, in flight, from far away.
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <stdexcept>

#include "tests/bench/delay_proxy.hpp"
#include "tests/bench/load.hpp"
#include "tests/bench/plot.hpp"
#include "tests/bench/results.hpp"

namespace bench {

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

constexpr int kCallers = 100;
constexpr int kStarts = 1000;
constexpr int kInFlight = 64;
constexpr int kBucket = 50;  // starts that make one point of the plot

int handshakes(Api& api) {
    return api.call("stats").at("handshakes").get<int>();
}

Words local_tmux(const Words& rest) {
    Words words{"tmux", "-L", "local", "-f", "/dev/null"};
    words.insert(words.end(), rest.begin(), rest.end());
    return words;
}

const Words kLocalStart = local_tmux({"new-session", "-d", "sleep", "900"});

class LocalTmux {
public:
    LocalTmux(const Place& place, const std::string& name)
        : dir_(place.dir), sockets_(place.dir + "/local-" + name), environment_{"TMUX_TMPDIR=" + sockets_} {
        std::filesystem::create_directory(sockets_);
        run(dir_, local_tmux({"new-session", "-d", "-s", "keeper", "cat"}), environment_);
        run(dir_, local_tmux({"display-message", "-p", "#{pid}"}), environment_);
        server_ = std::stoi(contents(dir_ + "/output"));
    }
    LocalTmux(const LocalTmux&) = delete;
    LocalTmux& operator=(const LocalTmux&) = delete;
    // Not kill-server, which takes its time with hundreds of sessions; these end with their terminals.
    ~LocalTmux() { kill(server_, SIGKILL); }

    double start() const { return run(dir_, kLocalStart, environment_); }

    // `all` starts by one control client (`tmux -C`), which has `at_once` of them in flight; piped: and a `cat` that
    // reads the session's output, as each of ours has.
    double start_by_control(int all, int at_once, bool piped) const {
        int ends[2] = {-1, -1};
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
            throw std::runtime_error("no socket pair");
        }
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        const pid_t pid = spawn(local_tmux({"-C", "attach-session", "-t", "keeper"}), &actions);
        posix_spawn_file_actions_destroy(&actions);
        close(ends[1]);
        std::string printed;
        await_replies(ends[0], printed, 1);  // attach-session's own
        const int each = piped ? 2 : 1;      // commands, of which each has an end
        const auto began = Clock::now();
        for (int begun = 0, ended = 0; ended < all * each;) {
            if (begun == all || begun - ended / each == at_once) {
                ended += await_replies(ends[0], printed, 1);
                continue;
            }
            const std::string name = "by-control-" + std::to_string(begun++);
            const std::string line = "new-session -d -s " + name + " sleep 900" +
                                     (piped ? " ; pipe-pane -t " + name + ": 'exec cat >/dev/null'" : "") + "\n";
            if (write(ends[0], line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
                throw std::runtime_error("a local tmux does not take commands");
            }
        }
        const double took = ms_since(began);
        close(ends[0]);
        waitpid(pid, nullptr, 0);
        return took;
    }

    // `all` starts, `at_once` processes at a time.
    double start_many(int all, int at_once) const {
        const auto began = Clock::now();
        for (int begun = 0, ended = 0; ended < all;) {
            if (begun < all && begun - ended < at_once) {
                started_.push_back(spawn(kLocalStart, nullptr));
                ++begun;
            } else {
                end_one();
                ++ended;
            }
        }
        return ms_since(began);
    }

private:
    pid_t spawn(const Words& words, const posix_spawn_file_actions_t* actions) const {
        const std::vector<char*> argv = pointers_to(words);
        pid_t pid = 0;
        setenv("TMUX_TMPDIR", sockets_.c_str(), 1);
        const int error = posix_spawnp(&pid, argv[0], actions, nullptr, argv.data(), environ);
        unsetenv("TMUX_TMPDIR");
        if (error != 0) {
            throw std::runtime_error("tmux does not start");
        }
        return pid;
    }

    // Some ends of commands, at least as many; how many.
    static int await_replies(int fd, std::string& printed, int at_least) {
        int found = 0;
        while (found < at_least) {
            pollfd readable{fd, POLLIN, 0};
            char bytes[65536];
            const ssize_t n = poll(&readable, 1, kStepLimitMs) == 1 ? read(fd, bytes, sizeof bytes) : -1;
            if (n <= 0) {
                throw std::runtime_error("the control client of a local tmux has ended");
            }
            printed.append(bytes, static_cast<std::size_t>(n));
            for (auto end = printed.find('\n'); end != std::string::npos; end = printed.find('\n')) {
                if (printed.starts_with("%error")) {
                    throw std::runtime_error("a local tmux failed");
                }
                found += printed.starts_with("%end") ? 1 : 0;
                printed.erase(0, end + 1);
            }
        }
        return found;
    }

    // The oldest: they end in about the order in which they began, and the daemon is our child too.
    void end_one() const {
        int status = 0;
        waitpid(started_.front(), &status, 0);
        started_.erase(started_.begin());
        if (status != 0) {
            throw std::runtime_error("a local tmux failed");
        }
    }

    std::string dir_, sockets_;
    Words environment_;
    pid_t server_ = 0;
    mutable std::vector<pid_t> started_;
};

Series buckets(const std::string& name, const std::vector<double>& ms) {
    Series series{name, {}};
    for (std::size_t from = 0; from + kBucket <= ms.size(); from += kBucket) {
        const auto begin = ms.begin() + static_cast<std::ptrdiff_t>(from);
        series.points.emplace_back(from + kBucket, Samples{{begin, begin + kBucket}}.median());
    }
    return series;
}

}  // namespace

void cold_callers(Daemon& daemon, const Place& place, Report& report) {
    Api& api = daemon.api();
    constexpr int kServer = 1;
    std::vector<double> logins;
    for (int i = 0; i < 3; ++i) {
        logins.push_back(api.timed("connect", {{"ctx", place.ctx(kServer)}}));
        if (i < 2) {
            disconnect(api, place, kServer);
        }
    }
    const double login = Samples{logins}.median();
    start_session(api, place, kServer);
    const auto began = Clock::now();
    for (int i = 0; i < kCallers; ++i) {
        start_session(api, place, kServer);
    }
    const double warm = ms_since(began);
    end_sessions(api, place, kServer);
    Samples spare;
    for (int i = 0; i < 20; ++i) {
        settle();
        spare.ms.push_back(start_session(api, place, kServer));
    }
    end_sessions(api, place, kServer);
    disconnect(api, place, kServer);

    const int before = handshakes(api);
    std::vector<std::unique_ptr<Api>> callers;
    for (int i = 0; i < kCallers; ++i) {
        callers.push_back(std::make_unique<Api>(place.socket()));
        callers.back()->call("ping");
    }
    const auto cold = Clock::now();
    for (const auto& caller : callers) {
        caller->post("start", {{"ctx", place.ctx(kServer)}, {"command", {"sleep", "900"}}});
    }
    for (const auto& caller : callers) {
        caller->take();
    }
    const double last = ms_since(cold);
    const int made = handshakes(api) - before;
    report.heading("100 concurrent callers on a cold server");
    report.row("logins", std::to_string(made), "1", made == 1);
    report.row("one login; 100 warm starts, right behind one another",
               format("%.0f ms; ", login) + format("%.0f ms", warm));
    report.row("last answer", format("%.0f ms", last));
    report.at_most("last answer / (one login + 100 warm starts)", "%.2f", last / (login + warm), 1.3);
    report.at_most("the same, of warm starts that each have a spare session", "%.2f",
                   last / (login + kCallers * spare.median()), 1.3);
    end_sessions(api, place, kServer);
    disconnect(api, place, kServer);

    const std::string ssh = "ssh -F " + place.dir + "/ssh_config -p " + place.port + " -o ControlPath=" + place.dir +
                            "/auto " + place.host(kServer);
    const auto accepted = [&] {
        run(place.dir, {"sh", "-c", "cat " + place.dir + "/sshd.log* | grep -c Accepted"});
        return std::stoi(contents(place.dir + "/output"));
    };
    const int accepted_before = accepted();
    const double theirs = run(
        place.dir, {"sh", "-c",
                    "seq " + std::to_string(kCallers) + " | xargs -P " + std::to_string(kCallers) + " -I{} " + ssh +
                        " -o ControlMaster=auto -o ControlPersist=60 tmux -L peer new-session -d sleep 900 || true"});
    const int logins_of_theirs = accepted() - accepted_before;
    run(place.dir, {"sh", "-c", ssh + " tmux -L peer list-sessions | wc -l"});
    report.row("100 `ssh -o ControlMaster=auto host tmux new-session -d` at once: the last has ended; logins; sessions",
               format("%.0f ms; ", theirs) + std::to_string(logins_of_theirs) + "; " +
                   std::to_string(std::stoi(contents(place.dir + "/output"))));
    run(place.dir, {"sh", "-c", ssh + " tmux -L peer kill-server; " + ssh + " -O exit; true"});
}

void starts_in_a_row(Daemon& daemon, const Place& place, Report& report) {
    Api& api = daemon.api();
    constexpr int kServer = 2;
    start_session(api, place, kServer);
    std::vector<double> ours, theirs, more;
    {
        const LocalTmux local(place, "row");
        local.start();
        // In blocks: between two of ours nobody has time to make anything ahead.
        for (int block = 0; block < kStarts / kBucket; ++block) {
            for (int i = 0; i < kBucket; ++i) {
                ours.push_back(start_session(api, place, kServer));
            }
            for (int i = 0; i < kBucket; ++i) {
                theirs.push_back(local.start());
            }
        }
    }
    for (int i = 0; i < kStarts; ++i) {
        more.push_back(ours[static_cast<std::size_t>(i)] - theirs[static_cast<std::size_t>(i)]);
    }
    const auto part = [](const std::vector<double>& ms, int from) {
        return Samples{{ms.begin() + from, ms.begin() + from + 100}}.median();
    };
    report.heading("1,000 starts in a row on one server, and as many local `tmux new-session -d`, in turns of 50");
    for (const int from : {0, 400, 900}) {
        report.row(
            "median of starts " + std::to_string(from + 1) + " to " + std::to_string(from + 100) + ": ours; local tmux",
            format("%.2f ms; ", part(ours, from)) + format("%.2f ms", part(theirs, from)));
    }
    report.at_most("ours less local tmux's, the last 100 against the first 100", "%.2f ms more",
                   part(more, kStarts - 100) - part(more, 0), 1);
    report.plot("start-against-sessions", "start latency against sessions",
                line_chart({"Start latency against sessions on the server", "sessions", "ms"},
                           {buckets("start, API", ours), buckets("local tmux new-session -d", theirs)}));
    end_sessions(api, place, kServer);
    disconnect(api, place, kServer);
}

void starts_in_flight(Daemon& daemon, const Place& place, Report& report) {
    Api& api = daemon.api();
    constexpr int kAlone = 3, kTogether = 4;
    constexpr int kSome = 500;
    const auto throughput = [&](int n, int all, int at_once) {
        start_session(api, place, n);
        const auto began = Clock::now();
        for (int posted = 0, taken = 0; taken < all;) {
            if (posted < all && posted - taken < at_once) {
                api.post("start", {{"ctx", place.ctx(n)}, {"command", {"sleep", "900"}}});
                ++posted;
            } else {
                api.take();
                ++taken;
            }
        }
        const double per_second = all / ms_since(began) * 1000;
        end_sessions(api, place, n);
        disconnect(api, place, n);
        return per_second;
    };
    const double alone = throughput(kAlone, kSome, 1);
    const double together = throughput(kTogether, kSome, kInFlight);
    double tmux_alone = 0, tmux_together = 0;
    {
        const LocalTmux local(place, "alone");
        tmux_alone = kSome / local.start_many(kSome, 1) * 1000;
    }
    settle(200ms);
    {
        const LocalTmux local(place, "together");
        tmux_together = kSome / local.start_many(kSome, kInFlight) * 1000;
    }
    const auto by_control = [&](const std::string& name, int at_once, bool piped) {
        settle(200ms);
        const LocalTmux local(place, name);
        return kSome / local.start_by_control(kSome, at_once, piped) * 1000;
    };
    const double control_alone = by_control("control-alone", 1, false);
    const double control_together = by_control("control-together", kInFlight, false);
    const double piped_alone = by_control("piped-alone", 1, true);
    const double piped_together = by_control("piped-together", kInFlight, true);
    report.heading("500 starts on one server, starts per second");
    const auto all_of = [](double ours, double processes, double control, double piped) {
        return format("%.0f; ", ours) + format("%.0f; ", processes) + format("%.0f; ", control) + format("%.0f", piped);
    };
    const std::string who = "ours; local tmux: by processes; by one `tmux -C`; and with a `pipe-pane … cat` for each";
    report.row("one in flight: " + who, all_of(alone, tmux_alone, control_alone, piped_alone));
    report.row("64 in flight: " + who, all_of(together, tmux_together, control_together, piped_together));
    report.at_least("ours, 64 in flight / one in flight", "%.2f", together / alone, 3);
    report.row("the same of local tmux (what tmux allows): by processes; by one `tmux -C`; and with the `cat`s",
               format("%.2f; ", tmux_together / tmux_alone) + format("%.2f; ", control_together / control_alone) +
                   format("%.2f", piped_together / piped_alone));
}

void distance(Daemon& daemon, const Place& place, Report& report) {
    constexpr int kServer = 5, kRounds = 7;
    Api& api = daemon.api();
    Series ours{"start, API", {}}, theirs{"ssh -S ctl host tmux new-session -d", {}};
    report.heading("start from far away, medians");
    for (const int round_trip : {0, 10, 50, 200}) {
        const DelayProxy proxy(place.host(kServer), static_cast<std::uint16_t>(std::stoi(place.port)),
                               std::chrono::milliseconds(round_trip));
        const std::string port = std::to_string(proxy.port());
        const Words ssh{"ssh", "-F", place.dir + "/ssh_config", "-p", port, "-S", place.dir + "/peer-" + port};
        const auto peer = [&](Words options, Words command) {
            Words words = ssh;
            words.insert(words.end(), options.begin(), options.end());
            words.push_back("127.0.0.1");
            words.insert(words.end(), command.begin(), command.end());
            return run(place.dir, words);
        };
        const Words start{"tmux", "-L", "peer", "new-session", "-d", "sleep", "900"};
        const json ours_params{{"ctx", "127.0.0.1:" + port}, {"command", {"sleep", "900"}}};
        peer({"-fNM", "-oControlPersist=yes"}, {});
        peer({}, start);
        api.call("start", ours_params);
        Samples our, their;
        for (int round = 0; round < kRounds; ++round) {
            settle();
            our.ms.push_back(api.timed("start", ours_params));
            settle();
            their.ms.push_back(peer({}, start));
        }
        peer({"-Oexit"}, {});
        const json listed = api.call("list", {{"ctx", "127.0.0.1:" + port}});
        for (const auto& session : listed.at("sessions")) {
            api.call("kill", {{"session", session.at("id")}});
        }
        api.call("disconnect", {{"ctx", "127.0.0.1:" + port}, {"force", true}});
        ours.points.emplace_back(round_trip, our.median());
        theirs.points.emplace_back(round_trip, their.median());
        const std::string values = format("%.1f ms; ", our.median()) + format("%.1f ms", their.median());
        const std::string what = std::to_string(round_trip) + " ms away: ours; `ssh -S ctl host tmux new-session -d`";
        if (round_trip == 0) {
            report.row(what, values);
            continue;
        }
        const double trips = (our.median() - ours.points.front().second) / round_trip;
        const double peers = (their.median() - theirs.points.front().second) / round_trip;
        report.row(what, values);
        report.row("the same in round trips, less the time at 0 ms", format("%.2f; ", trips) + format("%.2f", peers),
                   "ours at most 1.1", trips <= 1.1);
    }
    report.plot("start-against-round-trip", "start against round trip",
                line_chart({"Start against the round trip to the server", "round trip, ms", "ms"}, {ours, theirs}));
}

}  // namespace bench
