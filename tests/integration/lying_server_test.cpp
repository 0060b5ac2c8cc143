// Servers that do not do what they should: a tmux that is none, an sshd that is silent or hangs up, a way that hangs.
// Who asked for the server gets an error; calls for another server are answered as before, and the daemon's memory is
// bounded. server-1 lies, server-2 does not.
#include <gmock/gmock.h>

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <future>
#include <random>
#include <sstream>

#include "tests/support/measure.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

const Words kLong = {"sleep", "1000"};
// A silence is an error after this; a flood that has an end of its own is given longer, for slow builds.
const char* const kHurried = "connect_timeout = \"2s\"\n";
const char* const kPatient = "connect_timeout = \"20s\"\n";
// What a lie may make the daemon keep: a reply may have 64 MiB, and a text that grows is copied once.
constexpr std::size_t kMostMemory = std::size_t{192} << 20;

void write_program(const std::string& path, const std::string& text) {
    write_file(path, "#!/bin/sh\n" + text);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

class LyingServer {
public:
    explicit LyingServer(SshdOptions options = servers(2), const std::string& pool = kHurried)
        : world(std::move(options), "[pool]\n" + pool) {
        honest_ = world.start_id("server-2", {"sh", "-c", "echo text; exec sleep 1000"});
        EXPECT_TRUE(wait_until([this] { return text() == "text\n"; }));
    }

    // The reply to a start on server-1, or on another context that lies.
    Json start(const std::string& ctx = "server-1") {
        std::future<Json> reply = std::async(std::launch::async, [this, ctx] {
            RpcClient client(world.daemon.socket_path());
            return client.reply(client.send("start", {{"ctx", ctx}, {"command", kLong}}));
        });
        meanwhile([&] { return reply.wait_for(0s) == std::future_status::ready; });
        return reply.get();
    }
    // Until then calls for server-2 are as fast as ever, and the daemon's memory is bounded.
    template <typename Predicate>
    void meanwhile(Predicate ended) {
        const Usage usage(world.daemon.pid());
        Latencies latencies;
        EXPECT_TRUE(wait_until([&] {
            latencies.measure([this] { EXPECT_EQ(text(), "text\n"); });
            latencies.measure([this] { EXPECT_THAT(world.list(), ::testing::Contains(honest_)); });
            return ended();
        }));
        latencies.expect_below(100ms);
        usage.expect_memory_below(kMostMemory);
    }
    // One of these errors; the other server has noticed nothing.
    Json expect_refused(const std::vector<std::string>& kinds, const std::string& ctx = "server-1") {
        const Json reply = start(ctx);
        Json error = reply.value("error", Json());
        if (error.is_null()) {
            ADD_FAILURE() << reply;
            return error;
        }
        EXPECT_THAT(kinds, ::testing::Contains(error.at("data").at("kind").get<std::string>())) << error;
        EXPECT_NE(error.at("message"), "") << error;
        expect_honest_server_unharmed();
        return error;
    }
    void expect_honest_server_unharmed() {
        EXPECT_EQ(world.session(honest_).at("state"), "running");
        const Json connection = world.connection(world.key("127.0.0.2"));
        EXPECT_EQ(connection.at("state"), "up");
        EXPECT_EQ(connection.at("handshakes"), 1);
        EXPECT_EQ(connection.at("reconnects"), 0);
    }
    // Its one ssh is the honest server's.
    void expect_nothing_left() {
        const pid_t master = world.connection(world.key("127.0.0.2")).at("master_pid");
        EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes() == std::vector<pid_t>{master}; }));
        EXPECT_EQ(world.daemon.control_sockets().size(), 1U);
        EXPECT_EQ(world.list(), Words{honest_});
    }

    World world;

private:
    std::string text() { return world.rpc().call("logs", {{"session", honest_}}).at("text"); }

    std::string honest_;
};

// A program in tmux's place on server-1. What it does in control mode is `act`: there, `say NUMBER FLAGS TEXT` is a
// reply and `serve TEXT` the same reply to whatever comes.
class FakeTmux {
public:
    FakeTmux() {
        write_program(programs_ / "tmux",
                      "case \" $* \" in\n*' -V '*) . \"${0%/*}/version\"; exit ;;\n"
                      "*' -C '*) . \"${0%/*}/act\"; exit ;;\nesac\n. \"${0%/*}/otherwise\"\n");
        otherwise("exit 1");
        version("echo tmux 3.3a");
    }
    void version(const std::string& script) const { write_file(programs_ / "version", script + '\n'); }
    void otherwise(const std::string& script) const { write_file(programs_ / "otherwise", script + '\n'); }
    void act(const std::string& script) const {
        write_file(programs_ / "act",
                   R"sh(say() { printf '%%begin 1700000000 %s %s\n%s\n%%end 1700000000 %s %s\n' $1 $2 "$3" $1 $2; }
serve() { say 1 0 ''; say 2 0 'cmssh-life 1 1'; n=2; while read -r line; do n=$((n+1)); say $n 1 "$1"; done; }
bytes() { head -c "$1" /dev/zero | tr '\0' "$2"; }
)sh" + script + '\n');
    }
    [[nodiscard]] SshdOptions options() const {
        SshdOptions options = servers(2);
        options.environment[1] = "PATH=" + programs_.path() + ":/usr/bin:/bin";
        return options;
    }

private:
    TempDir programs_;
};

struct Lie {
    const char* name;
    const char* act;
    std::vector<std::string> kinds;
    const char* message;
    const char* pool = kHurried;
};
void PrintTo(const Lie& lie, std::ostream* stream) {
    *stream << lie.name;
}

class LyingTmux : public ::testing::TestWithParam<Lie> {};

TEST_P(LyingTmux, IsAnErrorForItsOwnServer) {
    const FakeTmux tmux;
    tmux.act(GetParam().act);
    LyingServer server(tmux.options(), GetParam().pool);
    const Json error = server.expect_refused(GetParam().kinds);
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr(GetParam().message));
    server.expect_nothing_left();
}

const char* const kNotInTime = "did not answer in time";
const char* const kNotStarted = "did not start";

INSTANTIATE_TEST_SUITE_P(
    LyingServer, LyingTmux,
    ::testing::Values(
        Lie{"ThatHangs", "exec sleep 1000", {"timeout"}, kNotInTime},
        Lie{"ThatEnds", "exit 0", {"tmux_failed"}, kNotStarted},
        Lie{"ThatFloodsWithLines", "exec yes text", {"timeout"}, kNotInTime},
        Lie{"ThatFloodsWithEvents", "exec yes '%output %1 text'", {"timeout"}, kNotInTime},
        Lie{"ThatSaysGoodbyeForEver", "exec yes \"%exit $(bytes 60000 x)\"", {"timeout"}, kNotInTime},
        Lie{"ThatFloodsWithErrors", "exec yes text >&2", {"timeout"}, kNotInTime},
        Lie{"ThatStopsInALine", "printf '%%begin 17000'; exec sleep 1000", {"timeout"}, kNotInTime},
        Lie{"ThatStopsInAReply",
            "say 1 0 ''; printf '%%begin 1 2 0\\ntext\\n'; exec sleep 1000",
            {"timeout"},
            kNotInTime},
        Lie{"ThatForgesTheEnd",
            "say 1 0 ''; printf '%%begin 5 2 0\\ncmssh-life 1 1\\n'; "
            "printf '%%end 5 3 0\\n%%end 6 2 0\\n%%end 5 2 1\\n%%end 5 2 0x\\n'; "
            "exec sleep 1000",
            {"timeout"},
            kNotInTime},
        Lie{"ThatDoesNotSayItsLife", "say 1 0 ''; say 2 0 'cmssh life 1 1'; exec sleep 1000", {"timeout"}, kNotInTime},
        Lie{"ThatRefusesTheKeeper",
            "printf '%%begin 1 1 0\\nno more room\\n%%error 1 1 0\\n%%exit\\n'; exit 1",
            {"tmux_failed"},
            "did not start: no more room"},
        Lie{"ThatAnswersWhatNobodyAsked",
            "n=0; while :; do n=$((n+1)); say $n 1 text; done",
            {"tmux_failed"},
            kNotStarted},
        Lie{"ThatSaysMoreThanALineHolds", "bytes 100000000 x; exec sleep 1000", {"tmux_failed"}, kNotStarted, kPatient},
        Lie{"ThatSaysMoreThanAReplyHolds",
            "say 1 0 ''; echo '%begin 1 2 0'; yes text | head -c 100000000; exec sleep 1000",
            {"tmux_failed"},
            kNotStarted,
            kPatient}),
    ::testing::PrintToStringParamName());

TEST(LyingTmux, ThatDoesNotSayItsVersion) {
    const FakeTmux tmux;
    tmux.version("exec sleep 1000");
    tmux.act("exit 0");
    LyingServer server(tmux.options());
    const Json error = server.expect_refused({"timeout"});
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("did not start in time"));
    server.expect_nothing_left();
}

// The connection is as good as any, and stays for its linger; a session there is not.
TEST(LyingTmux, ThatAnswersSomethingElse) {
    const FakeTmux tmux;
    tmux.act("serve 'wrong @1 %1 1'");
    LyingServer server(tmux.options());
    const Json error = server.expect_refused({"tmux_failed"});
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("not understood"));
    EXPECT_EQ(server.world.list().size(), 1U);
}

// The line begins as it should, and has no end.
TEST(LyingTmux, WhoseVersionIsAHundredMegabytes) {
    const FakeTmux tmux;
    tmux.version("head -c 100000000 /dev/zero | tr '\\0' x");
    tmux.act("exit 0");
    LyingServer server(tmux.options(), kPatient);
    const Json error = server.expect_refused({"tmux_failed"});
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("without end"));
    server.expect_nothing_left();
}

// A real tmux behind it, whose list has more sessions than anybody's, with the marks of ours.
TEST(LyingTmux, ThatClaimsSessionsWithoutEnd) {
    const FakeTmux tmux;
    const TempDir dir;
    const std::string lie = dir / "lie";
    write_file(dir / "filter", R"pl($| = 1;
while (my $line = <STDIN>) {
    if (!-e $ARGV[0] || $line !~ /^cmssh sess-\S+ @\d/) { print $line; next; }
    my $rows = "";
    for my $i (1 .. 200000) {
        my $note = unpack("H*", "{\"name\":\"n$i\",\"ctx\":\"c\",\"command\":[\"x\"],\"created_ms\":1}");
        $rows .= "cmssh sess-$i \@$i %$i 999999999 0 x x x x$note\n";
    }
    print $rows;
}
)pl");
    tmux.otherwise("exec /usr/bin/tmux \"$@\"");
    tmux.version("exec /usr/bin/tmux -V");
    tmux.act("/usr/bin/tmux \"$@\" | perl " + (dir / "filter") + ' ' + lie);
    LyingServer server(tmux.options());
    World& world = server.world;
    const Json started = server.start();
    const std::string id = started.at("result").at("session").at("id");
    const std::string key = world.key("127.0.0.1");
    write_file(lie, "");
    ASSERT_EQ(::kill(world.connection(key).at("master_pid").get<pid_t>(), SIGKILL), 0);
    server.meanwhile([&] { return world.daemon.log().find("is not believed") != std::string::npos; });
    EXPECT_EQ(world.list().size(), 2U);
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    server.expect_honest_server_unharmed();
    // And it is a server like any other when it tells the truth.
    std::filesystem::remove(lie);
    ASSERT_EQ(::kill(world.connection(key).at("master_pid").get<pid_t>(), SIGKILL), 0);
    EXPECT_TRUE(world.becomes(id, "running"));
}

// sshd: accepted by the kernel, and nothing comes.
TEST(LyingSshd, ThatNeverSpeaks) {
    LyingServer server;
    ASSERT_EQ(::kill(server.world.sshd.pid(), SIGSTOP), 0);
    server.expect_refused({"connect_timeout"});
    server.expect_nothing_left();
    ASSERT_EQ(::kill(server.world.sshd.pid(), SIGCONT), 0);
    EXPECT_TRUE(server.start().contains("result"));
}

TEST(LyingSshd, ThatRefusesEveryChannel) {
    SshdOptions options = servers(2);
    options.server_config[1] = "MaxSessions 0";
    LyingServer server(options);
    server.expect_refused({"channel_refused"});
    server.expect_nothing_left();
}

// The ways below have one program in the place of the path to server-1.
void go_by(World& world, const std::string& program) {
    world.sshd.add_ssh_config("Host liar\n    HostName 127.0.0.1\n    ProxyCommand " + program + '\n');
}

struct Way {
    const char* name;
    const char* program;
    std::vector<std::string> kinds;
};
void PrintTo(const Way& way, std::ostream* stream) {
    *stream << way.name;
}

class LyingWay : public ::testing::TestWithParam<Way> {};

// Each of its processes is gone with the error.
TEST_P(LyingWay, EndsWithItsWholeGroup) {
    LyingServer server;
    const std::string program = server.world.dir / "way";
    const std::string pids = server.world.dir / "pids";
    write_program(program, "echo $$ >>" + pids + "\nsleep 1001 &\necho $! >>" + pids +
                               "\n(sh -c 'sleep 1002; :' & echo $! >>" + pids + ")\n" + GetParam().program + '\n');
    go_by(server.world, program);
    server.expect_refused(GetParam().kinds, "liar");
    server.expect_nothing_left();
    std::istringstream lines(read_file(pids));
    int count = 0;
    for (pid_t pid = 0; lines >> pid; ++count) {
        EXPECT_TRUE(wait_until([pid] { return !alive(pid); })) << command_line(pid);
    }
    EXPECT_EQ(count, 3);
}

INSTANTIATE_TEST_SUITE_P(
    LyingServer, LyingWay,
    ::testing::Values(Way{"ThatHangs", "sleep 1003; :", {"connect_timeout"}},
                      Way{"ThatGreetsAndHangs", "printf 'SSH-2.0-liar\\r\\n'; sleep 1003; :", {"connect_timeout"}},
                      Way{"ThatGreetsByHalf", "printf 'SSH-2.0-li'; sleep 1003; :", {"connect_timeout"}},
                      Way{"ThatFloods", "yes text", {"connect_failed"}},
                      Way{"ThatFloodsBehindTheGreeting", "printf 'SSH-2.0-liar\\r\\n'; yes text", {"connect_failed"}}),
    ::testing::PrintToStringParamName());

// In the middle of a login, of the first request, or later: after a number of bytes that comes from a seed.
TEST(LyingSshd, ThatClosesAtRandom) {
    constexpr int kRounds = 20;
    constexpr int kMostBytes = 8000;
    LyingServer server(servers(2), "connect_timeout = \"2s\"\nbackoff_initial = \"10ms\"\nbackoff_max = \"50ms\"\n");
    World& world = server.world;
    const std::string limit = world.dir / "limit";
    const std::string program = world.dir / "way";
    // head would keep what it has; and what waits for more to come would keep the connection open.
    write_program(program, "mkfifo \"$0.$$\"\nexec 3<&0\nnc 127.0.0.1 " + std::to_string(world.sshd.port()) +
                               " <&3 >\"$0.$$\" &\nexec 3<&-\nread -r limit <" + limit +
                               "\ndd bs=1 count=\"$limit\" status=none <\"$0.$$\"\nkill $!\n");
    go_by(world, program);
    std::mt19937 random(20261129);
    int errors = 0;
    for (int round = 0; round < kRounds; ++round) {
        const int bytes = std::uniform_int_distribution<int>(0, kMostBytes)(random);
        SCOPED_TRACE(bytes);
        write_file(limit, std::to_string(bytes) + '\n');
        const Json reply = server.start("liar");
        if (reply.contains("error")) {
            ++errors;
            EXPECT_THAT(reply.at("error").at("data").at("kind").get<std::string>(),
                        AnyOf("connect_failed", "master_lost", "tmux_failed"))
                << reply;
        }
    }
    std::printf("%d of %d starts failed\n", errors, kRounds);
    EXPECT_GT(errors, 0);
    server.expect_honest_server_unharmed();
    // It behaves again: everything that was started is there, once.
    write_file(limit, "1000000000\n");
    EXPECT_TRUE(wait_until([&] { return server.start("liar").contains("result"); }));
    // Of one that was cut off while it was on its way, the server's tmux says whether it ever came there.
    EXPECT_TRUE(wait_until([&] { return world.list({{"state", "starting"}}).empty(); }));
    const Words known = world.list();
    for (const auto& id : known) {
        EXPECT_TRUE(world.becomes(id, "running")) << id;
    }
    EXPECT_EQ(world.tmux_sessions(1).size() + 1, known.size());
    EXPECT_EQ(world.stats().at("total_connections"), 2);
    EXPECT_TRUE(wait_until([&] { return world.daemon.control_sockets().size() == 2; }));
}

}  // namespace
}  // namespace cmssh::test
