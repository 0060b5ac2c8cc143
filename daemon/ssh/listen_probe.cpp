#include "daemon/ssh/listen_probe.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/control_socket.hpp"
#include "daemon/base/os_error.hpp"
#include "daemon/base/unique_fd.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr int kFirstFreePort = 1024;

Error taken(const std::string& place, std::string hint) {
    return Error{.kind = ErrorKind::NameTaken, .message = place + " is in use", .hint = std::move(hint)};
}

Error refused(const std::string& place, const std::string& why) {
    return Error{.kind = ErrorKind::InvalidParams, .message = "params.listen: " + place + ": " + why};
}

// As ssh does it: errno, or 0.
int try_to_bind(const std::string& address, const std::string& port) {
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;  // nothing is looked up
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(address.c_str(), port.c_str(), &hints, &found) != 0 || found == nullptr) {
        return EADDRNOTAVAIL;
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
    const UniqueFd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket) {
        return errno;
    }
    const int on = 1;
    (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (found->ai_family == AF_INET6) {
        (void)::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    return ::bind(socket.get(), found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
}

std::string place_of(const std::string& address, const std::string& port) {
    return (address.find(':') == std::string::npos ? address : '[' + address + ']') + ':' + port;
}

Result<void> probe_path(const std::string& path) {
    const auto socket = open_control_socket(path);
    switch (socket.state) {
        case ControlSocketState::Missing:
            break;
        case ControlSocketState::Stale:
            ::unlink(path.c_str());
            break;
        case ControlSocketState::Unknown:
            return os_error("socket", socket.failure);
        case ControlSocketState::Live:
        case ControlSocketState::Busy:
        case ControlSocketState::Refused:
            return taken(printable(path), "give another path, or remove it");
    }
    const std::string directory = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
    if (::access(directory.c_str(), W_OK | X_OK) != 0) {
        return refused(printable(path), printable(directory) + ": " + std::strerror(errno));
    }
    return {};
}

}  // namespace

Result<void> probe_listen(const mux::ForwardEnd& end) {
    if (end.port == mux::kUnixPath) {
        return probe_path(end.host);
    }
    const std::string port = std::to_string(end.port);
    std::vector<std::string> addresses = {end.host};
    if (end.host == "localhost") {
        addresses = {"127.0.0.1", "::1"};
    } else if (end.host == "*") {
        addresses = {"0.0.0.0", "::"};
    }
    int failure = 0;
    std::size_t good = 0;
    for (const std::string& address : addresses) {
        const std::string place = place_of(address, port);
        const int error = try_to_bind(address, port);
        if (error == EADDRINUSE) {
            return taken(place, "ss -ltnp sport = :" + port);
        }
        if (error == EACCES) {
            return refused(
                place, std::strerror(error) +
                           std::string(end.port < kFirstFreePort ? ": ports below 1024 are not for everybody" : ""));
        }
        good += error == 0 ? 1 : 0;
        failure = error == 0 ? failure : error;
    }
    // A machine without IPv6 has one loopback address.
    if (good == 0) {
        return refused(place_of(end.host, port),
                       failure == EADDRNOTAVAIL ? "is no address of this machine" : std::strerror(failure));
    }
    return {};
}

}  // namespace cmssh
