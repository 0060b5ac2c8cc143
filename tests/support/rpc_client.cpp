#include "tests/support/rpc_client.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace cmssh::test {
namespace {

// False: not before the deadline.
bool wait_for(int fd, short events, Deadline deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{.fd = fd, .events = events, .revents = 0};
    return ::poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0))) == 1;
}

}  // namespace

RpcClient::RpcClient(const std::string& socket_path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        throw RpcFailure(socket_path + ": " + std::strerror(errno));
    }
}

Json RpcClient::call(std::string_view method, const Json& params, Deadline deadline) {
    const Json answer = reply(send(method, params), deadline);
    if (!answer.contains("result")) {
        throw RpcFailure(std::string(method) + ": " + answer.dump());
    }
    return answer.at("result");
}

Json RpcClient::refusal(std::string_view method, const Json& params, Deadline deadline) {
    const Json answer = reply(send(method, params), deadline);
    if (!answer.contains("error")) {
        throw RpcFailure(std::string(method) + " was expected to fail: " + answer.dump());
    }
    return answer.at("error");
}

int RpcClient::send(std::string_view method, const Json& params) {
    const int id = ++last_id_;
    send_bytes(Json{{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", params}}.dump() + '\n');
    return id;
}

Json RpcClient::reply(int id, Deadline deadline) {
    for (;;) {
        const auto found =
            std::find_if(replies_.begin(), replies_.end(), [id](const Json& it) { return it.value("id", -1) == id; });
        if (found != replies_.end()) {
            Json answer = std::move(*found);
            replies_.erase(found);
            return answer;
        }
        Json message = Json::parse(read_line(deadline));
        if (message.contains("method")) {
            notifications_.push_back(std::move(message));
        } else if (message.contains("id") && !message.at("id").is_number()) {
            throw RpcFailure("a reply to nobody: " + message.dump());
        } else {
            replies_.push_back(std::move(message));
        }
    }
}

void RpcClient::send_bytes(std::string_view bytes) {
    const Deadline deadline = in(kPatience);
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        } else if (errno != EAGAIN || !wait_for(fd_.get(), POLLOUT, deadline)) {
            throw RpcFailure(std::string("the daemon does not take requests: ") + std::strerror(errno));
        }
    }
}

bool RpcClient::receive(Deadline deadline) {
    if (!wait_for(fd_.get(), POLLIN, deadline)) {
        throw RpcFailure("the daemon does not answer in time; so far: " + received_.substr(0, 1000));
    }
    std::array<char, 64 * 1024> bytes{};
    const ssize_t count = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (count > 0) {
        received_.append(bytes.data(), static_cast<std::size_t>(count));
    }
    return count > 0;
}

std::string RpcClient::read_line(Deadline deadline) {
    for (std::size_t looked = 0;;) {
        if (const auto end = received_.find('\n', looked); end != std::string::npos) {
            std::string line = received_.substr(0, end);
            received_.erase(0, end + 1);
            return line;
        }
        looked = received_.size();
        if (!receive(deadline)) {
            throw RpcFailure("the daemon closed the connection; before that: " + received_.substr(0, 1000));
        }
    }
}

std::string RpcClient::read_bytes(std::size_t count, Deadline deadline) {
    while (received_.size() < count) {
        if (!receive(deadline)) {
            throw RpcFailure("the daemon closed the connection; before that: " + received_.substr(0, 1000));
        }
    }
    std::string bytes = received_.substr(0, count);
    received_.erase(0, count);
    return bytes;
}

std::string RpcClient::read_to_end(Deadline deadline) {
    while (receive(deadline)) {
    }
    return std::exchange(received_, {});
}

void RpcClient::close_writing() {
    ::shutdown(fd_.get(), SHUT_WR);
}

}  // namespace cmssh::test
