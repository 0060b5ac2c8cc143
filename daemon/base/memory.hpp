// What malloc does not do by itself.
#pragma once

namespace cmssh {

// To the system, what was freed in small pieces between others that are in use. Takes about a millisecond.
void give_memory_back();

}  // namespace cmssh
