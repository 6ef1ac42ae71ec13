//! What holds for all inputs; the harness does the asserting.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::phases::harness;

/// Pieces that heads are made of, with what the harness's edits touch.
const PIECES: &[&str] = &[
    "Host: b\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close, X-A\r\n",
    "Connection: upgrade, te\r\n",
    "Upgrade: websocket\r\n",
    "TE: trailers\r\n",
    "Trailer: X\r\n",
    "Expect: 100-continue\r\n",
    "Max-Forwards: 0\r\n",
    "Cookie:a\r\n",
    "Content-Type: a\r\n",
    "Tracker: a\r\n",
    "X-A:  b\t\r\n",
    "X-B: b\r\n",
    "ACCEPT: b\r\n",
    "Accept: b\r\n",
    "Gone: b\r\n",
    "X-Forwarded-For: 1\r\n",
    "Via: 1.1 z\r\n",
    "Date: x\r\n",
    "Other: x\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edited_heads(
        first in select(&["GET /a?b HTTP/1.1\r\nHost: a:8\r\n", "POST /%41 HTTP/1.1\r\nHost: a\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: [::1]\r\n", "GET http://b:8/x HTTP/1.0\r\n", "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 304 \r\n"][..]),
        lines in vec(select(PIECES), 0..12),
    ) {
        harness::edit([first, &lines.concat(), "\r\n"].concat().as_bytes());
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        harness::edit(&bytes);
        harness::path(&bytes);
    }
}

#[test]
fn the_kept_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    type Target = fn(&[u8]);
    for (name, target) in [
        ("phases_edit", harness::edit as Target),
        ("phases_path", harness::path),
        ("phases_proxy_protocol", harness::proxy_protocol),
        ("phases_access_log", harness::access_log),
    ] {
        let mut seen = 0;
        for entry in fs::read_dir(corpora.join(name)).expect("the corpora are part of the repository") {
            target(&fs::read(entry.expect("readable").path()).expect("readable"));
            seen += 1;
        }
        assert!(seen > 0, "{name} has no corpus");
    }
}
