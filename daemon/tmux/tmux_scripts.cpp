#include "daemon/tmux/tmux_scripts.hpp"

#include "protocol/methods.hpp"
#include "protocol/remote_command.hpp"

namespace cmssh::tmux {
namespace {

std::string replaced(std::string_view text, std::string_view word, std::string_view by) {
    std::string result(text);
    for (auto at = result.find(word); at != std::string::npos; at = result.find(word, at + by.size())) {
        result.replace(at, word.size(), by);
    }
    return result;
}

// Sets cmssh_t to tmux: below the home directory, in PATH, or in a login shell's, which PATH then has as well.
std::string find_tmux(const SessionsConfig& config) {
    return "cmssh_t=" + sh_quote(config.tmux) + R"sh(
case $cmssh_t in "~/"*) cmssh_t=$HOME/${cmssh_t#??} ;; esac
if command -v "$cmssh_t" >/dev/null 2>&1; then :; else
case ${SHELL##*/} in *csh) cmssh_l=-c ;; *) cmssh_l=-lc ;; esac
cmssh_p=$("${SHELL:-/bin/sh}" "$cmssh_l" env </dev/null 2>/dev/null | sed -n 's/^PATH=//p' | tail -n 1)
PATH=$PATH:$cmssh_p
fi
)sh";
}

// $1 is the directory or empty, $2 names the caller's variables, $3 has those that a shell sets itself as words for
// env, the rest is the command. Directory and variables are set once more behind the rc files, which may leave the one
// and change the others, by an sh of ours: what it uses is nobody else's function. The values come there in the
// environment, where no other user of the server sees them, and in octal, in parts of what one string may hold, where %
// stands before the name: fish without a locale decodes what it has inherited, which makes what is long too long.
// Names are such that nobody has them: one that is in the environment already would be passed on changed.
constexpr std::string_view kPrepare = R"sh(cmssh_d=$1 cmssh_v=$2 cmssh_w=$3; shift 3
[ -z "$cmssh_d" ] || cd -- "$cmssh_d" || exit 1
[ -z "$cmssh_w" ] || {
case $1 in *=*) set -- /bin/sh -c 'exec "$@"' sh "$@" ;; esac
eval "set -- /usr/bin/env $cmssh_w \"\$@\""
}
)sh";
constexpr std::string_view kSetAgainBehindRcFiles = R"sh(cmssh_m=
for cmssh_n in $cmssh_v; do
cmssh_x=${cmssh_n#%} cmssh_i=
case $cmssh_n in %*)
for cmssh_o in $(eval "printf %s \"\$$cmssh_x\"" | command -p od -An -v -to1 | command -p tr -d ' \n' | command -p fold -w 75000); do
export "CMSSH_ENV_$cmssh_i$cmssh_x=$cmssh_o"
cmssh_i=$((${cmssh_i:-0}+1))
done 2>/dev/null ;;
esac
[ -n "$cmssh_i" ] || {
eval "export \"CMSSH_ENV_$cmssh_x=\$$cmssh_x\""
cmssh_n=$cmssh_x
}
[ "${cmssh_i:-0}" -lt 2 ] || unset "$cmssh_x"
cmssh_m="$cmssh_m $cmssh_n"
done
set -- /bin/sh -c '[ -z "$1" ] || cd -- "$1" || exit 1
for cmssh_n in $2; do
cmssh_v=${cmssh_n#%} cmssh_x= cmssh_i=
while eval "cmssh_o=\${CMSSH_ENV_$cmssh_i$cmssh_v-}" && [ -n "$cmssh_o" ]; do
cmssh_x=$cmssh_x$cmssh_o
unset "CMSSH_ENV_$cmssh_i$cmssh_v"
cmssh_i=$((${cmssh_i:-0}+1))
done
unset "CMSSH_ENV_$cmssh_v"
[ "$cmssh_n" = "$cmssh_v" ] || {
cmssh_x=$(echo "$cmssh_x" | command -p fold -w 75000 | while read -r cmssh_o; do
printf %b "$(echo "$cmssh_o" | command -p sed "s/.../\\\\0&/g")"
done; echo /)
cmssh_x=${cmssh_x%/}
}
export "$cmssh_v=$cmssh_x"
done 2>/dev/null
shift 2; exec "$@"' sh "$cmssh_d" "$cmssh_m" "$@"
)sh";

// What a user gets by typing the command in a new tmux window: the login, interactive shell's environment, then the
// program itself in the shell's place.
// csh reads no arguments safely, so that it only lends its environment: with a prompt, the sign of a person, or without
// where its files do not end well so. So does any shell where an rc file may put another in its own's place, which is
// not told what to run: whichever it is in the end reads a line, and as itself asks its interactive self. It has no
// terminal whose jobs it could control. What stands behind the last mark, as what a logout prints, is not read, and no
// program that an rc file left behind is waited for. The marks are in no text that a terminal could echo.
constexpr std::string_view kRunInLoginShell = R"sh(cmssh_s=${SHELL##*/}
cmssh_t=$(command -v setsid)
cmssh_p='/bin/sh -c "printf @%s@ cmssh; echo; export -p; echo umask `umask`; printf @%s@ cmssh-end; echo"'
cmssh_l="/bin/sh -c 'x=\$(readlink /proc/\$PPID/exe); case \$x in \"\"|*/$cmssh_s) ;; *) exec \"\$x\" -i -c \"\$0\" ;; esac; eval \"\$0\"' '$cmssh_p'"
cmssh_may_exec() { [ -n "FLAGS" ] && [ -n "$cmssh_t" ] && grep -qs '^[^#]*exec[[:blank:]]\{1,\}[^[:blank:]<>&0-9]' "$@"; }
cmssh_lend() { echo "$cmssh_l" | $cmssh_t "$@" 2>/dev/null | sed '/^@cmssh-end@$/q'; }
cmssh_e=
case $cmssh_s in
sh|ash|bash|dash|ksh*|mksh|yash|zsh)
cmssh_may_exec ~/.profile ~/.bash_profile ~/.bash_login ~/.bashrc ~/.kshrc ~/.mkshrc ~/.zshenv ~/.zprofile ~/.zshrc ||
exec "$SHELL" -l FLAGS -c '\exec "$@"' "$SHELL" "$@"
cmssh_e=$(cmssh_lend "$SHELL" -l -i)
case $cmssh_e in *@cmssh@*) ;; *) exec "$SHELL" -l -c '\exec "$@"' "$SHELL" "$@" ;; esac ;;
fish)
cmssh_c=${XDG_CONFIG_HOME:-$HOME/.config}/fish
cmssh_may_exec "$cmssh_c/config.fish" "$cmssh_c"/conf.d/*.fish || exec "$SHELL" -l FLAGS -c 'exec $argv' -- "$@"
cmssh_e=$(cmssh_lend "$SHELL" -l -i)
case $cmssh_e in *@cmssh@*) ;; *) exec "$SHELL" -l -c 'exec $argv' -- "$@" ;; esac ;;
csh|*-csh|tcsh)
[ -z "FLAGS" ] || cmssh_e=$(cmssh_lend "$SHELL" -f -c 'set prompt="% "
if ( -r /etc/csh.cshrc ) source /etc/csh.cshrc
if ( -r /etc/csh.login ) source /etc/csh.login
if ( $?tcsh && -r ~/.tcshrc ) then
source ~/.tcshrc
else if ( -r ~/.cshrc ) then
source ~/.cshrc
endif
if ( -r ~/.login ) source ~/.login
'"$cmssh_p")
case $cmssh_e in *@cmssh@*) ;; *) cmssh_e=$(cmssh_lend "$SHELL" -c 'if ( -r /etc/csh.login ) source /etc/csh.login
if ( -r ~/.login ) source ~/.login
'"$cmssh_p") ;; esac ;;
esac
printf %s "${cmssh_e%%@cmssh@*}"
case $cmssh_e in *@cmssh@*) cmssh_e=${cmssh_e#*@cmssh@}; eval "${cmssh_e%@cmssh-end@*}" ;; esac
exec "$@")sh";

// The spare session's program. Its terminal takes a line of any length without showing it once the cursor is hidden,
// which is the sign that tmux is asked for. Then the terminal is as it was, the line has set environment and words, and
// the script that is $1 is run as start_commands() has tmux run it.
constexpr std::string_view kWaitForCommand = R"sh(CMSSH_SPARE_TTY=$(stty -g) && stty -icanon -echo || exit 1
printf '\033[?25l'
IFS= read -r CMSSH_SPARE_LINE || exit 1
case $CMSSH_SPARE_LINE in *MARK*) ;; *) exit 1 ;; esac
stty "$CMSSH_SPARE_TTY"
printf '\033[?25h'
CMSSH_SPARE_RUN=$1
eval "$(printf %b "${CMSSH_SPARE_LINE#*MARK}")" 2>/dev/null
exec /bin/sh -c "$CMSSH_SPARE_RUN" sh '' "$@")sh";

}  // namespace

std::string run_script(SessionShell shell) {
    std::string script(kPrepare);
    if (shell == SessionShell::None) {
        return script + "exec \"$@\"";
    }
    script += kSetAgainBehindRcFiles;
    return script + replaced(kRunInLoginShell, "FLAGS", shell == SessionShell::LoginInteractive ? "-i" : "");
}

std::string spare_script() {
    return replaced(kWaitForCommand, "MARK", kHandOverMark);
}

std::string open_command(const SessionsConfig& config, const Ownership& ownership, std::string_view token) {
    // 1,013 sessions lock everyone out of a tmux server with the usual soft limit of 1024 descriptors.
    std::string script = find_tmux(config) + "cmssh_k=" + sh_quote(token) + "\n";
    script += R"sh(ulimit -Sn "$(ulimit -Hn)" 2>/dev/null
if command -v "$cmssh_t" >/dev/null 2>&1; then :; else echo "$cmssh_k missing"; exit 0; fi
echo "$cmssh_k $("$cmssh_t" -V)"
echo "$cmssh_k boot $(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
echo "$cmssh_k home $HOME"
)sh";
    const std::string tmux = "\"$cmssh_t\" -u -L " + sh_quote(config.tmux_socket);
    // Of a path that died without a word, our client may be attached for hours. Where its output is stalled it cannot
    // be detached, and a tmux that is told to end meanwhile never does.
    // tmux before 3.7 crashes when it has an event to announce, as the end of a client is, while a client of its
    // control mode has said what it is and is not started yet (control-notify.c). So ours comes when the last one's end
    // is known, and of several that come at once, by other names of this server or from other machines of its user, one
    // after the other: the lock is on the home directory, which needs no file, and is let go of once ours is
    // attached and has had the time for what it came for, a first session, or has ended: of a process that nobody has
    // waited for yet, as in a container without an init, the command line is empty.
    script += R"sh(cmssh_l=
if [ -p /proc/self/fd/1 ] && [ -r "$HOME" ] && command -v flock >/dev/null 2>&1; then
command exec 9<"$HOME" && flock -w 5 9 && cmssh_l=1
fi 2>/dev/null
)sh";
    script += "cmssh_n=100; while cmssh_c=$(" + tmux + " list-clients -t " + sh_quote(target(keeper_name(ownership))) +
              " -F '#{?client_control_mode,#{client_pid},}' 2>/dev/null) && [ -n \"$cmssh_c\" ] && [ $cmssh_n -gt 0 ]; "
              "do cmssh_n=$((cmssh_n-1)); kill -9 $cmssh_c 2>/dev/null; done\n";
    // Which tmux it is comes with the answer to the start-up command, without a round trip of its own.
    const std::string control = tmux + " -C new-session -A -D -s " + keeper_name(ownership) +
                                " -f no-output,ignore-size 'exec cat' \\; display-message -p '" +
                                std::string(kLifeFormat) + "'";
    // tmux 3.3 keeps a control client for ever whose last output it could not write, and with it the channel and the
    // master that nobody ends any more. So the pipe that sshd reads has a second reader, which is tmux itself: opened
    // by its name, as Linux can. Elsewhere a second cat takes that output when the first has nowhere to put it, at the
    // price of one more process on the way of every reply.
    script += "if [ -n \"$cmssh_l\" ]; then (cmssh_n=100; until " + tmux + " list-clients -t " +
              sh_quote(target(keeper_name(ownership))) +
              " -F 'x#{client_pid}x' 9<&- | grep -q \"x$$\"x || [ $cmssh_n -eq 0 ] || ! grep -q . /proc/$$/cmdline "
              "2>/dev/null; "
              "do cmssh_n=$((cmssh_n-1)); sleep 0.02; done; sleep 0.3) </dev/null >/dev/null 2>&1 & fi\n";
    script += "if [ -p /proc/self/fd/1 ]; then exec 3</proc/self/fd/1; exec " + control + " 9<&-; fi\n";
    script += control + " | { cat; exec cat >/dev/null; }";
    return for_any_shell(script);
}

std::string attach_command(const SessionsConfig& config, std::string_view session_id, Viewer viewer) {
    const std::string name = sh_quote('=' + std::string(session_id));
    const std::string tmux = "\"$cmssh_t\" -u -L " + sh_quote(config.tmux_socket);
    std::string script = find_tmux(config);
    script +=
        R"sh(if command -v "$cmssh_t" >/dev/null 2>&1; then :; else echo 'tmux is not found on the server' >&2; exit 127; fi
unset TMUX
cmssh_attach() {
)sh";
    script += tmux + " attach-session" + (viewer == Viewer::Watches ? " -r" : "") + " -t " + name + "\ncmssh_s=$?\n";
    // After a detach, and after the end of the session, tmux exits with 0 alike.
    // Without a terminal: on one that the server does not know, tmux refuses every command.
    script += tmux + " has-session -t " + name + " </dev/null 2>/dev/null || exit " +
              std::to_string(api::kAttachedToNothing) + "\n}\ncmssh_attach\n";
    // A terminal that the server's terminfo does not have yet: all of these understand xterm's sequences.
    script += R"sh([ "$cmssh_s" -eq 0 ] || tput -T "$TERM" longname >/dev/null 2>&1 || {
TERM=xterm-256color
export TERM
cmssh_attach
}
exit "$cmssh_s")sh";
    return for_any_shell(script);
}

std::string try_directory_command(std::string_view directory) {
    return for_any_shell("cd -- " + sh_quote(directory));
}

std::string signal_command(std::int64_t pane_pid, int signal) {
    // tpgid is the terminal's foreground process group (procps; /proc/PID/stat field 8).
    std::string script = "p=" + std::to_string(pane_pid) + "\n";
    script += R"sh(g=$(ps -o tpgid= -p "$p" | tr -d ' ') || exit 3
case $g in ''|-1|0|1) exit 3 ;; esac
)sh";
    // dash takes no -- behind a signal's number.
    script += "kill -" + std::to_string(signal) + " \"-$g\"";
    return for_any_shell(script);
}

std::string sweep_command(const std::vector<Leftover>& sessions, std::chrono::seconds delay) {
    // pane_pid led the terminal's session: its processes keep that session id after the terminal is gone, and while one
    // of them lives the number is nobody else's. A process that has ours in its environment, or is as old as the kill
    // where that was just now: the environment may be gone, and the number could be a newcomer's by now. One ps for all
    // of them. A process of the last moment is 4123168608 seconds old to ps (procps 4.0.2).
    std::string script = "ps -eo pid=,sess=,etimes= | while read q s a; do case $s in ";
    for (const auto& session : sessions) {
        script += std::to_string(session.pane_pid) + ")m=" + sh_quote(session.session_id) +
                  (session.since == Leftover::Since::LongAgo ? " a=0" : "") + ";;";
    }
    script +=
        "*)continue;;esac\n[ \"$a\" -ge " + std::to_string(kSweepDelay.count()) + R"sh( ] && [ "$a" -lt 1000000000 ] ||
tr '\0' '\n' < /proc/$q/environ 2>/dev/null | grep -qxF "CMSSH_SESSION=$m" || continue
kill -9 $q
done
exit 0)sh";
    if (delay.count() > 0) {
        script = "(sleep " + std::to_string(delay.count()) + "\n" + script + ") </dev/null >/dev/null 2>&1 &";
    }
    return for_any_shell(script);
}

}  // namespace cmssh::tmux
