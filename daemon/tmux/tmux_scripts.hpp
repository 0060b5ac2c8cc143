// The sh scripts that run on a server: command lines for channels, which any login shell takes, and what sessions run
// in their panes. Pure. Servers with Linux are known; what others lack is left out there.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/config.hpp"
#include "daemon/tmux/tmux_commands.hpp"

namespace cmssh::tmux {

// The command line that opens the channel, for the login shell of the server's user, whichever that is: one line,
// nothing in it that sh, csh or fish would expand outside its quotes. It prints `token tmux VERSION`, `token boot ID`
// and `token home DIR` and then becomes `tmux -C`, or prints `token missing` where there is no tmux, neither in PATH
// nor in a login shell's.
[[nodiscard]] std::string open_command(const SessionsConfig& config, const Ownership& ownership,
                                       std::string_view token);

// A command line for a channel with a terminal, for any login shell as well: attaches the terminal to a session. Exits
// 0 where the person detached, api::kAttachedToNothing where the session is not there (any more), 127 where there is no
// tmux, and otherwise as tmux did.
enum class Viewer { TakesPart, Watches };  // who watches types nothing and does not resize the session
[[nodiscard]] std::string attach_command(const SessionsConfig& config, std::string_view session_id, Viewer viewer);

// A command line for a channel of its own: exits 0 where the server's user can enter the directory.
[[nodiscard]] std::string try_directory_command(std::string_view directory);
// Sends a signal to the foreground process group of a pane's terminal. Exits 3 where there is none.
[[nodiscard]] std::string signal_command(std::int64_t pane_pid, int signal);
// Between a session's end by our kill and the sweep: what ignores SIGHUP has this long to end by itself.
inline constexpr std::chrono::seconds kSweepDelay{5};
// Kills what is left of sessions whose terminal was closed `delay` before: waits that long on the server, in the
// background.
struct Leftover {
    // LongAgo: its pane's pid may have gone round since, also with a reboot.
    enum class Since { JustNow, LongAgo };
    std::string session_id;
    std::int64_t pane_pid = 0;
    Since since = Since::JustNow;
};
// At most kSweptAtOnce of them: csh takes words of 8 KiB.
inline constexpr std::size_t kSweptAtOnce = 150;
[[nodiscard]] std::string sweep_command(const std::vector<Leftover>& sessions,
                                        std::chrono::seconds delay = std::chrono::seconds(0));

// What a session's pane executes by `sh -c`, with the arguments: the directory or empty; the names of the variables
// that the caller gave and sh has, % before one with bytes that are no printable ASCII; those that a shell sets itself,
// as words for env in sh's quoting; and the command.
[[nodiscard]] std::string run_script(SessionShell shell);
// What a spare session's pane executes so, with run_script() as its argument: it waits for a line that holds
// kHandOverMark and behind it, escaped for printf %b, a script that sets the environment and the further arguments.
[[nodiscard]] std::string spare_script();
// What somebody typed there before it is no part of the hand-over.
inline constexpr std::string_view kHandOverMark = "cmssh-hand-over:";

}  // namespace cmssh::tmux
