#include "client/option_names.hpp"

#include <gtest/gtest.h>

namespace cmssh::client {
namespace {

TEST(OptionNames, AreWhatWasTyped) {
    EXPECT_EQ(with_option_names("params.name: x y is not a session's name"), "--name: x y is not a session's name");
    EXPECT_EQ(with_option_names("params.env: 1 is not a variable's name"), "--env: 1 is not a variable's name");
    EXPECT_EQ(with_option_names("params.env.X is too long"), "--env X is too long");
    EXPECT_EQ(with_option_names("params.cwd holds a NUL byte"), "--cwd holds a NUL byte");
    EXPECT_EQ(with_option_names("params.command: expected a command"), "CMD: expected a command");
    EXPECT_EQ(with_option_names("params.keys: 'x' is not the name of a key"), "--key: 'x' is not the name of a key");
}

TEST(OptionNames, LeaveTheRestAlone) {
    for (const std::string message : {"params.since: x is no cursor of logs", "params.names: x", "params", "params.",
                                      "", "the server said params.name: x", "no route to host"}) {
        EXPECT_EQ(with_option_names(message), message);
    }
}

}  // namespace
}  // namespace cmssh::client
