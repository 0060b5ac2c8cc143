#include <array>
#include <charconv>
#include <sstream>

#include "client/doctor.hpp"
#include "client/output.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// tmux and the PATH are looked for as a start does it (daemon/tmux/tmux_scripts.cpp). What asks a shell of the user's
// has a limit of its own where there is timeout(1): rc files can wait for ever.
constexpr const char* kServerScript = R"sh(LC_ALL=C
export LC_ALL
k=$1 t=$2 mode=$3
shift 3
say() { printf '%s %s %s\n' "$k" "$1" "$2"; }
limit=
command -v timeout >/dev/null 2>&1 && limit='timeout -k 1 10'
path_of() { $limit "${SHELL:-/bin/sh}" "$1" env </dev/null 2>/dev/null | sed -n 's/^PATH=//p' | tail -n 1; }
case ${SHELL##*/} in *csh) l=-c li=-c ;; *) l=-lc li=-lic ;; esac
u=$(id -un 2>/dev/null) || u=$LOGNAME
say user "$u"
say shell "$SHELL"
case $t in "~/"*) t=$HOME/${t#??} ;; esac
p=$(command -v "$t" 2>/dev/null)
[ -n "$p" ] || p=$(PATH=$PATH:$(path_of $l); command -v "$t" 2>/dev/null)
say tmux "$p"
[ -z "$p" ] || say tmux_version "$("$p" -V 2>/dev/null)"
[ -d /run/systemd/system ] && say systemd yes
[ -e "/var/lib/systemd/linger/$u" ] && say linger yes
x=$(busctl --no-pager get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager \
KillUserProcesses 2>/dev/null)
case $x in 'b true') say kill yes ;; 'b false') ;; *)
x=$(cat /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf 2>/dev/null |
sed -n 's/^[[:blank:]]*KillUserProcesses[[:blank:]]*=[[:blank:]]*//p' | tail -n 1)
case $x in [Yy]es|[Tt]rue|[Oo]n|1) say kill yes ;; esac ;;
esac
b=$(date +%s 2>/dev/null)
case $mode in none) p=$PATH ;; login) p=$(path_of $l) ;; *) p=$(path_of $li) ;; esac
e=$(date +%s 2>/dev/null)
[ -z "$b" ] || [ -z "$e" ] || say seconds $((e-b))
say path "$p"
[ -n "$p" ] || p=$PATH
n=0
for tool do
case $tool in "~/"*) tool=$HOME/${tool#??} ;; esac
say "tool$n" "$(PATH=$p; command -v "$tool" 2>/dev/null)"
n=$((n+1))
done
say end yes)sh";

constexpr Version kOldestTmux{.major = 3, .minor = 2};
constexpr int kSlowStartup = 3;  // seconds
// One of them is the daemon's own, for as long as the connection is up.
constexpr int kFewChannels = 3;
constexpr int kUsualChannels = 10;

Check judge_tmux(const ServerFacts& facts) {
    Check check{.where = {}, .name = "tmux", .status = CheckStatus::Ok, .detail = {}};
    const char* const kInstall = "on the server: sudo apt install tmux, or set sessions.tmux to the path of one";
    if (facts.tmux.empty()) {
        check.status = CheckStatus::Fail;
        check.detail = "not found, neither in PATH nor in a login shell's";
        check.hint = kInstall;
        return check;
    }
    // "tmux 3.3a", "tmux next-3.4"; a build of its own says "tmux master".
    const auto version =
        facts.tmux_version.starts_with("tmux ") ? version_in(facts.tmux_version) : std::optional<Version>();
    check.detail = facts.tmux_version + " (" + facts.tmux + ')';
    if (version && *version < kOldestTmux) {
        check.status = CheckStatus::Fail;
        check.detail += " is older than 3.2";
        check.hint = kInstall;
    } else if (!version && facts.tmux_version != "tmux master") {
        check.status = CheckStatus::Warn;
        check.detail = facts.tmux + " does not say its version: '" + facts.tmux_version + '\'';
        check.hint = "on the server: " + command_text({facts.tmux, "-V"});
    }
    return check;
}

Check judge_logout(const ServerFacts& facts) {
    Check check{.where = {}, .name = "logout", .status = CheckStatus::Ok, .detail = "sessions outlive the connection"};
    if (facts.kills_processes) {
        check.status = CheckStatus::Fail;
        check.detail = "KillUserProcesses=yes: systemd ends tmux and every session with the connection";
        check.hint = "on the server, as root: put KillExcludeUsers=" + command_text({facts.user}) +
                     " into /etc/systemd/logind.conf and systemctl restart systemd-logind";
    }
    return check;
}

Check judge_linger_there(const ServerFacts& facts) {
    Check check{.where = {}, .name = "lingering", .status = CheckStatus::Ok, .detail = "on"};
    if (!facts.systemd) {
        check.detail = "no systemd there";
    } else if (!facts.lingers) {
        check.detail = "off: a user service that a session starts there ends with the last connection";
    }
    return check;
}

Check judge_shell(const ServerFacts& facts) {
    Check check{.where = {}, .name = "login shell", .status = CheckStatus::Ok, .detail = facts.shell};
    if (facts.shell.empty()) {
        check.status = CheckStatus::Warn;
        check.detail = "SHELL is not set there: /bin/sh is taken";
        check.hint = "on the server: chsh";
    } else if (facts.startup_s >= kSlowStartup || facts.path.empty()) {
        check.status = CheckStatus::Warn;
        check.detail += facts.path.empty() ? ": its start-up files do not end, or end it"
                                           : ": its start-up files take " + std::to_string(facts.startup_s) + " s";
        check.detail += ", and each session waits for them";
        check.hint = "on the server: look into ~/.profile and the like, or set sessions.shell to \"none\"";
    }
    return check;
}

Check judge_tool(const ServerFacts& facts, const Tool& tool, std::size_t place) {
    Check check{.where = {}, .name = "tool " + tool.name, .status = CheckStatus::Ok, .detail = {}};
    const auto found = facts.tools.find(place);
    if (found != facts.tools.end() && !found->second.empty()) {
        check.detail = found->second;
    } else {
        check.status = CheckStatus::Warn;
        check.detail = tool.program + " is not in the PATH of a session there";
        check.hint = "install it there, or give its path in [tools." + tool.name + ']';
    }
    return check;
}

}  // namespace

const char* server_script() {
    return kServerScript;
}

std::optional<ServerFacts> parse_server_facts(std::string_view output, std::string_view token) {
    ServerFacts facts;
    bool ended = false;
    std::istringstream lines{std::string(output)};
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(token) || line.size() <= token.size() || line[token.size()] != ' ') {
            continue;
        }
        const std::string_view told = std::string_view(line).substr(token.size() + 1);
        const std::string_view key = told.substr(0, told.find(' '));
        const std::string value(told.substr(std::min(key.size() + 1, told.size())));
        std::size_t place = 0;
        constexpr std::string_view kTool = "tool";
        if (key == "user") {
            facts.user = value;
        } else if (key == "shell") {
            facts.shell = value;
        } else if (key == "tmux") {
            facts.tmux = value;
        } else if (key == "tmux_version") {
            facts.tmux_version = value;
        } else if (key == "systemd") {
            facts.systemd = true;
        } else if (key == "linger") {
            facts.lingers = true;
        } else if (key == "kill") {
            facts.kills_processes = true;
        } else if (key == "path") {
            facts.path = value;
        } else if (key == "seconds") {
            std::from_chars(value.data(), value.data() + value.size(), facts.startup_s);
        } else if (key == "end") {
            ended = true;
        } else if (key.starts_with(kTool) &&
                   std::from_chars(key.data() + kTool.size(), key.data() + key.size(), place).ec == std::errc()) {
            facts.tools[place] = value;
        }
    }
    return ended ? std::optional(std::move(facts)) : std::nullopt;
}

std::vector<Check> judge_server(const std::string& where, const ServerFacts& facts, const std::vector<Tool>& tools) {
    std::vector<Check> checks = {judge_tmux(facts), judge_logout(facts), judge_linger_there(facts), judge_shell(facts),
                                 Check{.where = {}, .name = "PATH", .status = CheckStatus::Ok, .detail = facts.path}};
    for (std::size_t place = 0; place < tools.size(); ++place) {
        checks.push_back(judge_tool(facts, tools[place], place));
    }
    for (Check& check : checks) {
        check.where = where;
    }
    return checks;
}

std::vector<Check> judge_connection(const std::string& where, const api::Connection& connection) {
    Check state{.where = where, .name = "connection", .status = CheckStatus::Ok, .detail = connection.server.key};
    state.detail += ": " + std::string(to_string(connection.state));
    if (connection.rtt_ms) {
        std::array<char, 32> rtt{};
        std::snprintf(rtt.data(), rtt.size(), ", rtt %.1f ms", connection.rtt_ms->last);
        state.detail += rtt.data();
    }
    if (connection.state != api::ConnectionState::Up) {
        state.status = connection.state == api::ConnectionState::Degraded ? CheckStatus::Warn : CheckStatus::Fail;
        state.detail += connection.last_error ? ", " + connection.last_error->message : "";
        state.hint = connection.last_error && connection.last_error->hint ? *connection.last_error->hint
                                                                          : "cmctl connect " + command_text({where});
    }
    const int max = connection.channels.max;
    Check channels{
        .where = where, .name = "channels", .status = CheckStatus::Ok, .detail = std::to_string(max) + " at once"};
    if (max < kUsualChannels) {
        channels.detail += " (MaxSessions of sshd, as learnt, or pool.max_channels)";
    }
    if (max <= kFewChannels) {
        channels.status = CheckStatus::Warn;
        channels.detail += ": one is for tmux, and who finds the others taken waits";
        channels.hint =
            "on the server, as root: raise MaxSessions in /etc/ssh/sshd_config (10 is usual) and reload sshd";
    }
    return {state, channels};
}

}  // namespace cmssh::client
