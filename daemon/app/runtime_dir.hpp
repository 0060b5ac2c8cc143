// The daemon's own directories and the lock that makes it the only one. Blocking, at start-up only. Nothing here
// changes or removes what the daemon did not make.
#pragma once

#include <optional>
#include <string>

#include "daemon/base/unique_fd.hpp"
#include "protocol/result.hpp"

namespace cmssh {

// A directory that is ours alone: a real directory, our uid's, no bits for anybody else. Made with 0700 where it is
// missing; with make_parents its parents too. BadConfig, saying what is wrong with it and what to type.
[[nodiscard]] Result<UniqueFd> open_private_dir(const std::string& path, bool make_parents);

// Held until it is destroyed. The lock is the kernel's and the process's own: a daemon that was killed leaves none, its
// children have none, and nothing else in the process may open and close the file (fcntl(2), F_SETLK).
class DaemonLock {
public:
    // nullopt inside the Result: another daemon holds it.
    [[nodiscard]] static Result<std::optional<DaemonLock>> take(const std::string& dir);
    // Leaves word in its file, for those who do not get it. A disk that does not take it is no trouble.
    void say(const std::string& text) const;

private:
    explicit DaemonLock(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace cmssh
