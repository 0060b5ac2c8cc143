#include "daemon/app/ssh_options.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string_view>

#include "protocol/paths.hpp"

namespace cmssh {
namespace {

// ssh(1) of OpenSSH 9.2. -P has no value there and one from 9.6 on, so it cannot be read right for both.
constexpr std::string_view kWithoutValue = "246AaCgKkvXxY";
constexpr std::string_view kWithValue = "BbceFIiJlmop";
constexpr std::string_view kReserved = "DEfGLMNnOPQqRSsTtVWwy";

constexpr std::array<std::string_view, 14> kReservedKeywords = {
    "controlmaster", "controlpath",  "controlpersist", "dynamicforward",     "forkafterauthentication",
    "localcommand",  "localforward", "tunnel",         "permitlocalcommand", "remotecommand",
    "remoteforward", "requesttty",   "sessiontype",    "stdinnull"};

constexpr std::string_view kLeaveItOut = "leave it out: cmssh itself decides how ssh runs, shares, forwards and logs";

bool has(std::string_view letters, char letter) {
    return letters.find(letter) != std::string_view::npos;
}

bool is_alnum(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// Of -o. ssh also takes a keyword in quotes and behind blanks; here it has one spelling, so that none slips through.
std::optional<RefusedOption> check_keyword(std::string_view value) {
    constexpr std::string_view kSeparators = " \t=";
    const std::size_t end = value.find_first_of(kSeparators);
    std::string keyword(value.substr(0, end));
    if (keyword.empty() || !std::all_of(keyword.begin(), keyword.end(), is_alnum) ||
        value.find_first_not_of(kSeparators, end) == std::string_view::npos) {
        return RefusedOption{.expected = "KEYWORD=VALUE after -o", .hint = "ssh_config(5) lists the keywords"};
    }
    std::transform(keyword.begin(), keyword.end(), keyword.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (std::find(kReservedKeywords.begin(), kReservedKeywords.end(), keyword) != kReservedKeywords.end()) {
        return RefusedOption{.expected = "a keyword that cmssh does not set itself", .hint = std::string(kLeaveItOut)};
    }
    return std::nullopt;
}

}  // namespace

std::variant<std::vector<std::string>, RefusedOption> read_ssh_options(const std::vector<std::string>& given,
                                                                       const std::string& home) {
    std::vector<std::string> words;
    for (std::size_t index = 0; index < given.size(); ++index) {
        const std::string& word = given[index];
        if (word.size() < 2 || word.front() != '-') {
            return RefusedOption{.index = index,
                                 .expected = "an option that begins with -",
                                 .hint = "the server goes into [contexts.NAME] as host"};
        }
        // As getopt reads it: letters without a value, then at most one with a value, which is the rest of the word or
        // else the next word, whatever that begins with.
        for (std::size_t at = 1; at < word.size(); ++at) {
            const char letter = word[at];
            if (has(kReserved, letter)) {
                return RefusedOption{.index = index,
                                     .expected = "an option that cmssh does not set itself",
                                     .hint = std::string(kLeaveItOut)};
            }
            words.push_back({'-', letter});
            if (has(kWithoutValue, letter)) {
                continue;
            }
            if (!has(kWithValue, letter)) {
                return RefusedOption{
                    .index = index, .expected = "an option of ssh", .hint = "ssh(1) lists the options"};
            }
            std::string value = word.substr(at + 1);
            if (value.starts_with(' ')) {
                return RefusedOption{.index = index,
                                     .expected = "an option and its value as two strings",
                                     .hint = R"(such as ["-F", "/etc/my_ssh_config"])"};
            }
            if (value.empty() && index + 1 < given.size()) {
                value = given[++index];
            }
            if (value.empty()) {
                return RefusedOption{.index = index,
                                     .expected = std::string("a value after -") + letter,
                                     .hint = R"(such as ["-F", "/etc/my_ssh_config"])",
                                     .nothing_given = true};
            }
            if (letter == 'o') {
                if (auto refused = check_keyword(value)) {
                    refused->index = index;
                    return *refused;
                }
            }
            words.push_back(letter == 'F' || letter == 'i' ? expand_home(home, value) : value);
            break;
        }
    }
    return words;
}

}  // namespace cmssh
