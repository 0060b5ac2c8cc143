#include "protocol/tmux_control.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

#include "protocol/utf8.hpp"

namespace cmssh::tmux {
namespace {

Error too_much(std::size_t limit) {
    return Error{.kind = ErrorKind::TmuxFailed,
                 .message = "tmux sent more than " + std::to_string(limit) + " bytes in one line or one reply"};
}

// A decimal number at the beginning of text, which is taken off.
template <typename Integer>
bool take_number(std::string_view& text, Integer& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) {
        return false;
    }
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number >= 0;
}

bool take_space(std::string_view& text) {
    if (!text.starts_with(' ')) {
        return false;
    }
    text.remove_prefix(1);
    return true;
}

// "T N F" of a %begin line.
std::optional<Block> parse_begin(std::string_view text) {
    Block block;
    int flags = 0;
    if (!take_number(text, block.time) || !take_space(text) || !take_number(text, block.number) || !take_space(text) ||
        !take_number(text, flags) || !text.empty()) {
        return std::nullopt;
    }
    block.ours = (flags & 1) != 0;
    return block;
}

std::optional<Notification> parse_notification(std::string_view line) {
    if (!line.starts_with('%')) {
        return std::nullopt;
    }
    line.remove_prefix(1);
    const std::size_t space = line.find(' ');
    Notification notification{.name = std::string(line.substr(0, space)), .rest = {}};
    if (space != std::string_view::npos) {
        notification.rest = line.substr(space + 1);
    }
    if (notification.name.empty()) {
        return std::nullopt;
    }
    return notification;
}

void append_octal(std::string& out, char character) {
    const auto byte = static_cast<unsigned char>(character);
    out += '\\';
    out += static_cast<char>('0' + (byte >> 6));
    out += static_cast<char>('0' + (byte >> 3 & 7));
    out += static_cast<char>('0' + (byte & 7));
}

}  // namespace

ControlParser::ControlParser(std::size_t max_block) : max_block_(max_block) {}

Result<std::vector<Event>> ControlParser::feed(std::string_view bytes) {
    std::vector<Event> events;
    // Once over the limit line_ and open_bytes_ stay as they are, so that every later call fails too.
    while (true) {
        if (line_.size() > max_block_ || open_bytes_ > max_block_) {
            return too_much(max_block_);
        }
        if (bytes.empty()) {
            return events;
        }
        const std::size_t line_end = bytes.find('\n');
        line_.append(bytes.substr(0, line_end));
        if (line_end == std::string_view::npos) {
            bytes = {};
            continue;
        }
        if (line_.size() > max_block_) {
            continue;
        }
        bytes.remove_prefix(line_end + 1);
        std::string line = std::exchange(line_, {});

        if (open_) {
            const bool ended = line == "%end " + end_marker_;
            if (ended || line == "%error " + end_marker_) {
                open_->error = !ended;
                events.emplace_back(*std::exchange(open_, std::nullopt));
                open_bytes_ = 0;
                continue;
            }
            // An empty line costs memory too.
            open_bytes_ += line.size() + sizeof(std::string);
            open_->lines.push_back(std::move(line));
            continue;
        }
        std::optional<Notification> notification = parse_notification(line);
        if (!notification) {
            continue;
        }
        if (notification->name == "begin") {
            open_ = parse_begin(notification->rest);
            if (open_) {
                end_marker_ = std::move(notification->rest);
                continue;
            }
        }
        events.emplace_back(*std::move(notification));
    }
}

std::string quote(std::string_view text) {
    const auto stands_for_itself = [](char character) {
        const auto byte = static_cast<unsigned char>(character);
        return byte >= 0x20 && byte != 0x7f && character != '~' && character != '\\' && character != '"' &&
               character != '$';
    };
    std::string out = "\"";
    out.reserve(text.size() + text.size() / 8 + 2);
    while (!text.empty()) {
        const auto run =
            static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), stands_for_itself) - text.begin());
        out += text.substr(0, run);
        text.remove_prefix(run);
        if (text.empty()) {
            break;
        }
        const char character = text.front();
        text.remove_prefix(1);
        if (character == '\n') {
            out += "\\n";
        } else if (character == '\\' || character == '"' || character == '$') {
            out += '\\';
            out += character;
        } else {
            // tmux replaces a ~ that opens an argument by a home directory, within double quotes as well.
            append_octal(out, character);
        }
    }
    out += '"';
    return out;
}

std::string quote_literal_format(std::string_view text) {
    std::string doubled;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t run_end = std::min(text.find_first_not_of('#', at), text.size());
        const std::string_view run = text.substr(at, run_end - at);
        if (run.empty()) {
            doubled += text[at++];
            continue;
        }
        doubled += run;
        // Before a [ tmux keeps every # as it stands, for the styles that are drawn later (format.c, 3.2 to 3.7).
        if (run_end == text.size() || text[run_end] != '[') {
            doubled += run;
        }
        at = run_end;
    }
    return quote(doubled);
}

std::string command_line(std::string_view name, const std::vector<std::string>& args) {
    std::string line(name);
    for (const std::string& arg : args) {
        line += ' ';
        line += quote(arg);
    }
    return line;
}

bool valid_utf8(std::string_view text) {
    while (!text.empty()) {
        const utf8::Character character = utf8::first_character(text);
        if (!character.valid) {
            return false;
        }
        text.remove_prefix(character.size);
    }
    return true;
}

std::optional<Version> parse_version(std::string_view text) {
    constexpr std::string_view kProgram = "tmux ";
    if (!text.starts_with(kProgram)) {
        return std::nullopt;
    }
    text.remove_prefix(kProgram.size());
    constexpr std::string_view kNext = "next-";
    if (text.starts_with(kNext)) {
        text.remove_prefix(kNext.size());
    }
    Version version;
    if (!take_number(text, version.major) || !text.starts_with('.')) {
        return std::nullopt;
    }
    text.remove_prefix(1);
    if (!take_number(text, version.minor)) {
        return std::nullopt;
    }
    return version;
}

}  // namespace cmssh::tmux
