// The daemon as it is, on the world of the simulation: everything but sockets, RPC and configuration files.
#pragma once

#include <asio/io_context.hpp>

#include <memory>
#include <string>
#include <vector>

#include "daemon/pool/pool.hpp"
#include "daemon/session/sessions.hpp"
#include "tests/simulation/event_mirror.hpp"
#include "tests/simulation/masters.hpp"
#include "tests/simulation/world.hpp"

namespace cmssh::sim {

class SimDaemon {
public:
    // mirrors: with a subscriber to its events.
    // keeps_registry: with the task that looks after it every second, which is most of what there is to do in a day.
    SimDaemon(World& around, const Config& config, const std::string& registry_file, bool keeps_registry, bool mirrors);

    // Runs one step; false: nothing is ready.
    bool step();
    // Asks it to stop, as SIGTERM does. After a crash: what is left of it ends.
    void request_stop();
    [[nodiscard]] bool stopping() const { return stopping_; }
    [[nodiscard]] bool stopped() const { return stopped_; }

    World& world;
    asio::io_context io;
    // Of the pipes that `ssh -G` writes into: what looks at descriptors asks the kernel at each step.
    asio::io_context pipes;
    SimSpawner spawner;
    IdentityResolver resolver;
    SimLauncher launcher;
    ConnectSlots slots;
    Registry registry;
    EventMirror mirror;
    Sessions sessions;
    Pool pool;
    TaskGroup calls;

private:
    [[nodiscard]] std::vector<ServerKey> left_masters() const;
    asio::awaitable<void> shut_down();

    bool stopping_ = false;
    bool stopped_ = false;
};

}  // namespace cmssh::sim
