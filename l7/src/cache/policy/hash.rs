//! One keyed hash for keys, variants and tags: without the node's secret nobody can make two of them meet.

use dataplane::sip::{self, Sip13};

/// The node's secret; random at start, the same on every core.
#[derive(Clone, Copy, Debug)]
pub struct HashKeys(pub u64, pub u64);

impl HashKeys {
    /// The hash of a key text or a tag.
    #[inline]
    pub fn hash(&self, text: &[u8]) -> u64 {
        sip::bytes([self.0, self.1], text)
    }

    pub(super) fn hasher(&self) -> Sip13 {
        Sip13::new([self.0, self.1])
    }
}
