//! `admit_after`: what is stored only when it has been asked for often enough.

use dataplane::Ctr;

use crate::cache_cases::{Got, ok};
use crate::rig::{answer, later, node};
use crate::support::peers::{Act, Asked, Peers};

fn ask(p: &mut Peers, host: &str, path: &str) -> (Got, usize) {
    let mut asked = 0;
    let mut origin = |_: &Asked, unix_s: u64| {
        asked += 1;
        let (bytes, ends) = ok("max-age=60").body("a").bytes(false, "", unix_s);
        Act::Send(bytes, ends)
    };
    let client = p.connect(format!("GET {path} HTTP/1.1\r\nHost: {host}.lab\r\n\r\n").as_bytes());
    let got = answer(p, client, false, &mut origin);
    p.client_resets(client);
    p.settle(&mut origin);
    (got, asked)
}

#[test]
fn the_third_request_stores() {
    let mut p = node(2, 1024, 8 << 20);
    for (n, want) in [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)] {
        let (got, asked) = ask(&mut p, "rare", "/a");
        assert_eq!((&got.body[..], asked), (&b"a"[..], want), "request {n}");
    }
    let s = p.segment.read();
    assert_eq!((s.get(Ctr::CacheNotAdmitted), s.get(Ctr::CacheFetches), s.get(Ctr::CacheStored)), (2, 1, 1));
    // Another one begins at one; and one that nobody asked for in ten minutes does so again.
    assert_eq!(ask(&mut p, "rare", "/b").1, 1);
    assert_eq!(ask(&mut p, "rare", "/b").1, 1);
    let then = later(&p, 11 * 60_000);
    p.until(then, &mut |_, _| Act::Close);
    for want in [1, 1, 1, 0] {
        assert_eq!(ask(&mut p, "rare", "/b").1, want);
    }
}

#[test]
fn before_it_requests_do_not_wait_for_each_other() {
    let mut p = node(2, 1024, 8 << 20);
    let get = b"GET /c HTTP/1.1\r\nHost: rare.lab\r\n\r\n";
    let clients: Vec<u16> = (0..10).map(|_| p.connect(get)).collect();
    let mut asked = Vec::new();
    p.settle(&mut |a: &Asked, _| {
        asked.push(a.0);
        Act::Hold
    });
    // Two go by themselves; the third fetches, and the others wait for it.
    assert_eq!(asked.len(), 3);
    for port in asked {
        let (bytes, _) = ok("max-age=60").body("a").bytes(false, "", p.unix_s());
        p.origin_sends(port, &bytes);
    }
    p.settle(&mut |_, _| Act::Close);
    for c in clients {
        assert!(p.client_got(c).0.ends_with(b"\r\n\r\na"));
    }
}
