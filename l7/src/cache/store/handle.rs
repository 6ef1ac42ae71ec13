//! One participant's access.

use super::{ObjectId, State};

/// What a look-up closure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one.
    Take,
    /// Not this one.
    Next,
}

/// One object as a look-up shows it: the blob lies in the caller's scratch.
#[derive(Debug)]
pub struct ObjectView<'a> {
    /// The object.
    pub id: ObjectId,
    /// Its flags.
    pub state: State,
    /// Bytes of body published so far.
    pub len: u64,
    /// The head blob.
    pub blob: &'a [u8],
}

/// The answer to a claim.
#[derive(Debug)]
#[must_use]
pub enum Claim {
    /// The closure took an object that was there.
    Existing(ObjectId),
    /// The caller fills.
    New(Fill),
    /// The shard's lock was not to be had: go uncached.
    Busy,
    /// No header or chunk is free, or the chain is too long: go uncached.
    Full,
    /// `claim_late` only: something was purged since.
    Purged,
}

/// The right to write one object. Must be given back by `finish`, `fill_pass` or `fail`.
#[derive(Debug)]
#[must_use]
pub struct Fill {
    id: ObjectId,
}

impl Fill {
    /// The object.
    pub fn id(&self) -> ObjectId {
        self.id
    }
    /// Bytes appended so far (published or not).
    pub fn len(&self) -> u64 {
        unimplemented!()
    }
    /// Whether nothing has been appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why bytes were not appended; none of them were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// No chunk is free now. It may be worth a try in a later pass.
    NoRoom,
    /// The object would be longer than `object_bytes_max`.
    TooLarge,
}

/// Why a head was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// No chunk (or no place in the retired list) is free now.
    NoRoom,
    /// Longer than `head_bytes_max`.
    TooLarge,
}

/// A place in a body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {}

impl Cursor {
    /// A cursor that starts at `offset`; the first read finds the place.
    pub fn at(_offset: u64) -> Cursor {
        unimplemented!()
    }
    /// Where it stands.
    pub fn offset(&self) -> u64 {
        unimplemented!()
    }
}

/// How far an object is, to wait for a change of it.
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
    /// This object moved on.
    Object(ObjectId),
    /// The mailbox overflowed: look at all that you wait for.
    All,
}

/// The sequence of purges at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeEpoch(pub u64);

/// One participant's access to the store; neither shared nor cloned.
pub struct Handle {}

#[allow(unused_variables)]
impl Handle {
    /// At the top of the loop: nothing found before is used any more, except what is pinned.
    pub fn quiescent(&mut self) {
        unimplemented!()
    }
    /// Before sleeping.
    pub fn offline(&mut self) {
        unimplemented!()
    }
    /// After sleeping.
    pub fn online(&mut self) {
        unimplemented!()
    }
    /// Finds an object. `scratch` must hold `head_bytes_max` bytes; after `Some`, the taken object's blob lies in it.
    pub fn lookup(
        &mut self,
        hash: u64,
        scratch: &mut [u8],
        check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Option<ObjectId> {
        unimplemented!()
    }
    /// As `lookup`, under the shard's lock; claims the key when nothing is taken.
    pub fn claim(
        &mut self,
        hash: u64,
        key_blob: &[u8],
        scratch: &mut [u8],
        check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Claim {
        unimplemented!()
    }
    /// A claim for content that was asked for at `since` (a second variant): refused if anything was purged since.
    pub fn claim_late(
        &mut self,
        since: PurgeEpoch,
        hash: u64,
        key_blob: &[u8],
        scratch: &mut [u8],
        check: impl FnMut(&ObjectView<'_>) -> Pick,
    ) -> Claim {
        unimplemented!()
    }
    /// The sequence of purges now.
    pub fn purge_epoch(&self) -> PurgeEpoch {
        unimplemented!()
    }
    /// Replaces the key-only blob by the whole head. Wakes waiters.
    pub fn set_head(&mut self, fill: &mut Fill, blob: &[u8]) -> Result<(), HeadError> {
        unimplemented!()
    }
    /// Writes body bytes; readers see them after `publish`.
    pub fn append(&mut self, fill: &mut Fill, bytes: &[u8]) -> Result<(), AppendError> {
        unimplemented!()
    }
    /// Shows readers what was appended, and wakes those that wait.
    pub fn publish(&mut self, fill: &Fill) {
        unimplemented!()
    }
    /// The body is whole. `replaces` is taken out of the index.
    pub fn finish(&mut self, fill: Fill, replaces: Option<ObjectId>) -> ObjectId {
        unimplemented!()
    }
    /// The fill broke off.
    pub fn fail(&mut self, fill: Fill) {
        unimplemented!()
    }
    /// Turns the object into a small pass marker with `blob` (body bytes, if any, are dropped when readers are done).
    pub fn fill_pass(&mut self, fill: Fill, blob: &[u8], replaces: Option<ObjectId>) {
        unimplemented!()
    }
    /// Takes an object out of the index (invalidation).
    pub fn unlink(&mut self, id: ObjectId) {
        unimplemented!()
    }
    /// After a 304: a new head for the same body; clears a soft purge that came before `begin_revalidation`.
    pub fn replace_head(&mut self, id: ObjectId, blob: &[u8]) -> Result<(), HeadError> {
        unimplemented!()
    }
    /// True for the one caller that may revalidate.
    pub fn begin_revalidation(&mut self, id: ObjectId) -> bool {
        unimplemented!()
    }
    /// The revalidation is over, however it ended. Wakes waiters.
    pub fn end_revalidation(&mut self, id: ObjectId) {
        unimplemented!()
    }
    /// Copies the current head blob (of a pinned object, say) and gives the view of it.
    pub fn view<'a>(&self, id: ObjectId, scratch: &'a mut [u8]) -> ObjectView<'a> {
        unimplemented!()
    }
    /// Hands at most `max` bytes of body from the cursor on to `take`, in pieces; gives their number. 0: nothing is published there yet (or it is the end: see `state`).
    pub fn read(&self, id: ObjectId, cursor: &mut Cursor, max: usize, take: impl FnMut(&[u8])) -> usize {
        unimplemented!()
    }
    /// Keeps the object's memory beyond this pass.
    pub fn pin(&mut self, id: ObjectId) {
        unimplemented!()
    }
    /// Gives a pin back.
    pub fn unpin(&mut self, id: ObjectId) {
        unimplemented!()
    }
    /// Flags and length now (the length is at least as old as the flags: complete means that all is seen).
    pub fn progress(&self, id: ObjectId) -> Progress {
        unimplemented!()
    }
    /// Flags now.
    pub fn state(&self, id: ObjectId) -> State {
        self.progress(id).state
    }
    /// Asks for a wake-up when the object moves beyond `seen`. False: it has already; look again. Pin it first.
    pub fn wait_for(&self, id: ObjectId, seen: Progress) -> bool {
        unimplemented!()
    }
    /// Takes the wake-ups out of the mailbox.
    pub fn drain_wakes(&mut self, f: impl FnMut(Wake)) {
        unimplemented!()
    }
    /// Whether this pinned object is out of the index, so that only pins hold its memory.
    pub fn is_evicted(&self, id: ObjectId) -> bool {
        unimplemented!()
    }
    /// Whether evicted but pinned bytes are above `pinned_bytes_max`.
    pub fn over_pinned_cap(&self) -> bool {
        unimplemented!()
    }
    /// Control threads: everything. Gives the number of objects.
    pub fn purge_all(&mut self, soft: bool) -> u64 {
        unimplemented!()
    }
    /// Control threads: every object whose blob matches (and every fill whose head is not known yet).
    pub fn purge_matching(&mut self, matches: impl FnMut(&[u8]) -> bool, soft: bool) -> u64 {
        unimplemented!()
    }
    /// The objects of one hash that match.
    pub fn purge_hash(
        &mut self,
        hash: u64,
        scratch: &mut [u8],
        matches: impl FnMut(&ObjectView<'_>) -> bool,
        soft: bool,
    ) -> u64 {
        unimplemented!()
    }
    /// A tag for what was done so far: once it has passed, every participant has been at its loop top since.
    pub fn epoch_tag(&mut self) -> u64 {
        unimplemented!()
    }
    /// Whether it has passed.
    pub fn epoch_passed(&mut self, tag: u64) -> bool {
        unimplemented!()
    }
    /// Control threads: waits until every core has passed its loop top; false after `patience`.
    pub fn wait_for_epoch(&mut self, patience: std::time::Duration) -> bool {
        unimplemented!()
    }
}
