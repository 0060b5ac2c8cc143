// Descriptors over a Unix socket, the way OpenSSH's monitor_fdpass.c reads them: one data byte and one SCM_RIGHTS with
// exactly one int per message (OpenSSH 8.0 to 10.5 hangs on anything else). Shared by the daemon and the client.
#pragma once

#include <system_error>

namespace cmssh {

// operation_would_block where the socket's buffer is full; the descriptor stays the caller's.
[[nodiscard]] std::error_code send_descriptor(int socket, int descriptor) noexcept;

}  // namespace cmssh
