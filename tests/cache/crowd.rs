//! A thousand clients on two cores ask at once for one large object, whose origin sends a megabyte a second.
//!
//! Bodies are compared with what the origin sent as they come, byte by byte, and then forgotten: a thousand times ten
//! megabytes would not fit into memory. By default the object is smaller, as this is run with every build;
//! `MILLRACE_COLLAPSE=full` makes it 10 MB, which `scripts/checks/collapse.sh` does with optimised code.
//!
//! In [`Crowd`] the cores are turned one after the other under a virtual clock; `crowd_threads.rs` gives each a thread.

use std::collections::{BTreeMap, BTreeSet};

use crate::rig::{CACHE_BYTES, later, node_of};
use crate::support::peers::{Act, Asked, Peers};

pub const CLIENTS: usize = 1000;
/// Bytes that the origin sends, and the time from one piece to the next: 1 MB/s.
const PIECE: usize = 10_000;
const PIECE_MS: u64 = 10;
/// How far a client may be behind what the origin has sent: what that sends in 20 ms. The last piece may wait for a
/// window that is still closed.
pub const LAG: usize = 2 * PIECE;
/// Digits at the beginning of a body that say which answer it is.
const DIGITS: usize = 8;

/// Bytes of the object; a multiple of ten pieces.
pub fn size() -> usize {
    match std::env::var("MILLRACE_COLLAPSE").as_deref() {
        Ok("full") => 10_000_000,
        Ok(other) => panic!("MILLRACE_COLLAPSE is \"full\" or not there, not {other:?}"),
        Err(_) => 300_000,
    }
}

/// A cache that keeps such an object: one of its shards has to hold it.
pub fn cache_bytes() -> u64 {
    CACHE_BYTES.max(size() as u64 * 32)
}

pub fn get(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: book.lab\r\n{more}\r\n").into_bytes()
}

/// The bodies of all answers that an origin may give: no two are alike.
pub struct Bodies {
    pattern: Vec<u8>,
    pub size: usize,
}

impl Bodies {
    pub fn new(size: usize) -> Bodies {
        let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        Bodies { pattern: (0..size + 2 * CLIENTS).map(byte).collect(), size }
    }

    /// Bytes `at..at + n` of an answer's body, or as many as there are.
    pub fn of(&self, answer: usize, at: usize, n: usize) -> Vec<u8> {
        let end = (at + n).min(self.size);
        let digits = format!("{answer:0DIGITS$}");
        let mut bytes = digits.as_bytes().get(at..end.min(DIGITS)).unwrap_or_default().to_vec();
        bytes.extend(&self.pattern[answer..][at.max(DIGITS)..end.max(DIGITS)]);
        bytes
    }

    fn agree(&self, answer: usize, at: usize, bytes: &[u8]) -> bool {
        match at >= DIGITS {
            true => self.pattern[answer..].get(at..at + bytes.len()) == Some(bytes),
            false => self.of(answer, at, bytes.len()) == bytes,
        }
    }
}

/// One client, and what it has got so far.
pub struct Client {
    pub port: u16,
    /// Its response's head, once that is there.
    pub head: Option<String>,
    /// Which answer it gets.
    pub answer: Option<usize>,
    /// Bytes of the body.
    pub got: usize,
    /// The connection has ended, or was reset.
    pub over: bool,
}

impl Client {
    pub fn new(port: u16) -> Client {
        Client { port, head: None, answer: None, got: 0, over: false }
    }

    /// Takes what has come, and compares it.
    pub fn take(&mut self, p: &mut Peers, bodies: &Bodies) {
        let (input, ended, reset) = p.client_got(self.port);
        self.over = ended || reset;
        if self.head.is_none() {
            let Some(n) = input.windows(4).position(|w| w == b"\r\n\r\n") else { return };
            self.head = Some(String::from_utf8_lossy(&input[..n + 4]).into_owned());
            input.drain(..n + 4);
        }
        if self.answer.is_none() {
            let Some(digits) = input.get(..DIGITS) else { return };
            let digits = std::str::from_utf8(digits).expect("digits");
            self.answer = Some(digits.parse().expect("the number of an answer"));
        }
        let answer = self.answer.unwrap_or_default();
        assert!(
            bodies.agree(answer, self.got, input),
            "a client of answer {answer} got other bytes after {}",
            self.got
        );
        self.got += input.len();
        input.clear();
    }

    pub fn is_status(&self, status: u16) -> bool {
        self.head.as_ref().is_some_and(|h| h.starts_with(&format!("HTTP/1.1 {status} ")))
    }

    /// Whether it has a whole body behind such a head, and knows it.
    pub fn is_whole(&self, status: u16, size: usize) -> bool {
        let length = format!("content-length: {size}\r\n");
        let head = self.head.as_ref().map(|h| h.to_ascii_lowercase()).unwrap_or_default();
        self.is_status(status) && head.contains(&length) && self.got == size
    }
}

/// An answer that the origin is giving.
struct Giving {
    port: u16,
    sent: usize,
}

/// The node, its clients, and an origin that gives every request an answer of its own, at its pace.
struct Crowd {
    p: Peers,
    bodies: Bodies,
    clients: Vec<Client>,
    /// What the head says before the length: status and fields.
    head: String,
    given: Vec<Giving>,
    asked: Vec<String>,
    /// Things that were looked at, to say so.
    looks: u64,
}

impl Crowd {
    fn new(head: &str) -> Crowd {
        let bodies = Bodies::new(size());
        let (given, asked, clients) = (Vec::new(), Vec::new(), Vec::new());
        // Room for the object and a little more; 1,000 clients may want connections of their own to the origin.
        let p = node_of(2, 2048, cache_bytes(), 12 << 20);
        Crowd { p, bodies, clients, head: head.to_owned(), given, asked, looks: 0 }
    }

    fn join(&mut self, n: usize, path: &str, more: &str) {
        for _ in 0..n {
            let port = self.p.connect(&get(path, more));
            self.clients.push(Client::new(port));
        }
        self.wait(0);
    }

    /// Lets time go by; requests that come meanwhile are answered with a head.
    fn wait(&mut self, ms: u64) {
        let mut new = Vec::new();
        let (head, size, asked) = (&self.head, self.bodies.size, &mut self.asked);
        let then = later(&self.p, ms);
        self.p.until(then, &mut |a: &Asked, _| {
            new.push(Giving { port: a.0, sent: 0 });
            asked.push(a.1.clone());
            let head = format!("HTTP/1.1 {head}Content-Length: {size}\r\n\r\n");
            Act::Send(head.into_bytes(), false)
        });
        self.given.extend(new);
    }

    /// The origin sends a piece of every answer that it has begun; whoever reads is close behind.
    fn piece(&mut self) {
        for (n, g) in self.given.iter_mut().enumerate() {
            let bytes = self.bodies.of(n, g.sent, PIECE);
            if !bytes.is_empty() {
                self.p.origin_sends(g.port, &bytes);
                g.sent += bytes.len();
            }
        }
        self.wait(PIECE_MS);
        for c in &mut self.clients {
            c.take(&mut self.p, &self.bodies);
            let sent = c.answer.map_or(0, |n| self.given[n].sent);
            assert!(c.got <= sent && c.got + LAG > sent, "the origin sent {sent}, a client got {}", c.got);
            self.looks += 1;
        }
    }

    /// So many bytes of the first answer, in all; everybody has one by then.
    fn until_sent(&mut self, bytes: usize) {
        while self.given[0].sent < bytes {
            self.piece();
        }
        assert!(self.clients.iter().all(|c| c.answer.is_some()), "a client waits for an answer");
    }

    fn leave(&mut self, n: usize) {
        for c in self.clients.drain(..n) {
            self.p.client_resets(c.port);
        }
        self.wait(0);
    }

    /// Everybody has all of the same answer, and it was the only one.
    fn all_have_one(&self) {
        let size = self.bodies.size;
        assert_eq!(self.asked.len(), 1, "the last one: {:?}", self.asked.last());
        assert!(self.clients.iter().all(|c| c.is_whole(200, size) && c.answer == Some(0)));
    }

    /// Those who come later are served from the store.
    fn is_stored(&mut self, path: &str) {
        let (asked, before) = (self.asked.len(), self.clients.len());
        self.join(10, path, "");
        self.wait(2000);
        for c in &mut self.clients[before..] {
            c.take(&mut self.p, &self.bodies);
            assert!(c.is_whole(200, self.bodies.size));
        }
        assert_eq!(self.asked.len(), asked);
    }
}

const STORED: &str = "200 OK\r\nCache-Control: max-age=600\r\n";

#[test]
fn a_thousand_clients_are_one_request_and_stream_at_the_origins_pace() {
    let mut w = Crowd::new(STORED);
    w.join(CLIENTS, "/one", "");
    let size = w.bodies.size;
    w.until_sent(size);
    w.all_have_one();
    w.is_stored("/one");
    println!("{} clients, {size} B each, {} looks at how far one of them is", CLIENTS, w.looks);
}

#[test]
fn the_first_of_a_thousand_leaves_after_a_second() {
    let mut w = Crowd::new(STORED);
    // It is alone when its request is passed on: nobody else can be the first.
    w.join(1, "/left", "");
    assert_eq!(w.asked.len(), 1);
    w.join(CLIENTS - 1, "/left", "");
    let size = w.bodies.size;
    // A second, of 10 MB.
    w.until_sent(size / 10);
    w.leave(1);
    w.until_sent(size);
    assert_eq!(w.clients.len(), CLIENTS - 1);
    w.all_have_one();
    w.is_stored("/left");
}

#[test]
fn an_origin_that_fails_in_the_middle_is_seen_by_a_thousand() {
    for resets in [false, true] {
        let mut w = Crowd::new(STORED);
        w.join(CLIENTS, "/breaks", "");
        let half = w.bodies.size / 2;
        w.until_sent(half);
        let port = w.given[0].port;
        match resets {
            true => w.p.origin_resets(port),
            false => w.p.origin_closes(port),
        }
        w.wait(0);
        for c in &mut w.clients {
            c.take(&mut w.p, &w.bodies);
            assert!(c.is_status(200) && c.over && c.got <= half, "told nothing of the failure");
            assert!(c.got + LAG > half, "only {} of {half} bytes", c.got);
        }
        assert_eq!(w.asked.len(), 1, "those who have begun cannot begin again");
        // Nothing of it is kept.
        w.leave(CLIENTS);
        w.wait(2000);
        w.join(1, "/breaks", "");
        assert_eq!(w.asked.len(), 2);
    }
}

/// An answer that is nobody else's: a thousand requests, each with its own, each streamed at the origin's pace.
fn each_its_own(status: u16, head: &str, more: &str) {
    let mut w = Crowd::new(head);
    w.join(CLIENTS, "/own", more);
    // Who waited asks when it is known that waiting was for nothing, all before the first piece.
    assert_eq!(w.asked.len(), CLIENTS);
    let size = w.bodies.size;
    w.until_sent(size);
    assert!(w.clients.iter().all(|c| c.is_whole(status, size)));
    let different: BTreeSet<_> = w.clients.iter().filter_map(|c| c.answer).collect();
    assert_eq!((w.asked.len(), different.len()), (CLIENTS, CLIENTS), "requests, and different answers");
}

#[test]
fn no_store_is_for_each_of_a_thousand_its_own() {
    each_its_own(200, "200 OK\r\nCache-Control: no-store\r\n", "");
}

#[test]
fn a_part_is_for_each_of_a_thousand_its_own() {
    let last = size() - 1;
    let head = format!(
        "206 Partial Content\r\nCache-Control: max-age=600\r\nContent-Range: bytes 0-{last}/{}\r\n",
        2 * size()
    );
    // Nobody asked for a part, but it is one.
    each_its_own(206, &head, "");
}

#[test]
fn a_validation_of_a_thousand_is_one_request() {
    let mut w = Crowd::new("200 OK\r\nCache-Control: max-age=1\r\nETag: \"1\"\r\n");
    w.join(1, "/valid", "");
    let size = w.bodies.size;
    w.until_sent(size);
    w.all_have_one();
    w.leave(1);
    w.wait(20_000);
    w.clients = (0..CLIENTS).map(|_| Client::new(w.p.connect(&get("/valid", "")))).collect();
    let mut seen = BTreeMap::new();
    let then = later(&w.p, 1000);
    w.p.until(then, &mut |a: &Asked, _| {
        seen.insert(a.0, a.1.to_ascii_lowercase());
        Act::Hold
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
    let (port, request) = seen.first_key_value().expect("one");
    assert!(request.contains("if-none-match: \"1\""), "{request}");
    for c in &mut w.clients {
        c.take(&mut w.p, &w.bodies);
        assert!(c.head.is_none(), "an answer before the origin said that it may be given");
    }
    w.p.origin_sends(
        *port,
        b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=600\r\nETag: \"1\"\r\n\r\n",
    );
    // As fast as everyone reads: what has come is taken now and then. A thousand windows at once are more than a core
    // queues for its port, so that some of it is sent again, after a while.
    let end = later(&w.p, 60_000);
    loop {
        let (mut busy, asked) = (false, &mut w.asked);
        for _ in 0..50 {
            busy |= w.p.pass(&mut |a: &Asked, _| {
                asked.push(a.1.clone());
                Act::Hold
            });
        }
        w.clients.iter_mut().for_each(|c| c.take(&mut w.p, &w.bodies));
        if w.clients.iter().all(|c| c.got == size) {
            break;
        }
        if !busy {
            w.p.now = w.p.deadline().expect("somebody waits, and for nothing");
            assert!(w.p.now < end, "it takes too long");
        }
    }
    w.all_have_one();
}
