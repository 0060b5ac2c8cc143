// Reads and clients, on a daemon with 200 masters and 1,000 sessions.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/bench/load.hpp"
#include "tests/bench/results.hpp"

namespace bench {

using namespace std::chrono_literals;

namespace {

constexpr int kReads = 300;
constexpr int kClients = 1000, kSubscribed = 100;
constexpr int kStartsEach = 20, kClientRounds = 3;

// Requests are written in blocks as they are answered; replies are counted, not parsed: the daemon is measured.
double pings_per_second(const Place& place) {
    constexpr int kAll = 60'000, kBlock = 100, kWindow = 400;
    std::string block;
    for (int i = 0; i < kBlock; ++i) {
        block += R"({"jsonrpc":"2.0","id":1,"method":"ping"})"
                 "\n";
    }
    const Api api(place.socket());
    char bytes[65536];
    const auto began = Clock::now();
    for (int sent = 0, answered = 0; answered < kAll;) {
        if (sent < kAll && sent - answered <= kWindow - kBlock) {
            if (send(api.fd(), block.data(), block.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(block.size())) {
                throw std::runtime_error("the daemon does not take requests");
            }
            sent += kBlock;
            continue;
        }
        pollfd readable{api.fd(), POLLIN, 0};
        const ssize_t n = poll(&readable, 1, kStepLimitMs) == 1 ? recv(api.fd(), bytes, sizeof bytes, 0) : -1;
        if (n <= 0) {
            throw std::runtime_error("no reply to a ping");
        }
        answered += static_cast<int>(std::count(bytes, bytes + n, '\n'));
    }
    return kAll / ms_since(began) * 1000;
}

// The subscribers, in a thread of their own: woken for what they are told, they read it.
class Readers {
public:
    explicit Readers(const std::vector<std::unique_ptr<Api>>& clients) {
        for (int i = 0; i < kSubscribed; ++i) {
            clients[static_cast<std::size_t>(i)]->call("subscribe");
            polled_.push_back({clients[static_cast<std::size_t>(i)]->fd(), POLLIN, 0});
        }
        thread_ = std::jthread([this](const std::stop_token& stop) { read_until(stop); });
    }

private:
    void read_until(const std::stop_token& stop) {
        constexpr int kLookMs = 50;
        char bytes[65536];
        while (!stop.stop_requested()) {
            poll(polled_.data(), polled_.size(), kLookMs);
            for (const pollfd& each : polled_) {
                while ((each.revents & POLLIN) != 0 && recv(each.fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
                }
            }
        }
    }

    std::vector<pollfd> polled_;
    std::jthread thread_;
};

}  // namespace

void reads(Daemon& daemon, const Place& place, Report& report) {
    // The 1,000 were started just now: their shells and tmux servers have things to do.
    Samples at_once;
    for (int i = 0; i < kReads; ++i) {
        at_once.ms.push_back(daemon.api().timed("list"));
        settle(1ms);
    }
    const double busy = settle_until_idle(30s);
    report.heading("reads with 1,000 sessions on 200 servers");
    report.row("`list` right behind the starts of them, p50, p99",
               format("%.2f ms, ", at_once.median()) + format("%.2f ms", at_once.at(0.99)));
    report.row("then, the machine being busy with", format("%.0f %%", busy * 100));
    for (const std::string method : {"list", "stats"}) {
        Samples samples;
        const SchedStat before = sched_stat(daemon.pid());
        for (int i = 0; i < kReads; ++i) {
            samples.ms.push_back(daemon.api().timed(method));
            settle(1ms);
        }
        const SchedStat after = sched_stat(daemon.pid());
        report.row("`" + method + "`, for one the daemon runs; waits for a core",
                   format("%.2f ms; ", (after.ran_ms - before.ran_ms) / kReads) +
                       format("%.2f ms", (after.waited_ms - before.waited_ms) / kReads));
        report.row("`" + method + "`, p50", format("%.2f ms", samples.median()));
        report.at_most("`" + method + "`, p99", "%.2f ms", samples.at(0.99), 5);
    }
    report.at_least("`ping`s per second from one client, pipelined", "%.0f", pings_per_second(place), 20'000);
}

void many_clients(Daemon& daemon, const Place& place, Report& report) {
    std::vector<std::unique_ptr<Api>> clients;
    int server = 10;
    const auto connect_clients = [&] {
        for (int i = 0; i < kClients; ++i) {
            clients.push_back(std::make_unique<Api>(place.socket()));
            clients.back()->call("ping");
        }
    };
    // Memory first, and with a start in each round only: the daemon keeps what it knows of sessions.
    start_session(daemon.api(), place, server);
    const double rss_without = daemon.rss_mib();
    double rss_connected = 0, rss_subscribed = 0, rss_after = 0;
    for (int round = 0; round < kClientRounds; ++round) {
        connect_clients();
        rss_connected = std::max(rss_connected, daemon.rss_mib());
        {
            const Readers readers(clients);
            start_session(daemon.api(), place, server);
            settle(100ms);
            rss_subscribed = std::max(rss_subscribed, daemon.rss_mib());
        }
        clients.clear();
        settle(200ms);
        rss_after = daemon.rss_mib();
    }
    // Each time on a server of its own, because tmux gets slower with what it has.
    const auto starts = [&](Samples& samples, std::chrono::milliseconds pause) {
        start_session(daemon.api(), place, ++server);
        for (int i = 0; i < kStartsEach; ++i) {
            settle(pause);
            samples.ms.push_back(start_session(daemon.api(), place, server));
        }
    };
    Samples without, connected, subscribed, without_behind, subscribed_behind;
    // In turns: the machine slows down with all the sessions.
    for (int round = 0; round < kClientRounds; ++round) {
        starts(without, 20ms);
        starts(without_behind, 0ms);
        connect_clients();
        starts(connected, 20ms);
        {
            const Readers readers(clients);
            starts(subscribed, 20ms);
            starts(subscribed_behind, 0ms);
        }
        clients.clear();
        settle(200ms);
    }
    report.heading("1,000 clients connected, 100 of them subscribed; " + std::to_string(kClientRounds) + " rounds");
    report.row("start, API: without; with 1,000; and 100 subscribed", format("%.2f ms; ", without.median()) +
                                                                          format("%.2f ms; ", connected.median()) +
                                                                          format("%.2f ms", subscribed.median()));
    report.at_most("start with 1,000 clients / without", "%.2f", connected.median() / without.median(), 1.1);
    report.at_most("start with 100 of them subscribed / without", "%.2f", subscribed.median() / without.median(), 1.1);
    report.at_most("the same, starts right behind one another", "%.2f",
                   subscribed_behind.median() / without_behind.median(), 1.1);
    report.row("daemon's RSS: without; with 1,000; and 100 subscribed; when they have gone for the last time",
               format("%.1f; ", rss_without) + format("%.1f; ", rss_connected) + format("%.1f; ", rss_subscribed) +
                   format("%.1f MiB", rss_after));
    report.at_most("RSS that stays, after all rounds", "%.1f MiB", rss_after - rss_without, 2);
}

}  // namespace bench
