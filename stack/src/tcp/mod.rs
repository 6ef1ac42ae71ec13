//! The TCP engine: sans-IO, one control block per connection, bursts in, events out.
//!
//! ```text
//!  burst of parsed packets ──► input ──► control blocks ──► events ──► owner (L7)
//!                                             │                          │ read, consume
//!  expired deadlines ───────► timers ─────────┤                          │ send (retained slices)
//!                                             ▼                          │ shutdown, abort, orphan
//!  tx queue ◄── segments ◄── output ◄── list of connections with something to send
//! ```
//!
//! The owner's side is shaped for zero copy, and never shows a ring buffer: received payload comes as the
//! [`Slice`](dataplane::Slice) that it arrived in; data to send is a queue of slices that are kept until acknowledged. The
//! window opens only by [`Tcp::consume`], which an owner calls when the bytes have left its own hands.
//!
//! Events are flags on a connection that waits in a list, so that they coalesce and need no bound of their
//! own. [`Tcp::next_event`] gives the next connection; after [`Events::CLOSED`] the owner must
//! [`Tcp::release`] it.
//!
//! An idle connection costs its control block and one link of the timer wheel.

mod ack;
mod audit;
mod away;
pub mod cc;
mod config;
mod cookies;
mod ecn;
mod emit;
mod info;
mod input;
mod listen;
mod open;
pub mod options;
mod output;
mod owner;
mod pmtu;
mod rack;
mod rate;
mod receive;
mod recovery;
mod rtt;
mod sack_out;
mod scoreboard;
pub(crate) mod segment;
mod seq;
mod table;
mod tcb;
mod time_wait;
mod timers;
mod timestamps;
mod totals;
mod tuning;
mod usual;
mod wheel;
mod window;

use arrayvec::ArrayVec;
use dataplane::{Counters, Ctr, Pool, Time};
use hugepages::{Arena, Footprint, Limits, Slab};

pub use cc::Algorithm;
use cc::Cc;
pub use config::{EcnUse, TcpConfig};
pub use cookies::{CookieSecrets, CookieUse};
pub use info::{COPIES_MAX, FlowInfo};
pub use open::{ConnectError, OwnPorts};
pub use recovery::Phase;
pub use seq::Seq;
pub use tcb::{CloseReason, Events, FlowId, RecordId, State, Tcb};
pub use totals::{Class, Side};
pub use tuning::{Congestion, Tuning};

use crate::addr::{Addr, Tuple};
use crate::net::Net;
use cookies::Cookies;
use pmtu::PathMtus;
use scoreboard::Segments;
use table::Table;
pub use tcb::Flags;
use tcb::SendRecord;
use time_wait::TimeWait;
use totals::Totals;
use wheel::Wheel;

/// Listeners of one core.
pub const LISTENERS_MAX: usize = 64;
/// Lists of connections with something to send: one for each port, as long as there are not more.
const OUTPUT_LISTS: usize = 8;
/// Payload bytes that a connection may hold for its owner: half the budget, as true size is up to twice that.
const WINDOW_SHARE: u32 = 2;

/// Where connections are taken.
#[derive(Clone, Copy, Debug)]
struct Listener {
    /// `None`: every address of ours.
    addr: Option<Addr>,
    port: u16,
    open: bool,
    tuning: Tuning,
    /// Connections with a control block that are counted with it.
    connections: u32,
}

/// Whose a port of one of our addresses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortRole {
    /// Connections to it are taken.
    Listeners,
    /// We connect from it, on one of the cores.
    Own,
    /// Neither.
    Nobodys,
}

/// The engine of one core.
pub struct Tcp {
    table: Table,
    records: Slab<RecordId, SendRecord>,
    segments: Segments,
    wheel: Wheel<FlowId>,
    time_wait: TimeWait,
    listeners: ArrayVec<Listener, LISTENERS_MAX>,
    config: TcpConfig,
    counters: Counters,
    rx_pool: Pool,
    rx_reserve: u32,
    half_open: u32,
    half_open_max: u32,
    ready: List,
    /// Connections with something to send, by port.
    output: [List; OUTPUT_LISTS],
    next_port: u32,
    own_ports: OwnPorts,
    /// This core's number, and how many share the ports that we connect from.
    share: (u32, u32),
    challenge_second: u64,
    challenges: u32,
    totals: Totals,
    cookies: Cookies,
    path_mtus: PathMtus,
    /// The most payload that a connection may hold.
    window_max: u32,
    /// The time of this pass.
    now_us: u32,
}

/// A singly linked list through the control blocks.
#[derive(Clone, Copy, Default)]
struct List {
    first: FlowId,
    last: FlowId,
}

impl Tcp {
    /// Bytes that an engine takes from its core's arena.
    pub fn cost(limits: &Limits) -> usize {
        Table::cost(limits.flows as usize)
            + Slab::<RecordId, SendRecord>::cost(limits.send_records as usize)
            + Segments::cost(limits.segments as usize)
            + Wheel::<FlowId>::cost(limits.flows as usize)
            + TimeWait::cost(limits.time_wait as usize)
            + PathMtus::cost()
    }

    /// Says what the engine's pools cost, and why.
    pub fn footprint(limits: &Limits, f: &mut Footprint) {
        let flow = size_of::<Tcb>() as u64 + 4 + 8 + 24;
        f.add(
            "tcp flows",
            limits.flows.into(),
            flow,
            "one control block, its bucket and timer per connection",
        );
        let record = size_of::<SendRecord>() as u64 + 4;
        f.add(
            "send records",
            limits.send_records.into(),
            record,
            "one per piece of data that waits to be sent",
        );
        let segment = size_of::<scoreboard::Out>() as u64 + 4;
        f.add("segments out", limits.segments.into(), segment, "one per segment that is not acknowledged");
        f.add("time-wait", limits.time_wait.into(), 36, "connections closed by us in the last minute");
    }

    /// An engine with the pools of `limits`, cut from `arena`; received frames come from `rx_pool`.
    /// `None` when the arena is smaller than [`Tcp::cost`].
    pub fn new(
        limits: &Limits,
        arena: &mut Arena,
        mut config: TcpConfig,
        rx_pool: Pool,
        counters: Counters,
    ) -> Option<Tcp> {
        let window_max = config.window_max(rx_pool.capacity());
        config.window_scale = config.scale_for(window_max);
        let cookies = Cookies::new(config.cookie_secrets, &config.keys, config.epoch_ms);
        Some(Tcp {
            cookies,
            window_max,
            now_us: 0,
            path_mtus: PathMtus::new(arena, [config.keys[2], config.keys[3]])?,
            table: Table::new(arena, limits.flows, [config.keys[0], config.keys[1]])?,
            records: Slab::new(arena, limits.send_records, SendRecord::default)?,
            segments: Segments::new(arena, limits.segments)?,
            wheel: Wheel::new(arena, limits.flows)?,
            time_wait: TimeWait::new(arena, limits.time_wait)?,
            listeners: ArrayVec::new(),
            config,
            counters,
            rx_pool,
            rx_reserve: limits.rx_reserve,
            half_open: 0,
            half_open_max: limits.half_open,
            ready: List::default(),
            output: [List::default(); OUTPUT_LISTS],
            next_port: 0,
            own_ports: OwnPorts::default(),
            share: (0, 1),
            challenge_second: 0,
            challenges: 0,
            totals: Totals::new(),
        })
    }

    /// Takes connections to `port` of `addr` (`None`: of every address); gives the listener's number.
    pub fn listen(&mut self, addr: Option<Addr>, port: u16) -> Option<u16> {
        let tuning = Tuning { congestion: self.config.congestion, ..Tuning::default() };
        self.listeners.try_push(Listener { addr, port, open: true, tuning, connections: 0 }).ok()?;
        Some(self.listeners.len() as u16 - 1)
    }

    /// Takes no new connections from now on: their SYNs are answered by RST.
    pub fn close_listeners(&mut self) {
        for l in &mut self.listeners {
            l.open = false;
        }
    }

    fn listener_for(&self, addr: &Addr, port: u16) -> Option<u16> {
        let hit = |l: &Listener| l.port == port && l.addr.as_ref().is_none_or(|a| a == addr);
        self.listeners.iter().position(hit).map(|i| i as u16)
    }

    /// Whose `port` of our address `addr` is.
    pub(crate) fn role(&self, addr: &Addr, port: u16) -> PortRole {
        self.role_of(self.listener_for(addr, port), port)
    }

    fn role_of(&self, listener: Option<u16>, port: u16) -> PortRole {
        if listener.is_some() {
            PortRole::Listeners
        } else if (self.own_ports.first..=self.own_ports.last).contains(&port) {
            PortRole::Own
        } else {
            PortRole::Nobodys
        }
    }

    /// The pool that received frames come from.
    pub fn rx_pool(&self) -> &Pool {
        &self.rx_pool
    }

    fn new_flow(&mut self, tuple: Tuple, hash: u64, port: u8, net: &Net) -> Option<FlowId> {
        let id = self.table.flows.alloc()?;
        let iface = &net.ifaces[port as usize];
        let headers = if tuple.local.is_v4() { 40 } else { 60 };
        let ts_offset = self.ts_offset(hash);
        let t = &mut self.table.flows[id];
        // In two steps, as the first is one copy of bytes that are known.
        *t = Tcb::EMPTY;
        t.tuple = tuple;
        (t.hash, t.hash_high) = (hash as u32, (hash >> 32) as u32);
        t.port = port;
        t.mss = (iface.mtu - headers).min(self.config.mss_max);
        t.rcv_mss = 536;
        t.quick_acks = self.config.quick_acks;
        t.ts_offset = ts_offset;
        t.rcv_wnd_max = self.config.receive_budget_bytes / WINDOW_SHARE;
        let algorithm = self.config.congestion.choose((hash >> 32) as u32);
        if algorithm != Algorithm::Cubic {
            t.cc = Cc::new(algorithm, hash as u32);
        }
        t.flags.set(Flags::HASHED);
        self.table.insert(id);
        Some(id)
    }

    // ── Shared by input, output and timers ──────────────────────────────────────────────────────────

    fn raise(&mut self, id: FlowId, e: Events) {
        let t = &mut self.table.flows[id];
        t.events.set(e);
        if !t.flags.has(Flags::IN_READY) && !t.flags.has(Flags::ORPHAN) {
            t.flags.set(Flags::IN_READY);
            push(&mut self.table, &mut self.ready, id, |t| &mut t.ready_next);
        }
    }

    fn want_output(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        if !t.flags.has(Flags::IN_OUTPUT) {
            t.flags.set(Flags::IN_OUTPUT);
            let list = t.port as usize % OUTPUT_LISTS;
            push(&mut self.table, &mut self.output[list], id, |t| &mut t.output_next);
        }
    }

    /// The connection is over: tells the owner, or releases it when there is none.
    fn finish(&mut self, id: FlowId, reason: CloseReason) {
        let t = &mut self.table.flows[id];
        t.state = State::Closed;
        t.close_reason = reason;
        (t.rexmit_at, t.ack_at, t.idle_at) = (Time::NEVER, Time::NEVER, Time::NEVER);
        (t.probe_at, t.pace_at) = (Time::NEVER, Time::NEVER);
        if reason != CloseReason::Done {
            t.flags.clear(Flags::ACK_NOW); // Nobody is there to read it.
        }
        t.drop_out_of_order();
        self.drop_send_queue(id);
        let t = &mut self.table.flows[id];
        if t.flags.has(Flags::HASHED) {
            t.flags.clear(Flags::HASHED);
            self.table.remove(id);
        }
        let t = &self.table.flows[id];
        let unseen = t.flags.has(Flags::HALF_OPEN) && !t.flags.has(Flags::ACTIVE);
        if t.flags.has(Flags::ORPHAN) || unseen {
            // Freed by the pass's output: the caller is still at work on it.
            self.want_output(id);
            self.release(id);
        } else {
            self.raise(id, Events::CLOSED);
        }
    }

    fn rearm(&mut self, id: FlowId) {
        let at = self.table.flows[id].deadline();
        if at != Time::NEVER {
            self.wheel.arm(id, at);
        }
    }

    fn set_gauges(&self) {
        let c = &self.counters;
        c.set(Ctr::TcpFlows, self.table.flows.in_use().into());
        c.set(Ctr::TcpHalfOpen, self.half_open.into());
        self.set_cookies_gauge();
        c.set(Ctr::TcpInTimeWait, self.time_wait.live().into());
        c.set(Ctr::PoolRxFree, self.rx_pool.free_count().into());
    }
}

fn push(table: &mut Table, list: &mut List, id: FlowId, next: impl Fn(&mut Tcb) -> &mut FlowId) {
    debug_assert!(next(&mut table.flows[id]).is_none(), "it is in no list");
    if list.last.is_some() {
        *next(&mut table.flows[list.last]) = id;
    } else {
        list.first = id;
    }
    list.last = id;
}

impl Tcb {
    fn start_sending(&mut self, iss: Seq) {
        self.iss = iss;
        self.snd_una = iss;
        self.snd_nxt = iss;
        self.queue_end = iss + 1;
        self.recovery.start(iss);
    }
}
