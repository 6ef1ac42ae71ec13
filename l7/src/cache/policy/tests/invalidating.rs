//! RFC 9111 4.4.

use super::{with_request, with_response};
use crate::cache::policy::invalidate::invalidated;
use crate::cache::policy::rules::KeyRules;

fn keys(start: &str, status: &str, lines: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut scratch = [0; 512];
    with_request(start, "Host: a\n", |request| {
        with_response(status, lines, |response| {
            invalidated(request, false, b"", response, &KeyRules::default(), &mut scratch, |key| {
                found.push(String::from_utf8(key.to_vec()).expect("ASCII"));
            });
        });
    });
    found
}

#[test]
fn which_requests_invalidate() {
    // Section, start line, status, whether.
    for (section, start, status, want) in [
        ("4.4", "POST /x HTTP/1.1", "200", true),
        ("4.4", "PUT /x HTTP/1.1", "204", true),
        ("4.4", "DELETE /x HTTP/1.1", "202", true),
        ("4.4", "PATCH /x HTTP/1.1", "200", true),
        ("4.4: unknown methods", "FOO /x HTTP/1.1", "200", true),
        ("4.4: redirections", "POST /x HTTP/1.1", "303", true),
        ("4.4: errors", "POST /x HTTP/1.1", "400", false),
        ("4.4: errors", "POST /x HTTP/1.1", "500", false),
        ("4.4: safe methods", "GET /x HTTP/1.1", "200", false),
        ("4.4: safe methods", "OPTIONS /x HTTP/1.1", "200", false),
        ("4.4: safe methods", "TRACE /x HTTP/1.1", "200", false),
    ] {
        let want: &[&str] = if want { &["http://a/x"] } else { &[] };
        assert_eq!(keys(start, status, ""), want, "{section}: {start} {status}");
    }
}

#[test]
fn which_other_urls() {
    let long = format!("/{}", "x".repeat(5000));
    // Section, reference, key.
    let cases: &[(&str, &str, Option<&str>)] = &[
        ("4.4", "/y?z", Some("http://a/y?z")),
        ("4.4", "http://a/y", Some("http://a/y")),
        ("4.4", "HTTP://A:80/y#z", Some("http://a/y")),
        ("4.4", "//a/y", Some("http://a/y")),
        ("4.4: another origin", "http://b/y", None),
        ("4.4: another origin", "https://a/y", None),
        ("4.4: another origin", "http://a:81/y", None),
        ("4.4: another origin", "//b/y", None),
        ("4.4: no http", "ftp://a/y", None),
        ("4.4: no http", "mailto:a", None),
        ("4.4: malformed", "http://a b/y", None),
        ("4.4: too long", &long, None),
        ("3986 5.2", "y", Some("http://a/d/y")),
        ("3986 5.2", "../y", Some("http://a/y")),
        ("3986 5.2", "../../y", Some("http://a/y")),
        ("3986 5.2", "./y/.", Some("http://a/d/y/")),
        ("3986 5.2", "y/..", Some("http://a/d/")),
        ("3986 5.2", "?q", Some("http://a/d/x?q")),
        ("3986 5.2", "/a/./b/../c", Some("http://a/a/c")),
        ("3986 5.2", "/..", Some("http://a/")),
        ("3986 5.2", "http://a", Some("http://a/")),
        ("3986 5.2", "http://a?q", Some("http://a/?q")),
    ];
    for (section, reference, want) in cases {
        for field in ["Location", "Content-Location"] {
            let got = keys("POST /d/x HTTP/1.1", "201", &format!("{field}: {reference}\n"));
            let want: Vec<_> = ["http://a/d/x"].into_iter().chain(*want).collect();
            assert_eq!(got, want, "{section}: {field}: {reference}");
        }
    }
}
