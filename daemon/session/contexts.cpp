#include "daemon/session/contexts.hpp"

#include "protocol/names.hpp"

namespace cmssh {

Result<ResolvedContext> resolve_context(const Config& config, const std::optional<std::string>& ctx) {
    ResolvedContext resolved;
    if (ctx) {
        resolved.name = *ctx;
    } else if (config.default_ctx) {
        resolved.name = *config.default_ctx;
    } else {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "no context was given, and no default_ctx is configured",
                     .hint = "give --ctx NAME (cmctl contexts lists them), or set default_ctx in the config"};
    }
    const auto found = config.contexts.find(resolved.name);
    const std::string& text = found == config.contexts.end() ? resolved.name : found->second.host;
    auto destination = parse_destination(text);
    if (!destination) {
        Error error = std::move(destination).error();
        error.kind = ErrorKind::UnknownContext;
        error.message =
            "no context is named '" + printable(resolved.name) + "', and it is no ssh destination: " + error.message;
        error.hint = "cmctl contexts";
        error.ctx = resolved.name;
        return error;
    }
    resolved.route.destination = std::move(*destination);
    if (found != config.contexts.end()) {
        const ContextConfig& context = found->second;
        resolved.configured = true;
        resolved.prewarm = context.prewarm;
        resolved.cwd = context.cwd;
        resolved.env = context.env;
        resolved.route.identity_file = context.identity_file;
        if (context.user) {
            resolved.route.destination.user = context.user;
        }
        if (context.port) {
            resolved.route.destination.port = context.port;
        }
    }
    return resolved;
}

}  // namespace cmssh
