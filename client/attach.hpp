// The caller's terminal on a session: through the server's master, and again by itself where the way there breaks.
#pragma once

#include <optional>
#include <string>

#include "client/mux_session.hpp"
#include "client/rpc_client.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client {

class RawMode;

enum class Typing { Arrives, IsIgnored };

// How it came to an end, and what nobody has been told yet.
struct AttachEnd {
    int exit_code = exit_code::kOk;          // where nothing of the following is set
    bool was_on = false;                     // the session was on the terminal
    std::optional<api::Session> ended = {};  // it has ended
    std::optional<CallError> failure = {};   // there was no way to it, or back to it; Cancelled: Ctrl-C
};

// One for each process: it catches SIGWINCH and SIGCONT.
class Attachment {
public:
    // session: any word that names it. global outlives it.
    Attachment(const GlobalOptions& global, std::string session, Typing typing);
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;
    // Over a connection to the daemon that is there already.
    void use(RpcClient client);

    // Until the person leaves, the session ends, or there is no way back to it. In the child of guard_terminal(), after
    // catch_interrupts().
    [[nodiscard]] AttachEnd run();

private:
    enum class Left { Exited, WithoutStatus, Doubted, Interrupted };

    [[nodiscard]] std::optional<CallError> reach_daemon();
    // nullopt: the way to the session is known, with a lease on it.
    [[nodiscard]] std::optional<CallError> ask_way();
    [[nodiscard]] Left stay_on(MuxSession& session, RawMode& raw);
    void seek_daemon();
    // nullopt: the connection was lost.
    [[nodiscard]] std::optional<AttachEnd> end_of(const MuxSession& session, Left left);
    [[nodiscard]] AttachEnd session_is_gone();
    [[nodiscard]] AttachEnd failed(CallError failure);
    [[nodiscard]] AttachEnd detached();
    // Says once what is the matter, and then gives it time. False: Ctrl-C.
    [[nodiscard]] bool wait_for_way();
    void let_go();

    const GlobalOptions& global_;
    std::string session_;
    Typing typing_;
    std::optional<Instant> deadline_;  // of the first time
    std::optional<RpcClient> client_;
    std::optional<api::AttachResult> way_;
    std::optional<std::string> refused_;  // a lease whose channel the server refused
    Instant seek_at_{};
    bool doubted_ = false;  // the master of the lease is given up
    bool was_on_ = false;
    bool waiting_ = false;  // for the way to be there again
    int pause_ = 0;         // milliseconds
};

// For a session that was just started: where it has ended meanwhile or ends now, what it printed last stays on the
// terminal, and its exit code is the result; 0 where the person detaches.
[[nodiscard]] int attach_started(const GlobalOptions& global, RpcClient client, const std::string& session);

}  // namespace cmssh::client
