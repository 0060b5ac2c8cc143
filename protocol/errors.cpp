#include "protocol/errors.hpp"

#include <cstdlib>

namespace cmssh {
namespace {

constexpr ErrorInfo kErrors[] = {
    {ErrorKind::ParseError, "parse_error", exit_code::kFailed},
    {ErrorKind::InvalidRequest, "invalid_request", exit_code::kFailed},
    {ErrorKind::MethodNotFound, "method_not_found", exit_code::kFailed},
    {ErrorKind::InvalidParams, "invalid_params", exit_code::kUsage},
    {ErrorKind::UnknownContext, "unknown_context", exit_code::kNotFound},
    {ErrorKind::DnsFailure, "dns_failure", exit_code::kUnreachable},
    {ErrorKind::ConnectRefused, "connect_refused", exit_code::kUnreachable},
    {ErrorKind::ConnectTimeout, "connect_timeout", exit_code::kUnreachable},
    {ErrorKind::ConnectFailed, "connect_failed", exit_code::kUnreachable},
    {ErrorKind::HostKeyUnknown, "host_key_unknown", exit_code::kNeedsPerson},
    {ErrorKind::HostKeyChanged, "host_key_changed", exit_code::kUnreachable},
    {ErrorKind::AuthFailed, "auth_failed", exit_code::kNeedsPerson},
    {ErrorKind::NeedsAuth, "needs_auth", exit_code::kNeedsPerson},
    {ErrorKind::MasterLost, "master_lost", exit_code::kUnreachable},
    {ErrorKind::ChannelRefused, "channel_refused", exit_code::kLimit},
    {ErrorKind::TmuxMissing, "tmux_missing", exit_code::kFailed},
    {ErrorKind::TmuxFailed, "tmux_failed", exit_code::kFailed},
    {ErrorKind::SessionNotFound, "session_not_found", exit_code::kNotFound},
    {ErrorKind::Ambiguous, "ambiguous", exit_code::kNotFound},
    {ErrorKind::NameTaken, "name_taken", exit_code::kFailed},
    {ErrorKind::InvalidName, "invalid_name", exit_code::kUsage},
    {ErrorKind::BadCwd, "bad_cwd", exit_code::kFailed},
    {ErrorKind::Limit, "limit", exit_code::kLimit},
    {ErrorKind::Timeout, "timeout", exit_code::kTimeout},
    {ErrorKind::Cancelled, "cancelled", exit_code::kInterrupted},
    {ErrorKind::ShuttingDown, "shutting_down", exit_code::kNoDaemon},
    {ErrorKind::BadConfig, "bad_config", exit_code::kUsage},
    {ErrorKind::Internal, "internal", exit_code::kFailed},
    {ErrorKind::SessionEnded, "session_ended", exit_code::kFailed},
};

}  // namespace

const ErrorInfo& error_info(ErrorKind kind) {
    for (const ErrorInfo& info : kErrors) {
        if (info.kind == kind) {
            return info;
        }
    }
    std::abort();
}

std::optional<ErrorKind> error_kind_from_code(int code) {
    for (const ErrorInfo& info : kErrors) {
        if (static_cast<int>(info.kind) == code) {
            return info.kind;
        }
    }
    return std::nullopt;
}

}  // namespace cmssh
