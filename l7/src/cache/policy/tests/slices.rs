//! Slices of large representations.

use super::*;
use crate::cache::policy::facts::Flags;
use crate::cache::policy::key::url_of_key;
use crate::cache::policy::ranges::{ByteRange, count};
use crate::cache::policy::respond::{Content, plan};
use crate::cache::policy::slices::{Representation, body_of, first_position};

const LM: &str = "Last-Modified: Sun, 06 Nov 1994 08:00:00 GMT\nDate: Sun, 06 Nov 1994 08:49:37 GMT\n";

/// The blob of slice 100 to 199 of 1000 bytes.
fn slice_blob(lines: &str) -> Result<Vec<u8>, NotStored> {
    let rules = CacheRules::default();
    let wanted = SliceWanted { start: 100, bytes: 100 };
    let lines =
        format!("Content-Range: bytes 100-199/1000\nContent-Length: 100\nCache-Control: max-age=60\n{lines}");
    with_get("", |get| {
        let request = RequestFacts::of(get, &rules);
        with_response("206", &lines, |head| {
            let facts = storable::storable(&request, head, Some(wanted), &rules, TIMES)?;
            let mut out = vec![0; 4096];
            let key = b"http://a/#100+100";
            let len = storable::store(key, &get.headers(), head, facts, &rules, &KEYS, &mut out);
            out.truncate(len.expect("room"));
            Ok(out)
        })
    })
}

#[test]
fn where_a_slice_is() {
    let slice = SliceWanted::at(250, 100);
    assert_eq!((slice.start, slice.end()), (200, 300));
    assert!(slice.has(200) && slice.has(299) && !slice.has(199) && !slice.has(300));
    assert_eq!(slice.of_total(1000), Some(ByteRange { start: 200, end: 300 }));
    assert_eq!(slice.of_total(201), Some(ByteRange { start: 200, end: 201 }));
    assert_eq!(slice.of_total(200), None);
    let last = SliceWanted::at(u64::MAX, 1 << 20);
    assert!(last.end() == u64::MAX && last.of_total(1000).is_none());
    let suffix = text(|sink| slice.write_suffix(sink));
    assert_eq!(suffix, "#200+100");
    assert_eq!(url_of_key(format!("http://a/b{suffix}").as_bytes()), b"http://a/b");
}

#[test]
fn what_may_be_stored() {
    // RFC 9111 3.3, 3.4: a 206 is stored when it is what was asked for, and has a strong validator.
    let slice = Some(SliceWanted { start: 100, bytes: 100 });
    for (range, length, want) in [
        ("bytes 100-199/1000", 100, Ok((100, 1000))),
        ("bytes 100-149/150", 50, Ok((100, 150))),
        ("bytes 100-199/*", 100, Err(NotStored::Status)),
        ("bytes 100-198/1000", 99, Err(NotStored::Status)),
        ("bytes 100-299/1000", 200, Err(NotStored::Status)),
        ("bytes 0-99/1000", 100, Err(NotStored::Status)),
        ("bytes 100-199/1000", 99, Err(NotStored::Status)),
        ("lines 100-199/1000", 100, Err(NotStored::Status)),
        ("bytes */1000", 0, Err(NotStored::Status)),
        ("", 100, Err(NotStored::Status)),
    ] {
        let lines = format!(
            "Content-Range: {range}\nContent-Length: {length}\nCache-Control: max-age=60\nETag: \"a\"\n"
        );
        let got = judge("", "206 Partial", &lines, slice, &CacheRules::default());
        assert_eq!(got.map(|facts| (facts.slice_start, facts.body_total)), want, "{range}");
        if let Ok(facts) = got {
            assert_eq!((facts.status, facts.has(Flags::SLICE)), (200, true));
        }
        // Nobody has asked for it.
        let got = judge("", "206 Partial", &lines, None, &CacheRules::default());
        assert_eq!(got.err(), Some(NotStored::Status));
    }
    let whole =
        judge("", "200", "Cache-Control: max-age=60\nContent-Length: 5\n", slice, &CacheRules::default());
    assert!(whole.is_ok_and(|facts| !facts.has(Flags::SLICE) && facts.body_total == 5));
}

#[test]
fn without_a_strong_validator() {
    // RFC 9111 3.4.
    for lines in ["", "ETag: W/\"a\"\n", "Last-Modified: Sun, 06 Nov 1994 08:49:30 GMT\n"] {
        assert_eq!(slice_blob(lines).err(), Some(NotStored::Uncombinable), "{lines}");
    }
    assert!(slice_blob(LM).is_ok() && slice_blob("ETag: \"a\"\n").is_ok());
    // One that is the whole need not be put together with anything.
    let lines = "Content-Range: bytes 0-9/10\nContent-Length: 10\nCache-Control: max-age=60\n";
    let all = Some(SliceWanted { start: 0, bytes: 100 });
    assert!(judge("", "206", lines, all, &CacheRules::default()).is_ok());
    // What forbids storing the whole forbids storing a part.
    for cc in ["no-store", "private"] {
        let lines = lines.replace("max-age=60", cc);
        assert!(judge("", "206", &lines, all, &CacheRules::default()).is_err(), "{cc}");
    }
}

#[test]
fn slices_of_one_representation() {
    // RFC 9111 3.4: same length, same strong validator.
    let of = |lines: &str, total: &str| {
        let blob =
            blob_of("", "200", &format!("Cache-Control: max-age=60\nContent-Length: {total}\n{lines}"));
        Representation::of(&read(&blob), &KEYS)
    };
    let same = |a: &str, b: &str| of(a, "5").is_some() && of(a, "5") == of(b, "5");
    assert!(same("ETag: \"a\"\n", "ETag: \"a\"\n"));
    assert!(!same("ETag: \"a\"\n", "ETag: \"b\"\n"));
    assert!(!same("ETag: W/\"a\"\n", "ETag: W/\"a\"\n"));
    assert!(!same("ETag: \"a\"\n", ""));
    assert!(same(LM, LM) && !same("", ""));
    assert!(!same(LM, &LM.replace("08:00:00", "07:00:00")));
    assert_ne!(of("ETag: \"a\"\n", "5"), of("ETag: \"a\"\n", "6"));
}

#[test]
fn where_a_body_begins() {
    let first = |start: &str, lines: &str| {
        with_request(start, &format!("Host: a\n{lines}"), |head| {
            first_position(&RequestFacts::of(head, &CacheRules::default()), head)
        })
    };
    for (lines, want) in [
        ("", Some(0)),
        ("Range: bytes=700-\n", Some(700)),
        ("Range: bytes=700-800\nIf-Range: \"a\"\n", Some(700)),
        ("Range: bytes=-5\n", Some(0)),
        ("Range: bytes=x\n", Some(0)),
        ("Range: lines=1-\n", Some(0)),
        ("Range: bytes=1-2\nRange: bytes=3-4\n", Some(0)),
        ("Range: bytes=1-2,8-9\n", None),
        ("Cache-Control: no-store\n", None),
        ("Authorization: Basic YQ==\n", None),
        ("If-None-Match: \"a\"\n", Some(0)),
    ] {
        assert_eq!(first("GET / HTTP/1.1", lines), want, "{lines}");
    }
    // RFC 9110 14.2: Range is for GET.
    assert_eq!(first("HEAD / HTTP/1.1", "Range: bytes=700-\n"), Some(0));
    for (value, want) in
        [("bytes=1-2", Some(1)), ("bytes=1-2, -3", Some(2)), ("bytes=", None), ("b=1-", None)]
    {
        assert_eq!(count(value.as_bytes()), want, "{value}");
    }
}

#[test]
fn what_is_made_of_a_slice() {
    // It answers for the whole: the total is its own, Content-Range and Content-Length are not kept.
    let bytes = slice_blob("ETag: \"a\"\n").expect("a slice");
    let blob = read(&bytes);
    assert!(blob.status_line().starts_with(b"HTTP/1.1 200 "));
    let head = String::from_utf8_lossy(blob.head()).into_owned();
    assert!(!head.contains("Content-Range") && !head.contains("Content-Length"), "{head}");
    let of = |start: &str, lines: &str| {
        with_request(start, &format!("Host: a\n{lines}"), |head| {
            plan(&RequestFacts::of(head, &CacheRules::default()), head, &blob, None, NOW_MS)
        })
    };
    let get = |lines: &str| of("GET / HTTP/1.1", lines);
    let range = |start, end| Some(ByteRange { start, end });
    assert_eq!(body_of(&get("")), range(0, 1000));
    assert_eq!(body_of(&get("Range: bytes=150-\n")), range(150, 1000));
    assert_eq!(body_of(&get("Range: bytes=-10\n")), range(990, 1000));
    assert_eq!(body_of(&get("Range: bytes=150-160\nIf-Range: \"b\"\n")), range(0, 1000));
    assert_eq!(body_of(&get("Range: bytes=150-160\nIf-Range: \"a\"\n")), range(150, 161));
    assert_eq!(get("Range: bytes=1000-\n").content, Content::Unsatisfiable(1000));
    assert_eq!(get("If-None-Match: \"a\"\n").content, Content::NotModified);
    for none in ["Range: bytes=1000-\n", "If-None-Match: \"a\"\n"] {
        assert_eq!(body_of(&get(none)), None);
    }
    assert_eq!(body_of(&of("HEAD / HTTP/1.1", "")), None);
}
