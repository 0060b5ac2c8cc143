#include "client/host.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cmssh::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> tail(const std::string& host, const std::vector<std::string>& words,
                              HostTerminal terminal = HostTerminal::None) {
    auto argv = ssh_to_host(host, terminal, words);
    EXPECT_TRUE(argv);
    const auto options = std::find(argv->begin(), argv->end(), "RemoteCommand=none");
    EXPECT_NE(options, argv->end());
    return {options + 1, argv->end()};
}

TEST(SshToHost, TakesTheDestinationApart) {
    EXPECT_THAT(tail("ssh://workstation", {"proxy"}), ElementsAre("-T", "--", "workstation", "cmctl proxy"));
    EXPECT_THAT(tail("ssh://me@work.example.org:2222", {"proxy", "--no-spawn"}),
                ElementsAre("-T", "-p", "2222", "-l", "me", "--", "work.example.org", "cmctl proxy --no-spawn"));
    EXPECT_THAT(tail("ssh://me@[fe80::1]:22", {"attach", "x"}, HostTerminal::Ours), Not(testing::IsEmpty()));
    EXPECT_THAT(tail("[::1]:2222", {"proxy"}), ElementsAre("-T", "-p", "2222", "--", "::1", "cmctl proxy"));
    EXPECT_THAT(tail("me@workstation", {"attach", "x"}, HostTerminal::Ours),
                ElementsAre("-t", "-l", "me", "--", "workstation", "cmctl attach x"));
}

TEST(SshToHost, GivesNoShellAWordToRead) {
    for (const std::string word : {"a b", "$(id)", "'", "!x", "a;b", "*", "", "~", "{a,b}", "\n"}) {
        const std::string line = tail("workstation", {"exec", "--", word}).back();
        EXPECT_THAT(line, testing::StartsWith("exec /bin/sh -c 'eval \"$(printf %b \"$1\")\"' sh '")) << word;
        EXPECT_EQ(line.find('\n'), std::string::npos);
        EXPECT_EQ(line.find('!'), std::string::npos);
    }
}

TEST(SshToHost, RefusesWhatSshWouldTakeForAnOption) {
    for (const std::string host : {"-oProxyCommand=x", "ssh://-oX", "ssh://-l@host", "me@-oX", "a b", "tcp://x:1",
                                   "x:0", "ssh://x/path", "$(id)"}) {
        EXPECT_FALSE(ssh_to_host(host, HostTerminal::None, {"proxy"})) << host;
    }
}

TEST(SshText, IsWhatAPersonTypes) {
    EXPECT_EQ(ssh_text("ssh://me@workstation:2222"), "ssh -p 2222 -l me workstation");
    EXPECT_EQ(ssh_text("workstation"), "ssh workstation");
}

}  // namespace
}  // namespace cmssh::client
