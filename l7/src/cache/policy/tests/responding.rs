//! Responses made of stored ones: RFC 9111 4, 5.1; RFC 9110 15.3.7, 15.4.5, 15.5.17; RFC 9211.

use super::*;
use crate::cache::policy::facts::Flags;
use crate::cache::policy::ranges::Boundary;
use crate::cache::policy::respond::*;
use crate::cache::policy::status::*;

const STORED: &str = "Cache-Control: max-age=60\nETag: \"a\"\nLast-Modified: Sun, 06 Nov 1994 08:00:00 GMT\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\nContent-Type: text/plain\nB: 1\nContent-Length: 10\n\
    Connection: close, C\nC: 1\nKeep-Alive: 5\nProxy-Authenticate: x\nProxy-Authentication-Info: y\n\
    Age: 3\nVia: 1.0 inner\nCache-Status: inner; hit\nSurrogate-Key: t u\n";

/// The answer to a request, and the framing that goes with it.
fn answer(
    start: &str,
    request: &str,
    stored: &[u8],
    total: Option<u64>,
    first: bool,
) -> (String, BodyLength) {
    let rules = CacheRules::default();
    let blob = read(stored);
    let boundary = Boundary::new(0);
    let date = http_date::format(NOW_S);
    with_request(start, &format!("Host: a\n{request}"), |head| {
        let facts = RequestFacts::of(head, &rules);
        let plan = plan(&facts, head, &blob, total, NOW_MS);
        let ctx = Cached {
            version: head.version(),
            keep_alive: true,
            age_s: (!first).then_some(7),
            status: CacheStatus::hit(53),
            is_first: first,
            boundary: &boundary,
            date: &date,
        };
        let head = text(|sink| write_cached_head(&blob, &plan, &ctx, sink));
        (head, plan.body(ctx.version, &boundary, &blob))
    })
}

const GET: &str = "GET / HTTP/1.1";

#[test]
fn the_whole() {
    let stored = blob_of("", "200 OK", STORED);
    let (head, body) = answer(GET, "", &stored, None, false);
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/plain\r\nLast-Modified: Sun, 06 Nov 1994 08:00:00 GMT\r\nB: 1\r\nVia: 1.0 inner\r\n\
         Cache-Status: inner; hit\r\nAge: 7\r\nVia: 1.1 millrace\r\nCache-Status: millrace; hit; ttl=53\r\n\
         Content-Length: 10\r\n\r\n"
    );
    assert_eq!(body, BodyLength::Length(10));
}

#[test]
fn head_from_get() {
    // RFC 9110 9.3.2, RFC 9111 4.
    let stored = blob_of("", "200 OK", STORED);
    let (get, _) = answer(GET, "", &stored, None, false);
    let (head, body) = answer("HEAD / HTTP/1.1", "Range: bytes=0-1\n", &stored, None, false);
    assert_eq!((head, body), (get, BodyLength::None), "Range means nothing to HEAD (RFC 9110 14.2)");
    let chunked = blob_of("", "200 OK", "Cache-Control: max-age=60\nTransfer-Encoding: chunked\n");
    let (head, body) = answer("HEAD / HTTP/1.0", "", &chunked, None, false);
    assert!(head.ends_with("Connection: keep-alive\r\n\r\n") && !head.contains("Transfer"), "{head}");
    assert_eq!(body, BodyLength::None);
}

#[test]
fn bodies_of_unknown_length() {
    let stored = blob_of("", "200", "Cache-Control: max-age=60\nTransfer-Encoding: chunked\n");
    for (start, total, framing, last) in [
        (GET, None, BodyLength::Chunked, "Transfer-Encoding: chunked\r\n\r\n"),
        (GET, Some(7), BodyLength::Length(7), "Content-Length: 7\r\n\r\n"),
        ("GET / HTTP/1.0", None, BodyLength::UntilClose, "Connection: close\r\n\r\n"),
    ] {
        let (head, body) = answer(start, "Range: bytes=0-1\n", &stored, total, false);
        if total.is_none() {
            assert!(head.starts_with("HTTP/1.1 200") && head.ends_with(last), "{head}");
            assert_eq!(body, framing);
        } else {
            assert!(head.starts_with("HTTP/1.1 206"), "with a length there are ranges");
        }
    }
}

#[test]
fn not_modified() {
    // RFC 9110 15.4.5.
    let stored = blob_of("", "200 OK", STORED);
    let (head, body) = answer(GET, "If-None-Match: \"a\"\nRange: bytes=0-1\n", &stored, None, false);
    assert_eq!(
        head,
        "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nAge: 7\r\nVia: 1.1 millrace\r\n\
         Cache-Status: millrace; hit; ttl=53\r\n\r\n"
    );
    assert_eq!(body, BodyLength::None);
    let dated =
        blob_of("", "200", "Cache-Control: max-age=60\nLast-Modified: Sun, 06 Nov 1994 08:00:00 GMT\n");
    let (head, _) = answer(GET, "If-Modified-Since: Sun, 06 Nov 1994 08:00:00 GMT\n", &dated, None, false);
    assert!(head.contains("304") && head.contains("Last-Modified: "), "the only validator guides: {head}");
}

#[test]
fn ranges() {
    let stored = blob_of("", "200 OK", STORED);
    // Section, the request's lines, status, Content-Range, framing.
    let cases: &[(&str, &str, &str, &str, BodyLength)] = &[
        ("15.3.7", "Range: bytes=0-3\n", "206", "bytes 0-3/10", BodyLength::Length(4)),
        ("15.3.7: all of it", "Range: bytes=0-\n", "206", "bytes 0-9/10", BodyLength::Length(10)),
        ("14.1.2: the last", "Range: bytes=-2\n", "206", "bytes 8-9/10", BodyLength::Length(2)),
        ("15.5.17", "Range: bytes=10-\n", "416", "bytes */10", BodyLength::Length(0)),
        ("14.2: two lines", "Range: bytes=0-1\nRange: bytes=2-3\n", "200", "", BodyLength::Length(10)),
        ("14.2: another unit", "Range: lines=0-1\n", "200", "", BodyLength::Length(10)),
        ("13.1.5", "Range: bytes=0-3\nIf-Range: \"a\"\n", "206", "bytes 0-3/10", BodyLength::Length(4)),
        ("13.1.5: another", "Range: bytes=0-3\nIf-Range: \"b\"\n", "200", "", BodyLength::Length(10)),
        ("13.1.5: without Range", "If-Range: \"b\"\n", "200", "", BodyLength::Length(10)),
        (
            "13.2.2: If-Range cannot fail a 416",
            "Range: bytes=99-\nIf-Range: \"b\"\n",
            "200",
            "",
            BodyLength::Length(10),
        ),
    ];
    for (section, request, status, range, framing) in cases {
        let (head, body) = answer(GET, request, &stored, None, false);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{section}: {head}");
        assert_eq!(head.contains("Content-Range"), !range.is_empty(), "{section}");
        assert!(
            range.is_empty() || head.contains(&format!("Content-Range: {range}\r\n")),
            "{section}: {head}"
        );
        assert_eq!(body, *framing, "{section}");
        let BodyLength::Length(length) = body else { panic!("{section}") };
        assert!(head.contains(&format!("Content-Length: {length}\r\n")), "{section}: {head}");
        assert_eq!(head.contains("ETag"), *status != "416", "{section}: a 416 is not the representation");
    }
    // RFC 9110 14.2: only a 200 has ranges.
    let error = blob_of("", "404", "Cache-Control: max-age=60\nContent-Length: 10\n");
    assert!(answer(GET, "Range: bytes=0-3\n", &error, None, false).0.starts_with("HTTP/1.1 404"));
}

#[test]
fn several_ranges() {
    // RFC 9110 15.3.7.2.
    let stored = blob_of("", "200 OK", STORED);
    let (head, body) = answer(GET, "Range: bytes=0-0,5-6\n", &stored, None, false);
    assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
    assert!(head.contains("Content-Type: multipart/byteranges; boundary=0000000000000000\r\n"), "{head}");
    assert!(!head.contains("text/plain") && !head.contains("Content-Range"), "{head}");
    let BodyLength::Length(length) = body else { panic!("{body:?}") };
    assert!(length > 3 && head.contains(&format!("Content-Length: {length}\r\n")));
}

#[test]
fn fields_for_the_first_only() {
    // RFC 9111 5.2.2.4: without validation the listed fields are not used again.
    let lines = "Cache-Control: max-age=60, no-cache=\"set-cookie, x\"\nSet-Cookie: a=b\nX: 1\nY: 2\n";
    let stored = blob_of("", "200", lines);
    let (first, _) = answer(GET, "", &stored, None, true);
    assert!(first.contains("Set-Cookie: a=b\r\n") && first.contains("X: 1\r\n") && !first.contains("Age:"));
    let (next, _) = answer(GET, "", &stored, None, false);
    assert!(!next.contains("Set-Cookie: ") && !next.contains("X: 1") && next.contains("Y: 2\r\n"), "{next}");
}

#[test]
fn old_versions_and_odd_statuses() {
    let bytes = "HTTP/1.0 204 No Content\r\nCache-Control: max-age=60\r\n\r\n";
    let mut slots = HeaderSlots::new();
    let parsed = parse_response(
        bytes.as_bytes(),
        Method::Get,
        &mut HeadScan::new(),
        &HttpLimits::default(),
        &mut slots,
    );
    let Ok(Parsed::Complete(head, _)) = parsed else { panic!("a head") };
    let request = request_facts("");
    let rules = CacheRules::default();
    let facts = storable::storable(&request, &head, None, &rules, TIMES).expect("it may be stored");
    assert!(facts.has(Flags::HTTP10));
    let mut out = [0; 1024];
    let len =
        with_get("", |get| storable::store(b"k", &get.headers(), &head, facts, &rules, &KEYS, &mut out))
            .expect("room");
    let (head, body) = answer(GET, "", &out[..len], Some(0), false);
    assert!(head.contains("Via: 1.0 millrace\r\n") && !head.contains("Content-Length"), "{head}");
    assert_eq!(body, BodyLength::None);
}

#[test]
fn cache_status() {
    // RFC 9211 2.
    let base = CacheStatus::default();
    let cases: &[(CacheStatus<'_>, &str)] = &[
        (CacheStatus::hit(5), "hit; ttl=5"),
        (CacheStatus::hit(-5), "hit; ttl=-5"),
        (CacheStatus::forwarded(Fwd::UriMiss), "fwd=uri-miss"),
        (CacheStatus::forwarded(Fwd::VaryMiss), "fwd=vary-miss"),
        (CacheStatus::forwarded(Fwd::Miss), "fwd=miss"),
        (CacheStatus::forwarded(Fwd::Bypass), "fwd=bypass"),
        (CacheStatus::forwarded(Fwd::Method), "fwd=method"),
        (CacheStatus::forwarded(Fwd::Request), "fwd=request"),
        (CacheStatus::forwarded(Fwd::Partial), "fwd=partial"),
        (
            CacheStatus {
                fwd_status: Some(304),
                ttl_s: Some(60),
                stored: true,
                ..CacheStatus::forwarded(Fwd::Stale)
            },
            "fwd=stale; fwd-status=304; ttl=60; stored",
        ),
        (
            CacheStatus { collapsed: Some(true), ..CacheStatus::forwarded(Fwd::UriMiss) },
            "fwd=uri-miss; collapsed",
        ),
        (
            CacheStatus { collapsed: Some(false), ..CacheStatus::forwarded(Fwd::UriMiss) },
            "fwd=uri-miss; collapsed=?0",
        ),
        (CacheStatus { key: Some(b"http://a/\\?\"b\""), ..base }, "hit; key=\"http://a/\\\\?\\\"b\\\"\""),
        (CacheStatus { detail: Some("stale-if-error"), ..base }, "hit; detail=stale-if-error"),
    ];
    for (status, want) in cases {
        let line = text(|sink| write_cache_status(status, sink));
        assert_eq!(line, format!("Cache-Status: millrace; {want}\r\n"));
    }
}
