// Events for people: one line each.
#pragma once

#include <string>

#include "protocol/events.hpp"

namespace cmssh::client {

// "Nov 28 15:44:17  session.ended       sess-abcdefgh (nightly) on server-a: exited 3", in local time; no terminal acts
// on it but for colours.
[[nodiscard]] std::string event_line(const api::Event& event, bool color);
// The id, or the server's key, of what it is about; empty where there is none.
[[nodiscard]] std::string subject_of(const api::Event& event);

}  // namespace cmssh::client
