#include "client/typed_command.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

namespace cmssh::client {
namespace {

GlobalOptions for_host(const std::string& host) {
    GlobalOptions global;
    global.host = host;
    return global;
}

TEST(ForTyping, NamesTheDaemonThatWasNamed) {
    const GlobalOptions far = for_host("ssh://me@far");
    EXPECT_EQ(for_typing(far, "cmctl attach x"), "cmctl --host ssh://me@far attach x");
    EXPECT_EQ(for_typing(far, "x: it runs on; to come back: cmctl attach x"),
              "x: it runs on; to come back: cmctl --host ssh://me@far attach x");
    EXPECT_EQ(for_typing(far, "give --ctx NAME (cmctl contexts lists them), or cmctl list"),
              "give --ctx NAME (cmctl --host ssh://me@far contexts lists them), or cmctl --host ssh://me@far list");
    EXPECT_EQ(for_typing(for_host("a b"), "cmctl list"), "cmctl --host 'a b' list");
    GlobalOptions socket = far;
    socket.socket = "/run/x.sock";
    EXPECT_EQ(for_typing(socket, "cmctl list"), "cmctl --host ssh://me@far --socket /run/x.sock list");
    EXPECT_EQ(for_typing({}, "cmctl list"), "cmctl list");
}

TEST(ForTyping, LeavesAloneWhatIsForNoDaemon) {
    const GlobalOptions far = for_host("ssh://me@far");
    for (const std::string text :
         {"ssh -l me far cmctl version", "cmctl list --help", "cmctl --help", "install cmsshd beside cmctl or in PATH",
          "cmctl --host '' ssh-config", "cmctl is old", "xcmctl list", "cmctl", "cmctl ", ""}) {
        EXPECT_EQ(for_typing(far, text), text);
    }
}

TEST(ForTyping, SaysNothingThatTheEnvironmentSays) {
    ::setenv("CMSSH_HOST", "ssh://far", 1);
    EXPECT_EQ(for_typing(for_host("ssh://far"), "cmctl list"), "cmctl list");
    EXPECT_EQ(for_typing(for_host("ssh://other"), "cmctl list"), "cmctl --host ssh://other list");
    EXPECT_EQ(for_typing({}, "cmctl list"), "cmctl --host '' list") << "--host '' was given";
    ::unsetenv("CMSSH_HOST");
}

TEST(ForTyping, OnAnotherMachineSaysWhatIsTypedHere) {
    GlobalOptions there;
    there.typed_host = "ssh://far";
    EXPECT_EQ(for_typing(there, "cmctl list"), "cmctl --host ssh://far list");
    there.typed_host = "";
    ::setenv("CMSSH_HOST", "ssh://of-the-other", 1);
    EXPECT_EQ(for_typing(there, "cmctl list"), "cmctl list");
    ::unsetenv("CMSSH_HOST");
}

TEST(TypedHost, IsForNoChild) {
    ::setenv(kTypedHostVariable, "ssh://far", 1);
    GlobalOptions there;
    take_typed_host(there);
    EXPECT_EQ(there.typed_host, "ssh://far");
    EXPECT_EQ(::getenv(kTypedHostVariable), nullptr);
}

}  // namespace
}  // namespace cmssh::client
