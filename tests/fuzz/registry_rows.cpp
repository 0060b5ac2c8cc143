// Rows of a registry that somebody else wrote: columns of any type. What is taken is written and read again the same.
// An input has a line for the table, then one for each column: i, r, t, b or n for its type, and the value. A \x01 in a
// text stands for a line feed.
#include "daemon/session/registry_rows.hpp"

#include <SQLiteCpp/SQLiteCpp.h>

#include "daemon/base/log.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh {

// Rows are told of in the log by registry_file.cpp alone.
void log(LogLevel, std::string_view, std::string_view) {}

namespace fuzz {
namespace {

SQLite::Database& memory() {
    static SQLite::Database database(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    return database;
}

// "SELECT a, b FROM t": its columns.
std::string columns_of(const std::string& select) {
    constexpr std::string_view kSelect = "SELECT ";
    return select.substr(kSelect.size(), select.find(" FROM ") - kSelect.size());
}

void bind_value(SQLite::Statement& statement, int at, std::string text) {
    const char type = text.empty() ? 'n' : text.front();
    text.erase(0, 1);
    switch (type) {
        case 'i':
            statement.bind(at, static_cast<std::int64_t>(std::strtoll(text.c_str(), nullptr, 10)));
            break;
        case 'r':
            statement.bind(at, std::strtod(text.c_str(), nullptr));
            break;
        case 't':
            std::replace(text.begin(), text.end(), '\x01', '\n');
            statement.bind(at, text);
            break;
        case 'b':
            statement.bind(at, text.data(), static_cast<int>(text.size()));
            break;
        default:
            statement.bind(at);
    }
}

template <typename Stored>
class Table {
public:
    Table(const std::string& name, const std::string& select, const std::string& insert)
        : columns_(split(columns_of(select), ',').size()),
          given_(memory(), "SELECT ?" + repeated(", ?", columns_ - 1)),
          insert_(make(name, select), insert),
          select_(memory(), select),
          clear_(memory(), "DELETE FROM " + name) {}

    void take(const std::vector<std::string>& lines) {
        for (std::size_t at = 0; at < columns_; ++at) {
            bind_value(given_, static_cast<int>(at + 1), at + 1 < lines.size() ? lines[at + 1] : "");
        }
        Stored stored;
        expect(given_.executeStep(), "a row");
        if (rows::read(given_, stored).empty()) {
            const std::string written = write(stored);
            Stored again;
            expect(select_.executeStep() && rows::read(select_, again).empty(), "what was taken is taken again");
            select_.reset();
            expect(write(again) == written, "as it was");
            select_.reset();
        }
        given_.reset();
    }

private:
    static std::string repeated(const std::string& text, std::size_t times) {
        std::string all;
        for (; times > 0; --times) {
            all += text;
        }
        return all;
    }
    static SQLite::Database& make(const std::string& name, const std::string& select) {
        memory().exec("CREATE TABLE " + name + " (" + columns_of(select) + ")");
        return memory();
    }
    std::string write(const Stored& stored) {
        clear_.exec();
        clear_.reset();
        rows::bind(insert_, stored);
        const std::string written = insert_.getExpandedSQL();
        insert_.exec();
        insert_.reset();
        insert_.clearBindings();
        return written;
    }

    std::size_t columns_;
    SQLite::Statement given_;
    SQLite::Statement insert_;
    SQLite::Statement select_;
    SQLite::Statement clear_;
};

}  // namespace

void one_input(std::string_view input) {
    static Table<StoredSession> sessions("sessions", rows::select_sessions(), rows::insert_session());
    static Table<StoredConnection> connections("connections", rows::select_connections(), rows::insert_connection());
    static Table<StoredForward> forwards("forwards", rows::select_forwards(), rows::insert_forward());
    const std::vector<std::string> lines = split(input, '\n');
    if (lines.front() == "sessions") {
        sessions.take(lines);
    } else if (lines.front() == "connections") {
        connections.take(lines);
    } else if (lines.front() == "forwards") {
        forwards.take(lines);
    }
}

}  // namespace fuzz
}  // namespace cmssh
