#include "daemon/pool/pool.hpp"

#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <algorithm>
#include <utility>

#include "daemon/base/log.hpp"

namespace cmssh {
namespace {

// How soon after a wake-up everything is probed, and how long a sleep has to be for that.
constexpr Duration kSleepTick = std::chrono::seconds(5);
constexpr Duration kNotableSleep = std::chrono::seconds(2);

// Between two turns of the loop.
constexpr std::size_t kRestoredAtOnce = 8;

}  // namespace

Pool::Pool(ConnectionServices services, std::string runtime_dir)
    : services_(std::move(services)),
      runtime_dir_(std::move(runtime_dir)),
      restoring_begun_(services_.clock),
      stop_(services_.clock),
      tasks_(services_.executor, services_.clock) {
    services_.runtime_dir = runtime_dir_;
    services_.on_active = [this] {
        if (!watching_ && !stopping_) {
            watching_ = true;
            tasks_.spawn("pool", watch_for_sleep());
        }
    };
    services_.on_failed = [this] {
        if (!forgetting_ && !stopping_) {
            forgetting_ = true;
            tasks_.spawn("pool", forget_unreached());
        }
    };
}

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
        tell_changed(text);
    } else if (pinned) {
        found->second->pin();
    }
    found->second->set_route(route, identity.dump);
    return found->second.get();
}

Result<Connection*> Pool::get(const StoredConnection& stored, bool pinned) {
    Identity identity;
    identity.key = stored.key;
    identity.dump = stored.dump;
    return get(identity, stored.route, pinned);
}

asio::awaitable<void> Pool::restore(std::vector<StoredConnection> stored) {
    TaskGroup restoring(services_.executor, services_.clock);
    ++begin_restoring_;
    std::size_t begun = 0;
    for (const StoredConnection& one : stored) {
        const std::string key = one.key.text();
        if (Connection* connection = find(key)) {
            restoring.spawn(key, restore_one(ConnectionUse(*connection), one));
            if (++begun % kRestoredAtOnce == 0) {
                co_await asio::post(services_.executor, asio::use_awaitable);
            }
        }
    }
    --begin_restoring_;
    restoring_begun_.notify_all();
    co_await restoring.join_until(Instant::max());
    for (const StoredConnection& one : stored) {
        forget_idle(one.key.text());
    }
}

asio::awaitable<void> Pool::restore_one(ConnectionUse connection, StoredConnection stored) {
    const bool found = co_await connection->restore(std::move(stored));
    if (found) {
        const std::string key = connection->key_text();
        tasks_.spawn(key, open_restored_tmux(std::move(connection)));
    }
}

// Once all masters have been asked: two hundred tmux clients that start keep a machine busy.
asio::awaitable<void> Pool::open_restored_tmux(ConnectionUse connection) {
    while (begin_restoring_ > 0) {
        co_await restoring_begun_.wait();
    }
    co_await connection->open_restored_tmux();
}

bool Pool::any_active() const {
    return std::any_of(connections_.begin(), connections_.end(), [](const auto& it) { return it.second->active(); });
}

asio::awaitable<void> Pool::watch_for_sleep() {
    Duration slept = services_.clock.asleep();
    while (any_active() && !stopping_) {
        co_await stop_.wait_until(services_.clock.now() + kSleepTick);
        const Duration before = std::exchange(slept, services_.clock.asleep());
        if (slept - before < kNotableSleep || stopping_) {
            continue;
        }
        log_info("pool", "the machine slept: every connection is probed");
        for (const auto& [key, connection] : connections_) {
            connection->wake_up();
        }
    }
    watching_ = false;
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
        item = forget(item);
    }
}

Pool::Connections::iterator Pool::forget(Connections::iterator item) {
    const std::string key = item->first;
    tasks_.spawn("pool", bury(std::move(item->second)));
    const auto next = connections_.erase(item);
    tell_changed(key);
    return next;
}

asio::awaitable<void> Pool::forget_unreached() {
    // For one that is in use when it should go.
    constexpr Duration kAgain = std::chrono::minutes(1);
    while (!stopping_) {
        const Instant now = services_.clock.now();
        Instant next = Instant::max();
        for (auto item = connections_.begin(); item != connections_.end();) {
            const Connection& connection = *item->second;
            const Instant due = connection.since() + kUnreachedKept;
            if (!connection.never_reached()) {
                ++item;
            } else if (now >= due && !connection.busy()) {
                item = forget(item);
            } else {
                next = std::min(next, std::max(due, now + kAgain));
                ++item;
            }
        }
        if (next == Instant::max()) {
            break;
        }
        co_await stop_.wait_until(next);
    }
    forgetting_ = false;
}

void Pool::forget_idle(const std::string& key_text) {
    const auto item = connections_.find(key_text);
    if (item == connections_.end() || item->second->has_master() || item->second->busy() ||
        item->second->describe().state != api::ConnectionState::Idle) {
        return;
    }
    forget(item);
}

void Pool::tell_changed(const std::string& key_text) const {
    if (services_.on_changed) {
        services_.on_changed(key_text);
    }
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

asio::awaitable<Result<void>> Pool::disconnect(ConnectionUse connection, bool force, Instant deadline) {
    TaskGroup behind(services_.executor, services_.clock);
    for (const auto& [key, other] : connections_) {
        if (other->goes_over(*connection) && (force || other->refs() == 0)) {
            behind.spawn(key, disconnect_one(ConnectionUse(*other), force, deadline));
        }
    }
    co_await behind.join_until(Instant::max());
    co_return co_await connection->disconnect(force, deadline);
}

asio::awaitable<void> Pool::disconnect_one(ConnectionUse connection, bool force, Instant deadline) {
    (void)co_await disconnect(std::move(connection), force, deadline);
}

void Pool::request_stop() {
    stopping_ = true;
    stop_.notify_all();
    // Before any of them lets go of its hop, whose master that stepped aside would end with it.
    for (const auto& [key, connection] : connections_) {
        connection->leave_retired();
    }
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
