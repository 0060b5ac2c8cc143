#include "protocol/tmux_control.hpp"

#include <gtest/gtest.h>

#include <string>

namespace cmssh::tmux {
namespace {

using namespace std::string_literals;

std::string describe(const Event& event) {
    if (const auto* notification = std::get_if<Notification>(&event)) {
        return "%" + notification->name + "|" + notification->rest;
    }
    const auto& block = std::get<Block>(event);
    std::string text = (block.error ? "error " : "end ") + std::to_string(block.time) + " " +
                       std::to_string(block.number) + (block.ours ? " ours" : " startup");
    for (const std::string& line : block.lines) {
        text += "|" + line;
    }
    return text;
}

std::vector<std::string> feed(ControlParser& parser, std::string_view bytes) {
    std::vector<std::string> described;
    const Result<std::vector<Event>> events = parser.feed(bytes);
    EXPECT_TRUE(events.ok());
    if (events.ok()) {
        for (const Event& event : *events) {
            described.push_back(describe(event));
        }
    }
    return described;
}

constexpr std::string_view kStream =
    "tmux 3.3a\n"
    "%begin 1700000000 258 0\n"
    "%end 1700000000 258 0\n"
    "%session-changed $0 keeper\n"
    "%begin 1700000001 263 1\n"
    "$1 sess-a 0\r\n"
    "\n"
    "%sessions-changed\n"
    "%end 1700000001 263 1\n"
    "%begin 1700000002 270 1\n"
    "can't find session: x\n"
    "%error 1700000002 270 1\n"
    "%sessions-changed\n"
    "%unlinked-window-close @4\n"
    "%exit server exited unexpectedly\n";

const std::vector<std::string> kEvents = {"end 1700000000 258 startup",
                                          "%session-changed|$0 keeper",
                                          "end 1700000001 263 ours|$1 sess-a 0\r||%sessions-changed",
                                          "error 1700000002 270 ours|can't find session: x",
                                          "%sessions-changed|",
                                          "%unlinked-window-close|@4",
                                          "%exit|server exited unexpectedly"};

TEST(TmuxControlParser, ReadsBlocksAndNotifications) {
    ControlParser parser;
    EXPECT_EQ(feed(parser, kStream), kEvents);
}

TEST(TmuxControlParser, ReadsTheSameFromAnyPieces) {
    for (std::size_t size = 1; size < 12; ++size) {
        ControlParser parser;
        std::vector<std::string> events;
        for (std::size_t at = 0; at < kStream.size(); at += size) {
            for (std::string& event : feed(parser, kStream.substr(at, size))) {
                events.push_back(std::move(event));
            }
        }
        EXPECT_EQ(events, kEvents) << size;
    }
}

TEST(TmuxControlParser, EndsABlockOnlyOnAnExactMatch) {
    ControlParser parser;
    EXPECT_EQ(
        feed(parser,
             "%begin 10 20 1\n%end 10 21 1\n%end 11 20 1\n%end 10 20 0\n%end 10 20 1 \n%end 10 20 1\r\n %end 10 20 "
             "1\n%begin 10 20 1\n%end  10 20 1\n%end 10 20 1\n"),
        (std::vector<std::string>{"end 10 20 ours|%end 10 21 1|%end 11 20 1|%end 10 20 0|%end 10 20 1 |%end 10 20 "
                                  "1\r| %end 10 20 1|%begin 10 20 1|%end  10 20 1"}));
}

TEST(TmuxControlParser, PassesOverWhatIsNoNotification) {
    ControlParser parser;
    EXPECT_EQ(feed(parser, "Last login: today\n\n%\n% x\n%end 1 2 1\n%begin 1 x 1\n"),
              (std::vector<std::string>{"%end|1 2 1", "%begin|1 x 1"}));
}

TEST(TmuxControlParser, FailsForGoodOnALineOverTheLimit) {
    ControlParser parser(10);
    EXPECT_TRUE(parser.feed("0123456789").ok());
    const auto events = parser.feed("a");
    ASSERT_FALSE(events.ok());
    EXPECT_EQ(events.error().kind, ErrorKind::TmuxFailed);
    EXPECT_FALSE(parser.feed("\n%exit\n").ok());
    EXPECT_FALSE(ControlParser(10).feed("%2345678901\n").ok());
}

TEST(TmuxControlParser, FailsForGoodOnABlockOverTheLimit) {
    ControlParser parser(1000);
    EXPECT_TRUE(parser.feed("%begin 1 2 1\n").ok());
    EXPECT_FALSE(parser.feed(std::string(500, '\n')).ok());
    EXPECT_FALSE(parser.feed("%end 1 2 1\n").ok());
}

TEST(TmuxQuote, EscapesWhatTmuxActsOnWithinDoubleQuotes) {
    const std::pair<std::string, std::string> cases[] = {
        {"", R"("")"},
        {"it's {a}; #b", R"("it's {a}; #b")"},
        {R"(\ " $HOME)", R"("\\ \" \$HOME")"},
        {"a\nb", R"("a\nb")"},
        {"\t\r\x1b\x01"
         "7\x7f",
         R"("\011\015\033\0017\177")"},
        {"~/x", R"("\176/x")"},
        {"é漢😀", "\"é漢😀\""},
    };
    for (const auto& [text, quoted] : cases) {
        EXPECT_EQ(quote(text), quoted);
    }
}

TEST(TmuxQuote, KeepsAFormatFromBeingExpanded) {
    EXPECT_EQ(quote_literal_format("/tmp/#(id) #{pid}#"), R"("/tmp/##(id) ##{pid}##")");
    EXPECT_EQ(quote_literal_format("##x"), R"("####x")");
    EXPECT_EQ(quote_literal_format("a#[b##[c"), R"("a#[b##[c")");
}

TEST(TmuxQuote, MakesALineOfQuotedArguments) {
    EXPECT_EQ(command_line("kill-session", {"-t", "=a b"}), R"(kill-session "-t" "=a b")");
    EXPECT_EQ(command_line("list-sessions", {}), "list-sessions");
}

TEST(TmuxUtf8, TakesWellFormedTextOnly) {
    for (const auto& text : {""s, "abc"s, "é漢😀"s, "\0"s, "\xed\x9f\xbf"s, "\xf4\x8f\xbf\xbf"s}) {
        EXPECT_TRUE(valid_utf8(text)) << text;
    }
    for (const auto& text : {"\x80"s, "\xff"s, "\xc0\xaf"s, "\xe0\x80\xaf"s, "\xed\xa0\x80"s, "\xf4\x90\x80\x80"s,
                             "\xc3"s, "\xe6\xbc"s, "\xc3("s, "\xf8\x88\x80\x80\x80"s}) {
        EXPECT_FALSE(valid_utf8(text));
    }
}

TEST(TmuxVersion, ReadsReleasesAndSnapshots) {
    EXPECT_EQ(parse_version("tmux 3.3a"), (Version{3, 3}));
    EXPECT_EQ(parse_version("tmux 3.2"), (Version{3, 2}));
    EXPECT_EQ(parse_version("tmux next-3.4"), (Version{3, 4}));
    EXPECT_EQ(parse_version("tmux 3.5-rc"), (Version{3, 5}));
    EXPECT_LT(*parse_version("tmux 2.9a"), *parse_version("tmux 3.2a"));
    EXPECT_LT(*parse_version("tmux 3.9"), *parse_version("tmux 3.10"));
    for (const auto* text :
         {"", "tmux", "tmux openbsd-7.0", "tmux master", "tmux 3", "tmux -1.2", "screen 4.9", "3.3a"}) {
        EXPECT_FALSE(parse_version(text)) << text;
    }
}

}  // namespace
}  // namespace cmssh::tmux
