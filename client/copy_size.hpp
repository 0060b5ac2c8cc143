// Whether a copy is big: not worth a login of its own otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/call.hpp"
#include "client/cp_operand.hpp"

namespace cmssh::client {

// Some seconds of a fast line, against the fraction of one that a login takes.
inline constexpr std::uint64_t kBigCopy = 32U * 1024 * 1024;

// A local source: what is in it, no further than that it is known to be big. Unreadable ones count nothing: scp says
// so.
[[nodiscard]] std::uint64_t local_copy_size(const std::string& path);

// Asks the server, whose sources are below the home directory or absolute. A moment at most: what takes longer to count
// is big. Paths that only the server's shell knows how to read are taken as small.
[[nodiscard]] bool remote_copy_is_big(RpcClient& client, const std::string& ctx, const std::vector<CpOperand>& sources,
                                      std::optional<Instant> deadline);

}  // namespace cmssh::client
