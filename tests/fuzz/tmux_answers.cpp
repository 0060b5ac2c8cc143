// The readers of what tmux answers to our commands: rows, as lines of a block.
#include "daemon/tmux/tmux_commands.hpp"
#include "daemon/tmux/tmux_keys.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {

void one_input(std::string_view input) {
    const std::vector<std::string> lines = split(input, '\n');
    if (const auto started = tmux::parse_started(lines)) {
        expect(started->pane_id.starts_with('%') && started->window_id.starts_with('@'), "ids have their mark");
    }
    for (const tmux::PaneRow& row : tmux::parse_panes(lines)) {
        expect(row.signal >= 0 && row.dead_time >= 0 && row.dead_time <= tmux::kLatestTime, "a row is in range");
        expect(row.note.created_ms >= 0, "nothing was made before 1970");
        static_cast<void>(tmux::pane_target(row.session_id, row.place));
    }
    if (const auto state = tmux::parse_pane_state(lines)) {
        expect(state->width >= 0 && state->height >= 0 && state->history >= 0, "a pane has no negative size");
    }
    static_cast<void>(tmux::parse_typed(lines));
    using Reply = Result<std::vector<std::string>>;
    std::vector<Reply> replies(4, Reply(lines));
    static_cast<void>(tmux::parse_spare(replies));
    for (const std::string& line : lines) {
        static_cast<void>(tmux::valid_key(line));
    }
}

}  // namespace cmssh::fuzz
