//! Free chunks and free headers: chains of numbers, shared in stripes, with a magazine for each participant.
//!
//! ```text
//!   handle A: magazine ◄── take ── stripe 0: head → 7 → 3 → 12 …   (a try-lock each, a count anybody may read)
//!             freed ────── give ─►
//!   handle B: magazine ◄── take ── stripe 1: head → …              an empty home stripe: the others in turn
//! ```
//!
//! A whole chain is given back in one step: its last link is set to the stripe's head.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::lock::Lock;
use super::memory::NONE;

/// Where the link of a number lies.
pub(super) trait Links {
    fn link(&self, i: u32) -> &AtomicU32;
}

/// A chain that one participant owns.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) count: u32,
}

impl Chain {
    pub(super) const EMPTY: Chain = Chain { head: NONE, tail: NONE, count: 0 };

    /// Takes one off the front.
    #[inline]
    pub(super) fn pop(&mut self, links: &impl Links) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        let i = self.head;
        self.count -= 1;
        if self.count == 0 {
            *self = Chain::EMPTY
        } else {
            self.head = links.link(i).load(Relaxed)
        }
        Some(i)
    }

    /// Puts another chain in front: one link is written.
    #[inline]
    pub(super) fn splice(&mut self, links: &impl Links, other: Chain) {
        if other.count == 0 {
            return;
        }
        if self.count > 0 {
            links.link(other.tail).store(self.head, Relaxed);
        } else {
            self.tail = other.tail;
        }
        self.head = other.head;
        self.count += other.count;
    }

    /// Puts one in front.
    #[inline]
    pub(super) fn push(&mut self, links: &impl Links, i: u32) {
        self.splice(links, Chain { head: i, tail: i, count: 1 });
    }

    /// Everything, leaving it empty.
    #[inline]
    pub(super) fn take(&mut self) -> Chain {
        std::mem::replace(self, Chain::EMPTY)
    }
}

#[repr(align(128))]
#[derive(Default)]
struct Stripe {
    lock: Lock,
    head: AtomicU32,
    tail: AtomicU32,
    count: AtomicU32,
}

pub(super) struct FreePool {
    stripes: Box<[Stripe]>,
}

impl FreePool {
    /// A pool of `0..count`, in order, split over `stripes`.
    pub(super) fn new(links: &impl Links, count: u32, stripes: usize) -> FreePool {
        let pool = FreePool { stripes: (0..stripes.max(1)).map(|_| Stripe::default()).collect() };
        let n = pool.stripes.len() as u64;
        for (s, stripe) in pool.stripes.iter().enumerate() {
            let from = (u64::from(count) * s as u64 / n) as u32;
            let to = (u64::from(count) * (s as u64 + 1) / n) as u32;
            for i in from..to {
                links.link(i).store(if i + 1 == to { NONE } else { i + 1 }, Relaxed);
            }
            if from < to {
                stripe.head.store(from, Relaxed);
                stripe.tail.store(to - 1, Relaxed);
                stripe.count.store(to - from, Relaxed);
            }
        }
        pool
    }

    /// How many there are now, outside of magazines; exact when nobody works on it.
    #[inline]
    pub(super) fn free(&self) -> u64 {
        self.stripes.iter().map(|s| u64::from(s.count.load(Relaxed))).sum()
    }

    /// Up to `want`, from the first stripe that has any, `home` first; an empty chain when there are none, or
    /// when others hold the locks.
    pub(super) fn take(&self, links: &impl Links, home: usize, want: u32) -> Chain {
        let n = self.stripes.len();
        for s in 0..n {
            let stripe = &self.stripes[(home + s) % n];
            if stripe.count.load(Relaxed) == 0 {
                continue;
            }
            let Some(_guard) = stripe.lock.attempt() else { continue };
            let mut rest = Chain {
                head: stripe.head.load(Relaxed),
                tail: stripe.tail.load(Relaxed),
                count: stripe.count.load(Relaxed),
            };
            let count = want.min(rest.count);
            if count == 0 {
                continue;
            }
            let (head, mut tail) = (rest.head, NONE);
            for _ in 0..count {
                tail = rest.pop(links).unwrap_or(NONE);
            }
            stripe.head.store(rest.head, Relaxed);
            stripe.tail.store(rest.tail, Relaxed);
            stripe.count.store(rest.count, Relaxed);
            debug_assert!(tail != NONE);
            return Chain { head, tail, count };
        }
        Chain::EMPTY
    }

    /// Gives a chain back, to any stripe whose lock is free, `home` first. It stays with the caller when none is.
    pub(super) fn give(&self, links: &impl Links, home: usize, chain: &mut Chain) {
        let n = self.stripes.len();
        for s in 0..n {
            if chain.count == 0 {
                return;
            }
            let stripe = &self.stripes[(home + s) % n];
            let Some(_guard) = stripe.lock.attempt() else { continue };
            let mut all = Chain {
                head: stripe.head.load(Relaxed),
                tail: stripe.tail.load(Relaxed),
                count: stripe.count.load(Relaxed),
            };
            all.splice(links, chain.take());
            stripe.head.store(all.head, Relaxed);
            stripe.tail.store(all.tail, Relaxed);
            stripe.count.store(all.count, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<AtomicU32>);
    impl Links for Table {
        fn link(&self, i: u32) -> &AtomicU32 {
            &self.0[i as usize]
        }
    }

    #[test]
    fn every_number_is_somewhere_once() {
        let links = Table((0..100).map(|_| AtomicU32::new(0)).collect());
        let pool = FreePool::new(&links, 100, 3);
        assert_eq!(pool.free(), 100);
        let mut mine = Chain::EMPTY;
        let mut seen = [false; 100];
        while mine.count < 100 {
            let got = pool.take(&links, 1, 7);
            assert!(got.count > 0 && got.count <= 7);
            mine.splice(&links, got);
        }
        assert_eq!((pool.free(), pool.take(&links, 0, 1).count), (0, 0));
        let mut back = Chain::EMPTY;
        while let Some(i) = mine.pop(&links) {
            assert!(!std::mem::replace(&mut seen[i as usize], true), "{i} twice");
            back.push(&links, i);
        }
        pool.give(&links, 2, &mut back);
        assert_eq!((pool.free(), back.count), (100, 0));
        assert_eq!(pool.take(&links, 0, 200).count, 100, "all in one stripe now");
    }
}
