#include "daemon/pool/spare_session.hpp"

#include <algorithm>

namespace cmssh {

SpareSession::Start::Start(SpareSession& spare) : spare_(spare) {
    ++spare_.under_way_;
    if (spare_.making_) {
        spare_.lengthen_pause();
    }
}

SpareSession::Start::~Start() {
    --spare_.under_way_;
    spare_.wanted_ = true;
    spare_.last_start_ = spare_.clock_.now();
    spare_.changed_.notify_all();
}

void SpareSession::tried(Outcome outcome) {
    if (outcome == Outcome::TakenOver) {
        pause_ = kPause;
    } else {
        lengthen_pause();
    }
}

void SpareSession::keep(bool on) {
    kept_ = on;
    changed_.notify_all();
}

void SpareSession::reached() {
    wanted_ = wanted_ || kept_;
    changed_.notify_all();
}

void SpareSession::forget() {
    pid_.reset();
    forgotten_ = true;
    wanted_ = false;
    changed_.notify_all();
}

void SpareSession::lengthen_pause() {
    pause_ = std::min(pause_ * 2, kLongestPause);
}

Instant SpareSession::next_step() const {
    if (pid_) {
        return kept_ ? Instant::max() : last_start_ + kLeft;
    }
    return wanted_ && under_way_ == 0 ? last_start_ + pause_ : Instant::max();
}

asio::awaitable<void> SpareSession::run() {
    while (!stopped_) {
        const Instant next = next_step();
        if (clock_.now() < next) {
            co_await changed_.wait_until(next);
        } else if (pid_) {
            pid_.reset();
            wanted_ = false;
            co_await actions_.remove();
        } else {
            co_await make();
        }
    }
}

asio::awaitable<void> SpareSession::make() {
    wanted_ = false;
    making_ = true;
    forgotten_ = false;
    const auto made = co_await actions_.make();
    making_ = false;
    if (!made) {
        lengthen_pause();
    } else if (!forgotten_) {
        pid_ = made;
    }
}

void SpareSession::request_stop() {
    stopped_ = true;
    changed_.notify_all();
}

}  // namespace cmssh
