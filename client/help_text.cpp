#include "client/help_text.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <sstream>

namespace cmssh::client {
namespace {

class FittedHelp : public CLI::Formatter {
public:
    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
        return fit_lines(CLI::Formatter::make_help(app, std::move(name), mode), kHelpWidth);
    }
};

// Where the text of "  --name N    Name of the session" begins, or the line.
std::size_t text_column(const std::string& line) {
    const std::size_t begin = std::min(line.find_first_not_of(' '), line.size());
    const std::size_t gap = begin == 0 ? std::string::npos : line.find("  ", begin);
    return gap == std::string::npos ? begin : std::min(line.find_first_not_of(' ', gap), line.size());
}

void append_line(std::string& fitted, std::string line, std::size_t width) {
    const std::size_t indent = text_column(line);
    while (line.size() > width) {
        // A word that is wider than the column stands alone.
        std::size_t blank = line.rfind(' ', width);
        if (blank == std::string::npos || blank <= indent) {
            blank = line.find(' ', std::max(indent, width));
        }
        if (blank == std::string::npos) {
            break;
        }
        fitted += line.substr(0, blank) + '\n';
        line = std::string(indent, ' ') + line.substr(blank + 1);
    }
    fitted += line + '\n';
}

}  // namespace

std::string fit_lines(const std::string& text, std::size_t width) {
    std::string fitted;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        append_line(fitted, std::move(line), width);
    }
    return fitted;
}

void use_help_layout(CLI::App& app) {
    app.formatter(std::make_shared<FittedHelp>());
}

}  // namespace cmssh::client
