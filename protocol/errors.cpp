#include "protocol/errors.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace cmssh {
namespace {

using namespace exit_code;

constexpr std::array<ErrorInfo, 29> kErrors = {{
    {ErrorKind::ParseError, "parse_error", kFailed},
    {ErrorKind::InvalidRequest, "invalid_request", kFailed},
    {ErrorKind::MethodNotFound, "method_not_found", kFailed},
    {ErrorKind::InvalidParams, "invalid_params", kUsage},
    {ErrorKind::UnknownContext, "unknown_context", kNotFound},
    {ErrorKind::DnsFailure, "dns_failure", kUnreachable},
    {ErrorKind::ConnectRefused, "connect_refused", kUnreachable},
    {ErrorKind::ConnectTimeout, "connect_timeout", kUnreachable},
    {ErrorKind::ConnectFailed, "connect_failed", kUnreachable},
    {ErrorKind::HostKeyUnknown, "host_key_unknown", kNeedsPerson},
    {ErrorKind::HostKeyChanged, "host_key_changed", kUnreachable},
    {ErrorKind::AuthFailed, "auth_failed", kNeedsPerson},
    {ErrorKind::NeedsAuth, "needs_auth", kNeedsPerson},
    {ErrorKind::MasterLost, "master_lost", kUnreachable},
    {ErrorKind::ChannelRefused, "channel_refused", kLimit},
    {ErrorKind::TmuxMissing, "tmux_missing", kFailed},
    {ErrorKind::TmuxFailed, "tmux_failed", kFailed},
    {ErrorKind::SessionNotFound, "session_not_found", kNotFound},
    {ErrorKind::Ambiguous, "ambiguous", kNotFound},
    {ErrorKind::NameTaken, "name_taken", kFailed},
    {ErrorKind::InvalidName, "invalid_name", kUsage},
    {ErrorKind::BadCwd, "bad_cwd", kFailed},
    {ErrorKind::Limit, "limit", kLimit},
    {ErrorKind::Timeout, "timeout", kTimeout},
    {ErrorKind::Cancelled, "cancelled", kInterrupted},
    {ErrorKind::ShuttingDown, "shutting_down", kNoDaemon},
    {ErrorKind::BadConfig, "bad_config", kUsage},
    {ErrorKind::Internal, "internal", kFailed},
    {ErrorKind::SessionEnded, "session_ended", kFailed},
}};

}  // namespace

const ErrorInfo& error_info(ErrorKind kind) {
    const auto found = std::find_if(kErrors.begin(), kErrors.end(), [kind](const ErrorInfo& info) { return info.kind == kind; });
    if (found == kErrors.end()) {
        std::abort();
    }
    return *found;
}

std::optional<ErrorKind> error_kind_from_code(int code) {
    for (const auto& info : kErrors) {
        if (static_cast<int>(info.kind) == code) {
            return info.kind;
        }
    }
    return std::nullopt;
}

}  // namespace cmssh
