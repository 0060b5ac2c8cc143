#include "protocol/framing.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace cmssh {
namespace {

// LSP peers send one or two short headers; more than this is not one of them.
constexpr std::size_t kMaxHeaderBytes = 4096;
// A buffer that a long message made larger than this is given back once it is empty: 2048 clients may be connected.
constexpr std::size_t kKeptCapacity = 64 * 1024;

constexpr std::string_view kContentLength = "content-length";
constexpr std::string_view kContentType = "content-type";
constexpr std::string_view kSpoken =
    "this socket speaks JSON-RPC 2.0: one JSON text per line, or Content-Length headers as in LSP";

constexpr char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
constexpr bool digit(char c) {
    return c >= '0' && c <= '9';
}
constexpr bool blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}
constexpr bool header_name_char(char c) {
    return digit(c) || (lower(c) >= 'a' && lower(c) <= 'z') || c == '-' || c == '_';
}

bool same_ignoring_case(std::string_view text, std::string_view lower_case) {
    return std::equal(text.begin(), text.end(), lower_case.begin(), lower_case.end(),
                      [](char a, char b) { return lower(a) == b; });
}

std::string_view trim(std::string_view text) {
    while (!text.empty() && blank(text.front())) {
        text.remove_prefix(1);
    }
    while (!text.empty() && blank(text.back())) {
        text.remove_suffix(1);
    }
    return text;
}

Error invalid(std::string message) {
    return Error{.kind = ErrorKind::InvalidRequest, .message = std::move(message)};
}

Error too_long(std::size_t max_message) {
    return Error{.kind = ErrorKind::Limit,
                 .message = "a message may be at most " + std::to_string(max_message) + " bytes long",
                 .hint = "raise rpc.max_message in the configuration, or send less"};
}

}  // namespace

FrameReader::FrameReader(std::size_t max_message) : max_message_(max_message) {}

void FrameReader::feed(std::string_view bytes) {
    if (!failed_) {
        buffer_.append(bytes);
    }
}

Result<std::optional<std::string>> FrameReader::next() {
    if (failed_) {
        return *failed_;
    }
    if (!decided_) {
        if (Result<void> decided = decide(); !decided) {
            return fail(std::move(decided).error());
        }
        if (!decided_) {
            return std::optional<std::string>();
        }
    }
    Result<std::optional<std::string>> message = framing_ == Framing::Line ? next_line() : next_content_length();
    if (!message) {
        return fail(std::move(message).error());
    }
    compact();
    return message;
}

Result<void> FrameReader::decide() {
    if (buffer_.empty()) {
        return {};
    }
    const char first = buffer_.front();
    if (first == '{' || first == '[' || first == '\n' || blank(first)) {
        decided_ = true;
        return {};
    }
    for (const std::string_view name : {kContentLength, kContentType}) {
        const std::size_t length = std::min(buffer_.size(), name.size());
        if (!same_ignoring_case(std::string_view(buffer_).substr(0, length), name.substr(0, length))) {
            continue;
        }
        if (length == name.size()) {
            decided_ = true;
            framing_ = Framing::ContentLength;
        }
        return {};
    }
    return invalid(std::string(kSpoken));
}

std::optional<std::string_view> FrameReader::take_line() {
    const std::size_t end = buffer_.find('\n', scanned_);
    if (end == std::string::npos) {
        scanned_ = buffer_.size();
        return std::nullopt;
    }
    std::string_view line = std::string_view(buffer_).substr(consumed_, end - consumed_);
    if (line.ends_with('\r')) {
        line.remove_suffix(1);
    }
    consumed_ = scanned_ = end + 1;
    return line;
}

Result<std::optional<std::string>> FrameReader::next_line() {
    while (const std::optional<std::string_view> line = take_line()) {
        if (line->size() > max_message_) {
            return too_long(max_message_);
        }
        if (!std::all_of(line->begin(), line->end(), blank)) {
            return std::optional<std::string>(*line);
        }
    }
    // The last byte may be the first half of a line end.
    const std::size_t line_end = buffer_.ends_with('\r') ? 1 : 0;
    if (buffered() > max_message_ + line_end) {
        return too_long(max_message_);
    }
    return std::optional<std::string>();
}

Result<std::optional<std::string>> FrameReader::next_content_length() {
    while (!in_body_) {
        const std::size_t before = consumed_;
        const std::optional<std::string_view> line = take_line();
        if (header_bytes_ + (line ? consumed_ - before : buffered()) > kMaxHeaderBytes) {
            return invalid("the headers of a message may be at most " + std::to_string(kMaxHeaderBytes) +
                           " bytes long");
        }
        if (!line) {
            return std::optional<std::string>();
        }
        if (!line->empty()) {
            header_bytes_ += consumed_ - before;
            if (Result<void> header = read_header(*line); !header) {
                return std::move(header).error();
            }
        } else if (header_bytes_ > 0) {
            if (!length_) {
                return invalid("headers without Content-Length");
            }
            in_body_ = true;
        }
    }
    if (buffered() < *length_) {
        return std::optional<std::string>();
    }
    std::optional<std::string> message = buffer_.substr(consumed_, *length_);
    consumed_ += *length_;
    scanned_ = consumed_;
    header_bytes_ = 0;
    length_.reset();
    in_body_ = false;
    return message;
}

Result<void> FrameReader::read_header(std::string_view line) {
    const std::size_t colon = line.find(':');
    const std::string_view name = line.substr(0, colon);
    if (colon == std::string_view::npos || name.empty() || !std::all_of(name.begin(), name.end(), header_name_char)) {
        return invalid("expected a header such as \"Content-Length: 42\"; is the Content-Length before it right?");
    }
    if (!same_ignoring_case(name, kContentLength)) {
        return {};
    }
    if (length_) {
        return invalid("Content-Length given twice");
    }
    const std::string_view value = trim(line.substr(colon + 1));
    if (value.empty() || !std::all_of(value.begin(), value.end(), digit)) {
        return invalid("Content-Length: expected a number of bytes");
    }
    std::size_t length = 0;
    const std::from_chars_result parsed = std::from_chars(value.data(), value.data() + value.size(), length);
    if (parsed.ec != std::errc() || length > max_message_) {
        return too_long(max_message_);
    }
    length_ = length;
    return {};
}

void FrameReader::compact() {
    if (consumed_ == buffer_.size()) {
        if (buffer_.capacity() > kKeptCapacity) {
            std::string().swap(buffer_);
        }
        buffer_.clear();
    } else if (consumed_ > buffer_.size() / 2) {
        // Less is moved than was consumed: every byte is moved at most once on average.
        buffer_.erase(0, consumed_);
    } else {
        return;
    }
    scanned_ -= consumed_;
    consumed_ = 0;
}

Error FrameReader::fail(Error error) {
    std::string().swap(buffer_);
    consumed_ = scanned_ = 0;
    failed_ = error;
    return error;
}

std::string frame(std::string message, Framing framing) {
    if (framing == Framing::ContentLength) {
        message.insert(0, "Content-Length: " + std::to_string(message.size()) + "\r\n\r\n");
    } else {
        message += '\n';
    }
    return message;
}

}  // namespace cmssh
