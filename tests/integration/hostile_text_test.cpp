// Text that somebody else chose: callers, servers and programs. No terminal acts on it, and no log is forged by it.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "tests/support/terminal.hpp"
#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const Words kLong = {"sleep", "1000"};

// What is in there that a terminal acts on, or shows as something that it is not; line feeds may be.
std::string acted_on(std::string text) {
    std::erase(text, '\n');
    std::string ascii;
    try {
        ascii = Json(text).dump(-1, ' ', true);
    } catch (const Json::exception& invalid) {
        return invalid.what();
    }
    std::string found;
    for (std::size_t at = 0; at < ascii.size(); ++at) {
        if (ascii[at] != '\\') {
            continue;
        }
        const char kind = ascii[++at];
        if (kind != 'u') {
            found += kind == '\\' || kind == '"' ? "" : std::string("\\") + kind;
            continue;
        }
        const unsigned long unit = std::stoul(ascii.substr(at + 1, 4), nullptr, 16);
        const auto within = [unit](unsigned long first, unsigned long end) { return unit >= first && unit <= end; };
        if (unit < 0x20 || within(0x7f, 0x9f) || unit == 0x61c || within(0x200b, 0x200f) || within(0x2028, 0x202e) ||
            within(0x2066, 0x2069) || unit == 0xfeff) {
            found += ascii.substr(at - 1, 6);
        }
    }
    return found;
}

// A title, colours, the screen cleared, C1, bidi controls, what is not seen, and the beginning of a line of its own.
const std::string kHostile =
    "\x1b]0;title\x07\x1b[31m\x1b[2J\x7f\xc2\x9b\u202e\u2066\u200b\u2028\ufeff\r\t\n2026-01-01T00:00:00.000+00:00 "
    "error forged";

TEST(HostileText, IsShownByNoTable) {
    World world(servers(1));
    make_dirs(world.sshd.home(1) + "/d" + kHostile);
    const Json params = {{"cwd", "d" + kHostile}, {"env", {{"HOSTILE", kHostile}}}, {"name", "job"}};
    world.start("server-1", {"sh", "-c", "exec cat # " + kHostile}, params);
    world.wait(world.start_id("server-1", {"true", kHostile}));
    Process events = world.daemon.spawn_cmctl({"events", "--color", "never"});
    ASSERT_TRUE(wait_until([&] { return world.stats().at("daemon").at("clients") == 2; }));
    const std::string third = world.start_id("server-1", {"true", kHostile});
    world.wait(third);
    EXPECT_TRUE(wait_until([&] { return events.output().find("session.ended") != std::string::npos; }));
    EXPECT_EQ(acted_on(events.output() + events.errors()), "");
    for (const Words& verb : {Words{"list"}, Words{"list", "--all"}, Words{"stats"}, Words{"status"}, Words{"contexts"},
                              Words{"check"}, Words{"list", "--all", "--json"}, Words{"stats", "--openmetrics"},
                              Words{"doctor", "server-1"}, Words{"kill", "job"}}) {
        Words line = {"--color", "never"};
        line.insert(line.end(), verb.begin(), verb.end());
        const Finished shown = world.daemon.cmctl(line);
        EXPECT_EQ(shown.status.code, 0) << verb.front() << shown.errors;
        EXPECT_EQ(acted_on(shown.output + shown.errors), "") << testing::PrintToString(verb) << shown.output;
        EXPECT_THAT(shown.output + shown.errors, Not(HasSubstr("\n2026-01-01"))) << verb.front();
    }
}

TEST(HostileText, InALogIsNotActedOnByATerminal) {
    World world(servers(1));
    // What tmux keeps: escape sequences are acted on there.
    const std::string file = world.dir / "text";
    write_file(file, "first a\u202eb\u2066c\u061cd\ufeff last\n");
    const std::string id = world.start_id("server-1", {"cat", file});
    world.wait(id);
    EXPECT_NE(acted_on(world.rpc().call("logs", {{"session", id}}).at("text").get<std::string>()), "");
    for (const Words& verb : {Words{"logs", id}, Words{"logs", "-f", id}}) {
        Words argv = {CMSSH_CMCTL};
        argv.insert(argv.end(), verb.begin(), verb.end());
        Terminal terminal(argv, world.daemon.environment());
        EXPECT_TRUE(terminal.prints("last")) << terminal.output();
        EXPECT_EQ(terminal.wait(), 0);
        std::string shown = terminal.output();
        std::erase(shown, '\r');
        EXPECT_EQ(acted_on(shown), "") << shown;
    }
}

TEST(HostileText, OfCallersIsRefusedWithoutBeingRepeatedAsItIs) {
    World world(servers(1));
    const Words verbs[] = {{"connect", kHostile},
                           {"connect", "server-1" + kHostile},
                           {"connect", kHostile + "@server-1"},
                           {"connect", "ssh://me@" + kHostile + ":22"},
                           {"start", "--ctx", "server-1", "--name", kHostile, "true"},
                           {"start", "--ctx", "server-1", "--cwd", kHostile, "true"},
                           {"start", "--ctx", "server-1", "--env", kHostile + "=1", "true"},
                           {"start", "--ctx", "server-1", "--env", kHostile, "true"},
                           {"exec", "--ctx", kHostile, "true"},
                           {"attach", kHostile},
                           {"logs", kHostile},
                           {"send", kHostile, "x"},
                           {"kill", kHostile},
                           {"wait", kHostile},
                           {"check", kHostile},
                           {"disconnect", kHostile},
                           {"cp", kHostile + ":x", "."},
                           {"forward", "add", "--ctx", "server-1", "-L", kHostile},
                           {"forward", "rm", kHostile},
                           {"rpc", kHostile},
                           {"rpc", "get", "{\"session\":\"\\u001b[2J\"}"},
                           {"rpc", "get", kHostile},
                           {"completion", kHostile},
                           {"doctor", kHostile},
                           {"--host", kHostile, "list"},
                           {"--timeout", kHostile, "list"},
                           {"--socket", kHostile, "--no-spawn", "list"},
                           {"--config", kHostile, "--socket", world.dir / "none", "list"},
                           {kHostile},
                           {"list", "--" + kHostile},
                           {"events", "--type", kHostile}};
    for (const Words& verb : verbs) {
        const Finished refused = world.daemon.cmctl(verb);
        const std::string line = testing::PrintToString(verb);
        EXPECT_NE(refused.status.code, 0) << line << refused.output;
        EXPECT_NE(refused.errors + refused.output, "") << line;
        EXPECT_EQ(acted_on(refused.output + refused.errors), "") << line << refused.output << refused.errors;
        EXPECT_THAT(refused.output + refused.errors, Not(HasSubstr("\n2026-01-01"))) << line;
    }
    EXPECT_EQ(acted_on(world.daemon.log()), "");
}

// What a program on a server prints, ssh and sshd hand on as it is.
TEST(HostileText, OfServersIsShownEscaped) {
    SshdOptions options = servers(2);
    const TempDir programs;
    write_file(programs / "text", kHostile + "\xff");
    const std::string print = "cat " + (programs / "text");
    const std::pair<std::string, std::string> scripts[] = {
        {"version", print + "; echo; echo tmux 3.1c"},
        {"failure", "case $1 in -V) echo tmux 3.3a;; *) " + print + " >&2; " + print + "; exit 1;; esac"}};
    for (int server = 1; const auto& [name, script] : scripts) {
        make_dirs(programs / name);
        write_file(programs / name + "/tmux", "#!/bin/sh\n" + script + "\n");
        std::filesystem::permissions(programs / name + "/tmux", std::filesystem::perms::owner_all);
        options.environment[server++] = "PATH=" + (programs / name) + ":/usr/bin:/bin";
    }
    World world(options);
    std::string shown;
    for (const char* ctx : {"server-1", "server-2"}) {
        const Finished refused = world.daemon.cmctl({"start", "--ctx", ctx, "true"});
        EXPECT_EQ(refused.status.code, 1) << ctx << refused.errors;
        shown += refused.errors;
        for (const Words& verb : {Words{"doctor", ctx}, Words{"stats"}, Words{"status"}, Words{"check", ctx}}) {
            const Finished told = world.daemon.cmctl(verb);
            shown += told.output + told.errors;
        }
    }
    EXPECT_THAT(shown, HasSubstr("\\x1b]0;title\\x07"));
    EXPECT_EQ(acted_on(shown), "") << shown;
    const std::string log = world.daemon.log();
    EXPECT_THAT(log, HasSubstr("\\x1b]0;title\\x07"));
    EXPECT_EQ(acted_on(log), "") << log;
    EXPECT_THAT(log, Not(HasSubstr("\n2026-01-01")));
}

TEST(HostileText, ForgesNoLineOfTheLogAndNoSecretIsInIt) {
    World world(servers(1));
    world.daemon.stop();
    world.daemon.start({"--log-level", "trace"});
    const std::string secret = "secret-" + std::to_string(::getpid());
    make_dirs(world.sshd.home(1) + "/d" + kHostile);
    world.start(
        "server-1", {"sh", "-c", "exec cat # " + kHostile},
        {{"cwd", "d" + kHostile}, {"env", {{"TOKEN", secret}, {"HOSTILE", kHostile}}}, {"request_id", kHostile}});
    const Json exec = {{"ctx", "server-1"},
                       {"command", {"sh", "-c", "test \"$TOKEN\" && exec cat # " + kHostile}},
                       {"env", {{"TOKEN", secret}}},
                       {"stdin", secret + kHostile}};
    EXPECT_EQ(world.rpc().call("exec", exec).at("exit_code"), 0);
    for (const char* method : {"start", "connect", "exec", "acquire", "check", "disconnect"}) {
        Json params = {{"ctx", kHostile}};
        if (method == std::string("start") || method == std::string("exec")) {
            params["command"] = {"true"};
        }
        world.rpc().refusal(method, params);
    }
    world.rpc().refusal(kHostile);
    // A key of the configuration is repeated in the log.
    write_file(world.daemon.config_file(), Json(kHostile).dump(-1, ' ', true) + " = 1\n");
    ASSERT_EQ(::kill(world.daemon.pid(), SIGHUP), 0);
    ASSERT_TRUE(wait_until([&] { return world.daemon.log().find("unknown key") != std::string::npos; }));
    EXPECT_THAT(world.daemon.log(), HasSubstr("\\x1b]0;title\\x07"));
    std::istringstream lines(world.daemon.log());
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
        EXPECT_THAT(line, ::testing::MatchesRegex("20[0-9-]+T[0-9:.]+[+-][0-9:]+ (trace|debug|info|warning|error) .+"));
        EXPECT_EQ(acted_on(line), "") << line;
        EXPECT_THAT(line, Not(StartsWith("2026-01-01")));
        EXPECT_THAT(line, Not(HasSubstr(secret)));
    }
    EXPECT_GT(count, 3);
    // Nor does any process show it to the machine's other users.
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") == std::string::npos) {
            EXPECT_THAT(command_line(std::stoi(name)), Not(HasSubstr(secret))) << name;
        }
    }
}

// Each is refused by name, or arrives.
TEST(LongInput, IsRefusedBeforeTheServerRefusesIt) {
    World world(servers(1));
    const auto refused = [&world](const char* method, const Json& command, const Json& env) {
        const Json params = {{"ctx", "server-1"}, {"command", command}, {"env", env}};
        return world.rpc().refusal(method, params).at("code");
    };
    const Json command = {"sh", "-c", "exit $((${#V} % 100))"};
    constexpr int kLimit = -32019;
    // MAX_ARG_STRLEN less the NUL, and what stands before the value.
    const std::size_t most_of_start = 128 * 1024 - 1 - std::string("CMSSH_ENV_V=").size();
    const std::size_t most_of_exec = 128 * 1024 - 1 - std::string("V=").size();
    EXPECT_EQ(refused("start", command, {{"V", std::string(most_of_start + 1, 'x')}}), kLimit);
    EXPECT_EQ(refused("exec", command, {{"V", std::string(most_of_exec + 1, 'x')}}), kLimit);
    const std::string id = world.start_id("server-1", command, {{"env", {{"V", std::string(most_of_start, 'x')}}}});
    EXPECT_EQ(world.wait(id).at("exit_code"), most_of_start % 100);
    const Json exec = {{"ctx", "server-1"}, {"command", command}, {"env", {{"V", std::string(most_of_exec, 'x')}}}};
    EXPECT_EQ(world.rpc().call("exec", exec).at("exit_code"), most_of_exec % 100);

    Words many(8001, "x");
    many[0] = "true";
    EXPECT_EQ(refused("start", many, Json::object()), kLimit);
    many.pop_back();
    EXPECT_EQ(world.wait(world.start_id("server-1", many)).at("exit_code"), 0);
    for (const char* name : {"cmssh_v", "CMSSH_ENV_A"}) {
        EXPECT_EQ(refused("start", command, {{name, "x"}}), -32602) << name;
    }
}

TEST(ContextsEnvironment, IsRefusedAsACallersIs) {
    World world(servers(1));
    const Json params = {{"ctx", "job"}, {"command", {"true"}}};
    const auto configure = [&world](const std::string& env) {
        world.daemon.write_config("[contexts.job]\nhost = \"server-1\"\nenv = { " + env + " }\n");
        world.rpc().call("reload");
    };
    configure("CMSSH_ENV_A = \"x\"");
    EXPECT_THAT(world.rpc().refusal("start", params).at("message"), HasSubstr("contexts.job.env: CMSSH_ENV_A"));
    configure("A = \"" + std::string(128 * 1024, 'x') + "\"");
    EXPECT_EQ(world.rpc().refusal("start", params).at("code"), -32019);
    configure("A = \"x\"");
    world.rpc().call("start", params);
}

TEST(Nul, IsRefusedByTheNameOfWhatItIsIn) {
    World world(servers(1));
    const std::string id = world.start_id("server-1", {"cat"});
    const std::string nul("a\0b", 3);
    const Json command = {"true"};
    const std::tuple<const char*, Json, const char*> calls[] = {
        {"start", {{"ctx", nul}, {"command", command}}, "ctx"},
        {"start", {{"ctx", "server-1"}, {"command", {"true", nul}}}, "command"},
        {"start", {{"ctx", "server-1"}, {"command", command}, {"name", nul}}, "name"},
        {"start", {{"ctx", "server-1"}, {"command", command}, {"cwd", nul}}, "cwd"},
        {"start", {{"ctx", "server-1"}, {"command", command}, {"env", {{"A", nul}}}}, "env"},
        {"start", {{"ctx", "server-1"}, {"command", command}, {"env", {{nul, "a"}}}}, "env"},
        {"start", {{"ctx", "server-1"}, {"command", command}, {"auth_sock", nul}}, "auth_sock"},
        {"exec", {{"ctx", "server-1"}, {"command", {nul}}}, "command"},
        {"exec", {{"ctx", "server-1"}, {"command", command}, {"cwd", nul}}, "cwd"},
        {"exec", {{"ctx", "server-1"}, {"command", command}, {"env", {{"A", nul}}}}, "env"},
        {"send", {{"session", id}, {"text", nul}}, "text"},
        {"send", {{"session", id}, {"keys", {nul}}}, "keys"},
        {"kill", {{"session", id}, {"signal", nul}}, "signal"},
        {"get", {{"session", nul}}, "a"},
        {"forward.add", {{"ctx", "server-1"}, {"kind", "local"}, {"listen", nul}, {"target", "localhost:1"}}, "listen"},
        {"forward.add", {{"ctx", "server-1"}, {"kind", "local"}, {"listen", "0"}, {"target", nul}}, "target"},
    };
    for (const auto& [method, params, name] : calls) {
        const Json error = world.rpc().refusal(method, params);
        EXPECT_THAT(error.at("message").get<std::string>(), HasSubstr(name)) << method << params << error;
        EXPECT_EQ(acted_on(error.at("message").get<std::string>()), "") << error;
    }
    EXPECT_EQ(world.list(), Words{id});
}

}  // namespace
}  // namespace cmssh::test
