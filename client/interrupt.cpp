#include "client/interrupt.hpp"

#include <signal.h>

namespace cmssh::client {
namespace {

volatile sig_atomic_t was_interrupted = 0;

void on_interrupt(int /*signal*/) {
    was_interrupted = 1;
}

}  // namespace

void catch_interrupts() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    // Without SA_RESTART poll() returns; the second signal finds the default action again.
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() {
    return was_interrupted != 0;
}

}  // namespace cmssh::client
