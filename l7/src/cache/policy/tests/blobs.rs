//! The head blob: RFC 9111 3.1, tags, layout.

use super::*;
use crate::cache::policy::blob::{Blob, write_pending};
use crate::cache::policy::tags::tag_hash;

#[test]
fn what_is_not_stored() {
    // RFC 9111 3.1: section, lines, whether the last of them is stored.
    let cases: &[(&str, &str, bool)] = &[
        ("3.1", "X: 1\n", true),
        ("3.1: unknown fields are stored", "Foo-Bar_baz: 1\n", true),
        ("3.1: Connection", "Connection: close\n", false),
        ("3.1: nominated", "Connection: x\nX: 1\n", false),
        ("3.1: nominated, any case", "Connection: a, x\nX: 1\n", false),
        ("9110 7.6.1", "Keep-Alive: 5\n", false),
        ("9110 7.6.1", "TE: trailers\n", false),
        ("9110 7.6.1", "Upgrade: h2c\n", false),
        ("9110 7.6.1", "Proxy-Connection: close\n", false),
        ("9112 6", "Transfer-Encoding: chunked\n", false),
        ("9112 6", "Content-Length: 5\n", false),
        ("9110 6.6.2", "Trailer: x\n", false),
        ("3.1", "Proxy-Authenticate: x\n", false),
        ("3.1", "Proxy-Authentication-Info: x\n", false),
        ("3.1", "Proxy-Authorization: x\n", false),
        ("5.1: Age is said anew", "Age: 5\n", false),
        ("tags", "Cache-Tag: a\n", false),
        ("tags", "surrogate-key: a\n", false),
        ("3: Set-Cookie is not special", "Set-Cookie: a=b\n", true),
        ("3", "Expires: 0\n", true),
        ("3", "Vary: x\n", true),
        ("3", "CDN-Cache-Control: max-age=60\n", true),
        ("3", "Content-Location: /x\n", true),
        ("3", "Warning: 110 - x\n", true),
    ];
    for (section, lines, want) in cases {
        let bytes = blob_of("", "200 OK", &format!("Cache-Control: max-age=60\n{lines}"));
        let (name, value) =
            lines.trim_end().rsplit('\n').next().and_then(|l| l.split_once(": ")).expect(lines);
        let stored = read(&bytes).lines().any(|l| l.name == name.as_bytes() && l.value == value.as_bytes());
        assert_eq!(stored, *want, "{section}: {lines:?}");
    }
}

#[test]
fn date_is_added() {
    // RFC 9110 6.6.1.
    let bytes = blob_of("", "200 OK", "Cache-Control: max-age=60\n");
    assert!(read(&bytes).guide().ends_with(b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
}

#[test]
fn untidy_lines_become_tidy() {
    let bytes = blob_of("", "200 OK", "Cache-Control:max-age=60\nX:   1  \n");
    assert!(read(&bytes).head().starts_with(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"));
    assert!(read(&bytes).rest() == b"X: 1\r\n");
}

#[test]
fn tags_are_hashes() {
    let bytes = blob_of(
        "",
        "200",
        "Cache-Control: max-age=60\nCache-Tag: a b, c,, d\nSurrogate-Key: e  f\nCache-Tag: g\n",
    );
    let want: Vec<_> =
        ["a b", "c", "d", "e", "f", "g"].iter().map(|t| tag_hash(t.as_bytes(), &KEYS)).collect();
    assert_eq!(read(&bytes).tags().collect::<Vec<_>>(), want);
    assert_ne!(tag_hash(b"a", &KEYS), tag_hash(b"A", &KEYS));
}

#[test]
fn the_variant_is_that_of_the_request() {
    let of = |request: &str| {
        let bytes = blob_of(request, "200", "Cache-Control: max-age=60\nVary: X, Accept\n");
        assert_eq!(read(&bytes).vary(), b"x,accept");
        read(&bytes).facts().variant
    };
    assert_eq!(of("X: 1\n"), of("X: 1\nY: 2\n"));
    assert_ne!(of("X: 1\n"), of("X: 2\n"));
}

#[test]
fn a_pending_one_is_a_key() {
    let mut out = [0; 200];
    let len = write_pending(b"http://a/", &mut out).expect("room");
    let blob = read(&out[..len]);
    assert!(
        blob.is_pending() && blob.key() == b"http://a/" && blob.head().is_empty() && blob.etag().is_none()
    );
    assert!(write_pending(&[b'a'; 105], &mut out).is_err(), "no room");
}

#[test]
fn a_blob_needs_all_its_room() {
    let bytes = blob_of("", "200 OK", "Cache-Control: max-age=60\nVary: x\nCache-Tag: a\nETag: \"a\"\n");
    for end in 0..bytes.len() {
        assert!(Blob::read(&bytes[..end]).is_none(), "{end}");
    }
    let more = [bytes.as_slice(), b"body"].concat();
    assert_eq!(read(&more).head(), read(&bytes).head());
    let rules = CacheRules::default();
    let request = request_facts("");
    for room in [0, 95, 96, 100, bytes.len() - 1] {
        with_response("200 OK", "Cache-Control: max-age=60\nVary: x\nCache-Tag: a\nETag: \"a\"\n", |head| {
            let facts = storable::storable(&request, head, None, &rules, TIMES).expect("it may be stored");
            let mut out = vec![0; room];
            let got = with_get("", |get| {
                storable::store(b"http://a/", &get.headers(), head, facts, &rules, &KEYS, &mut out)
            });
            assert_eq!(got, Err(Full), "{room}");
        });
    }
}
