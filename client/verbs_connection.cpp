#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "client/call.hpp"
#include "client/interrupt.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

using api::ConnectionState;

std::string milliseconds_text(double milliseconds) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f ms", milliseconds);
    return text.data();
}

// What a person would ask next about a connection in this state.
std::string remark(const api::Connection& connection) {
    // What is idle worked since, or was never tried.
    if (connection.last_error && connection.state != ConnectionState::Up && connection.state != ConnectionState::Idle) {
        std::string text = connection.last_error->message;
        if (connection.retry_at) {
            text += ", next attempt at " + *connection.retry_at;
        }
        return text;
    }
    if (connection.channels.queued > 0) {
        return "all channels in use, " + std::to_string(connection.channels.queued) + " waiting";
    }
    if (!connection.own_masters.empty()) {
        return count_text(connection.own_masters.size(), "login") + " more for big copies";
    }
    if (connection.linger_s) {
        return "unused, ends in " + duration_text(*connection.linger_s);
    }
    return "";
}

std::vector<Cell> connection_row(const api::Connection& connection, std::string first) {
    return {{std::move(first)},
            {std::string(to_string(connection.state)) +
                 (connection.uptime_s > 0 ? " for " + duration_text(connection.uptime_s) : ""),
             style_of(connection.state)},
            {connection.rtt_ms ? "rtt " + milliseconds_text(connection.rtt_ms->last) : ""},
            {count_text(connection.handshakes, "login") + ", " + std::to_string(connection.reused_count) + " saved"},
            {remark(connection), style_of(connection.state)}};
}

bool in_trouble(const api::Connection& connection) {
    // A login that failed and that nobody needs is over.
    const bool needed = connection.refs > 0;
    return connection.state == ConnectionState::Degraded || connection.state == ConnectionState::Backoff ||
           (needed && (connection.state == ConnectionState::NeedsAuth || connection.state == ConnectionState::Failed));
}

void print_keys(const std::vector<api::Connection>& connections) {
    for (const api::Connection& connection : connections) {
        print_line(connection.server.key);
    }
}

}  // namespace

int stats(const GlobalOptions& global) {
    const auto outcome = call<api::StatsResult>(global, "stats", Json::object());
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& result = std::get<Reply<api::StatsResult>>(outcome).value;
    if (global.quiet) {
        print_keys(result.connections);
        return exit_code::kOk;
    }
    Table table({});
    for (const api::Connection& connection : result.connections) {
        table.add(connection_row(
            connection,
            connection.server.key + ": " + count_text(static_cast<std::uint64_t>(connection.sessions), "session")));
    }
    table.print(global);
    print_line("total_connections: " + std::to_string(result.total_connections));
    print_line("total_sessions: " + std::to_string(result.total_sessions));
    print_line("handshakes: " + std::to_string(result.handshakes) +
               ", saved: " + std::to_string(result.handshakes_saved));
    return exit_code::kOk;
}

int status(const GlobalOptions& global) {
    const auto outcome = call<api::StatsResult>(global, "stats", Json::object());
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& result = std::get<Reply<api::StatsResult>>(outcome).value;
    if (global.quiet) {
        print_keys(result.connections);
        return exit_code::kOk;
    }
    print_line("cmsshd " + result.daemon.version + ", pid " + std::to_string(result.daemon.pid) + ", up " +
               duration_text(result.daemon.uptime_s) + ", " + bytes_text(result.daemon.rss_bytes));
    print_line(count_text(static_cast<std::uint64_t>(result.total_sessions), "session") + ", " +
               count_text(static_cast<std::uint64_t>(result.total_connections), "connection"));
    Table table({});
    for (const api::Connection& connection : result.connections) {
        table.add({{connection.server.key},
                   {std::string(to_string(connection.state)), style_of(connection.state)},
                   {count_text(static_cast<std::uint64_t>(connection.sessions), "session")},
                   {remark(connection), style_of(connection.state)}});
    }
    table.print(global);
    if (result.daemon.unsaved) {
        std::fputs(
            "cmctl: unsaved: sessions are remembered in the daemon's memory only\n"
            "hint: make room on the disk of the state directory; the daemon's log says what is wrong\n",
            stderr);
    }
    return exit_code::kOk;
}

int check(const GlobalOptions& global, const std::optional<std::string>& ctx) {
    Json params = Json::object();
    if (ctx) {
        params["ctx"] = *ctx;
    }
    catch_interrupts();
    const auto outcome = call<api::ConnectionsResult>(global, "check", params);
    if (const auto* failure = std::get_if<CallError>(&outcome)) {
        return print_error(global, *failure);
    }
    const auto& [result, json] = std::get<Reply<api::ConnectionsResult>>(outcome);
    // A connection that nobody uses has nothing to be wrong, unless it is the one that was asked for.
    const bool wrong =
        std::any_of(result.connections.begin(), result.connections.end(), [&ctx](const auto& connection) {
            return in_trouble(connection) || (ctx && connection.state != ConnectionState::Up);
        });
    const int code = wrong ? exit_code::kUnreachable : exit_code::kOk;
    if (global.json) {
        print_json(json);
        return code;
    }
    Table table({});
    for (const api::Connection& connection : result.connections) {
        if (global.quiet) {
            print_line(connection.server.key);
            continue;
        }
        table.add({{connection.server.key},
                   {std::string(to_string(connection.state)), style_of(connection.state)},
                   {connection.rtt_ms ? "rtt " + milliseconds_text(connection.rtt_ms->last) : "-"},
                   {remark(connection), style_of(connection.state)}});
    }
    table.print(global);
    if (result.connections.empty() && !global.quiet) {
        std::fputs("no connections\n", stderr);
    }
    if (ctx && !result.connections.empty() && result.connections.front().state == ConnectionState::Idle) {
        print_note(global, "cmctl: " + printable(*ctx) + " is not connected\nhint: cmctl connect " +
                               printable(command_text({*ctx})));
    }
    return code;
}

int connect(const GlobalOptions& global, const std::string& ctx) {
    Json params = {{"ctx", ctx}};
    add_login_params(params);
    catch_interrupts();
    const auto outcome = call_with_login<api::ConnectResult>(global, "connect", std::move(params));
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& result = std::get<Reply<api::ConnectResult>>(outcome).value;
    if (global.quiet) {
        print_line(result.connection.server.key);
    } else {
        print_line(result.connection.server.key + ": " + std::string(to_string(result.connection.state)) +
                   (result.reused ? ", was connected already" : ""));
    }
    return exit_code::kOk;
}

int disconnect(const GlobalOptions& global, const std::string& ctx, bool force) {
    catch_interrupts();
    const auto deadline = deadline_of(global);
    auto connected = RpcClient::connect(global, deadline);
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    RpcClient& client = std::get<RpcClient>(connected);
    StatusLine status;
    status.set(ctx + ": waiting for what is under way there (--force ends it)");
    client.on_idle([&status] { status.tick(); });
    const auto outcome = call<api::ConnectionResult>(client, "disconnect", {{"ctx", ctx}, {"force", force}}, deadline);
    status.clear();
    if (const auto* failure = std::get_if<CallError>(&outcome);
        failure != nullptr && failure->exit_code == exit_code::kInterrupted) {
        CallError told = *failure;
        told.error.hint = "it still goes when that has ended; cmctl disconnect --force " + ctx + " ends it now";
        return print_error(global, told);
    }
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& result = std::get<Reply<api::ConnectionResult>>(outcome).value;
    std::string text = result.connection.server.key;
    if (!global.quiet) {
        text += ": " + std::string(to_string(result.connection.state));
        if (result.connection.sessions > 0) {
            text +=
                ", " + count_text(static_cast<std::uint64_t>(result.connection.sessions), "session") + " run on there";
        }
    }
    print_line(text);
    return exit_code::kOk;
}

int contexts(const GlobalOptions& global) {
    const auto outcome = call<api::ContextsResult>(global, "contexts", Json::object());
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& result = std::get<Reply<api::ContextsResult>>(outcome).value;
    Table table({"NAME", "SERVER", "SOURCE", "DEFAULT"});
    for (const api::Context& context : result.contexts) {
        if (global.quiet) {
            print_line(context.name);
            continue;
        }
        table.add({{context.name},
                   {context.server ? context.server->key : "-"},
                   {context.source},
                   {context.is_default ? "yes" : ""}});
    }
    if (!table.empty()) {
        table.print(global);
    } else if (!global.quiet) {
        std::fputs("no contexts are configured; any ssh destination is one\n", stderr);
    }
    return exit_code::kOk;
}

}  // namespace cmssh::client
