#include "daemon/ssh/ssh_command.hpp"

#include <gmock/gmock.h>

#include <algorithm>

namespace cmssh {
namespace {

using ::testing::ElementsAre;

TEST(TerminalCommand, NeverLogsInByItself) {
    SshConfig config;
    config.program = "/opt/ssh";
    config.options = {"-F", "/etc/my_ssh_config", "-o", "ProxyCommand=nc %h %p"};
    const auto argv = terminal_command(config, "/run/100%/cm", "server1", "exec 'tmux'");
    EXPECT_EQ(argv.front(), "/opt/ssh");
    const auto own = std::find(argv.begin(), argv.end(), "ProxyCommand=false");
    const auto users = std::find(argv.begin(), argv.end(), "ProxyCommand=nc %h %p");
    EXPECT_LT(own, users) << "ssh takes the first value that it reads";
    EXPECT_EQ(*(std::find(argv.begin(), argv.end(), "-S") + 1), "/run/100%%/cm");
    EXPECT_NE(std::find(argv.begin(), argv.end(), "-t"), argv.end());
    ASSERT_GE(argv.size(), 3U);
    EXPECT_THAT(std::vector<std::string>(argv.end() - 3, argv.end()), ElementsAre("--", "server1", "exec 'tmux'"));
}

}  // namespace
}  // namespace cmssh
