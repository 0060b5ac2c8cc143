// The API's listening socket: the one that systemd hands over, or one that is bound here. Blocking, at start-up only.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "daemon/base/unique_fd.hpp"
#include "protocol/result.hpp"

namespace cmssh {

class ListenSocket {
public:
    // LISTEN_FDS where it is meant for this process, else `path`. Call it with the DaemonLock held: a socket file that
    // nobody listens on is then a leftover, and removed. nullopt inside: somebody serves there already.
    [[nodiscard]] static Result<std::optional<ListenSocket>> open(const std::string& path);

    ListenSocket(ListenSocket&&) = default;
    ListenSocket& operator=(ListenSocket&&) = default;
    ~ListenSocket() = default;

    [[nodiscard]] UniqueFd take_fd() { return std::move(fd_); }
    // The path that it is bound to, before take_fd(); empty: none.
    [[nodiscard]] std::string address() const;
    [[nodiscard]] bool activated() const { return path_.empty(); }
    // Removes the file that open() made, if it is still that one. systemd's is systemd's.
    void unlink_own() const;

private:
    friend void refuse_waiting(const Error& error);
    ListenSocket() = default;
    [[nodiscard]] static Result<std::optional<ListenSocket>> take_over();
    [[nodiscard]] static Result<std::optional<ListenSocket>> bind(const std::string& path);

    UniqueFd fd_;
    std::string path_;  // empty: taken over
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

// Answers with this error everyone who waits at the socket that systemd hands over, where there is one, for a daemon
// that does not start: left there, they would have it started again at once, without end. Takes a few seconds at most.
void refuse_waiting(const Error& error);

// How many descriptors systemd hands over to this process (sd_listen_fds(3)); forgets the variables.
[[nodiscard]] int take_listen_fds();

}  // namespace cmssh
