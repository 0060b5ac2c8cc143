#include "client/scp_channel.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "client/mux_session.hpp"

namespace cmssh::client {
namespace {

// As ssh has it for a connection that failed.
constexpr int kConnectionFailed = 255;
constexpr auto kOpenDeadline = std::chrono::seconds(30);
constexpr auto kAliveDeadline = std::chrono::seconds(2);
constexpr std::size_t kMaxPath = 4096;

std::optional<int> inherited_socket() {
    const char* text = std::getenv(kScpSocketVariable);
    if (text == nullptr) {
        return std::nullopt;
    }
    const std::string_view digits(text);
    int fd = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), fd);
    const bool whole = error == std::errc() && end == digits.data() + digits.size();
    return whole && fd > STDERR_FILENO && ::fcntl(fd, F_GETFD) != -1 ? std::optional(fd) : std::nullopt;
}

// `ssh OPTION... [-s] -- HOST COMMAND`, the only form that scp uses (OpenSSH scp.c do_cmd, 8.0 to 10.5).
std::optional<mux::NewSession> session_of(int argc, char** argv) {
    mux::NewSession session;
    int at = 1;
    while (at < argc && std::string_view(argv[at]) != "--") {
        session.subsystem = session.subsystem || std::string_view(argv[at]) == "-s";
        ++at;
    }
    const int command = at + 2;
    if (command >= argc) {
        return std::nullopt;
    }
    session.command = argv[command];
    for (int word = command + 1; word < argc; ++word) {
        session.command += std::string(" ") + argv[word];
    }
    return session;
}

void tell(int socket, std::string_view word) {
    (void)::send(socket, word.data(), word.size(), MSG_NOSIGNAL);
}

// Empty: there is no way.
std::string ask(int socket, std::string_view word) {
    tell(socket, word);
    std::string path(kMaxPath, '\0');
    const ssize_t size = ::recv(socket, path.data(), path.size(), 0);
    path.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    return path;
}

int run(int socket, const mux::NewSession& wanted) {
    std::string path = ask(socket, scp_talk::kOpen);
    for (;;) {
        if (path.empty()) {
            return kConnectionFailed;
        }
        auto session = MuxSession::open(path, wanted, {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
                                        std::chrono::steady_clock::now() + kOpenDeadline);
        if (!session && session.error().kind == ErrorKind::ChannelRefused) {
            path = ask(socket, scp_talk::kRefused);
            continue;
        }
        if (!session) {
            tell(socket, scp_talk::kLost);
            return kConnectionFailed;
        }
        while (!session->ended()) {
            pollfd waited{.fd = session->fd(), .events = POLLIN, .revents = 0};
            if (::poll(&waited, 1, -1) > 0) {
                session->receive();
            }
        }
        if (const auto status = session->exit_status()) {
            return *status;
        }
        const bool lives = session->master_answers(path, std::chrono::steady_clock::now() + kAliveDeadline);
        tell(socket, lives ? scp_talk::kNoStatus : scp_talk::kLost);
        return kConnectionFailed;
    }
}

}  // namespace

std::optional<int> run_as_scp_channel(int argc, char** argv) {
    const auto socket = inherited_socket();
    const auto session = socket ? session_of(argc, argv) : std::nullopt;
    return session ? std::optional(run(*socket, *session)) : std::nullopt;
}

}  // namespace cmssh::client
