# shellcheck shell=bash
# Namespaces and background processes of the lab; sourced by scripts/lab/lab after lib.sh. A process is known by its
# pid file and the namespace that it runs in, and ended by its pid, never by a name.

ns_exists() {
    [ -e "/run/netns/$1" ] && ip netns exec "$1" true 2>/dev/null
}

# The process of a pid file, if it lives and is still ours: a number may have been given to somebody else since.
pid_in() { # FILE NAMESPACE
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] && ip netns pids "$2" 2>/dev/null | grep -qx "$pid" && echo "$pid"
}

wait_for() { # SECONDS COMMAND…
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.1
    done
}

gone() {
    [ ! -e "/proc/$1" ]
}

# start NAMESPACE PIDFILE LOG COMMAND…: in the background. `ip netns exec` and `sh` both become the program: the pid
# is the program's own.
start() {
    local ns=$1 pidfile=$2 log=$3
    shift 3
    # Here, not when the shell in the background gets to it: nobody shall read what an earlier one said.
    : >"$log"
    # shellcheck disable=SC2016
    setsid ip netns exec "$ns" sh -c 'echo $$ >"$1"; shift; exec "$@"' - "$pidfile" "$@" </dev/null >>"$log" 2>&1 &
}

stop() { # NAME PIDFILE NAMESPACE SIGNAL SECONDS
    local pid
    pid=$(pid_in "$2" "$3") || { rm -f "$2"; return 0; }
    kill -s "$4" "$pid" 2>/dev/null || true
    if ! wait_for "$5" gone "$pid"; then
        echo "$1 (pid $pid) did not end in $5 s: killed" >&2
        kill -s KILL "$pid" 2>/dev/null || true
        wait_for 5 gone "$pid" || die "$1 (pid $pid) cannot be killed"
    fi
    rm -f "$2"
}

add_ns() {
    ns_exists "$1" && return
    # A name without a namespace behind it is left over from a reboot of /run's owner.
    rm -f "/run/netns/$1"
    ip netns add "$1"
}

sysctl_in() { # NAMESPACE PATH=VALUE…
    local ns=$1 pair
    shift
    for pair in "$@"; do
        ip netns exec "$ns" sh -c "echo ${pair#*=} >/proc/sys/${pair%%=*}" 2>/dev/null ||
            echo "note: $ns: cannot set ${pair%%=*}" >&2
    done
}
