// What the targets share. Each target is one file that defines one_input(); tests/fuzz/run builds and runs them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh::fuzz {

// Called with each input, which lies in memory of just its size: reading past it is seen. What escapes by an exception
// is a finding too.
void one_input(std::string_view input);

inline void expect(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "does not hold: %s\n", what);
        std::abort();
    }
}

// As they could arrive from a socket: pieces whose size follows from the input, so that corpora hold nothing else.
inline std::vector<std::string_view> pieces(std::string_view input) {
    const std::size_t size = 1 + input.size() % 7;
    std::vector<std::string_view> all;
    for (; !input.empty(); input.remove_prefix(std::min(size, input.size()))) {
        all.push_back(input.substr(0, size));
    }
    return all;
}

inline std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    while (true) {
        const std::size_t end = std::min(text.find(separator), text.size());
        parts.emplace_back(text.substr(0, end));
        if (end == text.size()) {
            return parts;
        }
        text.remove_prefix(end + 1);
    }
}

}  // namespace cmssh::fuzz
