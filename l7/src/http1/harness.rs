//! What must hold for any bytes at all. One body for the fuzz targets (`fuzz/`) and for the property tests, which
//! run the kept corpora too. Tests only: it allocates and panics as it likes.

use core::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::phases::EditList;

const MAX: usize = 64 * 1024;

/// Any bytes as a request head.
pub fn request(input: &[u8]) {
    let limits = HttpLimits::default();
    let mut slots = HeaderSlots::new();
    let mut scan = HeadScan::new();
    let whole = parse_request(input, &mut scan, &limits, &mut slots);
    agree_in_pieces(input, outcome(&whole), |buf, scan| {
        outcome(&parse_request(buf, scan, &limits, &mut HeaderSlots::new()))
    });
    let Ok(Parsed::Complete(head, consumed)) = whole else { return };
    assert!(consumed <= input.len());
    second_opinion_on_request(&input[..consumed], &head);

    // What is written for the origin is read as the same request, and rewriting that changes nothing.
    let ctx = ToOrigin {
        client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        client_tls: false,
        identity: None,
        host: None,
        forward_expect: true,
        forward_upgrade: true,
        keep_alive: true,
        edits: &[],
    };
    if head.authority().is_empty() {
        return; // HTTP/1.0 without Host: the caller has to name a host.
    }
    let Some(first) = write(|sink| write_request_to_origin(&head, &ctx, sink)) else { return };
    let mut slots = HeaderSlots::new();
    let roomy = HttpLimits { head_bytes_max: MAX, ..limits };
    let again = match parse_request(&first, &mut HeadScan::new(), &roomy, &mut slots) {
        Ok(Parsed::Complete(again, n)) => {
            assert_eq!(n, first.len(), "nothing may follow the head");
            again
        }
        // Ours come on top of what was there.
        Err(Reject { reason: RejectReason::TooManyHeaders, .. }) => return,
        other => panic!("{other:?} from {}", first.escape_ascii()),
    };
    assert_eq!(again.method_bytes(), head.method_bytes());
    assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    assert_eq!((again.host(), again.port()), (head.host(), head.port()));
    assert_eq!(again.body(), head.body());
    assert_eq!(again.expect_continue(), head.expect_continue());
    assert_eq!(again.upgrade(), head.upgrade());
    assert_eq!(again.takes_trailers(), head.takes_trailers());
    assert_passed_on(&head.headers(), &again.headers());
}

/// Any bytes as a response head. The first byte picks the request's method.
pub fn response(input: &[u8]) {
    let Some((&choice, input)) = input.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Post, Method::Connect][usize::from(choice & 3)];
    let limits = HttpLimits::default();
    let mut slots = HeaderSlots::new();
    let whole = parse_response(input, method, &mut HeadScan::new(), &limits, &mut slots);
    agree_in_pieces(input, outcome(&whole), |buf, scan| {
        outcome(&parse_response(buf, method, scan, &limits, &mut HeaderSlots::new()))
    });
    let Ok(Parsed::Complete(head, consumed)) = whole else { return };
    assert!(consumed <= input.len());

    for version in [Version::Http10, Version::Http11] {
        let date = http_date::format(784_111_777);
        let ctx =
            ToClient { version, method, keep_alive: true, date: &date, own: b"", edits: EditList::NONE };
        let written = if head.is_interim() {
            let mut some = false;
            let bytes = write(|sink| {
                some = write_interim_to_client(&head, version, sink)?;
                Ok(())
            });
            assert!(bytes.is_none() || some == (version == Version::Http11));
            if !some {
                continue;
            }
            bytes
        } else {
            write(|sink| write_response_to_client(&head, &ctx, sink))
        };
        let Some(written) = written else { return };
        let mut slots = HeaderSlots::new();
        let roomy = HttpLimits { head_bytes_max: MAX, ..limits };
        let again = match parse_response(&written, method, &mut HeadScan::new(), &roomy, &mut slots) {
            Ok(Parsed::Complete(again, n)) => {
                assert_eq!(n, written.len());
                again
            }
            Err(Reject { reason: RejectReason::TooManyHeaders, .. }) => return,
            other => panic!("{other:?} from {}", written.escape_ascii()),
        };
        assert_eq!((again.status(), again.reason()), (head.status(), head.reason()));
        assert_eq!(
            again.body(),
            if head.is_interim() { BodyLength::None } else { outgoing_body(&head, version) }
        );
        if !head.is_interim() && head.status() != 101 {
            assert_eq!(again.keep_alive(), again.body() != BodyLength::UntilClose);
        }
        assert_passed_on(&head.headers(), &again.headers());
    }
}

/// Any bytes as a chunked body.
pub fn chunked(input: &[u8]) {
    let whole = decode_in_pieces(input, input.len().max(1));
    for piece in [1, 2, 3, 7, 64] {
        let pieces = decode_in_pieces(input, piece);
        assert_eq!(pieces.end, whole.end, "in pieces of {piece}");
        assert_eq!(pieces.data, whole.data);
        assert_eq!(pieces.trailers, whole.trailers);
    }
    let Ok(Some(consumed)) = whole.end else { return };
    assert!(consumed <= input.len());

    // What we would send on decodes to the same.
    let mut encoded = Vec::new();
    for chunk in whole.data.chunks(100) {
        encoded.extend_from_slice(write_chunk_header(chunk.len(), &mut [0; 18]));
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n");
    for (name, value) in &whole.trailers {
        encoded.extend_from_slice(&[name, b": ".as_slice(), value, b"\r\n"].concat());
    }
    encoded.extend_from_slice(b"\r\n");
    let again = decode_in_pieces(&encoded, 1000);
    let trailers_fit = whole.trailers.iter().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>() <= 8 * 1024;
    if trailers_fit {
        assert_eq!(again.end, Ok(Some(encoded.len())));
        assert_eq!((again.data, again.trailers), (whole.data, whole.trailers));
    }
}

/// A whole message body, decoded `piece` bytes at a time with what is to be gathered.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub data: Vec<u8>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes consumed when it is complete; `None` while more is needed.
    pub end: Result<Option<usize>, RejectReason>,
}

pub(crate) fn decode_in_pieces(input: &[u8], piece: usize) -> Decoded {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &HttpLimits::default());
    let mut decoded = Decoded { data: Vec::new(), trailers: Vec::new(), end: Ok(None) };
    let (mut start, mut end) = (0, 0);
    loop {
        let window = &input[start..end];
        let (step, consumed) = match decoder.next(window) {
            Ok(step) => step,
            Err(reason) => {
                assert!(decoder.on_eof().is_err(), "a bad body never ends well");
                decoded.end = Err(reason);
                return decoded;
            }
        };
        start += consumed;
        match step {
            BodyStep::Data(range) => {
                assert!(!range.is_empty() && range.end == consumed);
                decoded.data.extend_from_slice(&window[range]);
            }
            BodyStep::Trailer { name, value } => {
                decoded.trailers.push((window[name].to_vec(), window[value].to_vec()));
            }
            BodyStep::NeedMore if end == input.len() => {
                assert!(decoder.on_eof().is_err());
                return decoded;
            }
            BodyStep::NeedMore => end = (end + piece).min(input.len()),
            BodyStep::Done => {
                assert!(decoder.is_done() && decoder.on_eof().is_ok());
                decoded.end = Ok(Some(start));
                return decoded;
            }
        }
    }
}

/// `Ok(None)` is partial.
pub(crate) type Outcome = Result<Option<usize>, Reject>;

pub(crate) fn outcome<T>(parsed: &Result<Parsed<T>, Reject>) -> Outcome {
    match parsed {
        Ok(Parsed::Partial) => Ok(None),
        Ok(Parsed::Complete(_, consumed)) => Ok(Some(*consumed)),
        Err(reject) => Err(*reject),
    }
}

/// A head in pieces is judged like a whole one: nothing good is refused early and nothing bad gets through.
fn agree_in_pieces(input: &[u8], whole: Outcome, mut parse: impl FnMut(&[u8], &mut HeadScan) -> Outcome) {
    for piece in [1, 2, 5, 17, 300] {
        let mut scan = HeadScan::new();
        let mut last = Ok(None);
        let mut end = 0;
        while end < input.len() && last == Ok(None) {
            end = (end + piece).min(input.len());
            last = parse(&input[..end], &mut scan);
        }
        match (last, whole) {
            (Ok(a), Ok(b)) => assert_eq!(a, b, "in pieces of {piece}"),
            (Err(_), Err(_)) => {}
            // What comes in pieces is checked by the line, and what lines say together by the head.
            (Ok(None), Err(_)) => {
                let ended = [input, b"\r\n\r\n"].concat();
                assert!(parse(&ended, &mut scan).is_err(), "in pieces of {piece}, {whole:?} as a whole");
            }
            _ => panic!("{last:?} in pieces of {piece}, {whole:?} as a whole"),
        }
    }
}

/// httparse is laxer, so it must take whatever we take, and see the same in it.
fn second_opinion_on_request(bytes: &[u8], head: &RequestHead<'_>) {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut theirs = httparse::Request::new(&mut lines);
    let status = theirs.parse(bytes);
    assert_eq!(status, Ok(httparse::Status::Complete(bytes.len())), "{}", bytes.escape_ascii());
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method_bytes()));
    assert_eq!(theirs.path.map(str::as_bytes), Some(head.target()));
    assert_eq!(theirs.version, Some(if head.version() == Version::Http11 { 1 } else { 0 }));
    assert!(theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).eq(head.headers().iter()));
}

/// Every field that is to be passed on has been, unchanged and in order, and no other.
fn assert_passed_on(from: &Headers<'_>, to: &Headers<'_>) {
    let ours = |headers: &Headers<'_>, name: &[u8]| {
        const WRITTEN_ANEW: &[&[u8]] = &[
            b"host",
            b"content-length",
            b"expect",
            b"via",
            b"date",
            b"trailer",
            b"max-forwards",
            b"x-forwarded-for",
            b"x-forwarded-host",
            b"x-forwarded-proto",
        ];
        headers.is_hop_by_hop(name) || WRITTEN_ANEW.iter().any(|w| w.eq_ignore_ascii_case(name))
    };
    let expected = from.iter().filter(|(name, _)| !ours(from, name));
    let passed = to.iter().filter(|(name, _)| !ours(to, name));
    assert!(expected.eq(passed), "a header was lost, changed or slipped through");
}

fn write(f: impl FnOnce(&mut SliceSink<'_>) -> Result<(), Full>) -> Option<Vec<u8>> {
    let mut room = vec![0; MAX];
    let mut sink = SliceSink::new(&mut room);
    f(&mut sink).ok()?;
    Some(sink.written().to_vec())
}
