// Starts in the session that is made ahead: what runs there, and all that can be seen of it, is as without one; and
// nothing of it is left where it is of no use.
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

const Words kLong = {"sleep", "1000"};
const Json kSize = {{"size", {{"cols", 80}, {"rows", 24}}}};  // tmux's own; such a start takes no spare session

Words lines_of(const std::string& text) {
    std::istringstream stream(text);
    Words lines;
    for (std::string line; std::getline(stream, line);) {
        lines.push_back(line);
    }
    return lines;
}

std::string written_to(const std::string& file) {
    if (!wait_until([&] { return exists(file); })) {
        throw std::runtime_error("nothing wrote " + file);
    }
    return read_file(file);
}

Words write_to(const std::string& file, const std::string& script, const Words& arguments = {}) {
    Words command = {"sh", "-c", "{ " + script + "\n} >\"$0.part\" 2>&1; mv \"$0.part\" \"$0\"; exec sleep 1000", file};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
}

// Where `tmux attach` leads.
std::string attached_to(const World& world) {
    SpawnOptions spawn;
    spawn.environment = world.sshd.environment(1);
    // It would leave at the end of its input.
    Process client({"sh", "-c", "sleep 1000 | tmux -L cmssh -C attach"}, spawn);
    const auto clients_session = [&] {
        for (const std::string& line : lines_of(world.tmux(1, {"list-clients", "-F", "#{client_session}"}).output)) {
            if (!line.starts_with("cmssh-keeper-")) {
                return line;
            }
        }
        return std::string();
    };
    std::string session;
    if (!wait_until([&] { return (session = clients_session()).starts_with("sess-"); })) {
        return session;
    }
    EXPECT_EQ(world.tmux(1, {"detach-client", "-s", '=' + session}).status.code, 0);
    EXPECT_TRUE(wait_until([&] { return clients_session().empty(); }));
    return session;
}

TEST(Spare, IsTakenByTheNextStart) {
    World world;
    world.start("server-1", kLong);
    for (int i = 0; i < 3; ++i) {
        const pid_t spare = world.spare(1);
        const std::string id = world.start_id("server-1", {"sh", "-c", "read line; exit 7"}, {{"name", "seven"}});
        EXPECT_EQ(world.pane_pid(1, id), spare);
        EXPECT_EQ(world.tmux(1, {"send-keys", "-t", id, "Enter"}).status.code, 0);
        const Json ended = world.wait(id);
        EXPECT_EQ(ended.at("state"), "exited");
        EXPECT_EQ(ended.at("exit_code"), 7);
    }
    EXPECT_EQ(world.list().size(), 1U) << "it is nobody's session";
}

TEST(Spare, OfAPrewarmedContextIsThereForTheFirstStart) {
    World world(servers(1), "[contexts.warm]\nhost = \"server-1\"\nprewarm = true\n");
    for (int daemons = 0; daemons < 2; ++daemons) {
        const pid_t spare = world.spare(1);
        EXPECT_EQ(world.pane_pid(1, world.start_id("warm", kLong)), spare);
        world.daemon.stop();
        world.start_daemon();
    }
}

TEST(Spare, OnceTakenIsKilledAndSignalledAsAnyOther) {
    World world;
    world.start("server-1", kLong);
    const pid_t first = world.spare(1);
    const std::string killed = world.start_id("server-1", kLong);
    ASSERT_EQ(world.pane_pid(1, killed), first);
    const pid_t second = world.spare(1);
    const std::string signalled = world.start_id("server-1", kLong);
    ASSERT_EQ(world.pane_pid(1, signalled), second);
    ASSERT_TRUE(wait_until([&] { return command_line(second) == "sleep 1000"; }));
    EXPECT_EQ(world.rpc().call("kill", {{"session", signalled}, {"signal", "INT"}}).at("pending"), false);
    EXPECT_EQ(world.wait(signalled).at("signal"), "INT");
    EXPECT_EQ(world.rpc().call("kill", {{"session", killed}}).at("session").at("state"), "killed");
    EXPECT_TRUE(wait_until([&] { return !alive(first); }));
}

class SpareShell : public ::testing::TestWithParam<const char*> {};

// What a program and its user can see, started either way.
TEST_P(SpareShell, GivesWhatAStartWithoutItGives) {
    SshdOptions options = servers(1);
    options.shell[1] = GetParam();
    options.environment[1] = "LANG=C.UTF-8";
    World world(options);
    const std::string probe = R"sh(
printf '%s\0' "$@" | od -An -c
stty -a; stty -g; tty; umask; pwd; ulimit -a
env -0 | sort -z | tr '\0' '\n'
echo "$$ $(ps -o ppid=,pgid=,sid=,tpgid=,tty=,nice= -p $$) $(ps -o pid= -p $PPID)" |
    awk '{ print $1 == $3, $1 == $4, $1 == $5, $2 == $8, $7 }'
grep -E '^Sig(Blk|Ign)' /proc/self/status
tr '\0' '\n' </proc/$$/cmdline
ls /proc/$$/fd)sh";
    const Words arguments = {
        "",       "two words",   "it's", "\"$HOME\" `id` $(id)", "\\ \\n \\\\", "!! !x", "line\nfeed\n", "\t",
        "größer", "#{pane_id}~", "-n",   "\x01\x1b[1m\x7f",      "end\\"};
    const Json env = {
        {"SECRET", "it's \"$X\"\n\\!"}, {"EMPTY", ""}, {"PATH", "/usr/bin:/bin:/extra"}, {"line", "a"}, {"d", "b"}};
    world.start("server-1", kLong);
    const std::string file = world.dir / "probe";
    const auto start = [&](bool in_spare) {
        const pid_t spare = world.spare(1);
        if (!in_spare) {
            EXPECT_EQ(::kill(spare, SIGKILL), 0);
            EXPECT_TRUE(wait_until([&] { return world.spare_sessions(1) == 0; }));
        }
        const std::string id = world.start_id("server-1", write_to(file, probe, arguments), {{"env", env}});
        EXPECT_EQ(world.pane_pid(1, id) == spare, in_spare);
        std::string seen = written_to(file);
        EXPECT_EQ(::unlink(file.c_str()), 0);
        EXPECT_TRUE(wait_until([&] { return command_line(world.pane_pid(1, id)) == "sleep 1000"; }));
        const std::string target = '=' + id + ':';
        // Renamed within half a second of its first output, or not at all without any.
        EXPECT_TRUE(wait_until([&] {
            const std::string name = world.tmux(1, {"display-message", "-p", "-t", target, "#{window_name}"}).output;
            return !name.starts_with("cmssh-spare");
        }));
        seen += "---- tmux\n";
        seen += world
                    .tmux(1, {"display-message", "-p", "-t", target,
                              "#{pane_current_command} #{pane_current_path} #{pane_width}x#{pane_height} #{pane_title} "
                              "#{cursor_x},#{cursor_y},#{cursor_flag},#{insert_flag} #{alternate_on} #{history_size} "
                              "#{history_limit} #{session_windows} #{session_attached} #{session_grouped} "
                              "#{session_path} #{pane_in_mode} #{pane_input_off}"})
                    .output;
        for (const Words& command :
             {Words{"capture-pane", "-p", "-e", "-S", "-", "-t", target}, Words{"show-environment", "-t", target},
              Words{"show-options", "-t", target}, Words{"show-options", "-w", "-t", target},
              Words{"show-options", "-p", "-t", target}, Words{"show-hooks", "-t", target}, Words{"list-buffers"}}) {
            seen += world.tmux(1, command).output;
        }
        Words lines = lines_of(seen);
        for (std::string& line : lines) {
            for (auto at = line.find(id); at != std::string::npos; at = line.find(id)) {
                line.replace(at, id.size(), "ID");
            }
            for (const auto* ours : {"TMUX=", "TMUX_PANE=", "@cmssh_note ", "/dev/pts/"}) {
                if (line.starts_with(ours)) {
                    line = ours;
                }
            }
        }
        std::string text;
        for (const std::string& line : lines) {
            text += line + '\n';
        }
        return text;
    };
    const std::string taken_over = start(true);
    const std::string direct = start(false);
    EXPECT_EQ(taken_over, direct);
    EXPECT_NE(direct.find("\nSECRET=it's \"$X\"\n"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Spare, SpareShell,
                         ::testing::Values("/bin/bash", "/bin/dash", "/bin/zsh", "/usr/bin/fish", "/bin/tcsh"),
                         [](const auto& shell) {
                             const std::string path = shell.param;
                             return path.substr(path.rfind('/') + 1);
                         });

TEST(Spare, SeesNoRcFileBeforeItIsTaken) {
    World world;
    world.start("server-1", kLong);
    world.spare(1);
    write_file(world.sshd.home(1) + "/.profile", "export FROM_PROFILE='set late'\n");
    const std::string file = world.dir / "environment";
    world.start("server-1", write_to(file, "echo \"$FROM_PROFILE\""));
    EXPECT_EQ(written_to(file), "set late\n");
}

// As a new window does.
TEST(Spare, HasTheEnvironmentThatTmuxHasByNow) {
    World world;
    world.start("server-1", kLong);
    const std::string file = world.dir / "environment";
    const auto seen = [&] {
        world.start("server-1", write_to(file, "echo \"$GLOBAL $TERM\""));
        std::string text = written_to(file);
        EXPECT_EQ(::unlink(file.c_str()), 0);
        return text;
    };
    world.spare(1);
    EXPECT_EQ(world.tmux(1, {"set-environment", "-g", "GLOBAL", "changed"}).status.code, 0);
    EXPECT_EQ(seen(), "changed tmux-256color\n");
    const pid_t other = world.spare(1);
    EXPECT_EQ(world.tmux(1, {"set-option", "-s", "default-terminal", "screen"}).status.code, 0);
    EXPECT_EQ(seen(), "changed screen\n");
    EXPECT_TRUE(wait_until([&] { return !alive(other); })) << "another one takes its place";
    // Its own settings don't count.
    const pid_t spare = world.spare(1);
    EXPECT_EQ(world.pane_pid(1, world.start_id("server-1", kLong, {{"env", {{"GLOBAL", "own"}}}})), spare);
    world.daemon.stop();
    EXPECT_TRUE(wait_until([&] {
        return world.tmux(1, {"show-hooks", "-g", "after-set-environment"}).output == "after-set-environment\n";
    }));
}

TEST(Spare, IsNotUsedForWhatItCannotGive) {
    World world;
    world.start("server-1", kLong);
    make_dirs(world.sshd.home(1) + "/src");
    const pid_t spare = world.spare(1);
    for (const Json& extra : {Json{{"cwd", "src"}}, kSize, Json{{"env", {{"PPID", "5"}}}}}) {
        EXPECT_NE(world.pane_pid(1, world.start_id("server-1", kLong, extra)), spare) << extra;
    }
    const std::string large(20'000, 'x');
    const std::string file = world.dir / "large";
    EXPECT_NE(world.pane_pid(1, world.start_id("server-1", write_to(file, "printf %s \"$1\"", {large}))), spare);
    EXPECT_EQ(written_to(file), large);
    EXPECT_EQ(world.pane_pid(1, world.start_id("server-1", kLong)), spare);
}

TEST(Spare, ThatWasKilledIsDoneWithout) {
    World world;
    world.start("server-1", kLong);
    ASSERT_EQ(::kill(world.spare(1), SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return world.spare_sessions(1) == 0; }));
    const std::string file = world.dir / "ran";
    world.start("server-1", write_to(file, "echo yes"));
    EXPECT_EQ(written_to(file), "yes\n");
    const pid_t next = world.spare(1);
    EXPECT_EQ(world.pane_pid(1, world.start_id("server-1", kLong)), next);
}

TEST(Spare, RunsNothingOfWhatSomebodyTypedIntoIt) {
    World world;
    const std::string canary = world.dir / "canary";
    const std::string file = world.dir / "ran";
    world.start("server-1", kLong);
    const auto type = [&](const Words& keys) {
        const Words spares = {"list-panes", "-a", "-f", "#{m:cmssh-spare-*,#{session_name}}", "-F", "#{pane_id}"};
        Words command = {"send-keys", "-t", lines_of(world.tmux(1, spares).output).at(0)};
        command.insert(command.end(), keys.begin(), keys.end());
        EXPECT_EQ(world.tmux(1, command).status.code, 0);
    };
    const pid_t first = world.spare(1);
    type({"touch " + canary + "; "});
    const std::string id = world.start_id("server-1", write_to(file, "echo yes"));
    EXPECT_EQ(written_to(file), "yes\n");
    EXPECT_EQ(world.pane_pid(1, id), first);
    EXPECT_EQ(::unlink(file.c_str()), 0);

    const pid_t second = world.spare(1);
    type({"touch " + canary, "Enter"});
    EXPECT_TRUE(wait_until([&] { return !alive(second); }));
    world.start("server-1", write_to(file, "echo yes"));
    EXPECT_EQ(written_to(file), "yes\n");
    EXPECT_FALSE(exists(canary));
}

// `tmux attach` chooses the session that was used last, which a new one is.
TEST(Spare, IsNotWhatSomebodyAttachesTo) {
    World world;
    // The first two are made by tmux there and then, the last one is a spare session.
    for (int i = 0; i < 3; ++i) {
        if (i == 2) {
            world.start("server-1", kLong);
            world.spare(1);
        }
        const std::string newest = world.start_id("server-1", kLong);
        world.spare(1);
        EXPECT_EQ(attached_to(world), newest);
        EXPECT_EQ(world.spare_sessions(1), 0);
    }
}

TEST(Spare, LeadsToTheNewestSessionThatIsThere) {
    World world;
    world.start("server-1", kLong);
    const std::string second = world.start_id("server-1", kLong);
    const std::string third = world.start_id("server-1", kLong);
    world.spare(1);
    world.rpc().call("kill", {{"session", third}});
    EXPECT_EQ(attached_to(world), second);
}

// For tmux, too, it is used when it is taken, not when it was made.
TEST(Spare, OnceTakenIsTheNewestSession) {
    World world;
    world.start("server-1", kLong);
    const pid_t spare = world.spare(1);
    world.start("server-1", kLong, kSize);
    const std::string newest = world.start_id("server-1", kLong);
    ASSERT_EQ(world.pane_pid(1, newest), spare);
    ASSERT_EQ(::kill(world.spare(1), SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] { return world.spare_sessions(1) == 0; }));
    EXPECT_EQ(attached_to(world), newest);
}

TEST(Spare, IsOneForABurstOfStarts) {
    World world;
    const std::string first = world.start_id("server-1", kLong);
    const pid_t spare = world.spare(1);
    constexpr int kCalls = 50;
    std::vector<std::unique_ptr<RpcClient>> clients;
    for (int i = 0; i < kCalls; ++i) {
        clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
    }
    for (const auto& client : clients) {
        EXPECT_EQ(client->send("start", {{"ctx", "server-1"}, {"command", kLong}}), 1);
    }
    std::set<std::string> ids = {first};
    std::set<pid_t> pids;
    for (const auto& client : clients) {
        const std::string id = client->reply(1).at("result").at("session").at("id");
        ids.insert(id);
        pids.insert(world.pane_pid(1, id));
    }
    EXPECT_EQ(ids.size(), kCalls + 1U);
    EXPECT_EQ(pids.size(), static_cast<std::size_t>(kCalls));
    EXPECT_TRUE(pids.contains(spare));
    const Words on_server = world.tmux_sessions(1);
    EXPECT_EQ(std::set<std::string>(on_server.begin(), on_server.end()), ids);
    world.spare(1);
    EXPECT_EQ(world.spare_sessions(1), 1);
}

TEST(Spare, GivesOneSessionForOneRequest) {
    World world;
    world.start("server-1", kLong);
    const pid_t spare = world.spare(1);
    const Json request = {{"request_id", "once"}};
    const std::string id = world.start_id("server-1", kLong, request);
    EXPECT_EQ(world.pane_pid(1, id), spare);
    world.spare(1);
    EXPECT_EQ(world.start_id("server-1", kLong, request), id);
    EXPECT_EQ(world.tmux_sessions(1).size(), 2U);
}

TEST(Spare, OfOtherSettingsIsNotUsed) {
    World world;
    world.start("server-1", kLong);
    const pid_t spare = world.spare(1);
    world.daemon.write_config("[sessions]\nshell = \"none\"\n");
    world.rpc().call("reload");
    write_file(world.sshd.home(1) + "/.profile", "export FROM_PROFILE=set\n");
    const std::string file = world.dir / "environment";
    const std::string id = world.start_id("server-1", write_to(file, "echo \"$FROM_PROFILE\""));
    EXPECT_NE(world.pane_pid(1, id), spare);
    EXPECT_EQ(written_to(file), "\n");
    EXPECT_TRUE(wait_until([&] { return !alive(spare); })) << "another one takes its place";
    EXPECT_EQ(world.spare_sessions(1), 1);
}

TEST(Spare, GoesWithItsConnection) {
    World world;
    world.start("server-1", kLong);
    const pid_t spare = world.spare(1);
    world.rpc().call("disconnect", {{"ctx", "server-1"}});
    EXPECT_TRUE(wait_until([&] { return world.spare_sessions(1) == 0; }));
    EXPECT_TRUE(wait_until([&] { return !alive(spare); }));
    EXPECT_EQ(world.tmux_sessions(1).size(), 1U);
}

TEST(Spare, GoesWithItsDaemon) {
    World world;
    const std::string id = world.start_id("server-1", kLong);
    world.spare(1);
    world.daemon.stop();
    EXPECT_TRUE(wait_until([&] { return world.spare_sessions(1) == 0; }));
    for (int i = 0; i < 3; ++i) {
        world.start_daemon();
        world.start("server-1", kLong);
        world.spare(1);
        world.daemon.crash();
        EXPECT_TRUE(wait_until([&] { return world.spare_sessions(1) == 0; }));
    }
    EXPECT_EQ(world.tmux_sessions(1).size(), 4U);
}

TEST(Spare, IsNeverMoreThanOneAcrossBrokenConnections) {
    World world;
    world.start("server-1", kLong);
    for (int i = 0; i < 3; ++i) {
        const pid_t spare = world.spare(1);
        const pid_t master = world.connection(world.key("127.0.0.1")).at("master_pid");
        ASSERT_EQ(::kill(master, SIGKILL), 0);
        ASSERT_TRUE(wait_until([&] { return !alive(spare); }));
        world.start("server-1", kLong);
        EXPECT_LE(world.spare_sessions(1), 1);
    }
    world.spare(1);
    EXPECT_EQ(world.spare_sessions(1), 1);
    EXPECT_EQ(world.tmux_sessions(1).size(), 4U);
}

}  // namespace
}  // namespace cmssh::test
