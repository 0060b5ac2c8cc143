// The daemon's log while it is there, for tests of what is said.
#pragma once

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace cmssh::fakes {

class CapturedLog {
public:
    CapturedLog() : before_(spdlog::default_logger()) {
        auto logger =
            std::make_shared<spdlog::logger>("captured", std::make_shared<spdlog::sinks::ostream_sink_st>(text_));
        logger->set_pattern("%l %v");
        spdlog::set_default_logger(logger);
    }
    CapturedLog(const CapturedLog&) = delete;
    CapturedLog& operator=(const CapturedLog&) = delete;
    ~CapturedLog() { spdlog::set_default_logger(before_); }

    // "warning SUBJECT: TEXT", since the last call.
    [[nodiscard]] std::vector<std::string> take() {
        std::vector<std::string> lines;
        std::istringstream text(text_.str());
        for (std::string line; std::getline(text, line);) {
            lines.push_back(line);
        }
        text_.str("");
        return lines;
    }

private:
    std::ostringstream text_;
    std::shared_ptr<spdlog::logger> before_;
};

}  // namespace cmssh::fakes
