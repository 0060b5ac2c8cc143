#include "daemon/session/screen_text.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace cmssh {
namespace {

constexpr std::string_view kCursorPrefix = "log-";
constexpr std::size_t kAnchorDigits = 16;
constexpr std::size_t kAnchorLines = 4;
// Of each line: the beginning of the oldest one may be gone.
constexpr std::size_t kAnchorTail = 256;

// 64 bits, the same in every process: a cursor outlives the daemon. A search hashes at every line, so it is to be
// cheap.
class Fnv1a {
public:
    void add(std::string_view text) {
        for (const char c : text) {
            value_ = (value_ ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
        }
    }
    [[nodiscard]] std::uint64_t value() const { return value_; }
    [[nodiscard]] std::string hex() const {
        std::string digits;
        for (unsigned shift = 64; shift > 0; shift -= 4) {
            digits += "0123456789abcdef"[(value_ >> (shift - 4)) & 0xFU];
        }
        return digits;
    }

private:
    std::uint64_t value_ = 14695981039346656037ULL;
};

// Over the lines that end before `end`.
std::string anchor_before(const std::vector<std::string>& lines, std::size_t end) {
    if (end == 0) {
        return {};
    }
    Fnv1a hash;
    for (std::size_t i = end - std::min(end, kAnchorLines); i < end; ++i) {
        const std::string_view line = lines[i];
        hash.add(line.substr(line.size() - std::min(line.size(), kAnchorTail)));
        hash.add("\n");
    }
    return hash.hex();
}

// How many of the lines were read before; nullopt: the last that were read are there no more.
std::optional<std::size_t> lines_read(const std::vector<std::string>& lines, std::int64_t count,
                                      const std::string& anchor) {
    if (count == 0) {
        return 0;
    }
    // tmux drops lines at the beginning only: they may have moved up, not down.
    const auto most = std::min<std::uint64_t>(static_cast<std::uint64_t>(count), lines.size());
    for (std::size_t end = most; end > 0; --end) {
        if (anchor_before(lines, end) == anchor) {
            return end;
        }
    }
    return std::nullopt;
}

void remove_trailing_blanks(std::string& line) {
    while (!line.empty() && line.back() == ' ') {
        line.pop_back();
    }
}

// The end of a sequence that begins at `at`, which is an ESC.
std::size_t sequence_end(std::string_view line, std::size_t at) {
    if (at + 1 >= line.size()) {
        return line.size();
    }
    if (line[at + 1] == '[') {
        const auto end = line.find_first_not_of("0123456789;:?", at + 2);
        return end == std::string_view::npos ? line.size() : end + 1;
    }
    if (line[at + 1] == ']') {
        const auto end = line.find("\033\\", at + 2);
        return end == std::string_view::npos ? line.size() : end + 2;
    }
    // A charset: ESC ( B
    return std::min(line.size(), at + (line[at + 1] == '(' || line[at + 1] == ')' ? 3 : 2));
}

constexpr std::size_t kHashBits = 24;
constexpr std::size_t kHashDigits = kHashBits / 4;

std::uint32_t row_hash(std::string_view row) {
    while (row.ends_with(' ')) {
        row.remove_suffix(1);
    }
    Fnv1a hash;
    hash.add(row);
    return static_cast<std::uint32_t>(hash.value() & ((1U << kHashBits) - 1));
}

// A capture, and where its lines stand.
class Grid {
public:
    explicit Grid(Capture capture) : capture_(std::move(capture)) {
        plain_.reserve(capture_.lines.size());
        for (const auto& line : capture_.lines) {
            plain_.push_back(without_escapes(line));
        }
        find_rows();
        for (auto& line : plain_) {
            remove_trailing_blanks(line);
        }
        // What the screen has below the last line that was written.
        while (!plain_.empty() && plain_.back().empty()) {
            plain_.pop_back();
        }
        count_complete();
    }

    [[nodiscard]] const std::vector<std::string>& plain() const { return plain_; }
    [[nodiscard]] const std::string& line(std::size_t i) const { return capture_.lines[i]; }
    // Of the lines, those that the program has ended: all before the one that the cursor is in.
    [[nodiscard]] std::size_t complete() const { return complete_; }
    // false: where lines stand is not known.
    [[nodiscard]] bool has_rows() const { return capture_.state && known_from_ < capture_.lines.size(); }
    [[nodiscard]] const tmux::PaneState& state() const { return *capture_.state; }
    [[nodiscard]] std::int64_t first_row() const { return capture_.first_row; }
    // From this line on their rows are known: [first, end).
    [[nodiscard]] std::size_t known_from() const { return known_from_; }
    [[nodiscard]] std::int64_t first_row_of(std::size_t i) const { return bounds_[i - known_from_]; }
    [[nodiscard]] std::int64_t end_row_of(std::size_t i) const { return bounds_[i - known_from_ + 1]; }
    [[nodiscard]] std::uint32_t hash(std::int64_t row) const {
        return row_hash(capture_.rows[static_cast<std::size_t>(row - capture_.first_row)]);
    }

    // Of the rows above `row`, as many as a place remembers.
    [[nodiscard]] std::string hash_above(std::int64_t row) const {
        if (row == 0) {
            return {};
        }
        Fnv1a all;
        for (std::int64_t i = std::max<std::int64_t>(row - kRowsAbove, 0); i < row; ++i) {
            std::string_view text = capture_.rows[static_cast<std::size_t>(i - capture_.first_row)];
            while (text.ends_with(' ')) {
                text.remove_suffix(1);
            }
            all.add(text);
            all.add("\n");
        }
        return all.hex();
    }

    // The first `read` lines have been read, and they are the last of `count`.
    [[nodiscard]] LogCursor cursor(std::size_t read, std::int64_t count) const {
        LogCursor cursor{.lines = count, .anchor = anchor_before(plain_, read), .place = {}};
        const std::int64_t above = has_rows() ? std::max<std::int64_t>(state().history - kRowsAbove, 0) : 0;
        const bool begins_above = read < known_from_ && read < plain_.size();
        if (!has_rows() || first_row() > above || begins_above) {
            return cursor;
        }
        LogPlace place;
        place.width = state().width;
        place.height = state().height;
        place.cursor_column = state().cursor_column;
        place.cursor_row = state().cursor_row;
        place.history = state().history;
        place.row = read > known_from_ ? end_row_of(read - 1) : first_row_of(known_from_);
        place.above = hash_above(place.history);
        for (std::int64_t row = place.history; row < place.row; ++row) {
            place.screen.push_back(hash(row));
        }
        std::size_t read_above = read;
        while (read_above > known_from_ && end_row_of(read_above - 1) > place.history) {
            --read_above;
        }
        if (is_anchored(read_above)) {
            place.lines_above = std::max<std::int64_t>(count - static_cast<std::int64_t>(read - read_above), 0);
            place.anchor_above = place.lines_above == 0 ? "" : anchor_before(plain_, read_above);
        }
        cursor.place = std::move(place);
        return cursor;
    }
    // The lines before this one are those that a capture of everything would have there, as far as an anchor looks.
    [[nodiscard]] bool is_anchored(std::size_t end) const {
        const bool whole = !capture_.state || known_from_ > 0 || first_row() == 0;
        return whole || end > kAnchorLines;
    }

private:
    // From the last line up: each is some rows, one behind the other, and their number says which.
    void find_rows() {
        known_from_ = capture_.lines.size();
        if (!capture_.state) {
            return;
        }
        auto row = capture_.rows.size();
        bounds_.push_back(capture_.first_row + static_cast<std::int64_t>(row));
        while (known_from_ > 0) {
            std::string_view rest = plain_[known_from_ - 1];
            auto first = row;
            do {
                if (first == 0 || !rest.ends_with(capture_.rows[first - 1])) {
                    return finish_rows();
                }
                --first;
                rest.remove_suffix(capture_.rows[first].size());
            } while (!rest.empty());
            row = first;
            --known_from_;
            bounds_.push_back(capture_.first_row + static_cast<std::int64_t>(row));
        }
        finish_rows();
    }
    void finish_rows() { std::reverse(bounds_.begin(), bounds_.end()); }

    void count_complete() {
        complete_ = plain_.size();
        if (!capture_.state) {
            complete_ -= capture_.last_is_open && complete_ > 0 ? 1 : 0;
            return;
        }
        if (state().dead) {
            return;
        }
        // What a program has put onto a screen of its own it takes away again.
        const std::int64_t end = state().history + (state().alternate ? 0 : state().cursor_row);
        // Of the line before the first whose rows are known, the end is.
        while (complete_ > 0 && complete_ >= known_from_ && bounds_[complete_ - known_from_] > end) {
            --complete_;
        }
    }

    Capture capture_;
    std::vector<std::string> plain_;
    std::size_t known_from_ = 0;
    std::vector<std::int64_t> bounds_;
    std::size_t complete_ = 0;
};

// The last `params.lines` of the lines `given`, as text.
void put_text(api::LogsResult& result, const Grid& grid, const std::vector<std::size_t>& given,
              const api::LogsParams& params) {
    std::size_t begin = 0;
    if (params.lines && given.size() > static_cast<std::size_t>(*params.lines)) {
        begin = given.size() - static_cast<std::size_t>(*params.lines);
        result.truncated = true;
    }
    for (std::size_t i = begin; i < given.size(); ++i) {
        result.text += params.escapes ? grid.line(given[i]) : grid.plain()[given[i]];
        // The last of all may still be written.
        if (given[i] < grid.complete() || given[i] + 1 < grid.plain().size()) {
            result.text += '\n';
        }
    }
}

std::int64_t rows_dropped_at_once(const tmux::PaneState& state) {
    return std::max<std::int64_t>(state.history_limit / 10, 1);
}

// How many of the rows that were there then tmux has dropped, by the fewest that there can be.
std::int64_t rows_dropped(const LogPlace& place, const tmux::PaneState& state) {
    if (state.history >= place.history) {
        return 0;
    }
    // A screen that grew takes rows back from above.
    if (state.history + state.height >= place.history + place.height) {
        return 0;
    }
    const std::int64_t step = rows_dropped_at_once(state);
    return (place.history - state.history + step - 1) / step * step;
}

std::string_view take_part(std::string_view& text, char separator) {
    const auto end = text.find(separator);
    const auto part = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return part;
}

template <typename Number>
bool take_number(std::string_view& text, char separator, Number& number) {
    const auto part = take_part(text, separator);
    const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), number);
    return failure == std::errc() && end == part.data() + part.size() && number >= 0;
}

bool is_anchor(std::string_view text, bool empty) {
    return text.size() == (empty ? 0 : kAnchorDigits) &&
           text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string to_text(const LogPlace& place) {
    std::string text;
    for (const std::int64_t number :
         {std::int64_t{place.width}, std::int64_t{place.height}, std::int64_t{place.cursor_column},
          std::int64_t{place.cursor_row}, place.history, place.row, place.lines_above}) {
        text += std::to_string(number) + '.';
    }
    text += place.above + '.' + place.anchor_above + '.';
    for (const std::uint32_t hash : place.screen) {
        for (unsigned shift = kHashBits; shift > 0; shift -= 4) {
            text += "0123456789abcdef"[(hash >> (shift - 4)) & 0xFU];
        }
    }
    return text;
}

std::optional<LogPlace> parse_place(std::string_view text) {
    // Rows that no terminal has, and their sums are no overflow.
    constexpr std::int64_t kMost = 1'000'000'000'000;
    LogPlace place;
    if (!take_number(text, '.', place.width) || !take_number(text, '.', place.height) ||
        !take_number(text, '.', place.cursor_column) || !take_number(text, '.', place.cursor_row) ||
        !take_number(text, '.', place.history) || !take_number(text, '.', place.row) ||
        !take_number(text, '.', place.lines_above) || place.history > kMost || place.row > kMost) {
        return std::nullopt;
    }
    place.above = take_part(text, '.');
    place.anchor_above = take_part(text, '.');
    if (!is_anchor(place.above, place.history == 0) || !is_anchor(place.anchor_above, place.lines_above == 0)) {
        return std::nullopt;
    }
    const auto rows = static_cast<std::uint64_t>(std::max<std::int64_t>(place.row - place.history, 0));
    if (text.size() != rows * kHashDigits) {
        return std::nullopt;
    }
    for (; !text.empty(); text.remove_prefix(kHashDigits)) {
        std::uint32_t hash = 0;
        const auto [end, failure] = std::from_chars(text.data(), text.data() + kHashDigits, hash, 16);
        if (failure != std::errc() || end != text.data() + kHashDigits) {
            return std::nullopt;
        }
        place.screen.push_back(hash);
    }
    return place;
}

}  // namespace

std::string to_text(const LogCursor& cursor) {
    return std::string(kCursorPrefix) + std::to_string(cursor.lines) + '-' + cursor.anchor +
           (cursor.place ? '-' + to_text(*cursor.place) : "");
}

std::optional<LogCursor> parse_log_cursor(std::string_view text) {
    if (!text.starts_with(kCursorPrefix)) {
        return std::nullopt;
    }
    text.remove_prefix(kCursorPrefix.size());
    LogCursor cursor;
    const auto parts = std::count(text.begin(), text.end(), '-');
    if (parts < 1 || parts > 2 || !take_number(text, '-', cursor.lines)) {
        return std::nullopt;
    }
    cursor.anchor = take_part(text, '-');
    if (!is_anchor(cursor.anchor, cursor.lines == 0)) {
        return std::nullopt;
    }
    if (parts == 2) {
        cursor.place = parse_place(text);
        if (!cursor.place) {
            return std::nullopt;
        }
    }
    return cursor;
}

std::string joined_lines(const std::vector<std::string>& lines) {
    std::string text;
    for (const auto& line : lines) {
        text += line;
        text += '\n';
    }
    return text;
}

std::vector<std::string> split_lines(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty()) {
        const auto end = text.find('\n');
        lines.emplace_back(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    return lines;
}

std::string without_escapes(std::string_view line) {
    std::string plain;
    plain.reserve(line.size());
    for (std::size_t i = 0; i < line.size();) {
        if (line[i] == '\033') {
            i = sequence_end(line, i);
        } else {
            if (line[i] != '\016' && line[i] != '\017') {
                plain += line[i];
            }
            ++i;
        }
    }
    return plain;
}

api::LogsResult cut_log(Capture capture, const api::LogsParams& params, const std::optional<LogCursor>& since) {
    const Grid grid(std::move(capture));
    api::LogsResult result;
    std::size_t begin = 0;
    if (since) {
        auto read = lines_read(grid.plain(), since->lines, since->anchor);
        if (!read && since->place && since->place->lines_above > 0) {
            // The screen was written over, and it was made wider or narrower.
            read = lines_read(grid.plain(), since->place->lines_above, since->place->anchor_above);
        }
        begin = std::min(read.value_or(0), grid.complete());
        result.truncated = !read;
    }
    const std::size_t end = since || params.wait_ms ? grid.complete() : grid.plain().size();
    std::vector<std::size_t> given;
    for (std::size_t i = begin; i < end; ++i) {
        given.push_back(i);
    }
    put_text(result, grid, given, params);
    result.cursor = to_text(grid.cursor(grid.complete(), static_cast<std::int64_t>(grid.complete())));
    return result;
}

bool is_seen(const LogPlace& place, const tmux::PaneState& state) {
    return !state.dead && place.width == state.width && place.height == state.height &&
           place.cursor_column == state.cursor_column && place.cursor_row == state.cursor_row &&
           place.history == state.history;
}

std::optional<std::int64_t> first_row_needed(const LogPlace& place, const tmux::PaneState& state) {
    const std::int64_t dropped = rows_dropped(place, state);
    const std::int64_t from = std::min(place.history, place.row) - dropped;
    // The lines of another width are other rows.
    if (place.width != state.width || from < 0 || from > state.history + state.height) {
        return std::nullopt;
    }
    // Enough lines for an anchor, and as much again as has come: until the capture, more may.
    constexpr std::int64_t kMore = 64;
    return std::max<std::int64_t>(from - kMore - std::max<std::int64_t>(state.history + dropped - place.history, 0), 0);
}

std::optional<api::LogsResult> read_on(Capture capture, const api::LogsParams& params, const LogCursor& since) {
    const Grid grid(std::move(capture));
    if (!since.place || !grid.has_rows() || since.place->width != grid.state().width) {
        return std::nullopt;
    }
    const LogPlace& place = *since.place;
    const std::int64_t dropped = rows_dropped(place, grid.state());
    const std::int64_t top = place.history - dropped;  // of the screen as it was then
    const std::int64_t end = place.row - dropped;      // of what was read
    const std::int64_t screen_end = grid.state().history + grid.state().height;
    if (top < 0 || end < 0 || top > screen_end || grid.known_from() > 0 ||
        grid.first_row() > std::max<std::int64_t>(std::min(top - kRowsAbove, end), 0)) {
        return std::nullopt;
    }
    if (place.history > 0 && (top < std::min(place.history, kRowsAbove) || grid.hash_above(top) != place.above)) {
        return std::nullopt;
    }
    const auto is_unchanged = [&](std::int64_t row) {
        return row >= screen_end || grid.hash(row) == place.screen[static_cast<std::size_t>(row - top)];
    };
    api::LogsResult result;
    if (place.history == 0) {
        // With nothing above it, what was on the screen has to say whether it is still the same.
        bool found = end == 0;
        for (std::int64_t row = 0; row < end && row < screen_end; ++row) {
            found = found || (is_unchanged(row) && grid.hash(row) != row_hash(""));
        }
        if (!found) {
            return std::nullopt;
        }
        result.truncated = end == 0 && grid.state().history + rows_dropped_at_once(grid.state()) >=
                                           std::max<std::int64_t>(grid.state().history_limit, 1);
    }
    std::vector<std::size_t> given;
    std::int64_t count = since.lines;
    std::size_t read = grid.complete();
    for (std::size_t i = 0; i < grid.plain().size(); ++i) {
        const bool is_new = grid.end_row_of(i) > end;
        bool changed = false;
        for (std::int64_t row = std::max(grid.first_row_of(i), top); row < grid.end_row_of(i) && !is_new; ++row) {
            changed = changed || !is_unchanged(row);
        }
        if (i < grid.complete()) {
            if (is_new || (changed && !grid.plain()[i].empty())) {
                given.push_back(i);
            }
            count += is_new ? 1 : 0;
        } else if (i == read && !is_new && !changed) {
            // A program that has gone up to write has not taken back what is below.
            ++read;
        }
    }
    if (!grid.is_anchored(read)) {
        return std::nullopt;
    }
    put_text(result, grid, given, params);
    // A line is a row at least.
    const std::int64_t rows = read > 0 ? grid.end_row_of(read - 1) : grid.first_row();
    result.cursor = to_text(grid.cursor(read, std::min(count, rows)));
    return result;
}

}  // namespace cmssh
