#include "daemon/session/registry.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>

#include "daemon/base/unique_fd.hpp"
#include "tests/unit/app/scratch.hpp"
#include "tests/unit/fakes/captured_log.hpp"
#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/faulty_disk.hpp"

namespace cmssh {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

// FakeClock's time, as names of copies have it.
constexpr const char* kStamp = "20231114T221320";

std::string text(const StoredSession& session) {
    Json json = Json::parse(api::write(session.view).text);
    json["ms"] = {session.created_ms, session.ended_ms};
    json["request_id"] = session.request_id;
    json["place"] = {session.place.pane_id, session.place.window_id, session.place.pane_pid};
    json["life"] = {session.life.boot_id, session.life.tmux};
    json["signals"] = session.signals_sent;
    json["pending"] = session.pending_kill ? Json(*session.pending_kill) : Json();
    return dump_json(json);
}

std::string text(const StoredConnection& connection) {
    const auto optional = [](const auto& value) { return value ? Json(*value) : Json(); };
    const auto& [key, route, dump, control_path, held_back, by] = connection;
    return dump_json(Json{{"key", {key.user, key.host, key.port, key.via, key.alias, key.as}},
                          {"route",
                           {route.destination.host, optional(route.destination.user), optional(route.destination.port),
                            optional(route.identity_file)}},
                          {"dump",
                           {dump.user, dump.hostname, dump.port, dump.proxyjump, dump.proxycommand, dump.hostkeyalias,
                            dump.identityfiles, dump.identitiesonly, dump.server_alive_set}},
                          {"control_path", control_path},
                          {"held_back", held_back},
                          {"held_back_by", by ? api::write(*by).text : "none"}});
}

template <typename Rows>
std::vector<std::string> texts(const Rows& stored) {
    std::vector<std::string> out;
    std::transform(stored.begin(), stored.end(), std::back_inserter(out), [](const auto& it) { return text(it); });
    return out;
}

StoredSession session(const std::string& id, std::int64_t created_ms = 1000) {
    StoredSession stored;
    stored.view.id = id;
    stored.view.name = id;
    stored.view.ctx = "server-a";
    stored.view.server = {.user = "u", .host = "h", .port = 22, .via = std::nullopt, .key = "u@h:22"};
    stored.view.command = {"make", "test"};
    stored.created_ms = created_ms;
    return stored;
}

constexpr const char* kBackToVersion1 =
    "DROP TABLE forwards; DROP TABLE screens; ALTER TABLE connections DROP COLUMN held_back; "
    "ALTER TABLE connections DROP COLUMN held_back_by; PRAGMA user_version = 1";

StoredConnection connection(const std::string& host) {
    StoredConnection stored;
    stored.key = {.user = "u", .host = host, .port = 22};
    stored.route.destination.host = host;
    stored.dump.user = "u";
    stored.dump.hostname = host;
    stored.control_path = "/run/user/1/cmssh/cm-ssh-u@" + host + ":22";
    return stored;
}

StoredSession ended(StoredSession stored) {
    stored.view.state = api::SessionState::Exited;
    stored.ended_ms = 2000;
    return stored;
}

std::vector<std::string> ids(const StoredContents& contents) {
    std::vector<std::string> out;
    for (const auto& it : contents.sessions) {
        out.push_back(it.view.id);
    }
    return out;
}

class RegistryTest : public testing::Test {
protected:
    std::unique_ptr<Registry> open() { return std::make_unique<Registry>(loop_.clock(), path_); }
    StoredContents reopened() { return open()->load(); }
    void sql(const std::string& text) {
        SQLite::Database database(path_, SQLite::OPEN_READWRITE);
        database.exec(text);
    }
    std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
            names.push_back(entry.path().filename());
        }
        std::sort(names.begin(), names.end());
        return names;
    }
    static mode_t mode_of(const std::string& path) {
        struct stat status {};
        return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777U : 0;
    }
    static std::string read(const std::string& path) {
        std::ostringstream text;
        text << std::ifstream(path).rdbuf();
        return text.str();
    }
    void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
    void clear() {
        for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
            std::filesystem::remove_all(entry.path());
        }
    }

    // One of everything, closed properly.
    void make_small_file() {
        const auto registry = open();
        registry->put(session("sess-one", 1), Durability::Process);
        registry->put_ended(ended(session("sess-two", 2)), std::string(6000, 's'), Durability::Process);
        registry->put(connection("h"));
    }

    // What every file leads to: what it held is read, all of it or nothing, and what is put is kept.
    void expect_old_or_set_aside(const std::string& before, const std::string& what) {
        SCOPED_TRACE(what);
        std::vector<std::string> known;
        {
            const auto registry = open();
            known = ids(registry->load());
            EXPECT_THAT(known, AnyOf(IsEmpty(), ElementsAre("sess-one", "sess-two"), ElementsAre("sess-one")));
            static_cast<void>(registry->screen("sess-two"));
            if (registry->take_rebuilt()) {
                known.clear();  // those the owner puts again
            }
            if (known.empty() && !before.empty()) {
                EXPECT_EQ(read(path_ + ".damaged-" + kStamp), before);
            }
            registry->put(session("sess-new", 3), Durability::Process);
            EXPECT_FALSE(registry->unsaved());
        }
        known.push_back("sess-new");
        EXPECT_EQ(ids(reopened()), known);
    }

    fakes::TestLoop loop_;
    // In memory: some of these tests make thousands of fsyncs.
    ScratchDir scratch_{"/dev/shm"};
    std::string path_ = scratch_ / "registry.db";
    fakes::CapturedLog log_;
};

TEST_F(RegistryTest, KeepsEveryField) {
    std::mt19937 random(42);  // NOLINT: the same each time
    const auto below = [&random](int end) { return std::uniform_int_distribution<int>(0, end - 1)(random); };
    const std::vector<std::string> odd = {"",
                                          "plain",
                                          "it's \"quoted\" \\ `x` $(y) #{z} %s",
                                          "line\nfeed\tand \x1b[31m",
                                          "åß漢字🙂\u202e",
                                          std::string("nul\0inside", 10),
                                          "'); DROP TABLE sessions; --",
                                          std::string(5000, 'x'),
                                          "null",
                                          "[]",
                                          "123"};
    const auto any = [&] { return odd[static_cast<std::size_t>(below(static_cast<int>(odd.size())))]; };
    const auto maybe = [&](auto make) { return below(2) == 0 ? std::nullopt : std::optional(make()); };
    const auto list = [&] {
        std::vector<std::string> items(static_cast<std::size_t>(below(4)));
        std::generate(items.begin(), items.end(), any);
        return items;
    };
    std::vector<StoredSession> sessions;
    std::vector<StoredConnection> connections;
    for (int i = 0; i < 100; ++i) {
        StoredSession it;
        it.view.id = "sess-" + std::to_string(i);
        it.view.name = any();
        it.view.ctx = any();
        it.view.server = {
            .user = any(), .host = any(), .port = 1 + below(65535), .via = maybe(any), .key = "k" + any()};
        it.view.command = list();
        it.view.cwd = maybe(any);
        it.view.state = static_cast<api::SessionState>(below(6));
        it.view.exit_code = maybe([&] { return below(256); });
        it.view.signal = maybe(any);
        it.view.reason = maybe(any);
        it.view.created_at = any();
        it.view.ended_at = maybe(any);
        it.view.as_of = any();
        it.view.tmux = {.socket = any(), .session = any()};
        it.created_ms = 1'700'000'000'000 + i;
        it.ended_ms = below(2) * 1'700'000'000'000;
        it.request_id = any();
        it.place = {.pane_id = any(), .window_id = any(), .pane_pid = below(1 << 22)};
        it.life = {.boot_id = any(), .tmux = any()};
        for (int signals = below(4); signals > 0; --signals) {
            it.signals_sent.insert(1 + below(64));
        }
        it.pending_kill = maybe([&] { return std::string(below(2) == 0 ? "" : "TERM"); });
        sessions.push_back(it);

        StoredConnection to;
        to.key = {.user = "u",
                  .host = "h" + std::to_string(i),
                  .port = 1 + below(65535),
                  .via = any(),
                  .alias = any(),
                  .as = any()};
        to.route.destination = {.host = "h",
                                .user = maybe([] { return std::string("me@corp"); }),
                                .port = maybe([&] { return 1 + below(65535); })};
        to.route.identity_file = maybe(any);
        to.dump = {.user = "u",
                   .hostname = "fe80::1%eth0",
                   .port = 1 + below(65535),
                   .proxyjump = any(),
                   .proxycommand = any(),
                   .hostkeyalias = any(),
                   .identityfiles = list(),
                   .identitiesonly = below(2) == 0,
                   .server_alive_set = below(2) == 0};
        to.control_path = "/" + any();
        connections.push_back(to);
    }
    {
        const auto registry = open();
        for (int i = 0; i < 100; ++i) {
            const auto at = static_cast<std::size_t>(i);
            registry->put(session(sessions[at].view.id), Durability::Process);  // replaced whole
            registry->put(sessions[at], i % 50 == 0 ? Durability::Power : Durability::Process);
            registry->put(connections[at]);
        }
        EXPECT_FALSE(registry->unsaved());
    }
    const auto contents = reopened();
    EXPECT_EQ(texts(contents.sessions), texts(sessions));
    EXPECT_THAT(texts(contents.connections), testing::UnorderedElementsAreArray(texts(connections)));
    EXPECT_THAT(log_.take(), IsEmpty());
}

TEST_F(RegistryTest, ReadsTheOldestFirst) {
    {
        const auto registry = open();
        registry->put(session("sess-b", 20), Durability::Process);
        registry->put(session("sess-c", 10), Durability::Process);
        registry->put(session("sess-a", 30), Durability::Process);
    }
    EXPECT_THAT(ids(reopened()), ElementsAre("sess-c", "sess-b", "sess-a"));
}

TEST_F(RegistryTest, KeepsScreensByteForByte) {
    std::string bytes;
    for (int i = 0; i < 70000; ++i) {
        bytes += static_cast<char>(i * 7);
    }
    {
        const auto registry = open();
        registry->put_ended(ended(session("sess-bytes")), bytes, Durability::Power);
        registry->put_ended(ended(session("sess-empty")), "", Durability::Process);
        registry->put(session("sess-none"), Durability::Process);
        registry->put(ended(session("sess-bytes")), Durability::Process);
        EXPECT_EQ(registry->screen("sess-bytes"), bytes) << "a later put of the session leaves its screen";
    }
    const auto registry = open();
    EXPECT_EQ(registry->screen("sess-bytes"), bytes);
    EXPECT_EQ(registry->screen("sess-empty"), "");
    EXPECT_EQ(registry->screen("sess-none"), std::nullopt);
    EXPECT_EQ(registry->screen("sess-unknown"), std::nullopt);
}

TEST_F(RegistryTest, KeepsTheEndOfAScreenThatIsTooLong) {
    const std::string end(Registry::kMaxScreen - 2, 'e');
    const auto registry = open();
    registry->put_ended(ended(session("sess-long")), std::string(100, 'b') + "漢" + end, Durability::Process);
    EXPECT_TRUE(registry->screen("sess-long") == end) << "the cut is not inside a character";
}

TEST_F(RegistryTest, RemovesASessionWithItsScreen) {
    {
        const auto registry = open();
        registry->put_ended(ended(session("sess-a")), "screen", Durability::Process);
        registry->put(session("sess-b"), Durability::Process);
        registry->put(connection("a"));
        registry->put(connection("b"));
        registry->remove("sess-a");
        registry->remove_connection("u@a:22");
        EXPECT_EQ(registry->screen("sess-a"), std::nullopt);
    }
    const auto registry = open();
    const auto contents = registry->load();
    EXPECT_THAT(ids(contents), ElementsAre("sess-b"));
    EXPECT_THAT(contents.connections, SizeIs(1));
    EXPECT_EQ(registry->screen("sess-a"), std::nullopt);
}

TEST_F(RegistryTest, IsForItsOwnerAlone) {
    const mode_t before = ::umask(0);
    const auto registry = open();
    registry->put(session("sess-a"), Durability::Process);
    EXPECT_THAT(files(), ElementsAre("registry.db", "registry.db-shm", "registry.db-wal"));
    for (const auto& name : files()) {
        EXPECT_EQ(mode_of(scratch_ / name), 0600U) << name;
    }
    registry->close();
    EXPECT_THAT(files(), ElementsAre("registry.db"));
    ASSERT_EQ(::chmod(path_.c_str(), 0644), 0);
    const auto again = open();
    ::umask(before);
    EXPECT_EQ(mode_of(path_), 0600U) << "made private again";
}

TEST_F(RegistryTest, KeepsForwards) {
    StoredForward forward;
    forward.view.id = "fwd-abc";
    forward.view.ctx = "server-a";
    forward.view.server.key = "u@h:22";
    forward.view.kind = api::ForwardKind::Remote;
    forward.view.listen = "127.0.0.1:80";
    forward.view.target = "/run/it's";
    forward.view.session = "sess-one";
    forward.listen = "0";
    {
        const auto registry = open();
        registry->put(forward);
        forward.view.id = "fwd-def";
        registry->put(forward);
        registry->remove_forward("fwd-abc");
    }
    auto found = reopened().forwards;
    ASSERT_THAT(found, SizeIs(1));
    EXPECT_EQ(api::write(found[0].view).text, api::write(forward.view).text);
    EXPECT_EQ(found[0].listen, "0");
    sql("UPDATE forwards SET kind = 'nothing'");
    EXPECT_THAT(reopened().forwards, IsEmpty());
}

TEST_F(RegistryTest, MigratesAndKeepsACopy) {
    {
        const auto registry = open();
        registry->put(session("sess-old"), Durability::Process);
        registry->put(connection("h"));
    }
    sql(kBackToVersion1);
    const std::string copy = path_ + ".v1-" + kStamp;
    {
        const auto registry = open();
        const auto contents = registry->load();
        EXPECT_THAT(ids(contents), ElementsAre("sess-old"));
        EXPECT_THAT(contents.connections, SizeIs(1));
        registry->put_ended(ended(session("sess-old")), "screen", Durability::Process);
        EXPECT_THAT(log_.take(), ElementsAre(HasSubstr(copy)));
    }
    EXPECT_EQ(mode_of(copy), 0600U);
    SQLite::Database kept(copy, SQLite::OPEN_READONLY);
    EXPECT_EQ(kept.execAndGet("PRAGMA user_version").getInt(), 1);
    EXPECT_EQ(kept.execAndGet("SELECT count(*) FROM sessions").getInt(), 1);
    const auto registry = open();
    EXPECT_EQ(registry->screen("sess-old"), "screen");
    EXPECT_THAT(log_.take(), IsEmpty()) << "once only";
}

TEST_F(RegistryTest, AMigrationThatFailsAnywhereLosesNothing) {
    make_small_file();
    sql(kBackToVersion1);
    const std::string before = read(path_);
    int failing = 0;
    for (bool failed = true; failed; ++failing) {
        SCOPED_TRACE(failing);
        clear();
        write(path_, before);
        {
            fakes::FaultyDisk disk;
            disk.fail(SQLITE_FULL, failing);
            const auto registry = open();
            failed = disk.calls() > failing;
            EXPECT_EQ(registry->unsaved(), failed);
            registry->put(session("sess-z", 9), Durability::Process);
            disk.heal();
            loop_.advance(Registry::kRetryPause);
            registry->retry();
            EXPECT_FALSE(registry->unsaved());
        }
        EXPECT_THAT(ids(reopened()), ElementsAre("sess-one", "sess-two", "sess-z"));
    }
    EXPECT_GT(failing, 10);
}

TEST_F(RegistryTest, SetsAsideWhatIsOfANewerVersion) {
    make_small_file();
    sql("PRAGMA user_version = 99");
    const std::string before = read(path_);
    const auto registry = open();
    EXPECT_THAT(ids(registry->load()), IsEmpty());
    EXPECT_EQ(read(path_ + ".newer-" + kStamp), before);
    EXPECT_THAT(log_.take(), ElementsAre("warning registry: " + path_ +
                                         " can't be used, it is of a newer cmsshd: version 99, known are up to 5: it "
                                         "is kept as " +
                                         path_ + ".newer-" + kStamp + ", and a new one is begun"));
    registry->put(session("sess-a"), Durability::Process);
    EXPECT_FALSE(registry->unsaved());
    EXPECT_FALSE(registry->take_rebuilt()) << "nobody knew what was in it";
}

TEST_F(RegistryTest, SetsAsideTheWalAsItWas) {
    std::string whole;
    std::string wal;
    {
        const auto registry = open();
        registry->put(session("sess-a"), Durability::Process);
        sql("PRAGMA user_version = 99");
        whole = read(path_);
        wal = read(path_ + "-wal");
    }
    clear();
    write(path_, whole);
    write(path_ + "-wal", wal);
    EXPECT_THAT(ids(reopened()), IsEmpty());
    const std::string name = path_ + ".newer-" + kStamp;
    EXPECT_EQ(read(name), whole);
    EXPECT_TRUE(read(name + "-wal") == wal);
    SQLite::Database kept(name, SQLite::OPEN_READWRITE);
    EXPECT_EQ(kept.execAndGet("SELECT count(*) FROM sessions").getInt(), 1) << "a newer cmsshd can go on with it";
}

TEST_F(RegistryTest, SetsAsideAnotherProgramsDatabase) {
    {
        SQLite::Database other(path_, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
        other.exec("CREATE TABLE theirs (x)");
    }
    const std::string before = read(path_);
    EXPECT_THAT(ids(reopened()), IsEmpty());
    EXPECT_EQ(read(path_ + ".foreign-" + kStamp), before);
    sql("PRAGMA application_id = 7");
    EXPECT_THAT(ids(reopened()), IsEmpty());
    EXPECT_THAT(files(), Contains("registry.db.foreign-" + std::string(kStamp) + "-2")) << "no copy replaces another";
}

TEST_F(RegistryTest, SetsAsideAFileWhoseTablesAreNotOurs) {
    make_small_file();
    sql("DROP TABLE connections");
    EXPECT_THAT(ids(reopened()), IsEmpty());
    EXPECT_THAT(files(), Contains("registry.db.damaged-" + std::string(kStamp)));
}

TEST_F(RegistryTest, SetsAsideAWalWhoseFileIsGone) {
    write(path_ + "-wal", "changes");
    EXPECT_THAT(ids(reopened()), IsEmpty());
    EXPECT_EQ(read(path_ + ".damaged-" + kStamp + "-wal"), "changes");
}

TEST_F(RegistryTest, SurvivesATruncationAnywhere) {
    make_small_file();
    const std::string whole = read(path_);
    ASSERT_GT(whole.size(), 16384U);
    for (std::size_t size = 0; size < whole.size(); size += 256) {
        clear();
        write(path_, whole.substr(0, size));
        expect_old_or_set_aside(whole.substr(0, size), "cut to " + std::to_string(size));
    }
}

TEST_F(RegistryTest, SurvivesGarbageAnywhere) {
    make_small_file();
    const std::string whole = read(path_);
    for (std::size_t at = 0; at < whole.size(); at += 256) {
        std::string damaged = whole;
        damaged.replace(at, 64, 64, '\xa5');
        clear();
        write(path_, damaged);
        SCOPED_TRACE("garbage at " + std::to_string(at));
        std::vector<std::string> known;
        {
            const auto registry = open();
            known = ids(registry->load());
            static_cast<void>(registry->screen("sess-two"));
            if (registry->take_rebuilt()) {
                known.clear();
            }
            registry->put(session("sess-new", 3), Durability::Process);
            EXPECT_FALSE(registry->unsaved());
        }
        known.push_back("sess-new");
        // Garbage within a value is a value.
        EXPECT_THAT(ids(reopened()), testing::IsSupersetOf(known));
    }
}

TEST_F(RegistryTest, SurvivesAWalThatIsCutAnywhere) {
    std::string whole;
    std::string wal;
    {
        const auto registry = open();
        registry->put(session("sess-one", 1), Durability::Process);
        registry->checkpoint();
        registry->put_ended(ended(session("sess-two", 2)), std::string(6000, 's'), Durability::Process);
        whole = read(path_);
        wal = read(path_ + "-wal");
    }
    int with_two = 0;
    for (std::size_t size = 0; size < wal.size() + 256; size += 256) {
        clear();
        write(path_, whole);
        write(path_ + "-wal", wal.substr(0, size));
        const auto registry = open();
        const auto known = ids(registry->load());
        EXPECT_THAT(known, AnyOf(ElementsAre("sess-one"), ElementsAre("sess-one", "sess-two"))) << size;
        EXPECT_EQ(registry->screen("sess-two").has_value(), known.size() == 2) << "with its screen or not at all";
        with_two += known.size() == 2 ? 1 : 0;
    }
    EXPECT_GE(with_two, 1);
    EXPECT_THAT(log_.take(), IsEmpty());
}

TEST_F(RegistryTest, DamageWhileItRunsIsRebuilt) {
    {
        const auto registry = open();
        registry->put_ended(ended(session("sess-old")), std::string(1 << 20, 's'), Durability::Process);
    }
    const auto registry = open();
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-old"));
    {
        const UniqueFd fd(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
        const std::string garbage(4096, '\xa5');
        const auto size = static_cast<off_t>(std::filesystem::file_size(path_));
        for (off_t at = 4096; at < size; at += 4096) {
            ASSERT_EQ(::pwrite(fd.get(), garbage.data(), garbage.size(), at), 4096);
        }
    }
    EXPECT_EQ(registry->screen("sess-old"), std::nullopt);
    EXPECT_THAT(log_.take(), ElementsAre(AllOf(StartsWith("warning registry: " + path_), HasSubstr("malformed"),
                                               HasSubstr(path_ + ".damaged-" + kStamp))));
    EXPECT_TRUE(registry->unsaved()) << "what the owner knows is in no file";
    EXPECT_TRUE(registry->take_rebuilt());
    EXPECT_FALSE(registry->unsaved());
    EXPECT_FALSE(registry->take_rebuilt());
    registry->put(session("sess-old"), Durability::Process);
    registry->put(session("sess-new", 2000), Durability::Process);
    registry->close();
    EXPECT_THAT(ids(reopened()), ElementsAre("sess-old", "sess-new"));
}

TEST_F(RegistryTest, ADiskThatDamagesAgainAndAgainIsNotFilledWithCopies) {
    fakes::FaultyDisk disk;
    const auto registry = open();
    for (int i = 0; i < 10; ++i) {
        disk.fail(SQLITE_CORRUPT, 0, 1);
        registry->put(session("sess-" + std::to_string(i), i), Durability::Process);
        loop_.advance(std::chrono::seconds(1));
    }
    EXPECT_THAT(files(), SizeIs(testing::Le(6U))) << "one copy: each is a file with its -wal and -shm";
    disk.heal();
    registry->retry();
    static_cast<void>(registry->take_rebuilt());
    EXPECT_FALSE(registry->unsaved());
}

TEST_F(RegistryTest, GoesOnFromMemoryWhileTheDiskIsFull) {
    fakes::FaultyDisk disk;
    const auto registry = open();
    registry->put(session("sess-before", 1), Durability::Process);
    registry->put(session("sess-gone", 2), Durability::Process);
    EXPECT_THAT(log_.take(), IsEmpty());

    disk.fail(SQLITE_FULL);
    registry->put(session("sess-during", 3), Durability::Power);
    EXPECT_TRUE(registry->unsaved());
    EXPECT_THAT(log_.take(), ElementsAre("warning registry: " + path_ +
                                         " can't be written (database or disk is full): what changes is kept in "
                                         "memory until it can be"));
    const int calls = disk.calls();
    registry->put_ended(ended(session("sess-ended", 4)), "screen", Durability::Power);
    registry->put(connection("h"));
    registry->remove("sess-gone");
    EXPECT_EQ(disk.calls(), calls) << "not tried again so soon";
    EXPECT_EQ(registry->screen("sess-ended"), "screen");
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-before")) << "the owner knows of the others";
    loop_.advance(Registry::kRetryPause);
    registry->put(session("sess-later", 5), Durability::Process);
    EXPECT_GT(disk.calls(), calls);
    EXPECT_TRUE(registry->unsaved());
    EXPECT_THAT(log_.take(), IsEmpty()) << "once only";

    disk.heal();
    registry->retry();
    EXPECT_FALSE(registry->unsaved());
    EXPECT_FALSE(registry->take_rebuilt());
    EXPECT_THAT(log_.take(), ElementsAre("info registry: " + path_ + " can be written again: 5 entries saved"));
    registry->close();
    const auto again = open();
    const auto contents = again->load();
    EXPECT_THAT(ids(contents), ElementsAre("sess-before", "sess-during", "sess-ended", "sess-later"));
    EXPECT_THAT(contents.connections, SizeIs(1));
    EXPECT_EQ(again->screen("sess-ended"), "screen");
}

TEST_F(RegistryTest, ReadsWhatItHasWhereTheDiskIsFullFromTheStart) {
    std::string whole;
    std::string wal;
    {
        const auto registry = open();
        registry->put_ended(ended(session("sess-old")), "screen", Durability::Process);
        whole = read(path_);
        wal = read(path_ + "-wal");
    }
    write(path_, whole);
    write(path_ + "-wal", wal);
    fakes::FaultyDisk disk;
    disk.fail(SQLITE_FULL);
    const auto registry = open();
    EXPECT_TRUE(registry->unsaved());
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-old"));
    EXPECT_EQ(registry->screen("sess-old"), "screen");
    registry->put(session("sess-new", 2000), Durability::Process);
    disk.heal();
    loop_.advance(Registry::kRetryPause);
    registry->retry();
    EXPECT_FALSE(registry->unsaved());
    EXPECT_FALSE(registry->take_found()) << "it was read";
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-old", "sess-new"));
}

// As a daemon that was killed leaves it: with a WAL, and what SQLite has in memory of it.
TEST_F(RegistryTest, ReadsWhatAKilledDaemonLeftOnADiskThatIsReadOnlyNow) {
    std::map<std::string, std::string> left;
    {
        const auto registry = open();
        registry->put_ended(ended(session("sess-old")), "screen", Durability::Process);
        for (const char* suffix : {"", "-wal", "-shm"}) {
            left[path_ + suffix] = read(path_ + suffix);
        }
    }
    for (const auto& [path, bytes] : left) {
        write(path, bytes);
    }
    fakes::FaultyDisk disk;
    disk.mount_read_only(true);
    const auto registry = open();
    EXPECT_TRUE(registry->unsaved());
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-old"));
    EXPECT_EQ(registry->screen("sess-old"), "screen");
    registry->put(session("sess-new", 2000), Durability::Process);
    disk.mount_read_only(false);
    loop_.advance(Registry::kRetryPause);
    registry->retry();
    EXPECT_FALSE(registry->unsaved());
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-old", "sess-new"));
}

TEST_F(RegistryTest, WhatCouldNotBeReadAtFirstIsFoundLater) {
    make_small_file();
    fakes::FaultyDisk disk;
    disk.fail_reads(true);
    const auto registry = open();
    EXPECT_THAT(ids(registry->load()), IsEmpty());
    EXPECT_TRUE(registry->unsaved());
    registry->put(session("sess-new", 9), Durability::Process);
    registry->remove("sess-one");
    disk.fail_reads(false);
    registry->retry();
    EXPECT_FALSE(registry->unsaved());
    EXPECT_TRUE(registry->take_found());
    EXPECT_FALSE(registry->take_found());
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-two", "sess-new"));
}

TEST_F(RegistryTest, NoSingleFailureLosesAnything) {
    int failing = 0;
    for (bool failed = true; failed; ++failing) {
        SCOPED_TRACE(failing);
        clear();
        fakes::FaultyDisk disk;
        disk.fail(SQLITE_IOERR_WRITE, failing, 1);
        {
            const auto registry = open();
            const auto later = [&] { loop_.advance(Registry::kRetryPause); };
            registry->put(session("sess-a", 1), Durability::Process);
            later();
            registry->put(session("sess-b", 2), Durability::Power);
            registry->checkpoint();
            later();
            registry->put_ended(ended(session("sess-c", 3)), std::string(20000, 's'), Durability::Power);
            registry->put(connection("h"));
            later();
            registry->remove("sess-a");
            registry->checkpoint();
            later();
            registry->retry();
            EXPECT_FALSE(registry->unsaved());
        }
        failed = disk.calls() > failing;
        const auto registry = open();
        const auto contents = registry->load();
        EXPECT_THAT(ids(contents), ElementsAre("sess-b", "sess-c"));
        EXPECT_THAT(contents.connections, SizeIs(1));
        EXPECT_EQ(registry->screen("sess-c"), std::string(20000, 's'));
        EXPECT_EQ(registry->screen("sess-a"), std::nullopt);
    }
    EXPECT_GT(failing, 30);
    EXPECT_THAT(files(), Each(Not(HasSubstr("damaged"))));
}

TEST_F(RegistryTest, ADiskThatFailsForGoodKeepsWhatWasSaved) {
    int failing = 0;
    for (bool failed = true; failed; ++failing) {
        SCOPED_TRACE(failing);
        clear();
        std::vector<std::string> saved;
        std::vector<std::string> put;
        {
            fakes::FaultyDisk disk;
            disk.fail(SQLITE_IOERR_WRITE, failing);
            {
                const auto registry = open();
                for (int i = 0; i < 4; ++i) {
                    const std::string id = "sess-" + std::to_string(i);
                    registry->put(session(id, i), i == 2 ? Durability::Power : Durability::Process);
                    put.push_back(id);
                    if (!registry->unsaved()) {
                        saved = put;
                    }
                    registry->checkpoint();
                }
            }
            failed = disk.calls() > failing;
        }
        const auto found = ids(reopened());
        EXPECT_THAT(found, testing::IsSupersetOf(saved));
        EXPECT_THAT(put, testing::IsSupersetOf(found));
    }
    EXPECT_GT(failing, 30);
    EXPECT_THAT(files(), Each(Not(HasSubstr("damaged"))));
}

TEST_F(RegistryTest, ScreensThatCannotBeSavedAreBounded) {
    fakes::FaultyDisk disk;
    const auto registry = open();
    disk.fail(SQLITE_FULL);
    const std::string screen(Registry::kMaxScreen, 's');
    for (int i = 0; i < 5; ++i) {
        registry->put_ended(ended(session("sess-" + std::to_string(i), i)), screen, Durability::Process);
    }
    EXPECT_TRUE(registry->screen("sess-3").has_value());
    EXPECT_EQ(registry->screen("sess-4"), std::nullopt);
    EXPECT_THAT(log_.take(), Contains(StartsWith("warning sess-4: its last screen is dropped")));
    disk.heal();
    registry->close();
    EXPECT_THAT(ids(reopened()), SizeIs(5));
}

TEST_F(RegistryTest, WhatIsLostAtTheEndIsSaid) {
    fakes::FaultyDisk disk;
    const auto registry = open();
    disk.fail(SQLITE_FULL);
    registry->put(session("sess-a"), Durability::Process);
    static_cast<void>(log_.take());
    registry->close();
    EXPECT_THAT(log_.take(),
                ElementsAre("error registry: " + path_ + " can't be written: 1 entry that changed are lost"));
    registry->put(session("sess-b"), Durability::Process);
    registry->close();
}

// The kernel's own refusal, in a process of its own: what gtest writes must not meet the limit.
TEST_F(RegistryTest, RecoversFromAFileThatMayNotGrow) {
    const auto in_child = [this] {
        ::signal(SIGXFSZ, SIG_IGN);
        const auto limit = [](rlim_t size) {
            rlimit now{};
            ::getrlimit(RLIMIT_FSIZE, &now);
            now.rlim_cur = std::min(size, now.rlim_max);
            ::setrlimit(RLIMIT_FSIZE, &now);
        };
        const auto registry = open();
        registry->put(session("sess-a", 1), Durability::Process);
        limit(std::filesystem::file_size(path_ + "-wal"));
        registry->put(session("sess-b", 2), Durability::Process);
        registry->put_ended(ended(session("sess-c", 3)), std::string(100000, 's'), Durability::Power);
        const bool was_unsaved = registry->unsaved();
        limit(RLIM_INFINITY);
        registry->retry();
        ::_exit(was_unsaved && !registry->unsaved() ? 0 : 1);
    };
    EXPECT_EXIT(in_child(), testing::ExitedWithCode(0), "");
    const auto registry = open();
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-a", "sess-b", "sess-c"));
    EXPECT_EQ(registry->screen("sess-c"), std::string(100000, 's'));
}

TEST_F(RegistryTest, ADirectoryInItsPlaceIsWaitedOut) {
    ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
    const auto registry = open();
    EXPECT_THAT(registry->load().sessions, IsEmpty());
    EXPECT_TRUE(registry->unsaved());
    registry->put(session("sess-a"), Durability::Power);
    EXPECT_THAT(log_.take(), ElementsAre(HasSubstr("Is a directory")));
    ASSERT_EQ(::rmdir(path_.c_str()), 0);
    registry->retry();
    EXPECT_FALSE(registry->unsaved());
    EXPECT_THAT(log_.take(), ElementsAre(HasSubstr("can be written again: 1 entry saved")));
    EXPECT_FALSE(registry->take_rebuilt());
    EXPECT_FALSE(registry->take_found());
    registry->close();
    EXPECT_THAT(ids(reopened()), ElementsAre("sess-a"));
}

TEST_F(RegistryTest, AStateDirectoryThatIsAFileIsWaitedOut) {
    const std::string directory = scratch_.write("state", "");
    path_ = directory + "/registry.db";
    const auto registry = open();
    registry->put(session("sess-a"), Durability::Process);
    EXPECT_TRUE(registry->unsaved());
    std::filesystem::remove(directory);
    ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);
    loop_.advance(Registry::kRetryPause);
    registry->put(session("sess-b", 2000), Durability::Process);
    EXPECT_FALSE(registry->unsaved()) << "a put tries too";
    registry->close();
    EXPECT_THAT(ids(reopened()), ElementsAre("sess-a", "sess-b"));
}

TEST_F(RegistryTest, ASymlinkIsNotFollowed) {
    const std::string target = scratch_.write("target", "");
    for (const char* suffix : {"", "-wal", "-shm", "-journal"}) {
        SCOPED_TRACE(suffix);
        ASSERT_EQ(::symlink(target.c_str(), (path_ + suffix).c_str()), 0);
        const auto registry = open();
        registry->put(session("sess-a"), Durability::Process);
        EXPECT_TRUE(registry->unsaved());
        EXPECT_THAT(registry->load().sessions, IsEmpty());
        EXPECT_THAT(log_.take(), ElementsAre(HasSubstr(path_ + suffix + " is a symlink")));
        EXPECT_EQ(read(target), "");
        std::filesystem::remove(path_ + suffix);
        registry->retry();
        EXPECT_FALSE(registry->unsaved());
        static_cast<void>(log_.take());
    }
}

TEST_F(RegistryTest, BehindASymlinkedDirectoryIsFine) {
    ASSERT_EQ(::mkdir((scratch_ / "real").c_str(), 0700), 0);
    ASSERT_EQ(::symlink("real", (scratch_ / "link").c_str()), 0);
    path_ = scratch_ / "link/registry.db";
    make_small_file();
    EXPECT_THAT(ids(reopened()), SizeIs(2));
}

TEST_F(RegistryTest, AnotherUsersFileIsNotTouched) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "only root can give a file away";
    }
    make_small_file();
    const std::string before = read(path_);
    ASSERT_EQ(::chown(path_.c_str(), 4711, 4711), 0);
    const auto registry = open();
    EXPECT_THAT(registry->load().sessions, IsEmpty());
    registry->put(session("sess-a"), Durability::Process);
    EXPECT_TRUE(registry->unsaved());
    EXPECT_THAT(log_.take(), ElementsAre(HasSubstr(path_ + " belongs to uid 4711")));
    EXPECT_EQ(read(path_), before);
    EXPECT_THAT(files(), ElementsAre("registry.db"));
    ASSERT_EQ(::chown(path_.c_str(), 0, 0), 0);
    registry->retry();
    EXPECT_TRUE(registry->take_found());
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-one", "sess-two", "sess-a"));
}

TEST_F(RegistryTest, SomebodyElsesTransactionIsWaitedOut) {
    const auto registry = open();
    {
        SQLite::Database other(path_, SQLite::OPEN_READWRITE);
        other.exec("BEGIN IMMEDIATE");
        registry->put(session("sess-a"), Durability::Process);
        EXPECT_TRUE(registry->unsaved());
    }
    registry->retry();
    EXPECT_FALSE(registry->unsaved());
    EXPECT_THAT(ids(registry->load()), ElementsAre("sess-a"));
}

TEST_F(RegistryTest, AFileThatWasRemovedIsWrittenAnew) {
    const auto registry = open();
    registry->put(session("sess-a"), Durability::Process);
    clear();
    registry->checkpoint();
    EXPECT_THAT(log_.take(), ElementsAre(HasSubstr("was removed or replaced")));
    EXPECT_TRUE(registry->unsaved());
    EXPECT_TRUE(registry->take_rebuilt());
    registry->put(session("sess-a"), Durability::Process);
    registry->close();
    EXPECT_THAT(ids(reopened()), ElementsAre("sess-a"));
}

TEST_F(RegistryTest, AFileThatWasRemovedIsNotWrittenTo) {
    const auto registry = open();
    registry->put(session("sess-a"), Durability::Process);
    clear();
    registry->put(session("sess-b"), Durability::Power);
    EXPECT_THAT(log_.take(), ElementsAre(HasSubstr("was removed or replaced")));
    EXPECT_TRUE(registry->unsaved()) << "what was in it is not there yet";
    EXPECT_TRUE(registry->take_rebuilt());
    EXPECT_THAT(ids(reopened()), ElementsAre("sess-b"));
}

TEST_F(RegistryTest, WhyAConnectionIsHeldBackIsKept) {
    StoredConnection stored = connection("h");
    stored.held_back = true;
    stored.held_back_by = api::LastError{.kind = "auth_failed",
                                         .message = "no",
                                         .at = "2026-01-01T00:00:00.000Z",
                                         .ssh_stderr = "Permission denied",
                                         .hint = std::nullopt};
    {
        const auto registry = open();
        registry->put(stored);
    }
    EXPECT_EQ(texts(reopened().connections), texts(std::vector{stored}));
    sql("UPDATE connections SET held_back_by = '{}'");
    EXPECT_THAT(reopened().connections, IsEmpty());
}

TEST_F(RegistryTest, RowsThatDoNotDecodeArePassedOver) {
    const std::vector<std::string> session_damage = {"id = 'x'",
                                                     "id = 'sess-a b'",
                                                     "id = x'00ff'",
                                                     "port = 0",
                                                     "port = 65536",
                                                     "port = 'many'",
                                                     "port = 1e300",
                                                     "port = 9223372036854775807",
                                                     "state = 'asleep'",
                                                     "state = 3",
                                                     "exit_code = 1 << 40",
                                                     "command = '{'",
                                                     "command = '[1]'",
                                                     "command = x'5b5d'",
                                                     "command = '{\"a\":1}'",
                                                     "created_ms = -1",
                                                     "created_ms = 1e18",
                                                     "ended_ms = 1 << 62",
                                                     "signals_sent = '[-1]'",
                                                     "signals_sent = '[\"9\"]'",
                                                     "signals_sent = '9'",
                                                     "pane_pid = -1",
                                                     "pending_kill = 'FOO'",
                                                     "server_key = ''",
                                                     "signals_sent = '[1e99]'",
                                                     "command = '" + std::string(100000, '[') + "'"};
    const std::vector<std::string> connection_damage = {
        "user = '-oProxyCommand=x'", "host = 'a b'",       "port = -22",
        "route_host = '-x'",         "route_user = 'a b'", "route_port = 0",
        "ssh_port = 70000",          "ssh_hostname = ''",  "ssh_user = ''",
        "control_path = 'rel'",      "via = 'other'",      "ssh_identityfiles = 'x'"};
    const auto expect_skipped = [this](const std::string& statement, bool sessions) {
        SCOPED_TRACE(statement.substr(0, 80));
        clear();
        {
            const auto registry = open();
            registry->put(session("sess-bad", 1), Durability::Process);
            registry->put(session("sess-good", 2), Durability::Process);
            registry->put(connection("bad"));
            registry->put(connection("good"));
        }
        sql(statement);
        const auto registry = open();
        const auto contents = registry->load();
        EXPECT_THAT(contents.sessions, SizeIs(sessions ? 1 : 2));
        EXPECT_THAT(contents.connections, SizeIs(sessions ? 2 : 1));
        EXPECT_THAT(log_.take(), ElementsAre(StartsWith("warning registry: 1 entries are not understood")));
        EXPECT_FALSE(registry->unsaved());
    };
    for (const auto& damage : session_damage) {
        expect_skipped("UPDATE sessions SET " + damage + " WHERE id = 'sess-bad'", true);
    }
    for (const auto& damage : connection_damage) {
        expect_skipped("UPDATE connections SET " + damage + " WHERE host = 'bad'", false);
    }
}

TEST_F(RegistryTest, ACommitIsAnFsyncOnlyWhereItIsToSurvivePower) {
    fakes::FaultyDisk disk;
    const auto registry = open();
    disk.forget_counts();
    const auto put = [&](Durability durability) { registry->put(session("sess-a"), durability); };
    for (int i = 0; i < 2000; ++i) {
        put(Durability::Process);
    }
    EXPECT_EQ(disk.syncs(), 0);
    EXPECT_GE(disk.writes(), 2000);
    EXPECT_TRUE(registry->has_long_log());
    put(Durability::Power);
    EXPECT_EQ(disk.syncs(), 1);
    put(Durability::Process);
    EXPECT_EQ(disk.syncs(), 1);
    registry->checkpoint();
    EXPECT_FALSE(registry->has_long_log());
    disk.forget_counts();
    put(Durability::Process);
    EXPECT_EQ(disk.syncs(), 0) << "nor the first one after a checkpoint";
    registry->checkpoint();
    disk.forget_counts();
    registry->checkpoint();
    EXPECT_EQ(disk.writes() + disk.syncs(), 0) << "there was nothing to do";
}

// The child says after each put that it is saved; killed, it has kept every one it said.
TEST_F(RegistryTest, AKillLosesNothingThatWasSaved) {
    for (const int until : {1, 2, 17, 60, 150, 400}) {
        SCOPED_TRACE(until);
        clear();
        int ends[2];
        ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        UniqueFd from(ends[0]);
        UniqueFd to(ends[1]);
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            const auto registry = open();
            for (int i = 0;; ++i) {
                const std::string id = "sess-" + std::to_string(i);
                if (i % 3 == 0) {
                    registry->put_ended(ended(session(id, i)), std::string(5000, 's'), Durability::Process);
                } else {
                    registry->put(session(id, i), i % 20 == 0 ? Durability::Power : Durability::Process);
                }
                if (i % 25 == 0) {
                    registry->checkpoint();
                }
                if (registry->unsaved() || ::write(to.get(), "x", 1) != 1) {
                    ::_exit(1);
                }
            }
        }
        to.reset();
        char byte = 0;
        int saved = 0;
        while (saved < until && ::read(from.get(), &byte, 1) == 1) {
            ++saved;
        }
        ::kill(child, SIGKILL);
        while (::read(from.get(), &byte, 1) == 1) {
            ++saved;
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_TRUE(WIFSIGNALED(status));
        EXPECT_GE(saved, until);
        const auto registry = open();
        const auto found = registry->load().sessions;
        EXPECT_GE(static_cast<int>(found.size()), saved);
        EXPECT_LE(static_cast<int>(found.size()), saved + 1);
        int i = 0;
        for (const StoredSession& each : found) {
            EXPECT_EQ(each.view.id, "sess-" + std::to_string(i));
            EXPECT_EQ(registry->screen(each.view.id).has_value(), i % 3 == 0);
            ++i;
        }
    }
    EXPECT_THAT(log_.take(), IsEmpty());
}

}  // namespace
}  // namespace cmssh
