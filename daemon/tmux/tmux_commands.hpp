// Every command line that we send to a server's tmux, and the readers of what it answers. Pure. tmux 3.2 to 3.7c.
// Sessions of ours carry @cmssh_owner (who) and @cmssh_server (by which key): several keys, and several daemons, can
// reach one tmux server, and only what carries both of ours is touched.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/config.hpp"
#include "protocol/methods.hpp"
#include "protocol/result.hpp"
#include "protocol/tmux_control.hpp"

namespace cmssh::tmux {

// The end of the year 9999 in seconds: what a server calls a time beyond it is none, and would overflow.
inline constexpr std::int64_t kLatestTime = 253'402'300'799;

// Whose sessions: a hash of machine, uid and state dir, and the server's key.
struct Ownership {
    std::string owner;       // hex
    std::string server_key;  // as text
};

// Of the daemon's own session, which its client is attached to.
[[nodiscard]] std::string keeper_name(const Ownership& ownership);
// A session as -t takes it: this one and none whose name begins so.
[[nodiscard]] std::string target(std::string_view session_id);

// Which life of the server's tmux: a session belongs to one.
struct ServerLife {
    std::string boot_id;  // of the server's kernel; empty where it has none to tell (not Linux)
    std::string tmux;     // of the tmux server: "pid start_time"

    friend bool operator==(const ServerLife&, const ServerLife&) = default;
};

// Sent once after the channel is open: what the user's ~/.tmux.conf must not change, and the subscription to dead
// panes. chain: a number that no earlier set-up had.
[[nodiscard]] std::vector<std::string> setup_commands(const SessionsConfig& config, const Ownership& ownership,
                                                      std::uint64_t chain);

// What the server's tmux keeps about a session, enough to know it again without us.
struct SessionNote {
    std::string name;
    std::string ctx;
    std::vector<std::string> command;
    std::optional<std::string> cwd;
    std::int64_t created_ms = 0;
    std::string request_id;
    bool killed = false;  // by us: how its program ends is its kill's doing
};
// Of a session that is there; the answer is empty.
[[nodiscard]] std::string set_note_command(std::string_view session_id, const SessionNote& note);

// Older ones close a pane as soon as its program has ended, with all that they have not read of its output yet, unless
// the pane is piped (tmux 3.2 to 3.6b: server.c server_child_exited, window.c window_pane_destroy_ready).
inline constexpr Version kReadsToTheEnd{3, 7};

struct NewSession {
    std::string id;
    SessionNote note;
    std::optional<api::Size> size;
    std::map<std::string, std::string> env;
    std::string directory;          // absolute on the server; empty: where tmux puts it
    Version tmux = kReadsToTheEnd;  // the server's
};
// The first line makes the session and answers with a row for parse_started; the others mark it as ours.
[[nodiscard]] std::vector<std::string> start_commands(const SessionsConfig& config, const Ownership& ownership,
                                                      const NewSession& session);

// Opens a row of ours in an answer; never the text of anybody else.
inline constexpr std::string_view kRowMark = "cmssh ";

// How many commands the first line has behind the one that answers.
[[nodiscard]] int blocks_behind_start(const NewSession& session);

struct Started {
    std::string pane_id;    // "%3"
    std::string window_id;  // "@3"
    std::int64_t pane_pid = 0;
};
[[nodiscard]] Result<Started> parse_started(const std::vector<std::string>& lines);

// The spare session of an owner and key: one that is made ahead and whose program waits for its command on its
// terminal. tmux lets go of it when the channel that made it ends, when its program ends, and when somebody attaches to
// it, as `tmux attach` does to the newest session: who does gets the first of `newest` that is there and not attached.
// The first command, which may fail, removes an older one.
[[nodiscard]] std::vector<std::string> make_spare_commands(const SessionsConfig& config, const Ownership& ownership,
                                                           const std::deque<std::string>& newest, Version version);
// The pid of its pane, from the replies to these.
[[nodiscard]] std::optional<std::int64_t> parse_spare(const std::vector<Result<std::vector<std::string>>>& replies);
[[nodiscard]] std::string remove_spare_command(const Ownership& ownership);
// One line that makes the spare session the one that start_commands() would make: it answers with a row for
// parse_started, or with another one where there is no spare session that can be taken over. nullopt: this session
// can't be made so, or not as fast.
[[nodiscard]] std::optional<std::string> take_over_command(const Ownership& ownership, std::int64_t spare_pid,
                                                           const NewSession& session);

[[nodiscard]] std::string pane_directory_command(std::string_view session_id);

// One row for each pane of a session of ours; with dead_only for the panes whose program has ended.
[[nodiscard]] std::string list_command(const Ownership& ownership, bool dead_only);
// One row for the panes of one session, error where it is gone.
[[nodiscard]] std::string show_command(std::string_view session_id);
struct PaneRow {
    std::string session_id;  // its name
    Started place;
    bool dead = false;
    std::optional<int> exit_status;
    int signal = 0;
    std::int64_t dead_time = 0;  // the server's clock, seconds; 0: not known
    SessionNote note;
    // Dead, and tmux has not collected its status yet (it has neither status nor signal).
    [[nodiscard]] bool status_pending() const { return dead && !exit_status && signal == 0; }
};
// Rows that are not ours or not understood are passed over: a pane may be anybody's.
[[nodiscard]] std::vector<PaneRow> parse_panes(const std::vector<std::string>& lines);

// What display-message prints of the tmux server's life, a format without quotes, and the ServerLife's `tmux` from it.
inline constexpr std::string_view kLifeFormat = "cmssh-life #{pid} #{start_time}";
[[nodiscard]] std::optional<std::string> parse_life(const std::vector<std::string>& lines);

// A pane of a session, and of no other: a tmux that was begun anew gives the same ids again. Where the place is not
// known, the session's own.
[[nodiscard]] std::string pane_target(std::string_view session_id, const Started& place);
// A pane's scrollback and screen with escape sequences, lines that were wrapped put together again.
[[nodiscard]] std::string capture_command(std::string_view pane);
// The same from a row on, counted from the top of the screen, negative in the scrollback.
enum class Escapes { Kept, LeftOut };
[[nodiscard]] std::string capture_command(std::string_view pane, std::optional<std::int64_t> first, Escapes escapes);
// Each row by itself, without escape sequences; with the blanks at its end that the lines have.
[[nodiscard]] std::string rows_command(std::string_view pane, std::int64_t first, Version version);
// Whether the program that writes there has ended, where the next character goes, and how many rows there are.
[[nodiscard]] std::string pane_state_command(std::string_view pane);
struct PaneState {
    bool dead = false;
    bool alternate = false;  // the screen is one that a program gives back
    int cursor_column = 0;
    int cursor_row = 0;  // from the top of the screen
    int width = 0;
    int height = 0;
    std::int64_t history = 0;        // rows above the screen
    std::int64_t history_limit = 0;  // when there are as many, tmux drops the oldest tenth

    friend bool operator==(const PaneState&, const PaneState&) = default;
};
[[nodiscard]] std::optional<PaneState> parse_pane_state(const std::vector<std::string>& lines);

// Makes tmux start a child that ends at once. tmux with libutempter (Debian's 3.3a) ignores SIGCHLD while it logs a
// pane's end: a program that ends just then keeps no status until another child's SIGCHLD has tmux collect both.
[[nodiscard]] std::string collect_status_command();

// What is typed into a pane: keys, then text, then Enter.
struct Input {
    std::string session_id;
    std::string pane;  // pane_target()
    std::vector<std::string> keys;
    std::string text;
    bool enter = false;
    std::string buffer;             // by which the text gets there: send_buffer_prefix() and something unique
    Version tmux = kReadsToTheEnd;  // the server's
};
// What the names of our paste buffers begin with.
[[nodiscard]] std::string send_buffer_prefix(const Ownership& ownership);
// Of two daemons of one owner, or of an earlier one that was cut short: the names, one a line.
[[nodiscard]] std::string list_buffers_command(const Ownership& ownership);
[[nodiscard]] std::string delete_buffer_command(std::string_view buffer);
// Brings the text into the buffer, in lines that tmux takes at once.
[[nodiscard]] std::vector<std::string> buffer_commands(const Input& input);
// One line, for request_group(), that types all of it or nothing, and gives a row for parse_typed(). A pane whose
// program has ended is not touched: tmux 3.2 and 3.3 die of a paste into one.
[[nodiscard]] std::string type_command(const Input& input);
enum class Typed {
    All,
    Ended,   // its program has
    Closed,  // a person has turned its input off
    NoPane,  // not in that session, at least
};
[[nodiscard]] Typed parse_typed(const std::vector<std::string>& lines);

[[nodiscard]] std::string kill_session_command(std::string_view session_id);
[[nodiscard]] std::string kill_pane_command(std::string_view pane);

// Has the server run a script for sh, without a channel of its own, and answers at once. The script must print nothing
// and exit 0: tmux shows anything else to whoever is attached.
[[nodiscard]] std::string run_script_command(std::string_view script);

// try_directory_command() without a channel of its own: entered_command() then answers yes or no, or nothing yet.
[[nodiscard]] std::string try_directory_of_command(std::string_view session_id, std::string_view directory);
[[nodiscard]] std::string entered_command(std::string_view session_id);
}  // namespace cmssh::tmux
