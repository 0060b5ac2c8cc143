#include "client/follow.hpp"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "client/login_call.hpp"
#include "client/output.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// One call waits no longer than this; then whoever reads our output is looked after: only a pipe's reader goes
// unnoticed.
constexpr std::chrono::milliseconds kWait = std::chrono::seconds(5);
constexpr std::chrono::milliseconds kWaitWithAReader = std::chrono::milliseconds(500);
constexpr auto kGrace = std::chrono::minutes(2);

bool writes_to_a_pipe() {
    struct stat status {};
    return ::fstat(STDOUT_FILENO, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

// The reader of a pipe has gone: nothing would tell us before the next line.
bool nobody_reads() {
    pollfd output{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
    return ::poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

// false: it could not be written.
bool print_text(const std::string& text, bool terminal) {
    const std::string shown = terminal ? printable_lines(text) : text;
    std::fwrite(shown.data(), 1, shown.size(), stdout);
    return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

int give_up(const GlobalOptions& global, CallError failure, const api::Session& session) {
    const bool by_us = failure.exit_code == exit_code::kInterrupted || failure.exit_code == exit_code::kTimeout;
    if (by_us || failure.exit_code == exit_code::kNoDaemon) {
        failure.error.hint = "cmctl logs -f " + session.id + ", the session runs on";
    }
    return print_error(global, failure);
}

CallError out_of_time(const api::Session& session) {
    return CallError{.error = {.kind = ErrorKind::Timeout, .message = session.id + " has not ended"},
                     .exit_code = exit_code::kTimeout};
}

}  // namespace

std::optional<int> follow(const GlobalOptions& global, PatientClient& client, const api::Session& session,
                          FollowFrom from, std::optional<Instant> deadline) {
    const bool terminal = ::isatty(STDOUT_FILENO) != 0;
    const auto longest_wait = writes_to_a_pipe() ? kWaitWithAReader : kWait;
    std::optional<std::string> cursor = from.beginning ? std::optional<std::string>("") : std::nullopt;
    bool out_of_reach = false;
    ReachedByPerson reached(global);
    api::SessionState state = session.state;
    for (;;) {
        if (auto failure = reached.see(session.ctx, state)) {
            return give_up(global, std::move(*failure), session);
        }
        auto wait = longest_wait;
        std::optional<Instant> answer_by;
        if (deadline) {
            const auto left =
                std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
            if (left.count() <= 0) {
                return give_up(global, out_of_time(session), session);
            }
            wait = std::min(wait, left);
            answer_by = *deadline + kGrace;
        }
        const auto params = [&] {
            Json json = {{"session", session.id}, {"wait_ms", wait.count()}};
            if (cursor) {
                json["since"] = *cursor;
            } else if (from.lines) {
                json["lines"] = *from.lines;
            }
            return json;
        };
        auto outcome = client.call<api::LogsResult>("logs", params, answer_by);
        if (auto* failure = std::get_if<CallError>(&outcome)) {
            return give_up(global, std::move(*failure), session);
        }
        const api::LogsResult& log = std::get<Reply<api::LogsResult>>(outcome).value;
        if (log.truncated && cursor) {
            std::fprintf(stderr, "cmctl: %s: lines are missing here: tmux kept fewer than came\n", session.id.c_str());
        }
        if (!print_text(log.text, terminal)) {
            return exit_code::kFailed;
        }
        if (log.ended) {
            return std::nullopt;
        }
        if (nobody_reads()) {
            return exit_code::kFailed;
        }
        state = log.state;
        const bool was_out_of_reach = std::exchange(out_of_reach, log.state == api::SessionState::Unreachable);
        if (out_of_reach && !was_out_of_reach && !global.quiet) {
            std::fprintf(stderr, "cmctl: %s is out of reach, waiting for it; the session runs on\n",
                         printable(session.ctx).c_str());
        }
        cursor = log.cursor;
    }
}

}  // namespace cmssh::client
