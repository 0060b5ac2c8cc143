// What the system refused us, as an error that a caller can act on.
#pragma once

#include <string_view>

#include "protocol/result.hpp"

namespace cmssh {

// number: of errno. Limit where there is none left of something, which passes; else Internal.
[[nodiscard]] Error os_error(std::string_view what, int number);

}  // namespace cmssh
