// Reads a TOML document into variables, strictly: a table of the program says which key is read how, and whatever else
// the document holds is a complaint with file, line, key, what was expected and what was found. Knows nothing about the
// keys themselves (daemon/app/config.cpp does). The one place that includes toml++.
#pragma once

// toml++ parses and destroys nested values by recursion.
#define TOML_MAX_NESTED_VALUES 16
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/paths.hpp"
#include "protocol/result.hpp"

namespace cmssh {

using Line = toml::source_index;

// Keeps the complaint that stands first in the file: toml++ hands out keys in alphabetical order.
class Complaints {
public:
    explicit Complaints(const std::string& file);

    void add(Line line, const std::string& text, std::string hint = {});
    [[nodiscard]] const std::optional<Error>& first() const { return first_; }

private:
    std::string file_;
    Line line_ = 0;
    std::optional<Error> first_;
};

// nullopt: not TOML, and the complaint is made.
[[nodiscard]] std::optional<toml::table> parse_toml(std::string_view text, Complaints& complaints);

// A value of the file and the dotted key that it stands under.
struct Entry {
    const toml::node& value;
    Line line;
    std::string key;
    Complaints& complaints;

    void refuse(const std::string& expected, std::string hint = {}) const;
    // For what the value itself does not show, or should not.
    void refuse_as(const std::string& got, const std::string& expected, std::string hint = {}) const;
    [[nodiscard]] Entry child(const toml::key& name, const toml::node& node) const;
    [[nodiscard]] Entry element(const toml::node& node) const;
};

// Stores what an entry holds, or complains.
using Read = std::function<void(const Entry&)>;

enum class Need { Optional, Required };

struct Key {
    std::string_view name;
    Read read;
    Need need = Need::Optional;
};
using Keys = std::vector<Key>;

// What a string has to be, in words and as a predicate.
struct TextRule {
    std::string expected;
    std::function<bool(std::string_view)> valid;
    std::string hint = {};
};

// A table with these keys and no others.
void read_keys(const Entry& entry, const Keys& keys);
// A table whose keys are names that a person chose.
void read_named(const Entry& entry, const TextRule& rule,
                const std::function<void(const std::string& name, const Entry& value)>& read);

// nullopt: something else, and the complaint is made. None has a NUL byte, which would cut it short on its way to a
// program.
[[nodiscard]] std::optional<std::string> text_in(const Entry& entry, const TextRule& rule);
[[nodiscard]] std::optional<std::vector<std::string>> texts_in(const Entry& entry, const std::string& expected);
// nullopt: something else. Without a complaint.
[[nodiscard]] std::optional<std::chrono::milliseconds> duration_in(const Entry& entry);

// What is read into a variable, which has to outlive the reading. Limits are written as in the file.
[[nodiscard]] Read section(Keys keys);
[[nodiscard]] Read boolean(bool& out);
[[nodiscard]] Read duration(std::chrono::milliseconds& out, const std::string& least, const std::string& most);
[[nodiscard]] Read size(std::uint64_t& out, const std::string& least, const std::string& most);

// Out: int or std::optional<int>.
template <typename Out>
[[nodiscard]] Read whole_number(Out& out, int least, int most) {
    return [&out, least, most](const Entry& entry) {
        const auto* value = entry.value.as_integer();
        if (value != nullptr && value->get() >= least && value->get() <= most) {
            out = static_cast<int>(value->get());
        } else {
            entry.refuse("a whole number from " + std::to_string(least) + " to " + std::to_string(most));
        }
    };
}

// Out: std::string or std::optional<std::string>.
template <typename Out>
[[nodiscard]] Read text(Out& out, TextRule rule) {
    return [&out, rule = std::move(rule)](const Entry& entry) {
        if (auto value = text_in(entry, rule)) {
            out = std::move(*value);
        }
    };
}

// Of a file on this machine: `home` replaces a leading ~.
template <typename Out>
[[nodiscard]] Read path(Out& out, const std::string& home, TextRule rule) {
    return [&out, home, rule = std::move(rule)](const Entry& entry) {
        if (const auto value = text_in(entry, rule)) {
            out = expand_home(home, *value);
        }
    };
}

// Fit to be shown in a message, in quotes and not too long.
[[nodiscard]] std::string quote(std::string_view text);

}  // namespace cmssh
