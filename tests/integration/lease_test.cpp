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

// Of a lease that asked for one.
bool ends(const Json& own) {
    return wait_until([&] { return !alive(own.at("master_pid")) && !exists(own.at("control_path")); });
}

TEST(OwnMaster, IsListedWithItsConnectionAndEndsWithItsLease) {
    World world;
    const std::string key = world.key("127.0.0.1");
    const Json shared = world.rpc().call("acquire", {{"ctx", "server-1"}});
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}, {"own_master", true}});
    EXPECT_FALSE(lease.at("reused"));
    EXPECT_NE(lease.at("control_path"), shared.at("control_path"));
    const Json own = lease.at("connection").at("own_masters").at(0);
    EXPECT_EQ(own.at("control_path"), lease.at("control_path"));
    EXPECT_NE(own.at("master_pid"), lease.at("connection").at("master_pid"));
    const Json stats = world.stats();
    EXPECT_EQ(stats.at("total_connections"), 2);
    EXPECT_EQ(stats.at("handshakes"), 2);
    EXPECT_EQ(stats.at("total_refs"), 2);
    EXPECT_EQ(world.connection(key).at("channels").at("used"), 2) << "none of the shared one's for it";
    world.rpc().call("release", {{"lease", lease.at("lease")}});
    EXPECT_TRUE(ends(own));
    EXPECT_EQ(world.connection(key).at("own_masters"), Json::array());
    EXPECT_EQ(world.stats().at("total_connections"), 1);
    EXPECT_EQ(world.connection(key).at("handshakes"), 2);
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST(OwnMaster, EndsWithItsClientAndByForce) {
    World world;
    const Json params = {{"ctx", "server-1"}, {"own_master", true}};
    Json own;
    {
        RpcClient client(world.daemon.socket_path());
        own = client.call("acquire", params).at("connection").at("own_masters").at(0);
    }
    EXPECT_TRUE(ends(own));
    own = world.rpc().call("acquire", params).at("connection").at("own_masters").at(0);
    RpcClient other(world.daemon.socket_path());
    other.call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    EXPECT_TRUE(world.daemon.ssh_processes().empty());
    EXPECT_TRUE(ends(own));
}

TEST(OwnMaster, OutlivesTheSharedOneAndADaemonThatStops) {
    World world;
    const Json lease = world.rpc().call("acquire", {{"ctx", "server-1"}, {"own_master", true}});
    const Json own = lease.at("connection").at("own_masters").at(0);
    ASSERT_EQ(::kill(lease.at("connection").at("master_pid").get<pid_t>(), SIGKILL), 0);
    EXPECT_TRUE(wait_until([&] {
        RpcClient other(world.daemon.socket_path());
        return other.call("stats").at("connections").at(0).at("reconnects") == 1;
    }));
    EXPECT_TRUE(alive(own.at("master_pid")));
    world.daemon.stop();
    EXPECT_TRUE(alive(own.at("master_pid")));
    const auto gone =
        run({"ssh", "-F", world.sshd.ssh_config(), "-O", "exit", "-S", own.at("control_path"), "server-1"});
    EXPECT_EQ(gone.status.code, 0) << gone.errors;
    EXPECT_TRUE(ends(own));
}

TEST(OwnMaster, GoesTheSameWayOverAHop) {
    World world(servers(2));
    world.sshd.add_ssh_config("Host behind\n    HostName 127.0.0.1\n    ProxyJump server-2\n");
    const Json lease = world.rpc().call("acquire", {{"ctx", "behind"}, {"own_master", true}});
    EXPECT_EQ(lease.at("connection").at("own_masters").size(), 1U);
    EXPECT_EQ(world.connection(world.key("127.0.0.2")).at("handshakes"), 1);
    EXPECT_EQ(world.connection(world.key("127.0.0.2")).at("leases"), 2);
    world.rpc().call("release", {{"lease", lease.at("lease")}});
    EXPECT_TRUE(wait_until([&] { return world.connection(world.key("127.0.0.2")).at("leases") == 1; }));
}

TEST(OwnMaster, GoesWithNothingThatMakesNoSense) {
    World world;
    for (const Json& with :
         {Json{{"pid", ::getpid()}}, Json{{"refused", "lease-aaaaaaaaaaaa"}}, Json{{"channel", false}}}) {
        Json params = {{"ctx", "server-1"}, {"own_master", true}};
        params.update(with);
        EXPECT_EQ(world.rpc().refusal("acquire", params).at("code"), -32602) << with;
    }
}

}  // namespace
}  // namespace cmssh::test
