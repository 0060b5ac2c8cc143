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
std::optional<std::size_t> lines_read(const std::vector<std::string>& lines, const LogCursor& since) {
    if (since.lines == 0) {
        return 0;
    }
    // tmux drops lines at the beginning only: they may have moved up, not down.
    const auto most = std::min<std::uint64_t>(static_cast<std::uint64_t>(since.lines), lines.size());
    for (std::size_t end = most; end > 0; --end) {
        if (anchor_before(lines, end) == since.anchor) {
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

}  // namespace

std::string to_text(const LogCursor& cursor) {
    return std::string(kCursorPrefix) + std::to_string(cursor.lines) + '-' + cursor.anchor;
}

std::optional<LogCursor> parse_log_cursor(std::string_view text) {
    if (!text.starts_with(kCursorPrefix)) {
        return std::nullopt;
    }
    text.remove_prefix(kCursorPrefix.size());
    LogCursor cursor;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), cursor.lines);
    if (failure != std::errc() || cursor.lines < 0 || end == text.data() + text.size() || *end != '-') {
        return std::nullopt;
    }
    cursor.anchor = text.substr(static_cast<std::size_t>(end - text.data()) + 1);
    const bool hex = cursor.anchor.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!hex || cursor.anchor.size() != (cursor.lines == 0 ? 0 : kAnchorDigits)) {
        return std::nullopt;
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
    std::vector<std::string> plain;
    plain.reserve(capture.lines.size());
    for (const auto& line : capture.lines) {
        plain.push_back(without_escapes(line));
        remove_trailing_blanks(plain.back());
    }
    // What the screen has below the last line that was written.
    while (!plain.empty() && plain.back().empty()) {
        plain.pop_back();
    }
    const bool open = capture.last_is_open && !plain.empty();
    const std::size_t complete = plain.size() - (open ? 1 : 0);

    api::LogsResult result;
    std::size_t begin = 0;
    std::size_t end = plain.size();
    if (since) {
        end = complete;
        const auto read = lines_read(plain, *since);
        begin = std::min(read.value_or(0), end);
        result.truncated = !read;
    }
    if (params.lines && end - begin > static_cast<std::size_t>(*params.lines)) {
        begin = end - static_cast<std::size_t>(*params.lines);
        result.truncated = true;
    }
    for (std::size_t i = begin; i < end; ++i) {
        result.text += params.escapes ? capture.lines[i] : plain[i];
        if (i < complete) {
            result.text += '\n';
        }
    }
    result.cursor = to_text({.lines = static_cast<std::int64_t>(complete), .anchor = anchor_before(plain, complete)});
    return result;
}

}  // namespace cmssh
