// Leases that clients hold: an attach, an exec, a plain ssh passing through. Each has a channel of its server's
// connection, and ends with its client's connection to us at the latest.
#pragma once

#include <asio/awaitable.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "daemon/session/sessions.hpp"

namespace cmssh {

class Leases {
public:
    Leases(Clock& clock, const Config& config, Sessions& sessions);

    asio::awaitable<Result<api::AcquireResult>> acquire(api::AcquireParams params, Caller caller);
    // A lease, and how a terminal gets to the session with it.
    asio::awaitable<Result<api::AttachResult>> attach(api::AttachParams params, Caller caller);
    Result<api::Empty> release(const api::LeaseParams& params, const Caller& caller);
    void end_all_of(const void* client);
    // Of the caller.
    [[nodiscard]] Result<ConnectionUse> connection_of(const std::string& id, const Caller& caller) const;
    // Told of a lease whose client went without releasing it, where that is to be hung up on; gets the lease itself:
    // its channel is used until the command has ended.
    using Abandoned = std::function<void(std::string id, ConnectionUse connection, Connection::Lease lease)>;
    void set_on_abandoned(Abandoned listener) { on_abandoned_ = std::move(listener); }
    // Before the pool goes.
    void end_all() { leases_.clear(); }
    [[nodiscard]] bool holds(const std::string& lease, const Caller& caller) const;
    // Notified whenever a lease has ended.
    [[nodiscard]] Event& ended() { return ended_; }

private:
    struct EndNotice {
        Event& ended;
        ~EndNotice() { ended.notify_all(); }
    };
    struct Held {
        Connection* connection = nullptr;
        Connection::Lease lease;
        Caller caller;
        bool hang_up = false;
        std::unique_ptr<EndNotice> notice;
    };

    // The caller's lease of that name, taken off.
    Result<Held> take(const std::string& id, const Caller& caller);
    // Of that server, in place of one whose channel the server refused where there is such. The result's id is new.
    asio::awaitable<Result<std::string>> grant(Sessions::Found& found, std::optional<std::string> refused,
                                               Connection::Want want, Caller caller);
    void tell_doubted(const Connection& connection, std::uint64_t generation);

    Clock& clock_;
    const Config& config_;
    Sessions& sessions_;
    Abandoned on_abandoned_;
    Event ended_;
    std::map<std::string, Held> leases_;
};

}  // namespace cmssh
