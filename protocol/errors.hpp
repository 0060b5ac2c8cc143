// The errors that users and tools see: one enumerator per kind of the API, its JSON-RPC code, its name and the exit
// code that cmctl gives it. An Error is a value: the direct caller handles it or hands it on with more context.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cmssh {

// The value of each enumerator is its JSON-RPC code.
enum class ErrorKind : int {
    // JSON-RPC 2.0, section 5.1.
    ParseError = -32700,
    InvalidRequest = -32600,
    MethodNotFound = -32601,
    InvalidParams = -32602,
    // Ours.
    UnknownContext = -32001,
    DnsFailure = -32002,
    ConnectRefused = -32003,
    ConnectTimeout = -32004,
    ConnectFailed = -32005,
    HostKeyUnknown = -32006,
    HostKeyChanged = -32007,
    AuthFailed = -32008,
    NeedsAuth = -32009,
    MasterLost = -32010,
    ChannelRefused = -32011,
    TmuxMissing = -32012,
    TmuxFailed = -32013,
    SessionNotFound = -32014,
    Ambiguous = -32015,
    NameTaken = -32016,
    InvalidName = -32017,
    BadCwd = -32018,
    Limit = -32019,
    Timeout = -32020,
    Cancelled = -32021,
    ShuttingDown = -32022,
    BadConfig = -32023,
    Internal = -32024,
    SessionEnded = -32025,
};

// cmctl's exit codes.
namespace exit_code {
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kNotFound = 3;
inline constexpr int kNoDaemon = 4;
inline constexpr int kUnreachable = 5;
inline constexpr int kNeedsPerson = 6;
inline constexpr int kLimit = 7;
inline constexpr int kIncompatible = 8;
inline constexpr int kTimeout = 124;
inline constexpr int kInterrupted = 130;
}  // namespace exit_code

struct ErrorInfo {
    ErrorKind kind;
    std::string_view name;  // data.kind on the wire: "connect_refused"
    int exit_code;
};

// Every kind has an entry.
[[nodiscard]] const ErrorInfo& error_info(ErrorKind kind);
// nullopt for a code that is none of ours.
[[nodiscard]] std::optional<ErrorKind> error_kind_from_code(int code);

struct Error {
    ErrorKind kind = ErrorKind::Internal;
    std::string message;
    std::string hint = {};  // the next thing to type; empty: none
    std::optional<std::string> ctx = {};
    std::optional<std::string> server = {};   // the server's key
    std::optional<std::string> session = {};  // a session's id
    std::optional<std::string> ssh_stderr = {};
    std::optional<std::string> retry_at = {};  // RFC 3339 UTC
};

}  // namespace cmssh
