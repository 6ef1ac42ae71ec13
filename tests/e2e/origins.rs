//! Origins that fail in every way we could think of: the client gets 502, 504 or a visibly broken transfer, in time,
//! and the node serves on.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Answer, Client, End};
use crate::lab::{Checks, EDGE_V4, Edge, Lab, config};
use crate::script;

const SITES: &str = r#"
[timeouts]
header = "1500ms"
keep_alive = "20s"

# The same origin with little patience …
[[site]]
hosts = "bad.lab"
origin = "http://10.80.0.3:9000"
timeouts = { connect = "600ms", first_byte = "1s", idle = "1s" }

# … over IPv6 …
[[site]]
hosts = "bad6.lab"
origin = "http://[fd80::3]:9000"
timeouts = { connect = "600ms", first_byte = "1s", idle = "1s" }

# … with a pool of its own, as pools are by address …
[[site]]
hosts = "stale.lab"
origin = "http://10.80.0.3:9010"

# Nothing listens.
[[site]]
hosts = "dead.lab"
origin = "http://10.80.0.3:9009"

# Nobody answers ARP or ND.
[[site]]
hosts = "nobody.lab"
origin = "http://10.80.0.99:80"
timeouts = { connect = "600ms" }

[[site]]
hosts = "nobody6.lab"
origin = "http://[fd80::99]:80"
timeouts = { connect = "600ms" }

# The SYN is not answered.
[[site]]
hosts = "full.lab"
origin = "http://10.80.0.3:9001"
timeouts = { connect = "600ms" }

[[site]]
hosts = "any6.lab"
origin = "http://[fd80::3]:9000"

[[site]]
hosts = "second.lab"
origin = ["http://10.80.0.3:9009", "http://10.80.0.3:9000"]

[[site]]
hosts = "*"
origin = "http://10.80.0.3:9000"
"#;

/// What the client has to see.
enum Want {
    /// This error, whole, from the node.
    Status(u16),
    /// A transfer that nobody takes for whole.
    Broken,
}
use Want::{Broken, Status};

/// Path, what the client sees, and the counter that moves.
const FAILURES: &[(&str, Want, &str)] = &[
    ("/hang-head", Status(504), "origin.first_byte_timeout"),
    ("/hang-in-head", Status(504), "origin.first_byte_timeout"),
    ("/hang-body", Broken, "http.body_timeout"),
    ("/hang-chunk", Broken, "http.body_timeout"),
    ("/close", Status(502), "origin.closed_early"),
    ("/cut-head", Status(502), "origin.closed_early"),
    ("/cut-length", Broken, "origin.closed_early"),
    ("/cut-length-by-one", Broken, "origin.closed_early"),
    ("/cut-before-body", Broken, "origin.closed_early"),
    ("/cut-chunk", Broken, "origin.closed_early"),
    ("/cut-chunks", Broken, "origin.closed_early"),
    ("/cut-last-chunk", Broken, "origin.closed_early"),
    ("/cut-trailers", Broken, "origin.closed_early"),
    ("/reset", Status(502), "origin.closed_early"),
    ("/reset-body", Broken, "origin.closed_early"),
    ("/reset-until-close", Broken, "origin.closed_early"),
    ("/garbage", Status(502), "origin.bad_response"),
    ("/garbage-endless", Status(502), "origin.bad_response"),
    ("/huge-head", Status(502), "origin.bad_response"),
    ("/endless-head", Status(502), "origin.bad_response"),
    ("/interim", Status(502), "origin.bad_response"),
    ("/bad-chunk", Broken, "origin.bad_response"),
    ("/bad-chunk-later", Broken, "origin.bad_response"),
    ("/two-framings", Status(502), "origin.bad_response"),
    ("/two-lengths", Status(502), "origin.bad_response"),
    ("/switch-unasked", Status(502), "origin.bad_response"),
];

/// More than any timeout above, and what a busy machine adds.
const IN_TIME: Duration = Duration::from_secs(10);

pub struct Setup {
    // Before the lab: a lab with a node in it does not go.
    pub edge: Edge,
    pub lab: Lab,
}

impl Setup {
    pub fn client(&self) -> Client {
        let to: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
        Client::new(self.lab.connect(to).expect("the node takes connections"))
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, host: &str, path: &str, rest: &str) -> Answer {
        let mut c = self.client();
        c.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n")).expect("sent");
        c.answer(method)
    }

    /// That the node serves on.
    pub fn still_serves(&self) {
        let a = self.ask("GET", "any.lab", "/fine", "");
        assert_eq!((a.whole(), &a.body[..]), (200, &b"ok"[..]));
    }
}

#[test]
fn origins_that_fail() {
    let Some(lab) = Lab::up("origins_that_fail", 'o', false) else { return };
    let seen = script::start(&lab);
    let edge = lab.edge(&config(SITES));
    let s = Setup { edge, lab };
    let mut c = Checks::new();

    for (path, want, counter) in FAILURES {
        // Only those that hang are met with little patience: a busy machine must not make others of them.
        let hosts = if path.starts_with("/hang") { ["bad.lab", "bad6.lab"] } else { ["any.lab", "any6.lab"] };
        for host in hosts {
            c.check(&format!("{path} {host}"), || {
                let before = s.edge.counter(counter);
                let began = Instant::now();
                let a = s.ask("GET", host, path, "");
                match want {
                    Status(n) => assert_eq!(a.whole(), *n, "{a:?}"),
                    Broken => assert!(a.is_broken(), "{a:?}"),
                }
                assert!(began.elapsed() < IN_TIME, "after {:?}", began.elapsed());
                assert_eq!(s.edge.counter(counter), before + 1, "{counter}");
                s.still_serves();
            });
        }
        // To HTTP/1.0 a body without a length ends by closing: a failure must not look like that.
        c.check(&format!("{path} to HTTP/1.0"), || {
            let mut client = s.client();
            client.send(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", hosts[0])).expect("sent");
            let a = client.answer("GET");
            match want {
                Status(n) => assert_eq!(a.whole(), *n, "{a:?}"),
                Broken => assert!(a.is_broken(), "{a:?}"),
            }
        });
    }

    c.check("curl sees a broken transfer", || {
        for (path, codes) in [
            ("/cut-length", &[18, 56][..]),
            ("/cut-chunks", &[18, 56]),
            ("/reset-body", &[18, 56]),
            ("/hang-body", &[18, 56]),
            ("/bad-chunk-later", &[18, 56]),
        ] {
            let out =
                s.lab.sh(20, &format!("curl -sS -H 'Host: bad.lab' -o /dev/null http://{EDGE_V4}{path}"));
            assert!(out.status.code().is_some_and(|c| codes.contains(&c)), "{path}: {:?}", out.status);
        }
    });

    c.check("nothing listens", || {
        let before = s.edge.counter("origin.connect_failed");
        assert_eq!(s.ask("GET", "dead.lab", "/", "").whole(), 502);
        assert_eq!(s.edge.counter("origin.connect_failed"), before + 1);
        // With a body that nobody will take.
        let a = s.ask("POST", "dead.lab", "/", "Content-Length: 5\r\n\r\nhello");
        assert_eq!(a.whole(), 502);
    });
    for host in ["nobody.lab", "nobody6.lab", "full.lab"] {
        c.check(&format!("no answer to a SYN, {host}"), || {
            let full = (host == "full.lab").then(|| FullBacklog::at(&s.lab, "10.80.0.3:9001"));
            let (timeout, failed) = ("origin.connect_timeout", "origin.connect_failed");
            let before = s.edge.counter(timeout) + s.edge.counter(failed);
            let began = Instant::now();
            let a = s.ask("GET", host, "/", "");
            assert_eq!(a.whole(), 504, "{a:?}");
            assert!(began.elapsed() < IN_TIME, "after {:?}", began.elapsed());
            assert_eq!(s.edge.counter(timeout) + s.edge.counter(failed), before + 1);
            drop(full);
            s.still_serves();
        });
    }
    c.check("the second origin takes over", || {
        for _ in 0..4 {
            let a = s.ask("GET", "second.lab", "/fine", "");
            assert_eq!((a.whole(), &a.body[..]), (200, &b"ok"[..]));
        }
    });

    for path in ["/stale", "/stale-reset"] {
        c.check(&format!("{path}: a kept connection closed just when it is used again"), || {
            // As the node pools the most recently used first, that is the one it takes.
            let asked = |method: &str, rest: &str| s.ask(method, "stale.lab", path, rest);
            let retries = s.edge.counter("origin.retries");
            assert_eq!(asked("GET", "").whole(), 200);
            s.edge.wait_for("http.requests_active", 0);
            let (seen_before, reused) = (seen.count(path), s.edge.counter("origin.reused"));
            assert_eq!(asked("GET", "").whole(), 200, "a GET is tried again");
            assert_eq!(s.edge.counter("origin.reused"), reused + 1);
            assert_eq!(s.edge.counter("origin.retries"), retries + 1);
            assert_eq!(seen.count(path), seen_before + 2);

            s.edge.wait_for("http.requests_active", 0);
            let seen_before = seen.count(path);
            assert_eq!(asked("POST", "Content-Length: 0\r\n").whole(), 502, "a POST is not");
            assert_eq!(seen.count(path), seen_before + 1);
            assert_eq!(asked("POST", "Content-Length: 5\r\n\r\nhello").whole(), 200, "on a new connection");
            s.edge.wait_for("http.requests_active", 0);
            assert_eq!(asked("PUT", "Content-Length: 5\r\n\r\nhello").whole(), 502, "its body is gone");
            assert_eq!(s.edge.counter("origin.retries"), retries + 1);
        });
    }

    c.check("an answer before the request's body, and a reset", || {
        for n in [10, 100_000, 4 << 20] {
            let mut client = s.client();
            client
                .send(format!("POST /early HTTP/1.1\r\nHost: any.lab\r\nContent-Length: {n}\r\n\r\n"))
                .expect("sent");
            let mut writer = client.socket.try_clone().expect("cloned");
            let sender = thread::spawn(move || {
                use std::io::Write;
                // Cut off when the node closes.
                let _ = writer.write_all(&vec![b'x'; n]);
            });
            let a = client.answer("POST");
            assert_eq!((a.whole(), &a.body[..]), (413, &b"much"[..]), "{n}: {a:?}");
            drop(client);
            sender.join().expect("no panic");
        }
        s.still_serves();
    });
    c.check("an answer before the request's body, which is then read", || {
        let mut client = s.client();
        for _ in 0..3 {
            client
                .send("POST /early-and-read HTTP/1.1\r\nHost: any.lab\r\nContent-Length: 100000\r\n\r\n")
                .expect("sent");
            let a = client.answer("POST");
            assert_eq!((a.whole(), &a.body[..]), (200, &b"enough"[..]), "{a:?}");
            // It may have told us that it closes.
            if a.header("Connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
                client = s.client();
                continue;
            }
            client.send(vec![b'x'; 100_000]).expect("sent");
        }
        s.still_serves();
    });
    c.check("a body that ends by closing", || {
        let a = s.ask("GET", "any.lab", "/until-close", "");
        assert_eq!((a.whole(), &a.body[..]), (200, &b"up to the end"[..]));
        assert!(
            a.header("Transfer-Encoding").is_some(),
            "HTTP/1.1 clients can tell that it is whole: {}",
            a.head
        );
        let mut client = s.client();
        client.send("GET /until-close HTTP/1.0\r\nHost: any.lab\r\n\r\n").expect("sent");
        let a = client.answer("GET");
        assert_eq!((a.whole(), &a.body[..]), (200, &b"up to the end"[..]));
    });

    super::clients::checks(&s, &seen, &mut c);

    c.check("both laws, exactly, and every cell back", || {
        s.edge.at_rest();
    });
    c.end();
}

/// A listener whose backlog is full: it answers no SYN.
struct FullBacklog {
    _listener: std::net::TcpListener,
    _waiting: Vec<std::net::TcpStream>,
}

impl FullBacklog {
    fn at(lab: &Lab, at: &str) -> FullBacklog {
        let at: SocketAddr = at.parse().expect("an address");
        let listener = lab.listen(at);
        socket2::SockRef::from(&listener).listen(0).expect("a shorter backlog");
        let waiting = crate::lab::enter(&lab.origin(), || {
            let mut all = Vec::new();
            while let Ok(s) = std::net::TcpStream::connect_timeout(&at, Duration::from_millis(300)) {
                all.push(s);
            }
            all
        });
        FullBacklog { _listener: listener, _waiting: waiting }
    }
}

/// That a connection which must not go on does not.
pub fn is_over(client: &mut Client) -> bool {
    matches!(client.end().1, End::CutShort | End::Reset)
}
