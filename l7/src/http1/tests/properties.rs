//! What holds for all inputs. The harness does the asserting; here are inputs that are random, nearly right, or
//! kept because a fuzzer once found them.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::harness;

/// Pieces that heads are made of, good and bad.
const HEAD_PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "GET http://b:8/x HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 404 \r\n",
    "HTTP/1.1 103 \r\n",
    "HTTP/1.1 101 \r\n",
    "Host: a\r\n",
    "Host: [::1]:80\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close, X-A\r\n",
    "Connection: upgrade, te\r\n",
    "Upgrade: websocket, h2c\r\n",
    "TE: trailers\r\n",
    "Trailer: X\r\n",
    "Expect: 100-continue\r\n",
    "Max-Forwards: 0\r\n",
    "X-A:  b\t\r\n",
    "X-Forwarded-For: 1\r\n",
    "Via: 1.1 z\r\n",
    "Date: x\r\n",
    ":",
    " ",
    "\r",
    "\n",
    "\r\n",
    "\0",
    "\u{e9}",
];

/// Pieces that chunked bodies are made of, good and bad.
const CHUNK_PIECES: &[&str] = &[
    "5\r\nabcde\r\n",
    "1;a=\"b\"\r\nx\r\n",
    "a\r\n",
    "0\r\n",
    "\r\n",
    "A: b\r\n",
    "Host: b\r\n",
    "ffffffffffffffff\r\n",
    ";",
    "=",
    "\"",
    " ",
    "\r",
    "\n",
    "0",
];

fn pieces(of: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(of), 0..12).prop_map(|parts| parts.concat().into_bytes())
}

/// A request that is right: method, target, header lines, and how its body is framed.
fn valid_request() -> impl Strategy<Value = Vec<u8>> {
    let line =
        ("[A-Za-z][A-Za-z0-9-]{0,20}", "[ \t]{0,2}", "[!-~\u{e9}]{0,3}([ -~\t]{0,40}[!-~])?", "[ \t]{0,2}");
    (
        "[A-Z]{3,8}",
        "/[a-zA-Z0-9/._~%]{0,0}[a-zA-Z0-9/._~:@!$&'()*+,;=-]{0,60}(\\?[a-z0-9=&{}|^`%?/-]{0,60})?",
        "[a-z0-9.-]{1,30}(:[0-9]{1,4})?",
        vec(line, 0..20),
        select(&["", "Content-Length: 17\r\n", "Transfer-Encoding: chunked\r\n"][..]),
        select(&["", "\r\n"][..]),
    )
        .prop_map(|(method, target, host, lines, framing, leading)| {
            let mut text = format!("{leading}{method} {target} HTTP/1.1\r\nHost: {host}\r\n{framing}");
            for (name, before, value, after) in lines {
                text += &format!("X-{name}:{before}{value}{after}\r\n");
            }
            (text + "\r\n").into_bytes()
        })
        .prop_filter("CONNECT is refused", |bytes| !bytes.trim_ascii_start().starts_with(b"CONNECT "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        harness::request(&bytes);
        harness::response(&bytes);
        harness::chunked(&bytes);
    }

    #[test]
    fn nearly_right_heads(bytes in pieces(HEAD_PIECES), choice in 0u8..4) {
        harness::request(&bytes);
        harness::response(&[&[choice], bytes.as_slice()].concat());
    }

    #[test]
    fn nearly_right_bodies(bytes in pieces(CHUNK_PIECES)) {
        harness::chunked(&bytes);
    }

    /// A right request is taken (the harness then rewrites it and reads that again), and so is what a flipped
    /// byte makes of it, or not; but whole and in pieces alike.
    #[test]
    fn right_requests(bytes in valid_request(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let whole = super::request_outcome(&bytes, &super::HttpLimits::default());
        prop_assert_eq!(whole, Ok(Some(bytes.len())), "{}", bytes.escape_ascii());
        harness::request(&bytes);
        let mut flipped = bytes;
        let at = at.index(flipped.len());
        flipped[at] ^= flip;
        harness::request(&flipped);
    }

    #[test]
    fn right_bodies(chunks in vec(vec(any::<u8>(), 1..50), 0..10)) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(super::write_chunk_header(chunk.len(), &mut [0; 18]));
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(super::LAST_CHUNK);
        let decoded = harness::decode_in_pieces(&body, 13);
        prop_assert_eq!(decoded.end, Ok(Some(body.len())));
        prop_assert_eq!(decoded.data, chunks.concat());
        harness::chunked(&body);
    }
}

#[test]
fn the_kept_corpora() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    type Target = fn(&[u8]);
    for (name, target) in [
        ("http1_request", harness::request as Target),
        ("http1_response", harness::response),
        ("http1_chunked", harness::chunked),
    ] {
        let mut seen = 0;
        for entry in fs::read_dir(corpora.join(name)).expect("the corpora are part of the repository") {
            target(&fs::read(entry.expect("readable").path()).expect("readable"));
            seen += 1;
        }
        assert!(seen > 0, "{name} has no corpus");
    }
}
