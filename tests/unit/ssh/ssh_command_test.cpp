#include "daemon/ssh/ssh_command.hpp"

#include <gmock/gmock.h>

#include <algorithm>

namespace cmssh {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::Not;

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

TEST(LastHop, IsReachedOverThoseBeforeIt) {
    const auto one = last_hop("me@bastion:2222");
    ASSERT_TRUE(one);
    EXPECT_EQ(one->destination, (Destination{.host = "bastion", .user = "me", .port = 2222}));
    EXPECT_FALSE(one->jump);
    const auto third = last_hop("a,me@b:2,[::1]:3");
    ASSERT_TRUE(third);
    EXPECT_EQ(third->destination, (Destination{.host = "::1", .user = std::nullopt, .port = 3}));
    EXPECT_EQ(third->jump, "a,me@b:2");
    // As OpenSSH 9.2 writes an address.
    EXPECT_EQ(last_hop("[127.0.0.1]:22")->destination.host, "127.0.0.1");
    for (const char* text : {"", "a,", "-x", "a b", "a;b"}) {
        EXPECT_FALSE(last_hop(text)) << text;
    }
}

TEST(DumpCommand, GoesOverTheHops) {
    EXPECT_THAT(dump_command({}, *last_hop("a,b,c")), ElementsAre("ssh", "-G", "-T", "-J", "a,b", "--", "c"));
}

TEST(MasterCommand, OverAHopTakesItsMasterAndNoOtherWay) {
    SshConfig config;
    config.program = "/opt/my ssh/ssh";
    MasterArguments arguments;
    arguments.hop = HopSocket{.control_path = "/run/it's%/ctl", .host = "b", .key = "u@b:22 via a"};
    const auto argv = master_command(config, *last_hop("a,b"), arguments);
    EXPECT_THAT(argv, Contains("ProxyCommand='/opt/my ssh/ssh' -F none -S '/run/it'\\''s%%%%/ctl' -o ControlMaster=no "
                               "-o ProxyCommand=false -o BatchMode=yes -W '[%h]:%p' -- 'b'"));
    EXPECT_THAT(argv, Contains("ProxyUseFdpass=no"));
    EXPECT_THAT(argv, Not(Contains("-J"))) << "ssh refuses both together";
    arguments.hop.reset();
    EXPECT_THAT(master_command(config, *last_hop("a,b"), arguments), IsSupersetOf({"-J", "a"}));
}

TEST(SshEnvironment, KeepsOurOwnSshFromAskingUs) {
    const auto environment = ssh_environment({"HOME=/h", "CMSSH_SOCKET=/s", "SSH_AUTH_SOCK=/a"}, "/b");
    EXPECT_THAT(environment, ElementsAre("HOME=/h", "SSH_AUTH_SOCK=/b", "CMSSH_NO_POOL=1"));
}

}  // namespace
}  // namespace cmssh
