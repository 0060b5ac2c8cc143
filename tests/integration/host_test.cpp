// cmctl here, the daemon on another machine: through the user's own ssh and a real sshd, which is all that listens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>
#include <sstream>

#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

const Words kLong = {"sleep", "1000"};

std::string directory_of(const std::string& program) {
    return program.substr(0, program.rfind('/'));
}

std::string variable(const Words& environment, const std::string& name) {
    for (const std::string& word : environment) {
        if (word.starts_with(name + '=')) {
            return word.substr(name.size() + 1);
        }
    }
    throw std::runtime_error("no " + name);
}

SshdOptions of_workstation(const Daemon& daemon, const std::string& path, const std::string& shell) {
    SshdOptions options = servers(1);
    std::string words = "PATH=" + path;
    for (const char* name : {"XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"}) {
        words += std::string(" ") + name + '=' + variable(daemon.environment(), name);
    }
    options.environment[1] = words;
    if (!shell.empty()) {
        options.shell[1] = shell;
    }
    return options;
}

// The world's daemon runs on the workstation. A laptop has a runtime directory of its own and, in front of PATH, an ssh
// that reads the configuration of these tests in place of the person's.
class Host : public testing::Test {
protected:
    explicit Host(const std::string& path = directory_of(CMSSH_CMCTL) + ':' + kPath, const std::string& shell = "")
        : workstation(world.dir, of_workstation(world.daemon, path, shell), "workstation") {
        workstation.add_ssh_config("Host workstation\n    HostName 127.0.0.1\n");
        for (const char* name : {"laptop/home", "laptop/run", "laptop/state", "laptop/config", "laptop/bin"}) {
            make_dirs(world.dir / name);
        }
        const std::string ssh = world.dir / "laptop/bin/ssh";
        write_file(ssh, "#!/bin/sh\nexec /usr/bin/ssh -F '" + workstation.ssh_config() + "' \"$@\"\n");
        std::filesystem::permissions(ssh, std::filesystem::perms::owner_all);
        environment = {"HOME=" + (world.dir / "laptop/home"),
                       "XDG_RUNTIME_DIR=" + (world.dir / "laptop/run"),
                       "XDG_STATE_HOME=" + (world.dir / "laptop/state"),
                       "XDG_CONFIG_HOME=" + (world.dir / "laptop/config"),
                       "PATH=" + (world.dir / "laptop/bin") + ':' + kPath,
                       "LANG=C.UTF-8",
                       "TERM=xterm",
                       "CMSSH_HOST=ssh://workstation"};
    }

    // Nothing was started on this machine.
    void expect_no_daemon_here() const { EXPECT_FALSE(exists(world.dir / "laptop/run/cmssh")); }

    [[nodiscard]] static Words line(const Words& words) {
        Words argv = {CMSSH_CMCTL};
        argv.insert(argv.end(), words.begin(), words.end());
        return argv;
    }
    [[nodiscard]] Finished cmctl(const Words& words, const std::string& input = {}) const {
        SpawnOptions options;
        options.environment = environment;
        options.input = input;
        return run(line(words), options);
    }

    World world;
    Sshd workstation;
    Words environment;
};

void expect_words_as_given(const std::function<Finished(const Words&)>& cmctl) {
    const Words odd = {"a  b", "it's", "$HOME", "!x", "back\\slash", "", "*", "two\nlines", "ü"};
    Words words = {"exec", "--ctx", "server-1", "--", "printf", "[%s]"};
    words.insert(words.end(), odd.begin(), odd.end());
    std::string expected;
    for (const std::string& word : odd) {
        expected += '[' + word + ']';
    }
    const auto printed = cmctl(words);
    EXPECT_EQ(printed.output, expected) << printed.errors;
}

TEST_F(Host, VerbsThatAreCallsGoToTheDaemonThere) {
    environment.push_back("COLOUR=of the laptop");
    const auto started = cmctl({"start", "--ctx", "server-1", "--name", "far", "--env", "COLOUR", "--", "sh", "-c",
                                "echo \"it is $COLOUR\"; read -r answer; echo \"got $answer\"; exit 7"});
    ASSERT_EQ(started.status.code, 0) << started.errors;
    EXPECT_THAT(started.output, StartsWith("sess-"));
    EXPECT_THAT(started.errors, HasSubstr("server-1: establishing master connection ("));
    const std::string id = started.output.substr(0, started.output.size() - 1);
    EXPECT_EQ(world.session(id).at("name"), "far");
    EXPECT_EQ(cmctl({"list", "-q"}).output, id + '\n');
    EXPECT_THAT(cmctl({"stats"}).output, HasSubstr("total_connections: 1\n"));
    EXPECT_THAT(cmctl({"contexts"}).output, HasSubstr("server-2"));
    EXPECT_EQ(cmctl({"check", "server-1"}).status.code, 0);
    EXPECT_EQ(cmctl({"send", "far", "home"}).status.code, 0);
    const auto waited = cmctl({"wait", "far"});
    EXPECT_EQ(waited.status.code, 7) << waited.errors;
    const auto logs = cmctl({"logs", "far"});
    EXPECT_THAT(logs.output, HasSubstr("it is of the laptop\n"));
    EXPECT_THAT(logs.output, HasSubstr("got home\n"));
    EXPECT_EQ(cmctl({"start", "--ctx", "server-2", "--follow", "--", "sh", "-c", "echo followed; exit 3"}).status.code,
              3);
    EXPECT_EQ(cmctl({"kill", "nobody"}).status.code, 3);
    EXPECT_THAT(cmctl({"version"}).output, ContainsRegex("cmsshd [0-9]"));
    expect_no_daemon_here();
}

TEST_F(Host, TheOptionGoesBeforeTheVariable) {
    const std::string port = std::to_string(workstation.port());
    const Words hosts = {"ssh://" + own_user() + "@127.0.0.1:" + port, "ssh://workstation", "127.0.0.1:" + port};
    for (const std::string& host : hosts) {
        EXPECT_EQ(cmctl({"--host", host, "list"}).status.code, 0) << host;
        EXPECT_EQ(cmctl({"list", "--host=" + host}).status.code, 0) << host;
    }
    environment.back() = "CMSSH_HOST=ssh://127.0.0.1:1";
    EXPECT_EQ(cmctl({"--host", "ssh://workstation", "list"}).status.code, 0);
    expect_no_daemon_here();
    const auto here = cmctl({"--host", "", "--no-spawn", "list"});
    EXPECT_EQ(here.status.code, 4);
    EXPECT_THAT(here.errors, HasSubstr("laptop/run"));
}

TEST_F(Host, NothingOfItIsAnOptionForSsh) {
    for (const char* host : {"-oProxyCommand=touch /tmp/x", "ssh://-oProxyCommand=x", "a b", "ssh://x;id",
                             "tcp://x:2375", "ssh://-l@workstation", "workstation:0"}) {
        const auto refused = cmctl({std::string("--host=") + host, "list"});
        EXPECT_EQ(refused.status.code, 2) << host;
        EXPECT_THAT(refused.errors, HasSubstr("ssh://user@machine")) << host;
        EXPECT_EQ(cmctl({std::string("--host=") + host, "daemon", "status"}).status.code, 2) << host;
    }
    EXPECT_EQ(workstation.logins(), 0);
}

TEST_F(Host, TheDaemonThereIsStartedOnDemandAndStopped) {
    world.daemon.stop();
    const auto status = cmctl({"daemon", "status"});
    EXPECT_EQ(status.status.code, 4) << status.errors;
    const auto refused = cmctl({"--no-spawn", "list"});
    EXPECT_EQ(refused.status.code, 4);
    EXPECT_THAT(refused.errors,
                HasSubstr("cmctl: no daemon was reached on ssh://workstation\nhint: cmctl daemon start\n"));
    EXPECT_EQ(cmctl({"list"}).status.code, 0);
    EXPECT_EQ(cmctl({"daemon", "status", "-q"}).status.code, 0);
    EXPECT_EQ(cmctl({"daemon", "reload"}).status.code, 0);
    EXPECT_EQ(cmctl({"daemon", "stop"}).status.code, 0);
    EXPECT_EQ(cmctl({"daemon", "status"}).status.code, 4);
    expect_no_daemon_here();
}

TEST_F(Host, TheSocketIsOneThere) {
    const auto other = cmctl({"--socket", world.dir / "no such; socket'", "--no-spawn", "list"});
    EXPECT_EQ(other.status.code, 4);
    EXPECT_THAT(other.errors, HasSubstr("no such; socket'"));
    EXPECT_EQ(cmctl({"--socket", world.daemon.socket_path(), "--no-spawn", "list"}).status.code, 0);
    environment.push_back("CMSSH_SOCKET=/nowhere");
    EXPECT_EQ(cmctl({"list"}).status.code, 0) << "the variable is about this machine";
}

TEST_F(Host, AMachineThatCannotBeReachedIsExitCode5) {
    const auto refused = cmctl({"--host", "ssh://127.0.0.1:1", "list"});
    EXPECT_EQ(refused.status.code, 5);
    EXPECT_THAT(refused.errors, HasSubstr("Connection refused")) << "what ssh says";
    EXPECT_THAT(refused.errors, HasSubstr("cmctl: cannot reach ssh://127.0.0.1:1\nhint: ssh -p 1 127.0.0.1 true\n"));
    const auto json = cmctl({"--host", "ssh://127.0.0.1:1", "list", "--json"});
    EXPECT_EQ(json.status.code, 5);
    const Json error = Json::parse(json.errors);
    EXPECT_THAT(error.at("data").at("ssh_stderr").get<std::string>(), HasSubstr("Connection refused"));
    EXPECT_EQ(cmctl({"--host", "ssh://127.0.0.1:1", "daemon", "status"}).status.code, 5);
}

TEST_F(Host, ALoginThatIsRefusedIsExitCode6) {
    write_file(workstation.user_key() + ".pub", read_file(workstation.known_hosts()).substr(2));
    const auto refused = cmctl({"list"});
    EXPECT_EQ(refused.status.code, 6);
    EXPECT_THAT(refused.errors, HasSubstr("Permission denied (publickey)"));
    EXPECT_THAT(refused.errors, HasSubstr("cmctl: ssh://workstation did not let us in\nhint: ssh workstation true\n"));
    for (const Words& words : {Words{"daemon", "status"}, Words{"start", "--ctx", "server-1", "true"}, Words{"mcp"}}) {
        const auto other = cmctl(words);
        EXPECT_EQ(other.status.code, 6) << words.front();
        EXPECT_THAT(other.errors, HasSubstr("Permission denied (publickey)")) << words.front();
        EXPECT_THAT(other.errors, HasSubstr("did not let us in\nhint: ssh workstation true\n")) << words.front();
    }
    Terminal terminal(line({"attach", "x"}), environment);
    EXPECT_EQ(terminal.wait(), 6) << terminal.output();
    EXPECT_THAT(terminal.output(), HasSubstr("did not let us in"));
    EXPECT_EQ(cmctl({"exec", "true"}).status.code, 255) << "as ssh has it";
}

class HostWithShell : public Host, public testing::WithParamInterface<const char*> {
protected:
    HostWithShell() : Host(directory_of(CMSSH_CMCTL) + ':' + kPath, GetParam()) {}
};

TEST_P(HostWithShell, ReadsNoneOfOurWords) {
    EXPECT_EQ(cmctl({"list"}).status.code, 0);
    EXPECT_EQ(cmctl({"--host", "ssh://127.0.0.1:" + std::to_string(workstation.port()), "list"}).status.code, 0);
    expect_words_as_given([this](const Words& words) { return cmctl(words); });
}

INSTANTIATE_TEST_SUITE_P(LoginShells, HostWithShell, testing::Values("/usr/bin/fish", "/bin/csh", "/usr/bin/zsh"),
                         [](const auto& test) {
                             const std::string path = test.param;
                             return path.substr(path.rfind('/') + 1);
                         });

class HostWithoutCmctl : public Host {
protected:
    HostWithoutCmctl() : Host("/usr/bin:/bin") {}
};

TEST_F(HostWithoutCmctl, IsToldSo) {
    const auto missing = cmctl({"list"});
    EXPECT_EQ(missing.status.code, 4);
    EXPECT_THAT(missing.errors, HasSubstr("cmctl: there is no cmctl on ssh://workstation\nhint: install cmssh there"));
    const auto status = cmctl({"daemon", "status"});
    EXPECT_EQ(status.status.code, 4);
    EXPECT_THAT(status.errors, HasSubstr("cmctl: there is no cmctl on ssh://workstation\nhint: install cmssh there"));
}

TEST_F(Host, AShellThatPrintsIsToldSo) {
    write_file(workstation.home(1) + "/.bashrc", "echo welcome\n");
    const auto greeted = cmctl({"list"});
    if (greeted.status.code == 0) {
        GTEST_SKIP() << "the login shell reads no .bashrc";
    }
    EXPECT_EQ(greeted.status.code, 4);
    EXPECT_THAT(greeted.errors,
                HasSubstr("does its shell print something?\nhint: ssh workstation true must print nothing\n"));
}

TEST_F(Host, FollowingGoesOnOverANewLink) {
    const std::string id = world.start_id("server-1", {"sh", "-c", "echo before; read -r x; echo after"});
    SpawnOptions options;
    options.environment = environment;
    Process following(line({"logs", "-f", id}), options);
    ASSERT_TRUE(wait_until([&] { return following.output() == "before\n"; })) << following.errors();
    workstation.signal_connections(SIGKILL);
    ASSERT_TRUE(wait_until([&] { return workstation.logins() == 2; })) << following.errors();
    world.rpc().call("send", {{"session", id}, {"text", "x"}});
    const auto status = following.wait();
    ASSERT_TRUE(status) << following.errors();
    EXPECT_EQ(status->code, 0) << following.errors();
    EXPECT_THAT(following.output(), HasSubstr("after\n"));
    EXPECT_THAT(following.errors(), HasSubstr("cmctl: the ssh to ssh://workstation was cut, connecting again\n"));
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 1; })) << "a proxy there stays";
}

TEST_F(Host, FollowingEndsWithTheMachine) {
    const std::string id = world.start_id("server-1", {"sh", "-c", "echo before; exec sleep 1000"});
    SpawnOptions options;
    options.environment = environment;
    Process following(line({"logs", "-f", id}), options);
    ASSERT_TRUE(wait_until([&] { return following.output() == "before\n"; })) << following.errors();
    std::vector<pid_t> connections = children_of(workstation.pid());
    for (const pid_t outer : children_of(workstation.pid())) {
        const auto inner = children_of(outer);
        connections.insert(connections.end(), inner.begin(), inner.end());
    }
    workstation.stop();
    for (const pid_t pid : connections) {
        ::kill(pid, SIGKILL);
    }
    const auto status = following.wait();
    ASSERT_TRUE(status) << following.errors();
    EXPECT_EQ(status->code, 5) << following.errors();
    EXPECT_THAT(following.errors(), HasSubstr("cmctl: cannot reach ssh://workstation\n"));
    EXPECT_EQ(world.session(id).at("state"), "running");
}

TEST_F(Host, CtrlCLeavesNothingBehind) {
    const std::string id = world.start_id("server-1", kLong);
    Terminal terminal(line({"wait", id}), environment);
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 2; }));
    terminal.type("\x03");
    EXPECT_EQ(terminal.wait(), 130) << terminal.output();
    EXPECT_THAT(terminal.output(), HasSubstr("the session runs on"));
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 1; })) << "the proxy there stays";
}

// The call that nobody waits for any more would keep the proxy there, and so ssh.
TEST_F(Host, ASignalForCmctlAloneEndsItsSsh) {
    const std::string id = world.start_id("server-1", {"sh", "-c", "echo before; exec sleep 1000"});
    SpawnOptions options;
    options.environment = environment;
    Process following(line({"logs", "-f", id}), options);
    ASSERT_TRUE(wait_until([&] { return following.output() == "before\n"; })) << following.errors();
    const auto ssh = children_of(following.pid());
    ASSERT_EQ(ssh.size(), 1U);
    following.send_signal(SIGTERM);
    const auto status = following.wait();
    ASSERT_TRUE(status) << following.errors();
    EXPECT_EQ(status->code, 130) << following.errors();
    EXPECT_FALSE(alive(ssh.front()));
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 1; })) << "the proxy there stays";
}

TEST_F(Host, AttachRunsThereOnOurTerminal) {
    // tmux takes two keys that arrive together for pasted text, and the detach key then for text as well.
    write_file(world.sshd.home(1) + "/.tmux.conf", "set -g assume-paste-time 0\n");
    const std::string id = world.start_id("server-1", {"sh", "-c", "echo ready; read -r x; echo got $x; read -r y"});
    Terminal terminal(line({"attach", id}), environment);
    ASSERT_TRUE(terminal.prints("ready")) << terminal.output();
    terminal.type("it\r");
    ASSERT_TRUE(terminal.prints("got it")) << terminal.output();
    terminal.type(
        "\x02"
        "d");
    EXPECT_EQ(terminal.wait(), 0) << terminal.output();
    EXPECT_EQ(world.session(id).at("state"), "running");
    expect_no_daemon_here();
}

// What the other machine's cmctl says is read here.
TEST_F(Host, CommandsInItsTextsAreForTheSameDaemon) {
    write_file(world.sshd.home(1) + "/.tmux.conf", "set -g assume-paste-time 0\n");
    const std::string id = world.start_id("server-1", {"sh", "-c", "echo ready; read -r x"});
    const auto told = [&](const Words& words) {
        Terminal terminal(line(words), environment);
        EXPECT_TRUE(terminal.prints("ready")) << terminal.output();
        terminal.type(
            "\x02"
            "d");
        EXPECT_EQ(terminal.wait(), 0) << terminal.output();
        return terminal.output();
    };
    EXPECT_THAT(told({"attach", id}), HasSubstr("to come back: cmctl attach " + id)) << "CMSSH_HOST says the rest";
    environment.back() = "X=y";
    const std::string typed = "cmctl --host workstation ";
    EXPECT_THAT(told({"--host", "workstation", "attach", id}), HasSubstr("to come back: " + typed + "attach " + id));
    world.rpc().call("kill", {{"session", id}});
    world.wait(id);
    Terminal late(line({"--host", "workstation", "attach", id}), environment);
    EXPECT_EQ(late.wait(), 1);
    EXPECT_THAT(late.output(), HasSubstr("hint: " + typed + "logs " + id));
    const auto missing = cmctl({"--host=workstation", "kill", "nobody"});
    EXPECT_THAT(missing.errors, HasSubstr("hint: " + typed + "list --all\n"));
    const auto dead = cmctl({"--host=workstation", "forward", "rm", "fwd-none"});
    EXPECT_THAT(dead.errors, HasSubstr("hint: " + typed + "forward list\n"));
    const auto socket = cmctl({"--host=workstation", "--socket=/nowhere", "--no-spawn", "list"});
    EXPECT_THAT(socket.errors, HasSubstr("hint: cmctl --host workstation --socket /nowhere daemon start\n"));
    EXPECT_THAT(socket.errors, Not(HasSubstr("hint: cmctl d"))) << "neither does the other's cmctl";
    // Told to the daemon there, it would be of everything that it starts.
    EXPECT_EQ(cmctl({"--host=workstation", "daemon", "stop"}).status.code, 0);
    EXPECT_EQ(cmctl({"--host=workstation", "daemon", "start"}).status.code, 0);
    const auto seen = cmctl({"--host=workstation", "exec", "--ctx", "server-1", "env"});
    EXPECT_EQ(seen.status.code, 0) << seen.errors;
    const Json stats = Json::parse(cmctl({"--host=workstation", "stats", "--json"}).output);
    const int daemon = stats.at("daemon").at("pid");
    EXPECT_THAT(read_file("/proc/" + std::to_string(daemon) + "/environ"), Not(HasSubstr("CMSSH_TYPED")));
    EXPECT_EQ(cmctl({"--host=workstation", "daemon", "stop"}).status.code, 0);
}

TEST_F(Host, StartAttachEndsWithTheSessionsCode) {
    environment.push_back("COLOUR=of the laptop");
    Terminal terminal(line({"start", "--ctx", "server-1", "--attach", "--env", "COLOUR", "--", "sh", "-c",
                            "echo \"it is $COLOUR\"; read -r x; exit 9"}),
                      environment);
    ASSERT_TRUE(terminal.prints("it is of the laptop")) << terminal.output();
    terminal.type("\r");
    EXPECT_EQ(terminal.wait(), 9) << terminal.output();
}

TEST_F(Host, ExecRunsThereWithOurInputOutputAndWords) {
    expect_words_as_given([this](const Words& words) { return cmctl(words); });
    std::string binary;
    for (int i = 0; i < 300'000; ++i) {
        binary += static_cast<char>(i * 7 % 256);
    }
    environment.push_back("CMSSH_CTX=server-1");
    const auto copied = cmctl({"exec", "--", "sh", "-c", "cat; echo away >&2; exit 5"}, binary);
    EXPECT_EQ(copied.status.code, 5);
    EXPECT_TRUE(copied.output == binary) << copied.output.size() << " bytes, " << copied.errors;
    EXPECT_EQ(copied.errors, "away\n");
    const auto unreachable = cmctl({"--host", "ssh://127.0.0.1:1", "exec", "true"});
    EXPECT_EQ(unreachable.status.code, 255) << "as ssh has it";
}

TEST_F(Host, VerbsAboutFilesHereSayWhatToType) {
    const auto copy = cmctl({"cp", "x", "server-1:"});
    EXPECT_EQ(copy.status.code, 2);
    EXPECT_THAT(copy.errors, HasSubstr("cmctl: cp: not possible with --host or CMSSH_HOST"));
    EXPECT_THAT(copy.errors, HasSubstr("hint: scp the files there first, then ssh workstation cmctl cp FILE CTX:"));
    const auto config = cmctl({"ssh-config"});
    EXPECT_EQ(config.status.code, 2);
    EXPECT_THAT(config.errors, HasSubstr("hint: cmctl --host '' ssh-config"));
    EXPECT_EQ(cmctl({"--host", "", "ssh-config"}).status.code, 0);
    expect_no_daemon_here();
}

// A key of the servers has a passphrase: ssh on the workstation asks for it, on the terminal of the laptop.
TEST_F(Host, TheDaemonsQuestionsComeToOurTerminal) {
    const std::string passphrase = "correct horse " + std::to_string(::getpid());
    const auto changed = run({"ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", world.sshd.user_key()});
    ASSERT_EQ(changed.status.code, 0) << changed.errors;
    Terminal terminal(line({"connect", "server-1"}), environment);
    ASSERT_TRUE(terminal.prints("Enter passphrase for key")) << terminal.output();
    ASSERT_TRUE(wait_until([&] { return (terminal.modes().c_lflag & ECHO) == 0; }));
    terminal.type(passphrase + "\r");
    EXPECT_EQ(terminal.wait(), 0) << terminal.output();
    EXPECT_THAT(terminal.output(), Not(HasSubstr(passphrase)));
    EXPECT_THAT(terminal.output(), HasSubstr(": up"));
}

// The agent's path of the laptop means nothing on the workstation.
TEST_F(Host, OurAgentsPathStaysHere) {
    environment.push_back("SSH_AUTH_SOCK=" + (world.dir / "laptop/agent"));
    EXPECT_EQ(cmctl({"connect", "server-1"}).status.code, 0);
    EXPECT_EQ(cmctl({"start", "--ctx", "server-1", "true"}).status.code, 0);
    EXPECT_THAT(world.daemon.log(), Not(HasSubstr("laptop/agent")));
    for (const pid_t ssh : world.daemon.ssh_processes()) {
        EXPECT_THAT(read_file("/proc/" + std::to_string(ssh) + "/environ"), Not(HasSubstr("laptop/agent")));
    }
}

// The way to the workstation asks first, and the daemon there is not asked meanwhile.
class HostWithPassphrase : public Host {
protected:
    HostWithPassphrase() {
        const auto changed = run({"ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", workstation.user_key()});
        EXPECT_EQ(changed.status.code, 0) << changed.errors;
    }

    std::string passphrase = "correct horse " + std::to_string(::getpid());
};

TEST_F(HostWithPassphrase, SshAsksOnOurTerminal) {
    Terminal terminal(line({"contexts"}), environment);
    ASSERT_TRUE(terminal.prints("Enter passphrase for key")) << terminal.output();
    ASSERT_TRUE(wait_until([&] { return (terminal.modes().c_lflag & ECHO) == 0; }));
    terminal.type(passphrase + "\r");
    EXPECT_EQ(terminal.wait(), 0) << terminal.output();
    EXPECT_THAT(terminal.output(), HasSubstr("server-2"));
    EXPECT_THAT(terminal.output(), Not(HasSubstr(passphrase)));
}

TEST_F(HostWithPassphrase, CtrlCAtItsQuestionGivesUp) {
    Terminal terminal(line({"connect", "server-1"}), environment);
    ASSERT_TRUE(terminal.prints("Enter passphrase for key")) << terminal.output();
    ASSERT_TRUE(wait_until([&] { return (terminal.modes().c_lflag & ECHO) == 0; }));
    terminal.type("\x03");
    EXPECT_EQ(terminal.wait(), 130) << terminal.output();
    EXPECT_NE(terminal.modes().c_lflag & ECHO, 0U);
    EXPECT_EQ(workstation.logins(), 0);
}

// With a master of the person's own for the workstation, one login is enough for all calls.
TEST_F(Host, AControlMasterOfTheirsServesAllCalls) {
    workstation.add_ssh_config("Host workstation\n    ControlMaster auto\n    ControlPersist 60\n    ControlPath " +
                               (world.dir / "laptop/cm") + "\n");
    for (int i = 0; i < 3; ++i) {
        const auto done = cmctl({"list"});
        EXPECT_EQ(done.status.code, 0) << done.errors;
        EXPECT_EQ(done.errors, "");
    }
    EXPECT_EQ(cmctl({"exec", "--ctx", "server-1", "echo", "hi"}).output, "hi\n");
    EXPECT_EQ(workstation.logins(), 1);
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 1; })) << "a proxy there stays";
}

TEST_F(Host, AnAgentsToolsAreThoseOfTheDaemonThere) {
    const auto answered = cmctl(
        {"mcp"},
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}\n"
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/call\",\"params\":{\"name\":\"list\"}}\n");
    EXPECT_EQ(answered.status.code, 0) << answered.errors;
    EXPECT_THAT(answered.output, HasSubstr("\"protocolVersion\":\"2025-06-18\""));
    EXPECT_THAT(answered.output, HasSubstr("\"structuredContent\":{\"sessions\":[]}"));
    expect_no_daemon_here();
}

// The workstation's own environment may name another machine, or itself.
class HostThatNamesItself : public Host {
protected:
    HostThatNamesItself() : Host(directory_of(CMSSH_CMCTL) + ':' + kPath + " CMSSH_HOST=ssh://127.0.0.1:1") {}
};

TEST_F(HostThatNamesItself, IsNotLedOn) {
    EXPECT_EQ(cmctl({"list"}).status.code, 0);
    EXPECT_EQ(cmctl({"daemon", "status"}).status.code, 0);
    EXPECT_EQ(cmctl({"exec", "--ctx", "server-1", "true"}).status.code, 0);
}

class Proxy : public testing::Test {
protected:
    [[nodiscard]] Finished proxy(const std::string& input) const { return world.daemon.cmctl({"proxy"}, input); }

    World world;
};

TEST_F(Proxy, CarriesBothFramingsAndAnswersBehindTheEndOfInput) {
    const auto lines = proxy(
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,"
        "\"method\":\"exec\",\"params\":{\"ctx\":\"server-1\",\"command\":[\"echo\",\"hi\"]}}\n");
    EXPECT_EQ(lines.status.code, 0) << lines.errors;
    EXPECT_THAT(lines.output, HasSubstr("\"id\":1"));
    EXPECT_THAT(lines.output, HasSubstr("\"stdout\":\"hi\\n\""));
    const std::string body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    const auto headers = proxy("Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    EXPECT_THAT(headers.output, StartsWith("Content-Length: "));
}

// Far more than pipes and sockets hold, in both directions at once.
TEST_F(Proxy, CarriesMuchUnchanged) {
    std::string text;
    for (std::int64_t i = 0; text.size() < 3'000'000; ++i) {
        text += std::to_string(i * 7919) + " ";
    }
    std::string input;
    constexpr int kCalls = 4;
    for (int i = 1; i <= kCalls; ++i) {
        const Json request = {
            {"jsonrpc", "2.0"},
            {"id", i},
            {"method", "exec"},
            {"params", {{"ctx", "server-1"}, {"command", {"head", "-c", "1000000"}}, {"stdin", text}}}};
        input += request.dump() + '\n';
    }
    const auto done = proxy(input);
    EXPECT_EQ(done.status.code, 0) << done.errors;
    std::istringstream lines(done.output);
    int answers = 0;
    for (std::string line; std::getline(lines, line);) {
        const Json answer = Json::parse(line);
        if (answer.contains("method")) {
            continue;  // progress
        }
        ASSERT_TRUE(answer.contains("result")) << line;
        EXPECT_TRUE(answer.at("result").at("stdout") == text.substr(0, 1'000'000)) << line.substr(0, 300);
        ++answers;
    }
    EXPECT_EQ(answers, kCalls);
}

TEST_F(Proxy, EndsWithWhoReadsIt) {
    std::array<int, 2> ends{-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    UniqueFd ours(ends[0]);
    const UniqueFd its(ends[1]);
    SpawnOptions options;
    options.environment = world.daemon.environment();
    options.descriptors = {its.get()};
    const std::string descriptor = std::to_string(its.get());
    Process proxy({"/bin/sh", "-c", "exec \"$1\" proxy <&" + descriptor + " >&" + descriptor + ' ' + descriptor + ">&-",
                   "sh", CMSSH_CMCTL},
                  options);
    const std::string id = world.start_id("server-1", kLong);
    const std::string call =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"wait\",\"params\":{\"session\":\"" + id + "\"}}\n";
    ASSERT_EQ(::write(ours.get(), call.data(), call.size()), static_cast<ssize_t>(call.size()));
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 2; }));
    ours.reset();
    EXPECT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 1; }));
}

TEST_F(Proxy, WithoutADaemonIsExitCode4) {
    world.daemon.stop();
    const auto refused = world.daemon.cmctl({"proxy", "--no-spawn"}, "{}\n");
    EXPECT_EQ(refused.status.code, 4);
    EXPECT_EQ(refused.output, "");
    EXPECT_THAT(refused.errors, HasSubstr("no daemon listens on "));
    const auto started = world.daemon.cmctl({"proxy"}, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n");
    EXPECT_EQ(started.status.code, 0) << started.errors;
    EXPECT_THAT(started.output, HasSubstr("\"result\":{}"));
    EXPECT_EQ(world.daemon.cmctl({"daemon", "stop"}).status.code, 0);
}

}  // namespace
}  // namespace cmssh::test
