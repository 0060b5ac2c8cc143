#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/pool/connection.hpp"
#include "daemon/pool/under_way.hpp"
#include "daemon/ssh/ssh_error.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// A batch login that failed so may work where somebody can be asked.
bool wants_an_answer(ErrorKind kind) {
    return kind == ErrorKind::NeedsAuth || kind == ErrorKind::HostKeyUnknown;
}

}  // namespace

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
            raw->asked = true;
        };
        listener.on_give_up = [interrupt = login->interrupt] { interrupt->give_up(); };
        login->questions = std::make_shared<LoginQuestions>(services_.clock, std::move(listener));
    }
    return login;
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
    only_shared_ = login->asked;
    feed(ConnectionMachine::LoggedIn{.adopted = login->adopted, .restored = login->restore_path.has_value()});
    services_.observer.on_master(*this);
    if (tmux() != nullptr) {
        services_.observer.on_reachable(*this);
    } else if (!login->restore_path) {
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
        request.hop = hop_socket(*hop);
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
    channels_ = new_budget();
    login.adopted = master_->adopted();
    if (login.adopted) {
        channels_->inherit();
    }
    reached_ = true;
    served_ = login.adopted;
    master_since_ = services_.clock.now();
    tmux_error_.reset();
    tell_changed();
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

asio::awaitable<bool> Connection::restore(StoredConnection stored) {
    using State = ConnectionMachine::State;
    restore_path_ = std::move(stored.control_path);
    ConnectionMachine::RestoreAsked asked;
    asked.held_back = stored.held_back;
    if (stored.held_back_by && machine_.state() == State::Idle) {
        asked.held_in =
            stored.held_back_by->kind == error_info(ErrorKind::NeedsAuth).name ? State::NeedsAuth : State::Failed;
        last_error_ = std::move(stored.held_back_by);
    }
    feed(asked);
    restore_path_.reset();
    const LoginPtr login = login_ != nullptr && login_->restore_path ? login_ : nullptr;
    while (login != nullptr && login_ == login && !shutting_down_) {
        co_await changed_.wait();
    }
    const bool found = login != nullptr && login->adopted && has_master() && !shutting_down_;
    co_return found;
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

}  // namespace cmssh
