// STUB until the branch `registry` is merged
#pragma once
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>
#include "daemon/base/clock.hpp"
#include "daemon/ssh/ssh_command.hpp"
#include "daemon/tmux/tmux_commands.hpp"
#include "protocol/methods.hpp"
#include "protocol/server_key.hpp"
namespace cmssh {
struct StoredSession {
    api::Session view;
    std::int64_t created_ms = 0;
    std::int64_t ended_ms = 0;
    std::string request_id;
    tmux::Started place;
    tmux::ServerLife life;
    std::set<int> signals_sent;
    std::optional<std::string> pending_kill;
};
struct StoredConnection {
    ServerKey key;
    SshRoute route;
    SshConfigDump dump;
    std::string control_path;
};
enum class Durability { Process, Power };
class Registry {
public:
    Registry(Clock&, std::string) {}
    struct Contents {
        std::vector<StoredSession> sessions;
        std::vector<StoredConnection> connections;
    };
    Contents load() { return {}; }
    void put(const StoredSession&, Durability) {}
    void put_ended(const StoredSession& s, std::string_view screen, Durability) { screens_[s.view.id] = screen; }
    std::optional<std::string> screen(std::string_view id) {
        auto f = screens_.find(std::string(id));
        if (f == screens_.end())
            return std::nullopt;
        return f->second;
    }
    void remove(std::string_view) {}
    void put(const StoredConnection&) {}
    void remove_connection(std::string_view) {}
    bool unsaved() const { return false; }
    void retry() {}
    void checkpoint() {}
    void close() {}
    std::map<std::string, std::string> screens_;
};
}  // namespace cmssh
