#include "tests/bench/api.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "tests/bench/process.hpp"

namespace bench {

using nlohmann::json;

Api::Api(const std::string& path) {
    fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        const int error = errno;
        close(fd_);
        throw std::runtime_error(path + ": " + std::strerror(error));
    }
}

Api::~Api() {
    close(fd_);
}

json Api::call(const std::string& method, const json& params, double* took) {
    const int wanted = last_id_ + 1;
    const std::string line =
        json{{"jsonrpc", "2.0"}, {"id", wanted}, {"method", method}, {"params", params}}.dump() + "\n";
    last_id_ = wanted;
    const auto began = Clock::now();
    if (send(fd_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
        throw std::runtime_error(method + ": the daemon does not take requests");
    }
    for (;;) {
        const std::string text = read_line(method);
        const double elapsed = ms_since(began);
        json message = json::parse(text);
        if (message.contains("method")) {
            continue;  // progress, events
        }
        if (message.contains("error")) {
            throw std::runtime_error(method + " " + params.dump() + ": " + message["error"].dump());
        }
        if (took != nullptr) {
            *took = elapsed;
        }
        return std::move(message.at("result"));
    }
}

double Api::timed(const std::string& method, const json& params) {
    double took = 0;
    call(method, params, &took);
    return took;
}

int Api::post(const std::string& method, const json& params) {
    const int id = ++last_id_;
    const std::string line = json{{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", params}}.dump() + "\n";
    if (send(fd_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
        throw std::runtime_error(method + ": the daemon does not take requests");
    }
    return id;
}

json Api::take(int* id) {
    for (;;) {
        json message = json::parse(read_line("a pipelined call"));
        if (message.contains("method")) {
            continue;
        }
        if (message.contains("error")) {
            throw std::runtime_error("a pipelined call: " + message["error"].dump());
        }
        if (id != nullptr) {
            *id = message.at("id").get<int>();
        }
        return std::move(message.at("result"));
    }
}

std::string Api::read_line(const std::string& method) {
    for (std::size_t searched = read_;;) {
        if (const auto end = buffer_.find('\n', searched); end != std::string::npos) {
            std::string line = buffer_.substr(read_, end - read_);
            read_ = end + 1;
            return line;
        }
        buffer_.erase(0, read_);
        read_ = 0;
        searched = buffer_.size();
        pollfd readable{fd_, POLLIN, 0};
        char bytes[65536];
        const ssize_t n = poll(&readable, 1, kStepLimitMs) == 1 ? recv(fd_, bytes, sizeof bytes, 0) : -1;
        if (n <= 0) {
            throw std::runtime_error(method + ": no reply");
        }
        buffer_.append(bytes, static_cast<std::size_t>(n));
    }
}

}  // namespace bench
