#include "client/mcp.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdlib.h>

#include <functional>

#include "client/mcp_hint.hpp"

namespace cmssh::client::mcp {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

Json tool(const std::string& name) {
    const Json all = tools();
    for (const Json& entry : all["tools"]) {
        if (entry["name"] == name) {
            return entry;
        }
    }
    return {};
}

TEST(McpVersion, IsTheOneAskedForOrTheNewest) {
    EXPECT_EQ(negotiated_version("2024-11-05"), "2024-11-05");
    EXPECT_EQ(negotiated_version("2025-06-18"), "2025-06-18");
    EXPECT_EQ(negotiated_version("3000-01-01"), "2025-11-25");
    EXPECT_EQ(negotiated_version(""), "2025-11-25");
}

TEST(McpTools, HaveTheSchemasOfTheApi) {
    const Json start = tool("start");
    EXPECT_EQ(start["inputSchema"]["required"], Json::array({"command"}));
    EXPECT_EQ(start["inputSchema"]["properties"]["command"]["minItems"], 1);
    EXPECT_EQ(start["inputSchema"]["additionalProperties"], false);
    EXPECT_EQ(start["outputSchema"]["properties"]["session"]["$ref"], "#/$defs/Session");
    EXPECT_EQ(start["outputSchema"]["$defs"]["Session"]["properties"]["server"]["$ref"], "#/$defs/Server");
    EXPECT_FALSE(tool("kill")["annotations"]["readOnlyHint"].get<bool>());
    EXPECT_TRUE(tool("logs")["annotations"]["readOnlyHint"].get<bool>());
}

TEST(McpTools, ReferToNothingOutsideOfTheirSchemas) {
    const Json list = tools()["tools"];
    EXPECT_EQ(list.size(), 10U);
    for (const Json& entry : list) {
        for (const char* kind : {"inputSchema", "outputSchema"}) {
            const Json& schema = entry[kind];
            EXPECT_EQ(schema["type"], "object") << entry["name"];
            const std::function<void(const Json&)> visit = [&](const Json& node) {
                if (node.is_object() && node.contains("$ref")) {
                    const std::string reference = node["$ref"];
                    ASSERT_THAT(reference, StartsWith("#/$defs/"));
                    EXPECT_TRUE(schema["$defs"].contains(reference.substr(8))) << reference;
                }
                if (node.is_structured()) {
                    for (const Json& inner : node) {
                        visit(inner);
                    }
                }
            };
            visit(schema);
        }
    }
}

TEST(McpToolParams, AreTheModelsOwnOnly) {
    ::setenv("SSH_AUTH_SOCK", "/agent", 1);
    const auto params = tool_params("start", {{"command", {"true"}}});
    ASSERT_TRUE(params);
    EXPECT_EQ((*params)["auth_sock"], "/agent");
    EXPECT_FALSE(params->contains("interactive"));
    EXPECT_FALSE(tool_params("list", nullptr)->contains("auth_sock")) << "there is no such param";
    ::unsetenv("SSH_AUTH_SOCK");
    for (const char* name : {"interactive", "auth_sock", "size", "nonsense"}) {
        const auto refused = tool_params("start", {{"command", {"true"}}, {name, true}});
        ASSERT_FALSE(refused) << name;
        EXPECT_THAT(refused.error().message, HasSubstr(name));
    }
    EXPECT_FALSE(tool_params("list", Json::array()));
    EXPECT_FALSE(is_tool("shutdown"));
    EXPECT_FALSE(is_tool("rpc.discover"));
}

TEST(McpToolFailure, IsTextForTheModel) {
    const Json failed =
        tool_failure(Error{.kind = ErrorKind::NeedsAuth, .message = "no way in", .hint = "cmctl connect x"});
    EXPECT_EQ(failed["isError"], true);
    EXPECT_EQ(failed["content"][0]["text"],
              "needs_auth: no way in\nhint: for the user to type, in a terminal: cmctl connect x");
    EXPECT_EQ(failed["_meta"]["cmssh/error"]["code"], -32009);
}

TEST(McpHints, NameToolsWhereThereAreSuch) {
    EXPECT_EQ(hint_for_model("cmctl list --all"), "the tool list with all: true");
    EXPECT_EQ(hint_for_model("cmctl list"), "the tool list");
    EXPECT_EQ(hint_for_model("cmctl logs sess-4f7q"), "the tool logs with session: sess-4f7q");
    EXPECT_EQ(hint_for_model("choose another --name, or cmctl kill nightly"),
              "choose another name, or the tool kill with session: nightly");
    EXPECT_EQ(hint_for_model("give --ctx NAME (cmctl contexts lists them), or set default_ctx in the config"),
              "give ctx NAME (the tool contexts lists them), or set default_ctx in the config");
    EXPECT_EQ(hint_for_model("cmctl stats shows who uses and waits"), "the tool stats shows who uses and waits");
    EXPECT_EQ(hint_for_model("cmctl wait x, the session runs on"),
              "the tool wait with session: x, the session runs on");
    EXPECT_EQ(hint_for_model("cmctl rpc rpc.discover  # describes every method"), "tools/list describes every tool");
    EXPECT_EQ(hint_for_model("smaller parts, or fewer at once"), "smaller parts, or fewer at once");
    EXPECT_EQ(hint_for_model(""), "");
}

TEST(McpHints, AreForTheUserWhereThereIsNone) {
    EXPECT_EQ(hint_for_model("cmctl check x"), "for the user to type, in a terminal: cmctl check x");
    EXPECT_EQ(hint_for_model("cmctl daemon start"), "for the user to type, in a terminal: cmctl daemon start");
    EXPECT_EQ(hint_for_model("cmctl exec passes input of any length"),
              "for the user to type, in a terminal: cmctl exec passes input of any length");
}

TEST(McpResources, ComeInPagesNewestFirst) {
    Json sessions = Json::array();
    for (int i = 0; i < 250; ++i) {
        sessions.push_back({{"id", "sess-" + std::to_string(i)},
                            {"name", "n" + std::to_string(i)},
                            {"ctx", "c"},
                            {"state", "running"},
                            {"command", {"sleep", "1"}}});
    }
    std::vector<std::string> uris;
    std::string cursor;
    int pages = 0;
    do {
        const auto page = resources(sessions, cursor);
        ASSERT_TRUE(page);
        for (const Json& resource : (*page)["resources"]) {
            uris.push_back(resource["uri"]);
        }
        cursor = page->value("nextCursor", "");
        ++pages;
    } while (!cursor.empty());
    EXPECT_EQ(pages, 3);
    ASSERT_EQ(uris.size(), 250U);
    EXPECT_EQ(uris.front(), "cmssh://session/sess-249/logs");
    EXPECT_EQ(uris.back(), "cmssh://session/sess-0/logs");
    EXPECT_FALSE(resources(sessions, "x"));
    EXPECT_FALSE(resources(sessions, "-1"));
    EXPECT_EQ((*resources(sessions, "99999999"))["resources"].size(), 0U);
}

TEST(McpUri, NamesASession) {
    EXPECT_EQ(session_of_uri("cmssh://session/sess-abc/logs"), "sess-abc");
    for (const char* uri : {"cmssh://session//logs", "cmssh://session/logs", "cmssh://session/a/b/logs",
                            "file:///etc/passwd", "cmssh://session/%2e/logs", "cmssh://session/x", ""}) {
        EXPECT_FALSE(session_of_uri(uri)) << uri;
    }
}

}  // namespace
}  // namespace cmssh::client::mcp
