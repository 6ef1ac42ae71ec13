//! The cache store in memory, on one thread: hits, misses, purges. Best (and median) of many rounds; read ratios.
//!
//! cargo bench -p l7 --bench store [-- --quick]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hugepages::PagePolicy;
use l7::cache::store::{Claim, Cursor, Handle, ObjectView, Pick, Store, StoreConfig};

const BODY: usize = 1024;
const HEAD: usize = 300;
const ROUNDS: usize = 41;

fn matches(key: u64) -> impl Fn(&ObjectView<'_>) -> Pick {
    move |v| if v.blob[..8] == key.to_le_bytes() { Pick::Take } else { Pick::Next }
}

fn put(h: &mut Handle, key: u64, tag: u64, scratch: &mut [u8]) -> bool {
    let hash = h.store().hash(&key.to_le_bytes());
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&key.to_le_bytes());
    let Claim::New(mut fill) = h.claim(hash, &head[..8], scratch, matches(key)) else { return false };
    head[8..16].copy_from_slice(&tag.to_le_bytes());
    let fine = h.set_head(&mut fill, &head).is_ok() && h.append(&mut fill, &[key as u8; BODY]).is_ok();
    if fine {
        h.finish(fill, None);
    } else {
        h.fail(fill);
    }
    fine
}

fn get(h: &mut Handle, key: u64, scratch: &mut [u8], cell: &mut [u8]) -> usize {
    let hash = h.store().hash(&key.to_le_bytes());
    let Some(id) = h.lookup(hash, scratch, matches(key)) else { return 0 };
    let mut at = 0;
    h.read(id, &mut Cursor::at(0), cell.len(), |piece| {
        cell[at..at + piece.len()].copy_from_slice(piece);
        at += piece.len();
    })
}

fn store(bytes: u64) -> (Arc<Store>, Handle, Vec<u8>) {
    let config = StoreConfig::for_bytes(bytes, 2, [1, 2]);
    let store = Store::reserve(config, PagePolicy::Best, Box::new(|_| ())).expect("memory for the bench");
    let (h, scratch) = (store.handle(0), vec![0; store.head_bytes_max()]);
    (store, h, scratch)
}

/// Nanoseconds each: the best and the median of many short rounds. Others share the machine: the best is the one that
/// they left alone.
fn rounds(mut f: impl FnMut() -> (u64, std::time::Duration)) -> String {
    let mut v: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (times, took) = f();
            took.as_nanos() as f64 / times as f64
        })
        .collect();
    v.sort_by(f64::total_cmp);
    format!("{:.0} ({:.0})", v[0], v[ROUNDS / 2])
}

fn next(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x
}

fn hits(objects: u64, times: u64) {
    let (store, mut h, mut scratch) = store(objects * 2200 + (8 << 20));
    for key in 0..objects {
        put(&mut h, key, 0, &mut scratch);
        h.quiescent();
    }
    let mut cell = [0; 2048];
    let mut x = 88172645463325252;
    let there = (0..objects).filter(|k| get(&mut h, *k, &mut scratch, &mut cell) == BODY).count();
    let ns = rounds(|| {
        let t = Instant::now();
        for i in 0..times {
            black_box(get(&mut h, next(&mut x) % objects, &mut scratch, &mut cell));
            if i % 32 == 0 {
                h.quiescent();
            }
        }
        (times, t.elapsed())
    });
    let lookup = rounds(|| {
        let t = Instant::now();
        for i in 0..times {
            let key = next(&mut x) % objects;
            let hash = store.hash(&key.to_le_bytes());
            black_box(h.lookup(hash, &mut scratch, matches(key)));
            if i % 32 == 0 {
                h.quiescent();
            }
        }
        (times, t.elapsed())
    });
    // As a core does with a burst: what all of them touch first is on its way before the first is looked at.
    let burst = rounds(|| {
        let t = Instant::now();
        for _ in 0..times / 32 {
            let keys: [u64; 32] = std::array::from_fn(|_| next(&mut x) % objects);
            let hashes = keys.map(|k| store.hash(&k.to_le_bytes()));
            hashes.iter().for_each(|hash| store.prefetch_bucket(*hash));
            hashes.iter().for_each(|hash| store.prefetch_object(*hash));
            hashes.iter().for_each(|hash| store.prefetch_content(*hash));
            for key in keys {
                black_box(get(&mut h, key, &mut scratch, &mut cell));
            }
            h.quiescent();
        }
        (times, t.elapsed())
    });
    println!(
        "{objects:>9} objects, {there} there, {}: hit of 1 KiB, random {ns} ns (look-up alone {lookup}), \
         in bursts of 32 with prefetch {burst} ns",
        store.region().page()
    );
}

fn misses(bytes: u64, times: u64) {
    let (store, mut h, mut scratch) = store(bytes);
    let mut key = 0;
    let mut miss = |n: u64| {
        let t = Instant::now();
        for _ in 0..n {
            key += 1;
            assert!(put(&mut h, key, 0, &mut scratch));
            if key % 8 == 0 {
                h.quiescent();
            }
        }
        (n, t.elapsed())
    };
    miss(store.config().objects_max.into());
    let evicted = store.stats().evictions;
    let ns = rounds(|| miss(times));
    assert!(store.stats().evictions >= evicted + times);
    println!("{:>9} MiB: look-up, claim, head, 1 KiB, finish, evict one: {ns} ns", bytes >> 20);
}

fn purges(tagged: u64, all: u64) {
    let (store, mut h, mut scratch) = store(all * 2200 + (8 << 20));
    let mut control = store.handle(1);
    // Idle, and so holding nobody's memory up.
    control.offline();
    for key in 0..all {
        put(&mut h, key, u64::from(key % (all / tagged) == 0), &mut scratch);
        h.quiescent();
    }
    h.offline();
    control.online();
    let t = Instant::now();
    let n = control.purge_matching(|blob| blob[8..16] == 1u64.to_le_bytes(), false);
    let marked = t.elapsed();
    let t = Instant::now();
    let swept = control.sweep();
    println!(
        "purge of a tag: {n} of {all} objects in {:.1} ms; swept {swept} in {:.1} ms",
        marked.as_secs_f64() * 1e3,
        t.elapsed().as_secs_f64() * 1e3
    );
    let t = Instant::now();
    let n = control.purge_all(false);
    let marked = t.elapsed();
    let t = Instant::now();
    let swept = control.sweep();
    println!(
        "purge of everything: {n} objects in {:.1} ms; swept {swept} in {:.1} ms",
        marked.as_secs_f64() * 1e3,
        t.elapsed().as_secs_f64() * 1e3
    );
    h.online();
}

fn main() {
    let quick = std::env::args().any(|a| a == "--quick");
    hits(500, if quick { 10_000 } else { 100_000 });
    hits(20_000, if quick { 10_000 } else { 100_000 });
    misses(64 << 20, if quick { 5_000 } else { 20_000 });
    if !quick {
        hits(1_000_000, 100_000);
        purges(100_000, 1_000_000);
    } else {
        purges(10_000, 20_000);
    }
}
