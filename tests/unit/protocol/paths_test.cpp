#include "protocol/paths.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace cmssh {
namespace {

PathEnvironment environment(const std::map<std::string, std::string, std::less<>>& variables,
                            bool run_user_exists = false) {
    PathEnvironment result;
    result.get = [variables](std::string_view name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        return found == variables.end() ? std::nullopt : std::optional(found->second);
    };
    result.uid = 1000;
    result.run_user_exists = run_user_exists;
    return result;
}

TEST(RuntimeDir, FallsBackFromXdgToRunUserToTmp) {
    EXPECT_EQ(runtime_dir(environment({{"XDG_RUNTIME_DIR", "/run/x"}}, true)), "/run/x/cmssh");
    EXPECT_EQ(runtime_dir(environment({{"XDG_RUNTIME_DIR", "/run/x//"}})), "/run/x/cmssh");
    EXPECT_EQ(runtime_dir(environment({}, true)), "/run/user/1000/cmssh");
    EXPECT_EQ(runtime_dir(environment({})), "/tmp/cmssh-1000");
    EXPECT_EQ(runtime_dir(environment({{"XDG_RUNTIME_DIR", "run/x"}})), "/tmp/cmssh-1000");
}

TEST(StateDir, FollowsXdg) {
    EXPECT_EQ(state_dir(environment({{"HOME", "/home/u"}})), "/home/u/.local/state/cmssh");
    EXPECT_EQ(state_dir(environment({{"HOME", "/home/u"}, {"XDG_STATE_HOME", "/state"}})), "/state/cmssh");
    EXPECT_EQ(state_dir(environment({{"HOME", "/home/u"}, {"XDG_STATE_HOME", "state"}})), "/home/u/.local/state/cmssh");
    EXPECT_EQ(state_dir(environment({{"HOME", "/"}})), "/.local/state/cmssh");
}

TEST(SocketPath, PrefersTheFlagThenTheEnvironment) {
    const auto set = environment({{"CMSSH_SOCKET", "/s"}, {"XDG_RUNTIME_DIR", "/run/x"}});
    EXPECT_EQ(socket_path(set, "/flag"), "/flag");
    EXPECT_EQ(socket_path(set, std::nullopt), "/s");
    EXPECT_EQ(socket_path(set, ""), "/s");
    EXPECT_EQ(socket_path(environment({{"XDG_RUNTIME_DIR", "/run/x"}}), std::nullopt), "/run/x/cmssh/cmsshd.sock");
}

TEST(ConfigPath, PrefersTheFlagThenTheEnvironment) {
    const auto set = environment({{"CMSSH_CONFIG", "/c"}, {"HOME", "/home/u"}});
    EXPECT_EQ(config_path(set, "/flag"), "/flag");
    EXPECT_EQ(config_path(set, std::nullopt), "/c");
    EXPECT_EQ(config_path(environment({{"HOME", "/home/u"}}), std::nullopt), "/home/u/.config/cmssh/config.toml");
    EXPECT_EQ(config_path(environment({{"XDG_CONFIG_HOME", "/etc/x"}}), std::nullopt), "/etc/x/cmssh/config.toml");
}

TEST(ExpandHome, ReplacesOnlyOnesOwnTilde) {
    const auto home = environment({{"HOME", "/home/u/"}});
    EXPECT_EQ(expand_home(home, "~"), "/home/u");
    EXPECT_EQ(expand_home(home, "~/.ssh/id"), "/home/u/.ssh/id");
    EXPECT_EQ(expand_home(home, "~root/x"), "~root/x");
    EXPECT_EQ(expand_home(home, "/a/~/b"), "/a/~/b");
    EXPECT_EQ(expand_home(home, ""), "");
}

}  // namespace
}  // namespace cmssh
