#include "tests/support/world.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <stdexcept>

namespace cmssh::test {

World::Strays::Strays() {
    begin_test();
}

World::Strays::~Strays() {
    kill_strays();
}

World::World(SshdOptions servers, const std::string& config)
    : sshd(dir, std::move(servers)), daemon(dir, sshd.ssh_config()) {
    if (!config.empty()) {
        daemon.write_config(config);
    }
    daemon.start();
}

World::~World() {
    if (::testing::Test::HasFailure()) {
        std::fprintf(stderr, "---- sshd\n%s", sshd.log().c_str());
    }
}

RpcClient& World::rpc() {
    if (rpc_ == nullptr) {
        rpc_ = std::make_unique<RpcClient>(daemon.socket_path());
    }
    return *rpc_;
}

void World::start_daemon() {
    rpc_.reset();
    daemon.start();
}

Json World::start(const std::string& ctx, const Words& command, const Json& extra) {
    Json params = {{"ctx", ctx}, {"command", command}};
    params.update(extra);
    return rpc().call("start", params);
}

std::string World::start_id(const std::string& ctx, const Words& command, const Json& extra) {
    return start(ctx, command, extra).at("session").at("id");
}

Json World::session(const std::string& id) {
    return rpc().call("get", {{"session", id}}).at("session");
}

Json World::wait(const std::string& id) {
    return rpc().call("wait", {{"session", id}}).at("session");
}

Words World::list(const Json& params) {
    const Json result = rpc().call("list", params);
    Words ids;
    for (const auto& session : result.at("sessions")) {
        ids.push_back(session.at("id"));
    }
    return ids;
}

Json World::stats() {
    return rpc().call("stats");
}

Json World::connection(const std::string& key) {
    const Json result = stats();
    for (const auto& connection : result.at("connections")) {
        if (connection.at("server").at("key") == key) {
            return connection;
        }
    }
    throw std::runtime_error("no connection has the key " + key + ": " + result.at("connections").dump());
}

std::string World::key(const std::string& host) const {
    return own_user() + '@' + host + ':' + std::to_string(sshd.port());
}

bool World::becomes(const std::string& id, const std::string& state, Deadline deadline) {
    return wait_until([&] { return session(id).at("state") == state; }, deadline);
}

bool World::connection_becomes(const std::string& key, const std::string& state, Deadline deadline) {
    return wait_until(
        [&] {
            const Json connections = stats().at("connections");
            return std::any_of(connections.begin(), connections.end(), [&](const Json& it) {
                return it.at("server").at("key") == key && it.at("state") == state;
            });
        },
        deadline);
}

Finished World::tmux(int server, const Words& arguments) const {
    SpawnOptions spawn;
    spawn.environment = sshd.environment(server);
    Words argv = {"tmux", "-L", "cmssh"};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return run(argv, spawn);
}

Words World::tmux_sessions(int server) const {
    std::istringstream lines(tmux(server, {"list-sessions", "-F", "#{session_name}"}).output);
    Words names;
    for (std::string name; std::getline(lines, name);) {
        if (name.starts_with("sess-")) {
            names.push_back(name);
        }
    }
    return names;
}

int World::spare_sessions(int server) const {
    std::istringstream lines(tmux(server, {"list-sessions", "-F", "#{session_name}"}).output);
    int count = 0;
    for (std::string name; std::getline(lines, name);) {
        count += name.starts_with("cmssh-spare-") ? 1 : 0;
    }
    return count;
}

pid_t World::spare(int server) {
    const Words ready = {"list-panes", "-a",
                         "-f",         "#{&&:#{m:cmssh-spare-*,#{session_name}},#{==:#{cursor_flag},0}}",
                         "-F",         "#{pane_pid}"};
    std::string pid;
    if (!wait_until([&] { return !(pid = tmux(server, ready).output).empty(); })) {
        throw std::runtime_error("no spare session was made");
    }
    // The daemon reads tmux's replies in order.
    rpc().call("check");
    return std::stoi(pid);
}

pid_t World::pane_pid(int server, const std::string& id) const {
    return std::stoi(tmux(server, {"display-message", "-p", "-t", '=' + id + ':', "#{pane_pid}"}).output);
}

}  // namespace cmssh::test
