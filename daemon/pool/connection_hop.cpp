#include <algorithm>

#include "daemon/base/log.hpp"
#include "daemon/pool/connection.hpp"

namespace cmssh {
namespace {

class Awaited {
public:
    Awaited(std::vector<const Connection*>& all, const Connection& hop) : all_(all), hop_(&hop) {
        all_.push_back(hop_);
    }
    ~Awaited() { all_.erase(std::find(all_.begin(), all_.end(), hop_)); }
    Awaited(const Awaited&) = delete;
    Awaited& operator=(const Awaited&) = delete;

private:
    std::vector<const Connection*>& all_;
    const Connection* hop_;
};

}  // namespace

Error Connection::hop_failed(const std::string& hop, Error error) const {
    error.message = "the hop " + hop + " on the way to " + key_text_ + ": " + error.message;
    error.server = error.server.value_or(hop);
    return error;
}

bool Connection::waits_for(const Connection& other) const {
    return std::any_of(awaited_hops_.begin(), awaited_hops_.end(),
                       [&other](const Connection* hop) { return hop == &other || hop->waits_for(other); });
}

bool Connection::goes_over(const Connection& other) const {
    return (hop_ && &*hop_->connection == &other) || waits_for(other);
}

asio::awaitable<Result<std::optional<Connection::Hop>>> Connection::reach_hop(LoginPtr login) {
    const auto route = services_.find_hop ? last_hop(dump_.proxyjump) : std::nullopt;
    if (!route) {
        co_return std::optional<Hop>();
    }
    auto found = co_await services_.find_hop(*route);
    if (!found) {
        co_return hop_failed(route->destination.host, std::move(found).error());
    }
    Hop hop;
    hop.connection = std::move(*found);
    hop.host = route->destination.host;
    if (&*hop.connection == this || hop.connection->waits_for(*this)) {
        Error loop{.kind = ErrorKind::ConnectFailed,
                   .message = "it is reached over that server itself",
                   .hint = "check ProxyJump in ssh_config"};
        co_return hop_failed(hop.connection->key_text(), std::move(loop));
    }
    const Awaited awaited(awaited_hops_, *hop.connection);
    Want want;
    want.auth_sock = login->auth_sock;
    want.tmux = false;
    want.person = login->questions ? login->questions->someone() : nullptr;
    auto lease = co_await hop.connection->lease_without_channel(std::move(want));
    if (!lease) {
        co_return hop_failed(hop.connection->key_text(), std::move(lease).error());
    }
    hop.lease = std::move(*lease);
    co_return std::optional<Hop>(std::move(hop));
}

HopSocket Connection::hop_socket(const Hop& hop) {
    return HopSocket{.control_path = hop.lease.control_path, .host = hop.host, .key = hop.connection->key_text()};
}

// Of an earlier daemon, where the hop has a master as well: which way this one goes cannot be seen.
asio::awaitable<void> Connection::hold_hop_again(std::shared_ptr<Master> master) {
    const auto route = services_.find_hop ? last_hop(dump_.proxyjump) : std::nullopt;
    if (!route) {
        co_return;
    }
    auto found = co_await services_.find_hop(*route);
    if (!found) {
        log_info(key_text_, "its hop is not known any more: " + found.error().message);
        co_return;
    }
    Hop hop;
    hop.connection = std::move(*found);
    Connection& connection = *hop.connection;
    while (connection.login_ != nullptr && connection.login_->restore_path && !connection.shutting_down_) {
        co_await connection.changed_.wait();
    }
    if (connection.has_master() && master_ == master && !hop_ && !shutting_down_) {
        hop.lease.hold = Hold(connection, HoldKind::Lease);
        hop.lease.generation = connection.generation_;
        hop.lease.control_path = connection.control_path_;
        hop_ = std::move(hop);
    }
}

}  // namespace cmssh
