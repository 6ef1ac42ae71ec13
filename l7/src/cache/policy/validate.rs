//! Validation both ways: our conditional requests to the origin and what their 304 does to what is stored
//! (RFC 9111 4.3.1, 4.3.3, 4.3.4, 3.2), and the conditions of clients against what is stored (4.3.2, RFC 9110 13).

use super::blob::{self, Blob, BlobParts};
use super::facts::{Facts, Flags};
use super::fields::{self, Line};
use super::freshness::{Survey, Times};
use super::hash::HashKeys;
use super::request::RequestFacts;
use super::rules::CacheRules;
use super::slices::SliceWanted;
use super::storable::{self, NotStored};
use super::tags;
use crate::http1::bytes::{self, format_decimal};
use crate::http1::rewrite::{self, ToOrigin};
use crate::http1::{FieldName, Full, HeadSink, Headers, RequestHead, ResponseHead, http_date};

/// Writes the head of a request by which the cache fetches for itself: a GET with the client's fields, but with
/// none of its conditions and ranges. With `stored` it asks only whether these still hold; with `slice`, for one
/// slice. Several may be in `stored`: all that the key finds, where no variant matches (RFC 9111 4.1).
pub fn write_fetch_head<'b>(
    head: &RequestHead<'_>,
    ctx: &ToOrigin<'_>,
    stored: impl Iterator<Item = Blob<'b>> + Clone,
    slice: Option<SliceWanted>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    rewrite::write_request(head, b"GET", ctx, |known| !is_conditional(known), sink)?;
    let mut separator: &[u8] = b"If-None-Match: ";
    for etag in stored.clone().filter_map(|blob| blob.etag()) {
        sink.put(separator)?;
        sink.put(etag)?;
        separator = b", ";
    }
    if separator == b", " {
        sink.put(b"\r\n")?;
    }
    // RFC 9111 4.3.1: of one response only, or it would not be known which one a 304 means; and not for part of one.
    let mut all = stored;
    if let (Some(only), None, None) = (all.next(), all.next(), slice)
        && only.facts().last_modified_s != 0
    {
        sink.put(b"If-Modified-Since: ")?;
        sink.put(&http_date::format(only.facts().last_modified_s))?;
        sink.put(b"\r\n")?;
    }
    if let Some(slice) = slice {
        let last = slice.end().saturating_sub(1);
        sink.put(b"Range: bytes=")?;
        sink.put(format_decimal(slice.start, &mut [0; 20]))?;
        sink.put(b"-")?;
        sink.put(format_decimal(last, &mut [0; 20]))?;
        sink.put(b"\r\n")?;
    }
    sink.put(b"\r\n")
}

/// The fields by which a request is about part of a representation, or about one that the client has.
fn is_conditional(known: FieldName) -> bool {
    matches!(
        known,
        FieldName::IfNoneMatch
            | FieldName::IfModifiedSince
            | FieldName::IfMatch
            | FieldName::IfUnmodifiedSince
            | FieldName::IfRange
            | FieldName::Range
    )
}

/// Whether the client's conditions make the answer a 304 instead of this stored response (RFC 9111 4.3.2, order of
/// RFC 9110 13.2.2). Statuses other than 2xx are served whatever the conditions (RFC 9110 13.2.1).
pub fn is_not_modified(headers: &Headers<'_>, blob: &Blob<'_>, now_ms: u64) -> bool {
    let facts = blob.facts();
    if !(200..300).contains(&facts.status) {
        return false;
    }
    let mut none_match = headers.known(FieldName::IfNoneMatch).peekable();
    if none_match.peek().is_some() {
        return none_match.any(|value| {
            value == b"*"
                || blob.etag().is_some_and(|ours| etags(value).any(|theirs| weak_equal(theirs, ours)))
        });
    }
    let mut since = headers.known(FieldName::IfModifiedSince);
    // RFC 9110 13.1.3: a value that is no date is ignored; so are two.
    let (Some(value), None) = (since.next(), since.next()) else { return false };
    let Some(since_s) = http_date::parse(value, now_ms / 1000) else { return false };
    let changed_s = match facts.last_modified_s {
        // RFC 9111 4.3.2: then Date, or when it came.
        0 => facts.date_ms / 1000,
        last_modified_s => last_modified_s,
    };
    changed_s <= since_s
}

/// Whether Range is to be looked at: there is no If-Range, or it holds for what is stored (RFC 9110 13.1.5).
pub fn if_range_holds(headers: &Headers<'_>, blob: &Blob<'_>, now_ms: u64) -> bool {
    let mut values = headers.known(FieldName::IfRange);
    let Some(value) = values.next() else { return true };
    if values.next().is_some() {
        return false;
    }
    let facts = blob.facts();
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        // Strong comparison (RFC 9110 8.8.3.2).
        return facts.has(Flags::STRONG_ETAG) && blob.etag() == Some(value);
    }
    facts.last_modified_s != 0
        && facts.has(Flags::STRONG_DATE)
        && http_date::parse(value, now_ms / 1000) == Some(facts.last_modified_s)
}

/// The entity-tags of a list (RFC 9110 13.1.2), `W/` included. One without quotes ends at the comma.
pub fn etags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    core::iter::from_fn(move || {
        let start = rest.iter().position(|&b| !bytes::is_blank(b) && b != b',')?;
        rest = &rest[start..];
        let quote = if rest.starts_with(b"W/\"") { 2 } else { 0 };
        let end = match rest.get(quote) {
            Some(b'"') => memchr::memchr(b'"', &rest[quote + 1..]).map_or(rest.len(), |at| quote + at + 2),
            _ => memchr::memchr(b',', rest).unwrap_or(rest.len()),
        };
        let (etag, after) = rest.split_at(end);
        rest = after;
        Some(bytes::trim(etag))
    })
}

/// Weak comparison (RFC 9110 8.8.3.2).
pub fn weak_equal(a: &[u8], b: &[u8]) -> bool {
    let opaque = |etag| <[u8]>::strip_prefix(etag, b"W/").unwrap_or(etag);
    opaque(a) == opaque(b)
}

/// Whether this 304 means this stored response (RFC 9111 4.3.4). `sole`: it was the only one whose validators our
/// request had. Where it means none of them the request has to be sent again without conditions; where a weak
/// validator means several, the latest of them is updated.
pub fn is_selected_by(not_modified: &ResponseHead<'_>, stored: &Blob<'_>, sole: bool) -> bool {
    let headers = not_modified.headers();
    if let Some(etag) = headers.known(FieldName::ETag).next() {
        return match stored.etag() {
            // A strong one means what has the very same, a weak one what corresponds to it.
            Some(ours) if etag.starts_with(b"W/") => weak_equal(ours, etag),
            Some(ours) => ours == etag,
            None => false,
        };
    }
    if let Some(value) = headers.known(FieldName::LastModified).next() {
        let date_s = http_date::parse(value, stored.facts().response_ms / 1000);
        return date_s.is_some_and(|s| s == stored.facts().last_modified_s);
    }
    // No validator at all. RFC 9110 15.4.5 wants one, many origins send none; what it answers is clear where we
    // asked about one response.
    sole
}

/// What came of a 304.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshened {
    /// How long the new blob is.
    pub len: usize,
    /// Why it may not be kept, if it may not: it answers the requests that waited for this 304, and no other.
    pub not_kept: Option<NotStored>,
}

/// Writes the blob that a 304 makes of a stored one: its fields in place of those of the same name, lifetime and
/// age counted anew (RFC 9111 3.2, 4.3.4). `request` is that of the client whose request revalidated it.
pub fn freshen(
    stored: &Blob<'_>,
    (request, request_headers): (&RequestFacts, &Headers<'_>),
    not_modified: &ResponseHead<'_>,
    rules: &CacheRules,
    times: Times,
    keys: &HashKeys,
    out: &mut [u8],
) -> Result<Freshened, Full> {
    let fresh = fields::of_headers(&not_modified.headers()).filter(is_updated);
    let old = stored.lines().filter(|line| {
        // A 304 without Date came now (RFC 9110 6.6.1); the old Date says nothing about it.
        line.known != FieldName::Date && !fresh.clone().any(|new| new.is(line.name))
    });
    let lines = old.chain(fresh.clone());
    let mut survey = Survey::of(lines.clone(), rules, times);
    let answer = Survey::of(fields::of_headers(&not_modified.headers()), rules, times);
    survey.age_s = answer.age_s;
    let mut facts = stored.facts();
    let allowed = storable::may_be_kept(request, facts.status, lines.clone(), &survey, rules);
    let settled = storable::settle(&mut facts, &survey, rules, times);
    let kept = allowed.and(settled);
    let parts =
        BlobParts { key: stored.key(), reason: reason_of(stored), facts: Facts { etag: (0, 0), ..facts } };
    let new_tags = tags::tags_of(fresh.clone(), rules, keys);
    let retagged = fresh.clone().any(|line| rules.is_tag_field(line.name));
    let old_tags = stored.tags().filter(|_| !retagged);
    let len = blob::write_blob(&parts, lines, old_tags.chain(new_tags), rules, out)?;
    storable::set_variant(request_headers, rules, keys, out)?;
    Ok(Freshened { len, not_kept: kept.err() })
}

/// Whether a line of a 304 takes the place of what is stored (RFC 9111 3.2): not what frames or encodes the body
/// that we keep.
fn is_updated(line: &Line<'_>) -> bool {
    !matches!(
        line.known,
        FieldName::ContentLength
            | FieldName::ContentEncoding
            | FieldName::ContentRange
            | FieldName::Age
            | FieldName::Trailer
    )
}

fn reason_of<'b>(stored: &Blob<'b>) -> &'b [u8] {
    let line = stored.status_line();
    line.get(b"HTTP/1.1 200 ".len()..line.len().saturating_sub(2)).unwrap_or_default()
}

/// What a 200 to a HEAD that went to the origin says about a stored response (RFC 9111 4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterHead {
    /// Nothing speaks against it: it may be freshened like by a 304.
    Holds,
    /// It is out of date: validators or length are others. It counts as stale from now on.
    Outdated,
}

/// Compares a 200 to a HEAD with a stored response to GET.
pub fn after_head(head: &ResponseHead<'_>, stored: &Blob<'_>) -> AfterHead {
    let headers = head.headers();
    let etag = headers.known(FieldName::ETag).next();
    let length_differs = match (head.content_length(), stored.facts().total()) {
        (Some(theirs), Some(ours)) => theirs != ours,
        _ => false,
    };
    let modified = headers
        .known(FieldName::LastModified)
        .next()
        .and_then(|value| http_date::parse(value, stored.facts().response_ms / 1000));
    let holds = head.status() == stored.facts().status
        && !length_differs
        && etag.is_none_or(|etag| stored.etag() == Some(etag))
        && modified.is_none_or(|modified_s| modified_s == stored.facts().last_modified_s);
    if holds { AfterHead::Holds } else { AfterHead::Outdated }
}
