// ssh.options of the config: which options of ssh(1) a person may add to every ssh that the daemon starts. Refused is
// what decides how that ssh runs, shares, forwards or logs: the daemon does so itself (daemon/ssh/ssh_command.cpp), and
// options given here stand behind its own and win over some of them. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

namespace cmssh {

struct RefusedOption {
    std::size_t index = 0;  // of the word that was given
    std::string expected;
    std::string hint;
    bool nothing_given = false;  // the word's value is missing
};

// The same options with one word for each and one for its value ("-4F/x": "-4", "-F", "/x"), so that whoever looks for
// one finds it. `home` replaces a leading ~ of the files of -F and -i.
[[nodiscard]] std::variant<std::vector<std::string>, RefusedOption> read_ssh_options(
    const std::vector<std::string>& given, const std::string& home);

}  // namespace cmssh
