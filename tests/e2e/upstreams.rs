//! Sites with several origins: who is chosen, who is left out, who waits.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::{Answer, Client};
use crate::lab::{Checks, EDGE_V4, Edge, Lab, PATIENCE, config};

const SITES: &str = r#"
[[site]]
hosts = "two.lab"
origin = ["http://10.80.0.3:9101", "http://10.80.0.3:9102"]

[[site]]
hosts = "checked.lab"
origin = ["http://10.80.0.3:9103", "http://10.80.0.3:9104"]
health = { path = "/healthz", interval = "200ms", timeout = "200ms", rise = 2, fall = 2 }

[[site]]
hosts = "hashed.lab"
origin = ["http://10.80.0.3:9103", "http://10.80.0.3:9104"]
balance = "hash"
hash_key = "header:x-user"

[[site]]
hosts = "least.lab"
origin = ["http://10.80.0.3:9103", "http://10.80.0.3:9104"]
balance = "least_outstanding"

[[site]]
hosts = "weighted.lab"
origin = [{ url = "http://10.80.0.3:9103", weight = 3 }, "http://10.80.0.3:9104"]

[[site]]
hosts = "one.lab"
origin = "http://10.80.0.3:9103"
origin_limits = { connections_max = 1, queue_max = 1, queue_timeout = "20s" }

[[site]]
hosts = "hasty.lab"
origin = "http://10.80.0.3:9104"
origin_limits = { connections_max = 1, queue_max = 8, queue_timeout = "300ms" }
"#;

/// An origin that says its port, until it is killed.
struct Server {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    dead: AtomicBool,
    sick: AtomicBool,
    /// Requests for /hold are not answered while this is set.
    holds: AtomicBool,
    held: AtomicUsize,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Server {
    fn start(lab: &Lab, port: u16) -> Server {
        let listener = lab.listen(SocketAddr::from(([10, 80, 0, 3], port)));
        listener.set_nonblocking(true).expect("set");
        let state = Arc::new(State::default());
        let inner = Arc::clone(&state);
        let thread = thread::spawn(move || {
            while !inner.dead.load(Ordering::SeqCst) {
                let Ok((socket, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                socket.set_nonblocking(false).expect("set");
                inner.sockets.lock().expect("whole").push(socket.try_clone().expect("a socket"));
                let state = Arc::clone(&inner);
                thread::spawn(move || state.serve(socket, port));
            }
        });
        Server { state, thread: Some(thread) }
    }

    /// No listener, and no connection, any more.
    fn kill(&mut self) {
        self.state.dead.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("ended");
        }
        for s in self.state.sockets.lock().expect("whole").drain(..) {
            let _ = s.shutdown(Shutdown::Both);
        }
    }

    fn hold(&self, on: bool) {
        self.state.holds.store(on, Ordering::SeqCst);
    }

    fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }
}

impl State {
    fn serve(&self, socket: TcpStream, port: u16) {
        let mut lines = BufReader::new(socket.try_clone().expect("a socket")).lines();
        let mut out = socket;
        while let Some(Ok(first)) = lines.next() {
            while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
            if first.contains("/hold") {
                self.held.fetch_add(1, Ordering::SeqCst);
                let until = Instant::now() + PATIENCE;
                while self.holds.load(Ordering::SeqCst) && Instant::now() < until {
                    thread::sleep(Duration::from_millis(5));
                }
                self.held.fetch_sub(1, Ordering::SeqCst);
            }
            let status =
                if self.sick.load(Ordering::SeqCst) && first.contains("/healthz") { 500 } else { 200 };
            let body = port.to_string();
            let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if out.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn client(lab: &Lab) -> Client {
    let to: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
    Client::new(lab.connect(to).expect("the node takes connections"))
}

fn ask(c: &mut Client, host: &str, path: &str, more: &str) -> Answer {
    c.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")).expect("sent");
    c.answer("GET")
}

/// Who answers `n` requests, by port.
fn spread(lab: &Lab, host: &str, n: usize) -> HashMap<String, usize> {
    let (mut c, mut seen) = (client(lab), HashMap::new());
    for _ in 0..n {
        let a = ask(&mut c, host, "/", "");
        assert_eq!(a.whole(), 200, "{a:?}");
        *seen.entry(String::from_utf8_lossy(&a.body).into_owned()).or_default() += 1;
    }
    seen
}

fn until(what: &str, f: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !f() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A request for /hold on a thread of its own.
fn hold(lab: &Lab, host: &'static str) -> JoinHandle<u16> {
    let mut c = client(lab);
    thread::spawn(move || ask(&mut c, host, "/hold", "").whole())
}

#[test]
fn several_origins() {
    let Some(lab) = Lab::up("several_origins", 'u', false) else { return };
    let mut a = Server::start(&lab, 9101);
    let _b = Server::start(&lab, 9102);
    let (c3, c4) = (Server::start(&lab, 9103), Server::start(&lab, 9104));
    let edge: Edge = lab.edge(&config(SITES));
    let mut c = Checks::new();

    c.check("one of two origins dies, and no safe request fails", || {
        let before = spread(&lab, "two.lab", 100);
        assert_eq!((before["9101"], before["9102"]), (50, 50));
        a.kill();
        let after = spread(&lab, "two.lab", 100);
        assert_eq!(after.get("9102"), Some(&100), "{after:?}");
        assert!(edge.counter("origin.retried") > 0);
        edge.wait_for("origin.ejections", 1);
    });

    c.check("a health check takes an origin out, and back", || {
        edge.wait_for("origin.down", 0);
        assert_eq!(spread(&lab, "checked.lab", 20).len(), 2);
        c3.state.sick.store(true, Ordering::SeqCst);
        edge.wait_for("origin.down", 1);
        until("a line about it", || edge.log().contains("is down, by its health checks: status 500"));
        assert!(edge.counter("origin.check_failures") >= 2);
        let alone = spread(&lab, "checked.lab", 20);
        assert_eq!(alone.get("9104"), Some(&20), "{alone:?}");
        c3.state.sick.store(false, Ordering::SeqCst);
        edge.wait_for("origin.down", 0);
        assert_eq!(spread(&lab, "checked.lab", 20).len(), 2);
    });

    c.check("the same key, the same origin", || {
        let (mut client, mut seen) = (client(&lab), HashMap::new());
        for round in 0..3 {
            for user in 0..32 {
                let a = ask(&mut client, "hashed.lab", "/", &format!("X-User: u{user}\r\n"));
                let first = seen.entry(user).or_insert_with(|| a.body.clone());
                assert_eq!(*first, a.body, "user {user}, round {round}");
            }
        }
        let one = seen.values().filter(|b| ***b == *b"9103").count();
        assert!((4..=28).contains(&one), "{one} of 32");
    });

    c.check("by weight", || {
        let seen = spread(&lab, "weighted.lab", 40);
        assert_eq!((seen["9103"], seen["9104"]), (30, 10));
    });

    c.check("the origin with the fewest requests under way", || {
        for s in [&c3, &c4] {
            s.hold(true);
        }
        let held = hold(&lab, "least.lab");
        until("held", || c3.held() + c4.held() == 1);
        let free = if c3.held() == 1 { "9104" } else { "9103" };
        let seen = spread(&lab, "least.lab", 10);
        assert_eq!(seen.get(free), Some(&10), "{seen:?}");
        for s in [&c3, &c4] {
            s.hold(false);
        }
        assert_eq!(held.join().expect("answered"), 200);
    });

    c.check("a full origin has a queue in front of it, and a full queue a 503", || {
        c3.hold(true);
        let first = hold(&lab, "one.lab");
        until("held", || c3.held() == 1);
        let queued = edge.counter("origin.queued");
        let second = hold(&lab, "one.lab");
        edge.wait_for("origin.queued", queued + 1);
        assert_eq!(ask(&mut client(&lab), "one.lab", "/", "").whole(), 503);
        assert_eq!(edge.counter("origin.queue_full"), 1);
        assert_eq!(c3.held(), 1);
        c3.hold(false);
        assert_eq!((first.join().expect("answered"), second.join().expect("answered")), (200, 200));
    });

    c.check("a client that leaves the queue gives up its place", || {
        c3.hold(true);
        let first = hold(&lab, "one.lab");
        until("held", || c3.held() == 1);
        let queued = edge.counter("origin.queued");
        let mut gone = client(&lab);
        gone.send("GET /hold HTTP/1.1\r\nHost: one.lab\r\n\r\n").expect("sent");
        edge.wait_for("origin.queued", queued + 1);
        socket2::SockRef::from(&gone.socket).set_linger(Some(Duration::ZERO)).expect("set");
        drop(gone);
        edge.wait_for("http.requests_active", 1);
        let second = hold(&lab, "one.lab");
        edge.wait_for("origin.queued", queued + 2);
        c3.hold(false);
        assert_eq!((first.join().expect("answered"), second.join().expect("answered")), (200, 200));
    });

    c.check("who waits too long is answered 503", || {
        c4.hold(true);
        let first = hold(&lab, "hasty.lab");
        until("held", || c4.held() == 1);
        assert_eq!(ask(&mut client(&lab), "hasty.lab", "/", "").whole(), 503);
        assert_eq!(edge.counter("origin.queue_timeout"), 1);
        c4.hold(false);
        assert_eq!(first.join().expect("answered"), 200);
        assert_eq!(ask(&mut client(&lab), "hasty.lab", "/", "").whole(), 200);
    });

    edge.at_rest();
    c.end();
}
