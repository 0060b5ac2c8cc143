#include "client/typed_command.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "client/given_context.hpp"
#include "client/host.hpp"
#include "client/output.hpp"
#include "client/verb_options.hpp"

namespace cmssh::client {
namespace {

constexpr std::string_view kProgram = "cmctl ";

std::string options_to_type(const GlobalOptions& global) {
    std::vector<std::string> words;
    if (const auto host = typed_host(global)) {
        words.insert(words.end(), {"--host", *host});
    }
    if (global.socket && global.socket != environment_value("CMSSH_SOCKET")) {
        words.insert(words.end(), {"--socket", *global.socket});
    }
    return words.empty() ? "" : command_text(words) + ' ';
}

// What begins at `behind` the name of a program that begins at `at`.
bool is_command(std::string_view text, std::size_t at, std::size_t behind) {
    const bool word = at == 0 || text[at - 1] == ' ' || text[at - 1] == '(';
    const std::string_view rest = text.substr(behind);
    const std::size_t end = std::min(rest.find_first_of(" ,;:)"), rest.size());
    return word && end > 0 && find_verb(rest.substr(0, end)) != nullptr && !rest.substr(end).starts_with(" --help");
}

}  // namespace

std::string for_typing(const GlobalOptions& global, const std::string& text) {
    const std::string options = options_to_type(global);
    if (options.empty()) {
        return text;
    }
    // That is run on the machine itself.
    const std::string over_ssh = global.host ? ssh_text(*global.host) + ' ' : "";
    std::string typed;
    std::size_t from = 0;
    for (auto at = text.find(kProgram); at != std::string::npos; at = text.find(kProgram, from)) {
        const std::size_t behind = at + kProgram.size();
        typed.append(text, from, behind - from);
        from = behind;
        const bool there = !over_ssh.empty() && std::string_view(text).substr(0, at).ends_with(over_ssh);
        if (!there && is_command(text, at, behind)) {
            typed += options;
        }
    }
    return typed.append(text, from);
}

std::optional<std::string> typed_host(const GlobalOptions& global) {
    if (global.typed_host) {
        return global.typed_host->empty() ? std::nullopt : global.typed_host;
    }
    const auto everywhere = environment_value("CMSSH_HOST");
    return global.host == everywhere ? std::nullopt : std::optional(global.host.value_or(""));
}

void take_typed_host(GlobalOptions& global) {
    if (const char* typed = std::getenv(kTypedHostVariable)) {
        global.typed_host = typed;
        ::unsetenv(kTypedHostVariable);
    }
}

}  // namespace cmssh::client
