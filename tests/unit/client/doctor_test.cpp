#include "client/doctor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cmssh::client {
namespace {

using testing::HasSubstr;

// "ok", or the status and what to type.
std::string verdict(const Check& check) {
    return check.hint.empty() ? to_string(check.status) : to_string(check.status) + (": " + check.hint);
}

TEST(Doctor, SshIsNewEnough) {
    const auto status = [](const char* said) { return std::string(to_string(judge_ssh("ssh", said).status)); };
    EXPECT_EQ(status("OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.14\n"), "ok");
    EXPECT_EQ(status("OpenSSH_8.4p1\n"), "ok");
    EXPECT_EQ(status("OpenSSH_10.0p2, LibreSSL\n"), "ok");
    EXPECT_EQ(status("OpenSSH_8.3p1, OpenSSL\n"), "fail");
    EXPECT_EQ(status("OpenSSH_7.9\n"), "fail");
    EXPECT_EQ(status("Dropbear v2022.83\n"), "fail");
    EXPECT_EQ(status("OpenSSH_\n"), "fail");
    EXPECT_EQ(status(""), "fail");
    EXPECT_EQ(judge_ssh("ssh", "OpenSSH_9.2p1 Debian, OpenSSL\n").detail, "OpenSSH_9.2p1 Debian");
    EXPECT_THAT(judge_ssh("/opt/ssh", std::nullopt).detail, HasSubstr("/opt/ssh cannot be run"));
}

TEST(Doctor, TheAgentHasKeys) {
    AgentAnswer answer{
        .socket = "/a", .exit_code = 0, .output = "256 SHA256:x a (ED25519)\n256 SHA256:y b (ED25519)\n"};
    EXPECT_EQ(verdict(judge_agent(answer)), "ok");
    EXPECT_EQ(judge_agent(answer).detail, "2 keys");
    answer.exit_code = 1;
    EXPECT_EQ(verdict(judge_agent(answer)), "warn: ssh-add");
    answer.exit_code = 2;
    EXPECT_THAT(judge_agent(answer).detail, HasSubstr("nothing answers on SSH_AUTH_SOCK (/a)"));
    answer.exit_code = std::nullopt;
    EXPECT_THAT(verdict(judge_agent(answer)), HasSubstr("warn: eval"));
    answer.socket = std::nullopt;
    EXPECT_THAT(verdict(judge_agent(answer)), HasSubstr("warn: eval"));
}

TEST(Doctor, TheRuntimeDirIsOurs) {
    DirectoryState state{.path = "/run/user/1/cmssh", .exists = true, .directory = true, .owner = 1, .mode = 040700};
    EXPECT_EQ(verdict(judge_runtime_dir(state, 1)), "ok");
    EXPECT_THAT(verdict(judge_runtime_dir(state, 2)), HasSubstr("fail: set XDG_RUNTIME_DIR"));
    state.mode = 040755;
    EXPECT_EQ(verdict(judge_runtime_dir(state, 1)), "fail: chmod 700 /run/user/1/cmssh");
    EXPECT_THAT(judge_runtime_dir(state, 1).detail, HasSubstr("0755"));
    state.directory = false;
    EXPECT_THAT(verdict(judge_runtime_dir(state, 1)), HasSubstr("fail"));
    state.exists = false;
    EXPECT_EQ(verdict(judge_runtime_dir(state, 1)), "ok");
}

TEST(Doctor, LingeringIsForASystemd) {
    EXPECT_EQ(verdict(judge_linger({.systemd = false, .lingers = false, .user = "u"})), "ok");
    EXPECT_EQ(verdict(judge_linger({.systemd = true, .lingers = true, .user = "u"})), "ok");
    EXPECT_EQ(verdict(judge_linger({.systemd = true, .lingers = false, .user = "u"})), "warn: loginctl enable-linger");
}

TEST(Doctor, SocketPathsAreShortEnough) {
    const std::string longest_api(107, 'a');
    const std::string longest_control(90, 'c');
    EXPECT_EQ(verdict(judge_paths(longest_api, longest_control)), "ok");
    EXPECT_THAT(verdict(judge_paths(longest_api + 'a', longest_control)), HasSubstr("fail: set XDG_RUNTIME_DIR"));
    EXPECT_THAT(judge_paths(longest_api, longest_control + 'c').detail, HasSubstr("is 91 bytes long"));
    const Error error{.kind = ErrorKind::BadConfig, .message = "no %h", .hint = "set it"};
    EXPECT_EQ(verdict(judge_paths("/a", error)), "fail: set it");
}

TEST(Doctor, TheConfigIsValid) {
    EXPECT_EQ(verdict(judge_config(ConfigAnswer{}, "/c", true)), "ok");
    EXPECT_EQ(judge_config(ConfigAnswer{}, "/c", false).detail, "/c: not there, all is default");
    const Check bad = judge_config(
        ConfigAnswer{.exit_code = 2, .errors = "cmsshd: /c:1: no such key\nhint: cmsshd --print-default-config\n"},
        "/c", true);
    EXPECT_EQ(bad.detail, "/c:1: no such key");
    EXPECT_EQ(verdict(bad), "fail: cmsshd --print-default-config");
    EXPECT_EQ(judge_config(ConfigAnswer{.exit_code = 139, .errors = ""}, "/c", true).detail, "/c cannot be read");
    EXPECT_THAT(verdict(judge_config(std::nullopt, "/c", true)), HasSubstr("fail: install cmsshd"));
}

TEST(Doctor, UnitsHaveNotFailed) {
    const std::string good =
        "Id=cmsshd.socket\nLoadState=loaded\nActiveState=active\n\nId=cmsshd.service\nLoadState=loaded\n"
        "ActiveState=inactive\n";
    EXPECT_EQ(judge_units(good).detail, "cmsshd.socket active, cmsshd.service inactive");
    EXPECT_EQ(verdict(judge_units(good)), "ok");
    EXPECT_EQ(verdict(judge_units("Id=cmsshd.service\nLoadState=loaded\nActiveState=failed\n")),
              "fail: systemctl --user status cmsshd.service");
    EXPECT_EQ(verdict(judge_units("ActiveState=inactive\nLoadState=bad-setting\nId=cmsshd.socket\n")), "ok")
        << "a property that stands before its unit's name is nobody's";
    EXPECT_EQ(verdict(judge_units("Id=cmsshd.socket\nLoadState=bad-setting\nActiveState=inactive\n")),
              "fail: systemctl --user status cmsshd.socket");
    EXPECT_EQ(judge_units("Id=cmsshd.socket\nLoadState=not-found\nActiveState=inactive\n").detail,
              "not installed: cmctl starts the daemon");
    EXPECT_EQ(verdict(judge_units(std::nullopt)), "ok");
}

TEST(Doctor, VersionsAreOne) {
    EXPECT_EQ(verdict(judge_versions({.client = "1.0", .running = "1.0", .installed = "1.0"})), "ok");
    EXPECT_THAT(verdict(judge_versions({.client = "1.1", .running = "1.0", .installed = "1.1"})),
                HasSubstr("warn: cmctl daemon stop"));
    EXPECT_THAT(verdict(judge_versions({.client = "1.1", .running = "1.1", .installed = "1.0"})),
                HasSubstr("warn: install both"));
    EXPECT_EQ(verdict(judge_registry(false, {})), "ok");
    EXPECT_THAT(verdict(judge_registry(true, {})), HasSubstr("fail: make room"));
    EXPECT_THAT(judge_registry(false, {"/s/registry.db.newer-20260101T000000"}).detail, HasSubstr("newer-2026"));
    EXPECT_EQ(verdict(judge_config_of_daemon("/a", "/a")), "ok");
    EXPECT_THAT(judge_config_of_daemon("/a", "/b").detail, HasSubstr("has read /a, not /b"));
}

const Check& named(const std::vector<Check>& checks, std::string_view name) {
    for (const Check& check : checks) {
        if (check.name == name) {
            return check;
        }
    }
    throw std::runtime_error("no check is named " + std::string(name));
}

TEST(Doctor, ReadsWhatTheServerSaysAndNothingElse) {
    const std::string said =
        "Welcome!\nK tmuxx no\nKtmux no\nK user ann\nK shell /bin/bash\nK tmux /usr/bin/tmux\nK tmux_version tmux "
        "3.3a\n"
        "K systemd yes\nK linger yes\nK path /usr/bin:/opt/my dir\nK tool0 /usr/bin/make\nK tool1 \n";
    EXPECT_FALSE(parse_server_facts(said, "K")) << "it did not run to its end";
    const auto facts = parse_server_facts(said + "K end yes\nbye\n", "K");
    ASSERT_TRUE(facts);
    EXPECT_EQ(facts->user, "ann");
    EXPECT_EQ(facts->tmux, "/usr/bin/tmux");
    EXPECT_EQ(facts->path, "/usr/bin:/opt/my dir");
    EXPECT_TRUE(facts->systemd);
    EXPECT_TRUE(facts->lingers);
    EXPECT_FALSE(facts->kills_processes);
    const auto checks = judge_server("srv", *facts, {{"build", "make"}, {"claude", "claude"}});
    EXPECT_EQ(named(checks, "tmux").detail, "tmux 3.3a (/usr/bin/tmux)");
    EXPECT_EQ(named(checks, "tmux").where, "srv");
    EXPECT_EQ(verdict(named(checks, "tool build")), "ok");
    EXPECT_EQ(verdict(named(checks, "tool claude")), "warn: install it there, or give its path in [tools.claude]");
}

TEST(Doctor, WhatASessionWaitsForThere) {
    ServerFacts facts;
    facts.path = "/bin";
    EXPECT_EQ(verdict(named(judge_server("s", facts, {}), "login shell")), "warn: on the server: chsh");
    facts.shell = "/bin/zsh";
    EXPECT_EQ(verdict(named(judge_server("s", facts, {}), "login shell")), "ok");
    facts.startup_s = 10;
    EXPECT_THAT(named(judge_server("s", facts, {}), "login shell").detail, HasSubstr("take 10 s"));
    facts.path = "";
    EXPECT_THAT(named(judge_server("s", facts, {}), "login shell").detail, HasSubstr("do not end"));
    EXPECT_EQ(parse_server_facts("K seconds 7\nK end yes\n", "K").value().startup_s, 7);
    EXPECT_EQ(parse_server_facts("K seconds x\nK end yes\n", "K").value().startup_s, 0);
}

TEST(Doctor, TmuxThereIsNewEnough) {
    const auto status = [](const char* version) {
        ServerFacts facts;
        facts.tmux = "/bin/tmux";
        facts.tmux_version = version;
        return std::string(to_string(named(judge_server("s", facts, {}), "tmux").status));
    };
    EXPECT_EQ(status("tmux 3.2"), "ok");
    EXPECT_EQ(status("tmux 3.5a"), "ok");
    EXPECT_EQ(status("tmux 4.0"), "ok");
    EXPECT_EQ(status("tmux next-3.7"), "ok");
    EXPECT_EQ(status("tmux master"), "ok");
    EXPECT_EQ(status("tmux 3.1c"), "fail");
    EXPECT_EQ(status("tmux 2.9a"), "fail");
    EXPECT_EQ(status("screen 5.0"), "warn");
    EXPECT_EQ(status(""), "warn");
    const auto missing = judge_server("s", ServerFacts{}, {});
    EXPECT_EQ(to_string(named(missing, "tmux").status), std::string("fail"));
}

TEST(Doctor, WhatEndsSessionsThere) {
    ServerFacts facts;
    facts.user = "ann";
    facts.shell = "/bin/sh";
    EXPECT_EQ(verdict(named(judge_server("s", facts, {}), "logout")), "ok");
    facts.kills_processes = true;
    EXPECT_THAT(verdict(named(judge_server("s", facts, {}), "logout")), HasSubstr("fail: on the server, as root: put "
                                                                                  "KillExcludeUsers=ann into"));
}

TEST(Doctor, TheConnectionAndItsChannels) {
    api::Connection connection;
    connection.server.key = "u@h:22";
    connection.state = api::ConnectionState::Up;
    connection.channels.max = 10;
    connection.rtt_ms = api::Rtt{.last = 1.25, .p50 = 1, .p95 = 2};
    auto checks = judge_connection("h", connection);
    EXPECT_EQ(named(checks, "connection").detail, "u@h:22: up, rtt 1.2 ms");
    EXPECT_EQ(verdict(named(checks, "channels")), "ok");
    EXPECT_EQ(named(checks, "channels").detail, "10 at once");
    connection.channels.max = 2;
    connection.state = api::ConnectionState::Idle;
    checks = judge_connection("h", connection);
    EXPECT_EQ(verdict(named(checks, "connection")), "fail: cmctl connect h");
    EXPECT_THAT(verdict(named(checks, "channels")), HasSubstr("warn: on the server, as root: raise MaxSessions"));
    connection.state = api::ConnectionState::Degraded;
    EXPECT_THAT(verdict(named(judge_connection("h", connection), "connection")), HasSubstr("warn"));
    EXPECT_THAT(judge_server("s", ServerFacts{}, {}), testing::Each(testing::Field(&Check::where, "s")));
}

}  // namespace
}  // namespace cmssh::client
