// A session on an ssh master, as `ssh -S` has one: the master gets our own descriptors, and no byte of the session
// passes through us or the daemon. OpenSSH 8.0 to 10.5, PROTOCOL.mux.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <variant>

#include "daemon/base/unique_fd.hpp"
#include "protocol/mux.hpp"
#include "protocol/result.hpp"

namespace cmssh::client {

class MuxSession {
public:
    // Gives the master duplicates of the descriptors (stdin, stdout, stderr) and returns once the server has opened the
    // channel. ChannelRefused: the server's MaxSessions; MasterLost; Timeout: it may be opened later all the same;
    // Cancelled: Ctrl-C (interrupt.hpp).
    [[nodiscard]] static Result<MuxSession> open(const std::string& control_path, const mux::NewSession& session,
                                                 std::array<int, 3> descriptors,
                                                 std::chrono::steady_clock::time_point deadline);

    // To poll() for input; receive() then reads what is there.
    [[nodiscard]] int fd() const { return fd_.get(); }
    void receive();
    // The master has closed the session: all output is written.
    [[nodiscard]] bool ended() const { return ended_; }
    // Of the remote command. Where it ended without one: a signal, or a connection that was lost.
    [[nodiscard]] std::optional<int> exit_status() const { return exit_status_; }
    // For an end without exit status: whether the same master still answers on its control socket. Where it does, the
    // session alone was ended, by a signal or by its person's "~."; where it does not, the connection was lost.
    [[nodiscard]] bool master_answers(const std::string& control_path,
                                      std::chrono::steady_clock::time_point deadline) const;
    // The server gave no terminal where one was wanted.
    [[nodiscard]] bool has_no_terminal() const { return no_terminal_; }
    // The window of the terminal that is its stdin has another size now: the master asks for it.
    void window_changed() const;

private:
    MuxSession(UniqueFd fd, pid_t master) : fd_(std::move(fd)), master_(master) {}

    UniqueFd fd_;
    mux::PacketReader reader_;
    pid_t master_;
    bool ended_ = false;
    bool no_terminal_ = false;
    std::optional<int> exit_status_;
};

}  // namespace cmssh::client
