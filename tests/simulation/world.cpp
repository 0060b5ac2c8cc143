#include "tests/simulation/world.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <utility>

#include "tests/simulation/masters.hpp"

namespace cmssh::sim {
namespace {

using namespace std::chrono_literals;

// A kernel sends the last bytes of a process that has died for about this long.
constexpr Duration kOrphanRetries = 100s;

// The text between two marks.
std::string between(const std::string& text, std::string_view before, std::string_view behind) {
    const auto begin = text.find(before);
    if (begin == std::string::npos) {
        return "";
    }
    const auto from = begin + before.size();
    return text.substr(from, text.find(behind, from) - from);
}

}  // namespace

std::string decode_script(const std::string& command) {
    const std::string mark = " sh '";
    if (!command.starts_with("exec /bin/sh -c ")) {
        return command;
    }
    const auto at = command.rfind(mark);
    std::string script;
    for (std::size_t i = at + mark.size(); i + 1 < command.size(); ++i) {
        if (command[i] == '\\' && command[i + 1] == '0') {
            script +=
                static_cast<char>((command[i + 2] - '0') * 64 + (command[i + 3] - '0') * 8 + command[i + 4] - '0');
            i += 4;
        } else {
            script += command[i];
        }
    }
    return script;
}

World::World(std::uint64_t seed, bool shown) : rng(seed), trace(shown) {}

void World::fail(std::string what) {
    if (!violation) {
        note("VIOLATION", what);
        violation = Violation{clock.world(), std::move(what)};
    }
}

bool World::lives() {
    if (!clock.crashed() && crash_is_due()) {
        ++crashes_inside;
        crash();
    }
    return !clock.crashed();
}

void World::crash() {
    note("the daemon crashes");
    if (on_crash) {
        on_crash();
    }
    clock.crash();
    drop_daemon();
    touch();
}

void World::drop_daemon() {
    for (const auto& process : processes) {
        for (SimMaster* holder : std::exchange(process->holders, {})) {
            holder->orphan();
        }
        for (const StreamPtr& stream : std::vector<StreamPtr>(process->streams)) {
            tell(stream);
            close_client(stream);
        }
    }
    for (const auto& login : logins) {
        if (login->changed != nullptr) {
            std::exchange(login->changed, nullptr)->notify_all();
        }
    }
}

Run* World::run_of(const std::string& session) {
    const auto found = runs_by_session_.find(session);
    return found == runs_by_session_.end() ? nullptr : &runs[found->second.back()];
}

int World::executions(const std::string& tag) const {
    const auto found = executions_.find(tag);
    return found == executions_.end() ? 0 : found->second;
}

Run& World::executed(Machine& machine, const Program& program, const std::string& session, std::int64_t pid) {
    note("the program begins", session);
    Run run;
    run.tag = program.tag;
    run.session = session;
    run.machine = machine.index;
    run.life = machine.tmux->life();
    run.began = clock.world();
    run.ignores_hup = program.ignores_hup;
    run.pid = pid;
    runs_by_pid_[run.pid] = runs.size();
    auto& of_session = runs_by_session_[session];
    of_session.push_back(runs.size());
    runs.push_back(std::move(run));
    touch();
    if (of_session.size() > 1 && runs[of_session[of_session.size() - 2]].by_person) {
        return runs.back();  // nobody can know that it was there
    }
    if (of_session.size() > 1) {
        fail("the session " + session + " was executed twice");
    }
    if (++executions_[program.tag] > 1) {
        fail("the start " + program.tag + " was executed twice");
    }
    return runs.back();
}

Process* World::listener(const std::string& control_path) {
    for (const auto& process : processes) {
        if (process->alive && process->listening && process->control_path == control_path) {
            return process.get();
        }
    }
    return nullptr;
}

std::size_t World::alive_processes() const {
    return static_cast<std::size_t>(
        std::count_if(processes.begin(), processes.end(), [](const auto& it) { return it->alive; }));
}

std::shared_ptr<Login> World::begin_login(const ServerKey& server, const std::string& control_path) {
    const std::string key = server.text();
    for (const auto& other : logins) {
        if (other->key == key && other->daemon == daemon_life) {
            fail("a second login to " + key + " begins while one is under way");
        }
    }
    ++login_attempts;
    touch();
    if (on_login) {
        on_login(key);
    }
    auto login = std::make_shared<Login>();
    login->pid = next_pid_++;
    login->machine = hosts.at(server.host);
    login->server = server;
    login->key = key;
    login->control_path = control_path;
    login->daemon = daemon_life;
    logins.push_back(login);
    note("login begins", key, login->pid);
    const Machine& machine = *machines[login->machine];
    const bool refused_at_once = !machine.sshd_serves || machine.login_failure == ErrorKind::DnsFailure;
    const Duration takes = refused_at_once ? machine.latency : machine.login_takes;
    clock.after(takes + rng.between(0ms, 50ms), [this, login] { finish_login(login); });
    return login;
}

// Where the path or the machine is silent, it hangs until somebody ends it.
void World::finish_login(const std::shared_ptr<Login>& login) {
    if (login->ended) {
        return;
    }
    Machine& server = *machines[login->machine];
    if (server.login_failure == ErrorKind::DnsFailure) {
        end_login(login, ErrorKind::DnsFailure);
        return;
    }
    if (!server.up || !server.path_open || server.login_hangs || clock.sleeping()) {
        clock.after(1s, [this, login] { finish_login(login); });
        return;
    }
    if (!server.sshd_serves) {
        end_login(login, ErrorKind::ConnectRefused);
        return;
    }
    if (server.login_failure) {
        end_login(login, *server.login_failure);
        return;
    }
    ++server.logins;
    if (listener(login->control_path) != nullptr) {
        // ssh would go on without multiplexing.
        end_login(login, ErrorKind::ConnectFailed);
        return;
    }
    auto process = std::make_unique<Process>();
    process->pid = login->pid;
    process->machine = login->machine;
    process->server = login->server;
    process->key = login->key;
    process->control_path = login->control_path;
    process->launched_by = login->daemon;
    login->process = process.get();
    processes.push_back(std::move(process));
    used(*login->process);
    end_login(login, std::nullopt);
}

void World::end_login(const std::shared_ptr<Login>& login, std::optional<ErrorKind> failure) {
    if (login->ended) {
        return;
    }
    login->ended = true;
    login->failure = failure;
    note(failure ? "login fails" : "login is done", login->key, login->pid);
    std::erase(logins, login);
    touch();
    if (on_login_end && login->daemon == daemon_life) {
        on_login_end(login->key, failure);
    }
    if (login->changed != nullptr) {
        login->changed->notify_all();
    }
}

void World::kill_logins(const std::string& control_path, bool of_earlier_daemons) {
    for (const auto& login : std::vector<std::shared_ptr<Login>>(logins)) {
        if (login->control_path == control_path && (login->daemon != daemon_life) == of_earlier_daemons) {
            end_login(login, ErrorKind::ConnectFailed);
        }
    }
}

void World::used(Process& process) {
    process.last_use = clock.world();
    watch_persist(process);
    // One that no longer listens ends with the last of its clients.
    if (!process.listening) {
        clock.after(10ms, [this, &process] {
            if (!process.listening && process.streams.empty() && !process.hung) {
                kill(process);
            }
        });
    }
}

// ControlPersist: without a client and a channel it ends by itself.
void World::watch_persist(Process& process) {
    if (!control_persist || process.persist_watched || !process.alive) {
        return;
    }
    process.persist_watched = true;
    const Duration ends = process.last_use + *control_persist;
    clock.after(ends - clock.world(), [this, &process] {
        process.persist_watched = false;
        if (!process.alive || !process.streams.empty()) {
            return;
        }
        if (!process.hung && clock.world() >= process.last_use + *control_persist) {
            note("ssh ends by ControlPersist", process.key, process.pid);
            kill(process);
            return;
        }
        if (process.hung) {
            process.last_use = clock.world();
        }
        watch_persist(process);
    });
}

void World::kill(Process& process) {
    if (!process.alive) {
        return;
    }
    note("ssh dies", process.key, process.pid);
    process.alive = false;
    process.listening = false;
    process.inbox.clear();
    process.link.held_down.clear();
    touch();
    for (const StreamPtr& stream : std::exchange(process.streams, {})) {
        stream->ended = true;
        tell(stream);
    }
    // What it has sent is on its way, and after it comes the end.
    if (!passes(process)) {
        clock.after(kOrphanRetries, [this, &process] {
            if (!passes(process)) {
                process.link.held_up.clear();
            }
        });
    }
    send_up(process, [this, &process] {
        for (const StreamPtr& stream : std::vector<StreamPtr>(process.served)) {
            forget_at_server(stream);
        }
    });
    for (SimMaster* holder : std::vector<SimMaster*>(process.holders)) {
        holder->tell();
    }
}

void World::set_hung(Process& process, bool hung) {
    if (!process.alive || process.hung == hung) {
        return;
    }
    note(hung ? "ssh hangs" : "ssh goes on", process.key, process.pid);
    process.hung = hung;
    touch();
    if (!hung) {
        for (auto& step : std::exchange(process.inbox, {})) {
            step();
        }
        flush(process);
        used(process);
        for (SimMaster* holder : std::vector<SimMaster*>(process.holders)) {
            holder->tell();
        }
    }
}

void World::locally(Process& process, std::function<void()> step) {
    if (!process.alive) {
        return;
    }
    if (process.hung) {
        process.inbox.push_back(std::move(step));
    } else {
        step();
    }
}

bool World::passes(const Process& process) const {
    const Machine& server = *machines[process.machine];
    return server.up && server.path_open && !process.link.blackholed && !process.link.reset && !clock.sleeping() &&
           clock.world() >= process.link.stalled_until;
}

void World::send_up(Process& process, std::function<void()> arrived) {
    const Duration at = std::max(clock.world() + machines[process.machine]->latency, process.link.last_up);
    process.link.last_up = at;
    clock.after(at - clock.world(),
                [this, &process, arrived = std::move(arrived)]() mutable { arrive_up(process, std::move(arrived)); });
}

void World::arrive_up(Process& process, std::function<void()> arrived) {
    if (process.link.reset) {
        return;
    }
    if (!passes(process) || !process.link.held_up.empty()) {
        process.link.held_up.push_back(std::move(arrived));
    } else {
        arrived();
    }
}

void World::send_down(Process& process, std::function<void()> arrived) {
    const Duration at = std::max(clock.world() + machines[process.machine]->latency, process.link.last_down);
    process.link.last_down = at;
    clock.after(at - clock.world(),
                [this, &process, arrived = std::move(arrived)]() mutable { arrive_down(process, std::move(arrived)); });
}

void World::arrive_down(Process& process, std::function<void()> arrived) {
    if (!process.alive) {
        return;
    }
    if (!passes(process) || process.hung || !process.link.held_down.empty()) {
        process.link.held_down.push_back(std::move(arrived));
    } else {
        arrived();
    }
}

void World::flush(Process& process) {
    while (passes(process) && !process.link.held_up.empty()) {
        const auto arrived = std::move(process.link.held_up.front());
        process.link.held_up.pop_front();
        arrived();
    }
    while (passes(process) && !process.hung && process.alive && !process.link.held_down.empty()) {
        const auto arrived = std::move(process.link.held_down.front());
        process.link.held_down.pop_front();
        arrived();
    }
}

// ServerAlive: without an answer it ends by itself.
void World::watch_keepalive(Process& process, Duration since) {
    clock.after(keepalive, [this, &process, since] {
        if (!process.alive || process.link.closed_since != since) {
            return;
        }
        if (process.hung) {
            watch_keepalive(process, since);
            return;
        }
        note("ssh ends by ServerAlive", process.key, process.pid);
        kill(process);
    });
}

// The state of what a link depends on has changed.
void World::link_changed(Process& process) {
    touch();
    Link& link = process.link;
    const Machine& server = *machines[process.machine];
    const bool open = server.up && server.path_open && !link.blackholed;
    if (!open) {
        if (link.closed_since || !process.alive) {
            return;
        }
        link.closed_since = clock.world();
        watch_keepalive(process, clock.world());
        return;
    }
    link.closed_since.reset();
    if (link.reset) {
        clock.after(rng.between(0s, 30s), [this, &process] { kill(process); });
        return;
    }
    // TCP tries again at growing intervals.
    const Duration later = rng.chance(0.5) ? rng.between(0s, 2s) : rng.between(0s, 60s);
    link.stalled_until = clock.world() + later;
    clock.after(later, [this, &process] { flush(process); });
}

void World::set_path(Machine& machine, bool open) {
    if (machine.path_open == open) {
        return;
    }
    note(open ? "the path is back" : "the path is lost", machine.name);
    machine.path_open = open;
    for (const auto& process : processes) {
        if (process->machine == machine.index && (process->alive || !process->link.held_up.empty())) {
            link_changed(*process);
        }
    }
}

void World::set_blackholed(Process& process) {
    note("the network forgets the connection", process.key, process.pid);
    process.link.blackholed = true;
    link_changed(process);
}

void World::after_sleep() {
    for (const auto& process : processes) {
        if (process->alive) {
            flush(*process);
        }
    }
}

TmuxServer& World::tmux_of(Machine& machine) {
    if (machine.tmux == nullptr) {
        TmuxServer::Surroundings around;
        around.now = [this] { return clock.world(); };
        around.wall_seconds = [this, &machine] { return clock.wall_ms() / 1000 + machine.clock_ahead_s; };
        around.after = [this](Duration delay, std::function<void()> event) { clock.after(delay, std::move(event)); };
        around.unit = [this] { return rng.unit(); };
        around.new_pid = [this] { return static_cast<std::int64_t>(next_pid_++); };
        around.executed = [this, &machine](const Program& program, const std::string& session,
                                           std::int64_t pid) -> Run& {
            return executed(machine, program, session, pid);
        };
        around.run = [this](std::int64_t pid) -> Run& { return runs[runs_by_pid_.at(pid)]; };
        around.note = [this](std::string_view what, std::string_view about) {
            note(what, about);
            touch();
        };
        around.announces_dead_windows = machine.announces_dead_windows;
        machine.tmux = std::make_unique<TmuxServer>(std::move(around), static_cast<std::int64_t>(next_pid_++));
        note("tmux begins", machine.name);
    }
    return *machine.tmux;
}

void World::kill_tmux(Machine& machine) {
    if (machine.tmux == nullptr) {
        return;
    }
    note("tmux dies", machine.name);
    touch();
    machine.stalled_input.clear();
    const auto tmux = std::move(machine.tmux);
    tmux->die(Run::End::TmuxGone);
}

void World::set_tmux_stalls(Machine& machine, bool stalls) {
    note(stalls ? "tmux stalls" : "tmux goes on", machine.name);
    touch();
    machine.tmux_stalls = stalls;
    if (!stalls) {
        for (auto& [stream, bytes] : std::exchange(machine.stalled_input, {})) {
            serve_input(stream, bytes);
        }
    }
}

void World::reboot(Machine& machine, Duration down) {
    if (!machine.up) {
        return;
    }
    note("the server reboots", machine.name);
    machine.up = false;
    ++machine.boot;
    machine.stalled_input.clear();
    for (const auto& process : processes) {
        if (process->machine == machine.index) {
            process->link.reset = true;
            process->link.held_up.clear();
            process->link.held_down.clear();
            for (const StreamPtr& stream : std::exchange(process->served, {})) {
                stream->running = false;
                if (stream->control && machine.tmux) {
                    machine.tmux->detach(stream->control.get());
                }
                stream->control.reset();
            }
            link_changed(*process);
        }
    }
    if (machine.tmux) {
        const auto tmux = std::move(machine.tmux);
        tmux->die(Run::End::Rebooted);
    }
    clock.after(down, [this, &machine] {
        note("the server is up again", machine.name);
        machine.up = true;
        for (const auto& process : processes) {
            if (process->machine == machine.index && process->alive) {
                link_changed(*process);
            }
        }
    });
}

StreamPtr World::open_stream(Process& process, std::string command, Event* changed) {
    auto stream = std::make_shared<Stream>();
    stream->id = next_stream_++;
    stream->process = &process;
    stream->command = std::move(command);
    stream->changed = changed;
    process.streams.push_back(stream);
    used(process);
    locally(process, [this, stream] {
        send_up(*stream->process, [this, stream] {
            Process& its = *stream->process;
            Machine& server = *machines[its.machine];
            if (static_cast<int>(its.served.size()) >= server.max_sessions) {
                send_down(its, [this, stream] {
                    stream->opening = Stream::Opening::Refused;
                    std::erase(stream->process->streams, stream);
                    tell(stream);
                });
                return;
            }
            stream->running = true;
            its.served.push_back(stream);
            send_down(its, [this, stream] {
                stream->opening = Stream::Opening::Open;
                tell(stream);
            });
            serve(stream);
        });
    });
    return stream;
}

void World::tell(const StreamPtr& stream) {
    if (stream->changed != nullptr) {
        stream->changed->notify_all();
    }
}

void World::write(const StreamPtr& stream, std::string bytes) {
    if (bytes.find("display-message -p cmssh\n") != 0) {
        touch();
        note("written", {}, stream->id);
    }
    locally(*stream->process, [this, stream, bytes = std::move(bytes)] {
        send_up(*stream->process, [this, stream, bytes] {
            if (stream->running) {
                serve_input(stream, bytes);
            }
        });
    });
}

void World::close_client(const StreamPtr& stream) {
    stream->changed = nullptr;
    if (std::exchange(stream->client_closed, true)) {
        return;
    }
    Process& process = *stream->process;
    if (!process.alive) {
        return;
    }
    touch();
    std::erase(process.streams, stream);
    used(process);
    locally(process, [this, stream] { send_up(*stream->process, [this, stream] { forget_at_server(stream); }); });
}

void World::forget_at_server(const StreamPtr& stream) {
    if (!std::exchange(stream->running, false)) {
        return;
    }
    Machine& server = *machines[stream->process->machine];
    if (stream->control) {
        if (server.tmux) {
            server.tmux->detach(stream->control.get());
        }
        stream->control.reset();
    }
    std::erase(stream->process->served, stream);
}

void World::print(const StreamPtr& stream, std::string bytes, bool to_error) {
    send_down(*stream->process, [this, stream, bytes = std::move(bytes), to_error] {
        if (!stream->client_closed) {
            (to_error ? stream->error : stream->output) += bytes;
            tell(stream);
        }
    });
}

void World::exit(const StreamPtr& stream, std::optional<int> code) {
    forget_at_server(stream);
    send_down(*stream->process, [this, stream, code] {
        stream->exit_code = code;
        stream->ended = true;
        std::erase(stream->process->streams, stream);
        used(*stream->process);
        tell(stream);
    });
}

void World::serve(const StreamPtr& stream) {
    const std::string script = decode_script(stream->command);
    Machine& server = *machines[stream->process->machine];
    if (script.find("new-session -A -D -s ") != std::string::npos) {
        serve_tmux(stream, script);
        return;
    }
    if (script == "attach") {
        return;  // until it is closed
    }
    if (script.starts_with("p=")) {
        const std::string pid = between(script, "p=", "\n");
        const std::string signal = between(script, "kill -", " ");
        int code = 3;
        for (const Run& run : runs) {
            if (std::to_string(run.pid) == pid && run.alive_in_tmux() && run.machine == server.index) {
                server.tmux->end_program(run.pid, true, std::stoi(signal));
                code = 0;
                break;
            }
        }
        exit(stream, code);
        return;
    }
    exit(stream, 0);
}

void World::serve_tmux(const StreamPtr& stream, const std::string& script) {
    Machine& server = *machines[stream->process->machine];
    const std::string token = between(script, "cmssh_k='", "'");
    if (server.tmux_missing) {
        print(stream, "Welcome\n" + token + " missing\n");
        exit(stream, 0);
        return;
    }
    touch();
    stream->control = std::make_unique<ControlClient>();
    ControlClient& client = *stream->control;
    client.keeper = between(script, "new-session -A -D -s ", " ");
    print(stream, "Welcome\n" + token + " tmux 3.7c\n" + token + " boot boot-" + server.name + "-" +
                      std::to_string(server.boot) + "\n" + token + " home /home/sim\n");
    // Ours that are stuck there are killed, and -D detaches the rest.
    TmuxServer& tmux = tmux_of(server);
    for (ControlClient* other : std::vector<ControlClient*>(tmux.clients())) {
        if (other->keeper == client.keeper) {
            other->exit("");
        }
    }
    client.send = [this, its = std::weak_ptr<Stream>(stream)](std::string bytes) {
        print(its.lock(), std::move(bytes));
    };
    client.exit = [this, its = std::weak_ptr<Stream>(stream)](const std::string& why) {
        // The client, and this function with it, is gone at the end.
        World& world = *this;
        const StreamPtr ending = its.lock();
        if (!why.empty()) {
            world.print(ending, "%exit " + why + '\n');
        }
        world.exit(ending, std::nullopt);
    };
    tmux.attach(&client);
}

void World::serve_input(const StreamPtr& stream, const std::string& bytes) {
    Machine& server = *machines[stream->process->machine];
    if (!stream->control || !stream->running) {
        return;
    }
    if (server.tmux_stalls || std::any_of(server.stalled_input.begin(), server.stalled_input.end(),
                                          [&](const auto& it) { return it.first == stream; })) {
        server.stalled_input.emplace_back(stream, bytes);
        return;
    }
    stream->input += bytes;
    std::string replies;
    for (auto end = stream->input.find('\n'); end != std::string::npos; end = stream->input.find('\n')) {
        const std::string line = stream->input.substr(0, end);
        stream->input.erase(0, end + 1);
        // It may have ended by an earlier line.
        if (server.tmux == nullptr || !stream->control) {
            return;
        }
        replies = server.tmux->handle(*stream->control, line);
        print(stream, std::move(replies));
    }
}

}  // namespace cmssh::sim
