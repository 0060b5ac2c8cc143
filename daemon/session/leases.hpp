// Leases that clients hold: an attach, an exec. Each has a channel of its server's connection, and ends with its
// client's connection to us at the latest. A plain ssh that passes through holds one as a process, and it ends with
// that.
#pragma once

#include <asio/awaitable.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "daemon/base/watched_process.hpp"
#include "daemon/session/control_links.hpp"
#include "daemon/session/sessions.hpp"

namespace cmssh {

class Leases {
public:
    // Others may have every channel of a connection for hours: whoever waits this long for one is told.
    static constexpr Duration kQueueDeadline = std::chrono::minutes(5);

    // links_directory: see ControlLinks.
    Leases(asio::any_io_executor executor, Clock& clock, const Config& config, Sessions& sessions,
           std::string links_directory);

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
    [[nodiscard]] bool holds(const std::string& lease, const Caller& caller) const;
    // Notified whenever a lease has ended.
    [[nodiscard]] Event& ended() { return ended_; }
    // The processes that had leases of an earlier daemon, where they still run: on connections that the pool has. They
    // get no channel of the budget: what was theirs is not known any more.
    void restore();
    // Before the pool goes. Processes go on without us: their notes stay for the next daemon.
    asio::awaitable<void> shut_down();

private:
    struct EndNotice {
        explicit EndNotice(Event& event) : ended(event) {}
        ~EndNotice() { ended.notify_all(); }
        EndNotice(const EndNotice&) = delete;
        EndNotice& operator=(const EndNotice&) = delete;
        Event& ended;
    };
    struct Held {
        Connection* connection = nullptr;
        Connection::Lease lease;
        Caller caller;
        bool hang_up = false;
        std::unique_ptr<EndNotice> notice;
        // Of a process that holds it: shared with the task that waits for its end.
        std::shared_ptr<WatchedProcess> process;
        ControlLinks::Link link;
    };

    // The caller's lease of that name, taken off.
    Result<Held> take(const std::string& id, const Caller& caller);
    asio::awaitable<Result<Sessions::Found>> find(const api::AcquireParams& params);
    // Of that server, in place of one whose channel the server refused where there is such. The result's id is new.
    asio::awaitable<Result<std::string>> grant(Sessions::Found& found, const api::AcquireParams& params,
                                               Connection::Want want, Caller caller);
    asio::awaitable<Result<Connection::Lease>> lease(Connection& connection, const api::AcquireParams& params,
                                                     Connection::Want want, ChannelBudget::Patience patience,
                                                     const Caller& caller);
    // What a process that asked before has already: ssh reads its configuration twice where it canonicalises names.
    [[nodiscard]] const std::string* held_by(const WatchedProcess& process, const Connection& connection) const;
    std::string add(Held held);
    // Processes whose channel the server refused do without their lease, and the limit is learnt.
    void drop_refused(const Connection& connection);
    asio::awaitable<void> end_with_process(std::string id, std::shared_ptr<WatchedProcess> process);
    void tell_doubted(const Connection& connection, std::uint64_t generation);

    asio::any_io_executor executor_;
    Clock& clock_;
    const Config& config_;
    Sessions& sessions_;
    Abandoned on_abandoned_;
    Event ended_;
    ControlLinks links_;
    std::map<std::string, Held> leases_;
    TaskGroup tasks_;
};

}  // namespace cmssh
