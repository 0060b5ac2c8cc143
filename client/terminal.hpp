// The caller's terminal while a session on a master has it: as it was before, whatever happens.
#pragma once

#include <termios.h>

namespace cmssh::client {

// Standard input and output are terminals.
[[nodiscard]] bool on_terminal();

// Returns in a child process, which does the work from here on. The parent never returns: it hands SIGTERM and SIGHUP
// on, waits, and ends as the child did. Where a signal ended the child, SIGKILL too, the parent gives the terminal on
// standard input its modes and its screen back first. A child whose parent is killed gets SIGTERM. To be called before
// there is a socket or anything else that two processes must not share.
void guard_terminal();

// Raw mode of the terminal on standard input, as ssh's, from the constructor to the destructor.
class RawMode {
public:
    RawMode();
    ~RawMode();
    // Once more, after a shell has had the terminal.
    void enter();
    RawMode(const RawMode&) = delete;
    RawMode& operator=(const RawMode&) = delete;

private:
    termios before_{};
    bool raw_ = false;
};

// For what a program on the other side could not undo any more: the alternate screen, mouse and paste modes, a hidden
// cursor.
void leave_screen();

}  // namespace cmssh::client
