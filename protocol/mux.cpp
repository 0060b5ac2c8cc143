#include "protocol/mux.hpp"

#include <array>
#include <utility>

namespace cmssh::mux {
namespace {

constexpr std::uint32_t kMsgHello = 0x00000001;
constexpr std::uint32_t kClientNewSession = 0x10000002;
constexpr std::uint32_t kClientAliveCheck = 0x10000004;
constexpr std::uint32_t kClientTerminate = 0x10000005;
constexpr std::uint32_t kClientOpenForward = 0x10000006;
constexpr std::uint32_t kClientCloseForward = 0x10000007;
constexpr std::uint32_t kClientStopListening = 0x10000009;
constexpr std::uint32_t kServerOk = 0x80000001;
constexpr std::uint32_t kServerPermissionDenied = 0x80000002;
constexpr std::uint32_t kServerFailure = 0x80000003;
constexpr std::uint32_t kServerExitMessage = 0x80000004;
constexpr std::uint32_t kServerAlive = 0x80000005;
constexpr std::uint32_t kServerSessionOpened = 0x80000006;
constexpr std::uint32_t kServerRemotePort = 0x80000007;
constexpr std::uint32_t kServerTtyAllocFail = 0x80000008;

constexpr std::uint32_t kNoEscapeChar = 0xffffffff;
constexpr std::size_t kLengthBytes = 4;

std::array<char, kLengthBytes> to_big_endian(std::uint32_t value) {
    return {static_cast<char>(value >> 24 & 0xff), static_cast<char>(value >> 16 & 0xff),
            static_cast<char>(value >> 8 & 0xff), static_cast<char>(value & 0xff)};
}

std::uint32_t from_big_endian(std::string_view bytes) {
    std::uint32_t value = 0;
    for (const char byte : bytes.substr(0, kLengthBytes)) {
        value = value << 8 | static_cast<unsigned char>(byte);
    }
    return value;
}

class Writer {
public:
    explicit Writer(std::uint32_t type) { number(type); }

    Writer& number(std::uint32_t value) {
        const auto bytes = to_big_endian(value);
        body_.append(bytes.data(), bytes.size());
        return *this;
    }
    // What mux.c calls a bool is 32 bits wide, whatever PROTOCOL.mux says.
    Writer& flag(bool value) { return number(value ? 1 : 0); }
    Writer& string(std::string_view value) {
        number(static_cast<std::uint32_t>(value.size()));
        body_.append(value);
        return *this;
    }
    [[nodiscard]] std::string packet() const {
        const auto length = to_big_endian(static_cast<std::uint32_t>(body_.size()));
        return std::string(length.data(), length.size()) + body_;
    }

private:
    std::string body_;
};

// Reads past the end give zeros and are remembered, so that a whole message is read before one check.
class Reader {
public:
    explicit Reader(std::string_view body) : rest_(body) {}

    std::uint32_t number() {
        if (rest_.size() < kLengthBytes) {
            fail();
            return 0;
        }
        const std::uint32_t value = from_big_endian(rest_);
        rest_.remove_prefix(kLengthBytes);
        return value;
    }
    std::string string() {
        const std::uint32_t size = number();
        if (rest_.size() < size) {
            fail();
            return {};
        }
        std::string value(rest_.substr(0, size));
        rest_.remove_prefix(size);
        return value;
    }
    [[nodiscard]] bool failed() const { return failed_; }

private:
    void fail() {
        failed_ = true;
        rest_ = {};
    }

    std::string_view rest_;
    bool failed_ = false;
};

Reply read_reply(Reader& reader) {
    const std::uint32_t type = reader.number();
    switch (type) {
        case kMsgHello:
            // Extensions follow, name and value: 10.3 and later send "info". None of them concerns us.
            return Hello{.version = reader.number()};
        case kServerOk:
            return Ok{.request_id = reader.number()};
        case kServerAlive: {
            Alive alive;
            alive.request_id = reader.number();
            alive.pid = reader.number();
            return alive;
        }
        case kServerSessionOpened: {
            SessionOpened opened;
            opened.request_id = reader.number();
            opened.session_id = reader.number();
            return opened;
        }
        case kServerExitMessage: {
            ExitMessage exit;
            exit.session_id = reader.number();
            exit.exit_value = reader.number();
            return exit;
        }
        case kServerTtyAllocFail:
            return TtyAllocFail{.session_id = reader.number()};
        case kServerRemotePort: {
            RemotePort chosen;
            chosen.request_id = reader.number();
            chosen.port = reader.number();
            return chosen;
        }
        case kServerPermissionDenied:
        case kServerFailure: {
            Refused refused;
            refused.permission_denied = type == kServerPermissionDenied;
            refused.request_id = reader.number();
            refused.reason = reader.string();
            return refused;
        }
        default:
            return Unknown{.type = type};
    }
}

std::string forward_packet(std::uint32_t type, std::uint32_t request_id, const Forward& forward) {
    return Writer(type)
        .number(request_id)
        .number(static_cast<std::uint32_t>(forward.type))
        .string(forward.listen.host)
        .number(forward.listen.port)
        .string(forward.connect.host)
        .number(forward.connect.port)
        .packet();
}

}  // namespace

std::string hello() {
    return Writer(kMsgHello).number(kVersion).packet();
}

std::string new_session(std::uint32_t request_id, const NewSession& session) {
    constexpr std::string_view kReserved;
    constexpr bool kWantX11 = false;
    constexpr bool kWantAgent = false;
    return Writer(kClientNewSession)
        .number(request_id)
        .string(kReserved)
        .flag(session.want_tty)
        .flag(kWantX11)
        .flag(kWantAgent)
        .flag(session.subsystem)
        .number(session.escape ? static_cast<unsigned char>(*session.escape) : kNoEscapeChar)
        .string(session.term)
        .string(session.command)
        .packet();
}

std::string alive_check(std::uint32_t request_id) {
    return Writer(kClientAliveCheck).number(request_id).packet();
}

std::string terminate(std::uint32_t request_id) {
    return Writer(kClientTerminate).number(request_id).packet();
}

std::string stop_listening(std::uint32_t request_id) {
    return Writer(kClientStopListening).number(request_id).packet();
}

std::string open_forward(std::uint32_t request_id, const Forward& forward) {
    return forward_packet(kClientOpenForward, request_id, forward);
}

std::string close_forward(std::uint32_t request_id, const Forward& forward) {
    return forward_packet(kClientCloseForward, request_id, forward);
}

Result<Reply> parse_reply(std::string_view packet) {
    Reader reader(packet);
    Reply reply = read_reply(reader);
    if (reader.failed()) {
        return Error{.kind = ErrorKind::Internal,
                     .message = "the ssh master sent a mux packet of " + std::to_string(packet.size()) +
                                " bytes, too short for its type"};
    }
    return reply;
}

Result<std::optional<std::string>> PacketReader::next() {
    if (buffer_.size() < kLengthBytes) {
        return std::optional<std::string>();
    }
    const std::size_t length = from_big_endian(buffer_);
    if (length > kMaxPacket) {
        return Error{.kind = ErrorKind::Internal,
                     .message = "the ssh master announced a mux packet of " + std::to_string(length) +
                                " bytes; the limit is " + std::to_string(kMaxPacket)};
    }
    if (buffer_.size() < kLengthBytes + length) {
        return std::optional<std::string>();
    }
    std::optional<std::string> packet = buffer_.substr(kLengthBytes, length);
    buffer_.erase(0, kLengthBytes + length);
    return packet;
}

}  // namespace cmssh::mux
