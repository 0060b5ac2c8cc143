#include "daemon/app/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>
#include <sstream>

#include "tests/unit/app/scratch.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Result<Config> parse(std::string_view text) {
    return parse_config(text, "c.toml", "/home/me");
}

Config parsed(std::string_view text) {
    auto config = parse(text);
    if (!config) {
        ADD_FAILURE() << text << "\n" << config.error().message;
        return {};
    }
    return std::move(*config);
}

Error error_of(std::string_view text) {
    const auto config = parse(text);
    if (config.ok()) {
        ADD_FAILURE() << "accepted: " << text;
        return {};
    }
    EXPECT_EQ(config.error().kind, ErrorKind::BadConfig);
    EXPECT_FALSE(config.error().hint.empty()) << text;
    return config.error();
}

std::string message_of(std::string_view text) {
    return error_of(text).message;
}

// The contract's example.
constexpr std::string_view kExample = R"(default_ctx = "server-a"
[pool]
control_persist = "10m"          # linger after the last ref: ssh syntax, "10m", "1h", "yes"
health_interval = "15s"          # between probes of one connection; jitter only shortens it
health_timeout  = "5s"
unhealthy_after = 2              # failed end-to-end probes in a row
connect_timeout = "15s"          # the whole login
backoff_initial = "500ms"
backoff_max     = "60s"
max_concurrent_connects = 8
max_channels    = 10             # per master, sshd's MaxSessions; learnt downwards when sshd refuses
# control_path  = "/tmp/cm-ssh-%r@%h:%p"
[ssh]
program = "ssh"
options = []                     # extra arguments for every ssh, e.g. ["-F", "/etc/my_ssh_config"]
[sessions]
shell = "login-interactive"      # or "login", "none": what the command is started through on the server
tmux = "tmux"                    # on the server; 3.2 or newer
tmux_socket = "cmssh"            # tmux -L NAME on the server
scrollback = 50000               # lines
keep_ended = "30d"               # how long ended sessions stay in `list --all`
[rpc]
max_clients = 2048
max_message = "8MiB"             # a request; a reply is not capped
[contexts.server-a]              # a name that is not here is taken as an ssh destination: an alias of ssh_config,
host = "server1"                 # host, user@host, user@host:port, ssh://user@host:port, [v6]:port
user = "hren"
port = 22
identity_file = "~/.ssh/id_ed25519"
cwd = "~/src/app"
env = { RUST_LOG = "info" }
prewarm = false                  # true: connected from the daemon's start on and always kept
[tools.claude]                   # `start claude "task"` then runs this command followed by "task"
command = ["claude", "--verbose"]
)";

Config example() {
    Config config;
    config.default_ctx = "server-a";
    ContextConfig& context = config.contexts["server-a"];
    context.host = "server1";
    context.user = "hren";
    context.port = 22;
    context.identity_file = "/home/me/.ssh/id_ed25519";
    context.cwd = "~/src/app";
    context.env = {{"RUST_LOG", "info"}};
    config.tools["claude"] = {"claude", "--verbose"};
    return config;
}

// The default text with what is commented out put into force.
std::string default_text_with_everything() {
    std::istringstream lines{std::string(default_config_text())};
    std::string text;
    std::string line;
    while (std::getline(lines, line)) {
        const bool setting = line.size() > 1 && line[0] == '#' && line[1] != ' ';
        text += (setting ? line.substr(1) : line) + '\n';
    }
    return text;
}

TEST(Config, DefaultTextGivesTheDefaults) {
    EXPECT_EQ(parsed(default_config_text()), Config());
    EXPECT_EQ(parsed(""), Config());
    EXPECT_EQ(parsed("[pool]\n[ssh]\n[sessions]\n[rpc]\n[contexts]\n[tools]\n"), Config());
}

TEST(Config, ContractExampleIsRead) {
    EXPECT_EQ(parsed(kExample), example());
}

TEST(Config, DefaultTextShowsTheExampleCommentedOut) {
    Config expected = example();
    expected.pool.control_path = "/tmp/cm-ssh-%r@%h:%p";
    EXPECT_EQ(parsed(default_text_with_everything()), expected);
}

TEST(Config, EveryKeyIsStored) {
    const Config config = parsed(R"(
default_ctx = "me@host:2222"
pool = { control_persist = "1h30m", health_interval = "50ms", health_timeout = "20ms", unhealthy_after = 3 }
ssh.program = "~/bin/ssh"
ssh.options = ["-4F", "~/ssh_config"]
[sessions]
shell = "none"
tmux = "~/opt/tmux-3.4/bin/tmux"
tmux_socket = "other"
scrollback = 0
keep_ended = "1w"
[rpc]
max_clients = 1
max_message = 4096
[contexts."me@host:22"]
host = "[::1]:22"
prewarm = true
env = { A = "", _b9 = "x y" }
[contexts.b]
host = "b"
[tools."run it"]
command = ["a", "", "b c"]
)");
    EXPECT_EQ(config.default_ctx, "me@host:2222");
    EXPECT_EQ(config.pool.control_persist, 90min);
    EXPECT_EQ(config.pool.health_interval, 50ms);
    EXPECT_EQ(config.pool.health_timeout, 20ms);
    EXPECT_EQ(config.pool.unhealthy_after, 3);
    EXPECT_EQ(config.ssh.program, "/home/me/bin/ssh");
    EXPECT_THAT(config.ssh.options, ElementsAre("-4", "-F", "/home/me/ssh_config"));
    EXPECT_EQ(config.sessions.shell, SessionShell::None);
    EXPECT_EQ(config.sessions.tmux, "~/opt/tmux-3.4/bin/tmux") << "~ is the server's";
    EXPECT_EQ(config.sessions.tmux_socket, "other");
    EXPECT_EQ(config.sessions.scrollback, 0);
    EXPECT_EQ(config.sessions.keep_ended, 168h);
    EXPECT_EQ(config.rpc.max_clients, 1);
    EXPECT_EQ(config.rpc.max_message, 4096U);
    ASSERT_EQ(config.contexts.size(), 2U);
    const ContextConfig& context = config.contexts.at("me@host:22");
    EXPECT_EQ(context.host, "[::1]:22");
    EXPECT_TRUE(context.prewarm);
    EXPECT_EQ(context.env, (std::map<std::string, std::string>{{"A", ""}, {"_b9", "x y"}}));
    EXPECT_EQ(config.contexts.at("b").host, "b");
    EXPECT_FALSE(config.contexts.at("b").prewarm);
    EXPECT_THAT(config.tools.at("run it"), ElementsAre("a", "", "b c"));
}

TEST(Config, PersistenceIsWhatSshMakesOfIt) {
    const std::pair<std::string, std::optional<std::chrono::milliseconds>> cases[] = {
        {R"("yes")", std::nullopt}, {R"("0")", std::nullopt}, {"0", std::nullopt}, {R"("0s")", std::nullopt},
        {R"("no")", 0ms},           {R"("90")", 90s},         {"90", 90s},         {R"("1h30m")", 90min},
        {R"("1w")", 168h},          {R"("1ms")", 1ms},
    };
    for (const auto& [value, expected] : cases) {
        EXPECT_EQ(parsed("pool.control_persist = " + value).pool.control_persist, expected) << value;
    }
}

TEST(Config, LimitsAreWithinWhatIsAllowed) {
    for (const auto* text : {
             "pool.health_interval = '10ms'",
             "pool.health_interval = '1d'",
             "pool.health_timeout = 3600",
             "pool.unhealthy_after = 1",
             "pool.unhealthy_after = 100",
             "pool.max_concurrent_connects = 1000",
             "pool.max_channels = 1",
             "pool.max_channels = 10000",
             "sessions.scrollback = 10_000_000",
             "sessions.keep_ended = '520w'",
             "rpc.max_clients = 100000",
             "rpc.max_message = '1KiB'",
             "rpc.max_message = '1GiB'",
             "rpc.max_message = 1024",
             "contexts.a = { host = 'a', port = 65535 }",
             "pool = { backoff_initial = '1s', backoff_max = '1s' }",
         }) {
        EXPECT_TRUE(parse(text).ok()) << text;
    }
    const std::string duration = R"(: expected a duration such as "15s" or "1h30m", from 10ms to )";
    const std::pair<std::string, std::string> refused[] = {
        {"pool.health_interval = '9ms'", "pool.health_interval" + duration + "1d, got \"9ms\""},
        {"pool.health_interval = 0", "pool.health_interval" + duration + "1d, got 0"},
        {"pool.health_interval = -1", "pool.health_interval" + duration + "1d, got -1"},
        {"pool.health_interval = '25h'", "pool.health_interval" + duration + "1d, got \"25h\""},
        {"pool.health_timeout = 'soon'", "pool.health_timeout" + duration + "1h, got \"soon\""},
        {"pool.connect_timeout = 1.5", "pool.connect_timeout" + duration + "1h, got 1.50000"},
        {"pool.connect_timeout = '99999999999999999999'",
         "pool.connect_timeout" + duration + "1h, got \"99999999999999999999\""},
        {"pool.backoff_initial = []", "pool.backoff_initial" + duration + "1d, got an array"},
        {"pool.backoff_max = ''", "pool.backoff_max" + duration + "1d, got \"\""},
        {"sessions.keep_ended = '0'", "sessions.keep_ended" + duration + "520w, got \"0\""},
        {"pool.unhealthy_after = 0", "pool.unhealthy_after: expected a whole number from 1 to 100, got 0"},
        {"pool.unhealthy_after = 101", "pool.unhealthy_after: expected a whole number from 1 to 100, got 101"},
        {"pool.unhealthy_after = 2.0", "pool.unhealthy_after: expected a whole number from 1 to 100, got 2.00000"},
        {"pool.unhealthy_after = '2'", "pool.unhealthy_after: expected a whole number from 1 to 100, got \"2\""},
        {"pool.max_concurrent_connects = 1001",
         "pool.max_concurrent_connects: expected a whole number from 1 to 1000, got 1001"},
        {"pool.max_channels = 10001", "pool.max_channels: expected a whole number from 1 to 10000, got 10001"},
        {"sessions.scrollback = -1", "sessions.scrollback: expected a whole number from 0 to 10000000, got -1"},
        {"sessions.scrollback = 10000001",
         "sessions.scrollback: expected a whole number from 0 to 10000000, got 10000001"},
        {"rpc.max_clients = 4294967297", "rpc.max_clients: expected a whole number from 1 to 100000, got 4294967297"},
        {"rpc.max_message = 1023", "rpc.max_message: expected a size such as \"8MiB\", from 1KiB to 1GiB, got 1023"},
        {"rpc.max_message = '2GiB'",
         "rpc.max_message: expected a size such as \"8MiB\", from 1KiB to 1GiB, got \"2GiB\""},
        {"contexts.a = { host = 'a', port = 0 }", "contexts.a.port: expected a whole number from 1 to 65535, got 0"},
        {"contexts.a = { host = 'a', port = 65536 }",
         "contexts.a.port: expected a whole number from 1 to 65535, got 65536"},
        {"pool.control_persist = true",
         "pool.control_persist: expected a duration up to 520w such as \"10m\", \"yes\" (for ever) or \"no\" (not at "
         "all), got true"},
    };
    for (const auto& [text, expected] : refused) {
        EXPECT_EQ(message_of(text), "c.toml:1: " + expected) << text;
    }
    for (const auto* value : {"-1", "'-1'", "'521w'", "'ever'", "'YES'", "''", "9223372036854775807", "[]"}) {
        EXPECT_THAT(message_of("pool.control_persist = "s + value), HasSubstr("pool.control_persist: expected"))
            << value;
    }
}

TEST(Config, BackoffGrows) {
    const Error both = error_of("[pool]\nbackoff_max = '1s'\nbackoff_initial = '2s'\n");
    EXPECT_EQ(both.message, "c.toml:3: pool.backoff_initial: expected at most pool.backoff_max, got \"2s\"");
    EXPECT_EQ(both.hint, "backoff_max is 1000 ms: change that too");
    const Error initial = error_of("[pool]\n\nbackoff_initial = '61s'\n");
    EXPECT_EQ(initial.message, "c.toml:3: pool.backoff_initial: expected at most pool.backoff_max, got \"61s\"");
    EXPECT_EQ(initial.hint, "backoff_max is 60000 ms: change that too");
    const Error max = error_of("pool.backoff_max = '100ms'");
    EXPECT_EQ(max.message, "c.toml:1: pool.backoff_max: expected at least pool.backoff_initial, got \"100ms\"");
    EXPECT_EQ(max.hint, "backoff_initial is 500 ms: change that too");
}

TEST(Config, WrongTypesAreNamed) {
    const std::pair<std::string, std::string> cases[] = {
        {"pool = 5", "pool: expected a table, got 5"},
        {"[[pool]]", "pool: expected a table, got an array"},
        {"ssh = 'x'", "ssh: expected a table, got \"x\""},
        {"contexts = []", "contexts: expected a table, got an array"},
        {"tools = true", "tools: expected a table, got true"},
        {"contexts.a = 'host'", "contexts.a: expected a table, got \"host\""},
        {"tools.a = ['x']", "tools.a: expected a table, got an array"},
        {"default_ctx = 1", "default_ctx: expected a context's name, got 1"},
        {"default_ctx = ''", "default_ctx: expected a context's name, got \"\""},
        {"default_ctx = 1979-05-27", "default_ctx: expected a context's name, got a date or a time"},
        {"ssh.program = {}", "ssh.program: expected a program's name or path, not first a -, got a table"},
        {"ssh.options = '-4'",
         R"(ssh.options: expected an array of strings such as ["-F", "/etc/my_ssh_config"], got "-4")"},
        {"ssh.options = ['-4', 6]",
         R"(ssh.options: expected an array of strings such as ["-F", "/etc/my_ssh_config"], got 6)"},
        {"sessions.shell = 'bash'", R"(sessions.shell: expected "login-interactive", "login" or "none", got "bash")"},
        {"sessions.shell = false", R"(sessions.shell: expected "login-interactive", "login" or "none", got false)"},
        {"contexts.a = { host = 'a', prewarm = 1 }", "contexts.a.prewarm: expected true or false, got 1"},
        {"contexts.a = { host = 'a', env = 'X=1' }", "contexts.a.env: expected a table, got \"X=1\""},
        {"contexts.a = { host = 'a', env = { X = 1 } }", "contexts.a.env.X: expected a string, got 1"},
    };
    for (const auto& [text, expected] : cases) {
        EXPECT_EQ(message_of(text), "c.toml:1: " + expected) << text;
    }
}

TEST(Config, UnknownKeysAreNamedWithWhatMayBeMeant) {
    const std::string pool_keys =
        "the keys here are control_persist, health_interval, health_timeout, unhealthy_after, connect_timeout, "
        "backoff_initial, backoff_max, max_concurrent_connects, max_channels, control_path";
    const std::string top_keys = "the keys here are default_ctx, pool, ssh, sessions, rpc, contexts, tools";
    const std::string with_dots = "; a name with dots goes into quotes";
    const struct {
        std::string text;
        std::string key;
        std::string hint;
    } cases[] = {
        {"pool.helth_interval = 1", "pool.helth_interval", "did you mean health_interval?"},
        {"pool.max_channel = 1", "pool.max_channel", "did you mean max_channels?"},
        {"pool.Control_Path = 1", "pool.Control_Path", "did you mean control_path?"},
        {"default_context = 1", "default_context", top_keys},
        {"[context.a]", "context", "did you mean contexts?"},
        {"session = {}", "session", "did you mean sessions?"},
        {"x = 1", "x", top_keys},
        {"[x]", "x", top_keys + with_dots},
        {"pool.linger = 1", "pool.linger", pool_keys},
        {"ssh.port = 22", "ssh.port", "the keys here are program, options"},
        {"[contexts.a]\nhost = 'a'\nhosts = 1", "contexts.a.hosts", "did you mean host?"},
        {"[tools.a]\ncommand = ['a']\nargs = 1", "tools.a.args", "the keys here are command"},
        {"[contexts.www.example]\nhost = 'a'", "contexts.www.example",
         "the keys here are host, user, port, identity_file, cwd, env, prewarm" + with_dots},
        {"'a b\\n' = 1", "\"a b\\n\"", top_keys},
        {"'' = 1", "\"\"", top_keys},
        {"pool.'\xc3\xa9\xe2\x80\xae' = 1", "pool.\"\xc3\xa9\\u{202e}\"", pool_keys},
    };
    for (const auto& [text, key, hint] : cases) {
        const Error error = error_of(text);
        EXPECT_THAT(error.message, testing::MatchesRegex("c\\.toml:[0-9]: .*: unknown key")) << text;
        EXPECT_THAT(error.message, HasSubstr(": " + key + ": unknown key")) << text;
        EXPECT_EQ(error.hint, hint) << text;
    }
}

TEST(Config, ErrorsNameTheirLine) {
    const std::pair<std::string, std::string> cases[] = {
        {"\n\n[pool]\n\nunhealthy_after = 'x'\n", "c.toml:5: pool.unhealthy_after:"},
        {"# é\r\n\r\n[pool]\r\nunhealthy_after = 'x'\r\n", "c.toml:4: pool.unhealthy_after:"},
        {"\n[ssh]\noptions = [\n  '-4',\n  # a comment\n  '-N',\n]", "c.toml:6: ssh.options:"},
        {"\n[ssh]\noptions = [\n  '-F',\n]", "c.toml:4: ssh.options:"},
        {"\n[ssh]\noptions = [\n  '-4',\n  6\n]", "c.toml:5: ssh.options:"},
        {"\n[tools.x]\n", "c.toml:2: tools.x.command: expected a value, got none"},
        {"x.y.z = 1", "c.toml:1: x: unknown key"},
        {"\n[contexts.a.env]\nB = 1\n[contexts.a]\nhost = 'a'", "c.toml:3: contexts.a.env.B:"},
        {"a = '''\n\n\n'''\nb = 1\n", "c.toml:1: a: unknown key"},
        {"[ssh]\nprogram = '''\n\n'''\n[pool]\nx = 1\n", "c.toml:6: pool.x: unknown key"},
        {"\n\ndefault_ctx = 'a b'\n", "c.toml:3: default_ctx: expected a name of [contexts] or an ssh destination"},
    };
    for (const auto& [text, expected] : cases) {
        EXPECT_THAT(message_of(text), StartsWith(expected)) << text;
    }
}

TEST(Config, TheFirstErrorInTheFileIsTold) {
    EXPECT_THAT(message_of("[ssh]\nx = 1\n[pool]\nx = 1\n"), StartsWith("c.toml:2: ssh.x:"));
    EXPECT_THAT(message_of("[pool]\nz = 1\na = 1\n"), StartsWith("c.toml:2: pool.z:"));
    EXPECT_THAT(message_of("default_ctx = 'a b'\n[contexts.'a b']\nhost = 'x'\n"), StartsWith("c.toml:2: contexts."));
}

TEST(Config, WhatIsNotTomlIsToldWithItsLine) {
    const std::pair<std::string, std::string> cases[] = {
        {"[pool]\nx = \n", "c.toml:2: "},
        {"[pool\n", "c.toml:1: "},
        {"\n\n= 1\n", "c.toml:3: "},
        {"[pool]\n[ssh]\n[pool]\n",
         "c.toml:3: Error while parsing table header: cannot redefine existing table 'pool'"},
        {"[pool]\nmax_channels = 1\nmax_channels = 2\n", "c.toml:3: "},
        {"pool = {}\n[pool]\n", "c.toml:2: "},
        {"a = 99999999999999999999\n", "c.toml:1: "},
        {"\n[[[a]]]\n", "c.toml:2: "},
        {"\n[contexts.\xc3\xa9]\n", "c.toml:2: "},
        {"\nx = 1\xc3\xa9\n", "c.toml:2: "},
        {"\nx = \"\xff\"\n", "c.toml:"},
        {"x = 1\0"s, "c.toml:1: "},
        {"\xff\xfex\0=\0"s, "c.toml:1: "},
        {"\xef\xbb\xbf=", "c.toml:1: "},
    };
    for (const auto& [text, expected] : cases) {
        EXPECT_THAT(message_of(text), StartsWith(expected)) << text;
    }
    EXPECT_EQ(parsed("\xef\xbb\xbf" + std::string(kExample)), example()) << "a byte order mark";
    EXPECT_EQ(parsed("[tools.a]\ncommand = [\"\"\"\\\n\xc2\xa7\"\"\"]").tools.at("a").front(), "\xc2\xa7");
}

TEST(Config, ValuesAreShownPrintableAndCut) {
    EXPECT_EQ(message_of(R"(sessions.shell = "\u001b[2J\u202e")"),
              R"(c.toml:1: sessions.shell: expected "login-interactive", "login" or "none", got "\x1b[2J\u{202e}")");
    const std::string cut = message_of("sessions.shell = '" + std::string(100'000, 'x') + "'");
    EXPECT_THAT(cut, testing::EndsWith("got \"" + std::string(64, 'x') + "…\""));
    const std::string between_characters = message_of("sessions.shell = 'x" + std::string(63, 'y') + "é'");
    EXPECT_THAT(between_characters, testing::EndsWith(std::string(63, 'y') + "…\""));
    const std::string inside_a_character = message_of("sessions.shell = '" + std::string(63, 'y') + "éé'");
    EXPECT_THAT(inside_a_character, testing::EndsWith(std::string(63, 'y') + "…\""));
    EXPECT_LT(message_of("'" + std::string(100'000, 'x') + "' = 1").size(), 200U);
    EXPECT_LT(message_of(std::string(100'000, 'x') + " = 1").size(), 200U);
    EXPECT_LT(message_of("contexts." + std::string(100'000, 'x') + ".y = 1").size(), 300U);
    EXPECT_LT(
        message_of("[a]\n[b]\n[\"" + std::string(100'000, 'x') + "\"]\n[\"" + std::string(100'000, 'x') + "\"]").size(),
        400U);
    EXPECT_THAT(parse_config("x = 1", "a\x1b/c.toml", "/").error().message, StartsWith("a\\x1b/c.toml:1: x:"));
}

TEST(Config, NoStringHasANulByte) {
    for (const std::string key :
         {"default_ctx", "pool.control_path", "ssh.program", "sessions.tmux", "sessions.tmux_socket", "contexts.a.host",
          "contexts.a.user", "contexts.a.identity_file", "contexts.a.cwd", "contexts.a.env.X"}) {
        const std::string message = message_of(key + " = \"/x\\u0000%r%h%p\"");
        EXPECT_THAT(message, StartsWith("c.toml:1: " + key + ": expected ")) << key;
        EXPECT_THAT(message, testing::EndsWith(", got one with a NUL byte")) << key;
    }
    EXPECT_THAT(message_of("ssh.options = [\"-F\", \"\\u0000\"]"), testing::EndsWith("got one with a NUL byte"));
    EXPECT_THAT(message_of("tools.a.command = [\"\\u0000\"]"), testing::EndsWith("got one with a NUL byte"));
    EXPECT_THAT(message_of("[tools.\"\\u0000\"]"), HasSubstr("tools.\"\\x00\": expected"));
}

TEST(Config, ControlPathTellsServersApart) {
    const std::pair<std::string, std::string> accepted[] = {
        {"/tmp/cm-ssh-%r@%h:%p", "/tmp/cm-ssh-%r@%h:%p"},
        {"/%%/%p-%h/%r", "/%%/%p-%h/%r"},
        {"~/.ssh/%r@%h:%p", "/home/me/.ssh/%r@%h:%p"},
    };
    for (const auto& [pattern, expected] : accepted) {
        EXPECT_EQ(parsed("pool.control_path = '" + pattern + "'").pool.control_path, expected);
    }
    for (const std::string pattern :
         {"", "x", "%r@%h:%p", "./%r@%h:%p", "~me/%r@%h:%p", "/tmp/%r@%h", "/tmp/%h:%p", "/tmp/%r:%p", "/tmp/%C",
          "/tmp/%r@%h:%p%", "/tmp/%r@%h:%p-%n", "/tmp/%%r@%h:%p", "/tmp/%R@%h:%p", "/tmp/%r-%h-%p"}) {
        const Error error = error_of("pool.control_path = '" + pattern + "'");
        EXPECT_EQ(error.message,
                  "c.toml:1: pool.control_path: expected an absolute path of at most 90 bytes with %r, %h and %p, told "
                  "apart by @, : or /, and no token but %%, got \"" +
                      pattern + "\"");
        EXPECT_EQ(error.hint, R"(such as "/tmp/cm-ssh-%r@%h:%p")");
    }
    EXPECT_FALSE(parse("pool.control_path = '/" + std::string(90, 'x') + "%r%h%p'").ok());
    // A % of the home directory is no token.
    const auto config = parse_config("pool.control_path = '~/%r@%h:%p'", "c.toml", "/home/100%p");
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config->pool.control_path, "/home/100%%p/%r@%h:%p");
}

TEST(Config, NamesHaveAllowLists) {
    const struct {
        std::string key;
        std::vector<std::string> accepted;
        std::vector<std::string> refused;
    } cases[] = {
        {"ssh.program", {"ssh", "/usr/bin/ssh", "~/bin/ssh", "my ssh"}, {"", "-ssh"}},
        {"sessions.tmux",
         {"tmux", "/opt/tmux-3.4/bin/tmux", "~/a+b_c.d"},
         {"", "-tmux", "tmux -f x", "a;b", "$(x)", "é", "a'b", std::string(256, 'x')}},
        {"sessions.tmux_socket", {"cmssh", "a.b-c_9"}, {"", "-a", ".a", "..", "a/b", "a b", "~", "a+b"}},
        {"default_ctx",
         {"server", "me@host", "me@host:22", "ssh://me@host", "[::1]:22"},
         {"", "a b", "-a", "a:b", "a;b"}},
    };
    for (const auto& [key, accepted, refused] : cases) {
        for (const auto& value : accepted) {
            EXPECT_TRUE(parse(key + " = \"" + value + '"').ok()) << key << ' ' << value;
        }
        for (const auto& value : refused) {
            EXPECT_THAT(message_of(key + " = \"" + value + '"'), StartsWith("c.toml:1: " + key + ": expected "))
                << value;
        }
    }
}

TEST(Config, RefusedSshOptionsAreShown) {
    const struct {
        std::string options;
        std::string expected;
        std::string hint;
    } cases[] = {
        {"'-fN'", "an option that cmssh does not set itself, got \"-fN\"", "leave it out: "},
        {"'-o', 'ControlPath=/x'", "a keyword that cmssh does not set itself, got \"ControlPath=/x\"",
         "leave it out: "},
        {"'server'", "an option that begins with -, got \"server\"", "the server goes into [contexts.NAME]"},
        {"'-F'", "a value after -F, got nothing", "such as [\"-F\""},
        {"'--'", "an option of ssh, got \"--\"", "ssh(1) lists"},
    };
    for (const auto& [options, expected, hint] : cases) {
        const Error error = error_of("ssh.options = [" + options + "]");
        EXPECT_EQ(error.message, "c.toml:1: ssh.options: expected " + expected);
        EXPECT_THAT(error.hint, StartsWith(hint));
    }
}

TEST(Config, ContextsAreFitForTheCommandLine) {
    for (const std::string name : {"a", "server-a", "a.b", "me@host:22", "_x", "9", "a+b", ":", "@"}) {
        EXPECT_TRUE(parse("[contexts.\"" + name + "\"]\nhost = 'h'").ok()) << name;
    }
    for (const std::string name : {"", "-a", "a b", "a/b", "é", "a\\nb", "*"}) {
        EXPECT_THAT(message_of("[contexts.\"" + name + "\"]\nhost = 'h'"),
                    HasSubstr("expected a name of letters, digits and . _ - @ : +, not first a -, got "))
            << name;
    }
    const std::pair<std::string, std::string> refused[] = {
        {"host = ''",
         "contexts.a.host: expected a host, user@host, user@host:port, ssh://user@host:port or "
         "[ipv6]:port, got \"\""},
        {"host = '-oProxyCommand=x'", "contexts.a.host: "},
        {"host = 'a b'", "contexts.a.host: "},
        {"host = 'a:99999'", "contexts.a.host: "},
        {"host = 5", "contexts.a.host: "},
        {"user = ''", "contexts.a.user: expected a user's name"},
        {"user = '-x'", "contexts.a.user: "},
        {"user = 'a b'", "contexts.a.user: "},
        {"identity_file = ''", "contexts.a.identity_file: expected a file, got \"\""},
        {"cwd = ''", "contexts.a.cwd: expected a directory of the server, got \"\""},
        {"env = { 9X = 'x' }", "contexts.a.env.9X: expected a variable's name"},
        {"env = { 'A=B' = 'x' }", "contexts.a.env.\"A=B\": expected a variable's name"},
        {"env = { '' = 'x' }", "contexts.a.env.\"\": expected a variable's name"},
    };
    for (const auto& [line, expected] : refused) {
        const std::string host = line.starts_with("host") ? "" : "host = 'h'\n";
        EXPECT_THAT(message_of("[contexts.a]\n" + line + '\n' + host), StartsWith("c.toml:2: " + expected));
    }
    EXPECT_TRUE(parse("default_ctx = '9+:'\n[contexts.'9+:']\nhost = 'h'").ok()) << "a context, though no destination";
}

TEST(Config, ToolsHaveACommand) {
    for (const auto* command : {"[]", "['']", "['', 'x']"}) {
        EXPECT_EQ(message_of("[tools.a]\ncommand = "s + command),
                  R"(c.toml:2: tools.a.command: expected a program and its arguments such as ["claude", "--verbose"], )"
                  "got no program");
    }
    for (const auto* command : {"'x'", "[1]", "['x', ['y']]"}) {
        EXPECT_THAT(message_of("[tools.a]\ncommand = "s + command),
                    StartsWith("c.toml:2: tools.a.command: expected a program and its arguments"));
    }
    EXPECT_THAT(message_of("[tools.\"\"]\ncommand = ['x']"), StartsWith("c.toml:1: tools.\"\": expected the word"));
}

std::string repeated(std::string_view part, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) {
        text += part;
    }
    return text;
}

// toml++ parses and destroys by recursion.
TEST(Config, DeepNestingIsRefused) {
    for (const std::string& text : {
             "x = " + repeated("[", 500'000),
             "x = " + repeated("{ a = ", 200'000),
             "x = " + repeated("[\n", 300'000),
             repeated("a.", 500'000) + "a = 1",
             '[' + repeated("a.", 500'000) + "a]",
             repeated("'.'.", 250'000) + "a = 1",
             '[' + repeated("a.", 250) + "a]\n" + repeated(repeated("a.", 250) + "a = [\n{", 100),
             '[' + repeated("a.", 250) + "a]\n" + repeated(repeated("a.", 250) + "a = [\n{", 7) + "x = 1" +
                 repeated("}]", 7),
         }) {
        EXPECT_THAT(message_of(text), StartsWith("c.toml:"));
    }
    EXPECT_EQ(message_of("\n" + repeated(".", 257)), "c.toml:2: expected at most 256 dots in a line, got more");
    EXPECT_EQ(parsed(repeated("# " + repeated(".", 200) + "\n", 10)), Config());
}

TEST(Config, AnyBytesAreReadOrRefused) {
    const std::array<std::string, 2> seeds = {std::string(default_config_text()), default_text_with_everything()};
    const std::string pieces[] = {"\0"s,         "\xff",
                                  "\xc3\xa9",    "\xe2\x80\xa8",
                                  "[",           "]",
                                  "[[[",         "{",
                                  "}",           "\"",
                                  "'",           "\"\"\"",
                                  "'''",         "\\",
                                  "\\u",         "=",
                                  ".",           ",",
                                  "#",           "\n",
                                  "\r",          "\r\n",
                                  "1e99",        "0x",
                                  "inf",         "-",
                                  "_",           "1979-05-27T07:32:00Z",
                                  "\\U0010FFFF", "\xef\xbb\xbf",
                                  "[contexts.",  "env",
                                  "true"};
    std::mt19937 random(20261123);
    const auto below = [&random](std::size_t limit) { return random() % limit; };
    int accepted = 0;
    for (int round = 0; round < 6000; ++round) {
        std::string text = seeds[below(seeds.size())];
        for (std::size_t change = below(8) + 1; change > 0; --change) {
            const std::size_t at = below(text.size());
            switch (below(5)) {
                case 0:
                    text[at] = static_cast<char>(below(256));
                    break;
                case 1:
                    text.insert(at, pieces[below(std::size(pieces))]);
                    break;
                case 2:
                    text.erase(at, below(40) + 1);
                    break;
                case 3:
                    text.insert(at, text.substr(below(text.size()), below(80)));
                    break;
                default:
                    text.resize(std::max<std::size_t>(at, 1));
                    break;
            }
            if (text.empty()) {
                text = "\n";
            }
        }
        const auto config = parse(text);
        if (config) {
            ++accepted;
            continue;
        }
        ASSERT_EQ(config.error().kind, ErrorKind::BadConfig);
        ASSERT_THAT(config.error().message, testing::MatchesRegex("c\\.toml:[0-9]+: .+"));
        ASSERT_LT(config.error().message.size(), 1000U);
        ASSERT_FALSE(config.error().hint.empty());
    }
    EXPECT_GT(accepted, 100) << "the mutations are to reach behind the TOML parser";
    EXPECT_LT(accepted, 5900);
}

TEST(ConfigFile, MissingIsTheDefaultsUnlessAskedFor) {
    const ScratchDir scratch;
    const std::string file = scratch / "c.toml";
    const auto defaults = load_config(file, "/home/me", false);
    ASSERT_TRUE(defaults.ok());
    EXPECT_EQ(*defaults, Config());
    EXPECT_TRUE(load_config(scratch / "no/such/c.toml", "/home/me", false).ok());
    EXPECT_TRUE(load_config(scratch.write("file", "") + "/c.toml", "/home/me", false).ok()) << "HOME=/dev/null";
    const auto required = load_config(file, "/home/me", true);
    ASSERT_FALSE(required.ok());
    EXPECT_EQ(required.error().kind, ErrorKind::BadConfig);
    EXPECT_EQ(required.error().message, file + ": No such file or directory");
    EXPECT_EQ(required.error().hint, "--config and CMSSH_CONFIG name another file");
}

TEST(ConfigFile, IsRead) {
    const ScratchDir scratch;
    const auto config = load_config(scratch.write("c.toml", kExample), "/home/me", true);
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(*config, example());
    ASSERT_EQ(::symlink("c.toml", (scratch / "link").c_str()), 0);
    EXPECT_TRUE(load_config(scratch / "link", "/home/me", false).ok());
    const auto bad = load_config(scratch.write("bad.toml", "\nx = 1"), "/home/me", false);
    ASSERT_FALSE(bad.ok());
    EXPECT_EQ(bad.error().message, scratch / "bad.toml:2: x: unknown key");
}

TEST(ConfigFile, WhatCannotBeReadIsToldAtOnce) {
    const ScratchDir scratch;
    ASSERT_EQ(::mkdir((scratch / "dir").c_str(), 0700), 0);
    ASSERT_EQ(::mkfifo((scratch / "fifo").c_str(), 0600), 0);
    ASSERT_EQ(::symlink("nothing", (scratch / "dangling").c_str()), 0);
    ASSERT_EQ(::symlink("loop", (scratch / "loop").c_str()), 0);
    (void)scratch.write("big", std::string(1024 * 1024 + 1, '\n'));
    const std::pair<std::string, std::string> cases[] = {
        {scratch / "dir", "is a directory"},
        {scratch / "fifo", "is not a regular file"},
        {"/dev/null", "is not a regular file"},
        {scratch / "dangling", "No such file or directory"},
        {scratch / "loop", "Too many levels of symbolic links"},
        {scratch / "big", "is over 1048576 bytes long"},
    };
    for (const auto& [file, problem] : cases) {
        const auto config = load_config(file, "/home/me", false);
        ASSERT_FALSE(config.ok()) << file;
        EXPECT_EQ(config.error().message, file + ": " + problem);
    }
    EXPECT_TRUE(load_config(scratch.write("full", std::string(1024 * 1024, '\n')), "/home/me", false).ok());
    if (::geteuid() != 0) {
        const std::string file = scratch.write("secret", "");
        ASSERT_EQ(::chmod(file.c_str(), 0), 0);
        const auto config = load_config(file, "/home/me", false);
        ASSERT_FALSE(config.ok());
        EXPECT_EQ(config.error().message, file + ": Permission denied");
    }
}

}  // namespace
}  // namespace cmssh
