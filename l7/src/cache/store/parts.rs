//! Objects that are parts of something: a URL's slices have hashes of their own, however many there are, so no chain
//! leads to all of them. What makes them invalid is noted by the URL's hash, as the moment before which a part must
//! have been fetched or confirmed; whoever finds one compares.
//!
//! Several URLs share a place in the table: a part of another one is then fetched once more than it had to be.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::handle::Handle;
use super::{Store, URL_PURGES};

impl Handle {
    /// The parts under the URL with this hash are gone, if they came at `until_ms` or before.
    pub fn drop_parts(&self, url_hash: u64, until_ms: u64) {
        self.store().parts_gone[url_hash as usize % URL_PURGES].fetch_max(until_ms, AcqRel);
    }

    /// Until when parts under the URL with this hash are gone.
    pub fn parts_gone_until(&self, url_hash: u64) -> u64 {
        self.store().parts_gone[url_hash as usize % URL_PURGES].load(Acquire)
    }

    /// There are parts in the store from now on.
    pub fn note_parts(&self) {
        let noted = &self.store().has_parts;
        if !noted.load(Relaxed) {
            noted.store(true, Release);
        }
    }

    /// Counts a request for the key with this hash that found nothing. Gives how many there have been lately.
    pub fn count_request(&self, hash: u64, now_s: u64) -> u8 {
        super::frequency::Frequency(&self.store().asked).ask(hash, now_s)
    }
}

impl Store {
    /// Whether there have ever been objects that are parts.
    pub fn has_parts(&self) -> bool {
        self.has_parts.load(Acquire)
    }
}

#[cfg(test)]
mod tests {
    use hugepages::PagePolicy;

    use crate::cache::store::{Store, StoreConfig};

    #[test]
    fn what_is_noted_of_parts() {
        let config = StoreConfig::for_bytes(1 << 20, 2, [1, 2]);
        let store = Store::reserve(config, PagePolicy::NormalOnly, Box::new(|_| {})).expect("memory");
        let (mut a, b) = (store.handle(0), store.handle(1));
        assert!(!store.has_parts());
        a.note_parts();
        assert!(store.has_parts());
        a.drop_parts(7, 1000);
        b.drop_parts(7, 900);
        assert_eq!((b.parts_gone_until(7), b.parts_gone_until(8)), (1000, 0), "the latest counts");
        // Both cores count requests in one table.
        assert_eq!((a.count_request(9, 5), b.count_request(9, 5), a.count_request(1 << 40, 5)), (1, 2, 1));
        a.quiescent();
    }
}
