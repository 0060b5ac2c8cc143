#include "protocol/framing.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cmssh {
namespace {

struct Outcome {
    std::vector<std::string> messages;
    std::optional<ErrorKind> error;
    std::string error_message;
};

void drain(FrameReader& reader, Outcome& outcome) {
    while (true) {
        Result<std::optional<std::string>> message = reader.next();
        if (!message) {
            outcome.error = message.error().kind;
            outcome.error_message = message.error().message;
            return;
        }
        if (!*message) {
            return;
        }
        outcome.messages.push_back(std::move(**message));
    }
}

Outcome read_all(std::vector<std::string_view> pieces, std::size_t max_message = 1024) {
    FrameReader reader(max_message);
    Outcome outcome;
    for (const std::string_view piece : pieces) {
        reader.feed(piece);
        drain(reader, outcome);
    }
    return outcome;
}

const std::vector<std::string> kTwo = {R"({"a":1})", R"([2])"};

struct Stream {
    const char* name;
    std::string bytes;
    Framing framing;
};

const Stream kStreams[] = {
    {"line", "{\"a\":1}\n[2]\n", Framing::Line},
    {"line with carriage returns", "{\"a\":1}\r\n[2]\r\n", Framing::Line},
    {"empty lines around", "\n\r\n  \n{\"a\":1}\n\n\n[2]\n\n", Framing::Line},
    {"headers", "Content-Length: 7\r\n\r\n{\"a\":1}Content-Length: 3\r\n\r\n[2]", Framing::ContentLength},
    {"lower case and bare line feeds", "content-length:7\n\n{\"a\":1}CONTENT-LENGTH:\t 3 \n\n[2]",
     Framing::ContentLength},
    {"other headers",
     "Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 7\r\nX-Trace: a:b\r\n\r\n"
     "{\"a\":1}Content-Length: 3\r\nContent-Type: x\r\n\r\n[2]",
     Framing::ContentLength},
    {"line ends after a body", "Content-Length: 7\r\n\r\n{\"a\":1}\r\n\nContent-Length: 3\r\n\r\n[2]",
     Framing::ContentLength},
};

TEST(Framing, MessagesAreTheSameWhereverTheStreamIsSplit) {
    for (const Stream& stream : kStreams) {
        const std::string_view bytes = stream.bytes;
        for (std::size_t at = 0; at <= bytes.size(); ++at) {
            SCOPED_TRACE(std::string(stream.name) + " split at " + std::to_string(at));
            const Outcome outcome = read_all({bytes.substr(0, at), bytes.substr(at)});
            EXPECT_FALSE(outcome.error.has_value()) << outcome.error_message;
            EXPECT_EQ(outcome.messages, kTwo);
        }
    }
}

TEST(Framing, BytesMayComeOneAtATime) {
    for (const Stream& stream : kStreams) {
        SCOPED_TRACE(stream.name);
        std::vector<std::string_view> pieces;
        for (std::size_t at = 0; at < stream.bytes.size(); ++at) {
            pieces.push_back(std::string_view(stream.bytes).substr(at, 1));
        }
        const Outcome outcome = read_all(pieces);
        EXPECT_FALSE(outcome.error.has_value()) << outcome.error_message;
        EXPECT_EQ(outcome.messages, kTwo);
    }
}

TEST(Framing, FirstByteDecidesTheFraming) {
    for (const Stream& stream : kStreams) {
        FrameReader reader(1024);
        EXPECT_EQ(reader.framing(), Framing::Line);
        reader.feed(stream.bytes);
        ASSERT_TRUE(reader.next().ok());
        EXPECT_EQ(reader.framing(), stream.framing) << stream.name;
    }
}

TEST(Framing, AMessageIsHandedOutOnlyWhenItIsWhole) {
    EXPECT_TRUE(read_all({"{\"a\":1}"}).messages.empty());
    EXPECT_TRUE(read_all({"C"}).messages.empty());
    EXPECT_TRUE(read_all({"Content-Length: 7\r\n\r\n{\"a\":1"}).messages.empty());
    EXPECT_FALSE(read_all({"Content-Le"}).error.has_value());
}

TEST(Framing, OtherProtocolsAreToldWhatTheSocketSpeaks) {
    using namespace std::string_view_literals;
    for (const std::string_view banner :
         {"GET / HTTP/1.1\r\n"sv, "SSH-2.0-OpenSSH_9.2\r\n"sv, "\x16\x03\x01\x02\x00"sv, "CONNECT a:443 HTTP/1.1\r\n"sv,
          "\xEF\xBB\xBF{}\n"sv, "\0"sv, "3:{},"sv, "\"x\"\n"sv, "c0ntent-length: 2\r\n\r\n{}"sv}) {
        const Outcome outcome = read_all({banner});
        EXPECT_EQ(outcome.error, ErrorKind::InvalidRequest) << banner;
        EXPECT_NE(outcome.error_message.find("JSON-RPC 2.0"), std::string::npos) << outcome.error_message;
    }
}

TEST(Framing, AnErrorIsFinal) {
    FrameReader reader(1024);
    reader.feed("GET / HTTP/1.1\r\n");
    ASSERT_FALSE(reader.next().ok());
    reader.feed("{}\n");
    EXPECT_FALSE(reader.next().ok());
    EXPECT_EQ(reader.buffered(), 0u);
}

TEST(Framing, BadHeadersAreRefused) {
    const struct {
        const char* bytes;
        ErrorKind kind;
    } rows[] = {
        {"Content-Length: \r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length: -1\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length: +7\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length: 7x\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length: 0x7\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length: 7 7\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length: 1e1\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length: 7\r\nContent-Length: 7\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Length : 7\r\n\r\n", ErrorKind::InvalidRequest},
        {"Content-Type: text/plain\r\n\r\n{}", ErrorKind::InvalidRequest},
        {"Content-Length: 18446744073709551616\r\n\r\n", ErrorKind::Limit},
        {"Content-Length: 18446744073709551623\r\n\r\n", ErrorKind::Limit},
        {"Content-Length: 1025\r\n\r\n", ErrorKind::Limit},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(read_all({row.bytes}).error, row.kind) << row.bytes;
    }
}

TEST(Framing, ALengthThatIsTooSmallIsNoticedAtTheNextHeader) {
    const Outcome outcome = read_all({"Content-Length: 2\r\n\r\n{\"a\":1}Content-Length: 2\r\n\r\n{}"});
    EXPECT_EQ(outcome.messages, std::vector<std::string>{"{\""});
    EXPECT_EQ(outcome.error, ErrorKind::InvalidRequest);
}

TEST(Framing, HeadersAreBounded) {
    const std::string padding(5000, 'x');
    EXPECT_EQ(read_all({"Content-Type: " + padding}).error, ErrorKind::InvalidRequest);
    std::string many = "Content-Length: 2\r\n";
    while (many.size() < 5000) {
        many += "X-Header: value\r\n";
    }
    EXPECT_EQ(read_all({many + "\r\n{}"}).error, ErrorKind::InvalidRequest);
}

TEST(Framing, TheLimitIsOfTheMessageWithoutItsFraming) {
    const std::string longest(16, '[');
    EXPECT_EQ(read_all({longest + "\n"}, 16).messages.size(), 1u);
    EXPECT_EQ(read_all({longest + "\r", "\n"}, 16).messages.size(), 1u);
    EXPECT_EQ(read_all({"Content-Length: 16\r\n\r\n" + longest}, 16).messages.size(), 1u);
    EXPECT_EQ(read_all({longest + "[\n"}, 16).error, ErrorKind::Limit);
    EXPECT_EQ(read_all({longest + "[\r\n"}, 16).error, ErrorKind::Limit);
    EXPECT_EQ(read_all({longest + "\r["}, 16).error, ErrorKind::Limit);
    EXPECT_EQ(read_all({"Content-Length: 17\r\n\r\n"}, 16).error, ErrorKind::Limit);
}

TEST(Framing, ALineWithoutAnEndIsRefusedBeforeItEnds) {
    FrameReader reader(1024);
    const std::string piece(100, '[');
    for (int i = 0; i < 11; ++i) {
        reader.feed(piece);
        static_cast<void>(reader.next());
        EXPECT_LE(reader.buffered(), 1124u);
    }
    const Result<std::optional<std::string>> message = reader.next();
    ASSERT_FALSE(message.ok());
    EXPECT_EQ(message.error().kind, ErrorKind::Limit);
}

// A search that began anew with every read would look at 8 MiB some 500,000 times: hours.
TEST(Framing, ALongLineInSmallPiecesIsSearchedOnce) {
    constexpr std::size_t kLength = 8 * 1024 * 1024;
    FrameReader reader(kLength);
    const std::string piece(16, '[');
    for (std::size_t sent = 0; sent < kLength; sent += piece.size()) {
        reader.feed(piece);
        const Result<std::optional<std::string>> message = reader.next();
        ASSERT_TRUE(message.ok());
        ASSERT_FALSE(message->has_value());
    }
    reader.feed("\n");
    Result<std::optional<std::string>> message = reader.next();
    ASSERT_TRUE(message.ok());
    ASSERT_TRUE(message->has_value());
    EXPECT_EQ((*message)->size(), kLength);
    EXPECT_EQ(reader.buffered(), 0u);
}

TEST(Framing, ManyMessagesInOneReadAllComeOut) {
    std::string bytes;
    for (int i = 0; i < 100'000; ++i) {
        bytes += "[" + std::to_string(i) + "]\n";
    }
    const Outcome outcome = read_all({bytes});
    ASSERT_EQ(outcome.messages.size(), 100'000u);
    EXPECT_EQ(outcome.messages.back(), "[99999]");
}

TEST(Framing, WhatIsFramedIsReadBack) {
    for (const Framing framing : {Framing::Line, Framing::ContentLength}) {
        const Outcome outcome = read_all({frame(kTwo[0], framing), frame(kTwo[1], framing)});
        EXPECT_EQ(outcome.messages, kTwo);
    }
    EXPECT_EQ(frame("{}", Framing::Line), "{}\n");
    EXPECT_EQ(frame("{}", Framing::ContentLength), "Content-Length: 2\r\n\r\n{}");
}

}  // namespace
}  // namespace cmssh
