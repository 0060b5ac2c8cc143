#include "client/start_line.hpp"

#include <algorithm>
#include <iterator>

namespace cmssh::client {

bool takes_value(std::string_view option) {
    static constexpr const char* kOptions[] = {"--ctx",    "--name",    "--cwd",    "--env",   "--key",
                                               "--socket", "--timeout", "--config", "--color", "--host"};
    return std::any_of(std::begin(kOptions), std::end(kOptions), [option](const char* it) { return option == it; });
}

StartLine split_start_line(const std::vector<std::string>& words) {
    StartLine line;
    std::size_t at = 0;
    while (at < words.size()) {
        const std::string& word = words[at];
        if (word == "--") {
            line.separated = true;
            ++at;
            break;
        }
        if (word.size() < 2 || word[0] != '-') {
            break;
        }
        line.options.push_back(word);
        ++at;
        if (takes_value(word) && at < words.size()) {
            line.options.push_back(words[at++]);
        }
    }
    line.command.assign(words.begin() + static_cast<std::ptrdiff_t>(at), words.end());
    return line;
}

std::optional<std::string> take_trailing_ctx(std::vector<std::string>& command) {
    constexpr std::string_view kOption = "--ctx";
    // A command must be left.
    if (command.size() >= 3 && command[command.size() - 2] == kOption) {
        std::string ctx = command.back();
        command.resize(command.size() - 2);
        return ctx;
    }
    if (command.size() >= 2 && command.back().starts_with("--ctx=")) {
        std::string ctx = command.back().substr(kOption.size() + 1);
        command.pop_back();
        return ctx;
    }
    return std::nullopt;
}

}  // namespace cmssh::client
