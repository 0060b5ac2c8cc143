// Leases: holds on a connection and on one of its channels, by calls of the API.
#include <gtest/gtest.h>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

TEST(Lease, IsARefUntilItIsReleased) {
    World world;
    const Json first = world.rpc().call("acquire", {{"ctx", "server-1"}});
    EXPECT_FALSE(first.at("reused"));
    EXPECT_TRUE(exists(first.at("control_path")));
    EXPECT_EQ(first.at("connection").at("leases"), 1);
    const Json second = world.rpc().call("acquire", {{"ctx", "server-1"}});
    EXPECT_TRUE(second.at("reused"));
    EXPECT_NE(first.at("lease"), second.at("lease"));
    const Json held = world.connection(world.key("127.0.0.1"));
    EXPECT_EQ(held.at("refs"), 2);
    EXPECT_EQ(held.at("leases"), 2);
    EXPECT_EQ(held.at("channels").at("used"), 3) << "and the daemon's own";
    world.rpc().call("release", {{"lease", first.at("lease")}});
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("refs"), 1);
    EXPECT_EQ(world.rpc().refusal("release", {{"lease", first.at("lease")}}).at("code"), -32602);
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST(Lease, EndsWithItsClient) {
    World world;
    {
        RpcClient client(world.daemon.socket_path());
        client.call("acquire", {{"ctx", "server-1"}});
        EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("leases"), 1);
        EXPECT_EQ(world.rpc().refusal("release", {{"lease", "lease-aaaaaaaaaaaa"}}).at("code"), -32602);
    }
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("leases") == 0; }));
}

TEST(Lease, IsNobodyElsesToRelease) {
    World world;
    RpcClient other(world.daemon.socket_path());
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}});
    EXPECT_EQ(other.refusal("release", {{"lease", lease.at("lease")}}).at("code"), -32602);
    EXPECT_EQ(world.connection(world.key("127.0.0.1")).at("leases"), 1);
}

TEST(Lease, WaitsForAFreeChannel) {
    World world(servers(1), "[pool]\nmax_channels = 3\n");
    Words leases;
    for (int i = 0; i < 2; ++i) {
        leases.push_back(world.rpc().call("acquire", {{"ctx", "server-1"}}).at("lease"));
    }
    RpcClient waiting(world.daemon.socket_path());
    const int id = waiting.send("acquire", {{"ctx", "server-1"}});
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.1")).at("channels").at("queued") == 1; }));
    world.rpc().call("release", {{"lease", leases.front()}});
    EXPECT_TRUE(waiting.reply(id).contains("result"));
    const Json channels = world.connection(world.key("127.0.0.1")).at("channels");
    EXPECT_EQ(channels.at("queued"), 0);
    EXPECT_EQ(channels.at("max"), 3);
}

TEST(Lease, WhoseChannelWasRefusedTeachesALowerLimit) {
    World world;
    const std::string key = world.key("127.0.0.1");
    const Json kept = world.rpc().call("acquire", {{"ctx", "server-1"}});
    Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}});
    for (int i = 0; i < 5; ++i) {
        lease = world.rpc().call("acquire", {{"ctx", "server-1"}, {"refused", lease.at("lease")}});
    }
    EXPECT_EQ(world.connection(key).at("channels").at("max"), 10);
    const int id = world.rpc().send("acquire", {{"ctx", "server-1"}, {"refused", lease.at("lease")}});
    EXPECT_TRUE(wait_until([&] {
        RpcClient other(world.daemon.socket_path());
        const Json channels = other.call("stats").at("connections").at(0).at("channels");
        return channels.at("max") == 2 && channels.at("queued") == 1;
    }));
    world.rpc().call("release", {{"lease", kept.at("lease")}});
    EXPECT_TRUE(world.rpc().reply(id).contains("result"));
}

}  // namespace
}  // namespace cmssh::test
