// The names that the user's ssh_config gives to servers, for `contexts`: every Host pattern that is one plain name.
// Whether ssh takes a name and where it leads is asked of `ssh -G` alone (identity.hpp).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cmssh {

// What one configuration file says (ssh_config(5), OpenSSH 9.2): plain Host names in order, and Include arguments.
struct SshAliases {
    std::vector<std::string> hosts;
    std::vector<std::string> includes;
};
[[nodiscard]] SshAliases parse_ssh_aliases(std::string_view text);

// The aliases of the file that ssh reads (`-F FILE` in its options, else ~/.ssh/config) and of what it includes. What
// cannot be read is passed over, as ssh itself will say so. Blocking: a few small local files.
[[nodiscard]] std::vector<std::string> ssh_aliases(const std::vector<std::string>& ssh_options,
                                                   const std::string& home);

}  // namespace cmssh
