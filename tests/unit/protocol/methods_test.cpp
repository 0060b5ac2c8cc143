#include "protocol/methods.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cmssh::api {
namespace {

Json parse(std::string_view text) {
    const Result<Json> json = parse_json(text);
    EXPECT_TRUE(json.ok()) << text;
    return json.ok() ? *json : Json();
}

template <typename T>
std::string refusal(std::string_view text) {
    const Result<T> result = read<T>(parse(text));
    if (result.ok()) {
        return "accepted";
    }
    EXPECT_EQ(result.error().kind, ErrorKind::InvalidParams);
    return result.error().message;
}

TEST(Methods, StartParamsAreReadWhole) {
    const Result<StartParams> params = read<StartParams>(parse(
        R"({"ctx":"a","command":["vim","x y"],"name":"n","cwd":"~/src","env":{"K":"v","E":""},
            "size":{"cols":200,"rows":50},"request_id":"r","auth_sock":"/s","interactive":true})"));
    ASSERT_TRUE(params.ok()) << params.error().message;
    EXPECT_EQ(params->ctx, "a");
    EXPECT_EQ(params->command, (std::vector<std::string>{"vim", "x y"}));
    EXPECT_EQ(params->name, "n");
    EXPECT_EQ(params->cwd, "~/src");
    EXPECT_EQ(params->env, (std::map<std::string, std::string>{{"E", ""}, {"K", "v"}}));
    ASSERT_TRUE(params->size.has_value());
    EXPECT_EQ(params->size->cols, 200);
    EXPECT_EQ(params->size->rows, 50);
    EXPECT_EQ(params->request_id, "r");
    EXPECT_EQ(params->auth_sock, "/s");
    EXPECT_TRUE(params->interactive);
}

TEST(Methods, WhatIsOptionalMayBeAbsentOrNull) {
    for (const char* text : {R"({"command":["x"]})",
                             R"({"command":["x"],"ctx":null,"name":null,"cwd":null,"size":null,"request_id":null})"}) {
        const Result<StartParams> params = read<StartParams>(parse(text));
        ASSERT_TRUE(params.ok()) << params.error().message;
        EXPECT_FALSE(params->ctx.has_value());
        EXPECT_FALSE(params->size.has_value());
        EXPECT_TRUE(params->env.empty());
        EXPECT_FALSE(params->interactive);
    }
    EXPECT_TRUE(read<ListParams>(Json::object()).ok());
    EXPECT_TRUE(read<CheckParams>(Json::object()).ok());
    EXPECT_TRUE(read<Empty>(Json::object()).ok());
}

TEST(Methods, RefusalsOfStartNameTheField) {
    const struct {
        const char* params;
        const char* message;
    } rows[] = {
        {R"([])", "params: expected an object, got an empty array"},
        {R"({})", "params.command: is required"},
        {R"({"command":null})", "params.command: expected an array with at least one item, got null"},
        {R"({"command":[]})", "params.command: expected an array with at least one item, got an empty array"},
        {R"({"command":"ls"})", "params.command: expected an array with at least one item, got \"ls\""},
        {R"({"command":["ls",5]})", "params.command[1]: expected a string, got 5"},
        {R"({"command":["ls","a\u0000b"]})", "params.command[1]: must not hold a NUL byte"},
        {R"({"command":["ls"],"cwd":"/\u0000"})", "params.cwd: must not hold a NUL byte"},
        {R"({"command":["ls"],"name":"\u0000"})", "params.name: must not hold a NUL byte"},
        {R"({"command":["ls"],"ctx":"a\u0000"})", "params.ctx: must not hold a NUL byte"},
        {R"({"command":["ls"],"ctx":{"a":1}})", "params.ctx: expected a string, got an object"},
        {R"({"command":["ls"],"env":{"K":1}})", "params.env.K: expected a string, got 1"},
        {R"({"command":["ls"],"env":{"K":"\u0000"}})", "params.env.K: must not hold a NUL byte"},
        {R"({"command":["ls"],"env":{"a\u0000":""}})", "params.env: must not hold a NUL byte"},
        {R"({"command":["ls"],"env":["K=v"]})", "params.env: expected an object, got an array"},
        {R"({"command":["ls"],"env":null})", "params.env: expected an object, got null"},
        {R"({"command":["ls"],"size":80})", "params.size: expected an object, got 80"},
        {R"({"command":["ls"],"size":{"cols":80}})", "params.size.rows: is required"},
        {R"({"command":["ls"],"size":{"cols":"x","rows":1}})",
         "params.size.cols: expected an integer from 1 to 10000, got \"x\""},
        {R"({"command":["ls"],"size":{"cols":0,"rows":1}})",
         "params.size.cols: expected an integer from 1 to 10000, got 0"},
        {R"({"command":["ls"],"size":{"cols":1,"rows":10001}})",
         "params.size.rows: expected an integer from 1 to 10000, got 10001"},
        {R"({"command":["ls"],"size":{"cols":-1,"rows":1}})",
         "params.size.cols: expected an integer from 1 to 10000, got -1"},
        {R"({"command":["ls"],"size":{"cols":4294967297,"rows":1}})",
         "params.size.cols: expected an integer from 1 to 10000, got 4294967297"},
        {R"({"command":["ls"],"size":{"cols":18446744073709551615,"rows":1}})",
         "params.size.cols: expected an integer from 1 to 10000, got 18446744073709551615"},
        {R"({"command":["ls"],"size":{"cols":80.0,"rows":1}})",
         "params.size.cols: expected an integer from 1 to 10000, got 80.0"},
        {R"({"command":["ls"],"size":{"cols":true,"rows":1}})",
         "params.size.cols: expected an integer from 1 to 10000, got true"},
        {R"({"command":["ls"],"size":{"cols":1,"rows":1,"depth":1}})", "params.size.depth: there is no such field"},
        {R"({"command":["ls"],"interactive":1})", "params.interactive: expected true or false, got 1"},
        {R"({"command":["ls"],"interactive":null})", "params.interactive: expected true or false, got null"},
        {R"({"command":["ls"],"comand":["x"]})", "params.comand: there is no such field"},
        {R"({"command":["ls"],"Ctx":"a"})", "params.Ctx: there is no such field"},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(refusal<StartParams>(row.params), row.message) << row.params;
    }
}

TEST(Methods, RefusalsOfOtherCallsNameTheField) {
    EXPECT_EQ(refusal<WaitParams>(R"({"session":"s","timeout_ms":-1})"),
              "params.timeout_ms: expected an integer from 0 to 9223372036854775807, got -1");
    EXPECT_EQ(refusal<WaitParams>(R"({"session":"s","timeout_ms":9223372036854775808})"),
              "params.timeout_ms: expected an integer from 0 to 9223372036854775807, got 9223372036854775808");
    EXPECT_EQ(refusal<ListParams>(R"({"state":"dead"})"),
              "params.state: expected one of starting, running, unreachable, exited, killed, lost, got \"dead\"");
    EXPECT_EQ(refusal<ListParams>(R"({"state":1})"),
              "params.state: expected one of starting, running, unreachable, exited, killed, lost, got 1");
    EXPECT_EQ(refusal<SessionParams>("{}"), "params.session: is required");
    EXPECT_EQ(refusal<KillParams>(R"({"session":"s","signal":9})"), "params.signal: expected a string, got 9");
    EXPECT_EQ(refusal<DisconnectParams>(R"({"force":true})"), "params.ctx: is required");
    EXPECT_EQ(refusal<Empty>(R"({"x":1})"), "params.x: there is no such field");
    EXPECT_EQ(refusal<VersionResult>(R"({"version":"1","protocol":2147483648,"capabilities":[]})"),
              "result.protocol: expected an integer from -2147483648 to 2147483647, got 2147483648");
}

TEST(Methods, LimitsThemselvesAreAccepted) {
    EXPECT_TRUE(read<StartParams>(parse(R"({"command":["x"],"size":{"cols":1,"rows":10000}})")).ok());
    EXPECT_TRUE(read<StartParams>(parse(R"({"command":[""]})")).ok());
    const Result<WaitParams> wait = read<WaitParams>(parse(R"({"session":"s","timeout_ms":0})"));
    ASSERT_TRUE(wait.ok());
    EXPECT_EQ(wait->timeout_ms, 0);
    EXPECT_TRUE(read<WaitParams>(parse(R"({"session":"s","timeout_ms":9223372036854775807})")).ok());
}

TEST(Methods, RefusalsAreShortWhateverWasSent) {
    const std::string text(100'000, 'x');
    EXPECT_LT(refusal<StartParams>(R"({"command":")" + text + "\"}").size(), 200u);
    EXPECT_LT(refusal<StartParams>(R"({"command":["x"],")" + text + "\":1}").size(), 200u);
    EXPECT_LT(refusal<StartParams>(R"({"command":["x"],"env":{")" + text + "\":1}}").size(), 200u);
}

Session sample_session() {
    return Session{.id = "sess-abcdefgh",
                   .name = "build",
                   .ctx = "a",
                   .server = {.user = "u", .host = "h", .port = 2222, .via = "hop", .key = "u@h:2222 via hop"},
                   .command = {"make", "-j"},
                   .cwd = "/src",
                   .state = SessionState::Killed,
                   .exit_code = 137,
                   .signal = "KILL",
                   .reason = "r",
                   .created_at = "t1",
                   .ended_at = "t2",
                   .as_of = "t3",
                   .tmux = {.socket = "cmssh", .session = "sess-abcdefgh"}};
}

Connection sample_connection() {
    Connection connection;
    connection.server = {.user = "u", .host = "h", .port = 22, .via = std::nullopt, .key = "u@h:22"};
    connection.state = ConnectionState::NeedsAuth;
    connection.refs = 3;
    connection.sessions = 2;
    connection.leases = 1;
    connection.channels = {.used = 4, .max = 10, .queued = 5};
    connection.master_pid = 77;
    connection.adopted = true;
    connection.control_path = "/run/x";
    connection.reused_count = std::numeric_limits<std::uint64_t>::max();
    connection.handshakes = 6;
    connection.reconnects = 7;
    connection.since = "t";
    connection.uptime_s = 1.5;
    connection.rtt_ms = Rtt{.last = 1.25, .p50 = 2, .p95 = 3.5};
    connection.probes = {.ok = 8, .failed = 9, .last_at = "p"};
    connection.last_error = LastError{.kind = "timeout", .message = "m", .at = "a", .ssh_stderr = "e", .hint = "h"};
    connection.retry_at = "r";
    connection.linger_s = 10.5;
    connection.own_masters = {OwnMaster{.master_pid = 78, .control_path = "/run/own"}};
    return connection;
}

template <typename T>
Json written(const T& value) {
    const std::string text = write(value).text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
    const Result<Json> json = parse_json(text);
    EXPECT_TRUE(json.ok()) << text;
    return json ? *json : Json();
}

template <typename T>
void expect_round_trip(const T& value) {
    const Json json = written(value);
    const Result<T> back = read<T>(json);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(written(*back), json);
}

TEST(Methods, StringsAreEscaped) {
    for (const std::string text :
         {"", " ~", "\"", "\\", "a\tb\n", "\x1f", "\x7f", "\xc3\xbc", "\xe2\x80\xa8", "\xff", "a\xc3"}) {
        StatsResult stats;
        stats.daemon.config = text;
        stats.connection_stats = {{text, std::numeric_limits<int>::min()}, {text + 'z', 0}};
        const Json json = written(stats);
        EXPECT_EQ(json.at("daemon").at("config"), Json::parse(dump_json(text))) << text;
        EXPECT_EQ(json.at("connection_stats"), Json::parse(dump_json(Json(stats.connection_stats)))) << text;
    }
}

TEST(Methods, WhatIsWrittenIsReadBack) {
    expect_round_trip(StartResult{.session = sample_session(), .connection = sample_connection(), .reused = true});
    expect_round_trip(StartResult{});
    expect_round_trip(ListResult{.sessions = {sample_session(), sample_session()}});
    expect_round_trip(SessionResult{.session = sample_session()});
    expect_round_trip(StatsResult{});
    expect_round_trip(Empty{});
    expect_round_trip(KillResult{.session = sample_session(), .pending = true});
    expect_round_trip(ConnectResult{.connection = sample_connection(), .reused = true});
    expect_round_trip(ConnectionResult{.connection = sample_connection()});
    expect_round_trip(ConnectionsResult{.connections = {sample_connection(), Connection{}}});
    expect_round_trip(
        StatsResult{.connections = {sample_connection()},
                    .connection_stats = {{"u@h:22", 2}},
                    .total_connections = 1,
                    .total_sessions = 2,
                    .total_refs = 3,
                    .handshakes = 4,
                    .handshakes_saved = 5,
                    .daemon = {.pid = 1, .version = "v", .rss_bytes = 2, .unsaved = true, .config = "/c"}});
    expect_round_trip(
        ContextsResult{.contexts = {{.name = "a", .server = std::nullopt, .source = "config", .is_default = true}}});
    expect_round_trip(VersionResult{.version = "1", .protocol = 1, .capabilities = {"x"}});
    expect_round_trip(Progress{.id = "x", .ctx = "c", .server = "s", .phase = "connecting"});
    expect_round_trip(StartParams{.ctx = "a",
                                  .command = {"x"},
                                  .name = "n",
                                  .cwd = "/src",
                                  .env = {{"K", "v"}},
                                  .size = Size{.cols = 100, .rows = 30},
                                  .request_id = "r",
                                  .auth_sock = "/s",
                                  .interactive = true,
                                  .tell_reuse = true});
    expect_round_trip(ListParams{.ctx = "a", .all = true, .state = SessionState::Lost});
    expect_round_trip(
        KillParams{.session = "s", .signal = "TERM", .forget = true, .auth_sock = "/s", .interactive = true});
    expect_round_trip(WaitParams{.session = "s", .timeout_ms = 5, .auth_sock = "/s", .interactive = true});
    expect_round_trip(ConnectParams{.ctx = "a", .auth_sock = "/s", .interactive = true});
    expect_round_trip(DisconnectParams{.ctx = "a", .force = true});
    expect_round_trip(CheckParams{.ctx = "a"});
    expect_round_trip(ContextsParams{.known = true});
}

TEST(Methods, ASessionIsWrittenAsTheContractSays) {
    EXPECT_EQ(written(sample_session()), parse(R"({
        "id": "sess-abcdefgh", "name": "build", "ctx": "a",
        "server": {"user": "u", "host": "h", "port": 2222, "via": "hop", "key": "u@h:2222 via hop"},
        "command": ["make", "-j"], "cwd": "/src", "state": "killed", "exit_code": 137, "signal": "KILL",
        "reason": "r", "created_at": "t1", "ended_at": "t2", "as_of": "t3",
        "tmux": {"socket": "cmssh", "session": "sess-abcdefgh"}})"));
}

TEST(Methods, AConnectionIsWrittenAsTheContractSays) {
    EXPECT_EQ(written(sample_connection()), parse(R"({
        "server": {"user": "u", "host": "h", "port": 22, "via": null, "key": "u@h:22"},
        "state": "needs_auth", "refs": 3, "sessions": 2, "leases": 1,
        "channels": {"used": 4, "max": 10, "queued": 5}, "master_pid": 77, "adopted": true,
        "control_path": "/run/x", "reused_count": 18446744073709551615, "handshakes": 6, "reconnects": 7,
        "since": "t", "uptime_s": 1.5, "rtt_ms": {"last": 1.25, "p50": 2.0, "p95": 3.5},
        "probes": {"ok": 8, "failed": 9, "last_at": "p"},
        "last_error": {"kind": "timeout", "message": "m", "at": "a", "ssh_stderr": "e", "hint": "h"},
        "retry_at": "r", "linger_s": 10.5,
        "own_masters": [{"master_pid": 78, "control_path": "/run/own"}]})"));
}

TEST(Methods, UnsetFieldsAreWrittenAsNull) {
    const Json connection = written(Connection{});
    for (const char* name : {"master_pid", "rtt_ms", "last_error", "retry_at", "linger_s"}) {
        ASSERT_TRUE(connection.contains(name)) << name;
        EXPECT_TRUE(connection[name].is_null()) << name;
    }
    EXPECT_EQ(written(Context{.name = "a", .server = std::nullopt, .source = "config", .is_default = true}),
              parse(R"({"name":"a","server":null,"source":"config","default":true})"));
    EXPECT_EQ(written(Empty{}), Json::object());
}

TEST(Methods, AllStatesHaveTheNamesOfTheContract) {
    const std::pair<SessionState, std::string_view> sessions[] = {
        {SessionState::Starting, "starting"}, {SessionState::Running, "running"},
        {SessionState::Exited, "exited"},     {SessionState::Unreachable, "unreachable"},
        {SessionState::Killed, "killed"},     {SessionState::Lost, "lost"}};
    for (const auto& [state, name] : sessions) {
        EXPECT_EQ(to_string(state), name);
        const Result<ListParams> params = read<ListParams>(Json{{"state", name}});
        ASSERT_TRUE(params.ok());
        EXPECT_EQ(params->state, state);
        EXPECT_EQ(ended(state), name == "exited" || name == "killed" || name == "lost");
    }
    const std::pair<ConnectionState, std::string_view> connections[] = {{ConnectionState::Connecting, "connecting"},
                                                                        {ConnectionState::Up, "up"},
                                                                        {ConnectionState::Degraded, "degraded"},
                                                                        {ConnectionState::Backoff, "backoff"},
                                                                        {ConnectionState::NeedsAuth, "needs_auth"},
                                                                        {ConnectionState::Draining, "draining"},
                                                                        {ConnectionState::Idle, "idle"},
                                                                        {ConnectionState::Failed, "failed"}};
    for (const auto& [state, name] : connections) {
        EXPECT_EQ(to_string(state), name);
        Connection connection;
        connection.state = state;
        const Result<Connection> back = read<Connection>(written(connection));
        ASSERT_TRUE(back.ok());
        EXPECT_EQ(back->state, state);
    }
}

}  // namespace
}  // namespace cmssh::api
