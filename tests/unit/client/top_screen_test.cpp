#include "client/top_screen.hpp"

#include <gmock/gmock.h>

#include <locale.h>

#include <algorithm>

#include "client/event_text.hpp"

namespace cmssh::client {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Pane = TopModel::Pane;

api::Connection connection(const std::string& key, api::ConnectionState state = api::ConnectionState::Up) {
    api::Connection it;
    it.server.key = key;
    it.state = state;
    it.refs = 3;
    it.channels = {.used = 2, .max = 10, .queued = 0};
    it.rtt_ms = api::Rtt{.last = 1.5, .p50 = 1, .p95 = 2};
    it.reconnects = 4;
    return it;
}

api::Session session(const std::string& id, const std::string& name = {}) {
    api::Session it;
    it.id = id;
    it.name = name.empty() ? id : name;
    it.ctx = "server-a";
    it.server.key = "me@a:22";
    it.command = {"make", "test"};
    it.state = api::SessionState::Running;
    return it;
}

std::vector<std::string> texts(const std::vector<ScreenLine>& lines) {
    std::vector<std::string> found;
    for (const ScreenLine& line : lines) {
        std::string text;
        for (const Span& span : line) {
            text += span.text;
        }
        found.push_back(text);
    }
    return found;
}

std::size_t characters(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }));
}

std::string marked(const std::vector<ScreenLine>& lines) {
    for (const ScreenLine& line : lines) {
        if (!line.empty() && line.front().reverse) {
            return line.front().text;
        }
    }
    return "";
}

TEST(TopScreen, FillsEightyByTwentyFour) {
    TopModel model;
    model.set_connections({connection("me@a:22"), connection("me@b:22", api::ConnectionState::NeedsAuth)});
    model.set_sessions({session("sess-aaaaaaaa", "nightly"), session("sess-bbbbbbbb")});
    for (int i = 0; i < 30; ++i) {
        model.sample();
    }
    TopView view;
    view.daemon = "cmsshd 0.1.0, up 3h, 12.0 MiB";
    const auto lines = texts(draw_top(model, view, 80, 24));
    ASSERT_EQ(lines.size(), 24U);
    for (const std::string& line : lines) {
        EXPECT_LE(characters(line), 80U) << line;
    }
    EXPECT_THAT(lines[0], StartsWith("cmctl top   2 connections, 2 sessions "));
    EXPECT_THAT(lines[0], EndsWith(" cmsshd 0.1.0, up 3h, 12.0 MiB"));
    EXPECT_THAT(lines[2], StartsWith("SERVER   STATE       REFS  CHANNELS      RTT  "));
    EXPECT_THAT(lines[2], EndsWith("RECON"));
    EXPECT_THAT(lines[3], StartsWith("me@a:22  up             3      2/10    1.5ms  "));
    EXPECT_THAT(lines[3], HasSubstr("██████████"));
    EXPECT_THAT(lines[3], EndsWith("    4"));
    EXPECT_THAT(lines[4], StartsWith("me@b:22  needs_auth "));
    EXPECT_THAT(lines[4], Not(HasSubstr("█"))) << "it is not up";
    EXPECT_THAT(lines[6], StartsWith("SESSION        NAME     CTX       STATE         AGE  COMMAND"));
    EXPECT_THAT(lines[7], StartsWith("sess-aaaaaaaa  nightly  server-a  running"));
    EXPECT_THAT(lines[7], HasSubstr("make test"));
    EXPECT_THAT(lines[8], StartsWith("sess-bbbbbbbb  -        server-a  running"));
    EXPECT_THAT(lines[23], HasSubstr("q quit"));
}

TEST(TopScreen, SaysWhereThereIsNothing) {
    const auto lines = texts(draw_top({}, {}, 80, 24));
    EXPECT_THAT(lines[3], StartsWith("no connections"));
    EXPECT_THAT(lines[6], StartsWith("no sessions"));
}

TEST(TopScreen, FitsAnySize) {
    TopModel model;
    std::vector<api::Connection> connections;
    std::vector<api::Session> sessions;
    for (int i = 0; i < 50; ++i) {
        connections.push_back(connection("somebody@a-long-name.example.org:2222 via bastion-" + std::to_string(i)));
        sessions.push_back(session("sess-" + std::to_string(i), std::string(64, 'n')));
        sessions.back().command = {std::string(500, 'c')};
    }
    model.set_connections(connections);
    model.set_sessions(sessions);
    for (std::size_t columns = 0; columns < 200; columns += 19) {
        for (std::size_t rows = 0; rows < 60; rows += 3) {
            for (const bool help : {false, true}) {
                TopView view;
                view.help = help;
                const auto lines = texts(draw_top(model, view, columns, rows));
                EXPECT_EQ(lines.size(), columns == 0 ? 0 : rows);
                for (const std::string& line : lines) {
                    ASSERT_LE(characters(line), columns) << columns << "x" << rows;
                }
            }
        }
    }
}

TEST(TopScreen, KeepsTheSelectedRowInView) {
    TopModel model;
    std::vector<api::Session> sessions;
    for (int i = 100; i < 200; ++i) {
        sessions.push_back(session("sess-aaaaa" + std::to_string(i)));
    }
    model.set_sessions(sessions);
    EXPECT_THAT(marked(draw_top(model, {}, 80, 24)), StartsWith("sess-aaaaa100"));
    model.move(60);
    EXPECT_THAT(marked(draw_top(model, {}, 80, 24)), StartsWith("sess-aaaaa160"));
    model.move(1000);
    EXPECT_THAT(marked(draw_top(model, {}, 80, 24)), StartsWith("sess-aaaaa199"));
    EXPECT_THAT(marked(draw_top(model, {}, 40, 10)), StartsWith("sess-aaaaa199"));
    model.switch_pane();
    EXPECT_EQ(marked(draw_top(model, {}, 80, 24)), "") << "there is no connection";
}

TEST(TopScreen, LetsNoTerminalActOnNames) {
    TopModel model;
    model.set_connections({connection("me@\033[31m:22")});
    model.set_sessions({session("sess-a", "\033]0;title\007")});
    TopView view;
    view.daemon = "\033[2J";
    view.note = "kill \033[2J ? y/n";
    for (const std::string& line : texts(draw_top(model, view, 80, 24))) {
        EXPECT_EQ(line.find('\033'), std::string::npos);
        EXPECT_EQ(line.find('\007'), std::string::npos);
    }
}

TEST(TopScreen, ANoteTakesThePlaceOfTheKeys) {
    TopView view;
    view.note = "kill sess-a ? y/n";
    view.question = true;
    const auto lines = draw_top({}, view, 80, 24);
    EXPECT_THAT(texts(lines).back(), StartsWith("kill sess-a ? y/n"));
    EXPECT_TRUE(lines.back().front().bold);
    view.help = true;
    EXPECT_THAT(texts(draw_top({}, view, 80, 24))[4], StartsWith("Enter, a "));
}

TEST(Sparkline, IsAsHighAsItsHighest) {
    EXPECT_EQ(sparkline({0.0, 4.0, 8.0}, 3), "▁▅█");
    EXPECT_EQ(sparkline({1.0, std::nullopt, 1.0}, 5), "  █ █");
    EXPECT_EQ(sparkline({9.0, 1.0, 1.0}, 2), "██") << "the newest only";
    EXPECT_EQ(sparkline({0.0}, 1), "▁");
    EXPECT_EQ(sparkline({}, 3), "   ");
    EXPECT_EQ(sparkline({1.0}, 0), "");
}

TEST(Fitted, CutsAndFillsByWhatATerminalShows) {
    EXPECT_EQ(fitted("abc", 5), "abc  ");
    EXPECT_EQ(fitted("abcdef", 4), "abc…");
    EXPECT_EQ(fitted("abc", 0), "");
    const std::string before = ::setlocale(LC_CTYPE, nullptr);
    ASSERT_NE(::setlocale(LC_CTYPE, "C.UTF-8"), nullptr);
    EXPECT_EQ(fitted("東京都", 5), "東京…");
    EXPECT_EQ(fitted("東京都", 4), "東… ");
    EXPECT_EQ(fitted("東京", 6), "東京  ");
    ::setlocale(LC_CTYPE, before.c_str());
}

TEST(TopModel, KeepsWhatIsSelected) {
    TopModel model;
    model.set_sessions({session("sess-a"), session("sess-b"), session("sess-c")});
    model.move(1);
    EXPECT_EQ(model.session()->id, "sess-b");
    model.set_sessions({session("sess-0"), session("sess-a"), session("sess-b"), session("sess-c")});
    EXPECT_EQ(model.session()->id, "sess-b");
    model.set_sessions({session("sess-0"), session("sess-a"), session("sess-c")});
    EXPECT_EQ(model.session()->id, "sess-c");
    model.set_sessions({session("sess-0")});
    EXPECT_EQ(model.session()->id, "sess-0");
    model.set_sessions({});
    EXPECT_EQ(model.session(), nullptr);
    model.move(-1);
    EXPECT_EQ(model.session(), nullptr);
}

TEST(TopModel, TheConnectionOfASessionIsItsServers) {
    TopModel model;
    model.set_connections({connection("me@b:22"), connection("me@a:22")});
    model.set_sessions({session("sess-a")});
    ASSERT_NE(model.connection(), nullptr);
    EXPECT_EQ(model.connection()->server.key, "me@a:22");
    model.switch_pane();
    EXPECT_EQ(model.session(), nullptr);
    EXPECT_EQ(model.connection()->server.key, "me@b:22");
    model.move(1);
    EXPECT_EQ(model.connection()->server.key, "me@a:22");
}

TEST(TopModel, KeepsSomeSamplesOfThoseThatAreThere) {
    TopModel model;
    model.set_connections({connection("me@a:22"), connection("me@b:22", api::ConnectionState::Backoff)});
    for (std::size_t i = 0; i < TopModel::kSamples + 5; ++i) {
        model.sample();
    }
    EXPECT_EQ(model.samples("me@a:22").size(), TopModel::kSamples);
    EXPECT_EQ(model.samples("me@b:22").back(), std::nullopt);
    model.set_connections({connection("me@b:22")});
    EXPECT_TRUE(model.samples("me@a:22").empty());
}

TEST(EventLine, SaysWhatHappened) {
    api::Event event;
    event.type = api::EventType::SessionEnded;
    event.at = "2026-11-23T08:16:34.123Z";
    event.session = session("sess-a", "nightly");
    event.session->state = api::SessionState::Exited;
    event.session->exit_code = 3;
    EXPECT_THAT(event_line(event, false), EndsWith(":34  session.ended        sess-a (nightly) on server-a: exited 3"));
    EXPECT_THAT(event_line(event, true), HasSubstr("\033[2msession.ended      \033[0m"));
    event.type = api::EventType::SessionStarted;
    EXPECT_THAT(event_line(event, false), EndsWith("  sess-a (nightly) on server-a: make test"));
    event.session.reset();
    event.type = api::EventType::ConnectionChanged;
    event.connection = connection("me@\033[31m:22", api::ConnectionState::Backoff);
    event.connection->last_error.emplace().message = "no such\nhost";
    const std::string line = event_line(event, false);
    EXPECT_THAT(line, HasSubstr("backoff"));
    EXPECT_THAT(line, HasSubstr("no such\\nhost"));
    EXPECT_EQ(line.find('\033'), std::string::npos);
    EXPECT_EQ(subject_of(event), "me@\033[31m:22");
    event.removed = true;
    EXPECT_THAT(event_line(event, false), EndsWith(": forgotten"));
    event.connection.reset();
    event.type = api::EventType::Overflow;
    EXPECT_THAT(event_line(event, false), HasSubstr("events are missing here"));
    EXPECT_EQ(subject_of(event), "");
}

}  // namespace
}  // namespace cmssh::client
