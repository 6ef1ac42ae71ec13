//! One participant's access: its epoch, its magazines, and what it has retired.

use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use dataplane::epoch::Participant;

use super::chain::blob_chunks;
use super::fill::Unfinished;
use super::header::{COMPLETE, COUNTED, FAILED, PASS};
use super::pool::Chain;
use super::stats::{Counts, count, uncount};
use super::{HeaderLinks, Store};

/// Things that wait for their epoch, of one participant.
const RETIRED_MAX: usize = 8192;
/// Of them, kept for what must not fail: fills that end, heads that are replaced.
const RETIRED_RESERVE: usize = 1024;
/// Things that one call retires, at most.
const AT_ONCE: usize = 8;
/// Things given back in one pass.
const RECLAIM_MAX: usize = 512;

/// Something that is found no more, but may still be read.
struct Waiting {
    /// 0: not yet known, this pass is not over.
    tag: u64,
    what: What,
    /// Counted as pending.
    chunks: u32,
}

enum What {
    Object(u32),
    Blob(u32),
}

/// The retired list, in order of tags.
pub(super) struct Retired {
    list: VecDeque<Waiting>,
    untagged: usize,
}

/// One participant's access to the store; neither shared nor cloned. It may be sent to its thread.
///
/// It starts online. While it is, and does not call [`Handle::quiescent`], no memory comes back to anybody: a control
/// thread is [`Handle::offline`] but for its work.
pub struct Handle {
    pub(super) store: Arc<Store>,
    me: Participant,
    online: bool,
    pub(super) own_chunks: Chain,
    pub(super) own_headers: Chain,
    freed_chunks: Chain,
    freed_headers: Chain,
    retired: Retired,
    pub(super) unfinished: VecDeque<Unfinished>,
    /// Where eviction looks next.
    pub(super) hand: usize,
    _not_sync: PhantomData<Cell<()>>,
}

impl Handle {
    pub(super) fn new(store: Arc<Store>, participant: usize) -> Handle {
        let me = store.epochs.join(participant);
        let left = store.seats[participant].left.lock().expect("no panic under it").take();
        let retired =
            left.unwrap_or_else(|| Retired { list: VecDeque::with_capacity(RETIRED_MAX), untagged: 0 });
        Handle {
            own_chunks: Chain::EMPTY,
            own_headers: Chain::EMPTY,
            freed_chunks: Chain::EMPTY,
            freed_headers: Chain::EMPTY,
            unfinished: VecDeque::with_capacity(256),
            hand: participant,
            online: true,
            retired,
            me,
            store,
            _not_sync: PhantomData,
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Which participant this is.
    pub fn participant(&self) -> usize {
        self.me.index()
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.store.seats[self.me.index()].counts
    }

    /// At the top of the loop: nothing that was found before is used any more, but what is pinned or being filled.
    /// Gives back a bounded number of retired things.
    #[inline]
    pub fn quiescent(&mut self) {
        if !self.has_work() {
            self.me.quiescent();
        } else {
            self.settle();
        }
    }

    /// Before sleeping: as [`Handle::quiescent`], and nothing is looked up until [`Handle::online`].
    pub fn offline(&mut self) {
        self.quiescent();
        self.me.offline();
        self.online = false;
    }

    /// The store may be looked into: not while nothing keeps its memory for us.
    #[inline]
    pub(super) fn awake(&self) -> &Store {
        assert!(self.online, "the store was looked into by a participant that is offline");
        &self.store
    }

    /// After sleeping.
    pub fn online(&mut self) {
        self.me.online();
        self.online = true;
    }

    /// Whether wake-ups wait in the mailbox.
    pub fn has_wakes(&self) -> bool {
        let seat = &self.store.seats[self.me.index()];
        !seat.mailbox.is_empty() || seat.overflow.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether anything waits to be reclaimed or finished, so that a core had better not sleep for long.
    pub fn has_work(&self) -> bool {
        !self.retired.list.is_empty() || !self.unfinished.is_empty() || self.freed_headers.count > 0
    }

    /// A tag for what was done so far: once it has passed, every participant has been at its loop top since.
    pub fn epoch_tag(&mut self) -> u64 {
        self.me.tag()
    }

    /// Whether a tag has passed.
    pub fn epoch_passed(&mut self, tag: u64) -> bool {
        self.me.is_passed(tag)
    }

    /// Control threads: waits until every other participant has been at its loop top, or offline; `false` when
    /// `patience` is over first. Counts as a quiescent state of its own.
    pub fn wait_for_epoch(&mut self, patience: std::time::Duration) -> bool {
        let until = std::time::Instant::now() + patience;
        let tag = self.me.tag();
        loop {
            self.quiescent();
            if self.me.is_passed(tag) {
                return true;
            }
            if std::time::Instant::now() >= until {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
    }

    #[cold]
    fn settle(&mut self) {
        let n = self.retired.untagged;
        if n > 0 {
            let tag = self.me.tag();
            self.retired.list.iter_mut().rev().take(n).for_each(|w| w.tag = tag);
            self.retired.untagged = 0;
        }
        self.me.quiescent();
        self.reclaim();
        self.finish_unfinished();
        self.give_back();
    }

    fn reclaim(&mut self) {
        // The others are asked once a pass at most, by the first question.
        let Some(first) = self.retired.list.front() else { return };
        if !self.me.is_passed(first.tag) {
            return;
        }
        let safe = self.me.known_passed();
        for _ in 0..RECLAIM_MAX {
            match self.retired.list.front() {
                Some(w) if w.tag <= safe => {}
                _ => break,
            }
            let Some(w) = self.retired.list.pop_front() else { break };
            uncount(&self.counts().pending_chunks, u64::from(w.chunks));
            match w.what {
                What::Blob(first) => {
                    let chain = self.store.chunks.blob_chain(first);
                    self.store.chunks.poison_chain(&chain);
                    self.freed_chunks.splice(&self.store.chunks, chain);
                }
                What::Object(i) => {
                    uncount(&self.counts().pending_headers, 1);
                    self.orphan(i);
                }
            }
        }
    }

    /// Gives what was freed to the pools. What their locks do not take stays for the next pass.
    fn give_back(&mut self) {
        let (store, home) = (&*self.store, self.me.index());
        store.free_chunks.give(&store.chunks, home, &mut self.freed_chunks);
        store.free_headers.give(&HeaderLinks(&store.headers), home, &mut self.freed_headers);
    }

    /// An object's tag has passed: it is freed here, or by whoever takes the last pin back.
    fn orphan(&mut self, i: u32) {
        let store = &*self.store;
        let h = &store.headers[i as usize];
        if h.pins.is_pinned() && h.raw_state() & (COMPLETE | FAILED | PASS) != 0 {
            // Before `orphan`: the last unpin, which takes it off again, may come right after.
            h.set(COUNTED);
            store.pinned_chunks.fetch_add(u64::from(store.chunks.object_chunks(h)), Relaxed);
        }
        if h.pins.orphan() {
            self.release(i);
        }
    }

    /// Frees an object that nobody can reach.
    pub(super) fn release(&mut self, i: u32) {
        let store = &*self.store;
        let h = &store.headers[i as usize];
        let chain = store.chunks.object_chain(h);
        if h.raw_state() & COUNTED != 0 {
            store.pinned_chunks.fetch_sub(u64::from(chain.count), Relaxed);
        }
        h.state.store(0, Relaxed);
        h.generation.store(h.generation.load(Relaxed).wrapping_add(1), Release);
        store.chunks.poison_chain(&chain);
        self.freed_chunks.splice(&store.chunks, chain);
        self.freed_headers.push(&HeaderLinks(&store.headers), i);
    }

    /// Room for `AT_ONCE` more retired things, with (`must`) or without what is kept for those that must not fail.
    pub(super) fn retired_room(&self, must: bool) -> bool {
        self.retired.list.len() + AT_ONCE <= RETIRED_MAX - if must { 0 } else { RETIRED_RESERVE }
    }

    /// An object has been unlinked.
    pub(super) fn retire_object(&mut self, i: u32) {
        let chunks = self.store.chunks.object_chunks(&self.store.headers[i as usize]);
        count(&self.counts().pending_headers, 1);
        self.retire(What::Object(i), chunks);
    }

    /// A blob has been replaced.
    pub(super) fn retire_blob(&mut self, first: u32) {
        let chunks = blob_chunks(self.store.chunks.blob_len(first));
        self.retire(What::Blob(first), chunks);
    }

    fn retire(&mut self, what: What, chunks: u32) {
        debug_assert!(self.me.is_online());
        debug_assert!(self.retired.list.len() < RETIRED_MAX);
        count(&self.counts().pending_chunks, u64::from(chunks));
        self.retired.list.push_back(Waiting { tag: 0, what, chunks });
        self.retired.untagged += 1;
    }

    /// Chunks and headers free, or about to be.
    pub(super) fn coming(&self) -> (u64, u64) {
        let sum = |f: fn(&Counts) -> &std::sync::atomic::AtomicU64| -> u64 {
            self.store.seats.iter().map(|s| f(&s.counts).load(Relaxed)).sum()
        };
        (
            self.store.free_chunks.free() + sum(|c| &c.pending_chunks),
            self.store.free_headers.free() + sum(|c| &c.pending_headers),
        )
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.online();
        while !self.unfinished.is_empty() {
            self.settle();
        }
        self.settle();
        let store = Arc::clone(&self.store);
        let home = self.me.index();
        self.freed_chunks.splice(&store.chunks, self.own_chunks.take());
        self.freed_headers.splice(&HeaderLinks(&store.headers), self.own_headers.take());
        while self.freed_chunks.count > 0 || self.freed_headers.count > 0 {
            self.give_back();
            std::thread::yield_now();
        }
        // The next handle of this seat goes on with what has not passed yet.
        let rest = std::mem::replace(&mut self.retired, Retired { list: VecDeque::new(), untagged: 0 });
        *store.seats[home].left.lock().expect("no panic under it") = Some(rest);
    }
}
