#include "daemon/pool/connection.hpp"

#include <algorithm>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/ssh/ssh_error.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// A tmux that ends as soon as it is asked is not asked again in a tight loop.
constexpr Duration kReopenPause = std::chrono::seconds(1);
constexpr Duration kLongestReopenPause = std::chrono::minutes(1);
// Longer than tmux takes for it.
constexpr Duration kSpareDeadline = std::chrono::seconds(15);
// Of those that have ended meanwhile, tmux knows the next newest only from 3.5 on.
constexpr std::size_t kNewestSessions = 8;
constexpr std::size_t kMaxProbeOutput = 4096;
// Nobody types a command to be told that a login fails again, and servers punish who tries too often.
constexpr Duration kForgetFailureAfter = std::chrono::minutes(5);

// A batch login that failed so may work where somebody can be asked.
bool wants_an_answer(ErrorKind kind) {
    return kind == ErrorKind::NeedsAuth || kind == ErrorKind::HostKeyUnknown;
}

// Sets a flag for as long as it lives, and tells who waits for its end.
class Marked {
public:
    Marked(bool& flag, Event& changed) : flag_(flag), changed_(changed) { flag_ = true; }
    ~Marked() {
        flag_ = false;
        changed_.notify_all();
    }
    Marked(const Marked&) = delete;
    Marked& operator=(const Marked&) = delete;

private:
    bool& flag_;
    Event& changed_;
};

// Says which master something is under way on, one at a time on each, and tells who waits for its end.
class UnderWayOn {
public:
    UnderWayOn(const Master*& place, const std::shared_ptr<Master>& master, Event& changed)
        : place_(place), master_(master), changed_(changed) {
        place_ = master_.get();
    }
    ~UnderWayOn() {
        if (place_ == master_.get()) {
            place_ = nullptr;
        }
        changed_.notify_all();
    }
    UnderWayOn(const UnderWayOn&) = delete;
    UnderWayOn& operator=(const UnderWayOn&) = delete;

private:
    const Master*& place_;
    std::shared_ptr<Master> master_;  // no other gets its address meanwhile
    Event& changed_;
};

}  // namespace

Hold::Hold(Connection& connection, HoldKind kind)
    : connection_(&connection), kind_(kind), generation_(connection.generation_) {
    connection_->change_refs(kind_, generation_, 1);
}

Hold::~Hold() {
    if (connection_ != nullptr) {
        connection_->change_refs(kind_, generation_, -1);
    }
}

Hold& Hold::operator=(Hold&& other) noexcept {
    if (this != &other) {
        const Hold released = std::move(*this);
        connection_ = std::exchange(other.connection_, nullptr);
        kind_ = other.kind_;
        generation_ = other.generation_;
    }
    return *this;
}

ConnectionUse::ConnectionUse(Connection& connection) : connection_(&connection) {
    ++connection_->users_;
}

ConnectionUse::~ConnectionUse() {
    if (connection_ != nullptr) {
        --connection_->users_;
    }
}

ConnectionUse& ConnectionUse::operator=(ConnectionUse&& other) noexcept {
    std::swap(connection_, other.connection_);
    return *this;
}

Connection::Connection(ConnectionServices& services, ServerKey key, std::string control_path, bool pinned)
    : services_(services),
      key_(std::move(key)),
      key_text_(key_.text()),
      control_path_(std::move(control_path)),
      machine_(services.clock.now(), pinned),
      channels_(std::make_shared<ChannelBudget>(services.clock, services.config.pool.max_channels)),
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
    act(action);
    if (machine_.state() != before && active() && services_.on_active) {
        services_.on_active();
    }
    tell_use();
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

void Connection::tell_use() {
    const bool held_back = machine_.held_back();
    if (std::exchange(held_back_told_, held_back) != held_back && held_back && refs() > 0 && !shutting_down_) {
        services_.observer.on_held_back(*this);
    }
    const bool in_use = refs() > 0 || active();
    if (std::exchange(in_use_, in_use) && !in_use && !shutting_down_) {
        services_.observer.on_no_master(*this);
    }
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

Connection::LoginPtr Connection::new_login() {
    auto login = std::make_shared<Login>();
    login->auth_sock = wanted_auth_sock_ ? std::exchange(wanted_auth_sock_, std::nullopt) : good_auth_sock_;
    if (wanted_questions_) {
        // close() ends these calls: before this goes, and before the login does.
        LoginQuestions::Listener listener;
        listener.on_change = [this] { changed_.notify_all(); };
        listener.on_asked = [this, raw = login.get()] {
            log_info(key_text_, "ssh asks a person");
            raw->slot.reset();
        };
        listener.on_give_up = [interrupt = login->interrupt] { interrupt->give_up(); };
        login->questions = std::make_shared<LoginQuestions>(services_.clock, std::move(listener));
    }
    return login;
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
    log_warn(key_text_, std::string(error_info(error.kind).name) + ": " + error.message);
}

asio::awaitable<void> Connection::follow_deadline() {
    while (!shutting_down_) {
        const Instant deadline = machine_.deadline().value_or(Instant::max());
        const Instant probe_at = probing_ ? Instant::max() : machine_.probe_at().value_or(Instant::max());
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

void Connection::wake_up() {
    feed(ConnectionMachine::WokeUp{});
}

Error Connection::unanswered(LoginQuestions::GivenUp why) const {
    std::string message = key_text_ + " wants a login that needs a person";
    switch (why) {
        case LoginQuestions::GivenUp::No:
            break;
        case LoginQuestions::GivenUp::NobodyThere:
            message += ": who was there to be asked has left";
            break;
        case LoginQuestions::GivenUp::Cancelled:
            message += ": who was asked has cancelled it";
            break;
        case LoginQuestions::GivenUp::NoAnswer:
            message += ": who was asked did not answer in time";
            break;
    }
    Error error{.kind = ErrorKind::NeedsAuth, .message = std::move(message)};
    error.hint = connect_by_hand(ctx_.empty() ? route_.destination.host : ctx_);
    error.server = key_text_;
    return error;
}

Error Connection::stopping() const {
    return Error{.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"};
}

Error Connection::lost() const {
    Error error{.kind = ErrorKind::MasterLost, .message = "the connection to " + key_text_ + " was lost"};
    error.server = key_text_;
    return error;
}

asio::awaitable<void> Connection::log_in(LoginPtr login) {
    auto made = Result<void>();
    try {
        made = co_await make_master(login);
    } catch (const std::exception& failure) {
        // Of the machine, such as no more memory or descriptors.
        made = Error{.kind = ErrorKind::Internal, .message = std::string("the login failed: ") + failure.what()};
    }
    login->slot.reset();
    if (login->questions) {
        login->questions->close();
        if (const auto why = login->questions->given_up(); !made && why != LoginQuestions::GivenUp::No) {
            made = unanswered(why);
        }
    }
    if (shutting_down_ || login->error) {
        co_return;
    }
    login_.reset();
    if (!made && login->restore_path) {
        login->error = made.error();
        log_info(key_text_, "nothing to take over: " + made.error().message);
        feed(ConnectionMachine::NothingToRestore{});
        co_return;
    }
    if (!made) {
        login->error = made.error();
        note_error(made.error());
        feed(ConnectionMachine::LoginFailed{.kind = made.error().kind});
        co_return;
    }
    good_auth_sock_ = login->auth_sock;
    feed(ConnectionMachine::LoggedIn{.adopted = login->adopted, .restored = login->restore_path.has_value()});
    services_.observer.on_master(*this);
    if (tmux() != nullptr) {
        services_.observer.on_reachable(*this);
    } else if (login->restore_path) {
        tasks_.spawn(key_text_, open_restored_tmux());
    } else {
        reopen_tmux_later();
    }
}

bool Connection::control_path_is_free() const {
    return !launching_ && master_ == nullptr &&
           std::none_of(retired_.begin(), retired_.end(), [](const Retired& it) { return it.listens; });
}

asio::awaitable<Result<void>> Connection::make_master(LoginPtr login) {
    // One that was given up is waited for: its ssh, or its master, is at the same control path.
    while (!login->error && !shutting_down_ && !control_path_is_free()) {
        co_await changed_.wait();
    }
    if (login->restore_path && !login->error && !shutting_down_) {
        co_return co_await find_master(login);
    }
    // Before the slot: the hop's own login may need one.
    auto hop = co_await reach_hop(login);
    if (shutting_down_ || login->error) {
        co_return stopping();
    }
    if (!hop) {
        co_return std::move(hop).error();
    }
    auto slot = co_await services_.slots.acquire();
    login->slot.emplace(std::move(slot));
    if (shutting_down_ || login->error) {
        co_return stopping();
    }
    const auto launched = co_await adopt_or_launch(login, std::move(*hop));
    if (!launched) {
        co_return launched;
    }
    if (login->error) {
        co_await end_master(master_, kEndGrace);
        co_return stopping();
    }
    if (!login->tmux) {
        co_return Result<void>();
    }
    set_phase(*login, "opening_tmux");
    const auto opened = co_await open_tmux(connect_deadline());
    if (login->error) {
        co_return stopping();  // the master is being ended, or gone
    }
    if (!has_master()) {
        co_return lost();
    }
    if (!opened && opened.error().kind == ErrorKind::Timeout && master_->adopted()) {
        // Somebody's master on a dead path: theirs to end, and of no use to us.
        master_->release();
        master_.reset();
        hop_.reset();
        Error error{.kind = ErrorKind::ConnectFailed,
                    .message = "the ssh master that listens on " + control_path_ + " does not reach " + key_text_,
                    .hint = "ssh -O exit -S " + control_path_ + " " + route_.destination.host};
        error.server = key_text_;
        co_return error;
    }
    // Without a tmux the server can still be reached: the error is for who needs tmux.
    co_return Result<void>();
}

asio::awaitable<Result<void>> Connection::adopt_or_launch(LoginPtr login, std::optional<Hop> hop) {
    const Marked launching(launching_, changed_);
    LaunchRequest request = launch_request();
    if (hop) {
        request.hop =
            HopSocket{.control_path = hop->lease.control_path, .host = hop->host, .key = hop->connection->key_text()};
    }
    request.auth_sock = login->auth_sock;
    request.on_login = [this, login] { set_phase(*login, "connecting"); };
    request.interrupt = login->interrupt;
    request.questions = login->questions;
    auto launched = co_await services_.launcher.launch(std::move(request));
    if (!launched && hop && hop->lost()) {
        co_return hop_failed(hop->connection->key_text(), hop->connection->lost());
    }
    if (!launched) {
        co_return std::move(launched).error();
    }
    if (shutting_down_) {
        (*launched)->release();
        co_return stopping();
    }
    take_master(std::move(*launched), *login);
    hop_ = std::move(hop);
    co_return Result<void>();
}

asio::awaitable<Result<void>> Connection::find_master(LoginPtr login) {
    const Marked launching(launching_, changed_);
    LaunchRequest request = launch_request();
    request.control_path = *login->restore_path;
    auto found = co_await services_.launcher.find(std::move(request));
    if (!found) {
        co_return std::move(found).error();
    }
    if (*found == nullptr) {
        co_return Error{.kind = ErrorKind::MasterLost, .message = "no ssh master listens on " + *login->restore_path};
    }
    if (shutting_down_) {
        (*found)->release();
        co_return stopping();
    }
    control_path_ = *login->restore_path;
    take_master(std::move(*found), *login);
    tasks_.spawn(key_text_, hold_hop_again(master_));
    if (login->error) {
        co_await end_master(master_, kEndGrace);
        co_return stopping();
    }
    co_return Result<void>();
}

void Connection::take_master(std::shared_ptr<Master> master, Login& login) {
    master_ = std::move(master);
    channels_ = std::make_shared<ChannelBudget>(services_.clock, services_.config.pool.max_channels);
    login.adopted = master_->adopted();
    served_ = login.adopted;
    master_since_ = services_.clock.now();
    tmux_error_.reset();
    tasks_.spawn(key_text_, watch_master(master_));
}

LaunchRequest Connection::launch_request() const {
    LaunchRequest request;
    request.route = route_;
    request.key = key_;
    request.dump = dump_;
    request.control_path = control_path_;
    request.deadline = connect_deadline();
    request.ctx = ctx_;
    return request;
}

asio::awaitable<bool> Connection::has_leftover_master() {
    if (login_ != nullptr || launching_ || master_ != nullptr) {
        co_return false;
    }
    const auto found = co_await services_.launcher.find(launch_request());
    if (!found || *found == nullptr) {
        co_return false;
    }
    (*found)->release();
    co_return true;
}

asio::awaitable<void> Connection::end_leftover_master() {
    if (login_ != nullptr || launching_ || master_ != nullptr) {
        co_return;
    }
    const Marked launching(launching_, changed_);
    const auto found = co_await services_.launcher.find(launch_request());
    if (!found || *found == nullptr) {
        co_return;
    }
    master_ = *found;
    tasks_.spawn(key_text_, watch_master(master_));
    co_await end_master(master_, kEndGrace);
}

asio::awaitable<void> Connection::restore(std::string control_path, bool held_back) {
    restore_path_ = std::move(control_path);
    held_back_told_ = held_back;
    feed(ConnectionMachine::RestoreAsked{.held_back = held_back});
    restore_path_.reset();
    while (login_ != nullptr && login_->restore_path && !shutting_down_) {
        co_await changed_.wait();
    }
}

StoredConnection Connection::stored() const {
    StoredConnection stored;
    stored.key = key_;
    stored.route = route_;
    stored.dump = dump_;
    stored.control_path = control_path_;
    stored.held_back = machine_.held_back();
    return stored;
}

void Connection::give_up_login() {
    const LoginPtr login = std::exchange(login_, nullptr);
    Error error{.kind = ErrorKind::Cancelled, .message = key_text_ + " was disconnected while it was being connected"};
    error.server = key_text_;
    login->error = std::move(error);
    if (login->questions) {
        login->questions->close();
    }
    login->interrupt->give_up();
    if (master_ != nullptr) {
        tasks_.spawn(key_text_, end_master(master_, kEndGrace));
    }
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

TmuxChannel* Connection::tmux() {
    return tmux_ != nullptr && tmux_->is_open() ? tmux_.get() : nullptr;
}

asio::awaitable<Result<void>> Connection::open_tmux(Instant deadline) {
    const auto master = master_;
    const UnderWayOn opening(opening_tmux_on_, master, changed_);
    auto opened = co_await TmuxChannel::open(services_.executor, services_.clock, master, services_.config.sessions,
                                             ownership(), deadline);
    if (opened && (master != master_ || shutting_down_)) {
        (*opened)->close();
        co_await (*opened)->joined();
        co_return lost();
    }
    if (master != master_) {
        co_return lost();
    }
    if (!opened) {
        tmux_error_ = opened.error();
        tmux_error_->server = key_text_;
        note_error(*tmux_error_);
        co_return *tmux_error_;
    }
    tmux_error_.reset();
    served_ = true;
    tmux_ = std::move(*opened);
    TmuxChannel::Listener listener;
    listener.on_notification = [this](const tmux::Notification& notification) {
        services_.observer.on_notification(*this, notification);
    };
    listener.on_closed = [this] {
        drop_tmux();
        services_.observer.on_unreachable(*this);
        reopen_tmux_later();
    };
    tmux_->set_listener(std::move(listener));
    co_return Result<void>();
}

void Connection::reopen_tmux_later() {
    if (refs() > 0 && wants_tmux() && has_master() && !shutting_down_ && !reopening_tmux_) {
        reopening_tmux_ = true;  // before it has begun
        tasks_.spawn(key_text_, reopen_tmux());
    }
}

asio::awaitable<void> Connection::reopen_tmux() {
    const Marked reopening(reopening_tmux_, changed_);
    Instant next = tmux_tried_at_ + kReopenPause;
    Duration pause = kReopenPause;
    while (refs() > 0 && has_master() && !shutting_down_ && tmux() == nullptr) {
        if (opening_tmux()) {
            co_await changed_.wait();
            continue;
        }
        if (services_.clock.now() < next) {
            co_await changed_.wait_until(next);
            continue;
        }
        tmux_tried_at_ = services_.clock.now();
        const auto opened = co_await open_tmux(connect_deadline());
        if (opened) {
            services_.observer.on_reachable(*this);
        } else {
            pause = std::min(pause * 2, kLongestReopenPause);
            next = services_.clock.now() + pause;
        }
    }
}

asio::awaitable<void> Connection::open_restored_tmux() {
    if (tmux() != nullptr || opening_tmux() || !has_master()) {
        co_return;
    }
    const auto opened = co_await open_tmux(connect_deadline());
    if (opened) {
        services_.observer.on_reachable(*this);
    } else {
        reopen_tmux_later();
    }
}

void Connection::drop_tmux() {
    if (tmux_ != nullptr) {
        tmux_->close();
        spare_.forget();
        tasks_.spawn(key_text_, bury(std::move(tmux_)));
    }
}

asio::awaitable<void> Connection::bury(std::unique_ptr<TmuxChannel> channel) {
    co_await channel->joined();
}

asio::awaitable<std::optional<std::int64_t>> Connection::make_spare() {
    TmuxChannel* channel = tmux();
    if (channel == nullptr) {
        co_return std::nullopt;
    }
    spare_made_with_ = services_.config.sessions;
    auto commands =
        tmux::make_spare_commands(services_.config.sessions, ownership(), newest_sessions_, channel->version());
    const auto replies = co_await channel->request_all(std::move(commands), services_.clock.now() + kSpareDeadline);
    co_return tmux::parse_spare(replies);
}

std::optional<std::int64_t> Connection::spare_pid() {
    if (spare_made_with_ != services_.config.sessions) {
        spare_.take();
    }
    return spare_.pid();
}

void Connection::note_started(const std::string& session_id) {
    newest_sessions_.push_front(session_id);
    if (newest_sessions_.size() > kNewestSessions) {
        newest_sessions_.pop_back();
    }
}

asio::awaitable<void> Connection::remove_spare() {
    if (auto* channel = tmux()) {
        (void)co_await channel->request(tmux::remove_spare_command(ownership()),
                                        services_.clock.now() + kSpareDeadline);
    }
}

asio::awaitable<Result<Connection::Ready>> Connection::ensure_up(Want want) {
    auto ready = co_await ensure_master(std::move(want));
    if (ready) {
        served_ = true;
    }
    co_return ready;
}

asio::awaitable<Result<Connection::Ready>> Connection::ensure_master(Want want) {
    using State = ConnectionMachine::State;
    struct Waiting {
        explicit Waiting(int& count) : count_(count) { ++count_; }
        ~Waiting() { --count_; }
        int& count_;
    };
    const Waiting waiting(waiting_);
    while (!shutting_down_) {
        wants_tmux_ = wants_tmux_ || want.tmux;
        switch (machine_.state()) {
            case State::Up:
            case State::Degraded:
                if (has_master()) {
                    ++reused_count_;
                    co_return Ready{};
                }
                break;  // its death is about to be told
            case State::Connecting:
                if (login_->restore_path) {
                    break;  // no login yet
                }
                {
                    const LoginPtr login = login_;
                    auto ready = co_await wait_for_login(login, want, false);
                    const bool could_be_asked = !ready && want.person && !want.person->has_left() &&
                                                login->questions == nullptr && wants_an_answer(ready.error().kind);
                    if (!could_be_asked) {
                        co_return ready;
                    }
                }
                continue;
            case State::Draining:
                if (machine_.ending()) {
                    break;  // to want it again changes nothing, and would wake all who wait here for ever
                }
                [[fallthrough]];
            case State::Idle:
            case State::Backoff:
            case State::NeedsAuth:
            case State::Failed:
                wanted_auth_sock_ = want.auth_sock;
                wanted_questions_ = want.person != nullptr;
                wants_tmux_ = want.tmux;
                feed(ConnectionMachine::Wanted{});
                wanted_questions_ = false;
                if (login_ == nullptr) {
                    break;  // the end of a master is waited for
                }
                co_return co_await wait_for_login(login_, want, true);
        }
        co_await changed_.wait();
    }
    co_return stopping();
}

asio::awaitable<Result<Connection::Ready>> Connection::wait_for_login(LoginPtr login, Want& want, bool ours) {
    // There to be asked, for as long as this waits.
    struct Present {
        Present(LoginQuestions* asked, std::shared_ptr<Person> person) : questions(asked), who(std::move(person)) {
            if (questions != nullptr && who != nullptr) {
                questions->join(who);
            }
        }
        ~Present() {
            if (questions != nullptr && who != nullptr) {
                questions->leave(*who);
            }
        }
        LoginQuestions* questions;
        std::shared_ptr<Person> who;
    };
    const Present present(login->questions.get(), want.person);
    std::string told;
    while (login_ == login && !shutting_down_ && !(want.person && want.person->has_left())) {
        if (want.progress && login->phase != told) {
            told = login->phase;
            want.progress(told);
        }
        if (want.person) {
            co_await Event::wait_for_either(changed_, *want.person->gone_event, Instant::max());
        } else {
            co_await changed_.wait();
        }
    }
    if (shutting_down_) {
        co_return stopping();
    }
    if (login_ == login || (want.person && want.person->cancelled)) {
        co_return Error{.kind = ErrorKind::Cancelled,
                        .message = want.person->cancelled ? "the login to " + key_text_ + " was cancelled"
                                                          : std::string("the caller is gone")};
    }
    // Of this login: others may have begun, and ended, since it did.
    if (login->error) {
        co_return *login->error;
    }
    if (!has_master()) {
        co_return lost();
    }
    Ready ready;
    ready.logged_in = true;
    ready.reused = !ours || login->adopted;
    if (ready.reused) {
        ++reused_count_;
    }
    co_return ready;
}

asio::awaitable<Result<Connection::Lease>> Connection::lease(Want want, ChannelBudget::Patience patience) {
    return lease_in_turn(std::move(want), ChannelBudget::Turn::InOrder, patience);
}

std::optional<Error> Connection::why_not_in_passing() const {
    using State = ConnectionMachine::State;
    const bool lately = services_.clock.now() - machine_.since() < kForgetFailureAfter;
    switch (machine_.state()) {
        case State::Up:
        case State::Idle:
        case State::Connecting:
            return std::nullopt;
        case State::NeedsAuth:
        case State::Failed:
            if (!lately) {
                return std::nullopt;
            }
            break;
        case State::Degraded:
        case State::Draining:
        case State::Backoff:
            break;
    }
    Error error{.kind = ErrorKind::ConnectFailed,
                .message = key_text_ + " is " + std::string(to_string(machine_.state()))};
    error.server = key_text_;
    return error;
}

asio::awaitable<Result<Connection::Lease>> Connection::lease_without_channel(Want want) {
    const Hold waiting(*this, HoldKind::Lease);
    auto ready = co_await ensure_up(std::move(want));
    if (!ready) {
        co_return std::move(ready).error();
    }
    if (!has_master()) {
        co_return lost();
    }
    Lease lease;
    lease.hold = Hold(*this, HoldKind::Lease);
    lease.generation = generation_;
    lease.control_path = control_path_;
    lease.reused = ready->reused;
    co_return lease;
}

asio::awaitable<Result<Connection::Lease>> Connection::lease_in_turn(Want want, ChannelBudget::Turn turn,
                                                                     ChannelBudget::Patience patience) {
    const Hold waiting(*this, HoldKind::Lease);
    for (;;) {
        auto ready = co_await ensure_up(want);
        if (!ready) {
            co_return std::move(ready).error();
        }
        const auto channels = channels_;
        auto channel = co_await ChannelBudget::take(channels, turn, patience);
        const bool replaced = channels != channels_ || !has_master();
        if (!channel && channel.error().kind != ErrorKind::MasterLost) {
            co_return std::move(channel).error();
        }
        if (channel && !replaced) {
            Lease lease;
            lease.hold = Hold(*this, HoldKind::Lease);
            lease.channel = std::move(*channel);
            lease.generation = generation_;
            lease.control_path = control_path_;
            lease.reused = ready->reused;
            co_return lease;
        }
        if (shutting_down_ || services_.clock.now() >= patience.deadline) {
            co_return shutting_down_ ? stopping() : lost();
        }
    }
}

asio::awaitable<Result<Connection::Lease>> Connection::lease_again(Lease refused, Want want,
                                                                   ChannelBudget::Patience patience) {
    if (refused.channel.budget() == channels_.get() && has_master()) {
        auto channel = co_await ChannelBudget::refused(std::move(refused.channel), patience);
        if (channel && refused.generation == generation_ && has_master()) {
            refused.channel = std::move(*channel);
            co_return std::move(refused);
        }
        if (!channel && channel.error().kind != ErrorKind::MasterLost) {
            co_return std::move(channel).error();
        }
    }
    refused = Lease();
    co_return co_await lease_in_turn(std::move(want), ChannelBudget::Turn::First, patience);
}

asio::awaitable<Result<Connection::OpenChannel>> Connection::open_channel(const Lease& lease, std::string command,
                                                                          Instant deadline) {
    OpenChannel open;
    open.master = master_;
    if (open.master == nullptr || lease.generation != generation_) {
        co_return lost();
    }
    auto channel = co_await open.master->open_channel(std::move(command), deadline);
    if (!channel) {
        co_return std::move(channel).error();
    }
    open.channel = std::move(*channel);
    co_return open;
}

asio::awaitable<Result<Connection::ReadyTmux>> Connection::ensure_tmux(Want want) {
    auto ready = co_await ensure_master(std::move(want));
    if (!ready) {
        co_return std::move(ready).error();
    }
    bool tried = ready->logged_in;
    while (opening_tmux()) {
        tried = true;
        co_await changed_.wait();
    }
    if (tmux() == nullptr) {
        if (shutting_down_) {
            co_return stopping();
        }
        if (!has_master()) {
            co_return lost();
        }
        // The answer to who waited for that try is its outcome, or each of them would wait for one more.
        if (tried && tmux_error_) {
            end_if_useless();
            co_return *tmux_error_;
        }
        const auto opened = co_await open_tmux(connect_deadline());
        if (!opened) {
            reopen_tmux_later();
            co_return opened.error();
        }
        services_.observer.on_reachable(*this);
    }
    ReadyTmux result;
    result.channel = tmux();
    result.reused = ready->reused;
    if (result.channel == nullptr) {
        co_return lost();
    }
    co_return result;
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
    }
    feed(ConnectionMachine::DisconnectAsked{.force = force});
    const std::uint64_t generation = generation_;
    const auto is_around = [this, generation] {
        const bool present = generation == generation_ && login_ == nullptr && (launching_ || master_ != nullptr);
        return present || std::any_of(retired_.begin(), retired_.end(),
                                      [generation](const Retired& it) { return it.generation <= generation; });
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

api::Connection Connection::describe() const {
    const Instant now = services_.clock.now();
    const auto seconds = [](Duration duration) { return std::chrono::duration<double>(duration).count(); };
    api::Connection connection;
    connection.server = cmssh::describe(key_);
    connection.state = machine_.state();
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
    connection.handshakes = machine_.handshakes();
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
