# shellcheck shell=bash
# Servers of our own on loopback, for the demo and the benchmark: an sshd, to which every address 127.0.0.N is
# another server with its own home directory and tmux. Sourced by bash under `set -euo pipefail`.
#
#   servers_begin NAME      makes $dir, removed at exit with every process that belongs to it; a clean environment.
#                           $dir/run leads to a directory in /dev/shm, if there is one
#   servers_home HOME       a home directory on a server, as a new user has it
#   servers_start ADDRESS=HOME…   starts the sshd: $port, $dir/ssh_config for ssh -F, $dir/sshd.log
#                       one for each 16 addresses: sshd dies at its 17th ListenAddress
#
# Nothing of this touches ~/.ssh, ~/.config, port 22 or anybody's tmux.

servers_begin() {
    sshd_pids=() runtime=
    # Short, because a control socket's whole path has to fit into 90 bytes.
    dir=$(mktemp -d "/tmp/cmssh-$1.XXXXXX")
    trap servers_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkdir -p "$dir/home"
    # In memory, as $XDG_RUNTIME_DIR is: ext4 takes its time to make a file where others were just removed.
    runtime=$(mktemp -d "/dev/shm/cmssh-$1.XXXXXX" 2>/dev/null || mktemp -d "$dir/runtime.XXXXXX")
    ln -s "$runtime" "$dir/run"
    unset "${!CMSSH_@}" "${!XDG_@}" SSH_AUTH_SOCK TMUX TMUX_TMPDIR
    export HOME=$dir/home XDG_RUNTIME_DIR=$dir/run
}

# Daemon, masters, tmux servers and sessions all carry $dir in the environment that they were started with, wherever
# they have moved in the process tree; sshd alone writes over its own, and its children end with their connections.
# A second look finds what was being forked during the first.
servers_end() {
    trap '' INT TERM HUP
    local file pid found round
    ((${#sshd_pids[@]} == 0)) || kill "${sshd_pids[@]}" 2>/dev/null || true
    for round in 1 2 3 4 5; do
        found=
        while read -r file; do
            pid=${file#/proc/}
            kill -KILL "${pid%/environ}" 2>/dev/null && found=$round
        done < <(env -i grep -lasF -- "$dir/" /proc/[0-9]*/environ || true)
        [[ -n $found ]] || break
    done
    rm -rf "$dir" ${runtime:+"$runtime"}
}

servers_home() {
    mkdir -p "$1"
    cp -r /etc/skel/. "$1"
    # zsh asks a user who has no startup file what to do.
    touch "$1"/{.zshrc,.hushlogin}
}

servers_start() {
    local attempt use_pam=no
    ssh-keygen -q -t ed25519 -N '' -C host -f "$dir/host_key"
    ssh-keygen -q -t ed25519 -N '' -C user -f "$dir/user_key"
    if ((EUID == 0)); then
        mkdir -p /run/sshd
        # A root whose password is locked is refused by an sshd that does not ask PAM.
        [[ $(getent shadow root) != root:!* ]] || use_pam=yes
    fi
    # Below the range of ports that the kernel hands out by itself.
    for ((attempt = 1; ; attempt++)); do
        port=$((20000 + RANDOM % 12000))
        if servers_serve "$use_pam" "$@"; then
            break
        elif ((attempt == 5)); then
            echo "The private sshd does not start:" >&2
            cat "$dir/sshd.log" >&2
            return 1
        fi
        ((${#sshd_pids[@]} == 0)) || kill "${sshd_pids[@]}" 2>/dev/null || true
        sshd_pids=()
    done
    echo "* $(cut -d' ' -f1,2 "$dir/host_key.pub")" >"$dir/known_hosts"
    cat >"$dir/ssh_config" <<CONFIG
Host *
    IdentityFile $dir/user_key
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile $dir/known_hosts
    GlobalKnownHostsFile none
CONFIG
}

# servers_serve USE_PAM ADDRESS=HOME…   true where all of them are served at $port.
servers_serve() {
    local use_pam=$1 pair listen match first config
    shift
    local -a all=("$@") some
    for ((first = 0; first < ${#all[@]}; first += 16)); do
        some=("${all[@]:first:16}")
        listen='' match='' config=$dir/sshd_config
        ((first == 0)) || config+=-$first
        for pair in "${some[@]}"; do
            listen+="ListenAddress ${pair%%=*}:$port"$'\n'
            match+="Match LocalAddress ${pair%%=*}"$'\n'"SetEnv HOME=${pair#*=} TMUX_TMPDIR=${pair#*=}"$'\n'
        done
        cat >"$config" <<CONFIG
$listen
HostKey $dir/host_key
AuthorizedKeysFile $dir/user_key.pub
PidFile none
StrictModes no
UsePAM $use_pam
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
$match
CONFIG
        servers_listen "$config" ${#some[@]} || return 1
    done
}

# servers_listen CONFIG N   true when the sshd says that it listens on N addresses; the rest of what it says goes to
# $dir/sshd.log.
servers_listen() {
    local config=$1 wanted=$2 line output sshd_pid
    exec {output}< <(exec /usr/sbin/sshd -D -e -f "$config" 2>&1)
    sshd_pid=$!
    sshd_pids+=("$sshd_pid")
    while read -r -t 10 line <&"$output"; do
        echo "$line" >>"$dir/sshd.log"
        case $line in
            "Server listening on "*) wanted=$((wanted - 1)) ;;
            "error: Bind to port "*) break ;;
        esac
        if ((wanted == 0)); then
            cat <&"$output" >>"$dir/sshd.log" &
            disown
            exec {output}<&-
            return 0
        fi
    done
    exec {output}<&-
    return 1
}
