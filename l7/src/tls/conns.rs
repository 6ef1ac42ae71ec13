//! Connections as the proxy sees them, with TLS or without: TCP's calls, and what TLS makes of them.
//!
//! A connection without TLS has the number 0 as its layer, and every call goes on to TCP. One with TLS is a
//! [`Secured`]: it shakes hands, then its records are opened and sealed here.
//!
//! - **Received** ciphertext stays in TCP's queue, against TCP's window, until a record is whole. Then that record alone
//!   is opened, where it lies if it came in one segment. At most one piece of plaintext waits for the proxy.
//! - **Sent** plaintext is gathered in one buffer per core, for one connection at a time, and sealed when a record is
//!   full, when another connection sends, or at the end of the pass: so the head and the small body behind it are one
//!   record. TCP's send queue holds ciphertext: what is sent again is the same bytes.
//! - **The end**: `at_end` is true after close_notify only. A FIN without one breaks the connection (RFC 8446, 6.1).

use std::ops::Deref;
use std::sync::Arc;

use dataplane::{CellWriter, Counters, Ctr, Pool, Slice, Time};
use hugepages::{Arena, Footprint, Limits, Slab, typed_index};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, Error};
use stack::tcp::cc::Algorithm;
use stack::{CloseReason, ConnectError, Events, FlowId, Net, State, Tcp};

use super::front::Front;
use super::handshake::{Failure, FailureKind};
use super::handshakes::{HandshakeId, Handshakes, Outcome, Peers};
use super::record::{self, Alert, ContentType, OVERHEAD_MAX, Received, SessionId, Sessions, Side, tickets};

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
const SMALL_RECORDS_BYTES: u32 = 16 << 10;
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
    /// It has failed: its owner has been told, or is about to be.
    Broken,
}

/// A connection with TLS.
#[derive(Default)]
struct Secured {
    phase: Phase,
    /// We have opened it.
    is_client: bool,
    /// The owner has not heard yet that it is open.
    is_new: bool,
    /// The peer has said that nothing more comes.
    has_closed: bool,
    /// We have said so.
    said_close: bool,
    /// The front that it began with.
    front: u32,
    /// That front's entry whose certificate was presented.
    entry: u16,
    /// Plaintext sent since it stood still.
    sent: u32,
    /// Ciphertext taken from TCP, of a record that is not opened yet.
    rest: Option<Slice>,
    /// Plaintext that the owner has not read yet.
    plain: Option<Slice>,
    /// Of an origin's connection: what takes the tickets that it sends.
    kernel: Option<Box<KernelConnection<ClientConnectionData>>>,
    /// Why there was no handshake.
    failure: Option<Box<Failure>>,
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

/// Plaintext on its way into a record.
struct Builder {
    /// Whose it is; NONE while there is none.
    flow: FlowId,
    bytes: Box<[u8]>,
    len: usize,
}

/// The TLS of one core.
pub struct Tls {
    sessions: Sessions,
    handshakes: Handshakes,
    secured: Slab<SecuredId, Secured>,
    builder: Builder,
    cells: RecordCells,
    counters: Counters,
}

/// The connections that shake hands, as [`Handshakes`] needs them.
struct Shaking<'a> {
    tcp: &'a mut Tcp,
    sessions: &'a mut Sessions,
    secured: &'a mut Slab<SecuredId, Secured>,
    cells: &'a RecordCells,
    counters: &'a Counters,
}

impl Shaking<'_> {
    fn at(&self, flow: FlowId) -> Option<SecuredId> {
        secured_of(self.tcp.layer(flow))
    }

    fn send(&mut self, flow: FlowId, bytes: &[u8]) -> bool {
        // What does not fit one cell goes out in several.
        let sent = bytes
            .chunks(RECORD_BYTES_MAX as usize)
            .all(|b| self.cells.store(b).is_some_and(|s| self.tcp.send(flow, s).is_ok()));
        if !sent {
            self.counters.inc(Ctr::TlsNoCell);
        }
        sent
    }
}

impl Peers for Shaking<'_> {
    fn received(&mut self, flow: FlowId) -> &[u8] {
        let Some(c) = self.at(flow) else { return &[] };
        let s = &mut self.secured[c];
        if s.rest.is_none() {
            s.rest = self.tcp.read(flow);
            if s.rest.is_none() && self.tcp.has_ended(flow) {
                // It waits for what will never come: its next event ends it.
                self.tcp.wake(flow);
            }
        }
        s.rest.as_deref().unwrap_or_default()
    }

    fn consume(&mut self, flow: FlowId, bytes: usize) {
        let Some(c) = self.at(flow) else { return };
        let rest = &mut self.secured[c].rest;
        if let Some(s) = rest {
            s.advance(bytes);
            if s.is_empty() {
                *rest = None;
            }
        }
        self.tcp.consume(flow, bytes as u32);
    }

    fn outcome(&mut self, id: HandshakeId, flow: FlowId, outcome: Outcome<'_>) {
        let Some(c) = self.at(flow).filter(|c| self.secured[*c].phase == Phase::Shakes(id)) else { return };
        match outcome {
            // One that lacks a part of its flight comes to nothing: by its owner's timer, if not before.
            Outcome::Send(bytes) => {
                self.send(flow, bytes);
            }
            Outcome::Established(e) => {
                let s = &mut self.secured[c];
                let side = if s.is_client { Side::Client } else { Side::Server };
                match self.sessions.open(&e.keys, side) {
                    Some(session) => s.phase = Phase::Open(session),
                    None => s.phase = Phase::Broken,
                }
                s.is_new = true;
                s.entry = e.entry;
                s.kernel = e.kernel.map(Box::new);
                self.tcp.wake(flow);
            }
            Outcome::Failed(failure) => {
                let s = &mut self.secured[c];
                s.phase = Phase::Broken;
                s.failure = Some(Box::new(failure));
                self.tcp.wake(flow);
            }
        }
    }
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
            + Slab::<SecuredId, Secured>::cost(limits.tls_connections as usize)
    }

    /// Says what its pools cost, and why.
    pub fn footprint(limits: &Limits, f: &mut Footprint) {
        if limits.tls_connections == 0 {
            return;
        }
        Sessions::footprint(limits.tls_connections, limits.tls_contexts, f);
        let item = size_of::<Secured>() as u64 + 4;
        f.add("tls connections", limits.tls_connections.into(), item, "where each stands");
        f.add("tls handshakes", limits.tls_handshakes.into(), super::HANDSHAKE_BYTES, "those under way");
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
            builder: Builder { flow: FlowId::NONE, bytes: vec![0; bytes].into(), len: 0 },
            cells,
            counters,
        })
    }

    /// Whether there can be any TLS.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.builder.bytes.is_empty()
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
        self.tls.secured[self.secured(flow)?].failure.as_deref()
    }

    /// Whether its handshake is under way.
    pub fn is_shaking(&self, flow: FlowId) -> bool {
        self.secured(flow).is_some_and(|c| matches!(self.tls.secured[c].phase, Phase::Shakes(_)))
    }

    /// The entry of `front` whose certificate its client was shown, and by which the client's was verified. `None` if it
    /// was another front's.
    pub fn entry(&self, flow: FlowId, front: &Front) -> Option<u16> {
        let s = &self.tls.secured[self.secured(flow)?];
        (s.front == front.id()).then_some(s.entry)
    }

    // ── Handshakes ──────────────────────────────────────────────────────────────────────────────────

    /// A connection that was accepted begins with a ClientHello; `first`: what of it has been read already. Gives
    /// whether there is room for it; if there is none its owner ends it.
    pub fn start_server(&mut self, flow: FlowId, first: Option<Slice>, front: &Front) -> bool {
        let source = self.tcp.tuple(flow).remote.ip();
        let Ok(h) = self.tls.handshakes.start_server(flow, source) else { return false };
        if !self.secure(flow, h, false, first) {
            return false;
        }
        if let Some(c) = self.secured(flow) {
            self.tls.secured[c].front = front.id();
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
        let s = &mut self.tls.secured[c];
        (s.rest, s.plain) = (None, None);
        match std::mem::replace(&mut s.phase, Phase::Free) {
            Phase::Shakes(h) => self.tls.handshakes.cancel(h),
            Phase::Open(session) => self.tls.sessions.close(session),
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
                if nothing_comes {
                    self.close_session(c);
                    self.tls.secured[c].phase = Phase::Broken;
                    events.set(Events::CLOSED);
                } else {
                    self.tls.handshakes.readable(h);
                }
                events.clear(Events::READABLE);
                events.clear(Events::WRITABLE);
                events.clear(Events::CONNECTED);
                events
            }
            Phase::Open(_) => {
                self.open_ahead(flow, c);
                let s = &mut self.tls.secured[c];
                events.clear(Events::READABLE);
                events.clear(Events::CONNECTED);
                if std::mem::take(&mut s.is_new) && s.is_client {
                    events.set(Events::CONNECTED);
                }
                if s.plain.is_some() || s.has_closed {
                    events.set(Events::READABLE);
                } else if s.phase == Phase::Broken {
                    events.set(Events::CLOSED);
                } else if self.is_cut_off(flow, c) {
                    self.tls.counters.inc(Ctr::TlsTruncated);
                    self.close_session(c);
                    self.tls.secured[c].phase = Phase::Broken;
                    events.set(Events::CLOSED);
                }
                events
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

    // ── Receiving ───────────────────────────────────────────────────────────────────────────────────

    /// The length of the record that is next, once its header is there; an alert where it cannot be one.
    fn record_bytes(&self, flow: FlowId, c: SecuredId) -> Result<Option<usize>, Alert> {
        let mut head = [0; 5];
        let rest = self.tls.secured[c].rest.as_deref().unwrap_or_default();
        let n = rest.len().min(5);
        head[..n].copy_from_slice(&rest[..n]);
        let n = n + self.tcp.peek(flow, &mut head[n..]);
        self.tls.sessions.header(&head[..n])
    }

    /// Whether a whole record is there, or something that will never be one.
    fn has_record(&self, flow: FlowId, c: SecuredId) -> bool {
        match self.record_bytes(flow, c) {
            Err(_) => true,
            Ok(None) => false,
            Ok(Some(n)) => {
                let rest = self.tls.secured[c].rest.as_ref().map_or(0, |s| s.len());
                rest >= n || rest + self.tcp.unread(flow, n - rest) >= n
            }
        }
    }

    /// Opens records until there is data, or no whole record any more.
    fn open_ahead(&mut self, flow: FlowId, c: SecuredId) {
        for _ in 0..EMPTY_IN_A_ROW {
            let s = &self.tls.secured[c];
            let Phase::Open(session) = s.phase else { return };
            if s.plain.is_some() {
                return;
            }
            if s.has_closed {
                return self.ignore_rest(flow, c);
            }
            let bytes = match self.record_bytes(flow, c) {
                Ok(Some(n)) if self.has_record(flow, c) => n,
                Ok(_) => return,
                Err(alert) => return self.fail(flow, c, alert),
            };
            let Some(mut record) = self.take_record(flow, c, bytes) else {
                self.tls.counters.inc(Ctr::TlsNoCell);
                return self.fail(flow, c, Alert::INTERNAL_ERROR);
            };
            let Some(lies) = record.unique_mut() else {
                debug_assert!(false, "a record that is taken is its cell's only view");
                return self.fail(flow, c, Alert::INTERNAL_ERROR);
            };
            let received = self.tls.sessions.receive(session, lies);
            let mut data = 0;
            match received {
                Ok(Received::Data(range)) => {
                    record.advance(range.start);
                    record.truncate(range.len());
                    data = range.len();
                    self.tls.secured[c].plain = Some(record);
                }
                Ok(Received::Nothing) => {}
                // One that asks for ours is remembered: it goes out before our next data.
                Ok(Received::KeyUpdate { .. }) => {}
                Ok(Received::Tickets(range)) => {
                    let kernel = &mut self.tls.secured[c].kernel;
                    for body in tickets(&record[range]) {
                        // One that cannot be read is of no use, and does no harm.
                        let _ = kernel.as_mut().map(|k| k.handle_new_session_ticket(body));
                    }
                }
                Ok(Received::CloseNotify) => self.tls.secured[c].has_closed = true,
                Ok(Received::Fatal(alert)) => {
                    // An origin that does not like our certificate says so only now (TLS 1.3).
                    let error = Error::AlertReceived(AlertDescription::from(alert.0));
                    let failure = Failure { kind: FailureKind::Alert, error };
                    self.tls.secured[c].failure = Some(Box::new(failure));
                    return self.break_now(flow);
                }
                Err(alert) => return self.fail(flow, c, alert),
            }
            self.tcp.consume(flow, (bytes - data) as u32);
        }
        // There may be more of them: after the others.
        self.tcp.wake(flow);
    }

    /// Takes a whole record out of what has come: the only view of its cell. `None`: there was no cell to gather it in.
    fn take_record(&mut self, flow: FlowId, c: SecuredId, bytes: usize) -> Option<Slice> {
        let s = &mut self.tls.secured[c];
        let mut first = s.rest.take().or_else(|| self.tcp.read(flow))?;
        if first.len() == bytes && first.is_unique() {
            return Some(first);
        }
        let mut w = self.tls.cells.writer(bytes)?;
        let mut left = bytes;
        loop {
            let n = left.min(first.len());
            w.put(&first[..n]);
            first.advance(n);
            left -= n;
            if left == 0 {
                break;
            }
            first = self.tcp.read(flow)?;
        }
        if !first.is_empty() {
            s.rest = Some(first);
        }
        let record = w.take();
        w.release();
        record
    }

    /// What comes behind close_notify is not looked at (RFC 8446, 6.1).
    fn ignore_rest(&mut self, flow: FlowId, c: SecuredId) {
        let mut n = self.tls.secured[c].rest.take().map_or(0, |s| s.len());
        while let Some(s) = self.tcp.read(flow) {
            n += s.len();
        }
        self.tcp.consume(flow, n as u32);
    }

    /// Tells the peer what is wrong, and the owner that the connection is closed.
    fn fail(&mut self, flow: FlowId, c: SecuredId, alert: Alert) {
        self.drop_pending(flow);
        if let Phase::Open(session) = self.tls.secured[c].phase {
            self.ship_alert(flow, session, alert);
        }
        self.break_now(flow);
    }

    /// Takes the next piece of received data.
    pub fn read(&mut self, flow: FlowId) -> Option<Slice> {
        let Some(c) = self.secured(flow) else { return self.tcp.read(flow) };
        if !matches!(self.tls.secured[c].phase, Phase::Open(_)) {
            return None;
        }
        self.open_ahead(flow, c);
        self.tls.secured[c].plain.take()
    }

    /// Whether there is data to read.
    pub fn is_readable(&self, flow: FlowId) -> bool {
        match self.secured(flow) {
            None => self.tcp.is_readable(flow),
            Some(c) => {
                let s = &self.tls.secured[c];
                s.plain.is_some()
                    || matches!(s.phase, Phase::Open(_)) && !s.has_closed && self.has_record(flow, c)
            }
        }
    }

    /// Whether the peer has ended its side in order and everything before that has been read.
    pub fn at_end(&self, flow: FlowId) -> bool {
        match self.secured(flow) {
            None => self.tcp.at_end(flow),
            Some(c) => {
                let s = &self.tls.secured[c];
                s.has_closed && s.plain.is_none()
            }
        }
    }

    /// Bytes that the owner has read and not consumed.
    pub fn held(&self, flow: FlowId) -> u32 {
        let held = self.tcp.held(flow);
        match self.secured(flow) {
            None => held,
            Some(c) => {
                let s = &self.tls.secured[c];
                let here =
                    [&s.rest, &s.plain].iter().map(|s| s.as_ref().map_or(0, |s| s.len())).sum::<usize>();
                held.saturating_sub((here + self.tcp.unread(flow, usize::MAX)) as u32)
            }
        }
    }

    // ── Sending ─────────────────────────────────────────────────────────────────────────────────────

    /// Queues data.
    ///
    /// # Errors
    /// Gives the slice back when there is no room for it, or the side has been shut down.
    pub fn send(&mut self, flow: FlowId, data: Slice) -> Result<(), Slice> {
        let Some(c) = self.secured(flow) else { return self.tcp.send(flow, data) };
        if !matches!(self.tls.secured[c].phase, Phase::Open(_)) || self.tls.secured[c].said_close {
            return Err(data);
        }
        if self.tls.builder.flow != flow {
            self.flush();
            self.tls.builder.flow = flow;
            if self.tcp.queued(flow) == 0 {
                self.tls.secured[c].sent = 0;
            }
        }
        let mut left: &[u8] = &data;
        while !left.is_empty() {
            let max = self.record_max(flow, c);
            let b = &mut self.tls.builder;
            let n = left.len().min(max.saturating_sub(b.len));
            b.bytes[b.len..b.len + n].copy_from_slice(&left[..n]);
            b.len += n;
            left = &left[n..];
            if b.len >= max && !self.seal_pending() {
                return Err(data);
            }
        }
        Ok(())
    }

    /// How much the record that is being built may hold: at first what fits a segment.
    fn record_max(&self, flow: FlowId, c: SecuredId) -> usize {
        let s = &self.tls.secured[c];
        if s.sent >= SMALL_RECORDS_BYTES {
            return RECORD_PLAIN_MAX;
        }
        let Phase::Open(session) = s.phase else { return RECORD_PLAIN_MAX };
        let mss = usize::from(self.tcp.flow(flow).mss);
        mss.saturating_sub(self.tls.sessions.sealed_bytes(session, 0)).clamp(256, RECORD_PLAIN_MAX)
    }

    /// Seals what has been gathered. `false`: there was no room, and it is lost: the connection cannot go on.
    fn seal_pending(&mut self) -> bool {
        let (flow, n) = (self.tls.builder.flow, std::mem::take(&mut self.tls.builder.len));
        let Some(c) = self.secured(flow).filter(|_| n > 0) else { return true };
        let Phase::Open(session) = self.tls.secured[c].phase else { return false };
        if self.tls.sessions.update_due(session) && !self.update(flow, c) {
            return false;
        }
        let s = &mut self.tls.secured[c];
        s.sent = s.sent.saturating_add(n as u32);
        let bytes = std::mem::take(&mut self.tls.builder.bytes);
        let done = self.ship(flow, session, ContentType::ApplicationData, &bytes[..n]);
        self.tls.builder.bytes = bytes;
        done
    }

    /// Seals and sends what waits for more.
    fn flush(&mut self) {
        let flow = self.tls.builder.flow;
        if flow.is_none() {
            return;
        }
        if !self.seal_pending() {
            self.break_now(flow);
        }
        self.tls.builder.flow = FlowId::NONE;
    }

    /// The pass is over: what waits for more goes out.
    pub fn finish(&mut self) {
        self.flush();
    }

    /// Forgets what waits for more of this connection's.
    fn drop_pending(&mut self, flow: FlowId) {
        if self.tls.builder.flow == flow {
            self.tls.builder.len = 0;
            self.tls.builder.flow = FlowId::NONE;
        }
    }

    fn update(&mut self, flow: FlowId, c: SecuredId) -> bool {
        let Phase::Open(session) = self.tls.secured[c].phase else { return false };
        let sessions = &mut self.tls.sessions;
        let Some(mut w) = self.tls.cells.writer(64) else { return false };
        w.fill(|room| sessions.update(session, false, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    /// Seals one record and queues it.
    fn ship(&mut self, flow: FlowId, session: SessionId, kind: ContentType, plain: &[u8]) -> bool {
        let tls = &mut *self.tls;
        let Some(mut w) = tls.cells.writer(tls.sessions.sealed_bytes(session, plain.len())) else {
            tls.counters.inc(Ctr::TlsNoCell);
            return false;
        };
        w.fill(|room| tls.sessions.seal(session, kind, plain, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    fn ship_alert(&mut self, flow: FlowId, session: SessionId, alert: Alert) -> bool {
        let tls = &mut *self.tls;
        let Some(mut w) = tls.cells.writer(2 + OVERHEAD_MAX) else {
            tls.counters.inc(Ctr::TlsNoCell);
            return false;
        };
        w.fill(|room| tls.sessions.alert(session, alert, room).unwrap_or(0));
        let record = w.take();
        w.release();
        record.is_some_and(|r| self.tcp.send(flow, r).is_ok())
    }

    /// Says that nothing more comes from us.
    fn say_close(&mut self, flow: FlowId, c: SecuredId) {
        if self.tls.builder.flow == flow {
            self.flush();
        }
        if let Phase::Open(session) = self.tls.secured[c].phase
            && !std::mem::replace(&mut self.tls.secured[c].said_close, true)
        {
            self.ship_alert(flow, session, Alert::CLOSE_NOTIFY);
        }
    }

    /// Bytes queued and not yet acknowledged.
    pub fn queued(&self, flow: FlowId) -> u32 {
        self.tcp.queued(flow) + self.pending(flow)
    }

    /// Memory that the send queue holds, by true size.
    pub fn queued_true(&self, flow: FlowId) -> u32 {
        self.tcp.queued_true(flow) + self.pending(flow)
    }

    fn pending(&self, flow: FlowId) -> u32 {
        if self.tls.builder.flow == flow { self.tls.builder.len as u32 } else { 0 }
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
        self.forget(flow);
        self.tcp.orphan(flow, now);
    }

    /// Ends the connection at once, and releases it.
    pub fn abort(&mut self, flow: FlowId) {
        self.forget(flow);
        self.tcp.abort(flow);
    }

    /// Forgets a connection that is over. One that TLS has broken, and TCP not, ends with what the peer has been told.
    pub fn release(&mut self, flow: FlowId, now: Time) {
        let told = self.secured(flow).is_some() && self.tcp.state(flow) != State::Closed;
        self.forget(flow);
        if told {
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

    // ── What TLS has no part in ─────────────────────────────────────────────────────────────────────

    /// As [`Tcp::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(
        &mut self,
        net: &Net,
        to: std::net::SocketAddr,
        now: Time,
    ) -> Result<FlowId, ConnectError> {
        self.tcp.connect(net, to, now)
    }

    /// As [`Tcp::consume`].
    pub fn consume(&mut self, flow: FlowId, bytes: u32) {
        self.tcp.consume(flow, bytes);
    }

    /// As [`Tcp::wake`].
    pub fn wake(&mut self, flow: FlowId) {
        self.tcp.wake(flow);
    }

    /// As [`Tcp::set_timer`].
    pub fn set_timer(&mut self, flow: FlowId, at: Time) {
        self.tcp.set_timer(flow, at);
    }

    /// As [`Tcp::set_user`].
    pub fn set_user(&mut self, flow: FlowId, user: u64) {
        self.tcp.set_user(flow, user);
    }

    /// As [`Tcp::set_algorithm`].
    pub fn set_algorithm(&mut self, flow: FlowId, algorithm: Algorithm) {
        self.tcp.set_algorithm(flow, algorithm);
    }

    /// As [`Tcp::close_listeners`].
    pub fn close_listeners(&mut self) {
        self.tcp.close_listeners();
    }
}
