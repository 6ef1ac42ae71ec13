//! Reloads under load, and purges, as an operator asks for them: nobody's request fails, and what is purged is fetched
//! anew while everything else is served on.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::http::{Answer, Client};
use crate::lab::{Checks, EDGE_V4, Edge, Lab, config, text};

const RELOADS: usize = 100;
const ORIGIN: &str = "10.80.0.3:9030";

/// Requests that the origin has had, by host and path.
type Count = Arc<Mutex<HashMap<String, usize>>>;

/// An origin that numbers its answers to each URL, and gives it the tags of its query. It ends with the process.
fn origin(lab: &Lab) -> Count {
    let (listener, count) = (lab.listen(ORIGIN.parse().expect("an address")), Count::default());
    let all = Arc::clone(&count);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let count = Arc::clone(&count);
            // Whatever fails here, the client's side of the node is what is judged.
            thread::spawn(move || drop(serve(socket, &count)));
        }
    });
    all
}

fn serve(mut to: TcpStream, count: &Count) -> std::io::Result<()> {
    to.set_nodelay(true)?;
    let mut from = BufReader::new(to.try_clone()?);
    let (mut url, mut host) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(path) = line.strip_prefix("GET ") {
            url = path.split(' ').next().unwrap_or_default().to_owned();
        } else if line.to_lowercase().starts_with("host:") {
            host = line[5..].trim().to_owned();
        } else if line == "\r\n" {
            let tag = url.split_once("?t=").map_or(String::new(), |(_, t)| format!("Cache-Tag: {t}\r\n"));
            let n = {
                let mut all = count.lock().expect("whole");
                let n = all.entry(format!("{host}{url}")).or_default();
                *n += 1;
                *n
            };
            let body = format!("{host}{url} {n}");
            write!(
                to,
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nETag: \"{n}\"\r\n{tag}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
        }
    }
}

fn address() -> SocketAddr {
    format!("{EDGE_V4}:80").parse().expect("an address")
}

fn ask(lab: &Lab, host: &str, path: &str) -> Answer {
    let mut client = Client::new(lab.connect(address()).expect("taken"));
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect("sent");
    client.answer("GET")
}

fn sites(n: usize) -> String {
    let (fresh, query) = [("5m", "all"), ("1m", "none")][n % 2];
    config(&format!(
        "[cache]\nmemory = \"16MiB\"\n\
         [[site]]\nhosts = \"*\"\norigin = \"http://{ORIGIN}\"\n\
         cache = {{ default_ttl = \"{fresh}\", tags = [\"Cache-Tag\"], key = {{ query = \"{query}\" }} }}\n\
         response_headers = {{ set = {{ X-Config = \"{n}\" }} }}\n\
         [[site.route]]\npath = \"/direct/\"\ncache = false\n",
    ))
}

#[test]
fn reloads_under_load() {
    let Some(lab) = Lab::up("reloads_under_load", 'r', true) else { return };
    let mut c = Checks::new();
    let _count = origin(&lab);
    let edge = lab.edge(&sites(0));
    let file = lab.dir().join("e2e.toml");

    c.check("100 reloads, and no request fails", || {
        let (stop, kept, fresh) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let wrk = Command::new("timeout")
            .args(["60", "ip", "netns", "exec", &lab.client(), "wrk", "-t", "1", "-c", "16", "-d", "6s"])
            .arg(format!("http://{EDGE_V4}/wrk"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("wrk");
        thread::scope(|s| {
            for (path, per_connection, n) in [
                ("/kept", 1_000_000, &kept),
                ("/direct/kept", 1_000_000, &kept),
                ("/fresh", 1, &fresh),
                ("/direct/fresh", 3, &fresh),
            ] {
                let (lab, stop) = (&lab, &stop);
                s.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let mut client = Client::new(lab.connect(address()).expect("taken"));
                        for _ in 0..per_connection {
                            client.send(format!("GET {path} HTTP/1.1\r\nHost: a.lab\r\n\r\n")).expect("sent");
                            let a = client.answer("GET");
                            assert_eq!(a.whole(), 200, "{a:?}");
                            assert!(a.body.starts_with(format!("a.lab{path} ").as_bytes()), "{a:?}");
                            assert!(a.header("X-Config").is_some(), "{a:?}");
                            n.fetch_add(1, Ordering::Relaxed);
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                    }
                });
            }
            let reload = |n: usize| {
                fs::write(&file, sites(n)).expect("written");
                let out = lab.millrace(&["reload"]);
                (out.status.code(), text(&out))
            };
            let all: Vec<_> = (1..=RELOADS).map(reload).collect();
            stop.store(true, Ordering::Relaxed);
            for (n, (code, said)) in all.iter().enumerate() {
                assert_eq!(*code, Some(0), "reload {n}: {said}");
                assert!(said.contains("the new config is in force"), "reload {n}: {said}");
            }
        });
        let seen = text(&wrk.wait_with_output().expect("wrk"));
        assert!(!seen.contains("Socket errors") && !seen.contains("Non-2xx"), "{seen}");
        let line = seen.lines().find(|l| l.contains(" requests in ")).expect("wrk's sum");
        let (kept, fresh) = (kept.into_inner(), fresh.into_inner());
        eprintln!("       {kept} kept, {fresh} fresh, wrk {}", line.trim());
        assert!(kept > 100 && fresh > 100);
        assert_eq!(ask(&lab, "a.lab", "/kept").header("X-Config"), Some("100"));
        assert_eq!((edge.counter("http.responses_5xx"), edge.counter("http.aborted")), (0, 0));
    });

    c.check("a bad config is refused whole", || {
        let bad = sites(101).replace("X-Config", "X Config");
        fs::write(&file, &bad).expect("written");
        let line = 1 + bad.lines().position(|l| l.contains("X Config")).expect("it");
        let out = lab.millrace(&["reload"]);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        assert!(text(&out).contains(&format!("{}:{line}: ", file.display())), "{}", text(&out));
        let json = json(&lab.millrace(&["reload", "--json"]));
        assert_eq!(
            (&json["ok"], &json["exit"], &json["errors"][0]["line"]),
            (&false.into(), &1.into(), &line.into())
        );
        for path in ["/kept", "/direct/kept"] {
            let a = ask(&lab, "a.lab", path);
            assert_eq!((a.whole(), a.header("X-Config")), (200, Some("100")));
        }
    });
    edge.at_rest();
    c.end();
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(out)))
}

/// The hosts and URLs that are stored at first.
const STORED: &[(&str, &str)] = &[
    ("a.lab", "/img/1?t=red,small"),
    ("a.lab", "/img/2?t=red"),
    ("a.lab", "/doc/1?t=blue"),
    ("a.lab", "/doc/2"),
    ("b.lab", "/img/1?t=red"),
    ("b.lab", "/doc/1"),
];

/// Asks for everything, and gives the places of those for which the origin was asked.
fn fetched(lab: &Lab, count: &Count) -> Vec<usize> {
    let all = || -> usize { count.lock().expect("whole").values().sum() };
    let is_fetched = |(host, path): &(&str, &str)| {
        let before = all();
        let a = ask(lab, host, path);
        assert_eq!(a.whole(), 200, "{a:?}");
        let n = all() - before;
        let hit = a.header("Cache-Status").is_some_and(|s| s.contains("hit"));
        assert!(n <= 1 && hit == (n == 0), "{n} requests; {a:?}");
        n == 1
    };
    STORED.iter().enumerate().filter(|(_, s)| is_fetched(s)).map(|(i, _)| i).collect()
}

fn purge(lab: &Lab, edge: &Edge, args: &[&str]) -> u64 {
    let out = lab.millrace(&[&["purge", "--node", "e2e", "--json"], args].concat());
    let said = json(&out);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {said}\n{}", edge.log());
    assert_eq!((&said["ok"], &said["exit"]), (&true.into(), &0.into()), "{said}");
    assert!(said["marked_us"].as_u64() <= said["obeyed_us"].as_u64() && said["text"].is_string(), "{said}");
    said["objects"].as_u64().expect("a number")
}

#[test]
fn purges() {
    let Some(lab) = Lab::up("purges", 'g', false) else { return };
    let mut c = Checks::new();
    let count = origin(&lab);
    let edge = lab.edge(&sites(0));
    assert_eq!(fetched(&lab, &count), [0, 1, 2, 3, 4, 5]);
    assert_eq!(fetched(&lab, &count), [0; 0]);

    for (args, gone) in [
        (&["http://a.lab/img/1?t=red,small"][..], &[0][..]),
        (&["http://A.lab/doc/2"], &[3]),
        (&["--tag", "red"], &[0, 1, 4]),
        (&["--tag", "small"], &[0]),
        (&["--prefix", "http://a.lab/img/"], &[0, 1]),
        (&["--host", "b.lab"], &[4, 5]),
        (&["--all"], &[0, 1, 2, 3, 4, 5]),
        (&["--tag", "nobody"], &[]),
        (&["http://a.lab/none"], &[]),
    ] {
        c.check(&args.join(" "), || {
            assert_eq!(purge(&lab, &edge, args), gone.len() as u64);
            assert_eq!(fetched(&lab, &count), gone);
            assert_eq!(fetched(&lab, &count), [0; 0], "stored again");
        });
    }

    c.check("--soft: stale, and asked for again", || {
        for (args, gone) in
            [(&["--soft", "--tag", "red"][..], &[0, 1, 4][..]), (&["--soft", "--all"], &[0, 1, 2, 3, 4, 5])]
        {
            assert_eq!(purge(&lab, &edge, args), gone.len() as u64);
            assert_eq!(fetched(&lab, &count), gone);
            assert_eq!(fetched(&lab, &count), [0; 0]);
        }
    });

    c.check("for a person, and what is no purge", || {
        let out = lab.millrace(&["purge", "--host", "a.lab"]);
        assert_eq!((out.status.code(), text(&out).trim()), (Some(0), "4 objects purged"));
        for (args, code) in [
            (&["purge"][..], 2),
            (&["purge", "--all", "--tag", "x"], 2),
            (&["purge", "ftp://a.lab/"], 2),
            (&["purge", "--all", "--node", "nosuch"], 3),
        ] {
            let out = lab.millrace(args);
            assert_eq!(out.status.code(), Some(code), "{args:?}: {}", text(&out));
        }
        assert_eq!(fetched(&lab, &count), [0, 1, 2, 3]);
    });
    edge.at_rest();
    c.end();
}
