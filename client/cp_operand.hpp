// What stands behind `cmctl cp`. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.hpp"

namespace cmssh::client {

struct CpOperand {
    std::optional<std::string> ctx;  // of a path on a server
    std::string path;

    friend bool operator==(const CpOperand&, const CpOperand&) = default;
};

// As scp reads it: a colon that comes before any slash, and not first, ends the server's name; brackets may be around
// an IPv6 address. Everything else is a local path.
[[nodiscard]] CpOperand parse_cp_operand(std::string_view text);

// The server that a copy is from or to. InvalidParams where there is none, or more than one, or the way is neither here
// nor there.
[[nodiscard]] Result<std::string> server_of_copy(const std::vector<CpOperand>& sources, const CpOperand& destination);

// For scp's command line, where every server goes by this name.
inline constexpr const char* kScpHost = "cmssh";
[[nodiscard]] std::string scp_word(const CpOperand& operand);

}  // namespace cmssh::client
