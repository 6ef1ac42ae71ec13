//! A client that sends what it is told, byte for byte, and judges answers strictly: whole, or how not.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::lab::PATIENCE;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its framing says: all of it is there.
    Whole,
    /// The connection ended in order before that.
    CutShort,
    /// The connection was reset before that.
    Reset,
    /// Nothing more came.
    Silence,
    /// The framing is broken.
    Nonsense,
}

#[derive(Debug)]
pub struct Answer {
    /// 0: not even a head.
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
    /// Statuses of the interim answers before it.
    pub interim: Vec<u16>,
    pub end: End,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|l| {
            let (n, v) = l.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }

    /// The status, of an answer that is whole.
    pub fn whole(&self) -> u16 {
        assert_eq!(self.end, End::Whole, "{self:?}");
        self.status
    }

    /// That a client cannot take this for the whole answer.
    pub fn is_broken(&self) -> bool {
        matches!(self.end, End::CutShort | End::Reset | End::Nonsense)
    }
}

pub struct Client {
    pub socket: TcpStream,
    unread: Vec<u8>,
    ended: Option<End>,
}

impl Client {
    pub fn new(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.set_write_timeout(Some(PATIENCE)).expect("set");
        socket.set_nodelay(true).expect("set");
        Client { socket, unread: Vec::new(), ended: None }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    /// One more byte than there is, if it comes.
    fn more(&mut self) -> Result<(), End> {
        if let Some(end) = self.ended {
            return Err(end);
        }
        let mut buf = [0; 65536];
        let end = match self.socket.read(&mut buf) {
            Ok(0) => End::CutShort,
            Ok(n) => {
                self.unread.extend_from_slice(&buf[..n]);
                return Ok(());
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => End::Silence,
            Err(_) => End::Reset,
        };
        self.ended = Some(end);
        Err(end)
    }

    /// Exactly `n` bytes; those that there are, when it ends before.
    pub fn take(&mut self, n: usize) -> (Vec<u8>, Result<(), End>) {
        while self.unread.len() < n {
            if let Err(end) = self.more() {
                return (std::mem::take(&mut self.unread), Err(end));
            }
        }
        (self.unread.drain(..n).collect(), Ok(()))
    }

    /// Up to and with `mark`.
    fn take_until(&mut self, mark: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|w| w == mark) {
                return Ok(self.unread.drain(..at + mark.len()).collect());
            }
            self.more()?;
        }
    }

    /// How the connection ends, when nothing more is expected of it.
    pub fn end(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.more() {
                return (std::mem::take(&mut self.unread), end);
            }
        }
    }

    /// The next head, whatever it is.
    pub fn interim(&mut self) -> Result<String, End> {
        Ok(String::from_utf8_lossy(&self.take_until(b"\r\n\r\n")?).into_owned())
    }

    /// The answer to a request with this method.
    pub fn answer(&mut self, method: &str) -> Answer {
        let mut a = Answer {
            status: 0,
            head: String::new(),
            body: Vec::new(),
            trailers: String::new(),
            interim: Vec::new(),
            end: End::Whole,
        };
        loop {
            match self.take_until(b"\r\n\r\n") {
                Ok(head) => a.head = String::from_utf8_lossy(&head).into_owned(),
                Err(end) => {
                    a.end = end;
                    return a;
                }
            }
            let status = a.head.strip_prefix("HTTP/1.1 ").and_then(|s| s.get(..3)?.parse().ok());
            a.status = status.unwrap_or_else(|| panic!("not an answer: {}", a.head));
            if a.status >= 200 || a.status == 101 {
                break;
            }
            a.interim.push(a.status);
        }
        if method == "HEAD" || [101, 204, 304].contains(&a.status) {
            return a;
        }
        if a.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            assert!(a.header("Content-Length").is_none(), "two framings: {}", a.head);
            self.chunks(&mut a);
        } else if let Some(n) = a.header("Content-Length") {
            let (body, end) = self.take(n.parse().expect("a length"));
            (a.body, a.end) = (body, end.err().unwrap_or(End::Whole));
        } else {
            let (body, end) = self.end();
            // Ended by closing: only a FIN says that it is whole.
            (a.body, a.end) = (body, if end == End::CutShort { End::Whole } else { end });
        }
        a
    }

    fn chunks(&mut self, a: &mut Answer) {
        let mut inner = || -> Result<(), End> {
            loop {
                let line = self.take_until(b"\r\n")?;
                let digits = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
                let n = usize::from_str_radix(&digits, 16).map_err(|_| End::Nonsense)?;
                if n == 0 {
                    break;
                }
                let (piece, end) = self.take(n);
                a.body.extend_from_slice(&piece);
                end?;
                let (line_end, end) = self.take(2);
                end?;
                if line_end != b"\r\n" {
                    return Err(End::Nonsense);
                }
            }
            loop {
                let line = self.take_until(b"\r\n")?;
                if line == b"\r\n" {
                    return Ok(());
                }
                a.trailers.push_str(&String::from_utf8_lossy(&line));
            }
        };
        if let Err(end) = inner() {
            a.end = end;
        }
    }
}
