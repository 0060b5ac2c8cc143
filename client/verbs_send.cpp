#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <variant>

#include "client/call.hpp"
#include "client/interrupt.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"
#include "protocol/tmux_control.hpp"

namespace cmssh::client {
namespace {

CallError cannot_send(std::string message, std::string hint, int exit_code) {
    return CallError{
        .error = {.kind = ErrorKind::InvalidParams, .message = std::move(message), .hint = std::move(hint)},
        .exit_code = exit_code};
}

std::variant<std::string, CallError> read_standard_input() {
    std::string text;
    std::string bytes(64 * 1024, '\0');
    for (;;) {
        const ssize_t count = ::read(STDIN_FILENO, bytes.data(), bytes.size());
        if (count == 0) {
            return text;
        }
        if (count > 0) {
            text.append(bytes, 0, static_cast<std::size_t>(count));
        } else if (interrupted()) {
            return interrupted_call();
        } else if (errno != EINTR) {
            return cannot_send(std::string("standard input: ") + std::strerror(errno), "", exit_code::kFailed);
        }
    }
}

}  // namespace

int send(const GlobalOptions& global, const SendOptions& options) {
    catch_interrupts();
    Json params = {{"session", options.session}, {"keys", options.keys}, {"enter", options.enter}};
    add_login_params(params);
    if (options.text) {
        const bool piped = *options.text == "-";
        auto text = piped ? read_standard_input() : std::variant<std::string, CallError>(*options.text);
        if (const auto* failure = std::get_if<CallError>(&text)) {
            return print_error(global, *failure);
        }
        std::string& bytes = std::get<std::string>(text);
        if (!tmux::valid_utf8(bytes) || bytes.find('\0') != std::string::npos) {
            return print_error(
                global, cannot_send(std::string(piped ? "standard input" : "TEXT") + " is not UTF-8 text without NUL",
                                    "copy a file with cmctl cp", exit_code::kUsage));
        }
        params["text"] = std::move(bytes);
    }
    const auto deadline = deadline_of(global);
    auto connected = RpcClient::connect(global, deadline);
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    RpcClient& client = std::get<RpcClient>(connected);
    const auto outcome = call_with_login<api::Empty>(client, "send", std::move(params), deadline);
    if (const auto* failure = std::get_if<CallError>(&outcome)) {
        return print_error(global, *failure);
    }
    if (global.json) {
        print_json(std::get<Reply<api::Empty>>(outcome).json);
    }
    return exit_code::kOk;
}

}  // namespace cmssh::client
