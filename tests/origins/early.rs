//! Requests that come with a client's first packets (0-RTT, RFC 8470), by stock rustls clients; and connections of TLS
//! 1.2 that have used their key for long enough.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::sync::Arc;

use dataplane::Ctr;
use l7::proxy::ProxyConfig;
use l7::tls::Front;
use l7::tls::front::Tickets;
use l7::tls::store::SessionStore;
use l7::tls::tickets::{TicketSpec, Ticketer};
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, ClientConnection};

use crate::rig::{count, node_of, origin, site, v4, wait};
use crate::support::Shared;
use crate::support::identity::Identity;
use crate::support::peers::{Act, Asked, Peers};
use crate::support::tls::TlsOf;

pub const ROOM: u32 = 16 << 10;

/// A certificate, and the clients that trust it.
pub struct Names {
    identity: Identity,
    pub clients: Arc<ClientConfig>,
}

impl Names {
    pub fn new() -> Names {
        let identity = Identity::new(&["site.lab"]);
        let mut clients = identity.client_config();
        clients.enable_early_data = true;
        Names { identity, clients: Arc::new(clients) }
    }

    pub fn front(&self, early_data_bytes: u32) -> Arc<Front> {
        let producer = Ticketer::new(TicketSpec::default(), 1_000_000).expect("good");
        let kept = SessionStore::new(64, 3600, Arc::new(DefaultTimeProvider));
        self.identity.front_with(Some(Tickets { producer, sent: 2, kept: Some(kept) }), early_data_bytes)
    }

    /// A node whose only listener speaks TLS, and takes so much early data.
    pub fn node(&self, cached: bool, early_data_bytes: u32) -> Peers {
        node(site(vec![origin(&[v4()])], cached), self.front(early_data_bytes))
    }

    /// A client that has been here before: it has tickets.
    pub fn prime(&self, p: &mut Peers, served: &mut dyn FnMut(&Asked, u64) -> Act) {
        let mut c = Client::connect(p, &self.clients, b"");
        c.settle(p, served);
        c.send(p, b"GET /prime HTTP/1.1\r\nHost: site.lab\r\nConnection: close\r\n\r\n");
        c.settle(p, served);
        assert!(c.text().starts_with("HTTP/1.1 200"), "{}", c.text());
        p.client_resets(c.port);
        p.settle(served);
    }
}

pub fn node(mut config: ProxyConfig, front: Arc<Front>) -> Peers {
    config.tls_listeners = vec![true];
    config.front = front;
    let shared = Shared { tls: Some(TlsOf::new()), ..Shared::new(1) };
    node_of(config, &shared)
}

/// A stock client, which says its next word only when it is told to.
pub struct Client {
    pub tls: ClientConnection,
    pub port: u16,
    pub got: Vec<u8>,
}

impl Client {
    /// Sends its hello, and `early` behind it if there is any.
    pub fn connect(p: &mut Peers, config: &Arc<ClientConfig>, early: &[u8]) -> Client {
        let name = ServerName::try_from("site.lab").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a good config");
        if !early.is_empty() {
            tls.early_data().expect("a ticket that allows it").write_all(early).expect("room");
        }
        let port = p.connect(&flush(&mut tls));
        Client { tls, port, got: Vec::new() }
    }

    /// Reads what has come, and holds its tongue.
    pub fn listen(&mut self, p: &mut Peers) {
        let bytes = std::mem::take(p.client_got(self.port).0);
        let mut left = &bytes[..];
        while !left.is_empty() {
            self.tls.read_tls(&mut left).expect("from memory");
            self.tls.process_new_packets().expect("good records");
            let mut plain = vec![0; 64 << 10];
            while let Ok(n @ 1..) = self.tls.reader().read(&mut plain) {
                self.got.extend_from_slice(&plain[..n]);
            }
        }
    }

    /// Says what is to be said.
    fn speak(&mut self, p: &mut Peers) {
        let out = flush(&mut self.tls);
        p.client_sends(self.port, &out);
    }

    pub fn send(&mut self, p: &mut Peers, plain: &[u8]) {
        self.tls.writer().write_all(plain).expect("room");
        self.speak(p);
    }

    /// Until both have nothing to say.
    pub fn settle(&mut self, p: &mut Peers, origin: &mut dyn FnMut(&Asked, u64) -> Act) {
        loop {
            p.settle(origin);
            self.listen(p);
            if !self.tls.wants_write() {
                return;
            }
            self.speak(p);
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.got).into_owned()
    }

    /// Whether it has been told that nothing more comes.
    pub fn is_told(&mut self) -> bool {
        matches!(self.tls.reader().read(&mut [0; 8]), Ok(0))
    }
}

pub fn flush(tls: &mut ClientConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut out).expect("to memory");
    }
    out
}

pub fn ok(body: &str, lines: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len()).into(), false)
}

/// An origin that says `ok`, and writes down what it was asked.
fn kind(asked: &RefCell<Vec<String>>) -> impl FnMut(&Asked, u64) -> Act {
    move |(_, head), _| {
        asked.borrow_mut().push(head.clone());
        ok("ok", "")
    }
}

pub fn get(path: &str, lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: site.lab\r\n{lines}\r\n").into_bytes()
}

/// How often a line stands in a head, in any case.
fn lines_of(head: &str, name: &str) -> usize {
    head.lines().filter(|l| l.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name))).count()
}

pub fn at_rest(p: &mut Peers, c: &Client) {
    crate::rig::at_rest(p, c.port);
    assert_eq!(count(p, Ctr::TlsActive), 0, "handshakes");
    assert_eq!(count(p, Ctr::TlsSessions), 0, "sessions");
}

#[test]
fn a_safe_request_is_answered_before_the_handshake_is_done() {
    let names = Names::new();
    let mut p = names.node(false, ROOM);
    let asked = RefCell::default();
    let mut served = kind(&asked);
    names.prime(&mut p, &mut served);
    let mut c = Client::connect(&mut p, &names.clients, &get("/early", ""));
    p.settle(&mut served);
    c.listen(&mut p);
    assert!(c.text().ends_with("ok") && c.tls.is_early_data_accepted(), "{}", c.text());
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsResumed)), (1, 0));
    // Then it finishes; what comes on the same connection is as any other request.
    c.settle(&mut p, &mut served);
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::TlsResumed)), (0, 1));
    c.send(&mut p, &get("/later", ""));
    c.settle(&mut p, &mut served);
    assert_eq!(c.text().matches("HTTP/1.1 200").count(), 2);
    assert_eq!(asked.borrow().iter().map(|head| lines_of(head, "early-data")).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(asked.borrow()[1].contains("\r\nEarly-Data: 1\r\n"), "{}", asked.borrow()[1]);
    let counts = [Ctr::TlsEarlyTaken, Ctr::TlsEarlyRefused, Ctr::HttpEarly, Ctr::HttpEarlyHeld];
    assert_eq!(counts.map(|n| count(&p, n)), [1, 0, 1, 0]);
    at_rest(&mut p, &c);
}

#[test]
fn what_the_client_says_of_it_stays() {
    let names = Names::new();
    let mut p = names.node(false, ROOM);
    let asked = RefCell::default();
    let mut served = kind(&asked);
    names.prime(&mut p, &mut served);
    let marked = get("/early", "EARLY-DATA: 1\r\nConnection: early-data\r\n");
    let mut c = Client::connect(&mut p, &names.clients, &marked);
    c.settle(&mut p, &mut served);
    c.send(&mut p, &marked);
    c.settle(&mut p, &mut served);
    assert_eq!(asked.borrow().iter().map(|head| lines_of(head, "early-data")).collect::<Vec<_>>(), [0, 1, 1]);
    at_rest(&mut p, &c);
}

#[test]
fn a_request_that_may_do_something_waits() {
    let names = Names::new();
    for (early, behind) in [
        ("POST /do HTTP/1.1\r\nHost: site.lab\r\nContent-Length: 4\r\n\r\nbo", "dy"),
        ("GET /do HTTP/1.1\r\nHost: site.lab\r\nContent-Length: 4\r\n\r\nbody", ""),
        ("GET /do HTTP/1.1\r\nHost: site.lab\r\nConnection: upgrade\r\nUpgrade: else\r\n\r\n", ""),
        ("DELETE /do HTTP/1.1\r\nHost: site.lab\r\n\r\n", ""),
        ("STRANGE /do HTTP/1.1\r\nHost: site.lab\r\n\r\n", ""),
        // The head's end comes when the handshake is done.
        ("GET /do HTTP/1.1\r\nHost: si", "te.lab\r\n\r\n"),
    ] {
        let mut p = names.node(true, ROOM);
        let asked = RefCell::default();
        let mut served = kind(&asked);
        names.prime(&mut p, &mut served);
        let mut c = Client::connect(&mut p, &names.clients, early.as_bytes());
        p.settle(&mut served);
        c.listen(&mut p);
        assert_eq!((c.text(), count(&p, Ctr::TlsActive)), (String::new(), 1));
        if !behind.is_empty() {
            c.tls.writer().write_all(behind.as_bytes()).expect("room");
        }
        c.settle(&mut p, &mut served);
        assert!(c.text().ends_with("ok"), "{}", c.text());
        assert_eq!(asked.borrow().len(), 2, "{asked:?}");
        assert_eq!(lines_of(&asked.borrow()[1], "early-data"), 0, "{}", asked.borrow()[1]);
        let held = u64::from(!behind.starts_with("te"));
        let counts = [Ctr::TlsEarlyTaken, Ctr::HttpEarly, Ctr::HttpEarlyHeld];
        assert_eq!(counts.map(|n| count(&p, n)), [1, 0, held]);
        at_rest(&mut p, &c);
    }
}

#[test]
fn what_the_cache_has_goes_out_at_once() {
    let names = Names::new();
    let mut p = names.node(true, ROOM);
    let body = "x".repeat(200_000);
    let mut asked = 0;
    let mut served = |_: &Asked, _: u64| {
        asked += 1;
        ok(&body, "Cache-Control: max-age=60\r\n")
    };
    names.prime(&mut p, &mut served);
    let mut c = Client::connect(&mut p, &names.clients, &get("/prime", ""));
    p.settle(&mut served);
    c.listen(&mut p);
    let before = c.got.len();
    assert!(before > 0 && c.text().starts_with("HTTP/1.1 200"), "{}", c.text());
    c.settle(&mut p, &mut served);
    // The same body, by records of rustls' and behind them, be it in one go or not.
    assert!(c.text().ends_with(&format!("\r\n\r\n{body}")), "{before} of {}", c.got.len());
    assert_eq!(asked, 1);
    at_rest(&mut p, &c);
}

#[test]
fn a_body_goes_on_over_the_handshakes_end() {
    let names = Names::new();
    let mut p = names.node(true, ROOM);
    let body = "y".repeat(300_000);
    let mut served = |_: &Asked, _: u64| ok(&body, "Cache-Control: max-age=60\r\n");
    names.prime(&mut p, &mut served);
    let name = ServerName::try_from("site.lab").expect("a name");
    let mut tls = ClientConnection::new(Arc::clone(&names.clients), name).expect("a good config");
    tls.early_data().expect("a ticket").write_all(&get("/prime", "")).expect("room");
    let port = p.connect_slow(&flush(&mut tls), 20_000);
    let mut c = Client { tls, port, got: Vec::new() };
    p.settle(&mut served);
    c.listen(&mut p);
    assert!(!c.got.is_empty() && c.got.len() < body.len());
    assert_eq!(count(&p, Ctr::TlsActive), 1);
    for _ in 0..100 {
        p.client_reads(port, 20_000);
        c.settle(&mut p, &mut served);
    }
    assert_eq!(count(&p, Ctr::TlsActive), 0);
    assert!(c.text().ends_with(&format!("\r\n\r\n{body}")), "{}", c.got.len());
    at_rest(&mut p, &c);
}

#[test]
fn an_origin_that_finds_it_too_early_is_asked_again() {
    let names = Names::new();
    for (cached, body) in [(false, ""), (false, "not now"), (true, ""), (true, "not now")] {
        let mut p = names.node(cached, ROOM);
        let mut asked = Vec::new();
        let mut served = |(_, head): &Asked, _: u64| {
            asked.push(head.clone());
            match lines_of(head, "early-data") {
                0 => ok("ok", "Cache-Control: max-age=60\r\n"),
                _ => Act::Send(
                    format!(
                        "HTTP/1.1 425 Too Early\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .into(),
                    false,
                ),
            }
        };
        names.prime(&mut p, &mut served);
        let mut c = Client::connect(&mut p, &names.clients, &get("/early", ""));
        p.settle(&mut served);
        c.listen(&mut p);
        assert_eq!((c.text(), count(&p, Ctr::HttpEarlyAgain)), (String::new(), 1));
        c.settle(&mut p, &mut served);
        assert!(c.text().starts_with("HTTP/1.1 200") && c.text().ends_with("ok"), "{}", c.text());
        // A client that knows what it is doing hears it itself. Nobody keeps it.
        let mut c2 = Client::connect(&mut p, &names.clients, &get("/other", "Early-Data: 1\r\n"));
        c2.settle(&mut p, &mut served);
        assert!(c2.text().starts_with("HTTP/1.1 425"), "{}", c2.text());
        c2.send(&mut p, &get("/other", ""));
        c2.settle(&mut p, &mut served);
        assert!(c2.text().ends_with("ok"), "{}", c2.text());
        assert_eq!(
            asked.iter().map(|head| lines_of(head, "early-data")).collect::<Vec<_>>(),
            [0, 1, 0, 1, 0]
        );
        p.client_resets(c2.port);
        at_rest(&mut p, &c);
    }
}

/// An origin of one file that is sent in slices, which finds it too early for all of them but the first.
fn sliced(body: &str, asked: &RefCell<Vec<(usize, usize)>>) -> impl FnMut(&Asked, u64) -> Act {
    move |(_, head), _| {
        let head = head.to_ascii_lowercase();
        let range = head.lines().find_map(|l| l.strip_prefix("range: bytes=")).expect("a slice is asked for");
        let (from, last) = range.split_once('-').expect("from and to");
        let from: usize = from.parse().expect("a number");
        let end = (last.parse::<usize>().expect("a number") + 1).min(body.len());
        let marks = lines_of(&head, "early-data");
        asked.borrow_mut().push((from, marks));
        if from > 0 && marks > 0 {
            return Act::Send(b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n".to_vec(), false);
        }
        let lines = format!(
            "ETag: \"1\"\r\nCache-Control: max-age=60\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}",
            end - 1,
            body.len(),
            end - from
        );
        let part = &body[from..end];
        Act::Send(format!("HTTP/1.1 206 Partial Content\r\n{lines}\r\n\r\n{part}").into_bytes(), false)
    }
}

const SLICE: usize = 16 << 10;

fn sliced_config() -> ProxyConfig {
    let mut config = site(vec![origin(&[v4()])], true);
    let rules = config.routes[0].cache.as_mut().expect("it is cached");
    rules.slice_bytes = SLICE as u32;
    config
}

#[test]
fn more_of_a_body_is_asked_for_when_the_handshake_is_done() {
    let names = Names::new();
    let body = "s".repeat(2 * SLICE + 5_000);
    let mut p = node(sliced_config(), names.front(ROOM));
    let asked = RefCell::default();
    let mut served = sliced(&body, &asked);
    names.prime(&mut p, &mut served);
    asked.borrow_mut().clear();
    let mut c = Client::connect(&mut p, &names.clients, &get("/early", ""));
    p.settle(&mut served);
    c.listen(&mut p);
    // The first slice goes out at once, and the origin is not asked for what it might find too early.
    assert!(c.text().starts_with("HTTP/1.1 200") && c.got.len() > SLICE, "{}", c.got.len());
    assert_eq!((asked.borrow().clone(), count(&p, Ctr::TlsActive)), (vec![(0, 1)], 1));
    c.settle(&mut p, &mut served);
    assert!(c.text().ends_with(&format!("\r\n\r\n{body}")), "{}", c.got.len());
    assert_eq!(asked.borrow()[1..], [(SLICE, 0), (2 * SLICE, 0)]);
    // What is stored waits for nothing.
    let mut c2 = Client::connect(&mut p, &names.clients, &get("/early", ""));
    p.settle(&mut served);
    c2.listen(&mut p);
    assert!(c2.text().ends_with(&format!("\r\n\r\n{body}")), "{}", c2.got.len());
    assert_eq!((asked.borrow().len(), count(&p, Ctr::TlsActive)), (3, 1));
    p.client_resets(c2.port);
    at_rest(&mut p, &c);
}

#[test]
fn the_rest_of_a_body_waits_no_longer_than_a_head() {
    let names = Names::new();
    let body = "s".repeat(2 * SLICE);
    let mut config = sliced_config();
    config.client.header_ns = 5_000_000_000;
    let mut p = node(config, names.front(ROOM));
    let asked = RefCell::default();
    let mut served = sliced(&body, &asked);
    names.prime(&mut p, &mut served);
    let c = Client::connect(&mut p, &names.clients, &get("/early", ""));
    wait(&mut p, 4_000, &mut served);
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::HttpOpen)), (1, 1));
    wait(&mut p, 2_000, &mut served);
    assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::HttpOpen)), (0, 0));
    assert_eq!((p.client_got(c.port).1, p.client_got(c.port).2), (false, true), "it is no end");
    assert_eq!((count(&p, Ctr::HttpHeaderTimeout), count(&p, Ctr::HttpAborted)), (1, 1));
    at_rest(&mut p, &c);
}

#[test]
fn a_first_flight_that_is_sent_again_finds_nothing() {
    let names = Names::new();
    let mut p = names.node(false, ROOM);
    let asked = RefCell::default();
    let mut served = kind(&asked);
    names.prime(&mut p, &mut served);
    let name = ServerName::try_from("site.lab").expect("a name");
    let mut tls = ClientConnection::new(Arc::clone(&names.clients), name).expect("a good config");
    tls.early_data().expect("a ticket").write_all(&get("/early", "")).expect("room");
    let flight = flush(&mut tls);
    let port = p.connect(&flight);
    let thief = p.connect(&flight);
    p.settle(&mut served);
    let mut c = Client { tls, port, got: Vec::new() };
    c.settle(&mut p, &mut served);
    assert!(c.text().ends_with("ok"), "{}", c.text());
    assert!(!p.client_got(thief).0.is_empty(), "a handshake in full");
    assert_eq!((count(&p, Ctr::HttpEarly), count(&p, Ctr::TlsEarlyTaken)), (1, 1));
    p.client_resets(thief);
    at_rest(&mut p, &c);
    assert_eq!(asked.borrow().len(), 2);
}

#[test]
fn early_data_that_is_refused_is_sent_again_by_its_client() {
    let names = Names::new();
    let asked = RefCell::default();
    let mut served = kind(&asked);
    let mut first = names.node(false, ROOM);
    names.prime(&mut first, &mut served);
    // Another node, which knows nothing of the session; and one that takes none.
    for room in [ROOM, 0] {
        let mut p = names.node(false, room);
        let early = get("/early", "");
        let mut c = Client::connect(&mut p, &names.clients, &early);
        c.settle(&mut p, &mut served);
        assert!(!c.tls.is_early_data_accepted() && c.text().is_empty());
        c.send(&mut p, &early);
        c.settle(&mut p, &mut served);
        assert!(c.text().ends_with("ok"), "{}", c.text());
        let counts = [Ctr::TlsEarlyTaken, Ctr::TlsEarlyRefused, Ctr::HttpEarly, Ctr::TlsFull];
        assert_eq!(counts.map(|n| count(&p, n)), [0, 1, 0, 1]);
        at_rest(&mut p, &c);
    }
    assert!(asked.borrow().iter().all(|head| lines_of(head, "early-data") == 0));
}

#[test]
fn the_end_of_a_connection_is_announced_before_the_handshake_is_done() {
    let names = Names::new();
    let mut p = names.node(false, ROOM);
    let asked = RefCell::default();
    let mut served = kind(&asked);
    names.prime(&mut p, &mut served);
    let mut c = Client::connect(&mut p, &names.clients, &get("/early", "Connection: close\r\n"));
    p.settle(&mut served);
    c.listen(&mut p);
    assert!(c.text().ends_with("ok") && c.is_told(), "{}", c.text());
    assert!(p.client_got(c.port).1, "and TCP has ended, too");
    at_rest(&mut p, &c);
}

#[test]
fn a_client_that_never_finishes_has_the_time_of_a_head() {
    let names = Names::new();
    let served = |_: &Asked, _: u64| ok("ok", "");
    for (early, answered) in
        [(get("/early", ""), true), (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), false)]
    {
        let mut config = site(vec![origin(&[v4()])], false);
        config.client.header_ns = 5_000_000_000;
        let mut p = node(config, names.front(ROOM));
        names.prime(&mut p, &mut { served });
        let mut c = Client::connect(&mut p, &names.clients, &early);
        wait(&mut p, 4_000, &mut { served });
        c.listen(&mut p);
        assert_eq!(c.text().ends_with("ok"), answered);
        assert_eq!(count(&p, Ctr::TlsActive), 1);
        wait(&mut p, 2_000, &mut { served });
        assert_eq!((count(&p, Ctr::TlsActive), count(&p, Ctr::HttpOpen)), (0, 0));
        at_rest(&mut p, &c);
    }
}

#[test]
fn several_requests_may_come_early() {
    let names = Names::new();
    let mut p = names.node(false, ROOM);
    let asked = RefCell::default();
    let mut served = kind(&asked);
    names.prime(&mut p, &mut served);
    let many: Vec<u8> = (0..5).flat_map(|n| get(&format!("/{n}"), "")).collect();
    let long = get("/long", &format!("X-Long: {}\r\n", "z".repeat(6_000)));
    let mut c = Client::connect(&mut p, &names.clients, &[many, long].concat());
    p.settle(&mut served);
    c.listen(&mut p);
    assert_eq!(c.text().matches("HTTP/1.1 200").count(), 6, "{}", c.text());
    c.settle(&mut p, &mut served);
    assert_eq!((count(&p, Ctr::HttpEarly), count(&p, Ctr::TlsResumed)), (6, 1));
    at_rest(&mut p, &c);
    assert!(asked.borrow()[1..].iter().all(|head| lines_of(head, "early-data") == 1));
}

#[test]
fn a_worn_connection_ends_in_order() {
    let names = Names::new();
    let mut clients = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(names.identity.roots())
        .with_no_client_auth();
    clients.enable_early_data = false;
    let mut p = names.node(false, 0);
    p.cores[0].pipeline.tls.wear_after(4);
    let asked = RefCell::default();
    let mut served = kind(&asked);
    let mut c = Client::connect(&mut p, &Arc::new(clients), b"");
    c.settle(&mut p, &mut served);
    let mut n = 0;
    while !c.is_told() {
        n += 1;
        assert!(n < 10, "it goes on for ever");
        c.got.clear();
        c.send(&mut p, &get("/", ""));
        c.settle(&mut p, &mut served);
        assert!(c.text().ends_with("ok"), "{}", c.text());
    }
    assert!(c.text().to_ascii_lowercase().contains("connection: close"), "{}", c.text());
    assert!((3..=5).contains(&n), "{n} requests");
    assert!(p.client_got(c.port).1, "TCP has ended");
    at_rest(&mut p, &c);
}
