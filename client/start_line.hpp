// How the words of a command line are told apart where CLI11 must not: the command of a `start` is its own.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh::client {

// Whether the next word is the value of this option: of those of every verb, and of a start's.
[[nodiscard]] bool takes_value(std::string_view option);

// The words of a start line up to the first that is no option are ours; what follows is the command, untouched.
struct StartLine {
    std::vector<std::string> options;
    std::vector<std::string> command;
    bool separated = false;  // by "--"
};
[[nodiscard]] StartLine split_start_line(const std::vector<std::string>& words);

// `--ctx C` or `--ctx=C` at the end of a start line that has neither --ctx before the command nor "--": taken off the
// command. nullopt: there is none.
[[nodiscard]] std::optional<std::string> take_trailing_ctx(std::vector<std::string>& command);

}  // namespace cmssh::client
