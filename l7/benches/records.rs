//! The record layer in memory, on one thread: records sealed and opened, beside the same AEAD of the same library alone, in
//! turn in one run. Medians of many short rounds, and the ratio of each round with the round beside it.
//!
//! cargo bench -p l7 --bench records [-- --quick]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use dataplane::counters::Segment;
use dataplane::{Counters, Ctr};
use hugepages::{Arena, PagePolicy};
use l7::tls::keys::{Half, Keys, Suite, Version};
use l7::tls::record::{ContentType, HEADER_BYTES, RECORD_MAX, Received, SessionId, Sessions, Side};

const APP: ContentType = ContentType::ApplicationData;
const ROUNDS: usize = 61;
/// Of one round, about.
const ROUND_NS: f64 = 400_000.0;

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

    /// Of ours, of the AEAD alone, and of what the second is of the first.
    fn medians(mut self) -> (f64, f64, f64) {
        (median(&mut self.ours), median(&mut self.alone), median(&mut self.ratio))
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
        let ids = (0..self.sessions)
            .map(|i| {
                let keys =
                    Keys { version: self.version, suite: self.suite, rx: half(rx, i), tx: half(tx, i) };
                sessions.open(&keys, side).expect("a place")
            })
            .collect();
        Bench { sessions, ids, counters }
    }

    /// Records of one round: what takes about [`ROUND_NS`], and each session once.
    fn times(&self) -> usize {
        let expected_ns = 60.0 + self.bytes as f64 / 12.0;
        ((ROUND_NS / expected_ns) as usize).max(self.sessions)
    }

    fn print(&self, what: &str, made: u64, (ours, alone, ratio): (f64, f64, f64)) {
        let version = if self.version == Version::Tls13 { "1.3" } else { "1.2" };
        let suite = match self.suite {
            Suite::Aes128Gcm => "AES-128",
            Suite::Aes256Gcm => "AES-256",
            Suite::ChaCha20Poly1305 => "ChaCha20",
        };
        let contexts =
            if made > self.sessions as u64 { format!(", {} contexts", self.contexts) } else { String::new() };
        let name = format!(
            "{what} {:>2} KiB, {version} {suite}, {} sessions{contexts}",
            self.bytes / 1024,
            self.sessions
        );
        let gb = |ns: f64| self.bytes as f64 / ns;
        println!(
            "{name:<58} {ours:>6.0} ns {:>9.0} /s {:>6.2} GB/s   AEAD alone {alone:>6.0} ns {:>6.2} GB/s   {ratio:.3}",
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

/// The AEAD alone, as many keys as there are sessions.
fn alone(suite: Suite, n: usize) -> Vec<LessSafeKey> {
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
    let keys = alone(case.suite, case.sessions);
    let plain = vec![b'x'; case.bytes];
    let (mut out, mut raw, mut tag) = (vec![0; RECORD_MAX], vec![0; case.bytes], [0; 17]);
    let (mut at, mut its_at) = (0, 0);
    let n = case.times();
    let mut times = Times::default();
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
        let alone = || {
            ns_each(n, || {
                for i in 0..n {
                    let key = &keys[next(&mut its_at, case.sessions)];
                    let plain = black_box(&plain);
                    key.seal_out_of_place_scatter(nonce(i), Aad::from(AAD), plain, &mut raw, &[23], &mut tag)
                        .expect("lengths that fit");
                    black_box((&raw, &tag));
                }
            })
        };
        times.round(round, ours, alone);
    }
    case.print("seal", b.counters.get(Ctr::TlsContextsMade), times.medians());
}

/// Opening, in place. What is opened has to be sealed first, which is not timed: records lie one behind the other.
fn open(rounds: usize, case: Case) {
    let mut b = case.bench(Side::Server, case.contexts);
    let mut peers = case.bench(Side::Client, 1);
    let keys = alone(case.suite, case.sessions);
    let plain = vec![b'x'; case.bytes];
    let n = case.times().min((16 << 20) / case.bytes);
    let size = b.sessions.sealed_bytes(b.ids[0], case.bytes);
    let its_size = case.bytes + 17;
    let (mut records, mut raw) = (vec![0; n * size], vec![0; n * its_size]);
    let (mut at, mut its_at, mut peers_at) = (0, 0, 0);
    let mut times = Times::default();
    for round in 0..rounds + 1 {
        let mut key_at = its_at;
        for (i, (record, raw)) in records.chunks_mut(size).zip(raw.chunks_mut(its_size)).enumerate() {
            let id = peers.ids[next(&mut peers_at, case.sessions)];
            peers.sessions.seal(id, APP, &plain, record).expect("room");
            let key = &keys[next(&mut key_at, case.sessions)];
            let (body, tag) = raw.split_at_mut(case.bytes);
            key.seal_out_of_place_scatter(nonce(i), Aad::from(AAD), &plain, body, &[23], tag)
                .expect("lengths that fit");
        }
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
        let alone = || {
            ns_each(n, || {
                for (i, record) in raw.chunks_mut(its_size).enumerate() {
                    let key = &keys[next(&mut its_at, case.sessions)];
                    let (body, tag) = record.split_at_mut(case.bytes + 1);
                    key.open_in_place_separate_tag(nonce(i), Aad::from(AAD), tag, body).expect("authentic");
                    black_box(&body);
                }
            })
        };
        times.round(round, ours, alone);
    }
    case.print("open", b.counters.get(Ctr::TlsContextsMade), times.medians());
}

fn main() {
    let rounds = if std::env::args().any(|a| a == "--quick") { 5 } else { ROUNDS };
    println!(
        "medians of {rounds} rounds in turn; the ratio is AEAD alone / ours: 1 would be no cost of our own"
    );
    let (v13, v12) = (Version::Tls13, Version::Tls12);
    let (aes128, aes256, chacha) = (Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305);
    for bytes in [1024, 16 * 1024] {
        let both = |case| {
            seal(rounds, case);
            open(rounds, case);
        };
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
