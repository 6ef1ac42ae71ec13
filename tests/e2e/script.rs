//! An origin that misbehaves as the path asks: on port 9000 of the origin's namespace, v4 and v6, and on 9010.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::lab::{Lab, PATIENCE};

/// What the origin saw.
#[derive(Default)]
pub struct Seen {
    /// Heads of the requests, by path.
    heads: Mutex<HashMap<String, Vec<String>>>,
    /// Bytes that came through tunnels whose origin had ended its half.
    pub late: Arc<AtomicUsize>,
}

impl Seen {
    pub fn count(&self, path: &str) -> usize {
        self.heads.lock().expect("whole").get(path).map_or(0, Vec::len)
    }

    pub fn last(&self, path: &str) -> String {
        self.heads.lock().expect("whole").get(path).and_then(|h| h.last().cloned()).unwrap_or_default()
    }
}

/// Starts it; it ends with the process.
pub fn start(lab: &Lab) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    for at in ["10.80.0.3:9000", "[fd80::3]:9000", "10.80.0.3:9010"] {
        let listener = lab.listen(at.parse::<SocketAddr>().expect("an address"));
        let seen = Arc::clone(&seen);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                // Whatever fails here, the client's side of the node is what is judged.
                thread::spawn(move || drop(Connection::new(socket, &seen).serve(&seen)));
            }
        });
    }
    seen
}

struct Connection {
    socket: TcpStream,
    unread: Vec<u8>,
    served: usize,
    ended_with: Arc<AtomicUsize>,
}

type Go = std::io::Result<bool>;

impl Connection {
    fn new(socket: TcpStream, seen: &Seen) -> Connection {
        socket.set_nodelay(true).expect("set");
        socket.set_read_timeout(Some(2 * PATIENCE)).expect("set");
        socket.set_write_timeout(Some(2 * PATIENCE)).expect("set");
        Connection { socket, unread: Vec::new(), served: 0, ended_with: Arc::clone(&seen.late) }
    }

    fn serve(mut self, seen: &Seen) -> std::io::Result<()> {
        loop {
            let Some(head) = self.until(b"\r\n\r\n")? else { return Ok(()) };
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
            seen.heads.lock().expect("whole").entry(path.clone()).or_default().push(head.clone());
            if !self.behave(&path, &head)? {
                return Ok(());
            }
            self.served += 1;
        }
    }

    /// Gives whether the connection goes on.
    fn behave(&mut self, path: &str, head: &str) -> Go {
        let name = path.split('?').next().unwrap_or_default();
        match name {
            "/hang-head" => self.hang(),
            // Longer than a TAP device remembers which of its queues a connection is on.
            "/late" => {
                self.body(head)?;
                thread::sleep(Duration::from_secs(5));
                self.ok("better late")
            }
            "/hang-body" => {
                self.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")?;
                self.hang()
            }
            "/hang-chunk" => {
                self.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")?;
                self.hang()
            }
            "/hang-in-head" => {
                self.say("HTTP/1.1 200 OK\r\nContent-Le")?;
                self.hang()
            }
            "/close" => Ok(false),
            "/cut-head" => self.end_with("HTTP/1.1 200 OK\r\nContent-Le"),
            "/cut-length" => {
                self.say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
                self.end_with(&"x".repeat(50_000))
            }
            "/cut-length-by-one" => self.end_with("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n12345"),
            "/cut-before-body" => self.end_with("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
            "/cut-chunk" => self.end_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhello"),
            "/cut-chunks" => self.end_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            "/cut-last-chunk" => {
                self.end_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
            }
            "/cut-trailers" => self
                .end_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n"),
            "/reset" => self.reset(),
            "/reset-body" => {
                self.say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome")?;
                self.pause();
                self.reset()
            }
            "/reset-until-close" => {
                self.say("HTTP/1.1 200 OK\r\n\r\nsome")?;
                self.pause();
                self.reset()
            }
            "/until-close" => self.end_with("HTTP/1.1 200 OK\r\n\r\nup to the end"),
            "/garbage" => self.end_with("\u{1}\u{2}\u{3} this is \r\n no HTTP \r\n\r\n at all"),
            "/garbage-endless" => loop {
                self.socket.write_all(&[0xa5; 4096])?;
            },
            "/huge-head" => {
                self.say("HTTP/1.1 200 OK\r\nX-Huge: ")?;
                self.say(&"h".repeat(1 << 20))?;
                self.end_with("\r\nContent-Length: 2\r\n\r\nok")
            }
            "/endless-head" => {
                self.say("HTTP/1.1 200 OK\r\n")?;
                loop {
                    self.say("X-More: and more of it\r\n")?;
                }
            }
            "/interim" => loop {
                self.say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
            },
            "/hints" => {
                self.say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
                self.ok("hinted")
            }
            "/bad-chunk" => self.end_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
            "/bad-chunk-later" => self.end_with(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhelloMORE\r\n0\r\n\r\n",
            ),
            "/two-framings" => self.end_with(
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
            "/two-lengths" => self.end_with("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
            "/switch-unasked" => self.end_with("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            // The answer comes before the body is read, and the rest of that is met by a reset.
            "/early" => {
                self.pause();
                self.end_with("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
            }
            // The same, but it reads on.
            "/early-and-read" => {
                self.ok("enough")?;
                self.body(head)?;
                Ok(true)
            }
            // Works once on a connection; the next request on it is answered by closing.
            "/stale" if self.served > 0 => Ok(false),
            "/stale-reset" if self.served > 0 => self.reset(),
            "/stale" | "/stale-reset" => {
                self.body(head)?;
                self.ok("fresh")
            }
            "/bytes" => {
                let n: usize = path.split_once('=').and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
                self.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n"))?;
                for k in (0..n).step_by(4096) {
                    self.socket.write_all(&vec![b'0' + (k >> 12) as u8 % 10; 4096.min(n - k)])?;
                }
                Ok(true)
            }
            "/empty-chunked" => {
                self.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")?;
                Ok(true)
            }
            "/trailers" => {
                self.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")?;
                self.say("5\r\nhello\r\n6;a=b\r\n world\r\n")?;
                self.pause();
                self.say("0\r\nX-Sum: 42\r\nX-Other: two words\r\n\r\n")?;
                Ok(true)
            }
            // Takes its time to read the body, and says what it was.
            "/slow-echo" => {
                thread::sleep(Duration::from_millis(700));
                self.echo(head)
            }
            "/echo" => self.echo(head),
            // Reads a little now and then.
            "/sip" => {
                let mut buf = [0; 1024];
                while self.socket.read(&mut buf)? > 0 {
                    thread::sleep(Duration::from_secs(1));
                }
                Ok(false)
            }
            // Ends its half first, and says how much came after that.
            "/upgrade-and-end" => {
                self.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: Upgrade\r\n\r\nbye\n")?;
                self.socket.shutdown(Shutdown::Write)?;
                let mut n = self.unread.len();
                while self.more()? {
                    n = self.unread.len();
                }
                self.ended_with.fetch_add(n, Ordering::Relaxed);
                Ok(false)
            }
            "/upgrade" | "/upgrade-slowly" => {
                self.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: Upgrade\r\n\r\nwelcome\n")?;
                loop {
                    let mut buf = [0; 16384];
                    let n = match self.unread.len() {
                        0 => self.socket.read(&mut buf)?,
                        n => {
                            buf[..n].copy_from_slice(&self.unread);
                            self.unread.clear();
                            n
                        }
                    };
                    if n == 0 {
                        // Data and FIN in one segment are another case than one after the other.
                        self.say("goodbye\n")?;
                        if name.ends_with("slowly") {
                            self.pause();
                        }
                        return Ok(false);
                    }
                    self.socket.write_all(&buf[..n])?;
                }
            }
            _ => {
                self.body(head)?;
                self.ok("ok")
            }
        }
    }

    fn echo(&mut self, head: &str) -> Go {
        let (body, trailers) = self.body(head)?;
        let trailers = trailers.replace("\r\n", "|");
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Trailers: {trailers}\r\n\r\n", body.len());
        self.say(&head)?;
        self.socket.write_all(&body)?;
        Ok(true)
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.socket.write_all(text.as_bytes())
    }

    fn ok(&mut self, body: &str) -> Go {
        self.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))?;
        Ok(true)
    }

    /// Lets what was sent arrive on its own.
    fn pause(&self) {
        thread::sleep(Duration::from_millis(50));
    }

    fn end_with(&mut self, text: &str) -> Go {
        self.say(text)?;
        Ok(false)
    }

    /// Says nothing more until the other side has had enough.
    fn hang(&mut self) -> Go {
        let mut buf = [0; 4096];
        while self.socket.read(&mut buf)? > 0 {}
        let _ = self.socket.shutdown(Shutdown::Both);
        Ok(false)
    }

    fn reset(&mut self) -> Go {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))?;
        Ok(false)
    }

    /// Up to and with `mark`; `None` at the end.
    fn until(&mut self, mark: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|w| w == mark) {
                return Ok(Some(self.unread.drain(..at + mark.len()).collect()));
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    fn more(&mut self) -> Go {
        let mut buf = [0; 65536];
        let n = self.socket.read(&mut buf)?;
        self.unread.extend_from_slice(&buf[..n]);
        Ok(n > 0)
    }

    fn exactly(&mut self, n: usize) -> std::io::Result<Vec<u8>> {
        while self.unread.len() < n {
            if !self.more()? {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.unread.drain(..n).collect())
    }

    /// The request's body, and its trailers.
    fn body(&mut self, head: &str) -> std::io::Result<(Vec<u8>, String)> {
        let field = |name: &str| {
            let value = |l: &str| {
                l.split_once(':')
                    .filter(|(n, _)| n.eq_ignore_ascii_case(name))
                    .map(|(_, v)| v.trim().to_owned())
            };
            head.lines().find_map(value)
        };
        if field("Expect").is_some() {
            self.say("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Some(n) = field("Content-Length") {
            let n = n.parse().expect("a length from the node");
            return Ok((self.exactly(n)?, String::new()));
        }
        let mut body = Vec::new();
        let mut trailers = String::new();
        if field("Transfer-Encoding").is_some() {
            let eof = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            loop {
                let line = self.until(b"\r\n")?.ok_or_else(eof)?;
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let n = usize::from_str_radix(&line, 16).expect("a chunk size from the node");
                if n == 0 {
                    break;
                }
                body.extend(self.exactly(n)?);
                assert_eq!(self.exactly(2)?, b"\r\n", "a chunk's end from the node");
            }
            loop {
                let line = self.until(b"\r\n")?.ok_or_else(eof)?;
                if line == b"\r\n" {
                    break;
                }
                trailers.push_str(&String::from_utf8_lossy(&line));
            }
        }
        Ok((body, trailers))
    }
}
