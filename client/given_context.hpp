// Which server a command line is about, where it may leave that to the environment or the config.
#pragma once

#include <optional>
#include <string>

#include "client/rpc_client.hpp"

namespace cmssh::client {

// nullopt where it is unset or empty.
[[nodiscard]] std::optional<std::string> environment_value(const char* name);

// The contexts, for someone who named none.
void print_contexts_to_choose(RpcClient& client, std::optional<Instant> deadline);

}  // namespace cmssh::client
