// Logins that need a person: what a real ssh asks goes to the client that waits, and nowhere else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/world.hpp"

namespace cmssh::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const Words kLong = {"sleep", "1000"};
// Of this process alone: other tests' ssh-keygen has theirs in its arguments.
const std::string kPassphrase = "correct horse " + std::to_string(::getpid());
const std::string kOtherUser = "cmtest";

int connect(RpcClient& client, const std::string& ctx, bool interactive = true) {
    return client.send("connect", {{"ctx", ctx}, {"interactive", interactive}});
}

// The next `prompt` notification; throws where a reply comes first.
Json next_prompt(RpcClient& client) {
    for (;;) {
        const Json message = Json::parse(client.read_line());
        if (!message.contains("method")) {
            throw RpcFailure("no prompt came: " + message.dump());
        }
        if (message.at("method") == "prompt") {
            return message.at("params");
        }
    }
}

void answer(RpcClient& client, const Json& prompt, const std::string& text) {
    client.call("answer", {{"prompt", prompt.at("prompt")}, {"text", text}});
}

void cancel(RpcClient& client, const Json& prompt) {
    client.call("answer", {{"prompt", prompt.at("prompt")}, {"cancel", true}});
}

std::string read_proc(pid_t pid, const char* file) {
    std::ifstream stream("/proc/" + std::to_string(pid) + '/' + file);
    std::ostringstream text;
    text << stream.rdbuf();
    return text.str();
}

// In what is left of a login: logs, files, and the arguments and environments of processes.
void expect_nowhere(World& world, const std::string& secret) {
    EXPECT_THAT(world.daemon.log(), Not(HasSubstr(secret)));
    EXPECT_THAT(world.stats().dump(), Not(HasSubstr(secret)));
    for (const auto& entry : std::filesystem::recursive_directory_iterator(world.dir.path())) {
        if (entry.is_regular_file()) {
            EXPECT_THAT(read_file(entry.path()), Not(HasSubstr(secret))) << entry.path();
        }
    }
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") == std::string::npos && std::stoi(name) != ::getpid()) {
            EXPECT_THAT(read_proc(std::stoi(name), "cmdline"), Not(HasSubstr(secret))) << name;
            EXPECT_THAT(read_proc(std::stoi(name), "environ"), Not(HasSubstr(secret))) << name;
        }
    }
}

void expect_nothing_left(World& world) {
    EXPECT_TRUE(wait_until([&] { return world.daemon.ssh_processes().empty(); })) << "an ssh is left";
    EXPECT_TRUE(wait_until([&] { return children_of(world.daemon.pid()).empty(); })) << "a process is left";
    EXPECT_EQ(world.daemon.control_sockets(), Words{});
}

// The key that all servers know has a passphrase, and no agent holds it.
class Passphrase : public testing::Test {
protected:
    Passphrase() {
        const auto changed = run({"ssh-keygen", "-q", "-p", "-P", "", "-N", kPassphrase, "-f", world.sshd.user_key()});
        EXPECT_EQ(changed.status.code, 0) << changed.errors;
    }

    World world;
    RpcClient person{world.daemon.socket_path()};
    std::string key = world.key("127.0.0.1");
};

TEST_F(Passphrase, IsAskedOfTheCaller) {
    const int id = connect(person, "server-1");
    const Json prompt = next_prompt(person);
    EXPECT_EQ(prompt.at("text"), "Enter passphrase for key '" + world.sshd.user_key() + "': ");
    EXPECT_EQ(prompt.at("echo"), false);
    EXPECT_EQ(prompt.at("confirm"), false);
    EXPECT_EQ(prompt.at("ctx"), "server-1");
    EXPECT_EQ(world.connection(key).at("state"), "connecting");
    answer(person, prompt, kPassphrase);
    const Json result = person.reply(id).at("result");
    EXPECT_EQ(result.at("reused"), false);
    EXPECT_EQ(result.at("connection").at("state"), "up");
    EXPECT_EQ(world.start("server-1", kLong).at("reused"), true);
    EXPECT_EQ(world.sshd.logins(), 1);
    expect_nowhere(world, kPassphrase);
}

TEST_F(Passphrase, IsAskedForAgainWhereItIsWrong) {
    const int id = person.send("start", {{"ctx", "server-1"}, {"command", kLong}, {"interactive", true}});
    const Json first = next_prompt(person);
    answer(person, first, "wrong");
    const Json second = next_prompt(person);
    EXPECT_NE(second.at("prompt"), first.at("prompt"));
    EXPECT_EQ(person.refusal("answer", {{"prompt", first.at("prompt")}, {"text", kPassphrase}}).at("code"), -32602);
    answer(person, second, kPassphrase);
    EXPECT_EQ(person.reply(id).at("result").at("session").at("state"), "running");
}

TEST_F(Passphrase, ThatIsNeverRightIsAuthFailed) {
    const int id = connect(person, "server-1");
    for (int i = 0; i < 3; ++i) {
        answer(person, next_prompt(person), "wrong");
    }
    const Json error = person.reply(id).at("error");
    EXPECT_EQ(error.at("data").at("kind"), "auth_failed") << error;
    EXPECT_EQ(world.connection(key).at("state"), "failed");
    expect_nothing_left(world);
}

TEST_F(Passphrase, CanBeCancelled) {
    const int id = connect(person, "server-1");
    RpcClient other(world.daemon.socket_path());
    const int waiting = connect(other, "server-1", false);
    cancel(person, next_prompt(person));
    const Json error = person.reply(id).at("error");
    EXPECT_EQ(error.at("code"), -32021) << error;
    EXPECT_EQ(error.at("data").value("hint", ""), "cmctl connect server-1");
    const Json others = other.reply(waiting).at("error");
    EXPECT_EQ(others.at("code"), -32009) << "nobody can be asked there: " << others;
    EXPECT_THAT(others.at("data").value("hint", ""), HasSubstr("cmctl connect server-1"));
    EXPECT_EQ(world.connection(key).at("state"), "needs_auth");
    EXPECT_EQ(world.sshd.logins(), 0);
    expect_nothing_left(world);
    // It is no reason not to try again.
    const int again = connect(person, "server-1");
    answer(person, next_prompt(person), kPassphrase);
    EXPECT_TRUE(person.reply(again).contains("result"));
}

TEST_F(Passphrase, IsNotAskedForWhereNobodyIsThere) {
    const Json error = world.rpc().refusal("connect", {{"ctx", "server-1"}});
    EXPECT_EQ(error.at("code"), -32009);
    EXPECT_THAT(error.at("data").value("hint", ""), HasSubstr("cmctl connect server-1"));
    EXPECT_THAT(world.rpc().notifications(),
                Not(testing::Contains(testing::Truly([](const Json& it) { return it.at("method") == "prompt"; }))));
    const int id = connect(person, "server-1");
    answer(person, next_prompt(person), kPassphrase);
    EXPECT_TRUE(person.reply(id).contains("result"));
}

TEST_F(Passphrase, IsAskedForOnceForAllWhoWait) {
    const int first = connect(person, "server-1");
    const Json prompt = next_prompt(person);
    RpcClient second(world.daemon.socket_path());
    const int interactive = connect(second, "server-1");
    const int start = world.rpc().send("start", {{"ctx", "server-1"}, {"command", kLong}});
    second.call("ping");
    world.rpc().call("ping");
    answer(person, prompt, kPassphrase);
    EXPECT_EQ(person.reply(first).at("result").at("reused"), false);
    EXPECT_EQ(second.reply(interactive).at("result").at("reused"), true);
    EXPECT_EQ(world.rpc().reply(start).at("result").at("reused"), true);
    for (const Json& it : second.notifications()) {
        EXPECT_NE(it.at("method"), "prompt");
    }
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Passphrase, IsAskedOfTheNextWhereTheFirstIsGone) {
    connect(person, "server-1");
    (void)next_prompt(person);
    RpcClient second(world.daemon.socket_path());
    const int id = connect(second, "server-1");
    second.call("ping");
    person.close();
    answer(second, next_prompt(second), kPassphrase);
    EXPECT_TRUE(second.reply(id).contains("result"));
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Passphrase, IsGivenUpWhereEverybodyIsGone) {
    connect(person, "server-1");
    (void)next_prompt(person);
    const int waiting = connect(world.rpc(), "server-1", false);
    world.rpc().call("ping");
    person.close();
    EXPECT_EQ(world.rpc().reply(waiting).at("error").at("code"), -32009);
    expect_nothing_left(world);
}

TEST(Question, StopsTheTimeOfTheLogin) {
    World world({}, "[pool]\nconnect_timeout = \"2s\"\n");
    ASSERT_EQ(run({"ssh-keygen", "-q", "-p", "-P", "", "-N", kPassphrase, "-f", world.sshd.user_key()}).status.code, 0);
    RpcClient person(world.daemon.socket_path());
    const int id = connect(person, "server-1");
    const Json prompt = next_prompt(person);
    EXPECT_FALSE(
        wait_until([&] { return world.connection(world.key("127.0.0.1")).at("state") != "connecting"; }, in(3s)));
    answer(person, prompt, kPassphrase);
    EXPECT_TRUE(person.reply(id).contains("result"));
}

TEST_F(Passphrase, IsNoLongerAskedForByADaemonThatStops) {
    const int id = connect(person, "server-1");
    (void)next_prompt(person);
    const Deadline deadline = in(4s);
    world.daemon.stop();
    EXPECT_LT(std::chrono::steady_clock::now(), deadline) << "it waited for the answer";
    EXPECT_EQ(person.reply(id).at("error").at("code"), -32022);
    EXPECT_THAT(world.daemon.all_ssh_processes(), IsEmpty());
}

TEST_F(Passphrase, IsTakenOnlyFromWhoWasAsked) {
    const int id = connect(person, "server-1");
    const Json prompt = next_prompt(person);
    RpcClient stranger(world.daemon.socket_path());
    const Json guess = {{"prompt", prompt.at("prompt")}, {"text", kPassphrase}};
    EXPECT_EQ(stranger.refusal("answer", guess).at("code"), -32602);
    EXPECT_EQ(person.refusal("answer", {{"prompt", "prompt-1"}, {"text", "x"}}).at("code"), -32602);
    for (const Json& wrong : {Json{{"text", "two\nlines"}}, Json{{"text", std::string(1024, 'x')}},
                              Json{{"confirm", true}}, Json{{"text", "x"}, {"cancel", true}}, Json::object()}) {
        Json params = wrong;
        params["prompt"] = prompt.at("prompt");
        EXPECT_EQ(person.refusal("answer", params).at("code"), -32602) << wrong;
    }
    answer(person, prompt, kPassphrase);
    EXPECT_TRUE(person.reply(id).contains("result"));
}

TEST_F(Passphrase, IsAskedForByEachHop) {
    world.sshd.add_ssh_config("Host far\n    HostName 127.0.0.1\n    ProxyJump server-2\n");
    const int id = connect(person, "far");
    answer(person, next_prompt(person), kPassphrase);
    answer(person, next_prompt(person), kPassphrase);
    EXPECT_TRUE(person.reply(id).contains("result"));
    EXPECT_EQ(world.sshd.logins(), 2);
}

TEST_F(Passphrase, IsNotAskedForByTheDaemonItself) {
    const int id = connect(person, "server-1");
    answer(person, next_prompt(person), kPassphrase);
    EXPECT_TRUE(person.reply(id).contains("result"));
    const std::string session = world.start_id("server-1", kLong);
    const int pid = world.connection(key).at("master_pid");
    ::kill(pid, SIGKILL);
    EXPECT_TRUE(world.connection_becomes(key, "needs_auth"));
    EXPECT_EQ(world.connection(key).at("last_error").at("hint"),
              "cmctl connect server-1  # or ssh-add, then try again");
    EXPECT_EQ(world.session(session).at("state"), "unreachable");
    const int again = connect(person, "server-1");
    answer(person, next_prompt(person), kPassphrase);
    EXPECT_TRUE(person.reply(again).contains("result"));
    EXPECT_TRUE(world.becomes(session, "running"));
}

TEST_F(Passphrase, IsAnsweredToNobodyElseThanThatLogin) {
    const int id = connect(person, "server-1");
    const Json prompt = next_prompt(person);
    std::string token;
    const std::string name = "CMSSH_ASKPASS_TOKEN=";
    for (const pid_t pid : world.daemon.ssh_processes()) {
        const std::string environment = read_proc(pid, "environ");
        if (const auto at = environment.find(name); at != std::string::npos) {
            token = environment.substr(at + name.size(), environment.find('\0', at) - at - name.size());
        }
    }
    EXPECT_EQ(token.size(), 32U);
    answer(person, prompt, kPassphrase);
    EXPECT_TRUE(person.reply(id).contains("result"));
    for (const std::string& dead : {token, std::string(), std::string(32, '0')}) {
        const Json params = {{"token", dead}, {"text", "Password: "}, {"kind", ""}};
        EXPECT_EQ(world.rpc().refusal("askpass", params).at("code"), -32602);
    }
    EXPECT_THAT(world.rpc().call("rpc.discover").dump(), Not(HasSubstr("askpass")));
    EXPECT_THAT(world.rpc().call("version").dump(), Not(HasSubstr("askpass")));
}

TEST_F(Passphrase, IsNotNeededWithTheCallersAgent) {
    const std::string socket = world.dir / "agent";
    Process agent({"ssh-agent", "-D", "-a", socket});
    ASSERT_TRUE(wait_until([&] { return exists(socket); }));
    SpawnOptions spawn;
    spawn.environment = {"SSH_AUTH_SOCK=" + socket, std::string("PATH=") + kPath, "DISPLAY=none",
                         "SSH_ASKPASS_REQUIRE=force", "SSH_ASKPASS=" + (world.dir / "say")};
    write_file(world.dir / "say", "#!/bin/sh\necho '" + kPassphrase + "'\n");
    std::filesystem::permissions(world.dir / "say", std::filesystem::perms::owner_all);
    ASSERT_EQ(run({"ssh-add", world.sshd.user_key()}, spawn).status.code, 0);
    world.sshd.add_ssh_config("Host *\n    IdentityAgent SSH_AUTH_SOCK\n");
    const Json params = {{"ctx", "server-1"}, {"interactive", true}, {"auth_sock", socket}};
    EXPECT_EQ(person.call("connect", params).at("connection").at("state"), "up");
    const std::string session = world.start_id("server-1", kLong);
    ::kill(world.connection(key).at("master_pid").get<int>(), SIGKILL);
    EXPECT_TRUE(wait_until([&] { return world.sshd.logins() == 2; })) << "reconnects have the same agent";
    EXPECT_TRUE(world.becomes(session, "running"));
}

TEST(HostKey, IsShownAndAcceptedByThePerson) {
    World world;
    const std::string hosts = world.dir / "hosts";
    write_file(hosts, "");
    world.sshd.add_ssh_config("Host new\n    HostName 127.0.0.1\n    UserKnownHostsFile " + hosts +
                              "\n    StrictHostKeyChecking ask\n");
    std::string fingerprint = run({"ssh-keygen", "-l", "-f", world.dir / "sshd/host_key.pub"}).output;
    fingerprint = fingerprint.substr(fingerprint.find("SHA256:"));
    fingerprint = fingerprint.substr(0, fingerprint.find(' '));

    const Json nobody = world.rpc().refusal("connect", {{"ctx", "new"}});
    EXPECT_EQ(nobody.at("code"), -32006);
    EXPECT_THAT(nobody.at("data").value("hint", ""), HasSubstr("cmctl connect new"));

    RpcClient person(world.daemon.socket_path());
    const int refused = connect(person, "new");
    const Json question = next_prompt(person);
    EXPECT_THAT(question.at("text").get<std::string>(), HasSubstr(fingerprint));
    EXPECT_THAT(question.at("text").get<std::string>(), HasSubstr("(yes/no"));
    EXPECT_EQ(question.at("echo"), true);
    EXPECT_EQ(question.at("confirm"), false) << "the fingerprint is an answer too";
    answer(person, question, "no");
    EXPECT_EQ(person.reply(refused).at("error").at("code"), -32006);
    EXPECT_EQ(read_file(hosts), "");

    const int accepted = connect(person, "new");
    const Json again = next_prompt(person);
    answer(person, again, "maybe");
    person.call("answer", {{"prompt", next_prompt(person).at("prompt")}, {"confirm", true}});
    EXPECT_TRUE(person.reply(accepted).contains("result"));
    EXPECT_THAT(read_file(hosts), HasSubstr("ssh-ed25519"));
    EXPECT_EQ(world.sshd.logins(), 1);
}

// Servers with an account that has a password, in a world of its own.
SshdOptions with_password(const std::string& config) {
    SshdOptions options = servers(1);
    options.other_user = kOtherUser;
    options.config = "PermitRootLogin yes\n" + config;
    return options;
}

#define NEEDS_OTHER_USER()                                          \
    if (!Sshd::can_have_other_user()) {                             \
        GTEST_SKIP() << "only root can make an account for a test"; \
    }

TEST(Password, IsAskedOfTheCaller) {
    NEEDS_OTHER_USER();
    World world(with_password("PasswordAuthentication yes\nPubkeyAuthentication no\n"));
    RpcClient person(world.daemon.socket_path());
    const std::string ctx = kOtherUser + "@server-1";
    const Json nobody = world.rpc().refusal("connect", {{"ctx", ctx}});
    EXPECT_EQ(nobody.at("code"), -32009);
    EXPECT_THAT(nobody.at("data").value("hint", ""), HasSubstr("cmctl connect " + ctx));
    const int id = connect(person, ctx);
    const Json first = next_prompt(person);
    EXPECT_EQ(first.at("text"), kOtherUser + "@127.0.0.1's password: ");
    EXPECT_EQ(first.at("echo"), false);
    answer(person, first, "wrong");
    answer(person, next_prompt(person), kPassword);
    EXPECT_EQ(person.reply(id).at("result").at("connection").at("state"), "up");
    EXPECT_EQ(world.start(ctx, kLong).at("session").at("state"), "running");
    EXPECT_EQ(world.sshd.logins(), 1);
    expect_nowhere(world, kPassword);
}

TEST(Password, ThatIsNeverRightIsAuthFailed) {
    NEEDS_OTHER_USER();
    World world(with_password("PasswordAuthentication yes\nPubkeyAuthentication no\n"));
    RpcClient person(world.daemon.socket_path());
    const int id = connect(person, kOtherUser + "@server-1");
    for (int i = 0; i < 3; ++i) {
        answer(person, next_prompt(person), "wrong");
    }
    EXPECT_EQ(person.reply(id).at("error").at("code"), -32008);
    expect_nothing_left(world);
}

TEST(KeyboardInteractive, AsksSeveralThings) {
    NEEDS_OTHER_USER();
    SshdOptions options = with_password("KbdInteractiveAuthentication yes\nPubkeyAuthentication no\n");
    // pam_stress asks for one more thing, and takes any.
    options.pam =
        "auth required pam_unix.so\nauth required pam_stress.so\naccount required pam_permit.so\n"
        "session required pam_permit.so\n";
    World world(options);
    RpcClient person(world.daemon.socket_path());
    const int id = connect(person, kOtherUser + "@server-1");
    const Json password = next_prompt(person);
    EXPECT_THAT(password.at("text").get<std::string>(), HasSubstr("Password: "));
    EXPECT_EQ(password.at("echo"), false);
    answer(person, password, kPassword);
    const Json code = next_prompt(person);
    EXPECT_THAT(code.at("text").get<std::string>(), HasSubstr("STRESS Password: "));
    answer(person, code, "123456");
    EXPECT_EQ(person.reply(id).at("result").at("connection").at("state"), "up");
    EXPECT_EQ(world.sshd.logins(), 1);
    expect_nowhere(world, kPassword);
}

// cmctl on a terminal of its own.
class Terminal {
public:
    // before: words that run the rest of the line.
    Terminal(const Daemon& daemon, const Words& arguments, const Words& before = {})
        : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
        if (!master_ || ::grantpt(master_.get()) != 0 || ::unlockpt(master_.get()) != 0) {
            throw std::runtime_error("no pseudo-terminal");
        }
        Words words = before;
        words.emplace_back(CMSSH_CMCTL);
        words.insert(words.end(), arguments.begin(), arguments.end());
        Words variables = daemon.environment();
        const auto pointers = [](Words& from) {
            std::vector<char*> list;
            for (auto& word : from) {
                list.push_back(word.data());
            }
            list.push_back(nullptr);
            return list;
        };
        const auto argv = pointers(words);
        const auto environment = pointers(variables);
        std::array<char, 64> name{};
        ::ptsname_r(master_.get(), name.data(), name.size());
        // Ours too: its modes can be seen, and it is not hung up before all was read.
        slave_.reset(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
        pid_ = ::fork();
        if (pid_ == 0) {
            sigset_t none;
            ::sigemptyset(&none);
            ::sigprocmask(SIG_SETMASK, &none, nullptr);
            ::setsid();
            const int slave = ::open(name.data(), O_RDWR);
            for (int fd = 0; fd < 3; ++fd) {
                ::dup2(slave, fd);
            }
            ::execve(argv.front(), argv.data(), environment.data());
            ::_exit(127);
        }
    }
    ~Terminal() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    // What was shown so far, once that text is in it behind what was waited for before.
    const std::string& wait_for(const std::string& text) {
        const Deadline deadline = in(kPatience);
        while (shown_.find(text, seen_) == std::string::npos && std::chrono::steady_clock::now() < deadline && read()) {
        }
        const auto at = shown_.find(text, seen_);
        EXPECT_NE(at, std::string::npos) << "not shown: " << text << "\nbut: " << shown_;
        seen_ = at != std::string::npos ? at + text.size() : seen_;
        return shown_;
    }
    void type(std::string_view keys) { EXPECT_GT(::write(master_.get(), keys.data(), keys.size()), 0); }
    [[nodiscard]] bool echoes() const {
        termios modes{};
        ::tcgetattr(slave_.get(), &modes);
        return (modes.c_lflag & ECHO) != 0;
    }
    // Its exit code, or 128 and the signal.
    int wait() {
        int status = 0;
        const bool ended = wait_until([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; });
        EXPECT_TRUE(ended) << shown_;
        while (read()) {
        }
        pid_ = ended ? -1 : pid_;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    [[nodiscard]] const std::string& shown() const { return shown_; }

private:
    // False: nothing came for a moment.
    bool read() {
        pollfd readable{.fd = master_.get(), .events = POLLIN, .revents = 0};
        const int patience = pid_ > 0 ? 1000 : 0;
        std::array<char, 4096> bytes{};
        if (::poll(&readable, 1, patience) != 1) {
            return pid_ > 0 && ::kill(pid_, 0) == 0;
        }
        const ssize_t count = ::read(master_.get(), bytes.data(), bytes.size());
        if (count > 0) {
            shown_.append(bytes.data(), static_cast<std::size_t>(count));
        }
        return count > 0;
    }

    UniqueFd master_;
    UniqueFd slave_;
    pid_t pid_ = -1;
    std::string shown_;
    std::size_t seen_ = 0;
};

TEST_F(Passphrase, IsTypedUnseenIntoATerminal) {
    Terminal terminal(world.daemon, {"connect", "server-1"});
    terminal.wait_for("Enter passphrase for key '" + world.sshd.user_key() + "': ");
    EXPECT_TRUE(wait_until([&] { return !terminal.echoes(); }));
    terminal.type("wrong\n");
    terminal.wait_for("Enter passphrase for key");
    terminal.type(kPassphrase + "\n");
    terminal.wait_for(key + ": up");
    EXPECT_EQ(terminal.wait(), 0) << terminal.shown();
    EXPECT_TRUE(terminal.echoes());
    EXPECT_THAT(terminal.shown(), Not(HasSubstr(kPassphrase)));
    EXPECT_THAT(terminal.shown(), Not(HasSubstr("wrong")));
    EXPECT_EQ(world.sshd.logins(), 1);
    expect_nowhere(world, kPassphrase);
}

TEST_F(Passphrase, IsAskedForByAStartFromATerminal) {
    Terminal terminal(world.daemon, {"start", "--ctx", "server-1", "sleep", "1000"});
    terminal.wait_for("server-1: establishing master connection");
    terminal.wait_for("Enter passphrase for key");
    terminal.type(kPassphrase + "\n");
    terminal.wait_for("sess-");
    EXPECT_EQ(terminal.wait(), 0) << terminal.shown();
    EXPECT_EQ(world.list().size(), 1U);
}

TEST_F(Passphrase, IsAskedForByWhatElseMayFindAColdServer) {
    write_file(world.dir / "file", "content");
    const std::vector<Words> lines = {{"exec", "--ctx", "server-1", "--", "echo", "passed"},
                                      {"doctor", "server-1"},
                                      {"cp", "-O", world.dir / "file", "server-1:" + world.dir / "copy"},
                                      {"forward", "add", "--ctx", "server-1", "-R", "0:127.0.0.1:1"}};
    for (const Words& line : lines) {
        SCOPED_TRACE(line.front());
        Terminal terminal(world.daemon, line);
        terminal.wait_for("Enter passphrase for key");
        terminal.type(kPassphrase + "\n");
        EXPECT_EQ(terminal.wait(), 0) << terminal.shown();
        world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    }
}

TEST_F(Passphrase, IsAskedForByWhoFollowsAndByWhoAttaches) {
    Terminal start(world.daemon, {"start", "--ctx", "server-1", "--name", "job", "cat"});
    start.wait_for("Enter passphrase for key");
    start.type(kPassphrase + "\n");
    EXPECT_EQ(start.wait(), 0) << start.shown();
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    Terminal logs(world.daemon, {"logs", "-f", "job"});
    logs.wait_for("Enter passphrase for key");
    logs.type(kPassphrase + "\n");
    EXPECT_TRUE(world.connection_becomes(key, "up"));
    logs.type("\x03");
    EXPECT_EQ(logs.wait(), 130) << logs.shown();
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    Terminal wait(world.daemon, {"wait", "job"});
    wait.wait_for("Enter passphrase for key");
    wait.type(kPassphrase + "\n");
    EXPECT_TRUE(world.connection_becomes(key, "up"));
    wait.type("\x03");
    EXPECT_EQ(wait.wait(), 130) << wait.shown();
    world.rpc().call("disconnect", {{"ctx", "server-1"}, {"force", true}});
    Terminal attach(world.daemon, {"attach", "job"});
    attach.wait_for("Enter passphrase for key");
    attach.type(kPassphrase + "\n");
    EXPECT_TRUE(world.connection_becomes(key, "up"));
    attach.type("typed\n");
    attach.wait_for("typed");
    attach.type("\n~.");
    EXPECT_EQ(attach.wait(), 0) << attach.shown();
}

TEST_F(Passphrase, IsAskedForByNoSecondLogin) {
    const int id = person.send("acquire", {{"ctx", "server-1"}, {"own_master", true}, {"interactive", true}});
    answer(person, next_prompt(person), kPassphrase);
    const Json lease = person.reply(id).at("result");
    EXPECT_EQ(lease.at("control_path"), lease.at("connection").at("control_path"));
    EXPECT_EQ(lease.at("connection").at("own_masters"), Json::array());
    EXPECT_EQ(world.sshd.logins(), 1);
}

TEST_F(Passphrase, IsCancelledByTheKeysForIt) {
    for (const auto& [keys, code] : {std::pair("\x04", 130), std::pair("half\x03", 130), std::pair("half\x1c", 131)}) {
        SCOPED_TRACE(code);
        Terminal terminal(world.daemon, {"connect", "server-1"});
        terminal.wait_for("Enter passphrase for key");
        EXPECT_TRUE(wait_until([&] { return !terminal.echoes(); }));
        terminal.type(keys);
        EXPECT_EQ(terminal.wait(), code) << terminal.shown();
        EXPECT_TRUE(terminal.echoes()) << "the terminal has its modes back";
        EXPECT_TRUE(world.connection_becomes(key, "needs_auth"));
        expect_nothing_left(world);
    }
    EXPECT_EQ(world.sshd.logins(), 0);
}

TEST_F(Passphrase, IsAskedForAgainWhenCmctlIsContinued) {
    // A shell with jobs, that waits for a line before it continues the one that was stopped.
    const Words shell = {"/bin/sh", "-mc", R"("$@"; echo stopped; read -r line; fg)", "sh"};
    Terminal terminal(world.daemon, {"connect", "server-1"}, shell);
    terminal.wait_for("Enter passphrase for key");
    EXPECT_TRUE(wait_until([&] { return !terminal.echoes(); }));
    terminal.type("\x1a");
    terminal.wait_for("stopped");
    EXPECT_TRUE(terminal.echoes());
    terminal.type("\n");
    terminal.wait_for("Enter passphrase for key");
    EXPECT_TRUE(wait_until([&] { return !terminal.echoes(); }));
    terminal.type(kPassphrase + "\n");
    EXPECT_EQ(terminal.wait(), 0) << terminal.shown();
}

TEST(HostKey, IsAcceptedOnATerminal) {
    World world;
    const std::string hosts = world.dir / "hosts";
    write_file(hosts, "");
    world.sshd.add_ssh_config("Host new\n    HostName 127.0.0.1\n    UserKnownHostsFile " + hosts +
                              "\n    StrictHostKeyChecking ask\n");
    Terminal terminal(world.daemon, {"connect", "new"});
    terminal.wait_for("key fingerprint is SHA256:");
    terminal.wait_for("(yes/no");
    EXPECT_TRUE(terminal.echoes());
    terminal.type("yes\n");
    EXPECT_EQ(terminal.wait(), 0) << terminal.shown();
    EXPECT_THAT(terminal.shown(), HasSubstr("? yes\r\n"));
    EXPECT_THAT(read_file(hosts), Not(IsEmpty()));
}

TEST_F(Passphrase, IsNotAskedForByCmctlWithoutATerminal) {
    const Finished connected = world.daemon.cmctl({"connect", "server-1"});
    EXPECT_EQ(connected.status.code, 6);
    EXPECT_THAT(connected.errors, ContainsRegex("hint: cmctl connect server-1"));
}

}  // namespace
}  // namespace cmssh::test
