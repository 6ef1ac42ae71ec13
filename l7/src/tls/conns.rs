//! Connections as the proxy sees them, with TLS or without: TCP's calls, and what TLS makes of them.
//!
//! A connection without TLS has the number 0 as its layer, and every call goes on to TCP. One with TLS is a
//! [`Secured`], with the number of its session: it shakes hands, then its records are opened and sealed here.
//!
//! - **Received** ciphertext stays in TCP's queue, against TCP's window, until a record is whole. Then that record alone
//!   is opened, where it lies if it came in one segment. At most one piece of plaintext waits for the proxy. A record that
//!   takes a cell of its own is opened when the proxy reads, and not before.
//! - **Sent** plaintext is gathered in one buffer per core, for one connection at a time, and sealed when a record is
//!   full, when another connection sends, or at the end of the pass: so the head and the small body behind it are one
//!   record. TCP's send queue holds ciphertext: what is sent again is the same bytes. When memory is short it holds that of
//!   stored bodies only until it is sent, and what is lost is sealed again (`again`).
//! - **The end**: `at_end` is true after close_notify only. A FIN without one breaks the connection (RFC 8446, 6.1).

mod again;
mod early;
mod leave;
mod plain;
mod receive;
mod secured;
mod send;
mod shaking;
mod shares;
mod starving;
mod through;

use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use dataplane::{CellWriter, Counters, Ctr, Pool, Slice, Time};
use hugepages::{Arena, Footprint, Limits, SlabIndex};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use stack::{CloseReason, Events, FlowId, State, Tcp};

use super::certs::Identity;
use super::front::Front;
use super::handshake::Failure;
use super::handshakes::Handshakes;
use super::record::{self, SessionId, Sessions};
use crate::cache::store::Store;
use again::Again;
use secured::{Asks, EARLY, HAS_CLOSED, NEWS, Phase, Places, Secured};
use send::Builder;
pub use send::Sent;
use shaking::Shaking;
use shares::Shares;
use starving::Starving;

/// The longest plaintext of a record (RFC 8446, 5.1).
pub const RECORD_PLAIN_MAX: usize = 1 << 14;
/// The longest record, header and all.
pub const RECORD_BYTES_MAX: u32 = record::RECORD_MAX as u32;
/// Plaintext that goes out in records of one segment each, before they grow: a client can use the first ones before a
/// whole window has come.
const SMALL_RECORDS_BYTES: u16 = 16 << 10;
/// Records without data that are taken in a row; then the others get their turn.
const EMPTY_IN_A_ROW: usize = 32;

/// Where records are kept.
#[derive(Clone)]
pub struct RecordCells {
    /// For small ones.
    pub payload: Pool,
    /// Cells of at least [`RECORD_BYTES_MAX`].
    pub records: Pool,
}

impl RecordCells {
    /// A writer with room for `n` bytes.
    fn writer(&self, n: usize) -> Option<CellWriter> {
        let mut w = CellWriter::default();
        let small = n <= self.payload.cell_bytes() as usize;
        let done = small && w.reserve(n, &self.payload) || w.reserve(n, &self.records);
        done.then_some(w)
    }

    /// Those that are left are for what has to be sent.
    fn are_few(&self) -> bool {
        self.records.free_count() <= self.records.capacity() / 16
    }

    fn store(&self, bytes: &[u8]) -> Option<Slice> {
        let mut w = self.writer(bytes.len())?;
        w.put(bytes);
        w.take()
    }
}

/// The TLS of one core.
pub struct Tls {
    sessions: Sessions,
    handshakes: Handshakes,
    shares: Shares,
    secured: Places,
    builder: Builder,
    again: Again,
    starving: Starving,
    cells: RecordCells,
    counters: Counters,
}

/// TCP's connections, with TLS or without.
pub struct Conns<'a> {
    /// What carries them.
    pub tcp: &'a mut Tcp,
    /// What is done to the bytes of some.
    pub tls: &'a mut Tls,
}

impl Deref for Conns<'_> {
    type Target = Tcp;
    /// To look at: what is not said otherwise here is TCP's.
    fn deref(&self) -> &Tcp {
        self.tcp
    }
}

impl Tls {
    /// Bytes that it takes from its core's arena.
    pub fn cost(limits: &Limits) -> usize {
        Sessions::cost(limits.tls_connections, limits.tls_contexts)
            + Places::cost(limits.tls_connections)
            + Again::cost(limits)
            + Starving::cost(limits.tls_connections)
            + Shares::cost(limits)
    }

    /// Says what its pools cost, and why.
    pub fn footprint(limits: &Limits, f: &mut Footprint) {
        if limits.tls_connections == 0 {
            return;
        }
        Sessions::footprint(limits.tls_connections, limits.tls_contexts, f);
        let item = size_of::<Secured>() as u64;
        f.add("tls connections", limits.tls_connections.into(), item, "where each stands");
        Shares::footprint(limits, f);
        Again::footprint(limits, f);
        let n = limits.tls_handshakes;
        let bytes = super::HANDSHAKE_BYTES + Handshakes::bytes(n).div_ceil(n.max(1) as usize) as u64;
        f.add("tls handshakes", n.into(), bytes, "those under way");
        let why = "of those, with long certificates";
        f.add("tls long chains", Handshakes::long(n).into(), super::LONG_HANDSHAKE_BYTES, why);
    }

    /// The TLS of a core with the pools of `limits`, cut from `arena`. `None` when that is smaller than [`Tls::cost`].
    pub fn new(
        limits: &Limits,
        arena: &mut Arena,
        handshakes: Handshakes,
        cells: RecordCells,
        counters: Counters,
    ) -> Option<Tls> {
        let (n, contexts) = (limits.tls_connections, limits.tls_contexts);
        let bytes = if n > 0 { RECORD_PLAIN_MAX } else { 0 };
        Some(Tls {
            sessions: Sessions::new(n, contexts, arena, counters.clone())?,
            secured: Places::new(n, arena)?,
            shares: Shares::new(limits, arena, handshakes.key())?,
            handshakes,
            builder: Builder::new(bytes),
            again: Again::new(limits, arena, bytes)?,
            starving: Starving::new(n, arena)?,
            cells,
            counters,
        })
    }

    /// Has keys of AES-GCM changed, or where there is TLS 1.2 their connections ended in order, after so many records
    /// already: for tests.
    pub fn wear_after(&mut self, records: u64) {
        self.sessions.wear_after(records);
    }

    /// Stored bodies are sealed from where they lie in `store`.
    pub fn read_from(&mut self, store: Arc<Store>) {
        self.again.read_from(store);
    }

    /// Records of stored bodies that are not acknowledged, and could be sealed again: 0 when nothing leaked.
    pub fn notes_in_use(&self) -> u32 {
        self.again.in_use()
    }

    /// Whether there can be any TLS.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.builder.bytes.is_empty()
    }

    /// This pass has so many packets, which come before handshakes.
    #[inline]
    pub fn beside(&mut self, packets: usize) {
        self.handshakes.beside(packets as u32);
    }

    /// Whether a handshake or a connection could go on at once: the core must not sleep.
    pub fn has_work(&self) -> bool {
        self.handshakes.has_work() || !self.starving.is_empty() && !self.cells.are_few()
    }
}

fn secured_of(layer: u32) -> Option<SessionId> {
    layer.checked_sub(1).map(SessionId::from_u32)
}

fn layer_of(id: SessionId) -> u32 {
    id.to_u32() + 1
}

impl Conns<'_> {
    /// The connection's TLS, if it has any.
    #[inline]
    fn secured(&self, flow: FlowId) -> Option<SessionId> {
        secured_of(self.tcp.layer(flow))
    }

    /// Whether what it carries is TLS.
    #[inline]
    pub fn is_secured(&self, flow: FlowId) -> bool {
        self.tcp.layer(flow) != 0
    }

    /// Why the handshake of a connection that is closed has failed, if it has; or by which alert it ended afterwards.
    pub fn failure(&self, flow: FlowId) -> Option<&Failure> {
        self.tls.secured[self.secured(flow)?].failure()
    }

    /// Who the client is by the certificate that it has shown and that was verified.
    pub fn identity(&self, flow: FlowId) -> Option<&Rc<Identity>> {
        self.tls.secured[self.secured(flow)?].rare()?.client.as_ref()
    }

    /// Whether a connection, of TLS 1.2, has used its key for so long that it should end when it next can in good order.
    pub fn is_worn(&self, flow: FlowId) -> bool {
        self.secured(flow).is_some_and(|c| self.tls.secured[c].is_open() && self.tls.sessions.worn(c))
    }

    /// Whether its handshake is under way.
    pub fn is_shaking(&self, flow: FlowId) -> bool {
        self.secured(flow).is_some_and(|c| matches!(self.tls.secured[c].phase(), Phase::Shakes(_)))
    }

    /// By which policy its client was verified when it said hello ([`Front::policy`]); 0: by none.
    pub fn policy(&self, flow: FlowId) -> u32 {
        let rare = self.secured(flow).and_then(|c| self.tls.secured[c].rare());
        rare.map_or(0, |rare| rare.policy)
    }

    // ── Handshakes ──────────────────────────────────────────────────────────────────────────────────

    /// What comes next by a connection that was accepted is a ClientHello; `source`: whose it is. Gives whether there is room
    /// for it; if there is none its owner ends it.
    pub fn start_server(&mut self, flow: FlowId, source: IpAddr) -> bool {
        let Some(share) = self.tls.shares.enter(source) else {
            self.tls.counters.inc(Ctr::TlsShedShare);
            return false;
        };
        let Ok(h) = self.tls.handshakes.start_server(flow, source) else {
            self.tls.shares.leave(share);
            return false;
        };
        if let Some(old) = self.tls.handshakes.take_evicted()
            && let Some(c) = self.secured(old)
        {
            // Its handshake is no more.
            self.tls.secured[c].breaks();
            self.break_now(old);
        }
        let Some(c) = self.secure(flow, Secured::shaking(h)) else {
            self.tls.handshakes.cancel(h);
            self.tls.shares.leave(share);
            return false;
        };
        self.tls.shares.begin(c, share);
        // The hello may have come with what completed the connection: there will be no other event for it.
        self.tls.handshakes.readable(h);
        true
    }

    /// A connection that we have just begun to open is to begin with our ClientHello, when there is somebody to hear it: a
    /// host that does not answer holds no handshake. Its owner hears of it as connected when the handshake is done.
    pub fn start_client(
        &mut self,
        flow: FlowId,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> bool {
        let asks = Asks { config: Arc::clone(config), name: name.clone() };
        self.secure(flow, Secured::connecting(asks)).is_some()
    }

    fn secure(&mut self, flow: FlowId, secured: Secured) -> Option<SessionId> {
        let c = self.tls.sessions.reserve()?;
        self.tls.secured[c] = secured;
        self.tcp.set_layer(flow, layer_of(c));
        Some(c)
    }

    /// An event of a connection to an origin that has yet to shake hands.
    fn connecting_event(&mut self, flow: FlowId, c: SessionId, closed: bool, events: &mut Events) {
        for event in [Events::READABLE, Events::WRITABLE, Events::CONNECTED] {
            events.clear(event);
        }
        if closed || self.tcp.at_end(flow) {
            self.end_session(c);
            events.set(Events::CLOSED);
        } else if self.tcp.state(flow) != State::SynSent
            && let Some(Asks { config, name }) = self.tls.secured[c].asks()
        {
            match self.tls.handshakes.start_client(flow, config, name) {
                Ok(h) => self.tls.secured[c].shakes(h),
                Err(_) => {
                    self.tls.secured[c]
                        .breaks_by(Failure::internal("as many handshakes are under way as may be"));
                    events.set(Events::CLOSED);
                }
            }
        }
    }

    /// Lets handshakes go on, as far as one pass may. Gives whether anything was done.
    pub fn shake(&mut self, front: &Front) -> bool {
        if !self.tls.handshakes.has_work() {
            self.tls.handshakes.rest();
            return false;
        }
        debug_assert!(self.tls.builder.flow.is_none(), "what waits has to go before a handshake's end");
        let Tls { handshakes, sessions, secured, cells, counters, .. } = &mut *self.tls;
        handshakes.run(front, &mut Shaking { tcp: self.tcp, sessions, secured, cells, counters });
        true
    }

    /// The connection is of no use any more: its owner hears that it is closed.
    fn break_now(&mut self, flow: FlowId) {
        let Some(c) = self.secured(flow) else { return };
        self.end_session(c);
        self.tcp.wake(flow);
    }

    /// The handshake or the session is over, and the connection broken.
    fn end_session(&mut self, c: SessionId) {
        self.drop_notes(c);
        let s = &mut self.tls.secured[c];
        s.plain.clear();
        match s.phase() {
            Phase::Shakes(h) => self.tls.handshakes.cancel(h),
            Phase::Open | Phase::Leaves => self.tls.sessions.end(c),
            Phase::Free | Phase::Connects | Phase::Broken => {}
        }
        s.breaks();
    }

    // ── Events ──────────────────────────────────────────────────────────────────────────────────────

    /// The next connection with events, and what they are, as the owner is to see them.
    pub fn next_event(&mut self) -> Option<(FlowId, Events)> {
        loop {
            let (flow, events) = self.tcp.next_event()?;
            match self.secured(flow) {
                None => return Some((flow, events)),
                Some(c) => {
                    let events = self.secured_event(flow, c, events);
                    if events.0 != 0 {
                        return Some((flow, events));
                    }
                }
            }
        }
    }

    fn secured_event(&mut self, flow: FlowId, c: SessionId, mut events: Events) -> Events {
        let closed = events.has(Events::CLOSED);
        match self.tls.secured[c].phase() {
            Phase::Connects => {
                self.connecting_event(flow, c, closed, &mut events);
                events
            }
            Phase::Shakes(h) => {
                let nothing_comes = closed || self.tcp.at_end(flow);
                if nothing_comes || self.tls.secured[c].failure().is_some() {
                    self.end_session(c);
                    events.set(Events::CLOSED);
                } else {
                    self.tls.handshakes.readable(h);
                }
                let s = &self.tls.secured[c];
                events.clear(Events::READABLE);
                if !s.plain.is_empty() {
                    events.set(Events::READABLE);
                }
                if !s.has(EARLY) {
                    events.clear(Events::WRITABLE);
                }
                events.clear(Events::CONNECTED);
                events
            }
            Phase::Open => {
                if self.tls.secured[c].notes().is_some() {
                    self.look_back(flow, c, events);
                }
                events.clear(Events::MISSING);
                let is_left = self.open_ahead(flow, c, false);
                let s = &mut self.tls.secured[c];
                events.clear(Events::READABLE);
                events.clear(Events::CONNECTED);
                if s.take(NEWS) {
                    events.set(Events::CONNECTED);
                }
                if is_left || !s.plain.is_empty() || s.has(HAS_CLOSED) {
                    events.set(Events::READABLE);
                } else if s.phase() == Phase::Broken {
                    events.set(Events::CLOSED);
                } else if self.is_cut_off(flow, c) {
                    self.cut_off(flow);
                    events.set(Events::CLOSED);
                }
                events
            }
            Phase::Leaves => {
                self.leaving_event(flow, c, events);
                Events::default()
            }
            Phase::Broken | Phase::Free => {
                events.set(Events::CLOSED);
                events
            }
        }
    }

    /// Whether the peer has ended the connection without having said so by TLS, and nothing is left to be opened.
    fn is_cut_off(&self, flow: FlowId, c: SessionId) -> bool {
        let s = &self.tls.secured[c];
        let over = self.tcp.has_ended(flow) || self.tcp.state(flow) == State::Closed;
        over && !s.has(HAS_CLOSED) && s.plain.is_empty() && !self.has_record(flow)
    }

    /// It is: a connection that TLS has not ended is a broken one (RFC 8446, 6.1).
    fn cut_off(&mut self, flow: FlowId) {
        if self.tcp.has_ended(flow) {
            self.tls.counters.inc(Ctr::TlsTruncated);
        }
        self.break_now(flow);
    }

    // ── Ends ────────────────────────────────────────────────────────────────────────────────────────

    /// Ends our side in order.
    pub fn shutdown(&mut self, flow: FlowId) {
        if let Some(c) = self.secured(flow) {
            self.say_close(flow, c);
        }
        self.tcp.shutdown(flow);
    }

    /// The owner leaves: our side ends in order, and TCP releases the connection itself.
    pub fn orphan(&mut self, flow: FlowId, now: Time) {
        if let Some(c) = self.secured(flow) {
            self.say_close(flow, c);
        }
        self.go(flow, now);
    }

    /// The owner leaves in the middle of something: the same, but TLS does not say that this is the end, so that the peer does
    /// not take it for one (RFC 8446, 6.1).
    pub fn orphan_cut(&mut self, flow: FlowId, now: Time) {
        if self.tls.builder.flow == flow {
            self.flush();
        }
        self.go(flow, now);
    }

    fn go(&mut self, flow: FlowId, now: Time) {
        if let Some(c) = self.secured(flow) {
            if self.leave(flow, c, now) {
                return;
            }
            if !self.tcp.is_whole(flow) {
                return self.abort(flow);
            }
        }
        self.forget(flow);
        self.tcp.orphan(flow, now);
    }

    /// Ends the connection at once, and releases it.
    pub fn abort(&mut self, flow: FlowId) {
        self.forget(flow);
        self.tcp.abort(flow);
    }

    /// Forgets a connection that is over. One that TLS has broken, and TCP not, ends with what the peer has been told; if
    /// TCP has all of that.
    pub fn release(&mut self, flow: FlowId, now: Time) {
        let told = self.secured(flow).is_some() && self.tcp.state(flow) != State::Closed;
        self.forget(flow);
        if told && self.tcp.is_whole(flow) {
            self.tcp.orphan(flow, now);
        } else {
            self.tcp.release(flow);
        }
    }

    fn forget(&mut self, flow: FlowId) {
        self.drop_pending(flow);
        if let Some(c) = self.secured(flow) {
            self.end_session(c);
            self.tls.secured[c] = Secured::default();
            self.tls.sessions.close(c);
            self.tls.shares.end(c);
            self.tcp.set_layer(flow, 0);
        }
    }

    /// As [`Tcp::is_owned`].
    pub fn is_owned(&self, flow: FlowId) -> bool {
        let leaves = |c| self.tls.secured[c].phase() == Phase::Leaves;
        self.tcp.is_owned(flow) && !self.secured(flow).is_some_and(leaves)
    }

    /// A connection's state.
    pub fn state(&self, flow: FlowId) -> State {
        match self.secured(flow) {
            Some(c) if self.tls.secured[c].phase() == Phase::Broken => State::Closed,
            _ => self.tcp.state(flow),
        }
    }

    /// Why a connection is over: one that TLS did not end has been cut off.
    pub fn close_reason(&self, flow: FlowId) -> CloseReason {
        match (self.tcp.close_reason(flow), self.secured(flow)) {
            (CloseReason::Done, Some(c)) if !self.tls.secured[c].has(HAS_CLOSED) => CloseReason::Reset,
            (reason, _) => reason,
        }
    }
}
