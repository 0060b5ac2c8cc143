// How help is laid out: no line is wider than the narrowest terminal that people use.
#pragma once

#include <cstddef>
#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace cmssh::client {

inline constexpr std::size_t kHelpWidth = 80;

// Lines that are wider go on in the next, below the text of a list's entry, or below where they began. Broken at blanks
// alone.
[[nodiscard]] std::string fit_lines(const std::string& text, std::size_t width);

void use_help_layout(CLI::App& app);

}  // namespace cmssh::client
