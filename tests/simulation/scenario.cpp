#include "tests/simulation/scenario.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "daemon/base/log.hpp"
#include "protocol/names.hpp"
#include "tests/simulation/sim_daemon.hpp"

namespace cmssh::sim {
namespace {

using namespace std::chrono_literals;
using api::SessionState;

// From ssh's login to the connection's being up: it takes the tmux channel too.
constexpr Duration kLongestLogin = 16s;

// What the people know of a start.
struct Start {
    std::string tag;
    std::string ctx;
    std::optional<std::string> request_id;
    std::optional<std::string> cwd;
    Program program;
    int calls = 0;
    bool under_way = false;
    bool refused = false;  // by an error that says that nothing of it is anywhere
    std::string session;   // once it is told
};

// What the people asked of a session.
struct Wish {
    bool kill = false;
    bool pending = false;  // the kill was promised
    bool forget = false;
    std::set<int> signals;
};

class Day {
public:
    explicit Day(const Options& options);
    Outcome run();

private:
    struct Seen {
        std::string id;
        SessionState state = SessionState::Starting;
    };
    struct Ended {
        SessionState state;
        std::optional<int> exit_code;
        std::optional<std::string> signal;
        Duration at;
    };
    struct Key {
        int calls = 0;  // under way, that may want a login
        bool needs_person = false;
        int failures = 0;  // in a row, at the most
        std::optional<Instant> up_at;
        Instant since{};
        int leases = 0;
    };

    // The loop.
    void run_until(Duration until);
    void settle();
    void begin_daemon();
    void end_daemon();
    void restart_later();
    [[nodiscard]] bool over() const { return world_.violation.has_value(); }
    [[nodiscard]] Duration now() const { return world_.clock.world(); }

    // What people do.
    void plan();
    void every(Duration mean, std::function<void()> what);
    SimDaemon* daemon();  // begun where it is not there; nullptr while it stops
    void start_one(bool with_crash);
    void call_start(std::shared_ptr<Start> start);
    asio::awaitable<void> do_start(std::shared_ptr<Start> start, std::string key);
    void kill_one();
    asio::awaitable<void> do_kill(std::string session, std::string key, std::optional<std::string> signal, bool forget);
    asio::awaitable<void> do_wait(std::string session, std::optional<std::int64_t> timeout_ms);
    asio::awaitable<void> do_logs(std::string session, std::string key);
    asio::awaitable<void> do_connect(std::string ctx, std::string key);
    asio::awaitable<void> do_disconnect(std::string ctx, bool force);
    asio::awaitable<void> do_check();
    asio::awaitable<void> do_lease(std::string ctx, std::string key, Duration lasts);
    void list_all();
    [[nodiscard]] std::string any_session(bool running_only);
    [[nodiscard]] std::string any_ctx() { return contexts_[world_.rng.below(contexts_.size())]; }
    [[nodiscard]] std::string key_of_ctx(const std::string& ctx) const {
        return "sim@" + config_.contexts.at(ctx).host + ":22";
    }
    [[nodiscard]] Caller caller();

    // What fails.
    void fault();
    void expect_stop(std::uint64_t life, Instant by);
    void heal();
    Machine& any_machine() { return *world_.machines[world_.rng.below(world_.machines.size())]; }
    Process* any_process();
    [[nodiscard]] Duration outage();

    // What must be true.
    void inspect();
    void inspect_sessions();
    void inspect_connections();
    void check_end(const SessionRecord& record);
    [[nodiscard]] std::string shown(const SessionRecord& record) const;
    void check_all_well();
    // Takes time at each step.
    [[nodiscard]] bool mirrors() const { return options_.seed % 10 == 0; }
    void check_nothing_left();

    Options options_;
    Rng product_random_;
    World world_;
    Config config_;
    std::vector<std::string> contexts_;
    std::string registry_file_;
    std::unique_ptr<SimDaemon> daemon_;
    bool restarting_ = false;
    bool planned_ = true;  // people and faults go on
    std::vector<std::shared_ptr<Start>> starts_;
    std::vector<std::shared_ptr<Start>> to_repeat_;
    std::map<std::string, Wish> wishes_;
    std::map<std::string, Key> keys_;
    std::map<std::string, Ended> ended_;
    std::set<std::string> known_;  // of those that a daemon has had, and are not ended
    std::unordered_map<const SessionRecord*, Seen> seen_;
    Event never_;
    bool not_gone_ = false;
    Outcome outcome_;
};

Day::Day(const Options& options)
    : options_(options),
      product_random_(options.seed ^ 0x5a5a5a5aULL),
      world_(options.seed * 2 + 1, options.trace),
      never_(world_.clock) {
    set_product_random(&product_random_);
    outcome_.seed = options.seed;
    std::filesystem::remove_all(options_.directory);
    std::filesystem::create_directories(options_.directory);
    registry_file_ = options_.directory + "/registry.db";

    Rng& rng = world_.rng;
    config_.pool.health_interval = std::chrono::duration_cast<std::chrono::milliseconds>(
        rng.chance(0.08) ? Duration(15s) : rng.between(30s, 5min));
    config_.pool.unhealthy_after = 1 + static_cast<int>(rng.below(3));
    const std::array<Duration, 4> persists = {5s, 60s, 10min, 2h};
    config_.pool.control_persist =
        std::chrono::duration_cast<std::chrono::milliseconds>(persists[rng.below(persists.size())]);
    config_.pool.max_concurrent_connects = 1 + static_cast<int>(rng.below(4));
    config_.sessions.keep_ended = 4h;
    world_.control_persist = std::max<Duration>(*config_.pool.control_persist, 5s);
    const std::array<Duration, 3> keepalives = {60s, 60s, 10min};
    world_.keepalive = keepalives[rng.below(keepalives.size())];
    constexpr std::array kNames = {"alpha", "beta", "gamma"};
    const std::size_t count = 2 + rng.below(2);
    for (std::size_t i = 0; i < count; ++i) {
        auto machine = std::make_unique<Machine>();
        machine->index = i;
        machine->name = kNames[i];
        machine->latency = rng.between(1ms, 200ms);
        machine->login_takes = rng.between(100ms, 4s);
        machine->clock_ahead_s = static_cast<std::int64_t>(rng.below(600)) - 300;
        machine->announces_dead_windows = rng.chance(0.7);
        contexts_.push_back(machine->name);
        config_.contexts[machine->name].host = machine->name;
        world_.hosts[machine->name] = i;
        world_.machines.push_back(std::move(machine));
    }
    if (rng.chance(0.5)) {
        // A second name of one machine: another key, the same tmux.
        contexts_.emplace_back("second");
        config_.contexts["second"].host = "alpha-too";
        world_.hosts["alpha-too"] = 0;
    }
    for (const auto& ctx : contexts_) {
        config_.contexts[ctx].prewarm = rng.chance(0.05);
    }
    world_.on_crash = [this] {
        ++outcome_.crashes;
        // What is committed by now is what its next life finds.
        daemon_->registry.close();
    };
    world_.on_login = [this](const std::string& key) {
        Key& its = keys_[key];
        if (its.needs_person && its.calls == 0) {
            world_.fail("a login to " + key + " by itself, after one that needs a person");
        }
    };
    world_.on_login_end = [this](const std::string& key, std::optional<ErrorKind> failure) {
        Key& its = keys_[key];
        if (!failure) {
            its.needs_person = false;
            its.up_at = world_.clock.now();
            return;
        }
        its.needs_person = needs_a_person(*failure);
        its.up_at.reset();
        ++its.failures;
    };
    world_.on_adopt = [this](const std::string& key) {
        // It may turn out to be of no use.
        ++keys_[key].failures;
        keys_[key].up_at = world_.clock.now();
    };
}

void Day::begin_daemon() {
    restarting_ = false;
    world_.clock.revive();
    ++world_.daemon_life;
    for (auto& [key, its] : keys_) {
        its = Key();
    }
    seen_.clear();
    world_.note("the daemon begins", {}, world_.daemon_life);
    daemon_ = std::make_unique<SimDaemon>(world_, config_, registry_file_, options_.seed % 50 == 0, mirrors());
    world_.touch();
    for (auto& start : std::exchange(to_repeat_, {})) {
        call_start(std::move(start));
    }
}

// After a crash, or a stop that is through.
void Day::end_daemon() {
    world_.crash_in = 0;
    daemon_->request_stop();
    constexpr int kMostSteps = 100'000;
    for (int steps = 0; steps < kMostSteps && daemon_->step(); ++steps) {
    }
    if (!daemon_->stopped()) {
        world_.fail("what is left of the daemon does not end: " + std::to_string(daemon_->calls.size()) + " calls");
        (void)daemon_.release();
        return;
    }
    seen_.clear();
    daemon_.reset();
    world_.note("the daemon is gone");
    restart_later();
}

void Day::restart_later() {
    Rng& rng = world_.rng;
    const double how = rng.unit();
    const Duration later = how < 0.7    ? rng.between(0s, 2s)
                           : how < 0.95 ? rng.between(0s, 2min)
                                        : rng.between(0s, 20min);
    restarting_ = true;
    world_.clock.after(later, [this, life = world_.daemon_life] {
        if (restarting_ && daemon_ == nullptr && life == world_.daemon_life) {
            begin_daemon();
        }
    });
}

SimDaemon* Day::daemon() {
    if (daemon_ == nullptr) {
        begin_daemon();
    }
    world_.touch();
    return daemon_->stopping() || world_.clock.crashed() ? nullptr : daemon_.get();
}

void Day::settle() {
    constexpr int kMostSteps = 100'000;
    int steps = 0;
    if (!world_.clock.take_woken() && !world_.touched) {
        return;
    }
    while (daemon_ != nullptr && !over()) {
        if (!daemon_->step()) {
            break;
        }
        ++outcome_.steps;
        if (++steps > kMostSteps) {
            world_.fail("the daemon spins: it never waits for anything");
            break;
        }
        if (!world_.clock.crashed() && world_.crash_is_due()) {
            world_.crash();
        }
        if (world_.clock.crashed() || daemon_->stopped()) {
            end_daemon();
        }
    }
    if (world_.touched && daemon_ != nullptr && !over()) {
        inspect();
    }
}

void Day::run_until(Duration until) {
    settle();
    while (!over() && world_.clock.step(until)) {
        settle();
    }
}

void Day::every(Duration mean, std::function<void()> what) {
    world_.clock.after(world_.rng.exponential(mean), [this, mean, what = std::move(what)] {
        if (!planned_ || over()) {
            return;
        }
        what();
        every(mean, what);
    });
}

void Day::plan() {
    Rng& rng = world_.rng;
    every(rng.between(7min, 21min), [this] { start_one(world_.rng.chance(0.04)); });
    every(rng.between(15min, 40min), [this] { kill_one(); });
    every(30min, [this] { list_all(); });
    every(40min, [this] {
        const std::string session = any_session(false);
        SimDaemon* its = daemon();
        if (its != nullptr && !session.empty()) {
            const auto timeout = world_.rng.chance(0.5) ? std::optional<std::int64_t>(600'000) : std::nullopt;
            its->calls.spawn("wait", do_wait(session, timeout));
        }
    });
    every(1h, [this] {
        const std::string session = any_session(true);
        SimDaemon* its = daemon();
        if (its == nullptr || session.empty()) {
            return;
        }
        const auto record = its->sessions.table().by_id(session);
        its->calls.spawn("logs", do_logs(session, record->view.server.key));
    });
    every(2h, [this] {
        const std::string ctx = any_ctx();
        if (SimDaemon* its = daemon()) {
            its->calls.spawn("connect", do_connect(ctx, key_of_ctx(ctx)));
        }
    });
    every(3h, [this] {
        const std::string ctx = any_ctx();
        const bool force = world_.rng.chance(0.5);
        if (SimDaemon* its = daemon()) {
            its->calls.spawn("disconnect", do_disconnect(ctx, force));
        }
    });
    every(3h, [this] {
        if (SimDaemon* its = daemon()) {
            its->calls.spawn("check", do_check());
        }
    });
    every(1h, [this] {
        const std::string ctx = any_ctx();
        // None is left an hour after the day.
        const Duration lasts = std::min<Duration>(world_.rng.exponential(10min), 1h);
        if (SimDaemon* its = daemon()) {
            its->calls.spawn("lease", do_lease(ctx, key_of_ctx(ctx), lasts));
        }
    });
    every(rng.between(6min, 20min), [this] { fault(); });
}

Caller Day::caller() {
    Caller caller;
    caller.progress = [](const std::string&, const std::string&, std::string_view) {};
    caller.gone_event = &never_;
    caller.gone = &not_gone_;
    return caller;
}

void Day::start_one(bool with_crash) {
    Rng& rng = world_.rng;
    auto start = std::make_shared<Start>();
    start->tag = "job-" + std::to_string(starts_.size() + 1);
    start->ctx = any_ctx();
    if (rng.chance(0.9)) {
        start->request_id = "request-" + start->tag;
    }
    if (rng.chance(0.2)) {
        start->cwd = "/srv/work";
    }
    Program& program = start->program;
    program.tag = start->tag;
    const double how = rng.unit();
    program.runs = how < 0.2    ? rng.between(0s, 2s)
                   : how < 0.7  ? rng.exponential(10min)
                   : how < 0.97 ? rng.exponential(1h)
                                : rng.between(6h, 30h);
    program.by_signal = rng.chance(0.1);
    program.number = program.by_signal ? 11 : static_cast<int>(rng.below(256));
    program.ignores_hup = rng.chance(0.1);
    starts_.push_back(start);
    ++outcome_.starts;
    call_start(start);
    if (with_crash) {
        ++outcome_.faults;
        world_.crash_in = 1 + rng.below(120);
    }
}

void Day::call_start(std::shared_ptr<Start> start) {
    SimDaemon* its = daemon();
    if (its == nullptr) {
        // cmctl meets a daemon that stops, and comes again.
        to_repeat_.push_back(std::move(start));
        return;
    }
    ++start->calls;
    start->under_way = true;
    const std::string key = key_of_ctx(start->ctx);
    its->calls.spawn("start", do_start(std::move(start), key));
}

asio::awaitable<void> Day::do_start(std::shared_ptr<Start> start, std::string key) {
    api::StartParams params;
    params.ctx = start->ctx;
    params.command = to_words(start->program);
    params.request_id = start->request_id;
    params.cwd = start->cwd;
    world_.note("start", start->tag);
    ++keys_[key].calls;
    const auto started = co_await daemon_->sessions.start(std::move(params), caller());
    --keys_[key].calls;
    start->under_way = false;
    world_.touch();
    if (world_.clock.crashed() || (!started && started.error().kind == ErrorKind::ShuttingDown)) {
        // cmctl asks once more, by the same request_id.
        if (start->request_id && start->calls == 1) {
            to_repeat_.push_back(std::move(start));
        }
        co_return;
    }
    if (!started) {
        world_.note("start failed", start->tag + ' ' + started.error().message);
        start->session = started.error().session.value_or("");
        start->refused = start->session.empty();
        co_return;
    }
    start->session = started->session.id;
    world_.note("started", start->tag + ' ' + start->session);
    if (started->session.state == SessionState::Lost && world_.executions(start->tag) == 0) {
        world_.note("not started again", start->tag);
    } else if (world_.executions(start->tag) != 1) {
        world_.fail("the start " + start->tag + " was answered, and executed " +
                    std::to_string(world_.executions(start->tag)) + " times");
    } else if (const Run* run = world_.run_of(start->session); run == nullptr || run->tag != start->tag) {
        world_.fail("the start " + start->tag + " was answered with another session " + start->session);
    }
}

std::string Day::any_session(bool running_only) {
    SimDaemon* its = daemon();
    if (its == nullptr) {
        return "";
    }
    std::vector<const SessionRecord*> found;
    for (const auto& record : its->sessions.table().all()) {
        if (!api::ended(record->view.state) || !running_only) {
            found.push_back(record.get());
        }
    }
    return found.empty() ? "" : found[world_.rng.below(found.size())]->view.id;
}

void Day::kill_one() {
    const std::string session = any_session(world_.rng.chance(0.9));
    SimDaemon* its = daemon();
    if (its == nullptr || session.empty()) {
        return;
    }
    const double how = world_.rng.unit();
    const auto signal = how < 0.3 ? std::optional<std::string>(how < 0.15 ? "TERM" : "KILL") : std::nullopt;
    const bool forget = how > 0.95;
    const auto record = its->sessions.table().by_id(session);
    its->calls.spawn("kill", do_kill(session, record->view.server.key, signal, forget));
}

asio::awaitable<void> Day::do_kill(std::string session, std::string key, std::optional<std::string> signal,
                                   bool forget) {
    api::KillParams params;
    params.session = session;
    params.signal = signal;
    params.forget = forget;
    world_.note("kill", session + (signal ? ' ' + *signal : "") + (forget ? " forget" : ""));
    Wish& wish = wishes_[session];
    wish.forget = wish.forget || forget;
    if (signal) {
        wish.signals.insert(signal_number(*signal));
    } else {
        wish.kill = true;
    }
    ++keys_[key].calls;
    const auto killed = co_await daemon_->sessions.kill(std::move(params), caller());
    --keys_[key].calls;
    world_.touch();
    if (world_.clock.crashed() || !killed) {
        world_.note("kill failed", session + (killed ? "" : ' ' + killed.error().message));
        co_return;
    }
    world_.note(killed->pending ? "kill is pending" : "killed", session);
    if (killed->pending) {
        wishes_[session].pending = true;
    } else if (!signal && !api::ended(killed->session.state)) {
        world_.fail("the kill of " + session + " was answered, and it has not ended");
    }
}

asio::awaitable<void> Day::do_wait(std::string session, std::optional<std::int64_t> timeout_ms) {
    api::WaitParams params;
    params.session = session;
    params.timeout_ms = timeout_ms;
    const auto record = daemon_->sessions.table().by_id(session);
    // Only then it may want a login.
    const bool cold = record != nullptr && record->connection != nullptr && !record->connection->has_master();
    const std::string key = cold ? record->view.server.key : "";
    keys_[key].calls += cold ? 1 : 0;
    const auto waited = co_await daemon_->sessions.wait(std::move(params), caller());
    keys_[key].calls -= cold ? 1 : 0;
    if (waited && !world_.clock.crashed() && !api::ended(waited->session.state)) {
        world_.fail("the wait for " + session + " was answered, and it has not ended");
    }
}

asio::awaitable<void> Day::do_logs(std::string session, std::string key) {
    api::LogsParams params;
    params.session = session;
    ++keys_[key].calls;
    const auto logs = co_await daemon_->sessions.logs(std::move(params), caller());
    --keys_[key].calls;
    if (logs && !world_.clock.crashed() && !logs->text.empty() && logs->text != "screen of " + session + '\n') {
        world_.fail("the logs of " + session + " are those of another: " + logs->text);
    }
}

asio::awaitable<void> Day::do_connect(std::string ctx, std::string key) {
    world_.note("connect", ctx);
    ++keys_[key].calls;
    auto found = co_await daemon_->sessions.find_connection(ctx);
    if (found) {
        Connection::Want want;
        (void)co_await found->connection->ensure_up(std::move(want));
    }
    --keys_[key].calls;
}

asio::awaitable<void> Day::do_disconnect(std::string ctx, bool force) {
    world_.note("disconnect", ctx + (force ? " force" : ""));
    auto found = co_await daemon_->sessions.find_connection(ctx);
    if (found) {
        (void)co_await found->connection->disconnect(force, world_.clock.now() + 60s);
    }
}

asio::awaitable<void> Day::do_check() {
    world_.note("check");
    for (const auto& ctx : contexts_) {
        ++keys_[key_of_ctx(ctx)].calls;
    }
    co_await daemon_->pool.check(nullptr);
    for (const auto& ctx : contexts_) {
        --keys_[key_of_ctx(ctx)].calls;
    }
}

// An attach or a plain ssh that passes through: a channel of its own on the master.
asio::awaitable<void> Day::do_lease(std::string ctx, std::string key, Duration lasts) {
    ++keys_[key].calls;
    auto found = co_await daemon_->sessions.find_connection(ctx);
    if (!found) {
        --keys_[key].calls;
        co_return;
    }
    Connection::Want want;
    const auto ready = co_await found->connection->ensure_up(std::move(want));
    --keys_[key].calls;
    if (!ready || world_.clock.crashed() || daemon_->stopping()) {
        co_return;
    }
    const Hold hold(*found->connection, HoldKind::Lease);
    world_.note("lease", ctx);
    Process* process = world_.listener(found->connection->describe().control_path);
    StreamPtr stream;
    if (process != nullptr) {
        stream = world_.open_stream(*process, "attach", nullptr);
    }
    ++keys_[key].leases;
    const Instant until = world_.clock.now() + lasts;
    while (world_.clock.now() < until && !world_.clock.crashed() && !daemon_->stopping()) {
        const auto timer = world_.clock.make_timer();
        co_await timer->wait_until(std::min(until, world_.clock.now() + 60s));
    }
    --keys_[key].leases;
    world_.touch();
    if (stream != nullptr) {
        world_.close_client(stream);
    }
}

void Day::list_all() {
    if (SimDaemon* its = daemon()) {
        api::ListParams params;
        params.all = true;
        (void)its->sessions.list(params);
    }
}

Process* Day::any_process() {
    std::vector<Process*> alive;
    for (const auto& process : world_.processes) {
        if (process->alive) {
            alive.push_back(process.get());
        }
    }
    return alive.empty() ? nullptr : alive[world_.rng.below(alive.size())];
}

Duration Day::outage() {
    Rng& rng = world_.rng;
    const double how = rng.unit();
    return how < 0.4 ? rng.between(100ms, 10s) : how < 0.9 ? rng.exponential(2min) : rng.exponential(30min);
}

void Day::fault() {
    Rng& rng = world_.rng;
    ++outcome_.faults;
    Machine& machine = any_machine();
    const Duration lasts = outage();
    const auto later = [&](std::function<void()> end) { world_.clock.after(lasts, std::move(end)); };
    switch (rng.below(17)) {
        case 0:
            if (Process* process = any_process()) {
                world_.kill(*process);
            }
            return;
        case 1:
            if (Process* process = any_process()) {
                world_.set_hung(*process, true);
                later([this, process] { world_.set_hung(*process, false); });
            }
            return;
        case 2:
        case 3:
        case 4:
            world_.set_path(machine, false);
            later([this, &machine] { world_.set_path(machine, true); });
            return;
        case 5:
            if (Process* process = any_process()) {
                world_.set_blackholed(*process);
            }
            return;
        case 6:
            world_.note("sshd refuses", machine.name);
            machine.sshd_serves = false;
            later([&machine] { machine.sshd_serves = true; });
            return;
        case 7: {
            constexpr std::array kinds = {ErrorKind::AuthFailed,     ErrorKind::NeedsAuth,  ErrorKind::HostKeyChanged,
                                          ErrorKind::HostKeyUnknown, ErrorKind::DnsFailure, ErrorKind::ConnectFailed};
            machine.login_failure = kinds[rng.below(kinds.size())];
            world_.note("logins will fail", std::string(error_info(*machine.login_failure).name));
            later([&machine] { machine.login_failure.reset(); });
            return;
        }
        case 8:
            machine.login_hangs = true;
            later([&machine] { machine.login_hangs = false; });
            return;
        case 9:
            machine.tmux_missing = true;
            later([&machine] { machine.tmux_missing = false; });
            return;
        case 10:
            if (!machine.tmux_stalls) {
                world_.set_tmux_stalls(machine, true);
                world_.clock.after(rng.between(100ms, 40s),
                                   [this, &machine] { world_.set_tmux_stalls(machine, false); });
            }
            return;
        case 11:
            if (rng.chance(0.3)) {
                world_.kill_tmux(machine);
            } else {
                world_.reboot(machine, rng.between(10s, 5min));
            }
            return;
        case 12:
        case 13:
            world_.crash_in = 1 + rng.below(60);
            return;
        case 14:
            if (daemon_ != nullptr && !daemon_->stopping() && !world_.clock.crashed()) {
                world_.note("the daemon is asked to stop");
                daemon_->request_stop();
                world_.touch();
                expect_stop(world_.daemon_life, world_.clock.now() + 2min);
            }
            return;
        case 15:
            if (rng.chance(0.3)) {
                const Duration by = rng.exponential(20min);
                world_.note("the machine sleeps");
                world_.clock.sleep(by);
                world_.note("the machine wakes up");
                world_.after_sleep();
            } else {
                machine.max_sessions = 1 + static_cast<int>(rng.below(2));
                later([&machine] { machine.max_sessions = 10; });
            }
            return;
        case 16:
            if (machine.tmux != nullptr) {
                std::vector<const Run*> alive;
                for (const Run& run : world_.runs) {
                    if (run.machine == machine.index && run.alive_in_tmux()) {
                        alive.push_back(&run);
                    }
                }
                if (!alive.empty()) {
                    const std::string session = alive[rng.below(alive.size())]->session;
                    world_.note("a person kills", session);
                    machine.tmux->kill_session_by_person(session);
                }
            }
            return;
        default:
            return;
    }
}

void Day::expect_stop(std::uint64_t life, Instant by) {
    world_.clock.after(by - world_.clock.now(), [this, life, by] {
        if (daemon_ == nullptr || life != world_.daemon_life) {
            return;
        }
        if (world_.clock.now() >= by) {
            world_.fail("the daemon does not stop");
        } else {
            expect_stop(life, by);  // the machine slept meanwhile
        }
    });
}

void Day::heal() {
    world_.note("everything is well again");
    world_.crash_in = 0;
    for (const auto& machine : world_.machines) {
        machine->sshd_serves = true;
        machine->login_failure.reset();
        machine->login_hangs = false;
        machine->tmux_missing = false;
        machine->max_sessions = 10;
        if (machine->tmux_stalls) {
            world_.set_tmux_stalls(*machine, false);
        }
        world_.set_path(*machine, true);
    }
    for (const auto& process : world_.processes) {
        world_.set_hung(*process, false);
    }
}

std::string Day::shown(const SessionRecord& record) const {
    std::string text = record.view.id + " is shown " + std::string(to_string(record.view.state));
    if (record.view.exit_code) {
        text += " with exit code " + std::to_string(*record.view.exit_code);
    }
    if (record.view.signal) {
        text += " by SIG" + *record.view.signal;
    }
    if (record.view.reason) {
        text += " (" + *record.view.reason + ')';
    }
    return text;
}

void Day::inspect() {
    world_.touched = false;
    inspect_sessions();
    inspect_connections();
    if (mirrors() && !daemon_->stopping() && !world_.clock.crashed()) {
        if (const auto difference = daemon_->mirror.difference()) {
            world_.fail(*difference);
        }
    }
}

void Day::inspect_sessions() {
    std::set<std::string> present;
    for (const auto& record : daemon_->sessions.table().all()) {
        Seen& seen = seen_[record.get()];
        const bool is_new = seen.id != record->view.id;
        const SessionState state = record->view.state;
        if (!is_new && seen.state == state && api::ended(state)) {
            continue;
        }
        if (!api::ended(state)) {
            present.insert(record->view.id);
        }
        const auto ended = ended_.find(record->view.id);
        if (is_new || seen.state != state) {
            seen.id = record->view.id;
            seen.state = state;
            if (api::ended(state)) {
                check_end(*record);
            } else if (ended != ended_.end() && ended->second.state != SessionState::Lost) {
                world_.fail(shown(*record) + ", and had ended");
            }
        }
        if (state == SessionState::Running && !daemon_->stopping() &&
            (record->connection == nullptr || record->connection->tmux() == nullptr)) {
            world_.fail(shown(*record) + ", and its server can't be asked");
        }
    }
    // One that a daemon has had, and tmux has, is not forgotten.
    if (!daemon_->stopping()) {
        for (const std::string& id : known_) {
            const Run* run = world_.run_of(id);
            if (!present.contains(id) && run != nullptr && run->alive_in_tmux() && !wishes_[id].forget &&
                daemon_->sessions.table().by_id(id) == nullptr) {
                world_.fail(id + " runs in tmux, and the daemon has forgotten it");
            }
        }
    }
    known_ = std::move(present);
}

// A record that is shown ended, against what the world knows.
void Day::check_end(const SessionRecord& record) {
    const std::string& id = record.view.id;
    const Run* run = world_.run_of(id);
    const Wish& wish = wishes_[id];
    const auto before = ended_.find(id);
    if (before != ended_.end() && before->second.state != SessionState::Lost) {
        if (before->second.state != record.view.state || before->second.exit_code != record.view.exit_code ||
            before->second.signal != record.view.signal) {
            world_.fail(shown(record) + ", and was shown " + std::string(to_string(before->second.state)));
        }
        return;
    }
    ended_[id] = Ended{record.view.state, record.view.exit_code, record.view.signal, now()};
    world_.note("shown ended", shown(record));
    const std::string reason = record.view.reason.value_or("");
    if (run == nullptr) {
        if (record.view.state == SessionState::Killed && wish.kill) {
            return;
        }
        // Whether it was about to run in an earlier tmux can't be known.
        const bool agrees =
            reason == kNeverStarted || reason == kForgotten || reason == kRebooted || reason == kTmuxServerGone;
        if (record.view.state != SessionState::Lost || !agrees) {
            world_.fail(shown(record) + ", and never ran");
        }
        return;
    }
    if (reason == kForgotten) {
        if (!wish.forget) {
            world_.fail(shown(record) + ", and nobody wished it");
        }
        return;
    }
    if (run->alive_in_tmux()) {
        world_.fail(shown(record) + ", and it runs in tmux");
        return;
    }
    switch (record.view.state) {
        case SessionState::Exited:
            if (run->end == Run::End::Exited ? record.view.exit_code != run->code || record.view.signal
                                             : run->end != Run::End::Signalled || record.view.exit_code ||
                                                   record.view.signal != signal_name(run->signal)) {
                world_.fail(shown(record) + ", and that is not how it ended");
            }
            return;
        case SessionState::Killed:
            if (record.view.signal) {
                if (run->end != Run::End::Signalled || record.view.signal != signal_name(run->signal) ||
                    !wish.signals.contains(run->signal)) {
                    world_.fail(shown(record) + ", and that is not how it ended");
                }
            } else if (!wish.kill) {
                world_.fail(shown(record) + ", and nobody asked for it");
            }
            return;
        case SessionState::Lost: {
            const Machine& machine = *world_.machines[run->machine];
            const bool same_life = machine.tmux != nullptr && machine.tmux->life() == run->life;
            const bool agrees = reason == kRebooted         ? machine.boot > 1 && !same_life
                                : reason == kTmuxServerGone ? !same_life
                                : reason == kGone           ? !run->in_tmux
                                // Nobody can know that it did, where tmux is another and never answered.
                                : reason == kNeverStarted ? !run->in_tmux && (!same_life || run->by_person)
                                                          : false;
            if (!agrees) {
                world_.fail(shown(record) + ", and that is not why");
            }
            return;
        }
        case SessionState::Starting:
        case SessionState::Running:
        case SessionState::Unreachable:
            return;
    }
}

void Day::inspect_connections() {
    std::map<const Connection*, int> sessions;
    for (const auto& record : daemon_->sessions.table().all()) {
        if (!api::ended(record->view.state) && record->connection != nullptr) {
            ++sessions[record->connection];
        }
    }
    for (const auto& [key, connection] : daemon_->pool.connections()) {
        if (daemon_->stopping()) {
            break;
        }
        const auto view = connection->describe();
        Key& its = keys_[key];
        if (view.refs != view.sessions + view.leases || view.sessions != sessions[connection.get()]) {
            world_.fail(key + " has " + std::to_string(view.refs) + " refs: " + std::to_string(view.sessions) +
                        " sessions and " + std::to_string(view.leases) + " leases, and there are " +
                        std::to_string(sessions[connection.get()]) + " sessions");
        }
        // One more for killed sessions whose processes are swept.
        if (view.leases < its.leases || view.leases > its.leases + 1) {
            world_.fail(key + " has " + std::to_string(view.leases) + " leases, and people have " +
                        std::to_string(its.leases));
        }
        if (connection->since() == its.since) {
            continue;
        }
        its.since = connection->since();
        world_.note("connection", key + ' ' + std::string(to_string(view.state)));
        using State = api::ConnectionState;
        if (view.state != State::Backoff && view.state != State::Failed && view.state != State::NeedsAuth) {
            continue;
        }
        if (!its.up_at) {
            // It was counted.
        } else if (world_.clock.now() - *its.up_at >= kLongestLogin + 60s) {
            its.failures = 0;
        } else if (world_.clock.now() - *its.up_at <= kLongestLogin + 10s) {
            ++its.failures;
        }
        its.up_at.reset();
        if (view.state != State::Backoff) {
            continue;
        }
        const auto& pool = config_.pool;
        const double longest = std::min(static_cast<double>(pool.backoff_max.count()),
                                        static_cast<double>(pool.backoff_initial.count()) * std::pow(2, its.failures));
        const auto limit = world_.clock.wall_ms() + static_cast<std::int64_t>(longest) + 2;
        if (!view.retry_at || *view.retry_at > format_time(limit)) {
            world_.fail(key + " is tried again at " + view.retry_at.value_or("no time") + ", after " +
                        std::to_string(its.failures) + " failures");
        }
    }
    std::set<std::string> listened;
    for (const auto& process : world_.processes) {
        if (process->alive && process->listening && !listened.insert(process->control_path).second) {
            world_.fail("two masters of " + process->key + " take new work");
        }
    }
}

// Everything has been well for long enough: what is known here is what is true there.
void Day::check_all_well() {
    if (over() || daemon_ == nullptr) {
        return;
    }
    const SessionTable& table = daemon_->sessions.table();
    for (const auto& record : table.all()) {
        const Run* run = world_.run_of(record->view.id);
        const bool alive = run != nullptr && run->alive_in_tmux();
        if (!api::ended(record->view.state) && (record->view.state != SessionState::Running || !alive)) {
            world_.fail(shown(*record) + ", and all is well and it " + (alive ? "runs" : "does not run"));
        }
        if (api::ended(record->view.state) && alive) {
            world_.fail(shown(*record) + ", and it runs");
        }
        if (!api::ended(record->view.state) && wishes_[record->view.id].pending) {
            world_.fail(shown(*record) + ", and was to be killed");
        }
    }
    for (const Run& run : world_.runs) {
        if (run.in_tmux && run.end != Run::End::None) {
            world_.fail(run.session + " has ended, and its pane is still there");
        }
        if (run.alive_in_tmux() && table.by_id(run.session) == nullptr) {
            world_.fail(run.session + " runs in tmux, and the daemon does not know it");
        }
    }
    for (const auto& start : starts_) {
        if (start->refused && world_.executions(start->tag) != 0) {
            world_.fail("the start " + start->tag + " failed, as if nothing were there, and was executed");
        }
    }
    for (const auto& process : world_.processes) {
        if (!process->alive) {
            continue;
        }
        const bool held = std::any_of(process->holders.begin(), process->holders.end(),
                                      [](const SimMaster* holder) { return !holder->let_go(); });
        if (!held || !process->listening) {
            world_.fail("the master " + std::to_string(process->pid) + " of " + process->key +
                        (held ? " is left behind with nobody on it" : " belongs to nobody"));
        }
    }
}

void Day::check_nothing_left() {
    if (over() || daemon_ == nullptr) {
        return;
    }
    for (const auto& record : daemon_->sessions.table().all()) {
        if (!api::ended(record->view.state)) {
            world_.fail(shown(*record) + ", and everything was killed");
        }
    }
    for (const auto& [key, connection] : daemon_->pool.connections()) {
        if (connection->refs() != 0) {
            world_.fail(key + " has " + std::to_string(connection->refs()) + " refs at the end");
        }
    }
    if (const auto alive = world_.alive_processes(); alive != 0) {
        world_.fail(std::to_string(alive) + " ssh processes are left at the end");
    }
}

Outcome Day::run() {
    begin_daemon();
    plan();
    run_until(std::chrono::hours(options_.hours));

    planned_ = false;
    heal();
    run_until(now() + 30min);  // what was begun has ended, reboots among it
    heal();
    (void)daemon();
    run_until(now() + 10min + 4 * Duration(config_.pool.health_interval));
    // Where a person was needed, there is one now.
    if (SimDaemon* its = over() ? nullptr : daemon()) {
        for (const auto& ctx : contexts_) {
            its->calls.spawn("connect", do_connect(ctx, key_of_ctx(ctx)));
        }
    }
    run_until(now() + 10min + 4 * Duration(config_.pool.health_interval));
    check_all_well();

    if (SimDaemon* its = over() ? nullptr : daemon()) {
        for (const auto& record : its->sessions.table().all()) {
            if (!api::ended(record->view.state)) {
                its->calls.spawn("kill", do_kill(record->view.id, record->view.server.key, std::nullopt, false));
            }
        }
    }
    run_until(now() + 5min);
    if (SimDaemon* its = over() ? nullptr : daemon()) {
        for (const auto& ctx : contexts_) {
            its->calls.spawn("disconnect", do_disconnect(ctx, true));
        }
    }
    run_until(now() + 5min);
    check_nothing_left();

    if (daemon_ != nullptr) {
        world_.crash();
        end_daemon();
    }
    outcome_.hash = world_.trace.hash();
    outcome_.events = world_.trace.events();
    outcome_.logins = world_.login_attempts;
    outcome_.executions = world_.runs.size();
    if (world_.violation) {
        outcome_.violation = world_.violation->what;
    }
    std::error_code ignored;
    std::filesystem::remove_all(options_.directory, ignored);
    return outcome_;
}

}  // namespace

Outcome run_day(const Options& options) {
    Day day(options);
    return day.run();
}

}  // namespace cmssh::sim
