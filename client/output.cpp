#include "client/output.hpp"

#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sstream>

#include "client/columns.hpp"
#include "client/option_names.hpp"
#include "client/typed_command.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

constexpr auto kMoment = std::chrono::milliseconds(700);
constexpr std::size_t kColumnGap = 2;
constexpr int kSecondsPerMinute = 60;
constexpr int kSecondsPerHour = 60 * kSecondsPerMinute;
constexpr int kSecondsPerDay = 24 * kSecondsPerHour;

std::string_view sequence_of(Style style) {
    switch (style) {
        case Style::Plain:
            return "";
        case Style::Good:
            return "\033[32m";
        case Style::Doubtful:
            return "\033[33m";
        case Style::Bad:
            return "\033[31m";
        case Style::Faint:
            return "\033[2m";
    }
    return "";
}

// The widest give way first, until all fit. Nothing is cut where that would leave too little of them.
void fit(std::vector<std::size_t>& widths, std::size_t width) {
    constexpr std::size_t kLeast = 8;
    // It says which row it is.
    constexpr std::size_t kLeastOfFirst = 24;
    const auto least = [&widths](std::size_t column) {
        const std::size_t kept = column + 1 == widths.size() ? 1 : column == 0 ? kLeastOfFirst : kLeast;
        return std::min(widths[column], kept);
    };
    std::size_t all = 0;
    std::size_t at_least = 0;
    for (std::size_t column = 0; column < widths.size(); ++column) {
        const std::size_t gap = column == 0 ? 0 : kColumnGap;
        all += widths[column] + gap;
        at_least += least(column) + gap;
    }
    if (at_least > width) {
        return;
    }
    while (all > width) {
        std::size_t* widest = nullptr;
        for (std::size_t column = 0; column < widths.size(); ++column) {
            if (widths[column] > least(column) && (widest == nullptr || widths[column] >= *widest)) {
                widest = &widths[column];
            }
        }
        --*widest;
        --all;
    }
}

bool plain_word(const std::string& word) {
    constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:=@_^";
    // zsh takes what follows a = for a command to look up.
    return !word.empty() && word.front() != '=' && word.find_first_not_of(kPlain) == std::string::npos;
}

}  // namespace

std::size_t terminal_width() {
    winsize size{};
    if (::isatty(STDOUT_FILENO) == 0 || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) {
        return 0;
    }
    return size.ws_col;
}

std::string styled(const std::string& text, Style style) {
    return style == Style::Plain ? text : std::string(sequence_of(style)) + text + "\033[0m";
}

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {}

void Table::add(std::vector<Cell> row) {
    for (Cell& cell : row) {
        cell.text = printable(cell.text);
    }
    rows_.push_back(std::move(row));
}

std::string Table::render(bool color, std::size_t width) const {
    std::vector<std::size_t> widths;
    const auto measure = [&widths](std::size_t column, const std::string& text) {
        widths.resize(std::max(widths.size(), column + 1));
        widths[column] = std::max(widths[column], columns_of(text));
    };
    for (std::size_t column = 0; column < header_.size(); ++column) {
        measure(column, header_[column]);
    }
    for (const auto& row : rows_) {
        for (std::size_t column = 0; column < row.size(); ++column) {
            measure(column, row[column].text);
        }
    }
    fit(widths, width);
    std::string text;
    const auto append_row = [&](std::size_t count, const auto& cell_at) {
        for (std::size_t column = 0; column < count; ++column) {
            const Cell& cell = cell_at(column);
            const bool last = column + 1 == count;
            const std::string shown = cut(cell.text, widths[column]);
            text += color ? styled(shown, cell.style) : shown;
            if (!last) {
                text.append(widths[column] - columns_of(shown) + kColumnGap, ' ');
            }
        }
        text.erase(text.find_last_not_of(' ') + 1);
        text += '\n';
    };
    if (!header_.empty()) {
        std::vector<Cell> header;
        for (const std::string& name : header_) {
            header.push_back({.text = name, .style = Style::Faint});
        }
        append_row(header.size(), [&header](std::size_t column) -> const Cell& { return header[column]; });
    }
    for (const auto& row : rows_) {
        append_row(row.size(), [&row](std::size_t column) -> const Cell& { return row[column]; });
    }
    return text;
}

void Table::print(const GlobalOptions& global) const {
    std::fputs(render(use_color(global), terminal_width()).c_str(), stdout);
}

bool use_color(const GlobalOptions& global) {
    if (global.color != ColorWhen::Auto) {
        return global.color == ColorWhen::Always;
    }
    // https://no-color.org: set and not empty.
    const char* no_color = std::getenv("NO_COLOR");
    const char* terminal = std::getenv("TERM");
    const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
    return (no_color == nullptr || *no_color == '\0') && !dumb && ::isatty(STDOUT_FILENO) != 0;
}

void print_line(const std::string& text) {
    std::fputs((printable(text) + "\n").c_str(), stdout);
}

void print_json(const Json& json) {
    constexpr int kIndent = 2;
    std::fputs((json.dump(kIndent, ' ', true, Json::error_handler_t::replace) + "\n").c_str(), stdout);
}

namespace {

std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

// What ssh said, indented: each line once, and not what the message says already.
std::string ssh_lines(const std::string& said, const std::string& message) {
    std::string text;
    std::string before;
    std::istringstream lines(printable_lines(said));
    for (std::string line; std::getline(lines, line);) {
        line = trimmed(std::move(line));
        if (!line.empty() && line != before && message.find(line) == std::string::npos) {
            text += "    " + line + '\n';
        }
        before = line;
    }
    return text;
}

}  // namespace

int print_error(const GlobalOptions& global, const CallError& failure) {
    const Error& error = failure.error;
    std::fflush(stdout);
    if (global.json) {
        const Json json = error_to_json(error);
        std::fprintf(stderr, "%s\n", json.dump(-1, ' ', true, Json::error_handler_t::replace).c_str());
        return failure.exit_code;
    }
    // What `rpc` was given are params.
    const bool api_names = global.verb == "rpc";
    std::string message = api_names ? error.message : with_option_names(error.message);
    for (const auto& about : {error.server, error.session}) {
        if (about && message.find(*about) == std::string::npos) {
            message += " (" + *about + ')';
        }
    }
    std::fprintf(stderr, "cmctl: %s\n", printable_lines(message).c_str());
    if (error.ssh_stderr) {
        std::fputs(ssh_lines(*error.ssh_stderr, error.message).c_str(), stderr);
    }
    if (!error.hint.empty()) {
        const bool of_api = !api_names && !global.verb.empty() && error.hint.starts_with("cmctl rpc rpc.discover");
        const std::string hint = of_api ? "cmctl " + global.verb + " --help" : error.hint;
        std::fprintf(stderr, "hint: %s\n", printable(for_typing(global, hint)).c_str());
    }
    return failure.exit_code;
}

void print_note(const GlobalOptions& global, const std::string& lines) {
    std::fputs((for_typing(global, lines) + '\n').c_str(), stderr);
}

std::string command_text(const std::vector<std::string>& command) {
    std::string text;
    for (const std::string& word : command) {
        text += text.empty() ? "" : " ";
        if (plain_word(word)) {
            text += word;
            continue;
        }
        text += '\'';
        for (const char byte : word) {
            text += byte == '\'' ? std::string("'\\''") : std::string(1, byte);
        }
        text += '\'';
    }
    return text;
}

std::string age_text(const std::string& time) {
    std::tm parts{};
    if (::strptime(time.c_str(), "%Y-%m-%dT%H:%M:%S", &parts) == nullptr) {
        return "";
    }
    return duration_text(std::max(0.0, std::difftime(std::time(nullptr), ::timegm(&parts))));
}

std::string duration_text(double seconds) {
    const auto whole = static_cast<std::int64_t>(seconds);
    if (whole < 2 * kSecondsPerMinute) {
        return std::to_string(whole) + "s";
    }
    if (whole < 2 * kSecondsPerHour) {
        return std::to_string(whole / kSecondsPerMinute) + "m";
    }
    if (whole < 2 * kSecondsPerDay) {
        return std::to_string(whole / kSecondsPerHour) + "h";
    }
    return std::to_string(whole / kSecondsPerDay) + "d";
}

std::string bytes_text(std::uint64_t bytes) {
    constexpr double kKibi = 1024;
    constexpr std::array<const char*, 4> kUnits = {"B", "KiB", "MiB", "GiB"};
    auto number = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (number >= kKibi && unit + 1 < kUnits.size()) {
        number /= kKibi;
        ++unit;
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", number, kUnits[unit]);
    return text.data();
}

std::string count_text(std::uint64_t count, const std::string& noun) {
    return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string state_text(const api::Session& session) {
    std::string text(to_string(session.state));
    if (session.state == api::SessionState::Exited && session.exit_code) {
        text += " " + std::to_string(*session.exit_code);
    } else if (session.state == api::SessionState::Exited && session.signal) {
        text += " by " + *session.signal;
    } else if (session.state == api::SessionState::Lost && session.reason) {
        text += " (" + *session.reason + ")";
    }
    return text;
}

Style style_of(api::SessionState state) {
    switch (state) {
        case api::SessionState::Running:
            return Style::Good;
        case api::SessionState::Starting:
        case api::SessionState::Unreachable:
            return Style::Doubtful;
        case api::SessionState::Lost:
            return Style::Bad;
        case api::SessionState::Exited:
        case api::SessionState::Killed:
            return Style::Faint;
    }
    return Style::Plain;
}

Style style_of(api::ConnectionState state) {
    switch (state) {
        case api::ConnectionState::Up:
            return Style::Good;
        case api::ConnectionState::Connecting:
        case api::ConnectionState::Degraded:
        case api::ConnectionState::Backoff:
        case api::ConnectionState::Draining:
            return Style::Doubtful;
        case api::ConnectionState::NeedsAuth:
        case api::ConnectionState::Failed:
            return Style::Bad;
        case api::ConnectionState::Idle:
            return Style::Faint;
    }
    return Style::Plain;
}

int exit_code_of(const api::Session& session) {
    constexpr int kSignalBase = 128;
    constexpr int kKilled = 129;
    if (session.exit_code) {
        return *session.exit_code;
    }
    if (session.signal) {
        if (const int number = signal_number(*session.signal); number > 0) {
            return kSignalBase + number;
        }
    }
    return session.state == api::SessionState::Killed ? kKilled : exit_code::kFailed;
}

StatusLine::StatusLine() : terminal_(::isatty(STDERR_FILENO) != 0), began_(std::chrono::steady_clock::now()) {}

StatusLine::~StatusLine() {
    clear();
}

void StatusLine::set(std::string_view text) {
    text_ = printable(text);
}

void StatusLine::tick() {
    const auto elapsed = std::chrono::steady_clock::now() - began_;
    if (!terminal_ || text_.empty() || elapsed < kMoment) {
        return;
    }
    constexpr std::string_view kSpinner = "|/-\\";
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(elapsed).count();
    const std::string turn = std::string(1, kSpinner[turns_++ % kSpinner.size()]) + ' ';
    const std::string since = " (" + std::to_string(seconds) + "s)";
    // A line that wraps would not be drawn over.
    winsize size{};
    const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > turn.size() + since.size() + 1;
    const std::string shown = known ? cut(text_, size.ws_col - turn.size() - since.size() - 1) : text_;
    std::fputs(("\r\033[K" + turn + shown + since).c_str(), stderr);
    std::fflush(stderr);
    drawn_ = true;
}

void StatusLine::clear() {
    if (drawn_) {
        std::fputs("\r\033[K", stderr);
        std::fflush(stderr);
        drawn_ = false;
    }
}

}  // namespace cmssh::client
