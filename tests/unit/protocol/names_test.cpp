#include "protocol/names.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace cmssh {
namespace {

using namespace std::string_literals;

TEST(SessionId, IsBase32OfFortyBits) {
    EXPECT_EQ(make_session_id(0), "sess-aaaaaaaa");
    EXPECT_EQ(make_session_id(0xffffffffffffffff), "sess-77777777");
    EXPECT_EQ(make_session_id(0x0842108421), "sess-bbbbbbbb");
    EXPECT_EQ(make_session_id(1), "sess-aaaaaaab");
}

TEST(SessionName, HasAnAllowList) {
    for (const auto& name : {"a"s, "9"s, "build_2-x"s, "sess"s, "Sess-a"s, std::string(64, 'a')}) {
        EXPECT_TRUE(valid_session_name(name)) << name;
    }
    for (const auto& name : {""s, "-a"s, "_a"s, "a.b"s, "a:b"s, "a b"s, "é"s, "a\n"s, "sess-abc"s, "sess-"s, "a\0"s,
                             std::string(65, 'a')}) {
        EXPECT_FALSE(valid_session_name(name)) << name;
    }
}

TEST(EnvName, IsAShellVariable) {
    for (const auto& name : {"A", "_", "_a9", "RUST_LOG"}) {
        EXPECT_TRUE(valid_env_name(name)) << name;
    }
    for (const auto& name : {"", "9A", "A-B", "A=B", "A B", "é"}) {
        EXPECT_FALSE(valid_env_name(name)) << name;
    }
}

TEST(Printable, EscapesWhatATerminalActsOn) {
    const std::pair<std::string, std::string> cases[] = {
        {"plain é漢😀 DOM\\user", "plain é漢😀 DOM\\user"},
        {"a\nb\tc\rd", "a\\nb\\tc\\x0dd"},
        {"\x1b]0;x\x07\x7f", "\\x1b]0;x\\x07\\x7f"},
        {"\0"s, "\\x00"},
        {"\xc2\x80\xc2\x9f\xc2\xa0", "\\u{0080}\\u{009f}\xc2\xa0"},
        {"\u061c\u200e\u202e\u2066\u2069", "\\u{061c}\\u{200e}\\u{202e}\\u{2066}\\u{2069}"},
        {"\u2028\u2029\u200b\ufeff", "\\u{2028}\\u{2029}\\u{200b}\\u{feff}"},
        {"\xff\xc3(\xed\xa0\x80\xe6\xbc", "\\xff\\xc3(\\xed\\xa0\\x80\\xe6\\xbc"},
    };
    for (const auto& [text, shown] : cases) {
        EXPECT_EQ(printable(text), shown);
    }
}

TEST(Printable, KeepsLineFeedsWhereAsked) {
    EXPECT_EQ(printable_lines("one\r\ntwo\n\x1b[2J\rthree"), "one\ntwo\n\\x1b[2J\\x0dthree");
}

TEST(Signals, HaveNumbersAndNames) {
    const std::pair<std::string_view, int> cases[] = {
        {"TERM", 15}, {"SIGTERM", 15}, {"term", 15}, {"sigkill", 9},    {"15", 15}, {"64", 64},
        {"HUP", 1},   {"SYS", 31},     {"0", 0},     {"65", 0},         {"", 0},    {"SIG", 0},
        {"15x", 0},   {"SIGFOO", 0},   {"-9", 0},    {"SIGSIGTERM", 0},
    };
    for (const auto& [name, number] : cases) {
        EXPECT_EQ(signal_number(name), number) << name;
    }
    for (int number = 1; number <= 31; ++number) {
        EXPECT_EQ(signal_number(signal_name(number)), number);
    }
    EXPECT_EQ(signal_name(6), "ABRT");
    EXPECT_EQ(signal_name(0), "");
    EXPECT_EQ(signal_name(40), "");
}

TEST(FormatTime, IsRfc3339WithMilliseconds) {
    EXPECT_EQ(format_time(0), "1970-01-01T00:00:00.000Z");
    EXPECT_EQ(format_time(1795421794123), "2026-11-23T08:16:34.123Z");
    EXPECT_EQ(format_time(-1), "1969-12-31T23:59:59.999Z");
}

TEST(ParseDuration, TakesNumbersWithUnits) {
    const std::pair<std::string_view, std::int64_t> good[] = {{"500ms", 500},
                                                              {"15s", 15'000},
                                                              {"10m", 600'000},
                                                              {"1h", 3'600'000},
                                                              {"2d", 172'800'000},
                                                              {"1w", 604'800'000},
                                                              {"90", 90'000},
                                                              {"0", 0},
                                                              {"1h30m", 5'400'000},
                                                              {"1m500ms", 60'500},
                                                              {"1w2d3h4m5s6ms", 788'645'006},
                                                              {"9223372036854775s807ms", 9'223'372'036'854'775'807}};
    for (const auto& [text, expected] : good) {
        std::int64_t milliseconds = -1;
        EXPECT_TRUE(parse_duration(text, milliseconds)) << text;
        EXPECT_EQ(milliseconds, expected) << text;
    }
    for (const auto* text : {"",
                             "s",
                             "-1s",
                             "+1s",
                             " 1s",
                             "1 s",
                             "1.5s",
                             "1S",
                             "9223372036854775807s",
                             "99999999999999999999",
                             "106751991168d",
                             "yes",
                             "9223372036854775s808ms",
                             "1h30",
                             "30m1h",
                             "1h1h",
                             "1hm",
                             "1h ",
                             "1h30m ",
                             "1h,30m",
                             "h1"}) {
        std::int64_t milliseconds = 7;
        EXPECT_FALSE(parse_duration(text, milliseconds)) << text;
        EXPECT_EQ(milliseconds, 7) << text;
    }
}

TEST(ParseSize, TakesOneNumberAndOneUnit) {
    const std::pair<std::string_view, std::uint64_t> good[] = {
        {"8MiB", 8ULL << 20}, {"64KiB", 64ULL << 10}, {"1GiB", 1ULL << 30},
        {"512B", 512},        {"512", 512},           {"17179869183GiB", 17179869183ULL << 30}};
    for (const auto& [text, expected] : good) {
        std::uint64_t bytes = 0;
        EXPECT_TRUE(parse_size(text, bytes)) << text;
        EXPECT_EQ(bytes, expected);
    }
    for (const auto* text : {"", "MiB", "8MB", "8 MiB", "8mib", "-1", "17179869184GiB", "18446744073709551616"}) {
        std::uint64_t bytes = 0;
        EXPECT_FALSE(parse_size(text, bytes)) << text;
    }
}

}  // namespace
}  // namespace cmssh
