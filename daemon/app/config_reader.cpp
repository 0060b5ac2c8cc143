#include "daemon/app/config_reader.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "protocol/names.hpp"

namespace cmssh {
namespace {

using std::chrono::milliseconds;

// toml++ 3.3 makes a table of every part of a dotted key, without a limit, and they nest.
constexpr int kMaxDotsInLine = 256;
constexpr std::size_t kMaxShown = 64;
constexpr std::size_t kMaxDescription = 300;
constexpr std::string_view kShowDefaults = "cmsshd --print-default-config shows every key";

// Fit to be shown, and not longer than a line of a terminal.
std::string shorten(std::string_view text, std::size_t longest) {
    if (text.size() <= longest) {
        return printable(text);
    }
    const auto inside_character = [text](std::size_t at) {
        return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
    };
    std::size_t end = longest;
    while (end > 0 && inside_character(end)) {
        --end;
    }
    return printable(text.substr(0, end)) + "…";
}

std::string described(const toml::node& value) {
    if (const auto* text = value.as_string()) {
        return quote(text->get());
    }
    if (const auto* number = value.as_integer()) {
        return std::to_string(number->get());
    }
    if (const auto* boolean = value.as_boolean()) {
        return boolean->get() ? "true" : "false";
    }
    if (const auto* number = value.as_floating_point()) {
        std::array<char, 32> digits{};
        // Always with a point, to be told from a whole number.
        std::snprintf(digits.data(), digits.size(), "%#g", number->get());
        return digits.data();
    }
    return value.is_table() ? "a table" : value.is_array() ? "an array" : "a date or a time";
}

// A part of a dotted key, as TOML would have it.
std::string key_part(std::string_view name) {
    const auto bare = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    };
    return !name.empty() && name.size() <= kMaxShown && std::all_of(name.begin(), name.end(), bare) ? std::string(name)
                                                                                                    : quote(name);
}

std::string dotted_key(const std::string& table, std::string_view name) {
    return table.empty() ? key_part(name) : table + '.' + key_part(name);
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
        }
    }
    return row[b.size()];
}

std::string hint_for_unknown(std::string_view name, const toml::node& value, const Keys& keys) {
    constexpr std::size_t kNear = 2;
    std::string_view nearest;
    std::size_t least = kNear + 1;
    std::string known;
    for (const Key& key : keys) {
        known += (known.empty() ? "" : ", ") + std::string(key.name);
        // A name of a few letters is near to everything.
        const std::size_t distance = name.size() <= kMaxShown ? edit_distance(name, key.name) : least;
        if (distance < least && distance < key.name.size() / 2) {
            least = distance;
            nearest = key.name;
        }
    }
    if (!nearest.empty()) {
        return "did you mean " + std::string(nearest) + '?';
    }
    // [contexts.www.example.org]
    return "the keys here are " + known + (value.is_table() ? "; a name with dots goes into quotes" : "");
}

std::optional<Line> line_with_too_many_dots(std::string_view text) {
    Line line = 1;
    int dots = 0;
    for (const char c : text) {
        if (c == '\n') {
            ++line;
            dots = 0;
        } else if (c == '.' && ++dots > kMaxDotsInLine) {
            return line;
        }
    }
    return std::nullopt;
}

// What parse_duration() and parse_size() take: a string, or a plain number.
std::string quantity_text(const toml::node& value) {
    if (const auto* text = value.as_string()) {
        return text->get();
    }
    const auto* number = value.as_integer();
    return number == nullptr ? std::string() : std::to_string(number->get());
}

std::optional<milliseconds> duration_of(const std::string& text) {
    std::int64_t count = 0;
    return parse_duration(text, count) ? std::optional(milliseconds(count)) : std::nullopt;
}

}  // namespace

Complaints::Complaints(const std::string& file) : file_(printable(file)) {}

void Complaints::add(Line line, const std::string& text, std::string hint) {
    if (!first_ || line < line_) {
        line_ = line;
        first_ = Error{.kind = ErrorKind::BadConfig,
                       .message = file_ + ':' + std::to_string(line) + ": " + text,
                       .hint = hint.empty() ? std::string(kShowDefaults) : std::move(hint)};
    }
}

std::optional<toml::table> parse_toml(std::string_view text, Complaints& complaints) {
    if (const auto line = line_with_too_many_dots(text)) {
        complaints.add(*line, "expected at most " + std::to_string(kMaxDotsInLine) + " dots in a line, got more");
        return std::nullopt;
    }
    try {
        return toml::parse(text);
    } catch (const toml::parse_error& error) {
        complaints.add(error.source().begin.line, shorten(error.description(), kMaxDescription));
        return std::nullopt;
    }
}

void Entry::refuse(const std::string& expected, std::string hint) const {
    refuse_as(described(value), expected, std::move(hint));
}

void Entry::refuse_as(const std::string& got, const std::string& expected, std::string hint) const {
    complaints.add(line, key + ": expected " + expected + ", got " + got, std::move(hint));
}

Entry Entry::child(const toml::key& name, const toml::node& node) const {
    return {node, name.source().begin.line, dotted_key(key, name.str()), complaints};
}

Entry Entry::element(const toml::node& node) const {
    return {node, node.source().begin.line, key, complaints};
}

void read_keys(const Entry& entry, const Keys& keys) {
    const toml::table* table = entry.value.as_table();
    if (table == nullptr) {
        entry.refuse("a table");
        return;
    }
    for (const auto& [name, value] : *table) {
        const Entry child = entry.child(name, value);
        const auto key =
            std::find_if(keys.begin(), keys.end(), [wanted = name.str()](const Key& it) { return it.name == wanted; });
        if (key == keys.end()) {
            entry.complaints.add(child.line, child.key + ": unknown key", hint_for_unknown(name.str(), value, keys));
        } else {
            key->read(child);
        }
    }
    for (const Key& key : keys) {
        if (key.need == Need::Required && !table->contains(key.name)) {
            entry.complaints.add(entry.line, dotted_key(entry.key, key.name) + ": expected a value, got none");
        }
    }
}

void read_named(const Entry& entry, const TextRule& rule,
                const std::function<void(const std::string&, const Entry&)>& read) {
    const toml::table* named = entry.value.as_table();
    if (named == nullptr) {
        entry.refuse("a table");
        return;
    }
    for (const auto& [name, value] : *named) {
        const Entry child = entry.child(name, value);
        if (rule.valid(name.str())) {
            read(std::string(name.str()), child);
        } else {
            child.refuse_as(quote(name.str()), rule.expected, rule.hint);
        }
    }
}

std::optional<std::string> text_in(const Entry& entry, const TextRule& rule) {
    const auto* value = entry.value.as_string();
    if (value != nullptr && value->get().find('\0') != std::string::npos) {
        entry.refuse_as("one with a NUL byte", rule.expected, rule.hint);
        return std::nullopt;
    }
    if (value == nullptr || !rule.valid(value->get())) {
        entry.refuse(rule.expected, rule.hint);
        return std::nullopt;
    }
    return value->get();
}

std::optional<std::vector<std::string>> texts_in(const Entry& entry, const std::string& expected) {
    const toml::array* array = entry.value.as_array();
    if (array == nullptr) {
        entry.refuse(expected);
        return std::nullopt;
    }
    const TextRule any{.expected = expected, .valid = [](std::string_view) { return true; }};
    std::vector<std::string> texts;
    for (const toml::node& element : *array) {
        auto text = text_in(entry.element(element), any);
        if (!text) {
            return std::nullopt;
        }
        texts.push_back(std::move(*text));
    }
    return texts;
}

std::optional<milliseconds> duration_in(const Entry& entry) {
    return duration_of(quantity_text(entry.value));
}

Read section(Keys keys) {
    return [keys = std::move(keys)](const Entry& entry) { read_keys(entry, keys); };
}

Read boolean(bool& out) {
    return [&out](const Entry& entry) {
        if (const auto* value = entry.value.as_boolean()) {
            out = value->get();
        } else {
            entry.refuse("true or false");
        }
    };
}

Read duration(milliseconds& out, const std::string& least, const std::string& most) {
    return [&out, least, most](const Entry& entry) {
        const auto value = duration_in(entry);
        if (value && *value >= duration_of(least) && *value <= duration_of(most)) {
            out = *value;
        } else {
            entry.refuse(R"(a duration such as "15s" or "1h30m", from )" + least + " to " + most);
        }
    };
}

Read size(std::uint64_t& out, const std::string& least, const std::string& most) {
    return [&out, least, most](const Entry& entry) {
        const auto bytes_of = [](const std::string& text) {
            std::uint64_t bytes = 0;
            return parse_size(text, bytes) ? std::optional(bytes) : std::nullopt;
        };
        const auto value = bytes_of(quantity_text(entry.value));
        if (value && *value >= bytes_of(least) && *value <= bytes_of(most)) {
            out = *value;
        } else {
            entry.refuse(R"(a size such as "8MiB", from )" + least + " to " + most);
        }
    };
}

std::string quote(std::string_view text) {
    return '"' + shorten(text, kMaxShown) + '"';
}

}  // namespace cmssh
