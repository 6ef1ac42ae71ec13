//! A trace against the store: hit ratios by object and by byte, beside exact LRU, S3-FIFO as in its paper, and the
//! crate quick_cache, all with equal bytes. Everything is deterministic: the same numbers on every machine.
//!
//! The trace has what a cache of the web meets: popularity by Zipf's law, sizes in classes (independent of
//! popularity), scans of objects that are asked for once, and popularity that drifts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use hugepages::PagePolicy;
use l7::cache::store::{Claim, Handle, Pick, Store, StoreConfig};

/// What the store may take in all.
const CACHE_BYTES: u64 = 64 << 20;
const HEAD_BYTES: usize = 300;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Body bytes of a key: 70 % up to 4 KiB, 25 % up to 64 KiB, 5 % up to 1 MiB, evenly by logarithm.
fn size(key: u64) -> u64 {
    let x = mix(key ^ 0x5151);
    let (low, high) = match x % 100 {
        0..70 => (256.0f64, 4096.0f64),
        70..95 => (4096.0, 65_536.0),
        _ => (65_536.0, 1_048_576.0),
    };
    let u = (x >> 20) as f64 / (1u64 << 44) as f64;
    (low * (high / low).powf(u)) as u64
}

/// What an object takes of the store's bytes: whole chunks for head and body. The others are charged the same.
fn weight(key: u64) -> u64 {
    ((HEAD_BYTES + 4).div_ceil(512) as u64 + size(key).div_ceil(512)) * 512
}

struct Mix {
    name: &'static str,
    objects: usize,
    alpha: f64,
    /// One request in so many begins a scan.
    scan_every: u64,
    /// Requests after which a hundredth of the ranks changes its object.
    drift_every: u64,
}

fn trace(m: &Mix, requests: usize) -> Vec<u64> {
    let mut cumulative = Vec::with_capacity(m.objects);
    let mut sum = 0.0;
    for rank in 1..=m.objects {
        sum += (rank as f64).powf(-m.alpha);
        cumulative.push(sum);
    }
    let mut rng = Rng(0x7ace);
    let mut object_of: Vec<u64> = (0..m.objects as u64).map(mix).collect();
    let (mut fresh, mut scanned) = (1 << 40, 1 << 41);
    let mut out = Vec::with_capacity(requests);
    while out.len() < requests {
        if m.drift_every > 0 && rng.next().is_multiple_of(m.drift_every) {
            for _ in 0..m.objects / 100 {
                let rank = (rng.next() % m.objects as u64) as usize;
                object_of[rank] = mix(fresh);
                fresh += 1;
            }
        }
        if m.scan_every > 0 && rng.next().is_multiple_of(m.scan_every) {
            for _ in 0..1000 {
                out.push(mix(scanned));
                scanned += 1;
            }
        }
        let u = rng.unit() * sum;
        let rank = cumulative.partition_point(|c| *c < u);
        out.push(object_of[rank.min(m.objects - 1)]);
    }
    out.truncate(requests);
    out
}

trait Cache {
    fn name(&self) -> String;
    /// Whether it was there; it is put there if not.
    fn ask(&mut self, key: u64) -> bool;
}

struct Ours {
    name: &'static str,
    store: Arc<Store>,
    h: Handle,
    scratch: Vec<u8>,
    body: Vec<u8>,
    peak: u64,
}

impl Ours {
    fn new(name: &'static str, change: impl FnOnce(&mut StoreConfig)) -> Ours {
        let mut c = StoreConfig::for_bytes(CACHE_BYTES, 2, [3, 4]);
        change(&mut c);
        let store = Store::reserve(c, PagePolicy::NormalOnly, Box::new(|_| ())).unwrap();
        let (h, scratch) = (store.handle(0), vec![0; store.head_bytes_max()]);
        Ours { name, store, h, scratch, body: vec![7; 1 << 16], peak: 0 }
    }

    fn bytes(&self) -> u64 {
        self.store.config().bytes
    }
}

impl Cache for Ours {
    fn name(&self) -> String {
        self.name.into()
    }

    fn ask(&mut self, key: u64) -> bool {
        self.h.quiescent();
        let hash = self.store.hash(&key.to_le_bytes());
        let check = |v: &l7::cache::store::ObjectView<'_>| {
            if v.blob[..8] == key.to_le_bytes() { Pick::Take } else { Pick::Next }
        };
        if self.h.lookup(hash, &mut self.scratch, check).is_some() {
            return true;
        }
        let Claim::New(mut fill) = self.h.claim(hash, &key.to_le_bytes(), &mut self.scratch, check) else {
            panic!("there is room for a claim")
        };
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&key.to_le_bytes());
        self.h.set_head(&mut fill, &head).unwrap();
        let mut left = size(key);
        while left > 0 {
            let n = left.min(self.body.len() as u64);
            self.h.append(&mut fill, &self.body[..n as usize]).unwrap();
            self.h.publish(&fill);
            left -= n;
            // As it would be: a pass of the loop for each burst of the origin's bytes.
            self.h.quiescent();
        }
        self.h.finish(fill, None);
        let s = self.store.stats();
        assert!(s.bytes_used <= s.bytes_total && s.bytes_total <= CACHE_BYTES, "{s:?}");
        self.peak = self.peak.max(s.bytes_used);
        false
    }
}

/// Exact.
struct Lru {
    bytes: u64,
    used: u64,
    clock: u64,
    at: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
}

impl Cache for Lru {
    fn name(&self) -> String {
        "exact LRU".into()
    }
    fn ask(&mut self, key: u64) -> bool {
        self.clock += 1;
        let old = self.at.insert(key, self.clock);
        if let Some(old) = old {
            self.order.remove(&old);
        } else {
            self.used += weight(key);
        }
        self.order.insert(self.clock, key);
        while self.used > self.bytes {
            let (_, k) = self.order.pop_first().unwrap();
            self.at.remove(&k);
            self.used -= weight(k);
        }
        old.is_some()
    }
}

/// As in the paper (Yang, Zhang, Qiu, Yue, Vigfusson 2023) and its authors' simulator, by bytes.
struct S3Fifo {
    bytes: u64,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    ghost: VecDeque<u64>,
    small_used: u64,
    main_used: u64,
    ghost_used: u64,
    /// Hits, and whether it is in main.
    there: HashMap<u64, (u8, bool)>,
    remembered: HashMap<u64, u32>,
}

impl S3Fifo {
    fn evict(&mut self) {
        if self.main_used > self.bytes / 10 * 9 || self.small.is_empty() {
            while let Some(k) = self.main.pop_front() {
                let (hits, _) = self.there[&k];
                if hits > 0 {
                    self.there.insert(k, (hits.min(3) - 1, true));
                    self.main.push_back(k);
                } else {
                    self.there.remove(&k);
                    self.main_used -= weight(k);
                    return;
                }
            }
            return;
        }
        while let Some(k) = self.small.pop_front() {
            self.small_used -= weight(k);
            if self.there[&k].0 > 1 {
                self.there.insert(k, (0, true));
                self.main.push_back(k);
                self.main_used += weight(k);
            } else {
                self.there.remove(&k);
                self.ghost.push_back(k);
                *self.remembered.entry(k).or_default() += 1;
                self.ghost_used += weight(k);
                while self.ghost_used > self.bytes / 10 * 9 {
                    let g = self.ghost.pop_front().unwrap();
                    self.ghost_used -= weight(g);
                    if let Some(n) = self.remembered.get_mut(&g) {
                        *n -= 1;
                        if *n == 0 {
                            self.remembered.remove(&g);
                        }
                    }
                }
                return;
            }
        }
    }
}

impl Cache for S3Fifo {
    fn name(&self) -> String {
        "S3-FIFO, paper".into()
    }
    fn ask(&mut self, key: u64) -> bool {
        if let Some((hits, _)) = self.there.get_mut(&key) {
            *hits = (*hits + 1).min(3);
            return true;
        }
        let w = weight(key);
        let to_main = self.remembered.remove(&key).is_some();
        if !to_main && w >= self.bytes / 10 {
            return false;
        }
        while self.small_used + self.main_used + w > self.bytes {
            self.evict();
        }
        self.there.insert(key, (0, to_main));
        if to_main {
            self.main.push_back(key);
            self.main_used += w;
        } else {
            self.small.push_back(key);
            self.small_used += w;
        }
        false
    }
}

#[derive(Clone)]
struct ByWeight;

impl quick_cache::Weighter<u64, ()> for ByWeight {
    fn weight(&self, key: &u64, (): &()) -> u64 {
        weight(*key)
    }
}

struct Quick(quick_cache::unsync::Cache<u64, (), ByWeight>);

impl Cache for Quick {
    fn name(&self) -> String {
        "quick_cache".into()
    }
    fn ask(&mut self, key: u64) -> bool {
        if self.0.get(&key).is_some() {
            return true;
        }
        self.0.insert(key, ());
        false
    }
}

/// Hit ratios in percent, by object and by byte, after a first fifth that fills the cache.
fn ratios(cache: &mut dyn Cache, trace: &[u64]) -> (f64, f64) {
    let (mut hits, mut hit_bytes, mut bytes, mut n) = (0u64, 0u64, 0u64, 0u64);
    for (i, key) in trace.iter().enumerate() {
        let hit = cache.ask(*key);
        if i >= trace.len() / 5 {
            (n, bytes) = (n + 1, bytes + size(*key));
            (hits, hit_bytes) = (hits + u64::from(hit), hit_bytes + if hit { size(*key) } else { 0 });
        }
    }
    (100.0 * hits as f64 / n as f64, 100.0 * hit_bytes as f64 / bytes as f64)
}

fn compare(m: &Mix, requests: usize) {
    let trace = trace(m, requests);
    let mut one = Ours::new("ours, 1 shard", |c| c.shards = 1);
    let mut ours = Ours::new("ours", |_| ());
    let bytes = ours.bytes();
    let lru = Lru { bytes, used: 0, clock: 0, at: HashMap::new(), order: BTreeMap::new() };
    let s3 = S3Fifo {
        bytes,
        small: VecDeque::new(),
        main: VecDeque::new(),
        ghost: VecDeque::new(),
        small_used: 0,
        main_used: 0,
        ghost_used: 0,
        there: HashMap::new(),
        remembered: HashMap::new(),
    };
    let quick = Quick(quick_cache::unsync::Cache::with_weighter(20_000, bytes, ByWeight));
    println!("{}: {requests} requests, {} MiB", m.name, bytes >> 20);
    println!("  {:<16} {:>9} {:>9}", "hit ratio, %", "by object", "by byte");
    let mut best = (0.0f64, 0.0f64);
    for other in [&mut { lru } as &mut dyn Cache, &mut { s3 }, &mut { quick }] {
        let r = ratios(other, &trace);
        println!("  {:<16} {:>9.2} {:>9.2}", other.name(), r.0, r.1);
        best = (best.0.max(r.0), best.1.max(r.1));
    }
    for cache in [&mut one, &mut ours] {
        let r = ratios(cache, &trace);
        println!("  {:<16} {:>9.2} {:>9.2}   {} shards", cache.name(), r.0, r.1, cache.store.config().shards);
        let s = cache.store.stats();
        println!("      {s:?}, at most {} MiB", cache.peak >> 20);
        assert_eq!((s.no_room, s.busy, s.chain_too_long), (0, 0, 0));
        assert!(r.0 > best.0 - 0.5, "by object: {:.2} against {:.2}", r.0, best.0);
        assert!(r.1 > best.1 - 0.5, "by byte: {:.2} against {:.2}", r.1, best.1);
    }
}

#[test]
fn a_web_mix() {
    compare(
        &Mix { name: "web", objects: 40_000, alpha: 0.9, scan_every: 8_000, drift_every: 4_000 },
        400_000,
    );
}

#[test]
fn without_scans_or_drift() {
    compare(&Mix { name: "steady", objects: 40_000, alpha: 0.9, scan_every: 0, drift_every: 0 }, 300_000);
}

#[test]
fn flat_popularity_and_many_scans() {
    compare(
        &Mix { name: "flat", objects: 20_000, alpha: 0.7, scan_every: 3_000, drift_every: 2_000 },
        300_000,
    );
}

#[test]
fn steep_popularity() {
    compare(
        &Mix { name: "steep", objects: 100_000, alpha: 1.1, scan_every: 10_000, drift_every: 5_000 },
        300_000,
    );
}
