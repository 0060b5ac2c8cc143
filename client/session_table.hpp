// Sessions as `list` shows them.
#pragma once

#include <string>
#include <vector>

#include "client/options.hpp"
#include "client/output.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client {

// The params of the call.
[[nodiscard]] Json list_params(const ListOptions& options);
[[nodiscard]] Table session_table(const std::vector<api::Session>& sessions);
// What stands in place of an empty table.
[[nodiscard]] std::string no_sessions_text(const ListOptions& options);

}  // namespace cmssh::client
