// `cmctl proxy`: standard input and output are a client's end of the local daemon's socket, byte for byte.
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "client/host.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"

namespace cmssh::client {
namespace {

enum class Kind { Socket, Pipe, Other };

Kind kind_of(int fd) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        return Kind::Other;
    }
    return S_ISSOCK(status.st_mode) ? Kind::Socket : S_ISFIFO(status.st_mode) ? Kind::Pipe : Kind::Other;
}

// One of the two ways. Neither end is made non-blocking: standard input and output are shared with who knows whom. So
// nothing is written but what poll() has promised to take.
class Stream {
public:
    Stream(int from, int to) : from_(from), to_(to), to_kind_(kind_of(to)), bytes_(64 * 1024) {}

    [[nodiscard]] bool wants_input() const { return !ended_ && at_ == size_; }
    [[nodiscard]] bool wants_output() const { return at_ < size_; }
    // All that came has been handed on, and nothing more comes.
    [[nodiscard]] bool done() const { return ended_ && at_ == size_; }

    void read() {
        const ssize_t count = ::read(from_, bytes_.data(), bytes_.size());
        at_ = 0;
        size_ = static_cast<std::size_t>(std::max<ssize_t>(count, 0));
        ended_ = count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN);
    }

    // False: nobody takes it any more.
    [[nodiscard]] bool write() {
        const std::size_t left = size_ - at_;
        const char* next = bytes_.data() + at_;
        ssize_t count = 0;
        if (to_kind_ == Kind::Socket) {
            count = ::send(to_, next, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
            count = ::write(to_, next, to_kind_ == Kind::Pipe ? std::min<std::size_t>(left, PIPE_BUF) : left);
        }
        at_ += static_cast<std::size_t>(std::max<ssize_t>(count, 0));
        return count >= 0 || errno == EINTR || errno == EAGAIN;
    }

    void give_up() {
        ended_ = true;
        at_ = size_ = 0;
    }

private:
    int from_;
    int to_;
    Kind to_kind_;
    std::vector<char> bytes_;
    std::size_t at_ = 0;
    std::size_t size_ = 0;
    bool ended_ = false;
};

// Until the daemon has said everything, or nobody reads it any more.
int connect_streams(int daemon) {
    Stream there(STDIN_FILENO, daemon);
    Stream back(daemon, STDOUT_FILENO);
    bool half_closed = false;
    while (!back.done()) {
        const auto events = [](bool wanted, short event) { return wanted ? event : static_cast<short>(0); };
        const auto daemon_events =
            static_cast<short>(events(back.wants_input(), POLLIN) | events(there.wants_output(), POLLOUT));
        // Without events too: a reader that has gone is told all the same.
        std::array<pollfd, 3> waited{
            pollfd{.fd = there.wants_input() ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0},
            pollfd{.fd = daemon_events != 0 ? daemon : -1, .events = daemon_events, .revents = 0},
            pollfd{.fd = STDOUT_FILENO, .events = events(back.wants_output(), POLLOUT), .revents = 0}};
        if (::poll(waited.data(), waited.size(), -1) < 0) {
            continue;
        }
        if ((waited[2].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
            return exit_code::kFailed;
        }
        if (waited[2].revents != 0 && !back.write()) {
            return exit_code::kFailed;
        }
        if (waited[0].revents != 0) {
            there.read();
        }
        const short from_daemon = waited[1].revents;
        if (there.wants_output() && (from_daemon & ~POLLIN) != 0 && !there.write()) {
            there.give_up();
        }
        if (back.wants_input() && (from_daemon & ~POLLOUT) != 0) {
            back.read();
        }
        // A client may close its writing side and still read: the daemon answers what is under way.
        if (there.done() && !half_closed) {
            half_closed = true;
            ::shutdown(daemon, SHUT_WR);
        }
    }
    return exit_code::kOk;
}

}  // namespace

int proxy(const GlobalOptions& global) {
    if (global.host) {
        return run_there(global, {"proxy"}, HostTerminal::None);
    }
    const auto connected = RpcClient::connect(global, deadline_of(global));
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    return connect_streams(std::get<RpcClient>(connected).fd());
}

}  // namespace cmssh::client
