//! The shared object store: one for all cores, in memory reserved at start; reads take no lock.
//!
//! ```text
//!   hash ─► bucket ─► header ─► header ─► …        an object: header (64 B) + head blob + body, in chunks of 512 B
//!           (u32)       │ head ─► blob chunks      (opaque here: facts, key, stored response head)
//!                       │ body ─► chunk ─► chunk   (grows while it is filled; readers follow the published length)
//!                       │ index ► every 128th      (seeks)
//!
//!   core A: Handle ── lookup, read, pin ─────────► no lock, no read-modify-write but a hit's count (at most 3)
//!           Handle ── claim, finish, unlink ─────► the shard's try-lock
//!                     append ────────────────────► its own magazine of chunks; eviction ahead of need
//!   core B: Handle … its mailbox ◄── publish: the object's id, then wake(B)
//! ```
//!
//! # What a caller may rely on
//!
//! - **A pass.** Between two calls of [`Handle::quiescent`], an [`ObjectId`] that a look-up gave stays readable,
//!   whatever others do. Beyond that it needs a pin, taken in the pass in which it was found. Nothing that points
//!   into the store outlives a call: blobs are copied out, bodies are handed to closures.
//! - **One writer.** A [`Fill`] is the only right to write an object, and cannot be copied. It keeps the object's
//!   memory. It must be given back: [`Handle::finish`], [`Handle::fill_pass`] or [`Handle::fail`].
//! - **Growth.** A reader that has read everything and sees a filling object calls [`Handle::wait_for`] with what it
//!   has seen; `false` means that there is more already. Otherwise its core's mailbox gets the id, once, when the
//!   object moves on. Pin what you wait for.
//! - **Room.** Eviction runs before memory is needed, because what is evicted comes back only after an epoch: a small
//!   part of the chunks is kept free for the passes in between. When even that is gone, `NoRoom`.
//!
//! # Life of an object, and of its memory
//!
//! ```text
//!            claim                    finish                  eviction, replaced, purge, unlink
//!    free ─────────► FILLING ─────────────────► COMPLETE ───────────────────────────┐
//!     ▲              LINKED │                   LINKED, in a queue                  ▼
//!     │                     ├─ fail ──────────────────────────────────────► not LINKED: found no more
//!     │                     └─ purge: not LINKED, filled on for its readers         │ retired list of who unlinked it
//!     │                                                                             ▼ its tag passes
//!     └───── generation + 1 ◄── no pin ──────────────────────────────────── orphan ─┤
//!                             ◄── the last unpin (the writer's is one) ─────────────┘
//! ```
//!
//! # Memory ordering
//!
//! | stored | by release, after | loaded by acquire in | so that |
//! |---|---|---|---|
//! | bucket, `next` | the header's fields, the blob | look-up | a found object is whole |
//! | `head` | the blob's chunks | look-up, `view` | a blob is read whole, old or new |
//! | `len` | body bytes, links, index entries | `read`, `progress` | what is below it is there |
//! | `state` | `len`, `head`, `tail` | look-up, `progress` | complete or failed means that `len` is final |
//! | `generation` (free) then `LINKED` (claim) | each other | `resolve` | a stale id is noticed |
//!
//! Two pairs need full fences, being a store before a load of the other's word on both sides: waiter and publisher
//! ([`dataplane::pins::Growth`]), and a late claim and a purge (`purge`). Epochs and pins are argued in
//! [`dataplane::epoch`] and [`dataplane::pins`], and model-checked (scripts/checks/loom.sh); the queues, the ghosts
//! and the chains' changes are under the shard's lock; free lists under their stripe's.

mod chain;
mod config;
mod evict;
mod fill;
mod frequency;
mod ghost;
mod handle;
mod header;
mod lock;
mod lookup;
mod memory;
mod parts;
mod pool;
mod purge;
mod read;
mod shard;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_queue::ArrayQueue;
use dataplane::epoch::Epochs;
use dataplane::sip;
use hugepages::{Arena, FixedVec, Footprint, PagePolicy, ReserveError, prefetch};

pub use chain::Cursor;
pub use config::{ConfigError, StoreConfig};
pub use fill::{AppendError, Claim, Fill, HeadError};
pub use handle::Handle;
pub use header::{ObjectId, State};
pub use lookup::{ObjectView, Pick};
pub use purge::PurgeEpoch;
use purge::URL_PURGES;
pub use read::{Progress, Wake};
pub use stats::StoreStats;

use evict::Margins;
use ghost::Ghost;
use handle::Retired;
use header::Header;
use memory::{Chunks, NONE};
use pool::{FreePool, Links};
use shard::Shard;
use stats::Counts;

/// Why there is no store.
#[derive(Debug)]
pub enum StoreError {
    /// The configuration contradicts itself.
    Config(ConfigError),
    /// The memory could not be had.
    Reserve(ReserveError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Config(e) => write!(f, "cache: {e}"),
            StoreError::Reserve(e) => write!(f, "cache: {e}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// What belongs to one participant, and others reach.
#[repr(align(128))]
struct Seat {
    /// Ids of objects that moved on.
    mailbox: ArrayQueue<u64>,
    /// One did not fit into the mailbox.
    overflow: AtomicBool,
    counts: Counts,
    /// What the last handle of this seat left to be reclaimed. Only touched when a handle comes or goes.
    left: Mutex<Option<Retired>>,
}

/// The store itself: shared by all cores through an `Arc`, used through a [`Handle`] each.
pub struct Store {
    config: StoreConfig,
    headers: FixedVec<Header>,
    buckets: FixedVec<AtomicU32>,
    ghosts: FixedVec<AtomicU64>,
    /// How often keys have been asked for.
    asked: FixedVec<AtomicU64>,
    chunks: Chunks,
    free_chunks: FreePool,
    free_headers: FreePool,
    shards: Box<[Shard]>,
    margins: Margins,
    /// The hard and soft purges of everything so far, as in a header's state.
    stamp: AtomicU32,
    purges: AtomicU64,
    /// Purges by hash, by a part of that: one URL's do not concern the late claims of all others.
    url_purges: Box<[AtomicU64; URL_PURGES]>,
    /// See `parts`.
    parts_gone: Box<[AtomicU64; URL_PURGES]>,
    has_parts: AtomicBool,
    /// One purge at a time: control threads only.
    purging: Mutex<()>,
    epochs: Arc<Epochs>,
    seats: Box<[Seat]>,
    /// Chunks of objects that only pins hold.
    pinned_chunks: AtomicU64,
    wake: Box<dyn Fn(usize) + Send + Sync>,
}

struct HeaderLinks<'a>(&'a [Header]);

impl Links for HeaderLinks<'_> {
    #[inline]
    fn link(&self, i: u32) -> &AtomicU32 {
        &self.0[i as usize].fifo_next
    }
}

impl Store {
    /// Reserves everything. `wake(core)` rings that participant's bell: it is called after something was posted
    /// into its mailbox, on the thread of whoever posted.
    ///
    /// # Errors
    /// [`StoreError`] when `config` contradicts itself, or the memory cannot be had.
    pub fn reserve(
        config: StoreConfig,
        policy: PagePolicy,
        wake: Box<dyn Fn(usize) + Send + Sync>,
    ) -> Result<Arc<Store>, StoreError> {
        config.check().map_err(StoreError::Config)?;
        let (chunks, objects) = (config.chunks(), config.objects_max as usize);
        let cost = Arena::cost::<Header>(objects)
            + Arena::cost::<AtomicU32>(config.buckets() as usize)
            + Arena::cost::<AtomicU64>(config.ghosts())
            + Arena::cost::<AtomicU64>(config.asked())
            + Chunks::links_cost(chunks as usize);
        let mut arena = Arena::reserve(cost, policy).map_err(StoreError::Reserve)?;
        let small = || StoreError::Config(ConfigError("the arena is smaller than its arrays"));
        let headers = arena.array(objects, |_| Header::free()).ok_or_else(small)?;
        let buckets = arena.array(config.buckets() as usize, |_| AtomicU32::new(NONE)).ok_or_else(small)?;
        let ghosts = arena.array(config.ghosts(), |_| AtomicU64::new(0)).ok_or_else(small)?;
        let asked = arena.array(config.asked(), |_| AtomicU64::new(0)).ok_or_else(small)?;
        let chunks = Chunks::reserve(chunks, &mut arena, policy).map_err(StoreError::Reserve)?;
        let chunks = chunks.ok_or_else(small)?;
        let seats = config.participants as usize;
        // A stripe each, but not so many that a small cache is all stripes.
        let stripes = seats.min(config.chunks() as usize / 1024).clamp(1, 16);
        Ok(Arc::new(Store {
            free_chunks: FreePool::new(&chunks, config.chunks(), stripes),
            free_headers: FreePool::new(&HeaderLinks(&headers), config.objects_max, stripes),
            shards: (0..config.shards).map(|_| Shard::new()).collect(),
            margins: Margins::new(&config),
            stamp: AtomicU32::new(0),
            purges: AtomicU64::new(0),
            url_purges: Box::new([const { AtomicU64::new(0) }; URL_PURGES]),
            parts_gone: Box::new([const { AtomicU64::new(0) }; URL_PURGES]),
            has_parts: AtomicBool::new(false),
            purging: Mutex::new(()),
            epochs: Epochs::new(seats),
            seats: (0..seats).map(|_| Seat::new(config.wakes_max as usize)).collect(),
            pinned_chunks: AtomicU64::new(0),
            wake,
            headers,
            buckets,
            ghosts,
            asked,
            chunks,
            config,
        }))
    }

    /// The handle of one participant, online.
    ///
    /// # Panics
    /// When it is out already: there is one for each participant.
    pub fn handle(self: &Arc<Self>, participant: usize) -> Handle {
        Handle::new(Arc::clone(self), participant)
    }

    /// The keyed hash of a cache key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        sip::bytes(self.config.hash_key, key)
    }

    /// First step of a burst of look-ups: asks for the bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        prefetch(self.bucket(hash as u32), 1);
    }

    /// Second step: asks for the first header in the bucket.
    #[inline]
    pub fn prefetch_object(&self, hash: u64) {
        if let Some(h) = self.headers.get(self.bucket(hash as u32).load(Ordering::Acquire) as usize) {
            prefetch(h, 1);
        }
    }

    /// Third step: asks for the beginnings of that object's blob and body.
    #[inline]
    pub fn prefetch_content(&self, hash: u64) {
        if let Some(h) = self.headers.get(self.bucket(hash as u32).load(Ordering::Acquire) as usize) {
            self.chunks.prefetch(h.head.load(Ordering::Relaxed), 5);
            self.chunks.prefetch(h.body.load(Ordering::Relaxed), 3);
        }
    }

    /// Bytes that a scratch buffer needs to hold every head blob.
    pub fn head_bytes_max(&self) -> usize {
        self.config.head_bytes_max as usize
    }

    /// What it was made with.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The memory, pool by pool.
    pub fn footprint(&self) -> Footprint {
        self.config.footprint()
    }

    /// The pages that the chunks were had in.
    pub fn region(&self) -> &hugepages::Region {
        self.chunks.region()
    }

    #[inline]
    fn bucket(&self, hash: u32) -> &AtomicU32 {
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    /// Buckets of a shard are those with its low bits: a bucket has one lock.
    #[inline]
    fn shard(&self, hash: u32) -> usize {
        hash as usize & (self.shards.len() - 1)
    }

    fn ghost(&self, shard: usize) -> Ghost<'_> {
        let each = self.ghosts.len() / self.shards.len();
        Ghost {
            entries: &self.ghosts[shard * each..(shard + 1) * each],
            clock: &self.shards[shard].ghost_clock,
            // As much as the main queue holds.
            chunks_max: self.config.chunks() / self.config.shards / 10 * 9,
        }
    }

    #[inline]
    fn stamp(&self) -> u32 {
        self.stamp.load(Ordering::Acquire)
    }

    /// The header of an id that must be current. Like an index out of bounds, another one is a defect of the caller's,
    /// and must not become a read of somebody else's memory; it costs a comparison in a line that is read anyway.
    #[inline]
    fn header(&self, id: ObjectId) -> &Header {
        let h = &self.headers[id.index as usize];
        assert!(h.generation.load(Ordering::Acquire) == id.generation, "an id was kept without a pin");
        h
    }

    /// The header of an id that may be old: `None` when it has been reclaimed, or is out of the index. What is given
    /// stays valid for this pass: it was linked, with this generation, at an instant within it.
    fn resolve(&self, id: ObjectId) -> Option<&Header> {
        let h = self.headers.get(id.index as usize)?;
        let linked = h.raw_state() & header::LINKED != 0;
        // After the state: one of the next life was stored after the next generation, and would show it.
        (linked && h.generation.load(Ordering::Acquire) == id.generation).then_some(h)
    }

    fn id(&self, index: u32) -> ObjectId {
        ObjectId { index, generation: self.headers[index as usize].generation.load(Ordering::Relaxed) }
    }

    /// Posts an object's id to the cores in `mask`, and rings their bells.
    fn post(&self, id: ObjectId, mut mask: u64) {
        while mask != 0 {
            let core = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let seat = &self.seats[core];
            if seat.mailbox.push(id.to_u64()).is_err() {
                seat.overflow.store(true, Ordering::Release);
            }
            (self.wake)(core);
        }
    }
}

impl Seat {
    fn new(wakes: usize) -> Seat {
        Seat {
            mailbox: ArrayQueue::new(wakes),
            overflow: AtomicBool::new(false),
            counts: Counts::default(),
            left: Mutex::new(None),
        }
    }
}
