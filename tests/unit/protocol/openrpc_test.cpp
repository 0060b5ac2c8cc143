#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "protocol/errors.hpp"
#include "protocol/methods.hpp"

namespace cmssh::api {
namespace {

const Json& document() {
    return openrpc_document("1.2.3");
}

const Json& method(std::string_view name) {
    for (const Json& entry : document()["methods"]) {
        if (entry["name"] == name) {
            return entry;
        }
    }
    ADD_FAILURE() << "no method " << name;
    static const Json none;
    return none;
}

Json param(std::string_view method_name, std::string_view name) {
    for (const Json& entry : method(method_name)["params"]) {
        if (entry["name"] == name) {
            return entry;
        }
    }
    ADD_FAILURE() << "no param " << name;
    return {};
}

TEST(OpenRpc, ListsEveryMethodOnce) {
    std::multiset<std::string> names;
    for (const Json& entry : document()["methods"]) {
        names.insert(entry["name"].get<std::string>());
    }
    EXPECT_EQ(names,
              (std::multiset<std::string>{
                  "start",        "list",           "get",    "kill",     "wait",         "logs",      "forward.add",
                  "forward.list", "forward.remove", "send",   "attach",   "acquire",      "release",   "signal",
                  "exec",         "stats",          "answer", "connect",  "disconnect",   "check",     "contexts",
                  "ping",         "version",        "reload", "shutdown", "rpc.discover", "subscribe", "unsubscribe"}));
}

TEST(OpenRpc, SaysItsVersionAndTheDaemons) {
    EXPECT_EQ(document()["openrpc"], "1.3.2");
    EXPECT_EQ(document()["info"]["version"], "1.2.3");
    EXPECT_EQ(openrpc_document("4.5.6")["info"]["version"], "4.5.6");
    EXPECT_EQ(document()["info"]["version"], "1.2.3");
}

TEST(OpenRpc, EveryMethodIsDescribed) {
    for (const Json& entry : document()["methods"]) {
        SCOPED_TRACE(entry["name"]);
        EXPECT_FALSE(entry["summary"].get<std::string>().empty());
        EXPECT_EQ(entry["paramStructure"], "by-name");
        EXPECT_TRUE(entry["result"]["schema"].contains("$ref"));
        EXPECT_FALSE(entry["errors"].empty());
    }
}

TEST(OpenRpc, ErrorsAreThoseOfTheContractAndListedOnce) {
    for (const Json& entry : document()["methods"]) {
        SCOPED_TRACE(entry["name"]);
        std::set<int> codes;
        for (const Json& error : entry["errors"]) {
            const int code = error["code"].get<int>();
            EXPECT_TRUE(codes.insert(code).second) << code;
            const std::optional<ErrorKind> kind = error_kind_from_code(code);
            ASSERT_TRUE(kind.has_value()) << code;
            EXPECT_EQ(error["message"], error_info(*kind).name);
        }
        EXPECT_TRUE(codes.contains(static_cast<int>(ErrorKind::InvalidParams)));
    }
}

// OpenRPC 1.3: "all optional params MUST be positioned after all required params in the list".
TEST(OpenRpc, RequiredParamsComeFirst) {
    for (const Json& entry : document()["methods"]) {
        SCOPED_TRACE(entry["name"]);
        bool optional_seen = false;
        for (const Json& item : entry["params"]) {
            if (item["required"] == true) {
                EXPECT_FALSE(optional_seen) << item["name"];
            } else {
                optional_seen = true;
            }
        }
    }
    EXPECT_EQ(method("start")["params"][0]["name"], "command");
    EXPECT_EQ(method("start")["params"].size(), 10u);
}

TEST(OpenRpc, ParamsSayWhatTheReadersCheck) {
    const Json command = param("start", "command");
    EXPECT_EQ(command["required"], true);
    EXPECT_EQ(command["schema"]["minItems"], 1);
    EXPECT_EQ(command["schema"]["items"]["type"], "string");
    const Json interactive = param("start", "interactive");
    EXPECT_EQ(interactive["required"], false);
    EXPECT_EQ(interactive["schema"]["default"], false);
    EXPECT_EQ(param("wait", "timeout_ms")["schema"]["minimum"], 0);
    EXPECT_EQ(param("wait", "timeout_ms")["schema"]["type"], Json::array({"integer", "null"}));
    EXPECT_EQ(param("list", "state")["schema"]["enum"],
              Json::array({"starting", "running", "unreachable", "exited", "killed", "lost", nullptr}));
    EXPECT_EQ(param("start", "env")["schema"]["additionalProperties"]["type"], "string");
    const Json& size = document()["components"]["schemas"]["Size"];
    EXPECT_EQ(size["properties"]["cols"]["minimum"], 1);
    EXPECT_EQ(size["properties"]["cols"]["maximum"], 10000);
    EXPECT_EQ(size["additionalProperties"], false);
    EXPECT_EQ(size["required"], Json::array({"cols", "rows"}));
}

void expect_resolved(const Json& json) {
    if (json.is_object() && json.contains("$ref")) {
        const std::string reference = json["$ref"].get<std::string>();
        if (reference.starts_with("#")) {
            EXPECT_TRUE(document().contains(Json::json_pointer(reference.substr(1)))) << reference;
        }
    }
    for (const Json& child : json) {
        if (child.is_structured()) {
            expect_resolved(child);
        }
    }
}

TEST(OpenRpc, ReferencesLeadSomewhere) {
    expect_resolved(document());
    EXPECT_EQ(method("get")["result"]["schema"]["$ref"], "#/components/schemas/SessionResult");
    for (const char* name : {"Session", "Connection", "Server", "Size", "StartResult"}) {
        EXPECT_TRUE(document()["components"]["schemas"].contains(name)) << name;
    }
}

template <typename T>
void expect_described(const char* name) {
    const Json& schema = document()["components"]["schemas"][name];
    const Json written = Json::parse(write(T{}).text);
    EXPECT_EQ(schema["properties"].size(), written.size()) << name;
    for (const auto& [key, value] : written.items()) {
        EXPECT_TRUE(schema["properties"].contains(key)) << name << "." << key;
        EXPECT_NE(std::find(schema["required"].begin(), schema["required"].end(), Json(key)), schema["required"].end())
            << name << "." << key;
    }
}

TEST(OpenRpc, ResultsAreDescribedAsTheyAreWritten) {
    expect_described<Session>("Session");
    expect_described<Connection>("Connection");
    expect_described<Server>("Server");
    expect_described<StartResult>("StartResult");
    expect_described<StatsResult>("StatsResult");
    expect_described<Context>("Context");
    expect_described<VersionResult>("VersionResult");
    EXPECT_EQ(document()["components"]["schemas"]["Session"]["properties"]["server"]["$ref"],
              "#/components/schemas/Server");
}

}  // namespace
}  // namespace cmssh::api
