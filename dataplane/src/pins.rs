//! Two words of a shared object: who keeps it beyond a pass, and who waits for it to grow.
//!
//! # Pins
//!
//! An epoch guards what is found and used within one pass. What is kept longer takes a pin, *in the pass in which
//! it was found*. Freeing takes two steps, and exactly one thread makes the second:
//!
//! ```text
//!   unlink ► tag passes ► orphan(): sets ORPHAN ─ no pins ─► the caller frees
//!                                                └ pins ───► whoever takes the last pin back frees
//! ```
//!
//! A pin that was taken before the tag passed is seen by `orphan`: both are read-modify-writes of one word, and
//! the pin happens before its thread's quiescent state. None can be taken afterwards, as nobody finds the object
//! any more. `unpin` releases and the freeing thread acquires, so all use happens before the memory is reused.
//!
//! # Growth
//!
//! One writer publishes a length; each reader that has read it all sets its core's bit, *then looks again*, and
//! sleeps if nothing is new. The writer stores the length, then takes the bits. A store before a load of the
//! other's word on both sides: a full fence each, so that at least one sees the other, and no wake-up is lost.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

const ORPHAN: u32 = 1 << 31;

/// The pins of an object. Zero is a valid start: nobody keeps it.
#[derive(Default)]
pub struct Pins(AtomicU32);

impl Pins {
    /// A new life of the object, with `pins`.
    pub fn reset(&self, pins: u32) {
        self.0.store(pins, Ordering::Relaxed);
    }

    /// One more. Only in the pass in which the object was found, or by who has one already.
    #[inline]
    pub fn pin(&self) {
        let old = self.0.fetch_add(1, Ordering::Relaxed);
        debug_assert!(old & !ORPHAN < ORPHAN - 1, "pins overflow");
        debug_assert!(old != ORPHAN, "pinned after it was freed");
    }

    /// One less. True: it was the last of an orphan, and the caller must free the object.
    #[inline]
    #[must_use]
    pub fn unpin(&self) -> bool {
        let old = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(old & !ORPHAN > 0, "unpinned once too often");
        old == ORPHAN | 1
    }

    /// Nobody can find the object any more. True: nobody keeps it either, and the caller must free it.
    #[must_use]
    pub fn orphan(&self) -> bool {
        let old = self.0.fetch_or(ORPHAN, Ordering::AcqRel);
        debug_assert!(old & ORPHAN == 0, "orphaned twice");
        old == 0
    }

    /// Whether somebody keeps it now.
    pub fn is_pinned(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !ORPHAN != 0
    }

    /// Whether only pins hold it.
    pub fn is_orphan(&self) -> bool {
        self.0.load(Ordering::Relaxed) & ORPHAN != 0
    }
}

/// A length that one writer publishes, and the cores that wait for more of it.
#[derive(Default)]
pub struct Growth {
    len: AtomicU64,
    waiting: AtomicU64,
}

impl Growth {
    /// A new life of the object.
    pub fn reset(&self) {
        self.len.store(0, Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// What is published: everything up to there may be read.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The writer: everything up to `len` is written. Gives the cores to wake.
    #[inline]
    #[must_use]
    pub fn publish(&self, len: u64) -> u64 {
        self.len.store(len, Ordering::Release);
        self.take_waiting()
    }

    /// Whoever changed something else that is waited for (flags, the head): gives the cores to wake.
    #[inline]
    #[must_use]
    pub fn take_waiting(&self) -> u64 {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 { 0 } else { self.waiting.swap(0, Ordering::AcqRel) }
    }

    /// A reader on core `core` is about to wait; it must look again after this.
    pub fn announce(&self, core: usize) {
        self.waiting.fetch_or(1 << core, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_out_frees() {
        let p = Pins::default();
        p.pin();
        p.pin();
        assert!(!p.unpin() && p.is_pinned() && !p.is_orphan());
        assert!(!p.orphan() && p.is_orphan(), "still pinned");
        assert!(p.unpin(), "last of an orphan");
        p.reset(0);
        assert!(p.orphan(), "nobody had it");
    }

    #[test]
    fn bits_are_taken_once() {
        let g = Growth::default();
        assert_eq!(g.publish(10), 0);
        g.announce(3);
        g.announce(63);
        assert_eq!((g.publish(20), g.len()), (1 << 3 | 1 << 63, 20));
        assert_eq!(g.take_waiting(), 0);
    }
}
