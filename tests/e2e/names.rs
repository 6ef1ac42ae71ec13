//! Origins by name: a name server of a few lines in the node's namespace, and what it says changes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::{Answer, Client};
use crate::lab::{Checks, EDGE_V4, Lab, PATIENCE, config, enter};

const SITES: &str = r#"
[resolver]
servers = "127.0.0.1:5353"
ttl_min = "1s"

[[site]]
hosts = "half.lab"
origin = "http://half.test:9301"
timeouts = { connect = "20s" }

[[site]]
hosts = "refused.lab"
origin = "http://refused.test:9302"

[[site]]
hosts = "late.lab"
origin = "http://late.test:9301"

[[site]]
hosts = "kept.lab"
origin = "http://kept.test:9301"

[[site]]
hosts = "moves.lab"
origin = "http://moves.test:9301"
"#;

const V4: &str = "10.80.0.3";
const V6: &str = "fd80::3";
/// Nobody has it: no answer to ND.
const NOBODY: &str = "fd80::99";

/// What the name server says of a name.
#[derive(Clone)]
enum Says {
    /// These addresses, with a TTL of 0.
    Addresses(Vec<IpAddr>),
    /// SERVFAIL.
    Fails,
    /// Nothing at all.
    Silence,
}

fn at(addresses: &[&str]) -> Says {
    Says::Addresses(addresses.iter().map(|a| a.parse().expect("an address")).collect())
}

#[derive(Default)]
struct Book {
    says: HashMap<&'static str, Says>,
    /// Questions so far, by name.
    asked: HashMap<String, u64>,
}

struct NameServer {
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    fn start(lab: &Lab) -> NameServer {
        // What the node's control side speaks to the name server over.
        assert!(lab.sh_in(&lab.net(), 10, "ip link set lo up").status.success());
        let socket = enter(&lab.net(), || UdpSocket::bind("127.0.0.1:5353")).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        let (book, stop) = (Arc::<Mutex<Book>>::default(), Arc::<AtomicBool>::default());
        let (its_book, its_stop) = (Arc::clone(&book), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut packet = [0u8; 1500];
            while !its_stop.load(Ordering::SeqCst) {
                let Ok((n, from)) = socket.recv_from(&mut packet) else { continue };
                if let Some(answer) = answer(&packet[..n], &mut its_book.lock().expect("whole")) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        NameServer { book, stop, thread: Some(thread) }
    }

    fn says(&self, name: &'static str, what: Says) {
        self.book.lock().expect("whole").says.insert(name, what);
    }

    fn asked(&self, name: &str) -> u64 {
        self.book.lock().expect("whole").asked.get(name).copied().unwrap_or(0)
    }

    /// Waits until the node has asked for a name a few times more.
    fn wait_asked(&self, name: &str) {
        let enough = self.asked(name) + 4;
        until(&format!("{name} asked for again"), || self.asked(name) >= enough);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A response by RFC 1035, section 4.
fn answer(question: &[u8], book: &mut Book) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let len = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + len]).to_ascii_lowercase());
        at += 1 + len;
    }
    let is_v6 = question[at + 2] == 28;
    let name = labels.join(".");
    *book.asked.entry(name.clone()).or_default() += 1;
    let (code, mut addresses) = match book.says.get(&name[..]) {
        None => (3, Vec::new()),
        Some(Says::Silence) => return None,
        Some(Says::Fails) => (2, Vec::new()),
        Some(Says::Addresses(all)) => (0, all.clone()),
    };
    addresses.retain(|a| a.is_ipv6() == is_v6);
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    out.extend(&question[12..at + 5]);
    for address in addresses {
        out.extend([0xc0, 12, 0, if is_v6 { 28 } else { 1 }, 0, 1, 0, 0, 0, 0]);
        match address {
            IpAddr::V4(a) => out.extend([&[0, 4], &a.octets()[..]].concat()),
            IpAddr::V6(a) => out.extend([&[0, 16], &a.octets()[..]].concat()),
        }
    }
    Some(out)
}

/// An origin that says by which of its addresses it was reached.
fn origin(lab: &Lab, at: SocketAddr) {
    let listener = lab.listen(at);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(socket, at.ip()));
        }
    });
}

fn serve(socket: TcpStream, ip: IpAddr) {
    let Ok(read) = socket.try_clone() else { return };
    let mut out = socket;
    let mut lines = BufReader::new(read).lines();
    while let Some(Ok(_)) = lines.next() {
        while lines.next().is_some_and(|l| l.is_ok_and(|l| !l.is_empty())) {}
        let body = ip.to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if out.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn client(lab: &Lab) -> Client {
    let to: SocketAddr = format!("{EDGE_V4}:80").parse().expect("an address");
    Client::new(lab.connect(to).expect("the node takes connections"))
}

fn ask(c: &mut Client, host: &str) -> Answer {
    c.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect("sent");
    c.answer("GET")
}

/// Status and body of one request on a connection of its own.
fn once(lab: &Lab, host: &str) -> (u16, String) {
    let a = ask(&mut client(lab), host);
    (a.whole(), String::from_utf8_lossy(&a.body).into_owned())
}

fn until(what: &str, f: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !f() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn good(address: &str) -> (u16, String) {
    (200, address.to_owned())
}

#[test]
fn origins_by_name() {
    let Some(lab) = Lab::up("origins_by_name", 'm', false) else { return };
    for address in [format!("{V4}:9301"), format!("[{V6}]:9301"), format!("{V4}:9302")] {
        origin(&lab, address.parse().expect("an address"));
    }
    let dns = NameServer::start(&lab);
    dns.says("half.test", at(&[NOBODY, V4]));
    dns.says("refused.test", at(&[V6, V4]));
    dns.says("late.test", Says::Fails);
    dns.says("kept.test", at(&[V4]));
    dns.says("moves.test", at(&[V4]));
    let edge = lab.edge(&config(SITES));
    let mut c = Checks::new();

    c.check("a dead AAAA beside a live A", || {
        let before = edge.counter("origin.raced");
        assert_eq!(once(&lab, "half.lab"), good(V4));
        assert_eq!(edge.counter("origin.raced"), before + 1);
        assert_eq!(edge.counter("origin.connect_timeout"), 0, "its connect timeout is 20 s");
        for _ in 0..5 {
            assert_eq!(once(&lab, "half.lab"), good(V4));
        }
        assert_eq!(edge.counter("origin.raced"), before + 1, "the family that won is remembered");
    });

    c.check("an AAAA that refuses beside a live A", || {
        assert_eq!(once(&lab, "refused.lab"), good(V4));
        assert_eq!(edge.counter("origin.connect_failed"), 1);
    });

    c.check("a name that is found late", || {
        assert_eq!(once(&lab, "late.lab").0, 503);
        dns.says("late.test", at(&[V4]));
        until("an answer", || once(&lab, "late.lab") == good(V4));
    });

    c.check("the last good answer is kept", || {
        assert_eq!(once(&lab, "kept.lab"), good(V4));
        for nothing in [Says::Fails, Says::Silence, at(&[])] {
            dns.says("kept.test", nothing);
            dns.wait_asked("kept.test");
            assert_eq!(once(&lab, "kept.lab"), good(V4));
        }
        assert!(edge.log().contains("kept.test can't be looked up"), "{}", edge.log());
        dns.says("kept.test", at(&[V6]));
        until("the new address", || once(&lab, "kept.lab") == good(V6));
    });

    c.check("addresses that change under load", || {
        let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|s| {
            let load: Vec<_> = (0..4)
                .map(|_| {
                    s.spawn(|| {
                        let mut c = client(&lab);
                        while !stop.load(Ordering::SeqCst) {
                            assert_eq!(ask(&mut c, "moves.lab").whole(), 200);
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            for turn in 0..3 {
                let (now, all) = if turn % 2 == 0 { (V6, [V6, V6]) } else { (V4, [V4, NOBODY]) };
                dns.says("moves.test", at(&all));
                until("the new address", || {
                    assert!(load.iter().all(|t| !t.is_finished()), "a request has failed");
                    once(&lab, "moves.lab") == good(now)
                });
                let more = served.load(Ordering::SeqCst) + 50;
                until("requests", || served.load(Ordering::SeqCst) >= more);
            }
            stop.store(true, Ordering::SeqCst);
            for t in load {
                t.join().expect("no request failed");
            }
        });
    });

    edge.at_rest();
    c.end();
}
