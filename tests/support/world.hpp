// Everything a test needs: servers, a daemon and a client of it. A test makes one of its own; nothing of it is left
// when it goes.
#pragma once

#include <memory>
#include <string>

#include "tests/support/daemon.hpp"
#include "tests/support/files.hpp"
#include "tests/support/rpc_client.hpp"
#include "tests/support/sshd.hpp"

namespace cmssh::test {

class World {
public:
    // config: of config.toml, without [ssh].
    explicit World(SshdOptions servers = {}, const std::string& config = {});
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    TempDir dir;

private:
    // Ends what the others have left, after them.
    struct Strays {
        Strays();
        ~Strays();
    } strays_;

public:
    Sshd sshd;
    Daemon daemon;

    // A connection to the daemon that is kept between calls, made anew where the daemon was.
    RpcClient& rpc();
    // For a daemon that was stopped.
    void start_daemon();

    // `start` and its result. extra: more params.
    Json start(const std::string& ctx, const Words& command, const Json& extra = Json::object());
    // The same; its session's id.
    std::string start_id(const std::string& ctx, const Words& command, const Json& extra = Json::object());
    // The session, as `get` shows it.
    Json session(const std::string& id);
    // The session, once it has ended.
    Json wait(const std::string& id);
    // What `list` shows: ids, newest last.
    Words list(const Json& params = Json::object());
    Json stats();
    // Of `stats`: that with this key, or that to which this alone leads; throws where there is none.
    Json connection(const std::string& key);
    [[nodiscard]] std::string key(const std::string& host) const;
    // Waits until `get` shows the session in this state.
    [[nodiscard]] bool becomes(const std::string& id, const std::string& state, Deadline deadline = in(kPatience));
    [[nodiscard]] bool connection_becomes(const std::string& key, const std::string& state,
                                          Deadline deadline = in(kPatience));

    // Asks the tmux of server N itself.
    [[nodiscard]] Finished tmux(int server, const Words& arguments) const;
    // The sessions that are there, without the daemon's own.
    [[nodiscard]] Words tmux_sessions(int server) const;
    [[nodiscard]] int spare_sessions(int server) const;
    // Waits until a spare session is there to be taken over, and the daemon knows it; the pid of its pane.
    pid_t spare(int server);
    // Of the only pane of a session there.
    [[nodiscard]] pid_t pane_pid(int server, const std::string& id) const;

private:
    std::unique_ptr<RpcClient> rpc_;
};

}  // namespace cmssh::test
