#include "daemon/pool/pool.hpp"

#include <utility>

namespace cmssh {

Pool::Pool(ConnectionServices services, std::string runtime_dir)
    : services_(std::move(services)),
      runtime_dir_(std::move(runtime_dir)),
      tasks_(services_.executor, services_.clock) {}

Result<Connection*> Pool::get(const Identity& identity, const SshRoute& route, bool pinned) {
    const std::string text = identity.key.text();
    auto found = connections_.find(text);
    if (found == connections_.end()) {
        auto path = control_path(identity.key, runtime_dir_, services_.config.pool.control_path);
        if (!path) {
            return std::move(path).error();
        }
        if (connections_.size() >= kMaxConnections) {
            forget_unused();
        }
        if (connections_.size() >= kMaxConnections) {
            return Error{.kind = ErrorKind::Limit,
                         .message = "the pool holds " + std::to_string(kMaxConnections) + " servers in use",
                         .hint = "cmctl disconnect a server that is no longer needed"};
        }
        auto connection = std::make_unique<Connection>(services_, identity.key, std::move(*path), pinned);
        found = connections_.emplace(text, std::move(connection)).first;
    }
    found->second->set_route(route, identity.dump);
    return found->second.get();
}

Connection* Pool::find(const std::string& key_text) {
    const auto found = connections_.find(key_text);
    return found == connections_.end() ? nullptr : found->second.get();
}

void Pool::forget_unused() {
    for (auto item = connections_.begin(); item != connections_.end();) {
        if (item->second->has_master() || item->second->busy()) {
            ++item;
            continue;
        }
        tasks_.spawn("pool", bury(std::move(item->second)));
        item = connections_.erase(item);
    }
}

void Pool::forget_idle(const std::string& key_text) {
    const auto item = connections_.find(key_text);
    if (item == connections_.end() || item->second->has_master() || item->second->busy() ||
        item->second->describe().state != api::ConnectionState::Idle) {
        return;
    }
    tasks_.spawn("pool", bury(std::move(item->second)));
    connections_.erase(item);
}

asio::awaitable<void> Pool::bury(std::unique_ptr<Connection> connection) {
    co_await connection->shut_down();
}

asio::awaitable<void> Pool::check(Connection* only) {
    if (only != nullptr) {
        co_await only->check();
        co_return;
    }
    TaskGroup probes(services_.executor, services_.clock);
    for (const auto& [key, connection] : connections_) {
        if (connection->has_master()) {
            probes.spawn(key, check_one(ConnectionUse(*connection)));
        }
    }
    co_await probes.join_until(Instant::max());
}

asio::awaitable<void> Pool::check_one(ConnectionUse connection) {
    co_await connection->check();
}

void Pool::request_stop() {
    for (const auto& [key, connection] : connections_) {
        connection->request_stop();
    }
}

asio::awaitable<void> Pool::shut_down() {
    request_stop();
    TaskGroup ending(services_.executor, services_.clock);
    for (const auto& [key, connection] : connections_) {
        ending.spawn(key, connection->shut_down());
    }
    co_await ending.join_until(Instant::max());
    co_await tasks_.join_until(Instant::max());
    connections_.clear();
}

}  // namespace cmssh
