//! One direction of a faulty link, sans-IO: frames go in at a time, and come out when they are due.
//!
//! ```text
//! offer ─► too long? ─► lost? ─► queue's tail ─► rate: leaves when those before it have left ─► delay, jitter
//!                                                                                                   │
//! pop_due ◄─ in order, but for those that are held back ◄─ damaged? ◄─ twice? ◄─ held back? ◄───────┘
//! ```
//!
//! What happens to a frame is chosen by its index, never by its content, and each frame draws the same number of
//! random values whatever happens to it: two runs with one seed differ only where the frames do.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::Time;
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
    /// Bytes that a frame takes on the wire beyond its own (for Ethernet's preamble, check sequence and gap: 24).
    pub overhead_bytes: u32,
    /// Bytes that wait for the rate before frames are dropped at the tail; 0 is without limit.
    pub queue_bytes: u64,
    /// The same as time: a frame that would leave later than this is dropped; 0 is without limit.
    pub queue_ns: u64,
    /// Frames lost, in a million.
    pub loss_ppm: u32,
    /// Frames lost in bursts.
    pub loss_bursts: Option<GilbertElliott>,
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

/// Loss in bursts: a link that is now good, now bad, and loses another share of frames in each (Gilbert 1960,
/// Elliott 1963). All numbers are in a billion: long bursts of a
/// small loss begin that rarely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GilbertElliott {
    /// Frames after which a good link turns bad.
    pub to_bad_ppb: u32,
    /// Frames after which a bad link turns good.
    pub to_good_ppb: u32,
    /// Frames lost while it is bad.
    pub loss_bad_ppb: u32,
    /// Frames lost while it is good.
    pub loss_good_ppb: u32,
}

impl GilbertElliott {
    /// A link that loses `loss_ppm` frames of a million, in bursts of `frames` on average. `None` when there is no
    /// such link: bursts shorter than one frame, or no good times between them.
    pub fn mean(loss_ppm: u32, frames: f64) -> Option<GilbertElliott> {
        let loss = f64::from(loss_ppm) / 1e6;
        if !(frames.is_finite() && frames >= 1.0 && loss < 1.0) {
            return None;
        }
        // In the long run a share p / (p + r) of all frames meets the bad state, and stays for 1 / r frames.
        let to_good = 1.0 / frames;
        let to_bad = to_good * loss / (1.0 - loss);
        (to_bad <= 1.0).then_some(GilbertElliott {
            to_bad_ppb: (to_bad * 1e9).round() as u32,
            to_good_ppb: (to_good * 1e9).round() as u32,
            loss_bad_ppb: 1_000_000_000,
            loss_good_ppb: 0,
        })
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            delay_ns: 0,
            jitter_ns: 0,
            rate_bps: 0,
            overhead_bytes: 0,
            queue_bytes: 0,
            queue_ns: 0,
            loss_ppm: 0,
            loss_bursts: None,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            reorder_ns: 1_000_000,
            corrupt_ppm: 0,
            frame_bytes_max: 0,
        }
    }
}

/// What one direction has done: `offered + duplicated` = `delivered`, all that was dropped, and what is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Frames that came in.
    pub offered: u64,
    /// Frames handed out at the far side, duplicates among them.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
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
    /// Of these, dropped: no checksum covers them, so a real link's frame check sequence would have stopped them.
    pub corrupted_dropped: u64,
    /// Reached the far wire when it was full.
    pub overrun: u64,
    /// Dropped because as many bytes are in flight as there is room for.
    pub no_room: u64,
}

/// A frame on its way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InFlight {
    /// When it arrives.
    pub due: Time,
    order: u64,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// One direction.
pub struct Lane {
    faults: Faults,
    rng: Rng,
    /// Apart, so that loss in bursts changes nothing of what else a seed does.
    burst_rng: Rng,
    bad: bool,
    /// Those whose turn comes in the order in which they came.
    in_order: VecDeque<InFlight>,
    /// Those that others overtake, or that came to be due before the ones in front of them.
    out_of_order: BinaryHeap<Reverse<InFlight>>,
    spare: Vec<Vec<u8>>,
    order: u64,
    held_bytes: u64,
    held_bytes_max: u64,
    /// When the last accepted frame has left the rate limiter, and the part of a nanosecond beyond (in units of
    /// 1 / rate).
    busy_until: Time,
    busy_rest: u64,
    last_due: Time,
    stats: LinkStats,
}

impl Lane {
    /// A direction with these faults.
    pub fn new(faults: Faults, seed: u64) -> Lane {
        Lane {
            faults,
            rng: Rng::new(seed),
            burst_rng: Rng::new(seed ^ 0x6A09_E667_F3BC_C908),
            bad: false,
            in_order: VecDeque::new(),
            out_of_order: BinaryHeap::new(),
            spare: Vec::new(),
            order: 0,
            held_bytes: 0,
            held_bytes_max: u64::MAX,
            busy_until: Time(0),
            busy_rest: 0,
            last_due: Time(0),
            stats: LinkStats::default(),
        }
    }

    /// Bounds the bytes in flight; frames beyond are dropped and counted as `no_room`.
    pub fn bound(&mut self, bytes: u64) {
        self.held_bytes_max = bytes;
    }

    /// What is done to frames.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Changes what is done to frames from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Takes a frame that came at `now`.
    pub fn offer(&mut self, bytes: &[u8], now: Time) {
        self.stats.offered += 1;
        let lost = self.draw_loss();
        let f = &self.faults;
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
        if self.held_bytes + 2 * bytes.len() as u64 > self.held_bytes_max {
            self.stats.no_room += 1;
            return;
        }
        let Some(start) = self.serialise(bytes.len(), now) else {
            self.stats.queue_full += 1;
            return;
        };
        let f = &self.faults;
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
                self.stats.corrupted_dropped += 1;
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

    fn draw_loss(&mut self) -> bool {
        let lost = self.rng.chance(self.faults.loss_ppm);
        let Some(g) = self.faults.loss_bursts else { return lost };
        // Two values for each frame, in either state.
        let (turn, fate) = (self.burst_rng.below(1_000_000_000), self.burst_rng.below(1_000_000_000));
        let turns = if self.bad { g.to_good_ppb } else { g.to_bad_ppb };
        self.bad ^= turn < u64::from(turns);
        let loss = if self.bad { g.loss_bad_ppb } else { g.loss_good_ppb };
        lost | (fate < u64::from(loss))
    }

    /// When a frame of this length has left the rate limiter; `None` when the queue has no place for it.
    fn serialise(&mut self, bytes: usize, now: Time) -> Option<Time> {
        let f = &self.faults;
        if f.rate_bps == 0 {
            return Some(now);
        }
        let wire_bytes = bytes as u64 + u64::from(f.overhead_bytes);
        let waiting_ns = self.busy_until.since_ns(now);
        if f.queue_bytes != 0 {
            let waiting_bytes = (u128::from(waiting_ns) * u128::from(f.rate_bps) / 8_000_000_000) as u64;
            if waiting_bytes + wire_bytes > f.queue_bytes {
                return None;
            }
        }
        let rest = if waiting_ns == 0 { 0 } else { self.busy_rest };
        let work = wire_bytes * 8_000_000_000 + rest;
        let needed_ns = work / f.rate_bps;
        if f.queue_ns != 0 && waiting_ns + needed_ns > f.queue_ns {
            return None;
        }
        self.busy_rest = work % f.rate_bps;
        self.busy_until = self.busy_until.max(now).plus_ns(needed_ns);
        Some(self.busy_until)
    }

    fn push(&mut self, due: Time, bytes: Vec<u8>) {
        self.order += 1;
        self.held_bytes += bytes.len() as u64;
        let frame = InFlight { due, order: self.order, bytes };
        // Most links keep the order: a queue at a few nanoseconds a frame, not a heap.
        if self.in_order.back().is_none_or(|last| last.due <= due) {
            self.in_order.push_back(frame);
        } else {
            self.out_of_order.push(Reverse(frame));
        }
    }

    /// The next frame that is due by `now`; it goes back through [`Lane::done`].
    pub fn pop_due(&mut self, now: Time) -> Option<InFlight> {
        if self.next_due()? > now {
            return None;
        }
        let key = |f: &InFlight| (f.due, f.order);
        let frame = match (self.in_order.front(), self.out_of_order.peek()) {
            (Some(a), Some(Reverse(b))) if key(b) < key(a) => self.out_of_order.pop().map(|Reverse(f)| f),
            (Some(_), _) => self.in_order.pop_front(),
            (None, _) => self.out_of_order.pop().map(|Reverse(f)| f),
        };
        if let Some(f) = &frame {
            self.held_bytes -= f.bytes.len() as u64;
        }
        frame
    }

    /// Counts what became of a frame at the far side, and takes its memory back.
    pub fn done(&mut self, frame: InFlight, delivered: bool) {
        if delivered {
            self.stats.delivered += 1;
            self.stats.delivered_bytes += frame.bytes.len() as u64;
        } else {
            self.stats.overrun += 1;
        }
        self.spare.push(frame.bytes);
    }

    /// When the next frame is due.
    pub fn next_due(&self) -> Option<Time> {
        let fronts = [self.in_order.front(), self.out_of_order.peek().map(|Reverse(f)| f)];
        fronts.into_iter().flatten().map(|f| f.due).min()
    }

    /// Frames in flight.
    pub fn held(&self) -> usize {
        self.in_order.len() + self.out_of_order.len()
    }

    /// What was done.
    pub fn stats(&self) -> LinkStats {
        self.stats
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers `n` frames of `bytes`, one each `every_ns`; gives (due, index) of those that came out.
    fn run(faults: Faults, seed: u64, n: u64, bytes: usize, every_ns: u64) -> (Vec<(Time, u64)>, LinkStats) {
        let mut lane = Lane::new(faults, seed);
        let mut frame = vec![0u8; bytes];
        frame[12..14].copy_from_slice(&[8, 0]);
        for i in 0..n {
            frame[bytes - 8..].copy_from_slice(&i.to_be_bytes());
            lane.offer(&frame, Time(i * every_ns));
        }
        let mut out = Vec::new();
        while let Some(f) = lane.pop_due(Time::NEVER) {
            let index = f.bytes[bytes - 8..].try_into().expect("8 bytes");
            out.push((f.due, u64::from_be_bytes(index)));
            lane.done(f, true);
        }
        let s = lane.stats();
        let dropped = s.lost + s.queue_full + s.too_long + s.corrupted_dropped + s.no_room;
        assert_eq!(s.offered + s.duplicated, s.delivered + dropped, "{s:?}");
        assert_eq!((lane.held(), lane.held_bytes), (0, 0));
        (out, s)
    }

    #[test]
    fn the_rate_is_exact_also_where_a_frame_takes_no_whole_nanoseconds() {
        for rate_bps in [100_000_000, 3_000_000_007, 10_000_000_000, 977] {
            let n = 10_000;
            let (out, _) = run(Faults { rate_bps, ..Faults::default() }, 1, n, 1514, 0);
            let exact = (u128::from(n) * 1514 * 8_000_000_000 / u128::from(rate_bps)) as u64;
            assert_eq!(out.last().expect("frames").0, Time(exact), "{rate_bps}");
        }
        let ethernet = Faults { rate_bps: 1_000_000_000, overhead_bytes: 24, ..Faults::default() };
        assert_eq!(run(ethernet, 1, 1000, 1514, 0).0[999].0, Time(1000 * 1538 * 8));
    }

    #[test]
    fn frames_that_come_slower_than_the_rate_wait_for_themselves_only() {
        let f = Faults { rate_bps: 100_000_000, delay_ns: 10_000_000, ..Faults::default() };
        let (out, _) = run(f, 1, 100, 1250, 200_000);
        for (due, i) in out {
            assert_eq!(due, Time(i * 200_000 + 100_000 + 10_000_000));
        }
    }

    #[test]
    fn the_queue_drops_at_its_tail_by_bytes_and_by_time() {
        // 1,250 bytes take 100 µs.
        let slow = Faults { rate_bps: 100_000_000, ..Faults::default() };
        let (out, s) = run(Faults { queue_bytes: 12_500, ..slow.clone() }, 1, 50, 1250, 0);
        assert_eq!((out.len(), s.queue_full), (10, 40));
        let (out, s) = run(Faults { queue_ns: 1_000_000, ..slow.clone() }, 1, 50, 1250, 0);
        assert_eq!((out.len(), s.queue_full), (10, 40));
        assert!(out.iter().map(|f| f.1).eq(0..10), "the first ones pass");
        // Half again as fast as the rate: after the queue is full two of three pass.
        let (out, _) = run(Faults { queue_ns: 1_000_000, ..slow }, 1, 3000, 1250, 66_667);
        assert!((2000..2030).contains(&out.len()), "{}", out.len());
        assert!(out.iter().all(|(due, i)| due.0 <= i * 66_667 + 1_000_000));
    }

    #[test]
    fn order_is_kept_unless_reordering_is_asked_for() {
        let jittery = Faults { delay_ns: 1_000_000, jitter_ns: 800_000, ..Faults::default() };
        let (out, _) = run(jittery.clone(), 3, 5000, 100, 10_000);
        assert!(out.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 < w[1].1));
        assert!(out.iter().all(|(due, i)| (1_000_000..=1_800_000).contains(&due.since_ns(Time(i * 10_000)))));

        let f = Faults { reorder_ppm: 10_000, reorder_ns: 55_000, ..Faults::default() };
        let (out, s) = run(f, 3, 10_000, 100, 10_000);
        let overtaken = out.windows(2).filter(|w| w[1].1 < w[0].1).count() as u64;
        assert!((70..130).contains(&s.reordered) && overtaken > s.reordered / 2, "{s:?}, {overtaken}");
        assert!(out.windows(2).all(|w| w[0].0 <= w[1].0), "each when it is due");
        assert!(out.iter().all(|(due, i)| matches!(due.since_ns(Time(i * 10_000)), 0 | 55_000)));
    }

    #[test]
    fn bursts_have_the_rate_and_the_length_that_was_asked_for() {
        assert_eq!(GilbertElliott::mean(10_000, 0.5), None);
        assert_eq!(GilbertElliott::mean(1_000_000, 5.0), None);
        assert_eq!(GilbertElliott::mean(900_000, 1.0), None, "a burst of one needs a good frame behind it");
        for (loss_ppm, frames) in [(10_000, 5.0), (100_000, 3.0), (20_000, 20.0)] {
            let bursts = GilbertElliott::mean(loss_ppm, frames);
            assert!(bursts.is_some());
            let n = 500_000;
            let (out, s) = run(Faults { loss_bursts: bursts, ..Faults::default() }, 5, n, 60, 1);
            let gaps = out.windows(2).filter(|w| w[1].1 != w[0].1 + 1).count();
            let (rate, mean) = (s.lost as f64 / n as f64 * 1e6, s.lost as f64 / gaps as f64);
            let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.1;
            assert!(near(rate, f64::from(loss_ppm)) && near(mean, frames), "{rate} {mean}");
        }
        // The four numbers: a tenth of the time bad, half lost then, 1 % else.
        let g = GilbertElliott {
            to_bad_ppb: 10_000_000,
            to_good_ppb: 90_000_000,
            loss_bad_ppb: 500_000_000,
            loss_good_ppb: 10_000_000,
        };
        let (_, s) = run(Faults { loss_bursts: Some(g), ..Faults::default() }, 5, 500_000, 60, 1);
        assert!((28_000..31_000).contains(&s.lost), "{}", s.lost);
    }

    #[test]
    fn fates_follow_the_seed_and_the_index_not_the_frame() {
        let f = Faults {
            loss_ppm: 50_000,
            loss_bursts: GilbertElliott::mean(20_000, 4.0),
            duplicate_ppm: 20_000,
            reorder_ppm: 20_000,
            ..Faults::default()
        };
        let passed = |seed, bytes, every| {
            let mut all: Vec<u64> = run(f.clone(), seed, 5000, bytes, every).0.iter().map(|f| f.1).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(passed(7, 60, 1000), passed(7, 1500, 77));
        assert_ne!(passed(7, 60, 1000), passed(8, 60, 1000));
        // Loss in bursts draws from numbers of its own.
        let without = run(Faults { loss_bursts: None, ..f.clone() }, 7, 5000, 60, 1).1;
        let with = run(Faults { corrupt_ppm: 0, ..f.clone() }, 7, 5000, 60, 1).1;
        assert!(with.lost > without.lost && with.duplicated <= without.duplicated);
    }

    #[test]
    fn frames_that_are_too_long_or_too_many_are_counted() {
        let (out, s) = run(Faults { frame_bytes_max: 1514, ..Faults::default() }, 1, 5, 1515, 0);
        assert_eq!((out.len(), s.too_long), (0, 5));
        let mut lane = Lane::new(Faults { delay_ns: 1, ..Faults::default() }, 1);
        lane.bound(1000);
        for _ in 0..20 {
            lane.offer(&[0; 100], Time(0));
        }
        assert_eq!((lane.held(), lane.stats().no_room), (9, 11));
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
