#include "daemon/app/listen_socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "protocol/framing.hpp"
#include "protocol/jsonrpc.hpp"

namespace cmssh {
namespace {

constexpr int kFirstListenFd = 3;  // SD_LISTEN_FDS_START
// A client that has connected sends its request in the same moment, except where a person types it.
constexpr int kRequestMilliseconds = 200;
constexpr int kMostRefused = 20;
constexpr int kClosedMilliseconds = 300;
constexpr int kMostTries = 3;

Error unusable(const std::string& path, const std::string& problem, std::string hint = {}) {
    return Error{.kind = ErrorKind::BadConfig, .message = path + ": " + problem, .hint = std::move(hint)};
}

// A process that a killed daemon was starting keeps its socket open until its own exec: connections are taken, and
// closed a moment later.
bool is_served(const sockaddr_un& address) {
    for (int tries = 0; tries < kMostTries; ++tries) {
        const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
            return errno == EAGAIN;
        }
        pollfd closed{.fd = probe.get(), .events = POLLIN, .revents = 0};
        if (::poll(&closed, 1, kClosedMilliseconds) == 0) {
            return true;
        }
    }
    return true;
}

long number_from_environment(const char* name) {
    const char* text = std::getenv(name);
    long number = -1;
    if (text != nullptr) {
        const std::string_view view(text);
        const auto [end, failure] = std::from_chars(view.data(), view.data() + view.size(), number);
        if (failure != std::errc() || end != view.data() + view.size()) {
            number = -1;
        }
    }
    return number;
}

}  // namespace

int take_listen_fds() {
    const long pid = number_from_environment("LISTEN_PID");
    const long count = number_from_environment("LISTEN_FDS");
    ::unsetenv("LISTEN_PID");
    ::unsetenv("LISTEN_FDS");
    ::unsetenv("LISTEN_FDNAMES");
    return pid == ::getpid() && count > 0 && count < 1024 ? static_cast<int>(count) : 0;
}

Result<std::optional<ListenSocket>> ListenSocket::open(const std::string& path) {
    const int handed_over = take_listen_fds();
    if (handed_over > 1) {
        return unusable("LISTEN_FDS", "expected one socket, got " + std::to_string(handed_over));
    }
    return handed_over == 1 ? take_over() : bind(path);
}

Result<std::optional<ListenSocket>> ListenSocket::take_over() {
    ListenSocket socket;
    socket.fd_ = UniqueFd(kFirstListenFd);
    const auto option = [&socket](int name) {
        int value = -1;
        socklen_t size = sizeof(value);
        return ::getsockopt(socket.fd_.get(), SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
    };
    if (option(SO_DOMAIN) != AF_UNIX || option(SO_TYPE) != SOCK_STREAM || option(SO_ACCEPTCONN) != 1) {
        return unusable("LISTEN_FDS", "expected a listening Unix stream socket");
    }
    ::fcntl(socket.fd_.get(), F_SETFD, FD_CLOEXEC);
    ::fcntl(socket.fd_.get(), F_SETFL, ::fcntl(socket.fd_.get(), F_GETFL) | O_NONBLOCK);
    return std::optional<ListenSocket>(std::move(socket));
}

Result<std::optional<ListenSocket>> ListenSocket::bind(const std::string& path) {
    sockaddr_un address{};
    if (path.empty()) {
        // bind() would choose an abstract name, which other users can connect to.
        return unusable("--socket", "expected a path, got none");
    }
    if (path.size() >= sizeof(address.sun_path)) {
        return unusable(path,
                        "is " + std::to_string(path.size()) + " bytes long, and a socket's path has at most " +
                            std::to_string(sizeof(address.sun_path) - 1),
                        "give a shorter --socket or XDG_RUNTIME_DIR");
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);

    struct stat status {};
    if (::lstat(path.c_str(), &status) == 0) {
        if (!S_ISSOCK(status.st_mode)) {
            return unusable(path, "is there already and is not a socket", "remove it, or give another --socket");
        }
        if (status.st_uid != ::geteuid()) {
            return unusable(path, "belongs to uid " + std::to_string(status.st_uid), "give another --socket");
        }
        if (is_served(address)) {
            return std::optional<ListenSocket>();
        }
        if (errno == ECONNREFUSED) {
            ::unlink(path.c_str());
        }
    }
    ListenSocket socket;
    socket.path_ = path;
    socket.fd_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const mode_t before = ::umask(0177);
    const int bound = ::bind(socket.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    const int failure = errno;
    ::umask(before);
    if (bound != 0) {
        return unusable(path, std::strerror(failure),
                        failure == ENOENT ? "make the directory, or give another --socket" : "");
    }
    if (::listen(socket.fd_.get(), SOMAXCONN) != 0 || ::lstat(path.c_str(), &status) != 0) {
        Error error = unusable(path, std::strerror(errno));
        ::unlink(path.c_str());
        return error;
    }
    socket.device_ = status.st_dev;
    socket.inode_ = status.st_ino;
    return std::optional<ListenSocket>(std::move(socket));
}

void refuse_waiting(const Error& error) {
    if (take_listen_fds() != 1) {
        return;
    }
    auto socket = ListenSocket::take_over();
    if (!socket || !*socket) {
        return;
    }
    const UniqueFd listening = (*socket)->take_fd();
    for (int refused = 0; refused < kMostRefused; ++refused) {
        const UniqueFd client(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!client) {
            return;
        }
        pollfd request{.fd = client.get(), .events = POLLIN, .revents = 0};
        (void)::poll(&request, 1, kRequestMilliseconds);
        std::array<char, 4096> bytes{};
        const ssize_t count = ::recv(client.get(), bytes.data(), bytes.size(), 0);
        const bool headers = count > 0 && bytes[0] != '{' && bytes[0] != '[';
        const std::string reply =
            frame(dump_json(make_error(nullptr, error)), headers ? Framing::ContentLength : Framing::Line);
        (void)::send(client.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
    }
}

std::string ListenSocket::address() const {
    sockaddr_un address{};
    socklen_t size = sizeof(address);
    if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        return {};
    }
    // A path of full length has no NUL behind it; an abstract name begins with one.
    return {address.sun_path, ::strnlen(address.sun_path, sizeof(address.sun_path))};
}

void ListenSocket::unlink_own() const {
    struct stat status {};
    if (!path_.empty() && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_) {
        ::unlink(path_.c_str());
    }
}

}  // namespace cmssh
