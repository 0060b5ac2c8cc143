// Context names turned into routes: a [contexts.NAME] of the config, or else an ssh destination as a person would type
// it.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "daemon/base/config.hpp"
#include "daemon/ssh/ssh_command.hpp"
#include "protocol/result.hpp"

namespace cmssh {

struct ResolvedContext {
    std::string name;
    SshRoute route;
    std::optional<std::string> cwd;
    std::map<std::string, std::string> env;
    bool configured = false;
    bool prewarm = false;
};

// `ctx` unset: default_ctx, and InvalidParams where there is none. UnknownContext for a name that is neither configured
// nor fit to be a destination.
[[nodiscard]] Result<ResolvedContext> resolve_context(const Config& config, const std::optional<std::string>& ctx);

}  // namespace cmssh
