#include "client/cp_operand.hpp"

#include <algorithm>

#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// Where the server's name ends (OpenSSH misc.c colon()).
std::optional<std::size_t> find_colon(std::string_view text) {
    if (text.starts_with(':')) {
        return std::nullopt;
    }
    bool bracketed = text.starts_with('[');
    for (std::size_t at = 0; at < text.size() && text[at] != '/'; ++at) {
        bracketed = bracketed || text.substr(at).starts_with("@[");
        if (bracketed && text.substr(at).starts_with("]:")) {
            return at + 1;
        }
        if (!bracketed && text[at] == ':') {
            return at;
        }
    }
    return std::nullopt;
}

Error usage(std::string message, std::string hint) {
    return Error{.kind = ErrorKind::InvalidParams, .message = "cp: " + std::move(message), .hint = std::move(hint)};
}

}  // namespace

CpOperand parse_cp_operand(std::string_view text) {
    CpOperand operand;
    if (const auto colon = find_colon(text)) {
        operand.ctx = std::string(text.substr(0, *colon));
        operand.path = std::string(text.substr(*colon + 1));
    } else {
        operand.path = std::string(text);
    }
    return operand;
}

Result<std::string> server_of_copy(const std::vector<CpOperand>& sources, const CpOperand& destination) {
    const auto is_remote = [](const CpOperand& operand) { return operand.ctx.has_value(); };
    const bool from_server = std::any_of(sources.begin(), sources.end(), is_remote);
    if (from_server && destination.ctx) {
        return usage("from one server to another goes through here, in two steps",
                     "cmctl cp " + printable(*sources.front().ctx) + ":PATH . and then cmctl cp ./NAME " +
                         printable(*destination.ctx) + ":PATH");
    }
    if (!from_server && !destination.ctx) {
        return usage("neither side is on a server", "name one as CTX:PATH; a local name with a colon as ./NAME");
    }
    if (destination.ctx) {
        return *destination.ctx;
    }
    for (const CpOperand& source : sources) {
        if (source.ctx != sources.front().ctx) {
            return usage("all that is copied comes from one server, and no local file is among it",
                         "cmctl cp " + printable(sources.front().ctx.value_or("CTX")) + ":PATH ... DST");
        }
    }
    return *sources.front().ctx;
}

std::string scp_word(const CpOperand& operand) {
    if (operand.ctx) {
        return std::string(kScpHost) + ':' + operand.path;
    }
    // Behind "--" already, which not every program that scp starts is given.
    return operand.path.starts_with('-') ? "./" + operand.path : operand.path;
}

}  // namespace cmssh::client
