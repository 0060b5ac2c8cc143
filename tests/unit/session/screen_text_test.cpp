#include "daemon/session/screen_text.hpp"

#include <gmock/gmock.h>

namespace cmssh {
namespace {

using Lines = std::vector<std::string>;

api::LogsResult read(Lines lines, const std::optional<std::string>& since = {}, std::optional<int> last = {},
                     bool open = false) {
    api::LogsParams params;
    params.lines = last;
    std::optional<LogCursor> cursor;
    if (since) {
        cursor = parse_log_cursor(*since);
        EXPECT_TRUE(cursor) << *since;
    }
    return cut_log({.lines = std::move(lines), .last_is_open = open}, params, cursor);
}

Lines numbered(int from, int to) {
    Lines lines;
    for (int i = from; i < to; ++i) {
        lines.push_back("line " + std::to_string(i));
    }
    return lines;
}

TEST(ScreenText, WhatWasPrintedIsGivenWithoutTheEmptyRestOfTheScreen) {
    const auto log = read({"one", "", "two  ", "", "", ""});
    EXPECT_EQ(log.text, "one\n\ntwo\n");
    EXPECT_FALSE(log.truncated);
    EXPECT_EQ(read({"", "", ""}).text, "");
}

TEST(ScreenText, AnOpenLastLineHasNoLineEnd) {
    EXPECT_EQ(read({"one", "$ ", ""}, {}, {}, true).text, "one\n$");
}

TEST(ScreenText, TheLastLinesOnly) {
    EXPECT_EQ(read({"one", "two", "three"}, {}, 2).text, "two\nthree\n");
    EXPECT_TRUE(read({"one", "two", "three"}, {}, 2).truncated);
    EXPECT_FALSE(read({"one", "two"}, {}, 2).truncated);
    EXPECT_EQ(read({"one", "two"}, {}, 0).text, "");
}

TEST(ScreenText, ReadingOnGivesEachLineOnce) {
    const auto first = read({"one", "two", "th"}, {}, {}, true);
    EXPECT_EQ(first.text, "one\ntwo\nth");
    const auto second = read({"one", "two", "three", "four"}, first.cursor);
    EXPECT_EQ(second.text, "three\nfour\n");
    EXPECT_FALSE(second.truncated);
    EXPECT_EQ(read({"one", "two", "three", "four"}, second.cursor).text, "");
}

TEST(ScreenText, AnOpenLineIsNotGivenToWhoReadsOn) {
    const auto first = read({"one"});
    EXPECT_EQ(read({"one", "tw"}, first.cursor, {}, true).text, "");
    EXPECT_EQ(read({"one", "two", ""}, first.cursor).text, "two\n");
}

TEST(ScreenText, ReadingOnAfterTheOldestLinesWereDropped) {
    const auto first = read(numbered(0, 100));
    const auto second = read(numbered(40, 120), first.cursor);
    EXPECT_EQ(second.text, [] {
        std::string text;
        for (const auto& line : numbered(100, 120)) {
            text += line + '\n';
        }
        return text;
    }());
    EXPECT_FALSE(second.truncated);
}

TEST(ScreenText, WhereTheReaderWasIsGoneAllIsGivenAndSaidSo) {
    const auto first = read(numbered(0, 100));
    const auto second = read(numbered(500, 510), first.cursor);
    EXPECT_TRUE(second.truncated);
    EXPECT_TRUE(second.text.starts_with("line 500\n")) << second.text;
}

TEST(ScreenText, EqualLinesAreCounted) {
    const auto first = read(Lines(50, "tick"));
    EXPECT_EQ(read(Lines(53, "tick"), first.cursor).text, "tick\ntick\ntick\n");
}

TEST(ScreenText, AReaderFromTheBeginning) {
    const auto nothing = read({});
    EXPECT_EQ(read({"one"}, nothing.cursor).text, "one\n");
}

TEST(ScreenText, EscapesAreLeftOutOrKept) {
    const Lines lines = {"\033[1;31mred\033[0m \033]8;;http://x\033\\link\033]8;;\033\\ \033(0q\033(B\016x\017"};
    EXPECT_EQ(read(lines).text, "red link qx\n");
    api::LogsParams params;
    params.escapes = true;
    EXPECT_EQ(cut_log({.lines = lines, .last_is_open = false}, params, {}).text, lines[0] + '\n');
    for (const auto* cut : {"\033", "a\033[", "a\033[1;", "a\033]8;;x", "a\033("}) {
        EXPECT_LE(without_escapes(cut).size(), 1U);
    }
}

TEST(ScreenText, CursorsThatAreNone) {
    for (const auto* text : {"", "log-", "log-1", "log-1-", "log--1-0123456789abcdef", "log-1-0123456789abcdeg",
                             "log-0-0123456789abcdef", "log-99999999999999999999-0123456789abcdef", "1-x"}) {
        EXPECT_FALSE(parse_log_cursor(text)) << text;
    }
    const LogCursor cursor{.lines = 12, .anchor = "0123456789abcdef"};
    EXPECT_EQ(parse_log_cursor(to_text(cursor)), cursor);
    EXPECT_EQ(parse_log_cursor(to_text({})), LogCursor());
}

TEST(ScreenText, LinesAndTextAreTheSame) {
    const Lines lines = {"a", "", "b"};
    EXPECT_EQ(split_lines(joined_lines(lines)), lines);
    EXPECT_TRUE(split_lines("").empty());
}

}  // namespace
}  // namespace cmssh
