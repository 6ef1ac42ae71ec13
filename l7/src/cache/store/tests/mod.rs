//! Tests of the store. Content is a function of key, version and place, so that every byte read can be checked.

mod basic;
mod model;
mod purging;
mod stress;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hugepages::PagePolicy;

use super::*;

/// A small store, and how often each participant was woken.
fn store(change: impl FnOnce(&mut StoreConfig)) -> (Arc<Store>, Arc<[AtomicU64]>) {
    let mut c = StoreConfig::for_bytes(4 << 20, 4, [0x1234, 0x5678]);
    c.head_bytes_max = 4096;
    change(&mut c);
    let woken: Arc<[AtomicU64]> = (0..64).map(|_| AtomicU64::new(0)).collect();
    let count = Arc::clone(&woken);
    let wake = Box::new(move |core: usize| {
        count[core].fetch_add(1, Ordering::Relaxed);
    });
    (Store::reserve(c, PagePolicy::NormalOnly, wake).unwrap(), woken)
}

/// Body byte `at`.
fn byte(key: u32, version: u32, at: u64) -> u8 {
    let x =
        (u64::from(key) << 32 ^ u64::from(version)).wrapping_add(at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> (at % 8 * 8)) as u8
}

fn body(key: u32, version: u32, range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(|at| byte(key, version, at)).collect()
}

/// A head blob: key, version, body length, a tag, and a filling that goes with them.
fn blob(key: u32, version: u32, len: u64, filling: usize) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend(key.to_le_bytes());
    b.extend(version.to_le_bytes());
    b.extend(len.to_le_bytes());
    b.extend((0..filling).map(|i| byte(key, version, i as u64)));
    b
}

/// Key, version and length of a blob; checks its filling.
fn parse(blob: &[u8]) -> (u32, u32, u64) {
    let word = |at: usize| u32::from_le_bytes(blob[at..at + 4].try_into().unwrap());
    let (key, version) = (word(0), word(4));
    for (i, b) in blob[16..].iter().enumerate() {
        assert_eq!(*b, byte(key, version, i as u64), "blob of key {key} version {version}, byte {i}");
    }
    (key, version, u64::from_le_bytes(blob[8..16].try_into().unwrap()))
}

fn hash_of(store: &Store, key: u32) -> u64 {
    store.hash(&key.to_le_bytes())
}

fn wants(key: u32) -> impl FnMut(&ObjectView<'_>) -> Pick {
    move |v| if parse(v.blob).0 == key { Pick::Take } else { Pick::Next }
}

fn find(h: &mut Handle, key: u32) -> Option<ObjectId> {
    let mut scratch = [0; 4096];
    let hash = hash_of(h.store(), key);
    h.lookup(hash, &mut scratch, wants(key))
}

fn claim(h: &mut Handle, key: u32) -> Claim {
    let mut scratch = [0; 4096];
    let hash = hash_of(h.store(), key);
    h.claim(hash, &blob(key, 0, 0, 0), &mut scratch, wants(key))
}

/// A fill of a key that is not there (or, with `over`, in place of what is there).
fn start(h: &mut Handle, key: u32, over: bool) -> Option<Fill> {
    let mut scratch = [0; 4096];
    let hash = hash_of(h.store(), key);
    let check = |v: &ObjectView<'_>| if !over && parse(v.blob).0 == key { Pick::Take } else { Pick::Next };
    match h.claim(hash, &blob(key, 0, 0, 0), &mut scratch, check) {
        Claim::New(fill) => Some(fill),
        Claim::Full | Claim::Busy => None,
        other => panic!("{other:?}"),
    }
}

/// Head and body, in pieces, the last published too; `None` when there was no room (the fill has failed then).
fn write(h: &mut Handle, mut fill: Fill, key: u32, version: u32, len: u64, filling: usize) -> Option<Fill> {
    if h.set_head(&mut fill, &blob(key, version, len, filling)).is_err() {
        h.fail(fill);
        return None;
    }
    let (mut at, mut piece) = (0, 1);
    while at < len {
        let end = len.min(at + piece);
        if h.append(&mut fill, &body(key, version, at..end)).is_err() {
            h.fail(fill);
            return None;
        }
        h.publish(&fill);
        (at, piece) = (end, (piece * 3).min(5000));
    }
    Some(fill)
}

/// The whole of it.
fn put(h: &mut Handle, key: u32, version: u32, len: u64, filling: usize) -> Option<ObjectId> {
    let old = find(h, key);
    let fill = start(h, key, true)?;
    let fill = write(h, fill, key, version, len, filling)?;
    Some(h.finish(fill, old))
}

/// Reads a body from `from` to what is published, and checks every byte.
fn check_body(h: &Handle, id: ObjectId, key: u32, version: u32, from: u64, step: usize) -> u64 {
    let mut c = Cursor::at(from);
    loop {
        let mut at = c.offset();
        let n = h.read(id, &mut c, step, |piece| {
            for b in piece {
                assert_eq!(*b, byte(key, version, at), "key {key} version {version} byte {at}");
                at += 1;
            }
        });
        assert_eq!(at, c.offset());
        if n == 0 {
            return c.offset();
        }
        assert!(n <= step);
    }
}

/// The version that is there, after checking all of it.
fn get(h: &mut Handle, key: u32) -> Option<(u32, u64)> {
    let id = find(h, key)?;
    let mut scratch = [0; 4096];
    let (k, version, len) = parse(h.view(id, &mut scratch).blob);
    assert_eq!(k, key);
    assert_eq!(check_body(h, id, key, version, 0, 4096), len);
    Some((version, len))
}

/// Until nothing is pending any more, with every handle at its loop top.
fn settle(handles: &mut [Handle]) {
    for _ in 0..100 {
        handles.iter_mut().for_each(Handle::quiescent);
    }
    assert!(handles.iter().all(|h| !h.has_work()), "something is never given back");
}
