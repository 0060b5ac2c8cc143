#include "daemon/base/os_error.hpp"

#include <cerrno>
#include <cstring>

namespace cmssh {

Error os_error(std::string_view what, int number) {
    Error error{.kind = ErrorKind::Internal, .message = std::string(what) + ": " + std::strerror(number)};
    switch (number) {
        case EMFILE:
            error.kind = ErrorKind::Limit;
            error.hint = "raise the daemon's limit of open files: LimitNOFILE= in systemd, or ulimit -n";
            break;
        case EAGAIN:
            error.kind = ErrorKind::Limit;
            error.hint = "raise the user's limit of processes, ulimit -u, or end some";
            break;
        case ENFILE:
        case ENOMEM:
        case ENOBUFS:
            error.kind = ErrorKind::Limit;
            break;
        default:
            break;
    }
    return error;
}

}  // namespace cmssh
