// Starts the daemon where nothing listens: by systemd's socket where there is one, else by running cmsshd.
#pragma once

#include <optional>

#include "client/rpc_client.hpp"

namespace cmssh::client {

// nullopt: somebody listens now.
[[nodiscard]] std::optional<CallError> spawn_daemon(const GlobalOptions& global);

}  // namespace cmssh::client
