//! The chunked coding, and the framings that are simpler.

use super::harness::decode_in_pieces;
use super::*;
use RejectReason::*;

#[test]
fn bodies_that_are_complete() {
    let cases: &[(&str, &[u8], &[u8])] = &[
        ("nothing", b"0\r\n\r\n", b""),
        ("zeros", b"000\r\n\r\n", b""),
        ("one chunk", b"5\r\nabcde\r\n0\r\n\r\n", b"abcde"),
        ("two chunks", b"5\r\nabcde\r\n1\r\nf\r\n0\r\n\r\n", b"abcdef"),
        ("hex in both cases", b"0A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        ("sixteen digits", b"0000000000000001\r\na\r\n0\r\n\r\n", b"a"),
        ("data that looks like framing", b"5\r\n\r\n0\r\n\r\n0\r\n\r\n", b"\r\n0\r\n"),
        ("extension", b"1;a\r\nx\r\n0\r\n\r\n", b"x"),
        ("extension with a value", b"1;a=b\r\nx\r\n0;c=d\r\n\r\n", b"x"),
        ("extension in quotes", b"1;a=\"b;\\\"\xff c\"\r\nx\r\n0\r\n\r\n", b"x"),
        ("several extensions", b"1;a;b=c;d=\"\"\r\nx\r\n0\r\n\r\n", b"x"),
        ("bad blanks", b"1 ; a\t= \"b\" ; c = d;e\r\nx\r\n0\r\n\r\n", b"x"),
    ];
    for &(name, bytes, data) in cases {
        let next = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        let decoded = decode_in_pieces(&next, next.len());
        assert_eq!(decoded.end, Ok(Some(bytes.len())), "{name}");
        assert_eq!(decoded.data, data, "{name}");
        harness::chunked(&next);
        for end in 0..bytes.len() {
            assert_eq!(decode_in_pieces(&bytes[..end], 4).end, Ok(None), "{name} up to {end}");
        }
    }
}

#[test]
fn bodies_that_are_bad() {
    let cases: &[(&str, &[u8], RejectReason)] = &[
        ("no size", b"\r\n", ChunkSizeInvalid),
        ("blank first", b" 5\r\nabcde\r\n", ChunkSizeInvalid),
        ("plus", b"+5\r\nabcde\r\n", ChunkSizeInvalid),
        ("minus", b"-5\r\nabcde\r\n", ChunkSizeInvalid),
        ("0x", b"0x5\r\nabcde\r\n", ChunkSizeInvalid),
        ("underscore", b"1_0\r\n", ChunkSizeInvalid),
        ("letter", b"5g\r\nabcde\r\n", ChunkSizeInvalid),
        ("NUL", b"5\0\r\nabcde\r\n", ChunkSizeInvalid),
        ("blank last", b"5 \r\nabcde\r\n", ChunkSizeInvalid),
        ("blank between digits", b"5 5\r\nabcde\r\n", ChunkSizeInvalid),
        ("comma", b"5,5\r\nabcde\r\n", ChunkSizeInvalid),
        ("extension alone", b";a\r\n", ChunkSizeInvalid),
        ("quote", b"\"5\"\r\nabcde\r\n", ChunkSizeInvalid),
        ("seventeen digits", b"00000000000000001\r\na\r\n", ChunkSizeOverflow),
        ("more than 64 bits", b"10000000000000000\r\n", ChunkSizeOverflow),
        ("bare LF after the size", b"5\nabcde\r\n", BareLf),
        ("bare CR after the size", b"5\rabcde\r\n", BareCr),
        ("bare LF after an extension", b"5;a\nabcde\r\n", BareLf),
        ("bare LF in quotes", b"5;a=\"\n\"\r\nabcde\r\n", BareLf),
        ("bare CR in quotes", b"5;a=\"\r\"\r\nabcde\r\n", ChunkExtensionInvalid),
        ("NUL in quotes", b"5;a=\"\0\"\r\nabcde\r\n", ChunkExtensionInvalid),
        ("open quotes", b"5;a=\"b\r\nabcde\r\n", ChunkExtensionInvalid),
        ("escaped control", b"5;a=\"\\\x01\"\r\n", ChunkExtensionInvalid),
        ("empty extension", b"5;\r\nabcde\r\n", ChunkExtensionInvalid),
        ("extension without a name", b"5;=b\r\nabcde\r\n", ChunkExtensionInvalid),
        ("extension without its value", b"5;a=\r\nabcde\r\n", ChunkExtensionInvalid),
        ("blank after an extension", b"5;a \r\nabcde\r\n", ChunkExtensionInvalid),
        ("control in an extension", b"5;a\x01\r\nabcde\r\n", ChunkExtensionInvalid),
        ("UTF-8 in an extension", b"5;\xc3\xa9\r\nabcde\r\n", ChunkExtensionInvalid),
        ("no CRLF after data", b"5\r\nabcdef\r\n", ChunkDataUnterminated),
        ("bare LF after data", b"5\r\nabcde\n0\r\n\r\n", ChunkDataUnterminated),
        ("bare CR after data", b"5\r\nabcde\r0\r\n\r\n", ChunkDataUnterminated),
        ("bare LF for the end", b"0\r\n\n", BareLf),
        ("bare CR for the end", b"0\r\n\rX", BareCr),
        ("bare LF in a trailer", b"0\r\nA: b\n\r\n", BareLf),
        ("folded trailer", b"0\r\nA: b\r\n c\r\n\r\n", ObsFold),
        ("space before the colon of a trailer", b"0\r\nA : b\r\n\r\n", SpaceBeforeColon),
        ("trailer without a colon", b"0\r\nA\r\n\r\n", ColonMissing),
        ("trailer without a name", b"0\r\n: a\r\n\r\n", FieldNameEmpty),
        ("a request for a trailer", b"0\r\nGET / HTTP/1.1\r\n\r\n", FieldNameInvalid),
        ("NUL in a trailer", b"0\r\nA: \0\r\n\r\n", ControlByte),
    ];
    for &(name, bytes, reason) in cases {
        assert_eq!(decode_in_pieces(bytes, bytes.len()).end, Err(reason), "{name}");
        harness::chunked(bytes);
        harness::chunked(&[b"3\r\nabc\r\n", bytes].concat());
    }
}

#[test]
fn the_largest_chunk_is_taken_and_no_larger_one() {
    let mut decoder = ChunkedDecoder::new(&HttpLimits::default());
    assert_eq!(decoder.decode(b"ffffffffffffffff\r\nab"), Ok((ChunkStep::Data(18..20), 20)));
    assert_eq!(decoder.decode(b"cd"), Ok((ChunkStep::Data(0..2), 2)));
}

#[test]
fn trailers_are_given_out_and_forbidden_ones_are_not() {
    let bytes =
        b"0\r\nA: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nhost: x\r\nAuthorization: y\r\n\
                  Set-Cookie: z\r\nX-Forwarded-For: 1\r\nC:\t d \r\n\r\nrest";
    let decoded = decode_in_pieces(bytes, 1);
    assert_eq!(decoded.end, Ok(Some(bytes.len() - 4)));
    assert_eq!(decoded.trailers, [(b"A".to_vec(), b"b".to_vec()), (b"C".to_vec(), b"d".to_vec())]);
    harness::chunked(bytes);
}

#[test]
fn every_limit_is_kept_to_the_byte() {
    let limits = HttpLimits {
        chunk_line_bytes_max: 16,
        trailer_bytes_max: 20,
        chunk_overhead_bytes_max: 50,
        ..HttpLimits::default()
    };
    let end = |bytes: &[u8]| {
        let mut decoder = ChunkedDecoder::new(&limits);
        let mut at = 0;
        loop {
            match decoder.decode(&bytes[at..]) {
                Ok((ChunkStep::Done, n)) => return Ok(Some(at + n)),
                Ok((ChunkStep::NeedMore, _)) => return Ok(None),
                Ok((_, n)) => at += n,
                Err(reason) => return Err(reason),
            }
        }
    };
    assert_eq!(end(b"0;a=678901234\r\n\r\n"), Ok(Some(17)), "15 bytes of line");
    assert_eq!(end(b"0;a=6789012345\r\n\r\n"), Ok(Some(18)), "16");
    assert_eq!(end(b"0;a=67890123456\r\n\r\n"), Err(ChunkLineTooLong), "17");
    assert_eq!(end(b"0;a=67890123456"), Err(ChunkLineTooLong), "and before its end");
    assert_eq!(end(b"0\r\nA: 45678901234567\r\n"), Ok(None), "19 bytes of trailers");
    assert_eq!(end(b"0\r\nA: 456789012345678\r\n\r\n"), Ok(Some(25)), "20");
    assert_eq!(end(b"0\r\nA: 4567890123456789\r\n\r\n"), Err(TrailersTooLarge), "21");
    assert_eq!(end(b"0\r\nA: 45678\r\nB: 45678\r\n\r\n"), Ok(Some(25)), "2 * 10");
    assert_eq!(end(b"0\r\nA: 45678\r\nB: 456789\r\n\r\n"), Err(TrailersTooLarge));
    assert_eq!(end(b"0\r\nA: 456789012345678901"), Err(TrailersTooLarge), "open");
}

#[test]
fn framing_that_dwarfs_the_data_is_refused() {
    let tiny_with_extensions = format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(100);
    assert_eq!(decode_in_pieces(tiny_with_extensions.as_bytes(), 1000).end, Err(ChunkOverhead));
    let tiny = "1\r\nx\r\n".repeat(100_000);
    assert_eq!(decode_in_pieces(tiny.as_bytes(), 1000).end, Ok(None), "plain tiny chunks are only slow");
    let large = format!("200;{}\r\n{}\r\n", "a".repeat(200), "x".repeat(512)).repeat(1000);
    assert_eq!(decode_in_pieces(large.as_bytes(), 1000).end, Ok(None), "data pays");
}

#[test]
fn chunk_headers_are_written() {
    for (len, text) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (usize::MAX, "ffffffffffffffff\r\n")] {
        assert_eq!(write_chunk_header(len, &mut [0; 18]), text.as_bytes());
    }
}

#[test]
fn other_framings() {
    let limits = HttpLimits::default();
    let mut none = BodyDecoder::new(BodyLength::None, &limits);
    assert!(none.is_done());
    assert_eq!(none.next(b"next"), Ok((BodyStep::Done, 0)));
    assert_eq!(none.on_eof(), Ok(()));

    let mut length = BodyDecoder::new(BodyLength::Length(5), &limits);
    assert_eq!(length.next(b""), Ok((BodyStep::NeedMore, 0)));
    assert_eq!(length.next(b"abc"), Ok((BodyStep::Data(0..3), 3)));
    assert_eq!((length.is_done(), length.remaining()), (false, Some(2)));
    assert_eq!(length.on_eof(), Err(Truncated));
    assert_eq!(length.next(b"deGET"), Ok((BodyStep::Data(0..2), 2)));
    assert!(length.is_done());
    assert_eq!(length.next(b"GET"), Ok((BodyStep::Done, 0)));
    assert_eq!(length.on_eof(), Ok(()));

    let mut close = BodyDecoder::new(BodyLength::UntilClose, &limits);
    assert_eq!(close.next(b"abc"), Ok((BodyStep::Data(0..3), 3)));
    assert!(!close.is_done());
    assert_eq!(close.on_eof(), Ok(()));
    assert!(close.is_done());
}
