// Completion in the shells themselves: keys on a terminal for bash and zsh, fish's own question for fish.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr const char* kConfig = "[contexts.build]\nhost = \"server-1\"\n[contexts.gpu-box]\nhost = \"server-2\"\n";

// What `cmctl __complete` says, words without their texts.
Words completed(const Daemon& daemon, Words line) {
    line.insert(line.begin(), "__complete");
    const Finished finished = daemon.cmctl(line);
    EXPECT_EQ(finished.status.code, 0);
    EXPECT_EQ(finished.errors, "");
    Words words;
    std::string lines = finished.output;
    for (auto end = lines.find('\n'); end != std::string::npos; end = lines.find('\n')) {
        words.push_back(lines.substr(0, std::min(end, lines.find('\t'))));
        lines.erase(0, end + 1);
    }
    return words;
}

// An environment in which `cmctl` is found, and nothing of a person's.
Words with_cmctl(const World& world) {
    Words environment = world.daemon.environment();
    for (std::string& variable : environment) {
        if (variable.starts_with("PATH=")) {
            variable = "PATH=" + std::filesystem::path(CMSSH_CMCTL).parent_path().string() + ':' + kPath;
        }
    }
    return environment;
}

// Prints its words each in brackets, asks the real one what completes them, and notes that.
void write_typed_program(const std::string& path) {
    make_dirs(std::filesystem::path(path).parent_path());
    write_file(path, "#!/bin/sh\nif [ \"$1\" = __complete ]; then echo asked >> '" + path + ".asked'; exec '" +
                         CMSSH_CMCTL + "' \"$@\"; fi\nprintf '<%s>' \"$@\"; echo\n");
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
}

class Completion : public testing::Test {
protected:
    Completion() : world(servers(2), kConfig) {
        world.sshd.add_ssh_config("Host alias-of-ssh evil$(touch${IFS}fell)\n    HostName 127.0.0.1\n");
        id = world.start_id("build", {"sleep", "600"}, {{"name", "nightly"}});
        ended = world.start_id("build", {"true"}, {{"name", "gone"}});
        world.wait(ended);
    }

    World world;
    std::string id;
    std::string ended;
};

TEST_F(Completion, KnowsWhatTheDaemonKnows) {
    EXPECT_EQ(completed(world.daemon, {"attach", ""}), (Words{":words", "nightly", id}));
    EXPECT_EQ(completed(world.daemon, {"logs", ""}), (Words{":words", "nightly", id, "gone", ended}));
    EXPECT_EQ(completed(world.daemon, {"kill", "nightly", ""}), (Words{":words"})) << "it stands on the line";
    EXPECT_EQ(completed(world.daemon, {"start", "--ctx", "bu"}), (Words{":words", "build"}));
    EXPECT_EQ(completed(world.daemon, {"connect", "alias"}), (Words{":words", "alias-of-ssh"}));
    EXPECT_EQ(completed(world.daemon, {"start", "--ctx", "ev"}), (Words{":words"})) << "a shell would act on it";
    EXPECT_EQ(completed(world.daemon, {"cp", "gpu"}), (Words{":files", "gpu-box:"}));
    EXPECT_THAT(world.daemon.cmctl({"__complete", "attach", "ni"}).output,
                HasSubstr("nightly\tbuild: sleep 600 (running)\n"));

    const Json forward = world.rpc().call(
        "forward.add",
        {{"ctx", "build"}, {"kind", "local"}, {"listen", world.dir / "socket"}, {"target", "localhost:1"}});
    const std::string forward_id = forward.at("forward").at("id");
    EXPECT_EQ(completed(world.daemon, {"forward", "rm", ""}), (Words{":words", forward_id}));
    EXPECT_EQ(world.sshd.logins(), 1) << "completing asks no server";
}

TEST_F(Completion, AsksNoSshForTheContexts) {
    // ssh -G runs this, and would ask the DNS where the configuration says so.
    const std::string mark = world.dir / "asked";
    world.sshd.add_ssh_config("Match originalhost server-2 exec \"touch " + mark + "\"\n    Port 1\n");
    EXPECT_EQ(completed(world.daemon, {"connect", "gpu"}), (Words{":words", "gpu-box"}));
    EXPECT_FALSE(exists(mark));
    EXPECT_EQ(world.daemon.cmctl({"contexts"}).status.code, 0);
    EXPECT_TRUE(exists(mark)) << "the same question by the verb";
}

TEST_F(Completion, StartsNoDaemonAndIsSilentWithoutOne) {
    world.daemon.stop();
    EXPECT_EQ(completed(world.daemon, {"attach", ""}), (Words{":words"}));
    EXPECT_EQ(completed(world.daemon, {"kill", "-s", "TE"}), (Words{":words", "TERM"}));
    EXPECT_FALSE(exists(world.daemon.socket_path()));
    world.start_daemon();
}

// systemd listens for a daemon that does not run yet: whoever connects starts it.
TEST_F(Completion, DoesNotWakeADaemonThatSystemdWouldStart) {
    world.daemon.stop();
    const Process listener(
        {"socat", "UNIX-LISTEN:" + world.daemon.socket_path(), "EXEC:touch " + (world.dir / "woken")});
    ASSERT_TRUE(wait_until([&] { return exists(world.daemon.socket_path()); }));
    EXPECT_EQ(completed(world.daemon, {"attach", ""}), (Words{":words"}));
    EXPECT_FALSE(exists(world.dir / "woken"));
    std::filesystem::remove(world.daemon.socket_path());
    world.start_daemon();
}

TEST_F(Completion, WaitsForNoDaemonThatHangs) {
    ::kill(world.daemon.pid(), SIGSTOP);
    const auto began = std::chrono::steady_clock::now();
    EXPECT_EQ(completed(world.daemon, {"attach", ""}), (Words{":words"}));
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
    ::kill(world.daemon.pid(), SIGCONT);
}

TEST_F(Completion, IsPrintedForThreeShells) {
    EXPECT_THAT(world.daemon.cmctl({"completion", "bash"}).output, HasSubstr("complete -F _cmctl cmctl"));
    EXPECT_THAT(world.daemon.cmctl({"completion", "zsh"}).output, StartsWith("#compdef cmctl\n"));
    EXPECT_THAT(world.daemon.cmctl({"completion", "fish"}).output, HasSubstr("complete -c cmctl"));
    const Finished other = world.daemon.cmctl({"completion", "tcsh"});
    EXPECT_EQ(other.status.code, 2);
    EXPECT_THAT(other.errors, HasSubstr("'tcsh' is none of bash, zsh and fish\nhint: "));
    EXPECT_THAT(other.output, IsEmpty());
}

// An interactive shell on a terminal, in a directory with two files. Enter behind a completed line prints its words
// each in brackets: there cmctl is a function, where the script asks the program.
class Typed : public Completion, public testing::WithParamInterface<const char*> {
protected:
    Typed() {
        make_dirs(world.dir / "cwd/folder");
        write_file(world.dir / "cwd/note 1.txt", "");
        write_file(world.dir / "shown", "cmctl() { printf '<%s>' \"$@\"; echo; }\n");
        write_file(world.dir / "rc", "cd '" + (world.dir / "cwd") + "'\n. '" + (world.dir / "shown") +
                                         "'\nPS1='ready> '\n" + set_up() + "echo set-up done\n");
        shell.emplace(command(), with_cmctl(world));
        EXPECT_TRUE(shell->prints("set-up done")) << shell->output();
        EXPECT_TRUE(shell->prints("ready> ")) << shell->output();
    }
    ~Typed() override { shell->type("\x03\x04"); }

    [[nodiscard]] static bool bash() { return std::string_view(GetParam()) == "bash"; }

    [[nodiscard]] Words command() const {
        return bash() ? Words{"bash", "--noprofile", "--rcfile", world.dir / "rc", "-i"}
                      : Words{"sh", "-c", "exec env ZDOTDIR=\"$1\" zsh -d -i", "sh", zdotdir()};
    }
    [[nodiscard]] std::string zdotdir() const {
        make_dirs(world.dir / "zdotdir");
        write_file(world.dir / "zdotdir/.zshrc", read_file(world.dir / "rc"));
        return world.dir / "zdotdir";
    }
    [[nodiscard]] std::string set_up() const {
        return bash() ? "bind 'set enable-bracketed-paste off'\nsource <(command cmctl completion bash)\n"
                      : "unset zle_bracketed_paste\nautoload -Uz compinit && compinit -u -D\n"
                        "source <(command cmctl completion zsh)\n";
    }

    // Keys, TAB where there is one in them, and Enter: whether the shell then runs cmctl with these words.
    void expect(const std::string& keys, const std::string& words) {
        for (const char key : keys) {
            shell->type(std::string_view(&key, 1));
        }
        shell->type("\r");
        EXPECT_TRUE(shell->prints(words + "\r\n", in(std::chrono::seconds(10)))) << keys << "\n" << shell->output();
        EXPECT_TRUE(shell->prints("ready> "));
    }

    std::optional<Terminal> shell;
};

TEST_P(Typed, IsCompleted) {
    expect("cmctl att\tnig\t", "<attach><nightly>");
    expect("cmctl kill --sig\tTER\t" + id.substr(0, 7) + "\t", "<kill><--signal><TERM><" + id + ">");
    expect("cmctl start --ctx bu\t--na\tx echo", "<start><--ctx><build><--name><x><echo>");
    expect("cmctl list --ctx=gp\t", "<list><--ctx=gpu-box>");
    expect("cmctl connect alias\t", "<connect><alias-of-ssh>");
    expect("cmctl --no-sp\tdaem\trel\t", "<--no-spawn><daemon><reload>");
    // The rest of the line is the command's: programs, and then files.
    expect("cmctl start --ctx build -- printen\t HO", "<start><--ctx><build><--><printenv><HO>");
    expect("cmctl exec cat no\t", "<exec><cat><note 1.txt>");
}

TEST_P(Typed, QuotesAreTakenOffAndClosed) {
    expect("cmctl kill \"" + id.substr(0, 7) + "\t", "<kill><" + id + ">");
    expect("cmctl start --ctx 'bu\t--name x echo", "<start><--ctx><build><--name><x><echo>");
    expect("cmctl list --ctx='gp\t", "<list><--ctx=gpu-box>");
    expect("cmctl kill 'a b' \"c\\\"d\" 'nig\t", "<kill><a b><c\"d><nightly>");
    expect("cmctl 'att\tnig\t", "<attach><nightly>");
    expect("cmctl kill 'nightly' nig\tx", "<kill><nightly><nigx>");
    // bash closes the quote, and zsh leaves it open.
    expect(bash() ? "cmctl cp 'no\t\"gpu\tdata" : "cmctl cp 'no\t\"gpu\tdata\"", "<cp><note 1.txt><gpu-box:data>");
    expect("cmctl cp 'gpu-box:a' 'it is\t'", "<cp><gpu-box:a><it is>");
}

// The program that is typed is asked, and no other that may be in PATH.
TEST_P(Typed, ByItsPath) {
    const std::string program = world.dir / "cwd/bin/cmctl";
    write_typed_program(program);
    expect("./bin/cmctl att\tnig\t", "<attach><nightly>");
    EXPECT_EQ(read_file(program + ".asked"), "asked\nasked\n");
    expect(program + " kil\t--sig\tTER\t", "<kill><--signal><TERM>");
    EXPECT_EQ(read_file(program + ".asked"), "asked\nasked\nasked\nasked\nasked\n");
}

TEST_P(Typed, CopiesFromFilesToServers) {
    expect("cmctl cp no\tgpu\tdata", "<cp><note 1.txt><gpu-box:data>");
    // zsh takes the slash off again that nothing follows.
    expect("cmctl cp build:fil\t fold\t", bash() ? "<cp><build:fil><folder/>" : "<cp><build:fil><folder>");
}

TEST_P(Typed, NamesThatAShellWouldActOnAreNotOffered) {
    expect("cmctl start --ctx evil\tx", "<start><--ctx><evilx>");
    expect("cmctl kill 'x$(touch fell)\ty'", "<kill><x$(touch fell)y>");
    EXPECT_FALSE(exists(world.dir / "cwd/fell"));
}

TEST_P(Typed, WithoutADaemonNothingIsSaid) {
    world.daemon.stop();
    expect("cmctl attach nig\t", "<attach><nig>");
    expect("cmctl atta\tx", "<attach><x>");
    EXPECT_FALSE(exists(world.daemon.socket_path()));
    world.start_daemon();
}

INSTANTIATE_TEST_SUITE_P(Shells, Typed, testing::Values("bash", "zsh"),
                         [](const auto& test) { return std::string(test.param); });

TEST_F(Completion, InZshShowsWhatASessionIs) {
    write_file(world.dir / ".zshrc",
               "PS1='ready> '\nautoload -Uz compinit && compinit -u -D\nsource <(cmctl completion zsh)\n");
    Words environment = with_cmctl(world);
    environment.push_back("ZDOTDIR=" + world.dir.path());
    Terminal zsh({"zsh", "-d", "-i"}, environment, 100);
    ASSERT_TRUE(zsh.prints("ready> "));
    zsh.type("cmctl logs \t");
    EXPECT_TRUE(zsh.prints("gone")) << zsh.output();
    EXPECT_TRUE(zsh.prints("build: true (exited 0)")) << zsh.output();
    zsh.type("\x03\x04");
}

class InFish : public Completion {
protected:
    // Lines as fish shows them: a word, a tab and its text.
    [[nodiscard]] std::string complete(const std::string& line) const {
        SpawnOptions options;
        options.environment = with_cmctl(world);
        options.environment.push_back("LINE=" + line);
        const Finished finished = run(
            {"fish", "--no-config", "-c", "cd $HOME; cmctl completion fish | source; complete -C \"$LINE\""}, options);
        EXPECT_EQ(finished.errors, "");
        return finished.output;
    }
};

TEST_F(InFish, IsCompleted) {
    EXPECT_EQ(complete("cmctl att"), "attach\tYour terminal on a session\n");
    EXPECT_EQ(complete("cmctl attach nig"), "nightly\tbuild: sleep 600 (running)\n");
    EXPECT_EQ(complete("cmctl kill " + id.substr(0, 7)), id + "\tbuild: sleep 600 (running)\n");
    EXPECT_EQ(complete("cmctl kill -s TER"), "TERM\n");
    EXPECT_THAT(complete("cmctl kill --sig"), StartsWith("--signal\t"));
    EXPECT_THAT(complete("cmctl list --ctx=gp"), StartsWith("--ctx=gpu-box"));
    EXPECT_THAT(complete("cmctl start --ctx bu"), StartsWith("build\t"));
    EXPECT_THAT(complete("cmctl start --ctx ev"), IsEmpty());
    EXPECT_THAT(complete("cmctl --no-spawn daemon rel"), StartsWith("reload"));
    EXPECT_THAT(complete("cmctl start --ctx build -- printen"), HasSubstr("printenv"));
    write_file(world.dir / "home/note.txt", "");
    EXPECT_THAT(complete("cmctl exec cat no"), HasSubstr("note.txt"));
    EXPECT_THAT(complete("cmctl cp no"), HasSubstr("note.txt"));
    EXPECT_THAT(complete("cmctl cp gpu"), HasSubstr("gpu-box:"));
    EXPECT_THAT(complete("cmctl attach no"), Not(HasSubstr("note.txt")));
    EXPECT_THAT(complete("cmctl kill \"" + id.substr(0, 7)), StartsWith(id + "\t"));
    EXPECT_THAT(complete("cmctl start --ctx 'bu"), StartsWith("build\t"));
    const std::string program = world.dir / "home/bin/cmctl";
    write_typed_program(program);
    EXPECT_THAT(complete("./bin/cmctl attach nig"), StartsWith("nightly\t"));
    EXPECT_THAT(complete(program + " att"), StartsWith("attach\t"));
    EXPECT_EQ(read_file(program + ".asked"), "asked\nasked\n");
    EXPECT_THAT(complete("cmctl kill '$(touch fell)"), IsEmpty());
    EXPECT_FALSE(exists(world.dir / "home/fell"));
    world.daemon.stop();
    EXPECT_THAT(complete("cmctl attach nig"), IsEmpty());
    EXPECT_FALSE(exists(world.daemon.socket_path()));
    world.start_daemon();
}

}  // namespace
}  // namespace cmssh::test
