// What ssh wrote when a login failed, turned into the API's kinds of error. Pure; the texts are those of OpenSSH 8.0
// to 10.5, which sets no LC_MESSAGES and so speaks English everywhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "protocol/errors.hpp"

namespace cmssh {

enum class LoginEnd { Exited, TimedOut };

struct LoginFailure {
    LoginEnd end = LoginEnd::Exited;
    std::string_view log;          // everything ssh wrote (-E file)
    std::string_view destination;  // as typed, for the message
    std::string_view server;       // the server's key
    std::vector<std::string> ssh;  // the command that goes the same way, for the hint
    std::string_view ctx = {};     // what cmctl calls the server; empty: as the destination
    bool person = false;           // ssh could ask somebody
};

// The kind, a sentence for a person, a hint with the next thing to type, and ssh's own text in ssh_stderr (its last 4
// KiB).
[[nodiscard]] Error classify_login_failure(const LoginFailure& failure);

// "cmctl connect CTX"
[[nodiscard]] std::string connect_by_hand(std::string_view ctx);

// ssh's own list of methods ("Permission denied (publickey,password).") names password or keyboard-interactive.
[[nodiscard]] bool wants_a_person(std::string_view log);

}  // namespace cmssh
