// The ssh that carries calls to the daemon of another machine: `ssh HOST cmctl proxy`, with its standard input and
// output on one end of a socket pair. What it says on standard error is the person's to read, as it comes.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "client/rpc_client.hpp"
#include "daemon/base/unique_fd.hpp"

namespace cmssh::client {

class HostLink {
public:
    // The link, and our end of the pair. ssh is started, and may have to ask the person something before it connects.
    using Opened = std::pair<std::shared_ptr<HostLink>, UniqueFd>;
    [[nodiscard]] static std::variant<Opened, CallError> open(const GlobalOptions& global);
    HostLink(const GlobalOptions& global, pid_t ssh, UniqueFd ours, UniqueFd errors);
    // Lets ssh end in order where nobody waits for an answer, and ends it otherwise.
    ~HostLink();
    HostLink(const HostLink&) = delete;
    HostLink& operator=(const HostLink&) = delete;

    // To poll() for input; -1: nothing more comes. relay_errors() is for when there is some.
    [[nodiscard]] int errors_fd() const { return errors_.get(); }
    void relay_errors();
    // The daemon has answered.
    void is_through() { through_ = true; }
    // An answer is outstanding.
    void set_waiting(bool waiting) { waiting_ = waiting; }
    // Why our end of the pair has nothing more to read. Waits a moment for ssh to say it.
    [[nodiscard]] CallError why_lost();
    // What came from there is no JSON-RPC.
    [[nodiscard]] CallError not_a_daemon();

private:
    // As waitpid gives it. nullopt: it runs on.
    std::optional<int> wait_for_end();
    [[nodiscard]] CallError failed_before_answer(int code) const;

    std::string host_;
    bool quiet_;  // until the daemon has answered: standard error is one JSON text's
    pid_t ssh_;
    UniqueFd ours_;  // a copy, to end the conversation whoever closes first
    UniqueFd errors_;
    std::string said_;  // the last of it
    std::optional<int> status_;
    bool through_ = false;
    bool waiting_ = false;
};

}  // namespace cmssh::client
