//! Origins that do not answer requests for slices as they should: every client gets what the origin has all the same,
//! and nothing wrong is kept.

use dataplane::Ctr;

use crate::cache_cases::{Got, field};
use crate::rig::{answer, node};
use crate::slices::{File, S, ask, bytes, get, whole};
use crate::support::peers::{Act, Asked, Peers};

/// One request; `odd` answers those for a slice, and the file the others. Gives how many of each there were.
fn odd(p: &mut Peers, request: &[u8], file: &mut File, odd: impl Fn(&str) -> String) -> (Got, usize, usize) {
    let (mut slices, mut others) = (0, 0);
    let is_ours = |a: &str| field(a, "range").is_some_and(|r| r.ends_with(&format!("{}", S - 1)));
    let client = p.connect(request);
    let mut origin = |a: &Asked, _: u64| {
        if is_ours(&a.1) {
            slices += 1;
            return Act::Send(odd(&a.1).into_bytes(), false);
        }
        others += 1;
        file.serve(a)
    };
    let got = answer(p, client, false, &mut origin);
    p.client_resets(client);
    p.settle(&mut origin);
    (got, slices, others)
}

#[test]
fn answers_that_are_no_slice() {
    let mut file = File::new(3 * S);
    let (total, body) = (3 * S, "x".repeat(S));
    let cc = "Cache-Control: max-age=60\r\nETag: \"v1\"\r\n";
    let cases = [
        (
            "another range",
            format!("{cc}Content-Range: bytes 1-{S}/{total}\r\nContent-Length: {S}\r\n\r\n{body}"),
        ),
        (
            "a shorter one",
            format!("{cc}Content-Range: bytes 0-9/{total}\r\nContent-Length: 10\r\n\r\n0123456789"),
        ),
        ("no range", format!("{cc}Content-Length: {S}\r\n\r\n{body}")),
        ("no total", format!("{cc}Content-Range: bytes 0-{}/*\r\nContent-Length: {S}\r\n\r\n{body}", S - 1)),
        (
            "no validator",
            format!(
                "Cache-Control: max-age=60\r\nContent-Range: bytes 0-{}/{total}\r\nContent-Length: {S}\r\n\r\n{body}",
                S - 1
            ),
        ),
        (
            "a weak one",
            format!(
                "Cache-Control: max-age=60\r\nETag: W/\"v1\"\r\nContent-Range: bytes 0-{}/{total}\r\nContent-Length: {S}\r\n\r\n{body}",
                S - 1
            ),
        ),
        (
            "not to be stored",
            format!(
                "Cache-Control: no-store\r\nETag: \"v1\"\r\nContent-Range: bytes 0-{}/{total}\r\nContent-Length: {S}\r\n\r\n{body}",
                S - 1
            ),
        ),
        (
            "parts",
            format!("{cc}Content-Type: multipart/byteranges; boundary=b\r\nContent-Length: 5\r\n\r\n--b--"),
        ),
    ];
    for (n, (name, answer)) in cases.iter().enumerate() {
        let mut p = node(1, 1024, 8 << 20);
        let path = format!("/odd{n}");
        // Once for a slice, and then as the client asked.
        let (got, slices, others) =
            odd(&mut p, &get(&path, ""), &mut file, |_| format!("HTTP/1.1 206 Partial Content\r\n{answer}"));
        assert!(got.status == 200 && got.whole && got.body == file.body, "{name}: {}", got.head);
        assert_eq!((slices, others), (1, 1), "{name}");
        let s = p.segment.read();
        assert_eq!((s.get(Ctr::CacheSlicesRefused), s.get(Ctr::CacheStored)), (1, 0), "{name}");
        // That is remembered.
        let range = get(&path, "Range: bytes=5-9\r\n");
        let (got, slices, others) = odd(&mut p, &range, &mut file, |_| panic!("asked again"));
        assert!(got.status == 206 && got.body == file.body[5..10], "{name}: {}", got.head);
        assert_eq!((slices, others), (0, 1), "{name}");
    }
}

/// An origin that knows no ranges.
fn no_ranges(p: &mut Peers, request: &[u8], body: &[u8], control: &str) -> (Got, usize) {
    let mut asked = 0;
    let mut origin = |_: &Asked, _: u64| {
        asked += 1;
        let head = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Act::Send([head.as_bytes(), body].concat(), false)
    };
    let client = p.connect(request);
    let got = answer(p, client, false, &mut origin);
    p.client_resets(client);
    p.settle(&mut origin);
    (got, asked)
}

#[test]
fn an_origin_that_ignores_ranges() {
    let body = bytes(3, 5 * S);
    // It is kept whole, like without slices.
    let mut p = node(2, 1024, 8 << 20);
    let (got, asked) = no_ranges(&mut p, &get("/w", ""), &body, "max-age=60");
    assert!(got.status == 200 && got.whole && got.body == body && asked == 1);
    let (got, asked) = no_ranges(&mut p, &get("/w", ""), &body, "max-age=60");
    assert!(got.body == body && asked == 0);
    let (got, asked) = no_ranges(&mut p, &get("/w", "Range: bytes=70000-70001\r\n"), &body, "max-age=60");
    assert!(got.status == 206 && got.body == body[70_000..70_002] && asked == 0);
    assert_eq!(p.segment.read().get(Ctr::CacheSlicesRefused), 1);
    // A range asked for first: the client gets what it wants, or all; and the whole is kept.
    let (got, _) = no_ranges(&mut p, &get("/r", "Range: bytes=70000-70001\r\n"), &body, "max-age=60");
    assert!(got.whole && (got.body == body || got.body == body[70_000..70_002]));
    let (got, asked) = no_ranges(&mut p, &get("/r", "Range: bytes=70000-70001\r\n"), &body, "max-age=60");
    assert!(got.status == 206 && got.body == body[70_000..70_002] && asked == 0);
    // Many at once.
    let clients: Vec<u16> = (0..40).map(|_| p.connect(&get("/many", ""))).collect();
    let mut asked = 0;
    p.settle(&mut |_: &Asked, _| {
        asked += 1;
        let head =
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n", body.len());
        Act::Send([head.as_bytes(), &body].concat(), false)
    });
    assert_eq!(asked, 1);
    for c in clients {
        assert!(p.client_got(c).0.ends_with(&body));
    }
    // Larger than may be kept, or not to be kept: as it is, and not asked for slices again.
    let mut p = node(1, 1024, 8 << 20);
    for (path, control) in [("/large", "max-age=60"), ("/secret", "no-store")] {
        for _ in 0..3 {
            let request = String::from_utf8_lossy(&get(path, "")).replace("slices.lab", "slices-small.lab");
            let (got, asked) = no_ranges(&mut p, request.as_bytes(), &body, control);
            assert!(got.whole && got.body == body && asked == 1, "{path}");
        }
    }
    let s = p.segment.read();
    assert_eq!((s.get(Ctr::CacheSlicesFetched), s.get(Ctr::CacheStored)), (2, 0));
}

#[test]
fn an_origin_that_stops_knowing_ranges_in_the_middle() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(8 * S);
    let client = p.connect(&get("/flip", ""));
    let mut n = 0;
    let got = answer(&mut p, client, false, &mut |a: &Asked, _| {
        n += 1;
        if n == 4 {
            let all = (a.0, a.1.replace("Range: ", "X: "));
            file.serve(&all)
        } else {
            file.serve(a)
        }
    });
    assert!(!got.whole && file.body[..3 * S].starts_with(&got.body), "{} bytes", got.body.len());
    p.settle(&mut |a: &Asked, _| file.serve(a));
    assert_eq!(p.segment.read().get(Ctr::CacheSlicesMismatched), 1);
    file.asked.clear();
    // The whole has been kept.
    whole(&mut p, &mut file, "/flip");
    assert!(file.asked.is_empty());
}

#[test]
fn an_object_that_has_shrunk() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(8 * S);
    let client = p.connect(&get("/shrunk", ""));
    let mut n = 0;
    let got = answer(&mut p, client, false, &mut |a: &Asked, _| {
        n += 1;
        if n == 5 {
            file.change(2 * S);
        }
        file.serve(a)
    });
    // 416 in the middle.
    assert!(!got.whole && bytes(1, 8 * S)[..4 * S].starts_with(&got.body), "{} bytes", got.body.len());
    let then = p.now.plus_ns(5_000_000_000);
    p.until(then, &mut |a: &Asked, _| file.serve(a));
    whole(&mut p, &mut file, "/shrunk");
}

#[test]
fn a_seek_beyond_the_end() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(3 * S);
    // The origin's answer to the request for a slice is the client's own.
    let got = ask(&mut p, &mut file, &get("/beyond", "Range: bytes=9000000-\r\n"));
    assert_eq!((got.status, file.asked.len()), (416, 1));
    assert_eq!(field(&got.head, "content-range"), Some(format!("bytes */{}", 3 * S)));
    // It is not, where the range may not be meant.
    let got = ask(&mut p, &mut file, &get("/beyond", "Range: bytes=9000000-\r\nIf-Range: \"old\"\r\n"));
    assert_eq!(got.status, 416, "this origin looks at no If-Range, but was asked");
    assert!(file.asked.len() > 2);
    let clients: Vec<u16> =
        (0..20).map(|_| p.connect(&get("/beyond", "Range: bytes=9000000-\r\n"))).collect();
    p.settle(&mut |a: &Asked, _| file.serve(a));
    for c in clients {
        assert!(p.client_got(c).0.starts_with(b"HTTP/1.1 416 "));
    }
}

#[test]
fn an_error_in_the_middle_drops_nothing() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(8 * S);
    let client = p.connect(&get("/503", ""));
    let mut n = 0;
    let got = answer(&mut p, client, false, &mut |a: &Asked, _| {
        n += 1;
        if n == 5 {
            return Act::Send(b"HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\nx".to_vec(), false);
        }
        file.serve(a)
    });
    assert!(!got.whole && file.body[..4 * S].starts_with(&got.body), "{} bytes", got.body.len());
    assert_eq!(p.segment.read().get(Ctr::CacheSlicesMismatched), 0);
    let then = p.now.plus_ns(5_000_000_000);
    p.until(then, &mut |a: &Asked, _| file.serve(a));
    file.asked.clear();
    whole(&mut p, &mut file, "/503");
    assert_eq!(file.slices().into_keys().collect::<Vec<_>>(), [4, 5, 6, 7]);
}

#[test]
fn empty_and_other_answers() {
    let mut p = node(1, 1024, 8 << 20);
    let empty = |a: &Asked, _: u64| {
        let lines = "Cache-Control: max-age=60\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n";
        let start = if field(&a.1, "range").is_some() {
            "HTTP/1.1 416 No\r\nContent-Range: bytes */0\r\n"
        } else {
            "HTTP/1.1 200 OK\r\n"
        };
        Act::Send(format!("{start}{lines}").into_bytes(), false)
    };
    for _ in 0..2 {
        let client = p.connect(&get("/empty", ""));
        let got = answer(&mut p, client, false, &mut |a: &Asked, t| empty(a, t));
        assert!(got.status == 200 && got.whole && got.body.is_empty(), "{}", got.head);
    }
    // What is no part of anything is kept as without slices.
    for status in [301, 404] {
        let path = format!("/{status}");
        let mut asked = 0;
        for _ in 0..2 {
            let client = p.connect(&get(&path, ""));
            let got = answer(&mut p, client, false, &mut |_: &Asked, _| {
                asked += 1;
                let text =
                    format!("HTTP/1.1 {status} X\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\nx");
                Act::Send(text.into_bytes(), false)
            });
            assert_eq!((got.status, &got.body[..]), (status, &b"x"[..]));
        }
        assert_eq!(asked, 1, "{status}");
    }
    let client = p.connect(&get("/503", ""));
    let got = answer(&mut p, client, false, &mut |_: &Asked, _| {
        Act::Send(b"HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\nx".to_vec(), false)
    });
    assert_eq!(got.status, 503);
}

#[test]
fn slices_of_what_is_asked_for_often() {
    // `admit_after` counts requests for the URL, not for its slices.
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(4 * S);
    let rare =
        |more: &str| String::from_utf8_lossy(&get("/rare", more)).replace("slices.lab", "rare-slices.lab");
    let got = ask(&mut p, &mut file, rare("").as_bytes());
    assert!(got.body == file.body);
    assert_eq!(std::mem::take(&mut file.asked), [None], "as the client asked");
    let got = ask(&mut p, &mut file, rare("").as_bytes());
    assert!(got.body == file.body);
    assert_eq!(file.slices().len(), 4);
    let got = ask(&mut p, &mut file, rare("Range: bytes=5-6\r\n").as_bytes());
    assert!(got.status == 206 && got.body == file.body[5..7] && file.asked.is_empty());
}
