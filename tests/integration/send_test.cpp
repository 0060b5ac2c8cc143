// What is typed into sessions: it gets there byte for byte, and nothing of it is read by anything on its way.
#include <gmock/gmock.h>

#include <signal.h>

#include <random>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;

enum class Pastes { Plain, Bracketed };

// A session that takes its terminal raw and keeps what is typed.
class Reader {
public:
    explicit Reader(World& world, Pastes pastes = Pastes::Plain, const std::string& name = "typed")
        : world_(world), file_(world.dir / name) {
        const std::string script = std::string("stty raw -echo; ") +
                                   (pastes == Pastes::Bracketed ? "printf '\\033[?2004h'; " : "") +
                                   "printf ready; exec cat >\"$0\"";
        id = world.start_id("server-1", {"sh", "-c", script, file_});
        EXPECT_TRUE(wait_until([&] {
            return world.rpc().call("logs", {{"session", id}}).at("text") == "ready" && exists(file_);
        }));
    }

    Json send(Json params) {
        params["session"] = id;
        return world_.rpc().call("send", params);
    }
    [[nodiscard]] std::string typed() const { return read_file(file_); }
    [[nodiscard]] bool gets(const std::string& bytes) const {
        return wait_until([&] { return typed().size() >= bytes.size(); }) && typed() == bytes;
    }

    std::string id;

private:
    World& world_;
    std::string file_;
};

std::string buffers(const World& world) {
    return world.tmux(1, {"list-buffers", "-F", "#{buffer_name}"}).output;
}

std::string nasty_text() {
    std::string text =
        "it's \"a\" $HOME ${HOME} `id` #(touch x) #{pid} #[fg=red] %H ; { } ~ ~root \\ \\n \\033 -x é漢😀\n";
    text += "\r\n\ttwo\n\n\x1b[201~\x1b[31m; kill-server\n%end 1 2 1\n";
    for (char c = 1; c < 0x7f; ++c) {
        text += c;
    }
    return text + "\x7f\u0080\u009b\u2028\ufeff\U0010ffff";
}

TEST(Send, TextArrivesByteForByteAndEnterBehindIt) {
    World world(servers(1));
    Reader reader(world);
    const std::string text = nasty_text();
    reader.send({{"text", text}});
    EXPECT_TRUE(reader.gets(text + '\r')) << reader.typed();
    reader.send({{"text", "-"}, {"enter", false}});
    EXPECT_TRUE(reader.gets(text + "\r-")) << reader.typed();
    reader.send(Json::object());
    EXPECT_TRUE(reader.gets(text + "\r-\r")) << reader.typed();
    reader.send({{"text", ""}});
    EXPECT_TRUE(reader.gets(text + "\r-\r\r")) << reader.typed();
    EXPECT_EQ(buffers(world), "");
}

TEST(Send, IsAPasteWhereTheProgramAskedForThat) {
    World world(servers(1));
    Reader reader(world, Pastes::Bracketed);
    const std::string text = nasty_text();
    reader.send({{"text", text}, {"keys", {"C-u"}}});
    EXPECT_TRUE(reader.gets("\x15\x1b[200~" + text + "\x1b[201~\r")) << reader.typed();
    EXPECT_EQ(buffers(world), "");
}

TEST(Send, AnyTextArrivesAsItIs) {
    World world(servers(1));
    Reader reader(world);
    std::mt19937 random(20260923);
    std::string expected;
    for (int round = 0; round < 60; ++round) {
        std::string text;
        const auto size = 1 + random() % 200;
        for (unsigned i = 0; i < size; ++i) {
            static const std::string kPieces[] = {
                "#",  "{",  "}",    "(",    ")",     ";",      "\"",    "'", "\\", "$", "~", "%", "-", " ", "\n",
                "\r", "\t", "\x1b", "\x7f", "#(id)", "#{pid}", "$HOME", "é", "漢", "😀", "a", "0", "[", "!", "`id`"};
            text += kPieces[random() % std::size(kPieces)];
        }
        reader.send({{"text", text}, {"enter", round % 2 == 0}});
        expected += text + (round % 2 == 0 ? "\r" : "");
    }
    EXPECT_TRUE(reader.gets(expected));
}

TEST(Send, AMegabyteIsOnePaste) {
    World world(servers(1));
    Reader reader(world, Pastes::Bracketed);
    std::string text;
    while (text.size() < 1024 * 1024) {
        text += "line " + std::to_string(text.size()) + " é漢\x1b[0m\x01\n";
    }
    reader.send({{"text", text}, {"enter", false}});
    EXPECT_TRUE(reader.gets("\x1b[200~" + text + "\x1b[201~"));
    EXPECT_EQ(buffers(world), "");
}

TEST(Send, KeysComeBeforeTextAndWithoutEnter) {
    World world(servers(1));
    Reader reader(world);
    reader.send({{"keys", {"C-c", "Up", "x", ";", "-", "#", "~", "Enter"}}});
    std::string expected = "\x03\x1b[Ax;-#~\r";
    EXPECT_TRUE(reader.gets(expected)) << reader.typed();
    reader.send({{"keys", {"Escape"}}, {"text", "abc"}});
    EXPECT_TRUE(reader.gets(expected += "\x1b"
                                        "abc\r"))
        << reader.typed();
}

// Every key that is let through is one for tmux: it sends something, and that is not the key's name.
TEST(Send, EveryKeyIsOne) {
    World world(servers(1));
    Reader reader(world);
    Words keys;
    const Words full = {"F1",   "F12",   "IC",     "Insert", "DC", "Delete", "Home", "End",   "NPage", "PageDown",
                        "PgDn", "PPage", "PageUp", "PgUp",   "Up", "Down",   "Left", "Right", "up",    "pgdn"};
    for (const auto& key : full) {
        for (const auto* modifier : {"", "C-", "M-", "S-", "C-M-", "C-S-", "M-S-", "C-M-S-", "S-M-C-", "c-"}) {
            keys.push_back(modifier + key);
        }
    }
    for (const auto* key : {"Tab", "BTab", "Space", "BSpace", "Enter", "Escape", "KP/", "KP*", "KP-", "KP7", "KP+",
                            "KPEnter", "KP0", "KP.", "é", "漢"}) {
        keys.emplace_back(key);
        keys.push_back(std::string("M-") + key);
    }
    for (char c = '!'; c < 0x7f; ++c) {
        keys.emplace_back(1, c);
        keys.push_back(std::string("M-") + c);
    }
    for (const char c : std::string("abcxyzABCXYZ@[\\]^_?")) {
        keys.push_back(std::string("C-") + c);
        keys.push_back(std::string("C-M-") + c);
        keys.push_back(std::string("^") + c);
    }
    keys.emplace_back("C-Space");
    keys.emplace_back("C-M-Space");
    constexpr const char* kBehind = "\u00a7\n";
    std::size_t seen = 0;
    for (const auto& key : keys) {
        reader.send({{"keys", {key}}, {"text", kBehind}, {"enter", false}});
        ASSERT_TRUE(wait_until([&] { return reader.typed().substr(seen).ends_with(kBehind); })) << key;
        const std::string typed = reader.typed().substr(seen);
        seen += typed.size();
        const std::string bytes = typed.substr(0, typed.size() - std::string(kBehind).size());
        EXPECT_NE(bytes, "") << key;
        EXPECT_TRUE(key.size() == 1 || key == "é" || key == "漢" || bytes != key) << key;
    }
}

TEST(Send, NamesTheKeyThatIsNone) {
    World world(servers(1));
    Reader reader(world);
    for (const auto* key :
         {"",    "Entr",           "C-",  "C-!", "C-Enter", "S-Tab", "S-a",  "C-C-a", "X-a", "ab", "0x41", "None",
          "Any", "MouseDown1Pane", "F13", "^",   "^!",      "C-é",   "\x1b", " ",     "\n",  "-l", "--",   "M-ab"}) {
        if (std::string(key) == "^") {
            continue;  // the character
        }
        const Json error =
            world.rpc().refusal("send", {{"session", reader.id}, {"keys", {"x", key}}, {"text", "typed"}});
        EXPECT_EQ(error.at("code"), -32602) << key;
        EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("params.keys")) << key;
    }
    EXPECT_EQ(world.rpc().refusal("send", {{"session", reader.id}, {"enter", false}}).at("code"), -32602);
    EXPECT_EQ(world.rpc().refusal("send", {{"session", reader.id}, {"text", std::string("a\0b", 3)}}).at("code"),
              -32602);
    reader.send({{"text", "."}, {"enter", false}});
    EXPECT_TRUE(reader.gets(".")) << "nothing of a refused call was typed";
}

TEST(Send, ControlCEndsASleep) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"sleep", "1000"});
    ASSERT_TRUE(wait_until([&] {
        return world.tmux(1, {"display-message", "-p", "-t", '=' + id + ':', "#{pane_current_command}"}).output ==
               "sleep\n";
    }));
    EXPECT_EQ(world.daemon.cmctl({"send", id, "--key", "C-c"}).status.code, 0);
    EXPECT_EQ(world.wait(id).at("signal"), "INT");
}

TEST(Send, ReachesTheProgramWhileAPersonScrolls) {
    World world(servers(1));
    Reader reader(world, Pastes::Bracketed);
    std::string expected;
    for (const Json& params : {Json{{"text", "a"}}, Json{{"keys", {"q", "Up"}}}, Json::object()}) {
        ASSERT_EQ(world.tmux(1, {"copy-mode", "-t", '=' + reader.id + ':'}).status.code, 0);
        reader.send(params);
        expected += params.contains("text") ? "\x1b[200~a\x1b[201~\r" : params.contains("keys") ? "q\x1b[A" : "\r";
        EXPECT_TRUE(reader.gets(expected)) << reader.typed();
    }
}

// tmux before 3.4 dies of a paste into a pane whose program has ended, and with it every session.
TEST(Send, ToWhatHasEndedIsRefused) {
    World world(servers(1));
    Reader other(world);
    const std::string id = world.start_id("server-1", {"true"});
    world.wait(id);
    EXPECT_EQ(world.rpc().refusal("send", {{"session", id}, {"text", "x"}}).at("code"), -32025);
    for (int round = 0; round < 20; ++round) {
        const std::string ending = world.start_id("server-1", {"sh", "-c", "read line"});
        const int first = world.rpc().send("send", {{"session", ending}, {"text", "end"}});
        const int second = world.rpc().send("send", {{"session", ending}, {"text", "late"}});
        (void)world.rpc().reply(first);
        try {
            (void)world.rpc().reply(second);
        } catch (const RpcFailure& failure) {
            EXPECT_THAT(failure.what(), HasSubstr("-32025"));
        }
    }
    other.send({{"text", "there"}});
    EXPECT_TRUE(other.gets("there\r"));
    EXPECT_EQ(world.daemon.cmctl({"send", id, "x"}).status.code, 1);
}

TEST(Send, TouchesNoPaneWhoseProgramHasEnded) {
    World world(servers(1));
    Reader reader(world);
    ::kill(world.pane_pid(1, reader.id), SIGKILL);
    ASSERT_TRUE(wait_until([&] {
        return world.tmux(1, {"display-message", "-p", "-t", '=' + reader.id + ':', "#{pane_dead}"}).output != "0\n";
    }));
    const Json error = world.rpc().refusal("send", {{"session", reader.id}, {"text", "x"}});
    EXPECT_EQ(error.at("code"), -32025);
    EXPECT_EQ(buffers(world), "");
}

TEST(Send, KeepsTheOrderOfOneCaller) {
    World world(servers(1));
    Reader reader(world);
    std::string expected;
    std::vector<int> asked;
    for (int i = 0; i < 100; ++i) {
        const std::string text = std::to_string(i) + ' ' + std::string(static_cast<std::size_t>(i) * 500, 'x');
        asked.push_back(world.rpc().send("send", {{"session", reader.id}, {"text", text}}));
        expected += text + '\r';
    }
    for (const int id : asked) {
        (void)world.rpc().reply(id);
    }
    EXPECT_TRUE(reader.gets(expected));
}

TEST(Send, BringsTheConnectionUpAndKeepsTheOrder) {
    World world(servers(1));
    Reader reader(world);
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    ASSERT_TRUE(world.becomes(reader.id, "unreachable"));
    const int first = world.rpc().send("send", {{"session", reader.id}, {"text", "one"}});
    const int second = world.rpc().send("send", {{"session", reader.id}, {"text", "two"}});
    (void)world.rpc().reply(second);
    (void)world.rpc().reply(first);
    EXPECT_TRUE(reader.gets("one\rtwo\r")) << reader.typed();
}

TEST(Send, LeavesNoBufferOfAnEarlierDaemon) {
    World world(servers(1));
    Reader reader(world);
    reader.send({{"text", "x"}});
    // As a daemon leaves it that ends between the lines of a long text.
    world.daemon.crash();
    const std::string keeper = world.tmux(1, {"list-sessions", "-F", "#{session_name}"}).output;
    const auto at = keeper.find("cmssh-keeper-");
    ASSERT_NE(at, std::string::npos);
    const std::string digest = keeper.substr(at + 13, 12);
    ASSERT_EQ(world.tmux(1, {"set-buffer", "-b", "cmssh-send-" + digest + "-7", "secret"}).status.code, 0);
    ASSERT_EQ(world.tmux(1, {"set-buffer", "-b", "of-a-person", "text"}).status.code, 0);
    world.start_daemon();
    EXPECT_TRUE(wait_until([&] { return buffers(world) == "of-a-person\n"; })) << buffers(world);
}

TEST(Send, IsTypedByCmctl) {
    World world(servers(1));
    Reader reader(world);
    const auto send = [&](const Words& words, const std::string& input = {}) {
        Words all = {"send", reader.id};
        all.insert(all.end(), words.begin(), words.end());
        return world.daemon.cmctl(all, input);
    };
    EXPECT_EQ(send({"--key", "C-a", "--key", "Up", "a b"}).errors, "");
    std::string expected = "\x01\x1b[Aa b\r";
    EXPECT_TRUE(reader.gets(expected)) << reader.typed();
    EXPECT_EQ(send({"--no-enter", "--", "--key"}).status.code, 0);
    EXPECT_TRUE(reader.gets(expected += "--key")) << reader.typed();
    EXPECT_EQ(send({}).status.code, 0);
    EXPECT_TRUE(reader.gets(expected += "\r")) << reader.typed();
    EXPECT_EQ(send({"-"}, "from\nstdin\n").status.code, 0);
    EXPECT_TRUE(reader.gets(expected += "from\nstdin\n\r")) << reader.typed();
    EXPECT_EQ(send({"--no-enter", "-"}, "x").status.code, 0);
    EXPECT_TRUE(reader.gets(expected += "x")) << reader.typed();
    EXPECT_EQ(send({"two", "words"}).status.code, 2);
    EXPECT_EQ(send({"text", "--no-enter"}).status.code, 2);
    EXPECT_EQ(send({"--no-enter"}).status.code, 2);
    EXPECT_EQ(send({"-"}, "\xff").status.code, 2);
    EXPECT_EQ(send({"--key", "Entr"}).status.code, 2);
    EXPECT_EQ(world.daemon.cmctl({"send", "nobody", "x"}).status.code, 3);
    EXPECT_TRUE(reader.gets(expected)) << reader.typed();
}

}  // namespace
}  // namespace cmssh::test
