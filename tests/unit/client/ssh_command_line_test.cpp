#include "client/ssh_command_line.hpp"

#include <gmock/gmock.h>

namespace cmssh::client {
namespace {

using Words = std::vector<std::string>;

TEST(SshCommandLine, KeepsWhatDecidesWhereItGoes) {
    struct Case {
        Words line;
        Words kept;
    };
    for (const Case& it : std::vector<Case>{
             {{"host"}, {"--", "host"}},
             {{"me@host", "ls", "-l", "-F", "x"}, {"--", "me@host"}},
             {{"-l", "me", "-p22", "host"}, {"-l", "me", "-p", "22", "--", "host"}},
             {{"host", "-p", "22", "-l", "me", "ls", "-p", "9"}, {"-p", "22", "-l", "me", "--", "host"}},
             {{"-p1", "host", "-p2", "-oPort=3"}, {"-p", "1", "-p", "2", "-o", "Port=3", "--", "host"}},
             {{"--", "host", "-p", "9"}, {"--", "host"}},
             {{"-ttAvvi", "key", "-J", "a,b", "host"}, {"-A", "-i", "key", "-J", "a,b", "--", "host"}},
             {{"-oUser=me", "-o", "Port 9", "--", "-host"}, {"-o", "User=me", "-o", "Port 9", "--", "-host"}},
             {{"host", "--", "-p", "9"}, {"--", "host"}},
             // As scp and sftp, rsync, and git have it.
             {{"-x", "-oForwardAgent=no", "-l", "me", "-s", "--", "host", "sftp"},
              {"-x", "-o", "ForwardAgent=no", "-l", "me", "--", "host"}},
             {{"host", "rsync", "--server", "-logDtpre.iLsfxCIvu", ".", "x"}, {"--", "host"}},
             {{"-o", "SendEnv=GIT_PROTOCOL", "git@host", "git-upload-pack 'x'"},
              {"-o", "SendEnv=GIT_PROTOCOL", "--", "git@host"}},
         }) {
        const auto line = parse_ssh_command_line(it.line);
        ASSERT_TRUE(line) << ::testing::PrintToString(it.line);
        EXPECT_EQ(line->words, it.kept);
        EXPECT_TRUE(line->opens_session);
        EXPECT_FALSE(line->forwards_stdio);
        EXPECT_FALSE(line->config_file);
    }
}

TEST(SshCommandLine, NamesTheConfiguration) {
    EXPECT_EQ(parse_ssh_command_line({"-F", "a", "host"})->config_file, "a");
    EXPECT_EQ(parse_ssh_command_line({"-Fa", "host", "-F", "b", "ls", "-F", "c"})->config_file, "b") << "the last";
    EXPECT_EQ(parse_ssh_command_line({"-qFnone", "host"})->config_file, "none");
}

TEST(SshCommandLine, TellsWhatOpensNoSession) {
    for (const Words& words : std::vector<Words>{{"-G", "host"},
                                                 {"host", "-G"},
                                                 {"-vG", "host"},
                                                 {"-O", "check", "host"},
                                                 {"-Ocheck", "host"},
                                                 {"-M", "host"},
                                                 {"-fN", "host"},
                                                 {"-f", "host", "ls"},
                                                 {"-Q", "cipher", "host"},
                                                 {"-V", "host"}}) {
        EXPECT_FALSE(parse_ssh_command_line(words)->opens_session) << ::testing::PrintToString(words);
    }
    EXPECT_TRUE(parse_ssh_command_line({"host", "ls", "-G"})->opens_session) << "the command's own";
    EXPECT_TRUE(parse_ssh_command_line({"-i", "-G", "host"})->opens_session) << "a value";
    const auto stream = parse_ssh_command_line({"-W", "[h]:22", "hop"});
    EXPECT_TRUE(stream->opens_session && stream->forwards_stdio);
    EXPECT_EQ(stream->words, (Words{"-W", "[h]:22", "--", "hop"})) << "it clears forwards";
}

TEST(SshCommandLine, KnowsNothingElse) {
    for (const Words& words :
         std::vector<Words>{{}, {"-v"}, {"--"}, {"-p"}, {"-z", "host"}, {"host", "-z"}, {"-l", "me"}}) {
        EXPECT_FALSE(parse_ssh_command_line(words)) << ::testing::PrintToString(words);
    }
}

}  // namespace
}  // namespace cmssh::client
