// Command lines that a server's sshd gives to the login shell of its user, whichever that is: sh, bash, zsh, fish, csh.
// Pure.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh {

// In single quotes for sh: the one quoting that holds everything.
[[nodiscard]] std::string sh_quote(std::string_view text);
// For printf's %b, which turns it back: printable ASCII on one line, without what is in `unwanted`.
[[nodiscard]] std::string octal_escaped(std::string_view text, std::string_view unwanted);
// A script for sh.
[[nodiscard]] std::string for_any_shell(std::string_view script);

// The server's kernel refuses a longer one: it is one argument of the login shell (MAX_ARG_STRLEN, with the NUL).
inline constexpr std::size_t kMaxCommandLine = 128 * 1024 - 1;

// What the command's standard input is. SetupFirst: environment and directory come first on it, where nobody else sees
// them. Terminal: the command ends with it.
enum class ExecInput { Plain, SetupFirst, Terminal };
// Runs a program with the words as they are: no shell reads them, and no login shell is started for them. It ends with
// the program's own code, or 128 + n where signal n ended it; 127 where there is no such program, 126 where it can't be
// executed. The program has the streams to itself. While it runs signal_exec_script() finds it by the mark.
[[nodiscard]] std::string exec_command(std::string_view mark, const std::vector<std::string>& words,
                                       ExecInput input = ExecInput::Plain);
// The line that ExecInput::SetupFirst reads, with its end. cwd: relative to the home directory, ~ and ~/… too.
[[nodiscard]] std::string exec_setup_line(std::string_view mark, const std::optional<std::string>& cwd,
                                          const std::map<std::string, std::string>& env);
// The last line on standard error where the directory can't be entered; the shell's reason is the line before. The
// program was then not run, and the exit code is 1.
[[nodiscard]] std::string bad_cwd_line(std::string_view mark);

// Script for sh: sends a signal to the process group of what exec_command() runs. Waits for it to appear, in case it is
// still being started; prints nothing and exits 0 all the same.
[[nodiscard]] std::string signal_exec_script(std::string_view mark, int signal);

}  // namespace cmssh
