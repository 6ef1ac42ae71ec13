//! Byte ranges (RFC 9110 14): reading Range and Content-Range, and the parts of a `multipart/byteranges`.

use arrayvec::ArrayVec;

use crate::http1::bytes::{self, format_decimal};
use crate::http1::{Full, HeadSink};

/// The most ranges that one response has. A request for more gets the whole (RFC 9110 14.2, 17.15).
pub const RANGES_MAX: usize = 16;

/// Bytes `start` to `end`, the last not included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first.
    pub start: u64,
    /// The one after the last.
    pub end: u64,
}

impl ByteRange {
    /// How many; one at least.
    pub fn count(&self) -> u64 {
        self.end - self.start
    }
}

/// The ranges of one response.
pub type Ranges = ArrayVec<ByteRange, RANGES_MAX>;

/// What Range comes to for a representation of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Nothing: the whole is sent.
    Ignored,
    /// No range has a byte in it: 416.
    Unsatisfiable,
    /// To the ranges that were filled in, at least one.
    Satisfiable,
}

/// What Range, with this value, comes to for `total` bytes. Another unit, bad syntax, too many ranges: ignored.
pub fn resolve(value: &[u8], total: u64, ranges: &mut Ranges) -> Resolved {
    let resolved = fill(value, total, ranges).unwrap_or(Resolved::Ignored);
    match resolved {
        Resolved::Satisfiable => coalesce(ranges),
        Resolved::Ignored | Resolved::Unsatisfiable => ranges.clear(),
    }
    resolved
}

fn fill(value: &[u8], total: u64, ranges: &mut Ranges) -> Option<Resolved> {
    ranges.clear();
    let mut count = 0;
    for spec in specs(value)? {
        let (start, end) = match spec? {
            Spec::From(first, None) => (first, total),
            Spec::From(first, Some(last)) => (first, last.saturating_add(1).min(total)),
            Spec::Last(n) => (total.saturating_sub(n), total),
        };
        count += 1;
        if count > RANGES_MAX {
            return None;
        }
        if start < end {
            ranges.try_push(ByteRange { start, end }).ok()?;
        }
    }
    match (count, ranges.is_empty()) {
        (0, _) => None,
        (_, true) => Some(Resolved::Unsatisfiable),
        _ => Some(Resolved::Satisfiable),
    }
}

/// How many ranges Range has in it, satisfiable or not; `None` where it is malformed or not in bytes.
pub fn count(value: &[u8]) -> Option<usize> {
    let mut count = 0;
    for spec in specs(value)? {
        spec?;
        count += 1;
    }
    (count > 0).then_some(count)
}

/// The first byte that Range wants, where that does not depend on the length: which slice to fetch first.
pub fn first_byte(value: &[u8]) -> Option<u64> {
    match specs(value)?.next()?? {
        Spec::From(first, _) => Some(first),
        Spec::Last(_) => None,
    }
}

/// Ranges that overlap or touch become one (RFC 9110 14.2 and 15.3.7.2 allow it); the others stay in order.
fn coalesce(ranges: &mut Ranges) {
    let touches = |a: &ByteRange, b: &ByteRange| a.start <= b.end && b.start <= a.end;
    let apart = ranges.iter().enumerate().all(|(at, a)| ranges[at + 1..].iter().all(|b| !touches(a, b)));
    if apart {
        return;
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged = Ranges::new();
    for range in ranges.iter() {
        match merged.last_mut() {
            Some(last) if touches(last, range) => last.end = last.end.max(range.end),
            _ => merged.push(*range),
        }
    }
    *ranges = merged;
}

/// One of the specs between the commas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// From the first byte, to the last if one is named.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

/// The specs of a Range in bytes; an element is `None` where it is malformed.
fn specs(value: &[u8]) -> Option<impl Iterator<Item = Option<Spec>>> {
    let (unit, set) = value.split_at_checked(6)?;
    // Units are compared without case (RFC 9110 14.1).
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    Some(bytes::list(set).filter(|spec| !spec.is_empty()).map(spec))
}

fn spec(text: &[u8]) -> Option<Spec> {
    let dash = memchr::memchr(b'-', text)?;
    let (first, last) = (&text[..dash], &text[dash + 1..]);
    match (first, last) {
        ([], last) => Some(Spec::Last(position(last)?)),
        (first, []) => Some(Spec::From(position(first)?, None)),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(Spec::From(first, Some(last)))
        }
    }
}

/// Digits. A number that does not fit is beyond any representation, so the greatest one is as good.
fn position(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(bytes::decimal(text).unwrap_or(u64::MAX))
}

/// What Content-Range says (RFC 9110 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The range; none in a 416.
    pub range: Option<ByteRange>,
    /// The whole length, if it was known.
    pub total: Option<u64>,
}

/// Reads Content-Range; `None` where it is not valid or not in bytes.
pub fn parse_content_range(value: &[u8]) -> Option<ContentRange> {
    let (unit, rest) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let slash = memchr::memchr(b'/', rest)?;
    let (range, total) = (&rest[..slash], &rest[slash + 1..]);
    let total = if total == b"*" { None } else { Some(bytes::decimal(total)?) };
    let range = if range == b"*" {
        None
    } else {
        let dash = memchr::memchr(b'-', range)?;
        let (start, last) = (bytes::decimal(&range[..dash])?, bytes::decimal(&range[dash + 1..])?);
        let end = last.checked_add(1)?;
        if start >= end || total.is_some_and(|total| end > total) {
            return None;
        }
        Some(ByteRange { start, end })
    };
    (range.is_some() || total.is_some()).then_some(ContentRange { range, total })
}

/// Writes the line `Content-Range: bytes first-last/total`.
pub fn put_content_range(range: ByteRange, total: u64, sink: &mut impl HeadSink) -> Result<(), Full> {
    let mut digits = [0; 20];
    sink.put(b"Content-Range: bytes ")?;
    sink.put(format_decimal(range.start, &mut digits))?;
    sink.put(b"-")?;
    sink.put(format_decimal(range.end - 1, &mut digits))?;
    sink.put(b"/")?;
    sink.put(format_decimal(total, &mut digits))?;
    sink.put(b"\r\n")
}

/// Writes the line `Content-Range: bytes */total` of a 416.
pub fn put_unsatisfied_range(total: u64, sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put(b"Content-Range: bytes */")?;
    sink.put(format_decimal(total, &mut [0; 20]))?;
    sink.put(b"\r\n")
}

/// What separates the parts: 16 characters that the caller makes up anew for every response, from its random
/// numbers, so that no body can be made to have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary([u8; 16]);

impl Boundary {
    /// For a response that needs none.
    pub const NONE: Boundary = Boundary([b'0'; 16]);

    /// From a random number.
    pub fn new(random: u64) -> Self {
        let mut text = [0; 16];
        for (at, room) in text.iter_mut().enumerate() {
            *room = b"0123456789abcdef"[(random >> (60 - 4 * at) & 15) as usize];
        }
        Self(text)
    }

    /// As in Content-Type.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Writes what is before the body of one part (RFC 9110 14.6). `first`: nothing is before it.
pub fn write_part_head(
    first: bool,
    boundary: &Boundary,
    content_type_line: &[u8],
    range: ByteRange,
    total: u64,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    sink.put(if first { b"--" } else { b"\r\n--" })?;
    sink.put(&boundary.0)?;
    sink.put(b"\r\n")?;
    sink.put(content_type_line)?;
    put_content_range(range, total, sink)?;
    sink.put(b"\r\n")
}

/// Writes what is after the body of the last part.
pub fn write_parts_end(boundary: &Boundary, sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put(b"\r\n--")?;
    sink.put(&boundary.0)?;
    sink.put(b"--\r\n")
}

/// How long the whole multipart body is.
pub fn parts_len(ranges: &[ByteRange], boundary: &Boundary, content_type_line: &[u8], total: u64) -> u64 {
    let mut counter = Counter(0);
    for (at, range) in ranges.iter().enumerate() {
        let counted = write_part_head(at == 0, boundary, content_type_line, *range, total, &mut counter);
        debug_assert!(counted.is_ok(), "counting needs no room");
        counter.0 += range.count();
    }
    let counted = write_parts_end(boundary, &mut counter);
    debug_assert!(counted.is_ok(), "counting needs no room");
    counter.0
}

/// Counts what is put.
struct Counter(u64);

impl HeadSink for Counter {
    fn put(&mut self, piece: &[u8]) -> Result<(), Full> {
        self.0 += piece.len() as u64;
        Ok(())
    }
}
