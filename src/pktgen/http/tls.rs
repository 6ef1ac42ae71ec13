//! TLS on the connections of the load: l7's handshake and record layer, driven from the client's own loop.
//!
//! ```text
//!   CONNECTED ─► Shaking ── Handshake ──► Session ─► Up:  request ─ seal ─► cells ─► TCP
//!                   │          ▲ tickets (resumed)         TCP ─► a whole record ─ open in place ─► response
//!                   └─ failed  └────────────────────────── NewSessionTicket
//! ```
//!
//! The handshakes of a run allocate, as rustls does; what is sealed and opened afterwards does not. A record that comes
//! in pieces is put together in a cell of its own.

use std::sync::Arc;

use dataplane::{CellWriter, Counters, Packet, Pool, Slice, Time};
use hugepages::{Arena, FixedVec, PagePolicy};
use l7::tls::handshake::{Established, Handshake, Progress};
use l7::tls::keys::{Suite, Version};
use l7::tls::origin::{Kept, Reason, Refusal, Spec, TlsError, Trust, client_config_with};
use l7::tls::record::{
    Alert, ContentType, HEADER_BYTES, OVERHEAD_MAX, PLAIN_MAX, RECORD_MAX, Received, SessionId, Sessions,
    Side, header, tickets,
};
use rustls::ClientConfig;
use rustls::client::{ClientConnectionData, Resumption};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::kernel::KernelConnection;

use super::client::Client;
use super::plan::Plan;
use super::response::Fault;
use super::slot::State;
use super::tally::{Count, Tally};

/// Connections that have contexts of the AEAD at a time.
const CONTEXTS_MAX: u32 = 16 << 10;
/// Cells for records that come in pieces.
const RECORD_CELLS_MAX: u32 = 4096;
/// What one handshake sends at most, for the size of a pool; the hybrid key share makes it 1.7 KiB.
const FLIGHTS_BYTES: u64 = 4 << 10;
/// Tickets that are kept.
const TICKETS: std::ops::RangeInclusive<usize> = 64..=65_536;

/// How connections begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By full handshakes.
    Full,
    /// By handshakes that go on from an earlier one, from the first on that there is a ticket for.
    Resumed,
}

impl Mode {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Full => "full",
            Mode::Resumed => "resumed",
        }
    }
}

/// A group of key exchanges.
pub type Group = &'static dyn SupportedKxGroup;

/// Those that there are, by the names of their standards.
pub fn groups() -> impl Iterator<Item = (String, Group)> {
    aws_lc_rs::DEFAULT_KX_GROUPS
        .iter()
        .map(|group| (format!("{:?}", group.name()).to_ascii_lowercase(), *group))
}

/// What a run's handshakes begin with.
#[derive(Clone, Debug)]
pub struct Secured {
    /// How connections begin.
    pub mode: Mode,
    /// The name that is asked for and checked.
    pub name: rustls::pki_types::ServerName<'static>,
    /// The rest.
    pub config: Arc<ClientConfig>,
}

impl Secured {
    /// Handshakes with `name`, which `trust` says how to believe, on so many connections; by `group` and no other, if there
    /// is one.
    ///
    /// # Errors
    /// What is wrong with the name, or the roots.
    pub fn new(
        name: &str,
        trust: Trust,
        mode: Mode,
        connections: u32,
        group: Option<Group>,
    ) -> Result<Secured, TlsError> {
        let spec = Spec::new(name, trust)?;
        let mut crypto = aws_lc_rs::default_provider();
        if let Some(group) = group {
            crypto.kx_groups = vec![group];
        }
        let mut config = client_config_with(&spec, crypto)?;
        if mode == Mode::Resumed {
            let room = (2 * connections as usize).clamp(*TICKETS.start(), *TICKETS.end());
            config.resumption = Resumption::store(Arc::new(Kept::new(spec.name.clone(), room)));
        }
        Ok(Secured { mode, name: spec.name, config: Arc::new(config) })
    }
}

/// A connection's part of it.
#[derive(Default)]
struct Secure {
    handshake: Option<Box<Handshake>>,
    /// When that began.
    began: Time,
    session: SessionId,
    /// Takes tickets, until the first answer.
    kernel: Option<Box<KernelConnection<ClientConnectionData>>>,
    /// The start of a record.
    partial: Option<Packet>,
    /// The server has said that it will send no more.
    is_closed: bool,
}

/// The TLS of all connections.
pub struct Layer {
    secured: Secured,
    sessions: Sessions,
    conns: FixedVec<Secure>,
    sealed: Pool,
    writer: CellWriter,
    records: Pool,
    /// What a step of a handshake has to send.
    out: Vec<u8>,
    scratch: Vec<u8>,
    /// What the first handshake has agreed on.
    pub agreed: Option<String>,
    /// Why the last one failed that did.
    pub refusal: Option<Refusal>,
}

/// Bytes that it takes from the client's arena.
pub fn arena_bytes(plan: &Plan) -> usize {
    let (sessions, contexts) = sessions(plan);
    Sessions::cost(sessions, contexts) + Arena::cost::<Secure>(plan.connections as usize)
}

fn sessions(plan: &Plan) -> (u32, u32) {
    (plan.connections, plan.connections.min(CONTEXTS_MAX))
}

/// Cells for records in pieces.
pub fn record_cells(plan: &Plan) -> u32 {
    plan.connections.min(RECORD_CELLS_MAX)
}

/// Cells for what is sealed: each request that can be under way, and the flights of those that shake hands.
pub fn sealed_cells(plan: &Plan) -> u32 {
    let request = u64::from(plan.request_bytes());
    let request = request + (request / PLAIN_MAX as u64 + 1) * OVERHEAD_MAX as u64;
    let requests = u64::from(plan.connections) * u64::from(plan.pipeline) * request;
    let shaking =
        u64::from(plan.connections.min(if plan.close { u32::MAX } else { super::connect::OPENING_MAX }));
    ((requests + shaking * FLIGHTS_BYTES) * 2 / RECORD_MAX as u64 + 64) as u32
}

impl Layer {
    /// For a plan that has TLS. `None` within: the arena is too small.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(
        plan: &Plan,
        secured: Secured,
        arena: &mut Arena,
        counters: Counters,
        pages: PagePolicy,
    ) -> Result<Option<Layer>, String> {
        let pool = |name, n| Pool::reserve(name, n, RECORD_MAX as u32, pages).map_err(|e| e.to_string());
        let (sessions, contexts) = sessions(plan);
        let Some(sessions) = Sessions::new(sessions, contexts, arena, counters) else { return Ok(None) };
        let conns = arena
            .array(plan.connections as usize, |_| Secure { session: SessionId::NONE, ..Secure::default() });
        let Some(conns) = conns else { return Ok(None) };
        Ok(Some(Layer {
            secured,
            sessions,
            conns,
            sealed: pool("sealed", sealed_cells(plan))?,
            writer: CellWriter::default(),
            records: pool("records", record_cells(plan))?,
            out: Vec::new(),
            scratch: Vec::new(),
            agreed: None,
            refusal: None,
        }))
    }

    /// Copies what is in `out` to cells, and gives them one by one.
    fn flight(&mut self, mut send: impl FnMut(Slice) -> bool) -> bool {
        for piece in self.out.chunks(self.sealed.cell_bytes() as usize) {
            if !self.writer.reserve(piece.len(), &self.sealed) {
                return false;
            }
            self.writer.put(piece);
            if !self.writer.take().is_some_and(&mut send) {
                return false;
            }
        }
        self.out.clear();
        true
    }

    /// One record, sealed in a cell.
    fn seal(&mut self, id: SessionId, what: Sealed<'_>) -> Option<Slice> {
        let plain = if let Sealed::Data(d) = what { d.len() } else { 8 };
        let bytes = self.sessions.sealed_bytes(id, plain);
        if !self.writer.reserve(bytes, &self.sealed) {
            return None;
        }
        let (sessions, mut done) = (&mut self.sessions, false);
        self.writer.fill(|room| {
            let sealed = match what {
                Sealed::Data(data) => sessions.seal(id, ContentType::ApplicationData, data, room),
                Sealed::Update => sessions.update(id, false, room),
                Sealed::Alert(alert) => sessions.alert(id, alert, room),
            };
            done = sealed.is_ok();
            sealed.unwrap_or(0)
        });
        if done { self.writer.take() } else { None }
    }
}

enum Sealed<'a> {
    Data(&'a [u8]),
    Update,
    Alert(Alert),
}

impl Client {
    /// The connection is there: shakes hands on it. Gives whether that could begin.
    pub(super) fn shake_hands(&mut self, s: u32, now: Time) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        let new = Handshake::client(Arc::clone(&tls.secured.config), tls.secured.name.clone());
        let Ok(handshake) = new else { return false };
        let conn = &mut tls.conns[s as usize];
        debug_assert!(conn.session.is_none() && conn.partial.is_none());
        conn.handshake = Some(Box::new(handshake));
        conn.began = now;
        conn.is_closed = false;
        if self.tally.shaking_from.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            Tally::set(&self.tally.shaking_from, now.0.max(1));
        }
        self.t.slots[s as usize].state = State::Shaking;
        self.shake(s, &mut [], now).is_ok()
    }

    /// Gives a handshake what has come.
    fn shake(&mut self, s: u32, bytes: &mut [u8], now: Time) -> Result<(), Fault> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let Some(handshake) = &mut tls.conns[s as usize].handshake else { return Ok(()) };
        // What another connection had no room for is not this one's.
        tls.out.clear();
        let progress = handshake.advance(bytes, &mut tls.out);
        let (tcp, flow) = (&mut self.stack.tcp, self.t.slots[s as usize].flow);
        let sent = tls.flight(|slice| tcp.send(flow, slice).is_ok());
        match progress {
            Err(failure) => {
                let refusal = Refusal::of(&failure.error);
                self.not_shaken(s, refusal);
                // Its alert goes out.
                self.stack.tcp.orphan(flow, now);
                self.went_down(s, now);
                Ok(())
            }
            Ok(_) if !sent => Err(Fault::NoMemory),
            Ok(Progress::WantsMore) => Ok(()),
            Ok(Progress::Done(established)) => self.shaken(s, *established, now),
        }
    }

    fn shaken(&mut self, s: u32, established: Established, now: Time) -> Result<(), Fault> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let Some(session) = tls.sessions.open(&established.keys, Side::Client) else {
            return Err(Fault::NoMemory);
        };
        let conn = &mut tls.conns[s as usize];
        conn.handshake = None;
        conn.session = session;
        if tls.secured.mode == Mode::Resumed {
            conn.kernel = established.kernel.map(Box::new);
        }
        let kind = if established.resumed { Count::HandshakesResumed } else { Count::HandshakesFull };
        self.tally.inc(kind);
        self.tally.handshake.record(now.since_ns(conn.began));
        Tally::set(&self.tally.shaking_to, now.0);
        if tls.agreed.is_none() {
            let group = established.group.map_or(String::new(), |g| format!(", {g:?}"));
            let keys = &established.keys;
            tls.agreed = Some(format!("{}, {}{group}", version_name(keys.version), suite_name(keys.suite)));
        }
        let mut unread = established.unread;
        self.up(s, now);
        self.open_bytes(s, &mut unread, now)
    }

    /// A handshake has come to nothing; nor can the request that it was for be answered.
    pub(super) fn not_shaken(&mut self, s: u32, refusal: Refusal) {
        self.refusal.get_or_insert_with(|| {
            (
                format!("fails the TLS handshake: {refusal}"),
                "--ca says who is trusted, --host by which name it is asked",
            )
        });
        if let Some(tls) = &mut self.tls {
            tls.refusal = Some(refusal);
        }
        self.not_opened_for(
            s,
            if refusal.reason == Reason::Timeout { Count::HandshakeTimeout } else { Count::HandshakeFailed },
        );
    }

    /// Sends `bytes` as so many records as they need. Gives whether there was room.
    pub(super) fn send_sealed(&mut self, s: u32, bytes: &Slice) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        let (session, flow) = (tls.conns[s as usize].session, self.t.slots[s as usize].flow);
        let tcp = &mut self.stack.tcp;
        if tls.sessions.update_due(session) {
            let update = tls.seal(session, Sealed::Update);
            if update.is_none_or(|u| tcp.send(flow, u).is_err()) {
                return false;
            }
        }
        bytes.chunks(PLAIN_MAX).all(|data| {
            let sealed = tls.seal(session, Sealed::Data(data));
            sealed.is_some_and(|record| tcp.send(flow, record).is_ok())
        })
    }

    /// Reads what has come, on a connection with TLS.
    pub(super) fn secured_readable(&mut self, s: u32, now: Time) -> Result<(), Fault> {
        let id = self.t.slots[s as usize].flow;
        while self.t.slots[s as usize].flow == id
            && let Some(mut piece) = self.stack.tcp.read(id)
        {
            // It is used up here, whatever is found in it.
            self.stack.tcp.consume(id, piece.len() as u32);
            if let Some(bytes) = piece.unique_mut() {
                self.take_sealed(s, bytes, now)?;
                continue;
            }
            let Some(tls) = &mut self.tls else { return Ok(()) };
            let mut copy = std::mem::take(&mut tls.scratch);
            copy.clear();
            copy.extend_from_slice(&piece);
            let taken = self.take_sealed(s, &mut copy, now);
            if let Some(tls) = &mut self.tls {
                tls.scratch = copy;
            }
            taken?;
        }
        Ok(())
    }

    fn take_sealed(&mut self, s: u32, bytes: &mut [u8], now: Time) -> Result<(), Fault> {
        match self.t.slots[s as usize].state {
            State::Shaking => self.shake(s, bytes, now),
            State::Up => self.open_bytes(s, bytes, now),
            // What comes after the last answer is nobody's.
            _ => Ok(()),
        }
    }

    /// Opens the records of `bytes`; what is left of them waits for the rest.
    fn open_bytes(&mut self, s: u32, bytes: &mut [u8], now: Time) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() && self.t.slots[s as usize].state == State::Up {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            let Some(mut cell) = tls.conns[s as usize].partial.take() else {
                match header(rest).map_err(Fault::Tls)? {
                    Some(n) if n <= rest.len() => {
                        let (record, behind) = rest.split_at_mut(n);
                        rest = behind;
                        self.open_record(s, record, now)?;
                    }
                    _ => {
                        let mut cell = tls.records.alloc().ok_or(Fault::NoMemory)?;
                        if !cell.append(rest) {
                            return Err(Fault::NoMemory);
                        }
                        tls.conns[s as usize].partial = Some(cell);
                        return Ok(());
                    }
                }
                continue;
            };
            let wanted = header(cell.head()).map_err(Fault::Tls)?.unwrap_or(HEADER_BYTES);
            let n = wanted.saturating_sub(cell.head().len()).min(rest.len());
            if !cell.append(&rest[..n]) {
                return Err(Fault::NoMemory);
            }
            rest = &mut rest[n..];
            match header(cell.head()).map_err(Fault::Tls)? {
                Some(whole) if whole == cell.head().len() => self.open_record(s, cell.head_mut(), now)?,
                _ => tls.conns[s as usize].partial = Some(cell),
            }
        }
        Ok(())
    }

    fn open_record(&mut self, s: u32, record: &mut [u8], now: Time) -> Result<(), Fault> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let conn = &mut tls.conns[s as usize];
        match tls.sessions.receive(conn.session, record).map_err(Fault::Tls)? {
            Received::Data(at) => return self.take(s, &record[at], now),
            Received::Nothing | Received::KeyUpdate { .. } => {}
            Received::Tickets(at) => {
                if let Some(kernel) = &mut conn.kernel {
                    for body in tickets(&record[at]) {
                        // One that rustls cannot read is one less.
                        let _ = kernel.handle_new_session_ticket(body);
                    }
                }
            }
            Received::CloseNotify => conn.is_closed = true,
            Received::Fatal(alert) => return Err(Fault::Tls(alert)),
        }
        Ok(())
    }

    /// Whether the end of what came is the end that the server meant.
    pub(super) fn is_whole(&self, s: u32) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.conns[s as usize].is_closed)
    }

    /// No more tickets are waited for.
    pub(super) fn no_more_tickets(&mut self, s: u32) {
        if let Some(tls) = &mut self.tls {
            tls.conns[s as usize].kernel = None;
        }
    }

    /// Says that we will send no more.
    pub(super) fn say_close(&mut self, s: u32) {
        let Some(tls) = &mut self.tls else { return };
        let session = tls.conns[s as usize].session;
        if session.is_some()
            && let Some(record) = tls.seal(session, Sealed::Alert(Alert::CLOSE_NOTIFY))
        {
            // Without room for it the connection ends all the same.
            let _ = self.stack.tcp.send(self.t.slots[s as usize].flow, record);
        }
    }

    /// The connection is gone.
    pub(super) fn forget_tls(&mut self, s: u32) {
        let Some(tls) = &mut self.tls else { return };
        let conn = &mut tls.conns[s as usize];
        (conn.handshake, conn.kernel, conn.partial) = (None, None, None);
        let session = std::mem::replace(&mut conn.session, SessionId::NONE);
        if session.is_some() {
            tls.sessions.close(session);
        }
    }
}

const fn version_name(version: Version) -> &'static str {
    match version {
        Version::Tls12 => "TLS 1.2",
        Version::Tls13 => "TLS 1.3",
    }
}

const fn suite_name(suite: Suite) -> &'static str {
    match suite {
        Suite::Aes128Gcm => "AES-128-GCM",
        Suite::Aes256Gcm => "AES-256-GCM",
        Suite::ChaCha20Poly1305 => "ChaCha20-Poly1305",
    }
}
