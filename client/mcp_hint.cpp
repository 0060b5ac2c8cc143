#include "client/mcp_hint.hpp"

#include <algorithm>
#include <string_view>

#include "client/mcp.hpp"

namespace cmssh::client::mcp {
namespace {

constexpr std::string_view kProgram = "cmctl ";

std::string_view first_word(std::string_view text) {
    return text.substr(0, std::min(text.find_first_of(" ,;:)"), text.size()));
}

bool takes_session(std::string_view tool) {
    return tool == "get" || tool == "kill" || tool == "logs" || tool == "send" || tool == "wait";
}

// What follows the verb in `rest`, as arguments of the tool; what was read is taken off.
std::string arguments(std::string_view tool, std::string_view& rest) {
    constexpr std::string_view kAll = " --all";
    if (tool == "list" && rest.starts_with(kAll)) {
        rest.remove_prefix(kAll.size());
        return " with all: true";
    }
    const std::string_view word = rest.starts_with(' ') ? first_word(rest.substr(1)) : std::string_view();
    if (!takes_session(tool) || word.empty() || word.starts_with('-')) {
        return "";
    }
    rest.remove_prefix(word.size() + 1);
    return " with session: " + std::string(word);
}

// "--name" of a text that is about `start` and the like.
std::string without_dashes(std::string text) {
    for (const std::string_view option : {"--name", "--ctx", "--timeout"}) {
        for (auto at = text.find(option); at != std::string::npos; at = text.find(option, at)) {
            text.erase(at, 2);
        }
    }
    return text;
}

}  // namespace

std::string hint_for_model(const std::string& hint) {
    if (hint.starts_with("cmctl rpc ")) {
        return "tools/list describes every tool";
    }
    std::string told;
    std::string_view rest = hint;
    bool for_user = false;
    for (auto at = rest.find(kProgram); at != std::string_view::npos; at = rest.find(kProgram)) {
        told += without_dashes(std::string(rest.substr(0, at)));
        rest.remove_prefix(at + kProgram.size());
        const std::string_view verb = first_word(rest);
        // The program's exec can do what the tool of that name can not.
        if (!is_tool(verb) || verb == "exec") {
            // As it stands, to where the next one may begin.
            for_user = true;
            told += kProgram;
            continue;
        }
        rest.remove_prefix(verb.size());
        told += "the tool " + std::string(verb);
        told += arguments(verb, rest);
    }
    told += for_user ? std::string(rest) : without_dashes(std::string(rest));
    return for_user ? "for the user to type, in a terminal: " + told : told;
}

}  // namespace cmssh::client::mcp
