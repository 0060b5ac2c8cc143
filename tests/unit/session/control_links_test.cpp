#include "daemon/session/control_links.hpp"

#include <gmock/gmock.h>

#include <filesystem>

#include "tests/unit/app/scratch.hpp"

namespace cmssh {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class ControlLinksTest : public ::testing::Test {
protected:
    static ControlLinks::Holder holder(pid_t pid, std::string control_path = "/run/one") {
        return {.pid = pid, .started = 7, .control_path = std::move(control_path)};
    }
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> names;
        std::error_code none;
        for (const auto& entry : std::filesystem::directory_iterator(directory_, none)) {
            names.push_back(entry.path().filename());
        }
        return names;
    }

    const ScratchDir scratch_;
    const std::string directory_ = scratch_ / "ssh";
    ControlLinks links_{directory_};
};

TEST_F(ControlLinksTest, ANameIsThereAsLongAsSomebodyUsesIt) {
    {
        const auto one = links_.take("u@h:22", holder(1));
        ASSERT_TRUE(one);
        EXPECT_EQ(std::filesystem::read_symlink(directory_ + "/u@h:22"), "/run/one");
        {
            const auto two = links_.take("u@h:22", holder(2));
            ASSERT_TRUE(two);
            EXPECT_THAT(files(), UnorderedElementsAre("u@h:22", ".1.7", ".2.7"));
        }
        EXPECT_THAT(files(), UnorderedElementsAre("u@h:22", ".1.7"));
    }
    EXPECT_THAT(files(), IsEmpty());
}

TEST_F(ControlLinksTest, ANameLeadsOneWayAtATime) {
    {
        const auto one = links_.take("u@h:22", holder(1));
        const auto other = links_.take("u@h:22", holder(2, "/run/two"));
        ASSERT_TRUE(one && !other);
        EXPECT_EQ(other.error().kind, ErrorKind::InvalidParams);
    }
    const auto other = links_.take("u@h:22", holder(2, "/run/two"));
    ASSERT_TRUE(other);
    EXPECT_EQ(std::filesystem::read_symlink(directory_ + "/u@h:22"), "/run/two");
}

TEST_F(ControlLinksTest, ANameIsAFileInItsDirectory) {
    for (const std::string& name : {std::string(), std::string("../x"), std::string("a/b"), std::string(".1.7"),
                                    std::string("a b"), std::string("a\n"), std::string(100, 'x')}) {
        EXPECT_FALSE(links_.take(name, holder(1))) << name;
    }
    EXPECT_TRUE(links_.take("corp\\me+x@[v]%", holder(1)).ok() == false);
    EXPECT_TRUE(links_.take("corp\\me+x@fe80::1%eth0:22", holder(1)));
}

TEST_F(ControlLinksTest, TheDirectoryIsOursAlone) {
    std::filesystem::create_directory(directory_);
    std::filesystem::permissions(directory_, std::filesystem::perms::all);
    EXPECT_EQ(links_.take("u@h:22", holder(1)).error().kind, ErrorKind::Internal);
    std::filesystem::remove(directory_);
    std::filesystem::create_symlink("/tmp", directory_);
    EXPECT_FALSE(links_.take("u@h:22", holder(1)));
    std::filesystem::remove(directory_);
    const auto made = links_.take("u@h:22", holder(1));
    ASSERT_TRUE(made);
    EXPECT_EQ(std::filesystem::status(directory_).permissions(), std::filesystem::perms::owner_all);
    // What was cleared away is made anew, and what lies there by chance is replaced.
    std::filesystem::remove_all(directory_);
    EXPECT_TRUE(links_.take("other@h:22", holder(2)));
    (void)scratch_.write("ssh/file", "");
    EXPECT_TRUE(links_.take("file", holder(3)));
}

TEST_F(ControlLinksTest, TheNextDaemonKnowsWhoHeldOne) {
    {
        auto one = links_.take("u@h:22", holder(1));
        ASSERT_TRUE(one);
        one->leave();
    }
    ControlLinks next(directory_);
    const auto left = next.take_over();
    ASSERT_EQ(left.size(), 1U);
    EXPECT_EQ(left.front().pid, 1);
    EXPECT_EQ(left.front().started, 7U);
    EXPECT_EQ(left.front().control_path, "/run/one");
    EXPECT_THAT(files(), ElementsAre(".1.7")) << "a name would lead to what nobody looks after";
    { const auto again = next.again(left.front()); }
    EXPECT_THAT(files(), IsEmpty());
    (void)scratch_.write("ssh/.1.x", "");
    (void)scratch_.write("ssh/.2.3", "");
    EXPECT_THAT(next.take_over(), IsEmpty());
    EXPECT_THAT(files(), IsEmpty());
}

}  // namespace
}  // namespace cmssh
