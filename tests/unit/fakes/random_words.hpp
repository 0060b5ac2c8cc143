// Words for tests of quoting: from a seed, and full of what some shell, tmux or ssh acts on. What is executed of them
// makes a file x.
#pragma once

#include <random>
#include <string>
#include <vector>

namespace cmssh::fakes {

class RandomWords {
public:
    enum class Bytes { Any, Utf8 };  // no NUL in either

    RandomWords(unsigned seed, Bytes bytes) : random_(seed), bytes_(bytes) {}

    std::string word() {
        static const std::vector<std::string> kPieces = {
            "'",          "\"",     "\\",        "!",  "$",  "`",   "$(touch x)", "`touch x`", "\n",
            "\r\n",       "\t",     " ",         "*",  "?",  "[a]", "{a,b}",      "~",         "~root",
            "#(touch x)", "#{pid}", "#[fg=red]", "##", "#",  "%",   "%h",         "%%",        "\\0",
            "\\n",        "\\c",    "\\'",       "''", "!!", "!x",  "^a^b",       ";",         "&",
            "|",          "<",      ">",         "(",  ")",  "=",   "-",          "--",        "$HOME",
            "\x1b[31m",   "\x7f",   "\xc2\x9b",  "é",  "漢", "😀",   "\u202e",     "a",         "0"};
        std::string text;
        for (std::size_t count = below(12); count > 0; --count) {
            if (below(4) == 0) {
                text += static_cast<char>(1 + below(bytes_ == Bytes::Any ? 255 : 127));
            } else {
                text += kPieces[below(kPieces.size())];
            }
        }
        return text;
    }
    std::vector<std::string> words(std::size_t count) {
        std::vector<std::string> words;
        while (words.size() < count) {
            words.push_back(word());
        }
        return words;
    }

private:
    std::size_t below(std::size_t end) { return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_); }

    std::mt19937 random_;
    Bytes bytes_;
};

}  // namespace cmssh::fakes
