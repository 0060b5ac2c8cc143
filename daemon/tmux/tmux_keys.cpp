#include "daemon/tmux/tmux_keys.hpp"

#include <algorithm>
#include <string>

#include "protocol/names.hpp"
#include "protocol/utf8.hpp"

namespace cmssh::tmux {
namespace {

struct Modifiers {
    bool control = false;
    bool meta = false;
    bool shift = false;
};

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

template <typename List>
bool holds(const List& list, std::string_view lowered) {
    return std::find(std::begin(list), std::end(list), lowered) != std::end(list);
}

// xterm's sequences have a place for every modifier.
constexpr std::string_view kFullKeys[] = {"f1",    "f2",     "f3",   "f4",  "f5",    "f6",       "f7",
                                          "f8",    "f9",     "f10",  "f11", "f12",   "ic",       "insert",
                                          "dc",    "delete", "home", "end", "npage", "pagedown", "pgdn",
                                          "ppage", "pageup", "pgup", "up",  "down",  "left",     "right"};
constexpr std::string_view kPlainKeys[] = {"tab", "btab", "bspace", "enter", "escape",  "kp/", "kp*",
                                           "kp-", "kp7",  "kp8",    "kp9",   "kp+",     "kp4", "kp5",
                                           "kp6", "kp1",  "kp2",    "kp3",   "kpenter", "kp0", "kp."};

// What ASCII has a control character for.
bool has_control(char c) {
    const char lowered = lower(c);
    return (lowered >= 'a' && lowered <= 'z') || std::string_view("@[\\]^_?").find(c) != std::string_view::npos;
}

bool valid_with(const Modifiers& modifiers, std::string_view base) {
    std::string lowered(base);
    std::transform(lowered.begin(), lowered.end(), lowered.begin(), lower);
    if (holds(kFullKeys, lowered)) {
        return true;
    }
    if (modifiers.shift) {
        return false;
    }
    if (lowered == "space") {
        return true;
    }
    if (holds(kPlainKeys, lowered)) {
        return !modifiers.control;
    }
    const auto character = utf8::first_character(base);
    if (base.empty() || !character.valid || character.size != base.size() || base == " " || printable(base) != base) {
        return false;
    }
    return !modifiers.control || (base.size() == 1 && has_control(base.front()));
}

}  // namespace

bool valid_key(std::string_view name) {
    Modifiers modifiers;
    if (name.size() == 2 && name.front() == '^') {
        return has_control(name.back());
    }
    while (name.size() > 2 && name[1] == '-') {
        const char modifier = lower(name.front());
        bool& held = modifier == 'c' ? modifiers.control : modifier == 'm' ? modifiers.meta : modifiers.shift;
        if ((modifier != 'c' && modifier != 'm' && modifier != 's') || held) {
            return false;
        }
        held = true;
        name.remove_prefix(2);
    }
    return valid_with(modifiers, name);
}

}  // namespace cmssh::tmux
