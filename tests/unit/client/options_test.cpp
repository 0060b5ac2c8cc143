#include "client/options.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "client/start_line.hpp"
#include "client/syntax.hpp"
#include "client/verb_options.hpp"

namespace cmssh::client {
namespace {

using Words = std::vector<std::string>;

struct TrailingCase {
    const char* name;
    Words line;
    std::optional<std::string> ctx;
    Words left;
};

class TrailingCtx : public testing::TestWithParam<TrailingCase> {};

TEST_P(TrailingCtx, IsTakenOnlyFromTheVeryEnd) {
    const TrailingCase& test = GetParam();
    Words command = test.line;
    EXPECT_EQ(take_trailing_ctx(command), test.ctx);
    EXPECT_EQ(command, test.left);
}

INSTANTIATE_TEST_SUITE_P(
    Lines, TrailingCtx,
    testing::Values(TrailingCase{"two_words", {"claude", "task", "--ctx", "a"}, "a", {"claude", "task"}},
                    TrailingCase{"one_word", {"claude", "task", "--ctx=a"}, "a", {"claude", "task"}},
                    TrailingCase{"empty_value", {"claude", "--ctx="}, "", {"claude"}},
                    TrailingCase{"none", {"claude", "task"}, std::nullopt, {"claude", "task"}},
                    TrailingCase{"not_last", {"x", "--ctx", "a", "y"}, std::nullopt, {"x", "--ctx", "a", "y"}},
                    TrailingCase{"no_value", {"x", "--ctx"}, std::nullopt, {"x", "--ctx"}},
                    TrailingCase{"other_option", {"x", "--ctxs=a"}, std::nullopt, {"x", "--ctxs=a"}},
                    TrailingCase{"no_command_left", {"--ctx", "a"}, std::nullopt, {"--ctx", "a"}},
                    TrailingCase{"no_command_left_either", {"--ctx=a"}, std::nullopt, {"--ctx=a"}},
                    TrailingCase{"nothing", {}, std::nullopt, {}}),
    [](const auto& test) { return test.param.name; });

TEST(Verbs, HaveExamplesOfWhatTheyTake) {
    for (const Verb& verb : verbs()) {
        if (*verb.text == '\0') {
            continue;
        }
        const auto syntax = syntax_of_verb(verb.name);
        ASSERT_TRUE(syntax) << verb.name;
        EXPECT_STRNE(verb.examples, "") << verb.name;
        std::istringstream lines(verb.examples);
        for (std::string line; std::getline(lines, line);) {
            const auto ours = line.find("cmctl");
            ASSERT_NE(ours, std::string::npos) << line;
            std::istringstream words(line.substr(ours));
            for (std::string word; words >> word && word != "--";) {
                if (word.size() > 1 && word.front() == '-') {
                    EXPECT_NE(syntax->find_option(word), nullptr) << line;
                }
            }
        }
    }
}

}  // namespace
}  // namespace cmssh::client
