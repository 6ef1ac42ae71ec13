# shellcheck shell=bash
# The lab's origin: its files and its nginx; sourced by scripts/lab/lab, which sets lab, client and origin.
# shellcheck disable=SC2154

make_file() { # NAME BYTES: the same bytes each time (AES in counter mode under a fixed key), that nothing can compress
    local file=$lab/www/$1
    [ "$(stat -c %s "$file" 2>/dev/null)" = "$2" ] && return
    head -c "$2" /dev/zero |
        openssl enc -aes-128-ctr -K 6d696c6c72616365000000000000006c -iv "$(printf '%032x' "$2")" >"$file"
}

write_origin() {
    mkdir -p "$lab/www/upload" "$lab/tmp"
    make_file 0 0
    make_file 1 1
    make_file 1k 1024
    make_file 1m 1048576
    make_file 200m 209715200
    [ -s "$lab/www/SHA256SUMS" ] || (cd "$lab/www" && sha256sum 0 1 1k 1m 200m >SHA256SUMS)
    cat >"$lab/nginx.conf" <<END
# Made by scripts/lab/lab. Runs as root, in a namespace that leads nowhere else, so that it may write here.
user root;
worker_processes 2;
pid $lab/nginx.pid;
error_log $lab/error.log;
events { worker_connections 8192; }
http {
    log_format lab '\$msec \$remote_addr:\$remote_port "\$request" \$status sent=\$bytes_sent received=\$request_length '
                   'connection=\$connection/\$connection_requests host="\$http_host" via="\$http_via" xff="\$http_x_forwarded_for"';
    access_log $lab/access.log lab;
    default_type application/octet-stream;
    sendfile on;
    keepalive_timeout 75s;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_temp_path $lab/tmp/body;
    proxy_temp_path $lab/tmp/proxy;
    fastcgi_temp_path $lab/tmp/fastcgi;
    uwsgi_temp_path $lab/tmp/uwsgi;
    scgi_temp_path $lab/tmp/scgi;
    server {
        listen 80 backlog=4096;
        listen [::]:80 backlog=4096 ipv6only=on;
        root $lab/www;
        etag on;
        location = / { default_type text/plain; return 200 "millrace lab origin\n"; }
        # PUT stores the body under www/upload; a GET of the same path gives it back.
        location /upload/ { dav_methods PUT DELETE; min_delete_depth 2; }
        # POST does the same, as a PUT to ourselves.
        location /post/ {
            proxy_pass http://unix:$lab/nginx.sock:/upload/;
            proxy_method PUT;
        }
    }
    server {
        listen unix:$lab/nginx.sock;
        access_log off;
        root $lab/www;
        location /upload/ { dav_methods PUT; }
    }
}
END
}

start_origin() {
    if pid_in "$lab/nginx.pid" "$origin" >/dev/null; then return; fi
    # A socket that a killed nginx left behind would keep a new one from starting.
    rm -f "$lab/nginx.pid" "$lab/nginx.sock"
    # A proxied upload takes several descriptors; as many as the host allows.
    ulimit -n "$(ulimit -Hn)"
    ip netns exec "$origin" nginx -p "$lab" -e "$lab/error.log" -c "$lab/nginx.conf" </dev/null >"$lab/nginx.out" 2>&1 ||
        die "nginx did not start: $(cat "$lab/nginx.out")"
    wait_for 10 pid_in "$lab/nginx.pid" "$origin" >/dev/null || die "nginx did not start; see $lab/error.log"
    wait_for 10 reaches_origin || die "nginx does not answer in $client; see $lab/error.log"
}

reaches_origin() {
    ip netns exec "$client" curl -fsS -o /dev/null --max-time 2 http://10.80.0.3/ 2>/dev/null &&
        ip netns exec "$client" curl -fsS -o /dev/null --max-time 2 'http://[fd80::3]/' 2>/dev/null
}
