// Marks of what a connection has under way, for as long as they live.
#pragma once

#include <memory>

#include "daemon/base/event.hpp"
#include "daemon/ssh/master.hpp"

namespace cmssh {

// Sets a flag for as long as it lives, and tells who waits for its end.
class Marked {
public:
    Marked(bool& flag, Event& changed) : flag_(flag), changed_(changed) { flag_ = true; }
    ~Marked() {
        flag_ = false;
        changed_.notify_all();
    }
    Marked(const Marked&) = delete;
    Marked& operator=(const Marked&) = delete;

private:
    bool& flag_;
    Event& changed_;
};

// Says which master something is under way on, one at a time on each, and tells who waits for its end.
class UnderWayOn {
public:
    UnderWayOn(const Master*& place, const std::shared_ptr<Master>& master, Event& changed)
        : place_(place), master_(master), changed_(changed) {
        place_ = master_.get();
    }
    ~UnderWayOn() {
        if (place_ == master_.get()) {
            place_ = nullptr;
        }
        changed_.notify_all();
    }
    UnderWayOn(const UnderWayOn&) = delete;
    UnderWayOn& operator=(const UnderWayOn&) = delete;

private:
    const Master*& place_;
    std::shared_ptr<Master> master_;  // no other gets its address meanwhile
    Event& changed_;
};

}  // namespace cmssh
