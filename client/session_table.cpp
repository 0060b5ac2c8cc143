#include "client/session_table.hpp"

#include "protocol/names.hpp"

namespace cmssh::client {

Json list_params(const ListOptions& options) {
    Json params = {{"all", options.all}};
    if (options.ctx) {
        params["ctx"] = *options.ctx;
    }
    if (options.state) {
        params["state"] = *options.state;
    }
    return params;
}

Table session_table(const std::vector<api::Session>& sessions) {
    Table table({"ID", "NAME", "CTX", "SERVER", "STATE", "AGE", "COMMAND"});
    for (const api::Session& session : sessions) {
        table.add({{session.id},
                   {session.name == session.id ? "-" : session.name},
                   {session.ctx},
                   {session.server.key},
                   {state_text(session), style_of(session.state)},
                   {age_text(session.created_at)},
                   {command_text(session.command)}});
    }
    return table;
}

std::string no_sessions_text(const ListOptions& options) {
    return "no sessions" + (options.ctx ? " of " + printable(*options.ctx) : "") +
           (options.all ? "" : " that have not ended");
}

}  // namespace cmssh::client
