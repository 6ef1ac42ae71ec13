//! RFC 9110 14.

use super::text;
use crate::cache::policy::ranges::*;

fn resolved(value: &str, total: u64) -> (Resolved, Vec<(u64, u64)>) {
    let mut ranges = Ranges::new();
    let resolved = resolve(value.as_bytes(), total, &mut ranges);
    (resolved, ranges.iter().map(|r| (r.start, r.end)).collect())
}

#[test]
fn ranges_that_are_met() {
    // Section, value, total, ranges with their ends not included.
    type Ends = (u64, u64);
    let cases: &[(&str, &str, u64, &[Ends])] = &[
        ("14.1.2", "bytes=0-0", 10, &[(0, 1)]),
        ("14.1.2", "bytes=0-9", 10, &[(0, 10)]),
        ("14.1.2: more than there is", "bytes=5-99", 10, &[(5, 10)]),
        ("14.1.2: open", "bytes=5-", 10, &[(5, 10)]),
        ("14.1.2: the last", "bytes=-3", 10, &[(7, 10)]),
        ("14.1.2: the last, more than there is", "bytes=-99", 10, &[(0, 10)]),
        ("14.1.2: great numbers", "bytes=1-99999999999999999999999", 10, &[(1, 10)]),
        ("14.1.2: great numbers", "bytes=-99999999999999999999999", 10, &[(0, 10)]),
        ("14.1: units in any case", "Bytes=1-2", 10, &[(1, 3)]),
        ("14.1.2: several", "bytes=0-1,4-5", 10, &[(0, 2), (4, 6)]),
        ("14.1.2: blanks", "bytes=0-1 , \t4-5", 10, &[(0, 2), (4, 6)]),
        ("5.6.1: empty elements", "bytes=,0-1,,", 10, &[(0, 2)]),
        ("15.3.7.2: order is kept", "bytes=7-8,0-1", 10, &[(7, 9), (0, 2)]),
        ("15.3.7.2: one is not there", "bytes=50-60,0-1", 10, &[(0, 2)]),
        ("15.3.7.2: overlapping", "bytes=0-5,3-8", 10, &[(0, 9)]),
        ("15.3.7.2: touching", "bytes=4-5,0-3", 10, &[(0, 6)]),
        ("15.3.7.2: the same twice", "bytes=1-2,1-2", 10, &[(1, 3)]),
        ("15.3.7.2: one in the other", "bytes=0-8,2-3,-1", 10, &[(0, 10)]),
        ("15.3.7.2: overlapping beside others", "bytes=8-9,0-1,1-2", 20, &[(0, 3), (8, 10)]),
    ];
    for (section, value, total, want) in cases {
        assert_eq!(resolved(value, *total), (Resolved::Satisfiable, want.to_vec()), "{section}: {value}");
    }
}

#[test]
fn ranges_that_are_not() {
    let many = |n: usize| format!("bytes={}", vec!["1-1"; n].join(","));
    let (most, too_many) = (many(RANGES_MAX), many(RANGES_MAX + 1));
    use Resolved::*;
    let cases: &[(&str, &str, u64, Resolved)] = &[
        ("14.1.2: beyond", "bytes=10-", 10, Unsatisfiable),
        ("14.1.2: beyond", "bytes=10-20", 10, Unsatisfiable),
        ("14.1.2: beyond", "bytes=99999999999999999999999-", 10, Unsatisfiable),
        ("14.1.2: the last none", "bytes=-0", 10, Unsatisfiable),
        ("14.1.2: of nothing", "bytes=0-", 0, Unsatisfiable),
        ("14.1.2: of nothing", "bytes=-5", 0, Unsatisfiable),
        ("14.1.2: all beyond", "bytes=10-11,20-", 10, Unsatisfiable),
        ("14.2: another unit", "lines=0-1", 10, Ignored),
        ("14.2: no unit", "0-1", 10, Ignored),
        ("14.2: no set", "bytes=", 10, Ignored),
        ("14.2: no set", "bytes=, ,", 10, Ignored),
        ("14.2: no set", "bytes", 10, Ignored),
        ("14.1.2: backwards", "bytes=5-4", 10, Ignored),
        ("14.1.2: backwards, one of two", "bytes=0-1,5-4", 10, Ignored),
        ("14.1.2: malformed", "bytes=-", 10, Ignored),
        ("14.1.2: malformed", "bytes=a-b", 10, Ignored),
        ("14.1.2: malformed", "bytes=1", 10, Ignored),
        ("14.1.2: malformed", "bytes=1-2-3", 10, Ignored),
        ("14.1.2: malformed", "bytes=1 - 2", 10, Ignored),
        ("14.1.2: malformed", "bytes=+1-2", 10, Ignored),
        ("14.1.2: malformed", "bytes=--1", 10, Ignored),
        ("14.1.2: malformed", "bytes =0-1", 10, Ignored),
        ("17.15: too many", &too_many, 10, Ignored),
        ("17.15: the most", &most, 10, Satisfiable),
    ];
    for (section, value, total, want) in cases {
        let (got, ranges) = resolved(value, *total);
        assert_eq!(got, *want, "{section}: {value}");
        assert_eq!(ranges.is_empty(), *want != Satisfiable);
    }
}

#[test]
fn content_range() {
    // RFC 9110 14.4.
    let range = |start, end, total| Some(ContentRange { range: Some(ByteRange { start, end }), total });
    for (value, want) in [
        ("bytes 0-9/10", range(0, 10, Some(10))),
        ("bytes 5-9/*", range(5, 10, None)),
        ("Bytes 0-0/1", range(0, 1, Some(1))),
        ("bytes */10", Some(ContentRange { range: None, total: Some(10) })),
        ("bytes */*", None),
        ("bytes 0-10/10", None),
        ("bytes 5-4/10", None),
        ("bytes=0-9/10", None),
        ("bytes 0-9", None),
        ("lines 0-9/10", None),
        ("bytes 0-18446744073709551615/*", None),
        ("bytes  0-9/10", None),
        ("", None),
    ] {
        assert_eq!(parse_content_range(value.as_bytes()), want, "{value}");
    }
    assert_eq!(
        text(|s| put_content_range(ByteRange { start: 1, end: 3 }, 10, s)),
        "Content-Range: bytes 1-2/10\r\n"
    );
    assert_eq!(text(|s| put_unsatisfied_range(10, s)), "Content-Range: bytes */10\r\n");
}

#[test]
fn the_first_byte_tells_the_first_slice() {
    for (value, want) in [
        ("bytes=7-", Some(7)),
        ("bytes=7-9,0-1", Some(7)),
        ("bytes=-5", None),
        ("bytes=x", None),
        ("lines=1-", None),
    ] {
        assert_eq!(first_byte(value.as_bytes()), want, "{value}");
    }
}

#[test]
fn several_parts() {
    // RFC 9110 14.6.
    let boundary = Boundary::new(0x0123_4567_89ab_cdef);
    assert_eq!(boundary.as_bytes(), b"0123456789abcdef");
    let ranges = [ByteRange { start: 0, end: 1 }, ByteRange { start: 8, end: 10 }];
    let body = b"abcdefghij";
    let line = b"Content-Type: text/plain\r\n";
    let sent = text(|sink| {
        for (at, range) in ranges.iter().enumerate() {
            write_part_head(at == 0, &boundary, line, *range, 10, sink)?;
            crate::http1::HeadSink::put(sink, &body[range.start as usize..range.end as usize])?;
        }
        write_parts_end(&boundary, sink)
    });
    assert_eq!(
        sent,
        "--0123456789abcdef\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\na\
         \r\n--0123456789abcdef\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\nij\
         \r\n--0123456789abcdef--\r\n"
    );
    assert_eq!(parts_len(&ranges, &boundary, line, 10), sent.len() as u64);
}
