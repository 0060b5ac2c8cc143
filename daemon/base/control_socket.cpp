#include "daemon/base/control_socket.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cmssh {
namespace {

ControlSocket refused(std::string problem) {
    ControlSocket socket;
    socket.state = ControlSocketState::Refused;
    socket.problem = std::move(problem);
    return socket;
}

}  // namespace

ControlSocket open_control_socket(const std::string& path) {
    ControlSocket found;
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno != ENOENT) {
            return refused(path + ": " + std::strerror(errno));
        }
        return found;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return refused(path + " is not a socket");
    }
    if (status.st_uid != ::geteuid()) {
        return refused(path + " belongs to uid " + std::to_string(status.st_uid));
    }
    sockaddr_un address{};
    if (path.size() >= sizeof(address.sun_path)) {
        return refused(path + " is too long for a socket");
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        found.state = ControlSocketState::Unknown;
        found.failure = errno;
        return found;
    }
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        switch (errno) {
            case ECONNREFUSED:
                found.state = ControlSocketState::Stale;
                return found;
            case ENOENT:
                return found;
            case EAGAIN:
                found.state = ControlSocketState::Busy;
                return found;
            default:
                return refused(path + ": " + std::strerror(errno));
        }
    }
    ucred peer{};
    socklen_t size = sizeof(peer);
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != ::geteuid()) {
        return refused(path + " is served by uid " + std::to_string(peer.uid));
    }
    found.state = ControlSocketState::Live;
    found.creator = peer.pid;
    found.fd = std::move(fd);
    return found;
}

}  // namespace cmssh
