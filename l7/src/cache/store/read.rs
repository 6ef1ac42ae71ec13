//! Reading bodies, keeping them, and waiting for them to grow.

use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use super::chain::Cursor;
use super::handle::Handle;
use super::header::LINKED;
use super::memory::CHUNK_BYTES;
use super::{ObjectId, State, Store};

/// How far an object is: what a waiter has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes published.
    pub len: u64,
    /// Flags.
    pub state: State,
}

/// Why a core was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// This object moved on. It may be an old one, which this core no longer waits for.
    Object(ObjectId),
    /// The mailbox overflowed: look at everything that you wait for.
    All,
}

impl Store {
    /// As [`Handle::read`], by whoever shares its participant's pass.
    #[inline]
    pub fn read(&self, id: ObjectId, cursor: &mut Cursor, max: usize, take: impl FnMut(&[u8])) -> usize {
        self.chunks.read(self.header(id), cursor, max, take)
    }

    /// As [`Handle::pin`]; a pin is given back by [`Handle::unpin`].
    #[inline]
    pub fn pin(&self, id: ObjectId) {
        self.header(id).pins.pin();
    }
}

impl Handle {
    /// Hands at most `max` bytes of body from the cursor on to `take`, in pieces, and gives their number. 0: nothing
    /// is published there (yet: see [`Handle::progress`]). The object was found in this pass, or is pinned; a cursor
    /// belongs to one object.
    #[inline]
    pub fn read(&self, id: ObjectId, cursor: &mut Cursor, max: usize, take: impl FnMut(&[u8])) -> usize {
        self.store.read(id, cursor, max, take)
    }

    /// Keeps the object's memory beyond this pass: in the pass in which it was found, or by who has a pin.
    #[inline]
    pub fn pin(&mut self, id: ObjectId) {
        self.store.pin(id);
    }

    /// Gives a pin back. The id is not used any more, unless it was found anew in this pass.
    #[inline]
    pub fn unpin(&mut self, id: ObjectId) {
        if self.store.header(id).pins.unpin() {
            self.release(id.index);
        }
    }

    /// Flags and length now. The length is at least as new as the flags: complete or failed means that it is final.
    #[inline]
    pub fn progress(&self, id: ObjectId) -> Progress {
        let h = self.store.header(id);
        let state = State::new(h.raw_state(), self.store.stamp());
        Progress { state, len: h.growth.len() }
    }

    /// Flags now.
    #[inline]
    pub fn state(&self, id: ObjectId) -> State {
        self.progress(id).state
    }

    /// Asks for one wake-up of this participant when the object moves on from `seen` (it grows, gets its head, ends,
    /// or its revalidation does). `false`: it has already, look again. Pin the object first.
    pub fn wait_for(&self, id: ObjectId, seen: Progress) -> bool {
        self.store.header(id).growth.announce(self.participant());
        let now = self.progress(id);
        now.len == seen.len && now.state.of_interest() == seen.state.of_interest()
    }

    /// Takes the wake-ups out of the mailbox: at most those that are in it now.
    pub fn drain_wakes(&mut self, mut f: impl FnMut(Wake)) {
        let seat = &self.store.seats[self.participant()];
        // The flag first: whoever sets it has changed its object before.
        if seat.overflow.load(Relaxed) && seat.overflow.swap(false, AcqRel) {
            f(Wake::All);
        }
        for _ in 0..seat.mailbox.len() {
            let Some(id) = seat.mailbox.pop() else { break };
            f(Wake::Object(ObjectId::from_u64(id)));
        }
    }

    /// Whether this pinned object is out of the index, so that only pins hold its memory.
    pub fn is_evicted(&self, id: ObjectId) -> bool {
        self.store.header(id).raw_state() & LINKED == 0
    }

    /// Whether more bytes than `pinned_bytes_max` are evicted but pinned: the owner of such a pin should reset its
    /// slowest reader.
    #[inline]
    pub fn over_pinned_cap(&self) -> bool {
        self.store.pinned_chunks.load(Relaxed) * CHUNK_BYTES as u64 > self.store.config.pinned_bytes_max
    }
}
