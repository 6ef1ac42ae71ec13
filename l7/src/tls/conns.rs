//! Connections as the proxy sees them, with TLS or without: TCP's calls, and what TLS makes of them.
//!
//! A connection without TLS has the number 0 as its layer, and every call goes on to TCP. One with TLS is a
//! [`Secured`]: it shakes hands, then its records are opened and sealed here.
//!
//! - **Received** ciphertext stays in TCP's queue, against TCP's window, until a record is whole. Then that record alone
//!   is opened, where it lies if it came in one segment. At most one piece of plaintext waits for the proxy.
//! - **Sent** plaintext is gathered in one buffer per core, for one connection at a time, and sealed when a record is
//!   full, when another connection sends, or at the end of the pass: so the head and the small body behind it are one
//!   record. TCP's send queue holds ciphertext: what is sent again is the same bytes. When memory is short it holds that of
//!   stored bodies only until it is sent, and what is lost is sealed again (`again`).
//! - **The end**: `at_end` is true after close_notify only. A FIN without one breaks the connection (RFC 8446, 6.1).

mod again;
mod early;
mod leave;
mod receive;
mod send;
mod shaking;
mod through;

use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use dataplane::{CellWriter, Counters, Ctr, Pool, Slice, Time};
use hugepages::{Arena, Footprint, Limits, Slab, typed_index};
use rustls::ClientConfig;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use stack::{CloseReason, Events, FlowId, State, Tcp};

use super::certs::Identity;
use super::front::Front;
use super::handshake::Failure;
use super::handshakes::{HandshakeId, Handshakes};
use super::record::{self, SessionId, Sessions};
use crate::cache::store::Store;
use again::{Again, NoteId};
use send::Builder;
pub use send::Sent;
use shaking::Shaking;

typed_index! {
    /// A connection with TLS.
    pub struct SecuredId;
}

/// The longest plaintext of a record (RFC 8446, 5.1).
pub const RECORD_PLAIN_MAX: usize = 1 << 14;
/// The longest record, header and all.
pub const RECORD_BYTES_MAX: u32 = record::RECORD_MAX as u32;
/// Plaintext that goes out in records of one segment each, before they grow: a client can use the first ones before a
/// whole window has come.
const SMALL_RECORDS_BYTES: u16 = 16 << 10;
/// Records without data that are taken in a row; then the others get their turn.
const EMPTY_IN_A_ROW: usize = 32;

/// Where a connection with TLS stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Not in use.
    #[default]
    Free,
    /// The handshake.
    Shakes(HandshakeId),
    /// Records go both ways.
    Open(SessionId),
    /// Its owner has left, and TCP lacks bytes that are to be sealed again.
    Leaves(SessionId),
    /// It has failed: its owner has been told, or is about to be.
    Broken,
}

/// What the owner of a connection has to hear of its handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum News {
    /// Nothing.
    #[default]
    None,
    /// It is under way, and early data has come: that it is done will be news.
    Early,
    /// It is done.
    Open,
}

/// A connection with TLS.
#[derive(Default)]
struct Secured {
    phase: Phase,
    /// We have opened it.
    is_client: bool,
    /// What its owner has to hear of the handshake.
    news: News,
    /// The peer has said that nothing more comes.
    has_closed: bool,
    /// We have said so.
    said_close: bool,
    /// By which policy its client was verified ([`Front::policy`]); 0: by none.
    policy: u32,
    /// Plaintext sent since it stood still, as far as that counts.
    sent: u16,
    /// The last of its records that can be sealed again.
    notes: NoteId,
    /// Ciphertext taken from TCP, of a record that is not opened yet.
    rest: Option<Slice>,
    /// Plaintext that the owner has not read yet.
    plain: Option<Slice>,
    also: Also,
}

/// What else there is of a connection: of most, nothing.
#[derive(Default)]
enum Also {
    #[default]
    Nothing,
    /// Of an origin's: what takes the tickets that it sends.
    Tickets(Box<KernelConnection<ClientConnectionData>>),
    /// Why there was no handshake, or by which alert it ended.
    Failure(Box<Failure>),
    /// Who the client is by the certificate that it has shown.
    Client(Rc<Identity>),
}

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
    secured: Slab<SecuredId, Secured>,
    builder: Builder,
    again: Again,
    cells: RecordCells,
    counters: Counters,
}

const _: () = assert!(size_of::<Secured>() <= 72);

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
            + Slab::<SecuredId, Secured>::cost(limits.tls_connections as usize)
            + Again::cost(limits)
    }

    /// Says what its pools cost, and why.
    pub fn footprint(limits: &Limits, f: &mut Footprint) {
        if limits.tls_connections == 0 {
            return;
        }
        Sessions::footprint(limits.tls_connections, limits.tls_contexts, f);
        let item = size_of::<Secured>() as u64 + 4;
        f.add("tls connections", limits.tls_connections.into(), item, "where each stands");
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
            secured: Slab::new(arena, n, Secured::default)?,
            handshakes,
            builder: Builder::new(bytes),
            again: Again::new(limits, arena, bytes)?,
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

    /// Whether a handshake could go on at once: the core must not sleep.
    pub fn has_work(&self) -> bool {
        self.handshakes.has_work()
    }
}

fn secured_of(layer: u32) -> Option<SecuredId> {
    use hugepages::SlabIndex;
    layer.checked_sub(1).map(SecuredId::from_u32)
}

fn layer_of(id: SecuredId) -> u32 {
    use hugepages::SlabIndex;
    id.to_u32() + 1
}

impl Conns<'_> {
    /// The connection's TLS, if it has any.
    #[inline]
    fn secured(&self, flow: FlowId) -> Option<SecuredId> {
        secured_of(self.tcp.layer(flow))
    }

    /// Whether what it carries is TLS.
    #[inline]
    pub fn is_secured(&self, flow: FlowId) -> bool {
        self.tcp.layer(flow) != 0
    }

    /// Why the handshake of a connection that is closed has failed, if it has; or by which alert it ended afterwards.
    pub fn failure(&self, flow: FlowId) -> Option<&Failure> {
        match &self.tls.secured[self.secured(flow)?].also {
            Also::Failure(failure) => Some(failure),
            _ => None,
        }
    }

    /// Who the client is by the certificate that it has shown and that was verified.
    pub fn identity(&self, flow: FlowId) -> Option<&Rc<Identity>> {
        match &self.tls.secured[self.secured(flow)?].also {
            Also::Client(identity) => Some(identity),
            _ => None,
        }
    }

    /// Whether a connection, of TLS 1.2, has used its key for so long that it should end when it next can in good order.
    pub fn is_worn(&self, flow: FlowId) -> bool {
        self.secured(flow).is_some_and(|c| match self.tls.secured[c].phase {
            Phase::Open(session) => self.tls.sessions.worn(session),
            _ => false,
        })
    }

    /// Whether its handshake is under way.
    pub fn is_shaking(&self, flow: FlowId) -> bool {
        self.secured(flow).is_some_and(|c| matches!(self.tls.secured[c].phase, Phase::Shakes(_)))
    }

    /// By which policy its client was verified when it said hello ([`Front::policy`]); 0: by none.
    pub fn policy(&self, flow: FlowId) -> u32 {
        self.secured(flow).map_or(0, |c| self.tls.secured[c].policy)
    }

    // ── Handshakes ──────────────────────────────────────────────────────────────────────────────────

    /// A connection that was accepted begins with a ClientHello; `first`: what of it has been read already; `source`: whose
    /// it is. Gives whether there is room for it; if there is none its owner ends it.
    pub fn start_server(&mut self, flow: FlowId, first: Option<Slice>, source: IpAddr) -> bool {
        let Ok(h) = self.tls.handshakes.start_server(flow, source) else { return false };
        if let Some(old) = self.tls.handshakes.take_evicted()
            && let Some(c) = self.secured(old)
        {
            // Its handshake is no more.
            self.tls.secured[c].phase = Phase::Broken;
            self.break_now(old);
        }
        if !self.secure(flow, h, false, first) {
            return false;
        }
        // The hello may have come with what completed the connection: there will be no other event for it.
        self.tls.handshakes.readable(h);
        true
    }

    /// A connection that we have just begun to open is to begin with our ClientHello. Its owner hears of it as connected
    /// when the handshake is done.
    pub fn start_client(
        &mut self,
        flow: FlowId,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> bool {
        match self.tls.handshakes.start_client(flow, Arc::clone(config), name.clone()) {
            Ok(h) => self.secure(flow, h, true, None),
            Err(_) => false,
        }
    }

    fn secure(&mut self, flow: FlowId, h: HandshakeId, is_client: bool, rest: Option<Slice>) -> bool {
        let Some(c) = self.tls.secured.alloc() else {
            self.tls.counters.inc(Ctr::TlsNoSession);
            self.tls.handshakes.cancel(h);
            return false;
        };
        self.tls.secured[c] = Secured { phase: Phase::Shakes(h), is_client, rest, ..Secured::default() };
        self.tcp.set_layer(flow, layer_of(c));
        true
    }

    /// Lets handshakes go on, as far as one pass may. Gives whether anything was done.
    pub fn shake(&mut self, front: &Front) -> bool {
        if !self.tls.handshakes.has_work() {
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
        self.close_session(c);
        self.tls.secured[c].phase = Phase::Broken;
        self.tcp.wake(flow);
    }

    fn close_session(&mut self, c: SecuredId) {
        self.drop_notes(c);
        let s = &mut self.tls.secured[c];
        (s.rest, s.plain) = (None, None);
        match std::mem::replace(&mut s.phase, Phase::Free) {
            Phase::Shakes(h) => self.tls.handshakes.cancel(h),
            Phase::Open(session) | Phase::Leaves(session) => self.tls.sessions.close(session),
            Phase::Free | Phase::Broken => {}
        }
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

    fn secured_event(&mut self, flow: FlowId, c: SecuredId, mut events: Events) -> Events {
        let closed = events.has(Events::CLOSED);
        match self.tls.secured[c].phase {
            Phase::Shakes(h) => {
                let nothing_comes = closed || self.tcp.has_ended(flow) && !self.has_bytes(flow, c);
                if nothing_comes || matches!(self.tls.secured[c].also, Also::Failure(_)) {
                    self.close_session(c);
                    self.tls.secured[c].phase = Phase::Broken;
                    events.set(Events::CLOSED);
                } else {
                    self.tls.handshakes.readable(h);
                }
                let s = &self.tls.secured[c];
                events.clear(Events::READABLE);
                if s.plain.is_some() {
                    events.set(Events::READABLE);
                }
                if s.news != News::Early {
                    events.clear(Events::WRITABLE);
                }
                events.clear(Events::CONNECTED);
                events
            }
            Phase::Open(_) => {
                if self.tls.secured[c].notes.is_some() {
                    self.look_back(flow, c, events);
                }
                events.clear(Events::MISSING);
                self.open_ahead(flow, c);
                let s = &mut self.tls.secured[c];
                events.clear(Events::READABLE);
                events.clear(Events::CONNECTED);
                if std::mem::take(&mut s.news) == News::Open {
                    events.set(Events::CONNECTED);
                }
                if s.plain.is_some() || s.has_closed {
                    events.set(Events::READABLE);
                } else if s.phase == Phase::Broken {
                    events.set(Events::CLOSED);
                } else if self.is_cut_off(flow, c) {
                    self.cut_off(flow);
                    events.set(Events::CLOSED);
                }
                events
            }
            Phase::Leaves(_) => {
                self.leaving_event(flow, c, events);
                Events::default()
            }
            Phase::Broken | Phase::Free => {
                events.set(Events::CLOSED);
                events
            }
        }
    }

    /// Whether anything has come that was not looked at.
    fn has_bytes(&self, flow: FlowId, c: SecuredId) -> bool {
        self.tls.secured[c].rest.is_some() || self.tcp.is_readable(flow)
    }

    /// Whether the peer has ended the connection without having said so by TLS, and nothing is left to be opened.
    fn is_cut_off(&self, flow: FlowId, c: SecuredId) -> bool {
        let s = &self.tls.secured[c];
        let over = self.tcp.has_ended(flow) || self.tcp.state(flow) == State::Closed;
        over && !s.has_closed && s.plain.is_none() && !self.has_record(flow, c)
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
            self.close_session(c);
            self.tls.secured[c] = Secured::default();
            self.tls.secured.free(c);
            self.tcp.set_layer(flow, 0);
        }
    }

    /// As [`Tcp::is_owned`].
    pub fn is_owned(&self, flow: FlowId) -> bool {
        let leaves = |c| matches!(self.tls.secured[c].phase, Phase::Leaves(_));
        self.tcp.is_owned(flow) && !self.secured(flow).is_some_and(leaves)
    }

    /// A connection's state.
    pub fn state(&self, flow: FlowId) -> State {
        match self.secured(flow) {
            Some(c) if self.tls.secured[c].phase == Phase::Broken => State::Closed,
            _ => self.tcp.state(flow),
        }
    }

    /// Why a connection is over: one that TLS did not end has been cut off.
    pub fn close_reason(&self, flow: FlowId) -> CloseReason {
        match (self.tcp.close_reason(flow), self.secured(flow)) {
            (CloseReason::Done, Some(c)) if !self.tls.secured[c].has_closed => CloseReason::Reset,
            (reason, _) => reason,
        }
    }
}
