#include "client/top_model.hpp"

#include <algorithm>
#include <utility>

namespace cmssh::client {
namespace {

const std::string& key_of(const api::Connection& connection) {
    return connection.server.key;
}
const std::string& key_of(const api::Session& session) {
    return session.id;
}

// Where what was selected is now.
template <typename T>
std::size_t find_again(const std::vector<T>& before, std::size_t selected, const std::vector<T>& now) {
    if (selected < before.size()) {
        const auto found =
            std::find_if(now.begin(), now.end(), [&](const T& it) { return key_of(it) == key_of(before[selected]); });
        if (found != now.end()) {
            return static_cast<std::size_t>(found - now.begin());
        }
    }
    return now.empty() ? 0 : std::min(selected, now.size() - 1);
}

}  // namespace

void TopModel::set_connections(std::vector<api::Connection> connections) {
    connection_ = find_again(connections_, connection_, connections);
    connections_ = std::move(connections);
    std::erase_if(samples_, [this](const auto& it) {
        return std::none_of(connections_.begin(), connections_.end(),
                            [&it](const api::Connection& connection) { return key_of(connection) == it.first; });
    });
}

void TopModel::set_sessions(std::vector<api::Session> sessions) {
    session_ = find_again(sessions_, session_, sessions);
    sessions_ = std::move(sessions);
}

void TopModel::sample() {
    for (const api::Connection& connection : connections_) {
        auto& samples = samples_[key_of(connection)];
        const bool up = connection.state == api::ConnectionState::Up;
        samples.push_back(up && connection.rtt_ms ? std::optional(connection.rtt_ms->last) : std::nullopt);
        if (samples.size() > kSamples) {
            samples.pop_front();
        }
    }
}

void TopModel::switch_pane() {
    pane_ = pane_ == Pane::Sessions ? Pane::Connections : Pane::Sessions;
}

void TopModel::move(int by) {
    std::size_t& selected = pane_ == Pane::Sessions ? session_ : connection_;
    const std::size_t count = pane_ == Pane::Sessions ? sessions_.size() : connections_.size();
    const auto wanted = static_cast<std::ptrdiff_t>(selected) + by;
    const auto last = static_cast<std::ptrdiff_t>(count) - 1;
    selected = static_cast<std::size_t>(std::max<std::ptrdiff_t>(std::min(wanted, last), 0));
}

std::size_t TopModel::selected(Pane pane) const {
    return pane == Pane::Sessions ? session_ : connection_;
}

const std::deque<std::optional<double>>& TopModel::samples(const std::string& key) const {
    static const std::deque<std::optional<double>> none;
    const auto found = samples_.find(key);
    return found == samples_.end() ? none : found->second;
}

const api::Session* TopModel::session() const {
    return pane_ == Pane::Sessions && session_ < sessions_.size() ? &sessions_[session_] : nullptr;
}

const api::Connection* TopModel::connection() const {
    if (pane_ == Pane::Connections) {
        return connection_ < connections_.size() ? &connections_[connection_] : nullptr;
    }
    const api::Session* of = session();
    const auto found = std::find_if(connections_.begin(), connections_.end(), [of](const api::Connection& it) {
        return of != nullptr && key_of(it) == of->server.key;
    });
    return found == connections_.end() ? nullptr : &*found;
}

}  // namespace cmssh::client
