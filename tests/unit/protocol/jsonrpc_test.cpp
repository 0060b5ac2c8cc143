#include "protocol/jsonrpc.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <variant>

namespace cmssh {
namespace {

// What the daemon would answer: the method `ok` gives 7, any other does not exist.
std::string reply_to(std::string_view text) {
    const Message message = parse_message(text);
    Json replies = Json::array();
    for (const Incoming& item : message.items) {
        if (const auto* bad = std::get_if<BadRequest>(&item)) {
            replies.push_back(make_error(bad->id, bad->error));
            continue;
        }
        const Request& request = std::get<Request>(item);
        if (!request.id) {
            continue;
        }
        replies.push_back(request.method == "ok"
                              ? make_result(*request.id, 7)
                              : make_error(*request.id, Error{.kind = ErrorKind::MethodNotFound, .message = {}}));
    }
    // Only what the specification speaks of.
    for (Json& reply : replies) {
        if (reply.contains("error")) {
            reply["error"] = reply["error"]["code"];
        }
        EXPECT_EQ(reply["jsonrpc"], "2.0");
        reply.erase("jsonrpc");
    }
    if (replies.empty()) {
        return "";
    }
    return dump_json(message.batch ? replies : replies.front());
}

// Section 7 of the specification. Params by position are refused, because this API takes them by name only.
TEST(JsonRpc, AnswersTheExamplesOfTheSpecification) {
    const struct {
        const char* request;
        const char* reply;
    } rows[] = {
        {R"({"jsonrpc": "2.0", "method": "ok", "params": [42, 23], "id": 1})", R"({"error":-32602,"id":1})"},
        {R"({"jsonrpc": "2.0", "method": "ok", "params": [23, 42], "id": 2})", R"({"error":-32602,"id":2})"},
        {R"({"jsonrpc": "2.0", "method": "ok", "params": {"subtrahend": 23, "minuend": 42}, "id": 3})",
         R"({"id":3,"result":7})"},
        {R"({"jsonrpc": "2.0", "method": "ok", "params": {"minuend": 42, "subtrahend": 23}, "id": 4})",
         R"({"id":4,"result":7})"},
        {R"({"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]})", ""},
        {R"({"jsonrpc": "2.0", "method": "foobar"})", ""},
        {R"({"jsonrpc": "2.0", "method": "foobar", "id": "1"})", R"({"error":-32601,"id":"1"})"},
        {R"({"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz])", R"({"error":-32700,"id":null})"},
        {R"({"jsonrpc": "2.0", "method": 1, "params": "bar"})", R"({"error":-32600,"id":null})"},
        {R"([{"jsonrpc": "2.0", "method": "sum", "params": {}, "id": "1"}, {"jsonrpc": "2.0", "method"])",
         R"({"error":-32700,"id":null})"},
        {R"([])", R"({"error":-32600,"id":null})"},
        {R"([1])", R"([{"error":-32600,"id":null}])"},
        {R"([1,2,3])", R"([{"error":-32600,"id":null},{"error":-32600,"id":null},{"error":-32600,"id":null}])"},
        {R"([{"jsonrpc": "2.0", "method": "ok", "params": {"a": 1}, "id": "1"},
             {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
             {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
             {"foo": "boo"},
             {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
             {"jsonrpc": "2.0", "method": "ok", "id": "9"}])",
         R"([{"id":"1","result":7},{"error":-32602,"id":"2"},{"error":-32600,"id":null},)"
         R"({"error":-32601,"id":"5"},{"id":"9","result":7}])"},
        {R"([{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
             {"jsonrpc": "2.0", "method": "notify_hello", "params": {"a": 7}}])",
         ""},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(reply_to(row.request), row.reply) << row.request;
    }
}

TEST(JsonRpc, MembersOfARequestAreChecked) {
    const struct {
        const char* request;
        const char* reply;
    } rows[] = {
        {R"({"method":"ok","id":1})", R"({"error":-32600,"id":1})"},
        {R"({"jsonrpc":"1.0","method":"ok","id":1})", R"({"error":-32600,"id":1})"},
        {R"({"jsonrpc":2.0,"method":"ok","id":1})", R"({"error":-32600,"id":1})"},
        {R"({"jsonrpc":"2.0","id":"x"})", R"({"error":-32600,"id":"x"})"},
        {R"({"jsonrpc":"2.0","method":"ok","params":"bar","id":1})", R"({"error":-32600,"id":1})"},
        {R"({"jsonrpc":"2.0","method":"ok","params":null,"id":1})", R"({"error":-32600,"id":1})"},
        {R"({"jsonrpc":"2.0","method":"ok","params":"bar"})", R"({"error":-32600,"id":null})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":{}})", R"({"error":-32600,"id":null})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":[1]})", R"({"error":-32600,"id":null})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":true})", R"({"error":-32600,"id":null})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":null})", R"({"id":null,"result":7})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":-7})", R"({"id":-7,"result":7})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":1.5})", R"({"id":1.5,"result":7})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":18446744073709551615})", R"({"id":18446744073709551615,"result":7})"},
        {R"({"jsonrpc":"2.0","method":"ok","id":1,"extra":[]})", R"({"id":1,"result":7})"},
        {R"("ok")", R"({"error":-32600,"id":null})"},
        {"", R"({"error":-32700,"id":null})"},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(reply_to(row.request), row.reply) << row.request;
    }
}

TEST(JsonRpc, ParamsByPositionAreRefusedWithAReason) {
    const Message message = parse_message(R"({"jsonrpc":"2.0","method":"ok","params":[1],"id":1})");
    ASSERT_EQ(message.items.size(), 1u);
    const auto* bad = std::get_if<BadRequest>(&message.items[0]);
    ASSERT_NE(bad, nullptr);
    EXPECT_NE(bad->error.message.find("params by name only"), std::string::npos) << bad->error.message;
}

TEST(JsonRpc, ParamsAreAnObjectWhereThereAreNone) {
    const Message message = parse_message(R"({"jsonrpc":"2.0","method":"ok","id":1})");
    ASSERT_EQ(message.items.size(), 1u);
    EXPECT_EQ(std::get<Request>(message.items[0]).params, Json::object());
}

std::string batch_of(std::size_t count) {
    std::string text = "[";
    for (std::size_t i = 0; i < count; ++i) {
        text += (i == 0 ? "" : ",") + std::string(R"({"jsonrpc":"2.0","method":"ok","id":)") + std::to_string(i) + "}";
    }
    return text + "]";
}

std::string array_of(std::size_t count) {
    std::string text = "[0";
    for (std::size_t i = 1; i < count; ++i) {
        text += ",0";
    }
    return text + ']';
}

TEST(JsonRpc, ABatchIsBounded) {
    EXPECT_EQ(parse_message(batch_of(kMaxBatch)).items.size(), kMaxBatch);
    const Message message = parse_message(batch_of(kMaxBatch + 1));
    EXPECT_FALSE(message.batch);
    ASSERT_EQ(message.items.size(), 1u);
    const auto* bad = std::get_if<BadRequest>(&message.items[0]);
    ASSERT_NE(bad, nullptr);
    EXPECT_EQ(bad->error.kind, ErrorKind::Limit);
    EXPECT_TRUE(bad->id.is_null());
}

TEST(JsonRpc, OnlyABatchIsBounded) {
    const Result<Json> json = parse_json(batch_of(kMaxBatch + 1));
    ASSERT_TRUE(json.ok());
    EXPECT_EQ(json->size(), kMaxBatch + 1);
    const Message message =
        parse_message(R"([{"jsonrpc":"2.0","method":"ok","params":{"a":)" + array_of(2 * kMaxBatch + 1) + "}}]");
    ASSERT_EQ(message.items.size(), 1u);
    EXPECT_TRUE(std::holds_alternative<Request>(message.items[0]));
}

TEST(JsonRpc, TheValuesOfAMessageAreBounded) {
    // Around what is in the array: the request, three fields, the parameters' one, and the array itself.
    constexpr std::size_t kAround = 1 + 3 * 2 + 1 + 1;
    const auto message = [](std::size_t count) {
        return parse_message(R"({"jsonrpc":"2.0","method":"ok","params":{"a":)" + array_of(count) + "}}").items.at(0);
    };
    EXPECT_TRUE(std::holds_alternative<Request>(message(kMaxValues - kAround)));
    const Incoming over = message(kMaxValues - kAround + 1);
    const auto* bad = std::get_if<BadRequest>(&over);
    ASSERT_NE(bad, nullptr);
    EXPECT_EQ(bad->error.kind, ErrorKind::Limit);
    EXPECT_EQ(parse_json(array_of(kMaxValues + 1))->size(), kMaxValues + 1);
    std::string fields;
    for (std::size_t i = 0; i < kMaxValues / 2; ++i) {
        fields += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":0";
    }
    const Incoming named = parse_message(R"({"jsonrpc":"2.0","method":"ok","params":{)" + fields + "}}").items.at(0);
    ASSERT_TRUE(std::holds_alternative<BadRequest>(named));
    EXPECT_EQ(std::get<BadRequest>(named).error.kind, ErrorKind::Limit);
}

std::string nested(std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
}

TEST(ParseJson, NestingIsBounded) {
    EXPECT_TRUE(parse_json(nested(kMaxDepth)).ok());
    for (const std::string& text : {nested(kMaxDepth + 1), nested(100'000), std::string(100'000, '[')}) {
        const Result<Json> json = parse_json(text);
        ASSERT_FALSE(json.ok());
        EXPECT_EQ(json.error().kind, ErrorKind::ParseError);
        EXPECT_NE(json.error().message.find("64 levels"), std::string::npos) << json.error().message;
    }
    std::string objects;
    for (int i = 0; i < 100'000; ++i) {
        objects += R"({"a":)";
    }
    EXPECT_FALSE(parse_json(objects).ok());
}

TEST(ParseJson, WhatIsNotStrictJsonIsRefused) {
    using namespace std::string_view_literals;
    for (const std::string_view text : {
             R"({"a":1,"a":2})"sv,
             R"({"a":1,"\u0061":2})"sv,
             R"([{"x":{"a":1,"b":2,"a":1}}])"sv,
             "{} {}"sv,
             "{}x"sv,
             "{}\0"sv,
             "{}\0{}"sv,
             "\0"sv,
             "\xEF\xBB\xBF{}"sv,
             "\"\xC3\x28\""sv,
             "\"\xED\xA0\x80\""sv,
             "\"\xF5\x80\x80\x80\""sv,
             "\"\xC0\xAF\""sv,
             "\"\xE2\x82\""sv,
             "\xFF"sv,
             R"("\uD800")"sv,
             R"("\uDC00")"sv,
             R"("\uD800\u0041")"sv,
             R"("\uD800\uD800")"sv,
             "\"\t\""sv,
             "\"a\nb\""sv,
             "1e400"sv,
             "-1e400"sv,
             "18446744073709551616"sv,
             "-9223372036854775809"sv,
             "NaN"sv,
             "Infinity"sv,
             "01"sv,
             "+1"sv,
             ".5"sv,
             "1."sv,
             "0x1"sv,
             "[1,]"sv,
             "{\"a\":1,}"sv,
             "{a:1}"sv,
             "'a'"sv,
             "// x\n1"sv,
             "/* x */ 1"sv,
             "True"sv,
             ""sv,
             " "sv,
             "{"sv,
             "\"a"sv,
         }) {
        const Result<Json> json = parse_json(text);
        ASSERT_FALSE(json.ok()) << text;
        EXPECT_EQ(json.error().kind, ErrorKind::ParseError) << text;
        EXPECT_FALSE(json.error().message.empty()) << text;
    }
}

TEST(ParseJson, StrictJsonIsAccepted) {
    const struct {
        const char* text;
        Json value;
    } rows[] = {
        {R"( {"a":[1,-2,2.5,true,false,null,"x"],"b":{"a":{}}} )",
         {{"a", Json::array({1, -2, 2.5, true, false, nullptr, "x"})}, {"b", {{"a", Json::object()}}}}},
        {R"([{"a":1},{"a":1}])", Json::array({{{"a", 1}}, {{"a", 1}}})},
        {R"("\uD83D\uDE00 \u0000")", std::string("\xF0\x9F\x98\x80 \0", 6)},
        {"18446744073709551615", 18446744073709551615U},
        {"1e3", 1000.0},
        {"[[],[[]],{}]", Json::array({Json::array(), Json::array({Json::array()}), Json::object()})},
    };
    for (const auto& row : rows) {
        const Result<Json> json = parse_json(row.text);
        ASSERT_TRUE(json.ok()) << row.text << ": " << json.error().message;
        EXPECT_EQ(*json, row.value) << row.text;
    }
}

TEST(ParseJson, ReasonsDoNotQuoteTheWholeText) {
    const std::string digits(100'000, '9');
    for (const std::string& text :
         {"\"" + digits, digits + "x", "1e" + digits, "{\"" + digits + "\":1,\"" + digits + "\":1}"}) {
        const Result<Json> json = parse_json(text);
        ASSERT_FALSE(json.ok());
        EXPECT_LT(json.error().message.size(), 400u);
    }
}

TEST(ParseJson, ReasonsSayWhere) {
    const Result<Json> json = parse_json("{\"a\":\n  nope}");
    ASSERT_FALSE(json.ok());
    EXPECT_NE(json.error().message.find("line 2"), std::string::npos) << json.error().message;
    EXPECT_EQ(json.error().message.find("json.exception"), std::string::npos) << json.error().message;
}

TEST(DumpJson, InvalidUtf8BecomesTheReplacementCharacter) {
    EXPECT_EQ(dump_json(Json("a\xFF")), "\"a\xEF\xBF\xBD\"");
    EXPECT_EQ(dump_json(Json{{"k\xC3", 1}}), "{\"k\xEF\xBF\xBD\":1}");
}

TEST(DumpJson, IsOneLine) {
    EXPECT_EQ(dump_json(Json{{"a", "x\ny"}, {"b", {1, 2}}}), R"({"a":"x\ny","b":[1,2]})");
}

TEST(ErrorJson, CarriesOnlyWhatIsSet) {
    EXPECT_EQ(error_to_json(Error{.kind = ErrorKind::Internal, .message = "odd"}),
              (Json{{"code", -32024}, {"message", "odd"}, {"data", {{"kind", "internal"}}}}));
}

TEST(ErrorJson, TellsTheNextStepOfItsKind) {
    Error error{.kind = ErrorKind::Timeout, .message = "too late"};
    EXPECT_EQ(error_to_json(error)["data"]["hint"], "cmctl check");
    error.ctx = "server-a";
    EXPECT_EQ(error_to_json(error)["data"]["hint"], "cmctl check server-a");
    error.hint = "its own";
    EXPECT_EQ(error_to_json(error)["data"]["hint"], "its own");
}

TEST(ErrorJson, EveryFieldSurvivesARoundTrip) {
    const Error error{.kind = ErrorKind::NeedsAuth,
                      .message = "m",
                      .hint = "cmctl connect a",
                      .ctx = "a",
                      .server = "u@h:22",
                      .session = "sess-x",
                      .ssh_stderr = "denied",
                      .retry_at = "2026-11-23T08:16:34.123Z"};
    const Json json = error_to_json(error);
    EXPECT_EQ(json["data"]["kind"], "needs_auth");
    EXPECT_EQ(json["data"]["hint"], "cmctl connect a");
    const Error back = error_from_json(json);
    EXPECT_EQ(back.kind, error.kind);
    EXPECT_EQ(back.message, error.message);
    EXPECT_EQ(back.hint, error.hint);
    EXPECT_EQ(back.ctx, error.ctx);
    EXPECT_EQ(back.server, error.server);
    EXPECT_EQ(back.session, error.session);
    EXPECT_EQ(back.ssh_stderr, error.ssh_stderr);
    EXPECT_EQ(back.retry_at, error.retry_at);
}

TEST(ErrorJson, AnyErrorReplyCanBeRead) {
    const struct {
        const char* text;
        ErrorKind kind;
    } rows[] = {
        {R"({"code":-32602,"message":"m"})", ErrorKind::InvalidParams},
        {R"({"code":-32603,"message":"m"})", ErrorKind::Internal},
        {R"({"code":-1,"message":"m","data":"text"})", ErrorKind::Internal},
        {R"({"code":"x","message":5,"data":{"ctx":7,"hint":null}})", ErrorKind::Internal},
        {R"({"code":99999999999})", ErrorKind::Internal},
        {R"({"code":18446744073709519614})", ErrorKind::Internal},
        {R"({})", ErrorKind::Internal},
        {R"("oops")", ErrorKind::Internal},
        {R"(null)", ErrorKind::Internal},
    };
    for (const auto& row : rows) {
        const Result<Json> json = parse_json(row.text);
        ASSERT_TRUE(json.ok());
        const Error error = error_from_json(*json);
        EXPECT_EQ(error.kind, row.kind) << row.text;
        EXPECT_FALSE(error.message.empty()) << row.text;
        EXPECT_FALSE(error.ctx.has_value()) << row.text;
    }
}

TEST(JsonRpc, BuildsWhatTheSpecificationAsksFor) {
    EXPECT_EQ(dump_json(make_result(1, {{"a", 2}})), R"({"id":1,"jsonrpc":"2.0","result":{"a":2}})");
    EXPECT_EQ(dump_json(make_result("x", Json::array({"a", "b"}))), R"({"id":"x","jsonrpc":"2.0","result":["a","b"]})");
    EXPECT_EQ(dump_json(make_request(1, "ping", Json::object())),
              R"({"id":1,"jsonrpc":"2.0","method":"ping","params":{}})");
    const std::string_view notification = R"({"jsonrpc":"2.0","method":"event","params":{"seq":1}})";
    EXPECT_EQ(dump_json(make_notification("event", {{"seq", 1}})), notification);
    EXPECT_EQ(notification_text("event", {R"({"seq":1})"}).text, notification);
    EXPECT_EQ(result_text("x", {"7"}).text, R"({"jsonrpc":"2.0","id":"x","result":7})");
    EXPECT_EQ(
        dump_json(make_error(nullptr, Error{.kind = ErrorKind::ParseError, .message = "m", .hint = "h"})),
        R"({"error":{"code":-32700,"data":{"hint":"h","kind":"parse_error"},"message":"m"},"id":null,"jsonrpc":"2.0"})");
}

}  // namespace
}  // namespace cmssh
