// What makes two destinations one server, and where a server's control socket lies. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.hpp"

namespace cmssh {

// Where `ssh` is told to go: what a person typed, taken apart. Nothing here has been looked up.
struct Destination {
    std::string host;  // as typed: an alias of ssh_config, a name or an address (IPv6 without brackets)
    std::optional<std::string> user;
    std::optional<int> port;

    friend bool operator==(const Destination&, const Destination&) = default;
};

// host, user@host, user@host:port, ssh://[user@]host[:port], [v6]:port, a bare v6 address. The last @ parts user and
// host. InvalidName for what is outside the allow-lists below, naming the part.
[[nodiscard]] Result<Destination> parse_destination(std::string_view text);

// Allow-lists: nothing that ssh could take for an option or a shell for more than a word.
[[nodiscard]] bool valid_host(std::string_view host);  // [A-Za-z0-9._:%-], 1 to 255, no leading '-'
[[nodiscard]] bool valid_user(std::string_view user);  // [A-Za-z0-9._@\+-], 1 to 64, no leading '-'

// The lines of `ssh -G` that we use (OpenSSH 9.2 readconf.c dump_client_config).
struct SshConfigDump {
    std::string user;
    std::string hostname;
    int port = 22;
    std::string proxyjump;     // empty: none
    std::string proxycommand;  // empty: none
    std::string hostkeyalias;  // empty: none
    std::vector<std::string> identityfiles;
    bool identitiesonly = false;
    bool server_alive_set = false;  // serveraliveinterval is not 0
    std::string settings = {};      // settings_digest() of the whole text; not kept over a restart
};
// ConnectFailed when the text is not a dump: user, hostname or port missing or outside the allow-lists.
[[nodiscard]] Result<SshConfigDump> parse_ssh_config_dump(std::string_view text);

// Of every line of `ssh -G` that says how ssh logs in and what the connection then is. Two commands with one digest can
// share a connection; lines that only say what a single command does on it are left out.
[[nodiscard]] std::string settings_digest(std::string_view dump);

struct ServerKey {
    std::string user;
    std::string host;  // lower case as ssh gives it
    int port = 22;
    std::string via = {};    // the hop as ssh -G gives it, or "cmd-" + 8 hex of a ProxyCommand; empty: none
    std::string alias = {};  // HostKeyAlias; empty: none
    std::string as = {};     // identity files joined by ','; empty: none

    // `user@host:port`, IPv6 in [], then ` via HOP`, ` alias NAME`, ` as FILE` where set.
    [[nodiscard]] std::string text() const;
    [[nodiscard]] bool plain() const { return via.empty() && alias.empty() && as.empty(); }

    friend bool operator==(const ServerKey&, const ServerKey&) = default;
};

// `bare` is the dump of the bare `user@host`: identity files count only where IdentitiesOnly is yes and they differ
// from it.
[[nodiscard]] ServerKey make_server_key(const SshConfigDump& dump, const SshConfigDump* bare);

// ssh binds PATH + '.' + 16 random characters first: 108 - 1 - 17 (OpenSSH mux.c muxserver_listen, Linux sun_path).
inline constexpr std::size_t kMaxControlPath = 90;

// Where the control socket of a server lies. pattern: pool.control_path with %r %h %p and %%, or empty for the default.
// BadConfig when a pattern's path is too long, or could be that of two servers. A key with more than user@host:port
// never shares a pattern's path: 16 hex of the key are put behind it.
[[nodiscard]] Result<std::string> control_path(const ServerKey& key, const std::string& runtime_dir,
                                               const std::string& pattern);

// Of a master that is for one client alone.
[[nodiscard]] std::string own_control_path(const std::string& runtime_dir, std::uint64_t random);

// Whether a control socket has this file name in the runtime dir.
[[nodiscard]] bool is_control_name(std::string_view name);
// The server whose control socket has this file name in the runtime dir; nullopt for any other, and for a name that
// only a hash of the key is left in.
[[nodiscard]] std::optional<ServerKey> server_of_control_name(std::string_view name);

// The first `digits` hex digits of SHA-256.
[[nodiscard]] std::string hex_digest(std::string_view text, std::size_t digits);

}  // namespace cmssh
