// How wide text is on a terminal. Of text that printable() gave: no control characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cmssh::client {

// East Asian characters and emoji take two, combining ones none; what is no UTF-8 takes one a byte.
[[nodiscard]] std::size_t columns_of(std::string_view text);
// At most so many columns of it, with "…" at the end where something is missing.
[[nodiscard]] std::string cut(const std::string& text, std::size_t columns);

}  // namespace cmssh::client
