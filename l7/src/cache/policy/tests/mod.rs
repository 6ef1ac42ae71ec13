//! What the policy decides, in tables: each case names the section that it is about.

use super::blob::Blob;
use super::facts::Facts;
use super::freshness::Times;
use super::hash::HashKeys;
use super::request::RequestFacts;
use super::rules::CacheRules;
use super::slices::SliceWanted;
use super::storable::{self, NotStored};
use crate::http1::*;

mod blobs;
mod deciding;
mod directives;
mod fields;
mod invalidating;
mod keys;
mod properties;
mod ranging;
mod responding;
mod slices;
mod storing;
mod targeting;
mod validating;
mod varying;

/// Sun, 06 Nov 1994 08:49:37 GMT.
pub const NOW_S: u64 = 784_111_777;
pub const NOW_MS: u64 = NOW_S * 1000;
pub const TIMES: Times = Times { request_ms: NOW_MS, response_ms: NOW_MS };
pub const KEYS: HashKeys = HashKeys(1, 2);

/// A GET for `http://a/` with these header lines, each ended by `\n`.
pub fn with_get<T>(lines: &str, f: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    with_request("GET / HTTP/1.1", &format!("Host: a\n{lines}"), f)
}

pub fn with_request<T>(start: &str, lines: &str, f: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let text = format!("{start}\r\n{}\r\n", lines.replace('\n', "\r\n"));
    let mut slots = HeaderSlots::new();
    let parsed = parse_request(text.as_bytes(), &mut HeadScan::new(), &HttpLimits::default(), &mut slots);
    match parsed {
        Ok(Parsed::Complete(head, _)) => f(&head),
        other => panic!("{other:?} from {text:?}"),
    }
}

/// A response to GET; `start` is like `200` or `200 OK`.
pub fn with_response<T>(start: &str, lines: &str, f: impl FnOnce(&ResponseHead<'_>) -> T) -> T {
    with_response_to(Method::Get, start, lines, f)
}

pub fn with_response_to<T>(
    method: Method,
    start: &str,
    lines: &str,
    f: impl FnOnce(&ResponseHead<'_>) -> T,
) -> T {
    let text = format!("HTTP/1.1 {start}\r\n{}\r\n", lines.replace('\n', "\r\n"));
    let mut slots = HeaderSlots::new();
    let parsed =
        parse_response(text.as_bytes(), method, &mut HeadScan::new(), &HttpLimits::default(), &mut slots);
    match parsed {
        Ok(Parsed::Complete(head, _)) => f(&head),
        other => panic!("{other:?} from {text:?}"),
    }
}

pub fn request_facts(lines: &str) -> RequestFacts {
    with_get(lines, |head| RequestFacts::of(head, &CacheRules::default()))
}

/// The facts of a response to a plain GET that arrives now.
pub fn facts_of(status: &str, lines: &str) -> Result<Facts, NotStored> {
    judge("", status, lines, None, &CacheRules::default())
}

pub fn judge(
    request: &str,
    status: &str,
    lines: &str,
    slice: Option<SliceWanted>,
    rules: &CacheRules,
) -> Result<Facts, NotStored> {
    let facts = with_get(request, |head| RequestFacts::of(head, rules));
    with_response(status, lines, |head| storable::storable(&facts, head, slice, rules, TIMES))
}

/// The blob of a response to a GET that arrives now.
pub fn blob_of(request: &str, status: &str, lines: &str) -> Vec<u8> {
    let rules = CacheRules::default();
    with_get(request, |get| {
        let request = RequestFacts::of(get, &rules);
        with_response(status, lines, |head| {
            let facts = storable::storable(&request, head, None, &rules, TIMES).expect("it may be stored");
            let mut out = vec![0; 64 * 1024];
            let len = storable::store(b"http://a/", &get.headers(), head, facts, &rules, &KEYS, &mut out)
                .expect("room");
            out.truncate(len);
            out
        })
    })
}

pub fn read(bytes: &[u8]) -> Blob<'_> {
    Blob::read(bytes).expect("a blob")
}

pub fn text(f: impl FnOnce(&mut SliceSink<'_>) -> Result<(), Full>) -> String {
    let mut room = vec![0; 64 * 1024];
    let mut sink = SliceSink::new(&mut room);
    f(&mut sink).expect("room");
    String::from_utf8(sink.written().to_vec()).expect("ASCII")
}
