//! How often a key has been asked for lately: a table of small sets of fingerprints, in fixed memory.
//!
//! ```text
//!   hash ─► set of 8 ─► entry:  63    fingerprint   32 31     seconds     8 7 count 0
//! ```
//!
//! A key that is not in its set takes the place of one that is forgotten, or else of the one that was asked for least
//! and longest ago. Two cores that count at once may lose one; nothing waits, and nothing is swept.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WAYS: usize = 8;
/// A key that was not asked for in so many seconds is forgotten.
const WINDOW_S: u32 = 600;
const SECONDS_MASK: u32 = 0xff_ffff;

/// The table.
pub(super) struct Frequency<'a>(pub(super) &'a [AtomicU64]);

impl Frequency<'_> {
    /// Counts one more request for the key with this hash. Gives how many there have been.
    pub(super) fn ask(&self, hash: u64, now_s: u64) -> u8 {
        let sets = (self.0.len() / WAYS) as u64;
        if sets == 0 {
            return u8::MAX;
        }
        let at = (((hash >> 32) * sets) >> 32) as usize * WAYS;
        let set = &self.0[at..at + WAYS];
        let print = hash as u32;
        let now = now_s as u32 & SECONDS_MASK;
        let mut victim = (&set[0], u64::MAX, 0);
        for entry in set {
            let old = entry.load(Relaxed);
            let age = now.wrapping_sub((old >> 8) as u32) & SECONDS_MASK;
            let is_alive = old != 0 && age < WINDOW_S;
            if is_alive && (old >> 32) as u32 == print {
                let count = (old as u8).saturating_add(1);
                // Whoever was faster has counted for both.
                let _ = entry.compare_exchange(old, pack(print, now, count), Relaxed, Relaxed);
                return count;
            }
            // The least asked for, and of those the oldest.
            let worth = if is_alive { (old & 0xff) << 32 | u64::from(WINDOW_S - age) } else { 0 };
            if worth < victim.1 {
                victim = (entry, worth, old);
            }
        }
        let _ = victim.0.compare_exchange(victim.2, pack(print, now, 1), Relaxed, Relaxed);
        1
    }
}

fn pack(print: u32, now: u32, count: u8) -> u64 {
    u64::from(print) << 32 | u64::from(now) << 8 | u64::from(count)
}

/// Entries for a store of `objects`, in whole sets: one for four of them.
pub(super) fn entries_for(objects: u32) -> usize {
    (objects as usize / 4).next_multiple_of(WAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sets: usize) -> Vec<AtomicU64> {
        (0..sets * WAYS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn counts_and_forgets() {
        let entries = table(4);
        let f = Frequency(&entries);
        // The clock's field comes round in the middle.
        let t = u64::from(SECONDS_MASK) - 300;
        assert_eq!((f.ask(7, t), f.ask(7, t), f.ask(9, t), f.ask(7, t + 500)), (1, 2, 1, 3));
        assert_eq!(f.ask(7, t + 500 + u64::from(WINDOW_S)), 1, "nobody asked for it in the window");
        assert_eq!(f.ask(7, t + 501 + u64::from(WINDOW_S)), 2);
        assert_eq!((0..300).map(|_| f.ask(11, t)).max(), Some(255), "it does not overflow");
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_asked_for() {
        let entries = table(1);
        let f = Frequency(&entries);
        assert_eq!((f.ask(1, 10), f.ask(1, 10)), (1, 2));
        for key in 100..10_000 {
            assert_eq!(f.ask(key, 20), 1);
        }
        assert_eq!(f.ask(1, 20), 3);
    }

    #[test]
    fn without_a_table_everything_counts_as_asked_for() {
        assert_eq!(Frequency(&[]).ask(1, 1), u8::MAX);
        assert_eq!(entries_for(1000) % WAYS, 0);
    }
}
