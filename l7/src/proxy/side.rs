//! What an exchange has to do with the cache.
//!
//! ```text
//!             miss: claim                     head is there          body is there
//!  client ──► Waits ───────────────────────► Reads ────────────────► done
//!               │ not to be shared              │ outgrew the store
//!               └──► Direct ◄───────────────────┘   takes the origin's connection over
//!  fetch  ──► Fetches ── body, to the end, whether clients are left or not ──► done
//! ```
//!
//! A *fetch* is an exchange without a client: it has the connection to the origin and writes the object. Every
//! client reads the object, the one whose request began the fetch too; so the origin is read at its own pace, and no
//! client's leaving or dawdling concerns the others.

use dataplane::Time;

use super::exchange::ExchangeId;
use crate::cache::policy::ranges::{Boundary, Ranges};
use crate::cache::policy::slices::{Representation, SliceWanted};
use crate::cache::store::{Cursor, Fill, ObjectId, Progress, PurgeEpoch};

/// See the module.
#[derive(Default)]
pub(super) enum Side {
    /// Bytes go between client and origin.
    #[default]
    Direct,
    /// A client that waits for what a fetch brings.
    Waits(Waits),
    /// A client that is being sent a stored body.
    Reads(Reads),
    /// No client: brings a response into the store.
    Fetches(Fetches),
}

/// What the fetch of an exchange has found for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing yet.
    #[default]
    Open,
    /// The object, whatever its age: it was fetched, or validated, for this request.
    Use(ObjectId),
    /// No answer from the origin: this is what the client gets, if nothing stale may be had.
    Failed(u16),
    /// The origin answers, but not with the slice that it was asked for.
    NoSlice,
}

/// A client that waits. The object is pinned.
pub(super) struct Waits {
    pub object: ObjectId,
    /// How far it was when we asked to be woken.
    pub seen: Progress,
    /// Our own fetch, if we began one and it still is.
    pub fetch: ExchangeId,
    pub outcome: Outcome,
    /// Whether the object is a stored one that is being validated, not a new one.
    pub validates: bool,
    /// Times that we have looked anew.
    pub looks: u8,
}

/// A client that reads a body. The object is pinned.
pub(super) struct Reads {
    pub object: ObjectId,
    pub cursor: Cursor,
    /// Bytes still to be sent; `None`: until the object is complete.
    pub left: Option<u64>,
    /// Our own fetch, if it still is.
    pub fetch: ExchangeId,
    /// When something was sent last, for choosing the slowest.
    pub moved: Time,
}

/// A slice, and the hash of its URL's key.
#[derive(Clone, Copy)]
pub(super) struct SliceOf {
    pub wanted: SliceWanted,
    pub url_hash: u64,
}

/// What an exchange on a route with slices has to keep.
#[derive(Default)]
pub(super) struct Slicing {
    /// Where the body begins, where a stored slice has told otherwise than Range.
    pub begins_at: Option<u64>,
    /// How often that has changed.
    pub moves: u8,
    /// A body that goes on in other slices than the one that is read.
    pub rest: Option<Rest>,
}

/// What of a body is in other slices than the one that is read.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    /// What they have to be parts of.
    pub of: Representation,
    /// When the slice before came or was confirmed, unix milliseconds.
    pub came_ms: u64,
    /// From where to where, in the representation.
    pub at: u64,
    pub end: u64,
    /// Tries to get the next one.
    pub tries: u8,
    /// Times that there was no room for it.
    pub later: u8,
}

/// What is left of a `multipart/byteranges`.
pub(super) struct Parts {
    pub ranges: Ranges,
    pub total: u64,
    pub boundary: Boundary,
    /// Parts whose heads have been sent.
    pub next: usize,
}

/// A fetch.
pub(super) struct Fetches {
    /// What it writes; `None` while it validates.
    pub fill: Option<Fill>,
    /// The stored object that it validates or replaces: pinned, and ours to validate.
    pub stale: Option<ObjectId>,
    /// The exchange whose request this is, as long as it waits for it or reads.
    pub first: ExchangeId,
    /// Purges until it began.
    pub purges: PurgeEpoch,
    /// Hash of the key.
    pub hash: u64,
    /// The slice that the origin was asked for, if it was one, and the purges of its URL until then.
    pub slice: Option<(SliceOf, PurgeEpoch)>,
    /// Others wait for the end of the validation.
    pub validates: bool,
    /// The origin has confirmed the stored one.
    pub confirmed: bool,
    /// The object has outgrown the store: the first client takes the connection over when it has read what
    /// is there.
    pub is_parked: bool,
}
