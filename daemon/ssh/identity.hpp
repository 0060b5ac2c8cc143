// Which server a route leads to, by `ssh -G`. An answer costs a process and runs the user's `Match exec` commands, so
// it is kept: until a reload, until ssh's config files change, and for a minute at most (an Include is not watched).
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <map>
#include <memory>
#include <string>

#include "daemon/base/event.hpp"
#include "daemon/base/process.hpp"
#include "daemon/ssh/ssh_command.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {

struct Identity {
    ServerKey key;
    SshConfigDump dump;
};

class IdentityResolver {
public:
    IdentityResolver(asio::any_io_executor executor, Clock& clock, ProcessSpawner& spawner, const Config& config,
                     std::vector<std::string> environment);

    // One `ssh -G` at a time per route: callers meanwhile get its answer.
    asio::awaitable<Result<Identity>> resolve(SshRoute route, Instant deadline);
    // What was resolved before and still holds; nullptr otherwise.
    [[nodiscard]] const Identity* known(const SshRoute& route) const;
    void forget_all() { entries_.clear(); }

private:
    struct Entry {
        explicit Entry(Clock& clock) : answered(clock) {}
        std::optional<Result<Identity>> answer;
        Instant at;
        std::string stamp;  // of the config files when it was asked
        Event answered;
    };
    [[nodiscard]] std::string config_stamp() const;
    [[nodiscard]] bool fresh(const Entry& entry) const;
    asio::awaitable<Result<Identity>> ask(const SshRoute& route, Instant deadline);
    asio::awaitable<Result<SshConfigDump>> dump(const SshRoute& route, Instant deadline);

    asio::any_io_executor executor_;
    Clock& clock_;
    ProcessSpawner& spawner_;
    const Config& config_;
    std::vector<std::string> environment_;
    // Shared with the callers that wait for an answer while a reload forgets it.
    std::map<std::string, std::shared_ptr<Entry>> entries_;
};

}  // namespace cmssh
