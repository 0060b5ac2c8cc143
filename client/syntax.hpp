// What can be typed behind a verb, as the verb itself declares it to CLI11. Nothing of the environment is looked at.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace cmssh::client {

// An option ("-s", "--signal") or an operand ("session").
struct OptionSyntax {
    std::vector<std::string> names;
    std::string type;  // of its value, as the help calls it; empty: it takes none
    std::string text;
    bool many = false;  // an operand that stands for all words that follow
};

struct VerbSyntax {
    std::string name;
    std::string text;
    std::vector<OptionSyntax> options;
    std::vector<OptionSyntax> operands;

    // By one of its names, with the dashes.
    [[nodiscard]] const OptionSyntax* find_option(std::string_view option) const;
};

[[nodiscard]] VerbSyntax syntax_of(const CLI::App& app);

// Those of the help, in its order; without options and operands.
[[nodiscard]] std::vector<VerbSyntax> all_verbs();
// Empty: what cmctl takes before a verb. nullopt: there is no such verb.
[[nodiscard]] std::optional<VerbSyntax> syntax_of_verb(std::string_view name);

}  // namespace cmssh::client
