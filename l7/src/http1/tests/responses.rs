//! Response heads: how a body ends is what an origin and we must agree on.

use super::*;
use BodyLength::{Chunked, Length, None as NoBody, UntilClose};
use RejectReason::*;

type Case = (&'static str, Method, &'static [u8], Result<(BodyLength, bool), RejectReason>);

const G: Method = Method::Get;
const H: Method = Method::Head;

/// Name, method of the request, bytes, and the body with whether the connection is kept.
const CASES: &[Case] = &[
    ("length", G, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((Length(5), true))),
    ("no phrase", G, b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Ok((Length(0), true))),
    ("no phrase and no space", G, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Ok((Length(0), true))),
    ("obs-text in the phrase", G, b"HTTP/1.1 200 \xe9\r\nContent-Length: 0\r\n\r\n", Ok((Length(0), true))),
    ("chunked", G, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((Chunked, true))),
    ("until close", G, b"HTTP/1.1 200 OK\r\n\r\n", Ok((UntilClose, false))),
    ("until close in 1.0", G, b"HTTP/1.0 200 OK\r\n\r\n", Ok((UntilClose, false))),
    ("length in 1.0", G, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((Length(5), false))),
    (
        "1.0 kept",
        G,
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\n",
        Ok((Length(5), true)),
    ),
    (
        "close",
        G,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
        Ok((Length(5), false)),
    ),
    (
        "close in a list",
        G,
        b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n\r\n",
        Ok((Length(5), false)),
    ),
    ("HEAD with length", H, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((NoBody, true))),
    ("HEAD with chunked", H, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((NoBody, true))),
    ("HEAD with neither", H, b"HTTP/1.1 200 OK\r\n\r\n", Ok((NoBody, true))),
    ("304 with length", G, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Ok((NoBody, true))),
    ("204", G, b"HTTP/1.1 204 No Content\r\n\r\n", Ok((NoBody, true))),
    ("204 with length 0", G, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Ok((NoBody, true))),
    (
        "204 that announces a body",
        G,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        Ok((NoBody, false)),
    ),
    (
        "204 with chunked",
        G,
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        Ok((NoBody, false)),
    ),
    ("100", G, b"HTTP/1.1 100 Continue\r\n\r\n", Ok((NoBody, true))),
    ("103", G, b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", Ok((NoBody, true))),
    ("2xx to CONNECT", Method::Connect, b"HTTP/1.1 200 OK\r\n\r\n", Ok((NoBody, true))),
    (
        "4xx to CONNECT",
        Method::Connect,
        b"HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\n",
        Ok((Length(1), true)),
    ),
    (
        "space before the colon is removed",
        G,
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        Ok((Length(5), true)),
    ),
    ("status 599", G, b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n", Ok((Length(0), true))),
    ("status 600", G, b"HTTP/1.1 600 X\r\n\r\n", Err(StatusInvalid)),
    ("status 099", G, b"HTTP/1.1 099 X\r\n\r\n", Err(StatusInvalid)),
    ("status 20", G, b"HTTP/1.1 20 X\r\n\r\n", Err(StatusLineMalformed)),
    ("status 2000", G, b"HTTP/1.1 2000 X\r\n\r\n", Err(StatusLineMalformed)),
    ("status 2a0", G, b"HTTP/1.1 2a0 X\r\n\r\n", Err(StatusLineMalformed)),
    ("two spaces", G, b"HTTP/1.1  200 OK\r\n\r\n", Err(StatusLineMalformed)),
    ("tab", G, b"HTTP/1.1\t200 OK\r\n\r\n", Err(StatusLineMalformed)),
    ("version 2.0", G, b"HTTP/2.0 200 OK\r\n\r\n", Err(VersionUnsupported)),
    ("version 1.2", G, b"HTTP/1.2 200 OK\r\n\r\n", Err(VersionUnsupported)),
    ("lower case", G, b"http/1.1 200 OK\r\n\r\n", Err(StatusLineMalformed)),
    ("no status line (0.9)", G, b"<html>", Err(StatusLineMalformed)),
    ("another protocol", G, b"ICY 200 OK\r\n\r\n", Err(StatusLineMalformed)),
    ("TLS alert", G, b"\x15\x03\x03\x00\x02\x02\x28", Err(ControlByte)),
    ("empty line first", G, b"\r\nHTTP/1.1 200 OK\r\n\r\n", Err(StatusLineMalformed)),
    ("left-over of a body", G, b"eHTTP/1.1 200 OK\r\n\r\n", Err(StatusLineMalformed)),
    ("bare LF", G, b"HTTP/1.1 200 OK\nContent-Length: 5\n\n", Err(BareLf)),
    ("bare CR in the phrase", G, b"HTTP/1.1 200 O\rK\r\n\r\n", Err(BareCr)),
    ("NUL in the phrase", G, b"HTTP/1.1 200 O\0K\r\n\r\n", Err(ControlByte)),
    ("folded line", G, b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Err(ObsFold)),
    (
        "both",
        G,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err(LengthAndTransferEncoding),
    ),
    (
        "chunked in 1.0",
        G,
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err(TransferEncodingIn10),
    ),
    (
        "gzip, chunked",
        G,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Err(TransferEncodingUnknown),
    ),
    (
        "chunked twice",
        G,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        Err(ChunkedTwice),
    ),
    (
        "length twice",
        G,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        Err(ContentLengthRepeated),
    ),
    ("list of lengths", G, b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Err(ContentLengthInvalid)),
    ("bad length", G, b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", Err(ContentLengthInvalid)),
    ("bad length to HEAD", H, b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", Err(ContentLengthInvalid)),
    ("no colon", G, b"HTTP/1.1 200 OK\r\nX\r\n\r\n", Err(ColonMissing)),
];

#[test]
fn bodies_and_connections() {
    for &(name, method, bytes, want) in CASES {
        let mut slots = HeaderSlots::new();
        let parsed = parse_response(bytes, method, &mut HeadScan::new(), &HttpLimits::default(), &mut slots);
        match (parsed, want) {
            (Ok(Parsed::Complete(head, consumed)), Ok(want)) => {
                assert_eq!(consumed, bytes.len(), "{name}");
                assert_eq!((head.body(), head.keep_alive()), want, "{name}");
            }
            (Err(reject), Err(reason)) => assert_eq!(reject, Reject { status: 502, reason }, "{name}"),
            (parsed, want) => panic!("{name}: {parsed:?}, not {want:?}"),
        }
        for choice in 0..4 {
            harness::response(&[&[choice], bytes].concat());
        }
    }
}
