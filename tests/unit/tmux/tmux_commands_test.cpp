#include "daemon/tmux/tmux_commands.hpp"

#include <gmock/gmock.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "daemon/tmux/tmux_scripts.hpp"
#include "tests/unit/tmux/tmux_line.hpp"

namespace cmssh::tmux {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const Ownership kOwner{.owner = "0123456789abcdef", .server_key = "hren@server1:22"};

std::string hex(std::string_view bytes) {
    std::string text;
    for (const char c : bytes) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        text += kDigits[static_cast<unsigned char>(c) >> 4U];
        text += kDigits[static_cast<unsigned char>(c) & 15U];
    }
    return text;
}

NewSession nasty_session() {
    NewSession session;
    session.id = "sess-abcdefgh";
    session.note = {.name = "build",
                    .ctx = "server-a\n\"x\"",
                    .command = {"printf", "a\nb\r\t\x01\"';$HOME #{pid} #(id)~"},
                    .cwd = "~/it's #(id)\n",
                    .created_ms = 1700000000123,
                    .request_id = "r 1\n"};
    session.size = api::Size{.cols = 132, .rows = 43};
    session.env = {{"NASTY", "x\n$HOME \"'\\ #{pid}~"}, {"EMPTY", ""}};
    session.directory = "/home/u/it's #(id)\n";
    return session;
}

TEST(StartCommands, GiveTmuxTheWordsAsTheyAre) {
    const NewSession session = nasty_session();
    const auto commands = start_commands(SessionsConfig{}, kOwner, session);
    ASSERT_EQ(commands.size(), 5U);
    auto words = words_of(commands[0]);
    const auto script = std::find(words.begin(), words.end(), "--") + 3;
    ASSERT_LT(script, words.end());
    EXPECT_THAT(*script, HasSubstr("exec \"$SHELL\" -l -i -c"));
    *script = "SCRIPT";
    EXPECT_THAT(words, ElementsAre("new-session", "-d", "-P", "-F", "cmssh #{window_id} #{pane_id} #{pane_pid}", "-s",
                                   "sess-abcdefgh", "-x", "132", "-y", "43",
                                   // -c is a format, in which ## is a #.
                                   "-c", "/home/u/it's ##(id)\n",                                                   //
                                   "-e", "CMSSH_SESSION=sess-abcdefgh", "-e", "CMSSH_SESSION_CTX=server-a\n\"x\"",  //
                                   "-e", "EMPTY=", "-e", "NASTY=x\n$HOME \"'\\ #{pid}~",                            //
                                   "--", "/bin/sh", "-c", "SCRIPT", "sh", session.directory, "EMPTY %NASTY", "",
                                   session.note.command[0], session.note.command[1]));
}

TEST(StartCommands, HaveAnOldTmuxReadTheOutputToItsEnd) {
    NewSession session;
    session.id = "sess-a";
    session.note.command = {"true"};
    const auto plain = start_commands(SessionsConfig{}, kOwner, session);
    EXPECT_EQ(blocks_behind_start(session), 0);
    session.tmux = {3, 6};
    const auto piped = start_commands(SessionsConfig{}, kOwner, session);
    EXPECT_EQ(blocks_behind_start(session), 1);
    EXPECT_EQ(piped.front(), plain.front() + " ; pipe-pane -t \"=sess-a:\" 'exec cat >/dev/null'");
}

TEST(StartCommands, LeaveOutWhatIsNotGiven) {
    NewSession session;
    session.id = "sess-a";
    session.note.command = {"true"};
    const auto words = words_of(start_commands(SessionsConfig{}, kOwner, session)[0]);
    EXPECT_THAT(words, Not(Contains("-c").Times(2)));
    EXPECT_THAT(words, Not(Contains("-x")));
    EXPECT_EQ(words.back(), "true");
    EXPECT_EQ(words[words.size() - 3], "") << "the directory of the script";
    EXPECT_EQ(words[words.size() - 2], "") << "its variables";
}

TEST(StartCommands, MarkTheSessionAsOurs) {
    const auto commands = start_commands(SessionsConfig{}, kOwner, nasty_session());
    ASSERT_EQ(commands.size(), 5U);
    const auto option = [](const std::string& name, const std::string& value) {
        return ElementsAre("set-option", "-t", "=sess-abcdefgh:", name, value);
    };
    EXPECT_THAT(words_of(commands[1]), option("@cmssh_owner", kOwner.owner));
    EXPECT_THAT(words_of(commands[2]), option("@cmssh_server", hex(kOwner.server_key)));
    EXPECT_EQ(words_of(commands[3])[3], "@cmssh_note");
}

TEST(StartCommands, ComeBackAsTheNoteInARow) {
    const NewSession session = nasty_session();
    const std::string note = words_of(start_commands(SessionsConfig{}, kOwner, session)[3]).back();
    const auto rows = parse_panes({"cmssh sess-abcdefgh @3 %4 1234 0 x x x x" + note});
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].note.name, session.note.name);
    EXPECT_EQ(rows[0].note.ctx, session.note.ctx);
    EXPECT_EQ(rows[0].note.command, session.note.command);
    EXPECT_EQ(rows[0].note.cwd, session.note.cwd);
    EXPECT_EQ(rows[0].note.created_ms, session.note.created_ms);
    EXPECT_EQ(rows[0].note.request_id, session.note.request_id);
}

// tmux takes a command per line, and cuts at NUL.
TEST(TmuxCommands, AreOneLineEachWhateverIsInThem) {
    const Ownership owner{.owner = "00", .server_key = "u@h:22 via a\nb \"#{pid}"};
    SessionsConfig config;
    auto lines = start_commands(config, owner, nasty_session());
    for (const auto& line : setup_commands(config, owner, 1)) {
        lines.push_back(line);
    }
    const std::string nasty = "sess-\n\"; kill-server; \"$HOME";
    for (const auto& line :
         {pane_directory_command(nasty), list_command(owner, true), list_command(owner, false), show_command(nasty),
          kill_session_command(nasty), kill_pane_command(nasty), open_command(config, owner, "tok'en\n"),
          attach_command(config, nasty, Viewer::Watches), try_directory_command("/a\nb'\\!"), signal_command(5, 15),
          sweep_command({{nasty, 5}, {"sess-b", 6}})}) {
        lines.push_back(line);
    }
    for (const auto& line : lines) {
        for (const char c : line) {
            ASSERT_FALSE(static_cast<unsigned char>(c) < ' ' || c == 0x7f) << line;
        }
    }
}

TEST(TmuxCommands, AddressExactlyOneSession) {
    EXPECT_THAT(words_of(kill_session_command("sess-a")), ElementsAre("kill-session", "-t", "=sess-a"));
    EXPECT_THAT(words_of(kill_pane_command("%7")), ElementsAre("kill-pane", "-t", "%7"));
    EXPECT_EQ(pane_directory_command("sess-a"), R"(display-message -p -t "=sess-a:" '#{pane_current_path}')");
    const auto words = words_of(show_command("sess-a\";x"));
    ASSERT_EQ(words.size(), 6U);
    EXPECT_EQ(words[3], "=sess-a\";x:");
}

TEST(TmuxCommands, ListOnlyWhatCarriesBothOfOurMarks) {
    const std::string marks =
        "#{&&:#{==:#{@cmssh_owner},0123456789abcdef},#{==:#{@cmssh_server}," + hex(kOwner.server_key) + "}}";
    EXPECT_EQ(words_of(list_command(kOwner, false))[3], marks);
    EXPECT_EQ(words_of(list_command(kOwner, true))[3], "#{&&:#{pane_dead}," + marks + "}");
}

TEST(TmuxCommands, KeepOneKeeperForEachOwnerAndServer) {
    const auto keeper = [](const Ownership& ownership) {
        const std::string command = open_command(SessionsConfig{}, ownership, "token");
        const auto at = command.find("cmssh-keeper-", command.find(" -C new-session"));
        EXPECT_NE(at, std::string::npos);
        return command.substr(at, command.find(' ', at) - at);
    };
    const std::set<std::string> keepers = {keeper(kOwner), keeper({.owner = "1", .server_key = kOwner.server_key}),
                                           keeper({.owner = kOwner.owner, .server_key = "hren@server1:23"})};
    EXPECT_EQ(keepers.size(), 3U);
    EXPECT_EQ(keeper(kOwner), keeper(kOwner));
    // The setup marks that keeper.
    EXPECT_THAT(setup_commands(SessionsConfig{}, kOwner, 1), Contains(HasSubstr('=' + keeper(kOwner) + ':')));
}

TEST(TmuxCommands, SetUpWhatTheUsersConfigMustNotChange) {
    SessionsConfig config;
    config.scrollback = 1234;
    const auto lines = setup_commands(config, kOwner, 1);
    for (const auto* line :
         {"set-option -g destroy-unattached off", "set-option -s exit-empty off", "set-option -s exit-unattached off",
          "set-option -g default-command ''", "set-option -g history-limit 1234", "set-option -wg remain-on-exit on"}) {
        EXPECT_THAT(lines, Contains(line));
    }
}

NewSession small_session() {
    NewSession session;
    session.id = "sess-a";
    session.note = {.name = "a",
                    .ctx = "it's\n#{id}",
                    .command = {"printf", "a\nb\\'$HOME é"},
                    .cwd = std::nullopt,
                    .created_ms = 1,
                    .request_id = {}};
    session.env = {{"NAME", "x;\n$Y é"}, {"EMPTY", ""}};
    return session;
}

// What the waiting shell is sent.
std::string handed_over(const std::string& line) {
    const auto begin = line.find("cmssh-hand-over:");
    return line.substr(begin, line.find("\" ; send-keys", begin) - begin);
}

TEST(Life, IsInTheOneLineThatWasAskedFor) {
    EXPECT_EQ(parse_life({"cmssh-life 12 1700000000"}), "12 1700000000");
    EXPECT_EQ(parse_life({}), std::nullopt);
    EXPECT_EQ(parse_life({"12 1700000000"}), std::nullopt);
    EXPECT_EQ(parse_life({"cmssh-life 12 1700000000", ""}), std::nullopt);
}

TEST(TakeOver, IsOneLineThatTmuxExpandsNothingOf) {
    const auto line = take_over_command(kOwner, 4711, small_session());
    ASSERT_TRUE(line);
    for (const char c : *line) {
        ASSERT_FALSE(static_cast<unsigned char>(c) < ' ' || c == 0x7f) << *line;
    }
    EXPECT_THAT(*line, HasSubstr("#{pane_pid} #{@cmssh_made_with},000011 4711 #{default-shell} #{default-terminal}}"));
    EXPECT_THAT(*line, HasSubstr(R"(set-environment -t "=sess-a:" CMSSH_SESSION "sess-a" ;)"));
    EXPECT_THAT(*line, HasSubstr(R"(set-environment -t "=sess-a:" CMSSH_SESSION_CTX "it's\n#{id}" ;)"));
    EXPECT_THAT(*line, HasSubstr(R"(set-environment -t "=sess-a:" EMPTY "" ;)"));
    EXPECT_THAT(*line, HasSubstr(R"(set-environment -t "=sess-a:" NAME "x;\n\$Y é" ;)"));
    const std::string text = handed_over(*line);
    EXPECT_THAT(text, HasSubstr("export CMSSH_SESSION='sess-a'"));
    EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; })) << text;
}

TEST(TakeOver, AnswersInEveryCaseWithARowAtItsEnd) {
    const auto line = take_over_command(kOwner, 1, small_session());
    ASSERT_TRUE(line);
    EXPECT_THAT(*line,
                HasSubstr(R"( ; display-message -p -t "=sess-a:" "cmssh #{window_id} #{pane_id} #{pane_pid}" } {)"));
    EXPECT_TRUE(line->ends_with(R"( { display-message -p "cmssh no-spare" })"));
    EXPECT_FALSE(parse_started({"cmssh no-spare"}));
}

TEST(TakeOver, IsNotForWhatASpareSessionCannotGive) {
    NewSession session = small_session();
    session.size = api::Size{.cols = 80, .rows = 24};
    EXPECT_FALSE(take_over_command(kOwner, 1, session));
    session = small_session();
    session.directory = "/tmp";
    EXPECT_FALSE(take_over_command(kOwner, 1, session));
    session = small_session();
    session.note.command.push_back(std::string(5000, 'x'));
    EXPECT_FALSE(take_over_command(kOwner, 1, session));
    for (const auto* name : {"_", "PPID", "IFS", "UID", "BASH_ENV", "BASHOPTS", "RANDOM", "PWD", "TERM", "TMUX_PANE",
                             "SHELL", "CMSSH_SPARE_LINE"}) {
        session = small_session();
        session.env[name] = "x";
        EXPECT_FALSE(take_over_command(kOwner, 1, session)) << name;
    }
    for (const auto* name : {"PATH", "HOME", "d", "line", "LANG", "CMSSH_OTHER"}) {
        session = small_session();
        session.env[name] = "x";
        EXPECT_TRUE(take_over_command(kOwner, 1, session)) << name;
    }
}

TEST(SpareSession, HasOneNamePerOwnerAndKey) {
    const Ownership other{.owner = kOwner.owner, .server_key = "hren@server2:22"};
    EXPECT_NE(remove_spare_command(kOwner), remove_spare_command(other));
    EXPECT_THAT(remove_spare_command(kOwner), HasSubstr("\"=cmssh-spare-"));
    EXPECT_EQ(make_spare_commands(SessionsConfig{}, kOwner, {}, kReadsToTheEnd)[0], remove_spare_command(kOwner));
    EXPECT_THAT(setup_commands(SessionsConfig{}, kOwner, 1), Contains(remove_spare_command(kOwner)));
}

TEST(SpareSession, IsThereWhereAllButTheRemovalSucceeded) {
    using Reply = Result<std::vector<std::string>>;
    const Reply failed = Error{.kind = ErrorKind::TmuxFailed, .message = "no"};
    const Reply empty = std::vector<std::string>{};
    const Reply row = std::vector<std::string>{"cmssh @1 %2 3"};
    EXPECT_EQ(parse_spare({failed, row, empty}), 3);
    EXPECT_EQ(parse_spare({empty, row, empty}), 3);
    EXPECT_EQ(parse_spare({empty, failed, empty}), std::nullopt);
    EXPECT_EQ(parse_spare({empty, row, failed}), std::nullopt);
    EXPECT_EQ(parse_spare({empty, empty, empty}), std::nullopt);
}

TEST(ParseStarted, ReadsTheRowOfNewSession) {
    const auto started = parse_started({"noise of a hook", "cmssh @12 %34 5678"});
    ASSERT_TRUE(started);
    EXPECT_EQ(started->window_id, "@12");
    EXPECT_EQ(started->pane_id, "%34");
    EXPECT_EQ(started->pane_pid, 5678);
}

TEST(ParseStarted, RefusesAnythingElse) {
    const std::vector<std::string> lines[] = {
        {},
        {""},
        {"cmssh"},
        {"cmssh @1 %2"},
        {"cmssh @1 %2 "},
        {"cmssh @1 %2 x"},
        {"cmssh @1 %2 3x"},
        {"cmssh @1 %2 99999999999999999999"},
        {"cmssh @1 %2 3 4"},
        {"cmssh %1 @2 3"},
        {"cmssh  @1 %2 3"},
        {"Cmssh @1 %2 3"},
        {" cmssh @1 %2 3"},
    };
    for (const auto& answer : lines) {
        const auto started = parse_started(answer);
        ASSERT_FALSE(started) << (answer.empty() ? "" : answer[0]);
        EXPECT_EQ(started.error().kind, ErrorKind::TmuxFailed);
    }
}

const std::string kNoteJson = R"({"name":"n","ctx":"c","command":["a","b"],"created_ms":5})";

std::vector<PaneRow> parse(const std::string& row) {
    return parse_panes({row});
}

TEST(ParsePanes, ReadsALivePane) {
    const auto rows = parse("cmssh sess-a @1 %2 345 0 x x x x" + hex(kNoteJson));
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].session_id, "sess-a");
    EXPECT_EQ(rows[0].place.window_id, "@1");
    EXPECT_EQ(rows[0].place.pane_id, "%2");
    EXPECT_EQ(rows[0].place.pane_pid, 345);
    EXPECT_FALSE(rows[0].dead);
    EXPECT_FALSE(rows[0].exit_status);
    EXPECT_EQ(rows[0].signal, 0);
    EXPECT_EQ(rows[0].dead_time, 0);
    EXPECT_FALSE(rows[0].status_pending());
    EXPECT_EQ(rows[0].note.command, (std::vector<std::string>{"a", "b"}));
    EXPECT_FALSE(rows[0].note.cwd);
    EXPECT_EQ(rows[0].note.request_id, "");
}

TEST(ParsePanes, ReadsHowAPaneEnded) {
    struct Case {
        const char* fields;
        std::optional<int> exit_status;
        int signal;
        std::int64_t dead_time;
        bool pending;
    };
    const Case cases[] = {
        {"1 x0 x x1700000000", 0, 0, 1700000000, false},
        {"1 x255 x x1700000000", 255, 0, 1700000000, false},
        {"1 x x15 x1700000000", std::nullopt, 15, 1700000000, false},
        {"1 x0 x9 x1", 0, 9, 1, false},
        {"1 x3 x x", 3, 0, 0, false},  // tmux 3.2
        {"1 x x x1700000000", std::nullopt, 0, 1700000000, true},
        {"1 x x x", std::nullopt, 0, 0, true},
        {"0 x x x", std::nullopt, 0, 0, false},
    };
    for (const Case& c : cases) {
        const auto rows = parse(std::string("cmssh sess-a @1 %2 345 ") + c.fields + " x" + hex(kNoteJson));
        ASSERT_EQ(rows.size(), 1U) << c.fields;
        EXPECT_EQ(rows[0].exit_status, c.exit_status) << c.fields;
        EXPECT_EQ(rows[0].signal, c.signal) << c.fields;
        EXPECT_EQ(rows[0].dead_time, c.dead_time) << c.fields;
        EXPECT_EQ(rows[0].status_pending(), c.pending) << c.fields;
    }
}

TEST(ParsePanes, PassesOverRowsThatAreNotUnderstood) {
    const std::string note = hex(kNoteJson);
    const std::string rows[] = {
        "",
        "cmssh",
        "cmssh sess-a @1 %2 345 0 x x x",
        "cmssh sess-a @1 %2 345 0 x x x x",
        "cmssh sess-a @1 %2 345 0 x x x " + note,
        "cmssh sess-a @1 %2 345 0 x x x x" + note + " ",
        "cmssh sess a @1 %2 345 0 x x x x" + note,
        "cmssh sess-a @1 %2 345 0  x x x" + note,
        "cmssh sess-a @1 %2 pid 0 x x x x" + note,
        "cmssh sess-a @1 %2 345x 0 x x x x" + note,
        "cmssh sess-a @1 %2 99999999999999999999 0 x x x x" + note,
        "other sess-a @1 %2 345 0 x x x x" + note,
        "cmssh sess-a @1 %2 345 0 x x x x" + note.substr(1),                 // odd digits
        "cmssh sess-a @1 %2 345 0 x x x xzz" + note,                         // no digits
        "cmssh sess-a @1 %2 345 0 x x x x" + note.substr(2),                 // half a JSON text
        "cmssh sess-a @1 %2 345 0 x x x x" + hex("[]"),                      //
        "cmssh sess-a @1 %2 345 0 x x x x" + hex("{}"),                      //
        "cmssh sess-a @1 %2 345 0 x x x x" + hex("\xff"),                    //
        "cmssh sess-a @1 %2 345 0 x x x x" + hex(std::string(100000, '[')),  //
        "cmssh sess-a @1 %2 345 0 x x x x" + hex(R"({"name":1,"ctx":"c","command":["a"],"created_ms":5})"),
        "cmssh sess-a @1 %2 345 0 x x x x" + hex(R"({"name":"n","ctx":"c","command":"a","created_ms":5})"),
        "cmssh sess-a @1 %2 345 0 x x x x" + hex(R"({"name":"n","ctx":"c","command":[1],"created_ms":5})"),
        "cmssh sess-a @1 %2 345 0 x x x x" + hex(R"({"name":"n","ctx":"c","command":["a"],"created_ms":"5"})"),
        "cmssh sess-a @1 %2 345 0 x x x x" + hex(R"({"name":"n","ctx":"c","command":["a"],"created_ms":5,"cwd":7})"),
        "cmssh sess-a @1 %2 345 0 x x x x" +
            hex(R"({"name":"n","ctx":"c","command":["a"],"created_ms":5,"request_id":[]})"),
    };
    for (const auto& row : rows) {
        EXPECT_TRUE(parse(row).empty()) << row.substr(0, 200);
    }
    // What is wrong with one row is no reason to lose the others.
    const std::string good = "cmssh sess-b @1 %2 345 0 x x x x" + note;
    EXPECT_EQ(parse_panes({rows[1], good, rows[7], good}).size(), 2U);
}

// A pane's server may be anybody's: numbers that are out of all reason must not become arithmetic.
TEST(ParsePanes, KeepsNumbersWithinReason) {
    const auto row = [](const std::string& fields, const std::string& created = "5") {
        return parse("cmssh sess-a @1 %2 345 1 " + fields + " x" +
                     hex(R"({"name":"n","ctx":"c","command":["a"],"created_ms":)" + created + "}"));
    };
    for (const auto* time : {"x9223372036854775807", "x-9223372036854775808", "x-1", "x99999999999999"}) {
        const auto rows = row(std::string("x0 x ") + time);
        ASSERT_EQ(rows.size(), 1U) << time;
        EXPECT_EQ(rows[0].dead_time, 0) << time;
    }
    for (const auto* created : {"9223372036854775807", "-9223372036854775808", "-1", "1e300", "18446744073709551615"}) {
        const auto rows = row("x0 x x1", created);
        EXPECT_TRUE(rows.empty() || (rows[0].note.created_ms >= 0 && rows[0].note.created_ms < 1LL << 52)) << created;
    }
    const auto rows = row("x0 x-9 x1");
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].signal, 0);
}

TEST(SendCommands, CutALongTextBetweenCharacters) {
    Input input;
    input.buffer = send_buffer_prefix(kOwner) + "1";
    while (input.text.size() < 300 * 1024) {
        input.text += "a漢😀\x1b\n";
    }
    std::string joined;
    const auto commands = buffer_commands(input);
    EXPECT_GT(commands.size(), 4U);
    for (const auto& command : commands) {
        EXPECT_LT(command.size(), 1'000'000U);
        const auto words = words_of(command);
        EXPECT_TRUE(valid_utf8(words.back()));
        EXPECT_EQ(words[1] == "-a", !joined.empty());
        EXPECT_EQ(words[words.size() - 2], "--");
        joined += words.back();
    }
    EXPECT_EQ(joined, input.text);
    input.text.clear();
    EXPECT_TRUE(buffer_commands(input).empty());
}

TEST(SendCommands, TypeInOneLineWhatThereIs) {
    Input input;
    input.session_id = "sess-a";
    input.pane = "=sess-a:@1.%1";
    input.buffer = "b";
    input.enter = true;
    input.tmux = {3, 3};
    EXPECT_THAT(type_command(input), Not(HasSubstr("paste-buffer")));
    input.text = "$x\n";
    input.keys = {"C-c", ";", "\""};
    const std::string line = type_command(input);
    EXPECT_EQ(line,
              R"(if-shell -F -t "=sess-a:@1.%1" "#{==:#{session_name} #{pane_dead}#{pane_input_off},sess-a 00}" { )"
              R"(copy-mode -q -t "=sess-a:@1.%1" ; send-keys -t "=sess-a:@1.%1" -- "C-c" ";" "\"" ; )"
              R"(paste-buffer -p -r -d -b "b" -t "=sess-a:@1.%1" ; send-keys -t "=sess-a:@1.%1" Enter ; )"
              R"(display-message -p "cmssh typed" } )"
              R"({ display-message -p -t "=sess-a:@1.%1" "cmssh #{session_name} #{pane_dead}#{pane_input_off}" })");
    input.tmux = {3, 7};
    EXPECT_THAT(type_command(input), HasSubstr("paste-buffer -p -r -d -S -b"));
}

TEST(SendCommands, SayWhatBecameOfIt) {
    EXPECT_EQ(parse_typed({"", "cmssh typed"}), Typed::All);
    EXPECT_EQ(parse_typed({"cmssh sess-a 10"}), Typed::Ended);
    EXPECT_EQ(parse_typed({"cmssh sess-a 11"}), Typed::Ended);
    EXPECT_EQ(parse_typed({"cmssh sess-a 01"}), Typed::Closed);
    EXPECT_EQ(parse_typed({"cmssh other 00"}), Typed::NoPane);
    EXPECT_EQ(parse_typed({}), Typed::NoPane);
}

TEST(PaneState, IsReadFromOneLine) {
    const auto state = parse_pane_state({"0 1 3 4 80 24 1000 50000"});
    ASSERT_TRUE(state);
    EXPECT_FALSE(state->dead);
    EXPECT_TRUE(state->alternate);
    EXPECT_EQ(state->cursor_column, 3);
    EXPECT_EQ(state->cursor_row, 4);
    EXPECT_EQ(state->width, 80);
    EXPECT_EQ(state->height, 24);
    EXPECT_EQ(state->history, 1000);
    EXPECT_EQ(state->history_limit, 50000);
    for (const auto* line : {"", "0 1 3 4 80 24 1000", "0 1 3 4 80 24 1000 x", "0 1 3 -4 80 24 1000 5",
                             "0 1 3 4 80 24 99999999999999 5"}) {
        EXPECT_FALSE(parse_pane_state({line})) << line;
    }
}

}  // namespace
}  // namespace cmssh::tmux
