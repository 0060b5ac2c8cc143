// The daemon's log: one line per event on stderr. Whatever a server or a caller chose is made printable here, so that
// no caller can forget it. Secrets never come this far.
#pragma once

#include <string_view>

namespace cmssh {

enum class LogLevel { Trace, Debug, Info, Warn, Error };

// subject: what the line is about, a server's key or a session's id, or a part of the daemon.
void log(LogLevel level, std::string_view subject, std::string_view text);

inline void log_debug(std::string_view subject, std::string_view text) {
    log(LogLevel::Debug, subject, text);
}
inline void log_info(std::string_view subject, std::string_view text) {
    log(LogLevel::Info, subject, text);
}
inline void log_warn(std::string_view subject, std::string_view text) {
    log(LogLevel::Warn, subject, text);
}
inline void log_error(std::string_view subject, std::string_view text) {
    log(LogLevel::Error, subject, text);
}

// "trace", "debug", "info", "warn", "error"; false for anything else.
[[nodiscard]] bool set_log_level(std::string_view name);

// journal: lines go to systemd's journal with fields; to stderr where that does not take them, or without libsystemd.
void start_logging(bool journal);

}  // namespace cmssh
