// One warm start, counted: the system calls and context switches of the daemon and of cmctl.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "tests/bench/load.hpp"
#include "tests/bench/results.hpp"

namespace bench {

using namespace std::chrono_literals;

namespace {

constexpr int kServer = 6;
constexpr auto kAfterwards = 400ms;  // in which the daemon makes the next spare session
constexpr int kAtOnce = 10;

using Counts = std::map<std::string, int>;

double wall_seconds() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// From strace -f -ttt; calls before `until` only.
Counts counts(const std::string& file, double until) {
    Counts found;
    std::ifstream lines(file);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string first, rest;
        words >> first;
        if (first.find('.') == std::string::npos) {  // the thread's id, where strace gives it
            words >> first;
        }
        words >> rest;
        const auto end = rest.find('(');
        if (end == std::string::npos || end == 0 || std::atof(first.c_str()) > until) {
            continue;  // resumed, a signal, an exit
        }
        ++found[rest.substr(0, end)];
    }
    return found;
}

std::string listed(const Counts& counts) {
    std::string text;
    int all = 0;
    for (const auto& [name, times] : counts) {
        text += ", " + name + (times == 1 ? "" : " " + std::to_string(times));
        all += times;
    }
    return std::to_string(all) + text;
}

int sum(const Counts& counts, const Words& names) {
    int all = 0;
    for (const auto& name : names) {
        const auto found = counts.find(name);
        all += found == counts.end() ? 0 : found->second;
    }
    return all;
}

const Words kProcesses{"fork", "vfork", "clone", "clone3", "execve", "execveat"};
const Words kSyncs{"fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync"};

// strace on a process that runs, until the object goes.
class Trace {
public:
    Trace(const std::string& file, int pid) {
        const std::string messages = file + ".messages", target = std::to_string(pid);
        std::ofstream(messages).close();
        std::ofstream(file).close();
        const Words words{"strace", "-f", "-ttt", "-o", file, "-p", target};
        const std::vector<char*> argv = pointers_to(words);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 2, messages.c_str(), O_WRONLY | O_TRUNC, 0600);
        const int error = posix_spawnp(&pid_, "strace", &actions, nullptr, argv.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        if (error != 0) {
            throw std::runtime_error("strace is not here (packaging/install-deps --bench)");
        }
        const auto began = Clock::now();
        while (contents(messages).find("attached") == std::string::npos) {
            if (ms_since(began) > 5000) {
                end();
                throw std::runtime_error("strace does not attach: " + contents(messages));
            }
            settle(5ms);
        }
    }
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;
    ~Trace() { end(); }

private:
    void end() {
        kill(pid_, SIGINT);
        waitpid(pid_, nullptr, 0);
    }
    pid_t pid_ = 0;
};

double switches(int pid, const std::string& field) {
    double all = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
        all += proc_field(task.path() / "status", field);
    }
    return all;
}

std::string per_start(double voluntary, double involuntary) {
    return format("%.1f; ", voluntary / kAtOnce) + format("%.1f", involuntary / kAtOnce);
}

}  // namespace

void one_start_counted(Daemon& daemon, const Place& place, Report& report) {
    const std::string file = place.dir + "/strace";
    const std::string pid = std::to_string(daemon.pid());
    start_session(daemon.api(), place, kServer);
    settle(kAfterwards);

    double answered = 0;
    {
        const Trace trace(file, daemon.pid());
        start_session(daemon.api(), place, kServer);
        answered = wall_seconds();
        settle(kAfterwards);
    }
    const Counts until = counts(file, answered), all = counts(file, answered + 1e6);
    report.heading("one warm start, counted");
    report.row("daemon's system calls from the request to the reply", listed(until));
    report.row("and with the 400 ms after it (the next spare session)", listed(all));
    report.at_most("fork, exec: daemon, all of it", "%.0f", sum(all, kProcesses), 0);
    report.at_most("file syncs before the reply", "%.0f", sum(until, kSyncs), 1);
    report.row("file syncs in the 400 ms after it", std::to_string(sum(all, kSyncs) - sum(until, kSyncs)));

    const double voluntary = switches(daemon.pid(), "voluntary_ctxt_switches:");
    const double involuntary = switches(daemon.pid(), "nonvoluntary_ctxt_switches:");
    for (int i = 0; i < kAtOnce; ++i) {
        start_session(daemon.api(), place, kServer);
        settle(kAfterwards);
    }
    report.row("daemon's context switches for one start and what follows: voluntary; not",
               per_start(switches(daemon.pid(), "voluntary_ctxt_switches:") - voluntary,
                         switches(daemon.pid(), "nonvoluntary_ctxt_switches:") - involuntary));

    const Words start{"cmctl", "start", "--ctx", place.ctx(kServer), "sleep", "900"};
    Words traced{"strace", "-f", "-ttt", "-o", file};
    traced.insert(traced.end(), start.begin(), start.end());
    run(place.dir, traced);
    Counts client = counts(file, wall_seconds());
    report.row("`cmctl start`'s system calls", listed(client));
    const int others = sum(client, kProcesses) - 1;  // its own exec
    report.at_most("fork, exec: cmctl, less its own exec", "%.0f", others, 0);
    report.at_most("file syncs of cmctl", "%.0f", sum(client, kSyncs), 0);
    rusage before{}, after{};
    getrusage(RUSAGE_CHILDREN, &before);
    for (int i = 0; i < kAtOnce; ++i) {
        run(place.dir, start);
    }
    getrusage(RUSAGE_CHILDREN, &after);
    report.row("`cmctl start`'s context switches: voluntary; not",
               per_start(static_cast<double>(after.ru_nvcsw - before.ru_nvcsw),
                         static_cast<double>(after.ru_nivcsw - before.ru_nivcsw)));
    end_sessions(daemon.api(), place, kServer);
    disconnect(daemon.api(), place, kServer);
}

void client_program(const Place& place, Report& report) {
    Samples version, nothing;
    for (int i = 0; i < 40; ++i) {
        version.ms.push_back(in_a_row([&] { return run(place.dir, {"cmctl", "version"}); }));
        nothing.ms.push_back(in_a_row([&] { return run(place.dir, {"true"}); }));
    }
    report.heading("cmctl");
    report.row("`true`, from posix_spawn to its end (the floor)", format("%.2f ms", nothing.median()));
    report.at_most("`cmctl version`, the same", "%.2f ms", version.median(), 2);
    for (const std::string program : {"cmctl", "cmsshd"}) {
        std::string path;
        std::istringstream parts(std::getenv("PATH"));
        for (std::string part; path.empty() && std::getline(parts, part, ':');) {
            if (access((part + "/" + program).c_str(), X_OK) == 0) {
                path = part + "/" + program;
            }
        }
        run(place.dir, {"strip", "-o", place.dir + "/stripped", path});
        const double size = static_cast<double>(std::filesystem::file_size(place.dir + "/stripped")) / 1e6;
        if (program == "cmctl") {
            report.at_most("`cmctl`, stripped", "%.2f MB", size, 5);
        } else {
            report.row("`cmsshd`, stripped", format("%.2f MB", size));
        }
    }
}

}  // namespace bench
