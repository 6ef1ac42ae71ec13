//! The keys evicted lately, by fingerprint: an object that comes back soon after it left has earned a place.
//!
//! A table of small sets instead of a list: inserting overwrites the set's oldest entry. An entry is remembered
//! while fewer chunks have been forgotten since than the queue of remembered ones would hold; the clock counts
//! chunks. Under the shard's lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const WAYS: usize = 8;

/// One shard's part of the table.
pub(super) struct Ghost<'a> {
    pub(super) entries: &'a [AtomicU64],
    pub(super) clock: &'a AtomicU32,
    /// Chunks remembered.
    pub(super) chunks_max: u32,
}

impl Ghost<'_> {
    fn set(&self, hash: u32) -> (&[AtomicU64], u64) {
        let sets = self.entries.len() / WAYS;
        // The low bits chose the shard.
        let set = (u64::from(hash.rotate_right(6)) * sets as u64) >> 32;
        let set = set as usize * WAYS;
        // Never 0, which is an empty entry.
        (&self.entries[set..set + WAYS], u64::from(hash | 1 << 31))
    }

    /// Remembers a key whose object took `chunks`.
    pub(super) fn insert(&self, hash: u32, chunks: u32) {
        if self.entries.len() < WAYS {
            return;
        }
        let now = self.clock.load(Relaxed).wrapping_add(chunks);
        self.clock.store(now, Relaxed);
        let (set, print) = self.set(hash);
        let age = |e: &AtomicU64| match e.load(Relaxed) {
            0 => u64::MAX,
            e if e >> 32 == print => u64::MAX,
            e => u64::from(now.wrapping_sub(e as u32)),
        };
        if let Some(oldest) = set.iter().max_by_key(|e| age(e)) {
            oldest.store(print << 32 | u64::from(now), Relaxed);
        }
    }

    /// Whether the key is remembered; it is forgotten then.
    pub(super) fn take(&self, hash: u32) -> bool {
        if self.entries.len() < WAYS {
            return false;
        }
        let (set, print) = self.set(hash);
        let Some(entry) = set.iter().find(|e| e.load(Relaxed) >> 32 == print) else { return false };
        let then = entry.swap(0, Relaxed) as u32;
        self.clock.load(Relaxed).wrapping_sub(then) < self.chunks_max
    }
}

/// Entries for `objects`, in whole sets.
pub(super) fn entries_for(objects: u32) -> usize {
    (objects as usize).next_multiple_of(WAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_a_while_and_once() {
        let entries: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        let clock = AtomicU32::new(u32::MAX - 5); // Its wrap is in the middle of the test.
        let g = Ghost { entries: &entries, clock: &clock, chunks_max: 10 };
        let key = |i: u32| i << 8;
        g.insert(key(2), 3);
        g.insert(key(4), 3);
        assert!(g.take(key(2)) && !g.take(key(2)) && !g.take(key(6)));
        g.insert(key(8), 7);
        assert!(g.take(key(4)), "7 chunks later");
        g.insert(key(4), 1);
        g.insert(key(10), 10);
        assert!(!g.take(key(4)), "10 chunks later");
    }
}
