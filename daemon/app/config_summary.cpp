#include "daemon/app/config_summary.hpp"

#include "protocol/jsonrpc.hpp"

namespace cmssh {
namespace {

const char* name_of(SessionShell shell) {
    switch (shell) {
        case SessionShell::LoginInteractive:
            return "login-interactive";
        case SessionShell::Login:
            return "login";
        case SessionShell::None:
            break;
    }
    return "none";
}

}  // namespace

std::string config_summary(const Config& config) {
    Json tools = Json::object();
    for (const auto& [name, command] : config.tools) {
        tools[name] = command.front();
    }
    return dump_json(Json{{"ssh", config.ssh.program},
                          {"control_path", config.pool.control_path},
                          {"tmux", config.sessions.tmux},
                          {"shell", name_of(config.sessions.shell)},
                          {"tools", std::move(tools)}});
}

}  // namespace cmssh
