#include "daemon/ssh/ssh_aliases.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace cmssh {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SshAliases, ArePlainNamesOfHostLines) {
    const auto found = parse_ssh_aliases(
        "# Host commented\n"
        "Host a b\n"
        "  HostName 10.0.0.1\n"
        "HOST=c\r\n"
        "host \"d\" *.example.org !e f?g -x # comment\n"
        "Match host h\n"
        "Host\n"
        "Host = i\n"
        "HostKeyAlias j");
    EXPECT_THAT(found.hosts, ElementsAre("a", "b", "c", "d", "i"));
    EXPECT_THAT(found.includes, IsEmpty());
}

TEST(SshAliases, TellsIncludes) {
    EXPECT_THAT(parse_ssh_aliases("Include conf.d/* \"~/my hosts\"\n").includes, ElementsAre("conf.d/*", "~/my hosts"));
}

class SshAliasFiles : public testing::Test {
protected:
    SshAliasFiles() {
        std::string pattern = "/tmp/cmssh-aliases.XXXXXX";
        home_ = ::mkdtemp(pattern.data());
        std::filesystem::create_directories(home_ + "/.ssh/conf.d");
    }
    ~SshAliasFiles() override { std::filesystem::remove_all(home_); }

    void write(const std::string& name, const std::string& text) const { std::ofstream(home_ + "/" + name) << text; }

    std::string home_;
};

TEST_F(SshAliasFiles, FollowsIncludesFromTheUsersFile) {
    write(".ssh/config", "Host a\nInclude conf.d/*.conf ~/more missing\nHost a z\n");
    write(".ssh/conf.d/1.conf", "Host b\n");
    write("more", "Host c\n");
    EXPECT_THAT(ssh_aliases({}, home_), ElementsAre("a", "z", "b", "c"));
}

TEST_F(SshAliasFiles, ReadsTheFileOfDashF) {
    write(".ssh/config", "Host a\n");
    write("other", "Host o\n");
    EXPECT_THAT(ssh_aliases({"-F", home_ + "/other"}, home_), ElementsAre("o"));
    EXPECT_THAT(ssh_aliases({"-F" + home_ + "/other"}, home_), ElementsAre("o"));
    EXPECT_THAT(ssh_aliases({"-F", "none"}, home_), IsEmpty());
}

TEST_F(SshAliasFiles, EndsWhereFilesIncludeEachOther) {
    write(".ssh/config", "Host a\nInclude conf.d/*\n");
    for (int i = 0; i < 8; ++i) {
        write(".ssh/conf.d/" + std::to_string(i), "Include conf.d/*\nHost h" + std::to_string(i) + "\n");
    }
    EXPECT_EQ(ssh_aliases({}, home_).size(), 9U);
}

TEST_F(SshAliasFiles, PassesOverWhatIsNoFile) {
    std::filesystem::create_directory(home_ + "/.ssh/config");
    EXPECT_THAT(ssh_aliases({}, home_), IsEmpty());
}

}  // namespace
}  // namespace cmssh
