//! The server side of one client connection: what the next bytes are, and what may be done.
//!
//! ```text
//!          first byte       head complete          both sides done, keep-alive
//!   Idle ─────────────► Head ─────────────► Exchange ─────────────────────────► Idle
//!                        │                  │   │  └─ response done, body not ─► Draining ─ body end ─► Idle
//!                        │ fault            │   └──── 101 ─────────────────────► Tunnel
//!                        ▼                  ▼ fault, close, bound
//!                        └────── Exchange ──┴──────────────────────────────────► Lingering ─ EOF, bound ─► Closed
//! ```
//!
//! It holds no bytes. Pipelining: bytes behind a message stay with the caller, who offers them when the state is
//! Idle again; one request is in flight at a time.

use super::body::{BodyDecoder, BodyStep};
use super::field::HeaderSlots;
use super::framing::BodyLength;
use super::head::{Parsed, RequestHead, parse_request};
use super::limits::HttpLimits;
use super::reject::Reject;
use super::scan::HeadScan;

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Between requests: no byte of the next one yet. May be closed at any time.
    Idle,
    /// Part of a head is there.
    Head,
    /// A request is in flight: its body may still come in, its response may be going out.
    Exchange,
    /// The response is out and the body is not in: it is read and thrown away, then the next request may come.
    Draining,
    /// Both directions are the business of others now.
    Tunnel,
    /// Nothing more will be served. What comes in is thrown away until the client closes or the bound is
    /// reached, since closing at once could destroy the response on its way (RFC 9112 9.6).
    Lingering,
    /// To be closed.
    Closed,
}

/// What follows a response that is completely written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterResponse {
    /// The next request may be read; it may be in the buffer already.
    NextRequest,
    /// Give what comes in to [`ServerConn::discard`].
    Drain,
    /// Close the sending side, then give what comes in to [`ServerConn::discard`].
    Linger,
    /// Close.
    Close,
}

/// What came of throwing bytes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// More will come.
    More,
    /// The body is over: the next request may be read.
    NextRequest,
    /// Close.
    Close,
}

/// What the end of the client's bytes means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEof {
    /// Between requests, or when nothing was expected any more: close.
    Clean,
    /// The request is complete: finish the response, then close.
    FinishResponse,
    /// Inside of a head: nobody is there to answer; close.
    HeadTruncated,
    /// Inside of a body: the origin must not take what it got for the whole (RFC 9112 8); close.
    BodyTruncated,
}

/// The server side of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ServerConn {
    state: ServerState,
    body: BodyDecoder,
    scan: HeadScan,
    /// Whether the connection goes on after the response in flight.
    keep_alive: bool,
    /// The framing of the request cannot be trusted any more.
    broken: bool,
    /// The client waits for 100 before it sends its body, and has not got one.
    awaits_continue: bool,
    requests: u32,
    requests_max: u32,
    discard_bytes_left: u64,
    discard_bytes_max: u64,
}

impl ServerConn {
    /// For a connection that has just been accepted.
    pub fn new(limits: &HttpLimits) -> Self {
        Self {
            state: ServerState::Idle,
            body: BodyDecoder::new(BodyLength::None, limits),
            scan: HeadScan::new(),
            keep_alive: true,
            broken: false,
            awaits_continue: false,
            requests: 0,
            requests_max: limits.requests_per_connection_max,
            discard_bytes_left: limits.discard_bytes_max,
            discard_bytes_max: limits.discard_bytes_max,
        }
    }

    /// Where it is.
    pub fn state(&self) -> ServerState {
        self.state
    }

    /// Heads that were read, bad ones included.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Whether the body of the request in flight is in.
    pub fn is_request_complete(&self) -> bool {
        self.body.is_done()
    }

    /// Reads a head from `buf`, which holds all bytes since the last message (see [`parse_request`]). On a
    /// reject answer with `reject.status` after [`Self::respond`]; the connection will not be kept.
    pub fn read_head<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &HttpLimits,
        slots: &'b mut HeaderSlots,
    ) -> Result<Parsed<RequestHead<'b>>, Reject> {
        debug_assert!(matches!(self.state, ServerState::Idle | ServerState::Head));
        if buf.is_empty() {
            return Ok(Parsed::Partial);
        }
        self.state = ServerState::Head;
        let parsed = parse_request(buf, &mut self.scan, limits, slots);
        match &parsed {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete(head, _)) => {
                self.state = ServerState::Exchange;
                self.requests = self.requests.saturating_add(1);
                self.body = BodyDecoder::new(head.body(), limits);
                self.awaits_continue = head.expect_continue() && !self.body.is_done();
                let last = self.requests_max != 0 && self.requests >= self.requests_max;
                self.keep_alive = self.keep_alive && head.keep_alive() && !last;
            }
            Err(_) => {
                self.state = ServerState::Exchange;
                self.requests = self.requests.saturating_add(1);
                self.fail();
            }
        }
        parsed
    }

    /// Reads the body of the request in flight. On a reject nothing further can be understood: abort the
    /// exchange with the origin; if no response has begun, answer with `reject.status` after [`Self::respond`].
    pub fn read_body(&mut self, input: &[u8]) -> Result<(BodyStep, usize), Reject> {
        debug_assert!(self.state == ServerState::Exchange && !self.broken);
        self.awaits_continue &= input.is_empty();
        self.body.next(input).map_err(|reason| {
            self.fail();
            Reject::request(reason)
        })
    }

    /// A 100 has been sent, ours or the origin's.
    pub fn continued(&mut self) {
        self.awaits_continue = false;
    }

    /// Whether the client may be waiting for 100 before it sends its body (RFC 9110 10.1.1).
    pub fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// The connection is not to be kept after this exchange: the node drains, or a head timed out.
    pub fn close_soon(&mut self) {
        self.keep_alive = false;
        if self.state == ServerState::Idle {
            self.state = ServerState::Closed;
        }
    }

    /// The connection is not to be kept after the response that is next, whether its request is there or not.
    pub fn close_soon_after(&mut self) {
        self.keep_alive = false;
    }

    /// A final response begins whose body is framed as `framing`. The answer, whether the connection is kept,
    /// is what the head has to say; it does not change after this. Call it once per request, and for an error
    /// too: a request that never became readable can be answered in state Head (408).
    pub fn respond(&mut self, framing: BodyLength) -> bool {
        debug_assert!(matches!(self.state, ServerState::Exchange | ServerState::Head));
        if self.state == ServerState::Head {
            self.fail();
        }
        self.state = ServerState::Exchange;
        let drainable = match self.body.remaining() {
            Some(left) => left <= self.discard_bytes_max,
            // Chunked: it may be short; the bound decides while draining.
            None => true,
        };
        // Without a 100 the client may or may not send the body after this response; nobody could tell its
        // first byte from that of the next request (RFC 9110 10.1.1).
        let certain = !self.awaits_continue;
        self.keep_alive = self.keep_alive && framing != BodyLength::UntilClose && drainable && certain;
        self.keep_alive
    }

    /// The response is completely written (or was broken off: then call [`Self::abort`] instead).
    pub fn responded(&mut self) -> AfterResponse {
        debug_assert!(self.state == ServerState::Exchange);
        self.discard_bytes_left = self.discard_bytes_max;
        match (self.keep_alive, self.body.is_done() && !self.broken) {
            (true, true) => {
                self.state = ServerState::Idle;
                AfterResponse::NextRequest
            }
            (true, false) => {
                self.state = ServerState::Draining;
                AfterResponse::Drain
            }
            // Pipelined requests may be on their way also behind a complete one, and closing on them would
            // reset the connection before the response is read.
            (false, _) => {
                self.state = ServerState::Lingering;
                AfterResponse::Linger
            }
        }
    }

    /// 101 has been sent: the rest is not HTTP. The request must be complete (RFC 9110 7.8).
    pub fn upgrade(&mut self) {
        debug_assert!(self.state == ServerState::Exchange && self.body.is_done());
        self.state = ServerState::Tunnel;
    }

    /// The response was broken off: the client must not take it for complete, so the connection is reset.
    pub fn abort(&mut self) {
        self.state = ServerState::Closed;
    }

    /// Throws away what comes in while Draining or Lingering; how much was used up, and what follows. The
    /// gather contract of [`super::ChunkStep::NeedMore`] holds while Draining.
    pub fn discard(&mut self, input: &[u8]) -> (usize, Discarded) {
        match self.state {
            ServerState::Lingering => {
                self.spend_discard(input.len());
                (input.len(), self.close_if_spent())
            }
            ServerState::Draining => self.drain(input),
            _ => {
                debug_assert!(false, "nothing is to be thrown away in {:?}", self.state);
                (0, Discarded::Close)
            }
        }
    }

    /// The client has closed its sending side.
    pub fn on_eof(&mut self) -> ServerEof {
        let eof = match self.state {
            ServerState::Idle | ServerState::Lingering | ServerState::Closed | ServerState::Tunnel => {
                ServerEof::Clean
            }
            ServerState::Draining => ServerEof::Clean,
            ServerState::Head => ServerEof::HeadTruncated,
            ServerState::Exchange if self.broken || self.body.is_done() => ServerEof::FinishResponse,
            ServerState::Exchange => ServerEof::BodyTruncated,
        };
        self.keep_alive = false;
        if eof != ServerEof::FinishResponse && self.state != ServerState::Tunnel {
            self.state = ServerState::Closed;
        }
        eof
    }

    fn fail(&mut self) {
        self.keep_alive = false;
        self.broken = true;
    }

    fn drain(&mut self, input: &[u8]) -> (usize, Discarded) {
        let mut at = 0;
        loop {
            let Ok((step, consumed)) = self.body.next(&input[at..]) else {
                self.state = ServerState::Closed;
                return (input.len(), Discarded::Close);
            };
            at += consumed;
            self.spend_discard(consumed);
            if self.body.is_done() {
                self.state = ServerState::Idle;
                return (at, Discarded::NextRequest);
            }
            if self.close_if_spent() == Discarded::Close {
                return (at, Discarded::Close);
            }
            if step == BodyStep::NeedMore {
                return (at, Discarded::More);
            }
        }
    }

    fn spend_discard(&mut self, bytes: usize) {
        self.discard_bytes_left = self.discard_bytes_left.saturating_sub(bytes as u64);
    }

    fn close_if_spent(&mut self) -> Discarded {
        if self.discard_bytes_left > 0 {
            return Discarded::More;
        }
        self.state = ServerState::Closed;
        Discarded::Close
    }
}
