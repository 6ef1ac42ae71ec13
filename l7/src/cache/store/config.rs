//! What fixes the store's size.

/// The store's bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of chunks: heads and bodies.
    pub bytes: u64,
    /// Objects at most.
    pub objects_max: u32,
    /// Cores and control threads, at most 64.
    pub participants: u32,
    /// The longest body that is stored.
    pub object_bytes_max: u64,
    /// The longest head blob.
    pub head_bytes_max: u32,
    /// Bytes evicted but pinned, above which the slowest reader should go.
    pub pinned_bytes_max: u64,
    /// Secret key of the hash.
    pub hash_key: [u64; 2],
    /// Locks (and eviction queues), a power of two.
    pub shards: u32,
    /// Wake-ups that wait in a core's mailbox.
    pub wakes_max: u32,
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub &'static str);

impl StoreConfig {
    /// Derives everything from the memory that the cache may take in all (chunks and overhead).
    pub fn for_bytes(_bytes: u64, _participants: u32, _hash_key: [u64; 2]) -> StoreConfig {
        unimplemented!()
    }
}
