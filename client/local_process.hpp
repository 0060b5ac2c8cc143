// A program run to its end, for what it says. Blocking, without a shell.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/rpc_client.hpp"

namespace cmssh::client {

struct Said {
    int exit_code = 0;  // 128 + n for a signal
    std::string output;
    std::string errors;
};

// argv[0] is looked for in PATH; its standard input is empty. nullopt: it is not there, or ran on at the deadline and
// was killed. Of each output the first 64 KiB.
[[nodiscard]] std::optional<Said> run_program(std::vector<std::string> argv, Instant deadline);

}  // namespace cmssh::client
