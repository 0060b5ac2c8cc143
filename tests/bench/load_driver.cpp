// Measures cmssh under load. Started by tests/bench/run, which has made the servers and ends what is left.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>

#include "tests/bench/load.hpp"
#include "tests/bench/results.hpp"

namespace bench {
namespace {

constexpr rlim_t kDescriptors = 4096;  // 1,000 clients; a local tmux with 1,000 sessions

void raise_descriptors() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, std::max(limit.rlim_cur, kDescriptors));
    setrlimit(RLIMIT_NOFILE, &limit);
}

void configure(const Place& place) {
    std::ofstream(place.dir + "/home/.config/cmssh/config.toml")
        << "[ssh]\noptions = [\"-F\", \"" << place.dir << "/ssh_config\"]\n[sessions]\nshell = \"none\"\n";
}

struct Part {
    const char* name;
    std::function<void(Daemon&, const Place&, Report&)> measure;
};

int measure_all(const Place& place, Report& report, const std::string& only) {
    report.paragraph("# Load\n\n" + machine() + ". " + std::to_string(kServers) +
                     " servers on loopback, each with a tmux of its own; sessions run `sleep` without a shell.");
    configure(place);
    Daemon daemon(place);
    report.heading("start");
    report.row("daemon, from exec to the first answer, nothing to adopt", format("%.0f ms", daemon.start()));
    const std::vector<Part> parts{
        {"cmctl", [](Daemon&, const Place& here, Report& out) { client_program(here, out); }},
        {"count", one_start_counted},
        {"callers", cold_callers},
        {"row", starts_in_a_row},
        {"flight", starts_in_flight},
        {"distance", distance},
        {"masters", live_masters},
        {"reads", reads},
        {"clients", many_clients},
        {"die", masters_die},
        {"restart", restart},
    };
    if (!only.empty() && std::none_of(parts.begin(), parts.end(), [&only](const Part& part) {
            return only.find(part.name) != std::string::npos;
        })) {
        std::cerr << "load: no part is called " << only << "\n";
        return 2;
    }
    for (const auto& part : parts) {
        if (!only.empty() && only.find(part.name) == std::string::npos) {
            continue;
        }
        const auto began = Clock::now();
        try {
            part.measure(daemon, place, report);
        } catch (const std::exception& error) {
            report.note_failure(part.name, error.what());
        }
        std::cerr << part.name << ": " << format("%.1f s", ms_since(began) / 1000) << "\n";
    }
    return report.failed() ? 1 : 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
    if (argc != 4 && argc != 5) {
        std::cerr << "started by tests/bench/run\n";
        return 2;
    }
    int status = 1;
    try {
        bench::raise_descriptors();
        bench::Report report(argv[3]);
        const std::string only = argc == 5 ? argv[4] : "";
        const bench::Place place{argv[1], argv[2], only.empty() || only.find("idle") != std::string::npos};
        status = bench::measure_all(place, report, only);
    } catch (const std::exception& error) {
        std::cerr << "load: " << error.what() << "\n";
    }
    // the proxies' threads wait for connections that are gone
    std::_Exit(status);
}
