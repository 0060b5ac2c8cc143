// What cmctl prints: data on stdout, everything else on stderr. Text that came from a server or from another program
// goes through printable() before a terminal sees it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/call.hpp"
#include "client/options.hpp"
#include "protocol/jsonrpc.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client {

enum class Style { Plain, Good, Doubtful, Bad, Faint };

struct Cell {
    std::string text;  // made printable by the table
    Style style = Style::Plain;
};

// With the colour of the style around it.
[[nodiscard]] std::string styled(const std::string& text, Style style);

// Columns as wide as their widest cell, or cut so that all fit on the terminal.
class Table {
public:
    // Without a header where it is empty.
    explicit Table(std::vector<std::string> header);
    void add(std::vector<Cell> row);
    [[nodiscard]] bool empty() const { return rows_.empty(); }
    // width 0: nothing is cut.
    [[nodiscard]] std::string render(bool color, std::size_t width) const;
    // To stdout.
    void print(const GlobalOptions& global) const;

private:
    std::vector<std::string> header_;
    std::vector<std::vector<Cell>> rows_;
};

// Of the terminal on stdout, in columns; 0: it is none, or does not tell.
[[nodiscard]] std::size_t terminal_width();
// By --color, NO_COLOR and whether stdout is a terminal.
[[nodiscard]] bool use_color(const GlobalOptions& global);

void print_line(const std::string& text);  // to stdout
void print_json(const Json& json);         // to stdout, ASCII only: no terminal acts on it
// The error and what to type next, to stderr; gives the exit code.
int print_error(const GlobalOptions& global, const CallError& failure);
// To stderr, as it stands but for the commands of cmctl in it (see for_typing()).
void print_note(const GlobalOptions& global, const std::string& lines);

// Where there is no more to show than the failure, or the result as --json has it: the exit code.
template <typename T>
std::optional<int> print_outcome(const GlobalOptions& global, const Outcome<T>& outcome) {
    if (const auto* failure = std::get_if<CallError>(&outcome)) {
        return print_error(global, *failure);
    }
    if (global.json) {
        print_json(std::get<Reply<T>>(outcome).json);
        return exit_code::kOk;
    }
    return std::nullopt;
}

// The words as one would type them into a POSIX shell.
[[nodiscard]] std::string command_text(const std::vector<std::string>& command);
// "45s", "12m", "3h", "5d"; empty where the text is no RFC 3339 time in UTC.
[[nodiscard]] std::string age_text(const std::string& time);
[[nodiscard]] std::string duration_text(double seconds);
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);
// "1 session", "2 sessions"
[[nodiscard]] std::string count_text(std::uint64_t count, const std::string& noun);

// "running", "exited 3", "exited by TERM", "lost (the server was rebooted)"
[[nodiscard]] std::string state_text(const api::Session& session);
[[nodiscard]] Style style_of(api::SessionState state);
[[nodiscard]] Style style_of(api::ConnectionState state);

// What a session's end means for a script: the command's own code, 128+n for a signal, 129 killed, 1 lost.
[[nodiscard]] int exit_code_of(const api::Session& session);

// On a terminal: one line on stderr that says what a call waits for, drawn once it takes longer than a moment and gone
// when the call is.
class StatusLine {
public:
    StatusLine();
    ~StatusLine();
    StatusLine(const StatusLine&) = delete;
    StatusLine& operator=(const StatusLine&) = delete;

    void set(std::string_view text);
    void tick();
    void clear();

private:
    bool terminal_ = false;
    bool drawn_ = false;
    std::size_t turns_ = 0;
    std::string text_;
    Instant began_;
};

}  // namespace cmssh::client
