//! What must hold for any bytes at all. One body for the fuzz targets (`fuzz/`) and for the property tests, which
//! run the kept corpora too. Tests only: it allocates and panics as it likes.

use super::cache_control::{RequestDirectives, ResponseDirectives, directives};
use super::facts::Facts;
use super::fields::of_headers;
use super::freshness::Times;
use super::hash::HashKeys;
use super::ranges::{self, Boundary, Ranges, Resolved};
use super::request::RequestFacts;
use super::rules::CacheRules;
use super::{blob, storable, targeted, vary};
use crate::http1::*;

const TIMES: Times = Times { request_ms: 784_111_777_000, response_ms: 784_111_777_500 };

/// Any bytes as values of Cache-Control, one a line.
pub fn cache_control(input: &[u8]) {
    let mut whole = ResponseDirectives::default();
    for line in input.split(|&b| b == b'\n') {
        let mut length = 0;
        for (name, _) in directives(line) {
            assert!(!name.is_empty());
            length += name.len();
        }
        assert!(length <= line.len(), "names do not overlap");
        whole.note(line);
        RequestDirectives::default().note(line);

        // Saying it after something else takes nothing back, and what is quoted says nothing.
        let mut after = ResponseDirectives::default();
        after.note(&[b"no-store, ", line].concat());
        assert!(after.no_store);
        let quoted: Vec<u8> = line.iter().copied().filter(|b| !matches!(b, b'"' | b'\\')).collect();
        let mut inside = ResponseDirectives::default();
        inside.note(&[b"foo=\"", quoted.as_slice(), b"\""].concat());
        assert_eq!(inside, ResponseDirectives::default());
    }
    store(b"Cache-Control", input);
}

/// Any bytes as lines of a targeted field.
pub fn targeted(input: &[u8]) {
    let lines = || input.split(|&b| b == b'\n');
    let parsed = targeted::parse(lines());
    if parsed.is_some() {
        // Strict: an error anywhere would have shown.
        let broken = lines().chain([b"A".as_slice()]);
        assert_eq!(targeted::parse(broken), None);
        // What is a dictionary has no directive that Cache-Control would not have found.
        assert!(lines().any(|line| directives(line).next().is_some()));
    }
    store(b"CDN-Cache-Control", input);
}

/// Any bytes as Range and Content-Range, of representations of several lengths.
pub fn range(input: &[u8]) {
    ranges::first_byte(input);
    if let Some(parsed) = ranges::parse_content_range(input)
        && let (Some(range), Some(total)) = (parsed.range, parsed.total)
    {
        assert!(range.start < range.end && range.end <= total);
    }
    let mut found = Ranges::new();
    for total in [0, 1, 10, 1 << 40, u64::MAX] {
        let resolved = ranges::resolve(input, total, &mut found);
        assert_eq!(found.is_empty(), resolved != Resolved::Satisfiable);
        for (at, range) in found.iter().enumerate() {
            assert!(range.start < range.end && range.end <= total);
            assert!(found[at + 1..].iter().all(|r| r.end < range.start || range.end < r.start), "apart");
        }
        if total <= 10 && !found.is_empty() {
            let boundary = Boundary::new(7);
            let mut room = vec![0; 8192];
            let mut sink = SliceSink::new(&mut room);
            for (at, range) in found.iter().enumerate() {
                ranges::write_part_head(at == 0, &boundary, b"", *range, total, &mut sink).expect("room");
                sink.put(&b"0123456789"[range.start as usize..range.end as usize]).expect("room");
            }
            ranges::write_parts_end(&boundary, &mut sink).expect("room");
            assert_eq!(sink.len() as u64, ranges::parts_len(&found, &boundary, b"", total));
        }
    }
}

/// Any bytes: the first line is Vary, the others are lines of a field that it may name.
pub fn vary(input: &[u8]) {
    store(b"Vary", input);
    let rules = CacheRules::default();
    let keys = HashKeys(1, 2);
    let mut lines = input.split(|&b| b == b'\n');
    let names = lines.next().unwrap_or_default().to_ascii_lowercase();
    let rest: Vec<u8> =
        lines.flat_map(|line| [b"Accept-Encoding: ", line, b"\r\nA: ", line, b"\r\n"].concat()).collect();
    let request = [b"GET / HTTP/1.1\r\nHost: a\r\n", rest.as_slice(), b"\r\n"].concat();
    let mut slots = HeaderSlots::new();
    let parsed = parse_request(&request, &mut HeadScan::new(), &HttpLimits::default(), &mut slots);
    let Ok(Parsed::Complete(head, _)) = parsed else { return };
    RequestFacts::of(&head, &rules);
    let once = vary::variant(&names, &head.headers(), &rules.key, &keys);
    assert_eq!(once, vary::variant(&names, &head.headers(), &rules.key, &keys));
    assert_eq!(once == 0, names.is_empty());
}

/// Stores a response that has the lines of `input` as fields of this name, and reads it back.
fn store(name: &[u8], input: &[u8]) {
    let mut bytes = b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\n".to_vec();
    for line in input.split(|&b| b == b'\n') {
        bytes.extend_from_slice(&[name, b": ", line, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    let limits = HttpLimits::default();
    let (mut slots, mut request_slots) = (HeaderSlots::new(), HeaderSlots::new());
    let parsed = parse_response(&bytes, Method::Get, &mut HeadScan::new(), &limits, &mut slots);
    let Ok(Parsed::Complete(head, _)) = parsed else { return };
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let parsed = parse_request(get, &mut HeadScan::new(), &limits, &mut request_slots);
    let Ok(Parsed::Complete(get, _)) = parsed else { panic!("a request") };
    let rules = CacheRules::default();
    let request = RequestFacts::of(&get, &rules);
    let Ok(facts) = storable::storable(&request, &head, None, &rules, TIMES) else { return };
    let mut out = vec![0; 256 * 1024];
    let len = storable::store(b"k", &get.headers(), &head, facts, &rules, &HashKeys(1, 2), &mut out);
    let Ok(len) = len else { return };
    let blob = blob::Blob::read(&out[..len]).expect("what is written is read");
    assert_eq!(Facts { variant: 0, etag: (0, 0), ..blob.facts() }, facts);
    assert_eq!(blob.key(), b"k");
    assert_eq!(blob.etag(), Some(&b"\"a\""[..]));
    let stored = blob.lines().filter(|line| line.name == name).count();
    assert_eq!(stored, of_headers(&head.headers()).filter(|line| line.name == name).count());
    assert!(blob::Blob::read(&out[..len - 1]).is_none());
}
