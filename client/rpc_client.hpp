// A blocking client of the API socket. Every wait has a deadline, or is one that the user asked for (start, wait) and
// can end with Ctrl-C. Not one byte is sent to a socket that another uid serves.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "client/options.hpp"
#include "daemon/base/unique_fd.hpp"
#include "protocol/framing.hpp"
#include "protocol/jsonrpc.hpp"

namespace cmssh::client {

using Instant = std::chrono::steady_clock::time_point;

// What ended a call: the daemon's error, or one of the connection to it.
struct CallError {
    Error error;
    int exit_code = exit_code::kFailed;
    bool daemon_lost = false;  // no reply came: the call may be repeated
};

// Ctrl-C.
[[nodiscard]] CallError interrupted_call();

class HostLink;
class RpcClient;

// Puts ssh's questions to a person while a call waits (client/prompt.hpp). Nothing else is drawn meanwhile.
class Questioner {
public:
    virtual ~Questioner() = default;
    // A `prompt` notification. It takes the place of the one before.
    virtual void ask(RpcClient& client, const Json& params) = 0;
    // To poll() for input, and what to call when there is some; -1: nothing is asked.
    [[nodiscard]] virtual int fd() const = 0;
    virtual void read_input(RpcClient& client) = 0;
    // The call is over, and what is still asked with it.
    virtual void stop(RpcClient& client) = 0;
};

class RpcClient {
public:
    // Connects, and starts the daemon where nobody listens and that is allowed: of the machine that is meant.
    [[nodiscard]] static std::variant<RpcClient, CallError> connect(const GlobalOptions& global,
                                                                    std::optional<Instant> deadline);
    // Connects to a daemon that runs; nullopt: none does.
    [[nodiscard]] static std::optional<std::variant<RpcClient, CallError>> connect_running(
        const std::string& path, std::optional<Instant> deadline);

    using Progress = std::function<void(const Json& params)>;
    // Whatever protocol the daemon speaks: for what every version of it understands.
    void accept_any_version() { version_known_ = true; }
    // The daemon has told its version on this connection.
    [[nodiscard]] bool was_answered() const { return version_known_; }
    // Called a few times a second while a call waits.
    void on_idle(std::function<void()> idle) { idle_ = std::move(idle); }
    // nullptr: nobody is asked.
    void set_questioner(std::shared_ptr<Questioner> questioner) { questioner_ = std::move(questioner); }
    // Called with every other notification but `progress` that comes while a call, or receive_notifications(), waits.
    void on_notification(std::function<void(std::string_view method, const Json& params)> listener) {
        listener_ = std::move(listener);
    }
    // A call whose answer nobody needs.
    void notify(std::string_view method, Json params);
    // To poll() for input between calls, and what to call when there is some. nullopt: the daemon is still there.
    [[nodiscard]] int fd() const { return fd_.get(); }
    std::optional<CallError> receive_notifications();
    // deadline nullopt: as long as it takes.
    [[nodiscard]] std::variant<Json, CallError> call(std::string_view method, Json params,
                                                     std::optional<Instant> deadline, const Progress& progress = {});

    // For who waits for several clients at once: a call whose answer continue_call() gives once it has come. fd() is to
    // be polled meanwhile. One at a time, and none of the others beside it.
    [[nodiscard]] std::optional<CallError> begin_call(std::string_view method, Json params, Progress progress);
    [[nodiscard]] std::optional<std::variant<Json, CallError>> continue_call();

private:
    explicit RpcClient(UniqueFd fd);
    [[nodiscard]] static std::variant<RpcClient, CallError> connect_to_host(const GlobalOptions& global,
                                                                            std::optional<Instant> deadline);
    std::optional<CallError> greet(std::optional<Instant> deadline);
    [[nodiscard]] CallError lost() const;
    [[nodiscard]] CallError not_a_daemon() const;
    std::variant<Json, CallError> exchange(std::string_view method, Json params, std::optional<Instant> deadline,
                                           const Progress& progress);
    std::optional<CallError> begin(std::string_view method, Json params, std::optional<Instant> deadline);
    // nullopt: that was not yet the answer.
    std::optional<std::variant<Json, CallError>> take(Json message, const Progress& progress);
    std::optional<std::variant<Json, CallError>> next_message();
    std::optional<CallError> send(std::string_view bytes, std::optional<Instant> deadline);
    std::variant<Json, CallError> receive(std::optional<Instant> deadline);
    void hear(const Json& notification, const Progress& progress);
    std::optional<CallError> check_version(const Json& reply) const;

    std::optional<CallError> wait_for(short events, std::optional<Instant> deadline);

    std::shared_ptr<HostLink> link_;  // to another machine's daemon; shared, for its type is not known here
    UniqueFd fd_;
    FrameReader reader_;
    std::function<void()> idle_;
    std::function<void(std::string_view method, const Json& params)> listener_;
    std::shared_ptr<Questioner> questioner_;  // shared, so that a client can be moved while it asks
    std::string waits_for_;                   // what the daemon said last of the call under way
    bool version_known_ = false;
    int next_id_ = 1;
    int version_id_ = 0;  // of the call under way; 0: the version was known before
    int call_id_ = 0;
    Progress progress_;  // of begin_call()
};

// --timeout as a point in time.
[[nodiscard]] std::optional<Instant> deadline_of(const GlobalOptions& global);

}  // namespace cmssh::client
