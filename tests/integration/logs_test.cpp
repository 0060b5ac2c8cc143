// What sessions have printed: while they run, and after their end.
#include <gmock/gmock.h>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Json logs(World& world, const std::string& id, Json params = Json::object()) {
    params["session"] = id;
    return world.rpc().call("logs", params);
}

std::string text(World& world, const std::string& id, Json params = Json::object()) {
    return logs(world, id, std::move(params)).at("text");
}

// A session whose program prints each line that the test lets through, and ends when it is told to.
class Stepped {
public:
    explicit Stepped(World& world) : world_(world), input_(world.dir / "input") {
        id = world.start_id("server-1", {"sh", "-c", R"(mkfifo "$0"; exec 3<>"$0"; while read -r line <&3; do
[ "$line" = end ] && exit 3; printf %b "$line"; done)",
                                         input_});
        EXPECT_TRUE(wait_until([&] { return exists(input_); }));
    }

    // printf's %b: \n is a line end.
    void print(const std::string& escaped) { write_file(input_, escaped + '\n'); }
    void end() { print("end"); }
    [[nodiscard]] bool shows(const std::string& wanted) {
        return wait_until([&] { return text(world_, id) == wanted; });
    }

    std::string id;

private:
    World& world_;
    std::string input_;
};

TEST(Logs, OfARunningSessionAreWhatItHasPrinted) {
    World world(servers(1));
    Stepped program(world);
    program.print("one\\n\\ntwo\\nthr");
    EXPECT_TRUE(program.shows("one\n\ntwo\nthr")) << text(world, program.id);
    const Json last = logs(world, program.id, {{"lines", 1}});
    EXPECT_EQ(last.at("text"), "thr");
    EXPECT_EQ(last.at("truncated"), true);
}

TEST(Logs, OfAnEndedSessionAreWhatItHadAtItsEnd) {
    World world(servers(1));
    // More than a screen, one line longer than it is wide, and colours.
    const std::string id =
        world.start_id("server-1", {"sh", "-c", R"(i=0; while [ $i -lt 200 ]; do echo "line $i"; i=$((i+1)); done
printf '%0200d\n' 7; printf '\033[31mred\033[0m\n'; exit 4)"});
    EXPECT_EQ(world.wait(id).at("exit_code"), 4);
    EXPECT_TRUE(wait_until([&] { return world.tmux_sessions(1).empty(); }));
    const std::string all = text(world, id);
    EXPECT_THAT(all, StartsWith("line 0\nline 1\n"));
    EXPECT_THAT(all, EndsWith("line 199\n" + std::string(199, '0') + "7\nred\n"));
    EXPECT_EQ(text(world, id, {{"lines", 1}}), "red\n");
    EXPECT_THAT(text(world, id, {{"lines", 1}, {"escapes", true}}), HasSubstr("\033[31mred"));
}

TEST(Logs, OfShortSessionsAreComplete) {
    World world(servers(1));
    for (int round = 0; round < 10; ++round) {
        std::vector<int> asked;
        for (int i = 0; i < 10; ++i) {
            asked.push_back(world.rpc().send(
                "start", {{"ctx", "server-1"}, {"command", {"sh", "-c", "echo bye; exit " + std::to_string(i)}}}));
        }
        for (int i = 0; i < 10; ++i) {
            const std::string id =
                world.rpc().reply(asked[static_cast<std::size_t>(i)]).at("result").at("session").at("id");
            EXPECT_EQ(world.wait(id).at("exit_code"), i);
            EXPECT_EQ(text(world, id), "bye\n") << id;
        }
    }
}

TEST(Logs, OfAKilledSessionAreWhatItHadBefore) {
    World world(servers(1));
    Stepped program(world);
    program.print("so far\\n");
    ASSERT_TRUE(program.shows("so far\n"));
    world.rpc().call("kill", {{"session", program.id}});
    EXPECT_EQ(text(world, program.id), "so far\n");
}

TEST(Logs, ReadOnFromACursorGiveEveryLineOnce) {
    World world(servers(1));
    Stepped program(world);
    program.print("one\\ntw");
    ASSERT_TRUE(program.shows("one\ntw"));
    Json log = logs(world, program.id);
    program.print("o\\nthree\\n");
    ASSERT_TRUE(program.shows("one\ntwo\nthree\n"));
    log = logs(world, program.id, {{"since", log.at("cursor")}});
    EXPECT_EQ(log.at("text"), "two\nthree\n");
    EXPECT_EQ(text(world, program.id, {{"since", log.at("cursor")}}), "");
    program.print("four\\n");
    ASSERT_TRUE(program.shows("one\ntwo\nthree\nfour\n"));
    program.end();
    EXPECT_EQ(world.wait(program.id).at("exit_code"), 3);
    log = logs(world, program.id, {{"since", log.at("cursor")}});
    EXPECT_EQ(log.at("text"), "four\n");
    EXPECT_EQ(log.at("truncated"), false);
}

TEST(Logs, SayWhereLinesWereLost) {
    World world(servers(1), "[sessions]\nscrollback = 100\n");
    Stepped program(world);
    program.print("first\\n");
    ASSERT_TRUE(program.shows("first\n"));
    const Json before = logs(world, program.id);
    std::string many;
    for (int i = 0; i < 500; ++i) {
        many += std::to_string(i) + "\\n";
    }
    program.print(many);
    ASSERT_TRUE(wait_until([&] { return text(world, program.id).ends_with("\n499\n"); }));
    const Json after = logs(world, program.id, {{"since", before.at("cursor")}});
    EXPECT_EQ(after.at("truncated"), true);
    EXPECT_THAT(after.at("text").get<std::string>(), EndsWith("\n498\n499\n"));
}

TEST(Logs, AreReadByCmctl) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"printf", "one\\ntwo\\nthree\\n"});
    world.wait(id);
    const auto all = world.daemon.cmctl({"logs", id});
    EXPECT_EQ(all.status.code, 0) << all.errors;
    EXPECT_EQ(all.output, "one\ntwo\nthree\n");
    EXPECT_EQ(world.daemon.cmctl({"logs", "-n", "2", id}).output, "two\nthree\n");
    EXPECT_EQ(Json::parse(world.daemon.cmctl({"logs", "--json", id}).output).at("text"), "one\ntwo\nthree\n");
    const auto unknown = world.daemon.cmctl({"logs", "nobody"});
    EXPECT_EQ(unknown.status.code, 3);
    EXPECT_THAT(unknown.errors, HasSubstr("no session is named nobody"));
}

TEST(Logs, RefuseWhatIsNoCursor) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"true"});
    world.wait(id);
    const Json error = world.rpc().refusal("logs", {{"session", id}, {"since", "1"}});
    EXPECT_EQ(error.at("code"), -32602);
    EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr("params.since"));
}

}  // namespace
}  // namespace cmssh::test
