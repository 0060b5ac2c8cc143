#include "daemon/ssh/openssh_master.hpp"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 declares it without C linkage
}

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "daemon/base/log.hpp"
#include "daemon/base/os_error.hpp"
#include "daemon/base/random.hpp"
#include "daemon/base/timeout.hpp"
#include "daemon/ssh/mux_channel.hpp"
#include "daemon/ssh/ssh_error.hpp"

namespace cmssh {
namespace {

constexpr Duration kAdoptDeadline = std::chrono::seconds(2);
// A master of its own is there for what is on it. So long, there may be nothing yet, or no daemon to end it.
constexpr std::chrono::milliseconds kOwnPersist = std::chrono::seconds(30);
constexpr Duration kTermGrace = std::chrono::seconds(2);
constexpr std::size_t kMaxLog = 64 * 1024;
const std::string kPathMark = "CMSSH_LOGIN_TO";
// Longer than a process takes from the fork of a daemon that was killed just then to its own environment.
constexpr Duration kForkTime = std::chrono::seconds(5);

std::string read_file(const std::string& path, std::streamoff from = 0) {
    std::ifstream file(path, std::ios::binary);
    file.seekg(from);
    std::string text;
    text.resize(kMaxLog);
    file.read(text.data(), static_cast<std::streamsize>(kMaxLog));
    text.resize(static_cast<std::size_t>(file.gcount()));
    return text;
}

std::streamoff size_of(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_size : 0;
}

Error control_path_taken(const LaunchRequest& request, const std::string& problem) {
    Error error{.kind = ErrorKind::ConnectFailed,
                .message = "the control path of " + request.key.text() + " is taken: " + problem,
                .hint = "remove " + request.control_path + " or set pool.control_path"};
    error.server = request.key.text();
    return error;
}

Error server_silent() {
    return Error{.kind = ErrorKind::Timeout, .message = "the server did not answer in time"};
}

}  // namespace

OpensshMaster::OpensshMaster(asio::any_io_executor executor, Clock& clock, Origin origin, UniqueFd pidfd,
                             MuxConnection control)
    : executor_(std::move(executor)),
      clock_(clock),
      origin_(std::move(origin)),
      pidfd_(executor_, pidfd.release()),
      control_(std::move(control)),
      died_(clock),
      remote_answered_(clock) {}

asio::awaitable<Result<void>> OpensshMaster::check(Instant deadline) {
    if (dead_) {
        co_return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master is gone"};
    }
    // Two at once would read each other's answer: the second uses a connection of its own.
    if (checking_ || !control_) {
        auto socket = open_control_socket(origin_.control_path);
        if (socket.state == ControlSocketState::Busy) {
            co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
        }
        if (socket.state == ControlSocketState::Unknown) {
            // Our trouble, not the master's: it would be replaced for it. If it dies, its pidfd says so.
            co_return Result<void>();
        }
        if (socket.state != ControlSocketState::Live) {
            co_return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master no longer listens"};
        }
        MuxConnection fresh(executor_, std::move(socket.fd));
        auto answer = co_await with_deadline(clock_, deadline, fresh.alive());
        if (!answer) {
            co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
        }
        if (!*answer) {
            co_return answer->error();
        }
        if (!control_ && !checking_) {
            control_.emplace(std::move(fresh));
        }
        co_return Result<void>();
    }
    checking_ = true;
    auto answer = co_await with_deadline(clock_, deadline, control_->alive());
    checking_ = false;
    if (!answer || !*answer) {
        control_.reset();
        if (!answer) {
            co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
        }
        co_return answer->error();
    }
    co_return Result<void>();
}

asio::awaitable<Result<std::unique_ptr<Channel>>> OpensshMaster::open_channel(std::string command, Instant deadline) {
    auto opening = MuxChannel::open(executor_, origin_.control_path, std::move(command));
    auto opened = co_await with_deadline(clock_, deadline, std::move(opening));
    if (!opened) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the server did not open a channel in time"};
    }
    co_return std::move(*opened);
}

asio::awaitable<void> OpensshMaster::wait_for_death() {
    asio::error_code error;
    co_await pidfd_.async_wait(asio::posix::stream_descriptor::wait_read,
                               asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
        dead_ = true;
        drop_control();
        remove_files();
        died_.notify_all();
    }
}

void OpensshMaster::signal(int number) {
    if (!dead_ && pidfd_.is_open()) {
        ::pidfd_send_signal(pidfd_.native_handle(), number, nullptr, 0);
    }
}

asio::awaitable<Result<OpensshMaster::ControlPtr>> OpensshMaster::open_control() {
    auto socket = open_control_socket(origin_.control_path);
    if (socket.state == ControlSocketState::Busy) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
    }
    if (socket.state == ControlSocketState::Unknown) {
        co_return os_error("socket", socket.failure);
    }
    if (dead_ || socket.state != ControlSocketState::Live) {
        co_return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master no longer listens"};
    }
    auto control = std::make_shared<MuxConnection>(executor_, std::move(socket.fd));
    std::erase_if(asking_, [](const auto& it) { return it.expired(); });
    asking_.push_back(control);
    const auto pid = co_await control->alive();
    if (!pid) {
        co_return pid.error();
    }
    if (*pid != origin_.pid) {
        co_return Error{.kind = ErrorKind::MasterLost, .message = "another ssh master listens in its place"};
    }
    co_return control;
}

class OpensshMaster::AskingRemote {
public:
    explicit AskingRemote(OpensshMaster& master) : master_(master) { master_.asking_remote_ = true; }
    ~AskingRemote() {
        master_.asking_remote_ = false;
        master_.remote_answered_.notify_all();
    }
    AskingRemote(const AskingRemote&) = delete;
    AskingRemote& operator=(const AskingRemote&) = delete;

private:
    OpensshMaster& master_;
};

asio::awaitable<Result<int>> OpensshMaster::open_forward(mux::Forward forward, Instant deadline) {
    if (forward.type != mux::ForwardType::Remote) {
        co_return co_await ask_to_forward(std::move(forward), deadline);
    }
    while (asking_remote_) {
        const bool in_time = co_await remote_answered_.wait_until(deadline);
        if (!in_time) {
            co_return server_silent();
        }
    }
    const AskingRemote asking(*this);
    if (const ControlPtr earlier = unanswered_) {
        const auto answer = co_await with_deadline(clock_, deadline, earlier->receive());
        if (!answer) {
            co_return server_silent();
        }
        unanswered_.reset();
    }
    co_return co_await ask_to_forward(std::move(forward), deadline);
}

asio::awaitable<Result<int>> OpensshMaster::ask_to_forward(mux::Forward forward, Instant deadline) {
    const auto control = co_await with_deadline(clock_, deadline, open_control());
    if (!control) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
    }
    if (!*control) {
        co_return control->error();
    }
    const auto opened = co_await with_deadline(clock_, deadline, (**control)->open_forward(forward));
    if (!opened) {
        if (forward.type == mux::ForwardType::Remote && !origin_.control_path.empty()) {
            unanswered_ = **control;
        }
        co_return server_silent();
    }
    if (*opened) {
        forwards_.push_back(std::move(forward));
    }
    co_return *opened;
}

asio::awaitable<Result<void>> OpensshMaster::close_forward(mux::Forward forward, Instant deadline) {
    const auto control = co_await with_deadline(clock_, deadline, open_control());
    if (!control) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
    }
    if (!*control) {
        co_return control->error();
    }
    std::erase(forwards_, forward);
    auto closed = co_await with_deadline(clock_, deadline, (**control)->close_forward(std::move(forward)));
    if (!closed) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
    }
    co_return std::move(*closed);
}

asio::awaitable<Result<void>> OpensshMaster::stop_listening(Instant deadline) {
    if (open_control_socket(origin_.control_path).state != ControlSocketState::Missing) {
        auto stopped = co_await with_deadline(clock_, deadline, ask_to_stop_listening());
        if (!stopped) {
            co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
        }
        if (!*stopped) {
            co_return std::move(*stopped);
        }
    }
    // Both names are the next master's from here on.
    ::unlink(origin_.log_file.c_str());
    origin_.log_file.clear();
    origin_.control_path.clear();
    // A master that no longer listens ends with its last channel, and a control connection is one.
    drop_control();
    unanswered_.reset();
    co_return Result<void>();
}

asio::awaitable<Result<void>> OpensshMaster::ask_to_stop_listening() {
    const auto control = co_await open_control();
    if (!control) {
        co_return control.error();
    }
    while (!forwards_.empty()) {
        mux::Forward forward = std::move(forwards_.back());
        forwards_.pop_back();
        const auto closed = co_await (*control)->close_forward(std::move(forward));
        if (!closed && closed.error().kind != ErrorKind::ChannelRefused) {
            co_return closed.error();
        }
    }
    co_return co_await (*control)->stop_listening();
}

asio::awaitable<void> OpensshMaster::end(Instant deadline) {
    // On SIGTERM ssh removes its socket and ends its ProxyCommand; on SIGKILL neither. A stopped one gets it when it is
    // continued, and ends before it does anything else.
    signal(SIGTERM);
    signal(SIGCONT);
    const Instant kill_at = std::min(deadline, clock_.now() + kTermGrace);
    bool in_time = true;
    while (!dead_ && pidfd_.is_open() && in_time) {
        in_time = co_await died_.wait_until(kill_at);
    }
    if (!dead_) {
        signal(SIGKILL);
        in_time = true;
        while (!dead_ && pidfd_.is_open() && in_time) {
            in_time = co_await died_.wait_until(clock_.now() + kTermGrace);
        }
        if (dead_ && !origin_.mark.empty()) {
            kill_marked_processes(origin_.mark);
        }
    }
}

void OpensshMaster::drop_control() {
    if (!control_) {
        return;
    }
    // An alive check under way still uses it, and drops it when it fails.
    control_->close();
    if (!checking_) {
        control_.reset();
    }
}

void OpensshMaster::release() {
    drop_control();
    for (const auto& asking : asking_) {
        if (const ControlPtr control = asking.lock()) {
            control->close();
        }
    }
    remote_answered_.notify_all();
    asio::error_code ignored;
    pidfd_.close(ignored);
    died_.notify_all();
}

void OpensshMaster::remove_files() {
    if (origin_.control_path.empty()) {
        return;
    }
    ::unlink(origin_.log_file.c_str());
    // Only what nobody listens on: the next master may be there already.
    if (open_control_socket(origin_.control_path).state == ControlSocketState::Stale) {
        ::unlink(origin_.control_path.c_str());
    }
}

OpensshLauncher::OpensshLauncher(asio::any_io_executor executor, Clock& clock, ProcessSpawner& spawner,
                                 const Config& config, AskpassRelay& askpass, std::vector<std::string> environment,
                                 std::string runtime_dir)
    : executor_(std::move(executor)),
      clock_(clock),
      spawner_(spawner),
      config_(config),
      askpass_(askpass),
      environment_(std::move(environment)),
      runtime_dir_(std::move(runtime_dir)),
      made_at_(clock.now()) {}

asio::awaitable<Result<std::shared_ptr<Master>>> OpensshLauncher::launch(LaunchRequest request) {
    std::string log = log_file_of(request);
    auto found = co_await adopt(request, log);
    if (!found || *found != nullptr) {
        co_return found;
    }
    if (request.interrupt && request.interrupt->given_up) {
        co_return Error{.kind = ErrorKind::Cancelled, .message = "the login was given up"};
    }
    if (request.on_login) {
        request.on_login();
    }
    co_return co_await log_in(std::move(request), std::move(log));
}

asio::awaitable<Result<std::shared_ptr<Master>>> OpensshLauncher::find(LaunchRequest request) {
    co_return co_await adopt(request, log_file_of(request));
}

std::string OpensshLauncher::log_file_of(const std::string& key) const {
    return runtime_dir_ + "/ssh-" + hex_digest(key, 16) + ".log";
}

std::string OpensshLauncher::log_file_of(const LaunchRequest& request) const {
    return request.own ? request.control_path + ".log" : log_file_of(request.key.text());
}

std::string OpensshLauncher::path_mark(const LaunchRequest& request) const {
    return kPathMark + '=' + hex_digest(runtime_dir_ + '\n' + request.control_path, 32);
}

void OpensshLauncher::end_leftovers(const LaunchRequest& request) {
    // Since then every login of ours has ended before the next begins. A path of its own has none before it.
    if (request.own || !swept_.insert(request.control_path).second) {
        return;
    }
    // Of an earlier daemon, so that from a moment on it is there to be seen, or what has begun it is.
    if (!left_ && clock_.now() >= made_at_ + kForkTime) {
        left_ = marks_of_processes(kPathMark);
    }
    if (left_ && !left_->contains(path_mark(request))) {
        return;
    }
    if (const int ended = kill_marked_processes(path_mark(request)); ended > 0) {
        log_warn(request.key.text(), "ended " + std::to_string(ended) + " process(es) of a login that was left behind");
    }
}

asio::awaitable<Result<std::shared_ptr<Master>>> OpensshLauncher::adopt(const LaunchRequest& request,
                                                                        const std::string& log_file) {
    auto socket = open_control_socket(request.control_path);
    switch (socket.state) {
        case ControlSocketState::Missing:
            break;
        case ControlSocketState::Unknown:
            co_return os_error("socket", socket.failure);
        case ControlSocketState::Stale:
            // ssh would go on without multiplexing, for ever. Only after a refused connection, never on a timeout.
            ::unlink(request.control_path.c_str());
            break;
        case ControlSocketState::Refused:
            co_return control_path_taken(request, socket.problem);
        case ControlSocketState::Busy:
            end_leftovers(request);
            co_return control_path_taken(request, "the ssh master there does not answer");
        case ControlSocketState::Live: {
            OpensshMaster::Origin origin;
            origin.control_path = request.control_path;
            origin.log_file = log_file;
            origin.adopted = true;
            auto taken = co_await take(std::move(socket.fd), std::move(origin),
                                       std::min(request.deadline, clock_.now() + kAdoptDeadline));
            if (taken) {
                swept_.insert(request.control_path);  // that login is complete
                log_info(request.key.text(), "adopted the ssh master " + std::to_string((*taken)->pid()));
                co_return taken;
            }
            if (taken.error().kind == ErrorKind::Timeout) {
                // Stopped, or hanging. What is ours is out of the way by the next attempt.
                end_leftovers(request);
                co_return control_path_taken(request, "the ssh master there does not answer");
            }
            // It closed the connection: it was just ending. What is left, if anything, is a stale file.
            if (open_control_socket(request.control_path).state == ControlSocketState::Stale) {
                ::unlink(request.control_path.c_str());
            }
            break;
        }
    }
    co_return std::shared_ptr<Master>();
}

asio::awaitable<Result<std::shared_ptr<Master>>> OpensshLauncher::take(UniqueFd socket, OpensshMaster::Origin origin,
                                                                       Instant deadline) {
    MuxConnection control(executor_, std::move(socket));
    auto answer = co_await with_deadline(clock_, deadline, control.alive());
    if (!answer) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
    }
    if (!*answer) {
        co_return answer->error();
    }
    origin.pid = **answer;
    UniqueFd pidfd(::pidfd_open(origin.pid, 0));
    if (!pidfd && errno != ESRCH) {
        co_return os_error("pidfd_open", errno);
    }
    if (!pidfd) {
        co_return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master is gone"};
    }
    // Whoever answers on this connection now has had that pid all along: it was not given to another in between.
    answer = co_await with_deadline(clock_, deadline, control.alive());
    if (!answer) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the ssh master does not answer"};
    }
    if (!*answer) {
        co_return answer->error();
    }
    std::shared_ptr<Master> master =
        std::make_shared<OpensshMaster>(executor_, clock_, std::move(origin), std::move(pidfd), std::move(control));
    co_return master;
}

asio::awaitable<Result<std::shared_ptr<Master>>> OpensshLauncher::log_in(LaunchRequest request, std::string log_file) {
    ::unlink(log_file.c_str());
    // Standard error goes to the same file: what ssh says before it has read -E.
    UniqueFd log(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!log) {
        co_return os_error(log_file, errno);
    }
    MasterArguments arguments;
    arguments.control_path = request.control_path;
    arguments.log_file = log_file;
    arguments.control_persist = request.own ? kOwnPersist : config_.pool.control_persist;
    arguments.connect_timeout = config_.pool.connect_timeout;
    arguments.server_alive_set = request.dump.server_alive_set;
    arguments.may_ask = request.questions != nullptr;
    arguments.hop = request.hop;

    // A daemonised ssh has left its process group; the marks find it where it did not become a master.
    const std::string mark = "CMSSH_LOGIN=" + std::to_string(random_bits());
    end_leftovers(request);
    // Why a hop's server cannot be reached from there is said by the hop's master alone.
    const std::string hop_log = request.hop ? log_file_of(request.hop->key) : std::string();
    const std::streamoff hop_said = request.hop ? size_of(hop_log) : 0;
    SpawnRequest spawn;
    spawn.argv = master_command(config_.ssh, request.route, arguments);
    spawn.environment = ssh_environment(environment_, request.auth_sock);
    spawn.environment.push_back(mark);
    spawn.environment.push_back(path_mark(request));
    std::unique_ptr<AskpassRelay::Ticket> ticket;
    if (request.questions) {
        ticket = askpass_.open(request.questions);
        ticket->add_to(spawn.environment);
    }
    spawn.standard_error = std::move(log);
    auto child = spawner_.spawn(std::move(spawn));
    if (!child) {
        ::unlink(log_file.c_str());
        co_return std::move(child).error();
    }
    if (request.interrupt) {
        request.interrupt->end = [&child = **child] { child.kill_group(); };
    }
    const auto status = co_await wait_for_login(**child, request);
    if (request.interrupt) {
        request.interrupt->end = nullptr;
    }
    ticket.reset();
    if (!status) {
        (*child)->kill_group();
    }
    const std::string server = request.key.text();
    if (!status || status->signal != 0 || status->code != 0) {
        std::string text = read_file(log_file);
        ::unlink(log_file.c_str());
        if (request.hop) {
            text += read_file(hop_log, hop_said);
        }
        LoginFailure failure;
        failure.end = status ? LoginEnd::Exited : LoginEnd::TimedOut;
        failure.log = text;
        failure.destination = request.route.destination.host;
        failure.server = server;
        failure.ssh = typed_command(config_.ssh, request.route);
        failure.ctx = request.ctx;
        failure.person = request.questions != nullptr;
        auto error = classify_login_failure(failure);
        bool wants_passphrase = false;
        if (error.kind == ErrorKind::AuthFailed && request.questions == nullptr) {
            wants_passphrase = co_await some_key_wants_passphrase(request);
        }
        if (wants_passphrase) {
            error.kind = ErrorKind::NeedsAuth;
            error.message = "a key for " + server + " wants a passphrase, and no agent holds it";
            error.hint = connect_by_hand(failure.ctx) + "  # or ssh-add, then try again";
        }
        error.server = server;
        co_return error;
    }
    auto socket = open_control_socket(request.control_path);
    if (socket.state == ControlSocketState::Live && socket.creator == (*child)->pid()) {
        OpensshMaster::Origin origin;
        origin.control_path = request.control_path;
        if (request.own) {
            ::unlink(log_file.c_str());  // it may outlive us, and nobody would remove it
        } else {
            origin.log_file = log_file;
        }
        origin.mark = mark;
        auto taken = co_await take(std::move(socket.fd), std::move(origin),
                                   std::max(request.deadline, clock_.now() + kAdoptDeadline));
        if (taken) {
            co_return taken;
        }
    }
    // ssh logged in, but what listens on the path, if anything, is not it.
    const int strays = kill_marked_processes(mark);
    log_warn(server, "ssh logged in without becoming the master; ended " + std::to_string(strays) + " process(es)");
    const std::string text = read_file(log_file);
    ::unlink(log_file.c_str());
    // What came there meanwhile is as good: somebody's plain ssh with the same path.
    auto other = co_await adopt(request, log_file);
    if (other && *other != nullptr) {
        co_return other;
    }
    Error error{.kind = ErrorKind::ConnectFailed,
                .message = "ssh logged in to " + server + " but did not become its master",
                .hint = "look for another ssh that uses " + request.control_path};
    error.server = server;
    error.ssh_stderr = text;
    co_return error;
}

asio::awaitable<std::optional<ExitStatus>> OpensshLauncher::wait_for_login(ChildProcess& ssh,
                                                                           const LaunchRequest& request) {
    // So late at most is it seen that the time is up again after an answer.
    constexpr Duration kStep = std::chrono::seconds(1);
    auto status = co_await ssh.wait_until(request.deadline);
    while (!status && request.questions) {
        const Instant now = clock_.now();
        const Instant deadline = request.deadline + request.questions->time_asked();
        if (now >= deadline && !request.questions->asking()) {
            break;
        }
        status = co_await ssh.wait_until(std::max(deadline, now + kStep));
    }
    co_return status;
}

asio::awaitable<bool> OpensshLauncher::some_key_wants_passphrase(const LaunchRequest& request) {
    constexpr std::size_t kMostKeys = 8;
    std::string home;
    for (const auto& entry : environment_) {
        if (entry.starts_with("HOME=")) {
            home = entry.substr(5);
        }
    }
    std::size_t asked = 0;
    for (auto file : request.dump.identityfiles) {
        if (file.starts_with("~/")) {
            file.replace(0, 1, home);
        }
        if (::access(file.c_str(), R_OK) != 0 || ++asked > kMostKeys) {
            continue;
        }
        std::vector<std::string> argv = {"ssh-keygen", "-y", "-P", "", "-f", file};
        const Instant deadline = clock_.now() + kAdoptDeadline;
        auto environment = ssh_environment(environment_, std::nullopt);
        const auto output = co_await run_captured(executor_, clock_, spawner_, std::move(argv), std::move(environment),
                                                  deadline, kMaxLog);
        if (output && output->status.code != 0 &&
            output->standard_error.find("incorrect passphrase") != std::string::npos) {
            co_return true;
        }
    }
    co_return false;
}

}  // namespace cmssh
