// The whole daemon: owns every part, runs the loop, and shuts down in order.
#pragma once

#include <asio/io_context.hpp>
#include <asio/signal_set.hpp>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/app/listen_socket.hpp"
#include "daemon/app/notify.hpp"
#include "daemon/base/config.hpp"
#include "daemon/base/process.hpp"
#include "daemon/rpc/event_source.hpp"
#include "daemon/rpc/events.hpp"
#include "daemon/rpc/handlers.hpp"
#include "daemon/rpc/server.hpp"
#include "daemon/session/registry.hpp"
#include "daemon/session/sessions.hpp"
#include "daemon/ssh/openssh_master.hpp"

namespace cmssh {

struct DaemonOptions {
    std::string config_file;
    bool config_required = false;  // the user named it
    std::string home;
    std::string runtime_dir;
    std::string state_dir;
    std::string program;                   // our own executable
    std::vector<std::string> environment;  // what ssh gets
};

class Daemon final : public DaemonControl {
public:
    Daemon(asio::io_context& io, DaemonOptions options, Config config, ListenSocket socket, ReadyPipe ready);

    // Serves until SIGTERM, SIGINT or the shutdown method. A second signal ends the process at once.
    void run();

    Result<void> reload() override;
    void request_stop() override;
    [[nodiscard]] api::DaemonStats describe() const override;

private:
    asio::awaitable<void> serve();
    asio::awaitable<void> shut_down();
    asio::awaitable<void> feed_watchdog();
    [[nodiscard]] std::string status() const;
    asio::awaitable<void> prewarm(std::string ctx);
    void start_prewarming();
    [[nodiscard]] bool is_prewarmed(const std::string& ctx) const;
    // Unless another context that is prewarmed leads there too.
    void end_prewarming(const std::string& server_key);
    void watch_signals();

    asio::io_context& io_;
    DaemonOptions options_;
    Config config_;
    ListenSocket socket_;
    ReadyPipe ready_;
    SystemClock clock_;
    PosixSpawner spawner_;
    IdentityResolver resolver_;
    AskpassRelay askpass_;
    OpensshLauncher launcher_;
    ConnectSlots slots_;
    EventHub events_;  // told by what follows
    Registry registry_;
    Sessions sessions_;
    Leases leases_;
    RemoteExec remote_exec_;
    Pool pool_;
    Forwards forwards_;
    LiveSource live_;
    Handlers handlers_;
    std::map<std::string, std::string> prewarmed_;  // contexts, and the key of the server that each leads to
    RpcServer server_;
    asio::signal_set signals_;
    Instant started_;
    bool stopping_ = false;
    Event stop_;
    TaskGroup background_;  // what goes on beside the serving, until it ends
    TaskGroup tasks_;
};

}  // namespace cmssh
