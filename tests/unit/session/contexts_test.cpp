#include "daemon/session/contexts.hpp"

#include <gmock/gmock.h>

namespace cmssh {
namespace {

using ::testing::HasSubstr;

Config config_with(const std::string& name, ContextConfig context) {
    Config config;
    config.contexts[name] = std::move(context);
    return config;
}

ContextConfig at(std::string host) {
    ContextConfig context;
    context.host = std::move(host);
    return context;
}

TEST(ResolveContext, TakesEverythingFromAConfiguredContext) {
    ContextConfig context;
    context.host = "server1";
    context.user = "hren";
    context.port = 2222;
    context.identity_file = "/home/u/.ssh/id";
    context.cwd = "~/src";
    context.env = {{"A", "b"}};
    context.prewarm = true;
    const auto resolved = resolve_context(config_with("a", context), "a");
    ASSERT_TRUE(resolved);
    EXPECT_EQ(resolved->name, "a");
    EXPECT_TRUE(resolved->configured);
    EXPECT_TRUE(resolved->prewarm);
    EXPECT_EQ(resolved->cwd, context.cwd);
    EXPECT_EQ(resolved->env, context.env);
    EXPECT_EQ(resolved->route.identity_file, context.identity_file);
    EXPECT_EQ(resolved->route.destination, (Destination{.host = "server1", .user = "hren", .port = 2222}));
}

TEST(ResolveContext, LetsAContextsOwnKeysWinOverItsHost) {
    struct Case {
        std::string host;
        std::optional<std::string> user;
        std::optional<int> port;
        Destination destination;
    };
    const Case cases[] = {
        {"me@h:24", std::nullopt, std::nullopt, {.host = "h", .user = "me", .port = 24}},
        {"me@h:24", "you", std::nullopt, {.host = "h", .user = "you", .port = 24}},
        {"me@h:24", std::nullopt, 25, {.host = "h", .user = "me", .port = 25}},
        {"ssh://me@h", "you", 25, {.host = "h", .user = "you", .port = 25}},
        {"[::1]:24", std::nullopt, std::nullopt, {.host = "::1", .user = std::nullopt, .port = 24}},
        {"h", std::nullopt, std::nullopt, {.host = "h", .user = std::nullopt, .port = std::nullopt}},
    };
    for (const Case& c : cases) {
        ContextConfig context;
        context.host = c.host;
        context.user = c.user;
        context.port = c.port;
        const auto resolved = resolve_context(config_with("a", context), "a");
        ASSERT_TRUE(resolved) << c.host;
        EXPECT_EQ(resolved->route.destination, c.destination) << c.host;
    }
}

TEST(ResolveContext, TakesAnyOtherNameForADestination) {
    const auto resolved = resolve_context(config_with("server-a", at("server1")), "me@server-a:24");
    ASSERT_TRUE(resolved);
    EXPECT_EQ(resolved->name, "me@server-a:24");
    EXPECT_FALSE(resolved->configured);
    EXPECT_FALSE(resolved->prewarm);
    EXPECT_FALSE(resolved->cwd);
    EXPECT_TRUE(resolved->env.empty());
    EXPECT_FALSE(resolved->route.identity_file);
    EXPECT_EQ(resolved->route.destination, (Destination{.host = "server-a", .user = "me", .port = 24}));
}

TEST(ResolveContext, LooksAConfiguredHostUpOnlyOnce) {
    Config config = config_with("a", at("b"));
    config.contexts["b"] = at("c");
    EXPECT_EQ(resolve_context(config, "a")->route.destination.host, "b");
}

TEST(ResolveContext, FallsBackToTheDefault) {
    Config config = config_with("a", at("server1"));
    config.default_ctx = "a";
    EXPECT_EQ(resolve_context(config, std::nullopt)->route.destination.host, "server1");
    EXPECT_EQ(resolve_context(config, "b")->route.destination.host, "b");
    config.default_ctx = "me@elsewhere";
    const auto elsewhere = resolve_context(config, std::nullopt);
    EXPECT_EQ(elsewhere->name, "me@elsewhere");
    EXPECT_EQ(elsewhere->route.destination.host, "elsewhere");
}

TEST(ResolveContext, AsksForAContextWhereNoneIsSet) {
    const auto resolved = resolve_context(Config{}, std::nullopt);
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().kind, ErrorKind::InvalidParams);
    EXPECT_THAT(resolved.error().hint, HasSubstr("--ctx"));
}

TEST(ResolveContext, RefusesWhatSshCouldMisread) {
    for (const auto* name :
         {"", "-oProxyCommand=id", "a b", "me@-oX", "a;id", "$(id)", "h:0", "h:65536", "a\nb", "@h", "ssh://h/path"}) {
        const auto resolved = resolve_context(Config{}, name);
        ASSERT_FALSE(resolved) << name;
        EXPECT_EQ(resolved.error().kind, ErrorKind::UnknownContext) << name;
        EXPECT_EQ(resolved.error().ctx, name);
        EXPECT_EQ(resolved.error().message.find('\n'), std::string::npos) << "printable";
    }
}

}  // namespace
}  // namespace cmssh
