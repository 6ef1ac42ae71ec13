//! The load client: a pipeline of the core loop over our own stack.
//!
//! ```text
//!  arrivals (open loop) ─► waiting ─╮
//!  budget (closed loop) ────────────┤ work                      ╭─► response: head, body, hash ─► tally
//!  again (server closed) ───────────╯   │                       │
//!                                       ▼                       │
//!       to_open ─► Opening ─► Up, with room (ready) ─► asked ───┴─► Up, or Ending ─► Down ─► to_open
//! ```
//!
//! What happens in a pass, in this order: segments in, timers, events of connections (`ask`, `connect`), what is due,
//! segments out. Nothing is allocated after the start, no clock is read, and all that is random follows from the seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Sender;

use dataplane::core_loop::Pipeline;
use dataplane::rng::Rng;
use dataplane::{Burst, Counters, Pool, Slice, Stage, Time, TxQueue, time::cycles};
use hugepages::{Arena, PagePolicy};
use l7::http1::{HeaderSlots, HttpLimits};
use stack::{Addr, Events, FlowId, Net, Stack, Tcp, TcpConfig, Udp};

use super::arrivals::Arrivals;
use super::connect::LOOK;
use super::plan::{HEAD_CELL_BYTES, PORTS, Plan, Tables};
use super::slot::State;
use super::tally::{Count, End, Tally};
use super::tls::Layer;

/// How long a station may take to answer who it is.
const RESOLVE_NS: u64 = 3_000_000_000;
/// Connections that are looked at in one pass, and arrivals that are taken.
const PER_PASS: usize = 256;
/// A sleeping core wakes up late by as much: before an arrival it stays awake.
const WAKE_NS: u64 = 100_000;
/// How long closed connections may take to go, at the end.
const CLOSING_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Who has the address?
    Resolving {
        until: Time,
    },
    /// Connections are opened, and nothing is asked yet.
    Opening,
    /// Requests are begun.
    Asking {
        until: Time,
    },
    /// Their answers are waited for.
    Draining {
        until: Time,
    },
    /// Connections are closed, from this one on.
    Closing {
        next: u32,
        until: Time,
    },
    Done,
}

/// What a client has to do with others.
pub struct Outside {
    /// What it counts.
    pub tally: Arc<Tally>,
    /// Set at the end: the loop's own sign to stop.
    pub stop: Arc<AtomicBool>,
    /// Set from outside: to end early.
    pub enough: Arc<AtomicBool>,
    /// How it ended.
    pub end: Sender<End>,
}

/// The client of one core.
pub struct Client {
    /// Its stack.
    pub stack: Stack,
    counters: Counters,
    pub(super) plan: Plan,
    pub(super) t: Tables,
    pub(super) tally: Arc<Tally>,
    pub(super) phase: Phase,
    /// The requests' bytes, and the shares of their weights, summed up.
    pub(super) bytes: Vec<Slice>,
    pub(super) shares: Vec<u64>,
    /// The bodies that are wanted.
    pub(super) wanted: Vec<Option<[u8; 32]>>,
    pub(super) heads: Pool,
    pub(super) limits: HttpLimits,
    pub(super) lines: Box<HeaderSlots>,
    pub(super) arrivals: Option<Arrivals>,
    pub(super) rng: Rng,
    /// Requests that may still be begun.
    pub(super) left: u64,
    pub(super) measure_from: Time,
    pub(super) last_answer: Time,
    /// Requests without an answer, those that are to be sent again among them.
    pub(super) in_flight: u64,
    pub(super) opening: u32,
    pub(super) open: u32,
    pub(super) next_source: u32,
    /// When the ramp lets the next connection be opened.
    pub(super) ramp_at: Time,
    /// Why connections could not be opened.
    pub(super) refusal: Option<(String, &'static str)>,
    /// The TLS of all connections, if they have it.
    pub(super) tls: Option<Box<Layer>>,
    asking_ns: u64,
    end_ns: (u64, u64, u64),
    /// Set at the end: the loop's own sign to stop.
    stop: Arc<AtomicBool>,
    /// Set from outside: to end early.
    enough: Arc<AtomicBool>,
    end: Option<Sender<End>>,
}

impl Client {
    /// A client on one port, which `net` describes and which receives into `rx`.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(
        net: Net,
        rx: Pool,
        plan: Plan,
        outside: Outside,
        counters: Counters,
        pages: PagePolicy,
    ) -> Result<Client, String> {
        let Outside { tally, stop, enough, end } = outside;
        let pool = |name, n, bytes| Pool::reserve(name, n, bytes, pages).map_err(|e| e.to_string());
        let mut rng = Rng::new(plan.seed);
        let limits = plan.limits();
        let mut arena = Arena::reserve(plan.arena_bytes(), pages).map_err(|e| e.to_string())?;
        let mut keys = || rng.next_u64();
        let mut config = TcpConfig::new([keys(), keys(), keys(), keys()], &limits);
        config.epoch_ms = plan.epoch_ms;
        let small = "the arena is smaller than its tables; this is a defect";
        let mut tcp = Tcp::new(&limits, &mut arena, config, rx, counters.clone()).ok_or(small)?;
        tcp.connect_from(PORTS);
        let mut t = Tables::new(&plan, &mut arena).ok_or(small)?;
        if !plan.close {
            for s in 0..plan.connections {
                let queued = t.to_open.push(s);
                debug_assert!(queued, "each connection waits once");
            }
        }
        let tls = match plan.tls.clone() {
            None => None,
            Some(secured) => {
                let layer = Layer::new(&plan, secured, &mut arena, counters.clone(), pages)?;
                Some(Box::new(layer.ok_or(small)?))
            }
        };
        let cells = pool("requests", plan.requests.len() as u32, plan.request_bytes())?;
        let mut bytes = Vec::new();
        let mut shares = Vec::new();
        let mut sum = 0;
        for r in &plan.requests {
            let mut cell = cells.alloc().ok_or(small)?;
            if !cell.append(&r.bytes) {
                return Err(small.to_owned());
            }
            bytes.push(cell.into_slice(0, r.bytes.len()));
            sum += u64::from(r.weight);
            shares.push(sum);
        }
        let arrivals = plan.rate.map(|rate| Arrivals::new(plan.arrival, rate, Rng::new(rng.next_u64())));
        Ok(Client {
            stack: Stack::new(net, tcp, Udp::new(4), counters.clone()),
            counters,
            wanted: plan.requests.iter().map(|r| r.sha256).collect(),
            left: plan.count.unwrap_or(u64::MAX),
            heads: pool("heads", plan.head_cells(), HEAD_CELL_BYTES)?,
            limits: HttpLimits::default(),
            lines: Box::new(HeaderSlots::new()),
            phase: Phase::Resolving { until: Time(0) },
            plan,
            t,
            tally,
            bytes,
            shares,
            arrivals,
            rng,
            measure_from: Time::NEVER,
            last_answer: Time(0),
            in_flight: 0,
            opening: 0,
            open: 0,
            next_source: 0,
            ramp_at: Time(0),
            refusal: None,
            tls,
            asking_ns: 0,
            end_ns: (0, 0, 0),
            stop,
            enough,
            end: Some(end),
        })
    }

    /// Responses that came by the connection that had the fewest: whether all are used. For tests and benches.
    pub fn served_least(&self) -> u32 {
        self.t.slots.iter().map(|s| s.served).min().unwrap_or(0)
    }

    /// Connections that are open.
    pub fn open_count(&self) -> u32 {
        self.open
    }

    /// Whether it is over.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether requests may be begun.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asking { .. })
    }

    pub(super) fn fail(&mut self, why: String) {
        self.finish(End { failed: Some(why), ..End::default() });
    }

    fn finish(&mut self, end: End) {
        if let Some(tell) = self.end.take() {
            // Nobody asks any more: then nobody needs it.
            let _ = tell.send(end);
        }
        self.phase = Phase::Done;
        self.stop.store(true, Relaxed);
    }

    fn event(&mut self, id: FlowId, e: Events, now: Time) {
        let Some(s) = (self.stack.tcp.user(id) as u32).checked_sub(1) else {
            // None of ours: nobody can connect to us.
            self.stack.tcp.release(id);
            return;
        };
        if self.t.slots[s as usize].flow != id {
            debug_assert!(false, "an event of a connection that was let go");
            return;
        }
        if e.has(Events::CONNECTED) {
            self.connected(s, now);
        }
        if e.has(Events(Events::READABLE.0 | Events::FIN.0 | Events::CLOSED.0)) {
            self.readable(s, now);
        }
        // Reading may have ended it.
        if self.t.slots[s as usize].flow != id {
            return;
        }
        if e.has(Events::CLOSED) {
            self.closed(s, now);
        } else if e.has(Events::TIMEOUT) {
            self.timed_out(s, now);
        }
    }

    /// What is due at this stage. Gives whether anything was done.
    fn stage(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        // No more than can be sent: connections that wait for room in the queue are looked at in every pass.
        let room = tx[0].room().min(PER_PASS);
        match self.phase {
            Phase::Resolving { until } => self.resolve(until, tx, now),
            Phase::Opening => {
                let ran = self.open_some(room, now);
                let tried = self.t.to_open.is_empty() && self.opening == 0;
                if self.enough.load(Relaxed) {
                    self.close_all(now);
                } else if tried && self.open == 0 {
                    let (why, mend) =
                        self.refusal.take().unwrap_or_else(|| ("does not answer".to_owned(), LOOK));
                    self.fail(format!("no connection could be opened: {} {why}; {mend}", self.plan.server));
                } else if tried {
                    self.begin(now);
                }
                ran
            }
            Phase::Asking { until } => {
                let mut ran = self.arrive(until, now);
                ran |= self.pump(room, now);
                ran |= self.open_some(room, now);
                let stage = if now < self.measure_from { 1 } else { 2 };
                Tally::set(&self.tally.stage, stage);
                let all_arrived = self.arrivals.as_ref().is_none_or(|a| a.next() >= until);
                if (now >= until && all_arrived) || self.left == 0 || self.enough.load(Relaxed) {
                    self.asking_ns = now.since_ns(self.measure_from);
                    // Where requests were counted, all of them are waited for.
                    let wait = if self.left == 0 {
                        self.plan.timeout_ns.max(self.plan.linger_ns)
                    } else {
                        self.plan.linger_ns
                    };
                    Tally::set(&self.tally.stage, 3);
                    self.phase = Phase::Draining { until: now.plus_ns(wait) };
                }
                ran
            }
            Phase::Draining { until } => {
                let ran = self.pump(room, now) | self.open_some(room, now);
                if now >= until || (self.in_flight == 0 && self.t.waiting.is_empty()) {
                    self.close_all(now);
                }
                ran
            }
            Phase::Closing { next, until } => self.close_some(next, until, room, now),
            Phase::Done => false,
        }
    }

    fn resolve(&mut self, until: Time, tx: &mut [TxQueue], now: Time) -> bool {
        let until = if until == Time(0) { now.plus_ns(RESOLVE_NS) } else { until };
        self.phase = Phase::Resolving { until };
        let server = Addr::from(self.plan.server.ip());
        match self.stack.net.resolve(0, &server, tx, now) {
            Err(_) => self.fail(format!(
                "no way leads to {} from this port; add --gateway, or an --address in its prefix",
                self.plan.server.ip()
            )),
            Ok(_) if self.stack.net.route(&server).is_none() => self.fail(format!(
                "the port has no address of the family of {}; add --address",
                self.plan.server.ip()
            )),
            Ok(Some(_)) if self.plan.close => self.begin(now),
            Ok(Some(_)) => self.phase = Phase::Opening,
            Ok(None) if now >= until || self.enough.load(Relaxed) => self.fail(format!(
                "nobody answers towards {}: ARP and ND were asked for 3 s; look at the link and at --address",
                self.plan.server.ip()
            )),
            Ok(None) => {}
        }
        true
    }

    fn begin(&mut self, now: Time) {
        self.measure_from = now.plus_ns(self.plan.warmup_ns);
        let until = self.plan.duration_ns.map_or(Time::NEVER, |ns| self.measure_from.plus_ns(ns));
        if let Some(a) = &mut self.arrivals {
            a.start(now);
        }
        if self.plan.close {
            for s in 0..self.plan.connections {
                self.make_ready(s);
            }
        }
        self.phase = Phase::Asking { until };
    }

    /// Takes what has arrived (open loop), before the end.
    fn arrive(&mut self, until: Time, now: Time) -> bool {
        let Some(a) = &mut self.arrivals else { return false };
        let mut n = 0;
        while n < PER_PASS && self.left > 0 && a.next() < until {
            let Some(at) = a.take(now) else { break };
            n += 1;
            let is_measured = at >= self.measure_from;
            if is_measured {
                self.left -= u64::from(self.left != u64::MAX);
                self.tally.inc(Count::Arrivals);
            }
            // As many as have room serve as many that wait, in their order.
            let late = self.t.ready.len() <= self.t.waiting.len();
            if !self.t.waiting.push(at.0) {
                self.tally.add(Count::Shed, is_measured.into());
            } else if late {
                self.tally.add(Count::Late, is_measured.into());
            }
        }
        n > 0
    }

    /// Gives work to connections that have room for it.
    fn pump(&mut self, room: usize, now: Time) -> bool {
        let mut n = 0;
        while n < room && self.has_work() {
            let Some(s) = self.t.ready.pop() else { break };
            n += 1;
            self.t.slots[s as usize].in_ready = false;
            self.offer(s, now);
        }
        n > 0
    }

    /// The answers are in, or waited for long enough.
    fn close_all(&mut self, now: Time) {
        let took = self.last_answer.since_ns(self.measure_from).max(self.asking_ns);
        let count = |c| self.tally.get(c);
        let begun = count(Count::Requests);
        let over = count(Count::Responses) + count(Count::Failed);
        self.end_ns = (took, begun - over.min(begun), self.t.waiting.len() as u64);
        self.phase = Phase::Closing { next: 0, until: now.plus_ns(CLOSING_NS) };
    }

    fn close_some(&mut self, next: u32, until: Time, room: usize, now: Time) -> bool {
        let left = self.plan.connections - next;
        let end = next + left.min(room as u32);
        for s in next..end {
            let slot = &mut self.t.slots[s as usize];
            slot.response.gathered = None;
            if slot.state != State::Down {
                self.say_close(s);
                let slot = &mut self.t.slots[s as usize];
                slot.state = State::Down;
                let id = std::mem::take(&mut slot.flow);
                self.stack.tcp.orphan(id, now);
                self.forget_tls(s);
            }
        }
        if left > 0 {
            self.phase = Phase::Closing { next: end, until: now.plus_ns(CLOSING_NS) };
            return end > next;
        }
        if self.stack.tcp.in_use().0 == 0 || now >= until {
            let (measured_ns, unfinished, unsent) = self.end_ns;
            let tls = self.tls.as_ref();
            let (agreed, refusal) = tls.map_or((None, None), |t| (t.agreed.clone(), t.refusal));
            self.finish(End {
                failed: None,
                measured_ns: measured_ns.max(1),
                asking_ns: self.asking_ns,
                unfinished,
                unsent,
                agreed,
                refused: refusal.map(|r| r.to_string()),
            });
        }
        false
    }

    fn gauges(&self) {
        Tally::set(&self.tally.in_flight, self.in_flight);
        Tally::set(&self.tally.open, self.open.into());
        Tally::set(&self.tally.waiting, self.t.waiting.len() as u64);
        if u64::from(self.open) > self.tally.open_max.load(Relaxed) {
            Tally::set(&self.tally.open_max, self.open.into());
        }
    }
}

impl Pipeline for Client {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.stack.input(rx, tx, now);
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let mut ran = self.stack.timers(tx, now);
        let (t0, mut events) = (cycles(), 0);
        while let Some((id, e)) = self.stack.tcp.next_event() {
            events += 1;
            self.event(id, e, now);
        }
        if events > 0 {
            ran = true;
            self.counters.stage(Stage::Http, events, cycles() - t0);
        }
        ran |= self.stage(tx, now);
        ran |= self.stack.output(tx, now);
        if ran {
            self.gauges();
        }
        ran
    }

    fn next_deadline(&self) -> Option<Time> {
        let mut at = match self.phase {
            Phase::Resolving { .. } => Time(0),
            Phase::Opening => Time::NEVER,
            Phase::Asking { until } | Phase::Draining { until } | Phase::Closing { until, .. } => until,
            Phase::Done => Time(0),
        };
        if let (true, Some(a)) = (self.is_asking(), &self.arrivals) {
            at = at.min(Time(a.next().0.saturating_sub(WAKE_NS)));
        }
        if self.has_work() && !self.t.ready.is_empty() {
            at = Time(0);
        }
        at = at.min(self.next_open());
        Some(self.stack.next_deadline().map_or(at, |t| t.min(at)))
    }
}
