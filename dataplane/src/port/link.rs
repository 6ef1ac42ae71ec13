//! A link with faults between two wires, in the time that its caller tells it: rate, delay, jitter, a
//! drop-tail queue, loss, duplication, reordering, corruption, MTU; by seed, each direction apart.
//!
//! `lane` is one direction, without any wire; the lab's link shim stands on it too.

mod lane;

pub use lane::{Faults, GilbertElliott, InFlight, Lane, LinkStats};

use super::mem::WireEnd;
use crate::Time;
use crate::pcapng::PcapWriter;

/// Hands out what is due.
fn deliver(lane: &mut Lane, to: &WireEnd, now: Time, pcap: &mut Option<PcapWriter>, interface: u32) {
    while let Some(f) = lane.pop_due(now) {
        if let Some(p) = pcap {
            // A full disk must not change what the simulation does.
            let _ = p.write(f.due, interface, &[&f.bytes]);
        }
        let taken = to.send(&f.bytes);
        lane.done(f, taken);
    }
}

/// The seed of the way back on a link of this seed.
pub const fn back_seed(seed: u64) -> u64 {
    seed ^ 0x5DEE_CE66_D1CE_4E5B
}

/// A link between two wires: `left` and `right` are the ends that face the two hosts' wires.
pub struct Link {
    left: WireEnd,
    right: WireEnd,
    to_right: Lane,
    to_left: Lane,
    pcap: Option<PcapWriter>,
    watch: Option<Watch>,
}

/// Who is shown frames.
type Watch = Box<dyn FnMut(&[u8])>;

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
            to_right: Lane::new(there, seed),
            to_left: Lane::new(back, back_seed(seed)),
            pcap: None,
            watch: None,
        }
    }

    /// Writes every frame, as delivered, to `pcap`.
    pub fn capture(&mut self, pcap: PcapWriter) {
        self.pcap = Some(pcap);
    }

    /// Shows every frame from the right to `watch`, before anything happens to it.
    pub fn watch(&mut self, watch: impl FnMut(&[u8]) + 'static) {
        self.watch = Some(Box::new(watch));
    }

    /// Changes the faults from now on (a link that goes bad, or heals).
    pub fn set_faults(&mut self, faults: Faults) {
        self.to_right.set_faults(faults.clone());
        self.to_left.set_faults(faults);
    }

    /// Takes what the hosts have sent, and delivers what is due.
    pub fn step(&mut self, now: Time) {
        while self.left.recv_with(|f| self.to_right.offer(f, now)).is_some() {}
        let mut back = |f: &[u8]| {
            if let Some(watch) = &mut self.watch {
                watch(f);
            }
            self.to_left.offer(f, now);
        };
        while self.right.recv_with(&mut back).is_some() {}
        deliver(&mut self.to_right, &self.right, now, &mut self.pcap, 0);
        deliver(&mut self.to_left, &self.left, now, &mut self.pcap, 0);
    }

    /// When the next frame is due.
    pub fn next_due(&self) -> Option<Time> {
        [self.to_right.next_due(), self.to_left.next_due()].into_iter().flatten().min()
    }

    /// What was done left-to-right and right-to-left.
    pub fn stats(&self) -> (LinkStats, LinkStats) {
        (self.to_right.stats(), self.to_left.stats())
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
}
