// What a pane shows as text, and cursors that come back from a client. An input has a line for the cursor, one for the
// state of the pane as tmux gives it, and then the rows, of which a \x01 at the end joins the next to the line.
#include "daemon/session/screen_text.hpp"

#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

// As Sessions::capture() makes it: where the rows are not those down to the bottom of the screen, there is no state.
Capture capture_of(const std::vector<std::string>& lines) {
    Capture capture;
    bool goes_on = false;
    for (std::size_t at = 2; at < lines.size(); ++at) {
        std::string row = lines[at];
        const bool wraps = row.ends_with('\x01');
        if (wraps) {
            row.pop_back();
        }
        if (goes_on) {
            capture.lines.back() += row;
        } else {
            capture.lines.push_back(row);
        }
        goes_on = wraps;
        capture.rows.push_back(without_escapes(row));
    }
    const auto state = lines.size() > 1 ? tmux::parse_pane_state({lines[1]}) : std::nullopt;
    const auto rows = static_cast<std::int64_t>(capture.rows.size());
    if (state && state->history + state->height >= rows) {
        capture.state = state;
        capture.first_row = state->history + state->height - rows;
    } else {
        capture.rows.clear();
        capture.last_is_open = goes_on;
    }
    return capture;
}

void check(const api::LogsResult& result) {
    expect(parse_log_cursor(result.cursor).has_value(), "a cursor that we gave is taken back");
}

}  // namespace

void one_input(std::string_view input) {
    const std::vector<std::string> lines = split(input, '\n');
    const auto cursor = parse_log_cursor(lines.front());
    if (cursor) {
        expect(parse_log_cursor(to_text(*cursor)) == cursor, "a cursor is written and read again");
    }
    const Capture capture = capture_of(lines);
    for (const auto lines_wanted : {std::optional<int>(), std::optional<int>(2)}) {
        api::LogsParams params;
        params.lines = lines_wanted;
        params.escapes = lines_wanted.has_value();
        check(cut_log(capture, params, cursor));
        const api::LogsResult all = cut_log(capture, params, std::nullopt);
        check(all);
        const auto end = parse_log_cursor(all.cursor);
        const api::LogsResult more = cut_log(capture, params, end);
        check(more);
        for (const auto& since : {cursor, end}) {
            if (since && since->place && capture.state) {
                static_cast<void>(is_seen(*since->place, *capture.state));
                static_cast<void>(first_row_needed(*since->place, *capture.state));
            }
            if (since) {
                if (const auto read = read_on(capture, params, *since)) {
                    check(*read);
                }
            }
        }
    }
    static_cast<void>(split_lines(input));
}

}  // namespace cmssh::fuzz
