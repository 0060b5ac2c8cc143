// What of the configuration `cmctl doctor` needs, which reads no TOML: `cmsshd --check-config` prints it.
#pragma once

#include <string>

#include "daemon/base/config.hpp"

namespace cmssh {

// One line of JSON: {"ssh": PROGRAM, "control_path": PATTERN, "tmux": NAME, "shell": "login-interactive",
// "tools": {NAME: PROGRAM}}
[[nodiscard]] std::string config_summary(const Config& config);

}  // namespace cmssh
