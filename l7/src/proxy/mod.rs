//! The proxy of one core: client connections in, origin connections out, HTTP/1.1 on both.
//!
//! ```text
//!  tcp events ──► Proxy::run ──► by the connection's Role ──► pump the exchange:
//!
//!   client ─ read ─► client_in ─► ServerConn ─► head: route, rewrite ─► origin's send queue
//!                                    └─ body pieces (slices, not copied) ──► origin's send queue
//!   client's send queue ◄─ body pieces ◄─ ClientConn ◄─ origin_in ◄─ read ─ origin
//! ```
//!
//! Nothing here holds a byte for longer than TCP does: a body piece is the received slice, put into the other
//! side's send queue. **Backpressure**: a side is read only while the other side's queue is below the
//! request's budget, and its window is opened (`consume`) only as the other side acknowledges.
//!
//! An exchange is taken from a bounded slab when the first byte of a request comes, and given back when the
//! response is handed to TCP: an idle connection is a flow record and nothing else.

mod body;
mod cached;
mod checking;
mod claim;
mod config;
mod early;
mod events;
mod exchange;
mod failures;
mod fetch;
mod fetch_head;
mod group;
mod invalidate;
mod keep;
mod log;
mod news;
mod origin_edits;
mod peers;
mod plan;
mod pump;
mod race;
mod reads;
mod request;
mod respond;
mod secure;
mod side;
mod slices;
mod upstream;
mod waiting;
mod waits;

use std::rc::Rc;
use std::sync::Arc;

use dataplane::{CellWriter, Counters, Ctr, Pool, Slice, Time};
use hugepages::{Arena, Footprint, Limits, Slab};
use stack::{FlowId, Net, State};

use crate::cache::store::Handle;
use crate::tls::Front;
use checking::Run;
pub use config::{
    Answer, ClientAuth, ClientTimeouts, HealthChecks, KeyOf, Origin, OriginTimeouts, ProxyConfig, Route,
    Site, Upstream,
};
use exchange::{Exchange, ExchangeId, Leg, Role};
use failures::Failures;
use group::Group;
pub use log::LogTo;
use log::RequestLog;
use news::News;
pub use news::{LINES_MAX, NEWS_INFO, NEWS_WARN};
use peers::Peers;
pub use peers::{Network, ProxyVersion};
pub use plan::{OLD_PLANS_MAX, Program};
use plan::{OriginSlot, Plan};
use waiting::Waiting;

use crate::cache::policy::hash::HashKeys;
use crate::http1::http_date;
use crate::tls::Conns;
use request::Bench;

/// Largest head that we write: what the parser lets in, and what we add to it.
pub const HEAD_CELL_BYTES: u32 = 20 << 10;
/// The longest cache key; a longer one's request goes past the cache.
const KEY_BYTES_MAX: usize = 4096;

/// The connection side that the proxy works on: passed down, never kept.
pub struct Io<'a> {
    /// TCP's connections, with TLS or without.
    pub tcp: Conns<'a>,
    /// The network, for routes.
    pub net: &'a Net,
    /// The time.
    pub now: Time,
}

impl Io<'_> {
    /// Ends a connection that nobody wants any more at once. One that TLS has ended has told its peer why: that still
    /// goes out.
    fn let_go(&mut self, flow: FlowId) {
        match self.tcp.state(flow) {
            State::Closed => self.tcp.release(flow, self.now),
            _ => self.tcp.abort(flow),
        }
    }
}

/// Where L7 writes bytes.
#[derive(Clone)]
pub struct Cells {
    /// Cells for chunk lines and ordinary heads.
    pub payload: Pool,
    /// Cells of [`HEAD_CELL_BYTES`]: long heads, and heads gathered from several segments.
    pub heads: Pool,
}

impl Cells {
    /// A copy of `bytes` in the smallest cell that takes them; `None` when the pool is empty, or they are
    /// longer than any cell.
    fn store(&self, bytes: &[u8]) -> Option<Slice> {
        let small = bytes.len() <= self.payload.cell_bytes() as usize;
        let mut w = CellWriter::default();
        if !w.reserve(bytes.len().max(1), if small { &self.payload } else { &self.heads }) {
            return None;
        }
        w.put(bytes);
        w.take()
    }

    /// `first` and `second` in one piece: in `first`'s own cell where that can be.
    fn join(&self, mut first: Slice, second: &[u8]) -> Option<Slice> {
        if first.extend_in_place(second) {
            return Some(first);
        }
        // In a cell with room for more of the same head, so that the next piece is not copied twice.
        let mut w = CellWriter::default();
        if first.len() + second.len() > HEAD_CELL_BYTES as usize
            || !w.reserve(HEAD_CELL_BYTES as usize, &self.heads)
        {
            return None;
        }
        w.put(&first);
        w.put(second);
        w.take()
    }
}

/// The proxy of one core.
pub struct Proxy {
    /// What new requests follow.
    current: Rc<Plan>,
    /// What requests follow that began before a reload.
    old: Vec<Rc<Plan>>,
    /// What clients are shown: the current program's, or what was presented since.
    front: Arc<Front>,
    origins: Vec<OriginSlot>,
    groups: Vec<Group>,
    /// Requests that wait for room at an origin.
    waiting_for_room: u32,
    /// Health checks that this core makes.
    runs: Vec<Run>,
    /// When the next of them is due.
    checks_at: Time,
    core: usize,
    cores: usize,
    exchanges: Slab<ExchangeId, Exchange>,
    cells: Cells,
    counters: Counters,
    /// The shared cache, if any site of this node uses one.
    store: Option<Handle>,
    /// Requests under way, as the gauge says.
    shown_active: u32,
    /// Whether the store does not wait for this core, as it sleeps.
    is_offline: bool,
    /// Whom connections have announced.
    peers: Peers,
    /// Where lines go, if anywhere.
    log: Option<RequestLog>,
    /// What was said of origins.
    news: News,
    /// Lines written, for the requests' numbers.
    logged: u64,
    waiting: Waiting,
    failures: Failures,
    /// The head blob of a stored object, and its key.
    blob: Box<[u8]>,
    /// A blob that is being made of another one.
    blob2: Box<[u8]>,
    key: Box<[u8]>,
    /// Where requests' heads are taken apart, unless somebody is at it.
    bench: Option<Box<Bench>>,
    /// The same for responses.
    response_bench: Option<Box<Bench>>,
    /// And for those that modules have changed before they are stored.
    edit_bench: Option<Box<Bench>>,
    /// Secrets of the cache's hashes.
    keys: HashKeys,
    nonce: u64,
    scratch: Box<[u8]>,
    date: [u8; 29],
    date_second: u64,
    draining: bool,
    clients: u64,
    idle_origins: u64,
    unix_ns_at_start: u64,
}

impl Proxy {
    /// Bytes that a proxy takes from its core's arena.
    pub fn cost(limits: &Limits) -> usize {
        Slab::<ExchangeId, Exchange>::cost(limits.http_contexts as usize)
    }

    /// Says what the proxy's pools cost, and why.
    pub fn footprint(limits: &Limits, f: &mut Footprint) {
        let item = size_of::<Exchange>() as u64 + 4;
        f.add("http contexts", limits.http_contexts.into(), item, "one per request under way");
    }

    /// A proxy with the pools of `limits`, cut from `arena`. `None` when the arena is smaller than
    /// [`Proxy::cost`].
    pub fn new(
        program: Arc<Program>,
        limits: &Limits,
        arena: &mut Arena,
        cells: Cells,
        store: Option<(Handle, HashKeys)>,
        counters: Counters,
    ) -> Option<Proxy> {
        let nobody = FlowId::NONE;
        let exchanges =
            Slab::new(arena, limits.http_contexts, || Exchange::new(nobody, &program.config.http))?;
        let (store, keys) = match store {
            Some((store, keys)) => (Some(store), keys),
            None => (None, HashKeys(0, 0)),
        };
        let config = &program.config;
        let date = http_date::format(config.unix_ns_at_start / 1_000_000_000);
        let unix_ns_at_start = config.unix_ns_at_start;
        let none = Plan { program: Arc::clone(&program), places: Vec::new(), stubs: Vec::new() };
        let mut proxy = Proxy {
            front: Arc::clone(&config.front),
            current: Rc::new(none),
            old: Vec::with_capacity(OLD_PLANS_MAX + 1),
            origins: Vec::new(),
            groups: Vec::new(),
            waiting_for_room: 0,
            runs: Vec::new(),
            checks_at: Time::NEVER,
            core: 0,
            cores: 1,
            exchanges,
            cells,
            counters,
            peers: Peers::default(),
            log: None,
            news: News::default(),
            logged: 0,
            waiting: Waiting::new(limits.http_contexts),
            failures: Failures::new(),
            blob: vec![0; store.as_ref().map_or(0, |s| s.store().head_bytes_max())].into(),
            blob2: vec![0; store.as_ref().map_or(0, |s| s.store().head_bytes_max())].into(),
            key: vec![0; KEY_BYTES_MAX].into(),
            store,
            shown_active: 0,
            is_offline: false,
            bench: Some(Bench::new()),
            response_bench: Some(Bench::new()),
            edit_bench: Some(Bench::new()),
            keys,
            nonce: 0,
            scratch: vec![0; HEAD_CELL_BYTES as usize].into(),
            date,
            date_second: 0,
            draining: false,
            clients: 0,
            idle_origins: 0,
            unix_ns_at_start,
        };
        proxy.current = Rc::new(proxy.plan_of(program));
        Some(proxy)
    }

    /// Handles everything that has happened to connections. Gives whether there was anything.
    pub fn run(&mut self, io: &mut Io<'_>) -> bool {
        let second = io.now.0 / 1_000_000_000;
        if second != self.date_second {
            self.date_second = second;
            self.date = http_date::format((self.unix_ns_at_start + io.now.0) / 1_000_000_000);
        }
        let mut n = 0u64;
        let t0 = dataplane::time::cycles();
        if let Some(store) = &mut self.store {
            store.quiescent();
            while let Some(object) = io.tcp.next_unkept() {
                store.unpin(object);
            }
            self.wake_readers(io);
            self.reset_slowest(io);
        }
        let mut shook = false;
        if io.tcp.tls.is_on() {
            io.tcp.begin(io.now);
            shook = io.tcp.shake(&self.front);
        }
        while let Some((flow, events)) = io.tcp.next_event() {
            n += 1;
            self.event(io, flow, events);
        }
        let looked = shook | self.look_at_queues(io) | self.run_checks(io);
        io.tcp.finish();
        if !self.old.is_empty() {
            self.forget_unused_plans(io);
        }
        if n > 0 {
            self.counters.stage(dataplane::Stage::Http, n, dataplane::time::cycles() - t0);
        }
        // A request may also end without an event: the slowest reader's, one that waited too long.
        if n > 0 || self.exchanges.in_use() != self.shown_active {
            self.set_gauges();
        }
        n > 0 || looked
    }

    /// The core is about to sleep: whether it may. If so the store does not wait for it until [`Proxy::woken`].
    pub fn may_sleep(&mut self) -> bool {
        match &mut self.store {
            None => true,
            Some(store) if store.has_wakes() => false,
            Some(store) => {
                store.offline();
                self.is_offline = true;
                true
            }
        }
    }

    /// The core is awake again.
    pub fn woken(&mut self) {
        if let (true, Some(store)) = (std::mem::take(&mut self.is_offline), &mut self.store) {
            store.online();
        }
    }

    /// What new requests follow.
    fn config(&self) -> &ProxyConfig {
        &self.current.program.config
    }

    /// A number that nobody outside can tell: for boundaries.
    fn random(&mut self, io: &Io<'_>) -> u64 {
        self.nonce = self.nonce.wrapping_add(1);
        let mut text = [0; 16];
        text[..8].copy_from_slice(&self.nonce.to_le_bytes());
        text[8..].copy_from_slice(&io.now.0.to_le_bytes());
        self.keys.hash(&text)
    }

    fn set_gauges(&mut self) {
        self.shown_active = self.exchanges.in_use();
        let c = &self.counters;
        c.set(Ctr::HttpOpen, self.clients);
        c.set(Ctr::HttpActive, self.exchanges.in_use().into());
        c.set(Ctr::OriginIdle, self.idle_origins);
        c.set(Ctr::PoolPayloadFree, self.cells.payload.free_count().into());
    }

    /// Takes no new requests from now on: idle connections are closed, the others after their response.
    /// Not for the hot path: looks at every connection.
    pub fn drain(&mut self, io: &mut Io<'_>) {
        self.draining = true;
        self.end_checks(io);
        io.tcp.close_listeners();
        let flows: Vec<FlowId> = io.tcp.flows().collect();
        for flow in flows {
            match Role::decode(io.tcp.user(flow)) {
                Role::IdleClient { .. } | Role::Announces if io.tcp.is_owned(flow) => {
                    self.close_idle_client(io, flow)
                }
                Role::Pooled { slot } => {
                    self.forget_pooled(flow, slot);
                    io.tcp.orphan(flow, io.now);
                }
                _ => {}
            }
        }
        self.set_gauges();
    }

    /// Client connections that are open: none left means drained.
    pub fn open_clients(&self) -> u64 {
        self.clients
    }

    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.exchanges.in_use()
    }
}

/// Bytes that a leg's source may have its window opened by: what has left the destination's queue.
fn settle(leg: &mut Leg, tcp: &mut Conns<'_>, from: FlowId, to: FlowId) {
    let waiting = if to.is_some() { tcp.queued(to) } else { 0 };
    if leg.held > waiting {
        tcp.consume(from, leg.held - waiting);
        leg.held = waiting;
    }
}
