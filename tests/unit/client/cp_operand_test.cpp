#include "client/cp_operand.hpp"

#include <gtest/gtest.h>

namespace cmssh::client {
namespace {

TEST(CpOperand, IsOnAServerAsScpReadsIt) {
    const struct {
        std::string text;
        CpOperand operand;
    } rows[] = {
        {"server-a:x", {"server-a", "x"}},
        {"server-a:", {"server-a", ""}},
        {"server-a:~/a:b", {"server-a", "~/a:b"}},
        {"user@host:/etc/x", {"user@host", "/etc/x"}},
        {"[::1]:x", {"[::1]", "x"}},
        {"user@[::1]:x", {"user@[::1]", "x"}},
        {"x", {std::nullopt, "x"}},
        {"./a:b", {std::nullopt, "./a:b"}},
        {"/a:b", {std::nullopt, "/a:b"}},
        {"d/a:b", {std::nullopt, "d/a:b"}},
        {":x", {std::nullopt, ":x"}},
        {"-x", {std::nullopt, "-x"}},
        {"[x", {std::nullopt, "[x"}},
        {"", {std::nullopt, ""}},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(parse_cp_operand(row.text), row.operand) << row.text;
    }
}

TEST(CpOperand, OneSideIsOnOneServer) {
    const CpOperand here{std::nullopt, "x"};
    const CpOperand there{"a", "x"};
    const CpOperand elsewhere{"b", "x"};
    EXPECT_EQ(*server_of_copy({here, here}, there), "a");
    EXPECT_EQ(*server_of_copy({there, there}, here), "a");
    EXPECT_FALSE(server_of_copy({here}, here).ok());
    EXPECT_FALSE(server_of_copy({there}, elsewhere).ok());
    EXPECT_FALSE(server_of_copy({there}, there).ok());
    EXPECT_FALSE(server_of_copy({there, elsewhere}, here).ok());
    EXPECT_FALSE(server_of_copy({there, here}, here).ok());
    EXPECT_FALSE(server_of_copy({here, there}, here).ok());
}

TEST(CpOperand, IsNoOptionOfScp) {
    EXPECT_EQ(scp_word({std::nullopt, "-oProxyCommand=x"}), "./-oProxyCommand=x");
    EXPECT_EQ(scp_word({std::nullopt, "a"}), "a");
    EXPECT_EQ(scp_word({"-oProxyCommand=x", "-a"}), "cmssh:-a");
}

}  // namespace
}  // namespace cmssh::client
