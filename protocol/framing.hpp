// The two framings of the API socket, told apart by a connection's first byte: one JSON text per line, or
// Content-Length headers as in LSP 3.17 ("Base Protocol"). Pure: bytes in, messages out. One FrameReader per
// connection.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/result.hpp"

namespace cmssh {

enum class Framing { Line, ContentLength };

class FrameReader {
public:
    // max_message: the longest message in bytes that is accepted, without its framing.
    explicit FrameReader(std::size_t max_message);

    void feed(std::string_view bytes);

    // The next whole message; nullopt: more bytes are needed. An error (InvalidRequest for what is neither framing or a
    // bad header, Limit for one that is too long) is final: the connection must be closed after it was told. Empty
    // lines between messages are passed over.
    [[nodiscard]] Result<std::optional<std::string>> next();

    // Line until the first byte says otherwise.
    [[nodiscard]] Framing framing() const { return framing_; }
    // Bytes held and not yet handed out; never more than max_message plus one read.
    [[nodiscard]] std::size_t buffered() const { return buffer_.size() - consumed_; }

private:
    Result<std::optional<std::string>> next_line();
    Result<std::optional<std::string>> next_content_length();
    Result<void> decide();
    Result<void> read_header(std::string_view line);
    // The next line without its end, consumed: valid until the next call. nullopt: its end has not arrived.
    std::optional<std::string_view> take_line();
    void compact();
    Error fail(Error error);

    std::size_t max_message_;
    std::string buffer_;
    std::size_t consumed_ = 0;  // bytes of buffer_ that were handed out
    std::size_t scanned_ = 0;   // bytes of buffer_ known to hold no line end: a long line is not searched anew
    Framing framing_ = Framing::Line;
    bool decided_ = false;
    std::size_t header_bytes_ = 0;       // of the header block being read
    std::optional<std::size_t> length_;  // what Content-Length said
    bool in_body_ = false;               // the header block is complete
    std::optional<Error> failed_;        // an error is final
};

// The message with its framing, ready to be written.
[[nodiscard]] std::string frame(std::string message, Framing framing);

}  // namespace cmssh
