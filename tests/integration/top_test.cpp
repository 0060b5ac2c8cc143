// `cmctl top` on real terminals: what is on the screen, by a tmux of the test's own, and what is left of the terminal.
#include <gmock/gmock.h>

#include <signal.h>

#include <cstring>
#include <sstream>

#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const Words kLong = {"sleep", "1000"};
constexpr const char* kTop = "cmctl top   ";

// A program on a screen of 80 by 24 that can be looked at.
class Screen {
public:
    Screen(const World& world, const Words& argv, const Words& more = {}, const std::string& name = "screen")
        : socket_(world.dir / name) {
        options_.environment = world.daemon.environment();
        options_.environment.insert(options_.environment.end(), more.begin(), more.end());
        Words words = {"new-session", "-d", "-x", "80", "-y", "24"};
        words.insert(words.end(), argv.begin(), argv.end());
        words.insert(words.end(), {";", "set-option", "-g", "status", "off"});
        tmux(words);
        tmux({"resize-window", "-x", "80", "-y", "24"});
    }
    ~Screen() { tmux({"kill-server"}); }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    [[nodiscard]] std::string text() const { return tmux({"capture-pane", "-p"}).output; }
    // With the sequences of its colours.
    [[nodiscard]] std::string colored() const { return tmux({"capture-pane", "-p", "-e"}).output; }
    [[nodiscard]] Words lines() const {
        Words found;
        std::istringstream all(text());
        for (std::string line; std::getline(all, line);) {
            found.push_back(line);
        }
        return found;
    }
    [[nodiscard]] bool shows(const std::string& what) const {
        return wait_until([&] { return text().find(what) != std::string::npos; });
    }
    [[nodiscard]] bool shows_no(const std::string& what) const {
        return wait_until([&] { return text().find(what) == std::string::npos; });
    }
    void press(const std::string& key) const { tmux({"send-keys", key}); }
    void resize(int columns, int rows) const {
        tmux({"resize-window", "-x", std::to_string(columns), "-y", std::to_string(rows)});
    }

private:
    Finished tmux(const Words& words) const {
        Words all = {"tmux", "-u", "-f", "/dev/null", "-S", socket_};
        all.insert(all.end(), words.begin(), words.end());
        return run(all, options_);
    }
    std::string socket_;
    SpawnOptions options_;
};

class Top : public ::testing::Test {
protected:
    static Words top(const Words& more = {}) {
        Words words = {CMSSH_CMCTL, "--no-spawn", "top"};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }
    World world{servers(2)};
    const std::string key = world.key("127.0.0.1");
};

TEST_F(Top, ShowsConnectionsAndSessionsAsTheyAre) {
    const std::string one = world.start_id("server-1", kLong, {{"name", "one"}});
    const Screen screen(world, top());
    ASSERT_TRUE(screen.shows(one)) << screen.text();
    const Words lines = screen.lines();
    ASSERT_EQ(lines.size(), 24U);
    EXPECT_THAT(lines[0], StartsWith("cmctl top   1 connection, 1 session  "));
    EXPECT_THAT(lines[0], HasSubstr("cmsshd "));
    EXPECT_THAT(lines[2], StartsWith("SERVER "));
    EXPECT_THAT(lines[3], StartsWith(key + "  up "));
    EXPECT_THAT(lines[5], StartsWith("SESSION "));
    EXPECT_THAT(lines[6], StartsWith(one + "  one   server-1  running"));
    EXPECT_THAT(lines[6], HasSubstr("sleep 1000"));
    EXPECT_THAT(lines[23], HasSubstr("q quit"));
    const std::string two = world.start_id("server-2", kLong);
    EXPECT_TRUE(screen.shows(two)) << screen.text();
    EXPECT_TRUE(screen.shows("cmctl top   2 connections, 2 sessions"));
    world.rpc().call("kill", {{"session", two}});
    EXPECT_TRUE(screen.shows_no(two)) << screen.text();
}

TEST_F(Top, FollowsTheSizeOfItsWindow) {
    world.start("server-1", {"sh", "-c", "sleep 1000; : " + std::string(60, 'x') + "END"});
    const Screen screen(world, top());
    ASSERT_TRUE(screen.shows("sleep 1000")) << screen.text();
    EXPECT_THAT(screen.text(), Not(HasSubstr("xEND")));
    screen.resize(160, 40);
    EXPECT_TRUE(screen.shows("xEND")) << screen.text();
    EXPECT_TRUE(wait_until([&] {
        const Words lines = screen.lines();
        return lines.size() == 40 && lines.back().find("q quit") != std::string::npos;
    })) << screen.text();
    screen.resize(50, 12);
    EXPECT_TRUE(wait_until([&] {
        const Words lines = screen.lines();
        return lines.size() == 12 && lines.back().find("Tab list") != std::string::npos;
    })) << screen.text();
    EXPECT_TRUE(screen.shows("sess-")) << screen.text();
}

TEST_F(Top, KillsWhatIsSelectedAfterAQuestion) {
    const std::string one = world.start_id("server-1", kLong);
    const std::string two = world.start_id("server-1", kLong);
    const Screen screen(world, top());
    ASSERT_TRUE(screen.shows(two)) << screen.text();
    screen.press("Down");
    screen.press("k");
    ASSERT_TRUE(screen.shows("kill " + two + ": sleep 1000 ? y/n")) << screen.text();
    screen.press("n");
    ASSERT_TRUE(screen.shows("not killed")) << screen.text();
    screen.press("k");
    ASSERT_TRUE(screen.shows("? y/n"));
    screen.press("y");
    EXPECT_TRUE(wait_until([&] { return world.session(two).at("state") == "killed"; }));
    EXPECT_TRUE(screen.shows("cmctl top   1 connection, 1 session ")) << screen.text();
    EXPECT_EQ(world.session(one).at("state"), "running");
}

TEST_F(Top, AttachesAndComesBack) {
    write_file(world.sshd.home(1) + "/.tmux.conf", "set -g assume-paste-time 0\nset -g prefix C-a\nbind d detach\n");
    world.start("server-1", {"sh", "-c", "echo it is here; exec sleep 1000"});
    const Screen screen(world, top());
    ASSERT_TRUE(screen.shows("running")) << screen.text();
    screen.press("Enter");
    ASSERT_TRUE(screen.shows("it is here\n")) << screen.text();
    EXPECT_THAT(screen.text(), Not(HasSubstr(kTop)));
    screen.press("C-a");
    screen.press("d");
    EXPECT_TRUE(screen.shows(kTop)) << screen.text();
    screen.press("l");
    ASSERT_TRUE(screen.shows_no(kTop)) << screen.text();
    ASSERT_TRUE(screen.shows("it is here\n")) << screen.text();
    screen.press("C-c");
    EXPECT_TRUE(screen.shows(kTop)) << screen.text();
    screen.press("?");
    EXPECT_TRUE(screen.shows("the other list"));
}

TEST_F(Top, ConnectsAgain) {
    world.rpc().call("connect", {{"ctx", "server-1"}});
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    const Screen screen(world, top());
    ASSERT_TRUE(screen.shows(key + "  idle")) << screen.text();
    screen.press("r");
    EXPECT_TRUE(screen.shows("there is no connection")) << screen.text();
    screen.press("Tab");
    screen.press("r");
    EXPECT_TRUE(screen.shows(key + "  up")) << screen.text();
    EXPECT_TRUE(screen.shows(key + ": connected")) << screen.text();
}

TEST_F(Top, OutlivesTheDaemon) {
    const std::string id = world.start_id("server-1", kLong);
    const Screen screen(world, top());
    ASSERT_TRUE(screen.shows(id)) << screen.text();
    world.daemon.crash();
    EXPECT_TRUE(screen.shows("the daemon is gone, waiting for the next one")) << screen.text();
    world.start_daemon();
    EXPECT_TRUE(screen.shows("cmsshd ")) << screen.text();
    EXPECT_TRUE(screen.shows("running")) << screen.text();
}

TEST_F(Top, HasColoursUnlessTheyAreNotWanted) {
    world.start("server-1", kLong);
    {
        const Screen screen(world, top());
        ASSERT_TRUE(screen.shows("running"));
        EXPECT_THAT(screen.colored(), HasSubstr("\033[32mrunning"));
    }
    const Screen screen(world, top(), {"NO_COLOR=1"}, "plain");
    ASSERT_TRUE(screen.shows("running"));
    EXPECT_THAT(screen.colored(), Not(HasSubstr("\033[32m")));
}

void expect_same(const termios& now, const termios& before) {
    EXPECT_EQ(now.c_iflag, before.c_iflag);
    EXPECT_EQ(now.c_oflag, before.c_oflag);
    EXPECT_EQ(now.c_lflag, before.c_lflag);
    EXPECT_EQ(std::memcmp(now.c_cc, before.c_cc, sizeof(now.c_cc)), 0);
}

TEST_F(Top, GivesTheTerminalBackHoweverItEnds) {
    struct Case {
        const char* keys;
        int signal;
        int code;
    };
    for (const auto& [keys, signal, code] :
         {Case{"q", 0, 0}, Case{"\x03", 0, 0}, Case{"", SIGTERM, 0}, Case{"", SIGKILL, 128 + SIGKILL}}) {
        SCOPED_TRACE(std::string(keys) + std::to_string(signal));
        Terminal terminal(top(), world.daemon.environment());
        const termios before = terminal.first_modes();
        ASSERT_TRUE(terminal.prints("\033[?1049h")) << terminal.output();
        ASSERT_TRUE(terminal.prints("cmctl top")) << terminal.output();
        EXPECT_EQ(terminal.modes().c_lflag & static_cast<tcflag_t>(ICANON | ECHO), 0U);
        terminal.type(keys);
        if (signal == SIGKILL) {
            // What draws is its child.
            ASSERT_TRUE(wait_until([&] { return !children_of(terminal.pid()).empty(); }));
            ::kill(children_of(terminal.pid()).front(), SIGKILL);
        } else if (signal != 0) {
            ::kill(terminal.pid(), signal);
        }
        EXPECT_EQ(terminal.wait(), code);
        EXPECT_THAT(terminal.output(), HasSubstr("\033[?1049l"));
        expect_same(terminal.modes(), before);
    }
}

TEST_F(Top, NeedsATerminalThatItKnows) {
    const Finished piped = world.daemon.cmctl({"top"});
    EXPECT_EQ(piped.status, ExitStatus{.code = 2});
    EXPECT_THAT(piped.errors, StartsWith("cmctl: top: standard input and output must be a terminal\nhint: "));
    Terminal terminal({"env", "TERM=nonsense", CMSSH_CMCTL, "--no-spawn", "top"}, world.daemon.environment());
    EXPECT_TRUE(terminal.prints("the terminal type 'nonsense' is not known here")) << terminal.output();
    EXPECT_EQ(terminal.wait(), 1);
}

}  // namespace
}  // namespace cmssh::test
