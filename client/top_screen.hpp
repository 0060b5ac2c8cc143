// `top` as lines of a screen. Pure: what is drawn with comes from elsewhere.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "client/output.hpp"
#include "client/top_model.hpp"

namespace cmssh::client {

struct Span {
    std::string text;  // that no terminal acts on
    Style style = Style::Plain;
    bool reverse = false;
    bool bold = false;
};
using ScreenLine = std::vector<Span>;

struct TopView {
    std::string daemon;     // what is known of it, at the right of the first line
    std::string note;       // in place of the keys, where there is something to say
    bool question = false;  // the note is one
    bool help = false;      // the keys in full, in place of the lists
};

// No more lines than rows, and none wider than columns; the last one is at the bottom.
[[nodiscard]] std::vector<ScreenLine> draw_top(const TopModel& model, const TopView& view, std::size_t columns,
                                               std::size_t rows);

// The newest `width` samples as bars of eight heights, from zero to the highest of them; a blank for a gap. As wide as
// asked for, the newest at the right.
[[nodiscard]] std::string sparkline(const std::deque<std::optional<double>>& samples, std::size_t width);

// Cut, or filled up with blanks, to so many columns of a terminal; by the width of each character where the locale
// knows it.
[[nodiscard]] std::string fitted(const std::string& text, std::size_t columns);

}  // namespace cmssh::client
