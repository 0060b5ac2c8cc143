// What a person writes for a forward: as one word behind -L, -R or -D, and as the two ends of it.
#include "protocol/forward_spec.hpp"

#include "protocol/names.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

void check(api::ForwardKind kind, std::string_view listen, const std::optional<std::string>& target) {
    const auto forward = parse_forward(kind, listen, target);
    if (!forward) {
        expect(printable(forward.error().message) == forward.error().message, "a message is printable");
        return;
    }
    for (const mux::ForwardEnd* end : {&forward->listen, &forward->connect}) {
        expect(end->port < 65536 || end->port == mux::kUnixPath, "a port is one");
        expect(end->host.find('\0') == std::string::npos, "a name has no NUL byte");
    }
    static_cast<void>(mux::open_forward(1, *forward));
}

}  // namespace

void one_input(std::string_view input) {
    using enum api::ForwardKind;
    for (const auto kind : {Local, Remote, Dynamic}) {
        if (const auto words = split_forward(kind, input)) {
            check(kind, words->listen, words->target);
        }
        const std::size_t line = input.find('\n');
        check(kind, input.substr(0, line),
              line == std::string_view::npos ? std::nullopt : std::optional(std::string(input.substr(line + 1))));
    }
}

}  // namespace cmssh::fuzz
