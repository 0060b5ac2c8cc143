#include "daemon/app/ssh_options.hpp"

#include <gtest/gtest.h>

namespace cmssh {
namespace {

using Words = std::vector<std::string>;

std::variant<Words, RefusedOption> read(const Words& given) {
    return read_ssh_options(given, "/home/me");
}

std::string joined(const Words& words) {
    std::string text;
    for (const std::string& word : words) {
        text += '[' + word + ']';
    }
    return text;
}

TEST(SshOptions, AreOneWordEachWithTheirValuesApart) {
    const std::pair<Words, Words> cases[] = {
        {{}, {}},
        {{"-4"}, {"-4"}},
        {{"-4Cvv"}, {"-4", "-C", "-v", "-v"}},
        {{"-F", "/x"}, {"-F", "/x"}},
        {{"-F/x"}, {"-F", "/x"}},
        {{"-4F/x", "-6"}, {"-4", "-F", "/x", "-6"}},
        {{"-CF", "/x"}, {"-C", "-F", "/x"}},
        {{"-F", "none"}, {"-F", "none"}},
        {{"-F", "-N"}, {"-F", "-N"}},
        {{"-F", "~/x", "-i", "~/y", "-i~/z", "-i", "~"},
         {"-F", "/home/me/x", "-i", "/home/me/y", "-i", "/home/me/z", "-i", "/home/me"}},
        {{"-F", "~other/x", "-J", "~/x"}, {"-F", "~other/x", "-J", "~/x"}},
        {{"-o", "Compression=yes"}, {"-o", "Compression=yes"}},
        {{"-oCompression yes"}, {"-o", "Compression yes"}},
        {{"-o", "UserKnownHostsFile = /x"}, {"-o", "UserKnownHostsFile = /x"}},
        {{"-o", "ControlPathX=yes"}, {"-o", "ControlPathX=yes"}},
        {{"-B", "eth0", "-b", "::1", "-c", "x", "-e", "none", "-I", "x", "-J", "hop", "-l", "me", "-m", "x", "-p", "2"},
         {"-B", "eth0", "-b", "::1", "-c", "x", "-e", "none", "-I", "x", "-J", "hop", "-l", "me", "-m", "x", "-p",
          "2"}},
        {{"-246AaCgKkvXxY"}, {"-2", "-4", "-6", "-A", "-a", "-C", "-g", "-K", "-k", "-v", "-X", "-x", "-Y"}},
    };
    for (const auto& [given, expected] : cases) {
        const auto outcome = read(given);
        ASSERT_TRUE(std::holds_alternative<Words>(outcome)) << joined(given);
        EXPECT_EQ(std::get<Words>(outcome), expected) << joined(given);
    }
}

TEST(SshOptions, WhatTheDaemonDecidesIsRefused) {
    for (const char letter : std::string("DEfGLMNnOPQqRSsTtVWwy")) {
        for (const std::string before : {"-", "-4C"}) {
            for (const std::string behind : {"", "x"}) {
                const std::string word = before + letter + behind;
                const auto outcome = read({"-v", word, "x"});
                ASSERT_TRUE(std::holds_alternative<RefusedOption>(outcome)) << word;
                EXPECT_EQ(std::get<RefusedOption>(outcome).index, 1U) << word;
                EXPECT_EQ(std::get<RefusedOption>(outcome).expected, "an option that cmssh does not set itself");
            }
        }
    }
}

TEST(SshOptions, KeywordsThatTheDaemonDecidesAreRefused) {
    for (const std::string keyword :
         {"ControlMaster", "ControlPath", "ControlPersist", "RemoteCommand", "RequestTTY", "ForkAfterAuthentication",
          "StdinNull", "SessionType", "LocalForward", "RemoteForward", "DynamicForward", "PermitLocalCommand",
          "LocalCommand", "Tunnel", "CONTROLPATH", "controlpath"}) {
        for (const Words& given :
             {Words{"-o", keyword + "=x"}, Words{"-o", keyword + " x"}, Words{"-o", keyword + "\tx"},
              Words{"-o", keyword + " = x"}, Words{"-4", "-o" + keyword + "=x"}, Words{"-4", "-Co" + keyword + " x"}}) {
            const auto outcome = read(given);
            ASSERT_TRUE(std::holds_alternative<RefusedOption>(outcome)) << joined(given);
            EXPECT_EQ(std::get<RefusedOption>(outcome).index, 1U) << joined(given);
            EXPECT_EQ(std::get<RefusedOption>(outcome).expected, "a keyword that cmssh does not set itself");
        }
    }
}

TEST(SshOptions, WhatIsNoOptionIsRefused) {
    const struct {
        Words given;
        std::size_t index;
        std::string expected;
    } cases[] = {
        {{"server"}, 0, "an option that begins with -"},
        {{"-4", "server"}, 1, "an option that begins with -"},
        {{"-F", "/x", "server"}, 2, "an option that begins with -"},
        {{""}, 0, "an option that begins with -"},
        {{"-"}, 0, "an option that begins with -"},
        {{"--"}, 0, "an option of ssh"},
        {{"--help"}, 0, "an option of ssh"},
        {{"-4-"}, 0, "an option of ssh"},
        {{"-Z"}, 0, "an option of ssh"},
        {{"-1"}, 0, "an option of ssh"},
        {{"-4 -6"}, 0, "an option of ssh"},
        {{"-\xc3\xa9"}, 0, "an option of ssh"},
        {{"-F /x"}, 0, "an option and its value as two strings"},
        {{"-o", "ControlPath"}, 1, "KEYWORD=VALUE after -o"},
        {{"-o", "Compression="}, 1, "KEYWORD=VALUE after -o"},
        {{"-o", "=x"}, 1, "KEYWORD=VALUE after -o"},
        {{"-o", "\"ControlPath\"=x"}, 1, "KEYWORD=VALUE after -o"},
        {{"-o", " ControlPath=x"}, 1, "KEYWORD=VALUE after -o"},
        {{"-o", "\tControlPath=x"}, 1, "KEYWORD=VALUE after -o"},
        {{"-o", "-N"}, 1, "KEYWORD=VALUE after -o"},
        {{"-o\"ControlPath\"=x"}, 0, "KEYWORD=VALUE after -o"},
    };
    for (const auto& [given, index, expected] : cases) {
        const auto outcome = read(given);
        ASSERT_TRUE(std::holds_alternative<RefusedOption>(outcome)) << joined(given);
        const auto& refused = std::get<RefusedOption>(outcome);
        EXPECT_EQ(refused.index, index) << joined(given);
        EXPECT_EQ(refused.expected, expected) << joined(given);
        EXPECT_FALSE(refused.hint.empty()) << joined(given);
        EXPECT_FALSE(refused.nothing_given) << joined(given);
    }
}

TEST(SshOptions, AnOptionNeedsItsValue) {
    for (const char letter : std::string("BbceFIiJlmop")) {
        const std::string option = std::string("-") + letter;
        for (const Words& given : {Words{"-4", option}, Words{"-4", "-C" + option.substr(1)}, Words{option, ""}}) {
            const auto outcome = read(given);
            ASSERT_TRUE(std::holds_alternative<RefusedOption>(outcome)) << joined(given);
            EXPECT_EQ(std::get<RefusedOption>(outcome).index, 1U) << joined(given);
            EXPECT_EQ(std::get<RefusedOption>(outcome).expected, "a value after " + option);
            EXPECT_TRUE(std::get<RefusedOption>(outcome).nothing_given);
        }
    }
}

}  // namespace
}  // namespace cmssh
