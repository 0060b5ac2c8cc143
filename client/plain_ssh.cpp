// `cmctl ssh-config`, and `cmctl ssh-lease`, which is what its `Match exec` runs: a plain ssh asks whether it can go
// over a master of the pool. No for an answer wherever that is not certain: ssh then logs in itself as before, and is
// told why only where the pool has that server and no room on it.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <vector>

#include "client/call.hpp"
#include "client/given_context.hpp"
#include "client/host.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/prompt.hpp"
#include "client/ssh_command_line.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"
#include "protocol/paths.hpp"
#include "protocol/server_key.hpp"

extern char** environ;

namespace cmssh::client {
namespace {

constexpr const char* kNoPool = "CMSSH_NO_POOL";
// Of the whole question. A login that takes longer is ssh's own.
constexpr std::chrono::seconds kPatience{10};
// With a person who is asked several things, for two minutes each.
constexpr std::chrono::minutes kPersonsPatience{10};
// A daemon that is stopped, or hangs, is as good as none.
constexpr std::chrono::seconds kAnswersWithin{1};
constexpr const char* kSystemConfig = "/etc/ssh/ssh_config";
// Not %C, which two names of one account share that have a login key, a HostKeyAlias or a way each.
constexpr const char* kLinkPattern = "/%r@%n:%p";
constexpr std::size_t kMaxDump = 256 * 1024;

std::string read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::string process_file(pid_t pid, const char* name) {
    return "/proc/" + std::to_string(pid) + '/' + name;
}

// proc(5): the fields behind the name in parentheses, which may hold anything, are the state and the parent.
pid_t parent_of(pid_t pid) {
    const std::string stat = read_all(process_file(pid, "stat"));
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos) {
        return 0;
    }
    std::istringstream fields(stat.substr(name_end + 1));
    std::string state;
    pid_t parent = 0;
    fields >> state >> parent;
    return parent;
}

// The ssh that runs us: our parent, or that of the shell which it runs us with.
std::optional<pid_t> calling_ssh() {
    pid_t pid = ::getppid();
    for (int i = 0; i < 2 && pid > 1; ++i, pid = parent_of(pid)) {
        if (read_all(process_file(pid, "comm")) == "ssh\n") {
            return pid;
        }
    }
    return std::nullopt;
}

std::vector<std::string> command_line_of(pid_t pid) {
    std::vector<std::string> words;
    std::istringstream text(read_all(process_file(pid, "cmdline")));
    for (std::string word; std::getline(text, word, '\0');) {
        words.push_back(std::move(word));
    }
    return words;
}

// As a word of ssh_config that is neither quoted nor a pattern in any way.
bool plain_path(std::string_view path) {
    constexpr std::string_view kAlso = "/._+@:=,-";
    return !path.empty() && std::all_of(path.begin(), path.end(), [kAlso](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               kAlso.find(c) != std::string_view::npos;
    });
}

// What that ssh reads, and behind it a ControlPath of ours: `ssh -G` then shows it exactly where the user has said
// nothing about one, wherever in the configuration our snippet stands. nullopt: a file whose name cannot be written
// there.
std::optional<std::string> probing_config(const SshCommandLine& line, pid_t pid, const std::string& directory) {
    std::string text;
    if (!line.config_file) {
        text = std::string("Include ~/.ssh/config\nMatch all\nInclude ") + kSystemConfig + '\n';
    } else if (*line.config_file != "none") {
        std::string path = *line.config_file;
        if (!path.starts_with('/')) {
            std::array<char, PATH_MAX> cwd{};
            const ssize_t length = ::readlink(process_file(pid, "cwd").c_str(), cwd.data(), cwd.size());
            if (length <= 0 || static_cast<std::size_t>(length) == cwd.size()) {
                return std::nullopt;
            }
            path = std::string(cwd.data(), static_cast<std::size_t>(length)) + '/' + path;
        }
        if (!plain_path(path)) {
            return std::nullopt;
        }
        text = "Include " + path + '\n';
    }
    return text + "Match all\nControlPath " + directory + kLinkPattern + '\n';
}

std::optional<std::string> read_to_end(int fd, Instant deadline) {
    std::string text;
    std::array<char, 16 * 1024> bytes{};
    while (text.size() <= kMaxDump) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
        if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) <= 0) {
            return std::nullopt;
        }
        const ssize_t count = ::read(fd, bytes.data(), bytes.size());
        if (count < 0) {
            return std::nullopt;
        }
        if (count == 0) {
            return text;
        }
        text.append(bytes.data(), static_cast<std::size_t>(count));
    }
    return std::nullopt;
}

// What that ssh's own program says it would do.
std::optional<std::string> dump_of(pid_t ssh, const SshCommandLine& line, const std::string& config, Instant deadline) {
    const UniqueFd file(::memfd_create("ssh_config", MFD_CLOEXEC));
    std::array<int, 2> ends{-1, -1};
    if (!file || ::write(file.get(), config.data(), config.size()) != static_cast<ssize_t>(config.size()) ||
        ::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return std::nullopt;
    }
    const UniqueFd output(ends[0]);
    UniqueFd written(ends[1]);
    std::vector<std::string> words = {"ssh", "-G", "-T", "-F", "/dev/stdin"};
    words.insert(words.end(), line.words.begin(), line.words.end());
    std::vector<char*> argv;
    for (auto& word : words) {
        argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    // Our snippet is read again.
    ::setenv(kNoPool, "1", 1);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, file.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, written.get(), STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t child = 0;
    const int failure =
        ::posix_spawn(&child, process_file(ssh, "exe").c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) {
        return std::nullopt;
    }
    written.reset();
    auto dump = read_to_end(output.get(), deadline);
    if (!dump) {
        ::kill(child, SIGKILL);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status == 0 ? dump : std::nullopt;
}

// The name of the link, and what the daemon has to know for it.
struct Shareable {
    std::string link;
    std::string destination;
    std::string settings;
    bool quiet = false;  // ssh's "QUIET" is SILENT where it shows its settings
    bool batch = false;  // nobody is to be asked
};

// A shared master does for a session what it was made with: no forwards, no agent, no X11, no local command.
std::optional<Shareable> shareable(std::string_view dump, const std::string& directory) {
    Shareable found;
    found.settings = settings_digest(dump);
    const std::string prefix = directory + '/';
    while (!dump.empty()) {
        const std::string_view line = dump.substr(0, dump.find('\n'));
        dump.remove_prefix(std::min(line.size() + 1, dump.size()));
        const std::string_view keyword = line.substr(0, line.find(' '));
        const std::string_view value = line.substr(std::min(keyword.size() + 1, line.size()));
        if (keyword == "localforward" || keyword == "remoteforward" || keyword == "dynamicforward" ||
            (keyword == "forwardagent" && value != "no") || (keyword == "forwardx11" && value != "no") ||
            (keyword == "permitlocalcommand" && value != "no") || (keyword == "tunnel" && value != "false") ||
            (keyword == "controlmaster" && value != "false") ||
            (keyword == "forkafterauthentication" && value != "no")) {
            return std::nullopt;
        }
        found.quiet = found.quiet || (keyword == "loglevel" && (value == "SILENT" || value == "FATAL"));
        found.batch = found.batch || (keyword == "batchmode" && value == "yes");
        if (keyword == "controlpath" && value.starts_with(prefix)) {
            found.link = value.substr(prefix.size());
        }
    }
    const std::size_t at = found.link.rfind('@');
    const std::size_t colon = found.link.rfind(':');
    if (at == std::string::npos || colon == std::string::npos || colon < at ||
        prefix.size() + found.link.size() >= sizeof(sockaddr_un::sun_path)) {
        return std::nullopt;
    }
    std::string host = found.link.substr(at + 1, colon - at - 1);
    if (host.find(':') != std::string::npos) {
        host = '[' + host + ']';
    }
    found.destination = "ssh://" + found.link.substr(0, at + 1) + host + found.link.substr(colon);
    return found;
}

// What came of the question, and what the daemon said last of what it waits for.
struct Asked {
    std::optional<Error> refusal;
    std::string phase;
};

Asked acquire(RpcClient& daemon, Json params, Instant deadline) {
    Asked asked;
    const auto answer = daemon.call("acquire", std::move(params), deadline, [&asked](const Json& progress) {
        if (auto told = api::read<api::Progress>(progress)) {
            asked.phase = std::move(told->phase);
        }
    });
    if (const auto* failed = std::get_if<CallError>(&answer)) {
        asked.refusal = failed->error;
    }
    return asked;
}

bool waited_for_room(const Asked& asked) {
    return asked.phase == "waiting_for_channel";
}

// Its login has questions, or waits for somebody's answers.
bool wants_a_person(const Asked& asked) {
    return asked.refusal &&
           (asked.refusal->kind == ErrorKind::NeedsAuth || asked.refusal->kind == ErrorKind::HostKeyUnknown ||
            (asked.refusal->kind == ErrorKind::Timeout && !waited_for_room(asked)));
}

// A login beside the shared one is never a silent one.
void tell_of_second_login(const Shareable& wanted, const Asked& asked) {
    std::string why;
    if (asked.refusal->kind == ErrorKind::Limit) {
        why = "too many wait for a channel of the shared connection";
    } else if (asked.refusal->kind == ErrorKind::ChannelRefused) {
        why = asked.refusal->message;
    } else if (asked.refusal->kind == ErrorKind::Timeout) {
        why = waited_for_room(asked) ? "the shared connection had no room for it within 10 s"
                                     : "the shared login was not done within 10 s";
    } else if (asked.refusal->kind == ErrorKind::ConnectFailed && asked.phase.empty()) {
        why = asked.refusal->message;  // no login was tried
    } else if (asked.refusal->kind == ErrorKind::AuthFailed) {
        why = "the server refused the shared login";
    }
    if (!wanted.quiet && !why.empty()) {
        std::fprintf(stderr, "cmctl: %s: %s; this ssh logs in by itself\n", printable(wanted.destination).c_str(),
                     printable(why).c_str());
    }
}

}  // namespace

int ssh_lease(const GlobalOptions& global, const std::string& directory) {
    if (std::getenv(kNoPool) != nullptr) {
        return exit_code::kFailed;
    }
    const auto ssh = calling_ssh();
    if (!ssh) {
        return exit_code::kFailed;
    }
    auto words = command_line_of(*ssh);
    if (words.empty()) {
        return exit_code::kFailed;
    }
    words.erase(words.begin());
    const auto line = parse_ssh_command_line(words);
    if (!line || !line->opens_session) {
        return exit_code::kFailed;
    }
    const Instant deadline = std::chrono::steady_clock::now() + kPatience;
    // First, because it costs nothing: a daemon that is not there is the common no.
    auto connected = RpcClient::connect_running(socket_path(process_environment(), global.socket), deadline);
    if (!connected || !std::holds_alternative<RpcClient>(*connected)) {
        return exit_code::kFailed;
    }
    auto& daemon = std::get<RpcClient>(*connected);
    const auto alive = daemon.call("ping", Json::object(), std::chrono::steady_clock::now() + kAnswersWithin);
    if (!std::holds_alternative<Json>(alive)) {
        return exit_code::kFailed;
    }
    const auto config = probing_config(*line, *ssh, directory);
    const auto dump = config ? dump_of(*ssh, *line, *config, deadline) : std::nullopt;
    auto wanted = dump ? shareable(*dump, directory) : std::nullopt;
    if (!wanted) {
        return exit_code::kFailed;
    }
    wanted->quiet = wanted->quiet || line->quiet;
    Json params = {{"ctx", wanted->destination},
                   {"pid", *ssh},
                   {"link", wanted->link},
                   {"settings", wanted->settings},
                   {"channel", !line->forwards_stdio}};
    if (const auto auth_sock = environment_value("SSH_AUTH_SOCK")) {
        params["auth_sock"] = *auth_sock;
    }
    Asked asked = acquire(daemon, params, deadline);
    if (wants_a_person(asked) && !wanted->batch && person_is_there()) {
        // Once for this ssh and for all that follow, as with `cmctl connect`.
        params["interactive"] = true;
        const Instant answered_by = std::chrono::steady_clock::now() + kPersonsPatience;
        auto again = RpcClient::connect_running(socket_path(process_environment(), global.socket), answered_by);
        if (again && std::holds_alternative<RpcClient>(*again)) {
            const LoginWatch watch(std::get<RpcClient>(*again), false);
            asked = acquire(std::get<RpcClient>(*again), std::move(params), answered_by);
        }
    }
    if (asked.refusal) {
        tell_of_second_login(*wanted, asked);
        return exit_code::kFailed;
    }
    return exit_code::kOk;
}

int ssh_config(const GlobalOptions& global) {
    if (global.host) {
        return not_with_host(global, "ssh-config",
                             "cmctl --host '' ssh-config for the ssh of this machine, " + ssh_text(*global.host) +
                                 " cmctl ssh-config for that of the other");
    }
    const PathEnvironment environment = process_environment();
    const std::string directory = runtime_dir(environment) + "/ssh";
    const std::string socket = socket_path(environment, global.socket);
    std::array<char, PATH_MAX> self{};
    const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
    const std::string program(self.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
    for (const std::string& path : {program, directory, socket}) {
        if (!path.starts_with('/') || !plain_path(path)) {
            std::fprintf(stderr,
                         "cmctl: ssh-config: %s cannot be written into an ssh_config\n"
                         "hint: use paths of letters, digits and / . _ + @ : = , -\n",
                         printable("'" + path + "'").c_str());
            return exit_code::kFailed;
        }
    }
    for (const std::string& text : std::initializer_list<std::string>{
             "# Lets ssh, and what runs it (scp, sftp, rsync, git), go over the connections of cmsshd.",
             "#   cmctl ssh-config > ~/.ssh/cmssh.conf",
             "# and as the first line of ~/.ssh/config, before any Host or Match:",
             "#   Include ~/.ssh/cmssh.conf",
             "# An ssh does what it would without this where no daemon runs, where its options or settings are others "
             "than",
             "# the daemon's for that server, where it forwards ports, the agent or X11, where you have set a "
             "ControlPath,",
             "# and with CMSSH_NO_POOL=1 in its environment.",
             "Match exec \"" + program + " --socket " + socket + " ssh-lease " + directory + "\"",
             "    ControlMaster no",
             "    ControlPath " + directory + kLinkPattern,
             "Match all",
         }) {
        print_line(text);
    }
    return exit_code::kOk;
}

}  // namespace cmssh::client
