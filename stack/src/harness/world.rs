//! A stack under the core loop whose wire, clock and owner are all driven by the input.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dataplane::buf::CellWriter;
use dataplane::core_loop::{Core, Pipeline};
use dataplane::counters::Segment;
use dataplane::port::mem::{MemPort, WireEnd, wire};
use dataplane::{Burst, Ctr, Pool, Time, TxQueue};
use hugepages::{Arena, Limits, PagePolicy};

use super::peer::{self, SynAck};
use super::{OUR_MAC, PEER_MAC, iface, opinion};
use crate::checksum::{Sum, checksum};
use crate::neigh::Neighbours;
use crate::parse::protocol;
use crate::tcp::{Flags, State, Tcb};
use crate::{Events, FlowId, Net, Stack, Tcp, TcpConfig, Udp};

/// Steps that one input makes at most.
const STEPS_MAX: u32 = 20_000;

/// Bytes that decide; zero when they have run out.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((b, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *b
    }

    pub(super) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }
}

pub(super) struct App {
    pub(super) stack: Stack,
    /// Connections whose owner is still there.
    owned: Vec<(FlowId, u32)>,
}

impl Pipeline for App {
    fn burst(&mut self, rx: &mut Burst, tx: &mut [TxQueue], now: Time) {
        self.stack.input(rx, tx, now);
        self.stack.tcp.audit().expect("after input");
    }

    fn timers(&mut self, tx: &mut [TxQueue], now: Time) -> bool {
        let ran = self.stack.timers(tx, now);
        self.stack.tcp.audit().expect("after timers");
        while let Some((id, e)) = self.stack.tcp.next_event() {
            if e.has(Events::ACCEPTED) {
                self.owned.push((id, 0));
            }
            if e.has(Events::CLOSED) {
                self.owned.retain(|o| o.0 != id);
                while self.stack.tcp.read(id).is_some() {}
                self.stack.tcp.release(id);
            }
        }
        let ran = self.stack.output(tx, now) | ran;
        self.stack.tcp.audit().expect("after output");
        ran
    }

    fn next_deadline(&self) -> Option<Time> {
        self.stack.next_deadline()
    }
}

pub struct World<'i, 'd> {
    pub(super) input: &'i mut Input<'d>,
    pub(super) core: Core<App>,
    pub(super) wire: WireEnd,
    segment: Arc<Segment>,
    pools: [Pool; 3],
    pub(super) now: Time,
    /// Where segments are aimed when the connection is gone: ports and numbers of the last one.
    pub(super) last: (u16, u16, u32, u32),
    pub(super) is_v6: bool,
    /// What the SYNs ask for.
    asks: Asks,
    /// The last SYN-ACK that we have sent.
    pub(super) syn_ack: Option<SynAck>,
    /// ECN of the packets that come.
    tos: u8,
}

/// What the peer's SYNs ask for.
#[derive(Clone, Copy)]
struct Asks {
    timestamps: bool,
    ecn: bool,
    sack: bool,
}

impl<'i, 'd> World<'i, 'd> {
    pub fn new(input: &'i mut Input<'d>) -> World<'i, 'd> {
        let (first, second) = (input.byte(), input.byte());
        let l = Limits {
            rx_cells: 48,
            rx_reserve: 8,
            head_cells: 1,
            payload_cells: 24,
            header_cells: 24,
            flows: 4,
            half_open: 3,
            time_wait: 2,
            send_records: 12,
            segments: 24,
            http_contexts: 0,
            tls_connections: 0,
            tls_per_source: 0,
            tls_contexts: 0,
            tls_handshakes: 0,
            record_cells: 0,
            neighbours: 4,
            request_budget_bytes: 16 << 10,
        };
        let pool =
            |cells, bytes| Pool::reserve("fuzz", cells, bytes, PagePolicy::NormalOnly).expect("memory");
        let pools = [pool(l.rx_cells, 2048), pool(l.header_cells, 256), pool(l.payload_cells, 2048)];
        let segment = Segment::in_memory(1);
        let c = segment.writer(0);
        let mut arena = Arena::reserve(Tcp::cost(&l), PagePolicy::NormalOnly).expect("memory");
        let neighbours = Neighbours::new(l.neighbours as usize);
        let net = Net::new(vec![iface()], neighbours, pools[1].clone(), c.clone());
        let mut config = TcpConfig::new([1, 2, 3, 4], &l);
        peer::configure(&mut config, second);
        let mut tcp =
            Tcp::new(&l, &mut arena, config, pools[0].clone(), c.clone()).expect("the arena's size");
        tcp.listen(None, 80);
        let mut udp = Udp::new(2);
        udp.listen(53);
        let app = App { stack: Stack::new(net, tcp, udp, c.clone()), owned: vec![] };
        let (end, wire) = wire(16, 1600);
        let port = MemPort::new(end, pools[0].clone(), OUR_MAC, 1500, 0);
        let core = Core::new(vec![Box::new(port)], app, c, 8);
        let now = Time::from_ms(1000);
        World {
            input,
            core,
            wire,
            segment,
            pools,
            now,
            last: (7000, 80, 0, 0),
            is_v6: first & 1 != 0,
            asks: Asks { timestamps: first & 2 != 0, ecn: first & 4 != 0, sack: first & 8 == 0 },
            syn_ack: None,
            tos: 0,
        }
    }

    pub fn run(mut self) {
        let mac = PEER_MAC;
        for addr in [[10, 0, 0, 2].into(), std::net::IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2])] {
            self.core.pipeline.stack.net.neighbours.learn(0, &addr.into(), mac, true, self.now);
        }
        // A connection to begin with, by a cookie where all are.
        self.syn(0);
        self.pass();
        self.answer_syn_ack(0);
        self.pass();
        let mut steps = 0;
        while !self.input.0.is_empty() && steps < STEPS_MAX {
            steps += 1;
            self.step();
        }
        self.end();
    }

    fn step(&mut self) {
        let op = self.input.byte();
        match op {
            0..=119 => {
                let (bits, at, ack, len) = (self.input.byte(), self.input.word(), self.input.byte(), op);
                self.segment_at(bits, at, ack, len);
            }
            120..=129 => {
                // A SYN from another port, or another connection's segment.
                self.last.0 = 7000 + u16::from(self.input.byte() & 3);
                let seq = self.input.word();
                if op & 1 == 0 { self.tcp(seq.into(), 0, 2, 1000, 0, &[]) } else { self.syn(seq.into()) }
            }
            130..=139 => {
                let n = usize::from(self.input.word() % 1600).min(self.input.0.len());
                let (raw, rest) = self.input.0.split_at(n);
                self.input.0 = rest;
                let mut raw = raw.to_vec();
                if op & 1 != 0 {
                    opinion::mend_checksums(&mut raw);
                }
                self.wire.send(&raw);
            }
            140..=149 => {
                let ms = u64::from(self.input.byte()) * u64::from(self.input.byte());
                self.time(ms * 1_000_000);
            }
            // As finely as pacing, delayed ACKs, RACK and tail probes are timed.
            150..=159 => {
                let word = u64::from(self.input.word());
                self.time(word * if op & 1 == 0 { 1_000 } else { 20_000 });
            }
            160..=199 => self.owner(op - 160),
            205..=209 => self.too_big(),
            220..=224 => {
                let damage = self.input.byte();
                self.answer_syn_ack(damage);
            }
            225..=229 => {
                let at = self.input.byte();
                self.good_ack(usize::from(at));
            }
            200..=204 => {
                let to = if self.is_v6 { "[fd00::2]:443" } else { "10.0.0.2:443" };
                let stack = &mut self.core.pipeline.stack;
                if let Ok(id) = stack.tcp.connect(&stack.net, to.parse().expect("an address"), self.now) {
                    self.core.pipeline.owned.push((id, 0));
                }
            }
            210..=219 => drop(self.core.pass(self.now)), // Without anybody at the wire's other end.
            _ => self.pass(),
        }
        self.check();
    }

    /// The connection that segments are aimed at, by the input.
    fn flow(&self) -> Option<&Tcb> {
        self.flow_at(usize::from(self.input.0.first().copied().unwrap_or(0)))
    }

    pub(super) fn flow_at(&self, at: usize) -> Option<&Tcb> {
        let tcp = &self.core.pipeline.stack.tcp;
        let at = at % tcp.flows().count().max(1);
        tcp.flows().nth(at).map(|id| tcp.flow(id))
    }

    /// A segment near the edges of a connection: from RCV.NXT or the window's end, acknowledging around SND.UNA.
    fn segment_at(&mut self, bits: u8, at: u16, ack: u8, len: u8) {
        let (mut seq, mut acked) = (self.last.2, self.last.3);
        let mut ports = (self.last.0, self.last.1);
        if let Some(t) = self.flow() {
            seq = if t.state == State::SynSent { 77 } else { t.rcv_nxt.0 };
            if at & 0x8000 != 0 {
                seq = t.rcv_adv.0;
            }
            acked = if ack & 0x80 != 0 { t.snd_nxt.0 } else { t.snd_una.0 };
            ports = (t.tuple.remote_port, t.tuple.local_port);
        }
        let seq = seq.wrapping_add((i32::from(at & 0x7fff) - 0x0400) as u32 & if at == 0 { 0 } else { !0 });
        let acked =
            acked.wrapping_add((i32::from(ack & 0x7f) - 0x40) as u32 & if ack & 0x7f == 0 { 0 } else { !0 });
        self.last = (ports.0, ports.1, seq, acked);
        // Windows that open, close, and shrink.
        let window = [0, 1, 500 | (at << 6 & 0x3000), 0xffff][usize::from(bits >> 6)];
        let options = self.options(at, ack);
        // Echoes of congestion and answers to them, and marks of our own way.
        let ecn = if at & 0x70 == 0x30 { 0xc0 & (ack << 5) } else { 0 };
        self.tos = if at & 0x90 == 0x90 { 3 } else { 2 };
        self.tcp(seq, acked, bits & 0x1f | ecn, window, usize::from(len) * 11, &options);
        self.tos = 0;
    }

    /// Timestamps where they were agreed, mostly such as follow what was sent before; SACK blocks on some ACKs.
    fn options(&self, at: u16, ack: u8) -> Vec<u8> {
        let mut o = vec![];
        let Some(t) = self.flow() else { return o };
        if t.flags.has(Flags::TIMESTAMPS) && at & 15 != 7 {
            let val = t.ts_recent.wrapping_add(u32::from(at & 3)).wrapping_sub(u32::from(at & 127 == 9) * 50);
            o.extend([1, 1, 8, 10]);
            o.extend(val.to_be_bytes());
            o.extend(t.ts_offset.wrapping_add(1000 + u32::from(ack)).to_be_bytes());
        }
        let out = t.snd_nxt.since(t.snd_una);
        if ack & 1 != 0 && out > 0 {
            // Of what is out, and now and then beyond it; in some, blocks of any kind.
            let n = usize::from(ack >> 1 & 3);
            o.extend([1, 1, 5, 2 + 8 * n as u8]);
            for i in 0..n as u32 {
                let from = u32::from(at).wrapping_mul(i + 1) % (out + 3);
                let from = t.snd_una.0.wrapping_add(from).wrapping_sub(u32::from(ack & 0x40 != 0));
                let to = from.wrapping_add(1 + u32::from(at >> 3) % out);
                let (from, to) = match at & 0x1f {
                    3 => (from.wrapping_sub(out), to.wrapping_sub(out)),
                    5 => (to, from),
                    7 => (from, from),
                    11 => (from.wrapping_add(out), to.wrapping_add(out)),
                    13 => (from, from.wrapping_add(1 << 31)),
                    17 => (t.snd_una.0.wrapping_sub(u32::from(at)), t.snd_una.0.wrapping_add(i)),
                    19 => (from.wrapping_mul(0x9E37_79B9), to.wrapping_mul(0x85EB_CA6B)),
                    _ => (from, to),
                };
                o.extend(from.to_be_bytes());
                o.extend(to.to_be_bytes());
            }
        }
        o
    }

    /// A SYN with window scaling, and with SACK, timestamps and ECN or without, by the input.
    fn syn(&mut self, seq: u32) {
        let mut o = vec![2, 4, 3, 0xe8, 1, 3, 3, 7];
        if self.asks.sack {
            o.extend([1, 1, 4, 2]);
        }
        if self.asks.timestamps {
            o.extend([1, 1, 8, 10, 0, 0, 0, 100, 0, 0, 0, 0]);
        }
        self.tcp(seq, 0, if self.asks.ecn { 2 | 0xc0 } else { 2 }, 60_000, 0, &o);
    }

    pub(super) fn tcp(&mut self, seq: u32, ack: u32, bits: u8, window: u16, len: usize, options: &[u8]) {
        let mut t = [&self.last.0.to_be_bytes()[..], &self.last.1.to_be_bytes(), &seq.to_be_bytes()].concat();
        t.extend(ack.to_be_bytes());
        t.extend([(((20 + options.len()) / 4) << 4) as u8, bits]);
        t.extend(window.to_be_bytes());
        t.extend([0; 4]);
        t.extend(options);
        t.resize(t.len() + len, seq as u8);
        let (src, dst): (Vec<u8>, Vec<u8>) = if self.is_v6 {
            let ip = |n| [&[0xfd][..], &[0; 14], &[n]].concat();
            (ip(2), ip(1))
        } else {
            (vec![10, 0, 0, 2], vec![10, 0, 0, 1])
        };
        let mut s = Sum::default();
        s.add_pseudo(&src, &dst, protocol::TCP, t.len());
        s.add(&t);
        t[16..18].copy_from_slice(&s.finish().to_be_bytes());
        let mut f = [&OUR_MAC[..], &PEER_MAC].concat();
        if self.is_v6 {
            f.extend([
                0x86,
                0xdd,
                0x60,
                self.tos << 4,
                0,
                0,
                (t.len() >> 8) as u8,
                t.len() as u8,
                protocol::TCP,
                64,
            ]);
            f.extend([src, dst].concat());
        } else {
            let total = 20 + t.len();
            f.extend([
                8,
                0,
                0x45,
                self.tos,
                (total >> 8) as u8,
                total as u8,
                0,
                0,
                0x40,
                0,
                64,
                protocol::TCP,
                0,
                0,
            ]);
            f.extend([src, dst].concat());
            let c = checksum(&f[14..34]);
            f[24..26].copy_from_slice(&c.to_be_bytes());
        }
        f.extend(t);
        self.wire.send(&f);
    }

    /// The owner of one connection does something.
    fn owner(&mut self, what: u8) {
        // Always as many bytes, so that a changed one does not change the meaning of all that follow.
        let (at, word) = (self.input.byte(), self.input.word());
        let n = self.core.pipeline.owned.len();
        if n == 0 {
            return;
        }
        let at = usize::from(at) % n;
        let (id, held) = self.core.pipeline.owned[at];
        let tcp = &mut self.core.pipeline.stack.tcp;
        let mut gone = false;
        match what {
            0..=12 => {
                let mut w = CellWriter::default();
                if w.reserve(2000, &self.pools[2]) {
                    w.put(&vec![what; 1 + usize::from(word % 1900)]);
                    // A piece in two, which are joined again.
                    if let Some(mut s) = w.take() {
                        let front = s.split_to(10);
                        let _ = tcp.send(id, front);
                        let _ = tcp.send(id, s);
                    }
                }
            }
            13..=18 => {
                if let Some(s) = tcp.read(id) {
                    self.core.pipeline.owned[at].1 += s.len() as u32;
                }
            }
            19..=20 => {
                let some = usize::from(word).min(tcp.unread(id, usize::MAX));
                assert_eq!(tcp.front(id).is_empty(), !tcp.is_readable(id));
                tcp.skip(id, some);
                self.core.pipeline.owned[at].1 += some as u32;
            }
            21..=28 => {
                let some = held.min(u32::from(word));
                tcp.consume(id, some);
                self.core.pipeline.owned[at].1 -= some;
            }
            29..=31 => tcp.shutdown(id),
            32 => {
                tcp.orphan(id, self.now);
                gone = true;
            }
            33 => {
                tcp.abort(id);
                gone = true;
            }
            34 => tcp.set_keep_alive(id, self.now),
            35..=36 => tcp.set_timer(id, self.now.plus_ns(u64::from(word) * 1_000_000)),
            37 => {
                tcp.release(id);
                gone = true;
            }
            _ => {}
        }
        if gone {
            self.core.pipeline.owned.remove(at);
        }
        self.core.pipeline.stack.tcp.audit().expect("after the owner");
    }

    pub(super) fn time(&mut self, ns: u64) {
        let end = self.now.plus_ns(ns);
        while let Some(t) = self.core.pipeline.next_deadline().filter(|t| *t <= end) {
            self.now = t.max(self.now.plus_ns(1));
            self.pass();
        }
        self.now = end;
        self.pass();
    }

    pub(super) fn pass(&mut self) {
        let mut turns = 0;
        while self.core.pass(self.now) {
            turns += 1;
            assert!(turns < 1000, "no end of work: {:?}", self.describe());
            while let Some(seen) = self.wire.recv_with(|f| (opinion::is_sound(f), SynAck::read(f)).1) {
                self.syn_ack = seen.or(self.syn_ack);
            }
        }
    }

    fn check(&self) {
        let c = self.segment.read();
        assert_eq!((c.rx_imbalance(), c.tx_imbalance()), (0, 0), "the laws");
    }

    /// Everything is ended; nothing may be left.
    fn end(&mut self) {
        self.heal();
        let left: Vec<FlowId> = self.core.pipeline.owned.drain(..).map(|o| o.0).collect();
        for id in left {
            self.core.pipeline.stack.tcp.abort(id);
        }
        // What has no owner (orphans, handshakes) comes to its end by itself.
        self.time(400_000_000_000);
        self.check();
        while self.core.pipeline.stack.udp.take().is_some() {}
        assert_eq!(self.core.pipeline.stack.tcp.in_use(), (0, 0), "flows and records left");
        for p in &self.pools {
            assert_eq!(p.free_count(), p.capacity(), "cells left");
        }
        super::SEGMENTS.fetch_add(self.segment.read().get(Ctr::RxPackets), Ordering::Relaxed);
    }
}
