//! What the simulated hosts say: an HTTP client with a list of requests, and an origin that answers them.
//! Written without the project's own parser, so that a fault in it is not made twice.

use std::collections::VecDeque;
use std::fmt::Write as _;

use dataplane::Time;
use dataplane::rng::Rng;

/// Byte `i` of the body with this seed.
pub fn body_byte(seed: u64, i: u64) -> u8 {
    let x = (seed ^ (i >> 3)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (x >> (8 * (i & 7))) as u8
}

/// One end of a byte stream.
pub trait Session {
    /// Takes received bytes.
    fn input(&mut self, bytes: &[u8], now: Time);
    /// The peer has ended its side.
    fn eof(&mut self);
    /// The connection is over.
    fn closed(&mut self, reset: bool);
    /// Gives up to `max` bytes to send.
    fn output(&mut self, max: usize) -> Vec<u8>;
    /// What is to become of our side now.
    fn intent(&self) -> Intent;
    /// Whether received bytes are wanted now.
    fn reads(&self, now: Time) -> bool;
    /// When the session wants to be looked at again by itself.
    fn wake(&self) -> Option<Time>;
    /// `Some` when nothing is left to happen: whether all was as it should be.
    fn verdict(&self) -> Option<Result<(), String>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    Stay,
    Fin,
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    Close,
}

/// One request, and what must come back.
#[derive(Clone, Debug)]
pub struct Request {
    pub up: u64,
    pub up_chunked: bool,
    pub down: u64,
    pub framing: Framing,
    pub seed: u64,
    pub head: bool,
    /// The last of its connection, which says so.
    pub close: bool,
}

impl Request {
    /// Whether it may be sent twice: it is a GET or a HEAD.
    fn is_safe(&self) -> bool {
        self.up == 0 && !self.up_chunked
    }

    fn text(&self, v6: bool) -> Vec<u8> {
        let method = if self.head {
            "HEAD"
        } else if self.is_safe() {
            "GET"
        } else {
            "POST"
        };
        let framing = match self.framing {
            Framing::Length => "l",
            Framing::Chunked => "c",
            Framing::Close => "x",
        };
        let host = if v6 { "[fd01::1]" } else { "sim.example" };
        let mut s = format!(
            "{method} /{framing}/{}/{}/{} HTTP/1.1\r\nHost: {host}\r\n",
            self.down, self.seed, self.up
        );
        if self.close {
            s.push_str("Connection: close\r\n");
        }
        if self.up_chunked {
            s.push_str("Transfer-Encoding: chunked\r\n\r\n");
        } else if self.up > 0 {
            let _ = write!(s, "Content-Length: {}\r\n\r\n", self.up);
        } else {
            s.push_str("\r\n");
        }
        let mut out = s.into_bytes();
        let mut at = 0;
        let mut rng = Rng::new(self.seed);
        while at < self.up {
            let n = if self.up_chunked { rng.range(1, 9000).min(self.up - at) } else { self.up };
            if self.up_chunked {
                out.extend(format!("{n:x}\r\n").into_bytes());
            }
            out.extend((at..at + n).map(|i| body_byte(self.seed, i)));
            if self.up_chunked {
                out.extend(b"\r\n");
            }
            at += n;
        }
        if self.up_chunked {
            out.extend(b"0\r\n\r\n");
        }
        out
    }
}

/// How a message's body is known to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Left(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    ToEof,
}

/// A reader of one message after another: heads as text, bodies by length, chunks or the end.
struct Reader {
    buf: Vec<u8>,
    body: Option<Body>,
}

enum Item {
    Head(String),
    Data(Vec<u8>),
    End,
}

impl Reader {
    fn new() -> Reader {
        Reader { buf: Vec::new(), body: None }
    }

    fn line(&mut self) -> Option<String> {
        let at = self.buf.windows(2).position(|w| w == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.buf[..at]).into_owned();
        self.buf.drain(..at + 2);
        Some(line)
    }

    fn next(&mut self) -> Option<Item> {
        match self.body {
            None => {
                let at = self.buf.windows(4).position(|w| w == b"\r\n\r\n")?;
                let head = String::from_utf8_lossy(&self.buf[..at]).into_owned();
                self.buf.drain(..at + 4);
                Some(Item::Head(head))
            }
            Some(Body::Left(0)) => {
                self.body = None;
                Some(Item::End)
            }
            Some(Body::Left(n)) | Some(Body::ChunkData(n)) => {
                let k = (self.buf.len() as u64).min(n);
                if k == 0 {
                    return None;
                }
                let data: Vec<u8> = self.buf.drain(..k as usize).collect();
                self.body = Some(match self.body {
                    Some(Body::Left(_)) => Body::Left(n - k),
                    _ if n == k => Body::ChunkEnd,
                    _ => Body::ChunkData(n - k),
                });
                Some(Item::Data(data))
            }
            Some(Body::ChunkEnd) => {
                assert_eq!(self.line()?, "", "a chunk ends with CRLF");
                self.body = Some(Body::ChunkLine);
                self.next()
            }
            Some(Body::ChunkLine) => {
                let line = self.line()?;
                let n = u64::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("chunk line {line:?}"));
                self.body = Some(if n == 0 { Body::Trailer } else { Body::ChunkData(n) });
                self.next()
            }
            Some(Body::Trailer) => {
                if self.line()?.is_empty() {
                    self.body = Some(Body::Left(0));
                }
                self.next()
            }
            Some(Body::ToEof) => {
                if self.buf.is_empty() {
                    return None;
                }
                Some(Item::Data(std::mem::take(&mut self.buf)))
            }
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|l| {
        let (n, v) = l.split_once(':')?;
        n.eq_ignore_ascii_case(name).then_some(v.trim())
    })
}

/// A client's connection.
pub struct Client {
    requests: VecDeque<Request>,
    waiting: VecDeque<Request>,
    out: Vec<u8>,
    sent: usize,
    pipeline: bool,
    v6: bool,
    reader: Reader,
    got: u64,
    /// Stops reading once, after this many bytes, for this long.
    pause: Option<(u64, u64)>,
    paused_until: Time,
    /// Aborts after this many bytes.
    abort_at: Option<u64>,
    total: u64,
    aborted: bool,
    over: Option<Result<(), String>>,
    done: bool,
}

impl Client {
    pub fn new(
        requests: Vec<Request>,
        pipeline: bool,
        v6: bool,
        pause: Option<(u64, u64)>,
        abort_at: Option<u64>,
    ) -> Client {
        let mut c = Client {
            requests: requests.into(),
            waiting: VecDeque::new(),
            out: Vec::new(),
            sent: 0,
            pipeline,
            v6,
            reader: Reader::new(),
            got: 0,
            pause,
            paused_until: Time(0),
            abort_at,
            total: 0,
            aborted: false,
            over: None,
            done: false,
        };
        c.ask();
        c
    }

    /// Whether all that it says before it has an answer may be sent twice.
    pub fn begins_safely(&self) -> bool {
        self.waiting.iter().all(Request::is_safe)
    }

    fn ask(&mut self) {
        while let Some(r) = self.requests.front() {
            // One at a time, unless pipelining; and nothing behind a request whose answer ends the connection.
            if !self.waiting.is_empty() && (!self.pipeline || self.waiting.len() > 8) {
                break;
            }
            let text = r.text(self.v6);
            self.out.drain(..self.sent);
            self.sent = 0;
            self.out.extend(text);
            let r = self.requests.pop_front().expect("looked at");
            self.waiting.push_back(r);
        }
        if self.waiting.is_empty() && self.requests.is_empty() {
            self.done = true;
        }
    }

    fn fail(&mut self, what: String) {
        if self.over.is_none() {
            self.over = Some(Err(what));
        }
    }

    fn head(&mut self, head: &str) {
        let Some(r) = self.waiting.front() else { return self.fail(format!("an answer to nothing: {head}")) };
        if !head.starts_with("HTTP/1.1 200") {
            return self.fail(format!("{head} to {r:?}"));
        }
        if header(head, "x-up") != Some(&format!("{} ok", r.up)) {
            return self.fail(format!("the origin got {:?} of {r:?}", header(head, "x-up")));
        }
        self.got = 0;
        let body = if r.head {
            Body::Left(0)
        } else if header(head, "transfer-encoding") == Some("chunked") {
            Body::ChunkLine
        } else if let Some(n) = header(head, "content-length") {
            Body::Left(n.parse().expect("a number"))
        } else {
            Body::ToEof
        };
        self.reader.body = Some(body);
    }

    fn end(&mut self) {
        let Some(r) = self.waiting.pop_front() else { return };
        let want = if r.head { 0 } else { r.down };
        if self.got != want {
            self.fail(format!("{} of {want} bytes of {r:?}", self.got));
        }
        self.ask();
    }
}

impl Session for Client {
    fn input(&mut self, bytes: &[u8], now: Time) {
        self.total += bytes.len() as u64;
        if let Some((after, ns)) = self.pause
            && self.total >= after
        {
            self.pause = None;
            self.paused_until = now.plus_ns(ns);
        }
        if self.abort_at.is_some_and(|n| self.total >= n) {
            self.aborted = true;
        }
        self.reader.buf.extend_from_slice(bytes);
        while let Some(item) = self.reader.next() {
            match item {
                Item::Head(h) => self.head(&h),
                Item::Data(d) => {
                    let Some(r) = self.waiting.front() else {
                        return self.fail("data without a request".into());
                    };
                    let seed = r.seed ^ 0xD0;
                    if let Some(k) = (self.got..).zip(&d).find(|(i, b)| body_byte(seed, *i) != **b) {
                        return self.fail(format!("byte {} is wrong in the answer to {r:?}", k.0));
                    }
                    self.got += d.len() as u64;
                }
                Item::End => self.end(),
            }
            if self.over.is_some() {
                return;
            }
        }
    }

    fn eof(&mut self) {
        if self.reader.body == Some(Body::ToEof) {
            self.reader.body = None;
            self.end();
        }
        if !self.done && !self.aborted {
            self.fail(format!("ended early; {} requests waited", self.waiting.len()));
        }
    }

    fn closed(&mut self, reset: bool) {
        if !self.done && !self.aborted {
            self.fail(format!("closed (reset: {reset}) with {} requests waiting", self.waiting.len()));
        }
        if self.over.is_none() {
            self.over = Some(Ok(()));
        }
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        let n = max.min(self.out.len() - self.sent);
        let part = self.out[self.sent..self.sent + n].to_vec();
        self.sent += n;
        part
    }

    fn intent(&self) -> Intent {
        if self.aborted || matches!(self.over, Some(Err(_))) {
            Intent::Abort
        } else if self.done && self.sent == self.out.len() {
            Intent::Fin
        } else {
            Intent::Stay
        }
    }

    fn reads(&self, now: Time) -> bool {
        now >= self.paused_until
    }

    fn wake(&self) -> Option<Time> {
        (self.paused_until > Time(0)).then_some(self.paused_until)
    }

    fn verdict(&self) -> Option<Result<(), String>> {
        self.over.clone()
    }
}

/// An origin's connection: answers what the path asks for.
#[derive(Default)]
pub struct Origin {
    reader: Option<Reader>,
    asked: Option<Asked>,
    out: Vec<u8>,
    sent: usize,
    end: bool,
    over: bool,
    wrong: Option<String>,
}

struct Asked {
    down: u64,
    framing: char,
    seed: u64,
    up: u64,
    got: u64,
    head: bool,
    /// The edge says that it came before its client's handshake was done, and this origin waits for that.
    too_early: bool,
}

impl Origin {
    fn head(&mut self, head: &str) -> Body {
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let p: Vec<&str> = path.split('/').collect();
        let n = |i: usize| p.get(i).and_then(|s| s.parse::<u64>().ok()).unwrap_or(u64::MAX);
        let early = header(head, "early-data");
        self.asked = Some(Asked {
            framing: p.get(1).and_then(|s| s.chars().next()).unwrap_or('?'),
            down: n(2),
            seed: n(3),
            up: n(4),
            got: 0,
            head: method == "HEAD",
            too_early: early.is_some() && n(3) % 4 == 0,
        });
        if header(head, "x-forwarded-for").is_none() || header(head, "via").is_none() {
            self.wrong = Some(format!("not from a proxy: {head}"));
        }
        if early.is_some_and(|mark| mark != "1" || !matches!(method, "GET" | "HEAD")) {
            self.wrong = Some(format!("not to be sent twice: {head}"));
        }
        if header(head, "transfer-encoding").is_some() {
            Body::ChunkLine
        } else {
            Body::Left(header(head, "content-length").map_or(0, |v| v.parse().expect("a number")))
        }
    }

    fn answer(&mut self) {
        let Some(a) = self.asked.take() else { return };
        if a.too_early {
            self.out.drain(..self.sent);
            self.sent = 0;
            return self.out.extend(b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n");
        }
        let up = if a.got == a.up { format!("{} ok", a.up) } else { format!("{} of {}", a.got, a.up) };
        let mut s = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=864000\r\nX-Up: {up}\r\n");
        match a.framing {
            'c' => s.push_str("Transfer-Encoding: chunked\r\n"),
            'x' => s.push_str("Connection: close\r\n"),
            _ => drop(write!(s, "Content-Length: {}\r\n", a.down)),
        }
        s.push_str("\r\n");
        self.out.drain(..self.sent);
        self.sent = 0;
        self.out.extend(s.into_bytes());
        if !a.head {
            let seed = a.seed ^ 0xD0;
            let mut at = 0;
            let mut rng = Rng::new(seed);
            while at < a.down {
                let n = if a.framing == 'c' { rng.range(1, 6000).min(a.down - at) } else { a.down };
                if a.framing == 'c' {
                    self.out.extend(format!("{n:X}\r\n").into_bytes());
                }
                self.out.extend((at..at + n).map(|i| body_byte(seed, i)));
                if a.framing == 'c' {
                    self.out.extend(b"\r\n");
                }
                at += n;
            }
            if a.framing == 'c' {
                self.out.extend(b"0\r\n\r\n");
            }
        }
        self.end |= a.framing == 'x';
    }
}

impl Session for Origin {
    fn input(&mut self, bytes: &[u8], _now: Time) {
        let mut reader = self.reader.take().unwrap_or_else(Reader::new);
        reader.buf.extend_from_slice(bytes);
        while let Some(item) = reader.next() {
            match item {
                Item::Head(h) => reader.body = Some(self.head(&h)),
                Item::Data(d) => {
                    if let Some(a) = &mut self.asked {
                        if (a.got..).zip(&d).any(|(i, b)| body_byte(a.seed, i) != *b) {
                            self.wrong = Some(format!("a wrong byte in the upload with seed {}", a.seed));
                        }
                        a.got += d.len() as u64;
                    }
                }
                Item::End => self.answer(),
            }
        }
        self.reader = Some(reader);
    }

    fn eof(&mut self) {
        self.end = true;
    }

    fn closed(&mut self, _reset: bool) {
        self.over = true;
    }

    fn output(&mut self, max: usize) -> Vec<u8> {
        let n = max.min(self.out.len() - self.sent);
        let part = self.out[self.sent..self.sent + n].to_vec();
        self.sent += n;
        part
    }

    fn intent(&self) -> Intent {
        if self.end && self.sent == self.out.len() { Intent::Fin } else { Intent::Stay }
    }

    fn reads(&self, _now: Time) -> bool {
        // An origin that answers is not read ahead of.
        self.out.len() - self.sent < 1 << 16
    }

    fn wake(&self) -> Option<Time> {
        None
    }

    fn verdict(&self) -> Option<Result<(), String>> {
        match (&self.wrong, self.over) {
            (Some(w), _) => Some(Err(w.clone())),
            (None, true) => Some(Ok(())),
            _ => None,
        }
    }
}
