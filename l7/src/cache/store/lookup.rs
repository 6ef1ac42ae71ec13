//! Finding objects: along a bucket's chain, without a lock.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::handle::Handle;
use super::header::{DOOMED, FAILED, HARD_STAMP, Header, LINKED};
use super::memory::NONE;
use super::shard::CHAIN_MAX;
use super::stats::count;
use super::{ObjectId, State, Store};

/// What a look-up's closure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one.
    Take,
    /// Not this one.
    Next,
}

/// One object as it is shown: the blob lies in the caller's scratch.
#[derive(Clone, Copy, Debug)]
pub struct ObjectView<'a> {
    /// The object.
    pub id: ObjectId,
    /// Its flags. The blob and the length are at least as new.
    pub state: State,
    /// Bytes of body published so far.
    pub len: u64,
    /// The head blob.
    pub blob: &'a [u8],
}

pub(super) enum Found {
    Taken(ObjectId),
    /// Nothing was, of a chain of so many.
    Nothing(usize),
    /// The chain is longer than is walked.
    TooLong,
}

/// Whether an object is there for new requests.
#[inline]
pub(super) fn is_visible(raw: u32, stamp: u32) -> bool {
    raw & (LINKED | DOOMED | FAILED) == LINKED && (raw ^ stamp) & HARD_STAMP == 0
}

impl Store {
    /// Walks the chain; under the shard's lock (`claim`) or without (`lookup`, protected by the epoch).
    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        scratch: &mut [u8],
        mut check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Found {
        let stamp = self.stamp();
        let mut at = self.bucket(hash as u32).load(Acquire);
        for steps in 0..CHAIN_MAX {
            let Some(h) = self.headers.get(at as usize) else { return Found::Nothing(steps) };
            if h.hash.load(Relaxed) == hash as u32 {
                let raw = h.raw_state();
                if is_visible(raw, stamp) {
                    let view = self.view_of(at, h, State::new(raw, stamp), scratch);
                    if view.is_some_and(|view| check(&view) == Pick::Take) {
                        h.count_hit(raw);
                        return Found::Taken(self.id(at));
                    }
                }
            }
            at = h.next.load(Acquire);
        }
        if at == NONE { Found::Nothing(CHAIN_MAX) } else { Found::TooLong }
    }

    /// The view of an object whose flags were loaded before, so that head and length are as new. `None` when the
    /// scratch is too short for the blob, which is a defect of the caller.
    #[inline]
    pub(super) fn view_of<'a>(
        &self,
        index: u32,
        h: &Header,
        state: State,
        scratch: &'a mut [u8],
    ) -> Option<ObjectView<'a>> {
        let blob = self.chunks.read_blob(h.head.load(Acquire), scratch);
        debug_assert!(blob.is_some(), "the scratch is shorter than head_bytes_max");
        Some(ObjectView { id: self.id(index), state, len: h.growth.len(), blob: blob? })
    }
}

impl Handle {
    /// Finds an object: shows each candidate of the bucket with this hash to `check`, newest first, until that takes
    /// one. Objects that are failed, unlinked or purged are not shown; softly purged ones are, as [`State::is_soft`].
    /// `scratch` holds [`Store::head_bytes_max`] bytes; afterwards the taken object's blob lies in it. The id is
    /// valid in this pass.
    #[inline]
    pub fn lookup(
        &mut self,
        hash: u64,
        scratch: &mut [u8],
        check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Option<ObjectId> {
        match self.awake().find(hash, scratch, check) {
            Found::Taken(id) => Some(id),
            Found::Nothing(_) => None,
            Found::TooLong => {
                count(&self.counts().chain_too_long, 1);
                None
            }
        }
    }

    /// The view of an object found in this pass, or pinned: how it is now. A blob that does not fit into `scratch`
    /// is shown as empty.
    pub fn view<'a>(&self, id: ObjectId, scratch: &'a mut [u8]) -> ObjectView<'a> {
        let h = self.awake().header(id);
        let state = State::new(h.raw_state(), self.store.stamp());
        let none = ObjectView { id, state, len: h.growth.len(), blob: &[] };
        self.store.view_of(id.index, h, state, scratch).unwrap_or(none)
    }
}
