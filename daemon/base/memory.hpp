// What malloc does not do by itself.
#pragma once

namespace cmssh {

// What is freed may stay with the process as far as the next reply needs it again: by itself malloc hands blocks of
// over 128 KiB back at once, and each page of the next list of sessions is a fault. To be called first.
void set_up_memory();

// To the system, what was freed in small pieces between others that are in use. Takes about a millisecond.
void give_memory_back();

}  // namespace cmssh
