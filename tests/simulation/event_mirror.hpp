// A subscriber to the daemon's events: what it makes of them must be what there is, whenever the daemon waits.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "daemon/pool/pool.hpp"
#include "daemon/rpc/events.hpp"
#include "daemon/session/sessions.hpp"

namespace cmssh::sim {

class EventMirror final : public EventSink {
public:
    // Both may be made later.
    EventMirror(asio::any_io_executor executor, Clock& clock, const Sessions& sessions, const Pool& pool);

    void subscribe();
    // nullopt: it shows what there is.
    [[nodiscard]] std::optional<std::string> difference() const;

    void push(const JsonText& params) override;
    void flush() override {}
    [[nodiscard]] std::uint64_t given() const override { return 0; }
    [[nodiscard]] std::uint64_t taken() const override { return 0; }
    void keep(bool /*on*/) override {}

    EventHub hub;

private:
    // As text, by id and key.
    struct Picture {
        std::map<std::string, std::string> sessions;
        std::map<std::string, std::string> connections;
    };
    static void put(Picture& picture, const api::Session& session);
    static void put(Picture& picture, const api::Connection& connection);
    [[nodiscard]] static Picture picture_of(const api::Snapshot& snapshot);

    LiveSource truth_;
    Picture seen_;
    std::uint64_t seq_ = 0;
    std::string failure_;
};

}  // namespace cmssh::sim
