//! The answers of one connection, one after the other: heads by l7's parser, bodies by their framing.

use dataplane::Packet;
use l7::http1::{
    BodyDecoder, BodyLength, BodyStep, HeadScan, HeaderSlots, HttpLimits, Method, Parsed, parse_response,
};
use l7::tls::record::Alert;

/// Interim responses (1xx) before a final one.
const INTERIM_MAX: u8 = 16;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What came is no response, or none that was asked for.
    NotHttp,
    /// No memory for a head in pieces.
    NoMemory,
    /// A record that cannot be opened, or the server's alert.
    Tls(Alert),
}

/// What has been found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// A piece of a body.
    Data(&'b [u8]),
    /// An interim response.
    Interim,
    /// The end of a response.
    Done,
    /// More is needed; what is left of the input must be there again before it.
    More,
}

/// Where one connection is in its answers.
pub struct Response {
    body: BodyDecoder,
    scan: HeadScan,
    /// The start of a head, or of a trailer line, that came in pieces.
    pub gathered: Option<Packet>,
    /// Of the response.
    pub status: u16,
    interim: u8,
    in_body: bool,
    /// Whether a byte of it has come.
    pub begun: bool,
    /// Whether the server lets the connection go on.
    pub keep_alive: bool,
}

impl Default for Response {
    fn default() -> Response {
        Response::new(&HttpLimits::default())
    }
}

impl Response {
    /// For a new connection.
    pub fn new(limits: &HttpLimits) -> Response {
        Response {
            body: BodyDecoder::new(BodyLength::None, limits),
            scan: HeadScan::new(),
            gathered: None,
            status: 0,
            interim: 0,
            in_body: false,
            begun: false,
            keep_alive: true,
        }
    }

    /// For the next answer.
    fn next(&mut self) {
        self.in_body = false;
        self.begun = false;
        self.interim = 0;
    }

    /// One step in `input`, and how much of it is used up. `method` is that of the request that is answered.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn step<'b>(
        &mut self,
        input: &'b [u8],
        method: Method,
        limits: &HttpLimits,
        slots: &mut HeaderSlots,
    ) -> Result<(Step<'b>, usize), Fault> {
        if !self.in_body {
            if input.is_empty() {
                return Ok((Step::More, 0));
            }
            self.begun = true;
            let used = match parse_response(input, method, &mut self.scan, limits, slots) {
                Ok(Parsed::Partial) => return Ok((Step::More, 0)),
                Ok(Parsed::Complete(head, used)) => {
                    self.keep_alive &= head.keep_alive();
                    self.status = head.status();
                    if !head.is_interim() {
                        self.body = BodyDecoder::new(head.body(), limits);
                        self.in_body = true;
                    }
                    used
                }
                Err(_) => return Err(Fault::NotHttp),
            };
            // Nobody has asked for another protocol.
            if self.status == 101 {
                return Err(Fault::NotHttp);
            }
            if !self.in_body {
                self.interim += 1;
                return if self.interim > INTERIM_MAX {
                    Err(Fault::NotHttp)
                } else {
                    Ok((Step::Interim, used))
                };
            }
            if self.body.is_done() {
                self.next();
                return Ok((Step::Done, used));
            }
            return Ok((Step::Data(&[]), used));
        }
        let (step, used) = self.body.next(input).map_err(|_| Fault::NotHttp)?;
        Ok(match step {
            BodyStep::Data(at) => {
                let data = &input[at];
                (Step::Data(data), used)
            }
            BodyStep::Trailer { .. } => (Step::Data(&[]), used),
            BodyStep::NeedMore => (Step::More, used),
            BodyStep::Done => {
                self.next();
                (Step::Done, used)
            }
        })
    }

    /// The server will send no more. Gives whether that was the end of a body that goes on until then.
    pub fn end(&mut self) -> bool {
        let whole = self.in_body && !self.body.is_done() && self.body.on_eof().is_ok();
        if whole {
            self.next();
        }
        self.keep_alive = false;
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is found in `input`, given at once or byte by byte.
    fn all(input: &[u8], method: Method, by: usize) -> (Vec<u8>, usize, usize, Result<(), Fault>, Response) {
        let limits = HttpLimits::default();
        let mut r = Response::new(&limits);
        let mut slots = HeaderSlots::new();
        let (mut body, mut done, mut interim, mut left) = (Vec::new(), 0, 0, Vec::new());
        for piece in input.chunks(by) {
            left.extend_from_slice(piece);
            let mut at = 0;
            loop {
                match r.step(&left[at..], method, &limits, &mut slots) {
                    Err(f) => return (body, done, interim, Err(f), r),
                    Ok((Step::More, n)) => {
                        at += n;
                        break;
                    }
                    Ok((Step::Data(d), n)) => {
                        body.extend_from_slice(d);
                        at += n;
                    }
                    Ok((Step::Interim, n)) => {
                        interim += 1;
                        at += n;
                    }
                    Ok((Step::Done, n)) => {
                        done += 1;
                        at += n;
                    }
                }
            }
            left.drain(..at);
        }
        (body, done, interim, Ok(()), r)
    }

    #[test]
    fn answers_of_every_framing_in_one_or_in_many_pieces() {
        let two =
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n";
        let interim =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <x>\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        for by in [1, 7, 1000] {
            let (body, done, interim_seen, end, r) = all(two, Method::Get, by);
            assert_eq!((&body[..], done, interim_seen, end, r.status), (&b"abc"[..], 2, 0, Ok(()), 404));
            let (body, done, ..) = all(chunked, Method::Get, by);
            assert_eq!((&body[..], done), (&b"abc"[..], 1));
            let (body, done, interim_seen, end, r) = all(interim, Method::Get, by);
            assert_eq!((body.len(), done, interim_seen, end, r.status), (0, 1, 2, Ok(()), 204));
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n";
            assert_eq!(all(head, Method::Head, by).1, 2, "no body to HEAD");
            let (body, done, _, end, mut r) = all(b"HTTP/1.0 200 OK\r\n\r\nabc", Method::Get, by);
            assert_eq!((&body[..], done, end, r.keep_alive), (&b"abc"[..], 0, Ok(()), false));
            assert!(r.end(), "the end of the connection is the body's");
            let (_, _, _, _, mut r) =
                all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Method::Get, by);
            assert!(!r.end(), "a body that is too short");
        }
    }

    #[test]
    fn a_server_that_says_close_or_nonsense() {
        let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
        assert!(!all(close, Method::Get, 1000).4.keep_alive);
        for bad in [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(17),
        ] {
            assert_eq!(all(bad, Method::Get, 1000).3, Err(Fault::NotHttp), "{}", bad.escape_ascii());
        }
    }
}
