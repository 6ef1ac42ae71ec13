//! RFC 9111 4.3, 3.2, 3.4; RFC 9110 13.

use super::*;
use crate::cache::policy::facts::Flags;
use crate::cache::policy::validate::*;

const LM: &str = "Last-Modified: Sun, 06 Nov 1994 08:00:00 GMT\n";
const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:00 GMT\n";

#[test]
fn conditions_of_clients() {
    let tagged = format!("Cache-Control: max-age=60\nETag: \"a\"\n{LM}{DATE}");
    let weak = "Cache-Control: max-age=60\nETag: W/\"a\"\n".to_string();
    let dated = format!("Cache-Control: max-age=60\n{LM}{DATE}");
    let bare = format!("Cache-Control: max-age=60\n{DATE}");
    // Section, status, what is stored, the request's lines, whether it is a 304.
    let cases: &[(&str, &str, &str, &str, bool)] = &[
        ("4.3.2", "200", &tagged, "If-None-Match: \"a\"\n", true),
        ("4.3.2", "200", &tagged, "If-None-Match: \"b\"\n", false),
        ("13.1.2: a list", "200", &tagged, "If-None-Match: \"b\", \"a\"\n", true),
        ("13.1.2: a list", "200", &tagged, "If-None-Match: \"b\",,W/\"a\"\n", true),
        ("13.1.2: two lines", "200", &tagged, "If-None-Match: \"b\"\nIf-None-Match: \"a\"\n", true),
        ("13.1.2: any", "200", &tagged, "If-None-Match: *\n", true),
        ("13.1.2: any, without ETag", "200", &dated, "If-None-Match: *\n", true),
        ("13.1.2: commas in quotes", "200", &tagged, "If-None-Match: \"x,\"a\"\"\n", false),
        ("8.8.3.2: weak comparison", "200", &tagged, "If-None-Match: W/\"a\"\n", true),
        ("8.8.3.2: weak comparison", "200", &weak, "If-None-Match: \"a\"\n", true),
        ("8.8.3.2: weak comparison", "200", &weak, "If-None-Match: W/\"a\"\n", true),
        ("8.8.3: tags have a case", "200", &tagged, "If-None-Match: \"A\"\n", false),
        ("8.8.3: W has a case", "200", &tagged, "If-None-Match: w/\"a\"\n", false),
        ("13.1.2: without quotes", "200", &tagged, "If-None-Match: a\n", false),
        ("4.3.2: nothing to compare", "200", &dated, "If-None-Match: \"a\"\n", false),
        ("13.1.3", "200", &dated, "If-Modified-Since: Sun, 06 Nov 1994 08:00:00 GMT\n", true),
        ("13.1.3: later", "200", &dated, "If-Modified-Since: Sun, 06 Nov 1994 08:00:01 GMT\n", true),
        ("13.1.3: earlier", "200", &dated, "If-Modified-Since: Sun, 06 Nov 1994 07:59:59 GMT\n", false),
        ("5.6.7: RFC 850", "200", &dated, "If-Modified-Since: Sunday, 06-Nov-94 08:00:00 GMT\n", true),
        ("5.6.7: asctime", "200", &dated, "If-Modified-Since: Sun Nov  6 08:00:00 1994\n", true),
        ("13.1.3: no date", "200", &dated, "If-Modified-Since: yesterday\n", false),
        (
            "13.1.3: two",
            "200",
            &dated,
            "If-Modified-Since: Sun, 06 Nov 1994 08:00:00 GMT\nIf-Modified-Since: Sun, 06 Nov 1994 08:00:00 GMT\n",
            false,
        ),
        (
            "13.1.3: beside If-None-Match",
            "200",
            &tagged,
            "If-None-Match: \"b\"\nIf-Modified-Since: Sun, 06 Nov 1994 08:00:00 GMT\n",
            false,
        ),
        (
            "13.2.2: If-None-Match first",
            "200",
            &tagged,
            "If-Modified-Since: Sun, 06 Nov 1994 07:00:00 GMT\nIf-None-Match: \"a\"\n",
            true,
        ),
        (
            "4.3.2: Date in place of Last-Modified",
            "200",
            &bare,
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:00 GMT\n",
            true,
        ),
        (
            "4.3.2: Date in place of Last-Modified",
            "200",
            &bare,
            "If-Modified-Since: Sun, 06 Nov 1994 08:48:59 GMT\n",
            false,
        ),
        ("13.2.1: not for errors", "404", &tagged, "If-None-Match: \"a\"\n", false),
        ("13.2.1: not for redirections", "301", &tagged, "If-None-Match: *\n", false),
        ("13.2.1: for any success", "203", &tagged, "If-None-Match: \"a\"\n", true),
    ];
    for (section, status, stored, request, want) in cases {
        let bytes = blob_of("", status, stored);
        let got = with_get(request, |head| is_not_modified(&head.headers(), &read(&bytes), NOW_MS));
        assert_eq!(got, *want, "{section}: {request:?}");
    }
}

#[test]
fn without_last_modified_and_date_arrival_counts() {
    // RFC 9111 4.3.2.
    let bytes = blob_of("", "200", "Cache-Control: max-age=60\n");
    for (since, want) in [("08:49:37", true), ("08:49:36", false)] {
        let line = format!("If-Modified-Since: Sun, 06 Nov 1994 {since} GMT\n");
        assert_eq!(with_get(&line, |head| is_not_modified(&head.headers(), &read(&bytes), NOW_MS)), want);
    }
}

#[test]
fn if_range() {
    let strong = format!("Cache-Control: max-age=60\nETag: \"a\"\n{LM}{DATE}");
    let weak = "Cache-Control: max-age=60\nETag: W/\"a\"\n".to_string();
    let young = format!("Cache-Control: max-age=60\n{LM}Date: Sun, 06 Nov 1994 08:00:30 GMT\n");
    let cases: &[(&str, &str, &str, bool)] = &[
        ("13.1.5: none", &strong, "", true),
        ("13.1.5", &strong, "If-Range: \"a\"\n", true),
        ("13.1.5", &strong, "If-Range: \"b\"\n", false),
        ("13.1.5: strong comparison", &strong, "If-Range: W/\"a\"\n", false),
        ("13.1.5: strong comparison", &weak, "If-Range: W/\"a\"\n", false),
        ("13.1.5: strong comparison", &weak, "If-Range: \"a\"\n", false),
        ("13.1.5: a date", &strong, "If-Range: Sun, 06 Nov 1994 08:00:00 GMT\n", true),
        ("13.1.5: exactly", &strong, "If-Range: Sun, 06 Nov 1994 08:00:01 GMT\n", false),
        ("13.1.5: exactly", &strong, "If-Range: Sun, 06 Nov 1994 07:59:59 GMT\n", false),
        ("13.1.5: a weak date", &young, "If-Range: Sun, 06 Nov 1994 08:00:00 GMT\n", false),
        ("13.1.5: neither", &strong, "If-Range: a\n", false),
        ("13.1.5: two", &strong, "If-Range: \"a\"\nIf-Range: \"a\"\n", false),
    ];
    for (section, stored, request, want) in cases {
        let bytes = blob_of("", "200", stored);
        let got = with_get(request, |head| if_range_holds(&head.headers(), &read(&bytes), NOW_MS));
        assert_eq!(got, *want, "{section}: {request:?}");
    }
}

fn fetch_head(request: &str, stored: &[&[u8]], slice: Option<SliceWanted>) -> String {
    let ctx = ToOrigin {
        client_ip: [192, 0, 2, 1].into(),
        client_tls: false,
        identity: None,
        host: None,
        forward_expect: false,
        forward_upgrade: false,
        keep_alive: true,
        edits: &[],
    };
    let blobs = stored.iter().map(|bytes| read(bytes));
    with_request("HEAD /x?y HTTP/1.1", &format!("Host: a\n{request}"), |head| {
        text(|sink| write_fetch_head(head, &ctx, blobs, slice, sink))
    })
}

#[test]
fn our_conditional_requests() {
    // RFC 9111 4.3.1.
    let tagged = blob_of("", "200", &format!("Cache-Control: max-age=60\nETag: \"a\"\n{LM}"));
    let weak = blob_of("", "200", "Cache-Control: max-age=60\nETag: W/\"b\"\n");
    let dated = blob_of("", "200", &format!("Cache-Control: max-age=60\n{LM}"));
    let theirs = "If-None-Match: \"z\"\nIf-Modified-Since: x\nIf-Range: \"z\"\nRange: bytes=0-1\nB: 1\n";
    let plain = fetch_head(theirs, &[], None);
    assert!(plain.starts_with("GET /x?y HTTP/1.1\r\nHost: a\r\nB: 1\r\n"), "{plain}");
    assert!(!plain.contains("If-") && !plain.contains("Range"), "{plain}");
    assert!(plain.ends_with("\r\n\r\n"));
    let one = fetch_head(theirs, &[&tagged], None);
    assert!(
        one.ends_with("If-None-Match: \"a\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:00:00 GMT\r\n\r\n")
    );
    assert_eq!(one.matches("If-").count(), 2);
    let two = fetch_head("", &[&tagged, &weak], None);
    assert!(
        two.ends_with("If-None-Match: \"a\", W/\"b\"\r\n\r\n"),
        "no date where it could mean either: {two}"
    );
    let date = fetch_head("", &[&dated], None);
    assert!(
        date.ends_with("If-Modified-Since: Sun, 06 Nov 1994 08:00:00 GMT\r\n\r\n")
            && !date.contains("If-None")
    );
    let slice = fetch_head(theirs, &[], Some(SliceWanted { start: 100, bytes: 50 }));
    assert!(slice.ends_with("Range: bytes=100-149\r\n\r\n"), "{slice}");
}

#[test]
fn which_response_a_304_means() {
    let tagged = blob_of("", "200", &format!("Cache-Control: max-age=60\nETag: \"a\"\n{LM}"));
    let weak = blob_of("", "200", "Cache-Control: max-age=60\nETag: W/\"a\"\n");
    let dated = blob_of("", "200", &format!("Cache-Control: max-age=60\n{LM}"));
    // Section, what is stored, the 304's lines, whether it was the only one, whether it is meant.
    let cases: &[(&str, &[u8], &str, bool, bool)] = &[
        ("4.3.4: strong", &tagged, "ETag: \"a\"\n", false, true),
        ("4.3.4: strong, another", &tagged, "ETag: \"b\"\n", true, false),
        ("4.3.4: weak", &weak, "ETag: W/\"a\"\n", false, true),
        ("4.3.4: weakly the same", &tagged, "ETag: W/\"a\"\n", true, true),
        ("4.3.4: weakly the same, of several", &tagged, "ETag: W/\"a\"\n", false, true),
        ("4.3.4: strong, ours is weak", &weak, "ETag: \"a\"\n", true, false),
        ("4.3.4: a validator that is not stored", &dated, "ETag: \"a\"\n", true, false),
        ("4.3.4: a date", &dated, LM, false, true),
        ("4.3.4: another date", &dated, "Last-Modified: Sun, 06 Nov 1994 07:00:00 GMT\n", true, false),
        ("4.3.4: none", &tagged, "", true, true),
        ("4.3.4: none, of several", &tagged, "", false, false),
    ];
    for (section, stored, lines, sole, want) in cases {
        let got = with_response("304", lines, |head| is_selected_by(head, &read(stored), *sole));
        assert_eq!(got, *want, "{section}: {lines:?}");
    }
}

fn freshened(stored: &[u8], lines: &str, now_ms: u64) -> (Vec<u8>, Option<NotStored>) {
    let rules = CacheRules::default();
    let times = Times { request_ms: now_ms, response_ms: now_ms };
    let mut out = vec![0; 64 * 1024];
    let got = with_get("", |get| {
        let request = RequestFacts::of(get, &rules);
        with_response("304 Not Modified", lines, |head| {
            freshen(&read(stored), (&request, &get.headers()), head, &rules, times, &KEYS, &mut out)
        })
    })
    .expect("room");
    out.truncate(got.len);
    (out, got.not_kept)
}

fn head_text(blob: &[u8]) -> String {
    String::from_utf8(read(blob).head().to_vec()).expect("ASCII")
}

#[test]
fn a_304_updates_what_is_stored() {
    let lines = format!(
        "Cache-Control: max-age=60\nETag: \"a\"\n{DATE}A: old\nB: old\nB: old2\nContent-Encoding: gzip\n\
         Content-Type: text/plain\nContent-Length: 5\nCache-Tag: t\nAge: 30\n"
    );
    let stored = blob_of("", "200 Fine", &lines);
    let later = NOW_MS + 100_000;
    let (new, kept) = freshened(
        &stored,
        "B: new\nC: new\nContent-Encoding: br\nContent-Length: 9\nContent-Type: text/html\nConnection: D\nD: x\n\
         ETag: \"a\"\nSet-Cookie: e=f\n",
        later,
    );
    assert_eq!(kept, None);
    let head = head_text(&new);
    let has = |line: &str| head.contains(&format!("{line}\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 Fine\r\n"), "the status stays: {head}");
    assert!(has("A: old"), "3.2: what the 304 does not have stays");
    assert!(has("B: new") && !head.contains("old2"), "3.2: all lines of a field are replaced");
    assert!(has("C: new") && has("Set-Cookie: e=f"), "3.2: new fields are added");
    assert!(has("Content-Encoding: gzip") && !head.contains("br"), "3.2: what belongs to the body stays");
    assert!(has("Content-Type: text/html"), "3.2: updated");
    assert!(
        !head.contains("Content-Length") && !head.contains("D: x") && !head.contains("Connection"),
        "3.1"
    );
    assert!(
        has("Date: Sun, 06 Nov 1994 08:51:17 GMT") && !has("Date: Sun, 06 Nov 1994 08:49:00 GMT"),
        "{head}"
    );
    let facts = read(&new).facts();
    assert_eq!(
        (facts.age_s(later), facts.fresh_s, facts.body_total),
        (0, 60, 5),
        "4.3.4: age and lifetime anew"
    );
    assert_eq!(read(&new).etag(), Some(&b"\"a\""[..]));
    assert_eq!(read(&new).tags().collect::<Vec<_>>(), read(&stored).tags().collect::<Vec<_>>());
    assert_eq!(read(&new).key(), b"http://a/");
    // And once more over what came out.
    let (again, _) = freshened(&new, "A: newer\nCache-Tag: u, v\nAge: 7\n", later + 1000);
    assert!(head_text(&again).contains("A: newer\r\n") && head_text(&again).contains("B: new\r\n"));
    assert_eq!(read(&again).tags().count(), 2);
    assert_eq!(read(&again).facts().age_s(later + 1000), 7);
}

#[test]
fn a_304_changes_the_rules_of_caching() {
    let stored = blob_of("", "200", "Cache-Control: max-age=60\nETag: \"a\"\n");
    // Section, the 304's lines, why it is not kept, lifetime.
    for (section, lines, why, fresh_s) in [
        ("4.3.4: the old lifetime", "", None, 60),
        ("4.3.4: a new lifetime", "Cache-Control: max-age=5\n", None, 5),
        ("4.3.4: none", "Cache-Control: no-cache\n", None, 0),
        ("5.2.2.5", "Cache-Control: no-store\n", Some(NotStored::NoStore), 0),
        ("5.2.2.7", "Cache-Control: private\n", Some(NotStored::Private), 0),
        ("4.1", "Vary: *\n", Some(NotStored::VaryAny), 60),
        ("9213 2.2", "CDN-Cache-Control: max-age=9\n", None, 9),
    ] {
        let (new, kept) = freshened(&stored, lines, NOW_MS);
        assert_eq!((kept, read(&new).facts().fresh_s), (why, fresh_s), "{section}: {lines}");
    }
    let (new, _) = freshened(&stored, "Vary: X\n", NOW_MS);
    assert_eq!(read(&new).vary(), b"x");
    assert_ne!(read(&new).facts().variant, 0, "4.1: the variant is that of the new Vary");
    let (new, _) = freshened(&stored, "Cache-Control: no-cache\n", NOW_MS);
    assert!(read(&new).facts().has(Flags::NO_CACHE));
}

#[test]
fn what_head_says_about_get() {
    // RFC 9111 4.3.5.
    let stored =
        blob_of("", "200", &format!("Cache-Control: max-age=60\nContent-Length: 5\nETag: \"a\"\n{LM}"));
    for (status, lines, want) in [
        ("200", "ETag: \"a\"\nContent-Length: 5\n".to_string(), AfterHead::Holds),
        ("200", LM.to_string(), AfterHead::Holds),
        ("200", String::new(), AfterHead::Holds),
        ("200", "Content-Length: 6\n".to_string(), AfterHead::Outdated),
        ("200", "ETag: \"b\"\n".to_string(), AfterHead::Outdated),
        ("200", "Last-Modified: Sun, 06 Nov 1994 08:30:00 GMT\n".to_string(), AfterHead::Outdated),
        ("404", String::new(), AfterHead::Outdated),
    ] {
        let got = with_response_to(Method::Head, status, &lines, |head| after_head(head, &read(&stored)));
        assert_eq!(got, want, "{status} {lines:?}");
    }
}
