//! What an operator does with a running node: looks at it, and ends it.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Client, End};
use crate::lab::{Checks, EDGE_V4, Edge, Lab, NGINX, PATIENCE, config, count, load_seconds, text};
use crate::script;

const SECTIONS: &[(&str, &str, &str)] = &[
    // Name, a word of the text, a key of the JSON.
    ("node", "pid", "node"),
    ("stages", "cycles/pkt", "stages"),
    ("law", "tx built", "conservation"),
    ("drops", "drop", "drops"),
    ("tcp", "tcp.passive_opens", "counters"),
    ("http", "http.responses_2xx", "http"),
    ("latency", "p99.9", "latency"),
    ("all", "http.responses_2xx", "counters"),
];

#[test]
fn stats() {
    let Some(lab) = Lab::up("stats", 's', true) else { return };
    let mut c = Checks::new();
    let edge = lab.edge(&config(NGINX));
    let names = ["http.requests", "http.responses_2xx", "http.completed"];

    c.check("the sums agree with what wrk counted", || {
        let (seconds, open) = (load_seconds(), 64);
        let before = edge.stats();
        let seen = lab.ask(seconds + 30, &format!("wrk -t 2 -c {open} -d {seconds}s http://{EDGE_V4}/1k"));
        assert!(!seen.contains("Socket errors") && !seen.contains("Non-2xx"), "{seen}");
        let line = seen.lines().find(|l| l.contains(" requests in ")).expect("wrk's sum");
        let wrk: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
        let after = edge.at_rest();
        for name in names {
            let ours = count(&after, name) - count(&before, name);
            eprintln!("       wrk {wrk}, {name} {ours}");
            assert!((wrk..=wrk + open).contains(&ours), "{name}: {ours}, wrk {wrk}");
        }
        let connections = count(&after, "http.connections") - count(&before, "http.connections");
        assert!((open..=2 * open).contains(&connections), "{connections} connections");
        let sum: u64 =
            ["http.responses_2xx", "http.responses_3xx", "http.responses_4xx", "http.responses_5xx"]
                .iter()
                .map(|n| count(&after, n))
                .sum();
        let requests = count(&after, "http.requests");
        assert!(sum <= requests && requests <= sum + open, "{sum} answers to {requests} requests");
        assert_eq!(after["latency"]["last_byte"]["count"], after["counters"]["http.completed"]);
    });

    c.check("every section, as text and as JSON", || {
        for (name, word, key) in SECTIONS {
            let out = edge.cli(&[name]);
            assert_eq!(out.status.code(), Some(0), "{name}");
            assert!(text(&out).contains(word), "{name}: {}", text(&out));
            let out = edge.cli(&[name, "--json"]);
            assert_eq!(out.status.code(), Some(0), "{name}");
            let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
            assert!(!json[key].is_null(), "{name}: {json}");
        }
        let whole = edge.cli(&[]);
        for word in ["stage", "law ", "http ", "tcp ", "latency", "node e2e  running"] {
            assert!(text(&whole).contains(word), "no {word:?}: {}", text(&whole));
        }
        let out = edge.cli(&["weather"]);
        assert_eq!(out.status.code(), Some(2));
        assert!(text(&out).contains("latency"), "it names those that there are: {}", text(&out));
    });

    c.check("which node", || {
        let out = edge.cli(&["--node", "nosuch"]);
        assert_eq!(out.status.code(), Some(3), "{}", text(&out));
        assert_eq!(edge.cli(&["--node", "e2e", "law"]).status.code(), Some(0));
        let other = lab.edge_named(
            "other",
            &config(NGINX)
                .replace("\"e2e\"", "\"other\"")
                .replace("mr0", "mr1")
                .replace("10.80.", "10.81.")
                .replace("fd80:", "fd81:"),
        );
        let out = edge.cli(&["law"]);
        assert_eq!(out.status.code(), Some(2));
        assert!(text(&out).contains("e2e") && text(&out).contains("other"), "{}", text(&out));
        assert_eq!(edge.cli(&["--node", "e2e"]).status.code(), Some(0));
        assert!(text(&edge.cli(&["--node", "other", "node"])).contains("node other"));
        drop(other);
        // Killed: it is not a node that runs any more.
        assert_eq!(edge.cli(&["law"]).status.code(), Some(0));
        assert_eq!(edge.cli(&["--node", "other"]).status.code(), Some(3));
    });

    c.check("--watch, until the node ends", || {
        let mut edge = edge;
        let watch = |json: bool| {
            let mut command = edge.command(if json { &["http", "--watch", "--json"] } else { &["--watch"] });
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("millrace")
        };
        let (text_watch, json_watch) = (watch(false), watch(true));
        thread::sleep(Duration::from_millis(2500));
        edge.term();
        assert_eq!(edge.wait(PATIENCE).and_then(|s| s.code()), Some(0), "{}", edge.log());
        let text_out = text_watch.wait_with_output().expect("ended");
        let json_out = json_watch.wait_with_output().expect("ended");
        assert_eq!((text_out.status.code(), json_out.status.code()), (Some(3), Some(3)));
        assert!(text(&text_out).matches("latency, µs").count() >= 2, "{}", text(&text_out));
        assert!(text(&text_out).contains("/s)"), "rates: {}", text(&text_out));
        let lines = String::from_utf8(json_out.stdout).expect("UTF-8");
        assert!(lines.lines().count() >= 2);
        for line in lines.lines() {
            assert!(
                serde_json::from_str::<serde_json::Value>(line).expect("JSON")["http"]["requests"].is_u64()
            );
        }
        let out = edge.cli(&[]);
        assert_eq!(out.status.code(), Some(3), "no node runs: {}", text(&out));
    });
    c.end();
}

fn address() -> SocketAddr {
    format!("{EDGE_V4}:80").parse().expect("an address")
}

/// Waits until the node refuses new connections: it has seen the signal.
fn wait_until_it_refuses(lab: &Lab) {
    let until = Instant::now() + PATIENCE;
    while lab.connect(address()).is_ok() {
        assert!(Instant::now() < until, "it takes connections still");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lab.connect(address()).expect_err("refused").kind(), std::io::ErrorKind::ConnectionRefused);
}

fn ended_well(edge: &mut Edge, limit: Duration) {
    let status = edge.wait(limit).unwrap_or_else(|| panic!("it runs still: {}", edge.log()));
    assert_eq!(status.code(), Some(0), "{status}: {}", edge.log());
}

#[test]
fn drain() {
    let Some(lab) = Lab::up("drain", 'd', true) else { return };
    let _seen = script::start(&lab);
    let sites = format!("[[site]]\nhosts = \"script.lab\"\norigin = \"http://10.80.0.3:9000\"\n{NGINX}");
    let mut c = Checks::new();

    c.check("SIGTERM finishes what is under way", || {
        let mut edge = lab.edge(&config(&sites));
        let mut download = Command::new("timeout")
            .args(["60", "ip", "netns", "exec", &lab.client(), "bash", "-c"])
            .arg(format!("set -o pipefail; curl -fsS --limit-rate 60M http://{EDGE_V4}/200m | sha256sum"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl");
        let mut idle = Client::new(lab.connect(address()).expect("taken"));
        idle.send("GET /1k HTTP/1.1\r\nHost: any.lab\r\n\r\n").expect("sent");
        assert_eq!(idle.answer("GET").whole(), 200);
        let mut busy = Client::new(lab.connect(address()).expect("taken"));
        busy.send("POST /slow-echo HTTP/1.1\r\nHost: script.lab\r\nContent-Length: 5\r\n\r\nhello")
            .expect("sent");
        let until = Instant::now() + PATIENCE;
        while edge.counter("http.requests_active") < 2 {
            assert!(Instant::now() < until, "two requests under way");
            thread::sleep(Duration::from_millis(10));
        }
        edge.term();
        assert_eq!(idle.end(), (Vec::new(), End::CutShort), "an idle connection is closed in order");
        wait_until_it_refuses(&lab);
        let a = busy.answer("POST");
        assert_eq!((a.whole(), &a.body[..]), (200, &b"hello"[..]));
        assert_eq!(a.header("Connection").map(str::to_lowercase).as_deref(), Some("close"), "{}", a.head);
        assert_eq!(busy.end(), (Vec::new(), End::CutShort));
        // The download is still under way: the node lives, and says what it does.
        assert_eq!(edge.stats()["node"]["state"], "draining");
        let mut sum = String::new();
        download.stdout.take().expect("piped").read_to_string(&mut sum).expect("curl");
        assert!(download.wait().expect("curl").success(), "the download was cut off");
        let sums = std::fs::read_to_string(lab.dir().join("www/SHA256SUMS")).expect("sums");
        assert!(sums.contains(&format!("{}  200m", sum.split_whitespace().next().unwrap_or("?"))), "{sum}");
        ended_well(&mut edge, Duration::from_secs(20));
    });

    c.check("nothing under way: it ends at once", || {
        let mut edge = lab.edge(&config(&sites).replace("drain = \"20s\"", "drain = \"60s\""));
        // Neither a client that has nothing to ask, nor one that does not close when it is told to, is waited for.
        let mut idle = Client::new(lab.connect(address()).expect("taken"));
        idle.send("GET /1k HTTP/1.1\r\nHost: any.lab\r\n\r\n").expect("sent");
        assert_eq!(idle.answer("GET").whole(), 200);
        let _silent = lab.connect(address()).expect("taken");
        edge.wait_for("http.connections_open", 2);
        let began = Instant::now();
        edge.term();
        ended_well(&mut edge, PATIENCE);
        assert!(edge.log().contains("stopped\""), "{}", edge.log());
        assert!(began.elapsed() < Duration::from_secs(10), "after {:?}", began.elapsed());
    });

    c.check("under load", || {
        let mut edge = lab.edge(&config(&sites));
        let load = Command::new("timeout")
            .args(["30", "ip", "netns", "exec", &lab.client(), "wrk", "-t", "1", "-c", "64", "-d", "2s"])
            .arg(format!("http://{EDGE_V4}/1k"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("wrk");
        thread::sleep(Duration::from_millis(700));
        edge.term();
        ended_well(&mut edge, Duration::from_secs(20));
        let seen = text(&load.wait_with_output().expect("wrk"));
        // Those that come later are refused, a request may cross our FIN; but no answer is an error.
        assert!(!seen.contains("Non-2xx"), "{seen}");
        if let Some(errors) = seen.lines().find(|l| l.contains("Socket errors")) {
            eprintln!("       {}", errors.trim());
            assert!(errors.contains("timeout 0"), "{seen}");
        }
    });

    c.check("a second SIGTERM ends it at once, and so does the limit", || {
        for (signals, limit) in [(2, "60s"), (1, "1s")] {
            let mut edge =
                lab.edge(&config(&sites).replace("drain = \"20s\"", &format!("drain = \"{limit}\"")));
            let mut stuck = Client::new(lab.connect(address()).expect("taken"));
            stuck.send("GET /hang-body HTTP/1.1\r\nHost: script.lab\r\n\r\n").expect("sent");
            let (_, end) = stuck.take(20);
            end.expect("the answer begins");
            edge.term();
            wait_until_it_refuses(&lab);
            if signals == 2 {
                assert!(edge.ended().is_none(), "it waits for the one that is under way");
                edge.term();
            }
            ended_well(&mut edge, PATIENCE);
            assert!(edge.log().contains("stopped with 1 connections open"), "{}", edge.log());
        }
    });
    c.end();
}
