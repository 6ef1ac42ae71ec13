//! The object header: one cache line, atomics only.
//!
//! ```text
//!   0      4      8      12     16     20      24     28           32              48      52     56         64
//!   │ hash │ time │ next │ head │ body │ index │ tail │ generation │ len · waiting │ state │ pins │ fifo links │
//!   └ look-up: hash, next, state, head ┘                           └ readers and the writer ┘     └ shard's lock / free
//!
//!   state   31      24 23      16 15                                                                        0
//!           │ hard     │ soft     │  GHOST  QUEUE(2)  FREQ(2)  flags …                                      │
//!           └ the purges of everything that had been when the object was claimed; see `purge`
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

use dataplane::pins::{Growth, Pins};

use super::memory::NONE;

/// An object. Valid in the pass in which it was found, and longer while it is pinned, or filled by its holder.
///
/// It carries the generation of its header, so that one that was kept too long is noticed: where that is a defect
/// of the caller, there is a panic; where it may happen ([`Handle::finish`](super::Handle::finish)'s
/// `replaces`, [`Handle::unlink`](super::Handle::unlink), wake-ups), it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl ObjectId {
    /// Its header's number: for tables by object.
    pub fn number(self) -> u32 {
        self.index
    }

    pub(super) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_u64(v: u64) -> ObjectId {
        ObjectId { index: v as u32, generation: (v >> 32) as u32 }
    }
}

pub(super) const FILLING: u32 = 1 << 0;
pub(super) const COMPLETE: u32 = 1 << 1;
pub(super) const FAILED: u32 = 1 << 2;
/// In its bucket's chain. Changed under the shard's lock.
pub(super) const LINKED: u32 = 1 << 3;
/// Not for new requests; to be unlinked by whoever comes by with the lock.
pub(super) const DOOMED: u32 = 1 << 4;
pub(super) const SOFT: u32 = 1 << 5;
/// Purged softly since the last `begin_revalidation`: its answer does not make the object fresh.
pub(super) const SOFT_NEW: u32 = 1 << 6;
pub(super) const PASS: u32 = 1 << 7;
pub(super) const REVALIDATING: u32 = 1 << 8;
/// The blob is the whole head, not the key only.
pub(super) const HEADED: u32 = 1 << 9;
pub(super) const FREQ_ONE: u32 = 1 << 10;
pub(super) const FREQ_MASK: u32 = 3 << 10;
/// Which queue it is in. Changed under the shard's lock.
pub(super) const IN_SMALL: u32 = 1 << 12;
pub(super) const IN_MAIN: u32 = 1 << 13;
/// Its key was evicted lately.
pub(super) const GHOST: u32 = 1 << 14;
/// Its chunks are counted as evicted but pinned.
pub(super) const COUNTED: u32 = 1 << 15;
pub(super) const SOFT_STAMP_ONE: u32 = 1 << 16;
pub(super) const SOFT_STAMP: u32 = 0xff << 16;
pub(super) const HARD_STAMP_ONE: u32 = 1 << 24;
pub(super) const HARD_STAMP: u32 = 0xff << 24;

/// An object's flags at one instant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(u32);

impl State {
    /// As others see `raw` while the purges of everything stand at `stamp`.
    #[inline]
    pub(super) fn new(raw: u32, stamp: u32) -> State {
        let mut s = raw & !(FREQ_MASK | SOFT_STAMP | HARD_STAMP);
        if (raw ^ stamp) & HARD_STAMP != 0 {
            s |= DOOMED;
        }
        if (raw ^ stamp) & SOFT_STAMP != 0 {
            s |= SOFT;
        }
        State(s)
    }

    /// What a waiter waits for a change of.
    pub(super) fn of_interest(self) -> u32 {
        self.0 & (FILLING | COMPLETE | FAILED | PASS | REVALIDATING | HEADED)
    }

    /// A fill is under way.
    pub fn is_filling(self) -> bool {
        self.0 & FILLING != 0
    }
    /// The whole body is there.
    pub fn is_complete(self) -> bool {
        self.0 & COMPLETE != 0
    }
    /// The fill broke off: what is published is all that there will be.
    pub fn is_failed(self) -> bool {
        self.0 & FAILED != 0
    }
    /// The response's head has been set (`set_head`): before, the blob is the key only.
    pub fn has_head(self) -> bool {
        self.0 & HEADED != 0
    }
    /// A pass marker: requests for it go uncached, each on its own.
    pub fn is_pass(self) -> bool {
        self.0 & PASS != 0
    }
    /// Purged softly: to be treated as stale.
    pub fn is_soft(self) -> bool {
        self.0 & SOFT != 0
    }
    /// Somebody revalidates it.
    pub fn is_revalidating(self) -> bool {
        self.0 & REVALIDATING != 0
    }
    /// Gone for new requests (evicted, replaced, purged, failed); still readable while pinned.
    pub fn is_gone(self) -> bool {
        self.0 & (LINKED | DOOMED) != LINKED
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [(u32, &str); 10] = [
            (FILLING, "filling"),
            (COMPLETE, "complete"),
            (FAILED, "failed"),
            (LINKED, "linked"),
            (DOOMED, "doomed"),
            (SOFT, "soft"),
            (PASS, "pass"),
            (REVALIDATING, "revalidating"),
            (HEADED, "headed"),
            (GHOST, "ghost"),
        ];
        f.debug_set()
            .entries(NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| name))
            .finish()
    }
}

#[repr(C, align(64))]
pub(super) struct Header {
    /// The low half: it chooses bucket and shard, and tells most others of a chain apart. The key's text decides.
    pub(super) hash: AtomicU32,
    /// When it entered its queue, in chunks inserted anywhere.
    pub(super) time: AtomicU32,
    /// The bucket's chain. Kept when the object is unlinked: who stands on it goes on from here.
    pub(super) next: AtomicU32,
    /// First chunk of the head blob.
    pub(super) head: AtomicU32,
    /// First and (from the end of the fill) last chunk of the body.
    pub(super) body: AtomicU32,
    /// First chunk of the seek index.
    pub(super) index: AtomicU32,
    pub(super) tail: AtomicU32,
    pub(super) generation: AtomicU32,
    pub(super) growth: Growth,
    pub(super) state: AtomicU32,
    pub(super) pins: Pins,
    pub(super) fifo_prev: AtomicU32,
    /// The queue's next, or the next free header.
    pub(super) fifo_next: AtomicU32,
}

impl Header {
    pub(super) fn free() -> Header {
        let none = || AtomicU32::new(NONE);
        Header {
            hash: AtomicU32::new(0),
            time: AtomicU32::new(0),
            next: none(),
            head: none(),
            body: none(),
            index: none(),
            tail: none(),
            generation: AtomicU32::new(0),
            growth: Growth::default(),
            state: AtomicU32::new(0),
            pins: Pins::default(),
            fifo_prev: none(),
            fifo_next: none(),
        }
    }

    #[inline]
    pub(super) fn raw_state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, bits: u32) -> u32 {
        self.state.fetch_or(bits, Ordering::AcqRel)
    }

    pub(super) fn clear(&self, bits: u32) -> u32 {
        self.state.fetch_and(!bits, Ordering::AcqRel)
    }

    /// A hit counts, up to three. A lost race costs a count, nothing else.
    #[inline]
    pub(super) fn count_hit(&self, raw: u32) {
        if raw & FREQ_MASK != FREQ_MASK {
            let _ = self.state.compare_exchange(raw, raw + FREQ_ONE, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_cache_line() {
        assert_eq!((size_of::<Header>(), align_of::<Header>()), (64, 64));
    }

    #[test]
    fn stamps_show_as_flags() {
        let stamp = |hard: u32, soft: u32| (hard * HARD_STAMP_ONE) | (soft * SOFT_STAMP_ONE);
        let raw = COMPLETE | LINKED | stamp(3, 200) | FREQ_ONE;
        let s = State::new(raw, stamp(3, 200));
        assert!(s.is_complete() && !s.is_gone() && !s.is_soft(), "{s:?}");
        assert!(State::new(raw, stamp(3, 201)).is_soft());
        assert!(State::new(raw, stamp(4, 200)).is_gone());
    }
}
