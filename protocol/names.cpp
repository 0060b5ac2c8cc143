#include "protocol/names.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "protocol/utf8.hpp"

namespace cmssh {
namespace {

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

std::string hex(std::uint32_t value, int width) {
    std::array<char, 9> digits{};
    std::snprintf(digits.data(), digits.size(), "%0*x", width, value);
    return digits.data();
}

// What a terminal acts on, or shows as something that it is not.
bool unprintable(char32_t c) {
    const auto within = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
    return within(0x00, 0x1f) || within(0x7f, 0x9f) || c == 0x061c || within(0x200b, 0x200f) ||
           within(0x2028, 0x202e) || within(0x2066, 0x2069) || c == 0xfeff;
}

enum class LineFeeds { Escape, Keep };

std::string escape(std::string_view text, LineFeeds line_feeds) {
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        // ssh ends the lines of its log with CR LF.
        if (line_feeds == LineFeeds::Keep && text.starts_with("\r\n")) {
            text.remove_prefix(1);
        }
        const utf8::Character character = utf8::first_character(text);
        const auto byte = static_cast<unsigned char>(text.front());
        if (!character.valid) {
            out += "\\x" + hex(byte, 2);
        } else if (byte == '\n') {
            out += line_feeds == LineFeeds::Keep ? "\n" : "\\n";
        } else if (byte == '\t') {
            out += "\\t";
        } else if (!unprintable(character.code_point)) {
            out += text.substr(0, character.size);
        } else if (byte < 0x80) {
            out += "\\x" + hex(byte, 2);
        } else {
            out += "\\u{" + hex(character.code_point, 4) + "}";
        }
        text.remove_prefix(character.size);
    }
    return out;
}

struct Signal {
    int number;
    std::string_view name;
};

constexpr std::array kSignals = std::to_array<Signal>({
    {SIGHUP, "HUP"},   {SIGINT, "INT"},       {SIGQUIT, "QUIT"}, {SIGILL, "ILL"},     {SIGTRAP, "TRAP"},
    {SIGABRT, "ABRT"}, {SIGBUS, "BUS"},       {SIGFPE, "FPE"},   {SIGKILL, "KILL"},   {SIGUSR1, "USR1"},
    {SIGSEGV, "SEGV"}, {SIGUSR2, "USR2"},     {SIGPIPE, "PIPE"}, {SIGALRM, "ALRM"},   {SIGTERM, "TERM"},
    {16, "STKFLT"},    {SIGCHLD, "CHLD"},     {SIGCONT, "CONT"}, {SIGSTOP, "STOP"},   {SIGTSTP, "TSTP"},
    {SIGTTIN, "TTIN"}, {SIGTTOU, "TTOU"},     {SIGURG, "URG"},   {SIGXCPU, "XCPU"},   {SIGXFSZ, "XFSZ"},
    {SIGPROF, "PROF"}, {SIGVTALRM, "VTALRM"}, {SIGIO, "IO"},     {SIGWINCH, "WINCH"}, {SIGPWR, "PWR"},
    {SIGSYS, "SYS"},   {SIGABRT, "IOT"},      {SIGIO, "POLL"},   {SIGCHLD, "CLD"},
});
constexpr int kMaxSignal = 64;

// The digits at the beginning of text; what follows them stays in it.
template <typename Integer>
std::optional<Integer> take_number(std::string_view& text) {
    if (text.empty() || !is_digit(text.front())) {
        return std::nullopt;
    }
    Integer number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) {
        return std::nullopt;
    }
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
}

template <typename Integer>
struct Unit {
    std::string_view name;
    Integer factor;
};

template <typename Integer, std::size_t N>
bool parse_quantity(std::string_view text, const std::array<Unit<Integer>, N>& units, Integer& quantity) {
    const std::optional<Integer> number = take_number<Integer>(text);
    if (!number) {
        return false;
    }
    const auto unit = std::find_if(units.begin(), units.end(), [text](const auto& it) { return it.name == text; });
    if (unit == units.end() || *number > std::numeric_limits<Integer>::max() / unit->factor) {
        return false;
    }
    quantity = *number * unit->factor;
    return true;
}

}  // namespace

namespace {

std::string with_base32(std::string_view prefix, std::uint64_t random_bits, int bits) {
    constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz234567";
    std::string id(prefix);
    for (int shift = bits - 5; shift >= 0; shift -= 5) {
        id += kAlphabet[random_bits >> shift & 31];
    }
    return id;
}

}  // namespace

std::string make_session_id(std::uint64_t random_bits) {
    return with_base32(kSessionIdPrefix, random_bits, 40);
}

std::string make_lease_id(std::uint64_t random_bits) {
    return with_base32("lease-", random_bits, 60);
}

std::string make_forward_id(std::uint64_t random_bits) {
    return with_base32("fwd-", random_bits, 40);
}

bool valid_session_name(std::string_view name) {
    constexpr std::size_t kMaxLength = 64;
    if (name.empty() || name.size() > kMaxLength || name.starts_with(kSessionIdPrefix)) {
        return false;
    }
    const auto alnum = [](char c) { return is_letter(c) || is_digit(c); };
    return alnum(name.front()) &&
           std::all_of(name.begin(), name.end(), [&](char c) { return alnum(c) || c == '_' || c == '-'; });
}

bool valid_env_name(std::string_view name) {
    const auto first = [](char c) { return is_letter(c) || c == '_'; };
    return !name.empty() && first(name.front()) &&
           std::all_of(name.begin(), name.end(), [&](char c) { return first(c) || is_digit(c); });
}

std::string printable(std::string_view text) {
    return escape(text, LineFeeds::Escape);
}

std::string printable_lines(std::string_view text) {
    return escape(text, LineFeeds::Keep);
}

std::string_view first_line(std::string_view text) {
    constexpr std::string_view kBlanks = " \t\r\n";
    const auto begin = text.find_first_not_of(kBlanks);
    if (begin == std::string_view::npos) {
        return {};
    }
    text.remove_prefix(begin);
    text = text.substr(0, text.find('\n'));
    return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

int signal_number(std::string_view name) {
    if (!name.empty() && is_digit(name.front())) {
        const std::optional<int> number = take_number<int>(name);
        return number && name.empty() && *number >= 1 && *number <= kMaxSignal ? *number : 0;
    }
    std::string upper(name);
    for (char& c : upper) {
        if (c >= 'a' && c <= 'z') {
            c = static_cast<char>(c - 'a' + 'A');
        }
    }
    std::string_view wanted = upper;
    if (wanted.starts_with("SIG")) {
        wanted.remove_prefix(3);
    }
    const auto signal =
        std::find_if(kSignals.begin(), kSignals.end(), [wanted](const Signal& it) { return it.name == wanted; });
    return signal == kSignals.end() ? 0 : signal->number;
}

std::string signal_name(int number) {
    const auto signal =
        std::find_if(kSignals.begin(), kSignals.end(), [number](const Signal& it) { return it.number == number; });
    return signal == kSignals.end() ? std::string() : std::string(signal->name);
}

std::string format_time(std::int64_t milliseconds_since_epoch) {
    using std::chrono::floor;
    const std::chrono::sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds(milliseconds_since_epoch)};
    const auto day = floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(time - day);
    std::string text;
    const auto append = [&text](auto value, std::size_t digits) {
        const std::string number = std::to_string(value);
        text.append(digits - std::min(digits, number.size()), '0');
        text += number;
    };
    append(static_cast<int>(date.year()), 4);
    text += '-';
    append(static_cast<unsigned>(date.month()), 2);
    text += '-';
    append(static_cast<unsigned>(date.day()), 2);
    text += 'T';
    append(clock.hours().count(), 2);
    text += ':';
    append(clock.minutes().count(), 2);
    text += ':';
    append(clock.seconds().count(), 2);
    text += '.';
    append(clock.subseconds().count(), 3);
    text += 'Z';
    return text;
}

bool parse_duration(std::string_view text, std::int64_t& milliseconds) {
    static constexpr std::array kUnits = std::to_array<Unit<std::int64_t>>(
        {{"w", 604'800'000}, {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}});
    if (!text.empty() && std::all_of(text.begin(), text.end(), is_digit)) {
        return parse_duration(std::string(text) + 's', milliseconds);
    }
    std::int64_t sum = 0;
    auto next_unit = kUnits.begin();
    do {
        const std::optional<std::int64_t> number = take_number<std::int64_t>(text);
        const std::string_view name = text.substr(0, text.find_first_of("0123456789"));
        const auto unit = std::find_if(next_unit, kUnits.end(), [name](const auto& it) { return it.name == name; });
        if (!number || unit == kUnits.end() ||
            *number > (std::numeric_limits<std::int64_t>::max() - sum) / unit->factor) {
            return false;
        }
        sum += *number * unit->factor;
        next_unit = unit + 1;
        text.remove_prefix(name.size());
    } while (!text.empty());
    milliseconds = sum;
    return true;
}

bool parse_size(std::string_view text, std::uint64_t& bytes) {
    static constexpr std::array kUnits = std::to_array<Unit<std::uint64_t>>(
        {{"B", 1}, {"", 1}, {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30}});
    return parse_quantity(text, kUnits, bytes);
}

}  // namespace cmssh
