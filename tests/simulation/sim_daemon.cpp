#include "tests/simulation/sim_daemon.hpp"

#include <asio/co_spawn.hpp>

#include "daemon/base/random.hpp"

namespace cmssh::sim {

SimDaemon::SimDaemon(World& around, const Config& config, const std::string& registry_file, bool keeps_registry,
                     bool mirrors)
    : world(around),
      io(1),
      pipes(1),
      spawner(world),
      resolver(pipes.get_executor(), world.clock, spawner, config, {}),
      launcher(world),
      slots(world.clock, config.pool.max_concurrent_connects),
      registry(world.clock, registry_file),
      mirror(io.get_executor(), world.clock, sessions, pool),
      sessions(io.get_executor(), world.clock, config, resolver, registry),
      pool(
          ConnectionServices{
              .executor = io.get_executor(),
              .clock = world.clock,
              .config = config,
              .launcher = launcher,
              .slots = slots,
              .observer = sessions,
              .owner = "5e1f",
              .unit_random = make_unit_random(),
              .on_changed = [this](const std::string& key) { mirror.hub.touch(EventHub::Kind::Connection, key); }},
          "/run/user/1000/cmssh"),
      calls(io.get_executor(), world.clock) {
    sessions.set_pool(pool);
    sessions.set_on_changed([this](const std::string& id) { mirror.hub.touch(EventHub::Kind::Session, id); });
    if (mirrors) {
        mirror.subscribe();
    }
    sessions.restore(registry.load());
    LeftMasters left;
    left.servers = left_masters();
    calls.spawn("left masters", sessions.meet(std::move(left)));
    if (keeps_registry) {
        calls.spawn("registry", sessions.keep_registry());
    }
}

// As left_masters() of daemon/app finds them in the runtime directory.
std::vector<ServerKey> SimDaemon::left_masters() const {
    std::vector<ServerKey> keys;
    for (const auto& process : world.processes) {
        if (process->alive && process->listening) {
            keys.push_back(process->server);
        }
    }
    return keys;
}

bool SimDaemon::step() {
    io.restart();
    if (io.poll_one() > 0) {
        return true;
    }
    if (spawner.reading) {
        pipes.restart();
        spawner.reading = pipes.poll() > 0;
    }
    return spawner.reading;
}

void SimDaemon::request_stop() {
    if (std::exchange(stopping_, true)) {
        return;
    }
    mirror.hub.request_stop();
    sessions.request_stop();
    pool.request_stop();
    if (!world.clock.crashed()) {
        launcher.kill_logins();
    }
    asio::co_spawn(io, shut_down(), [this](std::exception_ptr failure) {
        if (failure) {
            std::rethrow_exception(failure);
        }
        stopped_ = true;
    });
}

asio::awaitable<void> SimDaemon::shut_down() {
    co_await calls.join_until(Instant::max());
    co_await sessions.shut_down();
    co_await pool.shut_down();
    co_await mirror.hub.shut_down();
    registry.close();
}

}  // namespace cmssh::sim
