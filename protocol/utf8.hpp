// UTF-8 one character at a time, as strict as RFC 3629: shortest form, no surrogates, nothing above U+10FFFF. Pure.
#pragma once

#include <cstddef>
#include <string_view>

namespace cmssh::utf8 {

struct Character {
    bool valid = false;
    char32_t code_point = 0;  // 0 where the byte begins no valid character
    std::size_t size = 1;     // bytes that it takes; 1 where it is not valid
};

// The character at the beginning of text, which must not be empty.
[[nodiscard]] inline Character first_character(std::string_view text) {
    const auto byte = [text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) {
        return {.valid = true, .code_point = lead, .size = 1};
    }
    std::size_t size = 0;
    char32_t code_point = 0;
    char32_t smallest = 0;
    if ((lead & 0xe0) == 0xc0) {
        size = 2;
        code_point = lead & 0x1fU;
        smallest = 0x80;
    } else if ((lead & 0xf0) == 0xe0) {
        size = 3;
        code_point = lead & 0x0fU;
        smallest = 0x800;
    } else if ((lead & 0xf8) == 0xf0) {
        size = 4;
        code_point = lead & 0x07U;
        smallest = 0x10000;
    } else {
        return {};
    }
    if (text.size() < size) {
        return {};
    }
    for (std::size_t at = 1; at < size; ++at) {
        if ((byte(at) & 0xc0) != 0x80) {
            return {};
        }
        code_point = code_point << 6 | (byte(at) & 0x3fU);
    }
    const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
    if (code_point < smallest || surrogate || code_point > 0x10ffff) {
        return {};
    }
    return {.valid = true, .code_point = code_point, .size = size};
}

}  // namespace cmssh::utf8
