//! The shared object store (skeleton: signatures first).

mod config;
mod handle;
mod header;

use std::sync::Arc;

use hugepages::{Footprint, PagePolicy, ReserveError};

pub use config::{ConfigError, StoreConfig};
pub use handle::{
    AppendError, Claim, Cursor, Fill, Handle, HeadError, ObjectView, Pick, Progress, PurgeEpoch, Wake,
};
pub use header::{ObjectId, State};

/// Why there is no store.
#[derive(Debug)]
pub enum StoreError {
    /// The configuration contradicts itself.
    Config(ConfigError),
    /// The memory could not be had.
    Reserve(ReserveError),
}

/// What the store has done and holds, read from counters that each participant writes for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Object headers in use (linked, being filled, or waiting to be reclaimed).
    pub objects: u64,
    /// Bytes of chunks in use, by whole chunks.
    pub bytes_used: u64,
    /// Bytes of chunks in all.
    pub bytes_total: u64,
    /// Bytes of objects that are out of the index and held by pins only.
    pub bytes_pinned: u64,
    /// Objects evicted.
    pub evictions: u64,
    /// Claims of a key that was evicted lately.
    pub ghost_hits: u64,
    /// Objects not kept by the admission rule.
    pub not_admitted: u64,
    /// Claims that did not get the shard's lock.
    pub busy: u64,
    /// Allocations that found no room.
    pub no_room: u64,
    /// Look-ups that gave up on a long chain.
    pub chain_too_long: u64,
    /// Objects purged.
    pub purged: u64,
}

/// The store itself: shared by all cores through an `Arc`, used through a [`Handle`] each.
pub struct Store {}

impl Store {
    /// Reserves everything. `wake(core)` rings that participant's bell: it is called after something was
    /// posted into its mailbox, from any participant's thread.
    pub fn reserve(
        _config: StoreConfig,
        _policy: PagePolicy,
        _wake: Box<dyn Fn(usize) + Send + Sync>,
    ) -> Result<Arc<Store>, StoreError> {
        unimplemented!()
    }
    /// The handle of one participant. One at a time: taking it twice panics.
    pub fn handle(self: &Arc<Self>, _participant: usize) -> Handle {
        unimplemented!()
    }
    /// Keyed SipHash-1-3.
    pub fn hash(&self, _key: &[u8]) -> u64 {
        unimplemented!()
    }
    /// Bytes that a scratch buffer needs to hold every head blob.
    pub fn head_bytes_max(&self) -> usize {
        unimplemented!()
    }
    /// The memory, pool by pool.
    pub fn footprint(&self) -> Footprint {
        unimplemented!()
    }
    /// Sums over all participants.
    pub fn stats(&self) -> StoreStats {
        unimplemented!()
    }
}
