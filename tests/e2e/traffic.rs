//! The kernel's TCP as the client, nginx as the origin: bodies, short connections, load, ping.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::lab::{
    Checks, EDGE_V4, EDGE_V6, Lab, NGINX, PATIENCE, config, count, load_seconds, read_all, text,
};

const SHORT_CONNECTIONS: usize = 10_000;

#[test]
fn traffic() {
    let Some(lab) = Lab::up("traffic", 't', true) else { return };
    let edge = lab.edge(&config(NGINX));
    let mut c = Checks::new();
    // The origin over the same family as the client.
    let families = [("v4", EDGE_V4.to_owned(), "any.lab"), ("v6", format!("[{EDGE_V6}]"), "v6.lab")];

    for (family, host, site) in &families {
        c.check(&format!("bodies down, {family}"), || {
            let sums = std::fs::read_to_string(lab.dir().join("www/SHA256SUMS")).expect("sums");
            for line in sums.lines() {
                let (sum, name) = line.split_once("  ").expect("SUM  NAME");
                let got = lab.ask(
                    120,
                    &format!(
                        "set -o pipefail; curl -gfsS -H 'Host: {site}' http://{host}/{name} | sha256sum"
                    ),
                );
                assert_eq!(got.split_whitespace().next(), Some(sum), "{name}");
            }
        });
        c.check(&format!("bodies up, {family}"), || {
            for name in ["0", "1", "1k", "1m", "200m"] {
                let dir = lab.dir();
                let file = dir.join("www").join(name);
                let url = format!("http://{host}/upload/{family}-{name}");
                lab.ask(120, &format!("curl -gfsS -H 'Host: {site}' -T {} {url}", file.display()));
                let stored = dir.join(format!("www/upload/{family}-{name}"));
                lab.ask(60, &format!("cmp {} {}", file.display(), stored.display()));
            }
        });
        c.check(&format!("chunked upload, {family}"), || {
            let file = lab.dir().join("www/1m");
            let url = format!("http://{host}/upload/{family}-chunked");
            lab.ask(
                60,
                &format!(
                    "curl -gfsS -H 'Host: {site}' -H 'Transfer-Encoding: chunked' -T - {url} <{}",
                    file.display()
                ),
            );
            lab.ask(
                60,
                &format!("cmp {} {}/www/upload/{family}-chunked", file.display(), lab.dir().display()),
            );
        });
        c.check(&format!("Expect: 100-continue, {family}"), || {
            let file = lab.dir().join("www/1m");
            let seen = lab.ask(
                60,
                &format!(
                    "curl -gsSv -H 'Host: {site}' -H 'Expect: 100-continue' --expect100-timeout 20 \
                     -T {} http://{host}/upload/{family}-expect 2>&1",
                    file.display()
                ),
            );
            assert!(seen.contains("< HTTP/1.1 100 Continue"), "{seen}");
            assert!(seen.contains("< HTTP/1.1 201"), "{seen}");
        });
        c.check(&format!("ping, {family}"), || {
            let to = host.trim_matches(['[', ']']);
            let seen = lab.ask(20, &format!("ping -c 5 -i 0.2 -W 2 {to}"));
            assert!(seen.contains(" 0% packet loss"), "{seen}");
        });
        c.check(&format!("a closed port refuses, {family}"), || {
            // Nobody's answer would be a timeout.
            let refused =
                lab.connect(format!("{host}:81").parse().expect("an address")).expect_err("refused");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        });
    }

    c.check("several segments leave as one frame, and no checksum is wrong", || {
        let stats = edge.stats();
        let (segments, frames) = (count(&stats, "tcp.segments_out"), count(&stats, "tx.sent"));
        assert!(frames < segments, "{segments} segments, {frames} frames");
        for namespace in [lab.client(), lab.origin()] {
            let wrong =
                lab.sh_in(&namespace, 20, "awk '/^Tcp:/ {wrong = $NF} END {print wrong}' /proc/net/snmp");
            assert_eq!(text(&wrong).trim(), "0", "{namespace}: InCsumErrors");
        }
    });
    c.check("our frames, and no socket of the kernel's", || {
        let mac = edge.stats()["node"]["ports"][0]["mac"].as_str().expect("a MAC").to_owned();
        let mut dump = Command::new("timeout")
            .args(["20", "ip", "netns", "exec", &lab.client(), "tcpdump", "-nel", "-i", "eth0", "-c", "3"])
            .arg("tcp src port 80")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump");
        // It says when it listens.
        let mut err = dump.stderr.take().expect("piped");
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("listening on") {
            let mut b = [0];
            assert_eq!(err.read(&mut b).expect("tcpdump"), 1, "{}", String::from_utf8_lossy(&said));
            said.push(b[0]);
        }
        lab.ask(20, &format!("curl -fsS -o /dev/null http://{EDGE_V4}/1k"));
        let out = dump.wait_with_output().expect("tcpdump");
        let frames = text(&out);
        assert_eq!(
            frames.lines().filter(|l| l.contains(&format!(" {mac} > "))).count(),
            3,
            "{mac}: {frames}"
        );
        let sockets = lab.sh_in(&lab.net(), 10, "ss -Htuan");
        assert!(sockets.status.success() && sockets.stdout.is_empty(), "{}", text(&sockets));
    });

    c.check("10,000 short connections", || {
        let to: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
        let began = Instant::now();
        crate::lab::enter(&lab.client(), || {
            for n in 0..SHORT_CONNECTIONS {
                let mut s = std::net::TcpStream::connect_timeout(&to, PATIENCE).expect("taken");
                s.set_read_timeout(Some(PATIENCE)).expect("set");
                s.write_all(b"GET /1k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
                let (answer, end) = read_all(s);
                end.unwrap_or_else(|e| panic!("connection {n}: {e}"));
                assert!(answer.starts_with(b"HTTP/1.1 200 "), "connection {n}");
                let body = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
                assert_eq!(answer.len() - body, 1024, "connection {n}");
            }
        });
        eprintln!(
            "       {:.0} connections a second",
            SHORT_CONNECTIONS as f64 / began.elapsed().as_secs_f64()
        );
    });

    c.check("wrk -c 256", || {
        let seconds = load_seconds();
        let seen = lab.ask(seconds + 30, &format!("wrk -t 2 -c 256 -d {seconds}s http://{EDGE_V4}/1k"));
        eprintln!("       {}", seen.lines().last().unwrap_or_default());
        assert!(!seen.contains("Socket errors") && !seen.contains("Non-2xx"), "{seen}");
        assert!(seen.contains(" requests in "), "{seen}");
    });

    c.check("both laws, exactly", || {
        let s = edge.at_rest();
        eprintln!("       {}", s["conservation"]);
        for name in
            ["http.aborted", "origin.bad_response", "origin.closed_early", "http.rejected", "tcp.no_header"]
        {
            assert_eq!(crate::lab::count(&s, name), 0, "{name}");
        }
    });
    drop(edge);
    c.end();
}
