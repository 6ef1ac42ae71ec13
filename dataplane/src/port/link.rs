//! A link with faults between two wires, in the time that its caller tells it: rate, delay, jitter, a
//! drop-tail queue, loss, duplication, reordering, corruption, MTU; by seed, each direction apart.
//!
//! Faults are chosen by the packet's index, never by its content, and each packet draws the same number of
//! random values whatever happens to it: two runs with one seed differ only where the packets do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::mem::WireEnd;
use crate::Time;
use crate::pcapng::PcapWriter;
use crate::rng::Rng;

/// What one direction does to frames. The default is a perfect wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// One-way delay.
    pub delay_ns: u64,
    /// Up to this much more, evenly distributed; order is kept.
    pub jitter_ns: u64,
    /// Bits per second; 0 is without limit.
    pub rate_bps: u64,
    /// Bytes that wait for the rate before frames are dropped at the tail; 0 is without limit.
    pub queue_bytes: u64,
    /// Frames lost, in a million.
    pub loss_ppm: u32,
    /// Frames sent twice, in a million.
    pub duplicate_ppm: u32,
    /// Frames held back behind later ones, in a million.
    pub reorder_ppm: u32,
    /// How long a reordered frame is held back.
    pub reorder_ns: u64,
    /// Frames in which one to three bits of one 16-bit word flip, in a million.
    pub corrupt_ppm: u32,
    /// Longest frame that passes; 0 is without limit.
    pub frame_bytes_max: usize,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            delay_ns: 0,
            jitter_ns: 0,
            rate_bps: 0,
            queue_bytes: 0,
            loss_ppm: 0,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            reorder_ns: 1_000_000,
            corrupt_ppm: 0,
            frame_bytes_max: 0,
        }
    }
}

/// What one direction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Frames that came in.
    pub offered: u64,
    /// Frames handed out at the far side, duplicates among them.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped at the queue's tail.
    pub queue_full: u64,
    /// Longer than the link carries.
    pub too_long: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Damaged.
    pub corrupted: u64,
    /// Reached the far wire when it was full.
    pub overrun: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    due: Time,
    order: u64,
    frame: Vec<u8>,
}

/// One direction: takes frames from one wire and gives them to another when they are due.
struct Direction {
    faults: Faults,
    rng: Rng,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    spare: Vec<Vec<u8>>,
    order: u64,
    /// When the last accepted frame has left the rate limiter.
    busy_until: Time,
    last_due: Time,
    stats: LinkStats,
}

impl Direction {
    fn new(faults: Faults, seed: u64) -> Direction {
        Direction {
            faults,
            rng: Rng::new(seed),
            in_flight: BinaryHeap::new(),
            spare: Vec::new(),
            order: 0,
            busy_until: Time(0),
            last_due: Time(0),
            stats: LinkStats::default(),
        }
    }

    fn offer(&mut self, bytes: &[u8], now: Time) {
        let f = &self.faults;
        self.stats.offered += 1;
        let lost = self.rng.chance(f.loss_ppm);
        let twice = self.rng.chance(f.duplicate_ppm);
        let late = self.rng.chance(f.reorder_ppm);
        let damage = self.rng.chance(f.corrupt_ppm);
        let (jitter, where_, bits) = (self.rng.next_u64(), self.rng.next_u64(), self.rng.next_u64());

        if f.frame_bytes_max != 0 && bytes.len() > f.frame_bytes_max {
            self.stats.too_long += 1;
            return;
        }
        if lost {
            self.stats.lost += 1;
            return;
        }
        let mut start = now;
        if f.rate_bps != 0 {
            let waiting_ns = self.busy_until.since_ns(now);
            let waiting_bytes = (u128::from(waiting_ns) * u128::from(f.rate_bps) / 8_000_000_000) as u64;
            if f.queue_bytes != 0 && waiting_bytes + bytes.len() as u64 > f.queue_bytes {
                self.stats.queue_full += 1;
                return;
            }
            let serialise = (bytes.len() as u128 * 8_000_000_000 / u128::from(f.rate_bps)) as u64;
            self.busy_until = self.busy_until.max(now).plus_ns(serialise);
            start = self.busy_until;
        }
        let mut due = start.plus_ns(f.delay_ns);
        if f.jitter_ns != 0 {
            due = due.plus_ns(jitter % (f.jitter_ns + 1)).max(self.last_due);
        }
        if late {
            self.stats.reordered += 1;
            due = due.plus_ns(f.reorder_ns);
        } else {
            self.last_due = due;
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        frame.extend_from_slice(bytes);
        if damage {
            self.stats.corrupted += 1;
            if !corrupt(&mut frame, where_, bits) {
                // What no checksum covers, a real link's frame check sequence would have dropped.
                self.spare.push(frame);
                return;
            }
        }
        if twice {
            self.stats.duplicated += 1;
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(&frame);
            self.push(due, copy);
        }
        self.push(due, frame);
    }

    fn push(&mut self, due: Time, frame: Vec<u8>) {
        self.order += 1;
        self.in_flight.push(Reverse(InFlight { due, order: self.order, frame }));
    }

    fn deliver(&mut self, to: &WireEnd, now: Time, pcap: &mut Option<PcapWriter>, interface: u32) {
        while self.in_flight.peek().is_some_and(|Reverse(f)| f.due <= now) {
            let Some(Reverse(f)) = self.in_flight.pop() else { break };
            if let Some(p) = pcap {
                // A full disk must not change what the simulation does.
                let _ = p.write(f.due, interface, &[&f.frame]);
            }
            if to.send(&f.frame) {
                self.stats.delivered += 1;
            } else {
                self.stats.overrun += 1;
            }
            self.spare.push(f.frame);
        }
    }

    fn next_due(&self) -> Option<Time> {
        self.in_flight.peek().map(|Reverse(f)| f.due)
    }
}

/// Flips one to three bits of one 16-bit word behind the Ethernet header: what the Internet checksum must
/// catch. `false` for frames without a checksum (ARP, or too short).
fn corrupt(frame: &mut [u8], where_: u64, bits: u64) -> bool {
    const ETHERNET: usize = 14;
    let is_ip = matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
    if !is_ip || frame.len() < ETHERNET + 2 {
        return false;
    }
    let words = (frame.len() - ETHERNET) / 2;
    let at = ETHERNET + 2 * (where_ % words as u64) as usize;
    let mut mask = 0u16;
    for i in 0..=(bits % 3) {
        mask |= 1 << ((bits >> (8 + 4 * i)) & 15);
    }
    frame[at] ^= (mask >> 8) as u8;
    frame[at + 1] ^= mask as u8;
    true
}

/// A link between two wires: `left` and `right` are the ends that face the two hosts' wires.
pub struct Link {
    left: WireEnd,
    right: WireEnd,
    to_right: Direction,
    to_left: Direction,
    pcap: Option<PcapWriter>,
}

impl Link {
    /// A link with the same faults in both directions.
    pub fn new(left: WireEnd, right: WireEnd, faults: Faults, seed: u64) -> Link {
        Link::asymmetric(left, right, faults.clone(), faults, seed)
    }

    /// A link with its own faults for left-to-right and right-to-left.
    pub fn asymmetric(left: WireEnd, right: WireEnd, there: Faults, back: Faults, seed: u64) -> Link {
        Link {
            left,
            right,
            to_right: Direction::new(there, seed),
            to_left: Direction::new(back, seed ^ 0x5DEE_CE66_D1CE_4E5B),
            pcap: None,
        }
    }

    /// Writes every frame, as delivered, to `pcap`.
    pub fn capture(&mut self, pcap: PcapWriter) {
        self.pcap = Some(pcap);
    }

    /// Changes the faults from now on (a link that goes bad, or heals).
    pub fn set_faults(&mut self, faults: Faults) {
        self.to_right.faults = faults.clone();
        self.to_left.faults = faults;
    }

    /// Takes what the hosts have sent, and delivers what is due.
    pub fn step(&mut self, now: Time) {
        while self.left.recv_with(|f| self.to_right.offer(f, now)).is_some() {}
        while self.right.recv_with(|f| self.to_left.offer(f, now)).is_some() {}
        self.to_right.deliver(&self.right, now, &mut self.pcap, 0);
        self.to_left.deliver(&self.left, now, &mut self.pcap, 0);
    }

    /// When the next frame is due.
    pub fn next_due(&self) -> Option<Time> {
        [self.to_right.next_due(), self.to_left.next_due()].into_iter().flatten().min()
    }

    /// What was done left-to-right and right-to-left.
    pub fn stats(&self) -> (LinkStats, LinkStats) {
        (self.to_right.stats, self.to_left.stats)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mem::wire;
    use super::*;

    fn run(faults: Faults, n: u64) -> (Vec<(Time, Vec<u8>)>, LinkStats) {
        let (host_a, left) = wire(64, 2000);
        let (host_b, right) = wire(64, 2000);
        let mut link = Link::new(left, right, faults, 9);
        let mut got = Vec::new();
        for i in 0..n {
            let now = Time::from_ms(i);
            let mut frame = [0u8; 100];
            frame[12..14].copy_from_slice(&[8, 0]);
            frame[20..28].copy_from_slice(&i.to_be_bytes());
            assert!(host_a.send(&frame));
            link.step(now);
            while host_b.recv_with(|f| got.push((now, f.to_vec()))).is_some() {}
        }
        for ms in n..n + 500 {
            link.step(Time::from_ms(ms));
            while host_b.recv_with(|f| got.push((Time::from_ms(ms), f.to_vec()))).is_some() {}
        }
        assert_eq!(link.next_due(), None);
        (got, link.stats().0)
    }

    #[test]
    fn a_perfect_link_changes_nothing() {
        let (got, s) = run(Faults::default(), 50);
        assert_eq!((got.len(), s.delivered, s.lost), (50, 50, 0));
    }

    #[test]
    fn delay_and_rate_are_exact() {
        let (got, _) = run(Faults { delay_ns: 10_000_000, ..Faults::default() }, 5);
        assert_eq!(got[0].0, Time::from_ms(10));
        // 100 bytes at 80 kbit/s take 10 ms each, and frames come every 1 ms.
        let (got, s) = run(Faults { rate_bps: 80_000, queue_bytes: 450, ..Faults::default() }, 20);
        assert_eq!(got[1].0, Time::from_ms(20));
        assert!(s.queue_full > 0);
        assert_eq!(s.delivered + s.queue_full, 20);
    }

    #[test]
    fn every_frame_is_accounted_for_and_runs_repeat() {
        let f = Faults {
            loss_ppm: 100_000,
            duplicate_ppm: 100_000,
            reorder_ppm: 100_000,
            reorder_ns: 5_000_000,
            corrupt_ppm: 100_000,
            ..Faults::default()
        };
        let (got, s) = run(f.clone(), 1000);
        assert_eq!(got, run(f, 1000).0);
        assert_eq!(s.offered - s.lost + s.duplicated, s.delivered);
        for n in [s.lost, s.duplicated, s.reordered, s.corrupted] {
            assert!((50..200).contains(&n), "{s:?}");
        }
    }

    #[test]
    fn corruption_is_within_one_word_behind_the_ethernet_header() {
        for i in 0..1000u64 {
            let mut f = [0u8; 60];
            f[12..14].copy_from_slice(&[0x86, 0xdd]);
            let before = f;
            assert!(corrupt(&mut f, i.wrapping_mul(77), i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            let diff: Vec<usize> = (0..60).filter(|&k| f[k] != before[k]).collect();
            assert!(!diff.is_empty() && diff[0] >= 14 && diff.iter().all(|d| d / 2 == diff[0] / 2));
        }
        assert!(!corrupt(&mut [0; 60], 1, 1), "ARP has no checksum");
    }
}
