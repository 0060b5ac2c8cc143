// Sessions, connections and forwards as rows: one list of columns for each table, from which its statements, the
// writing and the reading come. Rows that are read are hostile: types, ranges and names are checked.
#pragma once

#include <SQLiteCpp/Statement.h>

#include <string>

#include "daemon/session/stored.hpp"

namespace cmssh::rows {

// "INSERT OR REPLACE INTO …" for bind(), and "SELECT …" for read().
[[nodiscard]] std::string insert_session();
[[nodiscard]] std::string select_sessions();
[[nodiscard]] std::string insert_connection();
[[nodiscard]] std::string select_connections();
[[nodiscard]] std::string insert_forward();
[[nodiscard]] std::string select_forwards();

// The statement keeps pointers into the value: it is run before the value goes.
void bind(SQLite::Statement& statement, const StoredSession& session);
void bind(SQLite::Statement& statement, const StoredConnection& connection);
void bind(SQLite::Statement& statement, const StoredForward& forward);

// What is wrong with the row; empty: nothing.
[[nodiscard]] std::string read(const SQLite::Statement& statement, StoredSession& session);
[[nodiscard]] std::string read(const SQLite::Statement& statement, StoredConnection& connection);
[[nodiscard]] std::string read(const SQLite::Statement& statement, StoredForward& forward);

}  // namespace cmssh::rows
