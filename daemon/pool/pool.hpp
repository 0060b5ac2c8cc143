// One connection per server key, for the whole daemon.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/pool/connection.hpp"

namespace cmssh {

class Pool {
public:
    Pool(ConnectionServices services, std::string runtime_dir);
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // The connection of a server, made where there is none; good until the next co_await, or while it is held or used.
    // Limit at kMaxConnections; BadConfig where the control path
    // does not fit.
    Result<Connection*> get(const Identity& identity, const SshRoute& route, bool pinned);
    [[nodiscard]] Connection* find(const std::string& key_text);
    [[nodiscard]] const std::map<std::string, std::unique_ptr<Connection>>& connections() const { return connections_; }
    // The same for one that an earlier daemon had, without asking `ssh -G`. Who holds it does so before restore().
    Result<Connection*> get(const StoredConnection& stored, bool pinned);
    // Takes over the masters of an earlier daemon, side by side and without a login (see Connection::restore()), and
    // forgets what has none and is not needed. Of servers that get() knows. Whatever else the loop has to do goes on
    // while they are asked.
    asio::awaitable<void> restore(std::vector<StoredConnection> stored);
    // Forgets the connection of a server that nobody wants, if it is so.
    void forget_idle(const std::string& key_text);
    // Probes all that have a master, or one, at once.
    asio::awaitable<void> check(Connection* only);
    // Disconnects a server, and before it those behind it that nobody uses; with force all that are behind it, which
    // would bring it back. Errors of Connection::disconnect().
    asio::awaitable<Result<void>> disconnect(ConnectionUse connection, bool force, Instant deadline);
    // Lets go of every master: the processes live on, and every wait ends.
    void request_stop();
    asio::awaitable<void> shut_down();

    // Entries, also of servers that could not be reached: what callers can make us remember.
    static constexpr std::size_t kMaxConnections = 4096;
    // How long one is shown that was never reached, with its error. Each call makes an attempt of its own, so nothing
    // else is lost with it.
    static constexpr Duration kUnreachedKept = std::chrono::minutes(10);

private:
    void forget_unused();
    // What was never reached, by and by. Runs while there is such.
    asio::awaitable<void> forget_unreached();
    using Connections = std::map<std::string, std::unique_ptr<Connection>>;
    Connections::iterator forget(Connections::iterator item);
    void tell_changed(const std::string& key_text) const;
    asio::awaitable<void> bury(std::unique_ptr<Connection> connection);
    asio::awaitable<void> disconnect_one(ConnectionUse connection, bool force, Instant deadline);
    static asio::awaitable<void> check_one(ConnectionUse connection);
    asio::awaitable<void> restore_one(ConnectionUse connection, StoredConnection stored);
    asio::awaitable<void> open_restored_tmux(ConnectionUse connection);
    // Runs while some connection is active.
    asio::awaitable<void> watch_for_sleep();
    [[nodiscard]] bool any_active() const;

    ConnectionServices services_;
    std::string runtime_dir_;
    Connections connections_;
    bool watching_ = false;
    bool forgetting_ = false;
    int begin_restoring_ = 0;  // calls of restore() that have not asked all masters yet
    Event restoring_begun_;
    bool stopping_ = false;
    Event stop_;
    TaskGroup tasks_;
};

}  // namespace cmssh
