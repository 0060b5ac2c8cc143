// Takes one of our command lines apart as tmux's parser does; throws on what it would refuse or expand.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh::tmux {

inline std::vector<std::string> words_of(std::string_view line) {
    std::vector<std::string> words;
    std::string word;
    bool in_word = false;
    char quote = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (quote == 0 && c == ' ') {
            if (in_word) {
                words.push_back(std::move(word));
            }
            word.clear();
            in_word = false;
            continue;
        }
        const bool opens = !in_word;
        in_word = true;
        if (c == quote) {
            quote = 0;
        } else if (quote == 0 && (c == '"' || c == '\'')) {
            quote = c;
        } else if (c == '\\' && quote != '\'') {
            const char next = i + 1 < line.size() ? line[++i] : '\0';
            if (next >= '0' && next <= '3' && i + 2 < line.size()) {
                word += static_cast<char>((next - '0') * 64 + (line[i + 1] - '0') * 8 + (line[i + 2] - '0'));
                i += 2;
            } else if (next == 'n') {
                word += '\n';
            } else if (next == '"' || next == '\\' || next == '$') {
                word += next;
            } else {
                throw std::runtime_error("an escape that tmux reads otherwise");
            }
        } else if (c == '$' && quote != '\'') {
            throw std::runtime_error("tmux would expand a variable");
        } else if (c == '~' && quote != '\'' && (opens || line[i - 1] == '"')) {
            throw std::runtime_error("tmux would expand a ~");
        } else if (quote == 0 && std::string_view(";{}#").find(c) != std::string_view::npos) {
            throw std::runtime_error("tmux would end the command");
        } else {
            word += c;
        }
    }
    if (quote != 0) {
        throw std::runtime_error("a quote is open");
    }
    if (in_word) {
        words.push_back(std::move(word));
    }
    return words;
}

}  // namespace cmssh::tmux
