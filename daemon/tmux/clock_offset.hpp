// A server's clock less ours, from the second that tmux puts on each reply. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cmssh::tmux {

// Each reply bounds it: the server read its clock after the request was sent and before the reply was received. A reply
// that was long on its way bounds it badly, and does not spoil what earlier ones said.
class ClockOffset {
public:
    // `server_s`: seconds since 1970 there; the other two milliseconds since 1970 here.
    void add(std::int64_t server_s, std::int64_t sent_ms, std::int64_t received_ms) {
        const std::int64_t least = server_s * 1000 - received_ms;
        const std::int64_t most = server_s * 1000 + 999 - sent_ms;
        if (!known_ || least > most_ || most < least_) {
            // One of the two clocks was set, or they have drifted apart.
            least_ = least;
            most_ = most;
        } else {
            least_ = std::max(least_, least);
            most_ = std::min(most_, most);
        }
        known_ = true;
    }

    // In milliseconds. The lower bound: off by the shortest way of a reply, and by a second at first.
    [[nodiscard]] std::int64_t ms() const { return least_; }

private:
    std::int64_t least_ = 0;
    std::int64_t most_ = 0;
    bool known_ = false;
};

}  // namespace cmssh::tmux
