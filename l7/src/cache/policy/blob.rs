//! The head blob: all that is stored of a response besides its body, in one piece.
//!
//! ```text
//!   0  Facts                                   80 bytes
//!  80  lengths of the parts below, u16 each    16 bytes
//!  96  tags                                    8 bytes each
//!      key text
//!      names of the Vary fields, `a,b`
//!      ─ the stored head: lines as they are sent, CRLF included ─
//!      status line
//!      guide: what a 304 or 206 repeats (RFC 9110 15.4.5, 15.3.7)
//!      Content-Type
//!      rest
//!      first: what only the request that fetched it may get (`no-cache="…"`, RFC 9111 5.2.2.4)
//! ```
//!
//! With the lines sorted like this a hit is one copy, and a 304 is one copy of fewer bytes.

use super::cache_control::no_cache_fields;
use super::facts::{Facts, Flags};
use super::fields::{Line, Lines};
use super::rules::{CacheRules, has};
use super::vary;
use crate::http1::bytes::format_decimal;
use crate::http1::http_date;
use crate::http1::{FieldName, Full, HeadSink, SliceSink};

const LENGTHS: usize = 8;
/// Where the parts begin.
const PARTS_AT: usize = Facts::BYTES + 2 * LENGTHS;

/// A head blob, looked at. Nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Blob<'b> {
    /// Facts and lengths: decoded where they are asked for, as most are not.
    prefix: &'b [u8; PARTS_AT],
    tags: &'b [u8],
    key: &'b [u8],
    vary: &'b [u8],
    /// From the status line to the end.
    head: &'b [u8],
}

/// The parts, in the order of their lengths in the prefix.
#[derive(Clone, Copy)]
enum Part {
    Tags,
    Key,
    Vary,
    StatusLine,
    Guide,
    ContentType,
    Rest,
    First,
}

impl<'b> Blob<'b> {
    /// Of bytes that [`write_blob`] or [`write_pending`] wrote; more may follow them. `None` where they cannot be
    /// that.
    #[inline]
    pub fn read(bytes: &'b [u8]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk()?;
        let mut blob = Self { prefix, tags: &[], key: &[], vary: &[], head: &[] };
        let (tags, rest) = rest.split_at_checked(blob.length(Part::Tags) * 8)?;
        let (key, rest) = rest.split_at_checked(blob.length(Part::Key))?;
        let (vary, rest) = rest.split_at_checked(blob.length(Part::Vary))?;
        let head = rest.get(..blob.end(Part::Rest) + blob.length(Part::First))?;
        (blob.tags, blob.key, blob.vary, blob.head) = (tags, key, vary, head);
        Some(blob)
    }

    #[inline]
    fn length(&self, part: Part) -> usize {
        let at = Facts::BYTES + 2 * part as usize;
        usize::from(u16::from_le_bytes([self.prefix[at], self.prefix[at + 1]]))
    }

    /// Where in `head` a part of it ends.
    #[inline]
    fn end(&self, part: Part) -> usize {
        [Part::StatusLine, Part::Guide, Part::ContentType, Part::Rest]
            .into_iter()
            .filter(|before| *before as usize <= part as usize)
            .map(|before| self.length(before))
            .sum()
    }

    /// What has to be known.
    #[inline]
    pub fn facts(&self) -> Facts {
        Facts::decode(self.prefix.first_chunk().unwrap_or(&[0; Facts::BYTES]))
    }

    /// Whether there is only a key so far: the response is not there yet.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.facts().status == 0
    }

    /// The key text.
    pub fn key(&self) -> &'b [u8] {
        self.key
    }

    /// The names of the fields that its Vary nominates, for [`vary::variant`].
    pub fn vary(&self) -> &'b [u8] {
        self.vary
    }

    /// The hashes of its tags.
    pub fn tags(&self) -> impl Iterator<Item = u64> + use<'b> {
        self.tags.as_chunks::<8>().0.iter().map(|tag| u64::from_le_bytes(*tag))
    }

    /// ETag, as the origin wrote it.
    pub fn etag(&self) -> Option<&'b [u8]> {
        let facts = self.facts();
        let (start, end) = facts.etag;
        let etag = self.head.get(usize::from(start)..usize::from(end))?;
        facts.has(Flags::ETAG).then_some(etag)
    }

    /// Status line and lines, all that everybody may get.
    pub fn head(&self) -> &'b [u8] {
        self.part(0, self.end(Part::Rest))
    }

    /// The status line.
    pub fn status_line(&self) -> &'b [u8] {
        self.part(0, self.end(Part::StatusLine))
    }

    /// The lines that a 304 or a 206 repeats.
    pub fn guide(&self) -> &'b [u8] {
        self.part(self.end(Part::StatusLine), self.end(Part::Guide))
    }

    /// The line of Content-Type, or nothing.
    pub fn content_type_line(&self) -> &'b [u8] {
        self.part(self.end(Part::Guide), self.end(Part::ContentType))
    }

    /// The other lines.
    pub fn rest(&self) -> &'b [u8] {
        self.part(self.end(Part::ContentType), self.end(Part::Rest))
    }

    /// The lines that only the request that fetched it may get.
    pub fn first_only(&self) -> &'b [u8] {
        self.head.get(self.end(Part::Rest)..).unwrap_or_default()
    }

    /// The value of Content-Type.
    pub fn content_type(&self) -> Option<&'b [u8]> {
        Lines::new(self.content_type_line()).next().map(|line| line.value)
    }

    /// All lines that everybody may get.
    pub fn lines(&self) -> Lines<'b> {
        Lines::new(self.part(self.end(Part::StatusLine), self.end(Part::Rest)))
    }

    fn part(&self, start: usize, end: usize) -> &'b [u8] {
        self.head.get(start..end).unwrap_or_default()
    }
}

/// Writes the blob of an object that is being fetched: a key and nothing else. How long it is.
pub fn write_pending(key: &[u8], out: &mut [u8]) -> Result<usize, Full> {
    let (prefix, room) = out.split_first_chunk_mut::<PARTS_AT>().ok_or(Full)?;
    let mut sink = SliceSink::new(room);
    sink.put(key)?;
    let len = sink.len();
    let mut lengths = [0; LENGTHS];
    lengths[1] = len;
    seal(prefix, &Facts::default(), &lengths)?;
    Ok(PARTS_AT + len)
}

/// What a blob is made of, besides its lines.
#[derive(Clone, Copy, Debug)]
pub struct BlobParts<'a> {
    /// The key text.
    pub key: &'a [u8],
    /// The reason phrase, for the status line.
    pub reason: &'a [u8],
    /// The facts; `etag` is filled in here.
    pub facts: Facts,
}

/// Writes a blob with those of `lines` that may be stored (RFC 9111 3.1) and the hashes that `tags` gives. How long
/// it is.
pub fn write_blob<'a>(
    parts: &BlobParts<'_>,
    lines: impl Iterator<Item = Line<'a>> + Clone,
    tags: impl Iterator<Item = u64>,
    rules: &CacheRules,
    out: &mut [u8],
) -> Result<usize, Full> {
    let (prefix, room) = out.split_first_chunk_mut::<PARTS_AT>().ok_or(Full)?;
    let mut facts = parts.facts;
    let mut sink = SliceSink::new(room);
    let mut lengths = [0; LENGTHS];
    let mut last = 0;
    let mut close = |part: usize, len: usize| {
        lengths[part] = len - last;
        last = len;
    };
    let mut count = 0;
    for tag in tags {
        sink.put(&tag.to_le_bytes())?;
        count += 1;
    }
    close(0, sink.len());
    sink.put(parts.key)?;
    close(1, sink.len());
    vary::write_names(lines.clone(), &mut sink)?;
    close(2, sink.len());

    let head_at = sink.len();
    put_status_line(&facts, parts.reason, &mut sink)?;
    close(3, sink.len());
    // Rare, and dear to ask for every line.
    let lists_fields = control_lines(lines.clone()).any(|value| no_cache_fields(value).next().is_some());
    let place = |line: &Line<'_>| {
        let is_listed =
            lists_fields && control_lines(lines.clone()).flat_map(no_cache_fields).any(|name| line.is(name));
        if is_listed && place_of(line, &parts.facts, rules) != Place::Nowhere {
            Place::First
        } else {
            place_of(line, &parts.facts, rules)
        }
    };
    for (part, wanted) in [(4, Place::Guide), (5, Place::Type), (6, Place::Rest), (7, Place::First)] {
        for line in lines.clone().filter(|line| place(line) == wanted) {
            if line.known == FieldName::ETag && wanted == Place::Guide && facts.etag == (0, 0) {
                let start = sink.len() - head_at + line.name.len() + 2;
                let end = start + line.value.len();
                let (Ok(start), Ok(end)) = (start.try_into(), end.try_into()) else { return Err(Full) };
                facts.etag = (start, end);
            }
            put_line(line.name, line.value, &mut sink)?;
        }
        if wanted == Place::Guide && !lines.clone().any(|line| line.known == FieldName::Date) {
            // RFC 9110 6.6.1.
            put_line(b"Date", &http_date::format(facts.response_ms / 1000), &mut sink)?;
        }
        close(part, sink.len());
    }
    if facts.etag == (0, 0) {
        facts.flags.set(Flags(Flags::ETAG.0 | Flags::STRONG_ETAG.0), false);
    }
    lengths[0] = count;
    let len = sink.len();
    seal(prefix, &facts, &lengths)?;
    Ok(PARTS_AT + len)
}

fn put_status_line(facts: &Facts, reason: &[u8], sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put(b"HTTP/1.1 ")?;
    sink.put(format_decimal(u64::from(facts.status), &mut [0; 20]))?;
    sink.put(b" ")?;
    sink.put(reason)?;
    sink.put(b"\r\n")
}

fn put_line(name: &[u8], value: &[u8], sink: &mut impl HeadSink) -> Result<(), Full> {
    sink.put(name)?;
    sink.put(b": ")?;
    sink.put(value)?;
    sink.put(b"\r\n")
}

fn seal(prefix: &mut [u8; PARTS_AT], facts: &Facts, lengths: &[usize; LENGTHS]) -> Result<(), Full> {
    let (facts_room, lengths_room) = prefix.split_at_mut(Facts::BYTES);
    facts_room.copy_from_slice(&facts.encode());
    for (room, &length) in lengths_room.as_chunks_mut::<2>().0.iter_mut().zip(lengths) {
        *room = u16::try_from(length).map_err(|_| Full)?.to_le_bytes();
    }
    Ok(())
}

/// Where a line is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Guide,
    Type,
    Rest,
    First,
}

fn control_lines<'a>(lines: impl Iterator<Item = Line<'a>>) -> impl Iterator<Item = &'a [u8]> {
    lines.filter(|line| line.known == FieldName::CacheControl).map(|line| line.value)
}

fn place_of(line: &Line<'_>, facts: &Facts, rules: &CacheRules) -> Place {
    match line.known {
        // Framing is for each message anew; Age is ours to say; the range of a slice is in the facts.
        FieldName::Age | FieldName::ContentLength | FieldName::Trailer => Place::Nowhere,
        FieldName::ContentRange if facts.has(Flags::SLICE) => Place::Nowhere,
        known if known.is_hop_by_hop() => Place::Nowhere,
        // RFC 9111 3.1: what is for the proxy that asked.
        FieldName::Other if line.is(b"Proxy-Authentication-Info") => Place::Nowhere,
        FieldName::Other if rules.is_tag_field(line.name) => Place::Nowhere,
        FieldName::CacheControl
        | FieldName::ContentLocation
        | FieldName::Date
        | FieldName::ETag
        | FieldName::Expires
        | FieldName::Vary => Place::Guide,
        // RFC 9110 15.4.5: in a 304 only where there is no better validator.
        FieldName::LastModified if !facts.has(Flags::ETAG) => Place::Guide,
        FieldName::Other if has(&rules.targeted, line.name) => Place::Guide,
        FieldName::ContentType => Place::Type,
        _ => Place::Rest,
    }
}
