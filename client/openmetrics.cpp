#include "client/openmetrics.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <string_view>
#include <utility>
#include <vector>

#include "client/call.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// Name and value; the server's key can hold the path of a file.
using Labels = std::vector<std::pair<std::string_view, std::string>>;

std::string escaped(const std::string& value) {
    std::string text;
    for (const char c : value) {
        if (c == '\\' || c == '"') {
            text += '\\';
        }
        text += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    return text;
}

template <typename T>
std::string number(T value) {
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    return {digits.data(), end};
}

class Text {
public:
    // unit: what the name ends with, or empty.
    void gauge(std::string_view name, std::string_view unit, std::string_view help) {
        family(name, "gauge", unit, help);
    }
    void counter(std::string_view name, std::string_view unit, std::string_view help) {
        family(name, "counter", unit, help);
        sample_name_ += "_total";
    }

    template <typename T>
    void sample(T value, const Labels& labels = {}) {
        text_ += sample_name_;
        char before = '{';
        for (const auto& [name, label] : labels) {
            text_ += before + std::string(name) + "=\"" + escaped(label) + '"';
            before = ',';
        }
        text_ += (labels.empty() ? " " : "} ") + number(value) + '\n';
    }

    std::string finish() && { return std::move(text_) + "# EOF\n"; }

private:
    void family(std::string_view name, std::string_view type, std::string_view unit, std::string_view help) {
        sample_name_ = name;
        const auto line = [&](std::string_view what, std::string_view value) {
            text_ += "# " + std::string(what) + ' ' + std::string(name) + ' ' + std::string(value) + '\n';
        };
        line("TYPE", type);
        if (!unit.empty()) {
            line("UNIT", unit);
        }
        line("HELP", help);
    }

    std::string text_;
    std::string sample_name_;
};

void add_daemon(Text& text, const api::DaemonStats& daemon) {
    text.gauge("cmssh_build_info", "", "The daemon's version.");
    text.sample(1, {{"version", daemon.version}});
    text.gauge("cmssh_daemon_uptime_seconds", "seconds", "Since the daemon started.");
    text.sample(daemon.uptime_s);
    text.gauge("cmssh_daemon_resident_memory_bytes", "bytes", "Resident memory of the daemon.");
    text.sample(daemon.rss_bytes);
    text.counter("cmssh_daemon_cpu_seconds", "seconds", "Processor time of the daemon.");
    text.sample(daemon.cpu_s);
    text.gauge("cmssh_daemon_clients", "", "Clients of the API socket.");
    text.sample(daemon.clients);
    text.counter("cmssh_daemon_requests", "", "Requests of the API.");
    text.sample(daemon.requests);
    text.counter("cmssh_daemon_errors", "", "Requests that were answered with an error.");
    text.sample(daemon.errors);
    text.gauge("cmssh_daemon_unsaved", "", "1 while sessions are remembered in memory only.");
    text.sample(daemon.unsaved ? 1 : 0);
}

void add_totals(Text& text, const api::StatsResult& stats) {
    text.gauge("cmssh_connections", "", "Live ssh masters.");
    text.sample(stats.total_connections);
    text.gauge("cmssh_sessions", "", "Sessions that have not ended.");
    text.sample(stats.total_sessions);
    text.gauge("cmssh_refs", "", "Sessions that have not ended, and leases.");
    text.sample(stats.total_refs);
    text.counter("cmssh_handshakes", "", "Logins made.");
    text.sample(stats.handshakes);
    text.counter("cmssh_handshakes_saved", "", "Logins that a shared connection made unnecessary.");
    text.sample(stats.handshakes_saved);
}

class Connections {
public:
    Connections(Text& text, const std::vector<api::Connection>& connections) : text_(text), connections_(connections) {}

    void add() {
        states();
        gauge("sessions", "Sessions on the server that have not ended.", [](const auto& it) { return it.sessions; });
        gauge("leases", "Leases on the connection.", [](const auto& it) { return it.leases; });
        gauge("channels_used", "Channels in use.", [](const auto& it) { return it.channels.used; });
        gauge("channels_max", "Channels that the server allows.", [](const auto& it) { return it.channels.max; });
        gauge("channels_queued", "Callers that wait for a channel.", [](const auto& it) { return it.channels.queued; });
        counter("handshakes", "Logins made to the server.", [](const auto& it) { return it.handshakes; });
        counter("reused", "Calls that found the connection made.", [](const auto& it) { return it.reused_count; });
        counter("reconnects", "Connections made anew.", [](const auto& it) { return it.reconnects; });
        text_.gauge("cmssh_connection_uptime_seconds", "seconds", "Age of the ssh master.");
        each([](const auto& it) { return it.uptime_s; });
        probes();
        round_trips();
    }

private:
    template <typename Value>
    void each(Value value) {
        for (const api::Connection& connection : connections_) {
            text_.sample(value(connection), server(connection));
        }
    }
    template <typename Value>
    void gauge(const std::string& name, std::string_view help, Value value) {
        text_.gauge("cmssh_connection_" + name, "", help);
        each(value);
    }
    template <typename Value>
    void counter(const std::string& name, std::string_view help, Value value) {
        text_.counter("cmssh_connection_" + name, "", help);
        each(value);
    }

    static Labels server(const api::Connection& connection) { return {{"server", printable(connection.server.key)}}; }
    static Labels server(const api::Connection& connection, std::string_view name, std::string_view value) {
        return {{"server", printable(connection.server.key)}, {name, std::string(value)}};
    }

    void states() {
        using api::ConnectionState;
        constexpr std::array kStates = {
            ConnectionState::Connecting, ConnectionState::Up,       ConnectionState::Degraded, ConnectionState::Backoff,
            ConnectionState::NeedsAuth,  ConnectionState::Draining, ConnectionState::Idle,     ConnectionState::Failed};
        text_.gauge("cmssh_connection_state", "", "1 for the state that the connection is in.");
        for (const api::Connection& connection : connections_) {
            for (const ConnectionState state : kStates) {
                text_.sample(connection.state == state ? 1 : 0, server(connection, "state", to_string(state)));
            }
        }
    }

    void probes() {
        text_.counter("cmssh_connection_probes", "", "Probes through to the server's tmux.");
        for (const api::Connection& connection : connections_) {
            text_.sample(connection.probes.ok, server(connection, "result", "ok"));
            text_.sample(connection.probes.failed, server(connection, "result", "failed"));
        }
    }

    void round_trips() {
        constexpr double kMillisecondsPerSecond = 1000;
        text_.gauge("cmssh_connection_rtt_seconds", "seconds", "Round trip through to the server's tmux.");
        for (const api::Connection& connection : connections_) {
            if (const auto& rtt = connection.rtt_ms) {
                text_.sample(rtt->last / kMillisecondsPerSecond, server(connection, "of", "last"));
                text_.sample(rtt->p50 / kMillisecondsPerSecond, server(connection, "of", "p50"));
                text_.sample(rtt->p95 / kMillisecondsPerSecond, server(connection, "of", "p95"));
            }
        }
    }

    Text& text_;
    const std::vector<api::Connection>& connections_;
};

}  // namespace

std::string openmetrics(const api::StatsResult& stats) {
    Text text;
    add_daemon(text, stats.daemon);
    add_totals(text, stats);
    Connections(text, stats.connections).add();
    return std::move(text).finish();
}

int stats_openmetrics(const GlobalOptions& global) {
    const auto outcome = call<api::StatsResult>(global, "stats", Json::object());
    if (const auto* failure = std::get_if<CallError>(&outcome)) {
        return print_error(global, *failure);
    }
    std::fputs(openmetrics(std::get<Reply<api::StatsResult>>(outcome).value).c_str(), stdout);
    return exit_code::kOk;
}

}  // namespace cmssh::client
