#include "client/columns.hpp"

#include <locale.h>
#include <wchar.h>

#include "protocol/utf8.hpp"

namespace cmssh::client {
namespace {

// A locale of its own: the person's may know ASCII alone, and its characters are as wide all the same.
std::size_t width_of(char32_t character) {
    if (character < 0x80) {
        return 1;
    }
    static const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    const locale_t before = utf8 == nullptr ? nullptr : ::uselocale(utf8);
    const int width = ::wcwidth(static_cast<wchar_t>(character));
    if (before != nullptr) {
        ::uselocale(before);
    }
    return width < 0 ? 1 : static_cast<std::size_t>(width);
}

}  // namespace

std::size_t columns_of(std::string_view text) {
    std::size_t columns = 0;
    while (!text.empty()) {
        const auto character = utf8::first_character(text);
        columns += character.valid ? width_of(character.code_point) : 1;
        text.remove_prefix(character.size);
    }
    return columns;
}

std::string cut(const std::string& text, std::size_t columns) {
    if (columns_of(text) <= columns) {
        return text;
    }
    if (columns == 0) {
        return "";
    }
    std::string_view rest = text;
    std::size_t used = 0;
    while (!rest.empty()) {
        const auto character = utf8::first_character(rest);
        const std::size_t width = character.valid ? width_of(character.code_point) : 1;
        if (used + width > columns - 1) {
            break;
        }
        used += width;
        rest.remove_prefix(character.size);
    }
    return text.substr(0, text.size() - rest.size()) + "…";
}

}  // namespace cmssh::client
