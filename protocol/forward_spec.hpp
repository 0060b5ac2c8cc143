// What a person writes for a forward, as ssh's -L, -R and -D take it. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocol/methods.hpp"
#include "protocol/mux.hpp"
#include "protocol/result.hpp"

namespace cmssh {

// listen: "8080" (the loopback), "ADDRESS:8080", "[v6]:8080", "*:8080" or ":8080" (every address), "/path"; port 0 for
// a remote one only. target: "host:80", "[v6]:80", "/path"; none for a dynamic one, and a remote one without it is a
// SOCKS server on the server. Local ones listen on addresses, "localhost" and "*" only: names are not looked up.
// InvalidParams that names the field and what is wrong with it.
[[nodiscard]] Result<mux::Forward> parse_forward(api::ForwardKind kind, std::string_view listen,
                                                 const std::optional<std::string>& target);

// The two ends of what stands behind ssh's -L ([bind_address:]port:host:hostport and so on), -R or -D. Checked no
// further than needed to tell them apart; brackets stay. InvalidParams.
struct ForwardWords {
    std::string listen;
    std::optional<std::string> target;

    friend bool operator==(const ForwardWords&, const ForwardWords&) = default;
};
[[nodiscard]] Result<ForwardWords> split_forward(api::ForwardKind kind, std::string_view text);

}  // namespace cmssh
