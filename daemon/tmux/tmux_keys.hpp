// The names of keys that send-keys takes. Pure. tmux types a name that it does not know as if it were text, and drops a
// key for which a plain terminal has no bytes: so only names for which it sends a key's own bytes are let through, by
// what tmux 3.2 to 3.7c have in common.
#pragma once

#include <string_view>

namespace cmssh::tmux {

// "C-c", "M-x", "S-Up", "Enter", "F5", or one printable character. Names and modifiers in either case, as tmux has it.
[[nodiscard]] bool valid_key(std::string_view name);

}  // namespace cmssh::tmux
