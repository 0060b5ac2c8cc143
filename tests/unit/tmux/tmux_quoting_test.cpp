// What tmux itself makes of our quoting: words that it keeps, and formats of which it expands nothing.
#include <gmock/gmock.h>

#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "protocol/remote_command.hpp"
#include "protocol/tmux_control.hpp"
#include "tests/unit/fakes/random_words.hpp"
#include "tests/unit/fakes/run_program.hpp"

namespace cmssh::tmux {
namespace {

using fakes::Ran;
using fakes::RandomWords;
using fakes::run_program;

// A server of its own, which is given lines as the daemon gives them: on the standard input of `tmux -C`.
class TmuxQuoting : public ::testing::Test {
protected:
    void SetUp() override {
        while (words_.size() < 150) {
            std::string word = random_.word();
            ASSERT_TRUE(valid_utf8(word));
            if (!word.empty()) {
                words_.push_back(std::move(word));
            }
        }
    }
    void TearDown() override {
        run_tmux({"kill-server"});
        for (const auto& entry : std::filesystem::recursive_directory_iterator(home_.path())) {
            EXPECT_NE(entry.path().filename(), "x") << "something was executed";
        }
    }

    [[nodiscard]] fakes::Environment environment() const {
        return {{"HOME", home_.path()}, {"PATH", "/usr/bin:/bin"}, {"SHELL", "/bin/sh"}, {"LC_ALL", "C.UTF-8"}};
    }
    Ran run_tmux(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), {"/usr/bin/env", "-C", home_.path(), "tmux", "-u", "-S",
                                             home_.path() + "/socket", "-f", "/dev/null"});
        return run_program(std::move(arguments), environment());
    }
    // The last line is to make the file `done`.
    void give(const std::vector<std::string>& lines) const {
        std::string text;
        for (const auto& line : lines) {
            ASSERT_EQ(line.find('\n'), std::string::npos);
            text += line + '\n';
        }
        home_.write("lines", text);
        const Ran ran = run_program({"/bin/sh", "-c",
                                     "cd; (cat lines; until [ -e done ]; do sleep 0.01; done) | "
                                     "tmux -u -S socket -f /dev/null -C new-session -s test 'exec sleep 1000' >said"},
                                    environment());
        EXPECT_EQ(ran.errors, "");
    }
    [[nodiscard]] std::string file(std::size_t index) const {
        std::ostringstream text;
        text << std::ifstream(home_.path() + '/' + std::to_string(index), std::ios::binary).rdbuf();
        return text.str();
    }

    RandomWords random_{20261129, RandomWords::Bytes::Utf8};
    std::vector<std::string> words_;
    fakes::TempDir home_;
};

TEST_F(TmuxQuoting, OfAWordIsUndone) {
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < words_.size(); ++i) {
        lines.push_back(command_line("set-buffer", {"-b", "word", "--", words_[i]}));
        lines.push_back(command_line("save-buffer", {"-b", "word", home_.path() + '/' + std::to_string(i)}));
    }
    lines.push_back(command_line("save-buffer", {"-b", "word", home_.path() + "/done"}));
    give(lines);
    for (std::size_t i = 0; i < words_.size(); ++i) {
        EXPECT_EQ(file(i), words_[i]);
    }
}

TEST_F(TmuxQuoting, OfAFormatLeavesNothingToExpand) {
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < words_.size(); ++i) {
        // run-shell expands a format, and gives it to sh.
        lines.push_back("run-shell " +
                        quote_literal_format("printf %s " + sh_quote(words_[i]) + " >" + std::to_string(i)));
    }
    lines.push_back("run-shell ': >done'");
    give(lines);
    for (std::size_t i = 0; i < words_.size(); ++i) {
        EXPECT_EQ(file(i), words_[i]);
    }
}

TEST_F(TmuxQuoting, OfACommandForItsShellIsUndoneByBoth) {
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < words_.size(); ++i) {
        const std::string script = "printf %s " + sh_quote(words_[i]) + " >" + std::to_string(i);
        lines.push_back("run-shell " + quote_literal_format(for_any_shell(script)));
    }
    lines.push_back("run-shell ': >done'");
    give(lines);
    for (std::size_t i = 0; i < words_.size(); ++i) {
        EXPECT_EQ(file(i), words_[i]);
    }
}

TEST_F(TmuxQuoting, OfADirectoryLeadsThere) {
    std::vector<std::string> lines;
    constexpr std::size_t kDirectories = 40;
    words_.resize(kDirectories);
    for (std::size_t i = 0; i < words_.size(); ++i) {
        std::replace(words_[i].begin(), words_[i].end(), '/', '_');
        const std::string path = home_.path() + "/d" + words_[i];
        std::filesystem::create_directory(path);
        lines.push_back("new-window -d -c " + quote_literal_format(path) + " -- /bin/sh -c " +
                        quote("cd -P . && printf %s \"$PWD\" >\"$HOME/part$0\" && mv \"$HOME/part$0\" \"$HOME/$0\"") +
                        ' ' + std::to_string(i));
    }
    lines.push_back("run-shell 'for i in $(seq 0 " + std::to_string(kDirectories - 1) +
                    "); do until [ -e $i ]; do sleep 0.01; done; done; : >done'");
    give(lines);
    for (std::size_t i = 0; i < words_.size(); ++i) {
        EXPECT_EQ(file(i), home_.path() + "/d" + words_[i]);
    }
}

}  // namespace
}  // namespace cmssh::tmux
