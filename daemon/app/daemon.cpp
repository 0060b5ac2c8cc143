#include "daemon/app/daemon.hpp"

#include <asio/co_spawn.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "daemon/app/config.hpp"
#include "daemon/base/log.hpp"
#include "daemon/base/random.hpp"
#include "daemon/ssh/ssh_aliases.hpp"
#include "protocol/names.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {
namespace {

// Replies under way are written by then, and children told to end have ended.
constexpr Duration kStopDeadline = std::chrono::seconds(5);

std::string read_line(const char* path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// Tells this daemon's sessions on a server from those of the user's other machines, and of another state dir.
std::string owner_of(const DaemonOptions& options) {
    return hex_digest(read_line("/etc/machine-id") + ' ' + std::to_string(::geteuid()) + ' ' + options.state_dir, 16);
}

// By their control sockets, and by the names that may lead to one that does not tell its server.
LeftMasters left_masters(const std::string& runtime_dir, const Config& config, const std::string& home) {
    LeftMasters left;
    std::error_code failure;
    for (const auto& entry : std::filesystem::directory_iterator(runtime_dir, failure)) {
        const std::string name = entry.path().filename().native();
        if (auto server = server_of_control_name(name)) {
            left.servers.push_back(std::move(*server));
        } else if (is_control_name(name)) {
            left.unnamed.insert(entry.path().native());
        }
    }
    if (!left.unnamed.empty()) {
        for (const auto& [name, context] : config.contexts) {
            left.names.push_back(name);
        }
        const auto aliases = ssh_aliases(config.ssh.options, home);
        left.names.insert(left.names.end(), aliases.begin(), aliases.end());
    }
    return left;
}

std::uint64_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    std::uint64_t total = 0;
    std::uint64_t resident = 0;
    file >> total >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

Daemon::Daemon(asio::io_context& io, DaemonOptions options, Config config, ListenSocket socket, ReadyPipe ready)
    : io_(io),
      options_(std::move(options)),
      config_(std::move(config)),
      socket_(std::move(socket)),
      ready_(std::move(ready)),
      clock_(io.get_executor()),
      spawner_(io.get_executor(), clock_),
      resolver_(io.get_executor(), clock_, spawner_, config_, options_.environment),
      askpass_(options_.program, socket_.address()),
      launcher_(io.get_executor(), clock_, spawner_, config_, askpass_, options_.environment, options_.runtime_dir),
      slots_(clock_, config_.pool.max_concurrent_connects),
      events_(io.get_executor(), clock_),
      registry_(clock_, options_.state_dir + "/registry.db"),
      sessions_(io.get_executor(), clock_, config_, resolver_, registry_),
      leases_(io.get_executor(), clock_, config_, sessions_, options_.runtime_dir + "/ssh"),
      remote_exec_(io.get_executor(), clock_, config_, sessions_, leases_),
      pool_(ConnectionServices{
                .executor = io.get_executor(),
                .clock = clock_,
                .config = config_,
                .launcher = launcher_,
                .slots = slots_,
                .observer = sessions_,
                .owner = owner_of(options_),
                .unit_random = make_unit_random(),
                .find_hop = [this](SshRoute route) { return sessions_.find_hop(std::move(route)); },
                .on_changed = [this](const std::string& key) { events_.touch(EventHub::Kind::Connection, key); }},
            options_.runtime_dir),
      forwards_(io.get_executor(), clock_, config_, sessions_, leases_, registry_),
      live_(sessions_, pool_, &forwards_),
      handlers_(clock_, config_, sessions_, leases_, remote_exec_, forwards_, pool_, resolver_, askpass_, events_,
                *this, options_.home),
      server_(io.get_executor(), clock_, config_, handlers_, socket_.take_fd()),
      signals_(io, SIGTERM, SIGINT, SIGHUP),
      started_(clock_.now()),
      stop_(clock_),
      background_(io.get_executor(), clock_),
      tasks_(io.get_executor(), clock_) {
    sessions_.set_pool(pool_);
    Sessions::Keeper keeper;
    keeper.restore = [this](std::vector<StoredForward> stored) { forwards_.restore(std::move(stored)); };
    keeper.put_all = [this] { forwards_.put_all(); };
    sessions_.set_keeper(std::move(keeper));
    events_.set_source(live_);
    sessions_.set_on_changed([this](const std::string& id) { events_.touch(EventHub::Kind::Session, id); });
    forwards_.set_on_changed([this](const std::string& id) { events_.touch(EventHub::Kind::Forward, id); });
}

void Daemon::run() {
    watch_signals();
    tasks_.spawn("daemon", serve());
    io_.run();
}

void Daemon::watch_signals() {
    signals_.async_wait([this](const asio::error_code& error, int signal) {
        if (error) {
            return;
        }
        if (signal == SIGHUP) {
            if (const auto reloaded = reload(); !reloaded) {
                log_error("config", reloaded.error().message);
            }
        } else if (stopping_) {
            // Asked twice: whoever asks has no more patience. Masters and sessions live on all the same.
            ::_exit(0);
        } else {
            log_info("cmsshd", "asked to stop by SIG" + signal_name(signal));
            request_stop();
        }
        watch_signals();
    });
}

asio::awaitable<void> Daemon::serve() {
    background_.spawn("rpc", server_.run());
    if (watchdog_interval()) {
        background_.spawn("watchdog", feed_watchdog());
    }
    sessions_.restore(registry_.load());
    leases_.restore();
    background_.spawn("left masters", sessions_.meet(left_masters(options_.runtime_dir, config_, options_.home)));
    background_.spawn("registry", sessions_.keep_registry());
    start_prewarming();
    log_info("cmsshd", std::string(CMSSH_VERSION " serves, pid ") + std::to_string(::getpid()));
    notify_ready(status());
    ready_.announce();
    while (!stopping_) {
        co_await stop_.wait();
    }
    co_await shut_down();
}

// Accept nobody, tell the waiting calls, let replies go out, then let go of the masters: they and their sessions live
// on, and ssh's own ControlPersist ends the idle ones.
asio::awaitable<void> Daemon::shut_down() {
    log_info("cmsshd", "stopping");
    notify_stopping();
    server_.stop_accepting();
    socket_.unlink_own();
    // Who listens here for a daemon that is gone would be found by nobody.
    co_await forwards_.close_all();
    events_.request_stop();
    sessions_.request_stop();
    remote_exec_.request_stop();
    pool_.request_stop();
    spawner_.end_all();
    co_await server_.shut_down(clock_.now() + kStopDeadline);
    co_await remote_exec_.shut_down();
    co_await leases_.shut_down();
    co_await forwards_.shut_down();
    co_await sessions_.shut_down();
    co_await pool_.shut_down();
    co_await events_.shut_down();
    co_await background_.join_until(Instant::max());
    registry_.close();
    spawner_.stop();
    asio::error_code ignored;
    signals_.cancel(ignored);
}

asio::awaitable<void> Daemon::feed_watchdog() {
    // From the loop itself: a loop that hangs is not alive.
    while (!stopping_) {
        notify_watchdog(status());
        co_await stop_.wait_until(clock_.now() + *watchdog_interval());
    }
}

std::string Daemon::status() const {
    int sessions = 0;
    std::size_t masters = 0;
    for (const auto& [key, connection] : pool_.connections()) {
        sessions += connection->describe().sessions;
        masters += connection->masters();
    }
    const auto counted = [](auto count, const std::string& what) {
        return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
    };
    return "serves: " + counted(sessions, "session") + ", " + counted(masters, "connection");
}

void Daemon::start_prewarming() {
    for (const auto& [name, context] : config_.contexts) {
        if (context.prewarm) {
            background_.spawn(name, prewarm(name));
        }
    }
}

bool Daemon::is_prewarmed(const std::string& ctx) const {
    const auto found = config_.contexts.find(ctx);
    return found != config_.contexts.end() && found->second.prewarm;
}

void Daemon::end_prewarming(const std::string& server_key) {
    const bool wanted = std::any_of(prewarmed_.begin(), prewarmed_.end(),
                                    [&server_key](const auto& it) { return it.second == server_key; });
    Connection* connection = pool_.find(server_key);
    if (!wanted && connection != nullptr) {
        connection->unpin();
    }
}

asio::awaitable<void> Daemon::prewarm(std::string ctx) {
    auto found = co_await sessions_.find_connection(ctx);
    if (!found) {
        log_warn(ctx, "not connected ahead: " + found.error().message);
        co_return;
    }
    const std::string key = found->connection->key_text();
    if (!is_prewarmed(ctx)) {
        end_prewarming(key);  // meanwhile
        co_return;
    }
    const std::string before = std::exchange(prewarmed_[ctx], key);
    if (!before.empty() && before != key) {
        end_prewarming(before);
    }
    found->connection->keep_spare();
    Connection::Want want;
    (void)co_await found->connection->ensure_up(std::move(want));
}

Result<void> Daemon::reload() {
    auto loaded = load_config(options_.config_file, options_.home, options_.config_required);
    if (!loaded) {
        return std::move(loaded).error();
    }
    notify_reloading();
    config_ = std::move(*loaded);
    resolver_.forget_all();
    for (auto it = prewarmed_.begin(); it != prewarmed_.end();) {
        const auto [ctx, key] = *it;
        if (is_prewarmed(ctx)) {
            ++it;
        } else {
            it = prewarmed_.erase(it);
            end_prewarming(key);
        }
    }
    start_prewarming();
    log_info("config", "reloaded");
    notify_ready(status());
    return {};
}

void Daemon::request_stop() {
    stopping_ = true;
    stop_.notify_all();
}

api::DaemonStats Daemon::describe() const {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    api::DaemonStats stats;
    stats.pid = ::getpid();
    stats.version = CMSSH_VERSION;
    stats.uptime_s = std::chrono::duration<double>(clock_.now() - started_).count();
    stats.rss_bytes = resident_bytes();
    stats.cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    stats.clients = server_.clients();
    stats.requests = server_.counters().requests;
    stats.errors = server_.counters().errors;
    stats.unsaved = registry_.unsaved();
    stats.config = options_.config_file;
    return stats;
}

}  // namespace cmssh
