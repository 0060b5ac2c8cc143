#include "client/help_text.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "client/verb_options.hpp"

namespace cmssh::client {
namespace {

TEST(FitLines, GoesOnBelowTheText) {
    EXPECT_EQ(fit_lines("  --name N   Name of the thing\n", 20),
              "  --name N   Name of\n"
              "             the\n"
              "             thing\n");
    EXPECT_EQ(fit_lines("    text of an option\nend\n", 16),
              "    text of an\n"
              "    option\n"
              "end\n");
    EXPECT_EQ(fit_lines("one two three", 7), "one two\nthree\n");
    EXPECT_EQ(fit_lines("\n12345\n\n", 5), "\n12345\n\n") << "as wide as there is room";
}

TEST(FitLines, BreaksNoWord) {
    EXPECT_EQ(fit_lines("a longword b", 4), "a\nlongword\nb\n");
    EXPECT_EQ(fit_lines("  x  longword b", 6), "  x  longword\n     b\n");
}

// What is there to be copied is broken nowhere.
TEST(Help, HasExamplesThatFit) {
    constexpr std::size_t kIndent = 2;
    for (const Verb& verb : verbs()) {
        std::istringstream lines(verb.examples);
        for (std::string line; std::getline(lines, line);) {
            EXPECT_LE(line.size() + kIndent, kHelpWidth) << line;
        }
    }
}

}  // namespace
}  // namespace cmssh::client
