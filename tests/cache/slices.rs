//! Large objects in slices, in the whole node: what the origin is asked for, and that clients get what it has.

use std::collections::BTreeMap;

use dataplane::Ctr;

use crate::cache_cases::{Got, field};
use crate::rig::{answer, later, node, node_of, response};
use crate::support::peers::{Act, Asked, Peers};

/// The size of the slices of the site `slices`.
pub const S: usize = 16 << 10;

/// An origin with one file, and what it was asked for.
pub struct File {
    pub body: Vec<u8>,
    pub etag: String,
    pub control: &'static str,
    /// More lines of its responses.
    pub more: &'static str,
    /// The ranges that it was asked for, in turn; whole: none.
    pub asked: Vec<Option<(usize, usize)>>,
    /// Requests that were conditional, of these.
    pub conditional: usize,
    /// How many requests it answers before it closes connections instead.
    pub lives: usize,
}

pub fn bytes(seed: u32, n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

impl File {
    pub fn new(n: usize) -> File {
        let (body, etag) = (bytes(1, n), "\"v1\"".to_owned());
        let control = "max-age=3600";
        File { body, etag, control, more: "", asked: Vec::new(), conditional: 0, lives: usize::MAX }
    }

    /// Another version, of another length.
    pub fn change(&mut self, n: usize) {
        (self.body, self.etag) = (bytes(9, n), "\"v2\"".to_owned());
    }

    pub fn serve(&mut self, a: &Asked) -> Act {
        if self.lives == 0 {
            return Act::Close;
        }
        self.lives -= 1;
        let total = self.body.len();
        let range = field(&a.1, "range").and_then(|r| {
            let (from, last) = r.strip_prefix("bytes=")?.split_once('-')?;
            let last = last.parse().map_or(total - 1, |l: usize| l.min(total - 1));
            Some((from.parse().ok()?, last + 1))
        });
        self.asked.push(range);
        let lines = format!("ETag: {}\r\nCache-Control: {}\r\n{}", self.etag, self.control, self.more);
        let none_match = field(&a.1, "if-none-match");
        self.conditional += usize::from(none_match.is_some());
        let is_head = a.1.starts_with("HEAD ");
        let (head, body) = match range {
            _ if none_match.as_deref() == Some(&self.etag) => ("304 Not Modified".to_owned(), &[][..]),
            Some((from, _)) if from >= total => {
                let line = format!("Content-Range: bytes */{total}\r\nContent-Length: 0");
                (format!("416 Range Not Satisfiable\r\n{line}"), &[][..])
            }
            Some((from, end)) => {
                let line = format!("Content-Range: bytes {from}-{}/{total}", end - 1);
                (
                    format!("206 Partial Content\r\n{line}\r\nContent-Length: {}", end - from),
                    &self.body[from..end],
                )
            }
            None => (format!("200 OK\r\nContent-Length: {total}"), &self.body[..]),
        };
        let mut all = format!("HTTP/1.1 {head}\r\n{lines}\r\n").into_bytes();
        if !is_head {
            all.extend(body);
        }
        Act::Send(all, false)
    }

    /// The slices that it was asked for since the last call, by number, with how often.
    pub fn slices(&mut self) -> BTreeMap<usize, usize> {
        let mut seen = BTreeMap::new();
        for range in self.asked.drain(..) {
            let (from, end) = range.expect("nobody wants the whole");
            assert!(from % S == 0 && (end - from == S || end == self.body.len()), "{from} to {end}");
            *seen.entry(from / S).or_default() += 1;
        }
        seen
    }
}

pub fn get(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: slices.lab\r\n{more}\r\n").into_bytes()
}

/// One request, answered by this origin.
pub fn ask(p: &mut Peers, file: &mut File, request: &[u8]) -> Got {
    let client = p.connect(request);
    let is_head = request.starts_with(b"HEAD ");
    let got = answer(p, client, is_head, &mut |a: &Asked, _| file.serve(a));
    p.client_resets(client);
    p.settle(&mut |a: &Asked, _| file.serve(a));
    got
}

/// A whole GET, which must come whole.
pub fn whole(p: &mut Peers, file: &mut File, path: &str) {
    let got = ask(p, file, &get(path, ""));
    assert!(
        got.status == 200 && got.whole && got.body == file.body,
        "{} bytes\n{}",
        got.body.len(),
        got.head
    );
    assert_eq!(field(&got.head, "content-length"), Some(file.body.len().to_string()));
    assert_eq!(field(&got.head, "etag").as_ref(), Some(&file.etag));
    assert!(field(&got.head, "content-range").is_none());
}

/// A GET of one range, which must come whole.
fn range(p: &mut Peers, file: &mut File, path: &str, value: &str, want: std::ops::Range<usize>) -> Got {
    let got = ask(p, file, &get(path, &format!("Range: bytes={value}\r\n")));
    assert!(got.status == 206 && got.whole && got.body == file.body[want.clone()], "{value}: {}", got.head);
    let said = format!("bytes {}-{}/{}", want.start, want.end - 1, file.body.len());
    assert_eq!(field(&got.head, "content-range"), Some(said));
    got
}

fn wait(p: &mut Peers, ms: u64) {
    let then = later(p, ms);
    p.until(then, &mut |_, _| Act::Close);
}

fn each_once(slices: std::ops::Range<usize>) -> BTreeMap<usize, usize> {
    slices.map(|n| (n, 1)).collect()
}

#[test]
fn a_cold_object_is_fetched_slice_by_slice_once_for_all() {
    let mut p = node(2, 1024, 8 << 20);
    // More than any object may be: 64 slices, the last one short.
    let mut file = File::new(64 * S - 1234);
    let clients: Vec<u16> = (0..50).map(|_| p.connect(&get("/film", ""))).collect();
    p.settle(&mut |a: &Asked, _| file.serve(a));
    for c in &clients {
        let (input, ended, reset) = p.client_got(*c);
        let g = response(input, false, ended, reset).expect("an answer");
        assert!(g.whole && g.body == file.body, "{} bytes", g.body.len());
    }
    assert_eq!(file.slices(), each_once(0..64));
    let s = p.segment.read();
    assert_eq!((s.get(Ctr::CacheSlicesFetched), s.get(Ctr::CacheStored)), (64, 64));
    assert_eq!(s.get(Ctr::CacheSlicesServed), 50 * 64);
    for core in 0..2 {
        assert!(p.segment.read_core(core).get(Ctr::CacheSlicesServed) > 0, "core {core}");
    }
    clients.iter().for_each(|c| p.client_resets(*c));
    p.settle(&mut |_, _| Act::Close);
    // Those who come later do not reach the origin.
    whole(&mut p, &mut file, "/film");
    assert!(file.asked.is_empty());
    let s = p.segment.read();
    assert_eq!((s.get(Ctr::CacheSlicesMismatched), s.get(Ctr::CacheSlicesRefused)), (0, 0));
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0));
}

#[test]
fn an_object_larger_than_the_store_takes() {
    // 128 KiB an object at most; 2 MiB in slices.
    let mut p = node(1, 1024, 128 << 10);
    let mut file = File::new(2 << 20);
    whole(&mut p, &mut file, "/large");
    assert_eq!(file.slices(), each_once(0..128));
    whole(&mut p, &mut file, "/large");
    assert!(file.asked.is_empty());
}

#[test]
fn a_seek_fetches_what_it_needs() {
    let mut p = node(2, 1024, 8 << 20);
    let mut file = File::new(40 * S + 77);
    let total = file.body.len();
    let got = range(&mut p, &mut file, "/f", "100000-100999", 100_000..101_000);
    assert_eq!(file.slices(), each_once(6..7));
    assert!(field(&got.head, "cache-status").is_some_and(|s| s.contains("fwd=uri-miss")), "{}", got.head);
    // Within the slice: a hit.
    let got = range(&mut p, &mut file, "/f", "98304-98310", 98_304..98_311);
    assert!(field(&got.head, "cache-status").is_some_and(|s| s.contains("hit")), "{}", got.head);
    // Over the borders of three: those that are missing.
    range(&mut p, &mut file, "/f", "98305-131072", 98_305..131_073);
    assert_eq!(file.slices(), each_once(7..9));
    // To the end, which is not known before.
    range(&mut p, &mut file, "/f", &format!("{}-", 38 * S + 5), 38 * S + 5..total);
    assert_eq!(file.slices(), each_once(38..41));
    // From the end: the first slice tells where that is.
    range(&mut p, &mut file, "/f", "-100", total - 100..total);
    assert_eq!(file.slices(), each_once(0..1));
    range(&mut p, &mut file, "/f", "-100", total - 100..total);
    range(&mut p, &mut file, "/f", "0-0", 0..1);
    assert!(file.asked.is_empty());
    // The whole: what is missing.
    whole(&mut p, &mut file, "/f");
    let mut want = each_once(0..41);
    want.retain(|n, _| ![0, 6, 7, 8, 38, 39, 40].contains(n));
    assert_eq!(file.slices(), want);
    whole(&mut p, &mut file, "/f");
    assert!(file.asked.is_empty());
}

#[test]
fn conditions_and_heads() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(10 * S);
    let total = file.body.len();
    // Cold, with a condition that holds: the first slice, and no body.
    let got = ask(&mut p, &mut file, &get("/c", "If-None-Match: \"v1\"\r\n"));
    assert_eq!((got.status, file.slices()), (304, each_once(0..1)));
    let got = ask(&mut p, &mut file, b"HEAD /c HTTP/1.1\r\nHost: slices.lab\r\n\r\n");
    assert_eq!((got.status, field(&got.head, "content-length")), (200, Some(total.to_string())));
    // If-Range holds; and does not, which wants the whole although the range's slice is looked for first.
    let got = ask(&mut p, &mut file, &get("/c", "Range: bytes=70000-70009\r\nIf-Range: \"v1\"\r\n"));
    assert_eq!((got.status, &got.body[..]), (206, &file.body[70_000..70_010]));
    assert_eq!(file.slices(), each_once(4..5));
    let got = ask(&mut p, &mut file, &get("/c", "Range: bytes=70000-70009\r\nIf-Range: \"v0\"\r\n"));
    assert!(got.status == 200 && got.body == file.body);
    let mut want = each_once(1..10);
    want.remove(&4);
    assert_eq!(file.slices(), want);
    // Beyond the end: known from any slice that is there, and asked of the origin else.
    let got = ask(&mut p, &mut file, &get("/c", &format!("Range: bytes={}-\r\n", total - 1)));
    assert_eq!((got.status, got.body.len()), (206, 1));
    for _ in 0..2 {
        let got = ask(&mut p, &mut file, &get("/c", "Range: bytes=9000000-\r\n"));
        assert_eq!(got.status, 416);
        assert_eq!(field(&got.head, "content-range"), Some(format!("bytes */{total}")));
    }
    file.asked.clear();
    whole(&mut p, &mut file, "/c");
    assert!(file.asked.is_empty());
    // Several ranges, no-store and Authorization go to the origin as they are.
    for more in ["Range: bytes=0-1,5-6\r\n", "Cache-Control: no-store\r\n", "Authorization: Basic YQ==\r\n"] {
        ask(&mut p, &mut file, &get("/c", more));
        assert_eq!(file.asked.len(), 1, "{more}");
        file.asked.clear();
    }
    // Only from the cache: what is in one slice.
    let got = ask(&mut p, &mut file, &get("/c", "Cache-Control: only-if-cached\r\nRange: bytes=0-9\r\n"));
    assert_eq!(got.status, 206);
    assert_eq!(ask(&mut p, &mut file, &get("/c", "Cache-Control: only-if-cached\r\n")).status, 504);
    assert!(file.asked.is_empty());
}

#[test]
fn a_small_object_is_one_slice() {
    let mut p = node(1, 1024, 8 << 20);
    for n in [1, 1000, S - 1, S] {
        let mut file = File::new(n);
        let path = format!("/small{n}");
        whole(&mut p, &mut file, &path);
        assert_eq!(file.slices(), each_once(0..1));
        whole(&mut p, &mut file, &path);
        range(&mut p, &mut file, &path, "0-0", 0..1);
        assert!(file.asked.is_empty());
    }
}

#[test]
fn variants_do_not_mix() {
    let mut p = node(1, 1024, 8 << 20);
    let mut a = File::new(3 * S);
    a.more = "Vary: X-Kind\r\n";
    let mut b = File::new(3 * S + 5);
    b.more = a.more;
    b.change(3 * S + 5);
    for _ in 0..2 {
        for (file, kind) in [(&mut a, "a"), (&mut b, "b")] {
            let got = ask(&mut p, file, &get("/v", &format!("X-Kind: {kind}\r\n")));
            assert!(got.whole && got.body == file.body, "{kind}");
        }
    }
    assert_eq!((a.slices(), b.slices()), (each_once(0..3), each_once(0..4)));
}

#[test]
fn stale_slices_are_validated_each() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(5 * S);
    file.control = "max-age=10, stale-if-error=600";
    whole(&mut p, &mut file, "/s");
    file.slices();
    wait(&mut p, 20_000);
    whole(&mut p, &mut file, "/s");
    assert_eq!((file.slices(), file.conditional), (each_once(0..5), 5));
    whole(&mut p, &mut file, "/s");
    assert!(file.asked.is_empty());
    assert_eq!(p.segment.read().get(Ctr::CacheValidated), 5);
    // The origin is gone: all of it, stale.
    wait(&mut p, 20_000);
    file.lives = 0;
    let got = ask(&mut p, &mut file, &get("/s", ""));
    assert!(got.whole && got.body == file.body, "{}", got.head);
    assert!(field(&got.head, "cache-status").is_some_and(|s| s.contains("stale-if-error")));
}

#[test]
fn an_object_that_changes_in_the_middle() {
    let mut p = node(2, 1024, 8 << 20);
    let mut file = File::new(20 * S);
    let old = file.body.clone();
    let clients: Vec<u16> = (0..10).map(|_| p.connect(&get("/m", ""))).collect();
    let mut n = 0;
    p.settle(&mut |a: &Asked, _| {
        n += 1;
        if n == 6 {
            file.change(21 * S);
        }
        file.serve(a)
    });
    for c in &clients {
        let (input, ended, reset) = p.client_got(*c);
        assert!(ended || reset);
        let g = response(input, false, ended, reset).expect("an end");
        assert!(g.status == 200 && !g.whole && old[..5 * S].starts_with(&g.body), "{} bytes", g.body.len());
        p.client_resets(*c);
    }
    p.settle(&mut |_, _| Act::Close);
    assert!(p.segment.read().get(Ctr::CacheSlicesMismatched) >= 1);
    file.asked.clear();
    // Who comes then gets the new one, from its first byte on.
    wait(&mut p, 10);
    whole(&mut p, &mut file, "/m");
    whole(&mut p, &mut file, "/m");
    let all = file.slices();
    assert_eq!(all, each_once(0..21));
}

#[test]
fn a_slice_left_of_an_older_version_is_fetched_anew() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(6 * S);
    range(&mut p, &mut file, "/o", &format!("{}-{}", 3 * S, 4 * S - 1), 3 * S..4 * S);
    wait(&mut p, 1000);
    file.asked.clear();
    file.change(6 * S);
    whole(&mut p, &mut file, "/o");
    assert_eq!(file.slices(), each_once(0..6));
    assert_eq!(p.segment.read().get(Ctr::CacheSlicesMismatched), 1);
    whole(&mut p, &mut file, "/o");
    assert!(file.asked.is_empty());
}

#[test]
fn an_unsafe_request_makes_all_slices_invalid() {
    let mut p = node(2, 1024, 8 << 20);
    let (mut file, mut other) = (File::new(6 * S), File::new(2 * S));
    whole(&mut p, &mut file, "/u");
    whole(&mut p, &mut other, "/other");
    wait(&mut p, 1000);
    ask(&mut p, &mut file, b"PUT /u HTTP/1.1\r\nHost: slices.lab\r\nContent-Length: 0\r\n\r\n");
    file.asked.clear();
    other.asked.clear();
    wait(&mut p, 1000);
    file.change(5 * S);
    whole(&mut p, &mut file, "/u");
    assert_eq!(file.slices(), each_once(0..5));
    whole(&mut p, &mut other, "/other");
    assert!(other.asked.is_empty());
}

#[test]
fn an_origin_that_dies_between_slices() {
    let mut p = node(2, 1024, 8 << 20);
    let mut file = File::new(20 * S);
    file.lives = 7;
    let got = ask(&mut p, &mut file, &get("/d", ""));
    assert!(
        got.status == 200 && !got.whole && file.body[..7 * S].starts_with(&got.body),
        "{} bytes",
        got.body.len()
    );
    assert_eq!(file.slices(), each_once(0..7));
    // What was fetched is kept, and the rest comes when the origin is back.
    wait(&mut p, 2000);
    file.lives = usize::MAX;
    whole(&mut p, &mut file, "/d");
    assert_eq!(file.slices(), each_once(7..20));
}

#[test]
fn an_origin_that_breaks_off_in_a_slice() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(4 * S);
    let client = p.connect(&get("/b", ""));
    let mut n = 0;
    let got = answer(&mut p, client, false, &mut |a: &Asked, _| {
        n += 1;
        match file.serve(a) {
            Act::Send(mut all, _) if n == 3 => {
                all.truncate(all.len() - 100);
                Act::Send(all, true)
            }
            act => act,
        }
    });
    assert!(!got.whole && file.body[..3 * S - 100].starts_with(&got.body), "{} bytes", got.body.len());
    wait(&mut p, 2000);
    file.asked.clear();
    whole(&mut p, &mut file, "/b");
    assert_eq!(file.slices(), each_once(2..4));
}

#[test]
fn some_slices_are_evicted() {
    // A cache for half of it.
    let mut p = node_of(1, 1024, 2 << 20, 256 << 10);
    let mut file = File::new(256 * S);
    let total = file.body.len();
    whole(&mut p, &mut file, "/e");
    assert_eq!(file.slices().len(), 256);
    range(&mut p, &mut file, "/e", &format!("-{S}"), total - S..total);
    let again = file.slices();
    assert!(!again.contains_key(&255), "the last one is there still");
    for _ in 0..3 {
        whole(&mut p, &mut file, "/e");
        let asked = file.slices();
        assert!(!asked.is_empty() && asked.len() < 256, "{} of 256", asked.len());
        assert!(asked.values().all(|n| *n == 1));
    }
}

#[test]
fn a_slow_client_does_not_make_the_node_run_ahead() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(200 * S);
    let client = p.connect_slow(&get("/slow", ""), 4000);
    let mut most_ahead = 0;
    for _ in 0..3000 {
        p.settle(&mut |a: &Asked, _| file.serve(a));
        let taken = p.client_got(client).0.len();
        most_ahead = most_ahead.max((file.asked.len() * S).saturating_sub(taken));
        if taken >= file.body.len() {
            break;
        }
        p.client_reads(client, 4000);
    }
    let (input, ended, reset) = p.client_got(client);
    let g = response(input, false, ended, reset).expect("an answer");
    assert!(g.whole && g.body == file.body);
    // What is queued for it, and one slice.
    assert!(most_ahead <= (256 << 10) + 2 * S, "{most_ahead} bytes ahead");
}

#[test]
fn a_client_that_leaves_ends_the_fetching() {
    let mut p = node(1, 1024, 8 << 20);
    let mut file = File::new(100 * S);
    let client = p.connect(&get("/l", ""));
    let mut ports = Vec::new();
    p.settle(&mut |a: &Asked, _| {
        ports.push(a.0);
        if ports.len() < 4 { file.serve(a) } else { Act::Hold }
    });
    p.client_resets(client);
    p.settle(&mut |_, _| panic!("nobody is there to want more"));
    assert_eq!(ports.len(), 4);
}
