// What a master, or somebody in its place, answers on its control socket.
#include "protocol/mux.hpp"

#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

struct Seen {
    std::vector<std::string> packets;
    bool error = false;

    friend bool operator==(const Seen&, const Seen&) = default;
};

Seen read(const std::vector<std::string_view>& pieces) {
    mux::PacketReader reader;
    Seen seen;
    for (const std::string_view piece : pieces) {
        reader.feed(piece);
        while (true) {
            auto packet = reader.next();
            if (!packet) {
                seen.error = true;
                return seen;
            }
            if (!*packet) {
                break;
            }
            expect((*packet)->size() <= mux::kMaxPacket, "a packet is no longer than the limit");
            seen.packets.push_back(std::move(**packet));
        }
    }
    return seen;
}

}  // namespace

void one_input(std::string_view input) {
    static_cast<void>(mux::parse_reply(input));
    const Seen at_once = read({input});
    expect(read(pieces(input)) == at_once, "pieces give the packets that the whole gives");
    for (const std::string& packet : at_once.packets) {
        // In memory of its own size.
        const std::vector<char> exact(packet.begin(), packet.end());
        static_cast<void>(mux::parse_reply({exact.data(), exact.size()}));
    }
}

}  // namespace cmssh::fuzz
