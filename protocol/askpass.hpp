// What the daemon and its askpass program, which is the daemon's own executable run by ssh, have agreed on. Private:
// no client needs it.
#pragma once

#include <string_view>

namespace cmssh::askpass {

inline constexpr std::string_view kMethod = "askpass";

// In the environment of an ssh that may ask, and of nothing else.
inline constexpr const char* kSocketVariable = "CMSSH_ASKPASS_SOCKET";
inline constexpr const char* kTokenVariable = "CMSSH_ASKPASS_TOKEN";

// What ssh puts into SSH_ASKPASS_PROMPT (OpenSSH 8.2 and newer), where it does.
inline constexpr const char* kKindVariable = "SSH_ASKPASS_PROMPT";
inline constexpr std::string_view kConfirm = "confirm";
inline constexpr std::string_view kNotice = "none";

}  // namespace cmssh::askpass
