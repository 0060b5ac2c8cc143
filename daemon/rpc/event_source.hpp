// What the events are about, as `list`, `stats` and `forward.list` show it.
#pragma once

#include <optional>
#include <string>

#include "daemon/session/forwards.hpp"
#include "daemon/session/sessions.hpp"
#include "protocol/events.hpp"

namespace cmssh {

class EventSource {
public:
    virtual ~EventSource() = default;
    [[nodiscard]] virtual api::Snapshot all() const = 0;
    // nullopt: it is not listed.
    [[nodiscard]] virtual std::optional<api::Session> session(const std::string& id) const = 0;
    [[nodiscard]] virtual std::optional<api::Connection> connection(const std::string& key) const = 0;
    [[nodiscard]] virtual std::optional<api::Forward> forward(const std::string& id) const = 0;
};

// The daemon's. All three outlive it, and may be made after it. forwards nullptr: there are none.
class LiveSource final : public EventSource {
public:
    LiveSource(const Sessions& sessions, const Pool& pool, const Forwards* forwards)
        : sessions_(sessions), pool_(pool), forwards_(forwards) {}

    [[nodiscard]] api::Snapshot all() const override;
    [[nodiscard]] std::optional<api::Session> session(const std::string& id) const override;
    [[nodiscard]] std::optional<api::Connection> connection(const std::string& key) const override;
    [[nodiscard]] std::optional<api::Forward> forward(const std::string& id) const override;

private:
    const Sessions& sessions_;
    const Pool& pool_;
    const Forwards* forwards_;
};

}  // namespace cmssh
