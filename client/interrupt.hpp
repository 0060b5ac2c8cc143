// Ctrl-C while a call waits: the call ends, and says how to come back; the session runs on.
#pragma once

namespace cmssh::client {

// From here on SIGINT and SIGTERM end waits instead of the process; a second one ends the process.
void catch_interrupts();
[[nodiscard]] bool interrupted();

}  // namespace cmssh::client
