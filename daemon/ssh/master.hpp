// The seam to ssh: a master, and the channels opened through it. OpensshMaster is the real one; tests have a
// FakeMaster.
#pragma once

#include <asio/awaitable.hpp>

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/base/clock.hpp"
#include "daemon/ssh/askpass.hpp"
#include "daemon/ssh/ssh_command.hpp"
#include "protocol/mux.hpp"
#include "protocol/result.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {

// A remote command's standard streams. Destroying it closes them: the command sees end of file.
class Channel {
public:
    virtual ~Channel() = default;
    // Some bytes; empty at end of file or after close().
    virtual asio::awaitable<std::string> read_output() = 0;
    virtual asio::awaitable<std::string> read_error() = 0;
    // What was taken without waiting; the caller keeps the rest.
    virtual std::size_t try_write(std::string_view bytes) = 0;
    // false: the channel is closed.
    virtual asio::awaitable<bool> wait_writable() = 0;
    virtual void close_input() = 0;
    // Only after both streams ended. nullopt: none came, which is a death by signal, a refused command or a dead
    // master.
    virtual asio::awaitable<std::optional<int>> exit_status() = 0;
    // Ends the waits above. Idempotent.
    virtual void close() = 0;
};

class Master {
public:
    virtual ~Master() = default;
    [[nodiscard]] virtual pid_t pid() const = 0;
    // It was there before: of an earlier daemon, or of somebody's plain ssh.
    [[nodiscard]] virtual bool adopted() const = 0;
    // Level 1: the process answers. It says nothing about the network. Timeout or MasterLost.
    virtual asio::awaitable<Result<void>> check(Instant deadline) = 0;
    // ChannelRefused (the server's MaxSessions), MasterLost or Timeout. On a timeout the command may run all the same
    // when the path comes back: it must be harmless twice.
    virtual asio::awaitable<Result<std::unique_ptr<Channel>>> open_channel(std::string command, Instant deadline) = 0;
    // Listens for the forward, until it is closed or the master stops listening. The port that the server chose where
    // a remote one asks for port 0, else 0. ChannelRefused: the master, or the server of a remote one, does not listen
    // there. MasterLost or Timeout: it may listen all the same when the path comes back.
    virtual asio::awaitable<Result<int>> open_forward(mux::Forward forward, Instant deadline) = 0;
    // Of one that is equal in every field. What goes through it goes on. Local: nothing is waited for from the server.
    virtual asio::awaitable<Result<void>> close_forward(mux::Forward forward, Instant deadline) = 0;
    // Returns when the process is gone, or after release().
    virtual asio::awaitable<void> wait_for_death() = 0;
    [[nodiscard]] virtual bool dead() const = 0;
    // It takes no new work and leaves its control path, and the ports of its forwards, to the next master; who is on it
    // stays. Local: nothing is waited for from the server. After it no channel is opened and check() fails. Timeout or
    // MasterLost: it may still be in the way.
    virtual asio::awaitable<Result<void>> stop_listening(Instant deadline) = 0;
    // Ends the process, a stopped one too, at the deadline by SIGKILL, and removes what it left on disk.
    virtual asio::awaitable<void> end(Instant deadline) = 0;
    // Lets go of it: the process lives on.
    virtual void release() = 0;
};

// For giving up a login that is under way.
struct LoginInterrupt {
    bool given_up = false;
    std::function<void()> end;  // set while there is a process to end

    void give_up() {
        given_up = true;
        if (end) {
            end();
        }
    }
};

struct LaunchRequest {
    SshRoute route;
    ServerKey key;
    SshConfigDump dump;
    std::string control_path;
    bool own = false;  // beside the shared master: ends with the last channel on it
    std::optional<std::string> auth_sock;
    std::optional<HopSocket> hop;
    Instant deadline;
    std::function<void()> on_login = {};        // called when a login begins: no master was there to be adopted
    std::shared_ptr<LoginInterrupt> interrupt;  // shared with who may give the login up; may be null
    // Shared with who knows whom to ask; null: ssh must not ask. The deadline stands still while somebody is asked.
    std::shared_ptr<LoginQuestions> questions = nullptr;
    std::string ctx = {};  // what to connect to by hand, for a hint; empty: the destination
};

class MasterLauncher {
public:
    virtual ~MasterLauncher() = default;
    // A master that listens on the control path: a new login, or one of our uid that was there already. The error is of
    // one of the login's kinds. Nothing is left behind on failure. shared_ptr: who watches for its death shares it.
    virtual asio::awaitable<Result<std::shared_ptr<Master>>> launch(LaunchRequest request) = 0;
    // The one that is there already, such as an earlier daemon's; nullptr: none. Connects to no server.
    virtual asio::awaitable<Result<std::shared_ptr<Master>>> find(LaunchRequest request) = 0;
};

struct RemoteOutput {
    int exit_code = 0;
    std::string standard_output;
    std::string standard_error;
};
// Runs a command line on a channel of its own, keeping at most max_bytes of each output. MasterLost or Timeout: it may
// have run. It must not end with 255: that is ssh's word for a command whose end it was not told.
asio::awaitable<Result<RemoteOutput>> run_remote(Clock& clock, Master& master, std::string command, Instant deadline,
                                                 std::size_t max_bytes);

}  // namespace cmssh
