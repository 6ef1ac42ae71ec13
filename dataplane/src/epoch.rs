//! Quiescent states: when may memory that others could be reading be used again?
//!
//! Readers of a shared structure take no lock and count nothing. Each participant (a core, a control thread)
//! says at the top of its loop that it holds nothing which it found before; whoever unlinks something takes a
//! *tag* afterwards, and may use the memory again once every participant has said so since.
//!
//! ```text
//!   writer W                         global           reader R                        seen[R]
//!   ────────                         ──────           ────────                        ───────
//!   unlink x            ─ hb ─┐        7              … reads x …                        7
//!   tag = global += 1 (RMW) ──┴──►     8
//!                                      8 ── acquire ► quiescent(): g = global
//!                                                     (its reads of x come before) ── release ► 8
//!   passed(8)?  min(seen) ≥ 8  ◄─────────────────────────────────── acquire ──────────
//!   reuse x
//! ```
//!
//! Why it is right:
//!
//! - *No reader finds x after its announcement of a `seen ≥ tag`.* Every write to `global` is a
//!   read-modify-write, so a load that gives `≥ tag` reads from the release sequence of W's, and the unlinking
//!   happens before whatever R does next. (A plain load of `global` for the tag would not do: it could be old,
//!   and R might have announced a newer value before the unlinking.)
//! - *What R did with x before is over.* R's store to `seen` is a release, `passed` loads it by acquire: R's
//!   reads of x happen before W writes there.
//! - *Offline.* A sleeping participant counts as passed. Coming online is a store (`seen`) before loads (links),
//!   and `passed` is a load (`seen`) after stores (unlinking): Dekker's pattern, so a full fence stands in both.
//!   Either `passed` sees the participant online, with an old `seen`, and waits; or the participant sees the
//!   unlinking.
//!
//! Costs: `quiescent` is a load of a line that is written once per batch of retirements, and a store to a line
//! of its own. Tags are taken per batch, not per object.

use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::Arc;

/// More are not supported: waiting sets of cores are words of 64 bits.
pub const PARTICIPANTS_MAX: usize = 64;

const OFFLINE: u64 = u64::MAX;

#[repr(align(128))]
struct Seat {
    /// The newest `global` that this participant has announced, or `OFFLINE`.
    seen: AtomicU64,
    taken: AtomicBool,
}

#[repr(align(128))]
struct Global(AtomicU64);

/// What the participants share.
pub struct Epochs {
    global: Global,
    seats: Box<[Seat]>,
}

impl Epochs {
    /// For `participants` threads, all offline at first.
    ///
    /// # Panics
    /// When there are more than [`PARTICIPANTS_MAX`].
    pub fn new(participants: usize) -> Arc<Epochs> {
        assert!(participants <= PARTICIPANTS_MAX, "{participants} participants are more than 64");
        let seat = |_| Seat { seen: AtomicU64::new(OFFLINE), taken: AtomicBool::new(false) };
        Arc::new(Epochs { global: Global(AtomicU64::new(1)), seats: (0..participants).map(seat).collect() })
    }

    /// Takes seat `index`, online.
    ///
    /// # Panics
    /// When the seat is taken, or there is none.
    pub fn join(self: &Arc<Self>, index: usize) -> Participant {
        let taken = self.seats[index].taken.swap(true, Ordering::Acquire);
        assert!(!taken, "participant {index} has joined already");
        let mut p = Participant { epochs: Arc::clone(self), index, safe: 0 };
        p.online();
        p
    }

    /// Seats in all.
    pub fn participants(&self) -> usize {
        self.seats.len()
    }

    /// The newest tag that has passed: nobody online has announced less.
    fn passed(&self) -> u64 {
        // A participant that we see offline will, once online, see what we unlinked. See the module's text.
        fence(Ordering::SeqCst);
        // With nobody online, everything that has been tagged so far has passed.
        let global = self.global.0.load(Ordering::Acquire);
        self.seats.iter().fold(global, |least, s| least.min(s.seen.load(Ordering::Acquire)))
    }
}

/// One thread's seat. Dropped, it counts as offline.
pub struct Participant {
    epochs: Arc<Epochs>,
    index: usize,
    /// The newest tag known to have passed.
    safe: u64,
}

impl Participant {
    /// Its number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Nothing found before this call is used any more.
    #[inline]
    pub fn quiescent(&mut self) {
        debug_assert!(self.is_online());
        let g = self.epochs.global.0.load(Ordering::Acquire);
        self.seat().seen.store(g, Ordering::Release);
    }

    /// As [`Participant::quiescent`], and nothing will be looked up before [`Participant::online`].
    pub fn offline(&mut self) {
        self.seat().seen.store(OFFLINE, Ordering::Release);
    }

    /// Look-ups may begin.
    pub fn online(&mut self) {
        let g = self.epochs.global.0.load(Ordering::Acquire);
        // Release too: who reads this, and not the `OFFLINE` before it, must still come after our earlier reads.
        self.seat().seen.store(g, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Whether it may look things up.
    pub fn is_online(&self) -> bool {
        self.seat().seen.load(Ordering::Relaxed) != OFFLINE
    }

    /// A tag for everything that this thread has unlinked so far.
    pub fn tag(&mut self) -> u64 {
        self.epochs.global.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether every participant has been quiescent, or offline, since `tag` was taken. Asks the others at most
    /// when what is known does not suffice: one line of each participant is read then.
    pub fn is_passed(&mut self, tag: u64) -> bool {
        if tag > self.safe {
            self.safe = self.epochs.passed();
        }
        tag <= self.safe
    }

    /// The newest tag that is known to have passed; asks nobody.
    pub fn known_passed(&self) -> u64 {
        self.safe
    }

    #[inline]
    fn seat(&self) -> &Seat {
        &self.epochs.seats[self.index]
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.offline();
        self.seat().taken.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_tag_passes_when_everyone_has_been_at_the_top() {
        let e = Epochs::new(3);
        let (mut a, mut b) = (e.join(0), e.join(1));
        let tag = a.tag();
        assert!(!a.is_passed(tag), "neither has announced it");
        a.quiescent();
        assert!(!a.is_passed(tag), "b has not");
        b.quiescent();
        assert!(a.is_passed(tag), "seat 2 was never taken");
        let later = a.tag();
        a.quiescent();
        assert!(!a.is_passed(later) && a.is_passed(tag));
    }

    #[test]
    fn the_sleeping_and_the_gone_hold_nobody_up() {
        let e = Epochs::new(2);
        let (mut a, mut b) = (e.join(0), e.join(1));
        b.offline();
        let tag = a.tag();
        a.quiescent();
        assert!(a.is_passed(tag));
        b.online();
        let tag = a.tag();
        a.quiescent();
        assert!(!a.is_passed(tag), "awake again");
        drop(b);
        assert!(a.is_passed(tag));
        e.join(1);
    }

    #[test]
    #[should_panic(expected = "joined already")]
    fn a_seat_has_one_owner() {
        let e = Epochs::new(1);
        let _a = e.join(0);
        e.join(0);
    }
}
