#include "daemon/base/memory.hpp"

#include <malloc.h>

namespace cmssh {

void set_up_memory() {
#ifdef __GLIBC__
    constexpr int kMiB = 1024 * 1024;
    ::mallopt(M_MMAP_THRESHOLD, kMiB);
    ::mallopt(M_TRIM_THRESHOLD, 2 * kMiB);
#endif
}

void give_memory_back() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

}  // namespace cmssh
