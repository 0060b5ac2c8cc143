// Every quoting, undone by the real programs that read it: random words from a seed, any byte in them but NUL.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "client/host.hpp"
#include "client/output.hpp"
#include "daemon/ssh/ssh_command.hpp"
#include "daemon/ssh/ssh_error.hpp"
#include "protocol/remote_command.hpp"
#include "tests/unit/fakes/random_words.hpp"
#include "tests/unit/fakes/run_program.hpp"

namespace cmssh {
namespace {

using fakes::Environment;
using fakes::login_shells;
using fakes::Ran;
using fakes::RandomWords;
using fakes::run_program;
using Words = std::vector<std::string>;

// Those that a person types a hint into.
Words posix_shells() {
    Words shells = login_shells();
    std::erase_if(shells, [](const std::string& shell) { return shell.ends_with("csh") || shell.ends_with("fish"); });
    return shells;
}

std::string each_with_nul(const Words& words) {
    std::string text;
    for (const auto& word : words) {
        text += word + '\0';
    }
    return text;
}

class Quoting : public ::testing::Test {
protected:
    void TearDown() override {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(home_.path())) {
            EXPECT_NE(entry.path().filename(), "x") << "something was executed";
        }
    }
    // From the home directory, as sshd does.
    [[nodiscard]] Ran run_by(const std::string& shell, const std::string& line) const {
        const Environment environment = {
            {"HOME", home_.path()}, {"SHELL", shell}, {"PATH", home_.path() + "/bin:/usr/bin:/bin"}, {"LC_ALL", "C"}};
        return run_program({"/usr/bin/env", "-C", home_.path(), shell, "-c", line}, environment);
    }
    void expect_words(const std::string& shell, const std::string& line, const Words& words) const {
        const Ran ran = run_by(shell, line);
        ASSERT_EQ(ran.output, each_with_nul(words)) << shell << ": " << line << '\n' << ran.errors;
        EXPECT_EQ(ran.errors, "") << shell;
        EXPECT_EQ(ran.exit_code, 0) << shell;
    }

    void expect_cmctl_gets(const Words& words) const {
        const auto argv = client::ssh_to_host("ssh://me@machine", client::HostTerminal::None, words);
        ASSERT_TRUE(argv);
        for (const auto& shell : login_shells()) {
            expect_words(shell, argv->back(), words);
        }
    }

    // Starting a shell takes most of the time.
    static constexpr int kRounds = 4;
    static constexpr std::size_t kWords = 200;

    RandomWords random_{20261129, RandomWords::Bytes::Any};
    fakes::TempDir home_;
};

Words print(const Words& words) {
    Words command = {"/usr/bin/printf", "%s\\0"};
    command.insert(command.end(), words.begin(), words.end());
    return command;
}

TEST_F(Quoting, OfExecIsUndoneByEveryLoginShell) {
    for (int round = 0; round < kRounds; ++round) {
        const Words words = random_.words(kWords);
        for (const auto& shell : login_shells()) {
            expect_words(shell, exec_command("lease-a", print(words)), words);
        }
    }
}

TEST_F(Quoting, OfAScriptIsUndoneByEveryLoginShell) {
    for (int round = 0; round < kRounds; ++round) {
        // csh reads words of 8 KiB at most.
        const Words words = random_.words(40);
        std::string script;
        for (const auto& word : print(words)) {
            script += sh_quote(word) + ' ';
        }
        for (const auto& shell : login_shells()) {
            expect_words(shell, for_any_shell(script), words);
        }
    }
}

TEST_F(Quoting, OfAWordIsUndoneByShAndItsLike) {
    for (int round = 0; round < kRounds; ++round) {
        const Words words = random_.words(kWords);
        std::string quoted = "/usr/bin/printf '%s\\0'";
        for (const auto& word : words) {
            quoted += ' ' + sh_quote(word);
        }
        for (const auto& shell : posix_shells()) {
            expect_words(shell, quoted, words);
            expect_words(shell, client::command_text(print(words)), words);
        }
    }
}

TEST_F(Quoting, OfDirectoryAndEnvironmentIsUndoneBySh) {
    for (int round = 0; round < kRounds; ++round) {
        std::string directory = "d" + random_.word();
        std::replace(directory.begin(), directory.end(), '/', '_');
        std::filesystem::create_directory(home_.path() + '/' + directory);
        const std::string value = random_.word();
        const std::string input =
            home_.write("in", exec_setup_line("lease-a", home_.path() + '/' + directory, {{"VALUE", value}}));
        const std::string line =
            exec_command("lease-a", {"sh", "-c", "printf '%s\\0' \"$PWD\" \"$VALUE\""}, ExecInput::SetupFirst);
        for (const auto& shell : login_shells()) {
            // Every shell here reads this much alike.
            const Ran ran = run_program({"/bin/sh", "-c", "exec \"$0\" -c \"$1\" <\"$2\"", shell, line, input},
                                        {{"HOME", home_.path()}, {"PATH", "/usr/bin:/bin"}, {"LC_ALL", "C"}});
            ASSERT_EQ(ran.output, each_with_nul({home_.path() + '/' + directory, value})) << shell << ran.errors;
        }
    }
}

TEST_F(Quoting, OfCmctlThereIsUndoneByEveryLoginShell) {
    home_.write("bin/cmctl", "#!/bin/sh\nprintf '%s\\0' \"$@\"\n", true);
    for (int round = 0; round < kRounds; ++round) {
        const Words words = random_.words(40);
        expect_cmctl_gets(words);
    }
    // Those that look plain go as they are.
    expect_cmctl_gets({"list", "--ctx", "me@x:22", "=ls", "a=b", "x,y", "+1", "/a/b", "%1", "a:b", "."});
}

// A hint is a command to type: its words are those of the failure, but for what a terminal would act on.
TEST_F(Quoting, OfAHintIsUndoneByShAndItsLike) {
    home_.write("bin/cmctl", "#!/bin/sh\nprintf '%s\\0' \"$@\"\n", true);
    for (const auto* ctx : {"server-1", "it's", "a b", "$(touch x)", "`touch x`", "a;touch x", "\"", "*", "!x", "\\"}) {
        for (const auto& shell : posix_shells()) {
            expect_words(shell, connect_by_hand(ctx), {"connect", ctx});
        }
    }
}

// The user's own ssh gives the ProxyCommand of a hop to the user's own shell, behind an expansion of % of its own.
TEST_F(Quoting, OfAProxyCommandIsUndoneBySshAndTheShell) {
    const std::string directory = home_.path() + "/it's 100% $HOME `touch x` \"a\"; touch x #";
    std::filesystem::create_directories(directory);
    const std::string seen = directory + "/seen";
    std::string pattern = directory + "/c%h";
    for (std::size_t at = 0; (at = pattern.find('%', at)) != std::string::npos; at += 2) {
        pattern.insert(at, "%");
    }
    home_.write("it's 100% $HOME `touch x` \"a\"; touch x #/ssh",
                "#!/bin/sh\nprintf '%s\\0' \"$@\" >\"${0%/*}/seen\"\n", true);
    SshConfig config;
    config.program = directory + "/ssh";
    config.options = {"-F", "none"};
    SshRoute route;
    route.destination = Destination{.host = "127.0.0.1", .user = std::nullopt, .port = 9};
    MasterArguments arguments;
    arguments.control_path = home_.path() + "/ctl";
    arguments.log_file = home_.path() + "/log";
    arguments.hop = HopSocket{.control_path = directory + "/c%h", .host = "hop", .key = "u@hop:22"};
    auto argv = master_command(config, route, arguments);
    argv.front() = "/usr/bin/ssh";
    for (const auto& shell : login_shells()) {
        std::filesystem::remove(seen);
        const Ran ran = run_program(argv, {{"HOME", home_.path()}, {"SHELL", shell}, {"PATH", "/usr/bin:/bin"}});
        EXPECT_NE(ran.exit_code, 0) << "nothing answers";
        std::ostringstream words;
        words << std::ifstream(seen, std::ios::binary).rdbuf();
        // What is behind -S is a pattern to the hop's ssh.
        EXPECT_EQ(words.str(),
                  each_with_nul({"-F", "none", "-S", pattern, "-o", "ControlMaster=no", "-o", "ProxyCommand=false",
                                 "-o", "BatchMode=yes", "-W", "[127.0.0.1]:9", "--", "hop"}))
            << shell << ran.errors;
    }
}

}  // namespace
}  // namespace cmssh
