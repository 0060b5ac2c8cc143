// The daemon's executable as ssh's askpass program: hands ssh's question to the daemon and prints the answer.
#pragma once

#include <optional>

namespace cmssh {

// nullopt: ssh did not run us for that. Otherwise the exit code: 1 where there is no answer.
[[nodiscard]] std::optional<int> answer_askpass(int argc, char** argv);

}  // namespace cmssh
