// Hints of the API name commands of cmctl. A model has tools instead, and a person beside it.
#pragma once

#include <string>

namespace cmssh::client::mcp {

// The hint as a model can follow it: commands that are tools, too, by the tool's name and arguments, and others as what
// the user is to type.
[[nodiscard]] std::string hint_for_model(const std::string& hint);

}  // namespace cmssh::client::mcp
