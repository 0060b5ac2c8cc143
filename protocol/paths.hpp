// Where cmssh's files lie, from the environment alone. Pure: nothing is looked at or made here, except that the caller
// says whether /run/user/UID exists.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace cmssh {

struct PathEnvironment {
    std::function<std::optional<std::string>(std::string_view)>
        get;  // an environment variable; unset and empty: nullopt
    unsigned uid = 0;
    bool run_user_exists = false;  // /run/user/UID is a directory of ours
};

[[nodiscard]] PathEnvironment process_environment();

// Without a slash at the end. A relative XDG_… is ignored, as the XDG base directory specification says.
[[nodiscard]] std::string runtime_dir(const PathEnvironment& environment);
[[nodiscard]] std::string state_dir(const PathEnvironment& environment);
// flag: what --socket or --config gave.
[[nodiscard]] std::string socket_path(const PathEnvironment& environment, const std::optional<std::string>& flag);
[[nodiscard]] std::string config_path(const PathEnvironment& environment, const std::optional<std::string>& flag);

// ~ and ~/x by HOME; anything else as it is.
[[nodiscard]] std::string expand_home(const PathEnvironment& environment, std::string_view path);
[[nodiscard]] std::string expand_home(const std::string& home, std::string_view path);

}  // namespace cmssh
