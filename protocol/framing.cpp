#include "protocol/framing.hpp"

#include <algorithm>
#include <charconv>

namespace cmssh {
namespace {

// LSP's headers are two short lines.
constexpr std::size_t kMaxHeaders = 4096;
constexpr std::string_view kContentLength = "content-length";

Error not_ours(std::string what) {
    return Error{.kind = ErrorKind::InvalidRequest,
                 .message = std::move(what),
                 .hint = "this socket speaks JSON-RPC 2.0: one JSON text per line, or Content-Length headers"};
}

Error too_long(std::size_t max_message) {
    return Error{.kind = ErrorKind::Limit,
                 .message = "the message is over " + std::to_string(max_message) + " bytes",
                 .hint = "raise rpc.max_message in the config"};
}

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_word(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
        text.remove_prefix(1);
    }
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) {
        text.remove_suffix(1);
    }
    return text;
}

bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

}  // namespace

FrameReader::FrameReader(std::size_t max_message) : max_message_(max_message) {}

void FrameReader::feed(std::string_view bytes) {
    if (consumed_ == buffer_.size()) {
        buffer_.clear();
        scanned_ = 0;
        consumed_ = 0;
    } else if (consumed_ > buffer_.size() / 2) {
        buffer_.erase(0, consumed_);
        scanned_ -= std::min(scanned_, consumed_);
        consumed_ = 0;
    }
    buffer_.append(bytes);
}

Result<std::optional<std::string>> FrameReader::next() {
    // White space before a message belongs to none.
    while (consumed_ < buffer_.size() && is_blank(buffer_[consumed_])) {
        ++consumed_;
    }
    scanned_ = std::max(scanned_, consumed_);
    if (consumed_ == buffer_.size()) {
        return std::optional<std::string>();
    }
    if (!decided_) {
        const char first = buffer_[consumed_];
        if (first == '{' || first == '[') {
            framing_ = Framing::Line;
        } else if (lower(first) == 'c') {
            framing_ = Framing::ContentLength;
        } else {
            return not_ours("what was sent is not JSON-RPC");
        }
        decided_ = true;
    }
    return framing_ == Framing::Line ? next_line() : next_content_length();
}

Result<std::optional<std::string>> FrameReader::next_line() {
    const auto end = buffer_.find('\n', scanned_);
    if (end == std::string::npos) {
        scanned_ = buffer_.size();
        if (buffered() > max_message_) {
            return too_long(max_message_);
        }
        return std::optional<std::string>();
    }
    if (end - consumed_ > max_message_) {
        return too_long(max_message_);
    }
    std::string_view line = std::string_view(buffer_).substr(consumed_, end - consumed_);
    if (line.ends_with('\r')) {
        line.remove_suffix(1);
    }
    std::string message(line);
    consumed_ = end + 1;
    scanned_ = consumed_;
    return std::optional<std::string>(std::move(message));
}

Result<std::optional<std::string>> FrameReader::next_content_length() {
    const std::string_view unread = std::string_view(buffer_).substr(consumed_);
    std::optional<std::size_t> length;
    std::size_t at = 0;
    for (;;) {
        const auto end = unread.find('\n', at);
        if (end == std::string_view::npos ? unread.size() > kMaxHeaders : end > kMaxHeaders) {
            return not_ours("the headers are over " + std::to_string(kMaxHeaders) + " bytes");
        }
        // A header that can be none is told at once: HTTP's CONNECT begins with a C as well.
        const std::string_view line =
            unread.substr(at, end == std::string_view::npos ? std::string_view::npos : end - at);
        if (at == 0) {
            const auto known = std::min(line.size(), std::string_view("content-").size());
            if (!same_word(line.substr(0, known), std::string_view("content-").substr(0, known))) {
                return not_ours("what was sent is neither JSON nor a Content-Length header");
            }
        }
        if (end == std::string_view::npos) {
            return std::optional<std::string>();
        }
        at = end + 1;
        const std::string_view header = trim(line);
        if (header.empty()) {
            break;
        }
        const auto colon = header.find(':');
        if (colon == std::string_view::npos) {
            return not_ours("a header has no colon");
        }
        if (!same_word(trim(header.substr(0, colon)), kContentLength)) {
            continue;
        }
        const std::string_view digits = trim(header.substr(colon + 1));
        std::size_t value = 0;
        const auto [last, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        if (digits.empty() || last != digits.data() + digits.size() || length) {
            return not_ours("Content-Length is not one number");
        }
        if (failure != std::errc() || value > max_message_) {
            return too_long(max_message_);
        }
        length = value;
    }
    if (!length) {
        return not_ours("the headers hold no Content-Length");
    }
    if (unread.size() - at < *length) {
        return std::optional<std::string>();
    }
    std::string message(unread.substr(at, *length));
    consumed_ += at + *length;
    return std::optional<std::string>(std::move(message));
}

std::string frame(std::string_view message, Framing framing) {
    std::string bytes;
    if (framing == Framing::ContentLength) {
        bytes = "Content-Length: " + std::to_string(message.size()) + "\r\n\r\n";
        bytes += message;
        return bytes;
    }
    bytes.reserve(message.size() + 1);
    bytes += message;
    bytes += '\n';
    return bytes;
}

}  // namespace cmssh
