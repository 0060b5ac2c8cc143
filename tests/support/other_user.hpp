// What another user of this machine may do to us. For root.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

namespace cmssh::test {

inline constexpr uid_t kNobody = 65534;

// The kernel hands out the effective uid that a process had at connect() or listen().
class AsNobody {
public:
    AsNobody() {
        if (::seteuid(kNobody) != 0) {
            throw std::runtime_error("seteuid");
        }
    }
    ~AsNobody() {
        if (::seteuid(0) != 0) {
            std::abort();
        }
    }
    AsNobody(const AsNobody&) = delete;
    AsNobody& operator=(const AsNobody&) = delete;
};

}  // namespace cmssh::test
