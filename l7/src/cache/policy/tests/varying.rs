//! RFC 9111 4.1, RFC 9110 12.5.

use super::{KEYS, text, with_get, with_response};
use crate::cache::policy::fields::of_headers;
use crate::cache::policy::rules::{KeyRules, names};
use crate::cache::policy::vary::*;

fn variant_of(vary: &str, lines: &str, rules: &KeyRules) -> u64 {
    with_get(lines, |head| variant(vary.as_bytes(), &head.headers(), rules, &KEYS))
}

#[test]
fn which_requests_match() {
    let rules = KeyRules::default();
    // Section, names, lines of one request, lines of another, whether they match.
    let cases: &[(&str, &str, &str, &str, bool)] = &[
        ("4.1: no Vary", "", "A: 1\n", "A: 2\n", true),
        ("4.1", "a", "A: 1\n", "A: 1\n", true),
        ("4.1", "a", "A: 1\n", "A: 2\n", false),
        ("4.1: other fields do not count", "a", "A: 1\nB: 1\n", "A: 1\nB: 2\n", true),
        ("4.1: names in any case", "a", "A: 1\n", "a: 1\n", true),
        ("4.1: values have a case", "a", "A: x\n", "A: X\n", false),
        ("4.1: absent matches absent", "a", "B: 1\n", "", true),
        ("4.1: absent is not empty", "a", "A:\n", "", false),
        ("4.1: absent is not there", "a", "A: 1\n", "", false),
        ("4.1: all of several", "a,b", "A: 1\nB: 2\n", "B: 2\nA: 1\n", true),
        ("4.1: all of several", "a,b", "A: 1\nB: 2\n", "A: 1\nB: 3\n", false),
        ("4.1: values stay with their names", "a,b", "A: 1\nB: 2\n", "A: 2\nB: 1\n", false),
        ("4.1: values stay with their names", "a,b", "A: 1\n", "B: 1\n", false),
        ("4.1: lines are one list", "a", "A: 1\nA: 2\n", "A: 1, 2\n", true),
        ("4.1: blanks around commas", "a", "A: 1,2\n", "A: 1 \t, \t2\n", true),
        ("4.1: blanks elsewhere", "a", "A: 1 2\n", "A: 12\n", false),
        ("4.1: blanks in quotes", "a", "A: \"1,2\"\n", "A: \"1, 2\"\n", false),
        ("4.1: quotes that are escaped", "a", "A: \"\\\"1, 2\"\n", "A: \"\\\"1,2\"\n", false),
        ("4.1: order may count", "a", "A: 1, 2\n", "A: 2, 1\n", false),
        ("4.1: two are not one", "a", "A: 1\nA: 2\n", "A: 12\n", false),
        (
            "12.5.3: order does not count",
            "accept-encoding",
            "Accept-Encoding: gzip, br\n",
            "Accept-Encoding: br,gzip\n",
            true,
        ),
        (
            "12.5.3: in two lines",
            "accept-encoding",
            "Accept-Encoding: gzip\nAccept-Encoding: br\n",
            "Accept-Encoding: br,gzip\n",
            true,
        ),
        ("12.5.3: any case", "accept-encoding", "Accept-Encoding: GZip\n", "Accept-Encoding: gzip\n", true),
        ("12.5.3: another set", "accept-encoding", "Accept-Encoding: gzip\n", "Accept-Encoding: br\n", false),
        (
            "12.5.3: one more",
            "accept-encoding",
            "Accept-Encoding: gzip\n",
            "Accept-Encoding: gzip, br\n",
            false,
        ),
        (
            "12.4.2: weight 1",
            "accept-encoding",
            "Accept-Encoding: gzip\n",
            "Accept-Encoding: gzip;q=1.0\n",
            true,
        ),
        (
            "12.4.2: weight 0",
            "accept-encoding",
            "Accept-Encoding: gzip\n",
            "Accept-Encoding: gzip, br;q=0\n",
            true,
        ),
        (
            "12.4.2: weights",
            "accept-encoding",
            "Accept-Encoding: gzip, br;q=0.5\n",
            "Accept-Encoding: gzip, br;q=0.500\n",
            true,
        ),
        (
            "12.4.2: weights",
            "accept-encoding",
            "Accept-Encoding: gzip, br;q=0.5\n",
            "Accept-Encoding: gzip;q=0.5, br\n",
            false,
        ),
        (
            "12.5.3: no identity",
            "accept-encoding",
            "Accept-Encoding: gzip\n",
            "Accept-Encoding: gzip, identity;q=0\n",
            false,
        ),
        (
            "12.5.3: nothing else",
            "accept-encoding",
            "Accept-Encoding: gzip\n",
            "Accept-Encoding: gzip, *;q=0\n",
            false,
        ),
        ("12.5.3: empty is not absent", "accept-encoding", "Accept-Encoding:\n", "", false),
        ("8.4.1.3: x-gzip", "accept-encoding", "Accept-Encoding: x-gzip\n", "Accept-Encoding: gzip\n", true),
        (
            "12.5.4: languages in any case",
            "accept-language",
            "Accept-Language: EN-us\n",
            "Accept-Language: en-US\n",
            true,
        ),
        (
            "12.5.4: order may count",
            "accept-language",
            "Accept-Language: en, de\n",
            "Accept-Language: de, en\n",
            false,
        ),
        ("12.5.4: another", "accept-language", "Accept-Language: en\n", "Accept-Language: de\n", false),
    ];
    for (section, vary, one, other, want) in cases {
        let same = variant_of(vary, one, &rules) == variant_of(vary, other, &rules);
        assert_eq!(same, *want, "{section}: {one:?} {other:?}");
    }
}

#[test]
fn codings_that_the_origin_knows() {
    let rules = KeyRules { encodings: names(["br", "gzip"]), ..KeyRules::default() };
    let of = |value: &str| variant_of("accept-encoding", &format!("Accept-Encoding: {value}\n"), &rules);
    assert_eq!(of("gzip, deflate, br, zstd"), of("br;q=0.2, gzip"));
    assert_eq!(of("deflate"), of("zstd;q=0.1, identity;q=0"));
    assert_ne!(of("gzip"), of("br"));
    assert_ne!(of("gzip"), of("gzip;q=0"));
}

#[test]
fn fields_and_cookies_that_the_rules_have_in_the_key() {
    let rules = KeyRules { headers: names(["X-Device"]), cookies: names(["ab"]), ..KeyRules::default() };
    let of = |lines: &str| variant_of("", lines, &rules);
    assert_ne!(of("X-Device: phone\n"), of(""));
    assert_eq!(of("X-Device: phone\n"), of("x-device: phone\nCookie: c=1\n"));
    assert_ne!(of("Cookie: ab=1\n"), of("Cookie: ab=2\n"));
    assert_eq!(of("Cookie: ab=1\n"), of("Cookie: x=y; ab=1; z=0\n"));
    assert_ne!(of("Cookie: ab=1\n"), of("Cookie: AB=1\n"));
    assert_ne!(variant_of("a", "", &rules), variant_of("a", "A: 1\n", &rules));
}

#[test]
fn names_of_vary() {
    for (lines, want, any) in [
        ("", "", false),
        ("Vary: Accept-Encoding\n", "accept-encoding", false),
        ("Vary: A , b,,C\nVary: D\n", "a,b,c,d", false),
        ("Vary: *\n", "*", true),
        ("Vary: a\nVary: b, *\n", "a,b,*", true),
        ("Vary:\n", "", false),
    ] {
        with_response("200", lines, |head| {
            let headers = head.headers();
            assert_eq!(text(|sink| write_names(of_headers(&headers), sink)), want, "{lines}");
            assert_eq!(is_any(of_headers(&headers)), any, "{lines}");
        });
    }
}

#[test]
fn nothing_that_counts_is_zero_and_everything_else_is_not() {
    let rules = KeyRules::default();
    assert_eq!(variant_of("", "A: 1\n", &rules), 0);
    assert_ne!(variant_of("a", "", &rules), 0);
}
