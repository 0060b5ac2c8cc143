// Names of sessions, and text that someone else chose made fit for a terminal or a log. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cmssh {

inline constexpr std::string_view kSessionIdPrefix = "sess-";

// "sess-" + 8 characters of base32 (RFC 4648, lower case) from 40 random bits.
[[nodiscard]] std::string make_session_id(std::uint64_t random_bits);
// "lease-" + the same from 60 random bits, 12 characters: whoever knows it has it.
[[nodiscard]] std::string make_lease_id(std::uint64_t random_bits);
// "fwd-" + the same as a session's.
[[nodiscard]] std::string make_forward_id(std::uint64_t random_bits);
// [A-Za-z0-9][A-Za-z0-9_-]{0,63} and not "sess-…".
[[nodiscard]] bool valid_session_name(std::string_view name);
// [A-Za-z_][A-Za-z0-9_]*
[[nodiscard]] bool valid_env_name(std::string_view name);

// One line that no terminal acts on: C0, DEL, C1, bidi controls, line separators and invalid UTF-8 become \n, \t, \xNN
// or \u{NNNN}.
[[nodiscard]] std::string printable(std::string_view text);
// The same, but line feeds stay: for ssh's multi-line messages.
[[nodiscard]] std::string printable_lines(std::string_view text);

// What a program said, for a message of one line: the first line that is not blank, without blanks around it.
[[nodiscard]] std::string_view first_line(std::string_view text);

// A signal's name without SIG ("TERM") or 0 / empty where there is none. Accepts "TERM", "SIGTERM", "term", "15".
[[nodiscard]] int signal_number(std::string_view name);
[[nodiscard]] std::string signal_name(int number);

// RFC 3339 UTC with milliseconds: "2026-11-23T08:16:34.123Z".
[[nodiscard]] std::string format_time(std::int64_t milliseconds_since_epoch);

// "500ms", "15s", "10m", "1h", "2d", "1w", several with the larger unit first ("1h30m"), or a plain number of seconds.
// False, and nothing written, for anything else or an overflow.
[[nodiscard]] bool parse_duration(std::string_view text, std::int64_t& milliseconds);
// "8MiB", "64KiB", "1GiB", "512B", a plain number of bytes.
[[nodiscard]] bool parse_size(std::string_view text, std::uint64_t& bytes);

}  // namespace cmssh
