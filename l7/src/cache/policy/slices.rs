//! Large representations in slices of a fixed size: which slice a request needs, what a slice is known by, and which
//! answers may be stored as one (RFC 9111 3.3, 3.4; RFC 9110 14, 15.3.7).
//!
//! ```text
//!   representation   0          S          2S         3S     total
//!                    │ slice 0  │ slice 1  │ slice 2  │ last │
//!   request            Range: bytes=from-…     └─ each is an object of its own, under the URL's key and a suffix
//! ```
//!
//! A stored slice has the head of a 200 and tells the length of the whole; so a request is answered from whichever
//! slice its body begins in, and the others have to be of the same [`Representation`].

use super::blob::Blob;
use super::facts::{Facts, Flags};
use super::hash::HashKeys;
use super::ranges::{self, ByteRange, ContentRange};
use super::request::RequestFacts;
use super::respond::{Content, Plan};
use crate::http1::bytes::format_decimal;
use crate::http1::{BodyLength, FieldName, Full, HeadSink, RequestHead};

/// One slice of a representation, by where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceWanted {
    /// Its first byte.
    pub start: u64,
    /// The size of slices; the last of a representation may be shorter.
    pub bytes: u32,
}

impl SliceWanted {
    /// The slice of size `bytes` that has the byte at `position`. The size is not 0.
    pub fn at(position: u64, bytes: u32) -> Self {
        Self { start: position - position % u64::from(bytes), bytes }
    }

    /// The byte after its last, if the representation goes that far.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.bytes))
    }

    /// Whether the byte at `position` is in it.
    pub fn has(&self, position: u64) -> bool {
        (self.start..self.end()).contains(&position)
    }

    /// The bytes of it that a representation of this length has; `None`: it ends before.
    pub fn of_total(&self, total: u64) -> Option<ByteRange> {
        (self.start < total).then(|| ByteRange { start: self.start, end: self.end().min(total) })
    }

    /// Writes what is after the key text of the URL in the key of the slice. `#` is in no URL that is sent. The size is
    /// in it, so that slices of two sizes never meet.
    pub fn write_suffix(&self, sink: &mut impl HeadSink) -> Result<(), Full> {
        sink.put(b"#")?;
        sink.put(format_decimal(self.start, &mut [0; 20]))?;
        sink.put(b"+")?;
        sink.put(format_decimal(u64::from(self.bytes), &mut [0; 20]))
    }
}

/// Where the body of the response to a request begins, as far as that is known without the total: the slice there is
/// looked for first. `None`: the request is not answered from slices.
pub fn first_position(request: &RequestFacts, head: &RequestHead<'_>) -> Option<u64> {
    // What its response may be stored for is not clear before it is there.
    if request.wants.no_store || request.authorization {
        return None;
    }
    if !request.range {
        return Some(0);
    }
    let headers = head.headers();
    let mut values = headers.known(FieldName::Range);
    match (values.next(), values.next()) {
        (Some(value), None) => match ranges::count(value) {
            // Not in bytes, or malformed: as if it were not there.
            None => Some(0),
            Some(1) => Some(ranges::first_byte(value).unwrap_or(0)),
            Some(_) => None,
        },
        // Two are none.
        _ => Some(0),
    }
}

/// The bytes of the representation that a response has as its body; none: it has no body.
pub fn body_of(plan: &Plan) -> Option<ByteRange> {
    if plan.is_head {
        return None;
    }
    match plan.content {
        Content::Whole(Some(total)) => (total > 0).then_some(ByteRange { start: 0, end: total }),
        Content::Range(range, _) => Some(range),
        Content::Whole(None) | Content::NotModified | Content::Parts(_) | Content::Unsatisfiable(_) => None,
    }
}

/// What all slices of one representation have in common (RFC 9111 3.4): the length of the whole and a strong
/// validator, by its keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Representation {
    total: u64,
    validator: u64,
}

impl Representation {
    /// Of a stored slice; `None` where it has no strong validator: it can be put together with nothing.
    pub fn of(blob: &Blob<'_>, keys: &HashKeys) -> Option<Self> {
        let facts = blob.facts();
        if !has_strong_validator(&facts) {
            return None;
        }
        let validator = match blob.etag() {
            Some(etag) => keys.hash(etag),
            None => keys.hash(&facts.last_modified_s.to_le_bytes()),
        };
        Some(Self { total: facts.total()?, validator })
    }
}

fn has_strong_validator(facts: &Facts) -> bool {
    if facts.has(Flags::ETAG) { facts.has(Flags::STRONG_ETAG) } else { facts.has(Flags::STRONG_DATE) }
}

/// Whether a slice with these facts can be used: it can be put together with others, or is the whole.
pub(super) fn is_usable(facts: &Facts, wanted: SliceWanted) -> bool {
    has_strong_validator(facts) || (wanted.start == 0 && facts.body_total <= wanted.end())
}

/// Takes a 206 for the slice that was asked for, when it is just that: then it is as good as part of a 200.
pub(super) fn take(
    facts: &mut Facts,
    content_range: Option<&[u8]>,
    body: BodyLength,
    wanted: SliceWanted,
) -> Option<()> {
    let ContentRange { range, total: Some(total) } = ranges::parse_content_range(content_range?)? else {
        return None;
    };
    let range = range?;
    if wanted.of_total(total) != Some(range) || body != BodyLength::Length(range.count()) {
        return None;
    }
    facts.status = 200;
    facts.slice_start = range.start;
    facts.body_total = total;
    facts.flags.set(Flags::SLICE, true);
    Some(())
}
