//! What is an origin's fault, and what a failed fetch means for those who come right after.

use dataplane::Ctr;
use l7::upstream::OutlierSettings;

use crate::rig::{MS, attempts, count, get, node, origin, site, statuses, v4, wait};
use crate::support::peers::Act;

/// Bodies that are no bodies: the rest of the response, and whether the connection ends then.
const BROKEN: &[(&str, &str, bool)] = &[
    ("no number", "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello", false),
    (
        "a chunk that is longer than it says",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
        false,
    ),
    ("shorter than it says", "Content-Length: 100\r\n\r\nhello", true),
    ("without a last chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
];

#[test]
fn a_malformed_body_is_the_origins_fault() {
    for cached in [false, true] {
        for (what, rest, ends) in BROKEN {
            let mut config = site(vec![origin(&[v4()])], cached);
            let outlier = OutlierSettings { failures: 2, ejection_ns: 60_000 * MS };
            config.upstreams[0].settings.outlier = Some(outlier);
            let mut p = node(config);
            for n in 0..2 {
                assert_eq!(count(&p, Ctr::OriginEjections), 0, "{what}");
                let client = p.connect(&get(&format!("/{n}")));
                wait(&mut p, 100, &mut |_, _| {
                    let cc = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
                    Act::Send(format!("{cc}{rest}").into_bytes(), *ends)
                });
                let (got, ended, reset) = p.client_got(client);
                assert!(ended && !reset, "{what}: it is left with what came");
                let got = String::from_utf8_lossy(got);
                assert!(!got.ends_with("0\r\n\r\n"), "{what}: the client cannot take it for whole");
            }
            assert_eq!(count(&p, Ctr::OriginEjections), 1, "{what}, cached: {cached}");
            let counts = count(&p, Ctr::OriginBadResponse) + count(&p, Ctr::OriginClosedEarly);
            assert_eq!(counts, 2, "{what}, cached: {cached}");
        }
    }
}

#[test]
fn a_failed_fetch_speaks_for_its_key_for_a_second() {
    let mut p = node(site(vec![origin(&[v4()])], true));
    p.refuses = true;
    let ask = |p: &mut crate::support::peers::Peers, path: &str| {
        let start = p.now;
        let client = p.connect(&get(path));
        p.settle(&mut |_, _| Act::Hold);
        assert_eq!(statuses(p, client), [502]);
        p.client_resets(client);
        attempts(p, start).len()
    };
    assert_eq!(ask(&mut p, "/1"), 1);
    for _ in 0..3 {
        wait(&mut p, 300, &mut |_, _| Act::Hold);
        assert_eq!(ask(&mut p, "/1"), 0, "the origin is left alone");
    }
    assert_eq!(ask(&mut p, "/2"), 1, "another key");
    wait(&mut p, 200, &mut |_, _| Act::Hold);
    assert_eq!(ask(&mut p, "/1"), 1, "the second is over");
}
