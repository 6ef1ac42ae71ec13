//! Requests that come before their client's TLS handshake is done (RFC 8470).
//!
//! ```text
//!  safe, no body, no upgrade ──► Now: answered at once; an origin is told, `Early-Data: 1`
//!        │                         └─ 425 from it ──► Again ── the handshake is done ──► once more, unmarked
//!        │                         └─ the next slice of its body is the origin's ──► Next ── the handshake is done ──► asked for,
//!        │                                                                            unmarked: 425 could not be the answer
//!        └─ else ──► Held ── the handshake is done ──► as any other request
//! ```
//!
//! Whoever has seen such a request on its way may send it again, until the handshake is done: then it was the client who
//! sent it, and it is a request as any other (RFC 8470, 3). So what might do something by being sent twice waits for
//! that. It costs a round trip; 425 of our own would cost the client two.

use dataplane::Ctr;

use super::exchange::ExchangeId;
use super::log::Logged;
use super::pump::Step;
use super::request::Act;
use super::{Io, Proxy};
use crate::http1::{BodyLength, EARLY_DATA, HeadScan, Parsed, RequestHead, Upgrade, parse_request};
use crate::phases::{CleanPath, RequestView};

/// What a request has to do with its client's handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Early {
    /// Nothing: it came afterwards, or has waited for it.
    #[default]
    No,
    /// It is answered before the handshake is done. `marked`: it came with Early-Data, so that a 425 is for its sender.
    Now { marked: bool },
    /// The same; and the handshake is done.
    Past { marked: bool },
    /// It waits for the handshake.
    Held,
    /// It waits for the handshake to be sent to an origin that did not want it before.
    Again,
    /// Its response waits for the handshake to go on with what an origin has to be asked for.
    Next,
}

impl Early {
    /// Of a request that comes before the handshake is done.
    pub fn of(head: &RequestHead<'_>) -> Early {
        let is_harmless =
            head.method().is_safe() && head.body() == BodyLength::None && head.upgrade() == Upgrade::None;
        match is_harmless {
            true => Early::Now { marked: head.headers().get(EARLY_DATA).is_some() },
            false => Early::Held,
        }
    }

    /// Whether it waits for the handshake.
    pub fn waits(self) -> bool {
        matches!(self, Early::Held | Early::Again | Early::Next)
    }

    /// Whether it is for us to do something about a 425: its client does not know that there could be one.
    pub fn takes_425(self) -> bool {
        matches!(self, Early::Now { marked: false } | Early::Past { marked: false })
    }

    /// Whether what an origin is asked for in its name would be marked by us, or has to wait for the handshake.
    pub fn is_now(self) -> bool {
        matches!(self, Early::Now { marked: false } | Early::Next)
    }
}

impl Proxy {
    /// A request's head has come before its client's handshake is done.
    #[cold]
    pub(super) fn comes_early(&mut self, x: ExchangeId, head: &RequestHead<'_>) {
        let early = Early::of(head);
        self.counters.inc(if early.waits() { Ctr::HttpEarlyHeld } else { Ctr::HttpEarly });
        self.exchanges[x].early = early;
    }

    /// The client's handshake is done, and the request is as any other from now on.
    pub(super) fn is_not_early(&mut self, x: ExchangeId) {
        let e = &mut self.exchanges[x];
        if let Early::Now { marked } = e.early {
            e.early = Early::Past { marked };
        }
    }

    /// A response that has begun needs more of an origin, which may find it too early for that when nobody can be told. So
    /// it is asked when the handshake is done. Gives whether that is to be waited for: no longer than for a head.
    #[cold]
    pub(super) fn is_to_wait(&mut self, io: &mut Io<'_>, x: ExchangeId) -> bool {
        let client = self.exchanges[x].client;
        if !io.tcp.is_shaking(client) {
            self.is_not_early(x);
            return false;
        }
        if std::mem::replace(&mut self.exchanges[x].early, Early::Next) != Early::Next {
            let header_ns = self.current.program.config.client.header_ns;
            io.tcp.set_timer(client, io.now.plus_ns(header_ns));
        }
        true
    }

    /// Moves a request on that waits for the handshake, when that is done.
    #[cold]
    pub(super) fn after_handshake(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        let client = self.exchanges[x].client;
        if io.tcp.is_shaking(client) {
            return Step::Waits;
        }
        if self.exchanges[x].early == Early::Next {
            self.exchanges[x].early = Early::Past { marked: false };
            return Step::Moved;
        }
        let Some(mut bench) = self.bench.take() else { return Step::Waits };
        let http = self.current.program.config.http;
        let e = &mut self.exchanges[x];
        let is_again = std::mem::take(&mut e.early) == Early::Again;
        let request = e.request.clone();
        let head = request.as_deref().unwrap_or_default();
        let act = match parse_request(head, &mut HeadScan::new(), &http, &mut bench.slots) {
            Ok(Parsed::Complete(head, _)) if is_again => {
                let path = if head.path() == b"*" { b"/" } else { head.path() };
                let clean = CleanPath::of(path, &mut bench.path).unwrap_or(path);
                let identity = self.exchanges[x].identity.clone();
                let view = RequestView::of(&head, self.exchanges[x].scheme, self.exchanges[x].peer, clean);
                let view = view.by(identity.as_deref());
                self.forward_head(x, &head, &view)
            }
            Ok(Parsed::Complete(head, _)) => {
                let act = self.act(io, x, &head, &mut bench.path);
                let to = self.log_of(x);
                let kept = to.and_then(|_| self.head_for_log(x, &head));
                self.exchanges[x].logged = Logged { to, head: kept };
                self.keep_request(x, &act);
                act
            }
            _ => Act::Error(500),
        };
        self.bench = Some(bench);
        self.do_act(io, x, act, 0);
        self.gone_or_moved(x, client)
    }

    /// The origin does not want a request before its client's handshake is done: it gets it again then, once
    /// (RFC 8470, 5.2). What of its answer is in `origin_in` was read up to the end of the head.
    #[cold]
    pub(super) fn too_early(&mut self, io: &mut Io<'_>, x: ExchangeId) -> Step {
        self.counters.inc(Ctr::HttpEarlyAgain);
        if self.exchanges[x].conn.is_response_complete() {
            self.give_back(io, x);
        } else {
            self.drop_origin(io, x);
        }
        let e = &mut self.exchanges[x];
        e.early = Early::Again;
        e.head = None;
        e.connected = false;
        Step::Moved
    }
}
