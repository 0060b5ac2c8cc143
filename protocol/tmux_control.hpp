// tmux's control mode (`tmux -C`, tmux 3.2 to 3.7c): the line parser and the quoting of arguments. Pure.
// Each command that we send gives one block, %begin T N F … %end|%error T N F with the same T and N; lines inside are
// not escaped, so only an exact match of T and N ends a block. Notifications stand between blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/result.hpp"

namespace cmssh::tmux {

struct Block {
    std::int64_t time = 0;  // the server's clock, seconds since the epoch, when the command was run
    std::int64_t number = 0;
    bool ours = false;  // F=1: a command from our stdin; F=0: the start-up command
    bool error = false;
    std::vector<std::string> lines;
};
struct Notification {
    std::string name;  // without the %: "sessions-changed", "exit"
    std::string rest;  // what follows the name and one space
};
using Event = std::variant<Block, Notification>;

class ControlParser {
public:
    // max_block: bytes that one block or one line may hold. What a server sends beyond it is an error, and final.
    explicit ControlParser(std::size_t max_block = 64 * 1024 * 1024);

    // The events that the bytes complete, in order. Lines outside a block that do not begin with % are passed over.
    [[nodiscard]] Result<std::vector<Event>> feed(std::string_view bytes);

private:
    std::size_t max_block_;
    std::string line_;
    std::optional<Block> open_;
    std::size_t open_bytes_ = 0;
    std::string end_marker_;  // "T N F" of the open block
};

// One argument in double quotes, byte for byte (tmux 3.0's parser: \" \\ \$ \n and octal for control bytes).
// The text must be valid UTF-8 without NUL: tmux cuts a line at NUL.
[[nodiscard]] std::string quote(std::string_view text);
// For arguments that tmux expands as a format (-c, -n, -F): every # doubled, but those before a [, which tmux keeps as
// they stand; then quoted. #(cmd) would run cmd. Not for display-message, which expands % as strftime does too.
[[nodiscard]] std::string quote_literal_format(std::string_view text);
// `name arg arg…` with each argument quoted; one line without its line end.
[[nodiscard]] std::string command_line(std::string_view name, const std::vector<std::string>& args);

[[nodiscard]] bool valid_utf8(std::string_view text);  // well-formed, no surrogates, shortest form

// "tmux 3.3a" → {3, 3}, "tmux next-3.4" → {3, 4}, "tmux openbsd-7.0" and anything else → nullopt.
struct Version {
    int major = 0;
    int minor = 0;
    friend auto operator<=>(const Version&, const Version&) = default;
};
[[nodiscard]] std::optional<Version> parse_version(std::string_view text);

}  // namespace cmssh::tmux
