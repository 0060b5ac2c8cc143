#include "tests/simulation/masters.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace cmssh::sim {
namespace {

using namespace std::chrono_literals;

// As OpensshLauncher and OpensshMaster have them.
constexpr Duration kAdoptDeadline = 2s;
constexpr Duration kTermGrace = 2s;

Error master_lost() {
    return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master is gone"};
}

}  // namespace

SimChannel::SimChannel(World& world, StreamPtr stream)
    : world_(world), stream_(std::move(stream)), changed_(world.clock) {
    stream_->changed = &changed_;
}

SimChannel::~SimChannel() {
    close();
}

asio::awaitable<std::string> SimChannel::read(std::string Stream::*from) {
    while (!closed_ && ((*stream_).*from).empty() && !stream_->ended && world_.lives()) {
        co_await changed_.wait();
    }
    co_return closed_ || world_.clock.crashed() ? std::string() : std::exchange((*stream_).*from, {});
}

asio::awaitable<std::string> SimChannel::read_output() {
    return read(&Stream::output);
}

asio::awaitable<std::string> SimChannel::read_error() {
    return read(&Stream::error);
}

std::size_t SimChannel::try_write(std::string_view bytes) {
    if (!world_.lives() || closed_ || stream_->ended) {
        return 0;
    }
    // Now and then the socket takes a part only.
    const std::size_t taken = bytes.size() > 1 && world_.rng.chance(0.01) ? bytes.size() / 2 : bytes.size();
    world_.write(stream_, std::string(bytes.substr(0, taken)));
    (void)world_.lives();
    return taken;
}

asio::awaitable<bool> SimChannel::wait_writable() {
    const auto timer = world_.clock.make_timer();
    co_await timer->wait_until(world_.clock.now() + 1ms);
    co_return !closed_ && !stream_->ended && world_.lives();
}

asio::awaitable<std::optional<int>> SimChannel::exit_status() {
    while (!closed_ && !stream_->ended && world_.lives()) {
        co_await changed_.wait();
    }
    co_return world_.clock.crashed() ? std::nullopt : stream_->exit_code;
}

void SimChannel::close() {
    if (std::exchange(closed_, true)) {
        return;
    }
    if (!world_.clock.crashed()) {
        world_.close_client(stream_);
    }
    stream_->changed = nullptr;
    changed_.notify_all();
}

SimMaster::SimMaster(World& world, Process& process, bool adopted)
    : world_(world), process_(&process), adopted_(adopted), dead_(!process.alive), changed_(world.clock) {
    process_->holders.push_back(this);
}

SimMaster::~SimMaster() {
    if (!orphaned_) {
        std::erase(process_->holders, this);
    }
}

void SimMaster::orphan() {
    orphaned_ = true;
    released_ = true;
    changed_.notify_all();
}

void SimMaster::tell() {
    changed_.notify_all();
}

asio::awaitable<Result<void>> SimMaster::answer(Instant deadline) {
    while (world_.lives() && process_->alive && process_->hung && !released_) {
        const bool in_time = co_await changed_.wait_until(deadline);
        if (!in_time) {
            co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
        }
    }
    if (!process_->alive || released_) {
        co_return master_lost();
    }
    co_return Result<void>();
}

asio::awaitable<Result<void>> SimMaster::check(Instant deadline) {
    auto answered = co_await answer(deadline);
    if (answered && !process_->listening) {
        co_return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master no longer listens"};
    }
    if (answered) {
        world_.used(*process_);
    }
    co_return answered;
}

asio::awaitable<Result<void>> SimMaster::stop_listening(Instant deadline) {
    auto answered = co_await answer(deadline);
    if (answered) {
        world_.note("stops listening", process_->key, process_->pid);
        process_->listening = false;
        world_.used(*process_);
        world_.touch();
        (void)world_.lives();
    }
    co_return answered;
}

asio::awaitable<Result<std::unique_ptr<Channel>>> SimMaster::open_channel(std::string command, Instant deadline) {
    if (!world_.lives() || !process_->alive || !process_->listening) {
        co_return master_lost();
    }
    // Given up where this coroutine ends in whatever way.
    struct Opening {
        World& world;
        StreamPtr stream;
        ~Opening() {
            if (stream != nullptr) {
                stream->changed = nullptr;
                if (!world.clock.crashed()) {
                    world.close_client(stream);
                }
            }
        }
    };
    Event changed(world_.clock);
    Opening opening{world_, world_.open_stream(*process_, std::move(command), &changed)};
    while (world_.lives() && opening.stream->opening == Stream::Opening::Asked && !opening.stream->ended) {
        const bool in_time = co_await changed.wait_until(deadline);
        if (!in_time) {
            co_return Error{.kind = ErrorKind::Timeout, .message = "the server did not open a channel in time"};
        }
    }
    if (opening.stream->opening == Stream::Opening::Refused) {
        co_return Error{.kind = ErrorKind::ChannelRefused, .message = "the server refused a further channel"};
    }
    if (opening.stream->opening == Stream::Opening::Asked || world_.clock.crashed()) {
        co_return master_lost();
    }
    std::unique_ptr<Channel> channel = std::make_unique<SimChannel>(world_, std::exchange(opening.stream, nullptr));
    co_return channel;
}

// Nobody forwards anything in the simulation.
asio::awaitable<Result<int>> SimMaster::open_forward(mux::Forward /*forward*/, Instant deadline) {
    const auto answered = co_await answer(deadline);
    co_return answered ? Result<int>(0) : answered.error();
}

asio::awaitable<Result<void>> SimMaster::close_forward(mux::Forward /*forward*/, Instant deadline) {
    return answer(deadline);
}

asio::awaitable<void> SimMaster::wait_for_death() {
    while (process_->alive && !released_) {
        co_await changed_.wait();
    }
    if (!process_->alive && !released_) {
        dead_ = true;
        changed_.notify_all();
    }
}

asio::awaitable<void> SimMaster::end(Instant deadline) {
    if (!world_.lives() || released_) {
        co_return;
    }
    world_.note("told to end", process_->key, process_->pid);
    // On SIGTERM, which a stopped process does not take.
    world_.clock.after(10ms, [&world = world_, process = process_] {
        if (!process->hung) {
            world.kill(*process);
        }
    });
    const Instant kill_at = std::min(deadline, world_.clock.now() + kTermGrace);
    bool in_time = true;
    while (!dead_ && !released_ && in_time) {
        in_time = co_await changed_.wait_until(kill_at);
    }
    if (!dead_ && !released_ && world_.lives()) {
        world_.kill(*process_);
        in_time = true;
        while (!dead_ && !released_ && in_time) {
            in_time = co_await changed_.wait_until(world_.clock.now() + kTermGrace);
        }
    }
}

void SimMaster::release() {
    released_ = true;
    changed_.notify_all();
}

asio::awaitable<Result<std::shared_ptr<Master>>> SimLauncher::adopt(const LaunchRequest& request) {
    world_.touch();
    Process* process = world_.listener(request.control_path);
    if (process == nullptr) {
        co_return std::shared_ptr<Master>();
    }
    if (world_.lives() && world_.on_adopt) {
        world_.on_adopt(process->key);
    }
    const Instant deadline = std::min(request.deadline, world_.clock.now() + kAdoptDeadline);
    while (world_.lives() && process->alive && process->hung && world_.clock.now() < deadline) {
        const auto timer = world_.clock.make_timer();
        co_await timer->wait_until(std::min(deadline, world_.clock.now() + 100ms));
    }
    if (process->hung && process->alive) {
        world_.touch();
        co_return Error{.kind = ErrorKind::ConnectFailed, .message = "the ssh master there does not answer"};
    }
    if (!world_.lives() || !process->alive || !process->listening) {
        co_return std::shared_ptr<Master>();
    }
    for (const SimMaster* holder : process->holders) {
        if (!holder->let_go()) {
            world_.fail("the daemon takes the master " + std::to_string(process->pid) + " of " + process->key +
                        " over from itself");
        }
    }
    world_.note("adopted", process->key, process->pid);
    world_.used(*process);
    co_return std::make_shared<SimMaster>(world_, *process, true);
}

asio::awaitable<Result<std::shared_ptr<Master>>> SimLauncher::find(LaunchRequest request) {
    auto found = co_await adopt(request);
    (void)world_.lives();
    co_return found;
}

asio::awaitable<Result<std::shared_ptr<Master>>> SimLauncher::launch(LaunchRequest request) {
    auto found = co_await adopt(request);
    if (!found || *found != nullptr) {
        co_return found;
    }
    if (request.interrupt && request.interrupt->given_up) {
        co_return Error{.kind = ErrorKind::Cancelled, .message = "the login was given up"};
    }
    if (request.on_login) {
        request.on_login();
    }
    if (!world_.lives()) {
        co_return master_lost();
    }
    if (swept_.insert(request.control_path).second) {
        world_.kill_logins(request.control_path, true);
    }
    const auto login = world_.begin_login(request.key, request.control_path);
    Event changed(world_.clock);
    struct Watching {
        Login& login;
        ~Watching() { login.changed = nullptr; }
    };
    login->changed = &changed;
    const Watching watching{*login};
    if (request.interrupt) {
        request.interrupt->end = [&world = world_, login] { world.end_login(login, ErrorKind::Cancelled); };
    }
    bool in_time = true;
    while (world_.lives() && !login->ended && in_time) {
        in_time = co_await changed.wait_until(request.deadline);
    }
    if (request.interrupt) {
        request.interrupt->end = nullptr;
    }
    if (!world_.lives()) {
        co_return master_lost();
    }
    if (!login->ended) {
        world_.end_login(login, ErrorKind::ConnectTimeout);
    }
    if (login->failure) {
        const std::string name(error_info(*login->failure).name);
        co_return Error{.kind = *login->failure, .message = "the login failed: " + name};
    }
    if (!login->process->alive) {
        co_return Error{.kind = ErrorKind::ConnectFailed, .message = "ssh ended as soon as it had logged in"};
    }
    co_return std::make_shared<SimMaster>(world_, *login->process, false);
}

void SimLauncher::kill_logins() {
    for (const auto& login : std::vector<std::shared_ptr<Login>>(world_.logins)) {
        if (login->daemon == world_.daemon_life) {
            world_.end_login(login, ErrorKind::ConnectFailed);
        }
    }
}

namespace {

class Ended final : public ChildProcess {
public:
    [[nodiscard]] pid_t pid() const override { return 1; }
    asio::awaitable<std::optional<ExitStatus>> wait_until(Instant /*deadline*/) override {
        const ExitStatus status;
        co_return std::optional<ExitStatus>(status);
    }
    void kill_group() override {}
};

}  // namespace

Result<std::unique_ptr<ChildProcess>> SimSpawner::spawn(SpawnRequest request) {
    (void)world_.lives();
    reading = true;
    const std::string dump = "user sim\nhostname " + request.argv.back() + "\nport 22\nserveraliveinterval 0\n";
    if (::write(request.standard_output.get(), dump.data(), dump.size()) != static_cast<ssize_t>(dump.size())) {
        return Error{.kind = ErrorKind::Internal, .message = "the pipe does not take it"};
    }
    std::unique_ptr<ChildProcess> child = std::make_unique<Ended>();
    return child;
}

}  // namespace cmssh::sim
