// Forwards of ports and sockets, asked of the ssh masters and kept: one that is lost with its master is opened again on
// the next. Each belongs to a session, to a lease, or else to its context, and ends with it; a context's lasts until it
// is removed, over the daemon's life too: one that stops closes them, and the next opens them again, or closes what a
// crashed one left open on a master for an owner that is gone.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/task_group.hpp"
#include "daemon/session/leases.hpp"
#include "daemon/session/sessions.hpp"
#include "protocol/mux.hpp"

namespace cmssh {

class Forwards {
public:
    Forwards(asio::any_io_executor executor, Clock& clock, const Config& config, Sessions& sessions, Leases& leases,
             Registry& registry);

    // Told of each forward that may have changed, or that is listed or not listed any more from now on.
    void set_on_changed(std::function<void(const std::string& id)> listener) { on_changed_ = std::move(listener); }

    // Answers once it forwards. Errors of a login; InvalidParams; NameTaken: something listens there already;
    // ChannelRefused: ssh or the server does not listen there.
    asio::awaitable<Result<api::ForwardResult>> add(api::ForwardAddParams params, Caller caller);
    [[nodiscard]] api::ForwardListResult list(const api::ForwardListParams& params) const;
    // nullopt: there is none.
    [[nodiscard]] std::optional<api::Forward> find(const std::string& id) const;
    // Answers once nobody listens for it any more. InvalidParams where there is none of that id.
    asio::awaitable<Result<api::Empty>> remove(api::ForwardRemoveParams params);

    // What an earlier daemon had.
    void restore(std::vector<StoredForward> stored);
    // Into a registry that has none of them.
    void put_all();

    // Refuses new ones and closes all, within a moment.
    asio::awaitable<void> close_all();
    // After close_all(), when nobody calls any more; before the pool goes.
    asio::awaitable<void> shut_down();

    static constexpr std::size_t kMaxForwards = 1000;

private:
    // A master that stepped aside, held until what goes through it has ended: without a listener it ends by itself.
    struct Earlier {
        Hold hold;
        std::weak_ptr<Master> master;
    };
    struct Record {
        explicit Record(Clock& clock) : changed(clock) {}

        api::Forward view;
        mux::Forward wanted;  // a port that the server once chose is asked for from then on
        mux::Forward opened;  // what the master was asked for
        std::string listen;   // of that
        bool was_open = false;
        std::weak_ptr<Master> on;  // where it is active
        ConnectionUse connection;
        // A ref as of a lease, without a channel: the connection is kept, and made again where it is lost. Not while
        // it is disconnected.
        Hold hold;
        std::vector<Earlier> earlier;
        bool ended = false;  // it is to be closed
        bool closed = false;
        Event changed;
    };
    using RecordPtr = std::shared_ptr<Record>;  // shared with its tasks and the calls that wait for it

    asio::awaitable<Result<void>> connect(RecordPtr record, const api::ForwardAddParams& params,
                                          SessionTable::RecordPtr session, Caller caller);
    asio::awaitable<void> restore_one(RecordPtr record);
    asio::awaitable<void> find_again(RecordPtr record);
    static asio::awaitable<void> bring_up(RecordPtr record);
    void put(const Record& record);
    [[nodiscard]] Result<void> check_free(const Record& record) const;
    asio::awaitable<Result<void>> open(RecordPtr record, std::shared_ptr<Master> master);
    asio::awaitable<void> close(RecordPtr record);
    asio::awaitable<void> unlink_there(RecordPtr record);
    // Until it has ended: opens it on each master that the connection gets.
    asio::awaitable<void> keep(RecordPtr record);
    asio::awaitable<void> step_aside(RecordPtr record);
    void hold_as_needed(Record& record);
    asio::awaitable<void> end_with_session(RecordPtr record, SessionTable::RecordPtr session);
    asio::awaitable<void> end_with_lease(RecordPtr record, Caller caller);
    static void end(Record& record);
    void forget(const RecordPtr& record);
    void tell_changed(const Record& record) const;

    Clock& clock_;
    const Config& config_;
    Sessions& sessions_;
    Leases& leases_;
    Registry& registry_;
    std::function<void(const std::string& id)> on_changed_;
    std::vector<RecordPtr> records_;  // oldest first
    bool stopping_ = false;
    TaskGroup tasks_;
};

}  // namespace cmssh
