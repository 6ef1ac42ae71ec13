//! The client side of one connection to an origin: what the next bytes are, and whether it may be used again.
//!
//! ```text
//!         begin                 final head            body end, both done, kept
//!   Idle ───────► AwaitingHead ───────────► Body ──────────────────────────────► Idle
//!                  │ ▲  │ 101                 │ anything else
//!                  └─┘  └───────► Tunnel      └────────────────────────────────► Closed
//!                  1xx
//! ```
//!
//! It holds no bytes. One request at a time.

use super::body::{BodyDecoder, BodyStep, Truncated};
use super::field::HeaderSlots;
use super::framing::BodyLength;
use super::head::{Parsed, ResponseHead, parse_response};
use super::limits::HttpLimits;
use super::method::Method;
use super::reject::{Reject, RejectReason};
use super::scan::HeadScan;

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// May be given a request. Any byte that comes in now belongs to none: close.
    Idle,
    /// A request is being or has been sent; interim responses may come before the head.
    AwaitingHead,
    /// The head is in.
    Body,
    /// Both directions are the business of others now.
    Tunnel,
    /// To be closed.
    Closed,
}

/// What the end of the origin's bytes means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEof {
    /// No response was due, or it is complete: nothing is lost.
    Clean,
    /// A kept connection was closed as we used it: send the request again on another one (RFC 9112 9.3.1).
    Retry,
    /// No complete response head: answer 502.
    BadGateway,
    /// Inside of a body: the client must not take it for complete.
    Truncated,
}

/// The client side of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientConn {
    state: ClientState,
    method: Method,
    body: BodyDecoder,
    scan: HeadScan,
    /// Exchanges completed before this one.
    exchanges: u32,
    interim: u32,
    interim_max: u32,
    response_begun: bool,
    request_complete: bool,
    request_body_used: bool,
    upgrade_asked: bool,
    keep_alive: bool,
}

impl ClientConn {
    /// For a connection that has just been established.
    pub fn new(limits: &HttpLimits) -> Self {
        Self {
            state: ClientState::Idle,
            method: Method::Get,
            body: BodyDecoder::new(BodyLength::None, limits),
            scan: HeadScan::new(),
            exchanges: 0,
            interim: 0,
            interim_max: limits.interim_responses_max,
            response_begun: false,
            request_complete: false,
            request_body_used: false,
            upgrade_asked: false,
            keep_alive: true,
        }
    }

    /// Where it is.
    pub fn state(&self) -> ClientState {
        self.state
    }

    /// A request goes out. `has_body`: more follows its head, and [`Self::request_sent`] is called after that.
    /// `upgrade_asked`: the head that was written asks for an upgrade.
    pub fn begin(&mut self, method: Method, has_body: bool, upgrade_asked: bool) {
        debug_assert!(self.state == ClientState::Idle);
        self.state = ClientState::AwaitingHead;
        self.method = method;
        self.scan.reset();
        self.interim = 0;
        self.response_begun = false;
        self.request_complete = !has_body;
        self.request_body_used = false;
        self.upgrade_asked = upgrade_asked;
    }

    /// Bytes of the request's body were taken from the client: they are not there for a second try.
    pub fn request_body_used(&mut self) {
        self.request_body_used = true;
    }

    /// The request has been handed over completely.
    pub fn request_sent(&mut self) {
        self.request_complete = true;
    }

    /// Reads a head from `buf`, which holds all bytes since the last message (see [`parse_response`]). An
    /// interim one (`is_interim()`) is to be passed on, and another follows. A 101 makes this a tunnel.
    pub fn read_head<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &HttpLimits,
        slots: &'b mut HeaderSlots,
    ) -> Result<Parsed<ResponseHead<'b>>, Reject> {
        debug_assert!(self.state == ClientState::AwaitingHead);
        if buf.is_empty() {
            return Ok(Parsed::Partial);
        }
        self.response_begun = true;
        let parsed = parse_response(buf, self.method, &mut self.scan, limits, slots);
        let verdict = match &parsed {
            Ok(Parsed::Partial) => Ok(()),
            Ok(Parsed::Complete(head, _)) => self.take_head(head, limits),
            Err(reject) => Err(*reject),
        };
        match verdict {
            Ok(()) => parsed,
            Err(reject) => {
                self.state = ClientState::Closed;
                Err(reject)
            }
        }
    }

    /// Reads the body. When it is `Done`, ask [`Self::finish`] whether the connection can be kept.
    pub fn read_body(&mut self, input: &[u8]) -> Result<(BodyStep, usize), Reject> {
        debug_assert!(self.state == ClientState::Body);
        self.body.next(input).map_err(|reason| {
            self.state = ClientState::Closed;
            Reject::response(reason)
        })
    }

    /// Whether the response is complete.
    pub fn is_response_complete(&self) -> bool {
        self.state == ClientState::Body && self.body.is_done()
    }

    /// The exchange is over as far as the client is concerned. `true`: the connection is Idle and may serve
    /// another; `bytes_left`, what was received and not consumed, must be 0 for that, as nobody asked for it.
    /// `false`: close it.
    pub fn finish(&mut self, bytes_left: usize) -> bool {
        let reusable =
            self.is_response_complete() && self.request_complete && self.keep_alive && bytes_left == 0;
        self.exchanges = self.exchanges.saturating_add(1);
        self.state = if reusable { ClientState::Idle } else { ClientState::Closed };
        reusable
    }

    /// Whether the request may be sent again on another connection when this one fails now: it is a kept one
    /// that the origin may have closed at the same time, the method is idempotent, no byte of a response came
    /// and none of a body is gone (RFC 9110 9.2.2, RFC 9112 9.3.1).
    pub fn may_retry(&self) -> bool {
        self.state == ClientState::AwaitingHead
            && self.exchanges > 0
            && self.method.is_idempotent()
            && !self.response_begun
            && !self.request_body_used
    }

    /// Whether nothing of a response has come, and nothing of a request's body is gone.
    pub fn is_untouched(&self) -> bool {
        !self.response_begun && !self.request_body_used
    }

    /// The origin has closed, or the connection has failed (then a body that is ended by closing is truncated:
    /// pass `is_reset`).
    pub fn on_eof(&mut self, is_reset: bool) -> ClientEof {
        let eof = match self.state {
            ClientState::Idle | ClientState::Closed | ClientState::Tunnel => ClientEof::Clean,
            ClientState::AwaitingHead if self.may_retry() => ClientEof::Retry,
            ClientState::AwaitingHead => ClientEof::BadGateway,
            ClientState::Body if self.body.is_done() => ClientEof::Clean,
            ClientState::Body if is_reset => ClientEof::Truncated,
            ClientState::Body => match self.body.on_eof() {
                Ok(()) => ClientEof::Clean,
                Err(Truncated) => ClientEof::Truncated,
            },
        };
        self.keep_alive = false;
        // A complete response still has to be finished.
        if self.state != ClientState::Tunnel && !self.is_response_complete() {
            self.state = ClientState::Closed;
        }
        eof
    }

    fn take_head(&mut self, head: &ResponseHead<'_>, limits: &HttpLimits) -> Result<(), Reject> {
        if head.is_interim() {
            self.interim += 1;
            self.keep_alive &= head.keep_alive();
            if self.interim > self.interim_max {
                return Err(Reject::response(RejectReason::TooManyInterim));
            }
            return Ok(());
        }
        if head.status() == 101 {
            if !self.upgrade_asked || !self.request_complete {
                return Err(Reject::response(RejectReason::UpgradeUnasked));
            }
            self.state = ClientState::Tunnel;
            return Ok(());
        }
        self.state = ClientState::Body;
        self.body = BodyDecoder::new(head.body(), limits);
        self.keep_alive &= head.keep_alive();
        Ok(())
    }
}
