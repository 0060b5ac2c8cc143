// A model of a server's tmux: it reads the very command lines that the product sends, keeps sessions, panes, options
// and what programs did, and tells control clients. It has no I/O and no time of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.hpp"

namespace cmssh::sim {

// One execution of a session's command.
struct Run {
    enum class End {
        None,
        Exited,     // with `code`
        Signalled,  // by `signal`
        HungUp,     // its session was killed
        TmuxGone,   // with its tmux server
        Rebooted,   // with the machine
    };
    std::string tag;  // of the start that asked for it
    std::string session;
    std::size_t machine = 0;
    std::string life;  // of the tmux server
    Duration began{};
    End end = End::None;
    Duration ended{};
    int code = 0;
    int signal = 0;
    bool in_tmux = true;     // its pane is there, dead or alive
    bool by_person = false;  // killed by somebody who is not us
    bool ignores_hup = false;
    std::int64_t pid = 0;
    [[nodiscard]] bool alive_in_tmux() const { return in_tmux && end == End::None; }
};

// How a command behaves, as its own words say: job TAG MILLISECONDS exit|signal NUMBER plain|ignores-hup.
struct Program {
    std::string tag;
    Duration runs{};
    bool by_signal = false;
    int number = 0;
    bool ignores_hup = false;
};
[[nodiscard]] std::vector<std::string> to_words(const Program& program);

// A control client of it.
struct ControlClient {
    std::string keeper;
    std::function<void(std::string bytes)> send;
    std::function<void(std::string why)> exit;
    bool subscribed = false;
    std::string told;  // of the subscription
};

class TmuxServer {
public:
    // What the world around it does for it.
    struct Surroundings {
        std::function<Duration()> now;
        std::function<std::int64_t()> wall_seconds;
        std::function<void(Duration, std::function<void()>)> after;
        std::function<double()> unit;  // chance
        std::function<std::int64_t()> new_pid;
        std::function<Run&(const Program&, const std::string& session, std::int64_t pid)> executed;
        std::function<Run&(std::int64_t pid)> run;  // by its pid
        std::function<void(std::string_view what, std::string_view about)> note;
        bool announces_dead_windows = true;  // tmux 3.3, by a window's name
    };
    TmuxServer(Surroundings surroundings, std::int64_t pid);

    [[nodiscard]] const std::string& life() const { return life_; }
    void attach(ControlClient* client);
    void detach(ControlClient* client);
    [[nodiscard]] const std::vector<ControlClient*>& clients() const { return clients_; }
    // The reply block to one line of a client.
    [[nodiscard]] std::string handle(ControlClient& client, std::string_view line);

    // A program's end, by itself or a signal. Nothing where it has ended.
    void end_program(std::int64_t pid, bool by_signal, int number);
    // Somebody at the server kills a session; false: there is none of that name.
    bool kill_session_by_person(const std::string& name);
    // With everything in it.
    void die(Run::End how);
    [[nodiscard]] std::size_t dead_panes() const;

private:
    struct Pane {
        std::string id;
        std::string window;
        std::int64_t pid = 0;
        bool dead = false;
        bool collected = false;  // the status is known
        std::int64_t dead_time = 0;
        int status = 0;
        int signal = 0;
        std::string directory;
        bool has_run = false;  // a session's command, and not the keeper's or one that waits for a command
        bool waits = false;    // for its command, on its terminal
        std::string typed;
    };
    struct Session {
        std::string name;
        Pane pane;
        std::map<std::string, std::string, std::less<>> options;
        std::string when_detached;  // a hook
    };
    struct Reply {
        bool ok = true;
        std::string text;  // lines with their ends
    };

    Reply run(ControlClient& client, std::string_view line);
    std::string block(const Reply& reply);
    // if-shell -F -t TARGET FORMAT { … } { … }: a block for itself and for each command, up to one that fails.
    std::string run_either(ControlClient& client, std::string_view line);
    Reply send_keys(const std::vector<std::string>& words);
    void begin(Session& session, const Program& program);
    Reply new_session(const std::vector<std::string>& words);
    Reply list_panes(const std::vector<std::string>& words);
    Reply display(const std::vector<std::string>& words);
    Session* find(std::string_view target);
    Session* find_pane(std::string_view pane);
    [[nodiscard]] std::string expand(std::string_view format, const Session* session) const;
    [[nodiscard]] std::string variable(std::string_view name, const Session* session) const;
    void remove(const std::string& name);
    void collect_all();
    void tell_all(const std::string& line);
    void dead_panes_changed();
    [[nodiscard]] std::string dead_list() const;

    Surroundings around_;
    std::int64_t pid_;
    std::int64_t start_time_;
    std::string life_;
    std::map<std::string, Session, std::less<>> sessions_;  // tmux has them by name too
    std::vector<ControlClient*> clients_;
    std::int64_t next_id_ = 0;
    std::int64_t next_number_ = 100;
    bool telling_later_ = false;
    // What waits for a moment of this server must not meet its successor, nor its end.
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace cmssh::sim
