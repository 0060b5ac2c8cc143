#include "daemon/session/registry_file.hpp"

#include <SQLiteCpp/Backup.h>
#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "daemon/base/log.hpp"
#include "daemon/base/unique_fd.hpp"
#include "daemon/session/registry_rows.hpp"

namespace cmssh {
namespace {

using NotUsable = RegistryFile::NotUsable;
using NotOurs = RegistryFile::NotOurs;

constexpr int kApplicationId = 0x636d7368;  // "cmsh"

// One step for each version, in order; a step that was released is never changed. Without a rowid the primary key is
// the table: a put writes one page and not two.
constexpr std::array kMigrations = std::to_array<const char*>({
    R"(CREATE TABLE sessions (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT NOT NULL,
        ctx TEXT NOT NULL,
        user TEXT NOT NULL,
        host TEXT NOT NULL,
        port INTEGER NOT NULL,
        via TEXT,
        server_key TEXT NOT NULL,
        command TEXT NOT NULL,       -- JSON, a list
        cwd TEXT,
        state TEXT NOT NULL,
        exit_code INTEGER,
        signal TEXT,
        reason TEXT,
        created_at TEXT NOT NULL,
        ended_at TEXT,
        as_of TEXT NOT NULL,
        tmux_socket TEXT NOT NULL,
        tmux_session TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        ended_ms INTEGER NOT NULL,   -- 0: not ended
        request_id TEXT NOT NULL,    -- '': none
        pane_id TEXT NOT NULL,       -- '': not known
        window_id TEXT NOT NULL,
        pane_pid INTEGER NOT NULL,
        boot_id TEXT NOT NULL,       -- '': not known
        tmux_life TEXT NOT NULL,
        signals_sent TEXT NOT NULL,  -- JSON, a list of numbers
        pending_kill TEXT            -- '': by tmux, else signals' names
    ) WITHOUT ROWID;
    CREATE TABLE connections (
        key_text TEXT PRIMARY KEY NOT NULL,
        user TEXT NOT NULL,
        host TEXT NOT NULL,
        port INTEGER NOT NULL,
        via TEXT NOT NULL,
        alias TEXT NOT NULL,
        identity TEXT NOT NULL,
        control_path TEXT NOT NULL,
        route_host TEXT NOT NULL,
        route_user TEXT,
        route_port INTEGER,
        route_identity_file TEXT,
        ssh_user TEXT NOT NULL,
        ssh_hostname TEXT NOT NULL,
        ssh_port INTEGER NOT NULL,
        ssh_proxyjump TEXT NOT NULL,
        ssh_proxycommand TEXT NOT NULL,
        ssh_hostkeyalias TEXT NOT NULL,
        ssh_identityfiles TEXT NOT NULL,  -- JSON, a list
        ssh_identitiesonly INTEGER NOT NULL,
        ssh_server_alive_set INTEGER NOT NULL
    ) WITHOUT ROWID;)",
    // Apart from the sessions: all of those are read at start, a screen only when somebody asks for it.
    R"(CREATE TABLE screens (
        id TEXT PRIMARY KEY NOT NULL,  -- of the session
        screen BLOB NOT NULL
    );)",
    "ALTER TABLE connections ADD COLUMN held_back INTEGER NOT NULL DEFAULT 0;",
    R"(CREATE TABLE forwards (
        id TEXT PRIMARY KEY NOT NULL,
        ctx TEXT NOT NULL,
        server_key TEXT NOT NULL,
        kind TEXT NOT NULL,
        listen TEXT NOT NULL,
        target TEXT,
        session TEXT,
        lease TEXT,
        asked_listen TEXT NOT NULL
    ) WITHOUT ROWID;)",
    "ALTER TABLE connections ADD COLUMN held_back_by TEXT;  -- JSON, a LastError",
});
constexpr int kVersion = static_cast<int>(kMigrations.size());

// What is read at start: 10 ms for ten thousand sessions. Their screens may be gigabytes; damage there shows when one
// is read.
struct Table {
    const char* name;
    int since;  // the version
};
constexpr std::array kChecked =
    std::to_array<Table>({{"sqlite_schema", 1}, {"sessions", 1}, {"connections", 1}, {"forwards", 4}});

// Where another process has the file: it only ever looks, and the loop waits meanwhile.
constexpr int kBusyTimeoutMs = 50;

constexpr std::array kBeside = {"-wal", "-shm", "-journal"};

bool is_damage(int code) {
    switch (code & 0xff) {
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_FORMAT:
        // The statements fit the tables of kMigrations: these are not ours any more.
        case SQLITE_ERROR:
        case SQLITE_CONSTRAINT:
        case SQLITE_MISMATCH:
            return true;
        default:
            return false;
    }
}

// SQLite's errors become one of our two.
template <typename Step>
auto translated(Step&& step) {
    try {
        return step();
    } catch (const SQLite::Exception& error) {
        if (is_damage(error.getErrorCode())) {
            throw NotOurs("damaged", error.what());
        }
        throw NotUsable(error.what());
    }
}

bool exists(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0;
}

// The size of one of our files, made private where it is not; nullopt where there is none.
std::optional<off_t> inspect(const std::string& path, int flags) {
    const UniqueFd fd(::open(path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
    if (!fd) {
        if (errno == ENOENT && (flags & O_CREAT) == 0) {
            return std::nullopt;
        }
        throw NotUsable(path + (errno == ELOOP ? " is a symlink" : std::string(": ") + std::strerror(errno)));
    }
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
        throw NotUsable(path + " is not a file");
    }
    if (status.st_uid != ::geteuid()) {
        throw NotUsable(path + " belongs to uid " + std::to_string(status.st_uid));
    }
    if ((status.st_mode & 077U) != 0 && ::fchmod(fd.get(), 0600) != 0 && errno != EROFS) {
        throw NotUsable(path + " is open to other users");
    }
    return status.st_size;
}

off_t inspect_wal(const std::string& path) {
    off_t wal = 0;
    for (const char* suffix : kBeside) {
        const auto size = inspect(path + suffix, O_RDONLY);
        if (suffix == kBeside.front()) {
            wal = size.value_or(0);
        }
    }
    return wal;
}

// SQLite refuses a symlink anywhere in a path; only the file itself must not be one.
std::string resolved(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(directory.c_str(), nullptr), &std::free);
    if (real == nullptr) {
        throw NotUsable(directory + ": " + std::strerror(errno));
    }
    return std::string(real.get()) + '/' + path.substr(slash == std::string::npos ? 0 : slash + 1);
}

std::string free_name(const std::string& path) {
    std::string name = path;
    for (int number = 2; exists(name); ++number) {
        name = path + "-" + std::to_string(number);
    }
    return name;
}

int pragma(SQLite::Database& database, const std::string& name) {
    return database.execAndGet("PRAGMA " + name).getInt();
}

// A file that is set aside keeps its WAL as it is.
void keep_wal(SQLite::Database& database, bool keep) {
    ::sqlite3_db_config(database.getHandle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep ? 1 : 0, nullptr);
}

// The version of the tables in it; 0 for an empty file.
int identify(SQLite::Database& database) {
    const int application = pragma(database, "application_id");
    const int version = pragma(database, "user_version");
    if (application == 0 && version == 0 && database.execAndGet("SELECT count(*) FROM sqlite_schema").getInt() == 0) {
        return 0;
    }
    if (application != kApplicationId) {
        throw NotOurs("foreign", "it is another program's database");
    }
    if (version > kVersion) {
        throw NotOurs("newer", "it is of a newer cmsshd: version " + std::to_string(version) + ", known are up to " +
                                   std::to_string(kVersion));
    }
    if (version < 1) {
        throw NotOurs("damaged", "its version is " + std::to_string(version));
    }
    return version;
}

void keep_copy(SQLite::Database& database, const std::string& path) {
    const std::string name = free_name(path);
    static_cast<void>(inspect(name, O_RDWR | O_CREAT | O_EXCL));
    try {
        SQLite::Database copy(name, SQLite::OPEN_READWRITE | SQLite::OPEN_NOFOLLOW);
        if (SQLite::Backup(copy, database).executeStep() != SQLITE_DONE) {
            throw NotUsable("a copy before the migration could not be made");
        }
    } catch (const std::exception&) {
        ::unlink(name.c_str());
        throw;
    }
    log_info("registry", name + ": the registry as it was before its migration");
}

void migrate(SQLite::Database& database, int from) {
    SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
    for (int version = from; version < kVersion; ++version) {
        database.exec(kMigrations.at(static_cast<std::size_t>(version)));
    }
    database.exec("PRAGMA application_id = " + std::to_string(kApplicationId));
    database.exec("PRAGMA user_version = " + std::to_string(kVersion));
    transaction.commit();
}

void check_structure(SQLite::Database& database, int version) {
    for (const Table& table : kChecked) {
        if (version < table.since) {
            continue;
        }
        const std::string answer =
            database.execAndGet(std::string("PRAGMA quick_check(") + table.name + ")").getString();
        if (answer != "ok") {
            throw NotOurs("damaged", answer);
        }
    }
}

template <typename Rows>
void read_rows(SQLite::Database& database, const std::string& select, Rows& out) {
    SQLite::Statement statement(database, select);
    std::size_t passed_over = 0;
    std::string first;
    while (statement.executeStep()) {
        const std::string problem = rows::read(statement, out.emplace_back());
        if (problem.empty()) {
            continue;
        }
        out.pop_back();
        if (passed_over++ == 0) {
            first = statement.getColumn(0).getString() + ": " + problem;
        }
    }
    if (passed_over > 0) {
        log_warn("registry",
                 std::to_string(passed_over) + " entries are not understood and passed over; the first: " + first);
    }
}

void read_contents(SQLite::Database& database, StoredContents& contents) {
    read_rows(database, rows::select_sessions(), contents.sessions);
    read_rows(database, rows::select_connections(), contents.connections);
    read_rows(database, rows::select_forwards(), contents.forwards);
    contents.sessions.sort([](const auto& one, const auto& other) { return one.created_ms < other.created_ms; });
}

constexpr const char* kSelectScreen = "SELECT screen FROM screens WHERE id = ?";

std::optional<std::string> read_screen(SQLite::Statement& statement, std::string_view id) {
    statement.bind(1, std::string(id));
    std::optional<std::string> screen;
    if (statement.executeStep() && statement.getColumn(0).isBlob()) {
        screen = statement.getColumn(0).getString();
    }
    statement.reset();
    return screen;
}

template <typename Read>
void with_read_only(const std::string& path, Read&& read) {
    const std::string file = resolved(path);
    if (!inspect(file, O_RDONLY)) {
        throw NotUsable(path + ": there is none");
    }
    const bool has_wal = inspect_wal(file) > 0;
    const auto read_from = [&read](SQLite::Database& database) {
        keep_wal(database, true);
        if (identify(database) != kVersion) {
            throw NotUsable("it is of another version");
        }
        read(database);
    };
    try {
        SQLite::Database database(file, SQLite::OPEN_READWRITE | SQLite::OPEN_NOFOLLOW, kBusyTimeoutMs);
        // No -shm file, for which a full disk has no room.
        database.exec("PRAGMA locking_mode = EXCLUSIVE");
        read_from(database);
        return;
    } catch (const SQLite::Exception&) {
        // A file system that is read only. Without its WAL a file may be one that was never whole; SQLite reads both
        // where the -shm file of a daemon that was killed is still there.
        if (has_wal) {
            SQLite::Database database(file, SQLite::OPEN_READONLY | SQLite::OPEN_NOFOLLOW, kBusyTimeoutMs);
            read_from(database);
            return;
        }
    }
    std::string uri = "file:";
    for (const char c : file) {
        if (c == '%' || c == '?' || c == '#') {
            std::array<char, 4> escaped{};
            std::snprintf(escaped.data(), escaped.size(), "%%%02x", static_cast<unsigned>(c));
            uri += escaped.data();
        } else {
            uri += c;
        }
    }
    SQLite::Database database(uri + "?immutable=1", SQLite::OPEN_READONLY | SQLite::OPEN_URI);
    read_from(database);
}

}  // namespace

// The statements go before the database.
struct RegistryFile::Handles {
    explicit Handles(const std::string& file)
        // The daemon has one thread.
        : database(file, SQLite::OPEN_READWRITE | SQLite::OPEN_NOFOLLOW | SQLite::OPEN_NOMUTEX, kBusyTimeoutMs) {}

    struct Statements {
        explicit Statements(SQLite::Database& database)
            : begin(database, "BEGIN IMMEDIATE"),
              commit(database, "COMMIT"),
              rollback(database, "ROLLBACK"),
              put_session(database, rows::insert_session()),
              remove_session(database, "DELETE FROM sessions WHERE id = ?"),
              put_screen(database, "INSERT OR REPLACE INTO screens (id, screen) VALUES (?, ?)"),
              remove_screen(database, "DELETE FROM screens WHERE id = ?"),
              get_screen(database, kSelectScreen),
              put_connection(database, rows::insert_connection()),
              remove_connection(database, "DELETE FROM connections WHERE key_text = ?"),
              put_forward(database, rows::insert_forward()),
              remove_forward(database, "DELETE FROM forwards WHERE id = ?") {}

        SQLite::Statement begin;
        SQLite::Statement commit;
        SQLite::Statement rollback;
        SQLite::Statement put_session;
        SQLite::Statement remove_session;
        SQLite::Statement put_screen;
        SQLite::Statement remove_screen;
        SQLite::Statement get_screen;
        SQLite::Statement put_connection;
        SQLite::Statement remove_connection;
        SQLite::Statement put_forward;
        SQLite::Statement remove_forward;
    };

    static void run(SQLite::Statement& statement) {
        statement.exec();
        statement.reset();
        statement.clearBindings();
    }
    static void remove(SQLite::Statement& statement, const std::string& key) {
        statement.bindNoCopy(1, key);
        run(statement);
    }
    // SQLite::Transaction has its three statements parsed each time.
    class Transaction {
    public:
        explicit Transaction(Statements& statements) : statements_(statements) { run(statements_.begin); }
        ~Transaction() {
            if (!committed_) {
                statements_.commit.tryReset();
                statements_.rollback.tryExecuteStep();
                statements_.rollback.tryReset();
            }
        }
        Transaction(const Transaction&) = delete;
        Transaction& operator=(const Transaction&) = delete;
        void commit() {
            run(statements_.commit);
            committed_ = true;
        }

    private:
        Statements& statements_;
        bool committed_ = false;
    };
    // A commit that changes nothing.
    void touch() { database.exec("PRAGMA user_version = " + std::to_string(kVersion)); }

    SQLite::Database database;
    std::optional<Statements> statements;
};

RegistryFile::RegistryFile(const std::string& path, const std::string& stamp, bool check) : path_(path) {
    const std::string file = resolved(path);
    const off_t size = inspect(file, O_RDWR | O_CREAT).value_or(0);
    if (const off_t wal = inspect_wal(file); size == 0 && wal > 0) {
        throw NotOurs("damaged", "it is empty, with changes beside it that were made to a file that is gone");
    }
    translated([&] {
        handles_ = std::make_unique<Handles>(file);
        SQLite::Database& database = handles_->database;
        keep_wal(database, true);
        // 512 KiB of cache are plenty for rows that are written once and read at start. Debian's SQLite overwrites what
        // is deleted with zeros: a removed screen of 16 MiB would be written once more.
        database.exec(
            "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -512;"
            "PRAGMA secure_delete = FAST");
        const int version = identify(database);
        fresh_ = version == 0;
        if (check && !fresh_) {
            check_structure(database, version);
        }
        // SQLite would move the WAL into the file within a commit, with fsyncs, at a thousand pages: that is for
        // checkpoint(), and this the net where the daemon is never idle. 64 MiB.
        database.exec(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 16384; PRAGMA journal_size_limit = 4194304");
        if (version < kVersion) {
            database.exec("PRAGMA synchronous = FULL");
            if (!fresh_) {
                keep_copy(database, path + ".v" + std::to_string(version) + "-" + stamp);
            }
            migrate(database, version);
        }
        database.exec("PRAGMA synchronous = NORMAL");
        handles_->statements.emplace(database);
        handles_->touch();
        struct stat status {};
        if (::lstat(path.c_str(), &status) != 0) {
            throw NotUsable(path + ": " + std::strerror(errno));
        }
        device_ = status.st_dev;
        inode_ = status.st_ino;
    });
}

RegistryFile::~RegistryFile() = default;

void RegistryFile::write(const StoredChanges& changes) {
    translated([&] {
        SQLite::Database& database = handles_->database;
        Handles::Statements& statements = *handles_->statements;
        const bool survives_power = changes.durability == Durability::Power;
        if (survives_power) {
            database.exec("PRAGMA synchronous = FULL");
        }
        Handles::Transaction transaction(statements);
        for (const auto& [id, session] : changes.sessions) {
            if (session) {
                rows::bind(statements.put_session, *session);
                Handles::run(statements.put_session);
            } else {
                Handles::remove(statements.remove_session, id);
            }
        }
        for (const auto& [id, screen] : changes.screens) {
            if (screen) {
                statements.put_screen.bindNoCopy(1, id);
                statements.put_screen.bindNoCopy(2, screen->data(), static_cast<int>(screen->size()));
                Handles::run(statements.put_screen);
            } else {
                Handles::remove(statements.remove_screen, id);
            }
        }
        for (const auto& [key, connection] : changes.connections) {
            if (connection) {
                rows::bind(statements.put_connection, *connection);
                Handles::run(statements.put_connection);
            } else {
                Handles::remove(statements.remove_connection, key);
            }
        }
        for (const auto& [id, forward] : changes.forwards) {
            if (forward) {
                rows::bind(statements.put_forward, *forward);
                Handles::run(statements.put_forward);
            } else {
                Handles::remove(statements.remove_forward, id);
            }
        }
        transaction.commit();
        if (survives_power) {
            database.exec("PRAGMA synchronous = NORMAL");
        }
    });
}

void RegistryFile::read(StoredContents& contents) {
    translated([&] {
        read_contents(handles_->database, contents);
        handles_->database.exec("PRAGMA shrink_memory");
    });
}

std::optional<std::string> RegistryFile::screen(std::string_view id) {
    return translated([&] { return read_screen(handles_->statements->get_screen, id); });
}

void RegistryFile::checkpoint() {
    translated([&] {
        // Another process that reads keeps some of it in the WAL: for the next time.
        handles_->database.exec("PRAGMA wal_checkpoint(PASSIVE)");
        handles_->touch();
    });
}

void RegistryFile::finish() {
    keep_wal(handles_->database, false);
}

bool RegistryFile::in_place() const {
    struct stat status {};
    return ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

std::string RegistryFile::set_aside(const std::string& path, const std::string& kind, const std::string& stamp) {
    std::string name = free_name(path + "." + kind + "-" + stamp);
    // The file goes first: without its WAL in this place it would look whole and lack the latest commits.
    if (::rename(path.c_str(), name.c_str()) != 0) {
        throw NotUsable(path + " can't be renamed: " + std::strerror(errno));
    }
    for (const char* suffix : kBeside) {
        if (::rename((path + suffix).c_str(), (name + suffix).c_str()) != 0 && errno != ENOENT) {
            throw NotUsable(path + suffix + " can't be renamed: " + std::strerror(errno));
        }
    }
    return name;
}

void RegistryFile::read_only(const std::string& path, StoredContents& contents) {
    translated([&] {
        with_read_only(path, [&contents](SQLite::Database& database) {
            StoredContents found;
            read_contents(database, found);
            contents = std::move(found);
        });
    });
}

std::optional<std::string> RegistryFile::read_only_screen(const std::string& path, std::string_view id) {
    return translated([&] {
        std::optional<std::string> screen;
        with_read_only(path, [&](SQLite::Database& database) {
            SQLite::Statement statement(database, kSelectScreen);
            screen = read_screen(statement, id);
        });
        return screen;
    });
}

}  // namespace cmssh
