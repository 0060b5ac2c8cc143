#include "tests/bench/bench.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <utility>

#include "tests/bench/native_check.hpp"

namespace bench {

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

constexpr const char* kTmuxScreen = "\033[?1049h";
constexpr int kThroughputRounds = 9, kColdRounds = 15;
constexpr const char* kPrewarmed = "10";  // the one with prewarm = true

}  // namespace

Bench::Bench(Setup setup) : setup_(std::move(setup)) {
    if (!setup_.peers_only) {
        start_daemon();
    }
}

void Bench::all() {
    near("skel", "1", setup_.rounds);
    near("slow", "2", std::max(5, setup_.rounds / 2));
    throughput();
    far();
    if (api_) {
        ten_masters();
    }
}

Words Bench::ssh(const std::string& n, const std::string& control, const Words& rest) const {
    const bool is_far = n == "far";
    Words words{"ssh", "-F", setup_.dir + "/ssh_config", "-p", is_far ? setup_.far_port : setup_.port};
    if (!control.empty()) {
        words.insert(words.end(), {"-S", setup_.dir + "/peer-" + control});
    }
    // -O and -N take no command: the host ends such a line
    const bool host_last = !rest.empty() && rest[0][0] == '-' && rest[0] != "-t";
    const std::string host = "127.0.0." + (is_far ? "1" : n);
    if (!host_last) {
        words.push_back(host);
    }
    words.insert(words.end(), rest.begin(), rest.end());
    if (host_last) {
        words.push_back(host);
    }
    return words;
}

void Bench::start_daemon() {
    std::ofstream config(setup_.dir + "/home/.config/cmssh/config.toml");
    config << "[ssh]\noptions = [\"-F\", \"" << setup_.dir << "/ssh_config\"]\n";
    for (int n = 1; n <= 10; ++n) {
        config << "[contexts.server-" << n << "]\nhost = \"127.0.0." << n << "\"\nport = " << setup_.port
               << "\nuser = \"" << setup_.user << "\"\n";
    }
    config << "prewarm = true\n";  // of the last
    config << "[contexts.far]\nhost = \"127.0.0.1\"\nport = " << setup_.far_port << "\nuser = \"" << setup_.user
           << "\"\n";
    config.close();
    run(setup_.dir, {"cmctl", "daemon", "start"});
    api_ = std::make_unique<Api>(setup_.dir + "/run/cmssh/cmsshd.sock");
}

void Bench::end_our_sessions() {
    if (!api_) {
        return;
    }
    const json listed = api_->call("list");
    for (const auto& session : listed.at("sessions")) {
        api_->call("kill", {{"session", session.at("id")}});
    }
    for (const auto& session : listed.at("sessions")) {
        api_->call("wait", {{"session", session.at("id")}, {"timeout_ms", 20'000}});
    }
}

void Bench::end_peer_sessions(const std::string& name, const std::string& tmux_directory) {
    run(setup_.dir, {"tmux", "-L", name, "kill-session", "-a", "-t", "=keeper"}, {"TMUX_TMPDIR=" + tmux_directory});
}

double Bench::start_by_api(const std::string& n) {
    return api_->timed("start", {{"ctx", context(n)}, {"command", {"sleep", "300"}}});
}

double Bench::second_start_by_api(const std::string& n) {
    start_by_api(n);
    return start_by_api(n);
}

double Bench::cmctl_attach(const std::string& n) {
    const json started = api_->call("start", {{"ctx", context(n)}, {"command", {"sleep", "300"}}});
    settle(300ms);
    return run_on_terminal({"cmctl", "attach", started.at("session").at("id").get<std::string>()}, kTmuxScreen);
}

double Bench::ssh_attach(const std::string& n) const {
    return run_on_terminal(ssh(n, n, {"-t", "tmux", "-L", "peer", "attach", "-t", "keeper"}), kTmuxScreen);
}

Words Bench::cmctl_exec(const std::string& n, const Words& command) {
    Words words{"cmctl", "exec", "--ctx", context(n)};
    words.insert(words.end(), command.begin(), command.end());
    return words;
}

void Bench::begin_peer(const std::string& n) {
    run(setup_.dir, ssh(n, n, {"-fNM", "-oControlPersist=yes"}));
    run(setup_.dir, ssh(n, n, {"tmux", "-L", "peer", "new-session", "-d", "-s", "keeper", "cat"}));
}

// Had its master gone, ssh would have logged in for each command without a word.
void Bench::end_peer(const std::string& n) {
    run(setup_.dir, ssh(n, n, {"-Ocheck"}));
    run(setup_.dir, ssh(n, n, {"tmux", "-L", "peer", "kill-server"}));
    run(setup_.dir, ssh(n, n, {"-Oexit"}));
}

double Bench::python_start(const std::string& n) const {
    const char* program =
        "import json, subprocess, sys\n"
        "check, start = json.loads(sys.argv[1])\n"
        "subprocess.run(check, check=True, capture_output=True)\n"
        "subprocess.run(start, check=True, capture_output=True)\n";
    const json steps{ssh(n, n, {"-Ocheck"}), ssh(n, n, tmux_start("peer"))};
    // Debian's own: what PATH has may be a version manager's script, which takes longer than all of this.
    return run(setup_.dir, {"/usr/bin/python3", "-c", program, steps.dump()});
}

double Bench::prewarmed_start_by_api() {
    api_->call("disconnect", {{"ctx", context(kPrewarmed)}, {"force", true}});
    api_.reset();
    run(setup_.dir, {"cmctl", "daemon", "stop"});
    run(setup_.dir, {"cmctl", "daemon", "start"});
    api_ = std::make_unique<Api>(setup_.dir + "/run/cmssh/cmsshd.sock");
    const auto is_up = [this] {
        const auto stats = api_->call("stats");
        const auto& connections = stats.at("connections");
        return std::any_of(connections.begin(), connections.end(), [](const auto& it) {
            return it.at("server").at("host") == std::string("127.0.0.") + kPrewarmed && it.at("state") == "up";
        });
    };
    for (const auto began = Clock::now(); !is_up(); settle(20ms)) {
        if (ms_since(began) > kStepLimitMs) {
            throw std::runtime_error("a server with prewarm is not connected");
        }
    }
    settle(500ms);
    const double took = start_by_api(kPrewarmed);
    end_our_sessions();
    return took;
}

void Bench::cold_start_by_api(const std::string& name, const std::string& n) {
    end_our_sessions();
    api_->call("disconnect", {{"ctx", context(n)}, {"force", true}});
    settle(200ms);
    results_.add(name, start_by_api(n));
}

void Bench::near(const std::string& rc, const std::string& n, int rounds) {
    std::cerr << "server with rc " << rc << ", " << rounds << " rounds\n";
    const std::string local = setup_.dir + "/local-" + rc;
    std::filesystem::create_directory(local);
    const Words local_environment{"HOME=" + home_of(n), "TMUX_TMPDIR=" + local};
    begin_peer(n);
    run(setup_.dir, {"tmux", "-L", "local", "new-session", "-d", "-s", "keeper", "cat"}, local_environment);

    std::vector<Operation> operations;
    if (api_) {
        const json connected = api_->call("connect", {{"ctx", context(n)}});
        const std::string control_path = connected.at("connection").at("control_path");
        const auto check = std::make_shared<NativeCheck>(control_path);
        operations = {
            {rc + ": native check", [check] { return in_a_row([check] { return check->run(); }); }},
            {rc + ": start, API", [=, this] { return start_by_api(n); }},
            {rc + ": start, API, back to back", [=, this] { return second_start_by_api(n); }},
            {rc + ": cmctl start", [=, this] { return run(setup_.dir, cmctl_start(n)); }},
            {rc + ": cmctl attach", [=, this] { return cmctl_attach(n); }},
            {rc + ": cmctl exec true", [=, this] { return run(setup_.dir, cmctl_exec(n, {"true"})); }},
            {rc + ": check, API",
             [=, this] {
                 return api_->timed("check", {{"ctx", context(n)}});
             }},
        };
    }
    const std::vector<Operation> peers{
        {rc + ": ssh -S ctl host tmux new-session -d",
         [=, this] { return run(setup_.dir, ssh(n, n, tmux_start("peer"))); }},
        {rc + ": python3, ssh -O check and ssh -S ctl host tmux new-session -d", [=, this] { return python_start(n); }},
        {rc + ": ssh -S ctl -t host tmux attach", [=, this] { return ssh_attach(n); }},
        {rc + ": ssh -S ctl host true", [=, this] { return run(setup_.dir, ssh(n, n, {"true"})); }},
        {rc + ": local tmux new-session -d",
         [=, this] { return run(setup_.dir, tmux_start("local"), local_environment); }},
        {rc + ": ssh -O check",
         [=, this] { return in_a_row([=, this] { return run(setup_.dir, ssh(n, n, {"-Ocheck"})); }); }},
    };
    operations.insert(operations.end(), peers.begin(), peers.end());
    measure(results_, operations, rounds, [&] {
        end_our_sessions();
        end_peer_sessions("peer", home_of(n));
        end_peer_sessions("local", local);
    });
    for (int i = 0; i < kColdRounds; ++i) {
        if (api_) {
            cold_start_by_api(rc + ": cold start, API", n);
        }
        settle();
        results_.add(rc + ": cold ssh host true", run(setup_.dir, ssh(n, "", {"true"})));
    }
    if (api_) {
        end_our_sessions();
        for (int i = 0; i < 5 && rc == "skel"; ++i) {
            results_.add(rc + ": first start after the daemon's, prewarm, API", prewarmed_start_by_api());
        }
    }
    run(setup_.dir, {"tmux", "-L", "local", "kill-server"}, local_environment);
    end_peer(n);
}

// Zeros from the server, thrown away here.
void Bench::throughput() {
    std::cerr << "200 MB, " << kThroughputRounds << " rounds\n";
    const Words zeros{"head", "-c", "200000000", "/dev/zero"};
    const auto thrown_away = [](const Words& words) {
        Words all{"sh", "-c", "exec \"$@\" >/dev/null", "sh"};
        all.insert(all.end(), words.begin(), words.end());
        return all;
    };
    begin_peer("1");
    std::vector<Operation> operations;
    if (api_) {
        run(setup_.dir, {"cmctl", "connect", context("1")});
        operations.push_back(
            {"200 MB: cmctl exec", [=, this] { return run(setup_.dir, thrown_away(cmctl_exec("1", zeros))); }});
    }
    operations.push_back(
        {"200 MB: ssh -S ctl host", [=, this] { return run(setup_.dir, thrown_away(ssh("1", "1", zeros))); }});
    measure(results_, operations, kThroughputRounds, [] {});
    end_peer("1");
}

void Bench::far() {
    std::cerr << "server 50 ms away\n";
    begin_peer("far");
    std::vector<Operation> operations;
    if (api_) {
        run(setup_.dir, {"cmctl", "connect", "far"});
        operations = {
            {"far: start, API", [this] { return start_by_api("far"); }},
            {"far: start, API, back to back", [this] { return second_start_by_api("far"); }},
            {"far: cmctl start", [this] { return run(setup_.dir, cmctl_start("far")); }},
            {"far: cmctl attach", [this] { return cmctl_attach("far"); }},
            {"far: check, API",
             [this] {
                 return api_->timed("check", {{"ctx", "far"}});
             }},
        };
    }
    operations.push_back({"far: ssh -S ctl host tmux new-session -d",
                          [this] { return run(setup_.dir, ssh("far", "far", tmux_start("peer"))); }});
    operations.push_back(
        {"far: python3, ssh -O check and ssh -S ctl host tmux new-session -d", [this] { return python_start("far"); }});
    operations.push_back({"far: ssh -S ctl -t host tmux attach", [this] { return ssh_attach("far"); }});
    measure(results_, operations, 10, [this] {
        end_our_sessions();
        end_peer_sessions("peer", home_of("far"));
    });
    for (int i = 0; i < kColdRounds; ++i) {
        if (api_) {
            cold_start_by_api("far: cold start, API", "far");
        }
        settle();
        results_.add("far: cold ssh host tmux new-session -d", run(setup_.dir, ssh("far", "", tmux_start("peer"))));
        settle();
        results_.add("far: cold ssh host true", run(setup_.dir, ssh("far", "", {"true"})));
    }
    end_our_sessions();
    end_peer("far");
    if (api_) {
        api_->call("disconnect", {{"ctx", "far"}, {"force", true}});
    }
}

void Bench::ten_masters() {
    std::cerr << "ten idle masters, 10 s\n";
    for (int n = 1; n <= 10; ++n) {
        api_->call("connect", {{"ctx", context(std::to_string(n))}});
    }
    settle(2s);
    const json stats = api_->call("stats");
    masters_ = stats.at("total_connections").get<int>();
    const int pid = stats.at("daemon").at("pid").get<int>();
    const double before = cpu_ms(pid);
    settle(10s);
    idle_cpu_ms_ = cpu_ms(pid) - before;
    rss_mib_ = proc_field("/proc/" + std::to_string(pid) + "/status", "VmRSS:") / 1024;
    for (const auto& connection : stats.at("connections")) {
        if (connection.at("master_pid").is_number()) {
            masters_pss_mib_ +=
                proc_field("/proc/" + std::to_string(connection["master_pid"].get<int>()) + "/smaps_rollup", "Pss:") /
                1024;
        }
    }
}

}  // namespace bench
