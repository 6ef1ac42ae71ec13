//! Models of what the cache does with epochs, pins and growth, and of what threads give back to each other (DPDK's port), tried in all interleavings in which no more than
//! [`PREEMPTIONS`] times a thread is interrupted where it could have gone on. That is not every interleaving: those with
//! more interruptions are not looked at. Most known faults of this kind need one or two.
//!
//! `MILLRACE_LOOM_PREEMPTIONS=N` tries others; each more takes several times as long.
//!
//! Memory is a loom `UnsafeCell`: a read that is not ordered with a write of it fails the model, as does any path
//! that loses a wake-up or frees twice.
//!
//! That the models bite was tried by weakening the code, one place at a time; each of these fails one of them: no fence
//! in `online`, none in `passed`, a tag by a plain load, a relaxed store of `seen`, a relaxed load of `global`, a
//! relaxed `unpin`, no fence in `take_waiting`, none in `announce`, a relaxed store of the length, a
//! relaxed push or take of what is given back.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use loom::thread;

use millrace_loom::epoch::{Epochs, Participant};
use millrace_loom::giveback::{GiveBack, Linked};
use millrace_loom::pins::{Growth, Pins};

const PREEMPTIONS: usize = 3;

/// An object as the store has it: found through a link, with memory that is used again once it is free.
struct Object {
    linked: AtomicBool,
    pins: Pins,
    memory: UnsafeCell<u32>,
    freed: AtomicU32,
}

impl Object {
    fn new() -> Object {
        Object {
            linked: AtomicBool::new(true),
            pins: Pins::default(),
            memory: UnsafeCell::new(1),
            freed: AtomicU32::new(0),
        }
    }
    fn find(&self) -> bool {
        self.linked.load(Ordering::Acquire)
    }
    fn read(&self) {
        // SAFETY of the model: loom checks that no write is concurrent.
        self.memory.with(|p| assert_eq!(unsafe { *p }, 1, "freed memory was read"));
    }
    fn free(&self) {
        self.memory.with_mut(|p| unsafe { *p = 2 });
        self.freed.fetch_add(1, Ordering::Relaxed);
    }
    /// What a pass does that finds it or does not.
    fn read_if_found(&self) {
        if self.find() {
            self.read();
        }
    }
    /// Takes it out of the index. Gives the tag under which it may be freed.
    fn unlink(&self, writer: &mut Participant) -> u64 {
        self.linked.store(false, Ordering::Release);
        let tag = writer.tag();
        writer.quiescent();
        tag
    }
    /// Takes it out, and frees it if that may be done at once.
    fn retire(&self, writer: &mut Participant) -> u64 {
        let tag = self.unlink(writer);
        if writer.is_passed(tag) {
            self.free();
        }
        tag
    }
}

/// A writer, a reader, and an object that the reader may see as well.
fn two() -> (Participant, Participant, Arc<Object>, Arc<Object>) {
    let (epochs, o) = (Epochs::new(2), Arc::new(Object::new()));
    (epochs.join(0), epochs.join(1), Arc::clone(&o), o)
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut b = loom::model::Builder::new();
    let bound = std::env::var("MILLRACE_LOOM_PREEMPTIONS").ok();
    b.preemption_bound = Some(bound.map_or(PREEMPTIONS, |n| n.parse().expect("a number")));
    b.check(f);
}

/// A reader that finds the object reads it within its pass; the writer frees it when the epoch has passed.
#[test]
fn an_epoch_protects_a_pass() {
    model(|| {
        let (mut writer, mut reader, seen, o) = two();
        let t = thread::spawn(move || {
            for _ in 0..2 {
                seen.read_if_found();
                reader.quiescent();
            }
            // The seat stays: dropping it would count as offline.
            std::mem::forget(reader);
        });
        o.retire(&mut writer);
        t.join().unwrap();
        std::mem::forget(writer);
    });
}

/// The same, with a reader that sleeps and wakes: asleep, it holds nothing up; awake, it finds nothing freed.
#[test]
fn a_sleeper_that_wakes_finds_nothing_freed() {
    model(|| {
        let (mut writer, mut reader, seen, o) = two();
        let t = thread::spawn(move || {
            seen.read_if_found();
            reader.offline();
            reader.online();
            seen.read_if_found();
            reader.offline();
        });
        let tag = o.retire(&mut writer);
        t.join().unwrap();
        assert!(writer.is_passed(tag), "everybody is offline");
    });
}

/// Two writers retire an object each under tags of their own; a batch of one must not pass by the other's.
#[test]
fn two_writers_and_a_reader() {
    model(|| {
        let epochs = Epochs::new(3);
        let (a, b) = (Arc::new(Object::new()), Arc::new(Object::new()));
        let mut first = epochs.join(0);
        let mut second = epochs.join(1);
        let mut reader = epochs.join(2);
        let other = Arc::clone(&b);
        let t = thread::spawn(move || {
            other.retire(&mut second);
            std::mem::forget(second);
        });
        let (x, y) = (Arc::clone(&a), Arc::clone(&b));
        let r = thread::spawn(move || {
            x.read_if_found();
            reader.quiescent();
            y.read_if_found();
            std::mem::forget(reader);
        });
        a.retire(&mut first);
        t.join().unwrap();
        r.join().unwrap();
        std::mem::forget(first);
    });
}

/// A pin keeps the memory beyond the pass; exactly one thread frees it.
#[test]
fn a_pin_outlives_the_epoch_and_one_frees() {
    model(|| {
        let (mut writer, mut reader, seen, o) = two();
        let t = thread::spawn(move || {
            let pinned = seen.find();
            if pinned {
                seen.pins.pin();
            }
            reader.quiescent();
            if pinned {
                seen.read();
                if seen.pins.unpin() {
                    seen.free();
                }
            }
            reader.offline();
        });
        let tag = o.unlink(&mut writer);
        let early = writer.is_passed(tag);
        if early && o.pins.orphan() {
            o.free();
        }
        t.join().unwrap();
        if !early {
            assert!(writer.is_passed(tag));
            if o.pins.orphan() {
                o.free();
            }
        }
        assert_eq!(o.freed.load(Ordering::Relaxed), 1);
    });
}

/// What is below the published length is there; who waits is woken, or has seen it.
#[test]
fn no_byte_too_early_and_no_wake_up_lost() {
    model(|| {
        let growth = Arc::new(Growth::default());
        let bytes = Arc::new([UnsafeCell::new(0u8), UnsafeCell::new(0u8)]);
        let woken = Arc::new(AtomicU64::new(0));
        let (g, b, w) = (Arc::clone(&growth), Arc::clone(&bytes), Arc::clone(&woken));
        let t = thread::spawn(move || {
            for n in 0..2 {
                b[n].with_mut(|p| unsafe { *p = 7 });
                let mask = g.publish(n as u64 + 1);
                w.fetch_or(mask, Ordering::Relaxed);
            }
        });
        let len = growth.len();
        (0..len as usize).for_each(|n| bytes[n].with(|p| assert_eq!(unsafe { *p }, 7)));
        let mut sleeps = false;
        if len < 2 {
            growth.announce(5);
            sleeps = growth.len() == len;
        }
        t.join().unwrap();
        if sleeps {
            assert_eq!(woken.load(Ordering::Relaxed), 1 << 5, "it sleeps for ever");
        }
        assert_eq!(growth.len(), 2);
    });
}

/// A flag that is waited for (the end of a fill, of a revalidation) instead of the length.
#[test]
fn no_wake_up_lost_for_a_flag() {
    model(|| {
        let growth = Arc::new(Growth::default());
        let done = Arc::new(AtomicBool::new(false));
        let (g, d) = (Arc::clone(&growth), Arc::clone(&done));
        let t = thread::spawn(move || {
            d.store(true, Ordering::Release);
            g.take_waiting()
        });
        growth.announce(0);
        let sleeps = !done.load(Ordering::Acquire);
        let mask = t.join().unwrap();
        assert!(!sleeps || mask == 1, "it sleeps for ever");
    });
}

/// A late claim and a purge: the claim links, then looks at the count; the purge counts, then looks at the links.
#[test]
fn a_late_claim_or_the_purge_notices() {
    model(|| {
        let linked = Arc::new(AtomicBool::new(false));
        let purges = Arc::new(AtomicU64::new(0));
        let (l, p) = (Arc::clone(&linked), Arc::clone(&purges));
        let t = thread::spawn(move || {
            p.fetch_add(1, Ordering::AcqRel);
            loom::sync::atomic::fence(Ordering::SeqCst);
            l.load(Ordering::Acquire)
        });
        linked.store(true, Ordering::Release);
        loom::sync::atomic::fence(Ordering::SeqCst);
        let refused = purges.load(Ordering::Acquire) != 0;
        let found = t.join().unwrap();
        assert!(refused || found, "purged content stays");
    });
}

/// A record as DPDK's port has it: written by whoever gives it back, then its owner's.
struct Record {
    below: std::cell::Cell<*mut Record>,
    bytes: UnsafeCell<u32>,
}

// SAFETY: of the model: its own cell.
unsafe impl Linked for Record {
    fn below(&self) -> &std::cell::Cell<*mut Record> {
        &self.below
    }
}

/// Records and their stack, shared by the model's threads.
struct Given {
    records: Vec<Record>,
    stack: GiveBack<Record>,
}

// SAFETY: of the model: that each is with one thread at a time is what it checks.
unsafe impl Send for Given {}
// SAFETY: as above.
unsafe impl Sync for Given {}

impl Given {
    fn new(n: usize) -> Arc<Given> {
        let record = || Record { below: std::cell::Cell::new(std::ptr::null_mut()), bytes: UnsafeCell::new(0) };
        Arc::new(Given { records: (0..n).map(|_| record()).collect(), stack: GiveBack::new() })
    }
    fn give(&self, n: usize) {
        let record = &raw const self.records[n];
        self.records[n].bytes.with_mut(|p| unsafe { *p += 1 });
        // SAFETY: of the model: nobody else has it.
        unsafe { self.stack.push(record.cast_mut()) };
    }
    /// What the owner finds, by number.
    fn take(&self) -> Vec<usize> {
        let mut taken = Vec::new();
        self.stack.take(|record| {
            let n = self.records.iter().position(|r| std::ptr::eq(r, record)).expect("one of them");
            self.records[n].bytes.with_mut(|p| unsafe { *p += 1 });
            taken.push(n);
        });
        taken
    }
}

/// Two threads give back while the owner takes: each thing comes once, with all that was written to it.
#[test]
fn what_is_given_back_comes_once() {
    model(|| {
        let given = Given::new(3);
        let threads: Vec<_> = [vec![0, 1], vec![2]]
            .into_iter()
            .map(|mine| {
                let given = Arc::clone(&given);
                thread::spawn(move || mine.into_iter().for_each(|n| given.give(n)))
            })
            .collect();
        let mut all = given.take();
        threads.into_iter().for_each(|t| t.join().unwrap());
        all.extend(given.take());
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    });
}

/// What was taken is given back again while another push is between its look and its exchange.
#[test]
fn what_is_given_back_twice_does_no_harm() {
    model(|| {
        let given = Given::new(2);
        given.give(0);
        let other = Arc::clone(&given);
        let t = thread::spawn(move || other.give(1));
        let first = given.take();
        assert!(first.contains(&0));
        given.give(0);
        t.join().unwrap();
        let mut all = [first, given.take()].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 0, 1]);
    });
}
