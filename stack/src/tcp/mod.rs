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
//! [`Slice`] that it arrived in; data to send is a queue of slices that are kept until acknowledged. The
//! window opens only by [`Tcp::consume`], which an owner calls when the bytes have left its own hands.
//!
//! Events are flags on a connection that waits in a list, so that they coalesce and need no bound of their
//! own. [`Tcp::next_event`] gives the next connection; after [`Events::CLOSED`] the owner must
//! [`Tcp::release`] it.
//!
//! An idle connection costs its control block and one link of the timer wheel.

mod ack;
mod audit;
pub mod cc;
mod cookies;
mod ecn;
mod emit;
mod info;
mod input;
mod listen;
pub mod options;
mod output;
mod pmtu;
mod rate;
mod receive;
mod recovery;
mod rtt;
mod sack_out;
mod scoreboard;
mod segment;
mod seq;
mod table;
mod tcb;
mod time_wait;
mod timers;
mod timestamps;
mod totals;
mod tuning;
mod wheel;
mod window;

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use dataplane::rss::Rss;
use dataplane::{Counters, Ctr, Pool, Slice, Time, sip};
use hugepages::{Arena, Footprint, Limits, Slab};

pub use cc::Algorithm;
use cc::Cc;
pub use cookies::{CookieSecrets, CookieUse};
pub use info::{COPIES_MAX, FlowInfo};
pub use recovery::Phase;
pub use seq::Seq;
pub use tcb::{CloseReason, Events, FlowId, State, Tcb};
pub use totals::{Class, Side};
pub use tuning::{Congestion, Tuning};

use crate::addr::{Addr, Tuple};
use crate::net::Net;
use crate::steer::{back, to_port};
use cookies::Cookies;
use pmtu::PathMtus;
use scoreboard::Segments;
use table::Table;
pub use tcb::Flags;
use tcb::{RecordId, SendRecord};
use time_wait::TimeWait;
use totals::Totals;
use wheel::Wheel;

/// Listeners of one core.
pub const LISTENERS_MAX: usize = 64;
/// Lists of connections with something to send: one for each port, as long as there are not more.
const OUTPUT_LISTS: usize = 8;
/// Payload bytes that a connection may hold for its owner: half the budget, as true size is up to twice that.
const WINDOW_SHARE: u32 = 2;

/// What a connection may be configured with.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Secrets for the flow table's hash, ISNs and port choice.
    pub keys: [u64; 4],
    /// Memory that one connection may hold on the receive side, by true size.
    pub receive_budget_bytes: u32,
    /// Payload that one connection may hold on the receive side when its owner takes it fast, where the receive pool is
    /// large enough.
    pub receive_max_bytes: u32,
    /// Silence before a keep-alive probe, where the owner asked for them.
    pub keep_alive_ns: u64,
    /// Delay of an ACK that nothing hurries (RFC 9293 3.8.6.3: below 0.5 s).
    pub ack_delay_ns: u64,
    /// Full segments that are acknowledged one by one at the start of a connection, as the peer's slow start lives on ACKs.
    pub quick_acks: u8,
    /// Congestion control of connections that nothing else was said of.
    pub congestion: Congestion,
    /// Our window scale (RFC 7323); with 7, windows of up to 8 MiB.
    pub window_scale: u8,
    /// The most that we announce as our MSS, and send: below what the interface could, for paths that are narrower.
    pub mss_max: u16,
    /// When SYNs are answered by cookies.
    pub cookies: CookieUse,
    /// Secrets of cookies that other nodes have too; `None`: our own.
    pub cookie_secrets: Option<CookieSecrets>,
    /// Unix time at our clock's start, in milliseconds: for nodes that share secrets.
    pub epoch_ms: u64,
    /// Explicit congestion notification.
    pub ecn: EcnUse,
}

/// When a connection uses ECN (RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnUse {
    /// Never.
    Never,
    /// When the peer asks for it, as Linux does.
    #[default]
    WhenAsked,
    /// We ask for it too.
    Always,
}

impl EcnUse {
    fn answers(self) -> bool {
        self != EcnUse::Never
    }
}

impl TcpConfig {
    /// Defaults, with these secrets.
    pub fn new(keys: [u64; 4], limits: &Limits) -> TcpConfig {
        TcpConfig {
            keys,
            receive_budget_bytes: limits.request_budget_bytes,
            receive_max_bytes: 6 << 20,
            keep_alive_ns: 60_000_000_000,
            ack_delay_ns: 40_000_000,
            quick_acks: 16,
            congestion: Congestion::default(),
            window_scale: 7,
            mss_max: u16::MAX,
            cookies: CookieUse::default(),
            cookie_secrets: None,
            epoch_ms: 0,
            ecn: EcnUse::default(),
        }
    }
}

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

/// The ports that we connect from, both included; they are shared out over the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPorts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Default for OwnPorts {
    fn default() -> OwnPorts {
        OwnPorts { first: 32_768, last: u16::MAX }
    }
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

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No address of ours reaches the destination.
    NoRoute,
    /// Every control block is in use.
    NoFlow,
    /// Every source port towards it is in use.
    NoPort,
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

    /// Opens a connection to `remote`. [`Events::CONNECTED`] or [`Events::CLOSED`] follows.
    ///
    /// # Errors
    /// When there is no way, no control block or no port left for it.
    pub fn connect(&mut self, net: &Net, remote: SocketAddr, now: Time) -> Result<FlowId, ConnectError> {
        self.connect_as(net, None, remote, now)
    }

    /// The same from `source`, one of our addresses: for who has many.
    ///
    /// # Errors
    /// As [`Tcp::connect`]; no port left means none of this source's.
    pub fn connect_as(
        &mut self,
        net: &Net,
        source: Option<Addr>,
        remote: SocketAddr,
        now: Time,
    ) -> Result<FlowId, ConnectError> {
        let dst = Addr::from(remote.ip());
        let (port, own) = net.route(&dst).ok_or(ConnectError::NoRoute)?;
        // RFC 9293 3.9.2.3 (MUST-46).
        if net.ifaces[usize::from(port)].is_for_many(&dst) {
            return Err(ConnectError::NoRoute);
        }
        let src = source.unwrap_or(own);
        debug_assert!(net.ifaces[usize::from(port)].owns(&src), "{src:?} is not ours");
        let (tuple, hash) = self.pick_port(net, port, src, dst, remote.port()).ok_or(ConnectError::NoPort)?;
        let id = self.new_flow(tuple, hash, port, net).ok_or(ConnectError::NoFlow)?;
        let iss = self.isn(hash, now);
        let t = &mut self.table.flows[id];
        t.state = State::SynSent;
        t.flags.set(Flags::ACTIVE);
        t.flags.set(Flags::SYN_NOW);
        t.start_sending(iss);
        t.rexmit_at = now.plus_ns(t.rtt.rto_ns(0));
        t.last_heard = now;
        self.counters.inc(Ctr::TcpActiveOpens);
        self.want_output(id);
        self.rearm(id);
        Ok(id)
    }

    /// Makes this the engine of one core of several: it connects from the ports that are its own, which are those with
    /// `core` modulo `cores`, or those that its device's RSS brings back to this core.
    pub fn share_ports(&mut self, core: u32, cores: u32) {
        debug_assert!(core < cores);
        self.share = (core, cores);
    }

    /// Connects from these ports, of which there must be many for each core. Before any connection.
    pub fn connect_from(&mut self, ports: OwnPorts) {
        debug_assert!(ports.first < ports.last);
        self.own_ports = ports;
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

    /// Ephemeral port by RFC 6056 algorithm 3: a keyed offset per destination, and a counter; of those ports that are
    /// this core's.
    fn pick_port(
        &mut self,
        net: &Net,
        port: u8,
        local: Addr,
        remote: Addr,
        remote_port: u16,
    ) -> Option<(Tuple, u64)> {
        const TRIES: u32 = 512;
        let (core, cores) = self.share;
        if let (Some(rss), true) = (net.ifaces[usize::from(port)].rss.as_deref(), cores > 1) {
            return self.pick_predicted_port(rss, Tuple { local, remote, local_port: 0, remote_port });
        }
        let OwnPorts { first, last } = self.own_ports;
        // The first that is `core` modulo `cores`.
        let first = u32::from(first) + (core + cores - u32::from(first) % cores) % cores;
        let count = (u32::from(last) + 1 - first).div_ceil(cores);
        let mut tuple = Tuple { local, remote, local_port: 0, remote_port };
        let offset = (self.table.hash(&tuple) ^ self.config.keys[3]) as u32 % count;
        for _ in 0..TRIES {
            self.next_port = self.next_port.wrapping_add(1);
            tuple.local_port = (first + offset.wrapping_add(self.next_port) % count * cores) as u16;
            let hash = self.table.hash(&tuple);
            if self.table.find(hash, &tuple).is_none() && self.time_wait.find(hash).is_none() {
                return Some((tuple, hash));
            }
        }
        None
    }

    /// The same, of the ports whose answers the device brings to this core: one in as many as there are cores.
    fn pick_predicted_port(&mut self, rss: &Rss, mut tuple: Tuple) -> Option<(Tuple, u64)> {
        const FREE_TRIES: u32 = 512;
        let (core, cores) = self.share;
        let OwnPorts { first, last } = self.own_ports;
        let (first, count) = (u32::from(first), u32::from(last - first) + 1);
        let offset = (self.table.hash(&tuple) ^ self.config.keys[3]) as u32 % count;
        let back = back(&tuple, rss);
        let mut tries = 0;
        for _ in 0..count {
            self.next_port = self.next_port.wrapping_add(1);
            tuple.local_port = (first + offset.wrapping_add(self.next_port) % count) as u16;
            // Two loads for each port that is not ours.
            if u32::from(rss.queue(back ^ to_port(&tuple, rss))) % cores != core {
                continue;
            }
            let hash = self.table.hash(&tuple);
            if self.table.find(hash, &tuple).is_none() && self.time_wait.find(hash).is_none() {
                return Some((tuple, hash));
            }
            tries += 1;
            if tries == FREE_TRIES {
                break;
            }
        }
        None
    }

    /// RFC 6528: a clock of 4 µs and a keyed hash of the tuple.
    fn isn(&self, hash: u64, now: Time) -> Seq {
        // The flow hash is keyed by one secret; hashing it under another keeps the ISN from telling of the table.
        let f = sip::words([self.config.keys[2], self.config.keys[3]], [hash, 1]);
        Seq(((now.0 / 4000) as u32).wrapping_add(f as u32))
    }

    fn new_flow(&mut self, tuple: Tuple, hash: u64, port: u8, net: &Net) -> Option<FlowId> {
        let id = self.table.flows.alloc()?;
        let iface = &net.ifaces[port as usize];
        let headers = if tuple.local.is_v4() { 40 } else { 60 };
        let ts_offset = self.ts_offset(hash);
        let t = &mut self.table.flows[id];
        *t = Tcb {
            tuple,
            hash: hash as u32,
            port,
            vlan: iface.vlan,
            mss: (iface.mtu - headers).min(self.config.mss_max),
            rcv_mss: 536,
            quick_acks: self.config.quick_acks,
            ts_offset,
            rcv_wnd_max: self.config.receive_budget_bytes / WINDOW_SHARE,
            cc: Cc::new(self.config.congestion.choose((hash >> 32) as u32), hash as u32),
            ..Tcb::default()
        };
        t.flags.set(Flags::HASHED);
        self.table.insert(id);
        Some(id)
    }

    // ── The owner's side ────────────────────────────────────────────────────────────────────────────

    /// The next connection with events, and what they are.
    pub fn next_event(&mut self) -> Option<(FlowId, Events)> {
        while self.ready.first.is_some() {
            let id = self.ready.first;
            let t = &mut self.table.flows[id];
            self.ready.first = t.ready_next;
            if self.ready.first.is_none() {
                self.ready.last = FlowId::NONE;
            }
            t.ready_next = FlowId::NONE;
            t.flags.clear(Flags::IN_READY);
            let events = std::mem::take(&mut t.events);
            if t.flags.has(Flags::DEAD) {
                self.free_if_unlisted(id);
            } else if events.0 != 0 && !t.flags.has(Flags::ORPHAN) {
                return Some((id, events));
            }
        }
        None
    }

    /// Puts a connection behind the others that have events: its owner has stopped in the middle, so that
    /// they get their turn.
    pub fn wake(&mut self, id: FlowId) {
        self.raise(id, Events::WRITABLE);
    }

    /// Takes the next piece of received data. It counts against the window until it is consumed.
    pub fn read(&mut self, id: FlowId) -> Option<Slice> {
        self.table.flows[id].rx.pop_front().map(|(_, s)| s)
    }

    /// Whether there is data to read.
    pub fn is_readable(&self, id: FlowId) -> bool {
        !self.table.flows[id].rx.is_empty()
    }

    /// Whether the peer has sent its FIN and everything before it has been read.
    pub fn at_end(&self, id: FlowId) -> bool {
        let t = &self.table.flows[id];
        t.flags.has(Flags::FIN_TAKEN) && t.rx.is_empty()
    }

    /// Bytes read and not yet consumed, or not yet read.
    pub fn held(&self, id: FlowId) -> u32 {
        self.table.flows[id].rcv_held
    }

    /// Queues data. It is kept, not copied, until the peer has acknowledged it.
    ///
    /// # Errors
    /// Gives the slice back when every send record is in use (counted), or the side has been shut down.
    pub fn send(&mut self, id: FlowId, data: Slice) -> Result<(), Slice> {
        let t = &mut self.table.flows[id];
        if !t.state.can_send() || t.flags.has(Flags::FIN_QUEUED) {
            return Err(data);
        }
        if data.is_empty() {
            return Ok(());
        }
        let len = data.len() as u32;
        let data = match self.join(id, data, len) {
            Ok(()) => return Ok(()),
            Err(data) => data,
        };
        let t = &mut self.table.flows[id];
        let Some(r) = self.records.alloc() else {
            self.counters.inc(Ctr::TcpNoRecord);
            return Err(data);
        };
        // A view of a cell that others hold too pins no memory of its own.
        let charge = if data.is_unique() { data.true_size() } else { len + 64 };
        self.records[r] = SendRecord { slice: Some(data), seq: t.queue_end, charge, next: RecordId::NONE };
        if t.send_tail.is_some() {
            self.records[t.send_tail].next = r;
        } else {
            t.send_head = r;
        }
        t.send_tail = r;
        if t.send_cursor.is_none() {
            t.send_cursor = r;
        }
        t.queue_end += len;
        t.send_charge += charge;
        self.want_output(id);
        Ok(())
    }

    /// Adds data to the last piece of the send queue, when it follows it in the same cell.
    fn join(&mut self, id: FlowId, data: Slice, len: u32) -> Result<(), Slice> {
        let t = &mut self.table.flows[id];
        if t.send_tail.is_none() {
            return Err(data);
        }
        let r = &mut self.records[t.send_tail];
        let Some(last) = &mut r.slice else { return Err(data) };
        last.try_join(data)?;
        r.charge += len;
        t.send_charge += len;
        t.queue_end += len;
        if t.send_cursor.is_none() {
            t.send_cursor = t.send_tail;
        }
        self.want_output(id);
        Ok(())
    }

    /// Bytes queued and not yet acknowledged.
    pub fn queued(&self, id: FlowId) -> u32 {
        self.table.flows[id].queued()
    }

    /// Memory that the send queue holds, by true size.
    pub fn queued_true(&self, id: FlowId) -> u32 {
        self.table.flows[id].send_charge
    }

    /// Ends our side in order: FIN follows what is queued.
    pub fn shutdown(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        if t.state.can_send() && !t.flags.has(Flags::FIN_QUEUED) {
            t.flags.set(Flags::FIN_QUEUED);
            self.want_output(id);
        }
    }

    /// Ends the connection at once, with a RST, and releases it.
    pub fn abort(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        if t.state == State::SynSent {
            t.flags.clear(Flags::ACK_NOW); // The peer knows of no connection yet.
        } else if t.state != State::Closed {
            // Sent with this pass's output; the control block lives until then.
            t.flags.set(Flags::ACK_NOW);
            self.want_output(id);
        }
        self.table.flows[id].state = State::Closed;
        self.release(id);
    }

    /// The owner leaves: our side ends in order, what still comes is thrown away for a while (so that a RST
    /// does not overtake our last bytes: RFC 9112 9.6), and the engine releases the connection itself.
    pub fn orphan(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        if matches!(t.state, State::Closed | State::SynSent) {
            self.abort(id);
            return;
        }
        t.flags.set(Flags::ORPHAN);
        t.rx.clear();
        t.drop_out_of_order();
        let held = t.rcv_held;
        t.user_at = Time::NEVER;
        t.idle_at = now.plus_ns(timers::LINGER_NS);
        t.linger_una = t.snd_una;
        self.consume(id, held);
        self.shutdown(id);
        self.rearm(id);
    }

    /// Forgets a connection that is over (one that is not, is aborted).
    pub fn release(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        if t.flags.has(Flags::DEAD) {
            return;
        }
        if t.state != State::Closed {
            return self.abort(id);
        }
        t.flags.set(Flags::DEAD);
        t.rx.clear();
        t.drop_out_of_order();
        if t.flags.has(Flags::HALF_OPEN) {
            t.flags.clear(Flags::HALF_OPEN);
            self.half_open -= 1;
        }
        self.drop_send_queue(id);
        if self.table.flows[id].flags.has(Flags::HASHED) {
            self.table.flows[id].flags.clear(Flags::HASHED);
            self.table.remove(id);
        }
        self.wheel.cancel(id);
        self.sum_up(id);
        self.leaves(id);
        self.free_if_unlisted(id);
    }

    fn free_if_unlisted(&mut self, id: FlowId) {
        let f = self.table.flows[id].flags;
        if f.has(Flags::DEAD) && !f.has(Flags::IN_READY) && !f.has(Flags::IN_OUTPUT) {
            self.table.flows.free(id);
        }
    }

    fn drop_send_queue(&mut self, id: FlowId) {
        let t = &mut self.table.flows[id];
        let mut r = t.send_head;
        t.send_head = RecordId::NONE;
        t.send_tail = RecordId::NONE;
        t.send_cursor = RecordId::NONE;
        t.send_charge = 0;
        self.segments.clear(&mut t.out);
        while r.is_some() {
            let rec = std::mem::take(&mut self.records[r]);
            self.records.free(r);
            r = rec.next;
        }
    }

    /// Sets the owner's timer ([`Events::TIMEOUT`]); `Time::NEVER` stops it. One that has run out and not been
    /// told yet is void: its cause is.
    pub fn set_timer(&mut self, id: FlowId, at: Time) {
        let t = &mut self.table.flows[id];
        t.events.clear(Events::TIMEOUT);
        t.user_at = at;
        self.rearm(id);
    }

    /// Asks for keep-alive probes.
    pub fn set_keep_alive(&mut self, id: FlowId, now: Time) {
        let t = &mut self.table.flows[id];
        // FIN-WAIT-2 has a limit of its own already.
        if !matches!(t.state, State::Closed | State::FinWait2) {
            t.idle_at = now.plus_ns(self.config.keep_alive_ns);
            self.rearm(id);
        }
    }

    /// The owner's number for a connection.
    pub fn user(&self, id: FlowId) -> u64 {
        self.table.flows[id].user
    }

    /// Sets the owner's number for a connection.
    pub fn set_user(&mut self, id: FlowId, user: u64) {
        self.table.flows[id].user = user;
    }

    /// A connection's addresses and ports.
    pub fn tuple(&self, id: FlowId) -> &Tuple {
        &self.table.flows[id].tuple
    }

    /// The listener that a connection came by.
    pub fn listener(&self, id: FlowId) -> u16 {
        self.table.flows[id].listener
    }

    /// Why a connection is over.
    pub fn close_reason(&self, id: FlowId) -> CloseReason {
        self.table.flows[id].close_reason
    }

    /// A connection's state.
    pub fn state(&self, id: FlowId) -> State {
        self.table.flows[id].state
    }

    /// A connection's control block, to look at.
    pub fn flow(&self, id: FlowId) -> &Tcb {
        &self.table.flows[id]
    }

    /// Whether a connection has been given to its owner, and not been released since.
    pub fn is_owned(&self, id: FlowId) -> bool {
        let f = self.table.flows[id].flags;
        !f.has(Flags::DEAD) && !f.has(Flags::ORPHAN) && !f.has(Flags::HALF_OPEN)
    }

    /// Connections with a control block, for reports.
    pub fn flows(&self) -> impl Iterator<Item = FlowId> + '_ {
        self.table.flows.used()
    }

    /// Whether a connection's end can still go wrong: not when its owner has left and the peer has acknowledged
    /// all that we sent, our FIN with it. It may then take its time with its own. Nor before it is open.
    pub fn is_unfinished(&self, id: FlowId) -> bool {
        let t = &self.table.flows[id];
        let f = t.flags;
        !(f.has(Flags::DEAD) || f.has(Flags::HALF_OPEN) || f.has(Flags::ORPHAN) && t.state == State::FinWait2)
    }

    /// Control blocks, and records of data queued and of segments out, in use: all 0 when nothing leaked.
    pub fn in_use(&self) -> (u32, u32) {
        (self.table.flows.in_use(), self.records.in_use() + self.segments.in_use())
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
        c.set(Ctr::TcpInTimeWait, self.time_wait.live().into());
        c.set(Ctr::PoolRxFree, self.rx_pool.free_count().into());
    }
}

fn push(table: &mut Table, list: &mut List, id: FlowId, next: impl Fn(&mut Tcb) -> &mut FlowId) {
    *next(&mut table.flows[id]) = FlowId::NONE;
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
