#include <systemd/sd-journal.h>

#include "daemon/base/journal.hpp"

namespace cmssh {

bool send_to_journal(int priority, const std::string& subject, const std::string& message) {
    return ::sd_journal_send("MESSAGE=%s", message.c_str(), "PRIORITY=%i", priority, "CMSSH_SUBJECT=%s",
                             subject.c_str(), "SYSLOG_IDENTIFIER=cmsshd", nullptr) == 0;
}

}  // namespace cmssh
