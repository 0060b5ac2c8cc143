// For a wait that signals end: none is missed between a look at what their handlers set and the wait.
#pragma once

#include <signal.h>

namespace cmssh::client {

// While it lives, SIGINT, SIGTERM, SIGWINCH and SIGCONT come only where ppoll() lets them in.
class HeldSignals {
public:
    HeldSignals() {
        sigset_t held;
        ::sigemptyset(&held);
        for (const int signal : {SIGINT, SIGTERM, SIGWINCH, SIGCONT}) {
            ::sigaddset(&held, signal);
        }
        ::sigprocmask(SIG_BLOCK, &held, &before_);
    }
    ~HeldSignals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
    HeldSignals(const HeldSignals&) = delete;
    HeldSignals& operator=(const HeldSignals&) = delete;

    // The mask for ppoll().
    [[nodiscard]] const sigset_t* before() const { return &before_; }

private:
    sigset_t before_{};
};

}  // namespace cmssh::client
