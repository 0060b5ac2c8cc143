#include "client/top_screen.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <string_view>

#include "client/columns.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

using Pane = TopModel::Pane;

constexpr std::size_t kGap = 2;
constexpr const char* kKeys = "Tab list  Enter attach  l logs  k kill  r reconnect  ? help  q quit";
constexpr std::array<const char*, 14> kHelp = {
    "up, down, PgUp, PgDn   select",
    "Tab                    the other list",
    "Enter, a               attach to the session; its detach key comes back",
    "l                      follow what the session prints; Ctrl-C comes back",
    "k                      kill the session, after a question",
    "r                      connect to the server again",
    "q, Ctrl-C              quit",
    "",
    "REFS       sessions and other users of a connection",
    "CHANNELS   open and allowed on it, and who waits for one",
    "RTT        the last round trip to the server's tmux, and those before",
    "RECON      reconnects: how often it was lost and made anew",
    "",
    "Any key goes back."};

struct Column {
    const char* title;
    std::size_t width = 0;
    bool right = false;
};

std::string aligned(const std::string& text, const Column& column) {
    const std::size_t columns = columns_of(text);
    if (column.right && columns < column.width) {
        return std::string(column.width - columns, ' ') + text;
    }
    return fitted(text, column.width);
}

// A list with its header: as many rows as there is room for, the selected one among them.
struct List {
    std::vector<Column> columns;
    std::size_t count = 0;
    std::size_t selected = 0;
    bool active = false;
    std::string nothing;  // in place of rows
    std::function<std::vector<Cell>(std::size_t row)> row;
};

ScreenLine line_of(const List& list, const std::vector<Cell>& cells, bool reverse, std::size_t columns) {
    ScreenLine line;
    std::size_t left = columns;
    for (std::size_t at = 0; at < cells.size() && left > 0; ++at) {
        const Cell& cell = cells[at];
        std::string text = aligned(printable(cell.text), list.columns[at]);
        if (at + 1 < cells.size()) {
            text.append(kGap, ' ');
        }
        text = fitted(text, std::min(columns_of(text), left));
        left -= columns_of(text);
        line.push_back({.text = std::move(text), .style = cell.style, .reverse = reverse});
    }
    if (left > 0) {
        line.push_back({.text = std::string(left, ' '), .reverse = reverse});
    }
    return line;
}

void append_list(std::vector<ScreenLine>& lines, const List& list, std::size_t columns, std::size_t rows) {
    std::vector<Cell> titles;
    for (const Column& column : list.columns) {
        titles.push_back({.text = column.title, .style = Style::Faint});
    }
    ScreenLine header = line_of(list, titles, false, columns);
    for (Span& span : header) {
        span.bold = list.active;
        span.style = list.active ? Style::Plain : Style::Faint;
    }
    lines.push_back(std::move(header));
    if (list.count == 0) {
        lines.push_back({{.text = fitted(list.nothing, columns), .style = Style::Faint}});
        return;
    }
    const bool all = list.count <= rows;
    // The last row says what is left out.
    const std::size_t shown = all ? list.count : std::max<std::size_t>(rows, 2) - 1;
    const std::size_t first = list.selected < shown ? 0 : list.selected - shown + 1;
    for (std::size_t row = first; row < std::min(first + shown, list.count); ++row) {
        const bool marked = list.active && row == list.selected;
        lines.push_back(line_of(list, list.row(row), marked, columns));
    }
    if (!all) {
        const std::string more = "… " + std::to_string(list.count - shown) + " more";
        lines.push_back({{.text = fitted(more, columns), .style = Style::Faint}});
    }
}

std::string channels_text(const api::Channels& channels) {
    return std::to_string(channels.used) + "/" + std::to_string(channels.max) +
           (channels.queued > 0 ? "+" + std::to_string(channels.queued) : "");
}

std::string rtt_text(const api::Connection& connection) {
    if (!connection.rtt_ms) {
        return "-";
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), connection.rtt_ms->last < 100 ? "%.1fms" : "%.0fms",
                  connection.rtt_ms->last);
    return text.data();
}

template <typename T>
std::size_t widest(const std::vector<T>& items, std::size_t least, const std::function<std::string(const T&)>& text) {
    std::size_t width = least;
    for (const T& item : items) {
        width = std::max(width, columns_of(printable(text(item))));
    }
    return width;
}

List connection_list(const TopModel& model, std::size_t columns) {
    constexpr std::size_t kSpark = 12;
    constexpr std::size_t kLongestSpark = 40;
    List list;
    list.columns = {{"SERVER"},       {"STATE", 10}, {"REFS", 4, true}, {"CHANNELS", 8, true},
                    {"RTT", 7, true}, {"", kSpark},  {"RECON", 5, true}};
    std::size_t taken = kGap * (list.columns.size() - 1);
    for (const Column& column : list.columns) {
        taken += column.width;
    }
    const std::size_t left = columns > taken ? columns - taken : 0;
    const auto key = [](const api::Connection& it) { return it.server.key; };
    const std::size_t server =
        std::min(widest<api::Connection>(model.connections(), 6, key), std::max<std::size_t>(left, 6));
    list.columns[0].width = server;
    list.columns[5].width = std::min(kSpark + (left > server ? left - server : 0), kLongestSpark);
    list.count = model.connections().size();
    list.selected = model.selected(Pane::Connections);
    list.active = model.pane() == Pane::Connections;
    list.nothing = "no connections";
    list.row = [&model, spark = list.columns[5].width](std::size_t row) -> std::vector<Cell> {
        const api::Connection& it = model.connections()[row];
        const bool waits = it.channels.queued > 0;
        return {{it.server.key},
                {std::string(to_string(it.state)), style_of(it.state)},
                {std::to_string(it.refs)},
                {channels_text(it.channels), waits ? Style::Doubtful : Style::Plain},
                {rtt_text(it)},
                {sparkline(model.samples(it.server.key), spark), Style::Good},
                {std::to_string(it.reconnects), it.reconnects > 0 ? Style::Doubtful : Style::Plain}};
    };
    return list;
}

List session_list(const TopModel& model, std::size_t columns) {
    constexpr std::size_t kLongestName = 16;
    constexpr std::size_t kLeastCommand = 12;
    const auto name = [](const api::Session& it) { return it.name == it.id ? std::string("-") : it.name; };
    const auto ctx = [](const api::Session& it) { return it.ctx; };
    List list;
    list.columns = {{"SESSION", 13},
                    {"NAME", std::min(widest<api::Session>(model.sessions(), 4, name), kLongestName)},
                    {"CTX", std::min(widest<api::Session>(model.sessions(), 3, ctx), kLongestName)},
                    {"STATE", 11},
                    {"AGE", 4, true},
                    {"COMMAND", kLeastCommand}};
    std::size_t taken = kGap * (list.columns.size() - 1);
    for (std::size_t at = 0; at + 1 < list.columns.size(); ++at) {
        taken += list.columns[at].width;
    }
    if (columns > taken) {
        list.columns.back().width = columns - taken;
    }
    list.count = model.sessions().size();
    list.selected = model.selected(Pane::Sessions);
    list.active = model.pane() == Pane::Sessions;
    list.nothing = "no sessions that have not ended";
    list.row = [&model, name](std::size_t row) -> std::vector<Cell> {
        const api::Session& it = model.sessions()[row];
        return {{it.id},
                {name(it)},
                {it.ctx},
                {state_text(it), style_of(it.state)},
                {age_text(it.created_at)},
                {command_text(it.command)}};
    };
    return list;
}

ScreenLine title_line(const TopModel& model, const TopView& view, std::size_t columns) {
    const std::string left = "cmctl top   " + count_text(model.connections().size(), "connection") + ", " +
                             count_text(model.sessions().size(), "session");
    const std::string right = printable(view.daemon);
    const std::size_t taken = columns_of(left) + columns_of(right);
    const std::string blank(columns > taken ? columns - taken : kGap, ' ');
    return {{.text = fitted(left + blank + right, columns), .bold = true}};
}

}  // namespace

std::string fitted(const std::string& text, std::size_t columns) {
    const std::string shown = cut(text, columns);
    return shown + std::string(columns - columns_of(shown), ' ');
}

std::string sparkline(const std::deque<std::optional<double>>& samples, std::size_t width) {
    constexpr std::array<const char*, 8> kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    const std::size_t count = std::min(samples.size(), width);
    double highest = 0;
    for (std::size_t at = samples.size() - count; at < samples.size(); ++at) {
        highest = std::max(highest, samples[at].value_or(0));
    }
    std::string text(width - count, ' ');
    for (std::size_t at = samples.size() - count; at < samples.size(); ++at) {
        if (!samples[at]) {
            text += ' ';
            continue;
        }
        const double share = highest > 0 ? *samples[at] / highest : 0;
        const auto bar = static_cast<std::size_t>(share * static_cast<double>(kBars.size()));
        text += kBars[std::min(bar, kBars.size() - 1)];
    }
    return text;
}

std::vector<ScreenLine> draw_top(const TopModel& model, const TopView& view, std::size_t columns, std::size_t rows) {
    std::vector<ScreenLine> lines;
    if (columns == 0 || rows == 0) {
        return lines;
    }
    lines.push_back(title_line(model, view, columns));
    lines.emplace_back();
    if (view.help) {
        for (const char* text : kHelp) {
            lines.push_back({{.text = fitted(text, columns)}});
        }
    } else {
        // Title, blank, header, blank, header, keys.
        constexpr std::size_t kFrame = 6;
        const std::size_t room = rows > kFrame + 2 ? rows - kFrame : 2;
        const std::size_t needed = std::max<std::size_t>(model.connections().size(), 1);
        const std::size_t sessions = std::max<std::size_t>(model.sessions().size(), 1);
        // A third at most, or what the sessions leave.
        const std::size_t share = std::max({room / 3, room > sessions ? room - sessions : 1, std::size_t{2}});
        const std::size_t upper = std::min(needed, share);
        append_list(lines, connection_list(model, columns), columns, upper);
        lines.emplace_back();
        append_list(lines, session_list(model, columns), columns, room > upper ? room - upper : 1);
    }
    lines.resize(rows - 1);
    Span last{.text = fitted(view.note.empty() ? kKeys : printable(view.note), columns)};
    last.bold = view.question;
    last.style = view.note.empty() ? Style::Faint : Style::Plain;
    lines.push_back({std::move(last)});
    return lines;
}

}  // namespace cmssh::client
