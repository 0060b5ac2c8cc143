// cmctl doctor on healthy and on broken set-ups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
namespace fs = std::filesystem;

void write_program(const std::string& path, const std::string& script) {
    write_file(path, "#!/bin/sh\n" + script + '\n');
    fs::permissions(path, fs::perms::owner_all);
}

// more: variables that come before those of the tests.
Finished doctor(const World& world, Words words, const Words& more = {}) {
    SpawnOptions options;
    options.environment = world.daemon.environment();
    for (const std::string& variable : more) {
        const std::string name = variable.substr(0, variable.find('=') + 1);
        std::erase_if(options.environment, [&name](const std::string& it) { return it.starts_with(name); });
        options.environment.push_back(variable);
    }
    words.insert(words.begin(), {CMSSH_CMCTL, "doctor"});
    return run(words, options);
}

Json checks_of(const Finished& finished) {
    return Json::parse(finished.output).at("checks");
}

// The check of this name; null where there is none.
Json find(const Json& checks, const std::string& where, const std::string& name) {
    const auto found = std::find_if(checks.begin(), checks.end(),
                                    [&](const Json& it) { return it.at("where") == where && it.at("name") == name; });
    return found == checks.end() ? Json() : *found;
}

TEST(Doctor, IsInColourOnDemand) {
    World world(servers(1));
    const Finished finished = world.daemon.cmctl({"--color", "always", "doctor"});
    EXPECT_THAT(finished.output, HasSubstr("\033[32mok  \033[0m  config"));
}

TEST(Doctor, OfAHealthySetUpFindsNothing) {
    World world(servers(1), "[tools.lister]\ncommand = [\"ls\"]\n");
    const std::string agent_socket = world.dir / "agent";
    const Process agent({"ssh-agent", "-D", "-a", agent_socket});
    ASSERT_TRUE(wait_until([&] { return exists(agent_socket); }));
    SpawnOptions with_agent;
    with_agent.environment = {"SSH_AUTH_SOCK=" + agent_socket, std::string("PATH=") + kPath};
    ASSERT_EQ(run({"ssh-add", "-q", world.sshd.user_key()}, with_agent).status.code, 0);

    const Finished told = doctor(world, {"server-1"}, {"SSH_AUTH_SOCK=" + agent_socket});
    EXPECT_EQ(told.status.code, 0) << told.output << told.errors;
    EXPECT_EQ(told.errors, "");
    EXPECT_THAT(told.output, HasSubstr("ok    config "));
    EXPECT_THAT(told.output, ContainsRegex("\nok    ssh +OpenSSH_"));
    EXPECT_THAT(told.output, ContainsRegex("\nok    agent +1 key\n"));
    EXPECT_THAT(told.output, ContainsRegex("\nok    daemon +cmsshd .*, pid " + std::to_string(world.daemon.pid())));
    EXPECT_THAT(told.output, ContainsRegex("\nok    server-1: connection +" + world.key("127.0.0.1") + ": up, rtt "));
    EXPECT_THAT(told.output, ContainsRegex("\nok    server-1: channels +10 at once\n"));
    EXPECT_THAT(told.output, ContainsRegex("\nok    server-1: tmux +tmux [^ ]+ \\(/usr/bin/tmux\\)\n"));
    EXPECT_THAT(told.output, ContainsRegex("\nok    server-1: tool lister +/[a-z/]*bin/ls\n"));
    EXPECT_THAT(told.output, Not(HasSubstr("FAIL")));
    EXPECT_EQ(world.sshd.logins(), 1);

    // Without a name: the servers that are connected, by one that leads to them.
    const Json checks = checks_of(doctor(world, {"--json"}));
    EXPECT_EQ(find(checks, "here", "registry").at("status"), "ok");
    EXPECT_EQ(find(checks, "server-1", "tmux").at("status"), "ok");
    EXPECT_EQ(find(checks, "server-1", "tmux").count("hint"), 0U);
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_THAT(doctor(world, {"-q"}, {"SSH_AUTH_SOCK=" + agent_socket}).output, IsEmpty());
}

TEST(Doctor, SaysWhatToTypeAboutTheAgent) {
    World world(servers(1));
    const std::string socket = world.dir / "agent";
    EXPECT_EQ(find(checks_of(doctor(world, {"--json"})), "here", "agent").at("status"), "warn");
    const Json dead = find(checks_of(doctor(world, {"--json"}, {"SSH_AUTH_SOCK=" + socket})), "here", "agent");
    EXPECT_THAT(dead.at("detail").get<std::string>(), HasSubstr("nothing answers on SSH_AUTH_SOCK (" + socket));
    const Process agent({"ssh-agent", "-D", "-a", socket});
    ASSERT_TRUE(wait_until([&] { return exists(socket); }));
    const Finished empty = doctor(world, {}, {"SSH_AUTH_SOCK=" + socket});
    EXPECT_THAT(empty.output, ContainsRegex("\nwarn  agent +it holds no keys\n      -> ssh-add\n"));
    EXPECT_EQ(empty.status.code, 0) << "a login may work without";
}

TEST(Doctor, FindsThatTheServerHasNoTmux) {
    SshdOptions options = servers(1);
    const TempDir programs;
    for (const char* name : {"sh", "bash", "env", "sed", "tail", "cat"}) {
        fs::create_symlink(std::string("/bin/") + name, programs / name);
    }
    options.environment[1] = "PATH=" + programs.path();
    World world(options);
    write_file(world.sshd.home(1) + "/.profile", "PATH=" + programs.path() + "\n");
    const Finished told = doctor(world, {"server-1"});
    EXPECT_EQ(told.status.code, 1);
    // Whatever else is not in PATH there.
    EXPECT_THAT(told.output, ContainsRegex("\nok    server-1: login shell +/"));
    EXPECT_THAT(
        told.output,
        ContainsRegex("\nFAIL  server-1: tmux +not found[^\n]*\n      -> on the server: sudo apt install tmux"));
}

TEST(Doctor, FindsWhatEndsSessionsOnTheServer) {
    SshdOptions options = servers(1);
    const TempDir programs;
    write_program(programs / "busctl", "echo 'b true'");
    options.environment[1] = "PATH=" + programs.path() + ":/usr/bin:/bin";
    World world(options, "[pool]\nmax_channels = 2\n[tools.claude]\ncommand = [\"no-such-program-there\"]\n");
    // What rc files print is no answer.
    write_file(world.sshd.home(1) + "/.profile", "echo cmssh-doctor kill no; echo PATH=/nowhere\n");
    const Finished told = doctor(world, {"server-1"});
    EXPECT_EQ(told.status.code, 1) << told.output;
    EXPECT_THAT(told.output, ContainsRegex("\nFAIL  server-1: logout +KillUserProcesses=yes: [^\n]*\n"
                                           "      -> on the server, as root: put KillExcludeUsers="));
    EXPECT_THAT(told.output, ContainsRegex("\nwarn  server-1: channels +2 at once [^\n]*\n      -> on the server"));
    EXPECT_THAT(told.output, ContainsRegex("\nwarn  server-1: tool claude +no-such-program-there is not in the PATH "
                                           "[^\n]*\n      -> install it there"));
}

TEST(Doctor, FindsWrongVersions) {
    World world(servers(1));
    make_dirs(world.dir / "bin");
    write_program(world.dir / "bin/ssh", "echo 'OpenSSH_8.2p1, OpenSSL 1.1.1' >&2");
    const Finished old_ssh = doctor(world, {}, {"PATH=" + (world.dir / "bin") + ":/usr/bin:/bin"});
    EXPECT_EQ(old_ssh.status.code, 1);
    EXPECT_THAT(old_ssh.output, ContainsRegex("\nFAIL  ssh +OpenSSH_8.2p1 is older than 8.4\n      -> install "));

    // A daemon of another protocol than ours.
    world.daemon.stop();
    write_program(world.dir / "other",
                  "n=0\nwhile read -r line; do n=$((n+1))\n"
                  "echo '{\"jsonrpc\":\"2.0\",\"id\":'$n',\"result\":{\"version\":\"9.9\",\"protocol\":99,"
                  "\"capabilities\":[]}}'\ndone");
    const Process other(
        {"socat", "UNIX-LISTEN:" + world.daemon.socket_path() + ",fork", "EXEC:" + (world.dir / "other")});
    ASSERT_TRUE(wait_until([&] { return exists(world.daemon.socket_path()); }));
    const Finished told = doctor(world, {});
    EXPECT_EQ(told.status.code, 1);
    EXPECT_THAT(told.output, ContainsRegex("\nFAIL  versions +the daemon \\(9\\.9\\) and this cmctl .*\n"
                                           "      -> cmctl daemon stop"));
    fs::remove(world.daemon.socket_path());
    world.start_daemon();
}

TEST(Doctor, WithoutADaemonSaysHowToStartOne) {
    World world(servers(1));
    world.daemon.stop();
    const Finished told = doctor(world, {"--no-spawn", "server-1"});
    EXPECT_EQ(told.status.code, 1);
    EXPECT_THAT(told.output, ContainsRegex("\nFAIL  daemon +no daemon listens on .*\n      -> cmctl daemon start\n"));
    EXPECT_THAT(told.output, HasSubstr("\nok    ssh "));
    EXPECT_FALSE(exists(world.daemon.socket_path()));
    world.start_daemon();
}

TEST(Doctor, NamesTheLineOfABadConfig) {
    World world(servers(1));
    world.daemon.write_config("[pool]\nhealth_intervall = \"1s\"\n");
    const Json config = find(checks_of(doctor(world, {"--json"})), "here", "config");
    EXPECT_EQ(config.at("status"), "fail");
    EXPECT_THAT(config.at("detail").get<std::string>(), ContainsRegex("config.toml:[0-9]+: .*health_intervall"));
    EXPECT_THAT(config.at("hint").get<std::string>(), Not(IsEmpty()));
}

TEST(Doctor, SaysWhyAServerIsNotReached) {
    World world(servers(1));
    world.sshd.stop();
    const Finished told = doctor(world, {"server-1"});
    EXPECT_EQ(told.status.code, 1);
    EXPECT_THAT(told.output, ContainsRegex("\nFAIL  server-1: connection +[^\n]*refused[^\n]*\n      -> "));
    EXPECT_EQ(find(checks_of(doctor(world, {"--json", "server-1"})), "server-1", "tmux"), Json());
    world.sshd.start();
}

}  // namespace
}  // namespace cmssh::test
