#include "protocol/errors.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string_view>

namespace cmssh {
namespace {

TEST(Errors, NameAndExitCodeOfEachKindAreThoseOfTheContract) {
    const struct {
        int code;
        std::string_view name;
        int exit_code;
    } rows[] = {
        {-32700, "parse_error", 1},
        {-32600, "invalid_request", 1},
        {-32601, "method_not_found", 1},
        {-32602, "invalid_params", 2},
        {-32001, "unknown_context", 3},
        {-32002, "dns_failure", 5},
        {-32003, "connect_refused", 5},
        {-32004, "connect_timeout", 5},
        {-32005, "connect_failed", 5},
        {-32006, "host_key_unknown", 6},
        {-32007, "host_key_changed", 5},
        {-32008, "auth_failed", 6},
        {-32009, "needs_auth", 6},
        {-32010, "master_lost", 5},
        {-32011, "channel_refused", 7},
        {-32012, "tmux_missing", 1},
        {-32013, "tmux_failed", 1},
        {-32014, "session_not_found", 3},
        {-32015, "ambiguous", 3},
        {-32016, "name_taken", 1},
        {-32017, "invalid_name", 2},
        {-32018, "bad_cwd", 1},
        {-32019, "limit", 7},
        {-32020, "timeout", 124},
        {-32021, "cancelled", 130},
        {-32022, "shutting_down", 4},
        {-32023, "bad_config", 2},
        {-32024, "internal", 1},
        {-32025, "session_ended", 1},
    };
    for (const auto& row : rows) {
        SCOPED_TRACE(row.name);
        const std::optional<ErrorKind> kind = error_kind_from_code(row.code);
        ASSERT_TRUE(kind.has_value());
        EXPECT_EQ(static_cast<int>(*kind), row.code);
        const ErrorInfo& info = error_info(*kind);
        EXPECT_EQ(info.kind, *kind);
        EXPECT_EQ(info.name, row.name);
        EXPECT_EQ(info.exit_code, row.exit_code);
    }
}

TEST(Errors, CodesThatAreNotOursHaveNoKind) {
    for (const int code : {0, 1, -32000, -32026, -32099, -32603, -32699, 32001}) {
        EXPECT_FALSE(error_kind_from_code(code).has_value()) << code;
    }
}

}  // namespace
}  // namespace cmssh
