//! What the store counts: each participant for itself, summed by whoever reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Store;
use super::memory::CHUNK_BYTES;

/// One participant's counts. One writer: a load and a store, no read-modify-write.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) evictions: AtomicU64,
    pub(super) ghost_hits: AtomicU64,
    pub(super) not_admitted: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) no_room: AtomicU64,
    pub(super) chain_too_long: AtomicU64,
    pub(super) purged: AtomicU64,
    pub(super) retired_full: AtomicU64,
    /// Chunks that entered a queue: all participants' together are the queues' clock.
    pub(super) inserted_chunks: AtomicU64,
    /// Not sums: chunks and headers that this participant has retired and not yet given back.
    pub(super) pending_chunks: AtomicU64,
    pub(super) pending_headers: AtomicU64,
}

#[inline]
pub(super) fn count(c: &AtomicU64, n: u64) {
    c.store(c.load(Relaxed).wrapping_add(n), Relaxed);
}

#[inline]
pub(super) fn uncount(c: &AtomicU64, n: u64) {
    c.store(c.load(Relaxed).wrapping_sub(n), Relaxed);
}

/// What the store has done and holds. The counts since the start never go down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Object headers in use: linked, being filled, waiting to be reclaimed, or in a participant's magazine.
    pub objects: u64,
    /// Bytes of chunks in use, likewise.
    pub bytes_used: u64,
    /// Bytes of chunks in all.
    pub bytes_total: u64,
    /// Bytes of objects that are out of the index and held by pins only.
    pub bytes_pinned: u64,
    /// Objects evicted.
    pub evictions: u64,
    /// Claims of a key that was evicted lately.
    pub ghost_hits: u64,
    /// Objects that the admission rule did not keep.
    pub not_admitted: u64,
    /// Claims that did not get the shard's lock.
    pub busy: u64,
    /// Allocations that found no room.
    pub no_room: u64,
    /// Claims and look-ups that met a chain that is too long.
    pub chain_too_long: u64,
    /// Objects purged.
    pub purged: u64,
    /// Times that something could not be retired at once, the list being full.
    pub retired_full: u64,
}

impl Store {
    /// The queues' clock.
    pub(super) fn now(&self) -> u32 {
        self.seats.iter().map(|s| s.counts.inserted_chunks.load(Relaxed)).sum::<u64>() as u32
    }

    /// Sums over all participants.
    pub fn stats(&self) -> StoreStats {
        let total = u64::from(self.config.chunks());
        let sum = |f: fn(&Counts) -> &AtomicU64| self.seats.iter().map(|s| f(&s.counts).load(Relaxed)).sum();
        StoreStats {
            objects: u64::from(self.config.objects_max).saturating_sub(self.free_headers.free()),
            bytes_used: total.saturating_sub(self.free_chunks.free()) * CHUNK_BYTES as u64,
            bytes_total: total * CHUNK_BYTES as u64,
            bytes_pinned: self.pinned_chunks.load(Relaxed) * CHUNK_BYTES as u64,
            evictions: sum(|c| &c.evictions),
            ghost_hits: sum(|c| &c.ghost_hits),
            not_admitted: sum(|c| &c.not_admitted),
            busy: sum(|c| &c.busy),
            no_room: sum(|c| &c.no_room),
            chain_too_long: sum(|c| &c.chain_too_long),
            purged: sum(|c| &c.purged),
            retired_full: sum(|c| &c.retired_full),
        }
    }
}
