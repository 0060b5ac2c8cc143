#include "daemon/session/session_table.hpp"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "tests/unit/fakes/fake_clock.hpp"

namespace cmssh {
namespace {

using api::SessionState;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class SessionTableTest : public ::testing::Test {
protected:
    SessionTable::RecordPtr add(const std::string& id, const std::string& name = {},
                                SessionState state = SessionState::Running, std::int64_t ended_ms = 0,
                                const std::string& request_id = {}) {
        auto record = std::make_shared<SessionRecord>(loop_.clock());
        record->view.id = id;
        record->view.name = name.empty() ? id : name;
        record->view.state = state;
        record->ended_ms = ended_ms;
        record->request_id = request_id;
        table_.add(record);
        return record;
    }
    [[nodiscard]] std::vector<std::string> ids() const {
        std::vector<std::string> ids;
        for (const auto& record : table_.all()) {
            ids.push_back(record->view.id);
        }
        return ids;
    }
    // The id of what the word names, or the error's name.
    [[nodiscard]] std::string found(const std::string& word) const {
        const auto record = table_.find(word);
        return record ? (*record)->view.id : std::string(error_info(record.error().kind).name);
    }

    fakes::TestLoop loop_;
    SessionTable table_;
};

TEST_F(SessionTableTest, KeepsTheOrderOfCreation) {
    for (const auto* id : {"sess-c", "sess-a", "sess-b"}) {
        add(id);
    }
    EXPECT_THAT(ids(), ElementsAre("sess-c", "sess-a", "sess-b"));
    table_.remove("sess-a");
    table_.remove("sess-a");
    table_.remove("never");
    EXPECT_THAT(ids(), ElementsAre("sess-c", "sess-b"));
}

TEST_F(SessionTableTest, FindsByIdAndByRequest) {
    const auto record = add("sess-a", "build", SessionState::Running, 0, "request");
    add("sess-b");
    EXPECT_EQ(table_.by_id("sess-a"), record);
    EXPECT_EQ(table_.by_request("request"), record);
    EXPECT_EQ(table_.by_id("sess-"), nullptr);
    EXPECT_EQ(table_.by_id("build"), nullptr);
    EXPECT_EQ(table_.by_request(""), nullptr) << "sessions without one";
    table_.remove("sess-a");
    EXPECT_EQ(table_.by_id("sess-a"), nullptr);
    EXPECT_EQ(table_.by_request("request"), nullptr);
}

TEST_F(SessionTableTest, NamesASessionByAnyUniqueWord) {
    add("sess-aaaa", "build");
    add("sess-aabb", "test");
    add("sess-b", "sess");
    const std::pair<const char*, const char*> cases[] = {
        {"sess-aaaa", "sess-aaaa"},
        {"build", "sess-aaaa"},
        {"test", "sess-aabb"},
        {"sess-aaa", "sess-aaaa"},
        {"sess-aab", "sess-aabb"},
        {"sess-b", "sess-b"},
        {"sess", "sess-b"},  // a name before a prefix
        {"sess-aa", "ambiguous"},
        {"s", "ambiguous"},
        {"buil", "session_not_found"},  // names have no prefixes
        {"Build", "session_not_found"},
        {"sess-aaaaa", "session_not_found"},
        {"", "session_not_found"},
        {"\n", "session_not_found"},
    };
    for (const auto& [word, id] : cases) {
        EXPECT_EQ(found(word), id) << word;
    }
}

TEST_F(SessionTableTest, AnIdIsMeantBeforeAName) {
    add("sess-a", "sess-b");
    add("sess-b", "x");
    EXPECT_EQ(found("sess-b"), "sess-b");
}

TEST_F(SessionTableTest, ANameMeansTheOneNotEndedElseTheNewest) {
    add("sess-1", "build", SessionState::Exited);
    add("sess-2", "build", SessionState::Killed);
    EXPECT_EQ(found("build"), "sess-2");
    const auto third = add("sess-3", "build", SessionState::Unreachable);
    EXPECT_EQ(found("build"), "sess-3");
    add("sess-4", "build", SessionState::Lost);  // forgotten, and its name was free for a moment
    EXPECT_EQ(found("build"), "sess-3");
    third->view.state = SessionState::Exited;
    EXPECT_EQ(found("build"), "sess-4");
}

TEST_F(SessionTableTest, SaysWhichSessionsAWordCouldMean) {
    for (const auto* id : {"sess-a1", "sess-a2", "sess-a3", "sess-a4", "sess-a5"}) {
        add(id);
    }
    const auto five = table_.find("sess-a");
    ASSERT_FALSE(five);
    EXPECT_THAT(five.error().message, HasSubstr("names 5 sessions: sess-a1, sess-a2, sess-a3, sess-a4, sess-a5"));
    EXPECT_THAT(five.error().message, Not(HasSubstr("…")));
    add("sess-a6");
    const auto six = table_.find("sess-a");
    ASSERT_FALSE(six);
    EXPECT_THAT(six.error().message, HasSubstr("names 6 sessions: sess-a1, "));
    EXPECT_THAT(six.error().message, HasSubstr("sess-a5, …"));
    const auto none = table_.find("x\n\x1b[2J");
    ASSERT_FALSE(none);
    EXPECT_THAT(none.error().message, HasSubstr("x\\n\\x1b[2J")) << "nothing that a terminal acts on";
}

TEST_F(SessionTableTest, ANameIsInUseUntilItsSessionHasEnded) {
    const auto record = add("sess-a", "build");
    const std::pair<SessionState, bool> cases[] = {
        {SessionState::Starting, true}, {SessionState::Running, true}, {SessionState::Unreachable, true},
        {SessionState::Exited, false},  {SessionState::Killed, false}, {SessionState::Lost, false},
    };
    for (const auto& [state, in_use] : cases) {
        record->view.state = state;
        EXPECT_EQ(table_.name_in_use("build"), in_use) << to_string(state);
    }
    EXPECT_FALSE(table_.name_in_use("buil"));
}

TEST_F(SessionTableTest, ForgetsWhatEndedLongAgo) {
    add("sess-1", "a", SessionState::Exited, 99, "request 1");
    add("sess-2", "b", SessionState::Running, 0, "request 2");
    add("sess-3", "c", SessionState::Lost, 100, "request 3");
    add("sess-4", "d", SessionState::Killed, 98);
    table_.forget_ended(100);
    EXPECT_THAT(ids(), ElementsAre("sess-2", "sess-3"));
    EXPECT_EQ(table_.by_id("sess-1"), nullptr);
    EXPECT_EQ(table_.by_request("request 1"), nullptr);
    EXPECT_NE(table_.by_request("request 2"), nullptr);
    EXPECT_NE(table_.by_request("request 3"), nullptr);
    EXPECT_EQ(found("a"), "session_not_found");
}

TEST_F(SessionTableTest, KeepsOnlySoManyEndedSessions) {
    constexpr std::size_t kTooMany = 5;
    add("sess-running");
    for (std::size_t i = 0; i < SessionTable::kMaxEnded + kTooMany; ++i) {
        add("sess-" + std::to_string(i), {}, SessionState::Exited, 1000);
    }
    table_.forget_ended(0);
    EXPECT_EQ(table_.all().size(), SessionTable::kMaxEnded + 1);
    EXPECT_NE(table_.by_id("sess-running"), nullptr);
    EXPECT_EQ(table_.by_id("sess-4"), nullptr) << "the oldest go first";
    EXPECT_NE(table_.by_id("sess-5"), nullptr);
    table_.forget_ended(0);
    EXPECT_EQ(table_.all().size(), SessionTable::kMaxEnded + 1);
}

TEST_F(SessionTableTest, ARecordOutlivesItsPlaceForWhoWaitsForIt) {
    const auto record = add("sess-a", {}, SessionState::Exited, 1);
    table_.forget_ended(2);
    EXPECT_THAT(ids(), IsEmpty());
    EXPECT_EQ(record->view.id, "sess-a");
}

}  // namespace
}  // namespace cmssh
