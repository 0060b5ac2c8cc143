// The scripts that teach a shell to complete cmctl: client/completions/, made a part of the program by the build.
#pragma once

#include <string_view>

namespace cmssh::client {

// nullptr: there is none for that shell.
[[nodiscard]] const char* completion_script(std::string_view shell);

}  // namespace cmssh::client
