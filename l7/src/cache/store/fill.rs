//! Writing objects: claims, fills, and what ends them.

use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use arrayvec::ArrayVec;

use super::chain::{Tail, blob_chunks};
use super::handle::Handle;
use super::header::*;
use super::lookup::{Found, ObjectView, Pick, is_visible};
use super::memory::{Chunks, NONE};
use super::purge::PurgeEpoch;
use super::shard::{self, CHAIN_MAX, charge};
use super::stats::count;
use super::{HeaderLinks, Store};

/// The answer to a claim.
#[derive(Debug)]
#[must_use]
pub enum Claim {
    /// The closure took an object that was there.
    Existing(ObjectId),
    /// The caller fills.
    New(Fill),
    /// The shard's lock was not to be had: go uncached.
    Busy,
    /// No header or chunk is free, or the chain is too long: go uncached.
    Full,
    /// Only of a late claim: something was purged since.
    Purged,
}

/// The right to write one object, and a pin on it. It must be given back by [`Handle::finish`],
/// [`Handle::fill_pass`] or [`Handle::fail`].
#[derive(Debug)]
#[must_use]
pub struct Fill {
    id: ObjectId,
    tail: Tail,
}

impl Fill {
    /// The object. Valid until the fill is given back.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Bytes appended so far, published or not.
    pub fn len(&self) -> u64 {
        self.tail.written
    }

    /// Whether nothing has been appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why bytes were not appended; none of them were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// No chunk is free now. It may be worth a try in a later pass.
    NoRoom,
    /// The object would be longer than `object_bytes_max`.
    TooLarge,
}

/// Why a head was not set; the one before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// No chunk is free now, or too much is retired already.
    NoRoom,
    /// Longer than `head_bytes_max`.
    TooLarge,
    /// The object is out of the index.
    Gone,
}

/// A chain of so many is looked through for what is marked as gone.
const CHAIN_TIDY: usize = 4;

/// A fill that has ended, but for what needs the shard's lock. It keeps the writer's pin.
pub(super) struct Unfinished {
    object: u32,
    replaces: Option<ObjectId>,
}

impl Handle {
    /// As [`Handle::lookup`], under the shard's lock; when nothing is taken, a new object is put in front of the
    /// others, being filled, with `key_blob` as its blob: from then on, others find it. Only one participant can
    /// claim what the closure recognises.
    pub fn claim(
        &mut self,
        hash: u64,
        key_blob: &[u8],
        scratch: &mut [u8],
        check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Claim {
        self.claim_since(None, hash, key_blob, scratch, check)
    }

    /// A claim for content that was asked of the origin when the purges stood at `since` (a second variant, say,
    /// known as such by its response): refused if anything was purged since.
    pub fn claim_late(
        &mut self,
        since: PurgeEpoch,
        hash: u64,
        key_blob: &[u8],
        scratch: &mut [u8],
        check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Claim {
        self.claim_since(Some(since), hash, key_blob, scratch, check)
    }

    fn claim_since(
        &mut self,
        since: Option<PurgeEpoch>,
        hash: u64,
        key_blob: &[u8],
        scratch: &mut [u8],
        check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Claim {
        if key_blob.len() > self.store.head_bytes_max() {
            return Claim::Full;
        }
        // Before the lock: eviction takes locks itself.
        let room = self.ensure(blob_chunks(key_blob.len()), 1) && self.retired_room(true);
        self.awake();
        let store = &*self.store;
        let at = store.shard(hash as u32);
        let Some(guard) = store.shards[at].lock.attempt() else {
            count(&self.counts().busy, 1);
            return Claim::Busy;
        };
        let mut chain = match store.find(hash, scratch, check) {
            Found::Taken(id) => return Claim::Existing(id),
            Found::Nothing(chain) => chain,
            Found::TooLong => CHAIN_MAX,
        };
        // Purged objects that nobody has swept must not fill the chain: one goes for each that comes.
        let marked =
            if chain >= CHAIN_TIDY && room { store.take_out_marked(&guard, at, hash as u32) } else { None };
        if marked.is_some() {
            chain -= 1;
        }
        if chain >= CHAIN_MAX || !room {
            drop(guard);
            if room {
                count(&self.counts().chain_too_long, 1);
            }
            if let Some(marked) = marked {
                self.retire_object(marked);
            }
            return Claim::Full;
        }
        let object = self.own_headers.pop(&HeaderLinks(&store.headers)).expect("`ensure` has brought one");
        let blob = store.chunks.write_blob(&mut self.own_chunks, key_blob);
        let ghost = store.ghost(at).take(hash as u32);
        store.start(object, hash as u32, blob, FILLING | if ghost { GHOST } else { 0 });
        shard::link(&guard, store.bucket(hash as u32), &store.headers, object);
        // A purge either finds the object from here on, or counted before we look. See `purge`.
        fence(SeqCst);
        let purged = since.is_some_and(|s| s != self.purge_epoch(hash));
        if purged {
            shard::unlink(&guard, store.bucket(hash as u32), &store.headers, object);
            let h = &store.headers[object as usize];
            h.set(FAILED);
            h.clear(LINKED | FILLING);
            let last = h.pins.unpin();
            debug_assert!(!last, "not an orphan yet");
        }
        drop(guard);
        if ghost {
            count(&self.counts().ghost_hits, 1);
        }
        if let Some(marked) = marked {
            self.retire_object(marked);
        }
        if purged {
            self.retire_object(object);
            return Claim::Purged;
        }
        let tail = Tail { chunk: NONE, index_chunk: NONE, written: 0 };
        Claim::New(Fill { id: self.store.id(object), tail })
    }

    /// Replaces the key by the whole head, and wakes those who wait for it.
    ///
    /// # Errors
    /// [`HeadError`]; the blob is the key's still.
    pub fn set_head(&mut self, fill: &mut Fill, blob: &[u8]) -> Result<(), HeadError> {
        self.swing_head(fill.id, blob)?;
        // After the blob: who sees the flag sees the head.
        self.store.headers[fill.id.index as usize].set(HEADED);
        self.wake_waiting(fill.id);
        Ok(())
    }

    fn swing_head(&mut self, id: ObjectId, blob: &[u8]) -> Result<(), HeadError> {
        if blob.len() > self.store.head_bytes_max() {
            return Err(HeadError::TooLarge);
        }
        if !self.ensure(blob_chunks(blob.len()), 0) || !self.retired_room(true) {
            return Err(HeadError::NoRoom);
        }
        let first = self.store.chunks.write_blob(&mut self.own_chunks, blob);
        let old = Chunks::swing(self.store.header(id), first);
        self.retire_blob(old);
        Ok(())
    }

    /// Writes body bytes; readers see them after [`Handle::publish`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing has been written then.
    pub fn append(&mut self, fill: &mut Fill, bytes: &[u8]) -> Result<(), AppendError> {
        if fill.len() + bytes.len() as u64 > self.store.config.object_bytes_max {
            return Err(AppendError::TooLarge);
        }
        if !self.ensure(Chunks::append_cost(&fill.tail, bytes.len()), 0) {
            return Err(AppendError::NoRoom);
        }
        let store = &*self.store;
        store.chunks.append(store.header(fill.id), &mut fill.tail, &mut self.own_chunks, bytes);
        Ok(())
    }

    /// Shows readers what was appended, and wakes the cores that wait for it.
    pub fn publish(&mut self, fill: &Fill) {
        let mask = self.store.header(fill.id).growth.publish(fill.len());
        self.store.post(fill.id, mask);
    }

    /// The body is whole. `replaces`, an older object of the same hash and identity, is gone for new requests. The id
    /// that is given stays valid for this pass.
    pub fn finish(&mut self, fill: Fill, replaces: Option<ObjectId>) -> ObjectId {
        self.end(&fill, FILLING | COMPLETE);
        if let Some(old) = replaces.and_then(|id| self.store.resolve(id)) {
            old.set(DOOMED);
        }
        self.settle_fill(fill.id.index, replaces);
        fill.id
    }

    /// The fill broke off. Readers that hold the object may read what was appended, and see that it failed.
    pub fn fail(&mut self, fill: Fill) {
        self.end(&fill, FILLING | FAILED);
        self.settle_fill(fill.id.index, None);
    }

    /// The response may not be stored: turns the object into a small marker with `blob`, for which new requests go
    /// uncached. If there is a body already, or no room for the blob, the fill fails, and `false` is given.
    pub fn fill_pass(&mut self, fill: Fill, blob: &[u8], replaces: Option<ObjectId>) -> bool {
        if !fill.is_empty() || self.swing_head(fill.id, blob).is_err() {
            self.fail(fill);
            return false;
        }
        self.store.header(fill.id).set(HEADED);
        self.end(&fill, FILLING | PASS);
        if let Some(old) = replaces.and_then(|id| self.store.resolve(id)) {
            old.set(DOOMED);
        }
        self.settle_fill(fill.id.index, replaces);
        true
    }

    /// Publishes the final length, turns the flags over, and wakes everybody.
    fn end(&mut self, fill: &Fill, flip: u32) {
        let h = self.store.header(fill.id);
        h.tail.store(fill.tail.chunk, Relaxed);
        let mut mask = h.growth.publish(fill.len());
        // After the length: who sees the end sees all of it. One is set and the other is not.
        h.state.fetch_xor(flip, AcqRel);
        mask |= h.growth.take_waiting();
        self.store.post(fill.id, mask);
    }

    /// What of the end of a fill needs the shard's lock; put off when it is not to be had. Gives the writer's pin
    /// back.
    fn settle_fill(&mut self, object: u32, replaces: Option<ObjectId>) {
        let room = self.retired_room(true);
        let store = &*self.store;
        let h = &store.headers[object as usize];
        let hash = h.hash.load(Relaxed);
        let at = store.shard(hash);
        let Some(guard) = store.shards[at].lock.attempt() else {
            self.unfinished.push_back(Unfinished { object, replaces });
            return;
        };
        let mut gone = ArrayVec::<u32, 2>::new();
        let (mut refused, now) = (false, store.now());
        let raw = h.raw_state();
        if raw & LINKED != 0 {
            let wanted = is_visible(raw, store.stamp());
            refused = wanted && raw & GHOST == 0 && store.is_too_much(charge(h));
            if wanted && !refused {
                store.shards[at].enqueue(&guard, &store.headers, object, now, raw & GHOST == 0);
                count(&self.counts().inserted_chunks, charge(h));
            } else if room {
                shard::unlink(&guard, store.bucket(hash), &store.headers, object);
                h.clear(LINKED);
                gone.push(object);
            } else {
                // Eviction will come by.
                h.set(DOOMED);
                store.shards[at].enqueue(&guard, &store.headers, object, now, true);
            }
            if refused {
                store.ghost(at).insert(hash, charge(h) as u32);
            }
        }
        if let Some(id) = replaces
            && room
            && store.take_out(&guard, at, id)
        {
            gone.push(id.index);
        }
        drop(guard);
        if refused {
            count(&self.counts().not_admitted, 1);
        }
        for i in gone {
            self.retire_object(i);
        }
        if self.store.headers[object as usize].pins.unpin() {
            self.release(object);
        }
    }

    /// Tries again what could not be settled.
    pub(super) fn finish_unfinished(&mut self) {
        for _ in 0..self.unfinished.len() {
            let Some(u) = self.unfinished.pop_front() else { break };
            self.settle_fill(u.object, u.replaces);
        }
    }

    /// Takes an object out of the index: at once for new requests, its memory as soon as may be. Nothing happens if
    /// it is out already.
    pub fn unlink(&mut self, id: ObjectId) {
        let Some(h) = self.awake().resolve(id) else { return };
        h.set(DOOMED);
        let at = self.store.shard(h.hash.load(Relaxed));
        // Otherwise eviction, or the end of the fill, comes by.
        if self.retired_room(true) {
            let store = &*self.store;
            let Some(guard) = store.shards[at].lock.attempt() else { return };
            let taken = store.take_out(&guard, at, id);
            drop(guard);
            if taken {
                self.retire_object(id.index);
            }
        }
    }

    /// After a 304: a new head for the same body. Ends a soft purge, unless that came after
    /// [`Handle::begin_revalidation`].
    ///
    /// # Errors
    /// [`HeadError`]; the head is the old one still.
    pub fn replace_head(&mut self, id: ObjectId, blob: &[u8]) -> Result<(), HeadError> {
        // Linked now, so its memory is not counted as pinned before this pass is over.
        if self.store.resolve(id).is_none() {
            return Err(HeadError::Gone);
        }
        self.swing_head(id, blob)?;
        let (h, stamp) = (self.store.header(id), self.store.stamp());
        // Others change bits of this word a few times in its life: a few turns are enough, and no harm if not.
        for _ in 0..16 {
            let raw = h.raw_state();
            if raw & SOFT_NEW != 0 || (raw ^ stamp) & SOFT_STAMP != 0 {
                break;
            }
            if h.state.compare_exchange(raw, raw & !SOFT, AcqRel, Relaxed).is_ok() {
                break;
            }
        }
        Ok(())
    }

    /// True for the one caller that may revalidate the object; it has to call [`Handle::end_revalidation`], and to
    /// pin the object meanwhile.
    pub fn begin_revalidation(&mut self, id: ObjectId) -> bool {
        let (h, stamp) = (self.store.header(id), self.store.stamp());
        for _ in 0..16 {
            let raw = h.raw_state();
            if raw & REVALIDATING != 0 || !is_visible(raw, stamp) {
                return false;
            }
            let mut new = (raw | REVALIDATING) & !SOFT_NEW;
            if (raw ^ stamp) & SOFT_STAMP != 0 {
                new = new & !SOFT_STAMP | stamp & SOFT_STAMP | SOFT;
            }
            if h.state.compare_exchange(raw, new, AcqRel, Relaxed).is_ok() {
                return true;
            }
        }
        false
    }

    /// The revalidation is over, however it ended. Wakes those who wait for it.
    pub fn end_revalidation(&mut self, id: ObjectId) {
        self.store.header(id).clear(REVALIDATING);
        self.wake_waiting(id);
    }

    fn wake_waiting(&mut self, id: ObjectId) {
        let mask = self.store.header(id).growth.take_waiting();
        self.store.post(id, mask);
    }
}

impl Store {
    /// The admission rule: an object that would push a good part of the small queue out has to be asked for twice,
    /// unless there is room anyway.
    fn is_too_much(&self, charge: u64) -> bool {
        charge > self.margins.admit_chunks
            && self.free_chunks.free() < charge + 4 * self.margins.reserve_chunks
    }

    /// A new life of a header that nobody else reaches yet.
    fn start(&self, object: u32, hash: u32, blob: u32, flags: u32) {
        let h = &self.headers[object as usize];
        debug_assert_eq!(h.raw_state(), 0, "the header is in use");
        h.hash.store(hash, Relaxed);
        h.head.store(blob, Relaxed);
        for none in [&h.body, &h.index, &h.tail] {
            none.store(NONE, Relaxed);
        }
        h.growth.reset();
        // The writer's.
        h.pins.reset(1);
        h.state.store(flags | LINKED | self.stamp(), Release);
    }

    /// Takes one object that is marked as gone out of a chain. The caller retires it.
    fn take_out_marked(&self, guard: &super::lock::Guard<'_>, at: usize, hash: u32) -> Option<u32> {
        let mut index = self.bucket(hash).load(Relaxed);
        for _ in 0..CHAIN_MAX {
            let h = self.headers.get(index as usize)?;
            if h.raw_state() & DOOMED != 0 && self.take_out(guard, at, self.id(index)) {
                return Some(index);
            }
            index = h.next.load(Relaxed);
        }
        None
    }

    /// Takes an object out of its queue and chain, if it is linked still. The caller retires it.
    pub(super) fn take_out(&self, guard: &super::lock::Guard<'_>, at: usize, id: ObjectId) -> bool {
        let Some(h) = self.resolve(id) else { return false };
        let hash = h.hash.load(Relaxed);
        if self.shard(hash) != at {
            debug_assert!(false, "an object of another shard");
            return false;
        }
        self.shards[at].dequeue(guard, &self.headers, id.index);
        shard::unlink(guard, self.bucket(hash), &self.headers, id.index);
        h.clear(LINKED);
        true
    }
}
