// Text that others chose, made fit for a terminal; durations, sizes, names, and other people's command lines.
#include <cstdint>

#include "client/columns.hpp"
#include "client/cp_operand.hpp"
#include "client/ssh_command_line.hpp"
#include "protocol/names.hpp"
#include "protocol/utf8.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

// Written from the Unicode tables, not from printable().
bool acts_on_a_terminal(char32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
           code == 0x2028 || code == 0x2029 || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void check_printable(std::string_view shown, bool line_feeds) {
    while (!shown.empty()) {
        const utf8::Character character = utf8::first_character(shown);
        expect(character.valid, "what is shown is UTF-8");
        expect((line_feeds && character.code_point == '\n') || !acts_on_a_terminal(character.code_point),
               "no terminal acts on what is shown");
        shown.remove_prefix(character.size);
    }
}

void check_numbers(std::string_view input) {
    if (std::int64_t milliseconds = 0; parse_duration(input, milliseconds)) {
        expect(milliseconds >= 0, "a duration is not negative");
        std::int64_t again = -1;
        expect(parse_duration(std::to_string(milliseconds) + "ms", again) && again == milliseconds,
               "a duration in milliseconds is the same");
    }
    if (std::uint64_t bytes = 0; parse_size(input, bytes)) {
        std::uint64_t again = 1;
        expect(parse_size(std::to_string(bytes), again) && again == bytes, "a size in bytes is the same");
    }
    if (const int signal = signal_number(input); signal != 0) {
        const std::string name = signal_name(signal);
        expect(name.empty() || signal_number(name) == signal, "a signal's name is that of the signal");
    }
}

}  // namespace

void one_input(std::string_view input) {
    const std::string shown = printable(input);
    check_printable(shown, false);
    check_printable(printable_lines(input), true);
    expect(printable(shown) == shown, "what is printable stays as it is");
    for (const std::size_t columns : {std::size_t{1}, std::size_t{7}}) {
        expect(client::columns_of(client::cut(shown, columns)) <= columns, "what is cut fits");
    }
    const std::string_view line = first_line(input);
    expect(line.find('\n') == std::string_view::npos, "a first line is one");
    check_numbers(input);
    if (valid_session_name(input)) {
        expect(shown == input && input.find('/') == std::string_view::npos, "a session's name is plain");
    }
    static_cast<void>(client::scp_word(client::parse_cp_operand(input)));
    static_cast<void>(client::parse_ssh_command_line(split(input, '\n')));
}

}  // namespace cmssh::fuzz
