#include "daemon/ssh/ssh_command.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace cmssh {
namespace {

// -S expands %-tokens (OpenSSH 9.2 ssh.c).
std::string escape_percent(std::string_view path) {
    std::string escaped;
    for (const char c : path) {
        escaped += c;
        if (c == '%') {
            escaped += '%';
        }
    }
    return escaped;
}

// For a word of the command line that ssh gives to the user's shell, as a ProxyCommand with %-tokens.
std::string proxy_word(std::string_view word) {
    std::string quoted = "'";
    for (const char c : escape_percent(word)) {
        quoted += c == '\'' ? "'\\''" : std::string(1, c);
    }
    return quoted + '\'';
}

// A stream to the server through the hop's master, or nothing: it makes no connection of its own, and asks no
// configuration what to do instead.
std::string hop_command(const SshConfig& config, const HopSocket& hop) {
    // ssh puts its own "exec" before it.
    return proxy_word(config.program) + " -F none -S " + proxy_word(escape_percent(hop.control_path)) +
           " -o ControlMaster=no -o ProxyCommand=false -o BatchMode=yes -W '[%h]:%p' -- " + proxy_word(hop.host);
}

void add_route(std::vector<std::string>& argv, const SshConfig& config, const SshRoute& route) {
    argv.insert(argv.end(), config.options.begin(), config.options.end());
    if (route.destination.user) {
        argv.insert(argv.end(), {"-l", *route.destination.user});
    }
    if (route.destination.port) {
        argv.insert(argv.end(), {"-p", std::to_string(*route.destination.port)});
    }
    if (route.identity_file) {
        argv.insert(argv.end(), {"-i", *route.identity_file});
    }
    if (route.jump) {
        argv.insert(argv.end(), {"-J", *route.jump});
    }
    argv.insert(argv.end(), {"--", route.destination.host});
}

std::string seconds_up(std::chrono::milliseconds duration) {
    return std::to_string(std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(duration).count()));
}

}  // namespace

std::vector<std::string> dump_command(const SshConfig& config, const SshRoute& route) {
    std::vector<std::string> argv = {config.program, "-G", "-T"};
    add_route(argv, config, route);
    return argv;
}

std::vector<std::string> typed_command(const SshConfig& config, const SshRoute& route) {
    std::vector<std::string> argv = {config.program};
    argv.insert(argv.end(), config.options.begin(), config.options.end());
    const Destination& destination = route.destination;
    if (destination.port) {
        argv.insert(argv.end(), {"-p", std::to_string(*destination.port)});
    }
    if (route.identity_file) {
        argv.insert(argv.end(), {"-i", *route.identity_file});
    }
    if (route.jump) {
        argv.insert(argv.end(), {"-J", *route.jump});
    }
    argv.push_back(destination.user ? *destination.user + '@' + destination.host : destination.host);
    return argv;
}

std::vector<std::string> master_command(const SshConfig& config, const SshRoute& route,
                                        const MasterArguments& arguments) {
    // ControlPersist is the net under the daemon's own linger timer: a daemon that is killed leaves nothing for ever.
    // Less than five seconds could end the master between the login and its first channel.
    constexpr std::chrono::milliseconds kShortestPersist = std::chrono::seconds(5);
    const std::string persist =
        arguments.control_persist ? seconds_up(std::max(*arguments.control_persist, kShortestPersist)) : "yes";

    std::vector<std::string> argv = {config.program,    "-fNT", "-S", escape_percent(arguments.control_path), "-E",
                                     arguments.log_file};
    const auto option = [&argv](std::string value) {
        argv.emplace_back("-o");
        argv.push_back(std::move(value));
    };
    // In place of -M, not with it: both together mean "ask".
    option("ControlMaster=yes");
    option("ControlPersist=" + persist);
    // QUIET in the user's config would empty the log.
    option("LogLevel=INFO");
    option(arguments.may_ask ? "BatchMode=no" : "BatchMode=yes");
    option("ConnectTimeout=" + seconds_up(arguments.connect_timeout));
    option("ConnectionAttempts=1");
    option("ClearAllForwardings=yes");
    option("ForwardAgent=no");
    option("ForwardX11=no");
    option("PermitLocalCommand=no");
    option("RemoteCommand=none");
    option("Tunnel=no");
    // What a plain ssh on it sends is what that ssh was told to send: the master is not to hold any of it back.
    option("SendEnv=*");
    if (!arguments.server_alive_set) {
        // Dead after about 15 s * (3 + 1) of silence.
        option("ServerAliveInterval=15");
        option("ServerAliveCountMax=3");
    }
    SshRoute way = route;
    if (arguments.hop) {
        option("ProxyCommand=" + hop_command(config, *arguments.hop));
        option("ProxyUseFdpass=no");
        way.jump.reset();
    }
    add_route(argv, config, way);
    return argv;
}

std::vector<std::string> terminal_command(const SshConfig& config, const std::string& control_path,
                                          const std::string& host, const std::string& command) {
    std::vector<std::string> argv = {config.program, "-t", "-S", escape_percent(control_path)};
    // Where the master is gone, ssh would log in by itself without a word. On the command line this is also before a
    // ProxyJump of the user's config.
    for (const char* option : {"ControlMaster=no", "ProxyCommand=false", "ClearAllForwardings=yes", "ForwardAgent=no",
                               "ForwardX11=no", "PermitLocalCommand=no", "RemoteCommand=none"}) {
        argv.insert(argv.end(), {"-o", option});
    }
    argv.insert(argv.end(), config.options.begin(), config.options.end());
    argv.insert(argv.end(), {"--", host, command});
    return argv;
}

std::optional<SshRoute> last_hop(std::string_view proxyjump) {
    SshRoute route;
    if (const auto comma = proxyjump.rfind(','); comma != std::string_view::npos) {
        route.jump = proxyjump.substr(0, comma);
        proxyjump.remove_prefix(comma + 1);
    }
    auto destination = parse_destination(proxyjump);
    if (!destination) {
        return std::nullopt;
    }
    route.destination = std::move(*destination);
    return route;
}

std::vector<std::string> ssh_environment(const std::vector<std::string>& own,
                                         const std::optional<std::string>& auth_sock) {
    constexpr std::array<std::string_view, 9> kDropped = {
        "NOTIFY_SOCKET=",  "WATCHDOG_PID=", "WATCHDOG_USEC=", "LISTEN_FDS=",    "LISTEN_PID=",
        "LISTEN_FDNAMES=", "CMSSH_",        "SSH_ASKPASS",    "JOURNAL_STREAM="};
    std::vector<std::string> environment;
    for (const auto& entry : own) {
        const bool dropped = std::any_of(kDropped.begin(), kDropped.end(),
                                         [&entry](std::string_view prefix) { return entry.starts_with(prefix); });
        if (!dropped && !(auth_sock && entry.starts_with("SSH_AUTH_SOCK="))) {
            environment.push_back(entry);
        }
    }
    if (auth_sock && !auth_sock->empty()) {
        environment.push_back("SSH_AUTH_SOCK=" + *auth_sock);
    }
    environment.emplace_back("CMSSH_NO_POOL=1");
    return environment;
}

}  // namespace cmssh
