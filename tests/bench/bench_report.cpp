#include <sstream>

#include "tests/bench/bench.hpp"

namespace bench {

std::string Bench::report() const {
    std::ostringstream out;
    out << "# Benchmark\n\n"
        << machine()
        << ", loopback. \"skel\": the server's bash starts with /etc/skel's rc; \"slow\": the same and 100 ms of "
           "waiting; \"far\": "
           "skel behind a proxy with a round trip of 50 ms.\n\n";

    const auto& r = results_;
    const auto ratio_row = [&](const std::string& what, const std::string& ours, const std::string& peer,
                               bool ours_over_peer, double goal) {
        if (!r.has(ours) || !r.has(peer)) {
            return;
        }
        const double a = r.median(ours), b = r.median(peer);
        const double ratio = ours_over_peer ? a / b : b / a;
        const bool reached = ours_over_peer ? ratio <= goal : ratio >= goal;
        out << "| " << what << " | " << format("%.2f ms", a) << " | " << format("%.2f ms", b) << " | "
            << format("%.2f", ratio) << " | "
            << (goal == 0 ? ""
                          : (ours_over_peer ? "at most " : "at least ") + format("%g", goal) +
                                (reached ? "" : ", **missed**"))
            << " |\n";
    };
    if (api_) {
        out << "| ours against theirs | ours | theirs | ratio | wanted |\n|---|---|---|---|---|\n";
        const std::string tmux = ": ssh -S ctl host tmux new-session -d";
        ratio_row("warm start, API / `ssh -S ctl host tmux new-session -d`, skel (times faster)", "skel: start, API",
                  "skel" + tmux, false, 5);
        ratio_row("the same right after another start", "skel: start, API, back to back", "skel" + tmux, false, 0);
        ratio_row("warm start, slow", "slow: start, API", "slow" + tmux, false, 30);
        ratio_row("the same, far", "far: start, API", "far" + tmux, false, 0);
        const std::string python = ": python3, ssh -O check and ssh -S ctl host tmux new-session -d";
        ratio_row("whole `cmctl start` / python3 that runs `ssh -O check`, then that, skel (times faster)",
                  "skel: cmctl start", "skel" + python, false, 0);
        ratio_row("the same, slow", "slow: cmctl start", "slow" + python, false, 0);
        ratio_row("the same, far", "far: cmctl start", "far" + python, false, 0);
        ratio_row("first start after the daemon's, with `prewarm` / a warm start (share)",
                  "skel: first start after the daemon's, prewarm, API", "skel: start, API", true, 1.1);
        ratio_row("whole `cmctl start` / `ssh -S ctl host tmux new-session -d`, skel (times faster)",
                  "skel: cmctl start", "skel" + tmux, false, 0);
        ratio_row("the same, slow", "slow: cmctl start", "slow" + tmux, false, 0);
        ratio_row("whole `cmctl start` / local `tmux new-session -d` (share)", "skel: cmctl start",
                  "skel: local tmux new-session -d", true, 1);
        const std::string attach = ": ssh -S ctl -t host tmux attach";
        for (const std::string where : {"skel", "slow", "far"}) {
            ratio_row("`cmctl attach` until tmux is on the terminal / `ssh -S ctl -t host tmux attach`, " + where +
                          " (share)",
                      where + ": cmctl attach", where + attach, true, 0);
        }
        // What either takes by itself, nearby, is no round trip. A trip of the proxy is a little longer than it says.
        const auto trips_row = [&](const std::string& what, const std::string& ours, const std::string& theirs) {
            if (r.has("far" + ours)) {
                const double trip = std::chrono::duration<double, std::milli>(kRoundTrip).count();
                const double all = (r.median("far" + ours) - r.median("far" + theirs)) / trip;
                const double nearby = (r.median("skel" + ours) - r.median("skel" + theirs)) / trip;
                const double more = all - nearby;
                out << "| " << what << ", in round trips more than it; less what it is more nearby | "
                    << format("%.2f; ", all) << format("%.2f", more) << " | | | at most 1 (1.1)"
                    << (more > 1.1 ? ", **missed**" : "") << " |\n";
            }
        };
        trips_row("the same, far", ": cmctl attach", attach);
        for (const std::string rc : {"skel", "slow"}) {
            ratio_row("`cmctl exec true` / `ssh -S ctl host true`, " + rc + " (share)", rc + ": cmctl exec true",
                      rc + ": ssh -S ctl host true", true, 0.9);
        }
        ratio_row("200 MB through `cmctl exec` / `ssh -S ctl host` (share of its throughput)", "200 MB: cmctl exec",
                  "200 MB: ssh -S ctl host", false, 0.95);
        ratio_row("native check / `ssh -O check` (times faster)", "skel: native check", "skel: ssh -O check", false,
                  40);
        ratio_row("`check` of the API, through to the server's tmux / `ssh -O check` (times faster)",
                  "skel: check, API", "skel: ssh -O check", false, 0);
        ratio_row("cold start, API / cold `ssh host true`, skel (share)", "skel: cold start, API",
                  "skel: cold ssh host true", true, 0);
        ratio_row("cold start, API / cold `ssh host tmux new-session -d`, far (share)", "far: cold start, API",
                  "far: cold ssh host tmux new-session -d", true, 0);
        trips_row("cold start, API / cold `ssh host true`, far", ": cold start, API", ": cold ssh host true");
        out << "\n";
    }

    const double round_trip = std::chrono::duration<double, std::milli>(kRoundTrip).count();
    out << "| far, in round trips of 50 ms | all | less the time it takes nearby |\n|---|---|---|\n";
    for (const auto& name : r.names()) {
        if (name.rfind("far: ", 0) != 0) {
            continue;
        }
        const std::string nearby = "skel" + name.substr(3);
        out << "| " << name.substr(5) << " | " << format("%.2f", r.median(name) / round_trip) << " | "
            << (r.has(nearby) ? format("%.2f", (r.median(name) - r.median(nearby)) / round_trip) : "") << " |\n";
    }

    if (masters_ != 0) {
        out << "\n| cmsshd with " << masters_ << " idle masters | | wanted |\n|---|---|---|\n| RSS | "
            << format("%.1f MiB", rss_mib_) << " | under 20 MB |\n| CPU time in 10 s | "
            << format("%.1f ms", idle_cpu_ms_) << " | not measurable |\n| the masters themselves, PSS | "
            << format("%.1f MiB", masters_pss_mib_) << " | |\n";
    }

    out << "\n| all medians | median ms | p10 | p90 | n |\n|---|---|---|---|---|\n";
    for (const auto& name : r.names()) {
        const auto& samples = r.of(name);
        out << "| " << name << " | " << format("%.2f", samples.median()) << " | " << format("%.2f", samples.at(0.1))
            << " | " << format("%.2f", samples.at(0.9)) << " | " << samples.ms.size() << " |\n";
    }
    return out.str();
}

}  // namespace bench
