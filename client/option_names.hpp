// Errors of the API are about params. On a command line they are about what was typed.
#pragma once

#include <string>

namespace cmssh::client {

// "params.name: x is …" as "--name: x is …", where the message begins with a param that the command line gives.
[[nodiscard]] std::string with_option_names(const std::string& message);

}  // namespace cmssh::client
