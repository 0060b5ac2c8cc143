// The stream of a tmux that may be anything: the events do not depend on how the bytes arrive.
#include "protocol/tmux_control.hpp"

#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

constexpr std::size_t kMaxBlock = 256;

struct Seen {
    std::vector<std::string> events;
    bool error = false;

    friend bool operator==(const Seen&, const Seen&) = default;
};

std::string text(const tmux::Event& event) {
    if (const auto* notification = std::get_if<tmux::Notification>(&event)) {
        expect(!notification->name.empty() && notification->name.find('\n') == std::string::npos, "a name is a word");
        return "%" + notification->name + "|" + notification->rest;
    }
    const auto& block = std::get<tmux::Block>(event);
    expect(block.time >= 0 && block.number >= 0, "numbers of a block are not negative");
    std::string all = std::to_string(block.time) + "." + std::to_string(block.number) + (block.error ? "!" : "") +
                      (block.ours ? "*" : "");
    std::size_t held = 0;
    for (const std::string& line : block.lines) {
        all += '\n' + line;
        held += sizeof(line) + line.size();
    }
    expect(held <= kMaxBlock, "a block is bounded");
    return all;
}

Seen read(const std::vector<std::string_view>& pieces) {
    tmux::ControlParser parser(kMaxBlock);
    Seen seen;
    for (const std::string_view piece : pieces) {
        const auto events = parser.feed(piece);
        if (!events) {
            expect(!parser.feed("\n").ok(), "an error is final");
            seen.error = true;
            return seen;
        }
        for (const tmux::Event& event : *events) {
            seen.events.push_back(text(event));
        }
    }
    return seen;
}

}  // namespace

void one_input(std::string_view input) {
    const Seen at_once = read({input});
    Seen in_pieces = read(pieces(input));
    // What came before an error within one piece is not told.
    if (at_once.error) {
        in_pieces.events.clear();
    }
    expect(in_pieces == at_once, "pieces give the events that the whole gives");
    static_cast<void>(tmux::parse_version(input));
}

}  // namespace cmssh::fuzz
