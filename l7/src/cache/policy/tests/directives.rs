//! RFC 9111 5.2 and 1.2.2.

use crate::cache::policy::cache_control::*;

fn response(value: &str) -> ResponseDirectives {
    let mut directives = ResponseDirectives::default();
    value.split('\n').for_each(|line| directives.note(line.as_bytes()));
    directives
}

fn request(value: &str) -> RequestDirectives {
    let mut directives = RequestDirectives::default();
    value.split('\n').for_each(|line| directives.note(line.as_bytes()));
    directives
}

#[test]
fn delta_seconds_are_digits() {
    // RFC 9111 1.2.2.
    let cases: &[(&str, Option<u32>)] = &[
        ("0", Some(0)),
        ("60", Some(60)),
        ("0060", Some(60)),
        ("2147483647", Some(2147483647)),
        ("2147483648", Some(1 << 31)),
        ("2147483649", Some(1 << 31)),
        ("99999999999999999999999999999", Some(1 << 31)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("0x1", None),
        ("1a", None),
        ("a1", None),
        ("1 0", None),
    ];
    for (text, want) in cases {
        assert_eq!(delta_seconds(text.as_bytes()), *want, "{text}");
    }
}

#[test]
fn lifetimes_of_responses() {
    // Section, value, max-age, s-maxage.
    let cases: &[(&str, &str, Option<u32>, Option<u32>)] = &[
        ("5.2.2.1", "max-age=60", Some(60), None),
        ("5.2: names in any case", "MaX-aGe=60", Some(60), None),
        ("5.2: both forms of arguments", "max-age=\"60\"", Some(60), None),
        ("5.2.2.10", "s-maxage=7, max-age=60", Some(60), Some(7)),
        ("5.2.2.10", "S-MaxAge=7", None, Some(7)),
        ("4.2.1: the first of several", "max-age=60, max-age=1", Some(60), None),
        ("4.2.1: the first of several lines", "max-age=60\nmax-age=1", Some(60), None),
        ("4.2.1: no number is stale", "max-age=abc", Some(0), None),
        ("4.2.1: no number is stale", "max-age=60s", Some(0), None),
        ("4.2.1: no number is stale", "max-age=s60", Some(0), None),
        ("4.2.1: no number is stale", "max-age=-60", Some(0), None),
        ("4.2.1: no number is stale", "max-age=1.5", Some(0), None),
        ("4.2.1: no number is stale", "max-age='60'", Some(0), None),
        ("4.2.1: no number is stale", "max-age", Some(0), None),
        ("4.2.1: no number is stale", "max-age=", Some(0), None),
        ("4.2.1: no number is stale", "max-age =60", Some(0), None),
        ("4.2.1: no number is stale", "max-age= 60", Some(0), None),
        ("4.2.1: two words are no number", "max-age=60 60", Some(0), None),
        ("1.2.2: great numbers", "max-age=99999999999", Some(1 << 31), None),
        ("5.2.3: unknown directives", "foo, max-age=60, bar=\"baz\"", Some(60), None),
        ("5.2.3: in a quoted string", "foo=\"max-age=60\", max-age=1", Some(1), None),
        ("5.2.3: in a quoted string", "foo=\"a\\\", max-age=60\", max-age=1", Some(1), None),
        ("5.2.3: after a quoted string", "max-age=1, foo=\"max-age=60\"", Some(1), None),
        ("5.2.3: quotes without end", "foo=\"max-age=60, no-store", None, None),
        ("5.6.1: empty elements", ", ,max-age=60,, ", Some(60), None),
        ("5.6.1: no blanks", "public,max-age=60,immutable", Some(60), None),
        ("5.6.1: tabs", "public\t,\tmax-age=60", Some(60), None),
        ("the whole name counts", "xmax-age=60, max-agex=60", None, None),
        ("another separator is no comma", "max-age=60; public", Some(0), None),
    ];
    for (section, value, max_age_s, s_maxage_s) in cases {
        let got = response(value);
        assert_eq!((got.max_age_s, got.s_maxage_s), (*max_age_s, *s_maxage_s), "{section}: {value}");
    }
}

#[test]
fn switches_of_responses() {
    type Get = fn(&ResponseDirectives) -> bool;
    let cases: &[(&str, &str, Get, bool)] = &[
        ("5.2.2.4", "no-cache", |d| d.no_cache, true),
        ("5.2.2.4", "NO-CACHE", |d| d.no_cache, true),
        ("5.2.2.4: some fields", "no-cache=\"set-cookie\"", |d| d.no_cache, false),
        ("5.2.2.4: some fields", "no-cache=\"set-cookie, a\"", |d| d.no_cache_fields, true),
        ("5.2.2.4: one as a token", "no-cache=set-cookie", |d| d.no_cache_fields, true),
        ("5.2.2.4: an argument that is no list", "no-cache=\"\"", |d| d.no_cache, true),
        ("5.2.2.4: an argument that is no list", "no-cache=\"a b\"", |d| d.no_cache, true),
        ("5.2.2.4: an argument without end", "no-cache=\"a", |d| d.no_cache, true),
        ("5.2.2.4: both", "no-cache=\"a\", no-cache", |d| d.no_cache, true),
        ("5.2.2.5", "no-store", |d| d.no_store, true),
        ("5.2.2.5: with an argument", "no-store=0", |d| d.no_store, true),
        ("5.2.2.5: in another's argument", "foo=\"no-store\"", |d| d.no_store, false),
        ("5.2.2.6", "no-transform", |d| d.no_transform, true),
        ("5.2.2.7", "private", |d| d.private, true),
        ("5.2.2.7: some fields", "private=\"a\"", |d| d.private, false),
        ("5.2.2.7: some fields", "private=\"a\"", |d| d.private_fields, true),
        ("5.2.2.7: an argument that is no list", "private=\"\"", |d| d.private, true),
        ("5.2.2.2", "must-revalidate", |d| d.must_revalidate, true),
        ("5.2.2.3", "must-understand", |d| d.must_understand, true),
        ("5.2.2.8", "proxy-revalidate", |d| d.proxy_revalidate, true),
        ("5.2.2.9", "public", |d| d.public, true),
        ("8246 2", "immutable", |d| d.immutable, true),
        ("5.2.3", "publicx", |d| d.public, false),
    ];
    for (section, value, get, want) in cases {
        assert_eq!(get(&response(value)), *want, "{section}: {value}");
    }
}

#[test]
fn stale_extensions_of_responses() {
    // RFC 5861 3, 4.
    let got = response("stale-while-revalidate=5, stale-if-error=\"10\"");
    assert_eq!((got.swr_s, got.sie_s), (Some(5), Some(10)));
    let got = response("stale-while-revalidate=x, stale-if-error");
    assert_eq!((got.swr_s, got.sie_s), (Some(0), Some(0)), "what cannot be read allows nothing");
}

#[test]
fn requests() {
    let none = RequestDirectives::default();
    let any = Some(u32::MAX);
    let cases: &[(&str, &str, RequestDirectives)] = &[
        ("5.2.1.1", "max-age=5", RequestDirectives { max_age_s: Some(5), ..none }),
        ("5.2.1.1: no number", "max-age=x", RequestDirectives { max_age_s: Some(0), ..none }),
        ("5.2.1.2", "max-stale=5", RequestDirectives { max_stale_s: Some(5), ..none }),
        ("5.2.1.2: any", "max-stale", RequestDirectives { max_stale_s: any, ..none }),
        ("5.2.1.2: no number allows nothing", "max-stale=x", none),
        ("5.2.1.3", "min-fresh=\"5\"", RequestDirectives { min_fresh_s: Some(5), ..none }),
        ("5.2.1.4", "no-cache", RequestDirectives { no_cache: true, ..none }),
        ("5.2.1.4: with an argument", "no-cache=\"a\"", RequestDirectives { no_cache: true, ..none }),
        ("5.2.1.5", "No-Store", RequestDirectives { no_store: true, ..none }),
        ("5.2.1.6", "no-transform", RequestDirectives { no_transform: true, ..none }),
        ("5.2.1.7", "only-if-cached", RequestDirectives { only_if_cached: true, ..none }),
        ("5861 4", "stale-if-error=9", RequestDirectives { stale_if_error_s: Some(9), ..none }),
        ("5.2.3", "foo=1, public, private", none),
        ("4.2.1", "max-age=5\nmax-age=6", RequestDirectives { max_age_s: Some(5), ..none }),
    ];
    for (section, value, want) in cases {
        assert_eq!(request(value), *want, "{section}: {value}");
    }
}

#[test]
fn listed_fields_are_found() {
    let value = b"no-cache=\"A, b ,,c\", private=\"d\", no-cache=e, no-cache";
    let names: Vec<_> = no_cache_fields(value).collect();
    assert_eq!(names, [b"A", b"b", b"c", b"e"]);
    assert_eq!(private_fields(value).collect::<Vec<_>>(), [b"d"]);
}
