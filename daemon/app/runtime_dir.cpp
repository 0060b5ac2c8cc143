#include "daemon/app/runtime_dir.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cmssh {
namespace {

Error unusable(const std::string& path, const std::string& problem, std::string hint = {}) {
    return Error{.kind = ErrorKind::BadConfig, .message = path + ": " + problem, .hint = std::move(hint)};
}

}  // namespace

Result<UniqueFd> open_private_dir(const std::string& given, bool make_parents) {
    // With a slash at its end the path of a symlink is that of the directory behind it.
    std::string path = given;
    while (path.size() > 1 && path.ends_with('/')) {
        path.pop_back();
    }
    if (make_parents) {
        for (auto slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
            // One that cannot be made shows at the last step.
            (void)::mkdir(path.substr(0, slash).c_str(), 0700);
        }
    }
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return unusable(path, std::strerror(errno),
                        "set XDG_RUNTIME_DIR and XDG_STATE_HOME to directories of your own");
    }
    UniqueFd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!dir) {
        if (errno == ELOOP || errno == ENOTDIR) {
            return unusable(path, "is not a directory", "remove it, or set XDG_RUNTIME_DIR and XDG_STATE_HOME");
        }
        return unusable(path, std::strerror(errno), "chmod 700 " + path);
    }
    struct stat status {};
    if (::fstat(dir.get(), &status) != 0) {
        return unusable(path, std::strerror(errno));
    }
    if (status.st_uid != ::geteuid()) {
        return unusable(path, "belongs to uid " + std::to_string(status.st_uid),
                        "set XDG_RUNTIME_DIR to a directory of your own");
    }
    if ((status.st_mode & 077U) != 0) {
        return unusable(path, "is open to other users", "chmod 700 " + path);
    }
    return dir;
}

Result<std::optional<DaemonLock>> DaemonLock::take(const std::string& dir) {
    const std::string path = dir + "/cmsshd.lock";
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) {
        return unusable(path, std::strerror(errno));
    }
    // Not flock(2), which a process that was being started at the moment of the daemon's death holds until its exec.
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(fd.get(), F_SETLK, &lock) != 0) {
        if (errno == EAGAIN || errno == EACCES) {
            return std::optional<DaemonLock>();
        }
        return unusable(path, std::strerror(errno));
    }
    return std::optional<DaemonLock>(DaemonLock(std::move(fd)));
}

void DaemonLock::say(const std::string& text) const {
    const bool said = ::ftruncate(fd_.get(), 0) == 0 && ::pwrite(fd_.get(), text.data(), text.size(), 0) >= 0;
    static_cast<void>(said);
}

}  // namespace cmssh
