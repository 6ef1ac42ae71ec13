//! Purges: what they guarantee, and how.
//!
//! When a purge returns, no look-up that begins afterwards gives what it matched (hard), or gives it only as
//! [`State::is_soft`](super::State::is_soft) (soft). Look-ups that a core has made before, in a pass that is not
//! over, may still be served: [`Handle::wait_for_epoch`] waits until there are none.
//!
//! ```text
//!   everything   stamp + 1                      O(1): each header carries the stamp that its claim saw
//!                then all headers are marked    so that a stamp of 8 bits never comes round to an old object
//!   by blob      purges + 1, then all headers   tag, prefix, host: as the closure reads the blob
//!   by hash      url_purges + 1, one chain       URL
//!   afterwards   sweep                          takes what is marked out of chains and queues: memory comes back
//! ```
//!
//! **A fill that began before a purge brings nothing back.** Its object is in the index from its claim on, and so it
//! is marked like others. As its tags are not known before its head is, a purge by blob takes every fill without a
//! head: its readers get what they wait for, new requests start over. What is marked stays marked: `finish` does not
//! keep it, a 304 does not free it. An object claimed *after* the response was asked for (a late variant) compares
//! [`PurgeEpoch`]s: the claim links the object, then looks at the count; the purge counts, then looks at the objects;
//! a full fence in both, so that one of them sees the other. The same pair of fences orders a plain claim: either the
//! purge sees the object, or the origin is asked after the purge began.
//!
//! **A soft purge while a revalidation is under way** sets `SOFT_NEW`, which the 304 does not clear: its answer may
//! be older than the purge.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::{Duration, Instant};

use super::handle::Handle;
use super::header::*;
use super::lookup::{ObjectView, is_visible};
use super::memory::NONE;
use super::shard::CHAIN_MAX;
use super::stats::count;
use super::{State, Store};

/// Headers looked at between two quiescent states.
const PIECE: usize = 128;
/// Headers ahead of which the blob is asked for.
const AHEAD: usize = 8;
/// How long a look at all headers goes on before it gives way for as long: a data core on the same CPU waits for no
/// more than this, nor does one on another CPU for memory that we keep busy.
const TURN: Duration = Duration::from_micros(100);
/// How long a sweep waits for an epoch before it leaves the rest to eviction.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts of purges by hash: a power of two.
pub(super) const URL_PURGES: usize = 1024;

/// How many purges there had been that may concern a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeEpoch {
    /// Of everything, and by blob.
    all: u64,
    /// By hashes like this one.
    like: u64,
}

impl Handle {
    /// The count of purges now: before a request for this to an origin, for [`Handle::claim_late`].
    pub fn purge_epoch(&self, hash: u64) -> PurgeEpoch {
        PurgeEpoch {
            all: self.store.purges.load(Acquire),
            like: self.store.url_purges[hash as usize % URL_PURGES].load(Acquire),
        }
    }

    /// Control threads: everything. Gives the number of objects that were there.
    pub fn purge_all(&mut self, soft: bool) -> u64 {
        let store = std::sync::Arc::clone(&self.store);
        let _one_at_a_time = store.purging.lock().unwrap_or_else(|e| e.into_inner());
        store.purges.fetch_add(1, AcqRel);
        let old = store.stamp();
        let (mask, one) = if soft { (SOFT_STAMP, SOFT_STAMP_ONE) } else { (HARD_STAMP, HARD_STAMP_ONE) };
        let stamp = old & !mask | old.wrapping_add(one) & mask;
        store.stamp.store(stamp, SeqCst);
        // A claim reads the stamp and links under its shard's lock. Those that have read the old one are linked once
        // every lock has been free; the scan finds them.
        store.shards.iter().for_each(|s| drop(s.lock.wait()));
        fence(SeqCst);
        self.scan(|store, _, h, raw| {
            if (raw ^ stamp) & mask == 0 {
                return false;
            }
            store.mark(h, soft);
            is_visible(raw, old)
        })
    }

    /// Control threads: every object whose blob matches, and every fill whose head is not known yet. Gives the number
    /// of those that matched.
    pub fn purge_matching(&mut self, mut matches: impl FnMut(&[u8]) -> bool, soft: bool) -> u64 {
        let store = std::sync::Arc::clone(&self.store);
        let _one_at_a_time = store.purging.lock().unwrap_or_else(|e| e.into_inner());
        store.purges.fetch_add(1, AcqRel);
        fence(SeqCst);
        let mut scratch = vec![0; store.head_bytes_max()];
        self.scan(|store, index, h, raw| {
            let state = State::new(raw, store.stamp());
            if raw & (FILLING | HEADED) == FILLING {
                store.mark(h, soft);
                return false;
            }
            let hit = store.view_of(index, h, state, &mut scratch).is_some_and(|v| matches(v.blob));
            if hit {
                store.mark(h, soft);
            }
            hit && !state.is_gone()
        })
    }

    /// The objects of one hash that match. On any core: takes no lock, and walks one chain.
    pub fn purge_hash(
        &mut self,
        hash: u64,
        scratch: &mut [u8],
        mut matches: impl FnMut(&ObjectView<'_>) -> bool,
        soft: bool,
    ) -> u64 {
        self.store.url_purges[hash as usize % URL_PURGES].fetch_add(1, AcqRel);
        fence(SeqCst);
        let (mut at, mut n) = (self.awake().bucket(hash as u32).load(Acquire), 0);
        for _ in 0..CHAIN_MAX {
            if at == NONE {
                break;
            }
            let (store, index) = (&*self.store, at);
            let h = &store.headers[index as usize];
            at = h.next.load(Acquire);
            let (raw, stamp) = (h.raw_state(), store.stamp());
            if h.hash.load(Relaxed) != hash as u32 || !is_visible(raw, stamp) {
                continue;
            }
            let view = store.view_of(index, h, State::new(raw, stamp), scratch);
            if view.is_some_and(|v| matches(&v)) {
                store.mark(h, soft);
                n += 1;
                if !soft {
                    self.unlink(self.store.id(index));
                }
            }
        }
        count(&self.counts().purged, n);
        n
    }

    /// Control threads, after a hard purge: takes what is marked out of the index, so that its memory comes back
    /// before eviction would come by. Gives the number of objects.
    pub fn sweep(&mut self) -> u64 {
        let store = std::sync::Arc::clone(&self.store);
        let mut n = 0;
        let mut turn = Instant::now();
        for index in 0..store.headers.len() as u32 {
            if (index as usize).is_multiple_of(PIECE) {
                self.give_way(&mut turn);
            }
            let h = &store.headers[index as usize];
            if h.raw_state() & (LINKED | DOOMED) != LINKED | DOOMED {
                continue;
            }
            if !self.retired_room(false) && !self.wait_for_room() {
                break;
            }
            let at = store.shard(h.hash.load(Relaxed));
            let guard = store.shards[at].lock.wait();
            // Again, under the lock: another object may have moved in while we waited.
            let id = store.id(index);
            let marked = h.raw_state() & (LINKED | DOOMED) == LINKED | DOOMED;
            let same_shard = store.shard(h.hash.load(Relaxed)) == at;
            let taken = marked && same_shard && store.take_out(&guard, at, id);
            drop(guard);
            if taken {
                self.retire_object(index);
                n += 1;
            }
        }
        self.quiescent();
        n
    }

    /// Between two pieces: a quiescent state, and a rest when the turn is over.
    fn give_way(&mut self, turn: &mut Instant) {
        self.quiescent();
        let worked = turn.elapsed();
        if worked >= TURN {
            // At most twice a turn: what took longer was our own waiting.
            std::thread::sleep(worked.min(2 * TURN));
            *turn = Instant::now();
        }
    }

    fn wait_for_room(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.quiescent();
            if self.retired_room(false) {
                return true;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        false
    }

    /// Shows every linked object to `f`, in pieces between quiescent states; sums its yeses.
    fn scan(&mut self, mut f: impl FnMut(&Store, u32, &Header, u32) -> bool) -> u64 {
        let mut n = 0;
        let all = self.store.headers.len();
        let mut turn = Instant::now();
        for from in (0..all).step_by(PIECE) {
            self.give_way(&mut turn);
            for index in from..all.min(from + PIECE) {
                // Headers lie in order; their blobs do not.
                if let Some(soon) = self.store.headers.get(index + AHEAD) {
                    self.store.chunks.prefetch(soon.head.load(Relaxed), 2);
                }
                let h = &self.store.headers[index];
                // Linked now, so it stays what it is for this pass.
                let raw = h.raw_state();
                if raw & LINKED != 0 && f(&self.store, index as u32, h, raw) {
                    n += 1;
                }
            }
        }
        self.quiescent();
        count(&self.counts().purged, n);
        n
    }
}

impl Store {
    /// Marks an object, found in this pass. A soft mark also brings it up to date with the soft purges of everything.
    fn mark(&self, h: &Header, soft: bool) {
        if !soft {
            h.set(DOOMED);
            return;
        }
        h.set(SOFT | SOFT_NEW);
        let stamp = self.stamp() & SOFT_STAMP;
        loop {
            let raw = h.raw_state();
            let new = raw & !SOFT_STAMP | stamp;
            if raw == new || h.state.compare_exchange(raw, new, AcqRel, Relaxed).is_ok() {
                return;
            }
        }
    }
}
