#include "daemon/session/screen_text.hpp"

#include <gmock/gmock.h>

#include <random>

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

// A pane of tmux: rows that are wrapped or not, of which the oldest tenth goes when there are too many.
class Pane {
public:
    Pane(int width, int height, std::int64_t limit) : width_(width), height_(height), limit_(limit), rows_(1) {}

    void print(const std::string& text) {
        for (const char c : text) {
            if (c == '\n') {
                next_row(false);
            } else {
                if (static_cast<int>(rows_.back().text.size()) == width_) {
                    next_row(true);
                }
                rows_.back().text += c;
            }
        }
    }
    // Writes over a row above the cursor.
    void write_over(int above, const std::string& text) {
        rows_[rows_.size() - 1 - static_cast<std::size_t>(above)].text = text;
    }

    [[nodiscard]] tmux::PaneState state() const {
        tmux::PaneState state;
        state.width = width_;
        state.height = height_;
        state.history = history_;
        state.history_limit = limit_;
        state.cursor_row = static_cast<int>(static_cast<std::int64_t>(rows_.size()) - 1 - history_);
        state.cursor_column = static_cast<int>(rows_.back().text.size());
        return state;
    }
    // As the daemon captures it.
    [[nodiscard]] Capture capture(std::optional<std::int64_t> first = std::nullopt) const {
        Capture capture;
        capture.state = state();
        capture.first_row = std::max<std::int64_t>(first.value_or(history_ - kRowsAbove), 0);
        const auto all = history_ + height_;
        bool goes_on = false;
        for (std::int64_t i = first ? capture.first_row : 0; i < all; ++i) {
            const Row row = i < static_cast<std::int64_t>(rows_.size()) ? rows_[static_cast<std::size_t>(i)] : Row();
            if (i >= capture.first_row) {
                capture.rows.push_back(row.text);
            }
            if (goes_on) {
                capture.lines.back() += row.text;
            } else {
                capture.lines.push_back(row.text);
            }
            goes_on = row.wrapped;
        }
        return capture;
    }

private:
    struct Row {
        std::string text;
        bool wrapped = false;
    };
    void next_row(bool wrapped) {
        rows_.back().wrapped = wrapped;
        rows_.emplace_back();
        if (static_cast<std::int64_t>(rows_.size()) - history_ <= height_) {
            return;
        }
        if (history_ >= limit_) {
            const auto gone = std::max<std::int64_t>(limit_ / 10, 1);
            rows_.erase(rows_.begin(), rows_.begin() + gone);
            history_ -= gone;
        }
        ++history_;
    }

    int width_;
    int height_;
    std::int64_t limit_;
    std::int64_t history_ = 0;
    std::vector<Row> rows_;
};

// As the daemon reads on.
class PaneReader {
public:
    std::string read(const Pane& pane) {
        api::LogsParams params;
        params.wait_ms = 0;
        std::optional<api::LogsResult> log;
        if (since_ && since_->place) {
            if (is_seen(*since_->place, pane.state())) {
                return {};
            }
            if (const auto first = first_row_needed(*since_->place, pane.state())) {
                log = read_on(pane.capture(*first), params, *since_);
            }
        }
        if (!log) {
            ++whole;
            log = cut_log(pane.capture(), params, since_);
        }
        since_ = parse_log_cursor(log->cursor);
        EXPECT_TRUE(since_) << log->cursor;
        truncated = truncated || log->truncated;
        return log->text;
    }
    // What the registry has of it in the end.
    std::string read_end(const Pane& pane) {
        Capture capture;
        capture.lines = pane.capture().lines;
        const auto log = cut_log(std::move(capture), {}, since_);
        truncated = truncated || log.truncated;
        return log.text;
    }
    [[nodiscard]] bool has_place() const { return since_ && since_->place; }

    int whole = 0;
    bool truncated = false;

private:
    std::optional<LogCursor> since_;
};

TEST(ScreenText, WhatComesIsReadOnceWhereverItIsLookedAt) {
    for (unsigned seed = 0; seed < 60; ++seed) {
        SCOPED_TRACE(seed);
        std::mt19937 random(seed);
        const bool alike = seed % 3 == 0;
        // Fewer rows than a tenth of the limit between two looks where all are alike.
        Pane pane(10, 3 + static_cast<int>(random() % 6), 400);
        PaneReader reader;
        std::string printed;
        std::string given;
        for (int look = 0; look < 200; ++look) {
            const auto pieces = random() % 8;
            for (unsigned i = 0; i < pieces; ++i) {
                std::string piece = alike ? "tick" : std::to_string(random() % 1000);
                piece += std::string(random() % 5 == 0 ? random() % 25 : 0, 'x') + (random() % 4 != 0 ? "\n" : "");
                pane.print(piece);
                printed += piece;
            }
            given += reader.read(pane);
            ASSERT_TRUE(printed.starts_with(given)) << look;
        }
        pane.print("end\n");
        printed += "end\n";
        given += reader.read(pane);
        ASSERT_EQ(given, printed);
        EXPECT_EQ(reader.read_end(pane), "");
        EXPECT_FALSE(reader.truncated);
        EXPECT_LE(reader.whole, 3) << "a look costs no more than what is new";
    }
}

TEST(ScreenText, WhatIsLostIsSaid) {
    Pane pane(20, 5, 100);
    PaneReader reader;
    pane.print("1\n2\n3\n4\n5\n6\n7\n8\n");
    EXPECT_EQ(reader.read(pane), "1\n2\n3\n4\n5\n6\n7\n8\n");
    EXPECT_FALSE(reader.truncated);
    for (int i = 9; i <= 500; ++i) {
        pane.print(std::to_string(i) + '\n');
    }
    const std::string rest = reader.read(pane);
    EXPECT_TRUE(rest.ends_with("\n499\n500\n"));
    EXPECT_FALSE(rest.starts_with("9\n"));
    EXPECT_TRUE(reader.truncated);
}

TEST(ScreenText, WhatIsWrittenOverIsGivenAsItIsThen) {
    Pane pane(20, 8, 100);
    PaneReader reader;
    pane.print("one\ntwo\nthree\n");
    EXPECT_EQ(reader.read(pane), "one\ntwo\nthree\n");
    pane.write_over(2, "two and a half");
    pane.print("four\n");
    EXPECT_EQ(reader.read(pane), "two and a half\nfour\n");
    pane.write_over(1, "");
    pane.print("five\n");
    EXPECT_EQ(reader.read(pane), "five\n");
}

TEST(ScreenText, ALongLineTakesNoMoreThanItselfAndIsFoundAgain) {
    Pane pane(10, 4, 1000);
    PaneReader reader;
    pane.print("first\n" + std::string(500, 'y'));
    EXPECT_EQ(reader.read(pane), "first\n");
    pane.print("z\nlast\n");
    EXPECT_EQ(reader.read(pane), std::string(500, 'y') + "z\nlast\n");
    EXPECT_TRUE(reader.has_place());
    EXPECT_FALSE(reader.truncated);
}

TEST(ScreenText, CursorsThatAreNone) {
    for (const auto* text : {"", "log-", "log-1", "log-1-", "log--1-0123456789abcdef", "log-1-0123456789abcdeg",
                             "log-0-0123456789abcdef", "log-99999999999999999999-0123456789abcdef", "1-x"}) {
        EXPECT_FALSE(parse_log_cursor(text)) << text;
    }
    const LogCursor cursor{.lines = 12, .anchor = "0123456789abcdef"};
    EXPECT_EQ(parse_log_cursor(to_text(cursor)), cursor);
    EXPECT_EQ(parse_log_cursor(to_text({})), LogCursor());
    LogCursor placed = cursor;
    placed.place = LogPlace{.width = 80,
                            .height = 24,
                            .cursor_column = 3,
                            .cursor_row = 5,
                            .history = 7,
                            .row = 9,
                            .above = "fedcba9876543210",
                            .screen = {0x123456, 0xabcdef},
                            .lines_above = 4,
                            .anchor_above = "0011223344556677"};
    const std::string text = to_text(placed);
    EXPECT_EQ(parse_log_cursor(text), placed);
    for (const std::string& wrong : {text + "0", text.substr(0, text.size() - 1), text + "-", text + ".1",
                                     "log-12-0123456789abcdef-" + text, std::string("log-12-0123456789abcdef-")}) {
        EXPECT_FALSE(parse_log_cursor(wrong)) << wrong;
    }
}

TEST(ScreenText, LinesAndTextAreTheSame) {
    const Lines lines = {"a", "", "b"};
    EXPECT_EQ(split_lines(joined_lines(lines)), lines);
    EXPECT_TRUE(split_lines("").empty());
}

}  // namespace
}  // namespace cmssh
