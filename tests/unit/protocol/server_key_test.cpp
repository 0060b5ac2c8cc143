#include "protocol/server_key.hpp"

#include <gtest/gtest.h>

#include <string>

namespace cmssh {
namespace {

Destination destination(std::string host, std::optional<std::string> user = std::nullopt,
                        std::optional<int> port = std::nullopt) {
    return Destination{.host = std::move(host), .user = std::move(user), .port = port};
}

TEST(ParseDestination, TakesEveryForm) {
    const std::pair<std::string_view, Destination> cases[] = {
        {"server-a", destination("server-a")},
        {"hren@server1", destination("server1", "hren")},
        {"hren@server1:2222", destination("server1", "hren", 2222)},
        {"server1:22", destination("server1", std::nullopt, 22)},
        {"ssh://server1", destination("server1")},
        {"ssh://hren@server1:65535/", destination("server1", "hren", 65535)},
        {"ssh://[::1]:22", destination("::1", std::nullopt, 22)},
        {"[fe80::1%eth0]:22", destination("fe80::1%eth0", std::nullopt, 22)},
        {"u@[::1]", destination("::1", "u")},
        {"::1", destination("::1")},
        {"u@2001:db8::1", destination("2001:db8::1", "u")},
        {"a@corp@server1", destination("server1", "a@corp")},
        {"DOM\\user@server1", destination("server1", "DOM\\user")},
        {"Server_1.example", destination("Server_1.example")},
    };
    for (const auto& [text, expected] : cases) {
        const auto parsed = parse_destination(text);
        ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.error().message;
        EXPECT_EQ(*parsed, expected) << text;
    }
}

TEST(ParseDestination, RefusesWhatSshCouldTakeForSomethingElse) {
    for (const std::string text : {"",
                                   "@",
                                   "@host",
                                   "user@",
                                   "-oProxyCommand=x",
                                   "u@-x",
                                   "-l@host",
                                   "a b",
                                   "host;id",
                                   "$(id)",
                                   "a/../b",
                                   "*",
                                   "é",
                                   "host\n",
                                   "host:",
                                   "host:0",
                                   "host:65536",
                                   "host:022",
                                   "host: 22",
                                   "host:+22",
                                   "host:22x",
                                   "host:99999999999",
                                   "[::1",
                                   "[::1]22",
                                   "[]",
                                   "[]:22",
                                   "a:b:c",
                                   "::1]:22",
                                   "ssh://",
                                   "ssh://u:secret@host",
                                   "ssh://h%6fst",
                                   "ssh://host/path",
                                   "http://host",
                                   "u$b@host"}) {
        const auto parsed = parse_destination(text);
        ASSERT_FALSE(parsed.ok()) << text;
        EXPECT_EQ(parsed.error().kind, ErrorKind::InvalidName);
        EXPECT_FALSE(parsed.error().hint.empty());
    }
    EXPECT_FALSE(parse_destination(std::string(256, 'a')).ok());
    EXPECT_FALSE(parse_destination(std::string(65, 'u') + "@host").ok());
}

TEST(ParseDestination, ShowsNoControlCharacters) {
    const auto parsed = parse_destination("ho\x1b[2Jst");
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.error().message.find('\x1b'), std::string::npos);
}

constexpr std::string_view kDump =
    "host server-a\nuser hren\nhostname Server1.example\nport 2222\naddressfamily any\nidentitiesonly no\n"
    "proxyusefdpass no\nserveralivecountmax 3\nserveraliveinterval 0\nidentityfile ~/.ssh/id_rsa\n"
    "identityfile ~/.ssh/id_ed25519\nuserknownhostsfile /root/.ssh/known_hosts /root/.ssh/known_hosts2\n";

TEST(ParseSshConfigDump, ReadsWhatSshGPrints) {
    const auto plain = parse_ssh_config_dump(kDump);
    ASSERT_TRUE(plain.ok());
    EXPECT_EQ(plain->user, "hren");
    EXPECT_EQ(plain->hostname, "Server1.example");
    EXPECT_EQ(plain->port, 2222);
    EXPECT_EQ(plain->proxyjump, "");
    EXPECT_EQ(plain->proxycommand, "");
    EXPECT_EQ(plain->hostkeyalias, "");
    EXPECT_EQ(plain->identityfiles, (std::vector<std::string>{"~/.ssh/id_rsa", "~/.ssh/id_ed25519"}));
    EXPECT_FALSE(plain->identitiesonly);
    EXPECT_FALSE(plain->server_alive_set);

    const auto full = parse_ssh_config_dump(
        "user u\nhostname [::1]\nport 22\nproxyjump a,b@c:22\nhostkeyalias foo\nidentitiesonly yes\n"
        "identityfile /k/my key\nserveraliveinterval 15\nproxycommand nc -x proxy %h %p");
    ASSERT_TRUE(full.ok());
    EXPECT_EQ(full->hostname, "::1");
    EXPECT_EQ(full->proxyjump, "a,b@c:22");
    EXPECT_EQ(full->proxycommand, "nc -x proxy %h %p");
    EXPECT_EQ(full->hostkeyalias, "foo");
    EXPECT_EQ(full->identityfiles, (std::vector<std::string>{"/k/my key"}));
    EXPECT_TRUE(full->identitiesonly);
    EXPECT_TRUE(full->server_alive_set);

    const auto none = parse_ssh_config_dump("user u\nhostname h\nport 22\nproxyjump none\nproxycommand none\n");
    ASSERT_TRUE(none.ok());
    EXPECT_EQ(none->proxyjump + none->proxycommand, "");
}

TEST(ParseSshConfigDump, RefusesWhatIsNoDump) {
    for (const auto* text :
         {"", "Pseudo-terminal will not be allocated\n", "hostname h\nport 22\n", "user u\nport 22\n",
          "user u\nhostname h\n", "user u\nhostname -h\nport 22\n", "user $x\nhostname h\nport 22\n",
          "user u\nhostname a/b\nport 22\n", "user u\nhostname h\nport 0\n"}) {
        const auto dump = parse_ssh_config_dump(text);
        ASSERT_FALSE(dump.ok()) << text;
        EXPECT_EQ(dump.error().kind, ErrorKind::ConnectFailed);
    }
}

SshConfigDump dump() {
    SshConfigDump result;
    result.user = "hren";
    result.hostname = "Server1";
    result.port = 22;
    result.identityfiles = {"~/.ssh/id_rsa"};
    return result;
}

TEST(SettingsDigest, IsOfWhatTheConnectionIsMadeWith) {
    const std::string usual = "user u\nhostname h\nport 22\nciphers a,b\nidentityfile ~/.ssh/id\nsetenv A=1\n";
    const std::string digest = settings_digest(usual);
    EXPECT_EQ(digest.size(), 32U);
    EXPECT_EQ(parse_ssh_config_dump(usual)->settings, digest);
    // What scp, sftp, rsync and git give their ssh, and a person for one command.
    EXPECT_EQ(
        settings_digest("host x\n" + usual +
                        "batchmode yes\nclearallforwardings yes\nconnecttimeout 5\ncontrolpath /x\nloglevel QUIET\n"
                        "remotecommand none\nrequesttty no\nsendenv GIT_PROTOCOL\nsessiontype subsystem\n"),
        digest);
    for (const char* other : {"identityfile ~/.ssh/other\n", "ciphers c\n", "proxyjump hop\n", "hostkeyalias a\n",
                              "setenv A=2\n", "userknownhostsfile /x\n", "unheardof yes\n"}) {
        EXPECT_NE(settings_digest(usual + other), digest) << other;
    }
}

TEST(ServerKey, IsUserHostAndPort) {
    const ServerKey key = make_server_key(dump(), nullptr);
    EXPECT_EQ(key.text(), "hren@server1:22");
    EXPECT_TRUE(key.plain());
    SshConfigDump v6 = dump();
    v6.hostname = "FE80::1%eth0";
    EXPECT_EQ(make_server_key(v6, nullptr).text(), "hren@[fe80::1%eth0]:22");
}

TEST(ServerKey, NamesTheRouteTheAliasAndTheIdentity) {
    SshConfigDump jump = dump();
    jump.proxyjump = "bastion";
    jump.hostkeyalias = "srv";
    jump.identitiesonly = true;
    jump.identityfiles = {"/k/a", "/k/b"};
    const SshConfigDump bare = dump();
    const ServerKey key = make_server_key(jump, &bare);
    EXPECT_EQ(key.text(), "hren@server1:22 via bastion alias srv as /k/a,/k/b");
    EXPECT_FALSE(key.plain());
}

TEST(ServerKey, HidesTheTextOfAProxyCommand) {
    SshConfigDump command = dump();
    command.proxycommand = "nc --password=hunter2 %h %p";
    const ServerKey key = make_server_key(command, nullptr);
    EXPECT_EQ(key.via, "cmd-" + hex_digest(command.proxycommand, 8));
    command.proxycommand += " ";
    EXPECT_NE(make_server_key(command, nullptr), key);
}

TEST(ServerKey, CountsIdentityFilesOnlyWhereTheyDecide) {
    SshConfigDump bare = dump();
    SshConfigDump other = dump();
    other.identityfiles = {"/k/a"};
    EXPECT_EQ(make_server_key(other, &bare).as, "");
    other.identitiesonly = true;
    EXPECT_EQ(make_server_key(other, &bare).as, "/k/a");
    bare.identityfiles = other.identityfiles;
    EXPECT_EQ(make_server_key(other, &bare).as, "");
}

ServerKey key_of(std::string host) {
    return ServerKey{.user = "hren", .host = std::move(host), .port = 22};
}

TEST(ControlPath, IsReadableByDefault) {
    EXPECT_EQ(*control_path(key_of("server1"), "/run/user/1000/cmssh", ""),
              "/run/user/1000/cmssh/cm-ssh-hren@server1:22");
    EXPECT_EQ(*control_path(key_of("::1"), "/r", ""), "/r/cm-ssh-hren@::1:22");
}

TEST(ControlPath, IsADigestWhereTheKeySaysMoreOrIsTooLong) {
    ServerKey routed = key_of("server1");
    routed.via = "bastion";
    EXPECT_EQ(*control_path(routed, "/r", ""), "/r/cm-ssh-" + hex_digest("hren@server1:22 via bastion", 16));

    const std::size_t rest = std::string("/r/cm-ssh-hren@:22").size();
    const ServerKey longest = key_of(std::string(kMaxControlPath - rest, 'h'));
    EXPECT_EQ(control_path(longest, "/r", "")->size(), kMaxControlPath);
    const ServerKey longer = key_of(std::string(kMaxControlPath - rest + 1, 'h'));
    EXPECT_EQ(*control_path(longer, "/r", ""), "/r/cm-ssh-" + hex_digest(longer.text(), 16));

    const auto too_long = control_path(key_of("h"), '/' + std::string(80, 'r'), "");
    ASSERT_FALSE(too_long.ok());
    EXPECT_EQ(too_long.error().kind, ErrorKind::BadConfig);
    EXPECT_NE(too_long.error().message.find("105 bytes"), std::string::npos) << too_long.error().message;
    EXPECT_NE(too_long.error().message.find("90"), std::string::npos);
    EXPECT_FALSE(too_long.error().hint.empty());
}

TEST(ControlPath, FollowsThePattern) {
    EXPECT_EQ(*control_path(key_of("server1"), "/r", "/tmp/cm-ssh-%r@%h:%p"), "/tmp/cm-ssh-hren@server1:22");
    EXPECT_EQ(*control_path(key_of("h"), "/r", "/tmp/100%%-%r@%h-%p"), "/tmp/100%-hren@h-22");
    EXPECT_EQ(*control_path(key_of("h"), "/r", "/t/%p-%h/%r"), "/t/22-h/hren");
    ServerKey routed = key_of("h");
    routed.via = "bastion";
    EXPECT_EQ(*control_path(routed, "/r", "/t/%r@%h:%p"), "/t/hren@h:22-" + hex_digest(routed.text(), 16));
}

TEST(ControlPath, RefusesAPatternThatCannotWork) {
    const std::string too_long = '/' + std::string(90, 'x') + "%r%h%p";
    for (const std::string& pattern :
         {std::string("cm-%r@%h:%p"), std::string("/t/%r@%h:%p-%C"), std::string("/t/%r@%h:%p%"),
          std::string("/t/%h:%p"), std::string("/t/fixed"), too_long, std::string("/t/%r%h:%p"),
          std::string("/t/%r-%h-%p"), std::string("/t/%r-%p-%h"), std::string("/t/%h_%p_%r")}) {
        const auto path = control_path(key_of("h"), "/r", pattern);
        ASSERT_FALSE(path.ok()) << pattern;
        EXPECT_EQ(path.error().kind, ErrorKind::BadConfig);
        EXPECT_FALSE(path.error().hint.empty());
    }
}

TEST(HexDigest, IsTheBeginningOfSha256) {
    EXPECT_EQ(hex_digest("abc", 8), "ba7816bf");
    EXPECT_EQ(hex_digest("", 64), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(ControlName, GivesTheServerBack) {
    for (const auto& [user, host, port] : {std::tuple("hren", "server1", 22), std::tuple("a@b", "10.0.0.5", 2222),
                                           std::tuple("root", "::1", 65535), std::tuple("a-b", "x-y.z", 1)}) {
        ServerKey key;
        key.user = user;
        key.host = host;
        key.port = port;
        const auto path = control_path(key, "/run/user/1/cmssh", "");
        ASSERT_TRUE(path);
        EXPECT_EQ(server_of_control_name(path->substr(path->rfind('/') + 1)), key) << *path;
    }
}

TEST(ControlName, OfNoServerGivesNone) {
    for (const auto* name : {"", "cm-ssh-", "cm-ssh-0123456789abcdef", "cm-ssh-u@h", "cm-ssh-u@h:", "cm-ssh-u@h:0",
                             "cm-ssh-u@h:65536", "cm-ssh-u@h:22x", "cm-ssh-@h:22", "cm-ssh-u@:22", "cm-ssh--u@h:22",
                             "cm-ssh-u@h:22.0123456789abcdef", "cmsshd.sock", "cm-ssh-u@h$(id):22"}) {
        EXPECT_FALSE(server_of_control_name(name)) << name;
    }
}

}  // namespace
}  // namespace cmssh
