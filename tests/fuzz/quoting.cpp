// Every quoting, undone by a reader that knows the rules of the program that it is for.
#include <cstdint>
#include <optional>

#include "protocol/base64.hpp"
#include "protocol/remote_command.hpp"
#include "protocol/tmux_control.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/unit/tmux/tmux_line.hpp"

namespace cmssh::fuzz {
namespace {

// One word of sh in single quotes and of backslashes before quotes; nullopt: sh would see more in it.
std::optional<std::string> sh_word(std::string_view quoted) {
    std::string word;
    bool inside = false;
    for (std::size_t at = 0; at < quoted.size(); ++at) {
        if (quoted[at] == '\'') {
            inside = !inside;
        } else if (inside) {
            word += quoted[at];
        } else if (quoted.substr(at).starts_with("\\'")) {
            word += quoted[++at];
        } else {
            return std::nullopt;
        }
    }
    return inside ? std::nullopt : std::optional(word);
}

// As printf %b reads it.
std::string unescaped(std::string_view text) {
    std::string bytes;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (!text.substr(at).starts_with("\\0")) {
            expect(text[at] != '\\' && text[at] >= ' ' && text[at] < 0x7f, "nothing else stands for more than itself");
            bytes += text[at];
            continue;
        }
        unsigned byte = 0;
        for (int digits = 0; digits < 3; ++digits) {
            const char digit = text[at + 2 + static_cast<std::size_t>(digits)];
            expect(digit >= '0' && digit <= '7', "three octal digits");
            byte = byte * 8 + static_cast<unsigned>(digit - '0');
        }
        bytes += static_cast<char>(byte);
        at += 4;
    }
    return bytes;
}

// As format.c expands it where it holds nothing but text.
std::string expanded(std::string_view format) {
    std::string text;
    for (std::size_t at = 0; at < format.size();) {
        const std::size_t run_end = std::min(format.find_first_not_of('#', at), format.size());
        const std::size_t run = run_end - at;
        if (run == 0) {
            text += format[at++];
        } else if (run_end < format.size() && format[run_end] == '[') {
            text.append(run, '#');
            at = run_end;
        } else {
            expect(run % 2 == 0, "no # is left to open something");
            text.append(run / 2, '#');
            at = run_end;
        }
    }
    return text;
}

// tmux's lexer reads bytes; a NUL ends a line, and is refused before.
void check_tmux(std::string_view text) {
    const std::string quoted = tmux::quote(text);
    expect(quoted.find('\n') == std::string::npos, "one line");
    expect(tmux::words_of(quoted) == std::vector<std::string>{std::string(text)}, "tmux reads one argument");
    const auto format = tmux::words_of(tmux::quote_literal_format(text));
    expect(format.size() == 1 && expanded(format.front()) == text, "tmux expands nothing");
}

}  // namespace

void one_input(std::string_view input) {
    const std::string text(input);
    expect(sh_word(sh_quote(text)) == text, "sh reads one word");
    const std::string escaped = octal_escaped(text, "'!");
    expect(escaped.find_first_of("'!\n") == std::string::npos, "what is unwanted is not there");
    expect(unescaped(escaped) == text, "printf %b gives the text back");
    const std::string command = for_any_shell(text);
    expect(command.find_first_of("!\n\r") == std::string::npos, "one line, no history");
    expect(std::count(command.begin(), command.end(), '\'') == 4, "quotes that any shell pairs");

    expect(base64_decode(base64_encode(text)) == text, "base64 gives the bytes back");
    if (const auto bytes = base64_decode(input)) {
        expect(base64_encode(*bytes) == input, "bytes have one base64");
    }
    if (input.find('\0') == std::string_view::npos) {
        check_tmux(input);
    }
    const std::vector<std::string> words = split(input, '\n');
    static_cast<void>(exec_command("mark", words, ExecInput::SetupFirst));
}

}  // namespace cmssh::fuzz
