#include "daemon/pool/connection.hpp"

#include <algorithm>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/pool/under_way.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr std::size_t kMaxProbeOutput = 4096;

}  // namespace

Connection::Connection(ConnectionServices& services, ServerKey key, std::string control_path, bool pinned)
    : services_(services),
      key_(std::move(key)),
      key_text_(key_.text()),
      control_path_(std::move(control_path)),
      machine_(services.clock.now(), pinned),
      channels_(new_budget()),
      spare_(services.clock, {.make = [this] { return make_spare(); }, .remove = [this] { return remove_spare(); }}),
      since_ms_(services.clock.wall_ms()),
      changed_(services.clock),
      deadline_changed_(services.clock),
      tasks_(services.executor, services.clock) {
    tasks_.spawn(key_text_, follow_deadline());
    tasks_.spawn(key_text_, spare_.run());
}

void Connection::set_route(SshRoute route, SshConfigDump dump) {
    route_ = std::move(route);
    dump_ = std::move(dump);
}

MachineSettings Connection::settings() const {
    const auto& pool = services_.config.pool;
    MachineSettings settings;
    if (pool.control_persist) {
        settings.linger = *pool.control_persist;
    }
    settings.backoff = {.initial = pool.backoff_initial, .max = pool.backoff_max};
    settings.health_interval = pool.health_interval;
    settings.unhealthy_after = pool.unhealthy_after;
    return settings;
}

Instant Connection::connect_deadline() const {
    return services_.clock.now() + services_.config.pool.connect_timeout;
}

void Connection::feed(const ConnectionMachine::Event& event) {
    const auto before = machine_.state();
    const auto action = machine_.on(event, settings(), services_.clock.now(), services_.unit_random());
    if (machine_.state() != before) {
        since_ms_ = services_.clock.wall_ms();
        log_info(key_text_, std::string(to_string(before)) + " -> " + std::string(to_string(machine_.state())));
    }
    deadline_changed_.notify_all();
    changed_.notify_all();
    tell_changed();
    act(action);
    if (machine_.state() != before && active() && services_.on_active) {
        services_.on_active();
    }
    if (machine_.state() != before && never_reached() && services_.on_failed) {
        services_.on_failed();
    }
    tell_use();
}

void Connection::tell_changed() const {
    if (services_.on_changed) {
        services_.on_changed(key_text_);
    }
}

std::shared_ptr<ChannelBudget> Connection::new_budget() const {
    auto budget = std::make_shared<ChannelBudget>(services_.clock, services_.config.pool.max_channels);
    // Whoever has a slot of it may outlive this.
    budget->set_on_changed([told = services_.on_changed, key = key_text_] {
        if (told) {
            told(key);
        }
    });
    return budget;
}

bool Connection::active() const {
    switch (machine_.state()) {
        case ConnectionMachine::State::Connecting:
        case ConnectionMachine::State::Up:
        case ConnectionMachine::State::Degraded:
        case ConnectionMachine::State::Backoff:
        case ConnectionMachine::State::Draining:
            return true;
        case ConnectionMachine::State::NeedsAuth:
        case ConnectionMachine::State::Failed:
        case ConnectionMachine::State::Idle:
            return false;
    }
    return false;
}

bool Connection::never_reached() const {
    const bool failed =
        machine_.state() == ConnectionMachine::State::Failed || machine_.state() == ConnectionMachine::State::NeedsAuth;
    return failed && !reached_ && handshakes() == 0 && !configured_;
}

void Connection::tell_use() {
    if (machine_.state() != ConnectionMachine::State::Connecting) {
        std::string held_back = held_back_for();
        const bool news = held_back != held_back_told_ && !held_back.empty();
        held_back_told_ = std::move(held_back);
        if (news && refs() > 0 && !shutting_down_) {
            services_.observer.on_held_back(*this);
        }
    }
    const bool in_use = refs() > 0 || active();
    if (std::exchange(in_use_, in_use) && !in_use && !shutting_down_) {
        services_.observer.on_no_master(*this);
    }
}

std::string Connection::held_back_for() const {
    if (!machine_.held_back()) {
        return {};
    }
    const auto by = stored().held_back_by;
    return by ? by->at + ' ' + by->kind : "a person's wish";
}

void Connection::act(ConnectionMachine::Action action) {
    switch (action) {
        case ConnectionMachine::Action::None:
            return;
        case ConnectionMachine::Action::LogIn:
            login_ = new_login();
            login_->tmux = wants_tmux();
            tasks_.spawn(key_text_, log_in(login_));
            return;
        case ConnectionMachine::Action::Restore:
            login_ = std::make_shared<Login>();
            login_->restore_path = std::move(restore_path_);
            tasks_.spawn(key_text_, log_in(login_));
            return;
        case ConnectionMachine::Action::EndMaster:
            tasks_.spawn(key_text_, end_master(master_, kEndGrace));
            return;
        case ConnectionMachine::Action::KillMaster:
            tasks_.spawn(key_text_, end_master(master_, kKillGrace));
            return;
        case ConnectionMachine::Action::RetireMaster: {
            const auto doubted = generation_;
            retire_master();
            services_.observer.on_doubted(*this, doubted);
            return;
        }
        case ConnectionMachine::Action::ReplaceMaster:
            retire_master();
            act(ConnectionMachine::Action::LogIn);
            return;
    }
}

void Connection::change_refs(HoldKind kind, std::uint64_t generation, int by) {
    if (kind == HoldKind::Session) {
        sessions_ += by;
    } else {
        leases_ += by;
        change_leases(generation, by);
    }
    feed(ConnectionMachine::RefsChanged{.refs = refs(), .leases = present_leases_});
    end_if_useless();
}

void Connection::set_phase(Login& login, std::string phase) {
    login.phase = std::move(phase);
    changed_.notify_all();
}

void Connection::note_error(const Error& error) {
    api::LastError last;
    last.kind = error_info(error.kind).name;
    last.message = error.message;
    last.at = format_time(services_.clock.wall_ms());
    last.ssh_stderr = error.ssh_stderr;
    if (!error.hint.empty()) {
        last.hint = error.hint;
    }
    last_error_ = std::move(last);
    tell_changed();
    log_warn(key_text_, std::string(error_info(error.kind).name) + ": " + error.message);
}

asio::awaitable<void> Connection::follow_deadline() {
    while (!shutting_down_) {
        const Instant deadline = machine_.deadline().value_or(Instant::max());
        const Instant probe_at = probing_ ? Instant::max() : next_probe();
        const bool changed = co_await deadline_changed_.wait_until(std::min(deadline, probe_at));
        if (changed || shutting_down_) {
            continue;
        }
        if (services_.clock.now() >= deadline) {
            feed(ConnectionMachine::TimeCame{});
        } else {
            begin_probe();
            tasks_.spawn(key_text_, probe(false, probe_at));
        }
    }
}

// At whole ticks of the clock, and never later than due: so one waking of the daemon serves several connections.
Instant Connection::next_probe() const {
    constexpr int kTicks = 64;  // of an interval
    const auto due = machine_.probe_at();
    const Duration tick = std::max<Duration>(services_.config.pool.health_interval / kTicks, Duration(1));
    return due ? *due - due->time_since_epoch() % tick : Instant::max();
}

void Connection::unpin() {
    spare_.keep(false);
    feed(ConnectionMachine::Pinned{.on = false});
}

void Connection::wake_up() {
    feed(ConnectionMachine::WokeUp{});
}

Error Connection::stopping() const {
    return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
}

Error Connection::lost() const {
    Error error{.kind = ErrorKind::MasterLost, .message = "the connection to " + key_text_ + " was lost"};
    error.server = key_text_;
    return error;
}

StoredConnection Connection::stored() const {
    StoredConnection stored;
    stored.key = key_;
    stored.route = route_;
    stored.dump = dump_;
    stored.control_path = control_path_;
    stored.held_back = machine_.held_back();
    if (stored.held_back && (machine_.state() == ConnectionMachine::State::NeedsAuth ||
                             machine_.state() == ConnectionMachine::State::Failed)) {
        stored.held_back_by = last_error_;
    }
    return stored;
}

asio::awaitable<void> Connection::watch_master(std::shared_ptr<Master> master) {
    co_await master->wait_for_death();
    if (!master->dead()) {
        co_return;
    }
    if (master_ != master) {
        forget_retired(*master);
        co_return;
    }
    master_.reset();
    master_since_.reset();
    channels_->close();
    drop_tmux();
    hop_.reset();
    if (machine_.state() == ConnectionMachine::State::Up || machine_.state() == ConnectionMachine::State::Degraded) {
        Error error{.kind = ErrorKind::MasterLost,
                    .message = "the ssh master (pid " + std::to_string(master->pid()) + ") ended"};
        note_error(error);
    }
    services_.observer.on_unreachable(*this);
    feed(ConnectionMachine::MasterDied{});
}

asio::awaitable<void> Connection::end_master(std::shared_ptr<Master> master, Duration grace) {
    channels_->close();
    drop_tmux();
    services_.observer.on_unreachable(*this);
    if (master == nullptr) {
        feed(ConnectionMachine::MasterDied{});
        co_return;
    }
    co_await master->end(services_.clock.now() + grace);
    if (!master->dead() && !shutting_down_) {
        // Not even SIGKILL ended it (a process stuck in the kernel): nothing more can be done from here.
        log_error(key_text_, "the ssh master " + std::to_string(master->pid()) + " does not end");
        master->release();
        if (master_ == master) {
            master_.reset();
            master_since_.reset();
            hop_.reset();
            services_.observer.on_unreachable(*this);
            feed(ConnectionMachine::MasterDied{});
        }
    }
}

std::shared_ptr<Master> Connection::master() const {
    const bool up =
        machine_.state() == ConnectionMachine::State::Up || machine_.state() == ConnectionMachine::State::Degraded;
    return up && has_master() ? master_ : nullptr;
}

asio::awaitable<Result<RemoteOutput>> Connection::run(std::string command, Instant deadline) {
    while (running_command()) {
        const bool in_time = co_await changed_.wait_until(deadline);
        if (!in_time) {
            co_return Error{.kind = ErrorKind::Timeout, .message = "no channel to " + key_text_ + " was free in time"};
        }
    }
    const auto master = master_;
    if (master == nullptr) {
        co_return lost();
    }
    const UnderWayOn running(running_command_on_, master, changed_);
    const ChannelBudget::Patience patience{.deadline = deadline};
    const auto channel = co_await ChannelBudget::take(channels_, ChannelBudget::Turn::First, patience);
    if (!channel) {
        co_return channel.error();
    }
    co_return co_await run_remote(services_.clock, *master, std::move(command), deadline, kMaxProbeOutput);
}

asio::awaitable<Result<void>> Connection::disconnect(bool force, Instant deadline) {
    if (login_ != nullptr) {
        give_up_login();
    }
    if (force) {
        end_all_retired();
        end_all_own();
    }
    feed(ConnectionMachine::DisconnectAsked{.force = force});
    const std::uint64_t generation = generation_;
    std::vector<std::shared_ptr<Master>> own;
    for (const Own& one : own_masters_) {
        own.push_back(one.master);
    }
    const auto is_around = [this, generation, &own] {
        const bool present = generation == generation_ && login_ == nullptr && (launching_ || master_ != nullptr);
        const bool alive = std::any_of(own.begin(), own.end(), [](const auto& master) { return !master->dead(); });
        return present || alive || std::any_of(retired_.begin(), retired_.end(), [generation](const Retired& it) {
                   return it.generation <= generation;
               });
    };
    co_await end_leftover_master();
    while (is_around() && !shutting_down_) {
        const bool in_time = co_await changed_.wait_until(deadline);
        if (!in_time) {
            Error error{.kind = ErrorKind::Timeout,
                        .message = key_text_ + " is still in use: " + std::to_string(leases_) + " lease(s)"};
            error.server = key_text_;
            co_return error;
        }
    }
    co_return Result<void>();
}

void Connection::end_if_useless() {
    if (login_ == nullptr && !served_ && tmux_error_ && has_master() && refs() == 0 && waiting_ == 0) {
        feed(ConnectionMachine::DisconnectAsked{.force = true});
    }
}

asio::awaitable<void> Connection::shut_down() {
    request_stop();
    co_await tasks_.join_until(Instant::max());
}

void Connection::request_stop() {
    if (shutting_down_) {
        return;
    }
    shutting_down_ = true;
    if (login_ != nullptr && login_->questions) {
        login_->questions->close();
    }
    spare_.request_stop();
    drop_tmux();
    if (master_ != nullptr) {
        master_->release();
    }
    hop_.reset();
    leave_retired();
    leave_own();
    changed_.notify_all();
    deadline_changed_.notify_all();
}

api::Server describe(const ServerKey& key) {
    api::Server server;
    server.user = key.user;
    server.host = key.host;
    server.port = key.port;
    if (!key.via.empty()) {
        server.via = key.via;
    }
    server.key = key.text();
    return server;
}

// The way to it is there, and still none of its sessions can be asked: its tmux does not answer.
ConnectionMachine::State Connection::shown_state() const {
    const bool mute =
        sessions_ > 0 && tmux() == nullptr && tmux_error_ && tmux_error_->kind != ErrorKind::ChannelRefused;
    return mute && machine_.state() == ConnectionMachine::State::Up ? ConnectionMachine::State::Degraded
                                                                    : machine_.state();
}

api::Connection Connection::describe() const {
    const Instant now = services_.clock.now();
    const auto seconds = [](Duration duration) { return std::chrono::duration<double>(duration).count(); };
    api::Connection connection;
    connection.server = cmssh::describe(key_);
    connection.state = shown_state();
    connection.refs = refs();
    connection.sessions = sessions_;
    connection.leases = leases_;
    connection.channels.max = channels_->limit();
    if (has_master()) {
        connection.master_pid = master_->pid();
        connection.adopted = master_->adopted();
        connection.channels.used = (tmux_ != nullptr && tmux_->is_open() ? 1 : 0) + channels_->taken();
        connection.channels.queued = channels_->queued();
        connection.uptime_s = master_since_ ? seconds(now - *master_since_) : 0;
    }
    connection.control_path = control_path_;
    connection.reused_count = reused_count_;
    connection.handshakes = handshakes();
    for (const Own& own : own_masters_) {
        api::OwnMaster one;
        one.master_pid = own.master->pid();
        one.control_path = own.control_path;
        connection.own_masters.push_back(std::move(one));
    }
    connection.reconnects = machine_.reconnects();
    connection.since = format_time(since_ms_);
    connection.rtt_ms = rtt_.summary();
    connection.probes.ok = probes_ok_;
    connection.probes.failed = probes_failed_;
    if (probed_at_ms_) {
        connection.probes.last_at = format_time(*probed_at_ms_);
    }
    connection.last_error = last_error_;
    if (const auto deadline = machine_.deadline()) {
        const Duration left = std::max(*deadline - now, Duration::zero());
        if (machine_.state() == ConnectionMachine::State::Backoff) {
            connection.retry_at = format_time(services_.clock.wall_ms() +
                                              std::chrono::duration_cast<std::chrono::milliseconds>(left).count());
        } else {
            connection.linger_s = seconds(left);
        }
    }
    return connection;
}

}  // namespace cmssh
