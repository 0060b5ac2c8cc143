#include "protocol/events.hpp"

#include "protocol/jsonrpc.hpp"

namespace cmssh::api {

std::string event_rest(Event event) {
    constexpr std::string_view kBefore = R"({"subscription":"","seq":0,)";
    event.subscription.clear();
    event.seq = 0;
    return write(event).text.substr(kBefore.size());
}

JsonText event_text(std::string_view subscription, std::uint64_t seq, std::string_view rest) {
    std::string text = R"({"subscription":)" + dump_json(subscription) + R"(,"seq":)" + std::to_string(seq) + ',';
    return {text.append(rest)};
}

}  // namespace cmssh::api
