// What a session has printed, as text: cut out of what tmux captured, and a cursor for reading on from there. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/methods.hpp"

namespace cmssh {

// Where a reader has got to. Lines are counted from the first that tmux still had; once tmux drops the oldest ones, the
// last lines that were read say where the reader was.
struct LogCursor {
    std::int64_t lines = 0;
    std::string anchor;  // 16 hex; empty: nothing was read yet

    friend bool operator==(const LogCursor&, const LogCursor&) = default;
};
[[nodiscard]] std::string to_text(const LogCursor& cursor);
[[nodiscard]] std::optional<LogCursor> parse_log_cursor(std::string_view text);

struct Capture {
    std::vector<std::string> lines;  // as capture-pane -e -J gives them, oldest first
    bool last_is_open = false;       // the program has not ended the last line yet
};

// The lines after `since`, or the last `params.lines` of them, or all. An open last line has no line end in the text,
// is not given where `since` is set, and is never behind the cursor. truncated: earlier lines exist, or existed, that
// the reader has not been given.
[[nodiscard]] api::LogsResult cut_log(Capture capture, const api::LogsParams& params,
                                      const std::optional<LogCursor>& since);

[[nodiscard]] std::string joined_lines(const std::vector<std::string>& lines);  // each with its line end
[[nodiscard]] std::vector<std::string> split_lines(std::string_view text);

// Without the sequences that tmux writes into a capture: SGR (CSI … m), hyperlinks (OSC 8) and charset shifts.
[[nodiscard]] std::string without_escapes(std::string_view line);

}  // namespace cmssh
