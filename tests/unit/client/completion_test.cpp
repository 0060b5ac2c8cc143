// What is offered for an unfinished line, and what of it reaches a shell.
#include "client/completion.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "client/syntax.hpp"

namespace cmssh::client {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

using Words = std::vector<std::string>;

// The words that a shell would get.
Words words_of(const Completion& completion) {
    std::string lines = completion_lines(completion);
    Words words;
    for (auto end = lines.find('\n'); end != std::string::npos; end = lines.find('\n')) {
        words.push_back(lines.substr(0, std::min(end, lines.find('\t'))));
        lines.erase(0, end + 1);
    }
    words.erase(words.begin());
    return words;
}

Words offered(const Words& line) {
    return words_of(complete_line(line));
}

TEST(Completion, OffersTheVerbsOfTheHelp) {
    const Words verbs = offered({""});
    EXPECT_THAT(verbs, AllOf(Contains("start"), Contains("attach"), Contains("completion"), Contains("daemon")));
    EXPECT_THAT(verbs, Each(Not(StartsWith("_")))) << "what only programs call is not in the help";
    EXPECT_THAT(verbs, Not(Contains("ssh-lease")));
    EXPECT_THAT(offered({"at"}), ElementsAre("attach"));
    EXPECT_THAT(offered({"--no-spawn", "--timeout", "3s", "at"}), ElementsAre("attach"));
    EXPECT_THAT(offered({"no-such-verb", ""}), IsEmpty());
    EXPECT_THAT(complete_line({}).candidates, IsEmpty());
}

TEST(Completion, OffersTheOptionsThatTheVerbDeclares) {
    EXPECT_THAT(offered({"start", "--"}), AllOf(Contains("--ctx"), Contains("--cwd"), Contains("--follow")));
    EXPECT_THAT(offered({"start", "--"}), AllOf(Contains("--no-spawn"), Contains("--json"), Contains("--help")));
    EXPECT_THAT(offered({"kill", "--si"}), ElementsAre("--signal"));
    EXPECT_THAT(offered({"kill", "x", "--fo"}), ElementsAre("--forget")) << "behind an operand too";
    EXPECT_THAT(offered({"kill", "-s"}), ElementsAre("-s"));
    EXPECT_THAT(offered({"cp", "-O"}), ElementsAre("-O"));
    EXPECT_THAT(offered({"--vers"}), ElementsAre("--version"));
    EXPECT_THAT(offered({"kill", "--", "--si"}), IsEmpty()) << "behind -- there are no options";
    for (const VerbSyntax& verb : all_verbs()) {
        EXPECT_THAT(offered({verb.name, "--he"}), ElementsAre("--help")) << verb.name;
    }
}

TEST(Completion, OffersTheValuesOfAnOption) {
    EXPECT_THAT(offered({"kill", "-s", "TE"}), ElementsAre("TERM"));
    EXPECT_THAT(offered({"kill", "-qs", "HU"}), ElementsAre("HUP"));
    EXPECT_THAT(offered({"kill", "--signal=HU"}), ElementsAre("--signal=HUP"));
    EXPECT_THAT(offered({"list", "--state", "r"}), ElementsAre("running"));
    EXPECT_THAT(offered({"--color", ""}), ElementsAre("auto", "always", "never"));
    EXPECT_THAT(offered({"daemon", "st"}), ElementsAre("start", "stop", "status"));
    EXPECT_THAT(offered({"forward", ""}), ElementsAre("add", "list", "rm"));
    EXPECT_THAT(offered({"completion", ""}), ElementsAre("bash", "zsh", "fish"));
    EXPECT_THAT(offered({"send", "s", "--key", "C-"}), ElementsAre("C-c", "C-d", "C-z"));
    EXPECT_THAT(offered({"rpc", "forward."}), ElementsAre("forward.add", "forward.list", "forward.remove"));
    EXPECT_THAT(offered({"start", "--cwd", ""}), IsEmpty()) << "a directory on the server";
    EXPECT_TRUE(complete_line({"--config", ""}).files);
    EXPECT_FALSE(complete_line({"start", "--cwd", ""}).files);
}

struct AskedCase {
    const char* name;
    Words line;
    Asked asked;
};

class WhatIsAsked : public testing::TestWithParam<AskedCase> {};

TEST_P(WhatIsAsked, OfTheDaemon) {
    EXPECT_EQ(static_cast<int>(complete_line(GetParam().line).asked), static_cast<int>(GetParam().asked));
}

INSTANTIATE_TEST_SUITE_P(
    Lines, WhatIsAsked,
    testing::Values(AskedCase{"ctx", {"start", "--ctx", ""}, Asked::Contexts},
                    AskedCase{"ctx_in_one_word", {"list", "--ctx="}, Asked::Contexts},
                    AskedCase{"ctx_operand", {"connect", ""}, Asked::Contexts},
                    AskedCase{"optional_ctx", {"check", "s"}, Asked::Contexts},
                    AskedCase{"second_ctx", {"check", "s", ""}, Asked::Nothing},
                    AskedCase{"trailing_ctx", {"start", "make", "--ctx", ""}, Asked::Contexts},
                    AskedCase{"trailing_ctx_given", {"start", "--ctx", "a", "make", "--ctx", ""}, Asked::Nothing},
                    AskedCase{"trailing_ctx_separated", {"start", "--", "make", "--ctx", ""}, Asked::Nothing},
                    AskedCase{"command_is_no_ctx", {"exec", "make", "--ctx", ""}, Asked::Nothing},
                    AskedCase{"attach", {"attach", ""}, Asked::RunningSessions},
                    AskedCase{"short_attach", {"a", ""}, Asked::RunningSessions},
                    AskedCase{"logs", {"logs", "-n", "5", ""}, Asked::AllSessions},
                    AskedCase{"lines", {"logs", "-n", ""}, Asked::Nothing},
                    AskedCase{"kill_more", {"kill", "x", "-s", "TERM", ""}, Asked::RunningSessions},
                    AskedCase{"send", {"send", "--no-enter", ""}, Asked::RunningSessions},
                    AskedCase{"send_text", {"send", "x", ""}, Asked::Nothing},
                    AskedCase{"behind_text", {"send", "x", "text", "-"}, Asked::Nothing},
                    AskedCase{"forward_rm", {"forward", "rm", ""}, Asked::Forwards},
                    AskedCase{"forward_add", {"forward", "add", ""}, Asked::Nothing},
                    AskedCase{"forward_session", {"forward", "add", "--session", ""}, Asked::RunningSessions},
                    AskedCase{"cp", {"cp", "file", ""}, Asked::Servers},
                    AskedCase{"cp_on_server", {"cp", "file", "server:"}, Asked::Nothing},
                    AskedCase{"timeout", {"logs", "--timeout", ""}, Asked::Nothing}),
    [](const auto& test) { return test.param.name; });

TEST(Completion, LeavesTheCommandToTheShell) {
    EXPECT_EQ(complete_line({"start", "--ctx", "a", "ma"}).command_at, 3U);
    EXPECT_EQ(complete_line({"start", "--", "make", "x"}).command_at, 2U);
    EXPECT_EQ(complete_line({"exec", "-t", "ls", "-"}).command_at, 2U);
    EXPECT_EQ(complete_line({"exec", "-t", ""}).command_at, 2U);
    EXPECT_EQ(complete_line({"attach", ""}).command_at, std::nullopt);
    EXPECT_EQ(completion_lines(complete_line({"exec", "ls", ""})), ":command 1\n");
}

TEST(Completion, CopiesAreOfFilesHereOrThere) {
    EXPECT_TRUE(complete_line({"cp", "f"}).files);
    EXPECT_TRUE(complete_line({"cp", "./a:"}).files);
    EXPECT_FALSE(complete_line({"cp", "server-1:"}).files);
}

TEST(Completion, KnowsWhichDaemonTheLineIsFor) {
    EXPECT_EQ(complete_line({"--socket", "/p", "attach", ""}).socket, "/p");
    EXPECT_EQ(complete_line({"attach", "--socket=/q", ""}).socket, "/q");
    EXPECT_EQ(complete_line({"attach", ""}).socket, std::nullopt);
    EXPECT_EQ(complete_line({"attach", "--socket", "/p"}).socket, std::nullopt) << "it is still being typed";
    EXPECT_TRUE(complete_line({"--host=ssh://a@b", "attach", ""}).elsewhere);
    EXPECT_THAT(complete_line({"kill", "a", "--forget", "b", ""}).given, ElementsAre("a", "b"));
}

// A name comes from a configuration, an ssh_config or a server; bash puts it on the line as it is.
TEST(Completion, OffersNothingThatAShellCouldActOn) {
    Completion completion;
    for (const char* word :
         {"$(reboot)", "`reboot`", "a;b",  "a b",      "a\nb", "a\x1b[2J", "~root",        "=ls",
          ":",         "a'b",      "a\"b", "a*",       "a|b",  "a>b",      "{a,b}",        "!!",
          "#a",        "a\\b",     "",     "\xc3\xa9", "a&b",  "[ab]",     "user@host:22", "fine-1_x.y"}) {
        completion.candidates.push_back({.word = word, .text = {}});
    }
    EXPECT_THAT(words_of(completion), ElementsAre("user@host:22", "fine-1_x.y"));
}

TEST(Completion, TextsAreOfOneShortPrintableLine) {
    Completion completion;
    completion.candidates = {{.word = "a", .text = "x\n:files\ty\x1b]0;z\a"},
                             {.word = "b", .text = std::string(90, 'c')}};
    EXPECT_EQ(completion_lines(completion),
              ":words\na\tx\\n:files\\ty\\x1b]0;z\\x07\nb\t" + std::string(60, 'c') + "...\n");
    std::string umlauts;
    for (int i = 0; i < 60; ++i) {
        umlauts += i == 0 ? "a" : "\xc3\xa4";
    }
    completion.candidates = {{.word = "a", .text = umlauts}};
    EXPECT_EQ(completion_lines(completion), ":words\na\t" + umlauts.substr(0, 59) + "...\n");
}

}  // namespace
}  // namespace cmssh::client
