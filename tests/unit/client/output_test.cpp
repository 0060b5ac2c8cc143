#include "client/output.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "client/columns.hpp"

namespace cmssh::client {
namespace {

TEST(CommandText, IsWhatOneWouldType) {
    EXPECT_EQ(command_text({"claude", "task 1"}), "claude 'task 1'");
    EXPECT_EQ(command_text({"make", "-j8", "CC=gcc", "a/b.c"}), "make -j8 CC=gcc a/b.c");
    EXPECT_EQ(command_text({"echo", "it's", "", "$HOME", "*"}), "echo 'it'\\''s' '' '$HOME' '*'");
    EXPECT_EQ(command_text({"~/x", "#", "!"}), "'~/x' '#' '!'");
    EXPECT_EQ(command_text({}), "");
}

TEST(Table, AlignsColumnsByCharacters) {
    Table table({"A", "LONG", "C"});
    table.add({{"é"}, {"x"}, {"last"}});
    table.add({{"four"}, {""}, {""}});
    EXPECT_EQ(table.render(false, 0),
              "A     LONG  C\n"
              "é     x     last\n"
              "four\n");
}

TEST(Table, CutsTheLastColumnAtTheEdge) {
    Table table({});
    table.add({{"id"}, {"ünïcödé text"}});
    EXPECT_EQ(table.render(false, 10), "id  ünïcö…\n");
    EXPECT_EQ(table.render(false, 0), "id  ünïcödé text\n");
    EXPECT_EQ(table.render(false, 3), "id  ünïcödé text\n") << "no room at all: wrapped by the terminal";
}

TEST(Table, FitsTheTerminal) {
    Table table({"ID", "NAME", "CTX", "SERVER", "STATE", "AGE", "COMMAND"});
    table.add({{"sess-jxqg566z"},
               {"a-rather-long-session-name-number-1"},
               {"root@127.0.0.51:25737"},
               {"root@127.0.0.51:25737 via cmd-4b672a66"},
               {"running"},
               {"12m"},
               {"sh -c 'sleep 100 # 日本語日本語日本語日本語日本語'"}});
    for (const std::size_t width : {80U, 100U, 120U, 160U}) {
        std::istringstream lines(table.render(false, width));
        for (std::string line; std::getline(lines, line);) {
            EXPECT_LE(columns_of(line), width) << line;
            EXPECT_TRUE(line.starts_with("sess-jxqg566z  a-rather") || line.starts_with("ID ")) << line;
        }
    }
    EXPECT_NE(table.render(false, 0).find("number-1 "), std::string::npos);
}

TEST(Columns, AreOfATerminal) {
    EXPECT_EQ(columns_of("ünïcödé"), 7U);
    EXPECT_EQ(columns_of("日本"), 4U);
    EXPECT_EQ(columns_of("e\u0301"), 1U);
    EXPECT_EQ(cut("日本語", 6), "日本語");
    EXPECT_EQ(cut("日本語", 5), "日本…");
    EXPECT_EQ(cut("日本語", 4), "日…");
    EXPECT_EQ(cut("abc", 0), "");
}

TEST(Table, LetsNoTerminalActOnText) {
    Table table({});
    table.add({{"\033[31mred"}, {"two\nlines\xff"}});
    const std::string text = table.render(false, 0);
    EXPECT_EQ(text.find('\033'), std::string::npos);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(Table, ColorsACellAndNotItsPadding) {
    Table table({});
    table.add({{"ok", Style::Good}, {"x"}});
    EXPECT_EQ(table.render(true, 0), "\033[32mok\033[0m  x\n");
}

TEST(Texts, OfDurationsSizesAndCounts) {
    EXPECT_EQ(duration_text(0.4), "0s");
    EXPECT_EQ(duration_text(119), "119s");
    EXPECT_EQ(duration_text(120), "2m");
    EXPECT_EQ(duration_text(7200), "2h");
    EXPECT_EQ(duration_text(200000), "2d");
    EXPECT_EQ(bytes_text(512), "512 B");
    EXPECT_EQ(bytes_text(8 * 1024 * 1024), "8.0 MiB");
    EXPECT_EQ(count_text(0, "session"), "0 sessions");
    EXPECT_EQ(count_text(1, "session"), "1 session");
    EXPECT_EQ(count_text(3, "session"), "3 sessions");
    EXPECT_EQ(age_text("nonsense"), "");
}

api::Session ended(api::SessionState state, std::optional<int> code, std::optional<std::string> signal) {
    api::Session session;
    session.state = state;
    session.exit_code = code;
    session.signal = std::move(signal);
    return session;
}

TEST(ExitCode, FollowsTheSessionsEnd) {
    EXPECT_EQ(exit_code_of(ended(api::SessionState::Exited, 0, std::nullopt)), 0);
    EXPECT_EQ(exit_code_of(ended(api::SessionState::Exited, 77, std::nullopt)), 77);
    EXPECT_EQ(exit_code_of(ended(api::SessionState::Exited, std::nullopt, "SEGV")), 128 + 11);
    EXPECT_EQ(exit_code_of(ended(api::SessionState::Killed, std::nullopt, std::nullopt)), 129);
    EXPECT_EQ(exit_code_of(ended(api::SessionState::Killed, std::nullopt, "TERM")), 128 + 15);
    EXPECT_EQ(exit_code_of(ended(api::SessionState::Lost, std::nullopt, std::nullopt)), 1);
}

TEST(StateText, SaysHowASessionEnded) {
    EXPECT_EQ(state_text(ended(api::SessionState::Exited, 3, std::nullopt)), "exited 3");
    EXPECT_EQ(state_text(ended(api::SessionState::Exited, std::nullopt, "TERM")), "exited by TERM");
    auto lost = ended(api::SessionState::Lost, std::nullopt, std::nullopt);
    lost.reason = "tmux server gone";
    EXPECT_EQ(state_text(lost), "lost (tmux server gone)");
}

}  // namespace
}  // namespace cmssh::client
