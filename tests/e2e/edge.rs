//! What the edge says of its clients: to its log, to origins, and with pages of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use l7::http1::{Parsed, SliceSink};
use l7::phases::proxy_protocol::{ProxyHeader, parse, write_v2};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{Client, End};
use crate::lab::{Checks, EDGE_V4, EDGE_V6, Edge, Lab, NGINX, PATIENCE, config};
use crate::script;

fn client(lab: &Lab, ip: &str) -> Client {
    let ip = ip.parse().expect("an address");
    Client::new(lab.connect(SocketAddr::new(ip, 80)).expect("taken"))
}

/// The status of the answer to a request on a connection of its own.
fn ask(lab: &Lab, request: &str) -> u16 {
    let mut c = client(lab, EDGE_V4);
    c.send(request).expect("sent");
    c.answer(request.split(' ').next().unwrap_or_default()).status
}

fn get(host: &str, target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: e2e \"quoted\"\r\nReferer: http://r/\r\n\r\n"
    )
}

/// The lines of a log, when there are so many.
fn lines(file: &Path, n: usize) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= n && text.ends_with('\n') {
            assert_eq!(lines.len(), n, "{text}");
            return lines;
        }
        assert!(Instant::now() < until, "{} of {n} lines: {text}", lines.len());
        thread::sleep(Duration::from_millis(20));
    }
}

fn hang_up(edge: &Edge) {
    kill_process(Pid::from_raw(edge.pid() as i32).expect("a pid"), Signal::HUP).expect("a living node");
}

#[test]
fn access_log_and_error_pages() {
    let Some(lab) = Lab::up("access_log_and_error_pages", 'a', false) else { return };
    let _seen = script::start(&lab);
    let mut c = Checks::new();
    let file = lab.dir().join("requests.log");
    let large = "sorry ".repeat(10_000);
    fs::write(lab.dir().join("502.html"), &large).expect("written");
    fs::write(lab.dir().join("4xx.json"), "{\"own\":true}").expect("written");
    let sites = format!(
        "[cache]\nmemory = \"16MiB\"\n\
         [[site]]\nhosts = \"script.lab\"\norigin = \"http://10.80.0.3:9000\"\n\
         [[site]]\nhosts = \"quiet.lab\"\norigin = \"http://10.80.0.3:80\"\naccess_log = false\n\
         [[site]]\nhosts = \"dead.lab\"\norigin = \"http://10.80.0.3:1\"\n\
         error_pages = {{ 502 = \"502.html\", 4xx = \"4xx.json\" }}\n\
         [[site]]\nhosts = \"cached.lab\"\norigin = \"http://10.80.0.3:80\"\ncache = {{ default_ttl = \"1h\" }}\n\
         {NGINX}[log]\naccess = \"{}\"\n",
        file.display()
    );
    let mut edge = lab.edge(&config(&sites));
    // By what a request's target was: the order of lines is that in which requests end.
    let by_target = |all: &[String]| -> Vec<Value> {
        all.iter().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    };

    c.check("lines of JSON", || {
        assert_eq!(ask(&lab, &get("cached.lab", "/1k?a")), 200);
        lines(&file, 1);
        assert_eq!(ask(&lab, &get("cached.lab", "/1k?a")), 200);
        lines(&file, 2);
        assert_eq!(ask(&lab, &get("plain.lab", "/nothing\u{1}")), 400);
        lines(&file, 3);
        assert_eq!(ask(&lab, &get("plain.lab", "/no-such-file")), 404);
        lines(&file, 4);
        assert_eq!(ask(&lab, &get("script.lab", "/cut-length")), 200);
        lines(&file, 5);
        assert_eq!(ask(&lab, &get("quiet.lab", "/1k")), 200);
        let all = by_target(&lines(&file, 5));
        for (line, (status, cache, bytes)) in all.iter().zip([
            (200, "MISS", Some(1024)),
            (200, "HIT", Some(1024)),
            (400, "", None),
            (404, "", None),
            (200, "", None),
        ]) {
            assert_eq!((&line["status"], &line["cache"]), (&status.into(), &cache.into()), "{line}");
            assert!(bytes.is_none_or(|n: u64| line["body_bytes"] == n), "{line}");
            assert_eq!(line["client"], "10.80.0.2", "{line}");
        }
        let (miss, hit, cut) = (&all[0], &all[1], &all[4]);
        for (key, value) in [
            ("method", "GET"),
            ("host", "cached.lab"),
            ("target", "/1k?a"),
            ("version", "HTTP/1.1"),
            ("referer", "http://r/"),
            ("user_agent", "e2e \"quoted\""),
            ("origin", "10.80.0.3:80"),
        ] {
            assert_eq!(miss[key], value, "{key}: {miss}");
        }
        for key in ["wait_us", "connect_us", "origin_first_byte_us", "first_byte_us", "last_byte_us"] {
            assert!(miss[key].is_u64(), "{key}: {miss}");
        }
        assert!(hit["origin"].is_null() && hit["wait_us"].is_null() && hit["last_byte_us"].is_u64(), "{hit}");
        // Broken off: no last byte.
        assert!(cut["last_byte_us"].is_null() && cut["first_byte_us"].is_u64(), "{cut}");
        assert!(cut["body_bytes"].as_u64().is_some_and(|n| n <= 50_000), "{cut}");
        assert_ne!(miss["id"], hit["id"]);
    });

    c.check("error pages", || {
        let mut a = client(&lab, EDGE_V4);
        a.send(get("dead.lab", "/")).expect("sent");
        let answer = a.answer("GET");
        assert_eq!(answer.whole(), 502);
        assert!(answer.body == large.as_bytes(), "{} bytes", answer.body.len());
        assert_eq!(answer.header("Content-Type"), Some("text/html; charset=utf-8"));
        a.send("HEAD / HTTP/1.1\r\nHost: dead.lab\r\n\r\n").expect("sent");
        let answer = a.answer("HEAD");
        assert_eq!((answer.whole(), answer.header("Content-Length")), (502, Some("60000")));
        a.send("OPTIONS / HTTP/1.1\r\nHost: script.lab\r\nMax-Forwards: 0\r\n\r\n").expect("sent");
        let answer = a.answer("OPTIONS");
        assert!(answer.whole() == 501 && answer.body.starts_with(b"<!doctype html>"), "no page: our own");
        let all = by_target(&lines(&file, 8));
        assert_eq!((&all[5]["status"], &all[5]["body_bytes"]), (&502.into(), &60_000.into()));
        assert_eq!((&all[6]["status"], &all[6]["body_bytes"]), (&502.into(), &0.into()));
        assert_eq!((&all[5]["origin"], &all[6]["method"]), (&"10.80.0.3:1".into(), &"HEAD".into()));
    });

    c.check("a renamed log is let go of, and the format may change", || {
        let old = lab.dir().join("requests.log.1");
        fs::rename(&file, &old).expect("renamed");
        fs::write(lab.dir().join("e2e.toml"), config(&format!("{sites}access_format = \"text\"\n")))
            .expect("written");
        hang_up(&edge);
        let until = Instant::now() + PATIENCE;
        while !file.exists() || !edge.log().contains("the new config is in force") {
            assert!(Instant::now() < until, "{}", edge.log());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(ask(&lab, &get("cached.lab", "/1k?a")), 200);
        let all = lines(&file, 1);
        assert!(
            all[0].starts_with("10.80.0.2 - - [")
                && all[0].contains("\"GET /1k?a HTTP/1.1\" 200 1024 \"http://r/\" ")
                && all[0].contains("\"e2e \\\"quoted\\\"\" \"cached.lab\" HIT - wait=- "),
            "{}",
            all[0]
        );
        lines(&old, 8);
        assert_eq!((edge.counter("log.lines"), edge.counter("log.dropped")), (9, 0));
    });

    c.check("what is under way at the end is logged", || {
        let mut idle = client(&lab, EDGE_V4);
        idle.send(get("plain.lab", "/1k?last")).expect("sent");
        assert_eq!(idle.answer("GET").whole(), 200);
        edge.term();
        assert_eq!(edge.wait(PATIENCE).and_then(|s| s.code()), Some(0), "{}", edge.log());
        assert!(lines(&file, 2)[1].contains("/1k?last"));
    });
    c.end();
}

/// An origin that answers with what its connection began with.
fn start_announced(lab: &Lab) {
    let listener = lab.listen("10.80.0.3:9020".parse().expect("an address"));
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || -> std::io::Result<()> {
                let mut seen = Vec::new();
                let mut announced = None;
                loop {
                    let mut buf = [0; 4096];
                    let n = socket.read(&mut buf)?;
                    if n == 0 {
                        return Ok(());
                    }
                    seen.extend_from_slice(&buf[..n]);
                    if announced.is_none()
                        && let Ok(Parsed::Complete(header, n)) = parse(&seen)
                    {
                        announced = Some((header, seen[0]));
                        seen.drain(..n);
                    }
                    while let Some(at) =
                        seen.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| announced.is_some())
                    {
                        seen.drain(..at + 4);
                        let body = format!("{announced:?}");
                        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
                    }
                }
            });
        }
    });
}

#[test]
fn proxy_protocol() {
    let Some(lab) = Lab::up("proxy_protocol", 'p', false) else { return };
    let seen = script::start(&lab);
    start_announced(&lab);
    let mut c = Checks::new();
    let file = lab.dir().join("requests.log");
    let edge = lab.edge(&config(&format!(
        "proxy_protocol = true\nproxy_protocol_from = [\"10.80.0.2/32\"]\n\
         [[site]]\nhosts = \"script.lab\"\norigin = \"http://10.80.0.3:9000\"\naccess_log = \"{}\"\n\
         [[site]]\nhosts = \"v1.lab\"\norigin = \"http://10.80.0.3:9020\"\norigin_proxy_protocol = \"v1\"\n\
         [[site]]\nhosts = \"v2.lab\"\norigin = \"http://10.80.0.3:9020\"\norigin_proxy_protocol = \"v2\"\n{NGINX}",
        file.display()
    )));
    let forwarded_for = |path: &str| {
        let head = seen.last(path);
        let line = head.lines().find_map(|l| l.strip_prefix("X-Forwarded-For: ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("no X-Forwarded-For: {head}"))
    };
    const V1: &str = "PROXY TCP4 203.0.113.7 198.51.100.1 40000 80\r\n";

    c.check("version 1, in pieces, for every request of the connection", || {
        let mut a = client(&lab, EDGE_V4);
        for piece in [&V1[..9], &V1[9..]] {
            a.send(piece).expect("sent");
            thread::sleep(Duration::from_millis(100));
        }
        for path in ["/first", "/second"] {
            a.send(format!("GET {path} HTTP/1.1\r\nHost: script.lab\r\n\r\n")).expect("sent");
            assert_eq!(a.answer("GET").whole(), 200);
            assert_eq!(forwarded_for(path), "203.0.113.7");
            // The connection is idle before the next one.
            edge.wait_for("http.requests_active", 0);
        }
        let line: Value = serde_json::from_str(&lines(&file, 2)[1]).expect("JSON");
        assert_eq!(line["client"], "203.0.113.7");
    });

    c.check("version 2, with the request in the same segment; one without an address", || {
        let header = ProxyHeader::Proxied {
            source: "[2001:db8::7]:1".parse().expect("an address"),
            destination: "[2001:db8::8]:80".parse().expect("an address"),
        };
        for (path, header, client_is) in
            [("/v2", header, "2001:db8::7"), ("/local", ProxyHeader::Local, "10.80.0.2")]
        {
            let mut room = [0; 64];
            let mut sink = SliceSink::new(&mut room);
            write_v2(&header, &mut sink).expect("room");
            let request = format!("GET {path} HTTP/1.1\r\nHost: script.lab\r\n\r\n");
            let mut a = client(&lab, EDGE_V4);
            a.send([sink.written(), request.as_bytes()].concat()).expect("sent");
            assert_eq!(a.answer("GET").whole(), 200);
            assert_eq!(forwarded_for(path), client_is);
        }
    });

    c.check("malformed or missing: closed; from elsewhere: none is taken", || {
        let request = "GET /bad HTTP/1.1\r\nHost: script.lab\r\n\r\n";
        for (n, start) in ["", "PROXY TCP4 1.2.3.4\r\n", "PROXY TCP9 a b c d\r\n"].iter().enumerate() {
            let mut a = client(&lab, EDGE_V4);
            a.send(format!("{start}{request}")).expect("sent");
            let (got, end) = a.end();
            assert!(got.is_empty() && end != End::Silence, "{start:?}: {got:?} {end:?}");
            edge.wait_for("http.proxy_protocol_bad", n as u64 + 1);
        }
        assert_eq!(seen.count("/bad"), 0);
        let mut a = client(&lab, EDGE_V6);
        a.send("GET /elsewhere HTTP/1.1\r\nHost: script.lab\r\n\r\n").expect("sent");
        assert_eq!(a.answer("GET").whole(), 200);
        assert_eq!(forwarded_for("/elsewhere"), "fd80::2");
        let mut a = client(&lab, EDGE_V6);
        a.send(format!("{V1}{request}")).expect("sent");
        assert_eq!(a.answer("GET").status, 400, "it is no request");
    });

    c.check("to origins, on a connection of each request's own", || {
        let mut a = client(&lab, EDGE_V4);
        a.send(V1).expect("sent");
        for (host, first) in [("v1.lab", b'P'), ("v2.lab", b'\r'), ("v1.lab", b'P')] {
            a.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect("sent");
            let answer = a.answer("GET");
            assert_eq!(answer.whole(), 200);
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let want = format!("source: 203.0.113.7:40000, destination: {EDGE_V4}:80 }}, {first}");
            assert!(text.contains(&want), "{text}");
        }
    });
    c.check("everything is given back", || {
        edge.at_rest();
    });
    c.end();
}
