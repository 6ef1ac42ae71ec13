//! What the storm sends, and at what: numbers inside, at the edges of and outside of a connection's windows.

use dataplane::Time;
use hugepages::SlabIndex;

use super::Storm;
use super::frame::{Ends, PAYLOAD_MAX, Seg};
use super::watch::SynAck;
use crate::FlowId;
use crate::addr::Addr;
use crate::harness::peer::too_big;
use crate::tcp::{Flags, State, Tcb};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// A connection, as the storm aims at it.
#[derive(Clone, Copy)]
pub(super) struct Aim {
    ends: Ends,
    state: State,
    una: u32,
    nxt: u32,
    rcv_nxt: u32,
    rcv_adv: u32,
    /// The largest window that its peer announced.
    window: u32,
    /// TS.Recent and its own clock.
    ts: Option<(u32, u32)>,
    sack: bool,
    mss: u16,
}

impl Aim {
    fn of(t: &Tcb, now: Time) -> Aim {
        let tuple = &t.tuple;
        Aim {
            ends: Ends {
                peer: tuple.remote,
                us: tuple.local,
                peer_port: tuple.remote_port,
                our_port: tuple.local_port,
            },
            state: t.state,
            una: t.snd_una.0,
            nxt: t.snd_nxt.0,
            rcv_nxt: t.rcv_nxt.0,
            rcv_adv: t.rcv_adv.0,
            window: t.snd_wnd_max,
            ts: t.flags.has(Flags::TIMESTAMPS).then(|| (t.ts_recent, t.ts_now(now))),
            sack: t.flags.has(Flags::SACK_OK),
            mss: t.mss,
        }
    }

    fn out(&self) -> u32 {
        self.nxt.wrapping_sub(self.una)
    }

    /// An ACK of all that is out, with nothing new.
    fn ack(&self) -> Seg {
        Seg { seq: self.rcv_nxt, ack: self.nxt, bits: ACK, window: 0xffff, ..Seg::default() }
    }
}

impl Storm {
    /// One segment, or a few that belong together.
    pub(super) fn aim(&mut self) {
        match self.rng.below(256) {
            0..=207 if !self.flows.is_empty() => {
                let id = self.flows[self.rng.below(self.flows.len() as u64) as usize];
                let aim = Aim::of(self.stack.tcp.flow(id), self.now);
                match aim.state {
                    State::Closed => {}
                    State::SynSent => self.at_our_syn(&aim),
                    State::SynReceived => self.at_half_open(&aim),
                    _ => self.at_open(&aim, id),
                }
            }
            0..=227 => self.syn(),
            228..=242 => self.answer_syn_ack(),
            243..=249 => self.at_what_was(),
            250..=252 => self.at_nothing(),
            253 => self.too_big(),
            _ => self.noise(),
        }
    }

    /// Numbers below `n`, small ones more often.
    fn small(&mut self, n: u32) -> u32 {
        let r = self.rng.next_u64();
        ((r >> 32) as u32 % n.max(1)) >> (r & 15)
    }

    fn length(&mut self) -> usize {
        match self.rng.below(8) {
            0..=2 => 0,
            3 => 1,
            4 => self.rng.below(64) as usize,
            5 => self.rng.below(PAYLOAD_MAX as u64 + 1) as usize,
            _ => PAYLOAD_MAX - 12,
        }
    }

    /// The ways in which all segments differ: timestamps, marks, odd bits, checksums.
    fn put(&mut self, aim: &Aim, mut s: Seg) {
        let r = self.rng.next_u64();
        if let Some((recent, now)) = aim.ts {
            let (val, ecr) = match r & 0x3ff {
                0..=1 => (recent.wrapping_sub(1 + (r >> 40) as u32 % 100), now),
                2 => ((r >> 32) as u32, now),
                3 => (recent, (r >> 32) as u32),
                n => (recent.wrapping_add((n & 3) as u32 / 3), now.wrapping_sub((r >> 40) as u32 & 127)),
            };
            if r >> 10 & 0xff != 0 {
                s.timestamps(val, ecr);
            }
        }
        s.tos = match r >> 18 & 63 {
            0 => 3,
            1 => 1,
            _ => 2,
        };
        if r >> 24 & 63 == 0 {
            s.bits |= [0x40, 0x80, 0xc0, 0x20][(r >> 30 & 3) as usize];
        }
        s.len = s.len.min(PAYLOAD_MAX - s.options.len());
        self.frame(&aim.ends, &s);
    }

    /// At a connection that we open: its answer.
    fn at_our_syn(&mut self, aim: &Aim) {
        let irs = self.number();
        let mut s = Seg { seq: irs, ack: aim.nxt, bits: SYN | ACK, window: 30_000, ..Seg::default() };
        match self.rng.below(16) {
            0 => s.bits = SYN,
            1 => s.bits = RST | ACK,
            2 => s.bits = RST,
            3 => s.ack = s.ack.wrapping_add(1),
            4 => s.ack = s.ack.wrapping_sub(1),
            5 => (s.bits, s.ack) = (ACK, self.rng.next_u64() as u32),
            6 => s.len = self.length(),
            7 => s.bits |= FIN,
            _ => {}
        }
        self.syn_options(&mut s);
        self.frame(&aim.ends, &s);
    }

    /// At a connection whose handshake is not done.
    fn at_half_open(&mut self, aim: &Aim) {
        let mut s = aim.ack();
        match self.rng.below(16) {
            0 => s.ack = s.ack.wrapping_add(1),
            1 => s.ack = aim.una,
            2 => (s.bits, s.seq) = (SYN, s.seq.wrapping_sub(1)),
            3 => (s.bits, s.seq) = (SYN | ACK, s.seq.wrapping_sub(1)),
            4 if self.ends_now() => s.bits = RST,
            5 => s.bits |= FIN,
            6 => s.seq = s.seq.wrapping_add(self.small(70_000)),
            7 => s.bits = FIN,
            8..=10 => s.len = self.length(),
            _ => {}
        }
        self.put(aim, s);
    }

    /// At one that is open, or closes.
    fn at_open(&mut self, aim: &Aim, id: FlowId) {
        let mut s = aim.ack();
        let window = aim.rcv_adv.wrapping_sub(aim.rcv_nxt);
        match self.rng.below(64) {
            0..=19 => return self.train(aim),
            20..=27 => s.seq = s.seq.wrapping_add(self.run_of(id)),
            28..=31 => s.ack = aim.una.wrapping_add(self.rng.below(u64::from(aim.out()) + 1) as u32),
            32..=36 => return self.sacks(aim),
            37..=38 => {
                s.ack = aim.una;
                for _ in 0..self.rng.below(5) {
                    self.put(aim, s.clone());
                }
            }
            // Out of order, a run of it.
            39..=44 => {
                s.seq = s.seq.wrapping_add(1 + self.small(window.max(1)));
                s.ack = aim.una;
                for _ in 0..=self.rng.below(4) {
                    s.len = self.length().max(1);
                    self.put(aim, s.clone());
                    s.seq = s.seq.wrapping_add(s.len as u32 + u32::from(self.rng.below(4) == 0) * 500);
                }
                return;
            }
            // At the edges.
            45..=47 => {
                s.len = self.length();
                let edge = if self.dice(2) { aim.rcv_adv } else { aim.rcv_nxt };
                let back = if self.dice(2) { s.len as u32 } else { 0 };
                s.seq = edge.wrapping_sub(back).wrapping_add(self.rng.below(5) as u32).wrapping_sub(2);
            }
            48..=49 => {
                s.len = self.length();
                s.seq = aim.rcv_nxt.wrapping_sub(self.small(1 << 17));
            }
            50 => {
                s.len = self.length();
                s.seq = self.rng.next_u64() as u32;
            }
            51..=52 => s.window = [0, 1, 700, 5000][self.rng.below(4) as usize],
            // RFC 5961: anything but exact.
            53 => (s.bits, s.seq) = (RST, aim.rcv_nxt.wrapping_add(1 + self.small(window.max(2) - 1))),
            54 => (s.bits, s.seq) = (RST | ACK, self.rng.next_u64() as u32 | 1 << 31),
            55 => (s.bits, s.seq) = (SYN, aim.rcv_nxt.wrapping_sub(1).wrapping_add(self.small(1 << 17))),
            56 => (s.bits, s.seq) = (SYN | ACK, self.rng.next_u64() as u32),
            57 => {
                s.len = self.length();
                s.ack = match self.dice(2) {
                    true => aim.nxt.wrapping_add(1 + self.small(1 << 30)),
                    false => aim.una.wrapping_sub(aim.window).wrapping_sub(1 + self.small(1 << 30)),
                };
            }
            58 => {
                s.len = self.length();
                s.bits = self.rng.next_u64() as u8 & !(RST | SYN | FIN);
            }
            // Somewhere, a FIN with data before it.
            59 if self.ends_now() => {
                s.len = self.length();
                s.bits |= FIN;
                s.seq = s.seq.wrapping_add(self.small(3000));
            }
            60 if self.ends_now() => {
                s.len = self.length();
                s.bits |= FIN;
            }
            61 if self.ends_now() => (s.bits, s.seq) = (RST, aim.rcv_nxt),
            _ => return self.train(aim),
        }
        self.put(aim, s);
    }

    /// How far a train of this burst has brought a connection: nobody looks, so somewhere.
    fn run_of(&mut self, id: FlowId) -> u32 {
        if id.to_u32().is_multiple_of(3) { self.small(3000) } else { 0 }
    }

    /// Data in order, as a sender has it, with an ACK of what is out.
    fn train(&mut self, aim: &Aim) {
        let mut s = aim.ack();
        if self.dice(4) {
            s.ack = aim.una.wrapping_add(self.rng.below(u64::from(aim.out()) + 1) as u32);
        }
        let full = self.dice(2);
        for _ in 0..=self.rng.below(6) {
            s.len = if full { PAYLOAD_MAX } else { self.length() };
            s.bits = ACK | if s.len > 0 { PSH } else { 0 };
            let mut one = s.clone();
            if aim.ts.is_some() {
                one.len = one.len.min(PAYLOAD_MAX - 12);
            }
            s.seq = s.seq.wrapping_add(one.len as u32);
            self.put(aim, one);
        }
    }

    /// ACKs with blocks: of what is out, and now and then of what is not.
    fn sacks(&mut self, aim: &Aim) {
        let mut s = aim.ack();
        let (out, mss) = (aim.out(), u32::from(aim.mss).max(1));
        s.ack = aim.una;
        if out == 0 || !aim.sack && !self.dice(8) {
            return self.put(aim, s);
        }
        for _ in 0..=self.rng.below(4) {
            let mut blocks = [(0, 0); 3];
            let n = 1 + self.rng.below(3) as usize;
            for b in &mut blocks[..n] {
                // Where segments begin and end, mostly.
                let grain = if self.dice(8) { 1 } else { mss };
                let from = self.rng.below(u64::from(out / grain) + 1) as u32 * grain;
                let to = from + (1 + self.small(out / grain + 1)) * grain;
                *b = (aim.una.wrapping_add(from), aim.una.wrapping_add(to.min(out)));
                match self.rng.below(64) {
                    0 => *b = (b.1, b.0),
                    1 => b.1 = b.1.wrapping_add(self.small(1 << 20)),
                    2 => b.0 = b.0.wrapping_sub(self.small(1 << 20)),
                    3 => *b = (aim.una.wrapping_sub(mss), aim.una),
                    4 => *b = (self.rng.next_u64() as u32, self.rng.next_u64() as u32),
                    5 => b.1 = b.0.wrapping_add(1 << 31),
                    _ => {}
                }
            }
            let mut one = s.clone();
            one.sack(&blocks[..n]);
            self.put(aim, one);
            if self.dice(4) {
                s.ack = s.ack.wrapping_add(self.rng.below(u64::from(out) + 1) as u32);
                if s.ack.wrapping_sub(aim.una) > out {
                    s.ack = aim.nxt;
                }
            }
        }
    }

    /// An ACK of a SYN-ACK that we have sent: with a connection behind it, or a cookie, or nothing any more.
    fn answer_syn_ack(&mut self) {
        if self.watch.syn_acks.is_empty() {
            return self.syn();
        }
        let at = self.rng.below(self.watch.syn_acks.len() as u64) as usize;
        let SynAck { ends, seq, ack, timestamp } = self.watch.syn_acks[at];
        let bits = ACK | if self.dice(16) { PSH } else { 0 };
        let mut s = Seg { seq: ack, ack: seq.wrapping_add(1), bits, window: 1000, ..Seg::default() };
        let mut ts = timestamp;
        match self.rng.below(16) {
            0 => s.ack ^= 1 << self.rng.below(32),
            1 => s.seq = s.seq.wrapping_add(1),
            2 => ts = ts.map(|t| t ^ 1 << self.rng.below(32)),
            3 => ts = None,
            4..=6 => s.len = self.length(),
            7 => s.bits |= FIN,
            8 => s.bits = RST,
            _ => {}
        }
        if let Some(ecr) = ts {
            s.timestamps(101, ecr);
        }
        self.frame(&ends, &s);
    }

    /// A SYN: of few ports, so that they come again, or of anybody.
    pub(super) fn syn(&mut self) {
        let mut ends = Ends { our_port: 80, ..Ends::default() };
        let r = self.rng.next_u64();
        let anybody = r & 7 == 0;
        if r >> 3 & 1 == 0 {
            ends.us = Addr::v4(&[10, 0, 0, 1]);
            ends.peer = match anybody {
                true => Addr::v4(&[10, 1 + (r >> 8) as u8 % 200, (r >> 16) as u8, (r >> 24) as u8]),
                false => Addr::v4(&[10, 0, 0, 2]),
            };
        } else {
            let mut far = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            ends.us = Addr(far);
            far[8] = if anybody { (r >> 8) as u8 } else { 0 };
            far[15] = 2;
            ends.peer = Addr(far);
        }
        ends.peer_port = 2000 + (r >> 32) as u16 % if anybody { 60_000 } else { self.mood.ports };
        if r >> 48 & 31 == 0 {
            ends.our_port = [81, 80, 443][(r >> 53 & 1) as usize];
        }
        let mut s = Seg { seq: self.number(), bits: SYN, window: 60_000, ..Seg::default() };
        match r >> 56 & 31 {
            0 => s.bits |= 0xc0,
            1..=5 => s.bits |= 0xc0,
            6 => s.bits |= FIN,
            7 => s.len = 100,
            8 => s.window = 0,
            _ => {}
        }
        self.syn_options(&mut s);
        self.frame(&ends, &s);
    }

    fn syn_options(&mut self, s: &mut Seg) {
        let r = self.rng.next_u64();
        if r & 7 != 0 {
            let mss = [1460u16, 1448, 536, 88, 0, 65_535, 8960, 1300][(r >> 3 & 7) as usize];
            let mss = if r >> 6 & 3 == 0 { mss } else { 1460 };
            s.option(&[2, 4, (mss >> 8) as u8, mss as u8]);
        }
        if r >> 8 & 3 != 0 {
            s.option(&[3, 3, [7, 2, 0, 14, 15, 7, 7, 7][(r >> 10 & 7) as usize]]);
        }
        if r >> 13 & 7 != 0 {
            s.option(&[4, 2]);
        }
        if r >> 16 & 1 != 0 {
            s.timestamps(100, 0);
        }
        if r >> 17 & 127 == 0 {
            let junk: [u8; 8] = self.rng.next_u64().to_be_bytes();
            s.option(&junk);
        }
    }

    /// A sequence number to begin with: often such as wrap soon.
    fn number(&mut self) -> u32 {
        let r = self.rng.next_u64();
        match r & 3 {
            0 => 0u32.wrapping_sub((r >> 32) as u32 & 0x3fff),
            1 => (1u32 << 31).wrapping_sub((r >> 32) as u32 & 0x3fff),
            _ => (r >> 32) as u32,
        }
    }

    /// At a connection that was there some time ago: TIME-WAIT, or nothing; now and then its next SYN.
    fn at_what_was(&mut self) {
        let at = self.rng.below(self.past.len() as u64) as usize;
        let Some(aim) = self.past[at] else { return };
        let mut s = aim.ack();
        match self.rng.below(8) {
            0..=1 => {
                s.bits = SYN;
                s.seq = s.seq.wrapping_add(self.small(1 << 20));
                self.syn_options(&mut s);
                return self.frame(&aim.ends, &s);
            }
            2 => s.bits = RST,
            3 => s.bits |= FIN,
            4 => s.len = self.length(),
            5 => s.seq = s.seq.wrapping_sub(1),
            _ => {}
        }
        self.put(&aim, s);
    }

    /// Remembers a connection for that.
    pub(super) fn remember(&mut self, id: FlowId) {
        let aim = Aim::of(self.stack.tcp.flow(id), self.now);
        let at = self.rng.below(self.past.len() as u64) as usize;
        self.past[at] = Some(aim);
    }

    fn at_nothing(&mut self) {
        let r = self.rng.next_u64();
        let us = Addr::v4(&[10, 0, 0, 1]);
        let peer = Addr::v4(&[10, 0, 0, 2]);
        let ports = [80, 443, 1, 40_000];
        let ends = Ends { us, peer, peer_port: (r >> 16) as u16, our_port: ports[(r & 3) as usize] };
        let (seq, ack) = (self.rng.next_u64() as u32, (r >> 32) as u32);
        let s =
            Seg { seq, ack, bits: (r >> 8) as u8, window: r as u16, len: self.length(), ..Seg::default() };
        self.frame(&ends, &s);
    }

    /// ICMP says that a path is narrow.
    fn too_big(&mut self) {
        if self.flows.is_empty() {
            return;
        }
        let mut id = self.flows[self.rng.below(self.flows.len() as u64) as usize];
        // One that has something out believes it.
        if let Some(sends) = self.flows.iter().find(|id| self.stack.tcp.flow(**id).flight() > 0)
            && self.rng.below(2) == 0
        {
            id = *sends;
        }
        let t = self.stack.tcp.flow(id);
        let r = self.rng.next_u64();
        let seq = if r & 3 == 0 { t.snd_nxt.0.wrapping_sub((r >> 40) as u32 & 0xff) } else { t.snd_una.0 };
        let mtu = if r >> 2 & 3 == 0 { 1200 } else { (r >> 8) as u16 % 2000 };
        let frame = too_big(&t.tuple, seq, mtu, r >> 4 & 15 == 0);
        self.raw(&frame);
    }

    /// An honest peer's ACK of everything.
    pub(super) fn good_ack(&mut self, id: FlowId) {
        let t = self.stack.tcp.flow(id);
        let mut aim = Aim::of(t, self.now);
        // What came out of order may have been the last word about the window.
        aim.rcv_nxt = t.rcv_nxt.max(t.snd_wl1).0;
        let mut s = aim.ack();
        if let Some((recent, now)) = aim.ts {
            s.timestamps(recent, now);
        }
        self.frame(&aim.ends, &s);
    }
}
