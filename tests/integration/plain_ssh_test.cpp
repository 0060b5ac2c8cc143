// Plain ssh, and what runs it, over the pool's masters through what `cmctl ssh-config` prints; and hops that servers
// share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

SshdOptions with_sftp(int count) {
    SshdOptions options = servers(count);
    options.config = "Subsystem sftp internal-sftp\nAcceptEnv LC_*\n";
    return options;
}

class PlainSsh : public ::testing::Test {
protected:
    explicit PlainSsh(const std::string& config = {}, SshdOptions servers = with_sftp(2))
        : world(std::move(servers), config), key(world.key("127.0.0.1")) {
        const Finished printed = world.daemon.cmctl({"ssh-config"});
        EXPECT_EQ(printed.status.code, 0) << printed.errors;
        write_file(world.dir / "cmssh.conf", printed.output);
        write_config("");
    }

    // first: what the person has before our Include.
    void write_config(const std::string& first) const {
        write_file(config_file(),
                   first + "Include " + (world.dir / "cmssh.conf") + "\nInclude " + world.sshd.ssh_config() + '\n');
    }
    [[nodiscard]] std::string config_file() const { return world.dir / "plain.conf"; }
    [[nodiscard]] SpawnOptions options(const std::string& input = {}) const {
        SpawnOptions spawn;
        spawn.environment = world.daemon.environment();
        spawn.input = input;
        return spawn;
    }
    [[nodiscard]] Words ssh_words(const Words& words) const {
        Words argv = {"ssh", "-F", config_file()};
        argv.insert(argv.end(), words.begin(), words.end());
        return argv;
    }
    [[nodiscard]] Finished ssh(const Words& words, const std::string& input = {}) const {
        return run(ssh_words(words), options(input));
    }
    [[nodiscard]] bool leases_become(int count) {
        return wait_until([&] {
            const Json all = connections();
            return all.size() == 1 && all.at(0).at("leases") == count;
        });
    }
    [[nodiscard]] Json connections() { return world.stats().at("connections"); }
    // Names of sockets that there are for plain ssh, without the daemon's notes of who uses them.
    [[nodiscard]] Words links() const {
        Words found;
        std::error_code not_made_yet;
        const std::string directory = world.daemon.runtime_dir() + "/ssh";
        for (const auto& entry : std::filesystem::directory_iterator(directory, not_made_yet)) {
            if (const std::string name = entry.path().filename(); !name.starts_with('.')) {
                found.push_back(name);
            }
        }
        return found;
    }
    [[nodiscard]] bool nothing_is_held() {
        return wait_until([this] {
            const std::string directory = world.daemon.runtime_dir() + "/ssh";
            if (!exists(directory)) {
                return true;
            }
            for (const Json& connection : connections()) {
                if (connection.at("leases") != 0) {
                    return false;
                }
            }
            return std::filesystem::is_empty(directory);
        });
    }

    World world;
    const std::string key;
};

TEST_F(PlainSsh, GoesOverThePool) {
    const Finished first = ssh({"server-1", "cat; echo err >&2; exit 42"}, "through");
    EXPECT_EQ(first.status.code, 42);
    EXPECT_EQ(first.output, "through");
    EXPECT_EQ(first.errors, "err\n");
    EXPECT_EQ(world.sshd.logins(), 1) << "the pool's";
    EXPECT_EQ(world.connection(key).at("handshakes"), 1);
    for (const int code : {0, 1, 255}) {
        EXPECT_EQ(ssh({"server-1", "exit " + std::to_string(code)}).status.code, code);
    }
    EXPECT_EQ(ssh({"server-1", "kill -TERM $$"}).status.code, 255) << "as ssh -S has it";
    EXPECT_EQ(ssh({own_user() + "@server-1", "true"}).status.code, 0);
    EXPECT_EQ(ssh({"127.0.0.1", "true"}).status.code, 0);
    EXPECT_EQ(ssh({"ssh://127.0.0.1:" + std::to_string(world.sshd.port()), "true"}).status.code, 0);
    EXPECT_EQ(ssh({"-l", own_user(), "-p", std::to_string(world.sshd.port()), "server-1", "true"}).status.code, 0);
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_TRUE(nothing_is_held());
}

// ssh takes options on both sides of the destination.
TEST_F(PlainSsh, AnOptionBehindTheDestinationCounts) {
    world.rpc().call("connect", {{"ctx", "server-1"}});
    world.rpc().call("connect", {{"ctx", "server-2"}});
    const auto server = [this](const Words& words) {
        Words all = words;
        all.emplace_back("echo $SSH_CONNECTION");
        const std::string output = ssh(all).output;
        return output.substr(0, output.rfind(' ')).substr(output.find(' ', output.find(' ') + 1) + 1);
    };
    const int logins = world.sshd.logins();
    EXPECT_EQ(server({"server-1"}), "127.0.0.1");
    EXPECT_EQ(world.sshd.logins(), logins) << "the pool's";
    EXPECT_EQ(server({"server-1", "-o", "HostName=127.0.0.2"}), "127.0.0.2");
    EXPECT_EQ(server({"-o", "HostName=127.0.0.2", "server-1"}), "127.0.0.2");
    const int beside = world.sshd.logins();
    for (const Words& option : std::vector<Words>{{"-A"}, {"-C"}, {"-o", "ForwardAgent=yes"}}) {
        Words words = {"server-1"};
        words.insert(words.end(), option.begin(), option.end());
        EXPECT_EQ(server(words), "127.0.0.1");
    }
    EXPECT_EQ(world.sshd.logins(), beside + 3) << "each by itself, as with the option in front";
}

TEST_F(PlainSsh, HoldsALeaseWhileItRuns) {
    const std::string fifo = world.dir / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    Process one(ssh_words({"server-1", "cat " + fifo}), options());
    ASSERT_TRUE(wait_until([this] { return links().size() == 1; }));
    EXPECT_EQ(world.connection(key).at("leases"), 1);
    EXPECT_EQ(world.connection(key).at("channels").at("used"), 1);
    EXPECT_EQ(links(), Words{own_user() + "@server-1:" + std::to_string(world.sshd.port())});
    Process two(ssh_words({"server-1", "cat " + fifo}), options());
    ASSERT_TRUE(leases_become(2));
    EXPECT_EQ(links().size(), 1U);
    one.send_signal(SIGKILL);
    ASSERT_TRUE(leases_become(1));
    EXPECT_EQ(links().size(), 1U);
    two.send_signal(SIGTERM);
    EXPECT_TRUE(nothing_is_held());
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(PlainSsh, ManyAtOnceMakeOneLogin) {
    std::vector<std::unique_ptr<Process>> all;
    for (int i = 0; i < 8; ++i) {
        all.push_back(std::make_unique<Process>(ssh_words({"server-1", "echo " + std::to_string(i)}), options()));
    }
    for (int i = 0; i < 8; ++i) {
        Process& one = *all[static_cast<std::size_t>(i)];
        EXPECT_EQ(one.wait(), (ExitStatus{.code = 0, .signal = 0}));
        EXPECT_EQ(one.output(), std::to_string(i) + '\n');
        EXPECT_EQ(one.errors(), "");
    }
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(PlainSsh, ATerminalIsATerminal) {
    const Finished ran = ssh({"-tt", "server-1", "tty && stty size"});
    EXPECT_EQ(ran.status.code, 0) << ran.output;
    EXPECT_TRUE(ran.output.starts_with("/dev/pts/")) << ran.output;
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(PlainSsh, CopiesFilesOverThePool) {
    const std::string bytes(300'000, 'x');
    write_file(world.dir / "here", bytes);
    const std::string there = "server-1:" + world.sshd.home(1);
    ASSERT_EQ(run({"scp", "-q", "-F", config_file(), world.dir / "here", there + "/scp"}, options()).status.code, 0);
    EXPECT_EQ(read_file(world.sshd.home(1) + "/scp"), bytes);
    ASSERT_EQ(run({"scp", "-O", "-q", "-F", config_file(), there + "/scp", world.dir / "back"}, options()).status.code,
              0);
    EXPECT_EQ(read_file(world.dir / "back"), bytes);
    SpawnOptions batch = options("put " + (world.dir / "here") + ' ' + world.sshd.home(1) + "/sftp\n");
    ASSERT_EQ(run({"sftp", "-q", "-F", config_file(), "-b", "-", "server-1"}, batch).status.code, 0);
    EXPECT_EQ(read_file(world.sshd.home(1) + "/sftp"), bytes);
    ASSERT_EQ(
        run({"rsync", "-e", "ssh -F " + config_file(), world.dir / "here", there + "/rsync"}, options()).status.code,
        0);
    EXPECT_EQ(read_file(world.sshd.home(1) + "/rsync"), bytes);
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_TRUE(nothing_is_held());
}

TEST_F(PlainSsh, GitOverThePool) {
    const std::string there = world.sshd.home(1) + "/repo";
    SpawnOptions git = options();
    git.environment.push_back("GIT_SSH_COMMAND=ssh -F " + config_file());
    git.environment.push_back("GIT_TRACE_PACKET=1");
    for (const char* who : {"AUTHOR", "COMMITTER"}) {
        git.environment.push_back(std::string("GIT_") + who + "_NAME=n");
        git.environment.push_back(std::string("GIT_") + who + "_EMAIL=e");
    }
    ASSERT_EQ(run({"git", "init", "-q", "-b", "main", there}, git).status.code, 0);
    ASSERT_EQ(run({"git", "-C", there, "commit", "-q", "--allow-empty", "-m", "first"}, git).status.code, 0);
    const Finished cloned = run({"git", "clone", "-q", "ssh://server-1" + there, world.dir / "clone"}, git);
    ASSERT_EQ(cloned.status.code, 0) << cloned.errors;
    ASSERT_EQ(run({"git", "-C", world.dir / "clone", "fetch", "-q"}, git).status.code, 0);
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_EQ(world.connection(key).at("handshakes"), 1);
}

// git asks for its protocol by a variable, which its ssh is told to send.
TEST_F(PlainSsh, SendsTheVariablesThatItIsToldToSend) {
    world.daemon.stop();
    world.start_daemon();
    SpawnOptions spawn = options();
    spawn.environment.push_back("LC_TOLD=told");
    spawn.environment.push_back("LC_NOT_TOLD=secret");
    const Finished ran = run(ssh_words({"-o", "SendEnv=LC_TOLD", "server-1", "echo $LC_TOLD$LC_NOT_TOLD"}), spawn);
    EXPECT_EQ(ran.output, "told\n");
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(PlainSsh, IsItselfWhereNoDaemonRuns) {
    world.daemon.stop();
    const Finished ran = ssh({"server-1", "cat; exit 42"}, "through");
    EXPECT_EQ(ran.status.code, 42);
    EXPECT_EQ(ran.output, "through");
    EXPECT_EQ(ran.errors, "");
    EXPECT_EQ(world.sshd.logins(), 1);
    EXPECT_FALSE(exists(world.daemon.socket_path()));
}

TEST_F(PlainSsh, IsItselfWhereTheDaemonHangs) {
    ASSERT_EQ(::kill(world.daemon.pid(), SIGSTOP), 0);
    // It would wait 10 s for a login.
    const Finished ran = run(ssh_words({"server-1", "exit 42"}), options(), in(9s));
    ASSERT_EQ(::kill(world.daemon.pid(), SIGCONT), 0);
    EXPECT_EQ(ran.status.code, 42);
    EXPECT_EQ(world.sshd.logins(), 1);
}

// ssh runs what a configuration gives it with the user's shell, which may stay in between.
TEST_F(PlainSsh, FromAnyShell) {
    for (const char* shell : {"/bin/dash", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/usr/bin/tcsh", "/bin/csh"}) {
        SpawnOptions spawn = options();
        spawn.environment.push_back(std::string("SHELL=") + shell);
        const Finished ran = run(ssh_words({"server-1", "exit 42"}), spawn);
        EXPECT_EQ(ran.status.code, 42) << shell << ": " << ran.errors;
        EXPECT_EQ(ran.errors, "") << shell;
        EXPECT_EQ(world.sshd.logins(), 1) << shell;
    }
}

TEST_F(PlainSsh, AsksNothingOfTheDaemonWhereItOpensNoSession) {
    EXPECT_EQ(ssh({"-G", "server-1"}).status.code, 0);
    EXPECT_EQ(ssh({"server-1", "-G"}).status.code, 0);
    EXPECT_NE(ssh({"-O", "check", "server-1"}).status.code, 0);
    EXPECT_EQ(ssh({"-V"}).status.code, 0);
    SpawnOptions without = options();
    without.environment.push_back("CMSSH_NO_POOL=1");
    EXPECT_EQ(run(ssh_words({"server-1", "true"}), without).status.code, 0);
    EXPECT_EQ(world.sshd.logins(), 1) << "its own";
    EXPECT_TRUE(connections().empty());
    EXPECT_EQ(world.daemon.cmctl({"ssh-lease", world.dir / "x"}).status.code, 1) << "asked by no ssh";
}

// Each row logs in by itself, next to the pool's connection to that server.
TEST_F(PlainSsh, IsNotSharedWhereItWouldDoSomethingElse) {
    world.rpc().call("connect", {{"ctx", "server-1"}});
    const std::string other_key = world.dir / "other_key";
    std::filesystem::copy(world.sshd.user_key(), other_key);
    std::filesystem::permissions(other_key, std::filesystem::perms::owner_read);
    int logins = world.sshd.logins();
    for (const Words& words : std::vector<Words>{
             {"-i", other_key, "server-1", "true"},
             {"-o", "IdentitiesOnly=no", "server-1", "true"},
             {"-o", "HostKeyAlias=127.0.0.2", "server-1", "true"},
             {"-o", "UserKnownHostsFile=" + world.sshd.known_hosts(), "-o", "StrictHostKeyChecking=no", "server-1",
              "true"},
             {"-c", "aes128-ctr", "server-1", "true"},
             {"-C", "server-1", "true"},
             {"-A", "server-1", "true"},
             {"-o", "PermitLocalCommand=yes", "-o", "LocalCommand=true", "server-1", "true"},
             {"-o", "ControlPath=none", "server-1", "true"},
             {"-S", "none", "server-1", "true"},
             {"-R", "0:127.0.0.1:1", "server-1", "true"},
         }) {
        const Finished ran = ssh(words);
        EXPECT_EQ(ran.status.code, 0) << ran.errors;
        EXPECT_EQ(world.sshd.logins(), ++logins) << ::testing::PrintToString(words);
    }
    EXPECT_EQ(connections().size(), 1U);
    EXPECT_EQ(ssh({"server-1", "true"}).status.code, 0);
    EXPECT_EQ(world.sshd.logins(), logins);
    EXPECT_TRUE(nothing_is_held());
}

TEST_F(PlainSsh, AnotherWayIsAnotherConnection) {
    EXPECT_EQ(ssh({"server-1", "true"}).status.code, 0);
    const Finished jumped = ssh({"-J", "server-2", "server-1", "true"});
    EXPECT_EQ(jumped.status.code, 0) << jumped.errors;
    EXPECT_EQ(world.sshd.logins(), 3) << "and its hop is shared";
    EXPECT_EQ(world.connection(world.key("127.0.0.2")).at("handshakes"), 1);
    EXPECT_TRUE(nothing_is_held());
}

TEST_F(PlainSsh, AControlPathOfTheirOwnIsKept) {
    const std::string own = world.dir / "own";
    write_config("Host server-1\n    ControlPath " + own +
                 "\n    ControlMaster auto\n    ControlPersist yes\nMatch all\n");
    EXPECT_EQ(ssh({"server-1", "true"}).status.code, 0);
    EXPECT_TRUE(exists(own));
    EXPECT_EQ(ssh({"-O", "exit", "server-1"}).status.code, 0);
    EXPECT_TRUE(connections().empty());
    // Also where it stands behind what we print, of which ssh would take the first.
    write_file(config_file(), "Include " + (world.dir / "cmssh.conf") + "\nHost server-1\n    ControlPath none\n" +
                                  "Host *\nInclude " + world.sshd.ssh_config() + '\n');
    EXPECT_EQ(ssh({"server-1", "true"}).status.code, 0);
    EXPECT_TRUE(connections().empty());
    EXPECT_EQ(ssh({"server-2", "true"}).status.code, 0);
    EXPECT_EQ(connections().size(), 1U);
}

// Two names of one account, with a key each: ssh's own %C is the same for both.
TEST_F(PlainSsh, EachNameHasItsOwnLogin) {
    for (const char* name : {"work", "private"}) {
        const std::string file = world.dir / (std::string(name) + "_key");
        std::filesystem::copy(world.sshd.user_key(), file);
        std::filesystem::permissions(file, std::filesystem::perms::owner_read);
        world.sshd.add_ssh_config("Host " + std::string(name) + "\n    HostName 127.0.0.1\n    IdentityFile " + file +
                                  '\n');
    }
    const std::string fifo = world.dir / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    Process work(ssh_words({"work", "cat " + fifo}), options());
    Process other(ssh_words({"private", "cat " + fifo}), options());
    ASSERT_TRUE(wait_until([this] { return links().size() == 2; }));
    EXPECT_EQ(connections().size(), 2U);
    for (const Json& connection : connections()) {
        EXPECT_EQ(connection.at("leases"), 1);
    }
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST_F(PlainSsh, ALoginThatFailsIsLeftToSshAndNotTriedAgain) {
    world.sshd.add_ssh_config("Host locked\n    HostName 127.0.0.1\n    User no-such-user\n");
    const auto denied = [&] {
        const std::string log = world.sshd.log();
        int found = 0;
        for (auto at = log.find("Invalid user"); at != std::string::npos; at = log.find("Invalid user", at + 1)) {
            ++found;
        }
        return found;
    };
    const Finished first = ssh({"-o", "BatchMode=yes", "locked", "true"});
    EXPECT_EQ(first.status.code, 255);
    EXPECT_NE(first.errors.find("Permission denied"), std::string::npos) << first.errors;
    const int tried = denied();
    EXPECT_EQ(ssh({"-o", "BatchMode=yes", "locked", "true"}).status.code, 255);
    EXPECT_EQ((denied() - tried) * 2, tried) << "once, by ssh itself";
}

// The next daemon knows who is on a master, and does not end it under them.
TEST_F(PlainSsh, ALeaseOutlivesTheDaemon) {
    const std::string fifo = world.dir / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    Process one(ssh_words({"server-1", "echo on; cat " + fifo}), options());
    // One whose answer goes with the daemon logs in by itself.
    ASSERT_TRUE(wait_until([&one] { return one.output() == "on\n"; }));
    ASSERT_EQ(links().size(), 1U);
    world.daemon.crash();
    world.start_daemon();
    ASSERT_TRUE(world.connection_becomes(key, "up"));
    EXPECT_EQ(world.connection(key).at("leases"), 1);
    EXPECT_TRUE(links().empty());
    world.daemon.stop();
    world.start_daemon();
    ASSERT_TRUE(world.connection_becomes(key, "up"));
    EXPECT_EQ(world.connection(key).at("leases"), 1);
    one.send_signal(SIGTERM);
    EXPECT_TRUE(nothing_is_held());
}

TEST_F(PlainSsh, ALeaseOfAProcessNeedsAProcessOfOurs) {
    const Json params = {{"ctx", "server-1"}, {"pid", 1 << 22}};
    EXPECT_EQ(world.rpc().refusal("acquire", params).at("code"), -32602);
    EXPECT_EQ(world.rpc().refusal("acquire", {{"ctx", "server-1"}, {"link", "x"}}).at("code"), -32602);
    const Json bad = {{"ctx", "server-1"}, {"link", "../x"}, {"pid", ::getpid()}};
    EXPECT_EQ(world.rpc().refusal("acquire", bad).at("code"), -32602);
    const Json other = {{"ctx", "server-1"}, {"settings", "x"}, {"pid", ::getpid()}};
    EXPECT_EQ(world.rpc().refusal("acquire", other).at("code"), -32602);
    EXPECT_EQ(world.connection(key).at("leases"), 0);
}

class PlainSshAtTheLimit : public PlainSsh {
protected:
    PlainSshAtTheLimit() : PlainSsh("[pool]\nmax_channels = 2\n") {}
};

TEST_F(PlainSshAtTheLimit, WaitsItsTurn) {
    const std::string fifo = world.dir / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    Process one(ssh_words({"server-1", "cat " + fifo}), options());
    ASSERT_TRUE(wait_until([this] { return links().size() == 1; }));
    Process two(ssh_words({"server-1", "echo two"}), options());
    ASSERT_TRUE(wait_until([this] { return world.connection(key).at("channels").at("queued") == 1; }));
    one.send_signal(SIGTERM);
    EXPECT_EQ(two.wait(), (ExitStatus{.code = 0, .signal = 0}));
    EXPECT_EQ(two.output(), "two\n");
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(PlainSshAtTheLimit, SaysThatItLogsInByItself) {
    const std::string fifo = world.dir / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    Process one(ssh_words({"server-1", "cat " + fifo}), options());
    ASSERT_TRUE(wait_until([this] { return links().size() == 1; }));
    Process two(ssh_words({"server-1", "echo two"}), options());
    Process quiet(ssh_words({"-q", "server-1", "echo quiet"}), options());
    EXPECT_EQ(two.wait(), (ExitStatus{.code = 0, .signal = 0}));
    EXPECT_EQ(quiet.wait(), (ExitStatus{.code = 0, .signal = 0}));
    EXPECT_EQ(two.output(), "two\n");
    EXPECT_THAT(two.errors(),
                ::testing::HasSubstr("the shared connection had no room for it within 10 s; this ssh logs in"));
    EXPECT_EQ(quiet.errors(), "");
    EXPECT_EQ(world.sshd.logins(), 3);
    one.send_signal(SIGTERM);
}

SshdOptions with_channels(int count) {
    SshdOptions options = servers(1);
    options.config = "MaxSessions " + std::to_string(count);
    return options;
}

class PlainSshOfOne : public PlainSsh {
protected:
    PlainSshOfOne() : PlainSsh("", with_channels(1)) {}
};

TEST_F(PlainSshOfOne, SaysThatItLogsInByItself) {
    world.start_id("server-1", {"sleep", "1000"});
    EXPECT_EQ(world.daemon.cmctl({"exec", "--ctx", "server-1", "--", "true"}).status.code, 7);
    const Finished plain = ssh({"server-1", "echo plain"});
    EXPECT_EQ(plain.output, "plain\n");
    EXPECT_THAT(plain.errors, ::testing::HasSubstr("the server allows one channel on a connection"));
    EXPECT_THAT(plain.errors, ::testing::HasSubstr("this ssh logs in by itself"));
    EXPECT_EQ(world.sshd.logins(), 2);
}

// A login that needs a person.
class PlainSshOfAPerson : public PlainSsh {
protected:
    PlainSshOfAPerson() {
        const auto changed = run({"ssh-keygen", "-q", "-p", "-P", "", "-N", kPhrase, "-f", world.sshd.user_key()});
        EXPECT_EQ(changed.status.code, 0) << changed.errors;
    }
    static constexpr const char* kPhrase = "correct horse";
};

TEST_F(PlainSshOfAPerson, AsksOnceForAllThatFollow) {
    Terminal batch(ssh_words({"-oBatchMode=yes", "server-1", "true"}), world.daemon.environment());
    EXPECT_EQ(batch.wait(), 255);
    EXPECT_THAT(batch.output(), ::testing::Not(::testing::HasSubstr("passphrase")));
    Terminal first(ssh_words({"server-1", "echo passed"}), world.daemon.environment());
    ASSERT_TRUE(first.prints("Enter passphrase for key")) << first.output();
    first.type(std::string(kPhrase) + "\n");
    EXPECT_TRUE(first.prints("passed")) << first.output();
    EXPECT_EQ(first.wait(), 0);
    const Finished next = ssh({"server-1", "echo next"});
    EXPECT_EQ(next.output, "next\n");
    EXPECT_EQ(next.errors, "");
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(PlainSshOfAPerson, DoesNotCallALoginThatWaitsForAnswersALackOfRoom) {
    world.rpc().send("connect", {{"ctx", "server-1"}, {"interactive", true}});
    ASSERT_TRUE(wait_until([&] { return !connections().empty() && connections().at(0).at("state") == "connecting"; }));
    const Finished meanwhile = ssh({"-oBatchMode=yes", "server-1", "true"});
    EXPECT_EQ(meanwhile.status.code, 255);
    EXPECT_THAT(meanwhile.errors, ::testing::HasSubstr("the shared login was not done within 10 s"));
}

class PlainSshOfTwo : public PlainSsh {
protected:
    PlainSshOfTwo() : PlainSsh("", with_channels(2)) {}
};

// The one that is refused says so and logs in by itself; the next one waits.
TEST_F(PlainSshOfTwo, TeachesTheLimitByARefusal) {
    world.start_id("server-1", {"sleep", "1000"});
    const std::string fifo = world.dir / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    Process one(ssh_words({"-tt", "server-1", "echo on; cat " + fifo}), options());
    ASSERT_TRUE(wait_until([&] { return one.output().starts_with("on"); }));
    Process two(ssh_words({"server-1", "echo on; sleep 1000"}), options());
    ASSERT_TRUE(wait_until([&] { return two.output() == "on\n"; }));
    EXPECT_THAT(two.errors(), ::testing::HasSubstr("Session open refused by peer"));
    EXPECT_EQ(world.sshd.logins(), 2);
    ASSERT_TRUE(wait_until([&] { return world.connection(key).at("channels").at("max") == 2; }));
    EXPECT_EQ(world.connection(key).at("leases"), 1);
    EXPECT_EQ(world.connection(key).at("reused_count"), 1) << "the other one has logged in";
    Process three(ssh_words({"server-1", "echo three"}), options());
    ASSERT_TRUE(wait_until([this] { return world.connection(key).at("channels").at("queued") == 1; }));
    one.send_signal(SIGTERM);
    EXPECT_EQ(three.wait(), (ExitStatus{.code = 0, .signal = 0}));
    EXPECT_EQ(three.output(), "three\n");
    EXPECT_EQ(world.sshd.logins(), 2);
    two.send_signal(SIGTERM);
}

// Nobody has wanted a session there yet.
TEST_F(PlainSshOfTwo, LeavesTheNextChannelToTheDaemon) {
    const std::string gate = world.dir / "gate";
    ASSERT_EQ(::mkfifo(gate.c_str(), 0600), 0);
    Process one(ssh_words({"server-1", "echo one; cat " + gate}), options());
    Process two(ssh_words({"server-1", "echo two; sleep 1000"}), options());
    ASSERT_TRUE(wait_until([&] { return one.output() + two.output() == "one\ntwo\n"; }));
    RpcClient other(world.daemon.socket_path());
    const Json params = {{"ctx", "server-1"}, {"command", {"sleep", "1000"}}};
    const int first = world.rpc().send("start", params);
    const int second = other.send("start", params);
    ASSERT_TRUE(wait_until([&] { return !world.connection(key).at("last_error").is_null(); }));
    write_file(gate, "");
    for (const Json& reply : {world.rpc().reply(first), other.reply(second)}) {
        EXPECT_TRUE(reply.contains("result")) << reply;
    }
    EXPECT_EQ(world.sshd.logins(), 1);
}

// 127.0.0.1 is the bastion of all the others.
class SharedHop : public ::testing::Test {
protected:
    static constexpr int kServers = 11;
    SharedHop() : world(servers(kServers)), bastion(world.key("127.0.0.1")) {
        for (int server = 2; server <= kServers; ++server) {
            world.sshd.add_ssh_config("Host far-" + std::to_string(server) + "\n    HostName 127.0.0." +
                                      std::to_string(server) + "\n    ProxyJump server-1\n");
        }
    }
    World world;
    const std::string bastion;
};

TEST_F(SharedHop, TenServersMakeOneConnectionToIt) {
    std::vector<std::unique_ptr<RpcClient>> clients;
    std::vector<int> calls;
    for (int server = 2; server <= kServers; ++server) {
        clients.push_back(std::make_unique<RpcClient>(world.daemon.socket_path()));
        calls.push_back(clients.back()->send("connect", {{"ctx", "far-" + std::to_string(server)}}));
    }
    for (std::size_t i = 0; i < clients.size(); ++i) {
        const Json reply = clients[i]->reply(calls[i]);
        ASSERT_TRUE(reply.contains("result")) << reply;
        EXPECT_EQ(reply.at("result").at("connection").at("server").at("via"), "server-1");
    }
    EXPECT_EQ(world.sshd.logins(), kServers) << "ten, and one at the bastion";
    EXPECT_EQ(world.connection(bastion).at("leases"), kServers - 1);
    EXPECT_EQ(world.connection(bastion).at("channels").at("used"), 0);
    EXPECT_EQ(world.tmux(1, {"list-sessions"}).status.code, 1) << "a hop needs no tmux";
    for (int server = 2; server <= kServers; ++server) {
        world.rpc().call("disconnect", {{"ctx", "far-" + std::to_string(server)}});
    }
    EXPECT_EQ(world.connection(bastion).at("leases"), 0);
}

TEST_F(SharedHop, SeveralInARow) {
    world.sshd.add_ssh_config("Host deep\n    HostName 127.0.0.4\n    ProxyJump server-2,server-3\n");
    const Json connection = world.rpc().call("connect", {{"ctx", "deep"}}).at("connection");
    EXPECT_EQ(connection.at("server").at("key"), world.key("127.0.0.4") + " via server-2,server-3");
    EXPECT_EQ(world.sshd.logins(), 3);
    EXPECT_EQ(world.connection(world.key("127.0.0.2")).at("leases"), 1);
    EXPECT_EQ(world.connection(world.key("127.0.0.3") + " via server-2").at("leases"), 1);
}

TEST_F(SharedHop, RecoversWithWhatIsBehindIt) {
    const std::string far = world.key("127.0.0.2") + " via server-1";
    const std::string session = world.start_id("far-2", {"sleep", "1000"});
    const pid_t hop = world.connection(bastion).at("master_pid");
    const pid_t master = world.connection(far).at("master_pid");
    ASSERT_EQ(::kill(hop, SIGKILL), 0);
    ASSERT_TRUE(wait_until([&] {
        const Json connection = world.connection(far);
        return connection.at("state") == "up" && connection.at("master_pid") != master;
    }));
    EXPECT_TRUE(world.becomes(session, "running"));
    EXPECT_NE(world.connection(bastion).at("master_pid"), hop);
    EXPECT_EQ(world.connection(bastion).at("leases"), 1);
}

TEST_F(SharedHop, IsHeldByTheNextDaemonToo) {
    world.rpc().call("connect", {{"ctx", "far-2"}});
    world.daemon.crash();
    world.start_daemon();
    EXPECT_TRUE(wait_until([this] {
        const Json all = world.stats().at("connections");
        return std::any_of(all.begin(), all.end(), [this](const Json& it) {
            return it.at("server").at("key") == bastion && it.at("state") == "up" && it.at("leases") == 1;
        });
    }));
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST_F(SharedHop, ThatFailsIsNamed) {
    world.sshd.add_ssh_config(
        "Host closed\n    HostName 127.0.0.1\n    Port 1\n"
        "Host behind\n    HostName 127.0.0.2\n    ProxyJump closed\n");
    const Json error = world.rpc().refusal("connect", {{"ctx", "behind"}});
    EXPECT_EQ(error.at("code"), -32003) << error;
    EXPECT_EQ(error.at("data").at("server"), own_user() + "@127.0.0.1:1");
    EXPECT_NE(error.at("message").get<std::string>().find("hop"), std::string::npos) << error;
    EXPECT_EQ(error.at("data").at("ctx"), "behind");
}

TEST_F(SharedHop, ThatLeadsBackIsAnError) {
    world.sshd.add_ssh_config(
        "Host one\n    HostName 127.0.0.2\n    ProxyJump two\n"
        "Host two\n    HostName 127.0.0.3\n    ProxyJump one\n");
    EXPECT_EQ(world.rpc().refusal("connect", {{"ctx", "one"}}).at("code"), -32005);
    EXPECT_EQ(world.sshd.logins(), 0);
}

TEST_F(SharedHop, TakesNoSlotThatItsOwnLoginNeeds) {
    world.daemon.write_config("[pool]\nmax_concurrent_connects = 1\n");
    world.rpc().call("reload");
    EXPECT_EQ(world.rpc().call("connect", {{"ctx", "far-2"}}).at("connection").at("state"), "up");
}

TEST_F(SharedHop, IsDisconnectedWithWhatNobodyUsesBehindIt) {
    world.rpc().call("connect", {{"ctx", "far-2"}});
    EXPECT_EQ(world.rpc().call("disconnect", {{"ctx", "server-1"}}).at("connection").at("state"), "idle");
    EXPECT_EQ(world.rpc().call("check", {{"ctx", "far-2"}}).at("connections").at(0).at("state"), "idle");
}

TEST_F(SharedHop, IsDisconnectedByForceWithAllBehindIt) {
    const std::string id = world.start_id("far-2", {"sleep", "1000"});
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    EXPECT_EQ(world.connection(bastion).at("state"), "idle");
    EXPECT_EQ(world.session(id).at("state"), "unreachable");
    EXPECT_EQ(world.sshd.logins(), 2);
    world.rpc().call("logs", {{"session", id}});
    EXPECT_TRUE(world.becomes(id, "running"));
}

// Whose master has stepped aside, with that of a server on it.
TEST_F(SharedHop, IsLeftToWhatIsBehindItByADaemonThatStops) {
    const std::string far = world.key("127.0.0.2") + " via server-1";
    const std::string id = world.start_id("far-2", {"sleep", "1000"});
    const pid_t master = world.connection(far).at("master_pid");
    RpcClient other(world.daemon.socket_path());
    (void)other.send("disconnect", {{"ctx", "server-1"}});
    ASSERT_TRUE(world.connection_becomes(bastion, "draining"));
    world.start("far-3", {"sleep", "1000"});
    world.daemon.stop();
    EXPECT_TRUE(alive(master));
    world.start_daemon();
    EXPECT_TRUE(world.becomes(id, "running"));
    EXPECT_EQ(world.connection(far).at("master_pid"), master);
}

TEST_F(SharedHop, IsNotDisconnectedUnderAServer) {
    world.start_id("far-2", {"sleep", "1000"});
    const int id = world.rpc().send("disconnect", {{"ctx", "server-1"}});
    ASSERT_TRUE(wait_until([&] {
        RpcClient other(world.daemon.socket_path());
        const Json all = other.call("stats").at("connections");
        return std::any_of(all.begin(), all.end(), [](const Json& it) { return it.at("state") == "draining"; });
    }));
    RpcClient other(world.daemon.socket_path());
    EXPECT_EQ(other.call("check", {{"ctx", "far-2"}}).at("connections").at(0).at("state"), "up");
    other.call("disconnect", {{"ctx", "far-2"}});
    EXPECT_TRUE(world.rpc().reply(id).contains("result"));
}

}  // namespace
}  // namespace cmssh::test
