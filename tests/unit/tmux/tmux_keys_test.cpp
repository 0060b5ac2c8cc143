#include "daemon/tmux/tmux_keys.hpp"

#include <gtest/gtest.h>

namespace cmssh::tmux {
namespace {

TEST(Keys, AreThoseOfTmux) {
    for (const auto* key :
         {"a",      "Z",   "0",    ";",       "-",     "~",     "^",         "#",    "\"",      "'",
          "\\",     "é",   "漢",   "😀",       "Enter", "enter", "ESCAPE",    "Tab",  "BTab",    "Space",
          "BSpace", "Up",  "PgDn", "F1",      "F12",   "KP0",   "KPEnter",   "C-a",  "C-A",     "c-z",
          "^c",     "C-@", "C-[",  "C-\\",    "C-]",   "C-^",   "C-_",       "C-?",  "C-Space", "M-a",
          "M-;",    "M--", "M-é",  "M-Enter", "C-M-a", "M-C-a", "C-M-Space", "S-Up", "C-S-F5",  "S-M-C-Home"}) {
        EXPECT_TRUE(valid_key(key)) << key;
    }
}

TEST(Keys, ThatTmuxWouldTypeOrDropAreNone) {
    for (const auto* key : {"",       " ",    "ab",    "Entr",    "Enter ",  "F0",
                            "F13",    "KP",   "None",  "Any",     "0x41",    "MouseDown1Pane",
                            "C-",     "M-",   "-a",    "--",      "C-C-a",   "X-a",
                            "C-!",    "C-1",  "C-/",   "C-é",     "C-Enter", "C-Tab",
                            "C-KP0",  "S-a",  "S-Tab", "S-Space", "C-S-a",   "^",
                            "^!",     "^ab",  "\n",    "\x1b",    "\x7f",    "\u0080",
                            "\u202e", "\xff", "é́"}) {
        EXPECT_TRUE(std::string_view(key) == "^" || !valid_key(key)) << key;
    }
}

}  // namespace
}  // namespace cmssh::tmux
