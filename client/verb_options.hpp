// The verbs: what each takes, as it declares it to CLI11, and what runs it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/options.hpp"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace cmssh::client {

// Each verb is an App of its own and not a subcommand: CLI11 would take the name of another verb for that verb where a
// session or a context is meant. And only what is asked for is built, which is most of cmctl's start-up time.
struct Verb {
    const char* name = nullptr;
    const char* text = nullptr;
    int (*parse)(CLI::App& app, GlobalOptions& global, const std::vector<std::string>& words) = nullptr;
    const char* examples = nullptr;  // for its help, a line each
    bool stays_here = false;         // whatever CMSSH_HOST says
};

// In the order of the help; one without a text is none of the person's.
[[nodiscard]] std::span<const Verb> verbs();
// By its name or a short one. nullptr: there is none.
[[nodiscard]] const Verb* find_verb(std::string_view name);

// The exit code, once what was wrong with the words, or the help, is told.
int stop(const CLI::App& app, const CLI::ParseError& error);

}  // namespace cmssh::client
