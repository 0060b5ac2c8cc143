#include "daemon/ssh/ssh_error.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "protocol/names.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {
namespace {

constexpr std::size_t kMaxStderr = 4096;
constexpr std::string_view kDenied = "Permission denied (";

struct Rule {
    std::string_view text;  // somewhere in the line
    ErrorKind kind;
};

// With ProxyJump the texts of several ssh processes stand in one log, in the order of the hops: the last line that
// names a cause is the one that counts. The first rule that fits a line decides.
constexpr std::array kCauses = std::to_array<Rule>({
    {"Could not resolve hostname", ErrorKind::DnsFailure},
    {"Temporary failure in name resolution", ErrorKind::DnsFailure},
    {"Name or service not known", ErrorKind::DnsFailure},
    {"No address associated with hostname", ErrorKind::DnsFailure},
    {"Host key verification failed", ErrorKind::HostKeyUnknown},
    {"Too many authentication failures", ErrorKind::AuthFailed},
    {" timed out", ErrorKind::ConnectTimeout},
    {"Timeout, server ", ErrorKind::ConnectTimeout},
    {"Control socket connect(", ErrorKind::ConnectFailed},
    {": Connection refused", ErrorKind::ConnectRefused},
    {"No route to host", ErrorKind::ConnectFailed},
    {"Network is unreachable", ErrorKind::ConnectFailed},
    {"open failed: ", ErrorKind::ConnectFailed},
    {"Unable to negotiate with ", ErrorKind::ConnectFailed},
    {"Bad configuration option", ErrorKind::ConnectFailed},
    {"Bad owner or permissions", ErrorKind::ConnectFailed},
    {"command-line line 0:", ErrorKind::ConnectFailed},
    {"command-line: line 0:", ErrorKind::ConnectFailed},
    {" not found", ErrorKind::ConnectFailed},  // a ProxyCommand's program
    {"unix_listener: ", ErrorKind::ConnectFailed},
    {"Received disconnect from ", ErrorKind::ConnectFailed},
});

// What the outer ssh says as well when the inner one failed: a cause only where the log names no other.
constexpr std::array kConsequences = std::to_array<std::string_view>({
    "_exchange_identification: ",
    "Connection closed by ",
    "Connection reset by ",
});

enum class HostKeyWarning { None, Changed, Revoked };

struct Cause {
    ErrorKind kind = ErrorKind::ConnectFailed;
    std::string_view line = {};
    std::string_view changed_host = {};  // as known_hosts has it
    std::string_view known_hosts = {};   // the file that has its old key
    bool revoked = false;
    bool strict = false;  // ssh does not ask about an unknown key
};

std::string_view trim(std::string_view line) {
    constexpr std::string_view kSpace = " \t\r";
    const std::size_t first = line.find_first_not_of(kSpace);
    if (first == std::string_view::npos) {
        return {};
    }
    return line.substr(first, line.find_last_not_of(kSpace) - first + 1);
}

template <typename Visit>
void for_each_line(std::string_view log, Visit visit) {
    while (!log.empty()) {
        const std::size_t line_end = std::min(log.find('\n'), log.size());
        if (const std::string_view line = trim(log.substr(0, line_end)); !line.empty()) {
            visit(line);
        }
        log.remove_prefix(std::min(line_end + 1, log.size()));
    }
}

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

// "user@host: Permission denied (publickey,password)." → "publickey,password"
std::optional<std::string_view> denied_methods(std::string_view line) {
    const std::size_t at = line.find(kDenied);
    if (at == std::string_view::npos) {
        return std::nullopt;
    }
    const std::string_view list = line.substr(at + kDenied.size());
    return list.substr(0, list.find(')'));
}

bool names_a_person(std::string_view methods) {
    while (!methods.empty()) {
        const std::size_t comma = std::min(methods.find(','), methods.size());
        const std::string_view method = methods.substr(0, comma);
        if (method == "password" || method == "keyboard-interactive") {
            return true;
        }
        methods.remove_prefix(std::min(comma + 1, methods.size()));
    }
    return false;
}

// "Host key for [h]:22 has changed and you have requested strict checking." → "[h]:22"
std::string_view changed_host(std::string_view line) {
    constexpr std::string_view kBefore = "Host key for ";
    constexpr std::string_view kBehind = " has changed";
    const std::size_t behind = line.find(kBehind);
    if (!line.starts_with(kBefore) || behind == std::string_view::npos) {
        return {};
    }
    return line.substr(kBefore.size(), behind - kBefore.size());
}

// "Offending ED25519 key in /home/u/.ssh/known_hosts:3" → "/home/u/.ssh/known_hosts"
std::string_view offending_file(std::string_view line) {
    constexpr std::string_view kBefore = " key in ";
    const std::size_t before = line.find(kBefore);
    const std::size_t colon = line.rfind(':');
    if (!line.starts_with("Offending ") || before == std::string_view::npos || colon == std::string_view::npos ||
        colon < before + kBefore.size()) {
        return {};
    }
    return line.substr(before + kBefore.size(), colon - before - kBefore.size());
}

class LogReader {
public:
    void read_line(std::string_view line) {
        last_line_ = line;
        if (contains(line, "REMOTE HOST IDENTIFICATION HAS CHANGED")) {
            warning_ = HostKeyWarning::Changed;
        } else if (contains(line, "REVOKED HOST KEY DETECTED")) {
            warning_ = HostKeyWarning::Revoked;
        }
        strict_ = strict_ || contains(line, " host key is known for ");
        if (const std::string_view host = changed_host(line); !host.empty()) {
            warning_ = HostKeyWarning::Changed;
            changed_host_ = host;
        }
        if (const std::string_view file = offending_file(line); !file.empty()) {
            known_hosts_ = file;
        }

        if (const std::optional<std::string_view> methods = denied_methods(line)) {
            const bool person = names_a_person(*methods) || key_wants_passphrase_;
            key_wants_passphrase_ = false;
            set_cause(person ? ErrorKind::NeedsAuth : ErrorKind::AuthFailed, line);
            return;
        }
        // Said only where ssh could ask: in batch mode it passes over such a key in silence.
        if (contains(line, "incorrect passphrase supplied to decrypt private key")) {
            key_wants_passphrase_ = true;
        }
        const auto rule =
            std::find_if(kCauses.begin(), kCauses.end(), [line](const Rule& it) { return contains(line, it.text); });
        if (rule != kCauses.end()) {
            set_cause(rule->kind, line);
        } else if (std::any_of(kConsequences.begin(), kConsequences.end(),
                               [line](std::string_view text) { return contains(line, text); })) {
            if (consequence_.empty()) {
                consequence_ = line;
            }
        }
    }

    [[nodiscard]] Cause cause() const {
        return cause_.value_or(Cause{.line = consequence_.empty() ? last_line_ : consequence_});
    }

private:
    void set_cause(ErrorKind kind, std::string_view line) {
        cause_ = Cause{.kind = kind, .line = line};
        if (kind != ErrorKind::HostKeyUnknown) {
            return;
        }
        // The warnings of one hop end with its "Host key verification failed.".
        if (warning_ == HostKeyWarning::Changed) {
            cause_->kind = ErrorKind::HostKeyChanged;
            cause_->changed_host = changed_host_;
            cause_->known_hosts = known_hosts_;
        } else if (warning_ == HostKeyWarning::Revoked) {
            cause_->kind = ErrorKind::ConnectFailed;
            cause_->revoked = true;
        }
        cause_->strict = std::exchange(strict_, false);
        warning_ = HostKeyWarning::None;
    }

    HostKeyWarning warning_ = HostKeyWarning::None;
    bool strict_ = false;
    bool key_wants_passphrase_ = false;
    std::string_view changed_host_;
    std::string_view known_hosts_;
    std::optional<Cause> cause_;
    std::string_view consequence_;
    std::string_view last_line_;
};

std::string shell_word(std::string_view word) {
    constexpr std::string_view kPlain = "._:@%+-/,=";
    std::string shown = printable(word);
    const bool plain = !shown.empty() && std::all_of(shown.begin(), shown.end(), [kPlain](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               kPlain.find(c) != std::string_view::npos;
    });
    if (plain) {
        return shown;
    }
    std::string quoted = "'";
    for (const char c : shown) {
        quoted += c == '\'' ? "'\\''" : std::string(1, c);
    }
    return quoted + "'";
}

// `ssh OPTIONS… HOST`, with another option first.
std::string ssh_line(const std::vector<std::string>& command, std::string_view option = {}) {
    std::string line;
    for (const auto& word : command) {
        if (!line.empty()) {
            line += ' ';
        }
        line += shell_word(word);
        if (!option.empty()) {
            line += ' ';
            line += std::exchange(option, {});
        }
    }
    return line;
}

// What known_hosts calls the server: "host", or "[host]:port" for any port but 22.
std::string known_hosts_name(std::string_view server_key) {
    std::string_view place = server_key.substr(0, server_key.find(' '));
    place.remove_prefix(place.rfind('@') + 1);
    const std::size_t colon = place.rfind(':');
    if (colon == std::string_view::npos) {
        return std::string(place);
    }
    std::string_view host = place.substr(0, colon);
    const std::string_view port = place.substr(colon + 1);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    if (port == "22") {
        return std::string(host);
    }
    return '[' + std::string(host) + "]:" + std::string(port);
}

std::string describe_server(const LoginFailure& failure) {
    const std::string destination = printable(failure.destination);
    const std::string server = printable(failure.server);
    return server.empty() || server == destination ? destination : destination + " (" + server + ')';
}

std::string sentence(const Cause& cause, const LoginFailure& failure) {
    const std::string server = describe_server(failure);
    switch (cause.kind) {
        case ErrorKind::DnsFailure:
            return "cannot connect to " + server + ": its name, or that of a hop on the way, could not be resolved";
        case ErrorKind::ConnectRefused:
            return "cannot connect to " + server + ": connection refused";
        case ErrorKind::ConnectTimeout:
            return failure.end == LoginEnd::TimedOut ? "the login to " + server + " did not finish in time"
                                                     : "cannot connect to " + server + ": timed out";
        case ErrorKind::HostKeyUnknown:
            return "the host key of " + server + " is not known yet";
        case ErrorKind::HostKeyChanged:
            return "the host key of " + server + " has changed: the server was set up anew, or someone is in between";
        case ErrorKind::NeedsAuth:
            return server + " wants a login that needs a person";
        case ErrorKind::AuthFailed:
            return server + " refused the login";
        default:
            return cause.revoked ? "the host key of " + server + " is marked as revoked"
                                 : "cannot connect to " + server;
    }
}

std::string_view name(const LoginFailure& failure) {
    return failure.ctx.empty() ? failure.destination : failure.ctx;
}

std::string hint(const Cause& cause, const LoginFailure& failure) {
    switch (cause.kind) {
        case ErrorKind::DnsFailure:
            return ssh_line(failure.ssh, "-G") +
                   " | grep -E '^(hostname|proxyjump) '  # check the name, and HostName in ssh_config";
        case ErrorKind::ConnectRefused:
            return ssh_line(failure.ssh, "-v") + "  # check that sshd runs there, and the port";
        case ErrorKind::ConnectTimeout:
            return ssh_line(failure.ssh, "-v") + "  # see how far the connection gets";
        case ErrorKind::HostKeyUnknown:
            return cause.strict ? ssh_line(failure.ssh, "-o StrictHostKeyChecking=ask") +
                                      "  # once by hand, to check the key and accept it; or add it to known_hosts"
                                : connect_by_hand(name(failure)) + "  # shows its fingerprint and asks";
        case ErrorKind::HostKeyChanged: {
            const std::string host =
                cause.changed_host.empty() ? known_hosts_name(failure.server) : std::string(cause.changed_host);
            const std::string file = cause.known_hosts.empty() ? std::string() : " -f " + shell_word(cause.known_hosts);
            return "ssh-keygen" + file + " -R " + shell_word(host) +
                   "  # only after asking the server's administrator whether the key was changed";
        }
        case ErrorKind::NeedsAuth:
            return connect_by_hand(name(failure)) + "  # from a terminal: it asks what the server asks";
        case ErrorKind::AuthFailed:
            return failure.person && wants_a_person(failure.log)
                       ? connect_by_hand(name(failure)) + "  # to answer once more"
                       : ssh_line(failure.ssh, "-v") + "  # see which keys are offered";
        default:
            // ssh gives a ProxyCommand's own words to /dev/null where ControlPersist is set.
            return ssh_line(failure.ssh, "-v") +
                   (failure.server.find(" via cmd-") == std::string_view::npos
                        ? ""
                        : "  # where that works: its ProxyCommand is not in cmsshd's PATH, so give its whole path, or "
                          "systemctl --user import-environment PATH");
    }
}

}  // namespace

Error classify_login_failure(const LoginFailure& failure) {
    LogReader reader;
    for_each_line(failure.log, [&reader](std::string_view line) { reader.read_line(line); });
    Cause cause = reader.cause();
    if (failure.end == LoginEnd::TimedOut) {
        cause.kind = ErrorKind::ConnectTimeout;
    } else if (cause.kind == ErrorKind::NeedsAuth && failure.person) {
        cause.kind = ErrorKind::AuthFailed;
    }

    Error error;
    error.kind = cause.kind;
    error.message = sentence(cause, failure);
    if (!cause.line.empty()) {
        error.message += ": " + printable(cause.line);
    }
    error.hint = hint(cause, failure);
    error.server = std::string(failure.server);
    if (!failure.log.empty()) {
        error.ssh_stderr = failure.log.substr(failure.log.size() - std::min(failure.log.size(), kMaxStderr));
    }
    return error;
}

std::string connect_by_hand(std::string_view ctx) {
    return "cmctl connect " + shell_word(ctx);
}

bool wants_a_person(std::string_view log) {
    bool wanted = false;
    for_each_line(log, [&wanted](std::string_view line) {
        if (const std::optional<std::string_view> methods = denied_methods(line)) {
            wanted = names_a_person(*methods);
        }
    });
    return wanted;
}

}  // namespace cmssh
