//! The response that is made of a stored one: which status, which bytes of the body, and its head.

use super::blob::Blob;
use super::facts::Flags;
use super::ranges::{self, Boundary, ByteRange, Ranges, Resolved};
use super::request::RequestFacts;
use super::status::{CacheStatus, write_cache_status};
use super::validate;
use crate::http1::rewrite::{put_number, put_via};
use crate::http1::{BodyLength, FieldName, Full, HeadSink, Method, RequestHead, Version, put_head_end};

/// What is sent of the stored body. Positions are those of the whole representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: 304.
    NotModified,
    /// All of it, as long as it is if that is known.
    Whole(Option<u64>),
    /// One range: 206.
    Range(ByteRange, u64),
    /// Several, those of the plan, each with [`ranges::write_part_head`] before it and [`ranges::write_parts_end`]
    /// at the end: 206.
    Parts(u64),
    /// Nothing: 416 for a representation of this length.
    Unsatisfiable(u64),
}

/// How a request is answered from a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is sent of the body; not sent for HEAD, but said in the head.
    pub content: Content,
    /// Several ranges, where there are several.
    pub parts: Ranges,
    /// Whether it answers HEAD.
    pub is_head: bool,
    /// The status.
    pub status: u16,
}

/// How a request with this head is answered from `blob`. `total`: the length of the representation where the caller
/// knows it (the object is complete); else that of the blob's facts, if any, counts.
pub fn plan(
    request: &RequestFacts,
    head: &RequestHead<'_>,
    blob: &Blob<'_>,
    total: Option<u64>,
    now_ms: u64,
) -> Plan {
    let total = total.or(blob.facts().total());
    let mut plan = Plan {
        content: Content::Whole(total),
        parts: Ranges::new(),
        is_head: request.method == Method::Head,
        status: blob.facts().status,
    };
    let headers = head.headers();
    if request.conditional && validate::is_not_modified(&headers, blob, now_ms) {
        (plan.status, plan.content) = (304, Content::NotModified);
        return plan;
    }
    if request.range && plan.status == 200 {
        let mut values = headers.known(FieldName::Range);
        // Two Range lines are no Range. Without the total there is nothing to measure a range against.
        if let (Some(value), None, Some(total)) = (values.next(), values.next(), total)
            && validate::if_range_holds(&headers, blob, now_ms)
        {
            (plan.status, plan.content) = match ranges::resolve(value, total, &mut plan.parts) {
                Resolved::Ignored => (200, plan.content),
                Resolved::Unsatisfiable => (416, Content::Unsatisfiable(total)),
                Resolved::Satisfiable => match plan.parts.as_slice() {
                    [only] => (206, Content::Range(*only, total)),
                    _ => (206, Content::Parts(total)),
                },
            };
        }
    }
    plan
}

impl Plan {
    /// How the body is framed for a client of `version`; what to tell [`crate::http1::ServerConn::respond`].
    pub fn body(&self, version: Version, boundary: &Boundary, blob: &Blob<'_>) -> BodyLength {
        if self.is_head { BodyLength::None } else { self.framing(version, boundary, blob) }
    }

    /// The same as it would be for GET.
    fn framing(&self, version: Version, boundary: &Boundary, blob: &Blob<'_>) -> BodyLength {
        match &self.content {
            Content::NotModified => BodyLength::None,
            Content::Whole(_) if self.status == 204 => BodyLength::None,
            Content::Whole(Some(total)) => BodyLength::Length(*total),
            Content::Whole(None) if version == Version::Http10 => BodyLength::UntilClose,
            Content::Whole(None) => BodyLength::Chunked,
            Content::Range(range, _) => BodyLength::Length(range.count()),
            Content::Parts(total) => {
                BodyLength::Length(ranges::parts_len(&self.parts, boundary, blob.content_type_line(), *total))
            }
            Content::Unsatisfiable(_) => BodyLength::Length(0),
        }
    }
}

/// What the head of a response from the cache needs besides what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// The version of the request.
    pub version: Version,
    /// Whether the client's connection goes on, as [`crate::http1::ServerConn::respond`] says.
    pub keep_alive: bool,
    /// Age (RFC 9111 5.1); `None` for the request that fetched it, whose response was not from the cache.
    pub age_s: Option<u64>,
    /// Our member of Cache-Status.
    pub status: CacheStatus<'a>,
    /// Whether this is the request that fetched it: it gets what is for it alone (RFC 9111 5.2.2.4).
    pub is_first: bool,
    /// For several ranges.
    pub boundary: &'a Boundary,
    /// Now, as in Date: for the statuses that we make up (416).
    pub date: &'a [u8; 29],
}

/// Writes the head of the response that `plan` makes of `blob`.
pub fn write_cached_head(
    blob: &Blob<'_>,
    plan: &Plan,
    ctx: &Cached<'_>,
    sink: &mut impl HeadSink,
) -> Result<(), Full> {
    match &plan.content {
        Content::Whole(_) => sink.put(blob.head())?,
        // RFC 9110 15.4.5: what would have been in the 200, as far as it guides caches.
        Content::NotModified => {
            sink.put(b"HTTP/1.1 304 Not Modified\r\n")?;
            sink.put(blob.guide())?;
        }
        Content::Range(range, total) => {
            sink.put(b"HTTP/1.1 206 Partial Content\r\n")?;
            sink.put(blob.guide())?;
            sink.put(blob.content_type_line())?;
            sink.put(blob.rest())?;
            ranges::put_content_range(*range, *total, sink)?;
        }
        Content::Parts(_) => {
            // RFC 9110 15.3.7.2: Content-Type and Content-Range are in the parts.
            sink.put(b"HTTP/1.1 206 Partial Content\r\n")?;
            sink.put(blob.guide())?;
            sink.put(b"Content-Type: multipart/byteranges; boundary=")?;
            sink.put(ctx.boundary.as_bytes())?;
            sink.put(b"\r\n")?;
            sink.put(blob.rest())?;
        }
        Content::Unsatisfiable(total) => {
            sink.put(b"HTTP/1.1 416 Range Not Satisfiable\r\nDate: ")?;
            sink.put(ctx.date)?;
            sink.put(b"\r\n")?;
            ranges::put_unsatisfied_range(*total, sink)?;
        }
    }
    let is_stored = !matches!(plan.content, Content::Unsatisfiable(_));
    if is_stored && ctx.is_first {
        sink.put(blob.first_only())?;
    }
    if is_stored && let Some(age_s) = ctx.age_s {
        put_number(b"Age: ", age_s, sink)?;
    }
    put_via(if blob.facts().has(Flags::HTTP10) { Version::Http10 } else { Version::Http11 }, sink)?;
    write_cache_status(&ctx.status, sink)?;
    let body = plan.framing(ctx.version, ctx.boundary, blob);
    match body {
        // No body follows, so nothing has to be closed or chunked for it (RFC 9110 9.3.2, 8.6).
        BodyLength::Chunked | BodyLength::UntilClose if plan.is_head => {
            put_head_end(BodyLength::None, ctx.version, ctx.keep_alive, sink)
        }
        body => put_head_end(body, ctx.version, ctx.keep_alive, sink),
    }
}
