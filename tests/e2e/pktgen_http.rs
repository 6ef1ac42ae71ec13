//! `millrace pktgen http` against nginx over a TAP: what it says it asked is what nginx logged.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::lab::{Checks, Lab, text};

const ON: [&str; 6] = ["--port", "tap:mr0", "--address", "10.80.0.1/24", "--address", "fd80::1/64"];
const ORIGIN: &str = "http://10.80.0.3";

/// Runs it; what it says, and whether it found all well.
fn pktgen(lab: &Lab, url: &str, options: &str) -> (Value, bool) {
    let mut args = vec!["pktgen", "http", url];
    args.extend(ON);
    args.extend(options.split_whitespace());
    args.push("--json");
    let out = lab.millrace(&args);
    let json =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", text(&out)));
    (json, out.status.success())
}

fn n(v: &Value, path: &str) -> u64 {
    v.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {v}"))
}

fn us(v: &Value, path: &str) -> f64 {
    v.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {v}"))
}

/// What nginx has logged since the last time; it writes a line when a response has been sent.
struct Log<'a> {
    lab: &'a Lab,
    seen: usize,
}

impl Log<'_> {
    fn new(lab: &Lab) -> Log<'_> {
        let mut log = Log { lab, seen: 0 };
        log.lines();
        log
    }

    fn lines(&mut self) -> Vec<String> {
        let all = fs::read_to_string(self.lab.dir().join("access.log")).expect("the access log");
        let new = all.lines().skip(self.seen).map(str::to_owned).collect();
        self.seen = all.lines().count();
        new
    }
}

#[test]
fn pktgen_http_and_nginx_agree() {
    let Some(lab) = Lab::up("pktgen_http::pktgen_http_and_nginx_agree", 'h', false) else { return };
    let mut checks = Checks::new();
    let sums = fs::read_to_string(lab.dir().join("www/SHA256SUMS")).expect("the sums");
    let sum_of = |file: &str| {
        let line = sums.lines().find(|l| l.ends_with(&format!("  {file}"))).expect("a sum");
        line[..64].to_owned()
    };

    checks.check("pktgen http: a closed loop, request by request", || {
        let mut log = Log::new(&lab);
        let options = format!("-c 20 -n 2000 -H X-Load:1 --host load.lab --sha256 {}", sum_of("1k"));
        let (r, good) = pktgen(&lab, &format!("{ORIGIN}/1k"), &options);
        assert!(good, "{r}");
        assert_eq!((n(&r, "/requests"), n(&r, "/responses"), n(&r, "/errors")), (2000, 2000, 0), "{r}");
        assert_eq!((n(&r, "/status/2xx"), n(&r, "/body_bytes")), (2000, 2000 * 1024), "{r}");
        assert_eq!(n(&r, "/connects"), 20);
        let lines = log.lines();
        assert_eq!(lines.len(), 2000);
        assert!(
            lines.iter().all(|l| l.contains("\"GET /1k HTTP/1.1\" 200") && l.contains("host=\"load.lab\""))
        );
        let sent = |l: &String| {
            let (_, rest) = l.split_once("sent=").expect("bytes");
            rest.split(' ').next().and_then(|b| b.parse::<u64>().ok()).expect("a number")
        };
        assert_eq!(lines.iter().map(sent).sum::<u64>(), n(&r, "/bytes"), "heads and all");
        let (p50, max) = (us(&r, "/latency_us/p50"), us(&r, "/latency_us/max"));
        assert!(p50 > 0.0 && max >= us(&r, "/latency_us/p99.99") && us(&r, "/latency_us/p99") >= p50, "{r}");
        let buckets = r["histogram_us"].as_array().expect("buckets");
        assert_eq!(buckets.iter().map(|b| b[1].as_u64().expect("a count")).sum::<u64>(), 2000);
    });

    checks.check("pktgen http: an open loop, each arrival answered", || {
        let mut log = Log::new(&lab);
        let hdr = lab.dir().join("http.hgrm");
        let options =
            format!("-c 8 --rate 1k --arrival poisson -d 1s --seed 3 --verify --hdr {}", hdr.display());
        let (r, good) = pktgen(&lab, &format!("{ORIGIN}/1k"), &options);
        assert!(good, "{r}");
        let arrivals = n(&r, "/arrivals");
        assert!((850..1150).contains(&arrivals), "{r}");
        assert_eq!((n(&r, "/responses"), n(&r, "/shed"), n(&r, "/unsent")), (arrivals, 0, 0), "{r}");
        assert_eq!(log.lines().len() as u64, arrivals);
        let file = fs::read_to_string(&hdr).expect("the file");
        assert!(file.contains(&format!("Total count    = {arrivals:12}]")), "{file}");
    });

    checks.check("pktgen http: a connection for each request, from many addresses", || {
        let mut log = Log::new(&lab);
        let (r, good) =
            pktgen(&lab, &format!("{ORIGIN}/1"), "-c 10 -n 500 --close --sources 10.80.0.100-10.80.0.119");
        assert!(good, "{r}");
        assert_eq!((n(&r, "/responses"), n(&r, "/connects"), n(&r, "/failed")), (500, 500, 0), "{r}");
        let lines = log.lines();
        assert_eq!(lines.len(), 500);
        for i in 100..120 {
            let from = format!(" 10.80.0.{i}:");
            assert_eq!(lines.iter().filter(|l| l.contains(&from)).count(), 25, "{from}");
        }
        let firsts = lines.iter().filter(|l| l.contains("connection=") && l.contains("/1 host"));
        assert_eq!(firsts.count(), 500, "the first request of each connection");
    });

    checks.check("pktgen http: a mix, over IPv6, pipelined; nothing is repeated", || {
        let mut log = Log::new(&lab);
        let mix = lab.dir().join("mix.toml");
        let body = format!(
            "[[request]]\npath = \"/1k\"\nweight = 3\nsha256 = \"{}\"\nstatus = 200\n\
             [[request]]\npath = \"/nowhere\"\nstatus = 404\n\
             [[request]]\npath = \"/1m\"\nmethod = \"HEAD\"\nheaders = [\"A: b\"]\n",
            sum_of("1k")
        );
        fs::write(&mix, body).expect("written");
        let options = format!("-c 4 -n 1000 --pipeline 4 --mix {}", mix.display());
        let (r, good) = pktgen(&lab, "http://[fd80::3]/", &options);
        assert!(good, "{r}");
        assert_eq!((n(&r, "/responses"), n(&r, "/errors"), n(&r, "/resent")), (1000, 0, 0), "{r}");
        let lines = log.lines();
        let logged = |what: &str| lines.iter().filter(|l| l.contains(what)).count() as u64;
        assert_eq!(logged("fd80::1"), 1000);
        assert_eq!(logged("\"GET /nowhere HTTP/1.1\" 404"), n(&r, "/status/4xx"));
        assert_eq!(logged(" 200 "), n(&r, "/status/2xx"));
        let (often, head) = (logged("\"GET /1k "), logged("\"HEAD /1m "));
        assert!((500..700).contains(&often) && (150..260).contains(&head), "{often} {head}");
    });

    checks.check("pktgen http: a wrong hash and a wrong status are errors", || {
        let (r, good) =
            pktgen(&lab, &format!("{ORIGIN}/1"), &format!("-c 2 -n 50 --sha256 {}", sum_of("1k")));
        assert!(!good, "{r}");
        assert_eq!((n(&r, "/errors_by/wrong_body"), n(&r, "/responses")), (50, 50), "{r}");
    });

    checks.check("pktgen http: a server that stalls is seen in an open loop", || {
        let over = AtomicBool::new(false);
        let listener = lab.listen("10.80.0.3:8081".parse().expect("an address"));
        listener.set_nonblocking(true).expect("a socket");
        let r = std::thread::scope(|s| {
            s.spawn(|| stalling(&listener, &over));
            let (r, _) = pktgen(&lab, "http://10.80.0.3:8081/", "-c 4 --rate 200 -d 2s --linger 5s");
            over.store(true, Ordering::Relaxed);
            r
        });
        assert_eq!((n(&r, "/arrivals"), n(&r, "/responses"), n(&r, "/failed")), (400, 400, 0), "{r}");
        // Twice in the run it does nothing for 200 ms, in each of which 40 requests are due: some waits are all of it,
        // and more requests wait than there are connections.
        assert!(us(&r, "/latency_us/max") >= 150_000.0, "{r}");
        assert!(us(&r, "/latency_us/p90") >= 20_000.0, "{r}");
        assert!(n(&r, "/late") >= 20, "{r}");
    });

    checks.check("pktgen http: what cannot be done says why", || {
        let run = |args: &[&str]| {
            let out = lab.millrace(&[&["pktgen", "http"], args, &ON[..]].concat());
            (out.status.code(), text(&out))
        };
        let (code, said) = run(&["http://10.80.0.3:81/"]);
        assert!(code == Some(1) && said.contains("10.80.0.3:81 refuses connections"), "{said}");
        let (code, said) = run(&["http://192.0.2.1/"]);
        assert!(code == Some(1) && said.contains("add --gateway"), "{said}");
        let (code, said) = run(&["http://10.80.0.99/"]);
        assert!(code == Some(1) && said.contains("nobody answers towards 10.80.0.99"), "{said}");
        let (code, said) = run(&["ftp://10.80.0.3/"]);
        assert!(code == Some(2) && said.contains("is no http URL"), "{said}");
        let bad = lab.dir().join("bad.toml");
        fs::write(&bad, "[[request]]\npath = \"/\"\nwieght = 2\n").expect("written");
        let (code, said) = run(&["http://10.80.0.3/", "--mix", &bad.display().to_string()]);
        assert!(
            code == Some(2) && said.contains("bad.toml:3:") && said.contains("did you mean \"weight\""),
            "{said}"
        );
    });
    checks.end();
}

/// Answers requests, one thread for all connections, and stands still for 200 ms of each second.
fn stalling(listener: &std::net::TcpListener, over: &AtomicBool) {
    let mut open = Vec::new();
    let began = std::time::Instant::now();
    let mut stalls = 0;
    while !over.load(Ordering::Relaxed) {
        if let Ok((c, _)) = listener.accept() {
            c.set_nonblocking(true).expect("a socket");
            c.set_nodelay(true).expect("a socket");
            open.push((c, 0usize));
        }
        for (c, seen) in &mut open {
            let mut buf = [0; 4096];
            let Ok(len) = c.read(&mut buf) else { continue };
            for b in &buf[..len] {
                *seen = if *b == b"\r\n\r\n"[*seen] { *seen + 1 } else { usize::from(*b == b'\r') };
                if *seen == 4 {
                    *seen = 0;
                    // A few bytes always find room.
                    let _ = c.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            }
        }
        if began.elapsed() > Duration::from_millis(500) * (2 * stalls + 1) {
            stalls += 1;
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
