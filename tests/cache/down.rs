//! An origin that is not there: what is stored is served as configured, and Cache-Status says why; and when the origin
//! is back, everything is as before.

use crate::cache_cases::{Got, field, ok};
use crate::rig::{answer, later, node};
use crate::support::peers::{Act, Asked, Peers};

const DAY_MS: u64 = 86_400_000;

/// One request; what the origin sees of it, it answers with `body` and this Cache-Control.
fn ask(p: &mut Peers, host: &str, path: &str, cc: &str, body: &str) -> (Got, usize) {
    let mut asked = 0;
    let mut origin = |_: &Asked, unix_s: u64| {
        asked += 1;
        let (bytes, ends) = ok(cc).field("ETag: \"1\"").body(body).bytes(false, "", unix_s);
        Act::Send(bytes, ends)
    };
    let client = p.connect(format!("GET {path} HTTP/1.1\r\nHost: {host}.lab\r\n\r\n").as_bytes());
    let got = answer(p, client, false, &mut origin);
    p.client_resets(client);
    p.settle(&mut origin);
    (got, asked)
}

fn wait(p: &mut Peers, ms: u64) {
    let then = later(p, ms);
    p.until(then, &mut |_, _| Act::Close);
}

/// The origin goes in this way, and comes back.
fn goes_and_comes(goes: impl Fn(&mut Peers, bool), error: u16) {
    let mut p = node(1, 1024, 8 << 20);
    let objects = [
        ("/fresh", "max-age=864000"),
        ("/grace", "max-age=1, stale-if-error=864000"),
        ("/swr", "max-age=1, stale-while-revalidate=864000"),
        ("/strict", "max-age=1, stale-if-error=864000, must-revalidate"),
        ("/plain", "max-age=1"),
        ("/short", "max-age=1, stale-if-error=60"),
    ];
    for (path, cc) in objects {
        assert_eq!(ask(&mut p, "book", path, cc, "old").0.body, b"old");
    }
    wait(&mut p, 10_000);
    goes(&mut p, true);
    p.origin_resets_all();
    for round in 0..3 {
        let look = |p: &mut Peers, path: &str| {
            let (g, asked) = ask(p, "book", path, "max-age=864000", "new");
            assert_eq!(asked, 0);
            (g.status, g.body.clone(), field(&g.head, "cache-status").unwrap_or_default())
        };
        let (status, body, said) = look(&mut p, "/fresh");
        assert!(status == 200 && body == b"old" && said.contains("hit"), "{said}");
        let (status, body, said) = look(&mut p, "/grace");
        assert!(status == 200 && body == b"old", "{status}");
        assert!(said.contains("fwd=stale") && said.contains("detail=stale-if-error"), "{said}");
        let (status, body, said) = look(&mut p, "/swr");
        assert!(status == 200 && body == b"old" && said.contains("stale-while-revalidate"), "{said}");
        for path in ["/strict", "/plain", "/never-seen"] {
            assert_eq!(look(&mut p, path).0, error, "{path}");
        }
        let short = look(&mut p, "/short").0;
        assert_eq!(short, if round == 0 { 200 } else { error }, "stale-if-error is over after a minute");
        wait(&mut p, 3_600_000);
    }
    goes(&mut p, false);
    // Longer than a failure is remembered.
    wait(&mut p, 5_000);
    for path in ["/grace", "/strict", "/plain", "/never-seen", "/short"] {
        let (g, asked) = ask(&mut p, "book", path, "max-age=864000", "new");
        assert_eq!((g.status, &g.body[..], asked), (200, &b"new"[..], 1), "{path}");
    }
    assert_eq!(ask(&mut p, "book", "/swr", "max-age=864000", "new").0.body, b"old");
    for path in ["/grace", "/strict", "/plain", "/never-seen", "/short", "/swr"] {
        let (g, asked) = ask(&mut p, "book", path, "no-store", "?");
        assert_eq!((&g.body[..], asked), (&b"new"[..], 0), "{path}");
    }
    wait(&mut p, DAY_MS);
    assert_eq!(ask(&mut p, "book", "/fresh", "no-store", "?").0.body, b"old");
}

#[test]
fn an_origin_that_refuses_connections() {
    goes_and_comes(|p, down| p.refuses = down, 502);
}

#[test]
fn an_origin_that_is_silent() {
    goes_and_comes(|p, down| p.silent = down, 504);
}
