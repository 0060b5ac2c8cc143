// Base64 with padding (RFC 4648, section 4). Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cmssh {

[[nodiscard]] std::string base64_encode(std::string_view bytes);
// nullopt: it is none. Strict: no line ends, the padding must be there, and the bits that it leaves over are zero.
[[nodiscard]] std::optional<std::string> base64_decode(std::string_view text);

}  // namespace cmssh
