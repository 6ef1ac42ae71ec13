//! Fuzzing in bulk: segments by the hundred thousand a second, at listeners and at connections of every age, in bursts,
//! while the clock runs and the owner does what it likes.
//!
//! What the other fuzzing looks at after each frame is looked at here every now and then; what can be told at once, is:
//! overflows, what the engine itself asserts, and each byte that is sent or delivered ([`frame`]). At its end the peer falls silent,
//! or acknowledges all that it gets, and everything must come to its end in time.

mod aim;
mod frame;
mod owner;
mod watch;

use std::sync::Arc;

use dataplane::counters::{Segment, Snapshot};
use dataplane::rng::Rng;
use dataplane::{BURST_MAX, Burst, Counters, Ctr, Pool, Slice, Time, TxQueue};
use hugepages::{Arena, Limits, PagePolicy, SlabIndex};

use super::peer::configure;
use super::{OUR_MAC, PEER_MAC};
use crate::neigh::Neighbours;
use crate::tcp::State;
use crate::{FlowId, Iface, Net, Stack, Tcp, TcpConfig, Udp};
use aim::Aim;
use frame::{Ends, Seg};
use owner::Own;
use watch::Watch;

/// Bursts between two audits.
const AUDIT_BURSTS: u64 = 512;
/// Longer than anything lasts once the peer is silent: twelve timeouts of at most a minute, and some.
const SILENCE_NS: u64 = 1_500_000_000_000;
/// Rounds in which a peer who acknowledges gets all that is queued.
const HEAL_ROUNDS: u32 = 3000;

/// What a seed is like.
struct Mood {
    /// Nothing gets past the checksums that was not made right: then streams must be right to the last byte.
    tame: bool,
    /// One READABLE in so many is left alone.
    lazy: u64,
    /// One event in so many has the owner send.
    talks: u64,
    /// One occasion to end a connection in so many is taken.
    ends: u64,
    /// Ports that SYNs come from, mostly.
    ports: u16,
    /// Checksums are the device's to verify.
    verified: bool,
    /// One burst in so many finds that the port takes nothing.
    stalls: u64,
}

/// A stack in the storm.
pub struct Storm {
    stack: Stack,
    rx: Burst,
    tx: [TxQueue; 1],
    offload: bool,
    counters: Counters,
    segment: Arc<Segment>,
    /// Received frames, headers, payload.
    pools: [Pool; 3],
    /// How many payload cells there are without the ramp's.
    payload_free: u32,
    ramp: Slice,
    rng: Rng,
    now: Time,
    mood: Mood,
    cookie_secret: [u64; 2],
    /// By the connection's place.
    owned: Vec<Own>,
    /// Those that there were before the burst.
    flows: Vec<FlowId>,
    past: [Option<Aim>; 64],
    watch: Watch,
    frames: u64,
    ends: u64,
}

/// What a run came to.
pub struct Outcome {
    /// Frames that were given to the stack.
    pub frames: u64,
    /// Frames that it sent.
    pub sent: u64,
    /// Its counters.
    pub counts: Snapshot,
}

fn limits(rng: &mut Rng) -> Limits {
    let size = [8, 64, 256, 768][rng.below(4) as usize];
    // In some of them, nothing is ever enough.
    let scarce = rng.below(3) == 0;
    let of = |plenty: u32, little: u32| if scarce { little } else { plenty };
    let rx_cells = of(size * 8 + 512, size * 2 + 96);
    Limits {
        rx_cells,
        rx_reserve: (rx_cells / 16).max(16),
        head_cells: 1,
        payload_cells: of(512, 32),
        header_cells: of(2048, 80),
        flows: size,
        half_open: (size / 4).max(3),
        time_wait: (size / 2).max(2),
        send_records: of(size * 24, size * 2),
        segments: of(size * 32, size * 4),
        http_contexts: 0,
        tls_connections: 0,
        tls_per_source: 0,
        tls_contexts: 0,
        tls_handshakes: 0,
        record_cells: 0,
        neighbours: 4,
        request_budget_bytes: [256 << 10, 16 << 10][rng.below(2) as usize],
    }
}

impl Storm {
    /// The storm of a seed, at its beginning.
    pub fn new(seed: u64) -> Storm {
        let mut rng = Rng::new(seed ^ 0x5702);
        let l = limits(&mut rng);
        let pool = |n, bytes| Pool::reserve("storm", n, bytes, PagePolicy::NormalOnly).expect("memory");
        let pools = [pool(l.rx_cells, 2048), pool(l.header_cells, 256), pool(l.payload_cells, 2304)];
        let ramp = owner::ramp_cell(&pools[2]);
        let segment = Segment::in_memory(1);
        let c = segment.writer(0);
        let mut iface = Iface::new(OUR_MAC, 1500);
        assert!(iface.add([10, 0, 0, 1].into(), 8) && iface.add([0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), 64));
        iface.peer_mac = Some(PEER_MAC);
        let offload = rng.below(2) == 0;
        iface.tx_checksum_offload = offload;
        iface.tso_bytes_max = if offload && rng.below(2) == 0 { 60_000 } else { 0 };
        let net = Net::new(vec![iface], Neighbours::new(4), pools[1].clone(), c.clone());
        let mut arena = Arena::reserve(Tcp::cost(&l), PagePolicy::NormalOnly).expect("memory");
        let keys = [rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64()];
        let mut config = TcpConfig::new(keys, &l);
        configure(&mut config, rng.next_u64() as u8);
        let mut tcp =
            Tcp::new(&l, &mut arena, config, pools[0].clone(), c.clone()).expect("the arena's size");
        let web = tcp.listen(None, 80).expect("a listener");
        tcp.listen(None, 81).expect("a listener");
        if rng.below(4) == 0 {
            tcp.limit_connections(web, l.flows / 2);
        }
        let mood = Mood {
            tame: rng.below(4) != 0,
            lazy: [4, 16, 2, 1 << 20][rng.below(4) as usize],
            talks: 1 + rng.below(6),
            ends: [1, 4, 40, 1000][rng.below(4) as usize],
            ports: (l.flows as u16 * 2).max(16),
            verified: rng.below(4) != 0,
            stalls: [0, 32, 4][rng.below(3) as usize],
        };
        Storm {
            stack: Stack::new(net, tcp, Udp::new(2), c.clone()),
            rx: Burst::new(),
            tx: [TxQueue::new([1024, 48][rng.below(2) as usize])],
            offload,
            counters: c,
            segment,
            payload_free: pools[2].free_count(),
            pools,
            ramp,
            now: Time::from_ms(1000 + rng.below(1 << 33)),
            rng,
            mood,
            cookie_secret: [0; 2],
            owned: vec![Own::default(); l.flows as usize],
            flows: Vec::new(),
            past: [const { None }; 64],
            watch: Watch::default(),
            frames: 0,
            ends: 0,
        }
    }

    /// Runs until `frames` have been given to the stack, and then to the end of all connections.
    pub fn run(mut self, frames: u64) -> Outcome {
        let mut bursts = 0u64;
        self.pass(); // The clock of the timers begins where the storm's does.
        while self.frames < frames {
            self.burst();
            bursts += 1;
            if bursts.is_multiple_of(AUDIT_BURSTS) {
                self.audit();
            }
        }
        self.end();
        Outcome { frames: self.frames, sent: self.watch.sent, counts: self.segment.read() }
    }

    /// True once in `n` times.
    fn dice(&mut self, n: u64) -> bool {
        self.rng.below(n) == 0
    }

    /// Whether an occasion to end a connection is taken.
    fn ends_now(&mut self) -> bool {
        self.dice(self.mood.ends)
    }

    fn audit(&self) {
        self.stack.tcp.audit().expect("the engine's invariants");
        let c = self.segment.read();
        assert_eq!(c.rx_imbalance(), 0, "each frame is accepted, or dropped for a reason");
    }

    // ── Frames ──────────────────────────────────────────────────────────────────────────────────────

    fn burst(&mut self) {
        self.flows.clear();
        self.flows.extend(self.stack.tcp.flows());
        if !self.flows.is_empty() && self.dice(2) {
            let id = self.flows[self.rng.below(self.flows.len() as u64) as usize];
            self.remember(id);
        }
        let most = if self.dice(8) { 1 + self.rng.below(BURST_MAX as u64) as usize } else { BURST_MAX };
        let mut tries = 0;
        while self.rx.len() < most && tries < 2 * most {
            self.aim();
            tries += 1;
        }
        self.frames += self.rx.len() as u64;
        self.counters.add(Ctr::RxPackets, self.rx.len() as u64);
        self.stack.input(&mut self.rx, &mut self.tx, self.now);
        for _ in 0..self.rng.below(4) {
            self.somebody_acts();
        }
        self.pass();
        let ns = match self.rng.below(1024) {
            0..=939 => self.rng.below(200_000),
            940..=1009 => self.rng.below(5_000_000),
            1010..=1021 => self.rng.below(400_000_000),
            1022 => self.rng.below(5_000_000_000),
            _ => self.rng.below(90_000_000_000),
        };
        self.time(ns);
    }

    /// Puts a segment into the burst, as long as there is room in it, and in the receive pool.
    fn frame(&mut self, e: &Ends, s: &Seg) {
        if self.rx.is_full() {
            return;
        }
        let Some(mut p) = self.pools[0].alloc() else { return };
        let r = self.rng.next_u64();
        let mut verified = self.mood.verified && r & 31 != 0;
        let damaged = r >> 8 & 127 == 0;
        if damaged && self.mood.tame {
            verified = false;
        }
        frame::write(&mut p, e, s, verified);
        if damaged {
            // One bit is always noticed by a checksum, where one is looked at.
            let f = p.head_mut();
            let bits = if self.mood.tame { 1 } else { 1 + (r >> 16 & 3) };
            for i in 0..bits {
                let (at, n) = ((r >> 20 >> (8 * i)) as usize, f.len().min(110));
                f[14 + at % (n - 14)] ^= 1 << (r >> 56 & 7);
            }
        }
        p.meta_mut().arrival = self.now;
        self.rx.push(p);
    }

    /// The same with a frame that is there already.
    fn raw(&mut self, frame: &[u8]) {
        if self.rx.is_full() {
            return;
        }
        let Some(mut p) = self.pools[0].alloc() else { return };
        assert!(p.append(frame));
        p.meta_mut().arrival = self.now;
        self.rx.push(p);
    }

    /// Anything.
    fn noise(&mut self) {
        let mut f = [0; 128];
        for c in f.chunks_mut(8) {
            c.copy_from_slice(&self.rng.next_u64().to_be_bytes()[..c.len()]);
        }
        f[..6].copy_from_slice(&OUR_MAC);
        f[12..14].copy_from_slice(&[[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0]][self.rng.below(4) as usize]);
        let n = 1 + self.rng.below(128) as usize;
        self.raw(&f[..n]);
    }

    // ── The core's turn ─────────────────────────────────────────────────────────────────────────────

    fn somebody_acts(&mut self) {
        if self.dice(256) {
            return self.somebody_asks();
        }
        if self.dice(64) {
            let to = if self.dice(2) { "[fd00::2]:443" } else { "10.0.0.2:443" };
            let Stack { net, tcp, .. } = &mut self.stack;
            if let Ok(id) = tcp.connect(net, to.parse().expect("an address"), self.now) {
                self.owned[id.to_u32() as usize] = Own::new();
            }
            return;
        }
        if self.flows.is_empty() {
            return;
        }
        let id = self.flows[self.rng.below(self.flows.len() as u64) as usize];
        self.act(id);
    }

    /// The control side wants to know something, or has something changed.
    fn somebody_asks(&mut self) {
        let now = self.now;
        let tcp = &mut self.stack.tcp;
        match self.rng.below(4) {
            0 => tcp.begin_count(),
            1 => drop(tcp.count(now)),
            2 => drop(tcp.copy_flows(self.rng.below(800) as u32, now, |f| assert!(f.rto_us > 0))),
            _ => {
                let secret = [self.rng.next_u64(), self.rng.next_u64()];
                tcp.set_cookie_secrets([secret, self.cookie_secret]);
                self.cookie_secret = secret;
            }
        }
    }

    /// What a core does behind its input. Gives whether there was anything to do.
    fn pass(&mut self) -> bool {
        let ran = self.stack.timers(&mut self.tx, self.now);
        self.events();
        let ran = self.stack.output(&mut self.tx, self.now) | ran;
        if self.mood.stalls > 0 && self.dice(self.mood.stalls) {
            return false;
        }
        while let Some(p) = self.tx[0].pop() {
            self.watch.look(&p, self.offload, &mut self.rng);
        }
        ran
    }

    /// Time passes; all that is due in it happens when it is due.
    fn time(&mut self, ns: u64) {
        let end = self.now.plus_ns(ns);
        while let Some(t) = self.stack.next_deadline().filter(|t| *t <= end) {
            self.now = t.max(self.now.plus_ns(1));
            self.work();
        }
        self.now = end;
        self.work();
    }

    /// Passes until there is nothing to do.
    fn work(&mut self) {
        let mut turns = 0;
        while self.pass() {
            turns += 1;
            assert!(turns < 10_000, "no end of work");
        }
    }

    // ── The end ─────────────────────────────────────────────────────────────────────────────────────

    /// The peer is honest at last, or silent from now on; in both cases nothing may be left.
    fn end(&mut self) {
        self.mood.stalls = 0;
        self.audit();
        if self.dice(2) {
            self.heal();
        }
        for n in 0..self.owned.len() as u32 {
            let id = FlowId::from_u32(n);
            if !self.owned[n as usize].here {
                continue;
            }
            match self.rng.below(4) {
                0 => self.leave(id),
                1 => {
                    self.stack.tcp.orphan(id, self.now);
                    self.owned[n as usize].here = false;
                }
                _ => {}
            }
            if self.owned[n as usize].here {
                self.stack.tcp.set_keep_alive(id, self.now);
            }
        }
        // The owner has nothing more to say, and would not know when to stop.
        (self.mood.talks, self.mood.lazy) = (u64::MAX, u64::MAX);
        self.time(SILENCE_NS);
        self.audit();
        let left: Vec<_> =
            self.stack.tcp.flows().map(|id| super::peer::describe(self.stack.tcp.flow(id))).collect();
        assert!(left.is_empty(), "stuck: {left:#?}");
        assert_eq!(self.stack.tcp.in_use(), (0, 0), "flows and records left");
        let c = self.segment.read();
        for gauge in [Ctr::TcpFlows, Ctr::TcpHalfOpen, Ctr::TcpInTimeWait] {
            assert_eq!(c.get(gauge), 0, "{gauge:?}");
        }
        for listener in 0..2 {
            assert_eq!(self.stack.tcp.connections_of(listener), 0, "connections of listener {listener}");
        }
        while self.stack.udp.take().is_some() {}
        let free = [self.pools[0].capacity(), self.pools[1].capacity(), self.payload_free];
        for (p, all) in self.pools.iter().zip(free) {
            assert_eq!(p.free_count(), all, "cells left");
        }
    }

    /// What has been counted while the peer acknowledged everything once more.
    fn changed(&mut self) -> String {
        let before = self.segment.read();
        let tcp = &self.stack.tcp;
        let waits = |id: &FlowId| tcp.flow(*id).has_unsent() || tcp.flow(*id).flight() > 0;
        let all: Vec<FlowId> = tcp.flows().filter(waits).take(BURST_MAX).collect();
        for id in all {
            self.good_ack(id);
        }
        self.stack.input(&mut self.rx, &mut self.tx, self.now);
        let after = self.segment.read();
        let grown = |c: &&Ctr| after.get(**c) > before.get(**c);
        let names =
            Ctr::ALL.iter().filter(grown).map(|c| format!("{} {}", c.name(), after.get(*c) - before.get(*c)));
        names.collect::<Vec<_>>().join(", ")
    }

    /// The peer acknowledges what it gets, and takes as much as is sent: what is queued must go out.
    fn heal(&mut self) {
        self.mood.talks = u64::MAX;
        self.work();
        for _ in 0..HEAL_ROUNDS {
            let tcp = &self.stack.tcp;
            let waits = |id: &FlowId| {
                let t = tcp.flow(*id);
                !matches!(t.state, State::Closed | State::SynSent) && (t.has_unsent() || t.flight() > 0)
            };
            let waits: Vec<FlowId> = tcp.flows().filter(waits).collect();
            if waits.is_empty() {
                return;
            }
            self.mood.verified = true;
            for some in waits.chunks(BURST_MAX) {
                for id in some {
                    self.good_ack(*id);
                }
                self.counters.add(Ctr::RxPackets, self.rx.len() as u64);
                self.stack.input(&mut self.rx, &mut self.tx, self.now);
                self.work();
            }
            self.time(300_000_000);
        }
        let tcp = &self.stack.tcp;
        let left = tcp.flows().map(|id| tcp.flow(id)).filter(|t| t.has_unsent() || t.flight() > 0);
        let left: Vec<_> = left.map(super::peer::describe).collect();
        let free = self.pools.each_ref().map(|p| p.free_count());
        panic!("stuck though the peer acknowledges, with {free:?} cells free: {left:#?}; {}", self.changed());
    }
}

#[cfg(test)]
mod tests;
