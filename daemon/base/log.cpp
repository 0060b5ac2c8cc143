#include "daemon/base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <syslog.h>

#include <string>

#include "daemon/base/journal.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

bool to_journal = false;

spdlog::level::level_enum spdlog_level(LogLevel level) {
    switch (level) {
        case LogLevel::Trace:
            return spdlog::level::trace;
        case LogLevel::Debug:
            return spdlog::level::debug;
        case LogLevel::Info:
            return spdlog::level::info;
        case LogLevel::Warn:
            return spdlog::level::warn;
        case LogLevel::Error:
            return spdlog::level::err;
    }
    return spdlog::level::info;
}

int journal_priority(LogLevel level) {
    switch (level) {
        case LogLevel::Trace:
        case LogLevel::Debug:
            return LOG_DEBUG;
        case LogLevel::Info:
            return LOG_INFO;
        case LogLevel::Warn:
            return LOG_WARNING;
        case LogLevel::Error:
            return LOG_ERR;
    }
    return LOG_INFO;
}

}  // namespace

void log(LogLevel level, std::string_view subject, std::string_view text) {
    const auto target = spdlog_level(level);
    if (!spdlog::should_log(target)) {
        return;
    }
    const std::string shown_subject = printable(subject);
    std::string line = shown_subject + ": " + printable(text);
    if (to_journal && send_to_journal(journal_priority(level), shown_subject, line)) {
        return;
    }
    spdlog::default_logger_raw()->log(target, spdlog::string_view_t(line.data(), line.size()));
}

bool set_log_level(std::string_view name) {
    if (name != "trace" && name != "debug" && name != "info" && name != "warn" && name != "error") {
        return false;
    }
    spdlog::set_level(spdlog::level::from_str(std::string(name)));
    return true;
}

void start_logging(bool journal) {
    to_journal = journal;
    spdlog::set_default_logger(spdlog::stderr_logger_st("cmsshd"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
}

}  // namespace cmssh
