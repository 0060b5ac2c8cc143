// systemd's journal with fields of our own (journal_systemd.cpp, or journal_none.cpp where libsystemd is not).
#pragma once

#include <string>

namespace cmssh {

// priority: as in syslog(3). CMSSH_SUBJECT is the session, server or context that a line is about. false: the journal
// did not take it.
[[nodiscard]] bool send_to_journal(int priority, const std::string& subject, const std::string& message);

}  // namespace cmssh
