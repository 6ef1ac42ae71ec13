//! Many clients that want one object at once, on two cores: the origin is asked once, and everyone gets what it sends
//! as it sends it; or, where that cannot be, each gets an answer of its own or is told visibly that there is none. Small
//! objects, in all framings; `crowd.rs` has the large ones.

use std::collections::HashSet;

use crate::cache_cases::{Got, Reply, not_modified, ok, status};
use crate::crowd::get;
use crate::rig::{later, node, response};
use crate::support::peers::{Act, Asked, Peers};

/// So many clients that ask for a path at once.
fn crowd(p: &mut Peers, n: usize, path: &str, more: &str) -> Vec<u16> {
    (0..n).map(|_| p.connect(&get(path, more))).collect()
}

/// What a client has got so far, whether that is all or not.
fn got(p: &mut Peers, port: u16) -> Got {
    let (input, ended, reset) = p.client_got(port);
    response(input, false, ended, reset).unwrap_or_default()
}

fn all_got(p: &mut Peers, clients: &[u16]) -> Vec<Got> {
    clients.iter().map(|c| got(p, *c)).collect()
}

fn leave(p: &mut Peers, clients: &[u16]) {
    for c in clients {
        p.client_resets(*c);
    }
    p.settle(&mut |_, _| Act::Hold);
}

fn body(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn sends(reply: Reply) -> impl FnMut(&Asked, u64) -> Act {
    move |a, unix_s| {
        let (bytes, ends) = reply.bytes(a.1.starts_with("HEAD"), "", unix_s);
        Act::Send(bytes, ends)
    }
}

/// Lets the node bring the requests to the origin, which says nothing yet. Gives what it saw.
fn hold(p: &mut Peers) -> Vec<Asked> {
    let mut seen = Vec::new();
    p.settle(&mut |a: &Asked, _| {
        seen.push(a.clone());
        Act::Hold
    });
    seen
}

/// The origin of this port sends `bytes` at a megabyte a second; `also` is done at each step, with the bytes sent.
fn pace(p: &mut Peers, port: u16, bytes: &[u8], mut also: impl FnMut(&mut Peers, usize)) {
    let mut sent = 0;
    for piece in bytes.chunks(10_000) {
        p.origin_sends(port, piece);
        sent += piece.len();
        let then = later(p, 10);
        p.until(then, &mut |a: &Asked, _| panic!("asked again: {}", a.1));
        also(p, sent);
    }
}

#[test]
fn the_first_client_leaves_and_the_others_go_on() {
    let mut p = node(2, 1024, 8 << 20);
    let clients = crowd(&mut p, 40, "/left", "");
    let seen = hold(&mut p);
    assert_eq!(seen.len(), 1);
    let whole = body(400_000);
    p.origin_sends(
        seen[0].0,
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 400000\r\n\r\n",
    );
    // Whoever of them was the first: one after the other leaves, half of them in all.
    let (mut gone, leaving) = (0, clients.clone());
    pace(&mut p, seen[0].0, &whole, |p, _| {
        if gone < 20 {
            p.client_resets(leaving[gone]);
            gone += 1;
        }
    });
    for g in all_got(&mut p, &clients[20..]) {
        assert!(g.whole && g.body == whole);
    }
    // All leave: the object is fetched to its end, and there for the next.
    let clients = crowd(&mut p, 3, "/all-left", "");
    let seen = hold(&mut p);
    assert_eq!(seen.len(), 1);
    p.origin_sends(
        seen[0].0,
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 400000\r\n\r\n",
    );
    let mut n = 0;
    pace(&mut p, seen[0].0, &whole, |p, _| {
        n += 1;
        if n == 5 {
            leave(p, &clients);
        }
    });
    let next = crowd(&mut p, 1, "/all-left", "");
    assert!(hold(&mut p).is_empty());
    assert!(got(&mut p, next[0]).body == whole);
}

#[test]
fn an_origin_that_breaks_is_seen_by_those_who_have_begun() {
    for length in ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"] {
        for resets in [false, true] {
            let mut p = node(2, 1024, 8 << 20);
            let clients = crowd(&mut p, 100, "/breaks", "");
            let seen = hold(&mut p);
            assert_eq!(seen.len(), 1);
            let head = format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{length}\r\n");
            p.origin_sends(seen[0].0, head.as_bytes());
            if length.starts_with('T') {
                p.origin_sends(seen[0].0, b"186a0\r\n");
            }
            pace(&mut p, seen[0].0, &body(50_000), |_, _| ());
            match resets {
                true => p.origin_resets(seen[0].0),
                false => p.origin_closes(seen[0].0),
            }
            assert_eq!(hold(&mut p).len(), 0, "those who have begun cannot begin again");
            for c in &clients {
                let (input, ended, reset) = p.client_got(*c);
                assert!(ended || reset, "a client waits for ever");
                let g = response(input, false, ended, reset).expect("an end");
                assert!(g.status == 200 && !g.whole && g.body.len() <= 50_000, "{:?}", g.head);
            }
            // Nothing of it is kept: who comes then begins anew.
            let then = later(&p, 2000);
            p.until(then, &mut |_, _| Act::Hold);
            let next = crowd(&mut p, 20, "/breaks", "");
            let mut asked = 0;
            p.settle(&mut |a: &Asked, unix_s| {
                asked += 1;
                sends(ok("max-age=60").body("whole"))(a, unix_s)
            });
            assert_eq!(asked, 1);
            assert!(all_got(&mut p, &next).iter().all(|g| g.whole && g.body == b"whole"));
        }
    }
}

#[test]
fn an_origin_that_does_not_answer_is_not_asked_by_everyone() {
    let mut p = node(2, 1024, 8 << 20);
    let clients = crowd(&mut p, 200, "/closes", "");
    let mut asked = 0;
    p.settle(&mut |_, _| {
        asked += 1;
        Act::Close
    });
    assert!(asked <= 8, "{asked} requests to an origin that answers none");
    for g in all_got(&mut p, &clients) {
        assert!(g.whole && g.status == 502, "{g:?}");
    }
}

/// Answers that are nobody else's: each client gets one of its own.
fn each_its_own(reply: impl Fn(usize) -> Reply) {
    let mut p = node(2, 1024, 8 << 20);
    let clients = crowd(&mut p, 100, "/own", "");
    let mut asked = 0;
    p.settle(&mut |a: &Asked, unix_s| {
        asked += 1;
        sends(reply(asked))(a, unix_s)
    });
    let all = all_got(&mut p, &clients);
    assert!(all.iter().all(|g| g.whole), "{:?}", all.iter().find(|g| !g.whole));
    let different: HashSet<_> = all.iter().map(|g| g.body.clone()).collect();
    assert_eq!((asked, different.len()), (100, 100), "requests, and different answers");
    leave(&mut p, &clients);
    // The next ones do not wait for each other, as none could use another's.
    let clients = crowd(&mut p, 10, "/own", "");
    assert_eq!(hold(&mut p).len(), 10);
    leave(&mut p, &clients);
}

#[test]
fn no_store_is_for_each_its_own() {
    each_its_own(|n| ok("no-store").body(&format!("for {n} alone")));
    each_its_own(|n| ok("private, max-age=60").body(&format!("for {n} alone")));
    each_its_own(|n| ok("max-age=60").field("Vary: *").body(&format!("for {n} alone")));
}

#[test]
fn a_part_is_for_each_its_own() {
    let mut p = node(2, 1024, 8 << 20);
    let part = |n: usize| status(206).field("Content-Range: bytes 0-4/20").body(&format!("{n:05}"));
    // Asked for …
    let clients = crowd(&mut p, 50, "/part", "Range: bytes=0-4\r\n");
    let mut asked = 0;
    p.settle(&mut |a: &Asked, unix_s| {
        asked += 1;
        assert!(a.1.contains("bytes=0-4"));
        sends(part(asked))(a, unix_s)
    });
    let all = all_got(&mut p, &clients);
    assert!(all.iter().all(|g| g.whole && g.status == 206 && g.body.len() == 5));
    assert_eq!(asked, 50);
    leave(&mut p, &clients);
    // … and not asked for.
    let clients = crowd(&mut p, 50, "/part", "");
    let mut asked = 0;
    p.settle(&mut |a: &Asked, unix_s| {
        asked += 1;
        sends(part(asked))(a, unix_s)
    });
    let different: HashSet<_> = all_got(&mut p, &clients).iter().map(|g| (g.whole, g.body.clone())).collect();
    assert_eq!((asked, different.len()), (50, 50));
}

#[test]
fn a_validation_is_one_request_as_well() {
    let mut p = node(2, 1024, 8 << 20);
    for (n, reply, want) in [(1, not_modified("max-age=1"), "a"), (2, ok("max-age=60").body("b"), "b")] {
        let path = format!("/valid{n}");
        let first = crowd(&mut p, 1, &path, "");
        p.settle(&mut sends(ok("max-age=1").field("ETag: \"1\"")));
        leave(&mut p, &first);
        let then = later(&p, 2000);
        p.until(then, &mut |_, _| Act::Hold);
        let clients = crowd(&mut p, 500, &path, "");
        let seen = hold(&mut p);
        assert_eq!(seen.len(), 1);
        assert!(seen[0].1.to_ascii_lowercase().contains("if-none-match: \"1\""), "{}", seen[0].1);
        let unix_s = p.unix_s();
        p.origin_sends(seen[0].0, &reply.bytes(false, "", unix_s).0);
        assert!(hold(&mut p).is_empty());
        for g in all_got(&mut p, &clients) {
            assert!(g.whole && g.status == 200 && g.body == want.as_bytes(), "{g:?}");
        }
        leave(&mut p, &clients);
    }
}

#[test]
fn a_validation_of_what_is_invalidated_meanwhile() {
    let mut p = node(2, 1024, 8 << 20);
    let first = crowd(&mut p, 1, "/put", "");
    p.settle(&mut sends(ok("max-age=1").field("ETag: \"1\"")));
    leave(&mut p, &first);
    let then = later(&p, 2000);
    p.until(then, &mut |_, _| Act::Hold);
    let clients = crowd(&mut p, 20, "/put", "");
    let seen = hold(&mut p);
    assert_eq!(seen.len(), 1);
    let put = p.connect(b"PUT /put HTTP/1.1\r\nHost: book.lab\r\nContent-Length: 0\r\n\r\n");
    p.settle(&mut sends(status(200)));
    assert_eq!(got(&mut p, put).status, 200);
    // The 304 confirms what is not there any more: they look again, and somebody fetches.
    let unix_s = p.unix_s();
    p.origin_sends(seen[0].0, &not_modified("max-age=60").bytes(false, "", unix_s).0);
    let mut asked = 0;
    p.settle(&mut |a: &Asked, unix_s| {
        asked += 1;
        assert!(!a.1.contains("If-None-Match"));
        sends(ok("max-age=60").body("b"))(a, unix_s)
    });
    assert_eq!(asked, 1);
    for g in all_got(&mut p, &clients) {
        assert!(g.whole && g.status == 200 && g.body == b"b", "{g:?}");
    }
}

#[test]
fn what_outgrows_the_store_is_whole_for_the_first() {
    let mut p = node(2, 1024, 256 << 10);
    let first = crowd(&mut p, 1, "/endless", "");
    let seen = hold(&mut p);
    let others = crowd(&mut p, 20, "/endless", "");
    assert_eq!((seen.len(), hold(&mut p).len()), (1, 0));
    let whole = body(1_000_000);
    let mut chunked =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n"
            .to_vec();
    chunked.extend(&whole);
    chunked.extend(b"\r\n0\r\n\r\n");
    pace(&mut p, seen[0].0, &chunked, |_, _| ());
    let g = got(&mut p, first[0]);
    assert!(g.whole && g.body == whole, "the first got {} bytes", g.body.len());
    for c in &others {
        let (input, ended, reset) = p.client_got(*c);
        let g = response(input, false, ended, reset).expect("an end");
        assert!(!g.whole && g.body == whole[..g.body.len()], "broken, visibly");
    }
    leave(&mut p, &others);
    let next = crowd(&mut p, 1, "/endless", "");
    assert_eq!(hold(&mut p).len(), 1, "it is not stored");
    leave(&mut p, &next);
}
