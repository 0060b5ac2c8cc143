#include "daemon/ssh/ssh_error.hpp"

#include <gtest/gtest.h>

#include <string>

namespace cmssh {
namespace {

Error classify(std::string_view log, LoginEnd end = LoginEnd::Exited, std::string_view destination = "server-a") {
    return classify_login_failure(
        LoginFailure{.end = end,
                     .log = log,
                     .destination = destination,
                     .server = "hren@server1:3022",
                     .ssh = {"ssh", "-F", "my config", "-p", "3022", "DOM\\u@" + std::string(destination)}});
}

constexpr std::string_view kChanged =
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n"
    "Offending ED25519 key in /root/.ssh/known_hosts:1\r\n"
    "  ssh-keygen -f \"/root/.ssh/known_hosts\" -R \"[127.0.0.1]:34325\"\r\n"
    "Host key for [127.0.0.1]:34325 has changed and you have requested strict checking.\r\n"
    "Host key verification failed.\r\n";

// What an outer ssh adds when its ProxyJump or ProxyCommand ended.
const std::string kProxyDied =
    "kex_exchange_identification: Connection closed by remote host\r\n"
    "Connection closed by UNKNOWN port 65535\r\n";

// Texts of OpenSSH 9.2p1, where nothing else is said.
TEST(ClassifyLoginFailure, KnowsSshsTexts) {
    const std::pair<std::string, ErrorKind> cases[] = {
        {"ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n", ErrorKind::ConnectRefused},
        {"ssh: connect to host h port 22: Connection timed out\r\n", ErrorKind::ConnectTimeout},
        {"Connection timed out during banner exchange\r\nConnection to h port 22 timed out\r\n",
         ErrorKind::ConnectTimeout},
        {"ssh: Could not resolve hostname nope.invalid: Name or service not known\r\n", ErrorKind::DnsFailure},
        {"ssh: Could not resolve hostname h: Temporary failure in name resolution\r\n", ErrorKind::DnsFailure},
        {"Host key verification failed.\r\n", ErrorKind::HostKeyUnknown},
        {"No ED25519 host key is known for [h]:34325 and you have requested strict checking.\r\n"
         "Host key verification failed.\r\n",
         ErrorKind::HostKeyUnknown},
        {std::string(kChanged), ErrorKind::HostKeyChanged},
        {"@       WARNING: REVOKED HOST KEY DETECTED!               @\r\nHost key verification failed.\r\n",
         ErrorKind::ConnectFailed},
        {"root@127.0.0.1: Permission denied (publickey).\r\n", ErrorKind::AuthFailed},
        {"root@h: Permission denied (publickey,gssapi-keyex,gssapi-with-mic).\r\n", ErrorKind::AuthFailed},
        {"root@h: Permission denied (publickey,password).\r\n", ErrorKind::NeedsAuth},
        {"root@h: Permission denied (keyboard-interactive).\r\n", ErrorKind::NeedsAuth},
        {"Load key \"/k\": incorrect passphrase supplied to decrypt private key\r\nu@h: Permission denied "
         "(publickey).\r\n",
         ErrorKind::NeedsAuth},
        {"Load key \"/k\": Permission denied\r\nu@h: Permission denied (publickey).\r\n", ErrorKind::AuthFailed},
        {"Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\r\n"
         "Disconnected from 127.0.0.1 port 22\r\n",
         ErrorKind::AuthFailed},
        {"ssh: connect to host h port 22: No route to host\r\n", ErrorKind::ConnectFailed},
        {"ssh: connect to host h port 22: Network is unreachable\r\n", ErrorKind::ConnectFailed},
        {"kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 1.2.3.4 port 22\r\n",
         ErrorKind::ConnectFailed},
        {"ssh_exchange_identification: Connection closed by remote host\r\n", ErrorKind::ConnectFailed},
        {"command-line: line 0: Bad configuration option: foo\r\n", ErrorKind::ConnectFailed},
        {"Bad owner or permissions on /root/.ssh/config\r\n", ErrorKind::ConnectFailed},
        {"Unable to negotiate with 1.2.3.4 port 22: no matching host key type found. Their offer: ssh-rsa\r\n",
         ErrorKind::ConnectFailed},
        {"unix_listener: path \"/x\" too long for Unix domain socket\r\n", ErrorKind::ConnectFailed},
        {"something that nobody has seen\r\n", ErrorKind::ConnectFailed},
        {"", ErrorKind::ConnectFailed},
    };
    for (const auto& [log, kind] : cases) {
        const Error error = classify(log);
        EXPECT_EQ(error.kind, kind) << log;
        EXPECT_EQ(error.server, "hren@server1:3022");
        EXPECT_NE(error.message.find("server-a (hren@server1:3022)"), std::string::npos) << error.message;
        EXPECT_FALSE(error.hint.empty());
        EXPECT_EQ(error.message.find('\r'), std::string::npos);
    }
}

TEST(ClassifyLoginFailure, FindsTheHopThatFailed) {
    const std::pair<std::string, ErrorKind> cases[] = {
        {"ssh: Could not resolve hostname nope.invalid: Name or service not known\r\n", ErrorKind::DnsFailure},
        {"ssh: connect to host bastion port 22: Connection refused\r\n", ErrorKind::ConnectRefused},
        {"channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n",
         ErrorKind::ConnectRefused},
        {"channel 0: open failed: connect failed: No route to host\r\nstdio forwarding failed\r\n",
         ErrorKind::ConnectFailed},
        {"channel 0: open failed: administratively prohibited: open failed\r\n", ErrorKind::ConnectFailed},
        {"u@bastion: Permission denied (publickey,password).\r\n", ErrorKind::NeedsAuth},
        {std::string(kChanged), ErrorKind::HostKeyChanged},
        {"/bin/bash: line 1: exec: nosuchprogram: not found\n", ErrorKind::ConnectFailed},
    };
    for (const auto& [inner, kind] : cases) {
        const Error error = classify(inner + kProxyDied);
        EXPECT_EQ(error.kind, kind) << inner;
        EXPECT_EQ(error.message.find("kex_exchange"), std::string::npos) << error.message;
    }
    // Behind a hop that warned only, the last one to fail counts.
    EXPECT_EQ(
        classify("u@one: Permission denied (publickey,password).\r\nu@two: Permission denied (publickey).\r\n").kind,
        ErrorKind::AuthFailed);
}

TEST(ClassifyLoginFailure, TellsThatALoginTookTooLong) {
    const Error error = classify("", LoginEnd::TimedOut);
    EXPECT_EQ(error.kind, ErrorKind::ConnectTimeout);
    EXPECT_EQ(error.message, "the login to server-a (hren@server1:3022) did not finish in time");
    EXPECT_FALSE(error.ssh_stderr);
    EXPECT_EQ(classify("u@h: Permission denied (publickey).\r\n", LoginEnd::TimedOut).kind, ErrorKind::ConnectTimeout);
}

TEST(ClassifyLoginFailure, HintsAreCommandsToType) {
    const std::string denied = "u@h: Permission denied (publickey).\r\n";
    const std::string way = "ssh -F 'my config' -p 3022 'DOM\\u@server-a'";
    EXPECT_TRUE(classify("Host key verification failed.\r\n").hint.starts_with("cmctl connect server-a  # "));
    EXPECT_TRUE(classify("No ED25519 host key is known for h and you have requested strict checking.\r\n"
                         "Host key verification failed.\r\n")
                    .hint.starts_with("ssh -o StrictHostKeyChecking=ask" + way.substr(3) + "  # "))
        << "ssh would not ask";
    EXPECT_TRUE(classify("u@h: Permission denied (password).\r\n").hint.starts_with("cmctl connect server-a  # "));
    EXPECT_TRUE(classify(denied).hint.starts_with("ssh -v" + way.substr(3) + "  # "));
    EXPECT_TRUE(classify("ssh: Could not resolve hostname x: Name or service not known\n")
                    .hint.starts_with("ssh -G" + way.substr(3) + " | "));
    EXPECT_THAT(classify(kChanged).hint, ::testing::MatchesRegex("ssh-keygen -f [^ ]+ -R '.127.0.0.1.:34325'  # .*"));
    EXPECT_TRUE(classify("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.\n")
                    .hint.starts_with("ssh-keygen -R '[server1]:3022'  # "));
}

TEST(ClassifyLoginFailure, CallsItAuthFailedWhereAPersonWasAsked) {
    LoginFailure failure;
    failure.log = "u@h: Permission denied, please try again.\r\nu@h: Permission denied (publickey,password).\r\n";
    failure.destination = "h";
    failure.ctx = "my server";
    EXPECT_EQ(classify_login_failure(failure).kind, ErrorKind::NeedsAuth);
    EXPECT_TRUE(classify_login_failure(failure).hint.starts_with("cmctl connect 'my server'  # "));
    failure.person = true;
    EXPECT_EQ(classify_login_failure(failure).kind, ErrorKind::AuthFailed);
    EXPECT_EQ(classify_login_failure(failure).hint, "cmctl connect 'my server'  # to answer once more");
}

TEST(ClassifyLoginFailure, ShowsUntrustedTextEscapedAndKeepsItRaw) {
    const std::string log = "ssh: \x1b]0;owned\x07: Connection refused\r\n";
    const Error error = classify(log);
    EXPECT_EQ(error.message.find('\x1b'), std::string::npos);
    EXPECT_NE(error.message.find("\\x1b]0;owned"), std::string::npos);
    EXPECT_EQ(error.ssh_stderr, log);

    const std::string long_log = std::string(10000, 'x') + "\n" + log;
    const Error cut = classify(long_log);
    EXPECT_EQ(cut.kind, ErrorKind::ConnectRefused);
    ASSERT_TRUE(cut.ssh_stderr);
    EXPECT_EQ(cut.ssh_stderr->size(), 4096U);
    EXPECT_TRUE(cut.ssh_stderr->ends_with(log));
}

TEST(WantsAPerson, ReadsTheLastListOfMethods) {
    EXPECT_TRUE(wants_a_person("u@h: Permission denied (publickey,password)."));
    EXPECT_TRUE(wants_a_person("u@h: Permission denied (publickey,keyboard-interactive).\r\n"));
    EXPECT_FALSE(wants_a_person("u@h: Permission denied (publickey)."));
    EXPECT_FALSE(wants_a_person("u@a: Permission denied (password).\nu@b: Permission denied (publickey)."));
    EXPECT_FALSE(wants_a_person("password: keyboard-interactive"));
    EXPECT_FALSE(wants_a_person(""));
}

}  // namespace
}  // namespace cmssh
