//! Room: magazines, and eviction ahead of need.
//!
//! What is evicted comes back only when its epoch has passed, so eviction aims at a reserve: free chunks and those
//! about to come back, together, stay above `Margins::reserve` plus what is asked for. It runs when a magazine is
//! refilled, and looks at a bounded number of objects; what it does not reach in one turn, the next one does.

use arrayvec::ArrayVec;

use super::handle::Handle;
use super::header::{DOOMED, LINKED, PASS};
use super::shard::{self, Step, charge};
use super::stats::count;
use super::{HeaderLinks, Store, StoreConfig};

/// Objects looked at under one lock.
const BATCH: usize = 4;
/// Objects looked at for one refill, besides four for each chunk or header that is missing (of so many).
const STEPS: usize = 64;
const MISSING_MAX: u64 = 256;
/// Shards of which the one with the oldest object is taken.
const CHOICES: usize = 8;
/// The part of the bytes that new objects may take.
const SMALL_SHARE: u64 = 10;

/// How much is taken at a time, and kept free.
pub(super) struct Margins {
    magazine_chunks: u32,
    magazine_headers: u32,
    pub(super) reserve_chunks: u64,
    reserve_headers: u64,
    /// An object of more chunks than this must have been asked for before, lately.
    pub(super) admit_chunks: u64,
}

impl Margins {
    pub(super) fn new(c: &StoreConfig) -> Margins {
        let (chunks, objects) = (c.chunks(), c.objects_max);
        let magazine_chunks = (chunks / (c.participants * 64)).clamp(4, 64);
        let magazine_headers = (objects / (c.participants * 64)).clamp(1, 16);
        let reserve = |total: u32, magazine: u32| {
            u64::from((total / 128).max(2 * c.participants * magazine).min(total / 8))
        };
        Margins {
            magazine_chunks,
            magazine_headers,
            reserve_chunks: reserve(chunks, magazine_chunks),
            reserve_headers: reserve(objects, magazine_headers),
            admit_chunks: u64::from(chunks / ADMIT_SHARE).max(8),
        }
    }
}

/// The part of the cache above which an object must be a ghost to be kept: half of what new objects may take.
const ADMIT_SHARE: u32 = 20;

impl Handle {
    /// Brings that many chunks and headers into the magazines, or says that there is no room.
    #[inline]
    pub(super) fn ensure(&mut self, chunks: u32, headers: u32) -> bool {
        (self.own_chunks.count >= chunks && self.own_headers.count >= headers) || self.refill(chunks, headers)
    }

    #[cold]
    fn refill(&mut self, chunks: u32, headers: u32) -> bool {
        let (magazine_chunks, magazine_headers) =
            (self.store.margins.magazine_chunks, self.store.margins.magazine_headers);
        self.evict_ahead(chunks.saturating_sub(self.own_chunks.count), headers);
        let (store, home) = (&*self.store, self.participant());
        while self.own_chunks.count < chunks {
            let want = (chunks - self.own_chunks.count).max(magazine_chunks);
            let got = store.free_chunks.take(&store.chunks, home, want);
            if got.count == 0 {
                break;
            }
            self.own_chunks.splice(&store.chunks, got);
        }
        let links = HeaderLinks(&store.headers);
        if self.own_headers.count < headers {
            let got = store.free_headers.take(&links, home, magazine_headers.max(headers));
            self.own_headers.splice(&links, got);
        }
        let enough = self.own_chunks.count >= chunks && self.own_headers.count >= headers;
        if !enough {
            count(&self.counts().no_room, 1);
        }
        enough
    }

    fn evict_ahead(&mut self, chunks: u32, headers: u32) {
        let margins = &self.store.margins;
        let want_chunks = margins.reserve_chunks + u64::from(chunks);
        let want_headers = margins.reserve_headers + u64::from(headers);
        let (mut have_chunks, mut have_headers) = self.coming();
        // An object in use is passed over up to three times before it goes, and may hold a single chunk: what is missing
        // tells how far to look, and what one turn does not reach makes the next one look further.
        let missing = want_chunks.saturating_sub(have_chunks) + want_headers.saturating_sub(have_headers);
        let mut steps = STEPS + 4 * missing.min(MISSING_MAX) as usize;
        while (have_chunks < want_chunks || have_headers < want_headers) && steps > 0 {
            if !self.retired_room(false) {
                count(&self.counts().retired_full, 1);
                return;
            }
            steps = steps.saturating_sub(BATCH);
            let mut gone = ArrayVec::<u32, BATCH>::new();
            let store = &*self.store;
            let (n, now) = (store.shards.len(), store.now());
            let sum = |small| store.shards.iter().map(|s| s.queue(small).chunks()).sum::<u64>();
            let (in_small, in_main) = (sum(true), sum(false));
            let small = in_small * SMALL_SHARE > in_small + in_main || in_main == 0;
            self.hand = (self.hand + 1) % n;
            let ages = (0..CHOICES.min(n)).map(|k| (self.hand + k) % n);
            let ages = ages.filter_map(|s| Some((store.shards[s].queue(small).age(now)?, s)));
            let Some((_, at)) = ages.max() else { continue };
            store.evict_from(at, now, small, |i, chunks| {
                gone.push(i);
                have_chunks += chunks;
                have_headers += 1;
                have_chunks < want_chunks || have_headers < want_headers
            });
            count(&self.counts().evictions, gone.len() as u64);
            for i in gone {
                self.retire_object(i);
            }
        }
    }
}

impl Store {
    /// Looks at a batch of objects of one shard; those that go are unlinked and told to `gone`, with their chunks,
    /// until that says that it is enough.
    fn evict_from(&self, at: usize, now: u32, small: bool, mut gone: impl FnMut(u32, u64) -> bool) {
        let shard = &self.shards[at];
        let Some(guard) = shard.lock.attempt() else { return };
        for _ in 0..BATCH {
            match shard.step(&guard, &self.headers, now, small) {
                Step::Evict(object) => {
                    let h = &self.headers[object as usize];
                    let hash = h.hash.load(std::sync::atomic::Ordering::Relaxed);
                    if small && h.raw_state() & (DOOMED | PASS) == 0 {
                        self.ghost(at).insert(hash, charge(h) as u32);
                    }
                    shard::unlink(&guard, self.bucket(hash), &self.headers, object);
                    h.clear(LINKED);
                    if !gone(object, u64::from(self.chunks.object_chunks(h))) {
                        return;
                    }
                }
                Step::Moved => {}
                Step::Empty => return,
            }
        }
    }
}
