//! A shard: one lock over a part of the buckets, and the S3-FIFO queues of the objects in them.
//!
//! ```text
//!                new                                          hit lately: back to the front, one count less
//!                 │                                                ┌──────────┐
//!   not a ghost   ▼          oldest: hit since? ── yes ──►         ▼          │ yes
//!   ──────────► small (a tenth of the bytes) ───────────► main ──────────► hit since? ── no ──► evicted
//!                                │ no                       ▲
//!                                ▼                          │
//!                             evicted ──► ghost ── asked for again
//! ```
//!
//! The queues of all shards together behave like one: which queue is to give something up is decided by their sums,
//! and which shard by whose oldest object is oldest, on a clock that counts the chunks inserted anywhere.
//!
//! Queues are measured in chunks. What an object counts for is fixed when it enters a queue (a body does not change
//! its length then; a head counts as one chunk whatever its length, as a 304 may replace it).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release};

use super::chain::body_chunks;
use super::header::*;
use super::lock::{Guard, Lock};
use super::memory::NONE;

/// Objects of a chain at most: beyond, look-ups would not find them.
pub(super) const CHAIN_MAX: usize = 64;
/// Hits that take an object from the small queue to the main one.
const PROMOTE_HITS: u32 = 1;

pub(super) struct Queue {
    newest: AtomicU32,
    oldest: AtomicU32,
    /// When the oldest entered. For others to look at.
    oldest_time: AtomicU32,
    chunks: AtomicU64,
}

#[repr(align(128))]
pub(super) struct Shard {
    pub(super) lock: Lock,
    pub(super) ghost_clock: AtomicU32,
    small: Queue,
    main: Queue,
}

/// What one step of eviction came to.
pub(super) enum Step {
    /// This one goes. It is out of its queue; still in its bucket's chain.
    Evict(u32),
    /// An object was moved on.
    Moved,
    /// There is nothing in the queues.
    Empty,
}

impl Queue {
    fn new() -> Queue {
        Queue {
            newest: AtomicU32::new(NONE),
            oldest: AtomicU32::new(NONE),
            oldest_time: AtomicU32::new(0),
            chunks: AtomicU64::new(0),
        }
    }

    fn push(&self, headers: &[Header], i: u32) {
        let h = &headers[i as usize];
        let before = self.newest.load(Relaxed);
        h.fifo_prev.store(before, Relaxed);
        h.fifo_next.store(NONE, Relaxed);
        match headers.get(before as usize) {
            Some(b) => b.fifo_next.store(i, Relaxed),
            None => self.set_oldest(headers, i),
        }
        self.newest.store(i, Relaxed);
        self.chunks.store(self.chunks.load(Relaxed) + charge(h), Relaxed);
    }

    fn remove(&self, headers: &[Header], i: u32) {
        let h = &headers[i as usize];
        let (prev, next) = (h.fifo_prev.load(Relaxed), h.fifo_next.load(Relaxed));
        match headers.get(prev as usize) {
            Some(p) => p.fifo_next.store(next, Relaxed),
            None => self.set_oldest(headers, next),
        }
        match headers.get(next as usize) {
            Some(n) => n.fifo_prev.store(prev, Relaxed),
            None => self.newest.store(prev, Relaxed),
        }
        self.chunks.store(self.chunks.load(Relaxed) - charge(h), Relaxed);
    }
}

impl Queue {
    fn set_oldest(&self, headers: &[Header], i: u32) {
        self.oldest.store(i, Relaxed);
        if let Some(h) = headers.get(i as usize) {
            self.oldest_time.store(h.time.load(Relaxed), Relaxed);
        }
    }

    pub(super) fn chunks(&self) -> u64 {
        self.chunks.load(Relaxed)
    }

    /// How long the oldest has been in it, in chunks; `None` when it is empty. Approximate without the lock.
    pub(super) fn age(&self, now: u32) -> Option<u32> {
        (self.oldest.load(Relaxed) != NONE).then(|| now.wrapping_sub(self.oldest_time.load(Relaxed)))
    }
}

/// Chunks that an object counts for in a queue.
pub(super) fn charge(h: &Header) -> u64 {
    u64::from(body_chunks(h.growth.len())) + 1
}

impl Shard {
    pub(super) fn new() -> Shard {
        Shard {
            lock: Lock::default(),
            ghost_clock: AtomicU32::new(0),
            small: Queue::new(),
            main: Queue::new(),
        }
    }

    /// The queue of new objects, or of those that have proved themselves.
    pub(super) fn queue(&self, small: bool) -> &Queue {
        if small { &self.small } else { &self.main }
    }

    /// Puts an object that is complete into a queue.
    pub(super) fn enqueue(&self, _: &Guard<'_>, headers: &[Header], i: u32, now: u32, small: bool) {
        let h = &headers[i as usize];
        debug_assert!(h.raw_state() & (IN_SMALL | IN_MAIN) == 0);
        h.time.store(now, Relaxed);
        self.queue(small).push(headers, i);
        h.set(if small { IN_SMALL } else { IN_MAIN });
    }

    /// Takes an object out of its queue, if it is in one.
    pub(super) fn dequeue(&self, _: &Guard<'_>, headers: &[Header], i: u32) {
        let was = headers[i as usize].clear(IN_SMALL | IN_MAIN);
        if was & IN_SMALL != 0 {
            self.small.remove(headers, i);
        } else if was & IN_MAIN != 0 {
            self.main.remove(headers, i);
        }
    }

    /// Looks at the oldest object of a queue.
    pub(super) fn step(&self, guard: &Guard<'_>, headers: &[Header], now: u32, small: bool) -> Step {
        let i = self.queue(small).oldest.load(Relaxed);
        let Some(h) = headers.get(i as usize) else { return Step::Empty };
        let raw = h.raw_state();
        let hits = (raw & FREQ_MASK) / FREQ_ONE;
        let keep = raw & DOOMED == 0 && hits >= if small { PROMOTE_HITS } else { 1 };
        self.dequeue(guard, headers, i);
        if !keep {
            return Step::Evict(i);
        }
        // Others only add to the count meanwhile, so this does not go below zero.
        if small {
            h.clear(FREQ_MASK);
        } else {
            h.state.fetch_sub(FREQ_ONE, Relaxed);
        }
        self.enqueue(guard, headers, i, now, false);
        Step::Moved
    }
}

/// Puts an object at the front of its bucket's chain. Readers see it whole: everything is stored before.
pub(super) fn link(_: &Guard<'_>, bucket: &AtomicU32, headers: &[Header], i: u32) {
    headers[i as usize].next.store(bucket.load(Relaxed), Relaxed);
    bucket.store(i, Release);
}

/// Takes an object out of its bucket's chain, and leaves its own `next` for those who stand on it.
pub(super) fn unlink(_: &Guard<'_>, bucket: &AtomicU32, headers: &[Header], i: u32) {
    let next = headers[i as usize].next.load(Relaxed);
    let mut link = bucket;
    for _ in 0..=CHAIN_MAX {
        let at = link.load(Relaxed);
        if at == i {
            link.store(next, Release);
            return;
        }
        let Some(h) = headers.get(at as usize) else { break };
        link = &h.next;
    }
    debug_assert!(false, "object {i} is not in its chain");
}
