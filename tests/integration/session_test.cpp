// Sessions on a real server: what was asked for is what runs there, and what became of it is what is told.
#include <gtest/gtest.h>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

TEST(Session, IsStartedListedAndWaitedFor) {
    World world;
    const Json started = world.start("server-1", {"sh", "-c", "read line; exit 7"}, {{"name", "seven"}});
    const Json session = started.at("session");
    const std::string id = session.at("id");
    EXPECT_EQ(session.at("state"), "running");
    EXPECT_EQ(session.at("name"), "seven");
    EXPECT_EQ(session.at("server").at("key"), world.key("127.0.0.1"));
    EXPECT_EQ(started.at("reused"), false);
    EXPECT_EQ(world.list(), Words{id});
    EXPECT_EQ(world.session("seven").at("id"), id);
    EXPECT_EQ(world.tmux_sessions(1), Words{id});

    EXPECT_EQ(world.tmux(1, {"send-keys", "-t", id, "Enter"}).status.code, 0);
    const Json ended = world.wait(id);
    EXPECT_EQ(ended.at("state"), "exited");
    EXPECT_EQ(ended.at("exit_code"), 7);
    EXPECT_EQ(world.list(), Words{});
    EXPECT_EQ(world.list({{"all", true}}), Words{id});
    EXPECT_EQ(world.sshd.logins(), 1);
}

}  // namespace
}  // namespace cmssh::test
