// Commands of cmctl in what it prints, as a person would have to type them for the same daemon.
#pragma once

#include <optional>
#include <string>

#include "client/options.hpp"

namespace cmssh::client {

// The text, with the options behind each "cmctl VERB" that name the daemon which the command line meant. What the
// environment names already is not said again, and --help is the same everywhere.
[[nodiscard]] std::string for_typing(const GlobalOptions& global, const std::string& text);

// What has to be typed for --host; nullopt: nothing.
[[nodiscard]] std::optional<std::string> typed_host(const GlobalOptions& global);
// How a cmctl that is run on another machine learns what was typed on ours: this variable, empty where nothing was. It
// is gone once it is read, so that no child finds it.
inline constexpr const char* kTypedHostVariable = "CMSSH_TYPED_HOST";
void take_typed_host(GlobalOptions& global);

}  // namespace cmssh::client
