// Both framings of the API socket: the messages do not depend on how their bytes arrive.
#include "protocol/framing.hpp"

#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

constexpr std::size_t kMaxMessage = 64;
constexpr std::size_t kMaxHeaders = 4096;

struct Seen {
    std::vector<std::string> messages;
    std::string error;
    Framing framing = Framing::Line;

    friend bool operator==(const Seen&, const Seen&) = default;
};

Seen read(const std::vector<std::string_view>& pieces) {
    FrameReader reader(kMaxMessage);
    Seen seen;
    for (const std::string_view piece : pieces) {
        reader.feed(piece);
        while (true) {
            const auto message = reader.next();
            if (!message) {
                expect(!reader.next().ok() && reader.buffered() == 0, "an error is final");
                seen.error = message.error().message;
                seen.framing = reader.framing();
                return seen;
            }
            if (!*message) {
                break;
            }
            expect((*message)->size() <= kMaxMessage, "a message is no longer than the limit");
            seen.messages.push_back(**message);
        }
        expect(reader.buffered() <= kMaxHeaders + piece.size(), "what is held is bounded");
    }
    seen.framing = reader.framing();
    return seen;
}

}  // namespace

void one_input(std::string_view input) {
    const Seen at_once = read({input});
    expect(read(pieces(input)) == at_once, "pieces give the messages that the whole gives");
    for (const std::string& message : at_once.messages) {
        const Seen again = read({frame(message, Framing::ContentLength)});
        expect(again.messages == std::vector<std::string>{message}, "a framed message is read back");
    }
}

}  // namespace cmssh::fuzz
