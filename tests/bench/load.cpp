#include "tests/bench/load.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <utility>

namespace bench {

using nlohmann::json;
using namespace std::chrono_literals;

Daemon::Daemon(const Place& place) : place_(place) {}

Daemon::~Daemon() {
    end(SIGTERM);
}

void Daemon::end(int signal) {
    api_.reset();
    if (pid_ > 0) {
        kill(pid_, signal);
        waitpid(pid_, nullptr, 0);
    }
    pid_ = -1;
}

double Daemon::start() {
    const std::string log = place_.dir + "/cmsshd.log";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    std::string program = "cmsshd";
    char* argv[] = {program.data(), nullptr};
    const auto began = Clock::now();
    const int error = posix_spawnp(&pid_, argv[0], &actions, nullptr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        throw std::runtime_error("cmsshd does not start");
    }
    while (!api_) {
        try {
            api_ = std::make_unique<Api>(place_.socket());
        } catch (const std::runtime_error&) {
            if (ms_since(began) > kStepLimitMs || waitpid(pid_, nullptr, WNOHANG) != 0) {
                throw std::runtime_error("cmsshd does not serve:\n" + contents(log));
            }
            settle(1ms);
        }
    }
    api_->call("ping");
    return ms_since(began);
}

double Daemon::kill_and_start() {
    end(SIGKILL);
    // The servers are on this machine too, and 200 of them notice that their clients are gone.
    settle_until_idle(20s);
    return start();
}

void Daemon::start_anew() {
    end(SIGTERM);
    std::filesystem::remove_all(place_.dir + "/home/.local/state/cmssh");
    start();
}

double Daemon::rss_mib() const {
    return proc_field("/proc/" + std::to_string(pid_) + "/status", "VmRSS:") / 1024;
}

namespace {

json start_params(const Place& place, int n) {
    return {{"ctx", place.ctx(n)}, {"command", {"sleep", "900"}}};
}

}  // namespace

double start_session(Api& api, const Place& place, int n) {
    return api.timed("start", start_params(place, n));
}

void start_sessions(Api& api, const Place& place, int first, int last, int each) {
    constexpr int kInFlight = 32;
    const int all = (last - first + 1) * each;
    for (int posted = 0, taken = 0; taken < all;) {
        if (posted < all && posted - taken < kInFlight) {
            api.post("start", start_params(place, first + posted % (last - first + 1)));
            ++posted;
        } else {
            api.take();
            ++taken;
        }
    }
}

void end_sessions(Api& api, const Place& place, int n) {
    const json listed = api.call("list", n == 0 ? json::object() : json{{"ctx", place.ctx(n)}});
    const auto& sessions = listed.at("sessions");
    constexpr std::size_t kInFlight = 32;
    for (const std::string method : {"kill", "wait"}) {
        std::size_t posted = 0;
        for (std::size_t taken = 0; taken < sessions.size();) {
            if (posted < sessions.size() && posted - taken < kInFlight) {
                json params{{"session", sessions[posted++].at("id")}};
                if (method == "wait") {
                    params["timeout_ms"] = 30'000;
                }
                api.post(method, params);
            } else {
                api.take();
                ++taken;
            }
        }
    }
}

void connect_servers(Api& api, const Place& place, int first, int last) {
    for (int n = first; n <= last; ++n) {
        api.post("connect", {{"ctx", place.ctx(n)}});
    }
    for (int n = first; n <= last; ++n) {
        api.take();
    }
}

void disconnect(Api& api, const Place& place, int n) {
    api.call("disconnect", {{"ctx", place.ctx(n)}, {"force", true}});
}

}  // namespace bench
