# shellcheck shell=bash
# The rig of run, peers.sh and purge.sh; sourced after lib.sh. A lab of its own (scripts/lab/lab), an origin that logs
# nothing, and servers that are started in the foreground, so that $! is their pid and the trap ends exactly them.

prefix=pb
net=$prefix-net client=$prefix-client origin=$prefix-origin peer=$prefix-peer
server_cpu=1 client_cpu=0
millrace=${MILLRACE:-${CARGO_TARGET_DIR:-target}/release/millrace}
dir='' pids=() tap_pid=''

rig_tools() {
    local tool
    for tool in ip nginx curl wrk taskset jq openssl "$@"; do have "$tool" || die "$tool is missing: apt-get install it"; done
    [ "$(id -u)" = 0 ] || die "namespaces and TAP devices need root"
    [ -x "$millrace" ] || die "no $millrace: cargo build --release, or set MILLRACE"
    [ "$(nproc)" -ge 2 ] || die "two CPUs are needed: one for the server, one for the client and the origin"
}

end_pid() { # PID: ends it and waits, killing it after 5 s
    local pid=$1 n
    kill -TERM "$pid" 2>/dev/null || true
    for ((n = 0; n < 50; n++)); do
        if ! [ -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; then break; fi
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

rig_down() {
    local code=$? pid
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do end_pid "$pid"; done
    if [ -e "/run/netns/$peer" ]; then ip netns del "$peer" || true; fi
    scripts/lab/lab --prefix $prefix down >/dev/null || true
    if [ -n "$dir" ]; then rm -rf "$dir"; fi
    exit "$code"
}

filled() { # CONFIG: with the folder and the CPU in it; prints where it is
    sed "s|@DIR@|$dir|g; s|@CPU@|$server_cpu|g" "scripts/bench/peers/$1" >"$dir/$1"
    printf '%s\n' "$dir/$1"
}

started=''
start_in() { # NAMESPACE CPU LOG COMMAND…: the pid is left in $started
    local ns=$1 cpu=$2 log=$3
    shift 3
    ip netns exec "$ns" taskset -c "$cpu" "$@" </dev/null >"$dir/$log.out" 2>&1 &
    started=$!
    pids+=("$started")
}

answers() { # URL LOG
    local n
    for ((n = 0; n < 100; n++)); do
        if ip netns exec "$client" curl -fsS -o /dev/null --max-time 1 "$1" 2>/dev/null; then return; fi
        sleep 0.1
    done
    die "$1 does not answer: $(tail -n 3 "$dir/$2.out")"
}

rig_up() {
    trap rig_down EXIT
    trap 'exit 130' INT TERM
    dir=$(mktemp -d /tmp/millrace-bench.XXXXXX)
    mkdir -p "$dir/www" "$dir/run"
    chmod 700 "$dir/run"
    head -c 1024 /dev/zero | tr '\0' x >"$dir/www/1k"
    head -c 102400 /dev/zero | tr '\0' x >"$dir/www/100k"
    # One certificate for all that speak TLS: ECDSA with P-256.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=bench.test \
        -addext "subjectAltName=DNS:bench.test" -keyout "$dir/tls.key" -out "$dir/tls.pem" 2>"$dir/openssl.err" ||
        die "no certificate: $(tail -n 1 "$dir/openssl.err")"
    cat "$dir/tls.pem" "$dir/tls.key" >"$dir/tls.both"
    scripts/lab/lab --prefix $prefix up --no-edge >/dev/null
    start_in "$origin" $client_cpu origin nginx -p "$dir" -e "$dir/origin.err" -c "$(filled origin.conf)"
    answers http://10.80.0.3:8080/cached/1k origin
}

start_millrace() { # CONFIG ADDRESS
    local config=$1 address=$2
    start_in "$net" "0-$(($(nproc) - 1))" millrace env "MILLRACE_RUN=$dir/run" "$millrace" run --config "$(filled "$config")"
    tap_pid=$started
    answers "http://$address/cached/1k" millrace
}

stop_millrace() {
    end_pid "$tap_pid"
    tap_pid=''
}

of_node() { # VERB ARGUMENT…
    MILLRACE_RUN=$dir/run "$millrace" "$@"
}

machine() {
    echo "date      $(date -u '+%F %R') UTC"
    echo "machine   $(nproc) x $(lscpu | sed -n 's/^Model name: *//p'), Linux $(uname -r)"
    echo "load      $(cut -d ' ' -f 1-3 /proc/loadavg) before the run"
    echo "commit    $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
}
