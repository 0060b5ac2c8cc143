#include "protocol/server_key.hpp"

#include <arpa/inet.h>
#include <sha256.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <system_error>
#include <vector>

#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr std::string_view kControlNamePrefix = "cm-ssh-";

constexpr int kMaxPort = 65535;
constexpr std::size_t kPathDigits = 16;
constexpr std::size_t kCommandDigits = 8;
constexpr std::string_view kAlsoInHost = "._:%-";
constexpr std::string_view kAlsoInUser = "._@\\+-";

bool is_alnum(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool valid_word(std::string_view word, std::string_view also, std::size_t max_size) {
    return !word.empty() && word.size() <= max_size && word.front() != '-' &&
           std::all_of(word.begin(), word.end(),
                       [also](char c) { return is_alnum(c) || also.find(c) != std::string_view::npos; });
}

// ssh itself takes " 22", "022" and "22x" for ports in places; here a port has one spelling.
std::optional<int> parse_port(std::string_view text) {
    int port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || end != text.data() + text.size() || text.front() == '0' || port < 1 ||
        port > kMaxPort) {
        return std::nullopt;
    }
    return port;
}

// With a zone ("%eth0") or without.
bool is_ipv6(std::string_view host) {
    const std::string address(host.substr(0, host.find('%')));
    in6_addr parsed{};
    return ::inet_pton(AF_INET6, address.c_str(), &parsed) == 1;
}

std::string_view without_brackets(std::string_view host) {
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        return host.substr(1, host.size() - 2);
    }
    return host;
}

std::string to_lower(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) {
        if (c >= 'A' && c <= 'Z') {
            c = static_cast<char>(c - 'A' + 'a');
        }
    }
    return lower;
}

Error invalid_destination(std::string_view text, const std::string& what) {
    return Error{.kind = ErrorKind::InvalidName,
                 .message = "'" + printable(text) + "' is not a destination: " + what,
                 .hint = "give a host, user@host, user@host:port, ssh://user@host:port or [ipv6]:port"};
}

struct HostPort {
    std::string_view host;
    std::optional<std::string_view> port;
};

// nullopt: brackets that do not close, or something other than a port behind them.
std::optional<HostPort> split_host_port(std::string_view text) {
    if (text.starts_with('[')) {
        const std::size_t close = text.find(']');
        if (close == std::string_view::npos) {
            return std::nullopt;
        }
        HostPort parts{.host = text.substr(1, close - 1), .port = std::nullopt};
        const std::string_view behind = text.substr(close + 1);
        if (behind.empty()) {
            return parts;
        }
        if (behind.front() != ':') {
            return std::nullopt;
        }
        parts.port = behind.substr(1);
        return parts;
    }
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos) {
        return HostPort{.host = text, .port = std::nullopt};
    }
    return HostPort{.host = text.substr(0, colon), .port = text.substr(colon + 1)};
}

std::string route(const SshConfigDump& dump) {
    if (!dump.proxyjump.empty()) {
        return dump.proxyjump;
    }
    // A command's text may hold secrets, and the key is shown.
    return dump.proxycommand.empty() ? std::string() : "cmd-" + hex_digest(dump.proxycommand, kCommandDigits);
}

Error bad_control_path(const std::string& path, const std::string& why, const std::string& hint) {
    return Error{
        .kind = ErrorKind::BadConfig, .message = "control path '" + printable(path) + "' " + why, .hint = hint};
}

Error control_path_too_long(const std::string& path, const std::string& hint) {
    return bad_control_path(
        path,
        "is " + std::to_string(path.size()) + " bytes long; ssh can use at most " + std::to_string(kMaxControlPath),
        hint);
}

bool can_hold(char token, char c) {
    switch (token) {
        case 'r':
            return is_alnum(c) || kAlsoInUser.find(c) != std::string_view::npos;
        case 'h':
            return is_alnum(c) || kAlsoInHost.find(c) != std::string_view::npos;
        default:
            return c >= '0' && c <= '9';
    }
}

// A control path pattern, cut at its tokens: literal, token, literal, token, …, literal.
struct ControlPathPattern {
    std::vector<std::string> literals = {""};
    std::string tokens;

    // Whether a path tells the values it was made of: token by token from either end, by a character between that one
    // and the next that it cannot hold. "%r-%h-%p" does not: a-b on c and a on b-c have one path.
    [[nodiscard]] bool unambiguous() const {
        const auto ends_at = [](char token, const std::string& literal) {
            return std::any_of(literal.begin(), literal.end(), [token](char c) { return !can_hold(token, c); });
        };
        std::size_t first = 0;
        std::size_t last = tokens.size() - 1;
        while (first < last) {
            if (ends_at(tokens[first], literals[first + 1])) {
                ++first;
            } else if (ends_at(tokens[last], literals[last])) {
                --last;
            } else {
                return false;
            }
        }
        return true;
    }
};

Result<ControlPathPattern> parse_pattern(const std::string& text) {
    const std::string hint =
        "set pool.control_path to an absolute path with %r, %h and %p, such as /tmp/cm-ssh-%r@%h:%p";
    if (!text.starts_with('/')) {
        return bad_control_path(text, "is not an absolute path", hint);
    }
    ControlPathPattern pattern;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] != '%') {
            pattern.literals.back() += text[at];
            continue;
        }
        const char token = ++at < text.size() ? text[at] : '\0';
        if (token == '%') {
            pattern.literals.back() += '%';
        } else if (token == 'r' || token == 'h' || token == 'p') {
            pattern.tokens += token;
            pattern.literals.emplace_back();
        } else {
            return bad_control_path(text, "has a token that is none of %r, %h, %p and %%", hint);
        }
    }
    const std::string shared = ", so that two servers could share a socket";
    for (const char token : {'r', 'h', 'p'}) {
        if (pattern.tokens.find(token) == std::string::npos) {
            return bad_control_path(text, std::string("has no %") + token + shared, hint);
        }
    }
    if (!pattern.unambiguous()) {
        return bad_control_path(text, "does not say where %r, %h and %p end" + shared, hint);
    }
    return pattern;
}

Result<std::string> expand_pattern(const ServerKey& key, const std::string& text) {
    auto pattern = parse_pattern(text);
    if (!pattern) {
        return std::move(pattern).error();
    }
    std::string path = pattern->literals.front();
    for (std::size_t i = 0; i < pattern->tokens.size(); ++i) {
        const char token = pattern->tokens[i];
        path += token == 'r' ? key.user : token == 'h' ? key.host : std::to_string(key.port);
        path += pattern->literals[i + 1];
    }
    return path;
}

}  // namespace

bool valid_host(std::string_view host) {
    return valid_word(host, kAlsoInHost, 255);
}

bool valid_user(std::string_view user) {
    return valid_word(user, kAlsoInUser, 64);
}

Result<Destination> parse_destination(std::string_view text) {
    constexpr std::string_view kScheme = "ssh://";
    std::string_view rest = text;
    if (rest.starts_with(kScheme)) {
        rest.remove_prefix(kScheme.size());
        if (rest.ends_with('/')) {
            rest.remove_suffix(1);
        }
        if (rest.find('%') != std::string_view::npos) {
            return invalid_destination(text, "percent-encoding is not supported in an ssh:// URI");
        }
    }

    Destination destination;
    if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
        const std::string_view user = rest.substr(0, at);
        if (!valid_user(user)) {
            return invalid_destination(
                text, "a user is 1 to 64 letters, digits or any of . _ @ \\ + -, and does not begin with -");
        }
        destination.user = user;
        rest.remove_prefix(at + 1);
    }

    const std::optional<HostPort> parts = split_host_port(rest);
    if (!parts) {
        return invalid_destination(text, "a host in brackets is [ipv6] or [ipv6]:port");
    }
    if (!valid_host(parts->host)) {
        return invalid_destination(text,
                                   "a host is 1 to 255 letters, digits or any of . _ : % -, and does not begin with -");
    }
    if (parts->host.find(':') != std::string_view::npos && !is_ipv6(parts->host)) {
        return invalid_destination(text, "a host with colons is an IPv6 address");
    }
    destination.host = parts->host;
    if (parts->port) {
        destination.port = parse_port(*parts->port);
        if (!destination.port) {
            return invalid_destination(text, "a port is a number from 1 to 65535");
        }
    }
    return destination;
}

Result<SshConfigDump> parse_ssh_config_dump(std::string_view text) {
    SshConfigDump dump;
    std::optional<int> port;
    dump.settings = settings_digest(text);
    while (!text.empty()) {
        const std::size_t line_end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, line_end);
        text.remove_prefix(std::min(line_end + 1, text.size()));

        const std::size_t space = line.find(' ');
        if (space == std::string_view::npos) {
            continue;
        }
        const std::string_view keyword = line.substr(0, space);
        const std::string_view value = line.substr(space + 1);
        const bool none = value == "none";
        if (keyword == "user") {
            dump.user = value;
        } else if (keyword == "hostname") {
            dump.hostname = without_brackets(value);
        } else if (keyword == "port") {
            port = parse_port(value);
        } else if (keyword == "proxyjump" && !none) {
            dump.proxyjump = value;
        } else if (keyword == "proxycommand" && !none) {
            dump.proxycommand = value;
        } else if (keyword == "hostkeyalias") {
            dump.hostkeyalias = value;
        } else if (keyword == "identityfile") {
            dump.identityfiles.emplace_back(value);
        } else if (keyword == "identitiesonly") {
            dump.identitiesonly = value == "yes";
        } else if (keyword == "serveraliveinterval") {
            dump.server_alive_set = value != "0";
        }
    }

    const auto unusable = [](const std::string& what, std::string_view value) {
        const std::string given = value.empty() ? "none" : "'" + printable(value) + "'";
        return Error{.kind = ErrorKind::ConnectFailed, .message = "`ssh -G` gave no usable " + what + ": " + given};
    };
    if (!valid_user(dump.user)) {
        return unusable("user", dump.user);
    }
    if (!valid_host(dump.hostname)) {
        return unusable("hostname", dump.hostname);
    }
    if (!port) {
        return unusable("port", {});
    }
    dump.port = *port;
    return dump;
}

std::string settings_digest(std::string_view dump) {
    // Whatever is not named here counts: an option of a later ssh keeps two commands apart until it is known.
    constexpr std::array<std::string_view, 40> kOfOneCommand = {
        "batchmode",
        "clearallforwardings",
        "connectionattempts",
        "connecttimeout",
        "controlmaster",
        "controlpath",
        "controlpersist",
        "dynamicforward",
        "enableescapecommandline",
        "escapechar",
        "exitonforwardfailure",
        "fingerprinthash",
        "forkafterauthentication",
        "forwardagent",
        "forwardx11",
        "forwardx11timeout",
        "forwardx11trusted",
        "gatewayports",
        "host",
        "ipqos",
        "localcommand",
        "localforward",
        "loglevel",
        "logverbose",
        "numberofpasswordprompts",
        "permitlocalcommand",
        "permitremoteopen",
        "remotecommand",
        "remoteforward",
        "requesttty",
        "sendenv",
        "serveralivecountmax",
        "serveraliveinterval",
        "sessiontype",
        "stdinnull",
        "streamlocalbindmask",
        "streamlocalbindunlink",
        "syslogfacility",
        "visualhostkey",
        "xauthlocation",
    };
    static_assert(std::is_sorted(kOfOneCommand.begin(), kOfOneCommand.end()));
    constexpr std::size_t kDigits = 32;
    std::string counted;
    while (!dump.empty()) {
        const std::size_t line_end = std::min(dump.find('\n'), dump.size());
        const std::string_view line = dump.substr(0, line_end);
        dump.remove_prefix(std::min(line_end + 1, dump.size()));
        if (!std::binary_search(kOfOneCommand.begin(), kOfOneCommand.end(), line.substr(0, line.find(' ')))) {
            counted.append(line) += '\n';
        }
    }
    return hex_digest(counted, kDigits);
}

std::string ServerKey::text() const {
    std::string text = user + '@';
    text += host.find(':') == std::string::npos ? host : '[' + host + ']';
    text += ':' + std::to_string(port);
    if (!via.empty()) {
        text += " via " + via;
    }
    if (!alias.empty()) {
        text += " alias " + alias;
    }
    if (!as.empty()) {
        text += " as " + as;
    }
    return text;
}

ServerKey make_server_key(const SshConfigDump& dump, const SshConfigDump* bare) {
    ServerKey key;
    key.user = dump.user;
    key.host = to_lower(dump.hostname);
    key.port = dump.port;
    key.via = route(dump);
    key.alias = dump.hostkeyalias;
    if (dump.identitiesonly && (bare == nullptr || dump.identityfiles != bare->identityfiles)) {
        for (const std::string& file : dump.identityfiles) {
            key.as += (key.as.empty() ? "" : ",") + file;
        }
    }
    return key;
}

Result<std::string> control_path(const ServerKey& key, const std::string& runtime_dir, const std::string& pattern) {
    if (!pattern.empty()) {
        Result<std::string> path = expand_pattern(key, pattern);
        if (!path.ok()) {
            return path;
        }
        if (!key.plain()) {
            *path += '-' + hex_digest(key.text(), kPathDigits);
        }
        if (path->size() > kMaxControlPath) {
            return control_path_too_long(*path,
                                         "set pool.control_path to a shorter path, or remove it for the default");
        }
        return path;
    }

    const std::string prefix = runtime_dir + '/' + std::string(kControlNamePrefix);
    const std::string readable = prefix + key.user + '@' + key.host + ':' + std::to_string(key.port);
    if (key.plain() && readable.size() <= kMaxControlPath) {
        return readable;
    }
    std::string hashed = prefix + hex_digest(key.text(), kPathDigits);
    if (hashed.size() > kMaxControlPath) {
        return control_path_too_long(hashed, "set XDG_RUNTIME_DIR to a shorter path, or pool.control_path");
    }
    return hashed;
}

std::string own_control_path(const std::string& runtime_dir, std::uint64_t random) {
    return runtime_dir + "/own-" + hex_digest(std::to_string(random), 12);
}

bool is_control_name(std::string_view name) {
    return name.starts_with(kControlNamePrefix);
}

std::optional<ServerKey> server_of_control_name(std::string_view name) {
    if (!name.starts_with(kControlNamePrefix)) {
        return std::nullopt;
    }
    name.remove_prefix(kControlNamePrefix.size());
    // A user may hold an @, a host (IPv6) colons.
    const auto colon = name.rfind(':');
    const auto at = name.rfind('@', colon);
    if (colon == std::string_view::npos || at == std::string_view::npos) {
        return std::nullopt;
    }
    ServerKey key;
    key.user = name.substr(0, at);
    key.host = name.substr(at + 1, colon - at - 1);
    const auto* const end = name.data() + name.size();
    const auto [stopped, failure] = std::from_chars(name.data() + colon + 1, end, key.port);
    if (failure != std::errc() || stopped != end || key.port < 1 || key.port > 65535 || !valid_user(key.user) ||
        !valid_host(key.host)) {
        return std::nullopt;
    }
    return key;
}

std::string hex_digest(std::string_view text, std::size_t digits) {
    std::array<char, SHA256_DIGEST_STRING_LENGTH> hex{};
    SHA256Data(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), hex.data());
    return std::string(hex.data()).substr(0, digits);
}

}  // namespace cmssh
