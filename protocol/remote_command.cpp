#include "protocol/remote_command.hpp"

#include <algorithm>

namespace cmssh {
namespace {

// csh reads words of 8 KiB at most; an escaped byte takes five.
constexpr std::size_t kPiece = 1600;

// The mark as ps shows it.
constexpr std::string_view kMarkPrefix = "cmssh-exec-";

// The shell stays to report how the program ended, and so takes the signals that are meant for the program, which has
// the default actions again. Where a terminal is closed, the kernel sends SIGHUP to the shell alone, and to the rest
// when that has died of it. The shell says "Terminated" and the like on a standard error that is nobody's: descriptor 9
// keeps the real one. $1 is the mark. No line end, quote or ! in it: see for_any_shell().
constexpr std::string_view kSkipMark = "shift; ";
constexpr std::string_view kUnpack = R"sh(eval "set -- $(printf %b "$@")"; )sh";
constexpr std::string_view kTrap = "trap : HUP INT QUIT TERM USR1 USR2; ";
constexpr std::string_view kTrapOnTerminal = "trap : INT QUIT TERM USR1 USR2; ";
constexpr std::string_view kReadSetup = "IFS= read -r cmssh_s; ";
constexpr std::string_view kRun = R"sh(exec 9>&2 2>/dev/null; (exec "$@" 2>&9 9>&-); exit $?)sh";
constexpr std::string_view kSetUpAndRun =
    R"sh(exec 9>&2 2>/dev/null; (eval "$(printf %b "$cmssh_s")"; )sh"
    R"sh([ "$cmssh_r" ] || { echo "the setup of the command did not arrive" >&9; exit 126; }; )sh"
    R"sh(exec "$@" 2>&9 9>&-); exit $?)sh";

std::string run_script(ExecInput input, bool packed) {
    std::string script(kSkipMark);
    if (packed) {
        script += kUnpack;
    }
    switch (input) {
        case ExecInput::Plain:
            return script.append(kTrap).append(kRun);
        case ExecInput::SetupFirst:
            return script.append(kTrap).append(kReadSetup).append(kSetUpAndRun);
        case ExecInput::Terminal:
            return script.append(kTrapOnTerminal).append(kRun);
    }
    return script;
}

// Every login shell takes it in single quotes as it is.
bool is_plain(std::string_view word) {
    return word.size() <= kPiece && octal_escaped(word, "'!") == word;
}

// Nothing of this line itself looks like the mark. Where the shell leads no group, as below a command that sshd was
// told to force, or without a session of its own, what it runs is signalled alone. A group of 0 or 1 is none of ours.
// A shell that has set its traps and runs nothing yet would take the signal for nothing.
constexpr std::string_view kSignalByMark = R"sh(cmssh_n=0
while [ "$cmssh_n" -lt 30 ]; do
cmssh_t=$(ps -A -ww -o pid= -o ppid= -o pgid= -o args= 2>/dev/null)
cmssh_l=
cmssh_w=
while read -r cmssh_p cmssh_q cmssh_g cmssh_a; do
case $cmssh_a in *" cmssh-exec-$cmssh_m "*)
cmssh_w="$cmssh_w $cmssh_p "
[ "$cmssh_p" != "$cmssh_g" ] || [ "$cmssh_g" -le 1 ] || cmssh_l=$cmssh_g ;;
esac
done <<cmssh_end
$cmssh_t
cmssh_end
cmssh_f=
while read -r cmssh_p cmssh_q cmssh_g cmssh_a; do
case $cmssh_w in *" $cmssh_q "*) [ "$cmssh_p" -le 1 ] || cmssh_f="$cmssh_f $cmssh_p" ;; esac
done <<cmssh_end
$cmssh_t
cmssh_end
if [ -n "$cmssh_f" ]; then
[ -z "$cmssh_l" ] || cmssh_f=-$cmssh_l
kill "-$cmssh_k" $cmssh_f 2>/dev/null
exit 0
fi
cmssh_n=$((cmssh_n + 1))
sleep 0.1 2>/dev/null || { sleep 1; cmssh_n=$((cmssh_n + 9)); }
done
exit 0)sh";

}  // namespace

std::string sh_quote(std::string_view text) {
    std::string quoted = "'";
    for (const char c : text) {
        if (c == '\'') {
            quoted += "'\\''";
        } else {
            quoted += c;
        }
    }
    return quoted + "'";
}

std::string octal_escaped(std::string_view text, std::string_view unwanted) {
    std::string escaped;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= ' ' && byte < 0x7F && c != '\\' && unwanted.find(c) == std::string_view::npos) {
            escaped += c;
            continue;
        }
        escaped += "\\0";
        escaped += static_cast<char>('0' + (byte >> 6U));
        escaped += static_cast<char>('0' + ((byte >> 3U) & 7U));
        escaped += static_cast<char>('0' + (byte & 7U));
    }
    return escaped;
}

// What csh or fish expands inside single quotes, or ends them with, travels as octal escapes, and sh turns them back.
std::string for_any_shell(std::string_view script) {
    return "exec /bin/sh -c 'eval \"$(printf %b \"$1\")\"' sh '" + octal_escaped(script, "'!") + "'";
}

std::string exec_command(std::string_view mark, const std::vector<std::string>& words, ExecInput input) {
    // Without unpacking it is one process less on the server.
    const bool packed = !std::all_of(words.begin(), words.end(), is_plain);
    std::string line = "exec /bin/sh -c '" + run_script(input, packed) + "' sh ";
    line += kMarkPrefix;
    line += mark;
    std::string text;
    for (const auto& word : words) {
        text += ' ' + sh_quote(word);
    }
    if (!packed) {
        return line + text;
    }
    for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(std::min(kPiece, rest.size()))) {
        line += " '" + octal_escaped(rest.substr(0, kPiece), "'!") + "'";
    }
    return line;
}

std::string exec_setup_line(std::string_view mark, const std::optional<std::string>& cwd,
                            const std::map<std::string, std::string>& env) {
    std::string script;
    if (cwd) {
        script += "cmssh_d=" + sh_quote(*cwd) + R"sh(
case $cmssh_d in "~") cmssh_d=$HOME ;; "~/"*) cmssh_d=$HOME/${cmssh_d#??} ;; esac
CDPATH= cd -- "$cmssh_d" >/dev/null 2>&9 || { echo )sh" +
                  sh_quote(bad_cwd_line(mark)) + " >&9; exit 1; }\n";
    }
    for (const auto& [name, value] : env) {
        script += "export " + name + '=' + sh_quote(value) + " 2>&9\n";
    }
    // Where printf is a program, it takes no argument over 128 KiB.
    return octal_escaped(script + "cmssh_r=1\n", "") + '\n';
}

std::string bad_cwd_line(std::string_view mark) {
    return std::string(kMarkPrefix) + std::string(mark) + " cwd";
}

std::string signal_exec_script(std::string_view mark, int signal) {
    return "cmssh_m=" + std::string(mark) + "\ncmssh_k=" + std::to_string(signal) + '\n' + std::string(kSignalByMark);
}

}  // namespace cmssh
