#include "protocol/forward_spec.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "protocol/names.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {
namespace {

constexpr const char* kExample = "cmctl forward add --ctx C -L 8080:localhost:80";
constexpr int kMaxPort = 65535;
// sun_path less its terminating zero (Linux).
constexpr std::size_t kMaxPath = 107;
constexpr std::string_view kEveryAddress = "*";
// Both loopback addresses, whatever GatewayPorts of the user's ssh_config says (OpenSSH channel_fwd_bind_addr).
constexpr std::string_view kLoopback = "localhost";

Error bad(std::string_view field, std::string_view text, const std::string& what) {
    return Error{.kind = ErrorKind::InvalidParams,
                 .message = "params." + std::string(field) + ": '" + printable(text) + "' " + what,
                 .hint = kExample};
}

// A port has one spelling: no sign, no blanks, no leading zeros.
std::optional<int> read_port(std::string_view text) {
    int port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    if (!whole || port < 0 || port > kMaxPort || (text.size() > 1 && text.front() == '0')) {
        return std::nullopt;
    }
    return port;
}

bool is_address(std::string_view host) {
    const std::string without_zone(host.substr(0, host.find('%')));
    in6_addr v6{};
    in_addr v4{};
    return ::inet_pton(AF_INET6, without_zone.c_str(), &v6) == 1 ||
           ::inet_pton(AF_INET, std::string(host).c_str(), &v4) == 1;
}

struct HostPort {
    std::optional<std::string> host;  // without brackets
    std::string_view port;
};

// nullopt: brackets or colons that mean nothing.
std::optional<HostPort> split_host_port(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos) {
        return HostPort{.host = std::nullopt, .port = text};
    }
    std::string_view host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
        if (!is_address(host) || host.find(':') == std::string_view::npos) {
            return std::nullopt;
        }
    } else if (host.find_first_of(":[]") != std::string_view::npos) {
        return std::nullopt;
    }
    return HostPort{.host = std::string(host), .port = text.substr(colon + 1)};
}

Result<mux::ForwardEnd> read_path(std::string_view field, std::string_view text) {
    if (text.find('\0') != std::string_view::npos) {
        return bad(field, text, "is no path");
    }
    if (text.size() > kMaxPath) {
        return bad(field, text, "is longer than a socket's path may be, " + std::to_string(kMaxPath) + " bytes");
    }
    return mux::ForwardEnd{.host = std::string(text), .port = mux::kUnixPath};
}

Result<mux::ForwardEnd> read_listen(api::ForwardKind kind, std::string_view text) {
    constexpr std::string_view kField = "listen";
    const bool remote = kind == api::ForwardKind::Remote;
    if (text.starts_with('/') && kind != api::ForwardKind::Dynamic) {
        return read_path(kField, text);
    }
    const auto parts = split_host_port(text);
    const auto port = parts ? read_port(parts->port) : std::nullopt;
    if (!parts || !port) {
        return bad(kField, text,
                   "is not where a forward can listen: expected PORT, ADDRESS:PORT, [IPV6]:PORT, *:PORT" +
                       std::string(kind == api::ForwardKind::Dynamic ? "" : " or /PATH"));
    }
    if (*port == 0 && !remote) {
        return bad(kField, text, "has no port: only a remote forward lets the server choose one with 0");
    }
    mux::ForwardEnd end;
    end.port = static_cast<std::uint32_t>(*port);
    if (!parts->host) {
        end.host = remote ? "" : kLoopback;
        return end;
    }
    end.host = parts->host->empty() ? kEveryAddress : *parts->host;
    if (end.host == kEveryAddress || end.host == kLoopback) {
        return end;
    }
    if (!remote && !is_address(end.host)) {
        return bad(kField, text, "has no address of this machine: expected one in numbers, localhost or *");
    }
    if (!valid_host(end.host)) {
        return bad(kField, text, "has no address that the server could listen on");
    }
    return end;
}

Result<mux::ForwardEnd> read_target(std::string_view text) {
    constexpr std::string_view kField = "target";
    if (text.starts_with('/')) {
        return read_path(kField, text);
    }
    const auto parts = split_host_port(text);
    const auto port = parts ? read_port(parts->port) : std::nullopt;
    if (!parts || !parts->host || !port || *port == 0) {
        return bad(kField, text, "is not where a forward can lead to: expected HOST:PORT, [IPV6]:PORT or /PATH");
    }
    if (!valid_host(*parts->host)) {
        return bad(kField, text, "has no host name or address");
    }
    return mux::ForwardEnd{.host = *parts->host, .port = static_cast<std::uint32_t>(*port)};
}

// At colons outside of brackets.
std::vector<std::string_view> split_fields(std::string_view text) {
    std::vector<std::string_view> fields;
    std::size_t begin = 0;
    bool inside = false;
    for (std::size_t at = 0; at < text.size(); ++at) {
        inside = text[at] == '[' || (inside && text[at] != ']');
        if (text[at] == ':' && !inside) {
            fields.push_back(text.substr(begin, at - begin));
            begin = at + 1;
        }
    }
    fields.push_back(text.substr(begin));
    return fields;
}

}  // namespace

Result<mux::Forward> parse_forward(api::ForwardKind kind, std::string_view listen,
                                   const std::optional<std::string>& target) {
    mux::Forward forward;
    switch (kind) {
        case api::ForwardKind::Local:
            forward.type = mux::ForwardType::Local;
            break;
        case api::ForwardKind::Remote:
            forward.type = mux::ForwardType::Remote;
            break;
        case api::ForwardKind::Dynamic:
            forward.type = mux::ForwardType::Dynamic;
            break;
    }
    auto listens = read_listen(kind, listen);
    if (!listens) {
        return std::move(listens).error();
    }
    forward.listen = std::move(*listens);
    if (target && kind == api::ForwardKind::Dynamic) {
        return bad("target", *target, "is one too many: the clients of a dynamic forward say where to");
    }
    if (!target && kind == api::ForwardKind::Local) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "params.target: missing: a local forward leads to HOST:PORT or /PATH",
                     .hint = kExample};
    }
    if (!target && forward.listen.port == mux::kUnixPath) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "params.target: missing: a socket of the server leads to HOST:PORT or /PATH",
                     .hint = kExample};
    }
    if (target) {
        auto leads = read_target(*target);
        if (!leads) {
            return std::move(leads).error();
        }
        forward.connect = std::move(*leads);
    }
    return forward;
}

Result<ForwardWords> split_forward(api::ForwardKind kind, std::string_view text) {
    ForwardWords words;
    const auto fields = split_fields(text);
    const bool to_path = fields.size() > 1 && fields.back().starts_with('/');
    const std::size_t of_target = to_path ? 1 : 2;
    const bool has_target = kind == api::ForwardKind::Local || to_path || fields.size() > 2 ||
                            (fields.size() > 1 && fields.front().starts_with('/'));
    if (kind == api::ForwardKind::Dynamic || !has_target) {
        words.listen = text;
        return words;
    }
    if (fields.size() <= of_target) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "'" + printable(text) +
                                "' is no forward: expected [ADDRESS:]PORT:HOST:PORT, with /PATH" +
                                " in place of either end if you like",
                     .hint = kExample};
    }
    const std::size_t target_at = static_cast<std::size_t>(fields[fields.size() - of_target].data() - text.data());
    words.target = std::string(text.substr(target_at));
    words.listen = std::string(text.substr(0, target_at - 1));
    return words;
}

}  // namespace cmssh
