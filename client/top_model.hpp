// What `top` shows and what is selected in it. No I/O, no drawing.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/methods.hpp"

namespace cmssh::client {

class TopModel {
public:
    enum class Pane { Connections, Sessions };

    // What is selected stays so, and where it is gone, what has come into its place is.
    void set_connections(std::vector<api::Connection> connections);
    void set_sessions(std::vector<api::Session> sessions);
    // Takes the round trip time that each connection has now; a gap for one that is not up.
    void sample();

    void switch_pane();
    void move(int by);

    [[nodiscard]] Pane pane() const { return pane_; }
    [[nodiscard]] const std::vector<api::Connection>& connections() const { return connections_; }
    [[nodiscard]] const std::vector<api::Session>& sessions() const { return sessions_; }
    // In its list; 0 where that is empty.
    [[nodiscard]] std::size_t selected(Pane pane) const;
    // The newest last.
    [[nodiscard]] const std::deque<std::optional<double>>& samples(const std::string& key) const;

    // Where the sessions are the pane; nullptr: there is none.
    [[nodiscard]] const api::Session* session() const;
    // That which is selected, or that of the session; nullptr: there is none.
    [[nodiscard]] const api::Connection* connection() const;

    static constexpr std::size_t kSamples = 120;

private:
    std::vector<api::Connection> connections_;
    std::vector<api::Session> sessions_;
    std::map<std::string, std::deque<std::optional<double>>> samples_;
    Pane pane_ = Pane::Sessions;
    std::size_t connection_ = 0;
    std::size_t session_ = 0;
};

}  // namespace cmssh::client
