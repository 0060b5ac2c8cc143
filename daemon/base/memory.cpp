#include "daemon/base/memory.hpp"

#include <malloc.h>

namespace cmssh {

void give_memory_back() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

}  // namespace cmssh
