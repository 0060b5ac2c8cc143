// What a session has printed, as text: cut out of what tmux captured, and a cursor for reading on from there. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/tmux/tmux_commands.hpp"
#include "protocol/methods.hpp"

namespace cmssh {

// Where in a pane's rows, counted from the first that tmux has, a reader has got to. Rows above the screen never
// change: they go in the order they came, a tenth of the limit at a time. What is on the screen may be written over.
struct LogPlace {
    // Of the pane then.
    int width = 0;
    int height = 0;
    int cursor_column = 0;
    int cursor_row = 0;
    std::int64_t history = 0;
    std::int64_t row = 0;               // the first that was not read
    std::string above;                  // 16 hex, of the last rows above the screen; empty: there were none
    std::vector<std::uint32_t> screen;  // of each row of the screen that was read
    // The lines above the screen, as in LogCursor.
    std::int64_t lines_above = 0;
    std::string anchor_above;

    friend bool operator==(const LogPlace&, const LogPlace&) = default;
};

// Where a reader has got to. Lines are counted from the first that tmux still had; once tmux drops the oldest ones, the
// last lines that were read say where the reader was.
struct LogCursor {
    std::int64_t lines = 0;
    std::string anchor;                  // 16 hex; empty: nothing was read yet
    std::optional<LogPlace> place = {};  // with it, only what is new has to be looked at

    friend bool operator==(const LogCursor&, const LogCursor&) = default;
};
[[nodiscard]] std::string to_text(const LogCursor& cursor);
[[nodiscard]] std::optional<LogCursor> parse_log_cursor(std::string_view text);

struct Capture {
    std::vector<std::string> lines;  // as capture-pane -J gives them, oldest first
    bool last_is_open = false;       // the program has not ended the last line yet; where there is no state
    // With these it is known where each line stands. The rows, and in read_on() the lines too, are those from
    // first_row to the bottom of the screen.
    std::optional<tmux::PaneState> state = {};
    std::int64_t first_row = 0;  // counted from the first that tmux has
    std::vector<std::string> rows = {};
};

// The lines after `since`, or the last `params.lines` of them, or all. An open last line has no line end in the text,
// is not given to who reads on or waits, and is never behind the cursor. truncated: earlier lines exist, or existed,
// that the reader has not been given.
[[nodiscard]] api::LogsResult cut_log(Capture capture, const api::LogsParams& params,
                                      const std::optional<LogCursor>& since);

// How many rows above the screen cut_log() wants to be given, if there are as many.
inline constexpr std::int64_t kRowsAbove = 4;

// Nothing has come since.
[[nodiscard]] bool is_seen(const LogPlace& place, const tmux::PaneState& state);
// The row from which on a pane in this state is to be captured for read_on(); nullopt: only all of it will do.
[[nodiscard]] std::optional<std::int64_t> first_row_needed(const LogPlace& place, const tmux::PaneState& state);
// cut_log() for what was captured from a row on: the lines that are new, and those on the screen that were written
// over. nullopt: where the reader was is not found there.
[[nodiscard]] std::optional<api::LogsResult> read_on(Capture capture, const api::LogsParams& params,
                                                     const LogCursor& since);

[[nodiscard]] std::string joined_lines(const std::vector<std::string>& lines);  // each with its line end
[[nodiscard]] std::vector<std::string> split_lines(std::string_view text);

// Without the sequences that tmux writes into a capture: SGR (CSI … m), hyperlinks (OSC 8) and charset shifts.
[[nodiscard]] std::string without_escapes(std::string_view line);

}  // namespace cmssh
