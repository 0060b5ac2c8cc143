#include "daemon/app/config.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <variant>

#include "daemon/app/config_reader.hpp"
#include "daemon/app/ssh_options.hpp"
#include "daemon/base/unique_fd.hpp"
#include "protocol/names.hpp"
#include "protocol/paths.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxFile = 1024 * 1024;
constexpr std::size_t kMaxWord = 255;
// Not zero, with which the daemon would not rest, and short enough for tests.
constexpr const char* kShortest = "10ms";

// As ControlPersist of ssh_config(5): "yes" and a duration of zero are for ever, "no" ends it with its last use.
Read linger(std::optional<milliseconds>& out) {
    return [&out](const Entry& entry) {
        constexpr milliseconds kLongest = std::chrono::weeks(520);
        const auto* text = entry.value.as_string();
        const auto is = [text](std::string_view word) { return text != nullptr && text->get() == word; };
        const auto value = duration_in(entry);
        if (is("yes") || value == milliseconds(0)) {
            out = std::nullopt;
        } else if (is("no")) {
            out = milliseconds(0);
        } else if (value && *value <= kLongest) {
            out = value;
        } else {
            entry.refuse(R"(a duration up to 520w such as "10m", "yes" (for ever) or "no" (not at all))");
        }
    };
}

bool not_empty(std::string_view text) {
    return !text.empty();
}

std::function<bool(std::string_view)> word_of(std::string_view also, std::string_view not_first) {
    return [also, not_first](std::string_view text) {
        const auto allowed = [also](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                   also.find(c) != std::string_view::npos;
        };
        return !text.empty() && text.size() <= kMaxWord && not_first.find(text.front()) == std::string_view::npos &&
               std::all_of(text.begin(), text.end(), allowed);
    };
}

bool is_destination(std::string_view text) {
    return parse_destination(text).ok();
}

TextRule destination_rule() {
    return {.expected = "a host, user@host, user@host:port, ssh://user@host:port or [ipv6]:port",
            .valid = is_destination,
            .hint = "it is what stands behind ssh on the command line: an alias of ssh_config, a name or an address"};
}

Read session_shell(SessionShell& out) {
    return [&out](const Entry& entry) {
        constexpr std::array<std::pair<std::string_view, SessionShell>, 3> kShells = {
            {{"login-interactive", SessionShell::LoginInteractive},
             {"login", SessionShell::Login},
             {"none", SessionShell::None}}};
        const auto* value = entry.value.as_string();
        const auto* shell = std::find_if(kShells.begin(), kShells.end(), [value](const auto& it) {
            return value != nullptr && it.first == value->get();
        });
        if (shell == kShells.end()) {
            entry.refuse(R"("login-interactive", "login" or "none")");
        } else {
            out = shell->second;
        }
    };
}

Read control_path_pattern(std::string& out, const std::string& home) {
    // The pattern's tokens begin with %, so one of the home directory's own is doubled.
    std::string literal_home;
    for (const char c : home) {
        literal_home += c == '%' ? "%%" : std::string(1, c);
    }
    const auto valid = [literal_home](std::string_view pattern) {
        const ServerKey shortest{.user = "u", .host = "h"};
        // An empty one would stand for the default.
        return !pattern.empty() && control_path(shortest, {}, expand_home(literal_home, pattern)).ok();
    };
    static_assert(kMaxControlPath == 90);
    TextRule rule{
        .expected =
            "an absolute path of at most 90 bytes with %r, %h and %p, told apart by @, : or /, and no token but %%",
        .valid = valid,
        .hint = R"(such as "/tmp/cm-ssh-%r@%h:%p")"};
    return path(out, literal_home, std::move(rule));
}

Read ssh_options(std::vector<std::string>& out, const std::string& home) {
    return [&out, home](const Entry& entry) {
        const auto given = texts_in(entry, R"(an array of strings such as ["-F", "/etc/my_ssh_config"])");
        if (!given) {
            return;
        }
        auto read = read_ssh_options(*given, home);
        if (auto* words = std::get_if<std::vector<std::string>>(&read)) {
            out = std::move(*words);
            return;
        }
        const auto& refused = std::get<RefusedOption>(read);
        const Entry element = entry.element(*entry.value.as_array()->get(refused.index));
        if (refused.nothing_given) {
            element.refuse_as("nothing", refused.expected, refused.hint);
        } else {
            element.refuse(refused.expected, refused.hint);
        }
    };
}

Read command(std::vector<std::string>& out) {
    return [&out](const Entry& entry) {
        const std::string expected = R"(a program and its arguments such as ["claude", "--verbose"])";
        auto words = texts_in(entry, expected);
        if (words && (words->empty() || words->front().empty())) {
            entry.refuse_as("no program", expected);
        } else if (words) {
            out = std::move(*words);
        }
    };
}

Read environment(std::map<std::string, std::string>& out) {
    return [&out](const Entry& entry) {
        const TextRule name{.expected = "a variable's name: letters, digits and _, not first a digit",
                            .valid = valid_env_name};
        read_named(entry, name, [&out](const std::string& variable, const Entry& value) {
            const TextRule any{.expected = "a string", .valid = [](std::string_view) { return true; }};
            text(out[variable], any)(value);
        });
    };
}

Read contexts(std::map<std::string, ContextConfig>& out, const std::string& home) {
    return [&out, home](const Entry& entry) {
        const TextRule name{.expected = "a name of letters, digits and . _ - @ : +, not first a -",
                            .valid = word_of("._-@:+", "-")};
        read_named(entry, name, [&out, &home](const std::string& ctx, const Entry& value) {
            ContextConfig& context = out[ctx];
            const Keys keys = {
                {"host", text(context.host, destination_rule())},
                {"user",
                 text(context.user, {.expected = "a user's name: letters, digits and . _ @ \\ + -, not first a -",
                                     .valid = valid_user})},
                {"port", whole_number(context.port, 1, 65535)},
                {"identity_file", path(context.identity_file, home, {.expected = "a file", .valid = not_empty})},
                {"cwd", text(context.cwd, {.expected = "a directory of the server", .valid = not_empty})},
                {"env", environment(context.env)},
                {"prewarm", boolean(context.prewarm)},
            };
            read_keys(value, keys);
            if (context.host.empty()) {
                context.host = ctx;  // as ssh itself would take it
            }
        });
    };
}

Read tools(std::map<std::string, std::vector<std::string>>& out) {
    return [&out](const Entry& entry) {
        const TextRule name{.expected = "the word that stands for the command", .valid = [](std::string_view word) {
                                return !word.empty() && word.find('\0') == std::string_view::npos;
                            }};
        read_named(entry, name, [&out](const std::string& tool, const Entry& value) {
            read_keys(value, {{"command", command(out[tool]), Need::Required}});
        });
    };
}

Keys top_level_keys(Config& config, const std::string& home) {
    PoolConfig& pool = config.pool;
    SshConfig& ssh = config.ssh;
    SessionsConfig& sessions = config.sessions;
    RpcConfig& rpc = config.rpc;
    return {
        {"default_ctx", text(config.default_ctx, {.expected = "a context's name", .valid = not_empty})},
        {"pool", section({
                     {"control_persist", linger(pool.control_persist)},
                     {"health_interval", duration(pool.health_interval, kShortest, "1d")},
                     {"health_timeout", duration(pool.health_timeout, kShortest, "1h")},
                     {"unhealthy_after", whole_number(pool.unhealthy_after, 1, 100)},
                     {"connect_timeout", duration(pool.connect_timeout, kShortest, "1h")},
                     {"backoff_initial", duration(pool.backoff_initial, kShortest, "1d")},
                     {"backoff_max", duration(pool.backoff_max, kShortest, "1d")},
                     {"max_concurrent_connects", whole_number(pool.max_concurrent_connects, 1, 1000)},
                     {"max_channels", whole_number(pool.max_channels, 1, 10'000)},
                     {"control_path", control_path_pattern(pool.control_path, home)},
                 })},
        {"ssh", section({
                    {"program", path(ssh.program, home,
                                     {.expected = "a program's name or path, not first a -",
                                      .valid = [](std::string_view it) { return !it.empty() && it.front() != '-'; }})},
                    {"options", ssh_options(ssh.options, home)},
                })},
        {"sessions",
         section({
             {"shell", session_shell(sessions.shell)},
             {"tmux", text(sessions.tmux, {.expected = "a program's name or path: letters, digits and . _ / + ~ -, not "
                                                       "first a -",
                                           .valid = word_of("._/+~-", "-")})},
             {"tmux_socket",
              text(sessions.tmux_socket, {.expected = "a name: letters, digits and _ . -, not first a - or .",
                                          .valid = word_of("_.-", "-.")})},
             {"scrollback", whole_number(sessions.scrollback, 0, 10'000'000)},
             {"keep_ended", duration(sessions.keep_ended, kShortest, "520w")},
         })},
        {"rpc", section({
                    {"max_clients", whole_number(rpc.max_clients, 1, 100'000)},
                    {"max_message", size(rpc.max_message, "1KiB", "1GiB")},
                })},
        {"contexts", contexts(config.contexts, home)},
        {"tools", tools(config.tools)},
    };
}

// What no key shows alone.
void check_together(const toml::table& root, const Config& config, Complaints& complaints) {
    const auto entry = [&complaints](const toml::node& value, std::string key) {
        return Entry{value, value.source().begin.line, std::move(key), complaints};
    };
    if (config.default_ctx && !config.contexts.contains(*config.default_ctx) && !is_destination(*config.default_ctx)) {
        entry(*root.get("default_ctx"), "default_ctx")
            .refuse("a name of [contexts] or an ssh destination", "add [contexts.NAME] with its host");
    }
    const PoolConfig& pool = config.pool;
    if (pool.backoff_initial > pool.backoff_max) {
        const auto other = [](const std::string& key, milliseconds value) {
            return key + " is " + std::to_string(value.count()) + " ms: change that too";
        };
        const auto initial = root["pool"]["backoff_initial"];
        if (initial) {
            entry(*initial.node(), "pool.backoff_initial")
                .refuse("at most pool.backoff_max", other("backoff_max", pool.backoff_max));
        } else {
            entry(*root["pool"]["backoff_max"].node(), "pool.backoff_max")
                .refuse("at least pool.backoff_initial", other("backoff_initial", pool.backoff_initial));
        }
    }
}

Error unreadable(const std::string& file, const std::string& problem) {
    return Error{.kind = ErrorKind::BadConfig,
                 .message = printable(file) + ": " + problem,
                 .hint = "--config and CMSSH_CONFIG name another file"};
}

Result<std::string> read_file(const std::string& file, int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        return unreadable(file, std::strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return unreadable(file, S_ISDIR(status.st_mode) ? "is a directory" : "is not a regular file");
    }
    // One byte more than there may be; the size that fstat gives may change.
    std::string text(kMaxFile + 1, '\0');
    std::size_t size = 0;
    while (size < text.size()) {
        const ssize_t count = ::read(fd, text.data() + size, text.size() - size);
        if (count < 0 && errno != EINTR) {
            return unreadable(file, std::strerror(errno));
        }
        if (count == 0) {
            break;
        }
        size += count > 0 ? static_cast<std::size_t>(count) : 0;
    }
    if (size > kMaxFile) {
        return unreadable(file, "is over " + std::to_string(kMaxFile) + " bytes long");
    }
    text.resize(size);
    return text;
}

}  // namespace

Result<Config> parse_config(std::string_view text, const std::string& file, const std::string& home) {
    Complaints complaints(file);
    Config config;
    if (const auto root = parse_toml(text, complaints)) {
        read_keys(Entry{*root, 1, {}, complaints}, top_level_keys(config, home));
        if (!complaints.first()) {
            check_together(*root, config, complaints);
        }
    }
    if (complaints.first()) {
        return *complaints.first();
    }
    return config;
}

Result<Config> load_config(const std::string& file, const std::string& home, bool required) {
    // O_NONBLOCK: opening a FIFO waits for a writer otherwise.
    const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!fd) {
        const int failure = errno;
        struct stat status {};
        // A symlink to nothing is not a missing file: somebody wants one to be there.
        const bool missing = (failure == ENOENT || failure == ENOTDIR) && ::lstat(file.c_str(), &status) != 0;
        if (missing && !required) {
            return Config{};
        }
        return unreadable(file, std::strerror(failure));
    }
    const auto text = read_file(file, fd.get());
    if (!text) {
        return text.error();
    }
    return parse_config(*text, file, home);
}

}  // namespace cmssh
