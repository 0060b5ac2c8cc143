// Times cmssh and what people use without it, side by side: every round runs each operation once, in a rotating
// order, so that whatever else the machine does falls on all of them. Processes are timed from posix_spawn to their
// end, API calls from the request's first byte to the reply's last on a kept socket.
//
// Started by tests/bench/run, which has made the servers (packaging/demo-servers.sh) and cleans up after us.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "daemon/ssh/mux_client.hpp"
#include "tests/bench/delay_proxy.hpp"

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;
using namespace std::chrono_literals;

constexpr auto kRoundTrip = 50ms;
constexpr int kStepLimitMs = 60'000;  // no single step takes a second; more than this is a hang
constexpr const char* kTmuxScreen = "\033[?1049h";
constexpr int kThroughputRounds = 9;
constexpr int kSessionsAtOnce = 5;  // rounds between clean-ups: tmux gets slower with every session it has

double ms_since(Clock::time_point from) {
    return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

// Lets the shell that the last operation has left starting up in a session get out of the next one's way.
void settle(std::chrono::milliseconds pause = 60ms) {
    std::this_thread::sleep_for(pause);
}

std::string joined(const Words& words) {
    std::string line;
    for (const auto& word : words) {
        line += (line.empty() ? "" : " ") + word;
    }
    return line;
}

std::string contents(const std::filesystem::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

struct Setup {
    std::string dir;       // the servers' directory
    std::string port;      // of the private sshd
    std::string far_port;  // of the proxy in front of server 3
    std::string user;
    int rounds = 30;
    bool peers_only = false;
};

// Runs a program to its end and gives its time; its output goes to a file, looked at only where it failed.
double run(const Setup& setup, const Words& words, const Words& extra_environment = {}) {
    std::vector<char*> argv;
    for (const auto& word : words) {
        argv.push_back(const_cast<char*>(word.c_str()));
    }
    argv.push_back(nullptr);
    std::vector<char*> environment;
    for (const auto& entry : extra_environment) {
        environment.push_back(const_cast<char*>(entry.c_str()));
    }
    for (char** entry = environ; *entry != nullptr; ++entry) {
        environment.push_back(*entry);
    }
    environment.push_back(nullptr);
    const std::string output = setup.dir + "/output";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);

    const auto began = Clock::now();
    pid_t pid = 0;
    const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        throw std::runtime_error(words[0] + ": " + std::strerror(error));
    }
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    pollfd ended{pidfd, POLLIN, 0};
    const bool in_time = poll(&ended, 1, kStepLimitMs) == 1;
    if (!in_time) {
        kill(pid, SIGKILL);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    const double took = ms_since(began);
    close(pidfd);
    if (!in_time || status != 0) {
        throw std::runtime_error(joined(words) + (in_time ? " failed:\n" : " did not end:\n") + contents(output));
    }
    return took;
}

// Runs a program on a terminal of its own and gives the time until it prints the text; then hangs up.
double run_on_terminal(const Words& words, const std::string& text) {
    std::vector<char*> argv;
    for (const auto& word : words) {
        argv.push_back(const_cast<char*>(word.c_str()));
    }
    argv.push_back(nullptr);
    const winsize size{24, 80, 0, 0};
    int terminal = -1;
    const auto began = Clock::now();
    const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
    if (pid < 0) {
        throw std::runtime_error(std::string("forkpty: ") + std::strerror(errno));
    }
    if (pid == 0) {
        setenv("TERM", "xterm-256color", 1);
        execvp(argv[0], argv.data());
        _exit(127);
    }
    std::string printed;
    double took = 0;
    bool found = false;
    while (!found) {
        pollfd readable{terminal, POLLIN, 0};
        char bytes[4096];
        const ssize_t n = poll(&readable, 1, kStepLimitMs) == 1 ? read(terminal, bytes, sizeof bytes) : -1;
        took = ms_since(began);
        if (n <= 0) {
            break;
        }
        printed.append(bytes, static_cast<std::size_t>(n));
        found = printed.find(text) != std::string::npos;
    }
    close(terminal);
    waitpid(pid, nullptr, 0);
    if (!found) {
        throw std::runtime_error(joined(words) + " did not get there:\n" + printed);
    }
    return took;
}

class Api {
public:
    explicit Api(const std::string& path) {
        fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
            throw std::runtime_error(path + ": " + std::strerror(errno));
        }
    }
    Api(const Api&) = delete;
    Api& operator=(const Api&) = delete;
    ~Api() { close(fd_); }

    json call(const std::string& method, const json& params = json::object(), double* took = nullptr) {
        const int id = ++last_id_;
        const std::string line =
            json{{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", params}}.dump() + "\n";
        const auto began = Clock::now();
        if (send(fd_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
            throw std::runtime_error(method + ": the daemon does not take requests");
        }
        for (;;) {
            const std::string text = read_line(method);
            const double elapsed = ms_since(began);
            const json message = json::parse(text);
            if (message.contains("method")) {
                continue;  // progress
            }
            if (message.contains("error")) {
                throw std::runtime_error(method + " " + params.dump() + ": " + message["error"].dump());
            }
            if (took != nullptr) {
                *took = elapsed;
            }
            return message.at("result");
        }
    }

    double timed(const std::string& method, const json& params) {
        double took = 0;
        call(method, params, &took);
        return took;
    }

private:
    std::string read_line(const std::string& method) {
        for (;;) {
            if (const auto end = buffer_.find('\n'); end != std::string::npos) {
                std::string line = buffer_.substr(0, end);
                buffer_.erase(0, end + 1);
                return line;
            }
            pollfd readable{fd_, POLLIN, 0};
            char bytes[65536];
            const ssize_t n = poll(&readable, 1, kStepLimitMs) == 1 ? recv(fd_, bytes, sizeof bytes, 0) : -1;
            if (n <= 0) {
                throw std::runtime_error(method + ": no reply");
            }
            buffer_.append(bytes, static_cast<std::size_t>(n));
        }
    }

    int fd_ = -1;
    int last_id_ = 0;
    std::string buffer_;
};

// What `ssh -O check` asks, as the daemon asks it: its own mux client, on a control connection that it keeps.
class NativeCheck {
public:
    explicit NativeCheck(const std::string& control_path)
        : connection_(io_.get_executor(), cmssh::open_control_socket(control_path).fd) {}

    double run() {
        pid_t master = 0;
        const auto began = Clock::now();
        asio::co_spawn(io_, ask(master), [](const std::exception_ptr& failure) {
            if (failure != nullptr) {
                std::rethrow_exception(failure);
            }
        });
        io_.run();
        const double took = ms_since(began);
        io_.restart();
        if (master == 0) {
            throw std::runtime_error("no master answers the native check");
        }
        return took;
    }

private:
    asio::awaitable<void> ask(pid_t& master) {
        const auto alive = co_await connection_.alive();
        master = alive ? *alive : 0;
    }

    asio::io_context io_{1};
    cmssh::MuxConnection connection_;
};

// The mean of a few in a row: after a pause, what is measured of something this short is how fast a CPU wakes up.
template <typename Run>
double in_a_row(Run run) {
    constexpr int kTimes = 10;
    double total = 0;
    for (int i = 0; i < kTimes; ++i) {
        total += run();
    }
    return total / kTimes;
}

struct Samples {
    std::vector<double> ms;
    double at(double share) const {
        auto sorted = ms;
        std::sort(sorted.begin(), sorted.end());
        return sorted.at(static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5));
    }
    double median() const { return at(0.5); }
};

// What was measured, in the order in which the report lists it.
class Results {
public:
    void add(const std::string& name, double ms) {
        if (!samples_.contains(name)) {
            order_.push_back(name);
        }
        samples_[name].ms.push_back(ms);
    }
    bool has(const std::string& name) const { return samples_.contains(name); }
    double median(const std::string& name) const { return samples_.at(name).median(); }
    const Samples& of(const std::string& name) const { return samples_.at(name); }
    const Words& names() const { return order_; }

private:
    std::map<std::string, Samples> samples_;
    Words order_;
};

struct Operation {
    std::string name;
    std::function<double()> run;
};

void measure(Results& results, const std::vector<Operation>& operations, int rounds,
             const std::function<void()>& clean) {
    for (const auto& operation : operations) {  // once unmeasured: files into the cache, first-use work done
        operation.run();
        settle();
    }
    clean();
    for (int round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < operations.size(); ++i) {
            const auto& operation = operations[(i + static_cast<std::size_t>(round)) % operations.size()];
            settle();
            results.add(operation.name, operation.run());
        }
        if ((round + 1) % kSessionsAtOnce == 0) {
            clean();
        }
    }
    clean();
}

class Bench {
public:
    explicit Bench(Setup setup) : setup_(std::move(setup)) {
        if (!setup_.peers_only) {
            start_daemon();
        }
    }

    void all() {
        near("skel", "1", setup_.rounds);
        near("slow", "2", std::max(5, setup_.rounds / 2));
        throughput();
        far();
        if (api_) {
            ten_masters();
        }
    }

    std::string report() const;

private:
    // The peers' way to server N (127.0.0.N), over a master of their own at `control`, or none.
    Words ssh(const std::string& n, const std::string& control, const Words& rest) const {
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
    static std::string context(const std::string& n) { return n == "far" ? "far" : "server-" + n; }
    std::string home_of(const std::string& n) const { return setup_.dir + "/server-" + (n == "far" ? "3" : n); }

    void start_daemon() {
        std::ofstream config(setup_.dir + "/home/.config/cmssh/config.toml");
        config << "[ssh]\noptions = [\"-F\", \"" << setup_.dir << "/ssh_config\"]\n";
        for (int n = 1; n <= 10; ++n) {
            config << "[contexts.server-" << n << "]\nhost = \"127.0.0." << n << "\"\nport = " << setup_.port
                   << "\nuser = \"" << setup_.user << "\"\n";
        }
        config << "[contexts.far]\nhost = \"127.0.0.1\"\nport = " << setup_.far_port << "\nuser = \"" << setup_.user
               << "\"\n";
        config.close();
        run(setup_, {"cmctl", "daemon", "start"});
        api_ = std::make_unique<Api>(setup_.dir + "/run/cmssh/cmsshd.sock");
    }

    void end_our_sessions() {
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
    // The keeper stays, as ours does: a tmux server without a session would end, and the next start pay for it.
    void end_peer_sessions(const std::string& name, const std::string& tmux_directory) {
        run(setup_, {"tmux", "-L", name, "kill-session", "-a", "-t", "=keeper"}, {"TMUX_TMPDIR=" + tmux_directory});
    }

    double start_by_api(const std::string& n) {
        return api_->timed("start", {{"ctx", context(n)}, {"command", {"sleep", "300"}}});
    }
    // The second of two: no spare session is ready for it.
    double second_start_by_api(const std::string& n) {
        start_by_api(n);
        return start_by_api(n);
    }
    Words cmctl_start(const std::string& n) const { return {"cmctl", "start", "--ctx", context(n), "sleep", "300"}; }

    // Until tmux's first bytes are on the terminal.
    double cmctl_attach(const std::string& n) {
        const json started = api_->call("start", {{"ctx", context(n)}, {"command", {"sleep", "300"}}});
        settle(300ms);
        return run_on_terminal({"cmctl", "attach", started.at("session").at("id").get<std::string>()}, kTmuxScreen);
    }
    double ssh_attach(const std::string& n) const {
        return run_on_terminal(ssh(n, n, {"-t", "tmux", "-L", "peer", "attach", "-t", "keeper"}), kTmuxScreen);
    }

    static Words cmctl_exec(const std::string& n, const Words& command) {
        Words words{"cmctl", "exec", "--ctx", context(n)};
        words.insert(words.end(), command.begin(), command.end());
        return words;
    }

    static Words tmux_start(const std::string& name) {
        return {"tmux", "-L", name, "new-session", "-d", "sleep", "300"};
    }

    void begin_peer(const std::string& n) {
        run(setup_, ssh(n, n, {"-fNM", "-oControlPersist=yes"}));
        run(setup_, ssh(n, n, {"tmux", "-L", "peer", "new-session", "-d", "-s", "keeper", "cat"}));
    }
    // Had its master gone, ssh would have logged in for each command without a word.
    void end_peer(const std::string& n) {
        run(setup_, ssh(n, n, {"-Ocheck"}));
        run(setup_, ssh(n, n, {"tmux", "-L", "peer", "kill-server"}));
        run(setup_, ssh(n, n, {"-Oexit"}));
    }

    void cold_start_by_api(const std::string& name, const std::string& n) {
        end_our_sessions();
        api_->call("disconnect", {{"ctx", context(n)}, {"force", true}});
        settle(200ms);
        results_.add(name, start_by_api(n));
    }

    void near(const std::string& rc, const std::string& n, int rounds) {
        std::cerr << "server with rc " << rc << ", " << rounds << " rounds\n";
        const std::string local = setup_.dir + "/local-" + rc;
        std::filesystem::create_directory(local);
        const Words local_environment{"HOME=" + home_of(n), "TMUX_TMPDIR=" + local};
        begin_peer(n);
        run(setup_, {"tmux", "-L", "local", "new-session", "-d", "-s", "keeper", "cat"}, local_environment);

        std::vector<Operation> operations;
        if (api_) {
            const json connected = api_->call("connect", {{"ctx", context(n)}});
            const std::string control_path = connected.at("connection").at("control_path");
            const auto check = std::make_shared<NativeCheck>(control_path);
            operations = {
                {rc + ": native check", [check] { return in_a_row([check] { return check->run(); }); }},
                {rc + ": start, API", [=, this] { return start_by_api(n); }},
                {rc + ": start, API, back to back", [=, this] { return second_start_by_api(n); }},
                {rc + ": cmctl start", [=, this] { return run(setup_, cmctl_start(n)); }},
                {rc + ": cmctl attach", [=, this] { return cmctl_attach(n); }},
                {rc + ": cmctl exec true", [=, this] { return run(setup_, cmctl_exec(n, {"true"})); }},
                {rc + ": check, API",
                 [=, this] {
                     return api_->timed("check", {{"ctx", context(n)}});
                 }},
            };
        }
        const std::vector<Operation> peers{
            {rc + ": ssh -S ctl host tmux new-session -d",
             [=, this] { return run(setup_, ssh(n, n, tmux_start("peer"))); }},
            {rc + ": ssh -S ctl -t host tmux attach", [=, this] { return ssh_attach(n); }},
            {rc + ": ssh -S ctl host true", [=, this] { return run(setup_, ssh(n, n, {"true"})); }},
            {rc + ": cold ssh host true", [=, this] { return run(setup_, ssh(n, "", {"true"})); }},
            {rc + ": local tmux new-session -d",
             [=, this] { return run(setup_, tmux_start("local"), local_environment); }},
            {rc + ": ssh -O check",
             [=, this] { return in_a_row([=, this] { return run(setup_, ssh(n, n, {"-Ocheck"})); }); }},
        };
        operations.insert(operations.end(), peers.begin(), peers.end());
        measure(results_, operations, rounds, [&] {
            end_our_sessions();
            end_peer_sessions("peer", home_of(n));
            end_peer_sessions("local", local);
        });
        if (api_) {
            for (int i = 0; i < 5; ++i) {
                cold_start_by_api(rc + ": cold start, API", n);
            }
            end_our_sessions();
        }
        run(setup_, {"tmux", "-L", "local", "kill-server"}, local_environment);
        end_peer(n);
    }

    // Zeros from the server, thrown away here.
    void throughput() {
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
            run(setup_, {"cmctl", "connect", context("1")});
            operations.push_back(
                {"200 MB: cmctl exec", [=, this] { return run(setup_, thrown_away(cmctl_exec("1", zeros))); }});
        }
        operations.push_back(
            {"200 MB: ssh -S ctl host", [=, this] { return run(setup_, thrown_away(ssh("1", "1", zeros))); }});
        measure(results_, operations, kThroughputRounds, [] {});
        end_peer("1");
    }

    void far() {
        std::cerr << "server 50 ms away\n";
        begin_peer("far");
        std::vector<Operation> operations;
        if (api_) {
            run(setup_, {"cmctl", "connect", "far"});
            operations = {
                {"far: start, API", [this] { return start_by_api("far"); }},
                {"far: start, API, back to back", [this] { return second_start_by_api("far"); }},
                {"far: cmctl start", [this] { return run(setup_, cmctl_start("far")); }},
                {"far: cmctl attach", [this] { return cmctl_attach("far"); }},
                {"far: check, API",
                 [this] {
                     return api_->timed("check", {{"ctx", "far"}});
                 }},
            };
        }
        operations.push_back({"far: ssh -S ctl host tmux new-session -d",
                              [this] { return run(setup_, ssh("far", "far", tmux_start("peer"))); }});
        operations.push_back({"far: ssh -S ctl -t host tmux attach", [this] { return ssh_attach("far"); }});
        measure(results_, operations, 10, [this] {
            end_our_sessions();
            end_peer_sessions("peer", home_of("far"));
        });
        for (int i = 0; i < 5; ++i) {
            if (api_) {
                cold_start_by_api("far: cold start, API", "far");
            }
            settle();
            results_.add("far: cold ssh host tmux new-session -d", run(setup_, ssh("far", "", tmux_start("peer"))));
            settle();
            results_.add("far: cold ssh host true", run(setup_, ssh("far", "", {"true"})));
        }
        end_our_sessions();
        end_peer("far");
        if (api_) {
            api_->call("disconnect", {{"ctx", "far"}, {"force", true}});
        }
    }

    static double cpu_ms(const std::string& pid) {
        double total = 0;
        for (const auto& task : std::filesystem::directory_iterator("/proc/" + pid + "/task")) {
            double nanoseconds = 0;
            std::ifstream(task.path() / "schedstat") >> nanoseconds;
            total += nanoseconds / 1e6;
        }
        return total;
    }
    static double kilobytes(const std::string& file, const std::string& field) {
        std::ifstream lines(file);
        for (std::string name; lines >> name;) {
            if (name == field) {
                double value = 0;
                lines >> value;
                return value;
            }
            lines.ignore(1 << 16, '\n');
        }
        return 0;
    }

    void ten_masters() {
        std::cerr << "ten idle masters, 10 s\n";
        for (int n = 1; n <= 10; ++n) {
            api_->call("connect", {{"ctx", context(std::to_string(n))}});
        }
        settle(2s);
        const json stats = api_->call("stats");
        masters_ = stats.at("total_connections").get<int>();
        const std::string pid = std::to_string(stats.at("daemon").at("pid").get<int>());
        const double before = cpu_ms(pid);
        std::this_thread::sleep_for(10s);
        idle_cpu_ms_ = cpu_ms(pid) - before;
        rss_mib_ = kilobytes("/proc/" + pid + "/status", "VmRSS:") / 1024;
        for (const auto& connection : stats.at("connections")) {
            if (connection.at("master_pid").is_number()) {
                masters_pss_mib_ +=
                    kilobytes("/proc/" + std::to_string(connection["master_pid"].get<int>()) + "/smaps_rollup",
                              "Pss:") /
                    1024;
            }
        }
    }

    Setup setup_;
    std::unique_ptr<Api> api_;
    Results results_;
    int masters_ = 0;
    double idle_cpu_ms_ = 0, rss_mib_ = 0, masters_pss_mib_ = 0;
};

std::string format(const char* pattern, double value) {
    char text[64];
    std::snprintf(text, sizeof text, pattern, value);
    return text;
}

std::string Bench::report() const {
    std::ostringstream out;
    utsname kernel{};
    uname(&kernel);
    out << "# Benchmark\n\n"
        << std::thread::hardware_concurrency() << " cores, Linux " << kernel.release
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
                  "skel" + tmux, false, 4);
        ratio_row("the same right after another start", "skel: start, API, back to back", "skel" + tmux, false, 0);
        ratio_row("warm start, slow", "slow: start, API", "slow" + tmux, false, 20);
        ratio_row("the same, far", "far: start, API", "far" + tmux, false, 0);
        ratio_row("whole `cmctl start` / the same, skel (times faster)", "skel: cmctl start", "skel" + tmux, false, 0);
        ratio_row("whole `cmctl start` / local `tmux new-session -d` (share)", "skel: cmctl start",
                  "skel: local tmux new-session -d", true, 1.15);
        const std::string attach = ": ssh -S ctl -t host tmux attach";
        for (const std::string where : {"skel", "slow", "far"}) {
            ratio_row("`cmctl attach` until tmux is on the terminal / `ssh -S ctl -t host tmux attach`, " + where +
                          " (share)",
                      where + ": cmctl attach", where + attach, true, 0);
        }
        if (r.has("far: cmctl attach")) {
            const double more = r.median("far: cmctl attach") - r.median("far" + attach);
            const double trip = std::chrono::duration<double, std::milli>(kRoundTrip).count();
            out << "| the same, far, in round trips more than it | " << format("%.2f", more / trip)
                << " | | | at most 1" << (more > trip ? ", **missed**" : "") << " |\n";
        }
        for (const std::string rc : {"skel", "slow"}) {
            ratio_row("`cmctl exec true` / `ssh -S ctl host true`, " + rc + " (share)", rc + ": cmctl exec true",
                      rc + ": ssh -S ctl host true", true, 1);
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

}  // namespace

int main(int argc, char** argv) {
    if (argc != 6) {
        std::cerr << "started by tests/bench/run\n";
        return 2;
    }
    try {
        Setup setup;
        setup.dir = argv[1];
        setup.port = argv[2];
        setup.rounds = std::stoi(argv[3]);
        setup.peers_only = std::string(argv[4]) == "peers";
        setup.user = getpwuid(getuid())->pw_name;
        const bench::DelayProxy proxy("127.0.0.3", static_cast<std::uint16_t>(std::stoi(setup.port)), kRoundTrip);
        setup.far_port = std::to_string(proxy.port());
        Bench bench(setup);
        bench.all();
        const std::string report = bench.report();
        std::ofstream(argv[5]) << report;
        std::cout << report << std::flush;
        // the proxy's threads wait for connections that are gone
        std::_Exit(0);
    } catch (const std::exception& error) {
        std::cerr << "bench: " << error.what() << "\n";
        std::_Exit(1);
    }
}
