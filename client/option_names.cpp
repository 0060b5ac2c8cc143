#include "client/option_names.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace cmssh::client {
namespace {

struct Given {
    std::string_view param;
    std::string_view typed;
};

constexpr std::string_view kParams = "params.";
constexpr std::array kGiven = {Given{"command", "CMD"},     Given{"ctx", "--ctx"},
                               Given{"cwd", "--cwd"},       Given{"env", "--env"},
                               Given{"keys", "--key"},      Given{"lines", "--lines"},
                               Given{"name", "--name"},     Given{"session", "--session"},
                               Given{"signal", "--signal"}, Given{"state", "--state"},
                               Given{"target", "target"},   Given{"text", "TEXT"},
                               Given{"types", "--type"},    Given{"listen", "listening address"}};

}  // namespace

std::string with_option_names(const std::string& message) {
    if (!message.starts_with(kParams)) {
        return message;
    }
    const std::string_view rest = std::string_view(message).substr(kParams.size());
    const std::size_t end = std::min(rest.find_first_of(".: "), rest.size());
    const auto* const found =
        std::find_if(kGiven.begin(), kGiven.end(), [&](const Given& it) { return it.param == rest.substr(0, end); });
    if (found == kGiven.end()) {
        return message;
    }
    std::string text(found->typed);
    text += rest.substr(end);
    if (end < rest.size() && rest[end] == '.') {
        text[found->typed.size()] = ' ';  // params.env.NAME: what stands in the option's value
    }
    return text;
}

}  // namespace cmssh::client
