// OpenSSH's multiplexing messages, protocol version 4 (OpenSSH 8.0 to 10.5: PROTOCOL.mux and mux.c; where the two
// differ, mux.c). Builders give whole packets with their length prefix; PacketReader cuts a byte stream into packets.
// Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "protocol/result.hpp"

namespace cmssh::mux {

inline constexpr std::uint32_t kVersion = 4;
// CHANNEL_MUX_MAX_PACKET: a master closes the connection on anything longer (mux.c, 8.0 to 10.5).
inline constexpr std::size_t kMaxPacket = 256 * 1024;

struct NewSession {
    bool want_tty = false;
    bool subsystem = false;
    std::string term;
    std::string command;
    // What opens ssh's own commands at the start of a line ("~."), where it has a tty.
    std::optional<char> escape = {};
};

enum class ForwardType : std::uint32_t { Local = 1, Remote = 2, Dynamic = 3 };
// In place of a port: the host is the path of a Unix socket (PORT_STREAMLOCAL).
inline constexpr std::uint32_t kUnixPath = 0xfffffffe;
// Where a forward listens, or leads to.
struct ForwardEnd {
    std::string host;  // to listen: "" is the loopback, or what GatewayPorts makes of it, "*" every address
    std::uint32_t port = 0;

    friend bool operator==(const ForwardEnd&, const ForwardEnd&) = default;
};
struct Forward {
    ForwardType type = ForwardType::Local;
    ForwardEnd listen;                  // Remote with port 0: the server chooses
    ForwardEnd connect = {"socks", 0};  // where SOCKS clients say where to: a host that is not empty, and port 0

    friend bool operator==(const Forward&, const Forward&) = default;
};

[[nodiscard]] std::string hello();
// Three descriptors (stdin, stdout, stderr) must follow at once, one SCM_RIGHTS byte each: until then the master serves
// nobody.
[[nodiscard]] std::string new_session(std::uint32_t request_id, const NewSession& session);
[[nodiscard]] std::string alive_check(std::uint32_t request_id);
[[nodiscard]] std::string terminate(std::uint32_t request_id);
[[nodiscard]] std::string stop_listening(std::uint32_t request_id);
// Answered by Ok, RemotePort or Refused. The same forward once more is Ok.
[[nodiscard]] std::string open_forward(std::uint32_t request_id, const Forward& forward);
// Of a forward that is equal in every field. Answered by Ok or Refused.
[[nodiscard]] std::string close_forward(std::uint32_t request_id, const Forward& forward);

struct Hello {
    std::uint32_t version = 0;
};
struct Ok {
    std::uint32_t request_id = 0;
};
struct Alive {
    std::uint32_t request_id = 0;
    std::uint32_t pid = 0;
};
struct SessionOpened {
    std::uint32_t request_id = 0;
    std::uint32_t session_id = 0;
};
struct ExitMessage {
    std::uint32_t session_id = 0;
    std::uint32_t exit_value = 0;
};
struct TtyAllocFail {
    std::uint32_t session_id = 0;
};
struct RemotePort {  // the one that the server chose
    std::uint32_t request_id = 0;
    std::uint32_t port = 0;
};
struct Refused {  // MUX_S_PERMISSION_DENIED or MUX_S_FAILURE
    std::uint32_t request_id = 0;
    bool permission_denied = false;
    std::string reason;
};
struct Unknown {
    std::uint32_t type = 0;
};
using Reply = std::variant<Hello, Ok, Alive, SessionOpened, ExitMessage, TtyAllocFail, RemotePort, Refused, Unknown>;

// One packet without its length prefix. Internal error for a body too short for its type.
[[nodiscard]] Result<Reply> parse_reply(std::string_view packet);

class PacketReader {
public:
    void feed(std::string_view bytes) { buffer_.append(bytes); }
    // The next packet without its length prefix; nullopt: more bytes are needed. An oversized length is an error.
    [[nodiscard]] Result<std::optional<std::string>> next();

private:
    std::string buffer_;
};

}  // namespace cmssh::mux
