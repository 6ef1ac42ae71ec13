//! RFC 9111 3 and its subsections, 5861, 8246; what we do beyond them.

use super::{NOW_S, facts_of, judge, request_facts, with_request, with_response_to};
use crate::cache::policy::facts::Flags;
use crate::cache::policy::request::RequestFacts;
use crate::cache::policy::rules::{CacheRules, Obey, SetCookieRule};
use crate::cache::policy::status::Fwd;
use crate::cache::policy::storable::{NotStored, storable};
use crate::http1::{Method, http_date};

type Lifetime = Result<u32, NotStored>;

#[test]
fn what_is_stored_by_the_book() {
    use NotStored::*;
    // Section, request lines, status, response lines, lifetime.
    let cases: &[(&str, &str, &str, &str, Lifetime)] = &[
        ("3: max-age", "", "200 OK", "Cache-Control: max-age=60\n", Ok(60)),
        ("3: s-maxage", "", "200 OK", "Cache-Control: s-maxage=60\n", Ok(60)),
        ("3: Expires", "", "200 OK", "Expires: Sun, 06 Nov 1994 08:50:37 GMT\n", Ok(60)),
        ("3: public", "", "200 OK", "Cache-Control: public\nETag: \"a\"\n", Ok(0)),
        ("3: a status that may be guessed about", "", "200 OK", "ETag: \"a\"\n", Ok(0)),
        ("3: another status says nothing", "", "302 Found", "ETag: \"a\"\n", Err(NoLifetime)),
        ("3: another status, max-age", "", "302 Found", "Cache-Control: max-age=60\n", Ok(60)),
        ("3: another status, Expires", "", "302 Found", "Expires: Sun, 06 Nov 1994 08:50:37 GMT\n", Ok(60)),
        ("3: another status, public", "", "302", "Cache-Control: public\nETag: \"a\"\n", Ok(0)),
        ("3: an error", "", "500 Oops", "Cache-Control: max-age=60\n", Ok(60)),
        ("3: an error says nothing", "", "500 Oops", "ETag: \"a\"\n", Err(NoLifetime)),
        ("3: a status of no RFC", "", "299 Odd", "Cache-Control: max-age=60\n", Ok(60)),
        ("3: a status of no RFC", "", "599 Odd", "Cache-Control: max-age=60\n", Ok(60)),
        ("3: 206", "", "206 Partial", "Cache-Control: max-age=60\nContent-Range: bytes 0-1/3\n", Err(Status)),
        ("3: 304", "", "304 Not Modified", "Cache-Control: max-age=60\n", Err(Status)),
        ("3: 412 is about one request", "", "412 No", "Cache-Control: max-age=60\n", Err(Status)),
        ("3: 416 is about one request", "", "416 No", "Cache-Control: max-age=60\n", Err(Status)),
        ("3: no use", "", "200 OK", "", Err(Useless)),
        ("3: no use", "", "200 OK", "Cache-Control: max-age=0\n", Err(Useless)),
        ("3: no use", "", "200 OK", "Cache-Control: no-cache\n", Err(Useless)),
        ("3: no use", "", "200 OK", "Cache-Control: no-cache, max-age=60\n", Err(Useless)),
        ("3: stale, with a validator", "", "200 OK", "Cache-Control: max-age=0\nETag: \"a\"\n", Ok(0)),
        ("3: stale, within swr", "", "200 OK", "Cache-Control: max-age=0, stale-while-revalidate=1\n", Ok(0)),
        (
            "3: Pragma in responses means nothing",
            "",
            "200",
            "Pragma: no-cache\nCache-Control: max-age=60\n",
            Ok(60),
        ),
        ("3.3: HTTP/1.0's lack of a length is no hint", "", "200", "Cache-Control: max-age=60\n", Ok(60)),
        ("4.1: Vary *", "", "200", "Cache-Control: max-age=60\nVary: *\n", Err(VaryAny)),
        ("4.1: Vary * in a list", "", "200", "Cache-Control: max-age=60\nVary: a, *\n", Err(VaryAny)),
        (
            "4.1: Vary * in a second line",
            "",
            "200",
            "Cache-Control: max-age=60\nVary: a\nVary: *\n",
            Err(VaryAny),
        ),
        ("4.1: Vary", "", "200", "Cache-Control: max-age=60\nVary: a*\n", Ok(60)),
        ("5.2.2.5", "", "200", "Cache-Control: no-store\n", Err(NoStore)),
        ("5.2.2.5", "", "200", "Cache-Control: no-store, max-age=60, public\n", Err(NoStore)),
        (
            "5.2.2.5: a second line",
            "",
            "200",
            "Cache-Control: max-age=60\nCache-Control: No-Store\n",
            Err(NoStore),
        ),
        ("5.2.2.7", "", "200", "Cache-Control: private, max-age=60\n", Err(Private)),
        ("5.2.2.7: a field", "", "200", "Cache-Control: private=\"a\", max-age=60\nA: 1\n", Err(Private)),
        (
            "5.2.2.7: a field that is not there",
            "",
            "200",
            "Cache-Control: private=\"a\", max-age=60\n",
            Ok(60),
        ),
        ("5.2.2.4", "", "200", "Cache-Control: no-cache, max-age=60\nETag: \"a\"\n", Ok(60)),
        ("5.2.2.3: known", "", "200", "Cache-Control: must-understand, no-store, max-age=60\n", Ok(60)),
        ("5.2.2.3: unknown", "", "299", "Cache-Control: must-understand, max-age=60\n", Err(Status)),
        (
            "5.2.2.3: unknown",
            "",
            "499",
            "Cache-Control: must-understand, max-age=60, no-store\n",
            Err(Status),
        ),
        ("5.2.1.5", "Cache-Control: no-store\n", "200", "Cache-Control: max-age=60\n", Err(RequestNoStore)),
        ("5.2.1.4: stored", "Cache-Control: no-cache\n", "200", "Cache-Control: max-age=60\n", Ok(60)),
        ("5.2.1.1: stored", "Cache-Control: max-age=0\n", "200", "Cache-Control: max-age=60\n", Ok(60)),
        ("3.5", "Authorization: x\n", "200", "Cache-Control: max-age=60\n", Err(Authorization)),
        ("3.5", "Authorization: x\n", "200", "Expires: Sun, 06 Nov 1994 08:50:37 GMT\n", Err(Authorization)),
        ("3.5", "Authorization: x\n", "200", "Cache-Control: max-age=60, public\n", Ok(60)),
        ("3.5", "Authorization: x\n", "200", "Cache-Control: max-age=60, must-revalidate\n", Ok(60)),
        ("3.5", "Authorization: x\n", "200", "Cache-Control: s-maxage=60\n", Ok(60)),
        (
            "3.5: not for us",
            "Authorization: x\n",
            "200",
            "Cache-Control: max-age=60, proxy-revalidate\n",
            Err(Authorization),
        ),
        (
            "3.5: private comes first",
            "Authorization: x\n",
            "200",
            "Cache-Control: public, private\n",
            Err(Private),
        ),
        ("7.3: Set-Cookie, stated", "", "200", "Cache-Control: max-age=60\nSet-Cookie: a=b\n", Ok(60)),
        (
            "7.3: Set-Cookie, stated",
            "",
            "200",
            "Set-Cookie: a=b\nExpires: Sun, 06 Nov 1994 08:50:37 GMT\n",
            Ok(60),
        ),
        (
            "7.3: Set-Cookie, public",
            "",
            "200",
            "Cache-Control: public\nETag: \"a\"\nSet-Cookie: a=b\n",
            Ok(0),
        ),
        ("7.3: Set-Cookie, guessed", "", "200", "ETag: \"a\"\nSet-Cookie: a=b\n", Err(SetCookie)),
        (
            "9110 9.3.1: a Range that is ignored",
            "Range: bytes=0-1\n",
            "200",
            "Cache-Control: max-age=60\n",
            Ok(60),
        ),
    ];
    for (section, request, status, lines, want) in cases {
        let got = judge(request, status, lines, None, &CacheRules::default()).map(|facts| facts.fresh_s);
        assert_eq!(got, *want, "{section}: {request:?} {status} {lines:?}");
    }
}

#[test]
fn methods_and_requests_that_the_cache_is_not_asked_about() {
    // Section, start line, lines, why, whether the response may be stored.
    let cases: &[(&str, &str, &str, Option<Fwd>, bool)] = &[
        ("3", "GET / HTTP/1.1", "", None, true),
        ("4: HEAD is answered, its response not stored", "HEAD / HTTP/1.1", "", None, false),
        ("3", "POST / HTTP/1.1", "", Some(Fwd::Method), false),
        ("3", "PUT / HTTP/1.1", "", Some(Fwd::Method), false),
        ("3", "OPTIONS * HTTP/1.1", "", Some(Fwd::Method), false),
        ("3: methods that we do not know", "FOO / HTTP/1.1", "", Some(Fwd::Method), false),
        ("3: methods have a case", "get / HTTP/1.1", "", Some(Fwd::Method), false),
        ("9110 9.3.1: content", "GET / HTTP/1.1", "Content-Length: 1\n", Some(Fwd::Bypass), false),
        ("9110 13.1.1", "GET / HTTP/1.1", "If-Match: \"a\"\n", Some(Fwd::Bypass), false),
        ("9110 13.1.4", "GET / HTTP/1.1", "If-Unmodified-Since: x\n", Some(Fwd::Bypass), false),
        ("9110 7.8", "GET / HTTP/1.1", "Connection: upgrade\nUpgrade: websocket\n", Some(Fwd::Bypass), false),
        ("9111 4.3.2", "GET / HTTP/1.1", "If-None-Match: \"a\"\n", None, true),
        ("5.2.1.5", "GET / HTTP/1.1", "Cache-Control: no-store\n", None, false),
    ];
    for (section, start, lines, pass, may_store) in cases {
        let facts = with_request(start, &format!("Host: a\n{lines}"), |head| {
            RequestFacts::of(head, &CacheRules::default())
        });
        assert_eq!((facts.pass, facts.may_store()), (*pass, *may_store), "{section}: {start} {lines:?}");
    }
    let facts =
        with_request("HEAD / HTTP/1.1", "Host: a\n", |head| RequestFacts::of(head, &CacheRules::default()));
    with_response_to(Method::Head, "200", "Cache-Control: max-age=60\n", |head| {
        let times = super::TIMES;
        assert_eq!(storable(&facts, head, None, &CacheRules::default(), times), Err(NotStored::Request));
    });
}

#[test]
fn pragma_in_requests() {
    // RFC 9111 5.4, as RFC 7234 had it: only where Cache-Control is not there.
    for (lines, want) in [
        ("Pragma: no-cache\n", true),
        ("Pragma: foo, No-Cache\n", true),
        ("Pragma: foo\n", false),
        ("Pragma: no-cache\nCache-Control: max-age=9\n", false),
        ("Pragma: no-cache\nCache-Control: no-cache\n", true),
    ] {
        assert_eq!(request_facts(lines).wants.no_cache, want, "{lines}");
    }
}

#[test]
fn the_operator_may_let_requests_ask_in_vain() {
    let rules =
        CacheRules { obey: Obey { no_cache: false, no_store: false, ages: false }, ..CacheRules::default() };
    let lines =
        "Host: a\nCache-Control: no-cache, no-store, max-age=0, min-fresh=1, max-stale, only-if-cached\n";
    let facts = with_request("GET / HTTP/1.1", lines, |head| RequestFacts::of(head, &rules));
    assert!(facts.may_store() && !facts.wants.no_cache && facts.wants.only_if_cached);
    assert_eq!((facts.wants.max_age_s, facts.wants.min_fresh_s, facts.wants.max_stale_s), (None, None, None));
}

#[test]
fn what_the_operator_decides() {
    let base = CacheRules::default();
    let ttl = CacheRules { default_ttl_s: Some(300), ..base.clone() };
    let bounds = CacheRules { min_ttl_s: 10, max_ttl_s: 100, ..base.clone() };
    let errors = CacheRules { status_ttl_s: Box::new([(404, 5), (503, 1), (302, 7)]), ..ttl.clone() };
    let guesses = CacheRules { heuristic_max_s: 50, ..base.clone() };
    let no_guesses = CacheRules { heuristic_max_s: 0, ..base.clone() };
    let strict = CacheRules { set_cookie: SetCookieRule::Never, ..base.clone() };
    let old = "Last-Modified: Sat, 05 Nov 1994 08:49:37 GMT\n";
    let cases: &[(&str, &CacheRules, &str, &str, Lifetime)] = &[
        ("default_ttl", &ttl, "200", "", Ok(300)),
        ("default_ttl before guesses", &ttl, "200", old, Ok(300)),
        ("default_ttl after what is stated", &ttl, "200", "Cache-Control: max-age=1\n", Ok(1)),
        ("default_ttl after what is stated", &ttl, "200", "Expires: 0\nETag: \"a\"\n", Ok(0)),
        ("default_ttl not for errors", &ttl, "404", "ETag: \"a\"\n", Ok(0)),
        ("default_ttl not for every status", &ttl, "302", "", Err(NotStored::NoLifetime)),
        ("default_ttl not with Set-Cookie", &ttl, "200", "Set-Cookie: a=b\n", Err(NotStored::SetCookie)),
        (
            "default_ttl not against no-store",
            &ttl,
            "200",
            "Cache-Control: no-store\n",
            Err(NotStored::NoStore),
        ),
        ("min_ttl", &bounds, "200", "Cache-Control: max-age=1\n", Ok(10)),
        ("min_ttl not for stale", &bounds, "200", "Cache-Control: max-age=0\nETag: \"a\"\n", Ok(0)),
        ("max_ttl", &bounds, "200", "Cache-Control: max-age=1000\n", Ok(100)),
        ("negative", &errors, "404", "", Ok(5)),
        ("negative", &errors, "503", "", Ok(1)),
        ("by status", &errors, "302", "", Ok(7)),
        ("negative, stated", &errors, "404", "Cache-Control: max-age=60\n", Ok(60)),
        ("negative, forbidden", &errors, "404", "Cache-Control: no-store\n", Err(NotStored::NoStore)),
        ("guessed", &base, "200", old, Ok(8640)),
        ("guessed for errors", &base, "404", old, Ok(8640)),
        ("guessed, bounded", &guesses, "200", old, Ok(50)),
        ("no guesses", &no_guesses, "200", old, Ok(0)),
        (
            "no Set-Cookie",
            &strict,
            "200",
            "Cache-Control: max-age=60\nSet-Cookie: a=b\n",
            Err(NotStored::SetCookie),
        ),
    ];
    for (what, rules, status, lines, want) in cases {
        let got = judge("", status, lines, None, rules).map(|facts| facts.fresh_s);
        assert_eq!(got, *want, "{what}: {status} {lines:?}");
    }
}

#[test]
fn every_status_that_may_be_guessed_about() {
    // RFC 9110 15.1; 206 is stored as a slice only.
    let guessed = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
    for status in (200..=599).filter(|s| ![206, 304, 412, 416].contains(s)) {
        let got = facts_of(&status.to_string(), "Last-Modified: Sat, 05 Nov 1994 08:49:37 GMT\n");
        assert_eq!(got.is_ok(), guessed.contains(&status), "{status}");
    }
}

#[test]
fn staleness_that_is_allowed() {
    let by_rule = CacheRules { swr_s: 1, sie_s: 2, ..CacheRules::default() };
    // Section, directives after max-age=60, stale-while-revalidate, stale-if-error.
    for (section, directives, swr_s, sie_s) in [
        ("the rules", "", 1, 2),
        ("5861 3", "stale-while-revalidate=5", 5, 2),
        ("5861 4", "stale-if-error=6", 1, 6),
        ("5861: none", "stale-while-revalidate=0, stale-if-error=0", 0, 0),
        ("5.2.2.2", "must-revalidate", 0, 0),
        ("5.2.2.2", "must-revalidate, stale-while-revalidate=5, stale-if-error=6", 0, 0),
        ("5.2.2.8", "proxy-revalidate, stale-if-error=6", 0, 0),
        ("5.2.2.10", "s-maxage=60", 0, 0),
        ("5.2.2.10: the response itself allows it", "s-maxage=60, stale-while-revalidate=5", 5, 0),
        ("5.2.2.4", "no-cache, stale-while-revalidate=5", 0, 0),
    ] {
        let lines = format!("Cache-Control: max-age=60, {directives}\nETag: \"a\"\n");
        let facts = judge("", "200", &lines, None, &by_rule).expect(section);
        assert_eq!((facts.swr_s, facts.sie_s), (swr_s, sie_s), "{section}: {directives}");
    }
}

#[test]
fn flags() {
    let flag =
        |lines: &str, flag| facts_of("200", &format!("{lines}Cache-Control: max-age=9\n")).unwrap().has(flag);
    assert!(flag("Cache-Control: immutable\n", Flags::IMMUTABLE));
    assert!(flag("ETag: \"a\"\n", Flags::ETAG) && flag("ETag: \"a\"\n", Flags::STRONG_ETAG));
    assert!(flag("ETag: W/\"a\"\n", Flags::ETAG) && !flag("ETag: W/\"a\"\n", Flags::STRONG_ETAG));
    assert!(flag("ETag: a\n", Flags::ETAG) && !flag("ETag: a\n", Flags::STRONG_ETAG));
    for bad in ["", "a b", "a,b", "\"a", "\"a\"b\"", "W/", "*"] {
        assert!(!flag(&format!("ETag: {bad}\n"), Flags::ETAG), "{bad}");
    }
    let date = |ago: u64| String::from_utf8(http_date::format(NOW_S - ago).to_vec()).unwrap();
    // RFC 9110 8.8.2.2.
    for (apart, strong) in [(59, false), (60, true)] {
        let lines = format!("Date: {}\nLast-Modified: {}\n", date(0), date(apart));
        assert_eq!(flag(&lines, Flags::STRONG_DATE), strong);
    }
    assert!(
        !flag(&format!("Last-Modified: {}\n", date(99)), Flags::STRONG_DATE),
        "without Date nothing is sure"
    );
}

#[test]
fn sizes() {
    let rules = CacheRules { object_bytes_max: 10, ..CacheRules::default() };
    for (lines, want) in [
        ("Content-Length: 10\n", Ok(10)),
        ("Content-Length: 11\n", Err(NotStored::TooLarge)),
        ("Transfer-Encoding: chunked\n", Ok(u64::MAX)),
        ("", Ok(u64::MAX)),
    ] {
        let lines = format!("Cache-Control: max-age=1\n{lines}");
        assert_eq!(judge("", "200", &lines, None, &rules).map(|facts| facts.body_total), want, "{lines}");
    }
}
