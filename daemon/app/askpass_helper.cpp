#include "daemon/app/askpass_helper.hpp"

#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <string_view>

#include "daemon/base/control_socket.hpp"
#include "protocol/askpass.hpp"
#include "protocol/framing.hpp"
#include "protocol/jsonrpc.hpp"

namespace cmssh {
namespace {

// Longer than the daemon waits for a person, also where another question comes first: it ends us before.
constexpr int kPatienceMs = 10 * 60 * 1000;

constexpr int kAnswered = 0;
constexpr int kNoAnswer = 1;

std::string_view variable(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? std::string_view(value) : std::string_view();
}

bool wait_for(int fd, short events) {
    pollfd waited{.fd = fd, .events = events, .revents = 0};
    int ready = -1;
    do {
        ready = ::poll(&waited, 1, kPatienceMs);
    } while (ready < 0 && errno == EINTR);
    return ready == 1;
}

bool send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        } else if (errno != EINTR && (errno != EAGAIN || !wait_for(fd, POLLOUT))) {
            return false;
        }
    }
    return true;
}

// The reply's line; empty where none comes.
std::string receive_line(int fd) {
    std::string line;
    std::array<char, 4096> chunk{};
    while (line.find('\n') == std::string::npos && wait_for(fd, POLLIN)) {
        const ssize_t count = ::recv(fd, chunk.data(), chunk.size(), 0);
        if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) {
            break;
        }
        line.append(chunk.data(), static_cast<std::size_t>(count > 0 ? count : 0));
    }
    ::explicit_bzero(chunk.data(), chunk.size());
    return line;
}

bool print(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written <= 0 && errno != EINTR) {
            return false;
        }
        text.remove_prefix(static_cast<std::size_t>(written > 0 ? written : 0));
    }
    return true;
}

}  // namespace

std::optional<int> answer_askpass(int argc, char** argv) {
    const std::string_view token = variable(askpass::kTokenVariable);
    if (token.empty() || argc != 2) {
        return std::nullopt;
    }
    const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    const ControlSocket daemon = open_control_socket(std::string(variable(askpass::kSocketVariable)));
    if (daemon.state != ControlSocketState::Live) {
        return kNoAnswer;
    }
    Json params = {{"token", token}, {"text", argv[1]}, {"kind", variable(askpass::kKindVariable)}};
    const Json request = make_request(1, askpass::kMethod, std::move(params));
    if (!send_all(daemon.fd.get(), frame(dump_json(request), Framing::Line))) {
        return kNoAnswer;
    }
    std::string line = receive_line(daemon.fd.get());
    Json reply = Json::parse(line, nullptr, false);
    ::explicit_bzero(line.data(), line.size());
    const auto result = reply.find("result");
    if (!reply.is_object() || result == reply.end() || !result->is_object() || !result->contains("text") ||
        !(*result)["text"].is_string()) {
        return kNoAnswer;
    }
    auto& text = (*result)["text"].get_ref<std::string&>();
    const bool printed = print(text) && print("\n");
    ::explicit_bzero(text.data(), text.size());
    return printed ? kAnswered : kNoAnswer;
}

}  // namespace cmssh
