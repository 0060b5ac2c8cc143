// Another verb of cmctl as a program of its own on the same terminal, with the same daemon.
#pragma once

#include <string>
#include <vector>

#include "client/options.hpp"

namespace cmssh::client {

// To its end: its exit code as a shell has it; -1 where it could not be run. Ctrl-C is its own meanwhile.
[[nodiscard]] int run_own_verb(const GlobalOptions& global, const std::vector<std::string>& words);

}  // namespace cmssh::client
