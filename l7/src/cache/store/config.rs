//! What fixes the store's size, and what it costs.

use std::fmt;

use dataplane::epoch::PARTICIPANTS_MAX;
use hugepages::Footprint;

use super::header::Header;
use super::memory::CHUNK_BYTES;
use super::{frequency, ghost};

/// The store's bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of chunks: heads and bodies. The index beside them is extra: see [`StoreConfig::footprint`].
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

/// A configuration that cannot work, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError(pub &'static str);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Memory per object that is not a chunk: header, bucket, ghost entry, a quarter of an entry of who was asked for.
const OBJECT_COST: u64 = size_of::<Header>() as u64 + 8 + 8 + 2;
/// What an object takes in all, at least on average: fewer objects than that leave headers unused.
const OBJECT_MEAN: u64 = 1536;
/// A chunk and its link.
const CHUNK_COST: u64 = CHUNK_BYTES as u64 + 4;

impl StoreConfig {
    /// Derives everything from the memory that the cache may take in all, index included.
    pub fn for_bytes(bytes: u64, participants: u32, hash_key: [u64; 2]) -> StoreConfig {
        let bytes = bytes.max(1 << 20);
        let objects = (bytes / OBJECT_MEAN).clamp(64, 1 << 31);
        let chunks = bytes.saturating_sub(objects * OBJECT_COST) / CHUNK_COST;
        let chunks = chunks.min(u64::from(u32::MAX) - 1);
        let stored = chunks * CHUNK_BYTES as u64;
        // More locks than cores, as long as a shard holds enough to be a cache of its own.
        let shards = (u64::from(participants) * 4).next_power_of_two().min(64);
        let shards = shards.min((stored >> 22).max(1).next_power_of_two());
        StoreConfig {
            bytes: stored,
            objects_max: objects as u32,
            participants,
            object_bytes_max: stored / 8,
            head_bytes_max: 32 << 10,
            pinned_bytes_max: stored / 8,
            hash_key,
            shards: shards as u32,
            wakes_max: 4096,
        }
    }

    /// Whether it can work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let chunks = self.bytes / CHUNK_BYTES as u64;
        let all = [
            (self.shards.is_power_of_two(), "shards must be a power of two"),
            (self.shards <= self.buckets(), "fewer shards than buckets, please"),
            ((1..=PARTICIPANTS_MAX as u32).contains(&self.participants), "participants must be 1 to 64"),
            (chunks >= 64, "bytes must be 64 chunks (32 KiB) at least"),
            (chunks < u64::from(u32::MAX), "bytes must be below 2 TiB"),
            ((16..=1 << 31).contains(&self.objects_max), "objects_max must be 16 to 2^31"),
            (self.wakes_max > 0, "wakes_max must be 1 at least"),
            (
                u64::from(self.head_bytes_max) <= self.bytes / 4,
                "head_bytes_max must be a quarter of bytes at most",
            ),
        ];
        all.iter().find(|(fine, _)| !fine).map_or(Ok(()), |(_, why)| Err(ConfigError(why)))
    }

    pub(super) fn chunks(&self) -> u32 {
        (self.bytes / CHUNK_BYTES as u64) as u32
    }

    pub(super) fn buckets(&self) -> u32 {
        self.objects_max.next_power_of_two()
    }

    pub(super) fn ghosts(&self) -> usize {
        ghost::entries_for(self.objects_max / self.shards.max(1)) * self.shards as usize
    }

    pub(super) fn asked(&self) -> usize {
        frequency::entries_for(self.objects_max)
    }

    /// The memory, pool by pool.
    pub fn footprint(&self) -> Footprint {
        let mut f = Footprint::default();
        let objects = u64::from(self.objects_max);
        f.add("cache chunks", u64::from(self.chunks()), CHUNK_BYTES as u64, "heads and bodies");
        f.add("cache links", u64::from(self.chunks()), 4, "the chunk after each");
        f.add("cache objects", objects, size_of::<Header>() as u64, "headers");
        f.add("cache buckets", u64::from(self.buckets()), 4, "one an object, to the next power of two");
        f.add("cache ghosts", self.ghosts() as u64, 8, "keys evicted lately");
        f.add("cache requests", self.asked() as u64, 8, "how often keys were asked for");
        f.add(
            "cache mailboxes",
            u64::from(self.participants) * u64::from(self.wakes_max),
            16,
            "wake-ups of waiters",
        );
        f
    }

    /// Bytes that an object of `head` and `body` bytes takes beyond them, slack of the last chunks not counted:
    /// header, bucket, ghost and request entries, links, and the head's length.
    pub fn overhead_bytes(&self, head: usize, body: usize) -> u64 {
        let chunks = (head + 4).div_ceil(CHUNK_BYTES) + body.div_ceil(CHUNK_BYTES);
        let index =
            (body / CHUNK_BYTES / super::chain::INDEX_STEP).div_ceil(super::chain::INDEX_SLOTS) * CHUNK_BYTES;
        let buckets = u64::from(self.buckets()) * 4;
        let shared =
            (buckets + (self.ghosts() + self.asked()) as u64 * 8).div_ceil(u64::from(self.objects_max));
        size_of::<Header>() as u64 + shared + 4 * chunks as u64 + 4 + index as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_a_kibibyte_costs_128_bytes_at_most() {
        for mib in [1, 16, 100, 1024, 16 << 10] {
            let c = StoreConfig::for_bytes(mib << 20, 3, [1, 2]);
            assert!(c.overhead_bytes(300, 1024) <= 128, "{mib} MiB: {}", c.overhead_bytes(300, 1024));
        }
    }

    #[test]
    fn the_footprint_keeps_to_the_bytes_asked_for() {
        for mib in [1, 7, 64, 1000, 4096] {
            let c = StoreConfig::for_bytes(mib << 20, 4, [1, 2]);
            c.check().unwrap();
            let mailboxes = 4 * 4096 * 16;
            let index = c.footprint().bytes() - mailboxes;
            assert!(index <= mib << 20, "{mib} MiB:\n{}", c.footprint());
            assert!(index > (mib << 20) * 95 / 100, "{mib} MiB:\n{}", c.footprint());
        }
        let c = StoreConfig::for_bytes(64 << 20, 4, [1, 2]);
        println!(
            "{}\noverhead of 1 KiB with a head of 300 B: {} B",
            c.footprint(),
            c.overhead_bytes(300, 1024)
        );
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let fine = StoreConfig::for_bytes(1 << 20, 2, [1, 2]);
        assert_eq!(
            StoreConfig { shards: 3, ..fine.clone() }.check().unwrap_err().0,
            "shards must be a power of two"
        );
        assert!(StoreConfig { participants: 65, ..fine.clone() }.check().is_err());
        assert!(StoreConfig { participants: 0, ..fine.clone() }.check().is_err());
        assert!(StoreConfig { bytes: 1 << 42, ..fine }.check().is_err());
    }
}
