#include "daemon/app/config.hpp"

namespace cmssh {

std::string_view default_config_text() {
    return R"(# cmssh: every key is optional, and these are the defaults. What has none is commented out.
# Durations: "500ms", "15s", "10m", "1h30m", "2d", "1w", or a number of seconds. Sizes: "64KiB", "8MiB", "1GiB".

# The context of a call that names none.
#default_ctx = "server-a"

[pool]
# How long a connection that nobody needs any more is kept: a duration, "yes" or "0" for ever, "no" not at all.
control_persist = "10m"
# Between two probes of one connection; jitter only shortens it.
health_interval = "15s"
# How long a probe may take.
health_timeout = "5s"
# Failed end-to-end probes in a row until a connection counts as lost.
unhealthy_after = 2
# How long a whole login may take.
connect_timeout = "15s"
# The wait before the first new attempt; it grows up to backoff_max.
backoff_initial = "500ms"
backoff_max = "60s"
# Logins under way at the same time, over all servers.
max_concurrent_connects = 8
# Channels of one connection, sshd's MaxSessions; learnt downwards when sshd refuses one.
max_channels = 10
# Where control sockets lie, with %r (user), %h (host) and %p (port). Unset: in the runtime directory.
#control_path = "/tmp/cm-ssh-%r@%h:%p"

[ssh]
# The OpenSSH client.
program = "ssh"
# Extra arguments for every ssh, such as ["-F", "/etc/my_ssh_config"].
options = []

[sessions]
# What a session's command is started through on the server: "login-interactive", "login" or "none".
shell = "login-interactive"
# tmux on the server, 3.2 or newer.
tmux = "tmux"
# Its server's name there, as in tmux -L NAME.
tmux_socket = "cmssh"
# Lines that tmux keeps of each session.
scrollback = 50000
# How long ended sessions stay in `list --all`.
keep_ended = "30d"

[rpc]
# Programs connected to the daemon's socket at the same time.
max_clients = 2048
# The longest request; a reply is not capped.
max_message = "8MiB"

# A server under a short name. A name that is not here is taken as an ssh destination.
#[contexts.server-a]
# An alias of ssh_config, host, user@host, user@host:port, ssh://user@host:port or [ipv6]:port. Unset: the
# context's own name.
#host = "server1"
# What is not set comes from ssh's own configuration.
#user = "hren"
#port = 22
#identity_file = "~/.ssh/id_ed25519"
# Where sessions start; ~ is the server's.
#cwd = "~/src/app"
# What sessions find in their environment.
#env = { RUST_LOG = "info" }
# true: connected from the daemon's start on, and always kept.
#prewarm = false

# A command under a short name: `cmctl start claude "task"` runs it followed by "task".
#[tools.claude]
#command = ["claude", "--verbose"]
)";
}

}  // namespace cmssh
