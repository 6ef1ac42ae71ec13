//! The object header.

/// An object. Valid in the pass in which it was found; longer while it is pinned, or filled by its holder.
/// Carries a generation, so that a stale one is noticed (debug builds assert, `is_current` asks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// An object's state flags at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub(super) u32);

impl State {
    /// A fill is under way.
    pub fn is_filling(self) -> bool {
        unimplemented!()
    }
    /// The whole body is there.
    pub fn is_complete(self) -> bool {
        unimplemented!()
    }
    /// The fill broke off: what is published is all that there will be.
    pub fn is_failed(self) -> bool {
        unimplemented!()
    }
    /// The response's head has been set (`set_head`): before, the blob is the key only.
    pub fn has_head(self) -> bool {
        unimplemented!()
    }
    /// A pass marker.
    pub fn is_pass(self) -> bool {
        unimplemented!()
    }
    /// Purged softly: to be treated as stale.
    pub fn is_soft(self) -> bool {
        unimplemented!()
    }
    /// Somebody revalidates it.
    pub fn is_revalidating(self) -> bool {
        unimplemented!()
    }
    /// Gone for new requests (evicted, replaced, purged, failed); still readable while pinned.
    pub fn is_gone(self) -> bool {
        unimplemented!()
    }
}
