// Everything outside the daemon: servers with their sshd and tmux, the network between, and the ssh processes on this
// machine, which outlive a daemon that crashes. Faults are switched here; nothing of it decides by itself to fail.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/event.hpp"
#include "protocol/errors.hpp"
#include "protocol/server_key.hpp"
#include "tests/simulation/rng.hpp"
#include "tests/simulation/tmux_server.hpp"
#include "tests/simulation/trace.hpp"
#include "tests/simulation/virtual_clock.hpp"

namespace cmssh::sim {

class World;
class SimChannel;
class SimMaster;
struct Process;

// A remote command: the channel's two ends. It lives while either end does, and longer where bytes are on the way.
struct Stream {
    enum class Opening { Asked, Open, Refused };
    std::uint64_t id = 0;
    Process* process = nullptr;
    std::string command;
    Opening opening = Opening::Asked;
    // The client's end.
    bool client_closed = false;
    std::string output;
    std::string error;
    bool ended = false;
    std::optional<int> exit_code;
    Event* changed = nullptr;  // of who waits for it in the daemon
    // The server's end.
    bool running = false;
    std::string input;
    std::unique_ptr<ControlClient> control;
};
using StreamPtr = std::shared_ptr<Stream>;

// One TCP connection: in order both ways; what does not get through is sent again until it does.
struct Link {
    bool blackholed = false;   // forgotten by something on the way: this one never works again
    bool reset = false;        // the server knows nothing of it any more
    Duration stalled_until{};  // TCP comes back later than the path does
    Duration last_up{};
    Duration last_down{};
    std::deque<std::function<void()>> held_up;
    std::deque<std::function<void()>> held_down;
    std::optional<Duration> closed_since;
};

// An ssh master. Entries are kept after its death: what it sent may still arrive.
struct Process {
    std::uint64_t pid = 0;
    std::size_t machine = 0;
    ServerKey server;
    std::string key;
    std::string control_path;
    bool alive = true;
    bool listening = true;
    bool hung = false;
    Duration last_use{};
    bool persist_watched = false;
    Link link;
    std::vector<StreamPtr> streams;           // open on the client's side
    std::vector<StreamPtr> served;            // open on the server's side
    std::deque<std::function<void()>> inbox;  // of one that hangs
    std::vector<SimMaster*> holders;
    std::uint64_t launched_by = 0;  // which life of the daemon
};

struct Login {
    std::uint64_t pid = 0;
    std::size_t machine = 0;
    ServerKey server;
    std::string key;
    std::string control_path;
    std::uint64_t daemon = 0;
    bool ended = false;
    std::optional<ErrorKind> failure;
    Process* process = nullptr;
    Event* changed = nullptr;
};

struct Machine {
    std::size_t index = 0;
    std::string name;
    bool up = true;
    bool path_open = true;
    bool sshd_serves = true;
    std::optional<ErrorKind> login_failure;
    bool login_hangs = false;
    bool tmux_missing = false;
    bool tmux_stalls = false;
    bool announces_dead_windows = true;
    int max_sessions = 10;
    Duration latency{};
    Duration login_takes{};
    std::int64_t clock_ahead_s = 0;
    std::uint64_t boot = 1;
    std::unique_ptr<TmuxServer> tmux;
    std::uint64_t logins = 0;
    std::vector<std::pair<StreamPtr, std::string>> stalled_input;
};

// What a daemon of the simulation is seen to do wrong, or what is true of the world that ought not to be.
struct Violation {
    Duration at{};
    std::string what;
};

class World {
public:
    World(std::uint64_t seed, bool shown);

    VirtualClock clock;
    Rng rng;
    Trace trace;
    std::vector<std::unique_ptr<Machine>> machines;
    std::map<std::string, std::size_t> hosts;  // a name to log in to → the machine
    std::vector<std::unique_ptr<Process>> processes;
    std::vector<std::shared_ptr<Login>> logins;  // under way
    std::optional<Duration> control_persist;
    Duration keepalive{};  // an ssh without a path ends after it
    std::uint64_t daemon_life = 0;
    std::optional<Violation> violation;
    // Called before a login begins that a daemon makes.
    std::function<void(const std::string& key)> on_login;
    std::function<void(const std::string& key, std::optional<ErrorKind> failure)> on_login_end;
    std::function<void(const std::string& key)> on_adopt;  // a master is there: it is tried
    std::uint64_t login_attempts = 0;
    std::uint64_t crashes_inside = 0;

    void fail(std::string what);
    void note(std::string_view what, std::string_view about = {}, std::uint64_t number = 0) {
        trace.note(clock.world(), what, about, number);
    }
    // Something that sessions or masters depend on has happened.
    void touch() { touched = true; }
    bool touched = true;

    // The daemon's death between two steps, at the `countdown`-th from now on.
    std::uint64_t crash_in = 0;
    std::function<void()> on_crash;
    [[nodiscard]] bool crash_is_due() { return crash_in > 0 && --crash_in == 0; }
    // Within a step, around what the world is told: false where it is after the daemon's last moment. What is left of
    // the daemon goes on to its end, and nothing of what it does reaches anybody.
    [[nodiscard]] bool lives();
    void crash();

    // Executions.
    std::deque<Run> runs;
    [[nodiscard]] Run* run_of(const std::string& session);
    [[nodiscard]] int executions(const std::string& tag) const;
    Run& executed(Machine& machine, const Program& program, const std::string& session, std::int64_t pid);

    // The local machine.
    [[nodiscard]] Process* listener(const std::string& control_path);
    std::shared_ptr<Login> begin_login(const ServerKey& server, const std::string& control_path);
    void end_login(const std::shared_ptr<Login>& login, std::optional<ErrorKind> failure);
    void kill_logins(const std::string& control_path, bool of_earlier_daemons);
    void used(Process& process);
    void kill(Process& process);
    void set_hung(Process& process, bool hung);
    // The daemon's descriptors are closed.
    void drop_daemon();

    // Through a master.
    StreamPtr open_stream(Process& process, std::string command, Event* changed);
    void write(const StreamPtr& stream, std::string bytes);
    void close_client(const StreamPtr& stream);

    // Servers.
    void set_path(Machine& machine, bool open);
    void set_blackholed(Process& process);
    void reboot(Machine& machine, Duration down);
    void kill_tmux(Machine& machine);
    void set_tmux_stalls(Machine& machine, bool stalls);
    void after_sleep();
    [[nodiscard]] std::size_t alive_processes() const;

private:
    [[nodiscard]] bool passes(const Process& process) const;
    void send_up(Process& process, std::function<void()> arrived);
    void send_down(Process& process, std::function<void()> arrived);
    void arrive_up(Process& process, std::function<void()> arrived);
    void arrive_down(Process& process, std::function<void()> arrived);
    void locally(Process& process, std::function<void()> step);
    void flush(Process& process);
    void link_changed(Process& process);
    void watch_persist(Process& process);
    void watch_keepalive(Process& process, Duration since);
    void finish_login(const std::shared_ptr<Login>& login);
    void serve(const StreamPtr& stream);
    void serve_tmux(const StreamPtr& stream, const std::string& script);
    void serve_input(const StreamPtr& stream, const std::string& bytes);
    void print(const StreamPtr& stream, std::string bytes, bool to_error = false);
    void exit(const StreamPtr& stream, std::optional<int> code);
    void forget_at_server(const StreamPtr& stream);
    void tell(const StreamPtr& stream);
    TmuxServer& tmux_of(Machine& machine);

    std::uint64_t next_pid_ = 1000;
    std::uint64_t next_stream_ = 1;
    std::map<std::string, std::vector<std::size_t>> runs_by_session_;
    std::map<std::string, int> executions_;
    std::map<std::int64_t, std::size_t> runs_by_pid_;
};

// "exec /bin/sh -c 'eval …' sh '…'" taken apart again; anything else as it is.
[[nodiscard]] std::string decode_script(const std::string& command);

}  // namespace cmssh::sim
