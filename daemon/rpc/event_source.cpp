#include "daemon/rpc/event_source.hpp"

namespace cmssh {

api::Snapshot LiveSource::all() const {
    api::Snapshot snapshot;
    for (const auto& record : sessions_.table().all()) {
        if (!api::ended(record->view.state)) {
            snapshot.sessions.push_back(record->view);
        }
    }
    for (const auto& [key, connection] : pool_.connections()) {
        snapshot.connections.push_back(connection->describe());
    }
    if (forwards_ != nullptr) {
        snapshot.forwards = forwards_->list({}).forwards;
    }
    return snapshot;
}

std::optional<api::Session> LiveSource::session(const std::string& id) const {
    const auto record = sessions_.table().by_id(id);
    return record == nullptr ? std::nullopt : std::optional(record->view);
}

std::optional<api::Connection> LiveSource::connection(const std::string& key) const {
    const auto found = pool_.connections().find(key);
    return found == pool_.connections().end() ? std::nullopt : std::optional(found->second->describe());
}

std::optional<api::Forward> LiveSource::forward(const std::string& id) const {
    return forwards_ == nullptr ? std::nullopt : forwards_->find(id);
}

}  // namespace cmssh
