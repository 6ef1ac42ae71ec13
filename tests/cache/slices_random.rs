//! Chance: clients that want parts of files, an origin that changes them, fails and forgets its manners. Whatever a
//! client gets is of one version, the one that its ETag names; what is whole is what it asked for.

use dataplane::Ctr;

use crate::cache_cases::{Got, field};
use crate::rig::{later, node_of, response};
use crate::slices::{File, S, bytes, get};
use crate::support::peers::{Act, Asked, Peers};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The body of a version; its length is its own too.
fn version(v: u64) -> Vec<u8> {
    bytes(v as u32 * 77, 3 * S + (v as usize * 5000) % (4 * S))
}

/// An origin with one file under every path, at some version.
struct Origin {
    file: File,
    version: u64,
    dice: Dice,
    /// One in so many requests goes wrong.
    trouble: u64,
}

impl Origin {
    fn set(&mut self, v: u64) {
        self.version = v;
        self.file.body = version(v);
        self.file.etag = format!("\"v{v}\"");
    }

    fn serve(&mut self, a: &Asked) -> Act {
        self.file.asked.clear();
        if self.dice.roll(self.trouble) == 0 {
            match self.dice.roll(7) {
                0 => return Act::Close,
                1 => {
                    return Act::Send(b"HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\nx".to_vec(), false);
                }
                2 => self.set(self.version + 1),
                3 => {
                    // No ranges today.
                    return self.file.serve(&(a.0, a.1.replace("Range: ", "X-Was: ")));
                }
                4 => {
                    if let Act::Send(mut all, _) = self.file.serve(a) {
                        all.truncate(all.len() - all.len() / 3);
                        return Act::Send(all, true);
                    }
                }
                5 => {
                    if let Act::Send(all, ends) = self.file.serve(a) {
                        let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0);
                        let head = String::from_utf8_lossy(&all[..end]).replace("ETag: ", "ETag: W/");
                        return Act::Send([head.as_bytes(), &all[end..]].concat(), ends);
                    }
                }
                _ => return Act::Send(b"HTTP/1.1 404 X\r\nContent-Length: 1\r\n\r\nx".to_vec(), false),
            }
        }
        self.file.serve(a)
    }
}

/// What is wrong with what a client got that asked for this range.
fn fault(got: &Got, wanted: Option<(usize, Option<usize>)>) -> Option<String> {
    match got.status {
        0 | 404 | 416 | 500.. => return None,
        200 | 206 => {}
        s => return Some(format!("status {s}")),
    }
    let etag = field(&got.head, "etag")?;
    let v: u64 = etag.trim_start_matches("W/").trim_matches('"').trim_start_matches('v').parse().ok()?;
    let body = version(v);
    let (from, end) = match (got.status, wanted) {
        (206, Some((from, last))) => (from, last.map_or(body.len(), |l| (l + 1).min(body.len()))),
        _ => (0, body.len()),
    };
    if from >= body.len() || !body[from..end].starts_with(&got.body) {
        let same = got.body.iter().zip(&body[from.min(body.len())..]).take_while(|(a, b)| a == b).count();
        return Some(format!("not of version {v} from byte {same} on, of {}", got.body.len()));
    }
    if got.whole && got.body.len() != end - from {
        return Some(format!("{} bytes for whole, not {}", got.body.len(), end - from));
    }
    None
}

/// What must have happened, for it to say anything.
const SEEN: [Ctr; 9] = [
    Ctr::CacheHits,
    Ctr::CacheHitsStale,
    Ctr::CacheCollapsed,
    Ctr::CacheValidated,
    Ctr::CacheFetchFailed,
    Ctr::CacheSlicesServed,
    Ctr::CacheSlicesRefused,
    Ctr::CacheSlicesMismatched,
    Ctr::CacheInvalidated,
];

/// Gives the whole answers, and those counters.
fn world(seed: u64) -> (u64, [u64; 9]) {
    let cores = 1 + (seed % 2) as usize;
    let cache = if seed.is_multiple_of(3) { 1 << 20 } else { 8 << 20 };
    let mut p: Peers = node_of(cores, 1024, cache, 128 << 10);
    let mut dice = Dice(seed);
    let mut o = Origin { file: File::new(1), version: 0, dice: Dice(seed ^ 0xabcd), trouble: 6 + seed % 40 };
    o.file.control = "max-age=5, stale-if-error=3";
    o.set(1);
    let mut whole = 0;
    for round in 0..60 {
        let mut clients = Vec::new();
        for _ in 0..1 + dice.roll(6) {
            let path = format!("/f{}", dice.roll(3));
            let wanted = match dice.roll(3) {
                0 => None,
                1 => Some((dice.roll(7 * S as u64) as usize, None)),
                _ => {
                    let from = dice.roll(4 * S as u64) as usize;
                    Some((from, Some(from + dice.roll(2 * S as u64) as usize)))
                }
            };
            let mut more = match wanted {
                None => String::new(),
                Some((from, None)) => format!("Range: bytes={from}-\r\n"),
                Some((from, Some(last))) => format!("Range: bytes={from}-{last}\r\n"),
            };
            match dice.roll(12) {
                0 => more.push_str("Cache-Control: no-cache\r\n"),
                1 => more.push_str(&format!("If-Range: \"v{}\"\r\n", dice.roll(5))),
                _ => {}
            }
            clients.push((p.connect(&get(&path, &more)), wanted, more));
        }
        if dice.roll(10) == 0 {
            clients.push((
                p.connect(b"PUT /f1 HTTP/1.1\r\nHost: slices.lab\r\nContent-Length: 0\r\n\r\n"),
                None,
                String::new(),
            ));
        }
        p.settle(&mut |a: &Asked, _| o.serve(a));
        let then = later(&p, dice.roll(4000));
        p.until(then, &mut |a: &Asked, _| o.serve(a));
        for (c, wanted, more) in clients {
            let (input, ended, reset) = p.client_got(c);
            let got = response(input, false, ended, reset);
            let Some(got) = got else { panic!("seed {seed}, round {round}: no answer to {more:?}") };
            if let Some(what) = fault(&got, wanted) {
                panic!("seed {seed}, round {round}: {what}\n{more}{}", got.head);
            }
            whole += u64::from(got.whole && matches!(got.status, 200 | 206));
            p.client_resets(c);
        }
        p.settle(&mut |a: &Asked, _| o.serve(a));
    }
    let s = p.segment.read();
    assert_eq!((s.rx_imbalance(), s.tx_imbalance()), (0, 0), "seed {seed}");
    assert_eq!(s.get(Ctr::HttpActive), 0, "seed {seed}: something is left");
    (whole, SEEN.map(|c| s.get(c)))
}

#[test]
fn nobody_gets_two_versions() {
    if let Some(seed) = std::env::var("MILLRACE_SEED").ok().and_then(|s| s.parse().ok()) {
        world(seed);
        return;
    }
    let (mut whole, mut seen) = (0, [0; 9]);
    for seed in 0..60 {
        let (n, counts) = world(seed);
        whole += n;
        seen.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    println!("{whole} whole answers");
    for (c, n) in SEEN.iter().zip(seen) {
        println!("{n:6} {}", c.name());
        assert!(n > 0, "no {}", c.name());
    }
    assert!(whole > 5000);
}
