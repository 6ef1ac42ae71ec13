//! RFC 9213, RFC 8941 4.2.

use super::facts_of;
use crate::cache::policy::cache_control::ResponseDirectives;
use crate::cache::policy::storable::NotStored;
use crate::cache::policy::targeted::parse;

fn field(value: &str) -> Option<ResponseDirectives> {
    parse(value.split('\n').map(str::as_bytes))
}

#[test]
fn valid_fields() {
    let none = ResponseDirectives::default();
    let cases: &[(&str, &str, ResponseDirectives)] = &[
        ("9213 2.1", "max-age=60", ResponseDirectives { max_age_s: Some(60), ..none }),
        ("8941 4.2: spaces around", "  max-age=60  ", ResponseDirectives { max_age_s: Some(60), ..none }),
        (
            "8941 4.2.2: the last counts",
            "max-age=60, max-age=1",
            ResponseDirectives { max_age_s: Some(1), ..none },
        ),
        (
            "8941 4.2: several lines",
            "max-age=60\nno-store",
            ResponseDirectives { max_age_s: Some(60), no_store: true, ..none },
        ),
        (
            "9213 2.1: parameters are ignored",
            "max-age=60;a=1;b;*c=\"x\"",
            ResponseDirectives { max_age_s: Some(60), ..none },
        ),
        ("8941 3.3.6: booleans", "no-store=?1, private=?0", ResponseDirectives { no_store: true, ..none }),
        (
            "9111 1.2.2: great numbers",
            "max-age=999999999999999",
            ResponseDirectives { max_age_s: Some(1 << 31), ..none },
        ),
        (
            "9111 4.2.1: another type is stale",
            "max-age=\"60\"",
            ResponseDirectives { max_age_s: Some(0), ..none },
        ),
        (
            "9111 4.2.1: another type is stale",
            "max-age=1.5",
            ResponseDirectives { max_age_s: Some(0), ..none },
        ),
        ("9111 4.2.1: negative is stale", "max-age=-1", ResponseDirectives { max_age_s: Some(0), ..none }),
        (
            "9213 2.1: field names restrict all",
            "no-cache=\"a\", private=\"b\"",
            ResponseDirectives { no_cache: true, private: true, ..none },
        ),
        (
            "8941 3.1.1: inner lists",
            "foo=(a \"b\";c 1);d, max-age=60",
            ResponseDirectives { max_age_s: Some(60), ..none },
        ),
        ("8941 3.3.5: bytes", "foo=:aGk=:, max-age=60", ResponseDirectives { max_age_s: Some(60), ..none }),
        ("8941 3.3.4: tokens", "foo=*a/b:c, max-age=60", ResponseDirectives { max_age_s: Some(60), ..none }),
        (
            "8941 4.2.2: tabs around commas",
            "public\t,\tmax-age=60",
            ResponseDirectives { public: true, max_age_s: Some(60), ..none },
        ),
        (
            "9213 2.1: unknown ones are ignored",
            "foo=1, must-revalidate",
            ResponseDirectives { must_revalidate: true, ..none },
        ),
    ];
    for (section, value, want) in cases {
        assert_eq!(field(value), Some(*want), "{section}: {value}");
    }
}

#[test]
fn a_field_with_any_error_is_no_field() {
    // RFC 9213 2.1, 8941 4.2.
    for bad in [
        "",
        "  ",
        "max-age=60,",
        ",max-age=60",
        "max-age=60,,public",
        "Max-Age=60",
        "max-age=60 public",
        "max-age= 60",
        "max-age =60",
        "max-age=",
        "max-age=-",
        "max-age=1.",
        "max-age=1.2345",
        "max-age=1234567890123.1",
        "max-age=1000000000000000",
        "max-age=\"60",
        "foo=\"a\\b\"",
        "foo=\"\u{e9}\"",
        "no-store=?2",
        "no-store=?",
        "foo=(a",
        "foo=(a\"b\")",
        "foo=:a",
        "foo=:_:",
        "1foo",
        "-foo",
        "foo=@1",
        "max-age=60;",
        "max-age=60;A=1",
        "max-age=60; ;a",
        "\tmax-age=60",
        "max-age=60, &&&",
    ] {
        assert_eq!(field(bad), None, "{bad:?}");
    }
}

#[test]
fn which_field_decides() {
    // Section, lines, lifetime.
    let cases: &[(&str, &str, Result<u32, NotStored>)] = &[
        ("9213 2.2", "Cache-Control: max-age=1\nCDN-Cache-Control: max-age=60\n", Ok(60)),
        ("9213 2.2", "Cache-Control: no-store\nCDN-Cache-Control: max-age=60\n", Ok(60)),
        ("9213 2.2", "Cache-Control: private\nCDN-Cache-Control: max-age=60\n", Ok(60)),
        ("9213 2.2", "Cache-Control: max-age=60\nCDN-Cache-Control: no-store\n", Err(NotStored::NoStore)),
        ("9213 2.2: Expires", "Expires: 0\nCDN-Cache-Control: max-age=60\n", Ok(60)),
        (
            "9213 2.2: Expires is ignored",
            "Expires: Sun, 06 Nov 1994 09:49:37 GMT\nETag: \"a\"\nCDN-Cache-Control: foo\n",
            Ok(0),
        ),
        ("9213 2.1: an error", "Cache-Control: max-age=5\nCDN-Cache-Control: max-age=60,\n", Ok(5)),
        ("9213 2.1: empty", "Cache-Control: max-age=5\nCDN-Cache-Control:\n", Ok(5)),
        ("9213 2.1: s-maxage", "CDN-Cache-Control: max-age=60, s-maxage=7\n", Ok(7)),
        ("9213 2: names in any case", "cdn-cache-control: max-age=60\n", Ok(60)),
        ("9213 2.2: not on our list", "Cache-Control: max-age=5\nFoo-Cache-Control: max-age=60\n", Ok(5)),
    ];
    for (section, lines, want) in cases {
        let got = facts_of("200 OK", &format!("{lines}Content-Length: 0\n")).map(|facts| facts.fresh_s);
        assert_eq!(got, *want, "{section}: {lines}");
    }
}

#[test]
fn the_list_has_an_order() {
    // RFC 9213 2.2.
    let rules = crate::cache::policy::rules::CacheRules {
        targeted: crate::cache::policy::rules::names(["Ours-Cache-Control", "CDN-Cache-Control"]),
        ..Default::default()
    };
    for (lines, want) in [
        ("CDN-Cache-Control: max-age=1\nOurs-Cache-Control: max-age=2\n", 2),
        ("CDN-Cache-Control: max-age=1\nOurs-Cache-Control: ?\n", 1),
        ("CDN-Cache-Control: max-age=1\nOurs-Cache-Control:\n", 1),
    ] {
        let got = super::judge("", "200", lines, None, &rules).map(|facts| facts.fresh_s);
        assert_eq!(got, Ok(want), "{lines}");
    }
}
