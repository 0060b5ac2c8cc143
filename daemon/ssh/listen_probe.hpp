// Whether a forward could listen here, before the ssh master is asked to: its own answer says neither where nor why
// not, and is yes where one of two addresses is free.
#pragma once

#include "protocol/mux.hpp"
#include "protocol/result.hpp"

namespace cmssh {

// Of a local or dynamic forward as parse_forward() gives it. Removes a socket file of ours that nobody listens on.
// NameTaken: in use, naming the address or path; InvalidParams: this machine, or its rights, do not allow it. Waits for
// nothing.
[[nodiscard]] Result<void> probe_listen(const mux::ForwardEnd& end);

}  // namespace cmssh
