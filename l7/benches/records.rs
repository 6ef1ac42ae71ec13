//! The record layer in memory, on one thread: records sealed and opened, beside the same AEAD of the same library alone, in
//! turn in one run. Medians of many short rounds, and the ratio of each round with the round beside it. Sessions and keys
//! take turns in a shuffled order, the same for both: nobody's records come one behind the other in a node either.
//!
//! What is opened has to be sealed first; that is done with other sessions and other keys of the same bytes, so that neither
//! finds in a cache what the other does not. The rows `alone` are a control: the AEAD alone beside itself, with keys of
//! its own on each side, measured as the others are. How far they are from 1 is what a ratio is worth.
//!
//! cargo bench -p l7 --bench records [-- [--quick] [--only TEXT]]      about two minutes; --only: rows whose name has TEXT

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use dataplane::counters::Segment;
use dataplane::rng::Rng;
use dataplane::{Counters, Ctr};
use hugepages::{Arena, PagePolicy};
use l7::tls::keys::{Half, Keys, Suite, Version};
use l7::tls::record::{ContentType, HEADER_BYTES, RECORD_MAX, Received, SessionId, Sessions, Side};

const APP: ContentType = ContentType::ApplicationData;
const ROUNDS: usize = 301;
/// Of one round, about: short, so that most rounds are left alone where others share the machine.
const ROUND_NS: f64 = 40_000.0;

/// Nanoseconds of one of `times`.
fn ns_each(times: usize, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().max(Duration::from_nanos(1)).as_nanos() as f64 / times as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Times of both, round by round.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    alone: Vec<f64>,
    ratio: Vec<f64>,
}

impl Times {
    /// One round of both: now the one first, now the other. The first round of all warms up.
    fn round(&mut self, round: usize, mut ours: impl FnMut() -> f64, mut alone: impl FnMut() -> f64) {
        let (x, y) = if round.is_multiple_of(2) {
            let x = ours();
            (x, alone())
        } else {
            let y = alone();
            (ours(), y)
        };
        if round > 0 {
            self.ours.push(x);
            self.alone.push(y);
            self.ratio.push(y / x);
        }
    }

    /// Of ours, of the AEAD alone, and of what the second is of the first: the quarter, the half, three quarters.
    fn medians(mut self) -> (f64, f64, [f64; 3]) {
        let (ours, alone) = (median(&mut self.ours), median(&mut self.alone));
        self.ratio.sort_by(f64::total_cmp);
        let last = self.ratio.len() - 1;
        (ours, alone, [1, 2, 3].map(|n| self.ratio[last * n / 4]))
    }
}

/// What is measured: records of `bytes`, round `sessions` in turn, `contexts` of which can be ready.
#[derive(Clone, Copy)]
struct Case {
    version: Version,
    suite: Suite,
    sessions: usize,
    contexts: usize,
    bytes: usize,
}

struct Bench {
    sessions: Sessions,
    /// In the order in which they take turns.
    ids: Vec<SessionId>,
    counters: Counters,
}

impl Case {
    fn bench(&self, side: Side, contexts: usize) -> Bench {
        let (n, contexts) = (self.sessions as u32, contexts as u32);
        let counters = Segment::in_memory(1).writer(0);
        let mut arena = Arena::reserve(Sessions::cost(n, contexts), PagePolicy::Best).expect("memory");
        let mut sessions = Sessions::new(n, contexts, &mut arena, counters.clone()).expect("what it costs");
        let (rx, tx) = if side == Side::Server { (1, 2) } else { (2, 1) };
        let ids: Vec<SessionId> = (0..self.sessions)
            .map(|i| {
                let keys =
                    Keys { version: self.version, suite: self.suite, rx: half(rx, i), tx: half(tx, i) };
                sessions.open(&keys, side).expect("a place")
            })
            .collect();
        let ids = shuffled(self.sessions).into_iter().map(|i| ids[i]).collect();
        Bench { sessions, ids, counters }
    }

    /// Records of one round. The next round goes on where it ended.
    fn times(&self) -> usize {
        let expected_ns = 60.0 + self.bytes as f64 / 12.0;
        (ROUND_NS / expected_ns) as usize
    }

    fn name(&self, what: &str) -> String {
        let version = if self.version == Version::Tls13 { "1.3" } else { "1.2" };
        let suite = match self.suite {
            Suite::Aes128Gcm => "AES-128",
            Suite::Aes256Gcm => "AES-256",
            Suite::ChaCha20Poly1305 => "ChaCha20",
        };
        let fewer = self.contexts < self.sessions;
        let contexts = if fewer { format!(", {} contexts", self.contexts) } else { String::new() };
        format!(
            "{what} {:>2} KiB, {version} {suite}, {} sessions{contexts}",
            self.bytes / 1024,
            self.sessions
        )
    }

    /// `made`: contexts that were made, where there are any.
    fn print(&self, what: &str, made: u64, (ours, alone, ratio): (f64, f64, [f64; 3])) {
        // Where all have room, one for each session is made in each way.
        assert!(self.contexts < self.sessions || made <= 2 * self.sessions as u64, "{made} contexts");
        let name = self.name(what);
        let [low, middle, high] = ratio;
        let gb = |ns: f64| self.bytes as f64 / ns;
        println!(
            "{name:<60} {ours:>6.0} ns {:>9.0} /s {:>6.2} GB/s   AEAD alone {alone:>6.0} ns {:>6.2} GB/s   {middle:.3} ({low:.3}-{high:.3})",
            1e9 / ours,
            gb(ours),
            gb(alone)
        );
    }
}

fn half(way: u8, n: usize) -> Half {
    let mut secret = [way; 48];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    Half::new(&secret, 0).expect("as long as a secret")
}

/// 0 to `n`, in an order that is always the same.
fn shuffled(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut rng = Rng::new(1);
    for i in (1..n).rev() {
        order.swap(i, rng.below(i as u64 + 1) as usize);
    }
    order
}

/// The AEAD alone, as many keys as there are sessions, each used in its session's turn.
struct Alone {
    keys: Vec<LessSafeKey>,
    order: Vec<usize>,
    at: usize,
}

impl Alone {
    fn new(case: Case) -> Alone {
        Alone { keys: keys(case.suite, case.sessions), order: shuffled(case.sessions), at: 0 }
    }

    #[inline]
    fn next(&mut self) -> &LessSafeKey {
        &self.keys[self.order[next(&mut self.at, self.order.len())]]
    }
}

fn keys(suite: Suite, n: usize) -> Vec<LessSafeKey> {
    let algorithm = match suite {
        Suite::Aes128Gcm => &aead::AES_128_GCM,
        Suite::Aes256Gcm => &aead::AES_256_GCM,
        Suite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
    };
    let key = |i: usize| {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        LessSafeKey::new(UnboundKey::new(algorithm, &bytes[..suite.key_bytes()]).expect("a key"))
    };
    (0..n).map(key).collect()
}

fn nonce(i: usize) -> Nonce {
    let mut bytes = [3; 12];
    bytes[4..].copy_from_slice(&i.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn next(at: &mut usize, n: usize) -> usize {
    *at = if *at + 1 < n { *at + 1 } else { 0 };
    *at
}

/// What TLS 1.3 authenticates with a record, near enough for the AEAD alone.
const AAD: [u8; HEADER_BYTES] = [23, 3, 3, 1, 1];

/// Sealing, out of place.
fn seal(rounds: usize, case: Case) {
    let mut b = case.bench(Side::Server, case.contexts);
    let mut keys = Alone::new(case);
    let plain = vec![b'x'; case.bytes];
    let (mut out, mut raw) = (vec![0; RECORD_MAX], Raw::new(case.bytes));
    let mut at = 0;
    let n = case.times();
    let mut times = Times::default();
    // Each session once: contexts that the pool has room for are there.
    for id in &b.ids {
        b.sessions.seal(*id, APP, &plain, &mut out).expect("room");
    }
    for round in 0..rounds + 1 {
        let ours = || {
            ns_each(n, || {
                for _ in 0..n {
                    let id = b.ids[next(&mut at, case.sessions)];
                    let length = b.sessions.seal(id, APP, black_box(&plain), &mut out).expect("room");
                    black_box(&out[..length]);
                }
            })
        };
        times.round(round, ours, || raw.seal(&mut keys, n, &plain));
    }
    case.print("seal", b.counters.get(Ctr::TlsContextsMade), times.medians());
}

/// Where the AEAD alone seals to.
struct Raw {
    body: Vec<u8>,
    tag: [u8; 17],
}

impl Raw {
    fn new(bytes: usize) -> Raw {
        Raw { body: vec![0; bytes], tag: [0; 17] }
    }

    /// Nanoseconds of each of `n` records.
    fn seal(&mut self, keys: &mut Alone, n: usize, plain: &[u8]) -> f64 {
        let Raw { body, tag } = self;
        ns_each(n, || {
            for i in 0..n {
                let (key, plain) = (keys.next(), black_box(plain));
                key.seal_out_of_place_scatter(nonce(i), Aad::from(AAD), plain, body, &[23], tag)
                    .expect("lengths that fit");
                black_box((&body, &tag));
            }
        })
    }
}

/// Opening, in place. What is opened has to be sealed first, which is not timed: records lie one behind the other.
fn open(rounds: usize, case: Case) {
    let mut b = case.bench(Side::Server, case.contexts);
    let mut peers = case.bench(Side::Client, case.sessions);
    let (mut keys, mut its_peers) = (Alone::new(case), Alone::new(case));
    let plain = vec![b'x'; case.bytes];
    let n = case.times();
    let size = b.sessions.sealed_bytes(b.ids[0], case.bytes);
    let (mut records, mut raw) = (vec![0; n * size], RawRecords::new(n, case.bytes));
    let (mut at, mut peers_at) = (0, 0);
    let mut times = Times::default();
    for (id, peer) in b.ids.iter().zip(&peers.ids) {
        peers.sessions.seal(*peer, APP, &plain, &mut records[..size]).expect("room");
        b.sessions.receive(*id, &mut records[..size]).expect("an authentic record");
    }
    for round in 0..rounds + 1 {
        for record in records.chunks_mut(size) {
            let id = peers.ids[next(&mut peers_at, case.sessions)];
            peers.sessions.seal(id, APP, &plain, record).expect("room");
        }
        raw.seal(&mut its_peers, &plain);
        let ours = || {
            ns_each(n, || {
                for record in records.chunks_mut(size) {
                    let id = b.ids[next(&mut at, case.sessions)];
                    let got = b.sessions.receive(id, record).expect("an authentic record");
                    assert!(matches!(got, Received::Data(_)));
                    black_box(&record);
                }
            })
        };
        times.round(round, ours, || raw.open(&mut keys));
    }
    case.print("open", b.counters.get(Ctr::TlsContextsMade), times.medians());
}

/// Records of the AEAD alone, one behind the other.
struct RawRecords {
    bytes: Vec<u8>,
    plain: usize,
}

impl RawRecords {
    fn new(n: usize, plain: usize) -> RawRecords {
        RawRecords { bytes: vec![0; n * (plain + 17)], plain }
    }

    fn seal(&mut self, keys: &mut Alone, plain: &[u8]) {
        for (i, record) in self.bytes.chunks_mut(self.plain + 17).enumerate() {
            let (body, tag) = record.split_at_mut(self.plain);
            keys.next()
                .seal_out_of_place_scatter(nonce(i), Aad::from(AAD), plain, body, &[23], tag)
                .expect("lengths that fit");
        }
    }

    /// Nanoseconds of each.
    fn open(&mut self, keys: &mut Alone) -> f64 {
        let (size, at) = (self.plain + 17, self.plain + 1);
        ns_each(self.bytes.len() / size, || {
            for (i, record) in self.bytes.chunks_mut(size).enumerate() {
                let (body, tag) = record.split_at_mut(at);
                keys.next()
                    .open_in_place_separate_tag(nonce(i), Aad::from(AAD), tag, body)
                    .expect("authentic");
                black_box(&body);
            }
        })
    }
}

/// The AEAD alone beside itself.
fn control(rounds: usize, case: Case) {
    let (mut one, mut other) = (Alone::new(case), Alone::new(case));
    let plain = vec![b'x'; case.bytes];
    let n = case.times();
    let (mut raw, mut its_raw) = (Raw::new(case.bytes), Raw::new(case.bytes));
    let mut times = Times::default();
    for round in 0..rounds + 1 {
        times.round(round, || raw.seal(&mut one, n, &plain), || its_raw.seal(&mut other, n, &plain));
    }
    case.print("alone, seal", 0, times.medians());
    let (mut peers, mut its_peers) = (Alone::new(case), Alone::new(case));
    let (mut raw, mut its_raw) = (RawRecords::new(n, case.bytes), RawRecords::new(n, case.bytes));
    let (mut one, mut other) = (Alone::new(case), Alone::new(case));
    let mut times = Times::default();
    for round in 0..rounds + 1 {
        raw.seal(&mut peers, &plain);
        its_raw.seal(&mut its_peers, &plain);
        times.round(round, || raw.open(&mut one), || its_raw.open(&mut other));
    }
    case.print("alone, open", 0, times.medians());
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") {
        return; // As `cargo test` calls it.
    }
    let rounds = if words.iter().any(|word| word == "--quick") { 5 } else { ROUNDS };
    let only = words.iter().position(|word| word == "--only").and_then(|at| words.get(at + 1));
    let wanted = |case: &Case, what: &str| only.is_none_or(|text| case.name(what).contains(text));
    println!(
        "medians of {rounds} rounds in turn; the ratio (and its quartiles) is AEAD alone / ours: 1 would be no cost of our own"
    );
    let (v13, v12) = (Version::Tls13, Version::Tls12);
    let (aes128, aes256, chacha) = (Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305);
    for bytes in [1024, 16 * 1024] {
        let both = |case: Case| {
            if wanted(&case, "seal") {
                seal(rounds, case);
            }
            if wanted(&case, "open") {
                open(rounds, case);
            }
        };
        for sessions in [1, 10_000] {
            let case = Case { version: v13, suite: aes128, sessions, contexts: sessions, bytes };
            if wanted(&case, "alone") {
                control(rounds, case);
            }
        }
        for (version, suite) in [(v13, aes128), (v13, aes256), (v13, chacha), (v12, aes128)] {
            both(Case { version, suite, sessions: 1, contexts: 1, bytes });
        }
        for sessions in [1_000, 10_000] {
            both(Case { version: v13, suite: aes128, sessions, contexts: sessions, bytes });
        }
        // Every record finds its context gone.
        for suite in [aes128, aes256, chacha] {
            both(Case { version: v13, suite, sessions: 10_000, contexts: 1_000, bytes });
        }
    }
}
