// The configuration: config.toml read strictly. Every key is optional; an unknown key, a wrong type or a value out of
// range is a BadConfig error that names file, line, key and what was expected.
#pragma once

#include <string>
#include <string_view>

#include "daemon/base/config.hpp"
#include "protocol/result.hpp"

namespace cmssh {

// `file` is only for the messages; `home` replaces a leading ~ of paths on this machine.
[[nodiscard]] Result<Config> parse_config(std::string_view text, const std::string& file, const std::string& home);
// A file that does not exist is the default configuration, unless it was named by the user (`required`).
[[nodiscard]] Result<Config> load_config(const std::string& file, const std::string& home, bool required);
// The contract's example with every default, for --print-default-config: it parses, and gives the defaults.
[[nodiscard]] std::string_view default_config_text();

}  // namespace cmssh
