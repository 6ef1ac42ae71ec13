//! The cache's decisions allocate nothing: not for a hit, a miss, a revalidation, a range, an invalidation.

use l7::cache::policy::blob::{Blob, write_pending};
use l7::cache::policy::decide::{Decision, OriginFailure, decide, decide_on_failure};
use l7::cache::policy::freshness::Times;
use l7::cache::policy::hash::HashKeys;
use l7::cache::policy::key::{UrlParts, write_key};
use l7::cache::policy::ranges::{Boundary, write_part_head, write_parts_end};
use l7::cache::policy::request::RequestFacts;
use l7::cache::policy::respond::{Cached, Content, plan, write_cached_head};
use l7::cache::policy::rules::{CacheRules, KeyRules, QueryRule, names};
use l7::cache::policy::status::CacheStatus;
use l7::cache::policy::{invalidate, storable, validate, vary};
use l7::http1::*;

use crate::malloc::assert_none;

const NOW_MS: u64 = 784_111_777_000;
const REQUEST: &[u8] = b"GET /a?x=1&utm=2 HTTP/1.1\r\nHost: A.example:81\r\nAccept-Encoding: gzip, br;q=0.5\r\n\
    Cookie: a=b; s=1\r\nRange: bytes=0-1,8-\r\nIf-Range: \"a\"\r\nCache-Control: max-age=5, min-fresh=\"1\"\r\n\r\n";
const CONDITIONAL: &[u8] =
    b"HEAD /a?x=1 HTTP/1.1\r\nHost: a.example:81\r\nIf-None-Match: \"x\", W/\"a\"\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"a\"\r\nVary: Accept-Encoding\r\n\
    CDN-Cache-Control: max-age=60;a=1, stale-if-error=5\r\nCache-Control: no-cache=\"b\", private=\"c\"\r\n\
    Cache-Tag: a, b\r\nContent-Type: text/plain\r\nConnection: close\r\nB: 1\r\n\r\n";
const NOT_MODIFIED: &[u8] = b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nC: 2\r\nCache-Tag: d\r\n\r\n";
const POST: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nLocation: ../b/./c\r\n\r\n";

struct Rooms {
    request: HeaderSlots,
    response: HeaderSlots,
    key: [u8; 1024],
    blob: [u8; 4096],
    merged: [u8; 4096],
    head: [u8; 4096],
}

fn request<'b>(bytes: &'b [u8], slots: &'b mut HeaderSlots) -> RequestHead<'b> {
    match parse_request(bytes, &mut HeadScan::new(), &HttpLimits::default(), slots) {
        Ok(Parsed::Complete(head, _)) => head,
        other => panic!("{other:?}"),
    }
}

fn response<'b>(bytes: &'b [u8], method: Method, slots: &'b mut HeaderSlots) -> ResponseHead<'b> {
    match parse_response(bytes, method, &mut HeadScan::new(), &HttpLimits::default(), slots) {
        Ok(Parsed::Complete(head, _)) => head,
        other => panic!("{other:?}"),
    }
}

fn exchanges(rules: &CacheRules, rooms: &mut Rooms) {
    let keys = HashKeys(1, 2);
    let times = Times { request_ms: NOW_MS - 100, response_ms: NOW_MS };
    let date = http_date::format(NOW_MS / 1000);
    let boundary = Boundary::new(7);
    let get = request(REQUEST, &mut rooms.request);
    let facts = RequestFacts::of(&get, rules);
    let mut sink = SliceSink::new(&mut rooms.key);
    write_key(&UrlParts::of(&get, false, b""), &rules.key, &mut sink).expect("room");
    keys.hash(sink.written());
    write_pending(sink.written(), &mut rooms.blob).expect("room");

    // A miss is stored.
    let head = response(RESPONSE, Method::Get, &mut rooms.response);
    let stored = storable::storable(&facts, &head, None, rules, times).expect("it may be stored");
    let n = storable::store(sink.written(), &get.headers(), &head, stored, rules, &keys, &mut rooms.blob)
        .expect("room");

    // A hit, in two parts.
    let blob = Blob::read(&rooms.blob[..n]).expect("a blob");
    assert_eq!(blob.facts().variant, vary::variant(blob.vary(), &get.headers(), &rules.key, &keys));
    assert!(matches!(decide(&facts, &blob.facts(), false, NOW_MS), Decision::Serve { .. }));
    let answer = plan(&facts, &get, &blob, None, NOW_MS);
    assert_eq!(answer.content, Content::Parts(10));
    let ctx = Cached {
        version: get.version(),
        keep_alive: true,
        age_s: Some(1),
        status: CacheStatus { key: Some(blob.key()), ..CacheStatus::hit(59) },
        is_first: false,
        boundary: &boundary,
        date: &date,
    };
    let mut out = SliceSink::new(&mut rooms.head);
    write_cached_head(&blob, &answer, &ctx, &mut out).expect("room");
    answer.body(get.version(), &boundary, &blob);
    for (at, range) in answer.parts.iter().enumerate() {
        write_part_head(at == 0, &boundary, blob.content_type_line(), *range, 10, &mut out).expect("room");
    }
    write_parts_end(&boundary, &mut out).expect("room");

    // A revalidation: what is asked, a failure, a 304.
    let to_origin = ToOrigin {
        client_ip: "192.0.2.1".parse().expect("an address"),
        client_tls: false,
        identity: None,
        host: None,
        forward_expect: false,
        forward_upgrade: false,
        keep_alive: true,
        edits: &[],
    };
    let mut out = SliceSink::new(&mut rooms.head);
    let one = core::iter::once(blob);
    validate::write_fetch_head(&get, &to_origin, one, None, &mut out).expect("room");
    decide_on_failure(&facts, &blob.facts(), false, OriginFailure::NoResponse, NOW_MS + 61_000);
    let head = response(NOT_MODIFIED, Method::Get, &mut rooms.response);
    assert!(validate::is_selected_by(&head, &blob, true));
    let headers = get.headers();
    validate::freshen(&blob, (&facts, &headers), &head, rules, times, &keys, &mut rooms.merged)
        .expect("room");

    // The client's own condition.
    let conditional = request(CONDITIONAL, &mut rooms.request);
    let facts = RequestFacts::of(&conditional, rules);
    let answer = plan(&facts, &conditional, &blob, None, NOW_MS);
    assert_eq!(answer.status, 304);
    let mut out = SliceSink::new(&mut rooms.head);
    write_cached_head(&blob, &answer, &ctx, &mut out).expect("room");

    // An unsafe method.
    let post = request(POST, &mut rooms.request);
    let head = response(CREATED, Method::Post, &mut rooms.response);
    let mut found = 0;
    invalidate::invalidated(&post, false, b"", &head, &rules.key, &mut rooms.head, |_| found += 1);
    assert_eq!(found, 2);
}

#[test]
fn nothing_is_allocated() {
    let rules = CacheRules {
        key: KeyRules {
            query: QueryRule::Except(names(["utm"])),
            headers: names(["X-Device"]),
            cookies: names(["s"]),
            ..KeyRules::default()
        },
        ..CacheRules::default()
    };
    let mut rooms = Rooms {
        request: HeaderSlots::new(),
        response: HeaderSlots::new(),
        key: [0; 1024],
        blob: [0; 4096],
        merged: [0; 4096],
        head: [0; 4096],
    };
    assert_none(|| exchanges(&rules, &mut rooms));
}
